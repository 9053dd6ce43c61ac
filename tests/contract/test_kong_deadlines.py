"""No wait for Kong goes beyond its deadline, however slowly or endlessly a server answers; and down is a failure."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import SourceUnavailable, TimeBudgetReached
from kong_cloudtrail.sources.kong import admin_api as kong_api
from kong_cloudtrail.sources.kong import http as kong_http

from sandbox.kong.simulator import KongSimulator
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.faults import Fault
from tests.helpers import NOW, entries
from tests.kong_client import AUDIT, Connect, Deadline, gaps, ids, is_proven, read, rows_of, sizes_asked_for

pytestmark = pytest.mark.usefixtures("bare_environment")

ENDLESS = [
    Fault(kind="hang", times=1000),
    Fault(kind="drip", delay_seconds=0.02, times=1000),
    Fault(kind="continue", delay_seconds=0.02, times=1000),
    Fault(kind="continue", times=1000),  # so many that each read finds one
]


@pytest.fixture(params=["http", "https"])
def kong(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[KongSimulator]:
    with KongSimulator(certificates=certificates if request.param == "https" else None) as simulator:
        simulator.set_clock(frozen_at=NOW)
        simulator.add_entries(entries(20))
        yield simulator


def options_of(kong: KongSimulator, deadline: Deadline | None = None) -> dict[str, Any]:
    return {"root_ca": str(kong.ca_pem_path) if kong.ca_pem_path else None} | (deadline.options if deadline else {})


class Trickle:
    """A server that promises a long body and sends it byte by byte."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError), self._listener.accept()[0] as connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not self._stop.wait(0.01):
                    connection.sendall(b" ")

    def __enter__(self) -> Trickle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


