"""Positions in Kong's order, as Kong writes them in an offset: the only way past a row on a gateway without filters.

An offset is unpadded base64 of a JSON array that holds the key of the last row shown. That much is public, and not how
the array is laid out: so an offset is only changed if the last row's own values are found in it.
"""

from __future__ import annotations

import base64
import binascii
import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_CASELESS = string.digits + string.ascii_lowercase
_CASED = string.digits + string.ascii_uppercase + string.ascii_lowercase


@dataclass(frozen=True, slots=True)
class Cursor:
    """An offset in which the place of the request id is known, and of the request time if the order is by time.

    Parameters
    ----------
    elements
        The array.
    id_at, time_at
        Where in it they are.
    """

    elements: tuple[object, ...]
    id_at: int
    time_at: int | None

    @classmethod
    def read(cls, offset: str, request_id: str, request_time: int) -> Cursor | None:
        """Read the offset that came with a page whose last row is known; ``None`` if it is not understood."""
        if request_time <= 1:  # other elements may be so, too
            return None
        elements = _elements(offset)
        ids = [place for place, element in enumerate(elements) if element == request_id]
        times = [
            place
            for place, element in enumerate(elements)
            if isinstance(element, int | float) and abs(element) == request_time
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
        """Tell whether both offsets are of one order: another one has other keys."""
        return (self.id_at, self.time_at, len(self.elements)) == (other.id_at, other.time_at, len(other.elements))

    def save(self) -> list[object]:
        """Return it as JSON."""
        return [_offset(self.elements), self.id_at, self.time_at]

    def id_in(self, offset: str) -> str | None:
        """Return the id that another offset of the same gateway holds."""
        return next((part for part in _elements(offset)[self.id_at :][:1] if isinstance(part, str)), None)

    def time_in(self, offset: str) -> int | None:
        """Return the request time that another offset of the same gateway holds."""
        if self.time_at is None:
            return None
        part = next(iter(_elements(offset)[self.time_at :]), None)
        return abs(int(part)) if isinstance(part, int | float) else None

    def at(self, request_id: str, request_time: int | None = None) -> str:
        """Return the offset behind the row with this id, and this time if the order is by time."""
        elements = list(self.elements)
        elements[self.id_at] = request_id
        if self.time_at is not None and request_time is not None:
            known = elements[self.time_at]
            falls = isinstance(known, int | float) and known < 0  # written negative, so that it rises like the id
            elements[self.time_at] = -request_time if falls else request_time
        return _offset(elements)


def _elements(offset: str) -> list[object]:
    """Return the array that an offset holds; empty if it holds none."""
    try:
        elements = json.loads(base64.b64decode(offset + "=" * (-len(offset) % 4), validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return []
    return elements if isinstance(elements, list) else []


def _offset(elements: Sequence[object]) -> str:
    text = json.dumps(list(elements), separators=(",", ":"))
    return base64.b64encode(text.encode()).decode().rstrip("=")


class IdSpace:
    """All request ids of one shape as numbers, in the order in which the database has them.

    Parameters
    ----------
    shape
        An id. Others have letters or digits where it has, and the same character anywhere else.
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
        """Find out the order from ids that Kong has shown; ``None`` if it is not understood.

        Parameters
        ----------
        ids
            Ids, the last one shown at the end.
        pairs
            Of these, those of which the first one comes first because of its id.
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
        """Return the number of an id; ``None`` if it has another shape."""
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
        """Return the least distance between ids that Kong has shown; ``None`` if there are too few to compare."""
        numbers = sorted({number for number in map(self.number, ids) if number is not None})
        return min((second - first for first, second in pairwise(numbers)), default=None)
