"""What the cache holds, read without the collector's code: its marks are found by the layout that they should have."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Self

_MARK_BYTES = 8
_HOUR_SECONDS = 3600


@dataclass
class Marks:
    """All marks of a trail.

    Parameters
    ----------
    hash_key
        The key of the hash.
    hours
        The marks of each hour, counted from 1970.
    single
        The marks of entries without a time.
    """

    hash_key: bytes
    hours: dict[int, set[bytes]] = field(default_factory=dict)
    single: set[bytes] = field(default_factory=set)

    @classmethod
    def read(cls, client: Any, prefix: str) -> Self:
        """Read them from the cache.

        Parameters
        ----------
        client
            A client that does not decode answers.
        prefix
            What all keys of the trail begin with.
        """
        marks = cls(client.get(f"{prefix}hash-key") or b"")
        pattern = f"{prefix.replace('{', '[{]').replace('}', '[}]')}seen:*"
        for name in client.scan_iter(pattern, count=1000):
            place = name.rpartition(b":")[2].decode()
            if client.type(name) == b"string":
                marks.single.add(bytes.fromhex(place))
                continue
            marks.hours[int(place)] = {
                bucket[begin : begin + _MARK_BYTES]
                for bucket in client.hvals(name)
                if bucket != b"/"
                for begin in range(0, len(bucket), _MARK_BYTES)
            }
        return marks

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.single) + sum(map(len, self.hours.values()))

    def hold(self, key: str, timestamp: int | None) -> bool:
        """Return whether an entry is marked, by its key and its time in Unix seconds."""
        mark = hashlib.blake2b(key.encode(), digest_size=_MARK_BYTES, key=self.hash_key).digest()
        return mark in (self.single if timestamp is None else self.hours.get(timestamp // _HOUR_SECONDS, ()))
