"""A simulator of Kong's Admin API with its audit log, in this process or as one of its own.

`KongSimulator` serves from daemon threads of this process; `KongProcess` starts `python -m sandbox.kong.simulator`
and offers the same methods. Both are context managers that serve from entry to exit.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from sandbox.kong.api import AdminUser, KongApi, Permission, Poison
from sandbox.kong.entries import make_entries, make_objects
from sandbox.kong.profiles import PROFILES
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.clock import Clock
from sandbox.machinery.control import Controlled, ControlServer, remote, remote_property
from sandbox.machinery.faults import Fault, FaultPlan
from sandbox.machinery.http_server import HttpServer, Request, Response
from sandbox.machinery.processes import serve_until_stopped, start_module

_NGINX_400 = b"<html><head><title>400 No required SSL certificate was sent</title></head><body>400</body></html>"


@dataclass(frozen=True)
class Call:
    """One call that came in: path with query string, and the status it was answered with (0: no answer)."""

    method: str
    target: str
    status: int


class KongSimulator:
    """Kong's Admin API on a free loopback port.

    Parameters
    ----------
    version
        Behave as this release: a key of `kong_profiles.PROFILES`.
    token
        Enforce RBAC, with one user `collector` of this token who may read the audit endpoints and `/`. See `add_user`.
    base_path
        Offer the API below this path, as behind a proxy.
    certificates
        Serve HTTPS with the certificate of this private CA.
    mutual_tls
        Refuse clients without a certificate of that CA.
    hostname
        The host name that `GET /` tells.
    workspaces
        Workspace names under which the API is offered too, beside `default`.
    latency_seconds
        How long every call takes at least.
    self_audit
        Record also what reads of the audit endpoints, `/` and `/status` leave in the audit log.
    port
        0 takes a free one.

    Attributes
    ----------
    url
        The Admin API's URL, base path included.
    ca_pem_path
        The private CA's certificate; None without TLS.
    """

    def __init__(
        self,
        *,
        version: str = "3.10",
        token: str | None = None,
        base_path: str = "",
        certificates: Certificates | None = None,
        mutual_tls: bool = False,
        hostname: str = "kong-cp-1",
        workspaces: Sequence[str] = (),
        latency_seconds: float = 0.0,
        self_audit: bool = False,
        port: int = 0,
    ) -> None:
        self._clock = Clock()
        self._faults = FaultPlan()
        self._mutual_tls = mutual_tls
        self._latency_seconds = latency_seconds
        self._requests: list[Call] = []
        self._last_pages: dict[str, tuple[Response, float]] = {}
        self._api = KongApi(
            profile=PROFILES[version],
            clock=self._clock,
            base_path=base_path,
            hostname=hostname,
            workspaces=("default", *workspaces),
        )
        self._api.self_audit = self_audit
        if token is not None:
            self.add_user("collector", token)
        tls = certificates.server_context(ask_client_certificate=mutual_tls) if certificates else None
        self._server = HttpServer(self._handle, port=port, tls=tls)
        self.url = self._server.origin + base_path
        self.ca_pem_path = certificates.ca_path if certificates else None

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    # --- what is in the audit log ---

    def add_entries(
        self, entries: Iterable[Mapping[str, Any]], *, visible_at: float | None = None, raw_ttl: bool = False
    ) -> int:
        """Add request entries as Kong would show them, of any shape; return how many.

        Parameters
        ----------
        entries
            A numeric `ttl` is the seconds left now: the entry expires, and shows what is left at each read. Without
            one it is 30 days. Any other value is shown as it is.
        visible_at
            Unix time, by this Kong's clock, from which the entries are visible.
        raw_ttl
            Show every `ttl` as it is, and never expire.
        """
        return self._api.requests.add(entries, now=self._clock.now(), visible_at=visible_at, raw_ttl=raw_ttl)

    def add_raw_row(self, row: bytes, *, timestamp: int, visible_at: float | None = None) -> int:
        """Add one request entry as the very bytes to send, ordered and filtered by `timestamp` (Unix seconds)."""
        return self._api.requests.add_raw(row, timestamp=timestamp, visible_at=visible_at)

    def seed_entries(
        self, count: int, *, seed: int, first_timestamp: int, last_timestamp: int, large_payloads: int = 0
    ) -> int:
        """Add the entries of `kong_entries.make_entries` with these arguments; return how many."""
        return self.add_entries(
            make_entries(
                count,
                seed=seed,
                first_timestamp=first_timestamp,
                last_timestamp=last_timestamp,
                large_payloads=large_payloads,
            )
        )

    def add_objects(
        self, entries: Iterable[Mapping[str, Any]], *, visible_at: float | None = None, raw_ttl: bool = False
    ) -> int:
        """Add entries of `/audit/objects`; return how many. Parameters as for `add_entries`."""
        return self._api.objects.add(entries, now=self._clock.now(), visible_at=visible_at, raw_ttl=raw_ttl)

    def add_raw_object(self, row: bytes, *, timestamp: int, visible_at: float | None = None) -> int:
        """Add one entry of `/audit/objects` as the very bytes to send; see `add_raw_row`."""
        return self._api.objects.add_raw(row, timestamp=timestamp, visible_at=visible_at)

    def seed_objects(self, count: int, *, seed: int, first_timestamp: int, last_timestamp: int) -> int:
        """Add the entries of `kong_entries.make_objects` for the requests of these arguments; return how many."""
        requests = make_entries(count, seed=seed, first_timestamp=first_timestamp, last_timestamp=last_timestamp)
        return self.add_objects(make_objects(requests, seed=seed))

    def entry_count(self) -> int:
        """Return how many request entries there are, hidden ones included."""
        return len(self._api.requests)

    def clear_entries(self) -> None:
        """Remove every entry of both endpoints."""
        self._api.requests.clear()
        self._api.objects.clear()

    # --- how it behaves ---

    def now(self) -> float:
        """Return this Kong's Unix time in seconds."""
        return self._clock.now()

    def set_clock(self, *, frozen_at: float | None = None, skew_seconds: float = 0.0) -> None:
        """Stop Kong's clock at a Unix time, or let it run with the machine's; both moved by `skew_seconds`."""
        self._clock.set(frozen_at=frozen_at, skew_seconds=skew_seconds)

    def advance_clock(self, seconds: float) -> None:
        """Move Kong's clock, running or stopped."""
        self._clock.advance(seconds)

    def add_user(self, name: str, token: str, permission: Permission = "all") -> None:
        """Add an RBAC user, or give an existing one another token and permission. The first user turns RBAC on."""
        self._api.users = [user for user in self._api.users if user.name != name] + [AdminUser(name, token, permission)]

    def configure(
        self,
        *,
        audit_log: bool | None = None,
        self_audit: bool | None = None,
        ignore_paths: Sequence[str] | None = None,
        visibility_delay_seconds: float | None = None,
        latency_seconds: float | None = None,
        date_skew_seconds: float | None = None,
        date_text: str | None = None,
        server_header: bool | None = None,
        objects_newest_first: bool | None = None,
    ) -> None:
        """Change settings while it runs; see `KongApi`. What is None stays.

        Parameters
        ----------
        audit_log, self_audit, ignore_paths, visibility_delay_seconds, latency_seconds, server_header,
        objects_newest_first
            As named there.
        date_skew_seconds
            A proxy writes the `Date` header, by a clock that is so far ahead of Kong's (behind, if negative). 0 is
            Kong's own again, whatever `date_text` was.
        date_text
            Literal value of the `Date` header; empty for none.
        """
        if audit_log is not None:
            self._api.audit_log = audit_log
        if self_audit is not None:
            self._api.self_audit = self_audit
        if ignore_paths is not None:
            self._api.ignore_paths = ignore_paths
        if visibility_delay_seconds is not None:
            self._api.visibility_delay_seconds = visibility_delay_seconds
        if latency_seconds is not None:
            self._latency_seconds = latency_seconds
        if objects_newest_first is not None:
            self._api.objects_newest_first = objects_newest_first
        if server_header is not None:
            self._api.server_header = server_header
        if date_skew_seconds is not None:
            self._api.date_skew_seconds, self._api.date_text = date_skew_seconds, None
        if date_text is not None:
            self._api.date_text = date_text

    def mix_nodes(self, version: str | None, *, every_nth: int = 2) -> None:
        """Let every nth call of `/audit/...` reach a node of another release over the same rows, as in an upgrade.

        That node orders, filters, pages and calls itself as its release does, and takes the offsets of the others for
        what they say in its own order. The rows have the fields that they were added with.

        Parameters
        ----------
        version
            Key of `kong_profiles.PROFILES`; None for no more than one release.
        every_nth
            1 for all calls.
        """
        self._api.mix_nodes(None if version is None else PROFILES[version], every_nth=every_nth)

    def poison(self, row_ids: Iterable[str], *, fault: Fault, page_size_over: int = 0) -> None:
        """Let every answer that would show one of these rows get a fault, until `heal`.

        Parameters
        ----------
        row_ids
            The rows, of either endpoint.
        fault
            What happens instead. Its `path`, `nth` and `times` do not matter.
        page_size_over
            Only pages for which more rows than this were asked for.
        """
        self._api.poisons.append(Poison(frozenset(row_ids), fault, page_size_over))

    def heal(self) -> None:
        """Let every poisoned row be shown again."""
        self._api.poisons.clear()

    def inject(self, fault: Fault) -> None:
        """Let a fault happen; see `Fault` for when. A "status" fault is a proxy's answer: Kong audits nothing."""
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Forget the faults that have not happened yet."""
        self._faults.clear()

    def pending_faults(self) -> int:
        """Return how many faults have not happened yet."""
        return self._faults.pending()

    # --- what happened ---

    @property
    def calls(self) -> dict[str, int]:
        """Number of calls per path, without query strings."""
        return dict(self._server.traffic.calls)

    @property
    def requests(self) -> list[Call]:
        """Every call, in the order in which they were answered."""
        return list(self._requests)

    @property
    def bytes_sent(self) -> int:
        """Bytes of all answers, headers included."""
        return self._server.traffic.bytes_sent

    @property
    def max_in_flight(self) -> int:
        """The largest number of calls that were being answered at once."""
        return self._server.traffic.max_in_flight

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return self._server.traffic.connections

    def reset_counters(self) -> None:
        """Start counting anew."""
        self._server.reset_traffic()
        self._requests.clear()

    def _handle(self, request: Request) -> Response:
        response = self._respond(request)
        status = 0 if response.ending in ("reset", "continue", "hang") else response.status
        self._requests.append(Call(request.method, request.target, status))
        return response

    def _respond(self, request: Request) -> Response:
        self._server.pause(self._latency_seconds)
        fault = self._faults.next_for(request.target)
        if self._mutual_tls and not request.has_client_certificate:
            return Response(400, _NGINX_400, {"Content-Type": "text/html", "Server": "nginx"})
        if fault is not None:
            self._server.pause(fault.pause_seconds)
        instead = None if fault is None else self._instead(fault, request)
        if instead is not None:
            return instead
        answer = self._api.handle(request)
        if answer.fault is not None:
            self._server.pause(answer.fault.pause_seconds)
            return self._instead(answer.fault, request) or answer.fault.spoil(answer)
        if answer.status == 200:
            self._last_pages[request.path] = (answer, self._clock.now())
        # A copy: what is kept for a cache stays as it was.
        return answer if fault is None else fault.spoil(replace(answer, headers=dict(answer.headers)))

    def _instead(self, fault: Fault, request: Request) -> Response | None:
        """Return what a proxy or the network answers in Kong's place, which then has not seen the call."""
        match fault.kind:
            case "status":
                headers = {"Content-Type": fault.content_type} | self._api.date_header()
                return Response(fault.status, fault.body.encode(), headers | dict(fault.headers or {}))
            case "reset":
                return Response(0, ending="reset")
            case "cached" if request.path in self._last_pages:
                kept, since = self._last_pages[request.path]
                age = {"Age": str(max(1, round(self._clock.now() - since)))}
                return Response(kept.status, kept.body, kept.headers | age | dict(fault.headers or {}))
        return None


