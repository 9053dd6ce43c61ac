"""The machine's time, and the names of trails."""

from __future__ import annotations

import math
import time
from functools import partial

from ..domain.trail import Trail
from ..settings import Settings, StoredTrails


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


def trails_of(settings: Settings | StoredTrails) -> tuple[Trail, ...]:
    """Return the trails: each stream into each destination."""
    return tuple(
        Trail(settings.source_name, stream, destination)
        for stream in settings.streams
        for destination in settings.destinations
    )
