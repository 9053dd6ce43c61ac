"""An emulator of CloudWatch Logs, in this process or as one of its own.

`LogsEmulator` serves from daemon threads of this process; `LogsProcess` starts `python -m
sandbox.cloudwatch_logs.emulator` and offers the same methods. Both are context managers that serve from entry to exit.
boto3 finds either by `endpoint_url=`, or by `AWS_ENDPOINT_URL_CLOUDWATCH_LOGS` in the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Self

from sandbox.cloudwatch_logs.calls import (
    DAY_MS,
    RetentionIndex,
    Verdict,
    check_events,
    name_of,
    read_call,
)
from sandbox.cloudwatch_logs.records import LogsCall, StoredEvent, uid_of
from sandbox.machinery.aws_calls import CallError, Throttle
from sandbox.machinery.control import Controlled, ControlServer, remote, remote_property
from sandbox.machinery.faults import Fault, FaultPlan
from sandbox.machinery.http_server import HttpServer, Request, Response, http_date
from sandbox.machinery.processes import serve_until_stopped, start_module

REGION = "us-east-1"
ACCOUNT_ID = "123456789012"
LOG_GROUP = "/kong/audit"
"""The log group that exists unless another is asked for."""

_RETENTION_DAYS = frozenset(
    {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
)


@dataclass
class _Group:
    """A log group.

    Parameters
    ----------
    retention_days
        None: events are kept for ever.
    streams
        Names of its streams, in the order of their creation.
    """

    retention_days: int | None = None
    streams: list[str] = field(default_factory=list)


class LogsEmulator:
    """`PutLogEvents` on a free loopback port, as strict as documented, with the calls that create and describe.

    The same batch twice is stored twice, and sequence tokens are ignored, as in AWS.

    Parameters
    ----------
    log_group
        The group that exists at the beginning; it has no streams.
    region
        The one that calls are signed for.
    retention_days
        Of that group; None: for ever.
    retention_index
        How refusals because of the retention are named in answers.
    latency_seconds
        How long every call takes at least.
    calls_per_second
        More calls of PutLogEvents than this in any second are throttled; None for no limit. The real quota is 5,000.
    clock_ahead_seconds
        By how much the clock of CloudWatch Logs is ahead of this machine's.
    port
        0 takes a free one.

    Attributes
    ----------
    url
        For `endpoint_url=` or `AWS_ENDPOINT_URL_CLOUDWATCH_LOGS`.
    log_group_arn
        Of the group.
    """

    def __init__(
        self,
        *,
        log_group: str = LOG_GROUP,
        region: str = REGION,
        retention_days: int | None = None,
        retention_index: RetentionIndex = "expiredLogEventEndIndex",
        latency_seconds: float = 0.0,
        calls_per_second: float | None = None,
        clock_ahead_seconds: float = 0.0,
        port: int = 0,
    ) -> None:
        self.log_group_arn = arn_of(log_group, region)
        self._region = region
        self._groups = {log_group: _Group(retention_days)}
        self._retention_index: RetentionIndex = retention_index
        self._latency_seconds = latency_seconds
        self._throttle = Throttle(calls_per_second)
        self._clock_ahead_seconds = clock_ahead_seconds
        self._lock = threading.Lock()
        self._faults = FaultPlan()
        self._poisons: list[tuple[frozenset[str], Fault]] = []
        self._watcher: Callable[[], object] | None = None
        self._stored: list[StoredEvent] = []
        self._calls: list[LogsCall] = []
        self._call_count = 0
        self._server = HttpServer(self._handle, port=port)
        self.url = self._server.origin

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    # --- how it behaves ---

    def inject(self, fault: Fault) -> None:
        """Let a fault hit a call. The path of a call is `/` and its action, such as `/PutLogEvents`.

        "status", "throttle" (`ThrottlingException`) and "reset" come before CloudWatch Logs sees the call;
        "reset_after", "cut_off", "body", "drip", "continue" and "hang" after it has stored the events.
        """
        self._faults.add(fault)

    def poison(self, uids: Collection[str], fault: Fault) -> None:
        """Let every call that holds an event with one of these `UID`s fail as a whole, until `clear_faults`.

        Nothing of such a call is stored. `fault` is a "status", a "reset" or a "hang"; its `path`, `nth` and `times` do
        not matter.
        """
        with self._lock:
            self._poisons.append((frozenset(uids), fault))

    def watch(self, watcher: Callable[[], object]) -> None:
        """Call this for each event before a call's are stored, until `clear_faults`: to end whoever sent them, say."""
        with self._lock:
            self._watcher = watcher

    def clear_faults(self) -> None:
        """Forget all faults, all poison and the watcher."""
        self._faults.clear()
        with self._lock:
            self._poisons.clear()
            self._watcher = None

    def pending_faults(self) -> int:
        """Return how many faults have not happened yet."""
        return self._faults.pending()

    def configure(
        self,
        *,
        latency_seconds: float | None = None,
        calls_per_second: float | None = None,
        clock_ahead_seconds: float | None = None,
    ) -> None:
        """Change settings while it runs. What is None stays; 0 calls per second throttles every call."""
        if latency_seconds is not None:
            self._latency_seconds = latency_seconds
        if calls_per_second is not None:
            self._throttle.calls_per_second = calls_per_second
        if clock_ahead_seconds is not None:
            self._clock_ahead_seconds = clock_ahead_seconds

    def create_group(self, log_group: str, retention_days: int | None = None) -> None:
        """Create a group, as a deployment would."""
        with self._lock:
            self._groups[log_group] = _Group(retention_days)

    def delete_group(self, log_group: str) -> None:
        """Delete a group, as somebody in the console would."""
        with self._lock:
            del self._groups[log_group]

    # --- what happened ---

    def stored(self) -> list[StoredEvent]:
        """Return every stored event, in the order in which they came."""
        with self._lock:
            return list(self._stored)

    def stored_uids(self) -> list[str]:
        """Return the `UID`s of the stored events, in the order in which they came, doubles included."""
        return [event.uid for event in self.stored()]

    def stored_count(self) -> int:
        """Return how many events are stored."""
        return len(self._stored)

    def clear(self) -> None:
        """Forget the stored events and the calls, and start counting anew."""
        with self._lock:
            self._stored.clear()
            self._calls.clear()
            self._call_count = 0
            self._server.reset_traffic()

    @property
    def calls(self) -> list[LogsCall]:
        """Every call, in the order in which they were answered."""
        with self._lock:
            return list(self._calls)

    @property
    def max_in_flight(self) -> int:
        """The largest number of calls that were being answered at once."""
        return self._server.traffic.max_in_flight

    # --- calls ---

    def _handle(self, request: Request) -> Response:
        received_at = time.time()
        with self._lock:
            self._call_count += 1
            number = self._call_count
        name = request.headers.get("x-amz-target", "").rpartition(".")[2]
        fault = self._faults.next_for(f"/{name}")
        self._server.pause(self._latency_seconds + (fault.pause_seconds if fault else 0))
        if fault is not None and fault.kind in ("status", "reset"):
            self._note(LogsCall(number, name, received_at, len(request.body), error_code=fault.kind))
            return self._dated(_fault_response(fault))
        call = LogsCall(number, name, received_at, len(request.body))
        try:
            action, arguments = read_call(request, self._region)
            if action == "PutLogEvents":
                self._throttle.admit(received_at)
                if fault is not None and fault.kind == "throttle":
                    self._throttle.refuse()
                if (poison := self._poison_in(arguments)) is not None:
                    self._server.pause(poison.pause_seconds)
                    self._note(LogsCall(number, name, received_at, len(request.body), error_code=poison.kind))
                    return self._dated(poison.spoil(_fault_response(poison)))
                answer = self._put_log_events(arguments, call)
            else:
                answer = self._other(action, arguments)
                self._note(call)
        except CallError as error:
            self._note(LogsCall(number, name, received_at, len(request.body), error_code=error.code))
            return self._dated(_error_response(error))
        response = self._dated(_json_response(200, answer))
        return fault.spoil(response) if fault else response

    def _put_log_events(self, arguments: dict[str, Any], call: LogsCall) -> dict[str, Any]:
        now_ms = self._now_ms()
        with self._lock:
            group = self._group(name_of(arguments, "logGroupName"))
            stream = name_of(arguments, "logStreamName")
            if stream not in group.streams:
                raise CallError("ResourceNotFoundException", "The specified log stream does not exist.")
            retention_ms = None if group.retention_days is None else group.retention_days * DAY_MS
            events, verdict = check_events(arguments.get("logEvents"), now_ms, retention_ms, self._retention_index)
            taken = events[verdict.first : verdict.last]
            if self._watcher is not None:
                for _ in taken:
                    self._watcher()
            self._stored += [
                StoredEvent(stream, event["message"], event["timestamp"], now_ms, call.number) for event in taken
            ]
            self._calls.append(_put_call(call, len(events), verdict))
        answer: dict[str, Any] = {"nextSequenceToken": "0"}
        if verdict.rejected is not None:
            answer["rejectedLogEventsInfo"] = verdict.rejected
        return answer

    def _other(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        actions = {
            "CreateLogGroup": self._create_log_group,
            "CreateLogStream": self._create_log_stream,
            "DescribeLogGroups": self._describe_log_groups,
            "DescribeLogStreams": self._describe_log_streams,
            "PutRetentionPolicy": self._put_retention_policy,
        }
        if action not in actions:
            raise CallError("UnknownOperationException", f"{action} is not known here")
        with self._lock:
            return actions[action](arguments)

    def _create_log_group(self, arguments: dict[str, Any]) -> dict[str, Any]:
        name = name_of(arguments, "logGroupName")
        if name in self._groups:
            raise CallError("ResourceAlreadyExistsException", "The specified log group already exists")
        self._groups[name] = _Group()
        return {}

    def _create_log_stream(self, arguments: dict[str, Any]) -> dict[str, Any]:
        group = self._group(name_of(arguments, "logGroupName"))
        name = name_of(arguments, "logStreamName")
        if name in group.streams:
            raise CallError("ResourceAlreadyExistsException", "The specified log stream already exists")
        group.streams.append(name)
        return {}

    def _describe_log_groups(self, arguments: dict[str, Any]) -> dict[str, Any]:
        prefix = arguments.get("logGroupNamePrefix") or ""
        groups = []
        for name, group in sorted(self._groups.items()):
            if name.startswith(prefix):
                arn = arn_of(name, self._region)
                described = {"logGroupName": name, "arn": f"{arn}:*", "logGroupArn": arn}
                days = group.retention_days
                groups.append(described if days is None else described | {"retentionInDays": days})
        return {"logGroups": groups[: arguments.get("limit") or 50]}

    def _describe_log_streams(self, arguments: dict[str, Any]) -> dict[str, Any]:
        group = self._group(name_of(arguments, "logGroupName"))
        prefix = arguments.get("logStreamNamePrefix") or ""
        streams = [{"logStreamName": name} for name in sorted(group.streams) if name.startswith(prefix)]
        return {"logStreams": streams[: arguments.get("limit") or 50]}

    def _put_retention_policy(self, arguments: dict[str, Any]) -> dict[str, Any]:
        group = self._group(name_of(arguments, "logGroupName"))
        if (days := arguments.get("retentionInDays")) not in _RETENTION_DAYS:
            raise CallError("InvalidParameterException", "retentionInDays is not one of the documented numbers")
        group.retention_days = days
        return {}

    def _group(self, name: str) -> _Group:
        if name not in self._groups:
            raise CallError("ResourceNotFoundException", "The specified log group does not exist.")
        return self._groups[name]

    def _poison_in(self, arguments: dict[str, Any]) -> Fault | None:
        with self._lock:
            poisons = list(self._poisons)
        if not poisons or not isinstance(arguments.get("logEvents"), list):
            return None
        uids = {uid_of(event["message"]) for event in arguments["logEvents"]}
        return next((fault for poisoned, fault in poisons if not uids.isdisjoint(poisoned)), None)

    def _now_ms(self) -> int:
        return int((time.time() + self._clock_ahead_seconds) * 1000)

    def _dated(self, response: Response) -> Response:
        response.headers["Date"] = http_date(self._now_ms() / 1000)
        return response

    def _note(self, call: LogsCall) -> None:
        with self._lock:
            self._calls.append(call)


def arn_of(log_group: str, region: str = REGION) -> str:
    """Return the ARN of a log group."""
    return f"arn:aws:logs:{region}:{ACCOUNT_ID}:log-group:{log_group}"


def _put_call(call: LogsCall, entries: int, verdict: Verdict) -> LogsCall:
    return LogsCall(
        call.number,
        call.action,
        call.received_at,
        call.body_bytes,
        entries,
        verdict.last - verdict.first,
        verdict.too_old,
        verdict.expired,
        verdict.too_new,
    )


def _fault_response(fault: Fault) -> Response:
    """Return what a fault answers in place of CloudWatch Logs, which then has not seen the call."""
    if fault.kind == "reset":
        return Response(0, ending="reset")
    headers = {"Content-Type": fault.content_type, **(fault.headers or {})}
    # In this protocol, clients look for the error code in the body.
    code = {"__type": headers["x-amzn-ErrorType"]} if "x-amzn-ErrorType" in headers else {}
    body = fault.body or json.dumps({**code, "message": "injected"})
    return Response(fault.status, body.encode(), headers)


def _error_response(error: CallError) -> Response:
    return _json_response(error.status, {"__type": error.code, "message": error.message})


def _json_response(status: int, body: dict[str, Any]) -> Response:
    headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": str(uuid.uuid4())}
    return Response(status, json.dumps(body).encode(), headers)


class LogsProcess(Controlled):
    """The same CloudWatch Logs as a process of its own, so that its work does not slow down what is tested.

    The arguments are those of `LogsEmulator`; its methods and properties are here too, by the same names.

    Raises
    ------
    StartError
        If the process does not start.
    """

    def __init__(
        self,
        *,
        log_group: str = LOG_GROUP,
        region: str = REGION,
        retention_days: int | None = None,
        retention_index: RetentionIndex = "expiredLogEventEndIndex",
        latency_seconds: float = 0.0,
        calls_per_second: float | None = None,
        clock_ahead_seconds: float = 0.0,
        port: int = 0,
    ) -> None:
        options = {
            "log-group": log_group,
            "region": region,
            "retention-days": retention_days,
            "retention-index": retention_index,
            "latency-seconds": latency_seconds,
            "calls-per-second": calls_per_second,
            "clock-ahead-seconds": clock_ahead_seconds,
            "port": port,
        }
        arguments = [f"--{name}={value}" for name, value in options.items() if value is not None]
        super().__init__(start_module("sandbox.cloudwatch_logs.emulator", arguments), types=(LogsCall, StoredEvent))
        self.log_group_arn = arn_of(log_group, region)

    inject = remote(LogsEmulator.inject)
    poison = remote(LogsEmulator.poison)
    clear_faults = remote(LogsEmulator.clear_faults)
    pending_faults = remote(LogsEmulator.pending_faults)
    configure = remote(LogsEmulator.configure)
    create_group = remote(LogsEmulator.create_group)
    delete_group = remote(LogsEmulator.delete_group)
    stored = remote(LogsEmulator.stored)
    stored_uids = remote(LogsEmulator.stored_uids)
    stored_count = remote(LogsEmulator.stored_count)
    clear = remote(LogsEmulator.clear)
    calls = remote_property(LogsEmulator.calls)
    max_in_flight = remote_property(LogsEmulator.max_in_flight)


def main() -> None:
    """Serve until interrupted or ended; print one line of JSON with `url`, `control_url`, `control_port` and `pid`."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.cloudwatch_logs.emulator", description="An emulator of PutLogEvents."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--log-group", default=LOG_GROUP, help="the group that exists")
    parser.add_argument("--region", default=REGION, help="the one that calls are signed for")
    parser.add_argument("--retention-days", type=int, help="of that group")
    parser.add_argument(
        "--retention-index",
        choices=("expiredLogEventEndIndex", "tooOldLogEventEndIndex"),
        default="expiredLogEventEndIndex",
        help="how refusals because of the retention are named",
    )
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    parser.add_argument("--calls-per-second", type=float)
    parser.add_argument("--clock-ahead-seconds", type=float, default=0.0)
    emulator = LogsEmulator(**vars(parser.parse_args()))
    control = ControlServer(emulator, types=(LogsCall, StoredEvent))
    control.start()
    with emulator:
        serve_until_stopped(
            {"url": emulator.url, "control_url": control.url, "control_port": control.port, "pid": os.getpid()}
        )


if __name__ == "__main__":
    main()
