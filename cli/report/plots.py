"""Plots as SVG without text: what is written stands beside them, so that it keeps its size on every screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .wording import KINDS, parse

_DAY = timedelta(days=1)
_MOST_DAYS = 100
_MOST_WEEKS = 104
_GAP = 0.18
"""The part of a bar's width that is left free."""


@dataclass(slots=True)
class Column:
    """What a bar stands for: a day, a week or a month, with the entries of each kind."""

    name: str
    kinds: dict[str, int] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        """Number of entries."""
        return sum(self.kinds.values())


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of a plot, in percent of its width and height."""

    x: str
    y: str
    width: str
    height: str
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class DayPlot:
    """Entries by day, or by week or month where there are too many days.

    Parameters
    ----------
    unit
        ``day``, ``week`` or ``month``.
    columns
        What it shows, also columns without entries.
    kinds
        The kinds that there are.
    top
        The number of entries at the upper edge.
    """

    unit: str
    columns: Sequence[Column]
    kinds: Sequence[str]
    top: int

    @property
    def empty(self) -> int:
        """Number of columns without entries."""
        return sum(not column.entries for column in self.columns)

    @property
    def busiest(self) -> Column:
        """The column with the most entries."""
        return max(self.columns, key=lambda column: column.entries)

    @property
    def bars(self) -> list[Bar]:
        """The bars, those of a column one upon the other."""
        width = 100 / len(self.columns)
        bars = []
        for place, column in enumerate(self.columns):
            below = 0
            for kind in self.kinds:
                count = column.kinds.get(kind, 0)
                if not count:
                    continue
                below += count
                bars.append(
                    Bar(
                        _percent(width * (place + _GAP / 2)),
                        _percent(100 - 100 * below / self.top),
                        _percent(width * (1 - _GAP)),
                        _percent(100 * count / self.top),
                        kind,
                        f"{column.name}: {count:,} {KINDS[kind].lower()}",
                    )
                )
        return bars

    @property
    def ticks(self) -> list[str]:
        """What stands below: the first column, one in the middle, and the last."""
        names = [column.name for column in self.columns]
        return names if len(names) < 3 else [names[0], names[len(names) // 2], names[-1]]


def day_plot(activity: Mapping[str, Any], after: str, until: str) -> DayPlot:
    """Return the plot of a document's activity, from the day of one moment to that of another."""
    begin = parse(after).replace(hour=0, minute=0, second=0)
    end = max(parse(until), begin + timedelta(seconds=1))
    found = {row["day"]: row["kinds"] or {"all": row["entries"]} for row in activity["days"]}
    if found and (end - begin).days > _MOST_WEEKS * 7:
        begin = max(begin, _day(min(found)))
    if found and activity["basis"] == "time_of_run":  # a run delivers later than the request was
        end = max(end, _day(max(found)) + _DAY)
    unit = _unit((end - begin).days)
    columns: dict[str, Column] = {}
    day = begin
    while day < end:
        name = _column_of(day, unit)
        column = columns.setdefault(name, Column(name))
        for kind, count in found.get(f"{day:%Y-%m-%d}", {}).items():
            column.kinds[kind] = column.kinds.get(kind, 0) + count
        day += _DAY
    kinds = [kind for kind in KINDS if any(column.kinds.get(kind) for column in columns.values())]
    top = _round_up(max(column.entries for column in columns.values()))
    return DayPlot(unit, list(columns.values()), kinds, top)


def _unit(days: int) -> str:
    if days <= _MOST_DAYS:
        return "day"
    return "week" if days <= _MOST_WEEKS * 7 else "month"


def _column_of(day: datetime, unit: str) -> str:
    if unit == "month":
        return f"{day:%Y-%m}"
    return f"{day - timedelta(days=day.weekday() if unit == 'week' else 0):%Y-%m-%d}"


def _day(text: str) -> datetime:
    return parse(f"{text}T00:00:00Z")


def _round_up(count: int) -> int:
    """Return the next number that is easy to read, and even, so that half of it is whole."""
    magnitude = 10 ** (len(str(max(count, 1))) - 1)
    steps = (1, 2, 3, 4, 5, 6, 8, 10)
    top: int = next(step * magnitude for step in steps if step * magnitude >= count)
    return top if top % 2 == 0 else top + 1


def _percent(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
