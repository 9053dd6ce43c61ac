"""The chain of run reports: each has the hash of the one before, so that removing or altering one is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .checkpoint import NO_REPORT_SHA256, Checkpoint
from .trail import Trail

_MOST_OF_A_NAME = 128


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
    def of(cls, number: int, fields: Mapping[str, Any]) -> StoredReport:
        """Read a report. Values that are missing from an altered report are ``None``."""
        try:
            window = fields["window"]
            return cls(number, float(fields["writtenAt"]), None if window is None else int(window["after"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return cls(number, None, None)


@dataclass(frozen=True, slots=True)
class ReportedPart:
    """A part, as a run report names it.

    Parameters
    ----------
    sha256
        SHA-256 of its uncompressed content.
    entries
        Number of entries in it.
    report
        Number of the report that names it.
    written_by_that_run
        Whether the run of that report wrote it. If not, the run that did has died, and the later one found the part.
    """

    sha256: str
    entries: int
    report: int
    written_by_that_run: bool


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
    signed
        Number of reports whose signature is right; ``None`` if signatures were not checked.
    signatures
        Number of signatures that are there.
    parts
        The parts that the reports name, by name.
    hashes
        SHA-256 of each report, by its number.
    results
        Of the newest result of a reconciliation that each report names: SHA-256 by number.
    faults
        One sentence for each report that is missing, altered, misplaced or not signed.
    other_trails
        If there are no reports: other trails that have reports in the same ledger, as `Trail.path`.
    """

    place: str
    trail: Trail
    count: int
    first: StoredReport | None
    last: StoredReport | None
    complete_until: int | None
    signed: int | None
    signatures: int
    parts: Mapping[str, ReportedPart]
    hashes: Mapping[int, str]
    results: Mapping[int, str]
    faults: tuple[str, ...]
    other_trails: tuple[str, ...]


IsSignedBy = Callable[[bytes, bytes], bool]
"""Takes a report and its signature; returns whether the signature is right."""

NoteReport = Callable[[int, bytes, Mapping[str, Any]], object]
"""Takes the number of a report, its body and its fields."""


def note_nothing(number: int, body: bytes, fields: Mapping[str, Any]) -> None:
    """Take no notice of a report."""


