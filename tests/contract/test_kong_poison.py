"""Rows that Kong cannot show: everything around them is read, and what was passed is said."""

from __future__ import annotations

import base64
import json
import random
import select
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import SourceUnavailable
from kong_cloudtrail.ports import Gap, Page
from kong_cloudtrail.sources.kong import http as kong_http
from kong_cloudtrail.sources.kong import reading as kong_reading

from sandbox.kong.simulator import KongSimulator
from sandbox.machinery import faults
from sandbox.machinery.faults import Fault
from sandbox.machinery.http_server import Request, Response
from tests.helpers import NOW, FakeClock, entries, entry, wait_until
from tests.kong_client import (
    Connect,
    Odd,
    gaps,
    ids,
    is_proven,
    page_of,
    read,
    rows_of,
    shown,
    sizes_asked_for,
)

FILTERING_RELEASES = ["3.8", "3.10"]
SCANNED_RELEASES = ["2.8", "3.4"]
SERVER_ERROR = faults.server_error()

pytestmark = pytest.mark.usefixtures("bare_environment")


def without(rows: Sequence[dict[str, Any]], *positions: int) -> list[str]:
    return [row["request_id"] for position, row in enumerate(rows) if position not in positions]


def second_of(row: dict[str, Any]) -> Window:
    return Window(row["request_timestamp"], row["request_timestamp"] + 1)


def mixed_case_id(rng: random.Random) -> str:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "".join(rng.choices(alphabet, k=32))


def hang_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> Fault:
    """Return a fault that hangs until the client's time-out, by a clock on which nothing else takes any time."""
    clock = FakeClock()
    monkeypatch.setattr(kong_http, "time", clock)
    hangs = threading.Event()
    read = kong_http._Reader.readinto

    class Hang(Fault):
        def spoil(self, response: Response) -> Response:
            hangs.set()
            return super().spoil(response)

    def read_or_be_late(reader: kong_http._Reader, buffer: Any) -> int | None:
        wait_until(lambda: hangs.is_set() or bool(select.select([reader._sock], [], [], 0)[0]))
        if hangs.is_set():
            hangs.clear()
            clock.sleep(kong_http.READ_TIMEOUT_SECONDS)
            raise TimeoutError
        return read(reader, buffer)

    monkeypatch.setattr(kong_http._Reader, "readinto", read_or_be_late)
    return Hang(kind="hang")


FAULTS = [
    (SERVER_ERROR, "status 500"),
    (faults.bad_gateway(502), "status 502"),
    (faults.bad_gateway(504), "status 504"),
    (faults.invalid_json(), "24 bytes that are not a JSON object"),
    (faults.wrong_shape("data is null"), "an answer that does not have the documented shape"),
    (Fault(kind="reset"), "a connection that was reset"),
    (Fault(kind="cut_off"), "a broken answer (ProtocolError)"),
    (Fault(kind="body", body=""), "0 bytes that are not a JSON object"),
]


