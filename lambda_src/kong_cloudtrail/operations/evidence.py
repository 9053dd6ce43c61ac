"""Evidence: whether the trails of a period are complete, with everything that says so. For an auditor.

It reads what is stored, and nothing else: the ledger, and the parts of an archive. What was not checked is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from ..domain.activity import KINDS, OUTCOMES, Activity
from ..domain.moment import utc
from ..domain.reconciliation import Coverage, Reconciled, without
from ..domain.report_chain import StoredReport
from ..domain.run_history import RunHistory
from ..domain.window import Window
from ..domain.workers import in_order
from ..ports import AlarmRecord, Quarantine, QuarantineState
from .fields import Fields
from .installation import StoredInstallation, StoredTrailParts
from .trail_evidence import SetAside, TrailEvidence
from .verb import Progress, Verb
from .verdict import VERDICTS, findings_about, verdict_of

MAX_LISTED_ENTRIES = 500
"""Entries in quarantine that an answer names for each trail. All are counted."""

_READERS = 16


@dataclass(frozen=True, slots=True)
class EvidenceRequest:
    """Which period it is about."""

    window: Window

    @classmethod
    def read(cls, fields: Fields) -> EvidenceRequest:
        """Read the request: ``after`` and ``before``."""
        return cls(fields.window())


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
        verdicts = {verdict_of(trail, findings_about(trail)) for trail in self.trails}
        return next((verdict for verdict in VERDICTS if verdict in verdicts), "empty")

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        before = self.window.before or 0
        told = {str(trail.chain.trail) for trail in self.trails}
        return {
            "after": utc(self.window.after),
            "before": utc(before),
            "so_far": before > self.now,
            "verdict": self.verdict,
            "trails": [_trail(trail) for trail in self.trails],
            "trails_beside": sorted({name for trail in self.trails for name in trail.trails_beside} - told),
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
    inspector, history, results, ledger = parts.inspector, RunHistory(), _Results(), parts.ledger
    # As for `verify`: only the reports of a destination that keeps parts are signed.
    is_signed = None if inspector is None else installation.is_signed
    chain = ledger.read_reports(is_signed, history.take)
    reconciliations = ledger.read_reconciliations(is_signed, results.take)
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
    checkpoint = ledger.load_checkpoint()
    until = Window(window.after, max(min(window.before or now, now), window.after + 1))
    set_aside, kept_aside = _set_aside(ledger, window, progress)
    return TrailEvidence(
        window=window,
        now=now,
        chain=chain,
        checkpoint=checkpoint,
        runs=history.of(window, numbers),
        inspection=inspection,
        activity=activity,
        set_aside=set_aside,
        coverage=Coverage.of(until, results.found),
        reconciliations=reconciliations,
        never_read=_never_read(parts, window, checkpoint.begins_at or 0),
        kept_aside=kept_aside,
        trails_beside=ledger.trails_beside(),
    )


def _never_read(parts: StoredTrailParts, window: Window, begins_at: int) -> list[Window]:
    """Return what of a window is older than the trail, and was not delivered by a backfill either."""
    if begins_at <= window.after:
        return []
    older = Window(window.after, min(window.before or begins_at, begins_at))
    return without([older], parts.ledger.backfilled())


class _Results:
    """The results of reconciliations, as they are read."""

    def __init__(self) -> None:
        self.found: list[Reconciled] = []

    def take(self, number: int, body: bytes, fields: Mapping[str, Any]) -> None:
        """Take the next one. One that cannot be read proves nothing."""
        result = Reconciled.of(number, body, fields)
        if result is not None:
            self.found.append(result)


def _set_aside(quarantine: Quarantine, window: Window, progress: Progress) -> tuple[Sequence[SetAside], frozenset[str]]:
    """Return the entries of a window that could not be delivered, and the names of those of all times.

    Those without a time count by the time when they were put aside.
    """
    found, names = [], set()
    for state in QuarantineState:
        for name, entry in in_order(quarantine.names_in_quarantine(state), partial(_told, quarantine, state), _READERS):
            names.add(name)
            if entry is not None and window.contains(int(entry.since) if entry.timestamp is None else entry.timestamp):
                found.append(entry)
            progress("entries in quarantine", len(names), None)
    return sorted(found, key=lambda entry: (entry.state, entry.since, entry.id)), frozenset(names)


def _told(quarantine: Quarantine, state: QuarantineState, name: str) -> tuple[str, SetAside | None]:
    """Return the name of an entry, and what is told of it; ``None`` if it has left in the meantime."""
    record = quarantine.read_quarantined(name, state)
    if record is None:
        return name, None
    return name, SetAside(state.value, record.entry.id, record.entry.timestamp, record.code, record.since)


# -- documents


def _trail(trail: TrailEvidence) -> dict[str, Any]:
    shown, basis = trail.shown
    settled, findings = trail.settled_until, findings_about(trail)
    return {
        **trail.chain.trail.fields,
        "verdict": verdict_of(trail, findings),
        "findings": [asdict(finding) for finding in findings],
        "shown": shown,
        "shown_basis": basis,
        "delivered": trail.delivered,
        "missing": trail.missing,
        "doubled": trail.doubled,
        "settled_until": None if settled is None else utc(settled),
        "quarantine": _quarantine(trail),
        "excluded": {"entries": trail.excluded, "by_rule": dict(sorted(trail.runs.excluded.items()))},
        "chain": _chain(trail),
        "runs": _runs(trail),
        "activity": _activity(trail),
        "archive": _archive(trail),
        "longest_delay": _longest_delay(trail),
        "reconciliation": _reconciliation(trail),
    }


def _quarantine(trail: TrailEvidence) -> dict[str, Any]:
    open_ones = [each for each in trail.set_aside if each.state == "quarantined"]
    listed = [
        {
            "id": each.id,
            "state": each.state,
            "reason": each.code,
            "time": None if each.timestamp is None else utc(each.timestamp),
            "since": _utc(each.since),
        }
        for each in trail.set_aside[:MAX_LISTED_ENTRIES]
    ]
    states = trail.states
    return {
        **{state: states[state] for state in ("quarantined", "released", "discarded")},
        "by_reason": dict(sorted(Counter(each.code for each in open_ones).items())),
        "entries": listed,
    }


def _chain(trail: TrailEvidence) -> dict[str, Any]:
    chain = trail.chain
    return {
        "place": chain.place,
        "reports": chain.count,
        "first_run": _run(chain.first),
        "last_run": _run(chain.last),
        "last_sha256": trail.checkpoint.run_sha256 if trail.checkpoint.run_number else None,
        "signatures": chain.signatures,
        "signed": chain.signed,
        "faults": len(chain.faults) + len(trail.reconciliation_faults),
    }


def _runs(trail: TrailEvidence) -> dict[str, Any]:
    return {
        **trail.runs.counts,
        "code_versions": trail.runs.code_versions,
        "reports": [
            {
                "number": run.number,
                "written_at": _utc(run.written_at),
                "delivered": run.counts["delivered"],
                "quarantined": run.counts["quarantined"],
                "sha256": run.sha256,
            }
            for run in trail.runs.runs
        ],
    }


def _activity(trail: TrailEvidence) -> dict[str, Any]:
    if trail.activity is None:
        by_day: Counter[str] = Counter()
        for run in trail.runs.runs:
            if run.written_at is not None:
                by_day[utc(int(run.written_at))[:10]] += run.counts["delivered"]
        days = [{"day": day, "entries": count, "kinds": {}} for day, count in sorted(by_day.items())]
        return {"basis": "time_of_run", "days": days, "kinds": {}, "outcomes": {}}
    kinds, outcomes = trail.activity.kinds, trail.activity.outcomes
    return {
        "basis": "time_of_request",
        "days": [
            {"day": day, "entries": found.total(), "kinds": {kind: found[kind] for kind in KINDS if found[kind]}}
            for day, found in sorted(trail.activity.by_day.items())
        ],
        "kinds": {kind: kinds[kind] for kind in KINDS},
        "outcomes": {outcome: outcomes[outcome] for outcome in OUTCOMES},
    }


def _archive(trail: TrailEvidence) -> dict[str, Any] | None:
    if trail.inspection is None:
        return None
    inspection, reported = trail.inspection, trail.chain.parts
    return {
        "place": inspection.place,
        "undated": 0 if trail.activity is None else trail.activity.undated,
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


def _longest_delay(trail: TrailEvidence) -> dict[str, Any] | None:
    longest = trail.runs.longest_delay()
    if longest is None:
        return None
    run, seconds = longest
    return {"at_most_seconds": round(max(seconds, 0)), "report": run.number}


def _reconciliation(trail: TrailEvidence) -> dict[str, Any] | None:
    coverage = trail.coverage
    if not coverage.results:
        return None
    return {
        "whole": coverage.is_whole,
        "exact": coverage.is_exact,
        "place": trail.reconciliations.place,
        "signatures": trail.reconciliations.signatures,
        **coverage.totals,
        "uncovered": [{"after": utc(gap.after), "before": utc(gap.before or 0)} for gap in coverage.uncovered],
        "results": [
            {
                "number": each.number,
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


VERB = Verb(EvidenceRequest.read, perform)
