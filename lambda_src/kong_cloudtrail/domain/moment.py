"""Moments: what people write for a point in time, and how it is shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from .entry import LATEST_SECOND

EXAMPLES = "2026-03-01, 2026-03-01T09:30:00Z, 2h, yesterday"
"""What a moment can look like, for messages."""

_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
_DAYS_BACK = {"today": 0, "yesterday": 1}


def parse_moment(text: str, now: float) -> int:
    """Return the Unix seconds of a moment.

    Parameters
    ----------
    text
        A date (midnight UTC), a time as in RFC 3339 (UTC if it has no offset), a time before now such as ``90m`` or
        ``2h`` (units ``s m h d w``), ``now``, ``today`` or ``yesterday`` (midnight UTC).
    now
        Unix seconds.

    Raises
    ------
    ValueError
        If it is none of these, or not between the years 1970 and 9999. The message may be shown.
    """
    word = text.strip().lower()
    if word == "now":
        return int(now)
    if word in _DAYS_BACK:
        midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return int((midnight - timedelta(days=_DAYS_BACK[word])).timestamp())
    if (ago := _AGO.fullmatch(word)) is not None:
        seconds = int(now) - int(ago[1]) * _SECONDS[ago[2]]
    else:
        try:
            moment = datetime.fromisoformat(text.strip())
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            seconds = int(moment.timestamp())
        except (ValueError, OverflowError):
            raise ValueError(f"{text!r} is not a moment; write one like {EXAMPLES}") from None
    if not 0 <= seconds <= LATEST_SECOND:
        raise ValueError(f"{text!r} is not between the years 1970 and 9999")
    return seconds


def span(seconds: int) -> str:
    """Return a span of time as people say it, in one or two units: ``2 d 3 h``."""
    for index, (length, unit) in enumerate(_UNITS):
        if seconds >= length:
            rest = seconds % length
            smaller = _UNITS[index + 1 : index + 2]
            more = [f"{rest // each} {name}" for each, name in smaller if rest // each]
            return " ".join([f"{seconds // length} {unit}", *more])
    return f"{seconds} s"


def utc(seconds: int) -> str:
    """Return Unix seconds in UTC, whole seconds: ``2022-09-12T20:15:00Z``."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{_utc_hour(hours)}:{_TWO_DIGITS[minute]}:{_TWO_DIGITS[second]}Z"


@lru_cache(maxsize=1024)  # entries of an hour mostly come together
def _utc_hour(hours_since_1970: int) -> str:
    return datetime.fromtimestamp(hours_since_1970 * 3600, UTC).isoformat()[: len("2022-09-12T20")]


_TWO_DIGITS = tuple(f"{number:02}" for number in range(60))
