"""Which time an event has in CloudWatch Logs.

It takes events that are at most 14 days old, younger than the group's retention, and at most two hours ahead. All
others have the time at which they are sent; when the request was made, the event itself says.
"""

from __future__ import annotations

import threading
import time

from .limits import MARGIN_SECONDS, MAX_AGE_SECONDS, MAX_AHEAD_SECONDS


class Dating:
    """Knows which times CloudWatch Logs takes, and learns it where it does not know. Safe to use from several threads.

    Parameters
    ----------
    retention_seconds
        For how long the group keeps events; ``None`` if it keeps them for ever, or if that is unknown.
    """

    def __init__(self, retention_seconds: int | None) -> None:
        self._lock = threading.Lock()
        self._max_age_seconds: float = min(MAX_AGE_SECONDS, retention_seconds or MAX_AGE_SECONDS)
        self._max_ahead_seconds: float = MAX_AHEAD_SECONDS
        self._ahead_seconds = 0.0

    def now(self) -> float:
        """Return the time by the clock of CloudWatch Logs, Unix seconds."""
        return time.time() + self._ahead_seconds

    def fits(self, timestamp: int | None, margin_seconds: float = MARGIN_SECONDS) -> bool:
        """Return whether CloudWatch Logs takes an event with its own time.

        Parameters
        ----------
        timestamp
            The time, Unix seconds; ``None`` if the event has none.
        margin_seconds
            How much earlier it counts as too old or too far ahead.
        """
        if timestamp is None:
            return False
        age_seconds = self.now() - timestamp
        return margin_seconds - self._max_ahead_seconds <= age_seconds <= self._max_age_seconds - margin_seconds

    def note_clock(self, now: float) -> None:
        """Record what time it is to CloudWatch Logs."""
        ahead_seconds = now - time.time()
        if abs(ahead_seconds - self._ahead_seconds) > 2:  # it tells whole seconds
            self._ahead_seconds = ahead_seconds

    def note_too_old(self, timestamp: int) -> None:
        """Record that an event with this time was refused as too old: the group's retention is shorter than known."""
        with self._lock:
            self._max_age_seconds = min(self._max_age_seconds, self.now() - timestamp)

    def note_too_new(self, timestamp: int) -> None:
        """Record that an event with this time was refused as too far ahead."""
        with self._lock:
            self._max_ahead_seconds = min(self._max_ahead_seconds, timestamp - self.now())
