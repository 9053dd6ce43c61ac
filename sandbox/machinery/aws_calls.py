"""What the emulators of AWS services share: how a call is refused, and how often one may be made."""

from __future__ import annotations

import threading


class CallError(Exception):
    """The call is refused with this error code and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class Throttle:
    """Refuses calls that come too fast.

    Attributes
    ----------
    calls_per_second
        How many may be made in any second; 0 refuses all, None none.
    """

    def __init__(self, calls_per_second: float | None) -> None:
        self.calls_per_second = calls_per_second
        self._recent: list[float] = []
        self._lock = threading.Lock()

    def admit(self, now: float) -> None:
        """Count a call, or raise the `CallError` that refuses it."""
        if self.calls_per_second is None:
            return
        with self._lock:
            self._recent = [moment for moment in self._recent if moment > now - 1]
            if len(self._recent) < self.calls_per_second:
                self._recent.append(now)
                return
        self.refuse()

    def refuse(self) -> None:
        """Refuse a call, however few there were."""
        raise CallError("ThrottlingException", "Rate exceeded")
