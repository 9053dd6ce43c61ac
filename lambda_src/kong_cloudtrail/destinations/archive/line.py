"""How an entry becomes a line of the archive. docs/field-mapping.md shows one."""

from __future__ import annotations

from typing import Any

from ...domain.composing import composer_of
from ...domain.entry import Entry
from ...domain.event import Event
from ...domain.gateway import Gateway
from ...domain.jsontext import encode, readable
from ...domain.moment import utc
from ...errors import EntryNotMappable

SCHEMA_VERSION = 1
"""Changes when a field of a line changes its name or meaning."""


class LineMapper:
    """Maps the entries of one gateway to lines. There is a line for every entry, however odd.

    Parameters
    ----------
    gateway
        Where the entries come from.
    source, stream
        The names of the trail.
    recipient_account_id
        The AWS account of the archive; ``None`` if it is in none.
    map_status_to_error_code
        As in `AuditEvents`.
    """

    def __init__(
        self,
        gateway: Gateway,
        source: str,
        stream: str,
        *,
        recipient_account_id: str | None = None,
        map_status_to_error_code: bool = False,
    ) -> None:
        self._events = composer_of(
            stream, gateway, recipient_account_id, map_status_to_error_code=map_status_to_error_code
        )
        self._names = {"source": source, "stream": stream, "schemaVersion": SCHEMA_VERSION}

    def map(self, entry: Entry) -> Event:
        """Return the line of an entry, without a line break. Never raises `EntryNotMappable`.

        An entry that is no event keeps its line: with the reason in ``notMappable``, and of the event's fields only
        ``eventTime``.
        """
        # The key comes first: the part log reads it without parsing the line.
        line: dict[str, Any] = {"key": entry.key, **self._names}
        try:
            line |= self._events.compose(entry)
        except EntryNotMappable as reason:
            line["eventTime"] = None if entry.timestamp is None else utc(entry.timestamp)
            line["notMappable"] = str(reason)
        line["entry"] = entry.value
        return Event(entry, readable(encode(line), entry.value, end="}"))
