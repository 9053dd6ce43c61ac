"""Evidence: whether the trails of a period are complete, with everything that says so. For an auditor.

It reads what is stored, and nothing else: the ledger, and the parts of an archive. What was not checked is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..domain.activity import KINDS, OUTCOMES, Activity
from ..domain.checkpoint import Checkpoint
from ..domain.moment import utc
from ..domain.reconciliation import Coverage, Reconciled
from ..domain.report_chain import ReportChain, StoredReport
from ..domain.run_history import RunHistory, RunsOfWindow
from ..domain.window import Window
from ..ports import AlarmRecord, Inspection, Quarantine, QuarantineState
from .fields import Fields
from .installation import StoredInstallation, StoredTrailParts
from .verb import Progress, Verb

MAX_LISTED_ENTRIES = 500
"""Entries in quarantine that an answer names for each trail. All are counted."""

FAULT, EXCEPTION, UNCHECKED, NOTE = "fault", "exception", "unchecked", "note"


@dataclass(frozen=True, slots=True)
class EvidenceRequest:
    """Which period it is about."""

    window: Window

    @classmethod
    def read(cls, fields: Fields) -> EvidenceRequest:
        """Read the request: ``after`` and ``before``."""
        return cls(fields.window())


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that counts for or against a trail.

    Parameters
    ----------
    severity
        ``fault``: the trail is not complete, or not as it was written. ``exception``: known, and accounted for.
        ``unchecked``: nobody knows. ``note``: good to know.
    code
        What it is, for programs.
    text
        The same for people: one or two sentences.
    """

    severity: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """An entry that could not be delivered, as it is told of: without its content.

    Parameters
    ----------
    state
        ``quarantined``, ``released`` (it was delivered since) or ``discarded`` (it stays undelivered).
    id
        Identifies the entry.
    timestamp
        When the request was made, Unix seconds; ``None`` if the entry does not say.
    code
        Why it could not be delivered.
    since
        When it was put into quarantine, Unix seconds.
    """

    state: str
    id: str
    timestamp: int | None
    code: str
    since: float


