"""A part: an object that a destination keeps entries in, as run reports name it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

REMEMBERED_RUNS = 400
"""Runs that a checkpoint remembers: two weeks of hourly ones."""

REMEMBERED_PARTS = 2000
"""Parts of runs that died, as a checkpoint remembers them."""


@dataclass(frozen=True, slots=True)
class Part:
    """An object that holds entries.

    Parameters
    ----------
    name
        Its name, below the destination's prefix.
    sha256
        SHA-256 of its uncompressed content, hexadecimal. The same content compresses to different bytes with different
        versions of zlib.
    entries
        Number of entries in it.
    first, last
        The earliest and latest request time in it, Unix seconds; ``None`` if no entry has one, or if it is unknown.
    run_id
        The run that wrote it; empty if it does not say.
    """

    name: str
    sha256: str
    entries: int
    first: int | None
    last: int | None
    run_id: str

    @property
    def fields(self) -> dict[str, Any]:
        """The part as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}  # asdict copies, which takes much longer

    @classmethod
    def from_fields(cls, fields: Any) -> Part:
        """Return the part of a JSON object.

        Raises
        ------
        ValueError, KeyError, TypeError
            If it is not a part.
        """
        first, last = fields["first"], fields["last"]
        return cls(
            name=str(fields["name"]),
            sha256=str(fields["sha256"]),
            entries=int(fields["entries"]),
            first=None if first is None else int(first),
            last=None if last is None else int(last),
            run_id=str(fields["run_id"]),
        )


@dataclass(frozen=True, slots=True)
class Reported:
    """Which parts the run reports name, as far back as it matters.

    Parameters
    ----------
    runs
        Ids of the last runs that reported all of their parts, oldest first.
    parts
        Names of the last parts that were reported otherwise: by other runs, as their own had died, or by a run that did
        not know all of its parts.
    """

    runs: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    def lacks(self, part: Part) -> bool:
        """Return whether a part may be in no report, because the run that wrote it died, or never knew.

        Ids of runs begin with the time, so a run that is older than all remembered ones was forgotten: it is taken for
        one that has reported.
        """
        if not part.run_id or part.run_id in self.runs or part.name in self.parts:
            return False
        return len(self.runs) < REMEMBERED_RUNS or part.run_id > min(self.runs)

    def plus(self, run_id: str, parts: Sequence[Part], *, names_all_parts: bool) -> Reported:
        """Return the same after a run has reported parts, which are all of its own or not."""
        if not parts:
            return self
        runs = (*self.runs, run_id) if names_all_parts else self.runs
        by_name = (part.name for part in parts if part.run_id != run_id or not names_all_parts)
        return Reported(runs[-REMEMBERED_RUNS:], (*self.parts, *by_name)[-REMEMBERED_PARTS:])
