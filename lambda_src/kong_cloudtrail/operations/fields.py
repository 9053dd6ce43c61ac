"""Reads the fields of a request, and reports everything that is wrong with them at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from ..domain.moment import parse_moment
from ..domain.window import Window
from ..errors import RequestInvalid

_Default = TypeVar("_Default", int, None)


class Fields:
    """The fields of a request, as they stand in the event of the function or come from the command line.

    Parameters
    ----------
    fields
        Names and values. ``None`` counts as not given.
    now
        Unix seconds: relative moments such as ``2h`` refer to it.
    """

    def __init__(self, fields: Mapping[str, object], now: float) -> None:
        self.now = now
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._known: set[str] = set()
        self._problems: list[str] = []

    def text(self, name: str) -> str | None:
        """Return a text; ``None`` if it is not given."""
        value = self._take(name)
        if value is None or isinstance(value, str):
            return value
        self._wrong(name, "has to be a text")
        return None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; empty if it is not given."""
        value = self._take(name)
        if value is None:
            return ()
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self._wrong(name, "has to be a list of texts")
        return ()

    def choice(self, name: str, options: Collection[str]) -> str | None:
        """Return one of the options; ``None`` if it is not given."""
        value = self._take(name)
        if value is None or (isinstance(value, str) and value in options):
            return value
        self._wrong(name, f"has to be one of {', '.join(options)}")
        return None

    def flag(self, name: str) -> bool:
        """Return a truth value; ``False`` if it is not given."""
        value = self._take(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self._wrong(name, "has to be true or false")
        return False

    def number(self, name: str, *, least: int, most: int, default: _Default) -> int | _Default:
        """Return a whole number between two limits; `default` if it is not given."""
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self._wrong(name, f"has to be a whole number from {least} to {most}")
        return default

    def moment(self, name: str) -> int | None:
        """Return a moment in Unix seconds; ``None`` if it is not given."""
        value = self._take(name)
        if value is None:
            return None
        if not isinstance(value, str):
            self._wrong(name, "has to be a moment, as a text")
            return None
        try:
            return parse_moment(value, self.now)
        except ValueError as error:
            self._wrong(name, str(error))
            return None

    def window(self) -> Window:
        """Return the window ``[after, before)``. Both are required."""
        after, before = self.moment("after"), self.moment("before")
        for name, value in (("after", after), ("before", before)):
            if value is None and name not in self._fields:
                self._wrong(name, "is missing")
        if after is None or before is None:
            return Window(0, 1)
        if after >= before:
            self._wrong("before", "has to be later than `after`")
            return Window(0, 1)
        return Window(after, before)

    def finish(self) -> None:
        """Raise `RequestInvalid` if anything was wrong, or a field was given that nobody has asked for."""
        unknown = sorted(self._fields.keys() - self._known)
        if unknown:
            known = ", ".join(sorted(self._known)) or "none"
            self._problems.append(f"There is no field {', '.join(unknown)}; the fields are: {known}.")
        if self._problems:
            raise RequestInvalid(self._problems)

    def _take(self, name: str) -> object:
        self._known.add(name)
        return self._fields.get(name)

    def _wrong(self, name: str, what: str) -> None:
        self._problems.append(f"{name}: {what}.")
