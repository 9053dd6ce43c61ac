"""Which rules make an event of an entry: that depends on its stream, and not on a destination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from . import audit_event, object_event
from .audit_event import AuditEvents
from .entry import Entry
from .gateway import Gateway
from .object_event import ObjectEvents
from .trail import OBJECTS


def uid_of(stream: str) -> Callable[[Entry], str]:
    """Return what tells the ``UID`` of the events of a stream."""
    return object_event.uid_of if stream == OBJECTS else audit_event.uid_of


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
