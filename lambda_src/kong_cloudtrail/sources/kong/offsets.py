"""Kong's offsets as positions in Kong's order: the only way to pass a row on a gateway without filters.

An offset is unpadded base64 of a JSON array that contains the key of the last row shown. This much is public, but the
layout of the array is not. So an offset is only changed if the last row's own values are found in it.
"""

from __future__ import annotations

import base64
import binascii
import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

NO_TIME = 0
"""Stands for the request time of rows that have none."""

_CASELESS = string.digits + string.ascii_lowercase
_CASED = string.digits + string.ascii_uppercase + string.ascii_lowercase


@dataclass(frozen=True, slots=True)
class Cursor:
    """An offset whose position of the request id is known, and of the request time if the order is by time.

    Parameters
    ----------
    elements
        The array.
    id_at, time_at
        Indexes of the id and the time; ``None`` if there is no time.
    """

    elements: tuple[object, ...]
    id_at: int
    time_at: int | None

    @classmethod
    def read(cls, offset: str, request_id: str, request_time: int) -> Cursor | None:
        """Read the offset that came with a page whose last row is known; ``None`` if it is not understood."""
        if request_time <= 1 and request_time != NO_TIME:  # other elements may have the same value
            return None
        elements = _elements(offset)
        ids = [place for place, element in enumerate(elements) if element == request_id]
        times = [
            place
            for place, element in enumerate(elements)
            if isinstance(element, int | float) and abs(element) == request_time != NO_TIME
        ]
        if len(ids) != 1 or len(times) > 1:
            return None
        return cls(tuple(elements), ids[0], times[0] if times else None)

    @classmethod
    def restore(cls, saved: object) -> Cursor | None:
        """Return what `save` saved; ``None`` for anything else."""
        match saved:
            case [str(offset), int(id_at), int() | None as time_at]:
                elements = tuple(_elements(offset))
                if max(id_at, time_at or 0) < len(elements):
                    return cls(elements, id_at, time_at)
        return None

    def is_laid_out_like(self, other: Cursor) -> bool:
        """Return whether both offsets have the same layout: a different order has different keys."""
        return (self.id_at, self.time_at, len(self.elements)) == (other.id_at, other.time_at, len(other.elements))

    def may_be_laid_out_like(self, other: Cursor) -> bool:
        """Return whether both have the same layout, as far as it shows if this one is of a row without a time."""
        return self.time_at is None and (self.id_at, len(self.elements)) == (other.id_at, len(other.elements))

    def save(self) -> list[object]:
        """Return the cursor as JSON."""
        return [_offset(self.elements), self.id_at, self.time_at]

    def id_in(self, offset: str) -> str | None:
        """Return the request id in another offset of the same gateway."""
        return next((part for part in _elements(offset)[self.id_at :][:1] if isinstance(part, str)), None)

    def time_in(self, offset: str) -> int | None:
        """Return the request time in another offset of the same gateway."""
        if self.time_at is None:
            return None
        part = next(iter(_elements(offset)[self.time_at :]), None)
        return abs(int(part)) if isinstance(part, int | float) else None

    def at(self, request_id: str, request_time: int | None = None) -> str:
        """Return the offset after the row with this id, and with this time if the order is by time."""
        elements = list(self.elements)
        elements[self.id_at] = request_id
        if self.time_at is not None and request_time is not None:
            known = elements[self.time_at]
            falls = isinstance(known, int | float) and known < 0  # negative, so that it ascends like the id
            elements[self.time_at] = -request_time if falls else request_time
        return _offset(elements)


def _elements(offset: str) -> list[object]:
    """Return the array in an offset; empty if there is none."""
    try:
        elements = json.loads(base64.b64decode(offset + "=" * (-len(offset) % 4), validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return []
    return elements if isinstance(elements, list) else []


def _offset(elements: Sequence[object]) -> str:
    text = json.dumps(list(elements), separators=(",", ":"))
    return base64.b64encode(text.encode()).decode().rstrip("=")


class IdSpace:
    """Request ids of one shape as numbers, in the order of the database.

    Parameters
    ----------
    shape
        An example id. Other ids have letters or digits at the same places, and the same characters elsewhere.
    alphabet
        The letters and digits, in order.
    """

    def __init__(self, shape: str, alphabet: str) -> None:
        self._shape = shape
        self._alphabet = alphabet
        self._places = [place for place, character in enumerate(shape) if character.isascii() and character.isalnum()]
        self.largest = len(alphabet) ** len(self._places) - 1

    @classmethod
    def of(cls, ids: Sequence[str], pairs: Sequence[tuple[str, str]]) -> IdSpace | None:
        """Find out the order from ids that Kong has shown; return ``None`` if it is not understood.

        Parameters
        ----------
        ids
            Ids, the last one shown at the end.
        pairs
            Pairs of ids in which only the id decides that the first one comes first.
        """
        if not ids or not any(character.isalnum() for character in ids[-1]):
            return None
        if not any(character.isupper() for request_id in ids for character in request_id):
            return cls(ids[-1], _CASELESS)
        if all(first < second for first, second in pairs):  # byte by byte, as in the locale "C"
            return cls(ids[-1], _CASED)
        if all(first.casefold() < second.casefold() for first, second in pairs):  # as in most other locales
            return cls(ids[-1], _CASELESS)
        return None

    def number(self, request_id: str) -> int | None:
        """Return the number of an id; ``None`` if the id has another shape."""
        if len(request_id) != len(self._shape):
            return None
        if self._alphabet == _CASELESS:
            request_id = request_id.casefold()
        number = 0
        for place in self._places:
            digit = self._alphabet.find(request_id[place])
            if digit < 0:
                return None
            number = number * len(self._alphabet) + digit
        return number

    def id(self, number: int) -> str:
        """Return the id of a number."""
        characters = list(self._shape)
        for place in reversed(self._places):
            number, digit = divmod(number, len(self._alphabet))
            characters[place] = self._alphabet[digit]
        return "".join(characters)

    def spacing(self, ids: Sequence[str]) -> int | None:
        """Return the smallest distance between ids that Kong has shown; ``None`` if there are too few to compare."""
        numbers = sorted({number for number in map(self.number, ids) if number is not None})
        return min((second - first for first, second in pairwise(numbers)), default=None)
