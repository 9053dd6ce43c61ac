"""Packing events into batches within the limits of a PutLogEvents call."""

from __future__ import annotations

from ...domain.event import Batch, Event
from .dating import Dating
from .limits import (
    DAY_SECONDS,
    EVENT_OVERHEAD_BYTES,
    MAX_BATCH_EVENTS,
    MAX_BATCH_ORIGINAL_BYTES,
    MAX_CALL_BYTES,
    PACKING_MARGIN_SECONDS,
)

_UNDATED = -1
"""In place of a day, for events that get the time at which they are sent."""


class _Open:
    """A batch that takes more events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._ids: set[str] = set()
        self._size_bytes = 0
        self._original_bytes = 0

    def put(self, event: Event) -> bool:
        """Add an event if it fits. An empty batch takes any event."""
        size_bytes = len(event.data) + EVENT_OVERHEAD_BYTES
        if self.events and (
            self._size_bytes + size_bytes > MAX_CALL_BYTES
            or event.id in self._ids
            or self._original_bytes + event.original_bytes > MAX_BATCH_ORIGINAL_BYTES
        ):
            return False
        self.events.append(event)
        self._ids.add(event.id)
        self._size_bytes += size_bytes
        self._original_bytes += event.original_bytes
        return True

    def close(self) -> Batch:
        return Batch(self.events, self._size_bytes + self._original_bytes)


class Packer:
    """Packs events, those of each day apart: a call must not span more than 24 hours.

    Each batch has at most `MAX_BATCH_EVENTS` and `MAX_CALL_BYTES`, and no id twice. Events that get the time at which
    they are sent have batches of their own.

    Parameters
    ----------
    dating
        Which events these are.

    Examples
    --------
    >>> Packer(Dating(None)).flush() is None
    True
    """

    def __init__(self, dating: Dating) -> None:
        self._dating = dating
        self._open: dict[int, _Open] = {}

    def add(self, event: Event) -> Batch | None:
        """Add an event; return the batch that it completes, or the one that it no longer fits into, if any."""
        timestamp = event.entry.timestamp
        fits = self._dating.fits(timestamp, PACKING_MARGIN_SECONDS)
        day = timestamp // DAY_SECONDS if fits and timestamp is not None else _UNDATED
        batch = self._open.setdefault(day, _Open())
        closed: Batch | None = None
        if not batch.put(event):
            closed = batch.close()
            batch = self._open[day] = _Open()
            batch.put(event)
        elif len(batch.events) == MAX_BATCH_EVENTS:
            closed = self._open.pop(day).close()
        return closed

    def flush(self) -> Batch | None:
        """Return one of the batches that are not complete, the oldest day first; ``None`` if there are no more."""
        return self._open.pop(min(self._open)).close() if self._open else None
