"""The Kong adapter against a simulator of Kong over real sockets: every release, and everything that goes wrong."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import SourceRefused, SourceUnavailable, TimeBudgetReached
from kong_cloudtrail.ports import Gap, Page
from kong_cloudtrail.sources.kong import admin_api as kong_api
from kong_cloudtrail.sources.kong import http as kong_http
from kong_cloudtrail.sources.kong import reading as kong_reading
from kong_cloudtrail.sources.kong.requests_stream import KongRequests

from sandbox.kong.simulator import KongSimulator
from sandbox.machinery import faults
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.faults import Fault
from sandbox.machinery.http_server import Request, Response
from tests.helpers import NOW, FakeClock, entries, entry
from tests.kong_client import (
    AUDIT,
    Connect,
    Odd,
    gaps,
    ids,
    is_proven,
    page_of,
    queries,
    read,
    rows_of,
    shown,
    sizes_asked_for,
)

RELEASES = ["2.8", "3.4", "3.8", "3.10"]
FILTERING_RELEASES = ["3.8", "3.10"]

pytestmark = pytest.mark.usefixtures("bare_environment")


ODD_ZONE = "Sat, 01 Jun 2024 12:00:00 +99999999999999"
"""A date with a time zone that no calendar can compute with."""


class TestReading:
    @pytest.mark.parametrize("release", RELEASES)
    @pytest.mark.parametrize("page_size", [1, 3, 1000])
    def test_everything_is_read_once(self, connect: Connect, release: str, page_size: int) -> None:
        with KongSimulator(version=release, base_path="/behind/a/proxy") as kong:
            kong.add_entries(entries(7, ttl=3600))

            rows = read(connect(kong.url, page_size=page_size))

        assert sorted(ids(rows)) == ids(entries(7))

    @pytest.mark.parametrize("release", FILTERING_RELEASES)
    def test_window_is_half_open_on_every_page(self, connect: Connect, release: str) -> None:
        with KongSimulator(version=release) as kong:
            kong.add_entries(entries(50))

            rows = read(connect(kong.url, page_size=4), Window(NOW - 30, NOW - 10))

        assert sorted(row["request_timestamp"] for row in rows) == list(range(NOW - 30, NOW - 10))

    def test_window_without_an_end_reads_all_that_is_later(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(5))

        assert len(read(connect(kong.url, page_size=2), Window(NOW - 2, None))) == 2

    def test_entries_of_one_second_are_all_read(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(50, request_timestamp=NOW))

        assert len(set(ids(read(connect(kong.url, page_size=7), Window(NOW, NOW + 1))))) == 50

    def test_empty_log_is_one_empty_page(self, connect: Connect, kong: KongSimulator) -> None:
        assert list(connect(kong.url).pages(None)) == [Page([], None, is_last=True, newest_first=False)]

    def test_entries_that_come_in_meanwhile_shift_nothing(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(9))
        pages = connect(kong.url, page_size=2).pages(Window(0, NOW + 100))
        rows = shown(next(pages))
        kong.add_entries([entry(100, request_timestamp=NOW + 50), entry(101, request_timestamp=NOW - 100)])

        rows += rows_of(list(pages))

        assert len(set(ids(rows))) == len(rows)
        assert set(ids(entries(9))) <= set(ids(rows))

    def test_entries_that_expire_meanwhile_are_no_error(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(9, ttl=60))
        pages = connect(kong.url, page_size=2).pages(None)
        next(pages)
        kong.advance_clock(61)

        # Then the empty page is an end, and no proof of one: a node that misreads the offset answers like this too
        assert list(pages) == [Page([], None, is_last=True, as_asked=False, newest_first=False)]

    def test_one_connection_serves_all_pages(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(20))
        source = connect(kong.url, page_size=2)

        source.describe()
        read(source)

        assert kong.connections == 1

    def test_odd_rows_come_through_as_they_are(self, connect: Connect, kong: KongSimulator) -> None:
        rows: list[Any] = ["text", None, 5, [], {"request_id": None}, {"big": 2**53 + 1}]
        kong.inject(Fault(kind="body", body=json.dumps({"data": rows, "next": None})))

        assert read(connect(kong.url)) == rows

    def test_bytes_that_are_no_utf_8_do_not_spoil_the_page(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(2))
        kong.add_raw_row(b'{"request_id":"raw","request_timestamp":%d,"path":"/\xff"}' % NOW, timestamp=NOW)

        rows = read(connect(kong.url))

        assert len(rows) == 3
        assert rows[0]["path"] == "/\udcff"


class TestProbe:
    @pytest.mark.parametrize(("release", "filters"), [("2.8", False), ("3.4", False), ("3.8", True), ("3.10", True)])
    def test_tells_whether_filters_work(self, connect: Connect, release: str, filters: bool) -> None:
        with KongSimulator(version=release) as kong:
            kong.add_entries(entries(3))

            assert connect(kong.url).filters_by_time(NOW + 3600) is filters

        assert queries(kong) == [{"after": str(NOW + 3600), "size": "1"}]

    @pytest.mark.parametrize("release", RELEASES)
    def test_empty_log_needs_one_question(self, connect: Connect, release: str) -> None:
        with KongSimulator(version=release) as kong:
            assert connect(kong.url).filters_by_time(NOW)

        assert len(kong.requests) == 1

    @pytest.mark.parametrize(("release", "filters"), [("2.8", False), ("3.4", False), ("3.8", True)])
    def test_entry_of_the_future_that_comes_first_is_no_proof(
        self, connect: Connect, release: str, filters: bool
    ) -> None:
        with KongSimulator(version=release) as kong:
            kong.add_entries([entry(0, request_timestamp=NOW + 10**6), *entries(5)])

            assert connect(kong.url).filters_by_time(NOW + 3600) is filters

    @pytest.mark.parametrize(
        "row", [{}, {"request_timestamp": None}, {"request_timestamp": "soon"}, {"request_timestamp": 5}]
    )
    def test_odd_row_is_no_proof_of_filters(self, connect: Connect, row: dict[str, Any]) -> None:
        with Odd(lambda _: page_of(row)) as kong:
            assert not connect(kong.url).filters_by_time(NOW)

    def test_finds_older_entries(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries([entry(10)])
        source = connect(kong.url)

        assert source.has_entries_before(NOW - 9)
        assert not source.has_entries_before(NOW - 10)

    def test_entry_that_cannot_be_shown_stops_neither_question(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries([entry(1), entry(2, request_timestamp=NOW + 10**6)])
        kong.poison(ids([entry(1), entry(2)]), fault=faults.server_error())
        source = connect(kong.url)

        assert source.filters_by_time(NOW + 3600)
        assert source.has_entries_before(NOW)
        assert not source.has_entries_before(NOW - 1)

    @pytest.mark.parametrize(
        "ask", [lambda source: source.filters_by_time(NOW), lambda source: source.has_entries_before(5)]
    )
    def test_kong_that_is_down_is_an_error(
        self, connect: Connect, kong: KongSimulator, ask: Callable[[KongRequests], bool]
    ) -> None:
        kong.inject(faults.server_error(times=100))

        with pytest.raises(SourceUnavailable, match="in 5 attempts; the last ended with status 500"):
            ask(connect(kong.url))

        assert len(kong.requests) == 5


class TestDescription:
    @pytest.mark.parametrize("release", RELEASES)
    def test_is_kongs_own(self, connect: Connect, release: str) -> None:
        with KongSimulator(version=release, hostname="cp-7", base_path="/kong") as kong:
            kong.set_clock(frozen_at=NOW)
            gateway = connect(kong.url).describe()

        assert gateway.version.startswith(f"{release}.")
        assert gateway.version.endswith("-enterprise-edition")
        assert (gateway.hostname, gateway.clock) == ("cp-7", NOW)

    @pytest.mark.parametrize("skew_seconds", [-7200, 7200])
    def test_clock_is_kongs_and_not_ours(self, connect: Connect, kong: KongSimulator, skew_seconds: int) -> None:
        kong.set_clock(frozen_at=NOW + skew_seconds)

        assert connect(kong.url).describe().clock == NOW + skew_seconds

    @pytest.mark.parametrize(
        ("date", "moment"),
        [
            ("Sat, 01 Jun 2024 12:00:00 GMT", NOW),
            ("sat, 01 jun 2024 12:00:00 gmt", NOW),
            ("Sat, 01 Jun 2024 12:00:00 UTC", NOW),
            ("Sat, 01 Jun 2024 12:00:00 +0000", NOW),
            ("Sat, 01 Jun 2024 12:00:00 -0000", NOW),
            ("Sat, 01 Jun 2024 14:00:00 +0200", NOW),
            ("Sat, 01 Jun 2024 08:30:00 -0330", NOW),
            ("Sat, 01 Jun 2024 12:00:60 GMT", NOW + 60),
            ("Sat, 01 Jun 2024 12:00:00", None),
            ("Sat, 01 Jun 2024 12:00:00 CEST", None),
            ("Sat, 01 Jun 2024 12:00:00 +9900", None),
            (ODD_ZONE, None),
            ("Sat, 31 Jun 2024 12:00:00 GMT", None),
            ("Sat, 01 Foo 2024 12:00:00 GMT", None),
            ("Sat, 01 Jun 0000 12:00:00 GMT", None),
            ("Fri, 31 Dec 9999 23:59:59 -0100", None),
            ("Saturday, 01-Jun-24 12:00:00 GMT", None),
            ("Sat Jun  1 12:00:00 2024", None),
            ("2024-06-01T12:00:00Z", None),
            ("1717243200", None),
            ("yesterday", None),
            ("", None),
        ],
    )
    def test_date_is_believed_if_it_says_its_zone(
        self, connect: Connect, kong: KongSimulator, date: str, moment: int | None
    ) -> None:
        kong.configure(date_text=date)

        assert connect(kong.url).describe().clock == moment

    def test_user_who_may_not_read_the_root_is_served(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_user("auditor", "t0ken", permission="audit")
        kong.add_entries(entries(3))
        source = connect(kong.url, token="t0ken")

        gateway = source.describe()

        assert (gateway.version, gateway.hostname) == ("3.10.0.2-enterprise-edition", "127.0.0.1")
        assert len(read(source)) == 3
        assert [call.status for call in kong.requests] == [403, 200]

    @pytest.mark.parametrize(
        ("answer", "version"),
        [
            (Response(404), "unknown"),
            (Response(401), "unknown"),
            (Response(400, b"{}"), "unknown"),
            (Response(405, b""), "unknown"),
            (Response(302, headers={"Location": "http://elsewhere.invalid/"}), "unknown"),
            (Response(500), "unknown"),
            (Response(502, b"<html>"), "unknown"),
            (Response(429), "unknown"),
            (Response(503, headers={"Retry-After": "3600"}), "unknown"),
            (Response(403, headers={"Server": "nginx"}), "unknown"),
            (Response(403, headers={"Server": "kong/3.5.0.1-enterprise-edition"}), "3.5.0.1-enterprise-edition"),
            (Response(500, headers={"Server": "kong/3.5.0.1-enterprise-edition"}), "3.5.0.1-enterprise-edition"),
            (Response(200, b"{}"), "unknown"),
            (Response(200, b"[]"), "unknown"),
            (Response(200, b"<html>welcome</html>"), "unknown"),
            (Response(200, b'{"version":17,"hostname":null}', {"Server": "Kong/2.8.1.0"}), "2.8.1.0"),
            (Response(200, b'{"version":""}'), "unknown"),
            (Response(200, b'{"version":"3.9.0.1"}', {"Age": "86400", "Server": "kong/3.9.0.1"}), "unknown"),
            (Response(200, b'{"version":"3.9.0.1"}', {"Age": "0"}), "3.9.0.1"),
        ],
        ids=lambda value: f"{value.status} {value.body!r} {value.headers}" if isinstance(value, Response) else None,
    )
    def test_is_made_of_what_there_is(self, connect: Connect, answer: Response, version: str) -> None:
        with Odd(lambda _: answer) as kong:
            gateway = connect(kong.url).describe()

        assert (gateway.version, gateway.hostname) == (version, "127.0.0.1")
        assert len(kong.requests) <= 2

    @pytest.mark.parametrize("kind", ["reset", "reset_after", "cut_off"])
    def test_root_that_breaks_off_does_not_end_the_run(self, connect: Connect, kong: KongSimulator, kind: Any) -> None:
        kong.add_entries(entries(3))
        kong.inject(Fault(kind=kind, path="^/$", times=100))
        source = connect(kong.url)

        assert source.describe().version == "unknown"
        assert len(read(source)) == 3
        assert len(kong.requests) == 3

    def test_root_that_breaks_off_once_is_asked_again(self, connect: Connect, kong: KongSimulator) -> None:
        kong.inject(Fault(kind="reset"))

        assert connect(kong.url).describe().version == "3.10.0.2-enterprise-edition"

    def test_kong_that_is_not_there_is_no_concern_of_the_description(
        self, connect: Connect, kong: KongSimulator
    ) -> None:
        kong.__exit__()

        gateway = connect(kong.url).describe()

        assert (gateway.version, gateway.hostname, gateway.clock) == ("unknown", "127.0.0.1", None)

    def test_time_that_is_used_up_neither(self, connect: Connect, kong: KongSimulator) -> None:
        assert connect(kong.url, remaining_seconds=lambda: -1.0).describe().version == "unknown"
        assert kong.requests == []

    @pytest.mark.parametrize("token", ["t\u2019ken", "to\nken"])
    def test_token_that_no_header_can_hold_neither(self, connect: Connect, kong: KongSimulator, token: str) -> None:
        assert connect(kong.url, token=token).describe().version == "unknown"
        assert kong.requests == []


class TestRefusal:
    def refused(self, source: KongRequests, action: Callable[[KongRequests], object] = read) -> str:
        with pytest.raises(SourceRefused) as refusal:
            action(source)
        return str(refusal.value)

    @pytest.mark.parametrize("token", [None, "wrong"])
    def test_wrong_token(self, connect: Connect, kong: KongSimulator, token: str | None) -> None:
        kong.add_user("collector", "right")

        message = self.refused(connect(kong.url, token=token))

        assert "401" in message
        assert "token of an RBAC user" in message
        assert len(kong.requests) == 1

    def test_token_that_may_not_read_the_root_is_not_asked_for_anew(
        self, connect: Connect, kong: KongSimulator
    ) -> None:
        kong.add_user("collector", "right")
        asked: list[bool] = []

        def token(fresh: bool) -> str:
            asked.append(fresh)
            return "wrong"

        connect(kong.url, token=token).describe()

        assert asked == [False]

    def test_probe_is_refused_too(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_user("collector", "right")

        assert "401" in self.refused(connect(kong.url, token="wrong"), lambda source: source.filters_by_time(NOW))

    def test_missing_permission(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_user("collector", "right", permission="none")

        message = self.refused(connect(kong.url, token="right"))

        assert "403" in message
        assert "role with read permission on /audit/requests" in message

    def test_audit_log_switched_off(self, connect: Connect, kong: KongSimulator) -> None:
        kong.configure(audit_log=False)

        message = self.refused(connect(kong.url))

        assert "404" in message
        assert "Switch audit_log on" in message

    def test_wrong_base_path(self, connect: Connect) -> None:
        with KongSimulator(base_path="/kong") as kong:
            assert "right base path" in self.refused(connect(kong.url.removesuffix("/kong") + "/king"))

    def test_missing_client_certificate(self, connect: Connect, certificates: Certificates) -> None:
        with KongSimulator(certificates=certificates, mutual_tls=True) as kong:
            message = self.refused(connect(kong.url, root_ca=str(kong.ca_pem_path)))

        assert "400" in message
        assert "mutual TLS" in message

    @pytest.mark.parametrize("status", [301, 302, 307])
    def test_redirect_is_not_followed(self, connect: Connect, status: int) -> None:
        with (
            Odd(lambda _: page_of()) as elsewhere,
            Odd(lambda _: Response(status, headers={"Location": elsewhere.url + AUDIT})) as kong,
        ):
            message = self.refused(connect(kong.url, token="t0ken"))

        assert str(status) in message
        assert elsewhere.requests == []


class TestToken:
    def test_is_sent_in_kongs_header(self, connect: Connect) -> None:
        with Odd(lambda _: page_of()) as kong:
            read(connect(kong.url, token="t0ken"))

        assert kong.requests[0].headers["kong-admin-token"] == "t0ken"

    @pytest.mark.parametrize("token", [None, ""])
    def test_empty_header_is_never_sent(self, connect: Connect, token: str | None) -> None:
        with Odd(lambda _: page_of()) as kong:
            read(connect(kong.url, token=token))

        assert "kong-admin-token" not in kong.requests[0].headers

    @pytest.mark.parametrize("token", ["t\u2019ken", "to\nken", "to\rken", "t\x00ken", "tökén"])
    def test_that_no_header_can_hold_is_refused_and_not_shown(
        self, connect: Connect, kong: KongSimulator, token: str
    ) -> None:
        with pytest.raises(SourceRefused, match="The token for Kong contains characters") as refused:
            connect(kong.url, token=token).filters_by_time(NOW)

        assert token not in str(refused.value)
        assert kong.requests == []

    def test_rotated_token_is_fetched_anew_once(self, connect: Connect, kong: KongSimulator) -> None:
        # Given a token that is known, and was replaced by another one after the first page
        kong.add_user("collector", "old")
        kong.add_entries(entries(6))
        asked: list[bool] = []

        def token(fresh: bool) -> str:
            asked.append(fresh)
            return "new" if True in asked else "old"

        source = connect(kong.url, page_size=2, token=token)
        reading = source.pages(None)
        rows = shown(next(reading))
        kong.add_user("collector", "new")

        rows += rows_of(list(reading))

        assert len(rows) == 6
        assert asked.count(True) == 1

    def test_token_that_stays_refused_is_not_asked_for_without_end(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_user("collector", "right")
        fresh_tokens = iter(["wrong-1", "wrong-2"])
        asked: list[bool] = []

        def token(fresh: bool) -> str:
            asked.append(fresh)
            return next(fresh_tokens) if fresh else "wrong-0"

        with pytest.raises(SourceRefused):
            read(connect(kong.url, token=token))

        assert asked == [False, True]


TROUBLE = [
    faults.server_error(path=AUDIT),
    faults.bad_gateway(502, path=AUDIT),
    faults.bad_gateway(503, path=AUDIT),
    faults.bad_gateway(504, path=AUDIT),
    faults.rate_limited("0", path=AUDIT),
    faults.invalid_json(path=AUDIT),
    faults.wrong_shape("a bare array", path=AUDIT),
    Fault(kind="reset", path=AUDIT),
    Fault(kind="reset_after", path=AUDIT),
    Fault(kind="cut_off", path=AUDIT),
    Fault(kind="body", body="", path=AUDIT),
    Fault(kind="body", body="<html>", path=AUDIT),
]


class TestTrouble:
    @pytest.mark.parametrize("fault", TROUBLE, ids=lambda fault: f"{fault.kind} {fault.status} {fault.body[:10]}")
    @pytest.mark.parametrize("page", [1, 2, 4])
    def test_that_passes_costs_nothing_but_time(
        self, connect: Connect, kong: KongSimulator, clock: FakeClock, fault: Fault, page: int
    ) -> None:
        kong.add_entries(entries(8))
        kong.inject(Fault(**{**vars(fault), "nth": page, "times": 2}))

        pages = list(connect(kong.url, page_size=2).pages(None))

        assert ids(rows_of(pages)) == ids(entries(8))
        assert is_proven(pages)
        assert gaps(pages) == []
        assert len(clock.waits) == 2
        assert clock.waits[1] > 0.5 * clock.waits[0] > 0

    @pytest.mark.parametrize("fault", TROUBLE, ids=lambda fault: f"{fault.kind} {fault.status} {fault.body[:10]}")
    @pytest.mark.parametrize("window", [None, Window(0, None)])
    def test_that_stays_is_given_up_with_a_message(
        self, connect: Connect, kong: KongSimulator, clock: FakeClock, fault: Fault, window: Window | None
    ) -> None:
        kong.inject(Fault(**{**vars(fault), "times": 100}))

        with pytest.raises(SourceUnavailable, match=r"did not answer /audit/requests in 5 attempts") as given_up:
            read(connect(kong.url, token="t0ken"), window)

        assert len(kong.requests) == 5
        assert sum(clock.waits) < 12
        assert "t0ken" not in str(given_up.value)
        assert "<html>" not in str(given_up.value)

    @pytest.mark.parametrize("window", [None, Window(0, None)])
    def test_kong_that_is_not_there(
        self, connect: Connect, kong: KongSimulator, clock: FakeClock, window: Window | None
    ) -> None:
        kong.__exit__()

        with pytest.raises(SourceUnavailable, match=r"in 5 attempts; .* no connection.*address, port, security groups"):
            read(connect(kong.url), window)

        assert len(clock.waits) == 4

    def test_host_without_an_address(self, connect: Connect) -> None:
        with pytest.raises(SourceUnavailable, match="a host name that cannot be resolved"):
            read(connect("http://kong.invalid:8001"))

    @pytest.mark.parametrize("window", [None, Window(0, None)])
    def test_what_was_read_before_is_not_lost(
        self, connect: Connect, kong: KongSimulator, window: Window | None
    ) -> None:
        kong.add_entries(entries(8))
        kong.inject(faults.server_error(path=AUDIT, nth=3, times=100))
        rows: list[Any] = []

        with pytest.raises(SourceUnavailable):
            for page in connect(kong.url, page_size=2).pages(window):
                rows += shown(page)

        assert len(rows) == 4

    def test_kong_that_dies_while_smaller_pages_are_tried(self, connect: Connect, kong: KongSimulator) -> None:
        # Given pages of which the large ones fail, and a Kong that answers once more and then never again
        kong.add_entries(entries(8))
        kong.poison(ids(entries(8)), fault=faults.server_error(), page_size_over=1)
        kong.inject(faults.server_error(nth=5, times=100))

        with pytest.raises(SourceUnavailable, match="status 500"):
            read(connect(kong.url), Window(0, NOW))

        assert len(kong.requests) <= 10

    def test_answers_of_a_cache_are_trouble(self, connect: Connect, kong: KongSimulator) -> None:
        source = connect(kong.url)
        read(source)
        kong.add_entries(entries(3))
        kong.inject(Fault(kind="cached", times=2))

        assert len(read(source)) == 3

        kong.inject(Fault(kind="cached", times=100))
        with pytest.raises(SourceUnavailable, match=r"an answer from a cache \(no proxy may cache the Admin API"):
            read(source)

    def test_nothing_may_be_cached_on_the_way(self, connect: Connect) -> None:
        with Odd(lambda _: page_of()) as kong:
            read(connect(kong.url))

        headers = kong.requests[0].headers
        assert (headers["cache-control"], headers["pragma"]) == ("no-cache, no-store", "no-cache")

    def test_proxy_that_keeps_asking_to_wait(self, connect: Connect, kong: KongSimulator, clock: FakeClock) -> None:
        # Not one that a smaller page would please
        kong.inject(faults.rate_limited("3", times=100))

        with pytest.raises(SourceUnavailable, match="in 5 attempts; the last ended with status 429"):
            read(connect(kong.url), Window(0, NOW))

        assert sizes_asked_for(kong) == [1000] * 5
        assert [wait for wait in clock.waits if wait < 3] == []

    @pytest.mark.parametrize(
        ("retry_after", "seconds"), [("7", 7.0), ("120", 120.0), (formatdate(NOW + 30, usegmt=True), 30.0)]
    )
    def test_retry_after_is_honoured(
        self, connect: Connect, kong: KongSimulator, clock: FakeClock, retry_after: str, seconds: float
    ) -> None:
        kong.inject(faults.rate_limited(retry_after))

        read(connect(kong.url))

        assert clock.waits == [seconds]

    @pytest.mark.parametrize("retry_after", ["121", "9" * 400, formatdate(NOW + 3600, usegmt=True)])
    def test_retry_after_that_is_too_long_ends_the_run(
        self, connect: Connect, kong: KongSimulator, clock: FakeClock, retry_after: str
    ) -> None:
        kong.inject(faults.rate_limited(retry_after))

        with pytest.raises(SourceUnavailable, match="before the next request"):
            read(connect(kong.url))

        assert clock.waits == []

    @pytest.mark.parametrize(
        "retry_after", ["", "soon", "-5", "1.5", "٣", ODD_ZONE, formatdate(NOW - 3600, usegmt=True)]
    )
    def test_retry_after_that_says_nothing_is_left_aside(
        self, connect: Connect, kong: KongSimulator, clock: FakeClock, retry_after: str
    ) -> None:
        kong.inject(faults.rate_limited(retry_after.encode("utf-8").decode("latin-1")))

        read(connect(kong.url))

        assert 0 < clock.waits[0] < 1

    def test_wait_for_which_there_is_no_time_ends_the_run(self, connect: Connect, kong: KongSimulator) -> None:
        def no_time(seconds: float) -> None:
            raise TimeBudgetReached("no time")

        kong.inject(faults.server_error())

        # Kong is to blame: a run that ends for want of time is no failure, and this is one
        with pytest.raises(SourceUnavailable, match=r"before the run's time was used up; .* status 500"):
            read(connect(kong.url, sleep=no_time))

        assert len(kong.requests) == 1

    def test_time_that_is_used_up_before_a_page_is_no_failure(self, connect: Connect, kong: KongSimulator) -> None:
        with pytest.raises(TimeBudgetReached):
            read(connect(kong.url, remaining_seconds=lambda: 0.0))

        assert kong.requests == []


class TestEnvironment:
    """What other programs take from the environment would send the token, or a password, where it does not belong."""

    def test_no_password_of_netrc_goes_to_kong(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login me password secret\ndefault login me password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))

        with Odd(lambda _: page_of()) as kong:
            source = connect(kong.url, token="t0ken")
            source.describe()
            read(source)

        assert [request.headers.get("authorization") for request in kong.requests] == [None, None]

    @pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
    def test_no_proxy_sees_the_token(self, connect: Connect, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        with Odd(lambda _: page_of()) as proxy, Odd(lambda _: page_of(entry(1))) as kong:
            monkeypatch.setenv(variable, proxy.url)
            monkeypatch.delenv("no_proxy", raising=False)

            assert read(connect(kong.url, token="t0ken")) == [entry(1)]

        assert proxy.requests == []

    def test_no_proxy_is_asked_for_tls(
        self, connect: Connect, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Odd(lambda _: Response(500)) as proxy, KongSimulator(certificates=certificates) as kong:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)

            read(connect(kong.url, root_ca=str(kong.ca_pem_path)))

        assert proxy.requests == []


class TestShape:
    @pytest.mark.parametrize("shape", ["no data", "data is null", "data is an object", "offset is no string"])
    def test_page_that_is_none_is_an_error(self, connect: Connect, kong: KongSimulator, shape: str) -> None:
        kong.inject(faults.wrong_shape(shape, times=100))

        with pytest.raises(SourceUnavailable, match="does not have the documented shape"):
            read(connect(kong.url))

    @pytest.mark.parametrize("shape", ["no data", "data is null", "data is an object", "offset is no string"])
    def test_page_that_is_none_once_is_asked_for_again(self, connect: Connect, kong: KongSimulator, shape: str) -> None:
        kong.add_entries(entries(2))
        kong.inject(faults.wrong_shape(shape))

        assert len(read(connect(kong.url))) == 2

    @pytest.mark.parametrize(
        "page",
        [{"data": [], "offset": ""}, {"data": [], "next": "/audit/requests?offset=x"}, {"data": [], "offset": []}],
    )
    def test_next_page_that_cannot_be_asked_for_is_an_error(self, connect: Connect, page: dict[str, Any]) -> None:
        with (
            Odd(lambda _: Response(200, json.dumps(page).encode())) as kong,
            pytest.raises(SourceUnavailable, match="does not have the documented shape"),
        ):
            read(connect(kong.url))

    def test_empty_array_may_come_as_an_object(self, connect: Connect) -> None:
        with Odd(lambda _: Response(200, b'{"data":{},"next":null}')) as kong:
            assert list(connect(kong.url).pages(None)) == [Page([], None, is_last=True, newest_first=False)]

    @pytest.mark.parametrize("length", [1, 2, 5])
    @pytest.mark.parametrize("window", [None, Window(0, NOW)])
    def test_offsets_that_go_round_in_a_circle_end_the_reading_and_prove_nothing(
        self, connect: Connect, length: int, window: Window | None
    ) -> None:
        count = itertools.count()
        with Odd(lambda _: page_of(entry(1), offset=f"offset-{next(count) % length}")) as kong:
            pages = list(connect(kong.url).pages(window))

        assert len(pages) == length + 1
        assert [page.is_last for page in pages] == [False] * length + [True]
        assert [page.as_asked for page in pages] == [True] * length + [False]
        assert shown(pages[-1]) == [entry(1)]

    @pytest.mark.parametrize("more", [{"total": 5}, {"next": None, "offset": None}, {"unknown": {}}])
    def test_more_than_is_documented_does_no_harm(self, connect: Connect, more: dict[str, Any]) -> None:
        with Odd(lambda _: page_of(entry(1), **more)) as kong:
            assert read(connect(kong.url)) == [entry(1)]

    def test_absolute_next_is_not_followed(self, connect: Connect) -> None:
        def answer(request: Request) -> Response:
            query = dict(request.query)
            if query["before"] != str(NOW):
                return page_of()
            last = query.get("offset") == "b/+="
            more = {} if last else {"offset": "b/+=", "next": "http://elsewhere.invalid/audit/requests?offset=b"}
            return page_of(entry(2 if last else 1), **more)

        with Odd(answer) as kong:
            rows = read(connect(kong.url, page_size=5), Window(10, NOW))

        assert rows == [entry(1), entry(2)]
        assert [dict(request.query) for request in kong.requests[:2]] == [
            {"after": "10", "before": str(NOW), "size": "5"},
            {"after": "10", "before": str(NOW), "size": "5", "offset": "b/+="},
        ]


class TestTls:
    def test_private_ca_is_trusted_where_it_is_given(self, connect: Connect, certificates: Certificates) -> None:
        with KongSimulator(certificates=certificates, base_path="/kong") as kong:
            kong.add_entries(entries(3))

            assert len(read(connect(kong.url, root_ca=str(kong.ca_pem_path)))) == 3

    def test_private_ca_is_not_trusted_otherwise(
        self, connect: Connect, certificates: Certificates, clock: FakeClock
    ) -> None:
        with (
            KongSimulator(certificates=certificates, token="t0ken") as kong,
            pytest.raises(SourceRefused, match="KONG_ROOT_CA"),
        ):
            read(connect(kong.url, token="t0ken"))

        assert kong.requests == []
        assert clock.waits == []

    def test_another_ca_is_not_trusted_either(
        self, connect: Connect, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        other = Certificates(tmp_path_factory.mktemp("other-ca"))

        with KongSimulator(certificates=certificates) as kong, pytest.raises(SourceRefused, match="KONG_ROOT_CA"):
            read(connect(kong.url, root_ca=str(other.ca_path)))

    def test_environment_does_not_replace_the_given_ca(
        self,
        connect: Connect,
        certificates: Certificates,
        tmp_path_factory: pytest.TempPathFactory,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        other = Certificates(tmp_path_factory.mktemp("other-ca"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.ca_path))

        with KongSimulator(certificates=certificates) as kong:
            read(connect(kong.url, root_ca=str(kong.ca_pem_path)))

    def test_plain_http_where_tls_is_expected_is_given_up(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kong_http, "CONNECT_TIMEOUT_SECONDS", 0.1)

        with pytest.raises(SourceUnavailable, match="did not answer"):
            read(connect(kong.url.replace("http:", "https:")))


class TestWeight:
    @pytest.mark.parametrize("window", [None, Window(0, NOW)])
    def test_heavy_pages_are_asked_for_smaller_and_then_larger_again(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch, window: Window | None
    ) -> None:
        # Given heavy entries between light ones
        monkeypatch.setattr(kong_api, "MAX_PAGE_BYTES", 20_000)
        monkeypatch.setattr(kong_reading, "MAX_PAGE_BYTES", 20_000)
        monkeypatch.setattr(kong_reading, "QUICK_PAGES", 3)
        rows = entries(90)
        for heavy in rows[10:14]:
            heavy["payload"] = "x" * 8_000
        kong.add_entries(rows)

        pages = list(connect(kong.url, page_size=16).pages(window))

        # Then each is read once, with smaller pages where they lie, and full ones before and after
        assert ids(rows_of(pages)) == ids(rows)
        assert is_proven(pages)
        sizes = sizes_asked_for(kong)
        assert sizes[0] == 16
        assert min(sizes[:-1]) <= 4
        assert sizes[-2] == 16

    def test_one_entry_may_be_heavier_than_a_page(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kong_api, "MAX_PAGE_BYTES", 20_000)
        kong.add_entries([entry(1), entry(2, payload="x" * 100_000), entry(3)])

        found = read(connect(kong.url))

        assert ids(found) == ids(entries(3))
        assert len(found[1]["payload"]) == 100_000

    def test_payload_of_ten_megabytes_passes(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries([entry(1, payload='"' * 10_000_000)])

        assert len(read(connect(kong.url))[0]["payload"]) == 10_000_000

    def test_entry_beyond_every_bound_is_passed_and_not_read_into_memory(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kong_api, "MAX_ENTRY_BYTES", 300_000)
        kong.add_entries([entry(1), entry(2, payload="x" * 1_000_000), entry(3)])

        pages = list(connect(kong.url, page_size=1).pages(Window(0, NOW)))

        assert ids(rows_of(pages)) == ids([entry(1), entry(3)])
        assert gaps(pages) == [Gap(Window(NOW - 2, NOW - 1), "more than 300000 bytes")]

    def test_page_that_takes_too_long_is_asked_for_smaller(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kong_http, "READ_TIMEOUT_SECONDS", 0.2)
        monkeypatch.setattr(kong_reading, "QUICK_PAGES", 3)
        kong.add_entries(entries(24))
        kong.inject(faults.slow(60, path="size=8"))

        found = read(connect(kong.url, page_size=8))

        # Then the size that took too long is not tried again after each page: every try costs a time-out
        assert ids(found) == ids(entries(24))
        assert sizes_asked_for(kong) == [1, 2, 4, 4, 8, 8]

    @pytest.mark.parametrize(
        "fault", [faults.bad_gateway(504), faults.server_error(), Fault(kind="cut_off"), Fault(kind="reset_after")]
    )
    @pytest.mark.parametrize("release", RELEASES)
    def test_large_pages_that_always_fail_are_asked_for_smaller(
        self, connect: Connect, fault: Fault, release: str
    ) -> None:
        # Given a proxy or a database that cannot do large pages
        with KongSimulator(version=release) as kong:
            kong.add_entries(entries(40))
            kong.poison(ids(entries(40)), fault=fault, page_size_over=5)

            pages = list(connect(kong.url, page_size=16).pages(None))

        assert sorted(ids(rows_of(pages))) == ids(entries(40))
        assert is_proven(pages)
        assert gaps(pages) == []
        # And the size that works is remembered
        assert sizes_asked_for(kong).count(16) == 3
        assert len(kong.requests) < 30