@dataclass(frozen=True, slots=True)
class TrailEvidence:
    """Everything that is known of a trail in a period.

    Parameters
    ----------
    window
        The period.
    now
        When this was found, Unix seconds.
    chain, checkpoint
        The run reports, and how far the trail is.
    runs
        The runs that have to do with the period.
    inspection, activity
        What the archive holds of the period; ``None`` if the destination keeps no parts.
    set_aside
        Entries of the period that are or were in quarantine.
    coverage
        The comparisons with the source.
    reconciliation_faults
        One sentence for each of their stored results that is missing, altered or misplaced.
    """

    window: Window
    now: int
    chain: ReportChain
    checkpoint: Checkpoint
    runs: RunsOfWindow
    inspection: Inspection | None
    activity: Activity | None
    set_aside: Sequence[SetAside]
    coverage: Coverage
    reconciliation_faults: Sequence[str] = ()

    # -- numbers

    @property
    def before(self) -> int:
        """Where the period ends, Unix seconds."""
        return self.window.before or 0

    @property
    def is_over(self) -> bool:
        """Whether the period has ended."""
        return self.before <= self.now

    @property
    def settled_until(self) -> int | None:
        """Return until when everything that the source showed is delivered or in quarantine, gaps excepted."""
        checkpoint = self.checkpoint
        known = [checkpoint.complete_until]
        if checkpoint.caught_up_at is not None:
            # A run found nothing that was not settled, so the time of the newest entry is not the limit.
            known.append(checkpoint.caught_up_at + checkpoint.gateway_ahead_seconds)
        return max((moment for moment in known if moment is not None), default=None)

    @property
    def states(self) -> Counter[str]:
        """Entries that are or were in quarantine, by state."""
        return Counter(each.state for each in self.set_aside)

    @property
    def delivered(self) -> int:
        """Entries of the period that the destination holds, each counted once."""
        if self.activity is None or self.inspection is None:
            return self.runs.counts["delivered"] if self._found_delivered is None else self._found_delivered
        return max(self.activity.entries - self.inspection.doubled, 0)

    @property
    def _found_delivered(self) -> int | None:
        """How many entries of the period reconciliations found delivered; ``None`` if that is not known exactly."""
        totals = self.coverage.totals
        counts = [totals[name] for name in ("missing", "quarantined", "discarded", "excluded")]
        shown = totals["shown"]
        if not self.coverage.is_exact or shown is None or None in counts:
            return None
        return max(shown - sum(count or 0 for count in counts), 0)

    @property
    def shown(self) -> tuple[int, str]:
        """How many entries Kong showed, and how that is known."""
        counted = self.coverage.total("shown")
        if self.coverage.is_exact and counted is not None:
            return counted, "reconciliation"
        states = self.states
        undelivered = states["quarantined"] + states["discarded"]
        return self.delivered + undelivered, "run_reports" if self.activity is None else "archive_and_quarantine"

    @property
    def missing(self) -> int | None:
        """Entries that Kong showed and that are nowhere; ``None`` if that was not compared for the whole period."""
        return self.coverage.total("missing") if self.coverage.is_whole else None

    @property
    def doubled(self) -> int | None:
        """Entries that are there once more than they should be; ``None`` if nobody has looked."""
        if self.inspection is not None:
            return self.inspection.doubled
        return self.coverage.total("doubled") if self.coverage.is_whole else None

    @property
    def is_empty(self) -> bool:
        """Whether there is no trace of the trail: no run ever settled anything."""
        no_parts = self.inspection is None or not self.inspection.parts
        return not self.chain.count and no_parts and self.checkpoint.first_run_at is None

    # -- findings

    @property
    def verdict(self) -> str:
        """Return what all findings come to, as one word of a document."""
        severities = {finding.severity for finding in self.findings}
        if FAULT in severities:
            return "incomplete"
        if self.is_empty:
            return "empty"
        if UNCHECKED in severities:
            return "unproven"
        return "complete_with_exceptions" if EXCEPTION in severities else "complete"

    @property
    def findings(self) -> list[Finding]:
        """Everything that counts for or against the trail, the gravest first."""
        found = [
            *self._faults_of_what_is_stored(),
            *self._about_completeness(),
            *self._about_quarantine(),
            *self._about_the_beginning(),
            *self._about_signatures(),
            *self._notes(),
        ]
        order = (FAULT, EXCEPTION, UNCHECKED, NOTE)
        return sorted(found, key=lambda finding: order.index(finding.severity))

    def _faults_of_what_is_stored(self) -> Iterator[Finding]:
        for text in (*self.chain.faults, *self.reconciliation_faults):
            yield Finding(FAULT, "chain_broken", text)
        for text in self.inspection.faults if self.inspection is not None else ():
            yield Finding(FAULT, "archive_altered", text)

    def _about_completeness(self) -> Iterator[Finding]:
        if self.is_empty:
            places = ", ".join(self.chain.other_trails)
            advice = f" This ledger has trails of its own: {places}." if places else ""
            text = f"No run has delivered anything into {self.chain.trail}, as far as {self.chain.place} says.{advice}"
            yield Finding(UNCHECKED, "nothing_recorded", text)
            return
        settled = self.settled_until
        if self.is_over and (settled is None or settled < self.before):
            until = "not known" if settled is None else utc(settled)
            text = f"Runs have delivered everything until {until} only, and not to the end of the period. Run `sync`."
            yield Finding(FAULT, "not_delivered_to_the_end", text)
        for gap in self.checkpoint.gaps:
            if gap.window is None or gap.window.overlaps(self.window):
                yield Finding(FAULT, "gap_open", _gap_text(gap.window, gap.kind))
        yield from self._about_reconciliation()

    def _about_reconciliation(self) -> Iterator[Finding]:
        coverage = self.coverage
        for name, code in (("missing", "entries_missing"), ("doubled", "entries_doubled")):
            if count := coverage.total(name):
                text = f"A comparison with Kong found that {_entries(count)} {name}. `reconcile` names each."
                yield Finding(FAULT, code, text)
        if count := coverage.total("unreadable"):
            text = f"Kong could not show all rows when it was compared: {count:,} stretches of them."
            yield Finding(FAULT, "rows_unreadable", text)
        if not coverage.results:
            text = "Not reconciled: what Kong showed was never compared with what is kept. `reconcile` does that."
            yield Finding(UNCHECKED, "not_reconciled", text)
        elif not coverage.is_whole:
            stretches = "; ".join(f"{utc(gap.after)} to {utc(gap.before or 0)}" for gap in coverage.uncovered[:5])
            more = f" and {len(coverage.uncovered) - 5} more" if len(coverage.uncovered) > 5 else ""
            text = f"Only in part reconciled. Not compared with Kong: {stretches}{more}."
            yield Finding(UNCHECKED, "partly_reconciled", text)
        if coverage.is_whole and self.doubled is None:
            text = (
                "It is not known whether entries are there twice: they were compared with our own marks of what was "
                "delivered, as nothing says which event data store to ask (EVENT_DATA_STORE)."
            )
            yield Finding(UNCHECKED, "doubles_not_checked", text)
        if extra := coverage.total("extra"):
            text = f"{_entries(extra)} kept that Kong does not show any more, as is usual when they have expired there."
            yield Finding(NOTE, "entries_extra", text)

    def _about_quarantine(self) -> Iterator[Finding]:
        states = self.states
        if count := states["quarantined"]:
            reasons = _reasons(each for each in self.set_aside if each.state == "quarantined")
            text = f"{_entries(count)} in quarantine, kept whole and not delivered: {reasons}."
            yield Finding(EXCEPTION, "entries_quarantined", text)
        if count := states["discarded"]:
            reasons = _reasons(each for each in self.set_aside if each.state == "discarded")
            text = f"{_entries(count)} discarded from quarantine by somebody's decision, and kept on record: {reasons}."
            yield Finding(EXCEPTION, "entries_discarded", text)
        if count := states["released"]:
            yield Finding(NOTE, "entries_released", f"{_entries(count)} delivered later, from quarantine.")
        if count := self.runs.excluded.total():
            rules = ", ".join(f"{rule}: {number:,}" for rule, number in sorted(self.runs.excluded.items()))
            text = (
                f"{_entries(count)} left out by filters of the configuration, as runs of this period report: {rules}."
            )
            yield Finding(EXCEPTION, "entries_excluded", text)

    def _about_the_beginning(self) -> Iterator[Finding]:
        begins, first_run = self.checkpoint.begins_at, self.checkpoint.first_run_at
        if begins is not None and begins > self.window.after:
            text = f"The trail begins at {utc(begins)}. Requests before that were never read."
            yield Finding(EXCEPTION, "begins_later", text)
        elif first_run is not None and first_run > self.window.after:
            text = f"The first run was at {utc(first_run)}. Of earlier requests, it read what Kong still retained."
            yield Finding(NOTE, "begins_with_what_was_retained", text)

    def _about_signatures(self) -> Iterator[Finding]:
        chain = self.chain
        if not chain.signatures:
            if chain.count:
                text = "Run reports are not signed, as there is no signing key. Their chain of hashes was checked."
                yield Finding(NOTE, "not_signed", text)
        elif chain.signed is None:
            text = f"Signatures not checked: no key was given for the {chain.signatures:,} signatures of run reports."
            yield Finding(UNCHECKED, "signatures_not_checked", text)

    def _notes(self) -> Iterator[Finding]:
        if not self.is_over:
            settled = self.settled_until
            until = "" if settled is None else f" Delivered until {utc(settled)}."
            yield Finding(NOTE, "so_far", f"The period has not ended, so this is how it stands so far.{until}")
        if self.inspection is None and self._found_delivered is None:
            text = (
                "The destination was not read: numbers are those of the run reports, and may include entries of the "
                "hours next to the period."
            )
            yield Finding(NOTE, "counted_by_runs", text)
        if self.inspection is not None and self.inspection.unreported:
            text = f"{self.inspection.unreported} parts are of runs that may still be at work, and in no report yet."
            yield Finding(NOTE, "not_reported_yet", text)
        if self.activity is not None and self.activity.undated:
            text = f"{_entries(self.activity.undated)} without a usable time in the archive, which belong to no period."
            yield Finding(NOTE, "entries_undated", text)

    # -- the document

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        shown, basis = self.shown
        settled = self.settled_until
        return {
            **self.chain.trail.fields,
            "verdict": self.verdict,
            "findings": [asdict(finding) for finding in self.findings],
            "shown": shown,
            "shown_basis": basis,
            "delivered": self.delivered,
            "missing": self.missing,
            "doubled": self.doubled,
            "settled_until": None if settled is None else utc(settled),
            "quarantine": self._quarantine(),
            "excluded": {"entries": self.runs.excluded.total(), "by_rule": dict(sorted(self.runs.excluded.items()))},
            "chain": self._chain(),
            "runs": self._runs(),
            "activity": self._activity(),
            "archive": self._archive(),
            "longest_delay": self._longest_delay(),
            "reconciliation": self._reconciliation(),
        }

    def _quarantine(self) -> dict[str, Any]:
        open_ones = [each for each in self.set_aside if each.state == "quarantined"]
        listed = [
            {
                "id": each.id,
                "state": each.state,
                "reason": each.code,
                "time": None if each.timestamp is None else utc(each.timestamp),
                "since": _utc(each.since),
            }
            for each in self.set_aside[:MAX_LISTED_ENTRIES]
        ]
        states = self.states
        return {
            **{state: states[state] for state in ("quarantined", "released", "discarded")},
            "by_reason": dict(sorted(Counter(each.code for each in open_ones).items())),
            "entries": listed,
        }

    def _chain(self) -> dict[str, Any]:
        chain = self.chain
        return {
            "place": chain.place,
            "reports": chain.count,
            "first_run": _run(chain.first),
            "last_run": _run(chain.last),
            "last_sha256": self.checkpoint.run_sha256 if self.checkpoint.run_number else None,
            "signatures": chain.signatures,
            "signed": chain.signed,
            "faults": len(chain.faults),
        }

    def _runs(self) -> dict[str, Any]:
        return {
            **self.runs.counts,
            "code_versions": self.runs.code_versions,
            "reports": [
                {
                    "number": run.number,
                    "written_at": _utc(run.written_at),
                    "delivered": run.counts["delivered"],
                    "quarantined": run.counts["quarantined"],
                    "sha256": run.sha256,
                }
                for run in self.runs.runs
            ],
        }

    def _activity(self) -> dict[str, Any]:
        if self.activity is None:
            by_day: Counter[str] = Counter()
            for run in self.runs.runs:
                if run.written_at is not None:
                    by_day[utc(int(run.written_at))[:10]] += run.counts["delivered"]
            days = [{"day": day, "entries": count, "kinds": {}} for day, count in sorted(by_day.items())]
            return {"basis": "time_of_run", "days": days, "kinds": {}, "outcomes": {}}
        kinds, outcomes = self.activity.kinds, self.activity.outcomes
        return {
            "basis": "time_of_request",
            "days": [
                {"day": day, "entries": found.total(), "kinds": {kind: found[kind] for kind in KINDS if found[kind]}}
                for day, found in sorted(self.activity.by_day.items())
            ],
            "kinds": {kind: kinds[kind] for kind in KINDS},
            "outcomes": {outcome: outcomes[outcome] for outcome in OUTCOMES},
        }

    def _archive(self) -> dict[str, Any] | None:
        if self.inspection is None:
            return None
        inspection, reported = self.inspection, self.chain.parts
        return {
            "place": inspection.place,
            "undated": 0 if self.activity is None else self.activity.undated,
            "unreported": inspection.unreported,
            "found_by_later_runs": inspection.found_by_later_runs,
            "faults": len(inspection.faults),
            "parts": [
                {
                    "name": part.name,
                    "entries": part.entries,
                    "sha256": part.sha256,
                    "report": reported[part.name].report if part.name in reported else None,
                }
                for part in inspection.contents
            ],
        }

    def _longest_delay(self) -> dict[str, Any] | None:
        longest = self.runs.longest_delay()
        if longest is None:
            return None
        run, seconds = longest
        return {"at_most_seconds": round(max(seconds, 0)), "report": run.number}

    def _reconciliation(self) -> dict[str, Any] | None:
        coverage = self.coverage
        if not coverage.results:
            return None
        return {
            "whole": coverage.is_whole,
            "exact": coverage.is_exact,
            **coverage.totals,
            "uncovered": [{"after": utc(gap.after), "before": utc(gap.before or 0)} for gap in coverage.uncovered],
            "results": [
                {
                    "at": _utc(each.at),
                    "after": utc(each.window.after),
                    "before": utc(each.window.before or 0),
                    "basis": each.basis,
                    **each.counts,
                    "sha256": each.sha256,
                }
                for each in coverage.results
            ],
        }


