"""Packing events into the batches that one PutAuditEvents call takes."""

from __future__ import annotations

from ...domain.event import Batch, Event
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
        """Put an event in; return the batch that it filled, or that had to be closed before it, if any."""
        size_bytes = element_bytes(event)
        closed = None if self._put(event, size_bytes) else self.flush()
        if closed is not None:
            self._put(event, size_bytes)
        return closed or (self.flush() if len(self._events) == MAX_BATCH_EVENTS else None)

    def flush(self) -> Batch | None:
        """Return what is left, if anything."""
        batch = Batch(self._events, self._original_bytes) if self._events else None
        self._begin()
        return batch

    def _begin(self) -> None:
        self._events: list[Event] = []
        self._ids: set[str] = set()
        self._body_bytes = _ENVELOPE_BYTES
        self._original_bytes = 0

    def _put(self, event: Event, size_bytes: int) -> bool:
        """Put an event in if it fits; an empty batch takes any."""
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
