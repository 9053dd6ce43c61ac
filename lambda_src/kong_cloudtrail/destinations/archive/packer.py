"""Packing lines into batches, each of one hour: a batch becomes a part."""

from __future__ import annotations

from collections import OrderedDict

from ...domain.event import Batch, Event
from .part_log import hour_of

MAX_OPEN_BYTES = 16 * 2**20
"""Size of the lines that wait for more of their hours, all hours together, and so of the largest part, uncompressed. A
single longer line is allowed."""


IDLE_EVENTS = 2000
"""An hour that got none of so many events is closed: entries mostly come in order, so nothing more is to be expected,
and its part can be written while others are read."""


class _Open:
    """A batch that takes more events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ids: set[str] = set()
        self.size_bytes = 0
        self.touched_at = 0

    def add(self, event: Event) -> None:
        self.events.append(event)
        self.ids.add(event.id)
        self.size_bytes += len(event.data)


class Packer:
    """Packs events by hour. A batch has no id twice.

    An hour's batch stays open until `flush`, so that an hour gets few parts, unless it gets nothing for `IDLE_EVENTS`.
    If all open batches together exceed `MAX_OPEN_BYTES`, the largest is closed.

    Examples
    --------
    >>> Packer().flush() is None
    True
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Open] = OrderedDict()  # the one that was touched last comes last
        self._open_bytes = 0
        self._events = 0

    def add(self, event: Event) -> Batch | None:
        """Add an event; return the batch that is closed for it, if any."""
        hour = hour_of(event.entry)
        batch = self._open.get(hour)
        closed = self._close(hour) if batch is not None and event.id in batch.ids else None
        if batch is None or closed is not None:
            batch = self._open[hour] = _Open()
        batch.add(event)
        self._events += 1
        batch.touched_at = self._events
        self._open.move_to_end(hour)
        self._open_bytes += len(event.data)
        if closed is None and self._open_bytes > MAX_OPEN_BYTES:
            return self._close(max(self._open, key=lambda name: self._open[name].size_bytes))
        return self._close_idle() if closed is None else closed

    def flush(self) -> Batch | None:
        """Return one of the open batches, the oldest hour first; ``None`` if there are no more."""
        return self._close(min(self._open)) if self._open else None

    def _close_idle(self) -> Batch | None:
        hour, batch = next(iter(self._open.items()))
        return self._close(hour) if self._events - batch.touched_at >= IDLE_EVENTS else None

    def _close(self, hour: str) -> Batch:
        batch = self._open.pop(hour)
        self._open_bytes -= batch.size_bytes
        return Batch(batch.events, batch.size_bytes)
