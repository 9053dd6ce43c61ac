"""Packing events into batches within the limits of a PutAuditEvents call."""

from __future__ import annotations

from ...domain.event import Batch, Event
from .limits import MAX_BATCH_BYTES, MAX_BATCH_EVENTS

# The request body as botocore serialises it: {"auditEvents": [<element>, <element>]}
_ENVELOPE_BYTES = len('{"auditEvents": []}')
_SEPARATOR_BYTES = len(", ")
_ELEMENT_BYTES = len('{"id": "", "eventData": "", "eventDataChecksum": ""}') + 44  # base64 of a SHA-256


def element_bytes(event: Event) -> int:
    """Return the length of an event within the request body.

    ``eventData`` is JSON within a JSON string, so its quotes and backslashes are escaped once more. It is ASCII without
    control characters, so nothing else is escaped.
    """
    data = event.data
    return _ELEMENT_BYTES + len(event.id) + len(data) + data.count('"') + data.count("\\")


MAX_BATCH_ORIGINAL_BYTES = 8 * 2**20
"""Size of the whole entries behind a batch's shortened events, which wait in memory with it. A single larger one is
allowed."""


class Packer:
    """Packs events in the order in which they come.

    Each batch has at most `MAX_BATCH_EVENTS` and `MAX_BATCH_BYTES`, and no id twice.

    Examples
    --------
    >>> Packer().flush() is None
    True
    """

    def __init__(self) -> None:
        self._begin()

    def add(self, event: Event) -> Batch | None:
        """Add an event; return the batch that it completes, or the one that it no longer fits into, if any."""
        size_bytes = element_bytes(event)
        closed = None if self._put(event, size_bytes) else self.flush()
        if closed is not None:
            self._put(event, size_bytes)
        return closed or (self.flush() if len(self._events) == MAX_BATCH_EVENTS else None)

    def flush(self) -> Batch | None:
        """Return the last batch, if it has events."""
        batch = Batch(self._events, self._original_bytes) if self._events else None
        self._begin()
        return batch

    def _begin(self) -> None:
        self._events: list[Event] = []
        self._ids: set[str] = set()
        self._body_bytes = _ENVELOPE_BYTES
        self._original_bytes = 0

    def _put(self, event: Event, size_bytes: int) -> bool:
        """Add an event if it fits. An empty batch accepts any event."""
        original_bytes = event.original_bytes
        if self._events:
            size_bytes += _SEPARATOR_BYTES
            if (
                self._body_bytes + size_bytes > MAX_BATCH_BYTES
                or len(self._events) >= MAX_BATCH_EVENTS
                or event.id in self._ids
                or self._original_bytes + original_bytes > MAX_BATCH_ORIGINAL_BYTES
            ):
                return False
        self._body_bytes += size_bytes
        self._original_bytes += original_bytes
        self._events.append(event)
        self._ids.add(event.id)
        return True
