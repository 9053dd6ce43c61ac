"""Faults that the simulators produce on demand: which call they hit, and what then happens."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.machinery.http_server import Response

FaultKind = Literal[
    "status",  # answer with `status` and `body`, do nothing
    "throttle",  # the server's own way to say "slow down"
    "slow",  # wait `delay_seconds`, then answer as usual
    "reset",  # reset the connection instead of doing anything
    "reset_after",  # do the work, then reset the connection instead of answering
    "cut_off",  # promise the whole body, send half of it, close
    "body",  # do the work, but answer 200 with `body` in place of the real one
    "drip",  # do the work, then send the answer byte by byte, status line included, `delay_seconds` between two bytes
    "continue",  # do the work, then send `100 Continue` without end, `delay_seconds` between two of them
    "hang",  # do the work, then never answer
    "cached",  # answer the last 200 of this path once more, as a cache would, with an `Age` header
]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A rule: the `nth` next call whose path matches gets this fault, and so do `times` - 1 matching calls after it.

    Rules are tried in the order in which they were injected and one call gets at most one fault, so rules with the
    default `nth` behave as a queue.

    Parameters
    ----------
    kind
        What happens.
    path
        Regular expression, searched in the call's path with its query string. The default matches every call.
    nth
        Which matching call, counted from the moment of injection, is the first to be hit; 1 is the next one.
    times
        How many matching calls are hit.
    status, body, content_type, headers
        The answer, for the kinds that replace it.
    delay_seconds
        Waited before the fault; for "drip" and "continue" between what is sent.
    """

    kind: FaultKind
    path: str = ""
    nth: int = 1
    times: int = 1
    status: int = 500
    body: str = ""
    content_type: str = "application/json"
    headers: Mapping[str, str] | None = None
    delay_seconds: float = 0.0

    @property
    def pause_seconds(self) -> float:
        """How long to wait before the fault."""
        return 0.0 if self.kind in ("drip", "continue") else self.delay_seconds

    def spoil(self, response: Response) -> Response:
        """Return what this fault makes of an answer, once the work is done."""
        match self.kind:
            case "reset_after":
                response.ending = "reset"
            case "body":
                response.body = self.body.encode()
            case "cut_off" | "drip" | "continue" | "hang":
                response.ending, response.pace_seconds = self.kind, self.delay_seconds
        return response


def server_error(**rule: Any) -> Fault:
    """Return the 500 with which Kong reports trouble with its database."""
    return Fault(kind="status", status=500, body='{"message":"An unexpected error occurred"}', **rule)


def bad_gateway(status: int = 502, **rule: Any) -> Fault:
    """Return the HTML with which a load balancer reports that Kong does not answer it."""
    html = f"<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>nginx</body></html>"
    return Fault(kind="status", status=status, body=html, content_type="text/html", **rule)


def rate_limited(retry_after: str = "1", **rule: Any) -> Fault:
    """Return the 429 of a proxy in front of Kong; `retry_after` is its header, seconds or an HTTP date."""
    body = '{"message":"API rate limit exceeded"}'
    return Fault(kind="status", status=429, body=body, headers={"Retry-After": retry_after}, **rule)


def slow(delay_seconds: float, **rule: Any) -> Fault:
    """Return an ordinary answer that comes late."""
    return Fault(kind="slow", delay_seconds=delay_seconds, **rule)


def invalid_json(**rule: Any) -> Fault:
    """Return a 200 whose body ends in the middle of its JSON."""
    return Fault(kind="body", body='{"data":[{"request_id":"', **rule)


def aws_error(code: str, status: int = 400, **rule: Any) -> Fault:
    """Return an error of an AWS service, with which it refuses a call as a whole."""
    return Fault(kind="status", status=status, headers={"x-amzn-ErrorType": code}, **rule)


WRONG_SHAPES = {
    "no data": '{"next":null}',
    "data is null": '{"data":null,"next":null}',
    "data is an object": '{"data":{"request_id":"x"},"next":null}',
    "entries are no objects": '{"data":[1,"x",null,[]],"next":null}',
    "a bare array": "[]",
    "offset is no string": '{"data":[],"offset":5,"next":"/audit/requests"}',
}


def wrong_shape(shape: str, **rule: Any) -> Fault:
    """Return a 200 with valid JSON that is not a page: one of `WRONG_SHAPES`."""
    return Fault(kind="body", body=WRONG_SHAPES[shape], **rule)


class FaultPlan:
    """The faults still to come. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []

    def add(self, fault: Fault) -> None:
        """Append a rule."""
        with self._lock:
            self._rules.append(_Rule(fault))

    def clear(self) -> None:
        """Forget every rule."""
        with self._lock:
            self._rules.clear()

    def pending(self) -> int:
        """Return how many faults have not happened yet."""
        with self._lock:
            return sum(rule.times_left for rule in self._rules)

    def next_for(self, target: str) -> Fault | None:
        """Return the fault for the call that just came in with this path and query string, if it gets one."""
        with self._lock:
            hit: Fault | None = None
            for rule in self._rules:
                if not rule.pattern.search(target):
                    continue
                if rule.calls_before > 0:
                    rule.calls_before -= 1
                elif hit is None:
                    hit = rule.fault
                    rule.times_left -= 1
            self._rules = [rule for rule in self._rules if rule.times_left > 0]
            return hit


class _Rule:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.pattern = re.compile(fault.path)
        self.calls_before = fault.nth - 1
        self.times_left = fault.times
