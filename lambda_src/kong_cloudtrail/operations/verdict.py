"""Whether a trail is complete: everything that counts for or against it, and what that comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..domain.moment import utc
from ..domain.window import Window
from .trail_evidence import SetAside, TrailEvidence

VERDICTS = ("incomplete", "empty", "unproven", "complete_with_exceptions", "complete")
"""What can be said of a trail, the worst first."""

FAULT, EXCEPTION, UNCHECKED, NOTE = "fault", "exception", "unchecked", "note"

_MOST_STRETCHES = 5
_MOST_NAMES = 3


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


def findings_about(trail: TrailEvidence) -> list[Finding]:
    """Return everything that counts for or against a trail, the gravest first."""
    found = [
        *_about_what_is_stored(trail),
        *_about_progress(trail),
        *_about_reconciliation(trail),
        *_about_quarantine(trail),
        *_about_filters(trail),
        *_about_the_beginning(trail),
        *_about_signatures(trail),
        *_notes(trail),
    ]
    order = (FAULT, EXCEPTION, UNCHECKED, NOTE)
    return sorted(found, key=lambda finding: order.index(finding.severity))


def verdict_of(trail: TrailEvidence, findings: Sequence[Finding]) -> str:
    """Return what all findings about a trail come to, as one word of a document."""
    severities = {finding.severity for finding in findings}
    if FAULT in severities:
        return "incomplete"
    if trail.is_empty:
        return "empty"
    if UNCHECKED in severities:
        return "unproven"
    return "complete_with_exceptions" if EXCEPTION in severities else "complete"


def _about_what_is_stored(trail: TrailEvidence) -> Iterator[Finding]:
    inspection = trail.inspection
    for text in (*trail.chain.faults, *trail.reconciliation_faults):
        yield Finding(FAULT, "chain_broken", text)
    for text in inspection.faults if inspection is not None else ():
        yield Finding(FAULT, "archive_altered", text)
    found = trail.found_delivered
    if inspection is not None and trail.activity is not None and found is not None:
        # Those without a time are of the period in which Kong showed them, and of no time in the archive.
        held = trail.delivered + trail.activity.undated
        if held < found:
            text = (
                f"The archive holds {held:,} entries of the period, and held {found:,} when it was compared with Kong."
            )
            yield Finding(FAULT, "fewer_than_compared", text)


def _about_progress(trail: TrailEvidence) -> Iterator[Finding]:
    if trail.is_empty:
        places = ", ".join(trail.chain.other_trails)
        advice = f" This ledger has trails of its own: {places}." if places else ""
        text = f"No run has delivered anything into {trail.chain.trail}, as far as {trail.chain.place} says.{advice}"
        yield Finding(UNCHECKED, "nothing_recorded", text)
        return
    settled = trail.settled_until
    if trail.is_over and (settled is None or settled < trail.before):
        until = "not known" if settled is None else utc(settled)
        text = f"Runs have delivered everything until {until} only, and not to the end of the period. Run `sync`."
        yield Finding(FAULT, "not_delivered_to_the_end", text)
    for gap in trail.checkpoint.gaps:
        if gap.window is None or gap.window.overlaps(trail.window):
            yield Finding(FAULT, "gap_open", _gap_text(gap.window, gap.kind))


def _about_reconciliation(trail: TrailEvidence) -> Iterator[Finding]:
    coverage = trail.coverage
    if trail.is_empty:
        return
    for name, code in (("missing", "entries_missing"), ("doubled", "entries_doubled")):
        if count := coverage.known(name):
            text = f"A comparison with Kong found that {_entries(count)} {name}. `reconcile` names each."
            yield Finding(FAULT, code, text)
    if count := coverage.known("unreadable"):
        text = f"Kong could not show all rows when it was compared: {count:,} stretches of them."
        yield Finding(FAULT, "rows_unreadable", text)
    if extra := coverage.known("extra"):
        text = (
            f"{_entries(extra)} kept that Kong did not show when it was compared, though none had expired by then. "
            "Kong has lost them, or somebody else has written them, such as another gateway into the same place. "
            "`reconcile` names each."
        )
        yield Finding(EXCEPTION, "entries_extra", text)
    if not coverage.results:
        text = "Not reconciled: what Kong showed was never compared with what is kept. `reconcile` does that."
        yield Finding(UNCHECKED, "not_reconciled", text)
    elif not coverage.is_whole:
        text = f"Only in part reconciled. Not compared with Kong: {_stretches(coverage.uncovered)}."
        yield Finding(UNCHECKED, "partly_reconciled", text)
    if coverage.is_whole and trail.doubled is None:
        text = (
            "It is not known whether entries are there twice: they were compared with our own marks of what was "
            "delivered, as nothing says which event data store to ask (EVENT_DATA_STORE)."
        )
        yield Finding(UNCHECKED, "doubles_not_checked", text)
    if coverage.is_whole and coverage.known("shown") == 0:
        text = (
            "Kong showed no entry at all. That is so if nobody called its Admin API, and also if its audit log was off "
            "or everything was ignored: nothing here can tell."
        )
        yield Finding(NOTE, "nothing_shown", text)


def _about_quarantine(trail: TrailEvidence) -> Iterator[Finding]:
    states = trail.states
    if lost := trail.lost_aside:
        names = ", ".join(lost[:_MOST_NAMES]) + (", …" if len(lost) > _MOST_NAMES else "")
        text = (
            f"{_entries(len(lost))} gone from the ledger that a comparison found there, in quarantine or discarded, "
            f"and that were not delivered: {names}."
        )
        yield Finding(FAULT, "quarantine_altered", text)
    if count := states["quarantined"]:
        text = f"{_entries(count)} in quarantine, kept whole and not delivered: {_reasons(trail, 'quarantined')}."
        yield Finding(EXCEPTION, "entries_quarantined", text)
    if count := states["discarded"]:
        reasons = _reasons(trail, "discarded")
        text = f"{_entries(count)} discarded from quarantine by somebody's decision, and kept on record: {reasons}."
        yield Finding(EXCEPTION, "entries_discarded", text)
    if count := states["released"]:
        yield Finding(NOTE, "entries_released", f"{_entries(count)} delivered later, from quarantine.")


def _about_filters(trail: TrailEvidence) -> Iterator[Finding]:
    if not trail.excluded:
        return
    of_runs = trail.runs.excluded
    rules = ", ".join(f"{rule}: {number:,}" for rule, number in sorted(of_runs.items())) or "none"
    found = f"; comparisons with Kong found {trail.coverage.known('excluded'):,}" if trail.coverage.results else ""
    text = f"{_entries(trail.excluded)} left out by filters of the configuration. Runs report {rules}{found}."
    yield Finding(EXCEPTION, "entries_excluded", text)


def _about_the_beginning(trail: TrailEvidence) -> Iterator[Finding]:
    begins, first_run = trail.checkpoint.begins_at, trail.checkpoint.first_run_at
    if begins is not None and trail.never_read:
        text = f"The trail begins at {utc(begins)}. Never read, also not by a backfill: {_stretches(trail.never_read)}."
        yield Finding(EXCEPTION, "begins_later", text)
    elif begins is not None and begins > trail.window.after:
        text = f"The trail begins at {utc(begins)}. Earlier requests of the period were delivered by a backfill."
        yield Finding(NOTE, "backfilled", text)
    elif first_run is not None and first_run > trail.window.after:
        text = f"The first run was at {utc(first_run)}. Of earlier requests, it read what Kong still retained."
        yield Finding(NOTE, "begins_with_what_was_retained", text)


def _about_signatures(trail: TrailEvidence) -> Iterator[Finding]:
    chain = trail.chain
    if not chain.signatures:
        if chain.count:
            text = (
                "Run reports are not signed, as there is no signing key. Their chain of hashes was checked, but "
                "whoever may write to ledger and archive could have written all of it anew."
            )
            yield Finding(NOTE, "not_signed", text)
    elif chain.signed is None:
        text = f"Signatures not checked: no key was given for the {chain.signatures:,} signatures of run reports."
        yield Finding(UNCHECKED, "signatures_not_checked", text)


def _notes(trail: TrailEvidence) -> Iterator[Finding]:
    if not trail.is_over:
        settled = trail.settled_until
        until = "" if settled is None else f" Delivered until {utc(settled)}."
        yield Finding(NOTE, "so_far", f"The period has not ended, so this is how it stands so far.{until}")
    inspection, activity = trail.inspection, trail.activity
    if inspection is None and trail.found_delivered is None:
        text = (
            "The destination was not read: numbers are those of the run reports, and may include entries of the "
            "hours next to the period."
        )
        yield Finding(NOTE, "counted_by_runs", text)
    if inspection is not None and inspection.unreported:
        text = f"{inspection.unreported} parts are of runs that may still be at work, and in no report yet."
        yield Finding(NOTE, "not_reported_yet", text)
    if activity is not None and activity.undated:
        text = f"{_entries(activity.undated)} without a usable time in the archive, which belong to no period."
        yield Finding(NOTE, "entries_undated", text)


def _stretches(windows: Sequence[Window]) -> str:
    named = "; ".join(f"{utc(each.after)} to {utc(each.before or 0)}" for each in windows[:_MOST_STRETCHES])
    further = len(windows) - _MOST_STRETCHES
    return f"{named} and {further} more" if further > 0 else named


def _entries(count: int) -> str:
    return f"{count:,} entry is" if count == 1 else f"{count:,} entries are"


def _reasons(trail: TrailEvidence, state: str) -> str:
    entries: Iterable[SetAside] = (each for each in trail.set_aside if each.state == state)
    counts = Counter(each.code for each in entries)
    return ", ".join(f"{code} ({count:,})" for code, count in sorted(counts.items()))


def _gap_text(window: Window | None, kind: str) -> str:
    where = "" if window is None else f" from {utc(window.after)}"
    where += "" if window is None or window.before is None else f" to {utc(window.before)}"
    what = "could not be read from Kong" if kind == "unreadable" else "could not be delivered"
    return f"A stretch{where} {what} yet. Runs try it again."
