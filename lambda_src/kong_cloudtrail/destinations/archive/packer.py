"""Packing lines into batches, each of one hour: a batch becomes a part."""

from __future__ import annotations

from ...domain.event import Batch, Event
from .part_log import hour_of

MAX_OPEN_BYTES = 16 * 2**20
"""Size of the lines that wait for more of their hours, all hours together, and so of the largest part, uncompressed. A
single longer line is allowed."""


class _Open:
    """A batch that takes more events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ids: set[str] = set()
        self.size_bytes = 0

    def add(self, event: Event) -> None:
        self.events.append(event)
        self.ids.add(event.id)
        self.size_bytes += len(event.data)


class Packer:
    """Packs events by hour. A batch has no id twice.

    An hour's batch stays open until `flush`, so that an hour gets few parts. If all open batches together exceed
    `MAX_OPEN_BYTES`, the largest is closed.

    Examples
    --------
    >>> Packer().flush() is None
    True
    """

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._open_bytes = 0

    def add(self, event: Event) -> Batch | None:
        """Add an event; return the batch that is closed for it, if any."""
        hour = hour_of(event.entry)
        batch = self._open.setdefault(hour, _Open())
        closed = self._close(hour) if event.id in batch.ids else None
        self._open.setdefault(hour, batch if closed is None else _Open()).add(event)
        self._open_bytes += len(event.data)
        if closed is None and self._open_bytes > MAX_OPEN_BYTES:
            return self._close(max(self._open, key=lambda name: self._open[name].size_bytes))
        return closed

    def flush(self) -> Batch | None:
        """Return one of the open batches, the oldest hour first; ``None`` if there are no more."""
        return self._close(min(self._open)) if self._open else None

    def _close(self, hour: str) -> Batch:
        batch = self._open.pop(hour)
        self._open_bytes -= batch.size_bytes
        return Batch(batch.events, batch.size_bytes)
