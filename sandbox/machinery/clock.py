"""A clock that a test can stop, move and skew."""

from __future__ import annotations

import time


class Clock:
    """Unix time in seconds: the machine's own until told otherwise."""

    def __init__(self) -> None:
        self._frozen_at: float | None = None
        self._skew_seconds = 0.0

    def now(self) -> float:
        """Return this clock's Unix time in seconds."""
        return (time.time() if self._frozen_at is None else self._frozen_at) + self._skew_seconds

    def set(self, *, frozen_at: float | None = None, skew_seconds: float = 0.0) -> None:
        """Stop the clock at a Unix time, or let it run with the machine's; both moved by `skew_seconds`."""
        self._frozen_at = frozen_at
        self._skew_seconds = skew_seconds

    def advance(self, seconds: float) -> None:
        """Move the clock forward (backward, if negative), running or stopped."""
        self._skew_seconds += seconds
