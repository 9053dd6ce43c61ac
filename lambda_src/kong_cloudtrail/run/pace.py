"""How much may be under way at once: calls, adapted to what the service takes, and batches, by what they weigh."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

POLL_SECONDS = 0.05
"""How often whoever waits for somebody else looks whether it is still worth it."""


class Pace:
    """Lanes for calls: one until the service has accepted something, then all, and fewer when throttled.

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
        self._proven = False
        self._ended = False
        self._busy = 0
        self._changed = threading.Condition()

    def lane(self) -> Lane:
        """Return a lane that is not taken yet."""
        return Lane(self)

    def prove(self) -> None:
        """Open all lanes: the service accepts what it gets, and says so."""
        if not self._proven:
            with self._changed:
                self._proven = True
                self._changed.notify_all()

    def slow_down(self) -> None:
        """Close half of the lanes; one always stays open."""
        with self._changed:
            self._open = max(1.0, self._open / 2)

    def speed_up(self) -> None:
        """Open a part of a lane: as many successes as there are open lanes open one more."""
        with self._changed:
            before = int(self._open)
            self._open = min(float(self._lanes), self._open + 1 / self._open)
            self._changed.notify(int(self._open) - before)

    def end(self) -> None:
        """Let nobody wait for a lane any more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _enter(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._busy < (int(self._open) if self._proven else 1))
            self._busy += 1

    def _leave(self) -> None:
        with self._changed:
            self._busy -= 1
            self._changed.notify()


class Lane:
    """The right to have a call under way. A context manager that gives it back at its end."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._taken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def take(self) -> None:
        """Wait for a lane, unless this one is taken already; once the pace has ended, there is no wait."""
        if not self._taken:
            self._pace._enter()
            self._taken = True

    def leave(self) -> None:
        """Give the lane back if it is taken."""
        if self._taken:
            self._taken = False
            self._pace._leave()


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

    def take(self, original_bytes: int, *, unless: Callable[[], bool]) -> bool:
        """Wait until there is room, and take it.

        Parameters
        ----------
        original_bytes
            Bytes behind the batch.
        unless
            Asked now and then while there is none: whether to wait no longer.

        Returns
        -------
        bool
            Whether there was room.
        """
        while not self._wait_for_room(original_bytes):
            if unless():
                return False
        return True

    def give_back(self, original_bytes: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._free_count += 1
            self._free_bytes += original_bytes
            self._changed.notify_all()

    def _wait_for_room(self, original_bytes: int) -> bool:
        with self._changed:
            has_room = self._changed.wait_for(
                lambda: self._free_count == self._count or (self._free_count and original_bytes <= self._free_bytes),
                POLL_SECONDS,
            )
            if has_room:
                self._free_count -= 1
                self._free_bytes -= original_bytes
            return bool(has_room)
