"""Exit statuses. Scripts rely on these numbers: they do not change."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitStatus(IntEnum):
    """How a command ended. The help and docs/command-line.md show `meaning`."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    MISCONFIGURED = 3
    SKIPPED = 4
    QUARANTINED = 5
    NOT_VERIFIED = 6
    PROGRAM = 7
    INTERRUPTED = 130
    CLOSED_PIPE = 141
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return _MEANINGS[self]


INTERRUPTIONS = (ExitStatus.INTERRUPTED, ExitStatus.TERMINATED)
_BY_URGENCY = (
    *INTERRUPTIONS,
    ExitStatus.MISCONFIGURED,
    ExitStatus.FAILED,
    ExitStatus.NOT_VERIFIED,
    ExitStatus.QUARANTINED,
    ExitStatus.SKIPPED,
)


def most_urgent(ends: Sequence[ExitStatus]) -> ExitStatus:
    """Return the exit status of a command that ended in several ways, one for each trail."""
    return next((status for status in _BY_URGENCY if status in ends), ExitStatus.DONE)


_MEANINGS = {
    ExitStatus.DONE: "Done. For `sync`: everything that Kong showed is delivered.",
    ExitStatus.FAILED: "Failed for a reason that may pass, such as an outage. Nothing is lost; run it again.",
    ExitStatus.USAGE: "The command line, the settings, the SQL or the Python version is wrong. Nothing was tried.",
    ExitStatus.MISCONFIGURED: (
        "Kong, the destination or Athena refuses, a secret is unreadable, or `doctor` found a fault. Change that first."
    ),
    ExitStatus.SKIPPED: "Skipped: another run of this trail is in progress.",
    ExitStatus.QUARANTINED: "Everything else is delivered, but entries were refused and are in quarantine.",
    ExitStatus.NOT_VERIFIED: "A check found something missing, altered, doubled or extra, or proves nothing.",
    ExitStatus.PROGRAM: "The output could not be written, the disk is full, or the program has a bug.",
    ExitStatus.INTERRUPTED: "Interrupted (Ctrl-C). What was delivered is marked; the next run continues.",
    ExitStatus.CLOSED_PIPE: "The program that reads the output has ended, as `head` does.",
    ExitStatus.TERMINATED: "Terminated (SIGTERM), otherwise like 130.",
}
