"""What the emulator of CloudWatch Logs keeps: stored events, and calls."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StoredEvent:
    """An event that a log stream holds.

    Parameters
    ----------
    stream
        Name of the log stream.
    message
        As in the request.
    timestamp
        Of the event, milliseconds since 1970.
    ingestion_time
        When it was stored, by the clock of CloudWatch Logs, milliseconds since 1970.
    call_number
        Of the call that brought it, counted from 1.
    """

    stream: str
    message: str
    timestamp: int
    ingestion_time: int
    call_number: int

    @property
    def event(self) -> dict[str, Any]:
        """The message, parsed."""
        parsed: dict[str, Any] = json.loads(self.message)
        return parsed

    @property
    def uid(self) -> str:
        """The event's `UID`; of an event of OCSF, the `uid` of its request."""
        return uid_of(self.message)


def uid_of(message: str) -> str:
    """Return what identifies the event of a message; "" if it is not an event of ours."""
    try:
        event = json.loads(message)
    except ValueError:
        return ""
    if not isinstance(event, dict):
        return ""
    return str(event.get("UID") or event.get("api", {}).get("request", {}).get("uid", ""))


@dataclass(frozen=True)
class LogsCall:
    """One call, as CloudWatch Logs saw it end.

    Parameters
    ----------
    number
        Counted from 1.
    action
        Such as `PutLogEvents`; "" if a fault kept the call from being read.
    received_at
        Unix time in seconds.
    body_bytes
        Of the request, as sent.
    entries, stored
        How many events were in it, and were stored. Both are 0 in a call that was refused as a whole.
    too_old, expired, too_new
        How many were refused because of the 14 days, the group's retention, and the two hours.
    error_code
        Why the call was refused as a whole, or the kind of the fault that kept it from CloudWatch Logs; None otherwise.
    """

    number: int
    action: str
    received_at: float
    body_bytes: int
    entries: int = 0
    stored: int = 0
    too_old: int = 0
    expired: int = 0
    too_new: int = 0
    error_code: str | None = None
