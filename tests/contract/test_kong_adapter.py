"""The Kong adapter against a simulator of Kong over real sockets: every release, and everything that goes wrong."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kong_cloudtrail.adapters import kong as adapter
from kong_cloudtrail.adapters.kong import KongAuditSource
from kong_cloudtrail.assembly import SystemClock
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import PageTooHeavy, SourceRefused, SourceUnavailable, TimeBudgetReached
from kong_cloudtrail.guard import Reserve, RunGuard
from kong_cloudtrail.ports import Page

from sandbox import faults
from sandbox.certificates import Certificates
from sandbox.faults import Fault
from sandbox.http_server import HttpServer, Request, Response
from sandbox.kong import KongSimulator
from tests.fakes import Lock
from tests.helpers import NOW, Budget, FakeClock, entries, entry

RELEASES = ["2.8", "3.4", "3.8", "3.10"]
FILTERING_RELEASES = ["3.8", "3.10"]
AUDIT = "/audit/requests"

pytestmark = pytest.mark.usefixtures("bare_environment")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def kong() -> Iterator[KongSimulator]:
    with KongSimulator() as simulator:
        simulator.set_clock(frozen_at=NOW)
        yield simulator


Connect = Callable[..., KongAuditSource]


@pytest.fixture
def connect(clock: FakeClock) -> Connect:
    """Return a function that connects to a Kong; waits do not take time."""

    def connect_to(url: str, *, token: object = None, **options: Any) -> KongAuditSource:
        defaults: dict[str, Any] = {
            "token": token if callable(token) else lambda fresh: token,
            "root_ca": None,
            "page_size": 1000,
            "clock": clock,
            "sleep": clock.sleep,
            "remaining_seconds": lambda: math.inf,
        }
        return KongAuditSource(url, **(defaults | options))

    return connect_to


def read(source: KongAuditSource, window: Window | None = None) -> list[Any]:
    return [row for page in source.pages(window) for row in page.entries]


def ids(rows: list[Any]) -> list[str]:
    return [row["request_id"] for row in rows]


def sizes_asked_for(kong: KongSimulator) -> list[int]:
    queries = [parse_qs(urlsplit(call.target).query) for call in kong.requests if AUDIT in call.target]
    return [int(query["size"][0]) for query in queries]


class Odd:
    """A server that answers as no Kong would."""

    def __init__(self, answer: Callable[[Request], Response]) -> None:
        self._answer = answer
        self.requests: list[Request] = []
        self._server = HttpServer(self._handle)
        self.url = self._server.origin

    def _handle(self, request: Request) -> Response:
        self.requests.append(request)
        return self._answer(request)

    def __enter__(self) -> Odd:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()


ODD_ZONE = "Sat, 01 Jun 2024 12:00:00 +99999999999999"
"""A date with a time zone that no calendar can compute with."""


class Trickle:
    """A server that promises a long body and sends it byte by byte."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):  # the client may go
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            for _ in range(100):
                connection.sendall(b" ")
                time.sleep(0.05)

    def __enter__(self) -> Trickle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()


