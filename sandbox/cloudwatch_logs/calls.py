"""What makes CloudWatch Logs refuse a call of PutLogEvents, and which events of one that it takes.

Sources: the API reference of PutLogEvents, the service model of `logs` (2014-03-28), and the quotas of CloudWatch Logs.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.machinery.aws_calls import CallError
from sandbox.machinery.http_server import Request

MAX_CALL_BYTES = 1_048_576
EVENT_OVERHEAD_BYTES = 26
MAX_CALL_EVENTS = 10_000
MAX_EVENT_BYTES = 1_048_576
"""1 MB. As each event counts 26 bytes more in a call, the largest message that can be stored has 1,048,550."""

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MAX_AGE_MS = 14 * DAY_MS
MAX_AHEAD_MS = 2 * HOUR_MS
MAX_SPAN_MS = DAY_MS

RetentionIndex = Literal["expiredLogEventEndIndex", "tooOldLogEventEndIndex"]

_TARGET = re.compile(r"Logs_20140328\.([A-Za-z]+)")
_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([^/]+)/logs/aws4_request")
_GROUP_NAME = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")
_STREAM_NAME = re.compile(r"[^:*]{1,512}")


def read_call(request: Request, region: str) -> tuple[str, dict[str, Any]]:
    """Return the action of a call, and its arguments.

    Raises
    ------
    CallError
        If it is no call of this API, or signed for another region or service.
    """
    target = _TARGET.fullmatch(request.headers.get("x-amz-target", ""))
    if request.method != "POST" or target is None:
        raise CallError("UnknownOperationException", "the call has no X-Amz-Target of CloudWatch Logs")
    scope = _SCOPE.search(request.headers.get("authorization", ""))
    if scope is None:
        raise CallError("MissingAuthenticationTokenException", "the call is not signed for logs")
    if scope[1] != region:
        raise CallError("InvalidSignatureException", f"the call is signed for {scope[1]}, and this is {region}")
    try:
        arguments = json.loads(request.body)
        json.dumps(arguments, ensure_ascii=False).encode()  # half a surrogate pair is no text that can be stored
    except ValueError as error:
        raise CallError("SerializationException", "the body is not JSON") from error
    if not isinstance(arguments, dict):
        raise CallError("SerializationException", "the body is not a JSON object")
    return target[1], arguments


def name_of(arguments: dict[str, Any], field: str) -> str:
    """Return the name of a group or a stream in a call's arguments. Raises `CallError`."""
    name = arguments.get(field)
    pattern = _GROUP_NAME if field == "logGroupName" else _STREAM_NAME
    if not isinstance(name, str) or pattern.fullmatch(name) is None:
        raise CallError("InvalidParameterException", f"{field} is missing or not valid")
    return name


@dataclass(frozen=True)
class Verdict:
    """Which events of a call are taken.

    Parameters
    ----------
    first, last
        The taken ones are `events[first:last]`.
    rejected
        `rejectedLogEventsInfo` of the answer; None if all are taken.
    too_old, expired, too_new
        How many are not, and why.
    """

    first: int
    last: int
    rejected: dict[str, int] | None
    too_old: int
    expired: int
    too_new: int


def check_events(
    events: object, now_ms: int, retention_ms: int | None, retention_index: RetentionIndex
) -> tuple[list[dict[str, Any]], Verdict]:
    """Return the events of a call of PutLogEvents, and which of them are taken.

    Parameters
    ----------
    events
        `logEvents` of the call.
    now_ms
        The time, by the clock of CloudWatch Logs.
    retention_ms
        Of the group; None if it keeps events for ever.
    retention_index
        The index that ends the events that are older than the retention: the documentation does not say which.

    Raises
    ------
    CallError
        If the call is refused as a whole. Then nothing is stored.
    """
    checked = _check_form(events)
    stamps = [event["timestamp"] for event in checked]
    if any(later < earlier for earlier, later in itertools.pairwise(stamps)):
        raise CallError("InvalidParameterException", "Log events in a single PutLogEvents request must be in order.")
    too_old = _count_before(stamps, now_ms - MAX_AGE_MS)
    expired = 0 if retention_ms is None else _count_before(stamps, now_ms - retention_ms)
    first = max(too_old, expired)
    last = max(first, len(stamps) - sum(stamp > now_ms + MAX_AHEAD_MS for stamp in stamps))
    if last > first and stamps[last - 1] - stamps[first] > MAX_SPAN_MS:
        raise CallError("InvalidParameterException", "The batch of log events spans more than 24 hours.")
    rejected: dict[str, int] = {}
    if too_old:
        rejected["tooOldLogEventEndIndex"] = too_old
    if expired > too_old:
        rejected[retention_index] = expired
    if last < len(stamps):
        rejected["tooNewLogEventStartIndex"] = last
    return checked, Verdict(first, last, rejected or None, too_old, first - too_old, len(stamps) - last)


def _check_form(events: object) -> list[dict[str, Any]]:
    if not isinstance(events, list) or not 1 <= len(events) <= MAX_CALL_EVENTS:
        raise CallError("InvalidParameterException", f"logEvents must have 1 to {MAX_CALL_EVENTS} members")
    call_bytes = 0
    for event in events:
        if not isinstance(event, dict) or not isinstance(event.get("message"), str) or not event["message"]:
            raise CallError("InvalidParameterException", "an event has no message, or an empty one")
        stamp = event.get("timestamp")
        if type(stamp) is not int or stamp < 0:
            raise CallError("InvalidParameterException", "an event's timestamp is not a whole number from 0 on")
        message_bytes = len(event["message"].encode())
        if message_bytes > MAX_EVENT_BYTES:
            message = f"Log event too large: {message_bytes} bytes exceeds limit of {MAX_EVENT_BYTES}"
            raise CallError("InvalidParameterException", message)
        call_bytes += message_bytes + EVENT_OVERHEAD_BYTES
    if call_bytes > MAX_CALL_BYTES:
        message = f"Upload too large: {call_bytes} bytes exceeds limit of {MAX_CALL_BYTES}"
        raise CallError("InvalidParameterException", message)
    return events


def _count_before(stamps: Sequence[int], bound_ms: int) -> int:
    return sum(stamp < bound_ms for stamp in stamps)
