"""A backfill: a range of request time, cut into slices that are read one by one, each with its own progress."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from .moment import utc
from .part import Part
from .window import Window

MAX_SLICES = 100
"""Slices of a range at most. Each costs a request to the gateway and an object in the ledger, even if it is empty."""

_HOUR_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Range:
    """What a backfill delivers: entries with ``after <= request time < before``.

    Parameters
    ----------
    after, before
        Unix seconds.
    """

    after: int
    before: int

    @classmethod
    def named(cls, name: str) -> Range | None:
        """Return the range of a name; ``None`` if it is not the name of one."""
        after, _, before = name.partition("-")
        if not (after.isdecimal() and before.isdecimal()):
            return None
        found = cls(int(after), int(before))
        return found if found.name == name and found.after < found.before else None

    @property
    def name(self) -> str:
        """Its name, as it is part of keys in the ledger and the cache."""
        return f"{self.after}-{self.before}"

    @property
    def fields(self) -> dict[str, str]:
        """Its bounds in UTC."""
        return {"after": utc(self.after), "before": utc(self.before)}

    @property
    def window(self) -> Window:
        """The same as a window."""
        return Window(self.after, self.before)

    def has(self, moment: int | None) -> bool:
        """Return whether a request time is in it."""
        return moment is not None and self.after <= moment < self.before

    def slices(self) -> tuple[Range, ...]:
        """Cut it into slices, oldest first. The same range is always cut in the same way.

        They begin and end at full hours, so that no two write into the same hour of an archive.
        """
        hours = -(-(self.before - self.after) // _HOUR_SECONDS)
        width_seconds = -(-hours // (MAX_SLICES - 1)) * _HOUR_SECONDS
        first_end = (self.after // _HOUR_SECONDS) * _HOUR_SECONDS + width_seconds
        bounds = [self.after, *range(first_end, self.before, width_seconds), self.before]
        return tuple(Range(after, before) for after, before in pairwise(bounds))


@dataclass(frozen=True, slots=True)
class SliceProgress:
    """How far a slice of a backfill is done.

    Parameters
    ----------
    resume
        Where its reading continues, as the source said (`ports.Page.resume`); ``None``: at its beginning.
    done
        Whether it was read to its end, and everything in it is settled, except for rows that could not be shown.
    unreadable
        Rows that the source could not show. They are tried again whenever the backfill is asked for again.
    delivered, quarantined
        Entries that this backfill has delivered, and put into quarantine, so far.
    excluded
        Entries that it has left out by a rule, so far: of what is settled, so each counts once.
    parts
        Parts that it wrote, which may be in no run report yet.
    version
        Version of the stored object that this was read from; ``None`` if there was none.
    """

    resume: str | None = None
    done: bool = False
    unreadable: int = 0
    delivered: int = 0
    quarantined: int = 0
    excluded: int = 0
    parts: tuple[Part, ...] = ()
    version: str | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.done and not self.unreadable
