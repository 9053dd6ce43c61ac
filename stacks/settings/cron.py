"""Schedule expressions as EventBridge Scheduler reads them, and how far apart the times are that they stand for.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html. Nothing here asks what day it is today: the
same expression makes the same template at any time.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise

_MINUTE_SECONDS, _HOUR_SECONDS, _DAY_SECONDS = 60, 3600, 86_400
_UNITS = {"minute": _MINUTE_SECONDS, "hour": _HOUR_SECONDS, "day": _DAY_SECONDS}
_FIRST_YEAR, _CALENDAR_YEARS = 2024, 28
"""After 28 years, each date falls on the same day of the week again."""

_SUNDAY, _SATURDAY = 1, 7

FORM = "rate(NUMBER minutes|hours|days) or cron(SIX FIELDS), e.g. rate(1 hour) or cron(0 3 * * ? *)"
ADVICE = f"must be {FORM}"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When the function runs.

    Attributes
    ----------
    expression : str
        ``rate(…)`` or ``cron(…)`` as EventBridge Scheduler reads it.
    times : tuple of int
        Seconds after midnight, in order; of a rate, its period alone.
    days : tuple of int
        The days on which it runs, as ordinals, over a whole cycle of the calendar; empty: every day, or a rate.
    clock_changes : bool
        Whether it goes by a time zone's clock, which is set forward and back.
    """

    expression: str
    times: tuple[int, ...]
    days: tuple[int, ...] = ()
    clock_changes: bool = False
    _is_rate: bool = field(default=False, repr=False)

    @classmethod
    def every(cls, seconds: int, expression: str = "") -> "Schedule":
        """Return a schedule with the same time between all runs."""
        return cls(expression=expression, times=(seconds,), _is_rate=True)

    @property
    def shortest_seconds(self) -> int:
        """The least time between two runs."""
        if self._is_rate:
            return self.times[0]
        days = min((later - earlier for earlier, later in pairwise(self.days)), default=1)
        return min([*self._within_a_day(), days * _DAY_SECONDS + self.times[0] - self.times[-1]])

    @property
    def longest_seconds(self) -> int:
        """The most time between two runs."""
        return self.longest_span_seconds(1)

    def longest_span_seconds(self, runs: int) -> int:
        """Return the most time that a number of runs in a row takes, from the one before the first of them."""
        if self._is_rate:
            return runs * self.times[0]
        whole_days, further = divmod(runs, len(self.times))
        spans = []
        for number, time in enumerate(self.times):
            days, position = whole_days, number + further
            if position >= len(self.times):
                days, position = days + 1, position - len(self.times)
            spans.append(self._longest_days(days) * _DAY_SECONDS + self.times[position] - time)
        return max(spans) + (_HOUR_SECONDS if self.clock_changes else 0)

    def _within_a_day(self) -> Iterator[int]:
        return (later - earlier for earlier, later in pairwise(self.times))

    def _longest_days(self, number: int) -> int:
        """Return the most days from one on which it runs to the one that is so many of them later."""
        if not self.days:
            return number
        spans = [later - earlier for earlier, later in zip(self.days, self.days[number:], strict=False)]
        return max(spans) if spans else number * self._longest_days(1)


def parse(expression: str, *, clock_changes: bool = False) -> Schedule:
    """Read a schedule expression.

    Parameters
    ----------
    expression : str
        ``rate(…)`` or ``cron(…)``.
    clock_changes : bool
        Whether a time zone's clock decides.

    Raises
    ------
    ValueError
        With everything that EventBridge Scheduler would refuse.
    """
    rate = re.fullmatch(r"rate\(\s*([1-9][0-9]{0,5})\s+(minute|hour|day)s?\s*\)", expression)
    if rate:
        unit = rate[2] if rate[1] == "1" else f"{rate[2]}s"
        return Schedule.every(int(rate[1]) * _UNITS[rate[2]], f"rate({rate[1]} {unit})")
    cron = re.fullmatch(r"cron\(\s*((?:\S+\s+){5}\S+)\s*\)", expression)
    if cron is None:
        raise ValueError(ADVICE)
    return _cron(expression, cron[1].upper().split(), clock_changes=clock_changes)


@dataclass(frozen=True)
class _Field:
    """What one of the six fields may hold."""

    name: str
    first: int
    last: int
    example: str
    names: Sequence[str] = ()

    def values(self, text: str) -> frozenset[int]:
        """Return the values that a field stands for; none where it is not understood."""
        found: set[int] = set()
        for part in text.split(","):
            some = self._part(part)
            if not some:
                return frozenset()
            found |= some
        return frozenset(found)

    def number(self, text: str) -> int | None:
        """Return the number that a value or its name stands for; None if there is no such value."""
        if text in self.names:
            return self.names.index(text) + self.first
        value = int(text) if re.fullmatch(r"[0-9]{1,4}", text) else -1
        return value if self.first <= value <= self.last else None

    def _part(self, part: str) -> set[int]:
        span, slash, step_text = part.partition("/")
        step = int(step_text) if re.fullmatch(r"[0-9]{1,3}", step_text) else 0
        if slash and not 1 <= step <= self.last:
            return set()
        low, dash, high = span.partition("-")
        first = self.first if span == "*" else self.number(low)
        last = self.number(high) if dash else self.last if span == "*" or slash else first
        if first is None or last is None:
            return set()
        # A range may go over the end, as from Friday to Monday.
        count = (last - first) % (self.last - self.first + 1)
        every = range(0, count + 1, step or 1)
        return {self.first + (first - self.first + offset) % (self.last - self.first + 1) for offset in every}


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MINUTES = _Field("minutes", 0, 59, "0, 0,30 or 0/15")
_HOURS = _Field("hours", 0, 23, "3, 8-18 or 0/6")
_MONTH = _Field("months", 1, 12, "1, JAN-MAR or 1/3", _MONTHS)
_DAY = _Field("days of the month", 1, 31, "1, 1-15, L for the last or 3W for the weekday next to the 3rd")
_WEEKDAY = _Field(
    "days of the week", 1, 7, "MON, MON-FRI, 6L for the last Friday or 3#2 for the second Tuesday", _WEEKDAYS
)
_YEAR = _Field("years", 1970, 2199, "2027 or 2026-2030")

