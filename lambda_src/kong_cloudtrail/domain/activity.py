"""What entries are about, in numbers: by day, by kind and by outcome."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .moment import utc
from .window import Window

KINDS = ("read", "create", "update", "delete", "other")
"""What a request, or a change of an object, does."""

OUTCOMES = ("done", "refused", "failed", "unknown")
"""What came of a request. Refused: 401 and 403. A change of an object has happened: `done`."""

_KIND_OF_METHOD = {
    "GET": "read",
    "HEAD": "read",
    "OPTIONS": "read",
    "POST": "create",
    "PUT": "update",
    "PATCH": "update",
    "DELETE": "delete",
}
_REFUSED = (401, 403)


@dataclass(slots=True)
class Activity:
    """Counts the entries of a window.

    Parameters
    ----------
    window
        The window.
    by_day
        Entries by day, ``2026-03-01``, and kind.
    outcomes
        Entries by outcome.
    undated
        Entries without a usable time, which are of no window.
    """

    window: Window
    by_day: dict[str, Counter[str]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    undated: int = 0

    @property
    def entries(self) -> int:
        """Number of entries within the window."""
        return self.outcomes.total()

    @property
    def kinds(self) -> Counter[str]:
        """Entries by kind."""
        return sum(self.by_day.values(), Counter())

    def take(self, entry: Any, seconds: int | None) -> None:
        """Count an entry, as the source showed it, if its time (Unix seconds) is within the window."""
        if seconds is None:
            self.undated += 1
            return
        if not self.window.contains(seconds):
            return
        day = utc(seconds)[:10]
        if (kinds := self.by_day.get(day)) is None:
            kinds = self.by_day[day] = Counter()
        kinds[kind_of(entry)] += 1
        self.outcomes[outcome_of(entry)] += 1


def kind_of(entry: Any) -> str:
    """Return one of `KINDS`."""
    if not isinstance(entry, dict):
        return "other"
    operation, method = entry.get("operation"), entry.get("method")
    if isinstance(operation, str) and "method" not in entry:  # a change of an object
        return operation if operation in KINDS else "other"
    return _KIND_OF_METHOD.get(method, "other") if isinstance(method, str) else "other"


def outcome_of(entry: Any) -> str:
    """Return one of `OUTCOMES`."""
    if not isinstance(entry, dict):
        return "unknown"
    status = entry.get("status")
    if "operation" in entry and "status" not in entry:  # a change of an object
        return "done"
    if type(status) is not int:
        return "unknown"
    if status in _REFUSED:
        return "refused"
    return "done" if status < 400 else "failed"