@dataclass(frozen=True, slots=True)
class EvidenceResult:
    """What was found, trail by trail, and about all of them."""

    window: Window
    now: int
    trails: Sequence[TrailEvidence]
    alarms: AlarmRecord | None
    configuration: Mapping[str, str]

    @property
    def verdict(self) -> str:
        """The verdict on all trails: the worst one."""
        order = ("incomplete", "empty", "unproven", "complete_with_exceptions", "complete")
        verdicts = {trail.verdict for trail in self.trails}
        return next((verdict for verdict in order if verdict in verdicts), "empty")

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        before = self.window.before or 0
        return {
            "after": utc(self.window.after),
            "before": utc(before),
            "so_far": before > self.now,
            "verdict": self.verdict,
            "trails": [trail.document() for trail in self.trails],
            "alarms": None if self.alarms is None else _alarms(self.alarms),
            "configuration": dict(self.configuration),
        }


def perform(request: EvidenceRequest, installation: StoredInstallation, progress: Progress) -> EvidenceResult:
    """Collect the evidence of every trail. It needs neither the gateway nor the cache.

    Raises
    ------
    LedgerError, DestinationError
        If something cannot be read.
    """
    now = int(installation.clock.now())
    trails = [_evidence(request.window, now, parts, installation, progress) for parts in installation.stored_trails]
    alarms = installation.alarm_history
    return EvidenceResult(
        request.window,
        now,
        trails,
        None if alarms is None else alarms.record(request.window),
        installation.configuration,
    )