class KongProcess(Controlled):
    """The same Kong as a process of its own, so that its work does not slow down what is measured or tested.

    The arguments are those of `KongSimulator`; its methods and properties are here too, by the same names.

    Parameters
    ----------
    token
        Handed over in the environment, where the list of processes does not show it.
    log_path
        Where the process's standard error goes; by default to a file that is removed at the end.

    Raises
    ------
    StartError
        If the process does not start.
    """

    def __init__(
        self,
        *,
        version: str = "3.10",
        token: str | None = None,
        base_path: str = "",
        certificates: Certificates | None = None,
        mutual_tls: bool = False,
        hostname: str = "kong-cp-1",
        workspaces: Sequence[str] = (),
        latency_seconds: float = 0.0,
        self_audit: bool = False,
        port: int = 0,
        log_path: Path | None = None,
    ) -> None:
        arguments = [f"--version={version}", f"--base-path={base_path}", f"--hostname={hostname}", f"--port={port}"]
        arguments += [f"--workspace={name}" for name in workspaces]
        arguments += [f"--latency-seconds={latency_seconds}"]
        arguments += [f"--certificates={certificates.directory}"] if certificates else []
        arguments += ["--mutual-tls"] if mutual_tls else []
        arguments += ["--self-audit"] if self_audit else []
        environment = {"KONG_ADMIN_TOKEN": token or ""}
        process = start_module("sandbox.kong.simulator", arguments, log_path=log_path, environment=environment)
        super().__init__(process, types=(Call,))
        self.ca_pem_path = certificates.ca_path if certificates else None

    add_entries = remote(KongSimulator.add_entries)
    add_raw_row = remote(KongSimulator.add_raw_row)
    seed_entries = remote(KongSimulator.seed_entries)
    add_objects = remote(KongSimulator.add_objects)
    add_raw_object = remote(KongSimulator.add_raw_object)
    seed_objects = remote(KongSimulator.seed_objects)
    entry_count = remote(KongSimulator.entry_count)
    clear_entries = remote(KongSimulator.clear_entries)
    now = remote(KongSimulator.now)
    set_clock = remote(KongSimulator.set_clock)
    advance_clock = remote(KongSimulator.advance_clock)
    add_user = remote(KongSimulator.add_user)
    configure = remote(KongSimulator.configure)
    mix_nodes = remote(KongSimulator.mix_nodes)
    poison = remote(KongSimulator.poison)
    heal = remote(KongSimulator.heal)
    inject = remote(KongSimulator.inject)
    clear_faults = remote(KongSimulator.clear_faults)
    pending_faults = remote(KongSimulator.pending_faults)
    reset_counters = remote(KongSimulator.reset_counters)
    calls = remote_property(KongSimulator.calls)
    requests = remote_property(KongSimulator.requests)
    bytes_sent = remote_property(KongSimulator.bytes_sent)
    max_in_flight = remote_property(KongSimulator.max_in_flight)
    connections = remote_property(KongSimulator.connections)


