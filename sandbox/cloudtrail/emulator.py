"""An emulator of CloudTrail Lake's PutAuditEvents, in this process or as one of its own.

`CloudTrailEmulator` serves from daemon threads of this process; `CloudTrailProcess` starts `python -m
sandbox.cloudtrail.emulator` and offers the same methods. Both are context managers that serve from entry to exit.
boto3 finds either by `endpoint_url=`, or by `AWS_ENDPOINT_URL_CLOUDTRAIL_DATA` in the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, Self

from sandbox.cloudtrail.calls import Channel, read_call
from sandbox.cloudtrail.events import InvalidEvent, check_checksum, check_event
from sandbox.cloudtrail.lake import EVENT_DATA_STORE_ARN, TARGET, LakeQueries
from sandbox.cloudtrail.records import AcceptedEvent, EntryFault, PutCall, RefusedEvent
from sandbox.machinery.aws_calls import CallError, Throttle
from sandbox.machinery.control import Controlled, ControlServer, remote, remote_property
from sandbox.machinery.faults import Fault, FaultPlan
from sandbox.machinery.http_server import HttpServer, Request, Response
from sandbox.machinery.processes import serve_until_stopped, start_module

CHANNEL_ARN = "arn:aws:cloudtrail:us-east-1:123456789012:channel/01234567-89ab-cdef-0123-456789abcdef"
"""The channel that exists unless another is asked for."""

Validation = Literal["strict", "light"]


class CloudTrailEmulator:
    """`POST /PutAuditEvents` on a free loopback port, for one channel, as strict as the documented limits.

    Parameters
    ----------
    channel_arn
        The channel that exists. Its account must be every event's recipient, its region the one that calls are
        signed for.
    external_id
        The channel's policy asks for this external id.
    event_source
        The channel takes events of this source only.
    validate
        "strict" checks every event against the schema and its checksum; "light" checks what concerns the call (sizes,
        ids) and takes the events as they are, for benchmarks.
    latency_seconds
        How long every call takes at least.
    calls_per_second
        More calls than this in any second are throttled; None for no limit. The real quota is 100.
    port
        0 takes a free one.

    Attributes
    ----------
    url
        For `endpoint_url=` or `AWS_ENDPOINT_URL_CLOUDTRAIL_DATA`.
    channel_arn
        As given.
    lake
        The event data store behind the channel, for queries; found by `AWS_ENDPOINT_URL_CLOUDTRAIL`.
    """

    def __init__(
        self,
        *,
        channel_arn: str = CHANNEL_ARN,
        external_id: str | None = None,
        event_source: str | None = None,
        validate: Validation = "strict",
        latency_seconds: float = 0.0,
        calls_per_second: float | None = None,
        port: int = 0,
    ) -> None:
        self.channel_arn = channel_arn
        self._channel = Channel(channel_arn, external_id)
        self._event_source = event_source
        self._validate = validate
        self._latency_seconds = latency_seconds
        self._throttle = Throttle(calls_per_second)
        self._lock = threading.Lock()
        self._faults = FaultPlan()
        self._entry_faults: list[EntryFault] = []
        self._poisons: list[tuple[frozenset[str], Fault]] = []
        self._accepted: list[AcceptedEvent] = []
        self._refused: list[RefusedEvent] = []
        self._calls: list[PutCall] = []
        self._call_count = 0
        self.lake = LakeQueries(EVENT_DATA_STORE_ARN, channel_arn)
        self._server = HttpServer(self._handle, port=port)
        self.url = self._server.origin

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    # --- how it behaves ---

    def inject(self, fault: Fault) -> None:
        """Let a fault hit a whole call; see `Fault` for which.

        "status", "throttle" (`ThrottlingException`) and "reset" come before CloudTrail sees the call; "reset_after",
        "cut_off", "body", "drip", "continue" and "hang" after it has accepted the events.
        """
        self._faults.add(fault)

    def fail_entries(
        self,
        code: str,
        *,
        ids: Collection[str] | None = None,
        uid_pattern: str | None = None,
        predicate: Callable[[dict[str, Any]], bool] | None = None,
        times: int | None = None,
        times_per_entry: int | None = None,
    ) -> None:
        """Refuse single entries, which would be accepted otherwise, with an error code, documented or not.

        Rules are tried in the order in which they were made.

        Parameters
        ----------
        code
            `errorCode` of the refused entries.
        ids, uid_pattern, predicate
            Which entries: these ids; a `UID` in which this regular expression is found; an event for which this is
            true (in this process only). Given together, all must fit; given none, every entry does.
        times
            How many entries are refused before the rule is spent; None for no end.
        times_per_entry
            How often one and the same entry is refused; None for no end.
        """
        pattern = None if uid_pattern is None else re.compile(uid_pattern)
        fault = EntryFault(
            code, None if ids is None else frozenset(ids), pattern, predicate, times, times_per_entry=times_per_entry
        )
        with self._lock:
            self._entry_faults.append(fault)

    def poison(self, ids: Collection[str], fault: Fault) -> None:
        """Let every call that holds one of these entries fail as a whole, until `clear_faults`.

        CloudTrail takes nothing of such a call. It has not seen it if `fault` is a "status" or a "reset": so does a
        middlebox that dislikes something in an entry.

        Parameters
        ----------
        ids
            Of the entries, as in the call.
        fault
            What happens to the call: "status", "reset" or "hang". Its `path`, `nth` and `times` do not matter.
        """
        with self._lock:
            self._poisons.append((frozenset(ids), fault))

    def clear_faults(self) -> None:
        """Forget all faults, of calls and of entries, and all poison."""
        self._faults.clear()
        with self._lock:
            self._entry_faults.clear()
            self._poisons.clear()

    def pending_faults(self) -> int:
        """Return how many faults of whole calls have not happened yet."""
        return self._faults.pending()

    def configure(
        self,
        *,
        latency_seconds: float | None = None,
        calls_per_second: float | None = None,
        validate: Validation | None = None,
    ) -> None:
        """Change settings while it runs. What is None stays; 0 calls per second throttles every call."""
        if latency_seconds is not None:
            self._latency_seconds = latency_seconds
        if calls_per_second is not None:
            self._throttle.calls_per_second = calls_per_second
        if validate is not None:
            self._validate = validate

    # --- what happened ---

    def accepted(self) -> list[AcceptedEvent]:
        """Return every accepted event, in the order of acceptance."""
        with self._lock:
            return list(self._accepted)

    def accepted_ids(self) -> list[str]:
        """Return the ids of the accepted events, in the order of acceptance, doubles included."""
        with self._lock:
            return [event.id for event in self._accepted]

    def accepted_uids(self) -> list[str]:
        """Return the `UID`s of the accepted events, in the order of acceptance, doubles included."""
        return [event.uid for event in self.accepted()]

    def accepted_count(self) -> int:
        """Return how many events were accepted."""
        return len(self._accepted)

    def refused(self) -> list[RefusedEvent]:
        """Return every refusal of a single entry, in the order in which they happened."""
        with self._lock:
            return list(self._refused)

    def lose(self, uids: Collection[str]) -> None:
        """Forget accepted events, as if they had never come."""
        with self._lock:
            self._accepted = [event for event in self._accepted if event.uid not in uids]

    def double(self, uids: Collection[str]) -> None:
        """Have accepted events once more."""
        with self._lock:
            self._accepted += [event for event in self._accepted if event.uid in uids]

    def clear(self) -> None:
        """Forget the accepted and the refused events and the calls, and start counting anew."""
        with self._lock:
            self._accepted.clear()
            self._refused.clear()
            self._calls.clear()
            self._call_count = 0
            self._server.reset_traffic()

    @property
    def calls(self) -> list[PutCall]:
        """Every call, in the order in which they were answered."""
        with self._lock:
            return list(self._calls)

    @property
    def max_in_flight(self) -> int:
        """The largest number of calls that were being answered at once."""
        return self._server.traffic.max_in_flight

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return self._server.traffic.connections

    def _handle(self, request: Request) -> Response:
        target = request.headers.get("x-amz-target", "")
        if target.startswith(TARGET):
            return self._answer_query(target.removeprefix(TARGET), request)
        received_at = time.time()
        with self._lock:
            self._call_count += 1
            number = self._call_count
        fault = self._faults.next_for(request.target)
        self._server.pause(self._latency_seconds + (fault.pause_seconds if fault else 0))
        if fault is not None and fault.kind in ("status", "reset"):
            self._note(number, received_at, request, error_code=fault.kind)
            return _fault_response(fault)
        try:
            self._throttle.admit(received_at)
            if fault is not None and fault.kind == "throttle":
                self._throttle.refuse()
            entries = read_call(request, self._channel)
        except CallError as error:
            self._note(number, received_at, request, error_code=error.code)
            return _error_response(error)
        if (poison := self._poison_in(entries)) is not None:
            self._server.pause(poison.pause_seconds)
            self._note(number, received_at, request, error_code=poison.kind)
            return poison.spoil(_fault_response(poison))
        accepted, failed = self._judge(entries, number, received_at)
        self._note(number, received_at, request, len(entries), accepted, failed)
        body = {"failed": failed, "successful": [{"id": event.id, "eventID": event.event_id} for event in accepted]}
        response = _json_response(200, body)
        return fault.spoil(response) if fault else response

    def _answer_query(self, operation: str, request: Request) -> Response:
        try:
            return _json_response(200, self.lake.answer(operation, request.body, self.accepted()))
        except CallError as error:
            return _json_response(error.status, {"__type": error.code, "message": error.message})

    def _poison_in(self, entries: list[dict[str, Any]]) -> Fault | None:
        with self._lock:
            hits = (fault for ids, fault in self._poisons if any(entry["id"] in ids for entry in entries))
            return next(hits, None)

    def _judge(
        self, entries: list[dict[str, Any]], number: int, received_at: float
    ) -> tuple[list[AcceptedEvent], list[dict[str, str]]]:
        accepted: list[AcceptedEvent] = []
        failed: list[dict[str, str]] = []
        for entry in entries:
            entry_id, event_data = entry["id"], entry["eventData"]
            try:
                if self._validate == "strict":
                    check_checksum(event_data, entry.get("eventDataChecksum"))
                    check_event(event_data, account_id=self._channel.account_id, event_source=self._event_source)
                self._fail_if_asked(entry_id, event_data)
            except InvalidEvent as error:
                failed.append({"id": entry_id, "errorCode": error.code, "errorMessage": error.message[:1024]})
            else:
                accepted.append(AcceptedEvent(entry_id, event_data, str(uuid.uuid4()), number, received_at))
        return accepted, failed

    def _fail_if_asked(self, entry_id: str, event_data: str) -> None:
        if not self._entry_faults:
            return
        with self._lock:
            for fault in self._entry_faults:
                if fault.hits(entry_id, event_data):
                    raise InvalidEvent(fault.code, "injected")

    def _note(
        self,
        number: int,
        received_at: float,
        request: Request,
        entries: int = 0,
        accepted: Sequence[AcceptedEvent] = (),
        failed: Sequence[dict[str, str]] = (),
        error_code: str | None = None,
    ) -> None:
        codes = dict(Counter(entry["errorCode"] for entry in failed))
        refused = [RefusedEvent(entry["id"], entry["errorCode"], number) for entry in failed]
        call = PutCall(number, received_at, len(request.body), entries, len(accepted), codes, error_code)
        with self._lock:
            self._accepted += accepted
            self._refused += refused
            self._calls.append(call)


def _fault_response(fault: Fault) -> Response:
    """Return what a fault answers in place of CloudTrail, which then has not seen the call."""
    if fault.kind == "reset":
        return Response(0, ending="reset")
    body = fault.body or json.dumps({"message": "injected"})
    headers = {"Content-Type": fault.content_type, **(fault.headers or {})}
    return Response(fault.status, body.encode(), headers)


def _error_response(error: CallError) -> Response:
    response = _json_response(error.status, {"message": error.message})
    response.headers["x-amzn-ErrorType"] = error.code
    return response


def _json_response(status: int, body: dict[str, Any]) -> Response:
    headers = {"Content-Type": "application/json", "x-amzn-RequestId": str(uuid.uuid4())}
    return Response(status, json.dumps(body).encode(), headers)


class CloudTrailProcess(Controlled):
    """The same CloudTrail as a process of its own, so that its work does not slow down what is measured or tested.

    The arguments are those of `CloudTrailEmulator`; its methods and properties are here too, by the same names
    (`fail_entries` without `predicate`). For many events ask for `accepted_ids`, not for `accepted`.

    Raises
    ------
    StartError
        If the process does not start.
    """

    def __init__(
        self,
        *,
        channel_arn: str = CHANNEL_ARN,
        external_id: str | None = None,
        event_source: str | None = None,
        validate: Validation = "strict",
        latency_seconds: float = 0.0,
        calls_per_second: float | None = None,
        port: int = 0,
    ) -> None:
        options = {
            "channel-arn": channel_arn,
            "external-id": external_id,
            "event-source": event_source,
            "validate": validate,
            "latency-seconds": latency_seconds,
            "calls-per-second": calls_per_second,
            "port": port,
        }
        arguments = [f"--{name}={value}" for name, value in options.items() if value is not None]
        process = start_module("sandbox.cloudtrail.emulator", arguments)
        super().__init__(process, types=(AcceptedEvent, PutCall, RefusedEvent))
        self.channel_arn = channel_arn

    inject = remote(CloudTrailEmulator.inject)
    fail_entries = remote(CloudTrailEmulator.fail_entries)
    poison = remote(CloudTrailEmulator.poison)
    clear_faults = remote(CloudTrailEmulator.clear_faults)
    pending_faults = remote(CloudTrailEmulator.pending_faults)
    configure = remote(CloudTrailEmulator.configure)
    accepted = remote(CloudTrailEmulator.accepted)
    accepted_ids = remote(CloudTrailEmulator.accepted_ids)
    accepted_uids = remote(CloudTrailEmulator.accepted_uids)
    accepted_count = remote(CloudTrailEmulator.accepted_count)
    refused = remote(CloudTrailEmulator.refused)
    clear = remote(CloudTrailEmulator.clear)
    calls = remote_property(CloudTrailEmulator.calls)
    max_in_flight = remote_property(CloudTrailEmulator.max_in_flight)
    connections = remote_property(CloudTrailEmulator.connections)


def main() -> None:
    """Serve until interrupted or ended; print one line of JSON with `url`, `control_url`, `control_port` and `pid`."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.cloudtrail.emulator", description="An emulator of PutAuditEvents."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--channel-arn", default=CHANNEL_ARN, help="the channel that exists")
    parser.add_argument("--external-id", help="asked for by the channel's policy")
    parser.add_argument("--event-source", help="the only one that the channel takes")
    parser.add_argument("--validate", choices=("strict", "light"), default="strict")
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    parser.add_argument("--calls-per-second", type=float)
    emulator = CloudTrailEmulator(**vars(parser.parse_args()))
    control = ControlServer(emulator, types=(AcceptedEvent, PutCall, RefusedEvent))
    control.start()
    with emulator:
        serve_until_stopped(
            {"url": emulator.url, "control_url": control.url, "control_port": control.port, "pid": os.getpid()}
        )


if __name__ == "__main__":
    main()