@dataclass(slots=True)
class ChainCheck:
    """Checks the run reports of a trail, one after the other.

    Parameters
    ----------
    trail
        The trail. A document of another one proves nothing about it, however well it is signed.
    checkpoint
        The checkpoint, which remembers the newest report.
    is_signed
        Checks signatures; ``None``: they are not checked.
    note
        Gets each report: its number, its body and its fields, which may be anything if it was altered.
    noun, document, head
        What a document of the chain is called in messages, in short and in full, and what remembers the newest one.
    """

    trail: Trail
    checkpoint: Checkpoint
    is_signed: IsSignedBy | None = None
    note: NoteReport = note_nothing
    noun: str = "Report"
    document: str = "run report"
    head: str = "checkpoint"
    count: int = 0
    signed: int = 0
    first: StoredReport | None = None
    last: StoredReport | None = None
    parts: dict[str, ReportedPart] = field(default_factory=dict)
    hashes: dict[int, str] = field(default_factory=dict)
    results: dict[int, str] = field(default_factory=dict)
    _faults: list[str] = field(default_factory=list)
    _previous: str = NO_REPORT_SHA256
    _expected: int = 1

    def take(self, name: str, body: bytes, signature: bytes | None = None) -> None:
        """Check the next object."""
        number_text = name.rpartition("/")[2].removesuffix(".json")
        if not number_text.isdecimal() or number_text != f"{int(number_text):010}":
            self._faults.append(f"{name} is not a {self.document}.")
            return
        number = int(number_text)
        fields = _fields(body)
        self.count += 1
        self.last = StoredReport.of(number, fields)
        self.first = self.first or self.last
        if number != self._expected:
            self._faults.append(f"{self.noun}(s) {self._expected} to {number - 1} are missing.")
        elif fields.get("previousSha256") != self._previous:
            self._faults.append(
                f"{self.noun} {number} does not continue {self._what} {number - 1}: one of the two was altered."
            )
        self._previous = hashlib.sha256(body).hexdigest()
        self._expected = number + 1
        self.hashes[number] = self._previous
        if number == self.checkpoint.run_number and self._previous != self.checkpoint.run_sha256:
            self._faults.append(f"{self.noun} {number} is not the one that the {self.head} remembers: it was altered.")
        self._check_trail(number, fields)
        self._check_signature(number, body, signature)
        self._collect_parts(number, fields)
        self._collect_result(fields)
        self.note(number, body, fields)

    def end(self) -> list[str]:
        """Return all faults, once the last report was checked."""
        if self.is_signed is not None and self.count and not self.signed:
            self._faults.append(f"No {self._what} has a right signature.")
        if self.count and self.checkpoint.version is None:
            self._faults.append(
                f"There are {self._what}s, but no {self.head}: it was removed, so the last ones may be, too."
            )
        newest = self.checkpoint.run_number
        if self._expected > newest:
            return self._faults
        return [*self._faults, f"{self.noun}(s) {self._expected} to {newest} are missing at the end."]

    @property
    def _what(self) -> str:
        return self.noun.lower()

    def _check_trail(self, number: int, fields: Mapping[str, Any]) -> None:
        found = {name: fields.get(name) for name in self.trail.fields}
        if fields and found != self.trail.fields:  # one without any fields breaks the chain
            of = "/".join(str(value)[:_MOST_OF_A_NAME] for value in found.values())
            self._faults.append(f"{self.noun} {number} is not of this trail but of {of}: it was put here or altered.")

    def _check_signature(self, number: int, body: bytes, signature: bytes | None) -> None:
        if self.is_signed is None:
            return
        if signature is None:
            # Reports from before there was a key are not signed. From the first signed one on, every one is.
            if self.signed:
                self._faults.append(f"{self.noun} {number} has no signature.")
        elif self.is_signed(body, signature):
            self.signed += 1
        else:
            self._faults.append(
                f"The signature of {self._what} {number} is wrong: it was altered, or another key has signed it."
            )

    def _collect_result(self, fields: Mapping[str, Any]) -> None:
        result = fields.get("reconciled")
        if isinstance(result, dict) and type(result.get("number")) is int:
            self.results[result["number"]] = str(result.get("sha256"))

    def _collect_parts(self, number: int, fields: Mapping[str, Any]) -> None:
        try:
            for part in fields.get("parts", ()):
                name = str(part["name"])
                reported = ReportedPart(
                    str(part["sha256"]), int(part["entries"]), number, part["run_id"] == fields["run_id"]
                )
                known = self.parts.setdefault(name, reported)
                if known.sha256 != reported.sha256:
                    self._faults.append(
                        f"Reports {known.report} and {number} contradict each other about {name}: the part was removed "
                        f"after report {known.report} and written anew, or one of the two was altered."
                    )
        except (ValueError, KeyError, TypeError, OverflowError):
            self._faults.append(f"Report {number} has no readable list of parts: it was altered.")


def faults_of_results(runs: ReportChain, results: ReportChain) -> tuple[str, ...]:
    """Return one sentence for each result that a run report names, and that is missing or is another one now.

    So the last results cannot be taken away without the run reports that were written since.
    """
    newest = max(runs.results, default=0)
    last = max(results.hashes, default=0)
    faults = [
        f"Reconcile result {number} is not the one that run reports name: it was altered."
        for number, sha256 in sorted(runs.results.items())
        if results.hashes.get(number, sha256) != sha256
    ]
    if last < newest:
        faults.append(f"Reconcile result(s) {last + 1} to {newest} are missing at the end, which run reports name.")
    return tuple(faults)


def _fields(body: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