class TestByTime:
    @pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=[reason for _, reason in FAULTS])
    @pytest.mark.parametrize("page_size", [1, 1000])
    def test_any_failure_of_a_row_is_passed(
        self, connect: Connect, kong: KongSimulator, fault: Fault, reason: str, page_size: int
    ) -> None:
        rows = entries(12)
        kong.add_entries(rows)
        kong.poison([rows[5]["request_id"]], fault=fault)

        pages = list(connect(kong.url, page_size=page_size).pages(Window(0, NOW)))

        assert ids(rows_of(pages)) == without(rows, 5)
        assert is_proven(pages)
        (gap,) = gaps(pages)
        assert gap.window == second_of(rows[5])
        assert gap.reason.startswith(reason)

    @pytest.mark.parametrize("release", FILTERING_RELEASES)
    @pytest.mark.parametrize("position", [0, 1, 6, 11])
    @pytest.mark.parametrize("window", [Window(0, None), Window(NOW - 12, NOW)])
    @pytest.mark.parametrize("page_size", [1, 1000])
    def test_wherever_it_is(
        self, connect: Connect, release: str, position: int, window: Window, page_size: int
    ) -> None:
        rows = entries(12)
        with KongSimulator(version=release) as kong:
            kong.add_entries(rows)
            kong.poison([rows[position]["request_id"]], fault=SERVER_ERROR)

            pages = list(connect(kong.url, page_size=page_size).pages(window))

        assert ids(rows_of(pages)) == without(rows, position)
        assert gaps(pages) == [Gap(second_of(rows[position]), "status 500")]
        assert is_proven(pages)

    @pytest.mark.parametrize("position", [0, 3, 9])
    @pytest.mark.parametrize("page_size", [1, 4, 1000])
    def test_its_second_is_read_but_for_itself(
        self, connect: Connect, kong: KongSimulator, position: int, page_size: int
    ) -> None:
        # Given ten rows of one second, which no filter can divide, and others around them
        rows = [entry(1), *entries(10, first=2, request_timestamp=NOW - 5), *entries(3, first=20)]
        kong.add_entries(rows)
        kong.poison([rows[1 + position]["request_id"]], fault=SERVER_ERROR)

        pages = list(connect(kong.url, page_size=page_size).pages(Window(0, NOW)))

        assert ids(rows_of(pages)) == without(rows, 1 + position)
        assert gaps(pages) == [Gap(Window(NOW - 5, NOW - 4), "status 500")]
        assert is_proven(pages)

    def test_far_from_the_rows_around_it(self, connect: Connect, kong: KongSimulator) -> None:
        rows = [entry(number, request_timestamp=NOW - number * 86_400 * 30) for number in range(1, 6)]
        kong.add_entries(rows)
        kong.poison([rows[2]["request_id"]], fault=SERVER_ERROR)

        pages = list(connect(kong.url).pages(Window(0, None)))

        assert ids(rows_of(pages)) == without(rows, 2)
        assert gaps(pages) == [Gap(second_of(rows[2]), "status 500")]
        assert len(kong.requests) < 100

    @pytest.mark.parametrize("ahead_seconds", [3600, 86_400 * 400])
    def test_dated_in_the_future(self, connect: Connect, kong: KongSimulator, ahead_seconds: int) -> None:
        rows = [entry(1, request_timestamp=NOW + ahead_seconds), *entries(3, first=2)]
        kong.add_entries(rows)
        kong.poison([rows[0]["request_id"]], fault=SERVER_ERROR)

        pages = list(connect(kong.url).pages(Window(0, None)))

        assert ids(rows_of(pages)) == without(rows, 0)
        assert gaps(pages) == [Gap(second_of(rows[0]), "status 500")]

    def test_dated_beyond_all_reason(self, connect: Connect, kong: KongSimulator) -> None:
        rows = [entry(1, request_timestamp=10**12), *entries(3, first=2)]
        kong.add_entries(rows)
        kong.poison([rows[0]["request_id"]], fault=SERVER_ERROR)

        pages = list(connect(kong.url).pages(Window(0, None)))

        assert ids(rows_of(pages)) == without(rows, 0)
        assert gaps(pages) == [Gap(Window(4_102_444_800, None), "status 500")]
        assert is_proven(pages)

    @pytest.mark.parametrize(
        "poisoned", [(4, 5), (4, 6), (4, 5, 6), (0, 11), (3, 5, 7), (0, 1, 2), (9, 10, 11), (2, 4, 5, 9)]
    )
    @pytest.mark.parametrize("page_size", [2, 1000])
    def test_several_rows(
        self, connect: Connect, kong: KongSimulator, poisoned: tuple[int, ...], page_size: int
    ) -> None:
        rows = entries(12)
        kong.add_entries(rows)
        kong.poison([rows[position]["request_id"] for position in poisoned], fault=SERVER_ERROR)

        pages = list(connect(kong.url, page_size=page_size).pages(Window(0, NOW)))

        assert ids(rows_of(pages)) == without(rows, *poisoned)
        assert [gap.window for gap in gaps(pages)] == [second_of(rows[position]) for position in poisoned]
        assert is_proven(pages)

    def test_nothing_but_rows_that_cannot_be_read(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(3))
        kong.poison(ids(entries(3)), fault=SERVER_ERROR)

        pages = list(connect(kong.url).pages(Window(0, NOW)))

        assert rows_of(pages) == []
        assert [gap.window for gap in gaps(pages)] == [second_of(row) for row in entries(3)]

    @pytest.mark.parametrize("window", [Window(NOW - 1, NOW), Window(NOW - 1, None)])
    def test_window_of_one_second(self, connect: Connect, kong: KongSimulator, window: Window) -> None:
        kong.add_entries([entry(1)])
        kong.poison(ids([entry(1)]), fault=SERVER_ERROR)

        pages = list(connect(kong.url).pages(window))

        assert gaps(pages) == [Gap(Window(NOW - 1, NOW), "status 500")]
        assert is_proven(pages)

    def test_too_many_of_them_are_a_failure_and_the_next_reading_goes_on_behind_them(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kong_reading, "MAX_GAPS", 3)
        rows = entries(8)
        kong.add_entries(rows)
        kong.poison(ids(rows[2:7]), fault=SERVER_ERROR)
        pages: list[Page] = []

        with pytest.raises(SourceUnavailable, match="works, but cannot show more than 3 rows"):
            for page in connect(kong.url).pages(Window(0, NOW)):
                pages.append(page)

        assert len(gaps(pages)) == 3
        pages += connect(kong.url).pages(Window(0, NOW), pages[-1].resume)
        assert [gap.window for gap in gaps(pages)] == [second_of(row) for row in rows[2:7]]
        assert ids(rows_of(pages)) == without(rows, *range(2, 7))

    def test_rows_that_can_be_read_again_are_no_gap(self, connect: Connect, kong: KongSimulator) -> None:
        # Given a row that fails for as long as the reading takes to find out where it is
        rows = entries(12)
        kong.add_entries(rows)
        kong.poison([rows[5]["request_id"]], fault=SERVER_ERROR)
        healing = False
        source = connect(kong.url, page_size=1, sleep=lambda seconds: kong.heal() if healing else None)
        pages = []
        for page in source.pages(Window(0, NOW)):
            pages.append(page)
            healing = len(rows_of(pages)) == 5

        assert ids(rows_of(pages)) == ids(rows)
        assert gaps(pages) == []
        assert is_proven(pages)

    @pytest.mark.parametrize("answers", [3, 4, 5, 6, 8, 12])
    def test_kong_that_dies_while_the_row_is_looked_for_is_down(
        self, connect: Connect, kong: KongSimulator, answers: int
    ) -> None:
        rows = entries(12)
        kong.add_entries(rows)
        kong.poison([rows[5]["request_id"]], fault=SERVER_ERROR)
        pages: list[Page] = []

        with pytest.raises(SourceUnavailable):
            for page in connect(kong.url, page_size=1).pages(Window(0, NOW)):
                pages.append(page)
                if len(rows_of(pages)) == 5:
                    kong.inject(faults.server_error(nth=answers, times=1000))

        # Then nothing is passed for good that could be read later
        kong.clear_faults()
        kong.heal()
        pages += connect(kong.url, page_size=1).pages(Window(0, NOW), pages[-1].resume)
        found = set(ids(rows_of(pages)))
        for gap in gaps(pages):
            found |= set(ids(read(connect(kong.url), gap.window)))
        assert found == set(ids(rows))

    def test_row_that_takes_too_long(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = entries(12)
        kong.add_entries(rows)
        kong.poison([rows[5]["request_id"]], fault=hang_without_a_wait(monkeypatch))

        pages = list(connect(kong.url, page_size=4).pages(Window(0, NOW)))

        assert ids(rows_of(pages)) == without(rows, 5)
        assert gaps(pages) == [Gap(second_of(rows[5]), "a time-out after 20 s")]

    def test_pages_grow_again_behind_it(self, connect: Connect, kong: KongSimulator) -> None:
        rows = entries(200)
        kong.add_entries(rows)
        kong.poison([rows[50]["request_id"]], fault=SERVER_ERROR)

        pages = list(connect(kong.url, page_size=64).pages(Window(0, NOW)))

        assert ids(rows_of(pages)) == without(rows, 50)
        assert sizes_asked_for(kong)[-3:] == [64, 64, 64]
        assert len(kong.requests) < 80

    def test_proxy_that_limits_the_rate_meanwhile_is_waited_for(self, connect: Connect, kong: KongSimulator) -> None:
        rows = entries(12)
        kong.add_entries(rows)
        kong.poison([rows[5]["request_id"]], fault=SERVER_ERROR)
        for number in range(1, 60, 2):
            kong.inject(faults.rate_limited("1", nth=number))

        pages = list(connect(kong.url, page_size=4).pages(Window(0, NOW)))

        assert ids(rows_of(pages)) == without(rows, 5)
        assert gaps(pages) == [Gap(second_of(rows[5]), "status 500")]

    def test_offsets_that_are_not_understood_cost_the_rest_of_the_second(self, connect: Connect) -> None:
        # Given a Kong whose offsets say nothing to us, and a row among others of its second
        rows = [entry(1), *entries(4, first=2, request_timestamp=NOW - 5), *entries(2, first=20)]

        def answer(request: Request) -> Response:
            query = dict(request.query)
            after, before, size = int(query.get("after", 0)), int(query.get("before", 10**12)), int(query["size"])
            begin = int(query.get("offset", "row-0").removeprefix("row-"))
            shown = [
                (place, row)
                for place, row in enumerate(rows)
                if place >= begin and after <= row["request_timestamp"] < before
            ]
            if any(row is rows[2] for _, row in shown[:size]):
                return Response(500)
            more = {"offset": f"row-{shown[size][0]}"} if len(shown) > size else {}
            return page_of(*(row for _, row in shown[:size]), **more)

        with Odd(answer) as kong:
            pages = list(connect(kong.url, page_size=3).pages(Window(0, NOW)))

        # Then they are part of what is read again later
        assert ids(rows_of(pages)) == ids([rows[0], rows[1], rows[5], rows[6]])
        assert [gap.window for gap in gaps(pages)] == [Window(NOW - 5, NOW - 4)]
        assert is_proven(pages)

    def test_time_that_runs_out_while_looking_for_it_is_a_failure(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(5))
        kong.poison(ids(entries(5)[2:3]), fault=SERVER_ERROR)
        left = iter([100.0] * 20)

        with pytest.raises(SourceUnavailable, match="before the run's time was used up"):
            read(connect(kong.url, remaining_seconds=lambda: next(left, -1.0)), Window(0, NOW))

    def test_run_that_is_cut_short_goes_on_with_smaller_pages(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given large pages that cost a time-out each, and runs with time for one of these
        kong.add_entries(entries(40))
        kong.poison(ids(entries(40)), fault=hang_without_a_wait(monkeypatch), page_size_over=3)
        found: list[Any] = []
        resume = None

        for _ in range(4):
            pages = connect(kong.url, page_size=1000).pages(Window(0, NOW), resume)
            page = next(pages)
            found += shown(page)
            resume = page.resume

        assert found == []
        assert sizes_asked_for(kong)[-1] == 1  # whether Kong is well
        found = read(connect(kong.url), Window(0, NOW), resume)
        assert ids(found) == ids(entries(40))


class TestByOffset:
    @pytest.mark.parametrize("release", SCANNED_RELEASES)
    @pytest.mark.parametrize("position", [1, 6, 11])
    @pytest.mark.parametrize("page_size", [1, 1000])
    @pytest.mark.parametrize("id_of", ["sequential", "hexadecimal", "uuid", "mixed case"])
    def test_wherever_it_is_but_at_the_very_beginning(
        self, connect: Connect, release: str, position: int, page_size: int, id_of: str
    ) -> None:
        rng = random.Random(position)  # noqa: S311
        make: dict[str, Callable[[int], str]] = {
            "sequential": lambda number: f"{number:032d}",
            "hexadecimal": lambda number: uuid.UUID(int=rng.getrandbits(128)).hex,
            "uuid": lambda number: str(uuid.UUID(int=rng.getrandbits(128))),
            "mixed case": lambda number: mixed_case_id(rng),
        }
        rows = [entry(number, request_id=make[id_of](number)) for number in range(1, 13)]
        with KongSimulator(version=release) as kong:
            kong.add_entries(rows)
            order = ids(read(connect(kong.url)))
            kong.poison([order[position]], fault=SERVER_ERROR)

            # Pages of several rows have to come first: what is known of offsets is known from rows shown.
            pages = list(connect(kong.url, page_size=page_size).pages(None))

        assert ids(rows_of(pages)) == [one for one in order if one != order[position]]
        assert gaps(pages) == [Gap(None, "status 500")]
        assert is_proven(pages)

    @pytest.mark.parametrize("release", SCANNED_RELEASES)
    def test_rows_of_one_second(self, connect: Connect, release: str) -> None:
        rng = random.Random(5)  # noqa: S311
        rows = [
            entry(n, request_id=uuid.UUID(int=rng.getrandbits(128)).hex, request_timestamp=NOW - n // 10)
            for n in range(40)
        ]
        with KongSimulator(version=release) as kong:
            kong.add_entries(rows)
            order = ids(read(connect(kong.url)))
            for position in (9, 10, 39):
                kong.poison([order[position]], fault=SERVER_ERROR)

                pages = list(connect(kong.url, page_size=7).pages(None))

                assert ids(rows_of(pages)) == [one for one in order if one != order[position]]
                kong.heal()

    @pytest.mark.parametrize("release", SCANNED_RELEASES)
    @pytest.mark.parametrize("poisoned", [(4, 5), (4, 6), (3, 5, 7), (9, 10, 11)])
    def test_several_rows(self, connect: Connect, release: str, poisoned: tuple[int, ...]) -> None:
        with KongSimulator(version=release) as kong:
            kong.add_entries(entries(12))
            order = ids(read(connect(kong.url)))
            kong.poison([order[position] for position in poisoned], fault=SERVER_ERROR)

            pages = list(connect(kong.url, page_size=2).pages(None))

        assert ids(rows_of(pages)) == [one for place, one in enumerate(order) if place not in poisoned]
        assert 1 <= len(gaps(pages)) <= len(poisoned)
        assert {gap.window for gap in gaps(pages)} == {None}

    @pytest.mark.parametrize("release", SCANNED_RELEASES)
    def test_run_that_stopped_right_before_it_goes_on_behind_it(self, connect: Connect, release: str) -> None:
        with KongSimulator(version=release) as kong:
            kong.add_entries(entries(12))
            order = ids(read(connect(kong.url)))
            kong.poison([order[6]], fault=SERVER_ERROR)
            reading = connect(kong.url, page_size=3).pages(None)
            first, second = next(reading), next(reading)

            # The offset is all that is known of the rows before it
            pages = [first, second, *connect(kong.url, page_size=3).pages(None, second.resume)]

        assert ids(rows_of(pages)) == [one for one in order if one != order[6]]
        assert gaps(pages) == [Gap(None, "status 500")]

    @pytest.mark.parametrize("release", SCANNED_RELEASES)
    def test_row_at_the_very_beginning_looks_like_a_kong_that_is_down(self, connect: Connect, release: str) -> None:
        with KongSimulator(version=release) as kong:
            kong.add_entries(entries(12))
            kong.poison([entry(1)["request_id"]], fault=SERVER_ERROR)

            with pytest.raises(SourceUnavailable, match="in 5 attempts; the last ended with status 500"):
                read(connect(kong.url))

    @pytest.mark.parametrize(
        "layout",
        [
            lambda key: key,
            lambda key: base64.b64encode(json.dumps({"id": key}).encode()).decode().rstrip("="),
            lambda key: base64.b64encode(json.dumps([key + "-signed"]).encode()).decode().rstrip("="),
            lambda key: base64.b64encode(json.dumps([key, key]).encode()).decode().rstrip("="),
            lambda key: base64.b64encode(key.encode()).decode().rstrip("="),
        ],
        ids=["plain", "object", "changed", "twice", "no JSON"],
    )
    def test_offset_that_is_not_understood_is_said_to_be(self, connect: Connect, layout: Callable[[str], str]) -> None:
        rows = entries(6)
        places = {layout(row["request_id"]): place + 1 for place, row in enumerate(rows)}

        def answer(request: Request) -> Response:
            query = dict(request.query)
            begin = places.get(query["offset"]) if "offset" in query else 0
            if begin is None:
                return Response(400)
            end = begin + int(query["size"])
            if begin <= 3 < end:
                return Response(500)
            more = {"offset": layout(rows[end - 1]["request_id"])} if end < len(rows) else {}
            return page_of(*rows[begin:end], **more)

        with Odd(answer) as kong, pytest.raises(SourceUnavailable, match="offsets is not known well enough"):
            read(connect(kong.url, page_size=2))

    def test_offset_that_kong_does_not_take_from_us_is_said_too(self, connect: Connect) -> None:
        # Given offsets that look as if they were understood, and are signed in a way that is not seen
        rows = entries(6)

        def offset(row: dict[str, Any]) -> str:
            return (
                base64.b64encode(json.dumps([row["request_id"]], separators=(",", ":")).encode()).decode().rstrip("=")
            )

        places = {offset(row): place + 1 for place, row in enumerate(rows)}

        def answer(request: Request) -> Response:
            query = dict(request.query)
            begin = places.get(query["offset"]) if "offset" in query else 0
            if begin is None:
                return Response(400)
            end = begin + int(query["size"])
            if begin <= 3 < end:
                return Response(500)
            more = {"offset": offset(rows[end - 1])} if end < len(rows) else {}
            return page_of(*rows[begin:end], **more)

        with Odd(answer) as kong, pytest.raises(SourceUnavailable, match="offsets is not known well enough"):
            read(connect(kong.url, page_size=2))


@pytest.mark.parametrize("release", [*SCANNED_RELEASES, *FILTERING_RELEASES])
@pytest.mark.parametrize("seed", range(6))
def test_any_rows_among_any_others(connect: Connect, release: str, seed: int) -> None:
    # Given rows that share seconds, and a few that cannot be shown
    rng = random.Random(f"{release} {seed}")  # noqa: S311
    count = rng.randrange(5, 120)
    spread = rng.choice([1, 10, 1_000, 10**6])
    rows = [
        entry(n, request_id=uuid.UUID(int=rng.getrandbits(128)).hex, request_timestamp=NOW - rng.randrange(spread))
        for n in range(count)
    ]
    with KongSimulator(version=release) as kong:
        kong.add_entries(rows)
        order = ids(read(connect(kong.url)))
        poisoned = set(rng.sample(order[1:], rng.randrange(1, 4)))
        kong.poison(poisoned, fault=rng.choice(FAULTS)[0])
        filters = release in FILTERING_RELEASES
        window = Window(0, rng.choice([None, NOW + 1])) if filters else None

        # When they are read, with a pause somewhere
        source = connect(kong.url, page_size=rng.choice([1, 2, 7, 1000]))
        pages: list[Page] = []
        pause_after = rng.randrange(1, 6)
        for page in source.pages(window):
            pages.append(page)
            if len(pages) == pause_after or page.is_last:
                break
        if not pages[-1].is_last:
            pages += source.pages(window, pages[-1].resume)

        # Then every other row is read or, after the healing, in a gap
        found = ids(rows_of(pages))
        assert not set(found) & poisoned
        kong.heal()
        retried = {one for gap in gaps(pages) if gap.window for one in ids(read(source, gap.window))}

    assert is_proven(pages)
    if filters:
        assert set(found) | retried == set(order)
    assert set(found) == set(order) - poisoned
    assert len(found) == len(set(found))
