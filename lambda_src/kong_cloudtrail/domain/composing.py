"""Which rules make an event of an entry: that depends on its stream, and not on a destination."""

from __future__ import annotations

from typing import Any, Protocol

from .audit_event import AuditEvents
from .entry import Entry
from .gateway import Gateway
from .object_event import ObjectEvents
from .trail import OBJECTS


class Composer(Protocol):
    """Composes events from the entries of one stream of one gateway."""

    def compose(self, entry: Entry) -> dict[str, Any]:
        """Return the event of an entry. Raises `EntryNotMappable`."""


def composer_of(
    stream: str, gateway: Gateway, recipient_account_id: str | None, *, map_status_to_error_code: bool = False
) -> Composer:
    """Return what composes the events of a stream; see `AuditEvents` and `ObjectEvents`."""
    if stream == OBJECTS:
        return ObjectEvents(gateway, recipient_account_id)
    return AuditEvents(gateway, recipient_account_id, map_status_to_error_code=map_status_to_error_code)
