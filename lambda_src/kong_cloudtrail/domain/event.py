"""An entry in the form of a destination, and batches of such events."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from .entry import Entry


@dataclass(frozen=True, slots=True)
class Original:
    """A whole entry that the ledger has to keep, because its event is shortened.

    Parameters
    ----------
    entry_id
        Id of the entry.
    body
        The entry as JSON.
    sha256
        SHA-256 of `body`, hexadecimal.
    """

    entry_id: str
    body: bytes
    sha256: str

    @classmethod
    def of(cls, entry: Entry) -> Original:
        """Return the original of an entry."""
        body = entry.original()
        return cls(entry.id, body, hashlib.sha256(body).hexdigest())


@dataclass(frozen=True, slots=True)
class Event:
    """An entry, ready to be delivered.

    Parameters
    ----------
    entry
        The entry that it was mapped from.
    data
        The event as text, ASCII only, in the form of the destination.
    original
        The whole entry, if the event is shortened; otherwise ``None``.
    """

    entry: Entry
    data: str
    original: Original | None = None

    @property
    def id(self) -> str:
        """The entry's id."""
        return self.entry.id

    @property
    def original_bytes(self) -> int:
        """Size of the whole entry if the event is shortened, otherwise 0."""
        return 0 if self.original is None else len(self.original.body)


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that go into one call.

    Parameters
    ----------
    events
        At least one event, and no id twice.
    waiting_bytes
        What waits in memory with the batch and has to be bounded: the whole entries that the ledger has to keep before
        the call; or the events themselves, where a call takes megabytes.
    """

    events: Sequence[Event]
    waiting_bytes: int
