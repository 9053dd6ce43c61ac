"""The stream of changed objects against a simulator of Kong: every release, either order, with and without times."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from kong_cloudtrail.domain.entry import Entry
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import SourceRefused
from kong_cloudtrail.ports import Page
from kong_cloudtrail.sources.kong import causes as kong_causes
from kong_cloudtrail.sources.kong.causes import MAX_CALLS, spans
from kong_cloudtrail.sources.kong.objects_stream import KongObjects

from sandbox.kong.simulator import KongSimulator
from sandbox.machinery import faults
from sandbox.machinery.faults import Fault
from tests.helpers import NOW, FakeClock, change, changes, entries, entry
from tests.kong_client import gaps, is_proven, rows_of

FOREVER = 1000
RELEASES = ["2.8", "3.4", "3.8", "3.10"]
FILTERING_RELEASES = ["3.8", "3.10"]

Connect = Callable[..., KongObjects]

pytestmark = pytest.mark.usefixtures("bare_environment")


@pytest.fixture
def connect(clock: FakeClock) -> Connect:
    def connect_to(url: str, *, token: str | None = None, page_size: int = 1000) -> KongObjects:
        return KongObjects(
            url,
            token=lambda fresh: token,
            root_ca=None,
            page_size=page_size,
            clock=clock,
            sleep=clock.sleep,
            remaining_seconds=lambda: math.inf,
        )

    return connect_to


def read(source: KongObjects, window: Window | None = None, resume: str | None = None) -> list[Any]:
    return rows_of(list(source.pages(window, resume)))


def entries_of(source: KongObjects, window: Window | None = None) -> list[Entry]:
    return [one for page in source.pages(window) for one in page.entries]


def ids(rows: list[Any]) -> list[str]:
    return sorted(row["id"] for row in rows)


def calls(kong: KongSimulator, path: str) -> int:
    return sum(call.target.startswith(path) for call in kong.requests)


class TestReading:
    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("newest_first", [True, False])
    @pytest.mark.parametrize("page_size", [1, 3, 1000])
    def test_everything_is_read_once(self, connect: Connect, release: str, newest_first: bool, page_size: int) -> None:
        with KongSimulator(version=release, base_path="/behind/a/proxy") as kong:
            kong.configure(objects_newest_first=newest_first)
            kong.add_objects(changes(7))

            pages = list(connect(kong.url, page_size=page_size).pages(None))

        assert ids(rows_of(pages)) == ids(changes(7))
        assert is_proven(pages)

    @pytest.mark.parametrize("release", FILTERING_RELEASES)
    @pytest.mark.parametrize("newest_first", [True, False])
    @pytest.mark.parametrize("before", [NOW - 10, None])
    def test_window_is_half_open_on_every_page(
        self, connect: Connect, release: str, newest_first: bool, before: int | None
    ) -> None:
        with KongSimulator(version=release) as kong:
            kong.configure(objects_newest_first=newest_first)
            # In no order of time, as ids are
            kong.add_objects(change(number * 7919 % 101, request_timestamp=NOW - number) for number in range(1, 51))

            pages = list(connect(kong.url, page_size=4).pages(Window(NOW - 30, before)))

        times = sorted(row["request_timestamp"] for row in rows_of(pages))
        assert times == list(range(NOW - 30, before or NOW))
        assert is_proven(pages)

    @pytest.mark.parametrize("release", RELEASES)
    def test_reading_continues_where_an_earlier_one_stopped(self, connect: Connect, release: str) -> None:
        with KongSimulator(version=release) as kong:
            kong.add_objects(changes(9))
            window = Window(NOW - 100, None) if release in FILTERING_RELEASES else None
            first = next(connect(kong.url, page_size=2).pages(window))

            rest = read(connect(kong.url, page_size=2), window, first.resume)

        assert ids(rows_of([first]) + rest) == ids(changes(9))

    @pytest.mark.parametrize("number", [0, 100])
    def test_what_is_recorded_during_a_long_reading_is_left_to_the_next(
        self, connect: Connect, kong: KongSimulator, clock: FakeClock, number: int
    ) -> None:
        # Rows come in the order of their ids, so one with a low id would be missed, and a later one with a high id seen
        kong.add_objects(changes(9))
        source = connect(kong.url, page_size=2)
        pages = source.pages(Window(NOW - 100, None))
        first = next(pages)
        kong.add_objects([change(number, request_timestamp=NOW + 1)])

        assert ids(rows_of([first, *pages])) == ids(changes(9))
        clock.time += 60
        assert len(read(source, Window(NOW - 100, None))) == 10

    @pytest.mark.parametrize("ahead_seconds", [-3600, 3600])
    def test_clock_that_differs_from_ours_does_not_delay_the_newest(
        self, connect: Connect, kong: KongSimulator, ahead_seconds: int
    ) -> None:
        kong.set_clock(frozen_at=NOW + ahead_seconds)
        rows = changes(9, request_timestamp=NOW + ahead_seconds - 60)
        # The one that comes last is the newest: the first page does not show up to when there are entries
        rows[-1]["request_timestamp"] = NOW + ahead_seconds
        kong.add_objects(rows)
        source = connect(kong.url, page_size=2)
        source.describe()

        assert ids(read(source, Window(NOW - 7200, None))) == ids(rows)

    @pytest.mark.parametrize("release", FILTERING_RELEASES)
    def test_entries_from_before_an_upgrade_are_in_no_window_but_that_of_a_sweep(
        self, connect: Connect, release: str
    ) -> None:
        with KongSimulator(version=release) as kong:
            kong.add_objects([change(1, request_timestamp=None), change(2)])

            assert ids(read(connect(kong.url), Window(1, None))) == ids([change(2)])
            assert ids(read(connect(kong.url), Window(0, NOW))) == ids(changes(2))

    @pytest.mark.parametrize("window", [None, Window(0, NOW)])
    @pytest.mark.parametrize("newest_first", [True, False])
    @pytest.mark.parametrize("page_size", [1, 2, 3])
    def test_rows_from_before_an_upgrade_are_no_sign_of_another_node(
        self, connect: Connect, kong: KongSimulator, newest_first: bool, page_size: int, window: Window | None
    ) -> None:
        kong.configure(objects_newest_first=newest_first)
        rows = [*changes(5), *(change(number, request_timestamp=None) for number in range(10, 15))]
        kong.add_objects(rows)

        pages = list(connect(kong.url, page_size=page_size).pages(window))

        assert ids(rows_of(pages)) == ids(rows)
        assert is_proven(pages)

    @pytest.mark.parametrize("page_size", [1, 2, 3])
    def test_rows_without_a_time_may_come_first(self, connect: Connect, kong: KongSimulator, page_size: int) -> None:
        # As nulls do in PostgreSQL where the newest come first. A time that is none comes there in the simulator.
        kong.configure(objects_newest_first=True)
        kong.add_objects(change(number, request_timestamp=1e300) for number in range(10, 13))
        kong.add_objects(changes(5))

        pages = list(connect(kong.url, page_size=page_size).pages(None))

        assert len(rows_of(pages)) == 8
        assert is_proven(pages)

    def test_first_page_of_a_window_may_show_no_time(self, connect: Connect, kong: KongSimulator) -> None:
        for number in range(1, 4):
            row = b'{"id":"%d","request_timestamp":"soon"}' % number
            kong.add_raw_object(row, timestamp=NOW - number)

        pages = list(connect(kong.url, page_size=1).pages(Window(NOW - 100, None)))

        assert ids(rows_of(pages)) == ["1", "2", "3"]

    @pytest.mark.parametrize("window", [None, Window(0, NOW), Window(1, NOW)])
    def test_pages_do_not_claim_an_order(self, connect: Connect, kong: KongSimulator, window: Window | None) -> None:
        kong.add_objects(changes(3))

        assert [page.newest_first for page in connect(kong.url, page_size=2).pages(window)] == [False, False]

    @pytest.mark.parametrize("other", ["2.8", "3.4"])
    def test_node_that_ignores_the_window_proves_nothing(
        self, connect: Connect, kong: KongSimulator, other: str
    ) -> None:
        kong.add_objects(changes(9))
        kong.mix_nodes(other, every_nth=2)

        pages = list(connect(kong.url, page_size=2).pages(Window(NOW - 5, None)))

        assert (pages[-1].is_last, pages[-1].as_asked) == (True, False)

    @pytest.mark.parametrize("release", RELEASES)
    def test_says_whether_the_gateway_filters(self, connect: Connect, release: str) -> None:
        with KongSimulator(version=release) as kong:
            kong.add_objects(changes(3))

            assert connect(kong.url).filters_by_time(NOW + 3600) is (release in FILTERING_RELEASES)


class TestUnreadableRow:
    @pytest.mark.parametrize("release", RELEASES)
    def test_is_passed(self, connect: Connect, release: str) -> None:
        filters = release in FILTERING_RELEASES
        window = Window(NOW - 100, NOW) if filters else None
        with KongSimulator(version=release) as kong:
            kong.add_objects(changes(20))
            kong.poison([change(12)["id"]], fault=faults.server_error())

            pages = list(connect(kong.url, page_size=4).pages(window))

        assert ids(rows_of(pages)) == ids([one for one in changes(20) if one != change(12)])
        [gap] = gaps(pages)
        assert gap.window == window

    @pytest.mark.parametrize("newest_first", [True, False])
    @pytest.mark.parametrize("place", [0, 1, 12, 19])
    @pytest.mark.parametrize("before", [NOW, None])
    def test_is_passed_wherever_it_is(
        self, connect: Connect, kong: KongSimulator, newest_first: bool, place: int, before: int | None
    ) -> None:
        # The first one comes before any row whose offset would show the format
        rows = [change(number, id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number}"))) for number in range(1, 21)]
        in_order = rows if newest_first else sorted(rows, key=lambda row: str(row["id"]))
        unreadable = in_order[place]
        kong.configure(objects_newest_first=newest_first)
        kong.add_objects(rows)
        kong.poison([unreadable["id"]], fault=faults.server_error())

        pages = list(connect(kong.url, page_size=4).pages(Window(NOW - 100, before)))

        assert ids(rows_of(pages)) == ids([row for row in rows if row != unreadable])
        [gap] = gaps(pages)
        assert gap.window is not None
        assert gap.window.after <= unreadable["request_timestamp"] < (gap.window.before or 0)


class TestRefusal:
    def test_of_a_token_says_which_permission_is_missing(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_user("collector", "secret-token", "requests")

        with pytest.raises(SourceRefused) as refused:
            read(connect(kong.url, token="secret-token"))

        assert "role with read permission on /audit/objects, or take objects out of STREAMS." in str(refused.value)
        assert "secret-token" not in str(refused.value)

    def test_by_a_gateway_without_it(self, connect: Connect, kong: KongSimulator) -> None:
        kong.inject(Fault(kind="status", status=404, path="/audit/objects", times=FOREVER))

        with pytest.raises(
            SourceRefused, match=r"answered /audit/objects with status 404: .* objects out of STREAMS\."
        ):
            read(connect(kong.url))


class TestCause:
    @pytest.mark.parametrize("release", RELEASES)
    def test_is_found(self, connect: Connect, release: str) -> None:
        with KongSimulator(version=release) as kong:
            kong.add_entries(entries(9))
            kong.add_objects(changes(3))
            source = connect(kong.url)

            found = source.complete(entries_of(source))

        for one in found:
            assert one.context is not None and one.context.request is not None
            number = int(one.value["request_id"])
            assert one.context.request["request_timestamp"] == NOW - number
            assert one.context.request["client_ip"] == "192.0.2.10"
            assert "payload" not in one.context.request
            assert one.context.read_at == NOW

    @pytest.mark.parametrize("request_id", ["", " " * 32, None, 7, "unknown"])
    def test_that_nobody_knows_is_none(self, connect: Connect, kong: KongSimulator, request_id: object) -> None:
        kong.add_entries([entry(1, request_id=""), *entries(3)])
        kong.add_objects([change(request_id=request_id)])
        source = connect(kong.url)

        [found] = source.complete(entries_of(source))

        assert found.context is not None and found.context.request is None

    def test_of_nothing_new_costs_no_call(self, connect: Connect, kong: KongSimulator) -> None:
        assert connect(kong.url).complete([]) == []
        assert kong.requests == []

    def test_costs_one_call_for_what_belongs_together(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(9))
        kong.add_objects(changes(9))
        source = connect(kong.url)
        read_entries = entries_of(source)

        source.complete(read_entries)
        source.complete(read_entries)  # what is known is not asked for again

        assert calls(kong, "/audit/requests") == 1

    def test_costs_few_calls_however_far_the_changes_are_apart(self, connect: Connect, kong: KongSimulator) -> None:
        rows = [(number, NOW - number * 7000) for number in range(1, 30)]
        kong.add_entries(entry(number, request_timestamp=at) for number, at in rows)
        kong.add_objects(change(number, request_timestamp=at) for number, at in rows)
        source = connect(kong.url)

        found = source.complete(entries_of(source))

        assert all(one.context and one.context.request for one in found)
        assert calls(kong, "/audit/requests") == MAX_CALLS

    @pytest.mark.parametrize("release", ["2.8", "3.4"])
    def test_costs_few_calls_on_a_gateway_without_filters(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch, release: str
    ) -> None:
        monkeypatch.setattr(kong_causes, "CALL_ROWS", 2)
        with KongSimulator(version=release) as kong:
            kong.add_entries(entries(30))
            kong.add_objects(changes(30))
            source = connect(kong.url)

            found = source.complete(entries_of(source))

            assert calls(kong, "/audit/requests") == MAX_CALLS
        assert sum(one.context is not None and one.context.request is not None for one in found) == 2 * MAX_CALLS

    @pytest.mark.parametrize(
        "fault",
        [
            faults.server_error(times=FOREVER),
            Fault(kind="status", status=403, times=FOREVER),
            Fault(kind="status", status=429, times=FOREVER, headers={"Retry-After": "86400"}),
            Fault(kind="reset", times=FOREVER),
            Fault(kind="status", status=200, body="<html>", times=FOREVER),
        ],
        ids=lambda fault: f"{fault.kind} {fault.status}",
    )
    def test_that_cannot_be_read_is_no_failure(
        self, connect: Connect, kong: KongSimulator, clock: FakeClock, fault: Fault
    ) -> None:
        kong.add_entries(entries(3))
        kong.add_objects(changes(3))
        kong.inject(replace(fault, path="/audit/requests"))
        source = connect(kong.url)
        read_entries = entries_of(source)

        for _ in range(2):
            found = source.complete(read_entries)
            assert [(one.key, one.context and one.context.request) for one in found] == [
                (one.key, None) for one in read_entries
            ]
        assert calls(kong, "/audit/requests") == 1
        assert clock.waits == []


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], []),
        ([1000], [(940, 1061)]),
        ([30], [(0, 91)]),
        ([1000, 1100, 1001], [(940, 1161)]),
        ([1000, 1200], [(940, 1061), (1140, 1261)]),
        ([0, 10_000, 20_000, 20_500, 40_000], [(0, 61), (9_940, 10_061), (19_940, 20_561), (39_940, 40_061)]),
    ],
)
def test_spans_cover_all_times_with_few_windows(times: list[int], expected: list[tuple[int, int]]) -> None:
    assert spans(times) == expected


def test_page_claims_an_order_unless_told_otherwise() -> None:
    assert Page([], None, is_last=True).newest_first
