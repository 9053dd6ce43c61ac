"""How far a trail is done: the checkpoint moves past stretches that are settled, and only past those.

An entry is settled once it is delivered or in quarantine, and marked. The checkpoint is the newest request time that
the gateway showed, so it trusts no clock. It moves stretch by stretch, in order. If a stretch could not be read or
delivered while newer ones are settled, it becomes a gap: the trail continues, and the gap is read again until it is
closed.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from ..domain.checkpoint import CacheState, Checkpoint, OpenGap
from ..domain.exclusion import ExcludedEntry
from ..domain.gateway import UNKNOWN_VERSION
from ..domain.report import RunReport
from ..domain.window import Window
from ..errors import CheckpointConflict, LedgerError
from ..ports import Findings, Gap, Ledger
from .reading import Bounds, Purpose, Stretch

CLOCK_TOLERANCE_SECONDS = 300
"""The clocks of a control plane's nodes may differ by so much without a warning."""

SAVE_ATTEMPTS = 5
"""Attempts to add a report to the chain while other runs save the checkpoint, too."""

MAX_GAPS = 100
"""Gaps that are kept at a time. With more, something else is wrong, and the checkpoint stays."""

NO_FINDINGS = Findings()

_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the state that an operator should know.

    Parameters
    ----------
    code
        Stable, for runbooks and searches.
    message
        What happened, and what follows from it.
    """

    code: str
    message: str


class Progress:
    """The checkpoint of a run.

    Parameters
    ----------
    ledger
        Where it is kept.
    keep
        Whether there is a checkpoint; if not, every run begins as the first one does.
    overlap_seconds
        How far before the checkpoint a run begins.
    sweep_seconds
        Time from the beginning of a sweep to that of the next one; 0: no sweeps.
    may_overlap
        Whether another run may move the checkpoint at the same time.
    report
        The run's report, with the parts that it has written so far.
    rules
        Names of the rules that exclude entries in this run.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        keep: bool,
        overlap_seconds: int,
        sweep_seconds: int,
        may_overlap: bool,
        report: RunReport,
        rules: tuple[str, ...] = (),
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._may_overlap = may_overlap
        self._report = report
        self._keep = keep
        self._overlap_seconds = overlap_seconds
        self._sweep_seconds = sweep_seconds
        self._saved = ledger.load_checkpoint() if keep else Checkpoint()
        if keep:
            report.excluded_counted = 0
        self._checkpoint = self._saved
        self._unreported = self._saved.parts
        """Parts of runs that died before they could report them."""
        self._now = 0
        self._new = _Track(self._advance, self._add_gaps, passes_empty=False)
        self._swept = _Track(
            lambda stretch, _: self._advance_sweep(stretch), self._add_gaps_of_sweep, passes_empty=True
        )
        self._retried: list[tuple[Stretch, list[Future[bool]]]] = []
        self._still_open: set[OpenGap] = set()
        self._narrowed: dict[OpenGap, OpenGap] = {}
        self._passed: dict[OpenGap, list[Gap]] = {}
        """Rows of gaps that are not read to their end yet, which still could not be read."""
        self._has_reported = False
        self._names_all_parts = True
        self._cannot_save: LedgerError | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """The current checkpoint, saved or not."""
        return self._checkpoint

    @property
    def is_blocked(self) -> bool:
        """Whether new entries were read that the checkpoint cannot pass."""
        return self._new.is_stuck

    @property
    def settled_until(self) -> int | None:
        """Up to when everything is settled, except for gaps, Unix seconds; ``None`` if that is not known."""
        moments = [self._checkpoint.complete_until, self._checkpoint.caught_up_at]
        return max((moment for moment in moments if moment is not None), default=None)

    @property
    def behind_since(self) -> int | None:
        """When everything was last delivered, or else when the first run began: Unix seconds by our own clock."""
        caught_up_at = self._checkpoint.caught_up_at
        return self._checkpoint.first_run_at if caught_up_at is None else caught_up_at

    # -- when a run begins

    def begin(self, cache: CacheState, gateway_version: str, bounds: Bounds) -> Iterator[Notice]:
        """Compare cache, gateway and clocks with what the last run saved, and adapt the checkpoint.

        Parameters
        ----------
        cache
            The cache that holds the marks.
        gateway_version
            The gateway's version.
        bounds
            What the clocks say.

        Yields
        ------
        Notice
            What has changed.
        """
        self._now = bounds.now
        before = self._checkpoint
        if before.cache is not None and has_lost_marks(before.cache, cache):
            yield self._marks_were_lost()
        if self._clock_jumped(bounds):
            yield self._begin_earlier(bounds)
        if self._rules != before.excluded.rules:
            yield from self._rules_changed()
        if gateway_version == UNKNOWN_VERSION:
            gateway_version = before.gateway_version or gateway_version
        if before.gateway_version not in (None, UNKNOWN_VERSION, gateway_version):
            self.sweep_soon()
        due = self._checkpoint.sweep_due
        if self._sweep_seconds and (due is None or due > bounds.now + self._sweep_seconds):
            # The first reading is a sweep. A due time that is too far ahead was set by a clock that was ahead.
            due = bounds.now + self._sweep_seconds if due is None else bounds.now
        self._checkpoint = replace(
            self._checkpoint,
            first_run_at=bounds.now if before.first_run_at is None else min(before.first_run_at, bounds.now),
            cache=cache,
            gateway_version=gateway_version,
            gateway_ahead_seconds=bounds.gateway - bounds.now,
            sweep_due=due if self._sweep_seconds else None,
        )

    def begin_at(self, beginning: int) -> None:
        """Save where the trail begins, Unix seconds, before anything is read.

        If each run computed it anew, entries that the run before could not deliver would be skipped.

        Raises
        ------
        LedgerError
            If it could not be saved.
        """
        self._checkpoint = replace(self._checkpoint, begins_at=beginning)
        self._save()

    def _marks_were_lost(self) -> Notice:
        checkpoint = self._checkpoint
        unfinished = checkpoint.reading
        done_until = checkpoint.complete_until
        if unfinished is not None and unfinished.window is not None:
            done_until = max(done_until or 0, unfinished.window.after)
        whole_after = None if done_until is None else max(done_until - self._overlap_seconds, 0)
        self._checkpoint = replace(checkpoint, marks_whole_after=whole_after, sweep=None)
        return Notice(
            "MARKS_LOST",
            "The cache was emptied, replaced, or restored from an old snapshot since the last run. Entries within the "
            "overlap are delivered once more, with the same UID. Older entries count as delivered: sweeps do not go "
            "back further until the gateway has deleted them.",
        )

    def _rules_changed(self) -> Iterator[Notice]:
        """Exclude by other rules from now on."""
        checkpoint = self._checkpoint
        if checkpoint.first_run_at is None:
            self._checkpoint = replace(checkpoint, excluded=replace(checkpoint.excluded, rules=self._rules))
            return
        excluded = checkpoint.excluded.under(self._rules)
        self._checkpoint = replace(checkpoint, excluded=excluded)
        if excluded.awaits_sweep:
            self.sweep_soon()
        yield Notice(
            "EXCLUSION_CHANGED",
            f"The rules that leave entries out have changed. Now in force: {', '.join(self._rules) or 'none'}. They "
            "count from this run on, for what it reads. What earlier rules have left out and none does now is "
            "delivered by the next sweep, as far as the gateway still has it.",
        )

    def _clock_jumped(self, bounds: Bounds) -> bool:
        """Return whether the checkpoint is in the future: then a clock was ahead, or is behind now."""
        checkpoint = self._checkpoint
        # The overlap covers smaller differences.
        tolerance_seconds = max(CLOCK_TOLERANCE_SECONDS, self._overlap_seconds)
        by_gateway = (checkpoint.complete_until or 0) > bounds.earliest + tolerance_seconds
        return by_gateway or (checkpoint.caught_up_at or 0) > bounds.now + tolerance_seconds

    def _begin_earlier(self, bounds: Bounds) -> Notice:
        checkpoint = self._checkpoint
        whole_after = checkpoint.marks_whole_after
        if whole_after is not None:
            # Neither marks nor clocks show what was delivered: better twice than never.
            whole_after = min(whole_after, bounds.earliest - _DAY_SECONDS)
        reading = checkpoint.reading
        if reading is not None and reading.window is not None and reading.window.after > bounds.earliest:
            reading = None
        self._checkpoint = replace(
            checkpoint,
            complete_until=min(checkpoint.complete_until or 0, bounds.earliest) or None,
            caught_up_at=None if checkpoint.caught_up_at is None else min(checkpoint.caught_up_at, bounds.now),
            reading=reading,
            marks_whole_after=whole_after,
            sweep=None,
        )
        self.sweep_soon()
        return Notice(
            "CLOCK_JUMPED",
            "The checkpoint is in the future: a clock of the control plane or of this machine was ahead, or is behind "
            "now. A sweep will find entries that were missed because of it. Set the clocks by NTP.",
        )

    def marks_are_whole_again(self) -> None:
        """Record that the gateway no longer keeps entries that may have lost their marks."""
        self._checkpoint = replace(self._checkpoint, marks_whole_after=None)

    def sweep_soon(self) -> None:
        """Make a new sweep due in the next run."""
        if self._sweep_seconds:
            self._checkpoint = replace(self._checkpoint, sweep=None, sweep_due=self._now)

    # -- during a run

    def stretch_read(
        self, stretch: Stretch, outcomes: list[Future[bool]], excluded: Sequence[ExcludedEntry] = ()
    ) -> None:
        """Record that a stretch was read to its end, with the outcomes of its batches, and what was left out of it."""
        match stretch.purpose:
            case Purpose.NEW:
                self._new.add(stretch, outcomes, excluded)
            case Purpose.SWEEP:
                self._swept.add(stretch, outcomes)
            case Purpose.GAP:
                self._retried.append((stretch, outcomes))

    def move(self) -> None:
        """Save what is settled by now.

        If the ledger cannot be written, the run continues without: what was delivered is marked.

        Raises
        ------
        CheckpointConflict
            If another run has saved the checkpoint since.
        """
        self.settle()
        if self._cannot_save is None and self._is_worth_saving():
            self._try_to_save()

    def settle(self) -> None:
        """Advance past all stretches that are settled by now, without saving."""
        self._settle_gaps()
        self._new.settle(self._now)
        self._swept.settle(self._now)

    def save(self, findings: Findings = NO_FINDINGS) -> None:
        """Save the checkpoint, and add the run's report to the chain if there is something to report.

        That is, if the run delivered or quarantined something, or if there is something that no report has: parts,
        excluded entries, other rules.

        Parameters
        ----------
        findings
            What the run came across.

        Raises
        ------
        LedgerError
            If one of the two could not be written.
        """
        if not self._keep:
            return
        report = self._report
        known = {part.name for part in report.parts}
        found = [part for part in findings.parts if self._saved.reported.lacks(part)]
        self._names_all_parts = not findings.may_lack_parts
        report.parts += [part for part in (*self._unreported, *found) if part.name not in known]
        reports = bool(report.delivered or report.quarantined or report.parts)
        reports |= not self._checkpoint.excluded.is_reported
        try:
            if self._cannot_save is not None:
                self._save()  # before the report: otherwise every run would add one that no checkpoint refers to
            unreported = self._checkpoint.excluded.unreported
            if reports:
                self._checkpoint = self._reported(self._ledger.add_report(report, self._checkpoint))
                self._has_reported = True
            if self._checkpoint != self._saved:
                self._save()
            report.excluded_counted = unreported
        except CheckpointConflict:
            if not self._may_overlap:
                raise
            if reports:
                self._report_beside_another_run(self._checkpoint if self._has_reported else None)

    def _reported(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return a checkpoint that counts the run's parts as reported."""
        checkpoint = _with_reported(checkpoint, self._report, names_all_parts=self._names_all_parts)
        return replace(checkpoint, parts=(), excluded=checkpoint.excluded.as_reported())

    def _report_beside_another_run(self, added: Checkpoint | None) -> None:
        """Add the report to the chain, and leave everything else in the checkpoint as the other run has saved it."""
        report_beside_runs(self._ledger, self._report, added, names_all_parts=self._names_all_parts)

    def _is_worth_saving(self) -> bool:
        now, saved = self._checkpoint, self._saved
        return (now.complete_until, now.reading, now.gaps, now.sweep) != (
            saved.complete_until,
            saved.reading,
            saved.gaps,
            saved.sweep,
        )

    def _try_to_save(self) -> None:
        try:
            self._save()
        except CheckpointConflict:
            raise
        except LedgerError as error:
            self._cannot_save = error  # tried once more at the end

    def _save(self) -> None:
        if self._keep:
            if not self._has_reported:
                unreported = {part.name: part for part in (*self._unreported, *self._report.parts)}
                self._checkpoint = replace(self._checkpoint, parts=tuple(unreported.values()))
            self._checkpoint = self._saved = self._save_over_reports()

    def _save_over_reports(self) -> Checkpoint:
        """Save the checkpoint, also if a backfill has added its report to the chain meanwhile."""
        for _ in range(SAVE_ATTEMPTS):
            try:
                return self._ledger.save_checkpoint(self._checkpoint)
            except CheckpointConflict:
                newest = self._ledger.load_checkpoint()
                if _with_chain_of(newest, self._saved) != self._saved or newest.version == self._saved.version:
                    raise
                self._saved = newest
                chain = newest if newest.run_number > self._checkpoint.run_number else self._checkpoint
                reported = self._reported(newest) if self._has_reported else newest
                self._checkpoint = replace(
                    _with_chain_of(self._checkpoint, chain), version=newest.version, reported=reported.reported
                )
        return self._ledger.save_checkpoint(self._checkpoint)

    # -- what settled stretches change

    def _advance(self, stretch: Stretch, found: Sequence[ExcludedEntry]) -> None:
        checkpoint = self._checkpoint
        complete_until = checkpoint.complete_until
        if stretch.complete_until is not None:
            complete_until = max(stretch.complete_until, complete_until or stretch.complete_until)
        gaps = checkpoint.gaps
        has_caught_up = stretch.position is None and stretch.reading_proven
        is_whole = has_caught_up and stretch.slice_window is None
        if is_whole:
            # Everything was read: earlier gaps are settled, or were found again.
            gaps = tuple(gap for gap in gaps if gap.since >= stretch.began_at)
        excluded = checkpoint.excluded.plus(found)
        if stretch.complete_until is not None or stretch.position is None:
            excluded = excluded.read_until((complete_until or 0) - self._overlap_seconds)
        self._checkpoint = replace(
            checkpoint,
            complete_until=complete_until,
            caught_up_at=stretch.began_at if has_caught_up else checkpoint.caught_up_at,
            reading=stretch.position,
            gaps=gaps,
            excluded=replace(excluded, awaits_sweep=False) if is_whole else excluded,
        )

    def _advance_sweep(self, stretch: Stretch) -> None:
        checkpoint = self._checkpoint
        due = stretch.began_at + self._sweep_seconds if stretch.position is None else checkpoint.sweep_due
        excluded = checkpoint.excluded
        if stretch.position is None:
            excluded = replace(excluded, awaits_sweep=False)
        self._checkpoint = replace(checkpoint, sweep=stretch.position, sweep_due=due, excluded=excluded)

    def _settle_gaps(self) -> None:
        """Close gaps that are settled, and narrow those that are settled in part."""
        pending, self._retried = self._retried, []
        in_flight: set[OpenGap] = set()
        for stretch, outcomes in pending:
            gap = stretch.retried
            if gap is None or gap in self._still_open:
                continue  # an earlier stretch of it is not settled, and stretches count in order
            if gap in in_flight or not all(outcome.done() for outcome in outcomes):
                in_flight.add(gap)
                self._retried.append((stretch, outcomes))
            elif stretch.proven and all(outcome.result() for outcome in outcomes):
                self._narrow(gap, stretch)
            else:
                self._still_open.add(gap)

    def _narrow(self, gap: OpenGap, stretch: Stretch) -> None:
        """Shrink a gap by what a settled stretch of it has read: rows come newest first."""
        if stretch.position is not None and not stretch.newest_first:
            # What was read may be anywhere in the gap, so it stays as it is until everything is read.
            self._passed.setdefault(gap, []).extend(stretch.gaps)
            return
        current = self._narrowed.pop(gap, gap)
        others = list(self._checkpoint.gaps)
        with contextlib.suppress(ValueError):
            others.remove(current)  # once: a row in it that still cannot be shown may be an equal gap
        if stretch.position is not None:
            if stretch.span is not None:
                after = 0 if gap.window is None else gap.window.after
                current = replace(gap, window=Window(after, stretch.span.after + 1))
            self._narrowed[gap] = current
            others.append(current)
        passed = dict.fromkeys([*self._passed.pop(gap, []), *stretch.gaps])
        found = [_unreadable(one, gap.since) for one in passed]
        # As long as the gap is being read, it is one of its own, and nothing is joined with it.
        self._set_gaps([*others, *found] if stretch.position is not None else self._joined(others, found))

    def _add_gaps(self, gaps: Sequence[OpenGap]) -> bool:
        """Add gaps, unless they cannot be kept; return whether they were added."""
        known = {gap.window for gap in self._lasting_gaps if gap.window is not None}
        added = [gap for gap in gaps if gap.window not in known]
        everything = self._joined(self._checkpoint.gaps, added)
        if added and (not self._keep or len(everything) > MAX_GAPS):
            return False
        self._set_gaps(everything)
        return True

    def _add_gaps_of_sweep(self, gaps: Sequence[OpenGap]) -> bool:
        """Add gaps, but none of unknown time beside another: for each of these, everything is read again."""
        if any(gap.window is None for gap in self._lasting_gaps):
            gaps = [gap for gap in gaps if gap.window is not None]
        return self._add_gaps(gaps)

    @property
    def _lasting_gaps(self) -> list[OpenGap]:
        """The gaps without those that may be about to be closed: they were read before what is found now."""
        being_read = {self._narrowed.get(gap, gap) for stretch, _ in self._retried if (gap := stretch.retried)}
        return [gap for gap in self._checkpoint.gaps if gap not in being_read]

    def _joined(self, gaps: Sequence[OpenGap], added: Iterable[OpenGap]) -> list[OpenGap]:
        """Return gaps and added ones; of the unreadable, those that overlap are made one."""
        lasting = set(self._lasting_gaps)
        joined = [gap for gap in gaps if gap in lasting]
        for gap in added:
            joined = _with_gap(joined, gap)
        return [*(gap for gap in gaps if gap not in lasting), *joined]

    def _set_gaps(self, gaps: Sequence[OpenGap]) -> None:
        ordered = sorted(gaps, key=lambda gap: gap.window.after if gap.window else 0)
        self._checkpoint = replace(self._checkpoint, gaps=tuple(ordered))


def report_beside_runs(
    ledger: Ledger,
    report: RunReport,
    added: Checkpoint | None = None,
    *,
    names_all_parts: bool = True,
    attempts: int = SAVE_ATTEMPTS,
    wait: Callable[[int], None] = lambda attempt: None,
) -> None:
    """Add a report to the chain, and leave everything else in the checkpoint as others have saved it, or will.

    If they save it again and again, the report is in the chain all the same, and the next one continues it.

    Parameters
    ----------
    ledger
        The ledger of the trail.
    report
        The report.
    added
        A checkpoint that refers to the report, if it is in the chain already.
    names_all_parts
        Whether the report names all parts that were written.
    attempts
        Attempts to save the checkpoint.
    wait
        Waits after a failed attempt, whose number it gets.
    """
    for attempt in range(1, attempts + 1):
        newest = ledger.load_checkpoint()
        if added is None:
            added = ledger.add_report(report, newest)
        if added.run_number > newest.run_number:
            newest = replace(newest, run_number=added.run_number, run_sha256=added.run_sha256)
        try:
            ledger.save_checkpoint(_with_reported(newest, report, names_all_parts=names_all_parts))
        except CheckpointConflict:
            wait(attempt)
            continue
        return


def _with_reported(checkpoint: Checkpoint, report: RunReport, *, names_all_parts: bool) -> Checkpoint:
    reported = checkpoint.reported.plus(report.run_id, report.parts, names_all_parts=names_all_parts)
    return replace(checkpoint, reported=reported)


def _with_chain_of(checkpoint: Checkpoint, other: Checkpoint) -> Checkpoint:
    """Return a checkpoint with what another one says about the chain of reports, and with its version."""
    return replace(
        checkpoint,
        run_number=other.run_number,
        run_sha256=other.run_sha256,
        reported=other.reported,
        version=other.version,
    )


class _Track:
    """Stretches of one reading, in order.

    Parameters
    ----------
    advance
        Called with each settled stretch, once all stretches before it are settled or are gaps, and with what was
        excluded in these and in it.
    add_gaps
        Called with new gaps; returns whether they can be kept.
    passes_empty
        Whether a stretch without entries lets undelivered stretches before it become gaps.
    """

    def __init__(
        self,
        advance: Callable[[Stretch, Sequence[ExcludedEntry]], None],
        add_gaps: Callable[[Sequence[OpenGap]], bool],
        *,
        passes_empty: bool,
    ) -> None:
        self._advance = advance
        self._add_gaps = add_gaps
        self._passes_empty = passes_empty
        self._open: deque[tuple[Stretch, Sequence[Future[bool]], Sequence[ExcludedEntry]]] = deque()
        self._stuck: list[OpenGap | None] = []
        self._excluded: list[ExcludedEntry] = []

    @property
    def is_stuck(self) -> bool:
        """Whether a stretch could not be settled, and no newer one is settled."""
        return bool(self._stuck)

    def add(self, stretch: Stretch, outcomes: Sequence[Future[bool]], excluded: Sequence[ExcludedEntry] = ()) -> None:
        """Add the next stretch."""
        self._open.append((stretch, outcomes, excluded))

    def settle(self, now: int) -> None:
        """Advance past the stretches that are settled by now."""
        while self._open and all(outcome.done() for outcome in self._open[0][1]):
            stretch, outcomes, excluded = self._open.popleft()
            self._excluded += excluded
            # Without filters there is no window to read again: the reading continues, but proves nothing.
            can_be_passed = (stretch.proven or stretch.slice_window is None) and not stretch.failed
            if not can_be_passed or not all(outcome.result() for outcome in outcomes):
                self._stuck.append(stretch.as_gap(now))
            elif stretch.span is None and not stretch.gaps and self._awaits_delivery:
                continue  # nothing newer was delivered: the destination accepts nothing at all, and that is no gap
            elif self._pass(stretch, now):
                self._advance(stretch, self._excluded)
                self._excluded = []
            else:
                self._stuck.append(None)

    @property
    def _awaits_delivery(self) -> bool:
        return not self._passes_empty and any(gap is not None and gap.kind == "undelivered" for gap in self._stuck)

    def _pass(self, stretch: Stretch, now: int) -> bool:
        """Turn stuck stretches before a settled one, and rows that it passed, into gaps; return whether that worked."""
        stuck = [gap for gap in self._stuck if gap is not None]
        if len(stuck) < len(self._stuck):
            return False
        if not self._add_gaps([*stuck, *(_unreadable(gap, now) for gap in stretch.gaps)]):
            return False
        self._stuck.clear()
        return True


def _with_gap(gaps: Sequence[OpenGap], gap: OpenGap) -> list[OpenGap]:
    """Add a gap. Those that overlap with it and are unreadable, too, become one with it, as old as the oldest.

    If rows come in any order, the gap of a row is all that was being read, and every reading that meets the row again
    has other bounds.
    """
    if gap.window is None or gap.window.before is None or gap.kind != "unreadable":
        return [*gaps, gap]
    after, before, since = gap.window.after, gap.window.before, gap.since
    others = []
    for one in gaps:
        window = one.window
        if window is None or window.before is None or one.kind != gap.kind:
            others.append(one)
        elif window.after < gap.window.before and gap.window.after < window.before:
            after, before, since = min(after, window.after), max(before, window.before), min(since, one.since)
        else:
            others.append(one)
    return [*others, OpenGap(Window(after, before), gap.kind, gap.reason, since)]


def _unreadable(gap: Gap, since: int) -> OpenGap:
    return OpenGap(gap.window, "unreadable", gap.reason, since)


def has_lost_marks(remembered: CacheState, found: CacheState) -> bool:
    """Return whether the cache was emptied, replaced or restored from an old snapshot since it was remembered."""
    return found.cache_id != remembered.cache_id or found.marks_written < remembered.marks_written
