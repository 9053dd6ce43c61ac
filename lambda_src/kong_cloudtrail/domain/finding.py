"""What a check found out about an installation, and how findings are put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How something is."""

    OK = "ok"
    WARNING = "warning"
    """Runs succeed, but somebody should know."""
    FAILED = "failed"
    """Runs fail, or the trail is not what it should be."""
    NOT_CHECKED = "not_checked"
    """Nobody could find out, for example for want of a permission. That is no failure."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found out about one thing.

    Parameters
    ----------
    area
        The part of the installation, such as ``kong`` or ``cache``.
    check
        The thing, in a word or two.
    status
        How it is.
    what
        What was found, in a sentence or two. May be shown to anybody.
    do
        What to do next; ``None`` if there is nothing to do.
    may_pass
        For a failure: whether it may pass by itself, such as an outage. If not, somebody has to change something.
    """

    area: str
    check: str
    status: Status
    what: str
    do: str | None = None
    may_pass: bool = False

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "status": self.status.value}


@dataclass(frozen=True, slots=True)
class Area:
    """Makes the findings of one part of an installation.

    Parameters
    ----------
    name
        The name of the part.
    """

    name: str

    def ok(self, check: str, what: str) -> Finding:
        """Return that something is as it should be."""
        return Finding(self.name, check, Status.OK, what)

    def warning(self, check: str, what: str, do: str) -> Finding:
        """Return that somebody should know of something."""
        return Finding(self.name, check, Status.WARNING, what, do)

    def failed(self, check: str, what: str, do: str, *, may_pass: bool = False) -> Finding:
        """Return that something is not as it should be."""
        return Finding(self.name, check, Status.FAILED, what, do, may_pass)

    def not_checked(self, check: str, what: str, do: str | None = None) -> Finding:
        """Return that nobody could find out."""
        return Finding(self.name, check, Status.NOT_CHECKED, what, do)


def diagnosis(findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return findings in the form of JSON, with what they come to.

    Parameters
    ----------
    findings
        The findings as `Finding.document` returns them.
    """
    counts = Counter(finding["status"] for finding in findings)
    return {
        "healthy": not counts[Status.FAILED],
        "counts": {status.value: counts[status] for status in Status},
        "findings": list(findings),
    }