class BlackHole:
    """An address that takes no more connections, and does not say so."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._waiting: list[socket.socket] = []

    def __enter__(self) -> BlackHole:
        for _ in range(4):  # more than its queue holds
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", self.port))
            self._waiting.append(waiting)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (*self._waiting, self._listener):
            each.close()


class TestAnswer:
    @pytest.mark.parametrize("fault", ENDLESS, ids=lambda fault: f"{fault.kind} {fault.delay_seconds}")
    def test_head_that_never_ends_is_given_up(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch, fault: Fault
    ) -> None:
        monkeypatch.setattr(kong_http, "READ_TIMEOUT_SECONDS", 0.1)
        kong.inject(fault)
        began = time.monotonic()

        with pytest.raises(SourceUnavailable, match="a time-out after 0 s"):
            read(connect(kong.url, **options_of(kong)), Window(0, NOW))

        # Then a page is tried once, and Kong's well-being with what is left of five attempts
        assert 0.5 <= time.monotonic() - began < 5

    @pytest.mark.parametrize("fault", ENDLESS, ids=lambda fault: f"{fault.kind} {fault.delay_seconds}")
    def test_page_that_does_so_is_asked_for_smaller(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch, fault: Fault
    ) -> None:
        monkeypatch.setattr(kong_http, "READ_TIMEOUT_SECONDS", 0.2)
        kong.poison(ids(entries(20)), fault=fault, page_size_over=5)

        pages = list(connect(kong.url, page_size=20, **options_of(kong)).pages(Window(0, NOW)))

        assert ids(rows_of(pages)) == ids(entries(20))
        assert is_proven(pages)

    def test_body_that_trickles_is_given_up(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
        # Given a body of which a byte comes now and then, so that no single read takes long
        monkeypatch.setattr(kong_http, "MAX_ANSWER_SECONDS", 0.1)
        began = time.monotonic()

        with Trickle() as kong, pytest.raises(SourceUnavailable, match="a time-out after 0 s"):
            read(connect(kong.url))

        assert 0.5 <= time.monotonic() - began < 5

    def test_body_that_drips_may_take_longer_than_the_head(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Each byte is in time, and the whole of it too
        monkeypatch.setattr(kong_http, "READ_TIMEOUT_SECONDS", 0.5)
        kong.clear_entries()
        kong.inject(Fault(kind="drip", delay_seconds=0.0005))

        assert read(connect(kong.url, **options_of(kong))) == []

    def test_connection_serves_on_after_an_answer_that_was_nearly_too_late(
        self, connect: Connect, kong: KongSimulator
    ) -> None:
        deadline = Deadline(60)
        source = connect(kong.url, page_size=5, **options_of(kong, deadline))
        pages = source.pages(None)
        next(pages)

        assert len(rows_of(list(pages))) == 15
        assert kong.connections == 1

    def test_black_hole_is_given_up(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kong_http, "CONNECT_TIMEOUT_SECONDS", 0.05)

        with BlackHole() as kong, pytest.raises(SourceUnavailable, match=r"in 5 attempts; .* no connection"):
            read(connect(kong.url))

    def test_next_address_of_the_host_is_tried(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
        lookup = socket.getaddrinfo

        def addresses(host: str, port: int, *rest: Any, **more: Any) -> Any:
            nobody = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.9", port))
            return [nobody, *lookup(host, port, *rest, **more)]

        with KongSimulator() as kong:
            kong.add_entries(entries(3))
            monkeypatch.setattr(socket, "getaddrinfo", addresses)

            assert len(read(connect(kong.url))) == 3

    def test_all_addresses_together_have_no_longer_than_the_run(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with BlackHole() as kong:
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", kong.port))] * 50)
            deadline = Deadline(0.5)

            with pytest.raises(SourceUnavailable, match="before the run's time was used up"):
                read(connect(kong.url, **deadline.options))

        assert -1 < deadline.remaining_seconds() < 0.5


class TestRun:
    @pytest.mark.parametrize("fault", ENDLESS, ids=lambda fault: f"{fault.kind} {fault.delay_seconds}")
    def test_kong_that_is_dead_in_a_short_run_is_a_failure(
        self, connect: Connect, kong: KongSimulator, fault: Fault
    ) -> None:
        kong.inject(fault)
        deadline = Deadline(0.8)
        source = connect(kong.url, **options_of(kong, deadline))

        assert source.describe().version == "unknown"
        assert deadline.remaining_seconds() > 0  # the description leaves time to find out whether Kong is down
        with pytest.raises(SourceUnavailable, match="before the run's time was used up"):
            source.filters_by_time(NOW + 3600)

        assert deadline.remaining_seconds() > -1

    def test_body_that_trickles_ends_with_the_run(self, connect: Connect) -> None:
        deadline = Deadline(0.5)

        with Trickle() as kong, pytest.raises(SourceUnavailable, match="before the run's time was used up"):
            read(connect(kong.url, **deadline.options))

        assert deadline.remaining_seconds() > -1

    def test_page_that_a_run_has_no_time_for_is_no_failure(self, connect: Connect, kong: KongSimulator) -> None:
        # Given a Kong that answers, and a run that ends while it works on a page
        left = [Deadline(60)]
        options = options_of(kong) | {"remaining_seconds": lambda: left[0].remaining_seconds()}
        source = connect(kong.url, page_size=5, **options)
        pages = source.pages(Window(0, NOW))
        next(pages)
        kong.inject(Fault(kind="hang"))
        left[0] = Deadline(0.05)

        with pytest.raises(TimeBudgetReached):
            next(pages)

    def test_page_that_a_run_waits_for_to_its_end_is_one(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given a Kong that answered, and then does not for far longer than it had taken
        monkeypatch.setattr(kong_http, "_LEAST_PATIENCE_SECONDS", 0.0)
        monkeypatch.setattr(kong_http, "_SLOWER_THAN_USUAL", 0.0)
        left = [Deadline(60)]
        options = options_of(kong) | {"remaining_seconds": lambda: left[0].remaining_seconds()}
        source = connect(kong.url, page_size=5, **options)
        pages = source.pages(Window(0, NOW))
        next(pages)
        kong.inject(Fault(kind="hang"))
        left[0] = Deadline(0.2)

        with pytest.raises(SourceUnavailable, match=r"before the run's time was used up; .* a time-out after 0 s"):
            next(pages)

    def test_first_question_that_comes_too_late_is_no_failure(self, connect: Connect, kong: KongSimulator) -> None:
        deadline = Deadline(0.0)

        with pytest.raises(TimeBudgetReached):
            read(connect(kong.url, **options_of(kong, deadline)))

        assert kong.requests == []

    def test_time_is_looked_at_before_a_smaller_page_is_asked_for(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kong_http, "READ_TIMEOUT_SECONDS", 0.05)
        left = [60.0]

        def slow(seconds: float) -> None:
            left[0] = -1.0

        kong.inject(Fault(kind="hang", path=AUDIT, times=1000))

        with pytest.raises(SourceUnavailable, match="before the run's time was used up"):
            read(connect(kong.url, root_ca=options_of(kong)["root_ca"], sleep=slow, remaining_seconds=lambda: left[0]))

        assert sizes_asked_for(kong) in ([1000, 1], [1000])

    @pytest.mark.parametrize("fault", ENDLESS, ids=lambda fault: f"{fault.kind} {fault.delay_seconds}")
    def test_row_that_hangs_is_passed_and_the_run_goes_on(
        self, connect: Connect, kong: KongSimulator, monkeypatch: pytest.MonkeyPatch, fault: Fault
    ) -> None:
        monkeypatch.setattr(kong_http, "READ_TIMEOUT_SECONDS", 0.05)
        monkeypatch.setattr(kong_api, "QUICK_SECONDS", 0.05)
        kong.poison(ids(entries(20)[7:8]), fault=fault)

        pages = list(connect(kong.url, **options_of(kong)).pages(Window(0, NOW)))

        assert set(ids(rows_of(pages))) == set(ids(entries(20))) - {entries(20)[7]["request_id"]}
        assert [gap.window for gap in gaps(pages)] == [Window(NOW - 8, NOW - 7)]