def main() -> None:
    """Serve until interrupted or ended; print one line of JSON with `url`, `control_url`, `control_port` and `pid`."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.kong.simulator", description="A simulator of Kong's Admin API."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--version", choices=sorted(PROFILES), default="3.10")
    parser.add_argument("--base-path", default="")
    parser.add_argument("--hostname", default="kong-cp-1")
    parser.add_argument("--workspace", action="append", default=[], dest="workspaces")
    parser.add_argument("--certificates", type=Path, help="serve HTTPS with the private CA in this directory")
    parser.add_argument("--mutual-tls", action="store_true", help="refuse clients without a certificate of that CA")
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    parser.add_argument("--self-audit", action="store_true", help="record reads of the audit endpoints, too")
    parser.epilog = "KONG_ADMIN_TOKEN in the environment turns RBAC on."
    options = vars(parser.parse_args())
    directory = options.pop("certificates")
    simulator = KongSimulator(
        **options,
        token=os.environ.get("KONG_ADMIN_TOKEN") or None,
        certificates=Certificates(directory) if directory else None,
    )
    control = ControlServer(simulator, types=(Call,))
    control.start()
    with simulator:
        serve_until_stopped(
            {"url": simulator.url, "control_url": control.url, "control_port": control.port, "pid": os.getpid()}
        )


if __name__ == "__main__":
    main()
