"""How much may be under way at once: calls, adapted to what the service takes, and batches, by what they weigh."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Lanes for calls: all of them while it goes well, fewer when throttled.

    Half as many after a throttling, one more for each round of successes: the rule by which TCP shares a line, and for
    the same reason, as the quota of 100 calls a second is shared with others in the account and region.

    Parameters
    ----------
    lanes
        Calls under way at once, at most.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._open = float(lanes)
        self._busy = 0
        self._changed = threading.Condition()

    @contextmanager
    def lane(self) -> Iterator[None]:
        """Wait for a lane and hold it."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy < int(self._open))
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def slow_down(self) -> None:
        """Close half of the lanes; one always stays open."""
        with self._changed:
            self._open = max(1.0, self._open / 2)

    def speed_up(self) -> None:
        """Open a part of a lane: as many successes as there are open lanes open one more."""
        with self._changed:
            self._open = min(float(self._lanes), self._open + 1 / self._open)
            self._changed.notify_all()


class Places:
    """Room for batches that are under way or wait for it: a number of them, and bytes behind them.

    Parameters
    ----------
    count
        Batches at most.
    original_bytes
        Bytes of their originals at most; a single batch is let in whatever it weighs.
    """

    def __init__(self, count: int, original_bytes: int) -> None:
        self._free_count = self._count = count
        self._free_bytes = original_bytes
        self._changed = threading.Condition()

    def take(self, original_bytes: int) -> None:
        """Wait until there is room, and take it."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._free_count == self._count or (self._free_count and original_bytes <= self._free_bytes)
            )
            self._free_count -= 1
            self._free_bytes -= original_bytes

    def give_back(self, original_bytes: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._free_count += 1
            self._free_bytes += original_bytes
            self._changed.notify_all()
