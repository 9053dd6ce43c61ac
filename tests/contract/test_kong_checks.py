"""Answers that are none to what was asked: a cluster in the middle of an upgrade, nodes that misread offsets."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import SourceUnavailable
from kong_cloudtrail.ports import Page
from kong_cloudtrail.sources.kong.checks import filters_by_time, never_rises, request_times
from kong_cloudtrail.sources.kong.entries import read_entries

from sandbox.kong.simulator import KongSimulator
from sandbox.machinery import faults
from sandbox.machinery.http_server import Request, Response
from tests.helpers import NOW, entries, entry
from tests.kong_client import Connect, Odd, ids, is_proven, page_of, queries, read, rows_of, shown

RELEASES = ["2.8", "3.4", "3.8", "3.10"]
FILTERING_RELEASES = ["3.8", "3.10"]
SCANNED_RELEASES = ["2.8", "3.4"]

pytestmark = pytest.mark.usefixtures("bare_environment")


def body_of(pages: list[list[Any]]) -> Callable[[Request], Response]:
    """Return a Kong that gives these pages in turn, and then empty ones."""
    left = iter(enumerate(pages, 1))

    def answer(request: Request) -> Response:
        number, rows = next(left, (len(pages), []))
        return page_of(*rows, **({"offset": f"offset-{number}"} if number < len(pages) else {}))

    return answer


def at(*seconds: Any) -> list[dict[str, Any]]:
    return [{"request_id": f"{number}", "request_timestamp": second} for number, second in enumerate(seconds)]


class TestWindow:
    @pytest.mark.parametrize("release", FILTERING_RELEASES)
    @pytest.mark.parametrize("page_size", [3, 7, 1000])
    @pytest.mark.parametrize("window", [Window(0, None), Window(NOW - 30, NOW - 5)])
    def test_honest_answers_are_as_asked(self, connect: Connect, release: str, page_size: int, window: Window) -> None:
        with KongSimulator(version=release) as kong:
            kong.add_entries(entries(20) + entries(20, first=20, request_timestamp=NOW - 20))

            assert is_proven(list(connect(kong.url, page_size=page_size).pages(window)))

    @pytest.mark.parametrize(
        ("rows", "as_asked"),
        [
            (at(15, 12, 12, 10), True),
            (at(20, 10), True),  # the upper bound, as if it were inclusive: harmless
            (at(), True),
            (at(12, 13), False),
            (at(15, 9), False),
            (at(21, 15), False),
            (at(-1), True),  # no moment at all, and so not judged
            (at(15, -1, 12), True),
            (at(19.5, 19.9, 10.5), True),  # of one second, in which the order is another one
            (at(18.5, 19.5), False),
            (at(10**30), True),
            (at(10**30, 15, 16), False),
            (at(15, None, "14", True, 12), True),  # rows without a time are not judged
            (at(15, None, 16), False),
            ([*at(15), 5, None, [], {}], True),
            (at(15, 15, 15, 15, 15, 15), False),  # six rows where five were asked for
        ],
        ids=str,
    )
    def test_every_row_is_looked_at(self, connect: Connect, rows: list[Any], as_asked: bool) -> None:
        with Odd(lambda _: page_of(*rows)) as kong:
            pages = list(connect(kong.url, page_size=5).pages(Window(10, 20)))

        assert pages == [Page(read_entries(rows), None, is_last=True, as_asked=as_asked)]

    @pytest.mark.parametrize("second", [at(14), at(15, 16), at(30), at(5)])
    def test_each_page_is_compared_with_the_one_before(self, connect: Connect, second: list[Any]) -> None:
        with Odd(body_of([at(17, 13), second, at(11)])) as kong:
            pages = list(connect(kong.url, page_size=5).pages(Window(10, 20)))

        # Then what is shown is handed over, nothing is concluded from it, and nothing follows
        assert list(map(shown, pages)) == [at(17, 13), second]
        assert [(page.as_asked, page.is_last) for page in pages] == [(True, False), (False, True)]

    def test_end_of_several_pages_is_checked(self, connect: Connect) -> None:
        with Odd(body_of([at(17, 16), at(15, 15)])) as kong:
            pages = list(connect(kong.url, page_size=2).pages(Window(10, 20)))

        assert is_proven(pages)
        assert list(map(shown, pages)) == [at(17, 16), at(15, 15), []]
        assert dict(kong.requests[-1].query) == {"after": "10", "before": "15", "size": "2"}

    def test_rows_without_a_time_at_the_end_are_no_rows_behind_it(self, connect: Connect) -> None:
        # Given rows that the filter counts into the window, although they show no time
        odd = at(None, "soon")

        def answer(request: Request) -> Response:
            query = dict(request.query)
            if "offset" in query:
                return page_of(*at(14), *odd)
            return page_of(*at(17, 16, 15), offset="a") if query["before"] == "20" else page_of(*odd)

        with Odd(answer) as kong:
            pages = list(connect(kong.url, page_size=3).pages(Window(10, 20)))

        assert is_proven(pages)
        assert list(map(shown, pages)) == [at(17, 16, 15), [*at(14), *odd], odd]

    def test_rows_behind_the_end_were_passed_over(self, connect: Connect) -> None:
        # Given a node that takes the offset for one near the end
        def answer(request: Request) -> Response:
            query = dict(request.query)
            if "offset" in query:
                return page_of(*at(14))
            return page_of(*at(17, 16), offset="a") if query["before"] == "20" else page_of(*at(12), offset="b")

        with Odd(answer) as kong:
            pages = list(connect(kong.url, page_size=2).pages(Window(10, 20)))

        assert list(map(shown, pages)) == [at(17, 16), at(14), at(12)]
        assert [page.as_asked for page in pages] == [True, True, False]
        assert not is_proven(pages)

    def test_offset_that_leads_to_nothing_was_misread_or_its_rows_expired(
        self, connect: Connect, kong: KongSimulator
    ) -> None:
        # Given a window of one second, of which an old node shows the first row and a new one nothing more
        kong.add_entries(entries(60, request_timestamp=NOW))
        kong.configure(server_header=False)
        kong.mix_nodes("2.8", every_nth=1)
        pages = connect(kong.url, page_size=1).pages(Window(NOW, NOW + 1))
        first = next(pages)
        kong.mix_nodes(None)

        (second,) = pages

        assert (len(first.entries), second) == (1, Page([], None, is_last=True, as_asked=False))

    @pytest.mark.parametrize("pages", [[at(17), at(10)], [at(17), at(12, 10, 10)]])
    def test_end_at_the_beginning_of_the_window_needs_no_check(self, connect: Connect, pages: list[list[Any]]) -> None:
        with Odd(body_of(pages)) as kong:
            assert is_proven(list(connect(kong.url, page_size=3).pages(Window(10, 20))))

        assert len(kong.requests) == 2

    def test_several_pages_without_any_time_prove_nothing(self, connect: Connect) -> None:
        with Odd(body_of([[{}], [{}]])) as kong:
            pages = list(connect(kong.url, page_size=3).pages(Window(10, 20)))

        assert rows_of(pages) == [{}, {}]
        assert not is_proven(pages)

    @pytest.mark.parametrize(
        ("server", "as_asked"),
        [
            ("kong/3.10.0.2-enterprise-edition", True),
            ("kong/3.8.1.0-enterprise-edition", True),
            ("kong/4.0.0.0-enterprise-edition", True),
            ("kong/3.4.3.9-enterprise-edition", True),
            ("kong/3.4.3.21-enterprise-edition", True),
            ("kong/3.4.3.8-enterprise-edition", False),
            ("kong/3.5.0.4-enterprise-edition", False),
            ("kong/3.6.1.4-enterprise-edition", False),
            ("kong/2.8.4.13-enterprise-edition", False),
            ("KONG/3.3.1.0", False),
            ("kong/3.4", True),  # does not say enough
            ("kong/next", True),
            ("nginx/1.25.3", True),
            ("", True),
        ],
    )
    def test_release_that_does_not_filter_cannot_have_answered(
        self, connect: Connect, server: str, as_asked: bool
    ) -> None:
        def answer(_: Request) -> Response:
            return Response(200, json.dumps({"data": at(15), "next": None}).encode(), {"Server": server})

        with Odd(answer) as kong:
            pages = list(connect(kong.url).pages(Window(10, 20)))

        assert pages == [Page(read_entries(at(15)), None, is_last=True, as_asked=as_asked)]


class TestScan:
    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("page_size", [2, 5, 17, 1000])
    def test_honest_answers_are_as_asked(self, connect: Connect, release: str, page_size: int) -> None:
        rng = random.Random(page_size)  # noqa: S311
        with KongSimulator(version=release) as kong:
            kong.add_entries([entry(n, request_timestamp=NOW - rng.randrange(60)) for n in range(120)])

            pages = list(connect(kong.url, page_size=page_size).pages(None))

        assert is_proven(pages)
        assert len(rows_of(pages)) == 120

    NEWEST_FIRST = at(90, 80, 70, 60, 50, 40, 30, 20)
    BY_ID = at(25, 97, 13)

    @pytest.mark.parametrize(
        ("pages", "as_asked"),
        [
            ([NEWEST_FIRST, at(20, 19), at(18)], [True, True, True]),
            ([NEWEST_FIRST, BY_ID, at(18)], [True, False, False]),
            ([NEWEST_FIRST, at(21), at(18)], [True, False, True]),
            # Which order it is shows with the first page that has enough rows to tell.
            ([BY_ID, NEWEST_FIRST, BY_ID], [True, False, False]),
            ([BY_ID, at(90, 80, 70), BY_ID], [True, True, True]),  # by chance
            ([at(50, 40), BY_ID, at(90)], [True, True, True]),  # too few to tell at first
            ([at(90), at(12)], [True, True]),
            ([at(None, "x"), BY_ID], [True, True]),
            ([at(1), []], [True, False]),  # the offset had promised more
            ([at(*[5] * 11), at(5)], [False, True]),  # more than was asked for
        ],
        ids=str,
    )
    def test_pages_of_two_orders_prove_nothing_and_are_read_to_the_end(
        self, connect: Connect, pages: list[list[Any]], as_asked: list[bool]
    ) -> None:
        with Odd(body_of(pages)) as kong:
            found = list(connect(kong.url, page_size=10).pages(None))

        assert list(map(shown, found)) == pages
        assert [page.as_asked for page in found] == as_asked
        assert [page.is_last for page in found] == [False] * (len(pages) - 1) + [True]

    def test_answers_of_two_releases_prove_nothing_and_are_read_to_the_end(self, connect: Connect) -> None:
        servers = iter(["kong/2.8.4.13", "kong/2.8.4.13", "nginx", "kong/2.8.4.14", "kong/2.8.4.13"])
        pages = body_of([at(number) for number in (5, 3, 7, 1, 9)])

        def answer(request: Request) -> Response:
            response = pages(request)
            response.headers["Server"] = next(servers)
            return response

        with Odd(answer) as kong:
            found = list(connect(kong.url, page_size=1).pages(None))

        assert [page.as_asked for page in found] == [True, True, True, False, True]
        assert [row["request_timestamp"] for row in rows_of(found)] == [5, 3, 7, 1, 9]


class TestMixedCluster:
    """Nodes of two releases behind one address: nothing may be taken for proven that was not all shown."""

    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("other", RELEASES)
    @pytest.mark.parametrize("server_header", [True, False])
    @pytest.mark.parametrize("every_nth", [2, 3])
    def test_what_is_proven_is_complete(
        self, connect: Connect, release: str, other: str, server_header: bool, every_nth: int
    ) -> None:
        rng = random.Random(f"{release} {other} {every_nth}")  # noqa: S311
        unproven = 0
        for count, page_size in ((30, 1000), (30, 7), (9, 3), (100, 25)):
            rows = [
                entry(n, request_id=f"{rng.getrandbits(128):032x}", request_timestamp=NOW - rng.randrange(60))
                for n in range(count)
            ]
            with KongSimulator(version=release) as kong:
                kong.configure(server_header=server_header)
                kong.add_entries(rows)
                kong.mix_nodes(other, every_nth=every_nth)
                source = connect(kong.url, page_size=page_size)
                for window in (Window(0, None), Window(NOW - 40, NOW - 10), None):
                    pages = []
                    for page in source.pages(window):  # an unfiltered reading may go round for a while
                        pages.append(page)
                    bounds = window or Window(0, None)
                    wanted = {
                        row["request_id"]
                        for row in rows
                        if bounds.after <= row["request_timestamp"] < (bounds.before or NOW + 1)
                    }
                    if is_proven(pages):
                        assert wanted <= set(ids(rows_of(pages)))
                    else:
                        unproven += 1
        if release == other and release in FILTERING_RELEASES:
            assert unproven == 0

    @pytest.mark.parametrize("page_size", [7, 1000])
    def test_what_an_old_node_shows_of_a_window_is_handed_over(
        self, connect: Connect, kong: KongSimulator, page_size: int
    ) -> None:
        kong.add_entries(entries(20))
        kong.mix_nodes("2.8", every_nth=1)

        pages = list(connect(kong.url, page_size=page_size).pages(Window(NOW - 5, NOW)))

        assert ids(rows_of(pages)) == ids(entries(20))[:page_size]
        assert [(page.as_asked, page.is_last) for page in pages] == [(False, True)]

    def test_searching_for_a_row_stops_where_an_old_node_answers(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(20))
        kong.poison(ids(entries(20)[5:6]), fault=faults.server_error())
        kong.mix_nodes("2.8", every_nth=7)

        pages = list(connect(kong.url, page_size=1).pages(Window(0, NOW)))

        assert not is_proven(pages)


class TestResume:
    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("page_size", [1, 4, 10])
    def test_reading_goes_on_after_any_page(self, connect: Connect, release: str, page_size: int) -> None:
        with KongSimulator(version=release) as kong:
            kong.set_clock(frozen_at=NOW)
            kong.add_entries(entries(10))
            window = Window(NOW - 9, None) if release in FILTERING_RELEASES else None
            whole = list(connect(kong.url, page_size=page_size).pages(window))
            for cut in range(1, len(whole)):
                resume = whole[cut - 1].resume
                assert resume is not None
                assert json.loads(json.dumps(resume)) == resume
                assert resume.isascii()

                rest = list(connect(kong.url, page_size=page_size).pages(window, resume))

                assert rows_of(rest) == rows_of(whole[cut:])
                assert is_proven(rest)
            assert whole[-1].resume is None

    def test_order_is_checked_across_the_break(self, connect: Connect) -> None:
        with Odd(body_of([at(17, 13), at(12), at(11)])) as kong:
            first = next(connect(kong.url, page_size=5).pages(Window(10, 20)))
        with Odd(body_of([at(14), at(11)])) as kong:
            pages = list(connect(kong.url, page_size=5).pages(Window(10, 20), first.resume))

        assert pages == [Page(read_entries(at(14)), None, is_last=True, as_asked=False)]

    def test_release_and_order_of_a_scan_are_too(self, connect: Connect) -> None:
        with KongSimulator(version="3.4") as kong, KongSimulator(version="2.8") as other:
            kong.configure(server_header=False)
            for each in (kong, other):
                each.add_entries([entry(n, request_timestamp=NOW - n * 7 % 30) for n in range(30)])
            first = next(connect(kong.url, page_size=10).pages(None))

            pages = list(connect(other.url, page_size=10).pages(None, first.resume))

        assert not is_proven(pages)

    def test_end_that_was_still_to_be_checked_is_checked(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(4))
        pages = list(connect(kong.url, page_size=2).pages(Window(0, NOW)))
        kong.reset_counters()

        rest = list(connect(kong.url, page_size=2).pages(Window(0, NOW), pages[-2].resume))

        assert rest == [Page([], None, is_last=True)]
        assert queries(kong) == [{"after": "0", "before": str(NOW - 4), "size": "2"}]

    @pytest.mark.parametrize(
        "resume",
        ["", "x", "{}", "[]", "null", '{"size":3}', '{"offset":5}', "\u2019"],
    )
    def test_text_that_is_no_position_begins_anew(self, connect: Connect, kong: KongSimulator, resume: str) -> None:
        kong.add_entries(entries(4))

        assert len(read(connect(kong.url), Window(0, NOW), resume)) == 4
        assert len(read(connect(kong.url), None, resume)) == 4

    def test_position_that_was_tampered_with_begins_anew(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(6))
        resume = next(connect(kong.url, page_size=2).pages(Window(0, NOW))).resume
        known = json.loads(resume or "")
        for name in known:
            values: tuple[Any, ...] = ("x", {}, [5])
            for value in values:
                changed = json.dumps(known | {name: value})
                if name in ("offset", "version") and value == "x":
                    continue
                assert len(read(connect(kong.url, page_size=2), Window(0, NOW), changed)) in (4, 6)

    @pytest.mark.parametrize("release", RELEASES)
    def test_offset_that_kong_no_longer_takes_is_done_without(self, connect: Connect, release: str) -> None:
        # Given a position whose offset was another release's
        with KongSimulator(version=release) as kong:
            kong.add_entries(entries(9))
            window = Window(0, NOW) if release in FILTERING_RELEASES else None
            resume = next(connect(kong.url, page_size=3).pages(window)).resume
            changed = json.dumps(json.loads(resume or "") | {"offset": "bm90aGluZw"})

            pages = list(connect(kong.url, page_size=3).pages(window, changed))

        # Then what follows it is read all the same, by time where that is possible
        assert is_proven(pages)
        assert set(ids(rows_of(pages))) >= set(ids(entries(9)[3:] if window else entries(9)))
        assert len(rows_of(pages)) == (7 if window else 9)

    def test_offset_that_led_past_a_row_is_done_without_that_row(self, connect: Connect, kong: KongSimulator) -> None:
        # Given a position in the middle of a second of which a row cannot be shown, and an offset that is refused
        rows = [entry(1), *entries(5, first=2, request_timestamp=NOW - 5), entry(20)]
        kong.add_entries(rows)
        kong.poison([rows[2]["request_id"]], fault=faults.server_error())
        pages = connect(kong.url, page_size=1).pages(Window(0, NOW))
        gap = next(page for page in pages if page.gap is not None)
        known = json.loads(gap.resume or "")
        assert known["made"]

        rest = list(connect(kong.url).pages(Window(0, NOW), json.dumps(known | {"offset": "bm90aGluZw"})))

        assert ids(rows_of(rest)) == ids([rows[-1]])
        assert is_proven(rest)


class TestOffsetsThatAreRefused:
    def rows_by_offset(
        self, rows: list[Any], *, refuses: Callable[[dict[str, str]], bool]
    ) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            query = dict(request.query)
            if refuses(query):
                return Response(400, b'{"message":"bad offset","code":7}')
            after, before = int(query.get("after", 0)), int(query.get("before", NOW))
            shown = [row for row in rows if after <= row["request_timestamp"] < before]
            begin, size = int(query.get("offset", "0")), int(query["size"])
            more = {"offset": str(begin + size)} if len(shown) > begin + size else {}
            return page_of(*shown[begin : begin + size], **more)

        return answer

    def test_reading_goes_on_by_time(self, connect: Connect) -> None:
        # Given a Kong whose second node refuses the offsets of the first one, once
        refused: list[str] = []

        def refuses(query: dict[str, str]) -> bool:
            if "offset" in query and not refused:
                refused.append(query["offset"])
                return True
            return False

        with Odd(self.rows_by_offset(entries(9), refuses=refuses)) as kong:
            pages = list(connect(kong.url, page_size=2).pages(Window(0, NOW)))

        assert is_proven(pages)
        assert set(ids(rows_of(pages))) == set(ids(entries(9)))
        assert len(rows_of(pages)) == 10  # the last second of the first page is shown again

    def test_reading_that_gets_no_further_is_given_up(self, connect: Connect) -> None:
        with (
            Odd(self.rows_by_offset(at(*[5] * 9), refuses=lambda query: "offset" in query)) as kong,
            pytest.raises(SourceUnavailable, match="does not accept its own offset"),
        ):
            read(connect(kong.url, page_size=2), Window(0, NOW))

        assert len(kong.requests) == 4

    def test_kong_that_refuses_all_offsets_is_read_by_time_as_far_as_that_goes(self, connect: Connect) -> None:
        with Odd(self.rows_by_offset(entries(9), refuses=lambda query: "offset" in query)) as kong:
            rows = read(connect(kong.url, page_size=2), Window(0, NOW))

        assert set(ids(rows)) == set(ids(entries(9)))

    def test_scan_cannot_go_on(self, connect: Connect) -> None:
        with (
            Odd(self.rows_by_offset(entries(9), refuses=lambda query: "offset" in query)) as kong,
            pytest.raises(SourceUnavailable, match="does not accept its own offset"),
        ):
            read(connect(kong.url, page_size=2))


class TestFunctions:
    @pytest.mark.parametrize(
        ("version", "filters"),
        [
            ("3.7.0.0", True),
            ("3.6.1.5", True),
            ("3.6.2.0", True),
            ("3.6.0.9", False),
            ("3.5.0.5", True),
            ("3.4.3.10", True),
            ("3.4.2.99", False),
            ("3.0.0.0", False),
            ("10.0", True),
            ("3.6", None),
            ("3.6.1", None),
            ("3", None),
            ("", None),
            ("x", None),
            ("99999.1", None),
        ],
    )
    def test_filters_by_time(self, version: str, filters: bool | None) -> None:
        assert filters_by_time(version) is filters

    def test_request_times(self) -> None:
        assert request_times([]) == []
        assert request_times(at(3, 2, 1)) == [3, 2, 1]
        assert request_times([*at(3.9, None, True, "5", 0.5, -1.5, 10**15), 7, [], {"x": 1}]) == [3, 0]

    def test_never_rises(self) -> None:
        assert never_rises([])
        assert never_rises([3, 3, 1])
        assert not never_rises([3, 4])


def test_steady_state_costs_three_calls(connect: Connect, kong: KongSimulator) -> None:
    kong.add_entries(entries(200))
    source = connect(kong.url)

    source.describe()
    assert source.filters_by_time(NOW + 3600)
    pages = list(source.pages(Window(NOW - 900, None)))

    assert is_proven(pages)
    assert len(kong.requests) == 3
