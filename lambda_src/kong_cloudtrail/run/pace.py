"""How much may be in flight at once: calls, adapted to what the service accepts, and batches, by size."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

POLL_SECONDS = 0.05
"""How often a waiting thread checks whether to stop waiting."""


class Pace:
    """Lanes for calls: one until the service has accepted something, then all, and fewer when throttled.

    Throttling halves the lanes, and each round of successes adds one. TCP shares a line by the same rule, and for the
    same reason: a service's quota is shared with others in the account and region.

    Parameters
    ----------
    lanes
        Calls in flight at once, at most.
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
        """Open all lanes: the service has accepted something."""
        if not self._proven:
            with self._changed:
                self._proven = True
                self._changed.notify_all()

    def slow_down(self) -> None:
        """Close half of the lanes; one always stays open."""
        with self._changed:
            self._open = max(1.0, self._open / 2)

    def speed_up(self) -> None:
        """Note a success. As many successes as there are open lanes open one more."""
        with self._changed:
            before = int(self._open)
            self._open = min(float(self._lanes), self._open + 1 / self._open)
            self._changed.notify(int(self._open) - before)

    def end(self) -> None:
        """Let all waiting threads pass."""
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
    """The right to make a call. A context manager that gives it back on exit."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._taken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def take(self) -> None:
        """Wait for a lane, unless this one is taken already. Does not wait once the pace has ended."""
        if not self._taken:
            self._pace._enter()
            self._taken = True

    def leave(self) -> None:
        """Give the lane back if it is taken."""
        if self._taken:
            self._taken = False
            self._pace._leave()


class Places:
    """Room for batches that are in flight or waiting: bounds their number and the bytes that wait with them.

    Parameters
    ----------
    count
        Batches at most.
    waiting_bytes
        Bytes that wait with them at most. A single batch is admitted whatever its size.
    """

    def __init__(self, count: int, waiting_bytes: int) -> None:
        self._free_count = self._count = count
        self._free_bytes = waiting_bytes
        self._changed = threading.Condition()

    def take(self, waiting_bytes: int, *, unless: Callable[[], bool]) -> bool:
        """Wait until there is room, and take it.

        Parameters
        ----------
        waiting_bytes
            Bytes of the batch that wait in memory.
        unless
            Called repeatedly while there is no room; returns whether to stop waiting.

        Returns
        -------
        bool
            Whether there was room.
        """
        while not self._wait_for_room(waiting_bytes):
            if unless():
                return False
        return True

    def give_back(self, waiting_bytes: int) -> None:
        """Free the room that a batch took."""
        with self._changed:
            self._free_count += 1
            self._free_bytes += waiting_bytes
            self._changed.notify_all()

    def _wait_for_room(self, waiting_bytes: int) -> bool:
        with self._changed:
            has_room = self._changed.wait_for(
                lambda: self._free_count == self._count or (self._free_count and waiting_bytes <= self._free_bytes),
                POLL_SECONDS,
            )
            if has_room:
                self._free_count -= 1
                self._free_bytes -= waiting_bytes
            return bool(has_room)