class Silence:
    """A server that takes connections and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def page_of(*rows: Any, **more: Any) -> Response:
    return Response(200, json.dumps({"data": rows, "next": None} | more).encode())


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
        assert list(connect(kong.url).pages(None)) == [Page([], is_last=True)]

    def test_entries_that_come_in_meanwhile_shift_nothing(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(9))
        pages = connect(kong.url, page_size=2).pages(Window(0, NOW + 100))
        rows = list(next(pages).entries)
        kong.add_entries([entry(100, request_timestamp=NOW + 50), entry(101, request_timestamp=NOW - 100)])

        rows += [row for page in pages for row in page.entries]

        assert len(set(ids(rows))) == len(rows)
        assert set(ids(entries(9))) <= set(ids(rows))

    def test_entries_that_expire_meanwhile_are_no_error(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(9, ttl=60))
        pages = connect(kong.url, page_size=2).pages(None)
        next(pages)
        kong.advance_clock(61)

        assert list(pages) == [Page([], is_last=True)]

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

            probe = connect(kong.url).probe(NOW + 3600)

        assert (probe.filters, probe.has_later_entries) == (filters, False)
        assert sizes_asked_for(kong) == [1]

    def test_tells_whether_there_are_entries_of_the_future(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries([entry(1), entry(2, request_timestamp=NOW + 3600)])

        probe = connect(kong.url).probe(NOW + 3600)

        assert (probe.filters, probe.has_later_entries) == (True, True)

    @pytest.mark.parametrize(
        "row", [{}, {"request_timestamp": None}, {"request_timestamp": "soon"}, {"request_timestamp": 5}]
    )
    def test_odd_row_is_no_proof_of_filters(self, connect: Connect, row: dict[str, Any]) -> None:
        with Odd(lambda _: page_of(row)) as kong:
            assert not connect(kong.url).probe(NOW).filters

    def test_finds_older_entries(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries([entry(10)])
        source = connect(kong.url)

        assert source.has_entries_before(NOW - 9)
        assert not source.has_entries_before(NOW - 10)


class TestDescription:
    @pytest.mark.parametrize("release", RELEASES)
    def test_is_kongs_own(self, connect: Connect, release: str) -> None:
        with KongSimulator(version=release, hostname="cp-7", base_path="/kong") as kong:
            kong.set_clock(frozen_at=NOW)
            gateway = connect(kong.url).describe()

        assert gateway.version.startswith(f"{release}.")
        assert gateway.version.endswith("-enterprise-edition")
        assert (gateway.hostname, gateway.now) == ("cp-7", NOW)

    @pytest.mark.parametrize("skew_seconds", [-7200, 7200])
    def test_clock_is_kongs_and_not_ours(self, connect: Connect, kong: KongSimulator, skew_seconds: int) -> None:
        kong.set_clock(frozen_at=NOW + skew_seconds)

        assert connect(kong.url).describe().now == NOW + skew_seconds

    def test_user_who_may_not_read_the_root_is_served(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_user("auditor", "t0ken", permission="audit")
        kong.add_entries(entries(3))
        source = connect(kong.url, token="t0ken")

        gateway = source.describe()

        assert (gateway.version, gateway.hostname) == ("3.10.0.2-enterprise-edition", "127.0.0.1")
        assert len(read(source)) == 3

    @pytest.mark.parametrize(
        ("answer", "version"),
        [
            (Response(404), "unknown"),
            (Response(403, headers={"Server": "nginx"}), "unknown"),
            (Response(403, headers={"Server": "kong/3.5.0.1-enterprise-edition"}), "3.5.0.1-enterprise-edition"),
            (Response(200, b"{}"), "unknown"),
            (Response(200, b'{"version":17,"hostname":null}', {"Server": "Kong/2.8.1.0"}), "2.8.1.0"),
            (Response(200, b'{"version":""}'), "unknown"),
        ],
    )
    def test_is_made_of_what_there_is(self, connect: Connect, answer: Response, version: str) -> None:
        with Odd(lambda _: answer) as kong:
            gateway = connect(kong.url).describe()

        assert (gateway.version, gateway.hostname) == (version, "127.0.0.1")

    @pytest.mark.parametrize("date", [None, "yesterday", ""])
    def test_our_clock_is_taken_if_kong_does_not_tell(
        self, connect: Connect, clock: FakeClock, date: str | None
    ) -> None:
        with Odd(lambda _: Response(200, b"{}", {} if date is None else {"Date": date})) as kong:
            assert connect(kong.url).describe().now == int(clock.now())


class TestRefusal:
    def refused(self, source: KongAuditSource, action: Callable[[KongAuditSource], object] = read) -> str:
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

    def test_wrong_token_is_noticed_at_the_root_too(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_user("collector", "right")

        assert "401" in self.refused(connect(kong.url, token="wrong"), KongAuditSource.describe)

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
        with pytest.raises(SourceRefused, match="The token for Kong holds characters") as refused:
            connect(kong.url, token=token).describe()

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
        rows = list(next(reading).entries)
        kong.add_user("collector", "new")

        rows += [row for page in reading for row in page.entries]

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

        rows = read(connect(kong.url, page_size=2))

        assert sorted(ids(rows)) == ids(entries(8))
        assert len(clock.waits) == 2
        assert clock.waits[1] > 0.5 * clock.waits[0] > 0

    @pytest.mark.parametrize("fault", TROUBLE, ids=lambda fault: f"{fault.kind} {fault.status} {fault.body[:10]}")
    def test_that_stays_is_given_up_with_a_message(
        self, connect: Connect, kong: KongSimulator, clock: FakeClock, fault: Fault
    ) -> None:
        kong.inject(Fault(**{**vars(fault), "times": 100}))

        with pytest.raises(SourceUnavailable, match=r"did not answer /audit/requests in 5 attempts") as given_up:
            read(connect(kong.url, token="t0ken"))

        assert len(clock.waits) == 4
        assert "t0ken" not in str(given_up.value)
        assert "<html>" not in str(given_up.value)

    def test_kong_that_is_not_there(self, connect: Connect, kong: KongSimulator) -> None:
        kong.__exit__()

        with pytest.raises(SourceUnavailable, match="address, port, security groups"):
            connect(kong.url).describe()

    def test_what_was_read_before_is_not_lost(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries(entries(8))
        kong.inject(faults.server_error(path=AUDIT, nth=3, times=100))
        rows: list[Any] = []

        with pytest.raises(SourceUnavailable):
            for page in connect(kong.url, page_size=2).pages(None):
                rows += page.entries

        assert len(rows) == 4

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

        with pytest.raises(SourceUnavailable, match="asks to be left alone"):
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

        with pytest.raises(TimeBudgetReached):
            read(connect(kong.url, sleep=no_time))

        assert len(kong.requests) == 1


class TestShape:
    @pytest.mark.parametrize("shape", ["no data", "data is null", "data is an object", "offset is no string"])
    def test_page_that_is_none_is_an_error(self, connect: Connect, kong: KongSimulator, shape: str) -> None:
        kong.inject(faults.wrong_shape(shape))

        with pytest.raises(SourceUnavailable, match="does not have the documented shape"):
            read(connect(kong.url))

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
            assert list(connect(kong.url).pages(None)) == [Page([], is_last=True)]

    @pytest.mark.parametrize("length", [1, 2, 5])
    def test_offsets_that_go_round_in_a_circle_are_an_error(self, connect: Connect, length: int) -> None:
        count = itertools.count()
        with (
            Odd(lambda _: page_of(entry(1), offset=f"offset-{next(count) % length}")) as kong,
            pytest.raises(SourceUnavailable, match="would never end"),
        ):
            read(connect(kong.url))

    def test_offset_that_kong_does_not_know_any_more_says_so(self, connect: Connect) -> None:
        def answer(request: Request) -> Response:
            refused = Response(400, b'{"message":"bad offset","code":7}')
            return refused if "offset" in dict(request.query) else page_of(entry(1), offset="a")

        with Odd(answer) as kong, pytest.raises(SourceUnavailable, match="offset that it gave itself"):
            read(connect(kong.url))

    @pytest.mark.parametrize("more", [{"total": 5}, {"next": None, "offset": None}, {"unknown": {}}])
    def test_more_than_is_documented_does_no_harm(self, connect: Connect, more: dict[str, Any]) -> None:
        with Odd(lambda _: page_of(entry(1), **more)) as kong:
            assert read(connect(kong.url)) == [entry(1)]

    def test_absolute_next_is_not_followed(self, connect: Connect) -> None:
        def answer(request: Request) -> Response:
            last = dict(request.query).get("offset") == "b/+="
            more = {} if last else {"offset": "b/+=", "next": "http://elsewhere.invalid/audit/requests?offset=b"}
            return page_of(entry(2 if last else 1), **more)

        with Odd(answer) as kong:
            rows = read(connect(kong.url, page_size=5), Window(10, 20))

        assert rows == [entry(1), entry(2)]
        assert [dict(request.query) for request in kong.requests] == [
            {"after": "10", "before": "20", "size": "5"},
            {"after": "10", "before": "20", "size": "5", "offset": "b/+="},
        ]

    def test_page_that_leads_to_itself_is_an_error(self, connect: Connect) -> None:
        with (
            Odd(lambda _: page_of(entry(1), offset="same", next="/audit/requests?offset=same")) as kong,
            pytest.raises(SourceUnavailable, match="proxy that caches"),
        ):
            read(connect(kong.url))


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
            connect(kong.url, token="t0ken").describe()

        assert kong.requests == []
        assert clock.waits == []

    def test_another_ca_is_not_trusted_either(
        self, connect: Connect, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        other = Certificates(tmp_path_factory.mktemp("other-ca"))

        with KongSimulator(certificates=certificates) as kong, pytest.raises(SourceRefused, match="KONG_ROOT_CA"):
            connect(kong.url, root_ca=str(other.ca_path)).describe()

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
            connect(kong.url, root_ca=str(kong.ca_pem_path)).describe()

    def test_plain_http_where_tls_is_expected_is_given_up(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(adapter, "CONNECT_TIMEOUT_SECONDS", 0.1)

        with pytest.raises(SourceUnavailable, match="did not answer"):
            connect(kong.url.replace("http:", "https:")).describe()


class TestWeight:
    def test_heavy_pages_are_asked_for_smaller_and_then_larger_again(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given heavy entries between light ones
        monkeypatch.setattr(adapter, "MAX_PAGE_BYTES", 20_000)
        rows = entries(60)
        for heavy in rows[10:14]:
            heavy["payload"] = "x" * 8_000
        kong.add_entries(rows)

        found = read(connect(kong.url, page_size=16))

        # Then each is read once, with smaller pages where they lie, and full ones before and after
        assert ids(found) == ids(rows)
        sizes = sizes_asked_for(kong)
        assert sizes[0] == 16
        assert min(sizes) <= 4
        assert sizes[-1] == 16

    def test_one_entry_may_be_heavier_than_a_page(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(adapter, "MAX_PAGE_BYTES", 20_000)
        kong.add_entries([entry(1), entry(2, payload="x" * 100_000), entry(3)])

        found = read(connect(kong.url))

        assert ids(found) == ids(entries(3))
        assert len(found[1]["payload"]) == 100_000

    def test_payload_of_ten_megabytes_passes(self, connect: Connect, kong: KongSimulator) -> None:
        kong.add_entries([entry(1, payload='"' * 10_000_000)])

        assert len(read(connect(kong.url))[0]["payload"]) == 10_000_000

    def test_entry_beyond_every_bound_is_not_read_into_memory(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(adapter, "MAX_ENTRY_BYTES", 300_000)
        kong.add_entries([entry(1, payload="x" * 1_000_000)])

        with pytest.raises(PageTooHeavy, match="more than 300000 bytes"):
            read(connect(kong.url, page_size=1))

    def test_page_that_takes_too_long_is_asked_for_smaller(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(adapter, "READ_TIMEOUT_SECONDS", 0.2)
        monkeypatch.setattr(adapter, "QUICK_PAGES", 3)
        kong.add_entries(entries(24))
        kong.inject(faults.slow(0.6, path="size=8"))

        found = read(connect(kong.url, page_size=8))

        # Then the size that took too long is not tried again after each page: every try costs a time-out
        assert ids(found) == ids(entries(24))
        assert sizes_asked_for(kong)[-5:] == [2, 4, 4, 8, 8]

    @pytest.mark.parametrize("trouble", ["trickle", "silence"])
    def test_page_is_given_up_when_the_time_of_the_run_is_up(self, connect: Connect, trouble: str) -> None:
        deadline = time.monotonic() + 0.5
        guard = RunGuard(Budget(lambda: deadline - time.monotonic()), Lock(), SystemClock(), Reserve(0, 0))
        began = time.monotonic()

        with Trickle() if trouble == "trickle" else Silence() as kong, pytest.raises(TimeBudgetReached):
            read(connect(kong.url, sleep=guard.sleep, remaining_seconds=guard.remaining_seconds, clock=SystemClock()))

        assert time.monotonic() - began < 3

    def test_page_that_trickles_in_without_end_is_given_up(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given a page of which a byte comes now and then, so that no single read takes too long
        monkeypatch.setattr(adapter, "MAX_BODY_SECONDS", 0.2)

        with Trickle() as kong, pytest.raises(PageTooHeavy, match=r"took more than 0 s"):
            read(connect(kong.url, page_size=1, clock=SystemClock()))

    def test_time_is_looked_at_before_a_smaller_page_is_asked_for(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_time(seconds: float) -> None:
            raise TimeBudgetReached("no time")

        monkeypatch.setattr(adapter, "READ_TIMEOUT_SECONDS", 0.05)
        kong.configure(latency_seconds=0.5)

        with pytest.raises(TimeBudgetReached):
            read(connect(kong.url, sleep=no_time))

        assert kong.connections == 1

    def test_kong_that_never_answers_is_given_up(
        self, connect: Connect, kong: KongSimulator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(adapter, "READ_TIMEOUT_SECONDS", 0.05)
        kong.configure(latency_seconds=1)

        with pytest.raises(SourceUnavailable, match="ReadTimeout"):
            connect(kong.url).describe()

        assert len(clock.waits) == 4


def test_entry_of_the_future_that_comes_first_is_no_proof_of_filters(connect: Connect) -> None:
    with KongSimulator(version="2.8") as kong:
        kong.set_clock(frozen_at=NOW)
        kong.add_entries([entry(0, request_timestamp=NOW + 10**6), *entries(5)])
        source = connect(kong.url, page_size=10)

        assert not source.probe(NOW + 3600).filters


@pytest.mark.parametrize(
    "root",
    [(302, b""), (200, b"<html>welcome</html>"), (400, b"{}"), (405, b""), (200, b"[]"), (500, b""), (502, b"<html>")],
    ids=str,
)
def test_root_is_optional_whatever_it_answers(connect: Connect, root: tuple[int, bytes]) -> None:
    server = HttpServer(lambda _: Response(*root))
    server.start()
    try:
        source = connect(server.origin, page_size=10)

        assert source.describe().version == "unknown"
    finally:
        server.stop()
