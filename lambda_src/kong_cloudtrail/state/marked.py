"""What is marked as delivered, as the evidence for a destination that cannot be asked what it holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from ..domain.entry import Entry
from ..domain.tally import identity_of
from ..domain.window import Window
from ..ports import Basis, Consent, SeenSet


class MarkedEntries:
    """Implements `ports.Inventory` by marks: an entry that is marked was confirmed, or is in quarantine.

    Parameters
    ----------
    seen
        The marks of the trail.
    """

    basis = Basis.MARKS
    grain_seconds = 1

    def __init__(self, seen: SeenSet) -> None:
        self._seen = seen

    def needs_consent(self, window: Window) -> Consent | None:
        """Return ``None``: the cache is our own."""

    def begin(self, window: Window) -> None:
        """Do nothing."""

    def identify(self, entry: Entry) -> tuple[bytes, str]:
        """Return the digest of an entry's key, and the key."""
        return identity_of(entry.key), entry.key

    def held(self, window: Window) -> Iterator[Sequence[bytes]]:
        """Return nothing: marks have no request time."""
        return iter(())

    def held_of(self, entries: Sequence[Entry]) -> Iterator[Sequence[bytes]]:
        """Return the digests of those that are marked. Raises `StateError`."""
        marked = self._seen.seen(entries)
        yield [identity_of(key) for key in {entry.key for entry in entries} & marked]

    def held_without_time(self) -> Iterator[Sequence[bytes]]:
        """Return nothing."""
        return iter(())

    def names(self, window: Window, identities: Collection[bytes]) -> Mapping[bytes, str]:
        """Return nothing: only entries that the source shows are known."""
        return {}

    def bytes_scanned(self) -> int | None:
        """Return ``None``."""