def _evidence(
    window: Window, now: int, parts: StoredTrailParts, installation: StoredInstallation, progress: Progress
) -> TrailEvidence:
    inspector, history, results = parts.inspector, RunHistory(), _Results()
    # As for `verify`: only the reports of a destination that keeps parts are signed.
    is_signed = None if inspector is None else installation.is_signed
    chain = parts.ledger.read_reports(is_signed, history.take)
    reconciliations = parts.ledger.read_reconciliations(is_signed, results.take)
    inspection, activity, numbers = None, None, set()
    if inspector is not None:
        activity = Activity(window)
        inspection = inspector.inspect(
            chain.parts,
            lambda done, total: progress("parts", done, total),
            window=window,
            take=activity.take,
        )
        names = {part.name for part in inspection.contents}
        numbers = {reported.report for name, reported in chain.parts.items() if name in names}
    until = Window(window.after, max(min(window.before or now, now), window.after + 1))
    return TrailEvidence(
        window=window,
        now=now,
        chain=chain,
        checkpoint=parts.ledger.load_checkpoint(),
        runs=history.of(window, numbers),
        inspection=inspection,
        activity=activity,
        set_aside=sorted(_set_aside(parts.ledger, window), key=lambda entry: (entry.state, entry.since, entry.id)),
        coverage=Coverage.of(until, results.found),
        reconciliation_faults=reconciliations.faults,
    )


