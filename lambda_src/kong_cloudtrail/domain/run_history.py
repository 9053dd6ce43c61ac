"""What the run reports of a trail say about a window of request time."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .window import Window

COUNTS = ("fetched", "duplicates", "delivered", "quarantined", "failed", "shortened")
"""The counts of a run report that are added up."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run, as its report records it. What an altered report does not say is ``None`` or 0.

    Parameters
    ----------
    number
        The report's number in the chain.
    sha256
        SHA-256 of the report.
    written_at
        When the report was written, Unix seconds.
    window
        The request times that the run was to read; ``None``: everything that the source retained.
    counts
        Its counts, by the names in `COUNTS`.
    excluded
        Entries that a filter left out, by rule.
    code_version
        The version of the program.
    part_times
        Earliest and latest request time of each part that the run wrote.
    """

    number: int
    sha256: str
    written_at: float | None
    window: Window | None
    counts: Mapping[str, int]
    excluded: Mapping[str, int]
    code_version: str | None
    part_times: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, number: int, body: bytes, fields: Mapping[str, Any]) -> RecordedRun:
        """Read a report. Whatever an altered one contains, this does not fail."""
        version = fields.get("codeVersion")
        return cls(
            number=number,
            sha256=hashlib.sha256(body).hexdigest(),
            written_at=_moment(fields.get("writtenAt")),
            window=_window(fields.get("window")),
            counts={name: _count(fields.get(name)) for name in COUNTS},
            excluded={str(rule): _count(count) for rule, count in _items(fields.get("excluded_by_rule"))},
            code_version=version if isinstance(version, str) else None,
            part_times=tuple(_part_times(fields.get("parts"), fields.get("run_id"))),
        )

    def read_in(self, window: Window) -> bool:
        """Return whether the run was to read entries of a window."""
        if self.written_at is None:
            return False
        read = self.window or Window(0, None)
        # A window without an end is read until the run ends.
        return Window(read.after, math.ceil(self.written_at) if read.before is None else read.before).overlaps(window)

    def longest_delay_seconds(self, window: Window) -> float | None:
        """Return for how long at most an entry of a window waited from its request to its delivery by this run.

        The report is written after the last delivery, so every entry was delivered sooner. ``None``: it is not known.
        """
        if self.written_at is None:
            return None
        firsts = [
            max(first, window.after) for first, last in self.part_times if window.overlaps(Window(first, last + 1))
        ]
        return max((self.written_at - first for first in firsts), default=None)


@dataclass(slots=True)
class RunHistory:
    """The runs of a trail, one after the other."""

    runs: list[RecordedRun] = field(default_factory=list)

    def take(self, number: int, body: bytes, fields: Mapping[str, Any]) -> None:
        """Take the next report."""
        self.runs.append(RecordedRun.of(number, body, fields))

    def of(self, window: Window, numbers: Iterable[int] = ()) -> RunsOfWindow:
        """Return the runs that were to read entries of a window, and those whose reports have one of these numbers."""
        wanted = frozenset(numbers)
        return RunsOfWindow(window, [run for run in self.runs if run.number in wanted or run.read_in(window)])


@dataclass(frozen=True, slots=True)
class RunsOfWindow:
    """Runs that have to do with a window of request time. They may have delivered entries of other times, too."""

    window: Window
    runs: list[RecordedRun]

    @property
    def counts(self) -> dict[str, int]:
        """The counts of all of them, added up."""
        return {name: sum(run.counts[name] for run in self.runs) for name in COUNTS}

    @property
    def excluded(self) -> Counter[str]:
        """Entries that filters left out, by rule."""
        return sum((Counter(run.excluded) for run in self.runs), Counter())

    @property
    def code_versions(self) -> list[str]:
        """The versions of the program, sorted."""
        return sorted({run.code_version for run in self.runs if run.code_version is not None})

    def longest_delay(self) -> tuple[RecordedRun, float] | None:
        """Return the run with the longest delay from request to delivery, and that in seconds; ``None`` if unknown."""
        delays = ((run, run.longest_delay_seconds(self.window)) for run in self.runs)
        known = [(run, seconds) for run, seconds in delays if seconds is not None]
        return max(known, key=lambda pair: pair[1], default=None)


def _moment(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e12 else None  # type: ignore[arg-type, operator]


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _window(value: object) -> Window | None:
    if not isinstance(value, dict) or type(value.get("after")) is not int:
        return None
    before = value.get("before")
    return Window(value["after"], before if type(before) is int else None)


def _items(value: object) -> Iterable[tuple[object, object]]:
    return value.items() if isinstance(value, dict) else ()


def _part_times(parts: object, run_id: object) -> Iterator[tuple[int, int]]:
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and part.get("run_id") == run_id:
            first, last = part.get("first"), part.get("last")
            if type(first) is int and type(last) is int:
                yield first, last
