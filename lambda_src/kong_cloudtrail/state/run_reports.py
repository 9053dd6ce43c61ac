"""The chain of run reports: each has the hash of the one before, so that removing or altering one is noticed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from ..domain.checkpoint import NO_REPORT_SHA256, Checkpoint
from ..domain.trail import Trail


@dataclass(frozen=True, slots=True)
class StoredReport:
    """What a stored run report says about its run.

    Parameters
    ----------
    number
        Its number in the chain.
    written_at
        When it was written, Unix seconds; ``None`` if it does not say.
    after
        Where the run began to read, as request time in Unix seconds; ``None`` if it read everything.
    """

    number: int
    written_at: float | None
    after: int | None

    @classmethod
    def of(cls, number: int, body: bytes) -> StoredReport:
        """Read a report. Values that are missing from an altered report are ``None``."""
        try:
            fields = json.loads(body)
            window = fields["window"]
            return cls(number, float(fields["writtenAt"]), None if window is None else int(window["after"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return cls(number, None, None)


@dataclass(frozen=True, slots=True)
class ReportChain:
    """The run reports of a trail.

    Parameters
    ----------
    place
        Where they are, as a location that a person can look up.
    trail
        The trail.
    count
        Number of reports.
    first, last
        The first and the last one; ``None`` if there are no reports.
    complete_until
        The checkpoint, as in `Checkpoint`.
    faults
        One sentence for each report that is missing, altered or misplaced.
    other_trails
        If there are no reports: other trails that have reports in the same ledger, as `Trail.path`.
    """

    place: str
    trail: Trail
    count: int
    first: StoredReport | None
    last: StoredReport | None
    complete_until: int | None
    faults: tuple[str, ...]
    other_trails: tuple[str, ...]


class ChainCheck:
    """Checks the run reports of a trail, one after the other."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.count = 0
        self.first: StoredReport | None = None
        self.last: StoredReport | None = None
        self._checkpoint = checkpoint
        self._faults: list[str] = []
        self._previous, self._expected = NO_REPORT_SHA256, 1

    def take(self, name: str, body: bytes) -> None:
        """Check the next object."""
        number_text = name.rpartition("/")[2].removesuffix(".json")
        if not number_text.isdecimal():
            self._faults.append(f"{name} is not a run report.")
            return
        number = int(number_text)
        self.count += 1
        self.last = StoredReport.of(number, body)
        self.first = self.first or self.last
        if number != self._expected:
            self._faults.append(f"Report(s) {self._expected} to {number - 1} are missing.")
        elif _previous_sha256(body) != self._previous:
            self._faults.append(f"Report {number} does not continue report {number - 1}: one of the two was altered.")
        self._previous = hashlib.sha256(body).hexdigest()
        self._expected = number + 1
        if number == self._checkpoint.run_number and self._previous != self._checkpoint.run_sha256:
            self._faults.append(f"Report {number} is not the one that the checkpoint remembers: it was altered.")

    def end(self) -> list[str]:
        """Return all faults, once the last report was checked."""
        newest = self._checkpoint.run_number
        if self._expected > newest:
            return self._faults
        return [*self._faults, f"Report(s) {self._expected} to {newest} are missing at the end."]


def _previous_sha256(body: bytes) -> str | None:
    try:
        fields = json.loads(body)
        return str(fields["previousSha256"])
    except (ValueError, KeyError, TypeError):
        return None