class _Results:
    """The results of reconciliations, as they are read."""

    def __init__(self) -> None:
        self.found: list[Reconciled] = []

    def take(self, number: int, body: bytes, fields: Mapping[str, Any]) -> None:
        """Take the next one. One that cannot be read proves nothing."""
        result = Reconciled.of(body, fields)
        if result is not None:
            self.found.append(result)


def _set_aside(quarantine: Quarantine, window: Window) -> Iterator[SetAside]:
    """Return the entries of a window that could not be delivered.

    Those without a time count by the time when they were put aside.
    """
    for state in QuarantineState:
        for name in quarantine.names_in_quarantine(state):
            record = quarantine.read_quarantined(name, state)
            if record is None:  # it has left in the meantime
                continue
            seconds = record.entry.timestamp
            if window.contains(int(record.since) if seconds is None else seconds):
                yield SetAside(state.value, record.entry.id, seconds, record.code, record.since)


def _alarms(record: AlarmRecord) -> dict[str, Any]:
    raised = Counter(change.alarm for change in record.changes if change.state == "ALARM")
    return {
        "known_since": _utc(record.known_since),
        "watched": len(record.alarms),
        "raised": dict(sorted(raised.items())),
        "changes": [{"at": _utc(each.at), "alarm": each.alarm, "state": each.state} for each in record.changes],
    }


def _run(report: StoredReport | None) -> dict[str, Any] | None:
    return None if report is None else {"number": report.number, "written_at": _utc(report.written_at)}


def _utc(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    try:
        return utc(int(seconds))
    except (ValueError, OverflowError, OSError):  # an altered report may contain anything
        return None


def _entries(count: int) -> str:
    return f"{count:,} entry is" if count == 1 else f"{count:,} entries are"


def _reasons(entries: Iterable[SetAside]) -> str:
    counts = Counter(each.code for each in entries)
    return ", ".join(f"{code} ({count:,})" for code, count in sorted(counts.items()))


def _gap_text(window: Window | None, kind: str) -> str:
    where = "" if window is None else f" from {utc(window.after)}"
    where += "" if window is None or window.before is None else f" to {utc(window.before)}"
    what = "could not be read from Kong" if kind == "unreadable" else "could not be delivered"
    return f"A stretch{where} {what} yet. Runs try it again."


VERB = Verb(EvidenceRequest.read, perform)
