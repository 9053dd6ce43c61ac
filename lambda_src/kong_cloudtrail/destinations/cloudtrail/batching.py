"""Packing events into the batches that one PutAuditEvents call takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from .event import Event
from .limits import MAX_BATCH_BYTES, MAX_BATCH_EVENTS

# The request body as botocore serialises it: {"auditEvents": [<element>, <element>]}
_ENVELOPE_BYTES = len('{"auditEvents": []}')
_SEPARATOR_BYTES = len(", ")
_ELEMENT_BYTES = len('{"id": "", "eventData": "", "eventDataChecksum": ""}') + 44  # base64 of a SHA-256


def element_bytes(event: Event) -> int:
    """Return the length of an event within the request body.

    ``eventData`` is JSON within a JSON string, so its quotes and backslashes are escaped once more; being ASCII
    without control characters, nothing else of it is.
    """
    data = event.data
    return _ELEMENT_BYTES + len(event.id) + len(data) + data.count('"') + data.count("\\")


MAX_BATCH_ORIGINAL_BYTES = 8 * 2**20
"""Of whole entries behind the shortened events of a batch, which wait in memory with it. One is always taken."""


@dataclass(slots=True)
class Batch:
    """Events that go into one call: at most `MAX_BATCH_EVENTS`, `MAX_BATCH_BYTES`, no ``id`` twice."""

    events: list[Event] = field(default_factory=list)
    body_bytes: int = _ENVELOPE_BYTES
    original_bytes: int = 0
    ids: set[str] = field(default_factory=set)

    def add(self, event: Event, size_bytes: int) -> bool:
        """Put an event in if it fits; an empty batch takes any."""
        events = self.events
        if events:
            size_bytes += _SEPARATOR_BYTES
            if (
                self.body_bytes + size_bytes > MAX_BATCH_BYTES
                or len(events) >= MAX_BATCH_EVENTS
                or event.id in self.ids
                or self.original_bytes + event.original_bytes > MAX_BATCH_ORIGINAL_BYTES
            ):
                return False
        self.body_bytes += size_bytes
        self.original_bytes += event.original_bytes
        events.append(event)
        self.ids.add(event.id)
        return True


class Batcher:
    """Packs events in the order in which they come.

    Examples
    --------
    >>> batcher = Batcher()
    >>> batcher.flush() is None
    True
    """

    def __init__(self) -> None:
        self._batch = Batch()

    def add(self, event: Event) -> Batch | None:
        """Put an event in; return the batch that it filled, or that had to be closed before it, if any."""
        size_bytes = element_bytes(event)
        closed = None
        if not self._batch.add(event, size_bytes):
            closed = self.flush()
            self._batch.add(event, size_bytes)
        return closed or (self.flush() if len(self._batch.events) == MAX_BATCH_EVENTS else None)

    def flush(self) -> Batch | None:
        """Return what is left, if anything."""
        closed, self._batch = self._batch, Batch()
        return closed if closed.events else None