_Falls = Callable[[date], bool]


def _cron(expression: str, fields: Sequence[str], *, clock_changes: bool) -> Schedule:
    minute, hour, day, month, weekday, year = fields
    plain = {_MINUTES: minute, _HOURS: hour, _MONTH: month, _YEAR: year}
    values = {field: field.values(text) for field, text in plain.items()}
    falls = _falls_on(day, weekday)
    understood = [
        (_MINUTES, values[_MINUTES]),
        (_HOURS, values[_HOURS]),
        (_DAY, day == "?" or _falls_on(day, "?")),
        (_MONTH, values[_MONTH]),
        (_WEEKDAY, weekday == "?" or _falls_on("?", weekday)),
        (_YEAR, values[_YEAR]),
    ]
    problems = [_problem(field) for field, found in understood if not found]
    if (day == "?") == (weekday == "?"):
        problems.append("one of the two days must be ?, and the other one say when")
    if problems or falls is None:
        raise ValueError(
            "cannot be read as cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR): " + "; ".join(problems)
        )
    times = tuple(
        sorted(at * _HOUR_SECONDS + past * _MINUTE_SECONDS for at in values[_HOURS] for past in values[_MINUTES])
    )
    every_day = {day, weekday} == {"*", "?"} and len(values[_MONTH]) == _MONTH.last and year == "*"
    days = () if every_day else tuple(_days(values[_YEAR], values[_MONTH], falls))
    if not every_day and len(days) * len(times) < 2:
        raise ValueError("never comes, or comes once; write a cron expression that comes again and again")
    return Schedule(expression=expression, times=times, days=days, clock_changes=clock_changes)


def _problem(field: _Field) -> str:
    return f"{field.name} must be from {field.first} to {field.last}, e.g. {field.example}"


def _days(years: frozenset[int], months: frozenset[int], falls: _Falls) -> Iterator[int]:
    """Yield the ordinals of the days on which it runs, over a whole cycle of the calendar."""
    first = _FIRST_YEAR if _FIRST_YEAR in years else min(years)
    day, end = date(first, 1, 1), date(first + _CALENDAR_YEARS, 1, 1)
    while day < end:
        if day.year in years and day.month in months and falls(day):
            yield day.toordinal()
        day += timedelta(days=1)


def _falls_on(day: str, weekday: str) -> _Falls | None:
    """Return what says whether it runs on a day; None where the fields are not understood."""
    forms = _DAYS_OF_MONTH if weekday == "?" else _DAYS_OF_WEEK
    text = day if weekday == "?" else weekday
    for pattern, falls in forms.items():
        if match := re.fullmatch(pattern, text):
            return falls(*match.groups())
    field = _DAY if weekday == "?" else _WEEKDAY
    values = field.values(text)
    if not values:
        return None
    if field is _DAY:
        return lambda at: at.day in values
    return lambda at: _weekday(at) in values


def _weekday(at: date) -> int:
    return at.isoweekday() % 7 + 1


def _last_of_month(at: date) -> int:
    return ((at.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)).day


def _before_the_last(days: str | None) -> _Falls:
    return lambda at: at.day == _last_of_month(at) - int(days or 0)


def _nearest_weekday(day: str) -> _Falls | None:
    """Return what finds the weekday next to a day, within the same month; of ``L``, next to the last."""
    if day != "L" and _DAY.number(day) is None:
        return None

    def falls(at: date) -> bool:
        last = _last_of_month(at)
        wanted = last if day == "L" else int(day)
        if wanted > last:
            return False
        target = at.replace(day=wanted)
        shift = {_SATURDAY: 2 if wanted == 1 else -1, _SUNDAY: -2 if wanted == last else 1}.get(_weekday(target), 0)
        return at == target + timedelta(days=shift)

    return falls


def _last_weekday(weekday: str | None) -> _Falls | None:
    """Return what finds the last of a day of the week in a month; alone, ``L`` stands for Saturday, in each week."""
    wanted = _SATURDAY if weekday is None else _WEEKDAY.number(weekday)
    if wanted is None:
        return None
    return lambda at: _weekday(at) == wanted and (weekday is None or at.day > _last_of_month(at) - 7)


def _nth_weekday(weekday: str, number: str) -> _Falls | None:
    wanted = _WEEKDAY.number(weekday)
    if wanted is None:
        return None
    return lambda at: _weekday(at) == wanted and (at.day - 1) // 7 + 1 == int(number)


_DAYS_OF_MONTH: Mapping[str, Callable[..., _Falls | None]] = {
    r"L(?:-([1-9]|[12][0-9]|30))?": _before_the_last,
    r"([0-9]{1,2}|L)W": _nearest_weekday,
}
_DAYS_OF_WEEK: Mapping[str, Callable[..., _Falls | None]] = {
    r"([0-9A-Z]{1,3})?L": _last_weekday,
    r"([0-9A-Z]{1,3})#([1-5])": _nth_weekday,
}
