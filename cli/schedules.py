"""When a schedule of EventBridge Scheduler comes next.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_UNITS_SECONDS = {"minute": 60, "hour": 3600, "day": 86_400}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LONGEST_SEARCH_DAYS = 366


def next_time(expression: str, *, now: float, since: float, time_zone: str = "UTC") -> int | None:
    """Return when a schedule comes next, in Unix seconds.

    Parameters
    ----------
    expression
        ``rate(…)`` or ``cron(…)``.
    now
        Unix seconds.
    since
        When a rate began to count, Unix seconds.
    time_zone
        Whose clock a cron expression follows.

    Returns
    -------
    int or None
        ``None`` if it does not come within a year, or the expression is of a kind that is not understood here: with
        ``L``, ``W`` or ``#``, or one that comes once.
    """
    rate = re.fullmatch(r"rate\(\s*([0-9]{1,6})\s+(minute|hour|day)s?\s*\)", expression)
    if rate is not None and int(rate[1]) > 0:
        period = int(rate[1]) * _UNITS_SECONDS[rate[2]]
        return int(since + (max(now - since, 0) // period + 1) * period)
    cron = re.fullmatch(r"cron\(\s*((?:\S+\s+){5}\S+)\s*\)", expression)
    if cron is None:
        return None
    try:
        return _next_of_cron(cron[1].upper().split(), datetime.fromtimestamp(now, ZoneInfo(time_zone)))
    except (ValueError, ZoneInfoNotFoundError):
        return None


def _next_of_cron(fields: Sequence[str], now: datetime) -> int | None:
    minutes, hours = sorted(_values(fields[0], 0, 59)), sorted(_values(fields[1], 0, 23))
    days, weekdays = _values(fields[2], 1, 31), _values(fields[4], 1, 7, _WEEKDAYS)
    months, years = _values(fields[3], 1, 12, _MONTHS), _values(fields[5], 1970, 2199)
    for offset in range(_LONGEST_SEARCH_DAYS):
        day = now.date() + timedelta(days=offset)
        if not (day.day in days and day.isoweekday() % 7 + 1 in weekdays and day.month in months and day.year in years):
            continue
        for hour in hours:
            for minute in minutes:
                moment = datetime(day.year, day.month, day.day, hour, minute, tzinfo=now.tzinfo)
                if moment.astimezone(UTC) > now.astimezone(UTC):
                    return int(moment.timestamp())
    return None


def _values(text: str, first: int, last: int, names: Sequence[str] = ()) -> set[int]:
    """Return the values that a field stands for. Raises `ValueError` if it is not understood."""
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        low, dash, high = span.partition("-")
        if span in ("*", "?"):
            begin, end = first, last
        else:
            begin = _number(low, first, names)
            end = _number(high, first, names) if dash else last if slash else begin
        if end < begin:  # a range over the end, as from Friday to Monday
            found |= set(range(first, end + 1))
            end = last
        found |= set(range(begin, end + 1, int(step) if slash else 1))
    return found


def _number(text: str, first: int, names: Sequence[str]) -> int:
    return names.index(text) + first if text in names else int(text)
