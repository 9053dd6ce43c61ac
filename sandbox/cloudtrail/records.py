"""What the emulator of CloudTrail keeps: accepted events, calls, and the rules for entries that must fail."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AcceptedEvent:
    """An event that CloudTrail has: what was sent, and what it got.

    Parameters
    ----------
    id, event_data
        As in the request.
    event_id
        Assigned by CloudTrail.
    call_number
        Of the call that brought it, counted from 1.
    received_at
        Unix time in seconds.
    """

    id: str
    event_data: str
    event_id: str
    call_number: int
    received_at: float

    @property
    def event(self) -> dict[str, Any]:
        """The event, parsed."""
        parsed: dict[str, Any] = json.loads(self.event_data)
        return parsed

    @property
    def uid(self) -> str:
        """The event's `UID`."""
        uid: str = self.event["UID"]
        return uid


@dataclass(frozen=True)
class RefusedEvent:
    """A refusal of a single entry.

    Parameters
    ----------
    id
        As in the request.
    code
        The error code that it got.
    call_number
        Of the call, counted from 1.
    """

    id: str
    code: str
    call_number: int


@dataclass(frozen=True)
class PutCall:
    """One call, as CloudTrail saw it end.

    Parameters
    ----------
    number
        Counted from 1.
    received_at
        Unix time in seconds.
    body_bytes
        Of the request, as sent.
    entries, accepted
        How many were in it, and were accepted. Both are 0 in a call that was refused as a whole.
    failed
        How many entries were refused, by error code.
    error_code
        Why the call was refused as a whole, or the kind of the fault that kept it from CloudTrail; None otherwise.
    """

    number: int
    received_at: float
    body_bytes: int
    entries: int
    accepted: int
    failed: dict[str, int]
    error_code: str | None


@dataclass
class EntryFault:
    """A rule that refuses entries; see `CloudTrailEmulator.fail_entries`."""

    code: str
    ids: frozenset[str] | None
    uid_pattern: re.Pattern[str] | None
    predicate: Callable[[dict[str, Any]], bool] | None
    times_left: int | None
    times_per_entry: int | None = None
    hit: Counter[str] = field(default_factory=Counter)
    """How often each entry was hit, if that matters."""

    def hits(self, entry_id: str, event_data: str) -> bool:
        """Return whether this entry gets the error, and count it if so."""
        if not self._concerns(entry_id, event_data):
            return False
        if self.times_left is not None:
            self.times_left -= 1
        if self.times_per_entry is not None:
            self.hit[entry_id] += 1
        return True

    def _concerns(self, entry_id: str, event_data: str) -> bool:
        if self.times_left == 0 or (self.ids is not None and entry_id not in self.ids):
            return False
        if self.times_per_entry is not None and self.hit[entry_id] >= self.times_per_entry:
            return False
        if self.uid_pattern is not None or self.predicate is not None:
            event = json.loads(event_data)
            if self.uid_pattern is not None and not self.uid_pattern.search(event["UID"]):
                return False
            if self.predicate is not None and not self.predicate(event):
                return False
        return True
