"""Comparing what a source shows with what a destination holds: a million entries in some 50 MB.

An entry is compared by a digest of its identity. Digests are kept in buckets by their first byte, as bytes one after
the other, and only one bucket at a time is compared.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

IDENTITY_BYTES = 16
NAME_BYTES = 8

_BUCKETS = 256
_RECORD = struct.Struct(f"<{IDENTITY_BYTES}s{NAME_BYTES}sq?")


def identity_of(text: str) -> bytes:
    """Return the digest of what an entry is compared by."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=IDENTITY_BYTES).digest()


def name_digest(name: str) -> bytes:
    """Return a digest that tells entries of the same identity apart."""
    return hashlib.blake2b(name.encode("ascii"), digest_size=NAME_BYTES).digest()


@dataclass(frozen=True, slots=True)
class ShownEntry:
    """An entry that the source showed.

    Parameters
    ----------
    identity
        Digest of what it is compared by.
    name
        `name_digest` of what tells it apart from others of the same identity.
    second
        Its request time, Unix seconds; negative if it has none.
    is_excluded
        Whether a rule leaves it out.
    """

    identity: bytes
    name: bytes
    second: int
    is_excluded: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """Entries of one identity of which the source and the destination have different numbers.

    Parameters
    ----------
    identity
        The identity.
    shown
        What the source showed, each entry once.
    copies
        How many the destination holds.
    """

    identity: bytes
    shown: tuple[ShownEntry, ...]
    copies: int


class Tally:
    """What a source shows, and what a destination holds, of one slice of time."""

    def __init__(self) -> None:
        self._shown = [bytearray() for _ in range(_BUCKETS)]
        self._held = [bytearray() for _ in range(_BUCKETS)]
        self.records = 0
        """Records that the source showed, an entry that was shown twice counted twice."""

    def show(self, identity: bytes, name: bytes, second: int | None, *, is_excluded: bool = False) -> None:
        """Add an entry that the source shows. To show it twice is to show it once."""
        self._shown[identity[0]] += _RECORD.pack(identity, name, -1 if second is None else second, is_excluded)
        self.records += 1

    def hold(self, identities: Iterable[bytes]) -> None:
        """Add what the destination holds, each copy once."""
        held = self._held
        for identity in identities:
            held[identity[0]] += identity

    def compare(self) -> Iterator[tuple[int, list[Difference]]]:
        """Compare, bucket by bucket.

        Yields
        ------
        tuple
            The number of different entries that the source showed, and every difference.
        """
        for shown, held in zip(self._shown, self._held, strict=True):
            yield _compare(shown, held)


def _compare(shown: bytearray, held: bytearray) -> tuple[int, list[Difference]]:
    records = set(_RECORD.iter_unpack(shown))
    copies = Counter(one for (one,) in struct.iter_unpack(f"{IDENTITY_BYTES}s", held))
    expected = Counter(identity for identity, *_ in records)
    if copies == expected:
        return len(records), []
    differing = {identity for identity in copies.keys() | expected.keys() if copies[identity] != expected[identity]}
    found: dict[bytes, list[ShownEntry]] = {identity: [] for identity in differing}
    for record in records:
        if record[0] in differing:
            found[record[0]].append(ShownEntry(*record))
    return len(records), [Difference(one, tuple(found[one]), copies[one]) for one in sorted(differing)]
