"""The machine's time, and the names of trails."""

from __future__ import annotations

import math
import time
from functools import partial

from ..domain.trail import Trail
from ..sources import kong


class SystemClock:
    """The machine's time. The monotonic clock includes the time that the machine was suspended, if the system can."""

    now = staticmethod(time.time)
    monotonic = staticmethod(
        partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
    )
    sleep = staticmethod(time.sleep)


class UnlimitedTime:
    """The time budget of a process that nothing limits."""

    def remaining_seconds(self) -> float:
        """Return infinity."""
        return math.inf


def trail_of(source_name: str, destination: str) -> Trail:
    """Return the trail of a source into a destination."""
    return Trail(source_name, kong.REQUESTS, destination)
