"""One record of a gateway's audit log, and what identifies it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .jsontext import encode

MAX_RETENTION_SECONDS = 10 * 365 * 86_400
"""No gateway keeps entries for longer: greater values are not believed."""

LATEST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z in Unix seconds, the last moment that has a year of four digits."""

_MAX_TIMESTAMP_DIGITS = 12  # the year 9999 has 12


@dataclass(frozen=True, slots=True)
class Context:
    """What a source knew about an entry beside the entry itself, when it was read.

    The next reading may know more or less. So nothing that identifies an entry, and nothing that says where it is kept,
    depends on it.

    Parameters
    ----------
    read_at
        When the entry was read, Unix seconds.
    request
        The entry of the request that caused this one, without its payload; ``None`` if it was not at hand.
    """

    read_at: int
    request: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as the source showed it.

    Parameters
    ----------
    value
        The parsed JSON, normally an object. Whatever a source shows is an entry, however odd.
    id
        Identifies the entry in calls, events and object names: 1 to 128 letters, digits, ``-`` and ``_``.
    key
        Identifies the entry in the seen set: `id` and a fingerprint of the content. So two entries with the same id and
        different content are two entries.
    timestamp
        When the request was made, Unix seconds; ``None`` if the entry does not say.
    remaining_seconds
        For how long the source will still show the entry.
    context
        What else was known; ``None`` for entries that say everything themselves.
    """

    value: Any
    id: str
    key: str
    timestamp: int | None
    remaining_seconds: int
    context: Context | None = None

    def original(self) -> bytes:
        """Return the whole entry as JSON, as the ledger keeps it if the event is shortened."""
        return encode(self.value).encode("ascii")


def whole_seconds(value: object) -> int | None:
    """Return Unix seconds without their fraction.

    Returns
    -------
    int or None
        ``None`` for anything but a number, or a number as text, between the years 1970 and 9999. Other values must not
        become bounds of a window.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_TIMESTAMP_DIGITS:
        value = int(value)
    elif isinstance(value, float) and math.isfinite(value):
        value = math.floor(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= LATEST_SECOND else None
