"""How moments, spans, numbers and verdicts are written for people."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_DAY = timedelta(days=1)


class Verdict(NamedTuple):
    """A verdict, as people read it: in a few words and a sentence, with a tone that is also a sign and a colour."""

    words: str
    sentence: str
    tone: str


VERDICTS = {
    "complete": Verdict(
        "Complete",
        "Every entry that Kong showed is kept, once, and no sign was found that anything was altered.",
        "good",
    ),
    "complete_with_exceptions": Verdict(
        "Complete, with exceptions",
        "Every entry that Kong showed is accounted for, with the exceptions named below.",
        "warning",
    ),
    "unproven": Verdict(
        "Not proven",
        "Nothing was found to be wrong. But not everything was checked.",
        "warning",
    ),
    "incomplete": Verdict(
        "Not complete",
        "Something is missing, altered, doubled or not delivered yet.",
        "bad",
    ),
    "empty": Verdict(
        "Nothing to show",
        "There is no trace of a run that has delivered anything.",
        "bad",
    ),
}

SEVERITIES = {
    "fault": ("Fault", "bad"),
    "exception": ("Exception", "warning"),
    "unchecked": ("Not checked", "warning"),
    "note": ("Note", "plain"),
}

BASES = {
    "reconciliation": "counted at Kong by `reconcile`",
    "archive_and_quarantine": "as runs took them in; not compared with Kong",
    "run_reports": "as run reports count them; not compared with Kong",
}

KINDS = {
    "read": "Read",
    "create": "Create",
    "update": "Update",
    "delete": "Delete",
    "other": "Other",
    "all": "Entries",
}

OUTCOMES = {
    "done": "Done (status below 400)",
    "refused": "Refused (401, 403)",
    "failed": "Failed (400 and above)",
    "unknown": "Without a status",
}


def moment(text: str | None) -> str:
    """Return a moment of a document: ``2026-03-01 09:30:00 UTC``."""
    return "unknown" if text is None else text.replace("T", " ").replace("Z", " UTC")


def short_moment(text: str) -> str:
    """Return a moment of a document; only the day if it is midnight."""
    return moment(text).removesuffix(" 00:00:00 UTC")


def parse(text: str) -> datetime:
    """Return a moment of a document."""
    return datetime.fromisoformat(text).astimezone(UTC)


def period(after: str, before: str) -> str:
    """Return a period in words: ``March 2026``, ``1 to 9 March 2026``, or its two ends."""
    begin, end = parse(after), parse(before)
    last = end - _DAY
    if any((each.hour, each.minute, each.second) != (0, 0, 0) for each in (begin, end)):
        return f"{_date(begin)}, {_time(begin)} to {_date(end)}, {_time(end)} UTC"
    days_in_month = calendar.monthrange(begin.year, begin.month)[1]
    if begin.day == 1 and end - begin == _DAY * days_in_month:
        return f"{begin:%B %Y}"
    if last == begin:
        return _date(begin)
    if (begin.year, begin.month) == (last.year, last.month):
        return f"{begin.day} to {_date(last)}"
    return f"{_date(begin)} to {_date(last)}"


def _date(day: datetime) -> str:
    return f"{day.day} {day:%B %Y}"


def _time(each: datetime) -> str:
    return f"{each:%H:%M:%S}".removesuffix(":00")


def span(seconds: int) -> str:
    """Return a span of time in its two largest units."""
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")) if count]
    return " ".join(parts[:2]) or "0 s"


def number(value: int | None) -> str:
    """Return a whole number, or what stands for one that nobody knows."""
    return "not known" if value is None else f"{value:,}"
