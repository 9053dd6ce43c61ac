"""Backfill: delivering a range of request time that runs do not read any more, beside them.

Runs deliver everything from the checkpoint on, and sweep what is older. What they never read is older than the
beginning of the trail (``INITIAL_LOOKBACK_SECONDS``), or was left out once the cache had lost its marks. The range is
cut into slices, each with its own progress in the ledger, so whoever asks again continues, and several may work at
once, in one process or in many.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..domain.backfill import MAX_SLICES, Range, SliceProgress
from ..domain.backoff import backoff_seconds
from ..domain.checkpoint import Checkpoint
from ..domain.entry import MAX_RETENTION_SECONDS
from ..domain.gateway import Gateway
from ..domain.moment import utc
from ..domain.report import RunReport
from ..errors import (
    CollectorError,
    DestinationMisconfigured,
    LedgerError,
    RequestInvalid,
    RunFailed,
    SecretUnavailable,
    SourceRefused,
    TimeBudgetReached,
)
from ..ports import Findings
from ..run.beginning import FUTURE_SECONDS
from ..run.progress import has_lost_marks, report_beside_runs
from ..run.reading import Bounds
from ..run.slice import SliceEnd
from .fields import Fields
from .installation import Installation, TrailParts
from .verb import Progress, Verb

MAX_AT_ONCE = 8
"""Slices at once in one process."""

_DAY_SECONDS = 86_400
_HOUR_SECONDS = 3600
_READERS = 8
_REPORT_ATTEMPTS = 20
_MISCONFIGURATIONS = (DestinationMisconfigured, SecretUnavailable, SourceRefused)


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """To deliver a range.

    Parameters
    ----------
    range
        The range.
    plan
        Whether to return the slices only, and deliver nothing.
    slice
        The number of the only slice to work on; ``None``: all of them.
    at_once
        Slices to work on at the same time.
    parallel_deliveries
        Calls to the destination at the same time, at most; ``None``: as many as a run makes.
    redeliver
        Whether to deliver also what may have been delivered before the cache lost its marks.
    """

    range: Range
    plan: bool
    slice: int | None
    at_once: int
    parallel_deliveries: int | None
    redeliver: bool

    @classmethod
    def read(cls, fields: Fields) -> BackfillRequest:
        """Read the request."""
        window = fields.window()
        return cls(
            Range(window.after, window.before or window.after + 1),
            plan=fields.flag("plan"),
            slice=fields.number("slice", least=0, most=MAX_SLICES - 1, default=None),
            at_once=fields.number("at_once", least=1, most=MAX_AT_ONCE, default=1),
            parallel_deliveries=fields.number("parallel_deliveries", least=1, most=64, default=None),
            redeliver=fields.flag("redeliver"),
        )


@dataclass(frozen=True, slots=True)
class PlannedSlice:
    """A slice that is left to do, as an event asks for it.

    Parameters
    ----------
    parts
        The trail.
    number
        Its number in the range.
    range
        Its own range.
    """

    parts: TrailParts
    number: int
    range: Range

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        trail = self.parts.trail
        return {
            "stream": trail.stream,
            "destination": trail.destination,
            "slice": self.number,
            **self.range.fields,
        }


@dataclass(slots=True)
class BackfilledTrail:
    """How far the backfill of a trail is.

    Parameters
    ----------
    parts
        The trail.
    progress
        How far each slice is done.
    report
        The counts of this call.
    gone_before
        What the gateway has deleted before it could be read is older than this, Unix seconds; ``None``: nothing.
    busy
        Slices that another call is at work on.
    waits_for_run
        Whether this call could not begin, as a run of the trail was at work.
    """

    parts: TrailParts
    progress: list[SliceProgress]
    report: RunReport
    gone_before: int | None = None
    busy: int = 0
    waits_for_run: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether everything was read to its end, and is settled."""
        return all(one.done for one in self.progress)

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        report = self.report
        return {
            **self.parts.trail.fields,
            "finished": self.is_finished,
            "slices": len(self.progress),
            "slices_done": sum(one.done for one in self.progress),
            "slices_busy": self.busy,
            "waits_for_run": self.waits_for_run,
            "unreadable": sum(one.unreadable for one in self.progress),
            "gone_before": None if self.gone_before is None else utc(self.gone_before),
            "delivered": sum(one.delivered for one in self.progress),
            "quarantined": sum(one.quarantined for one in self.progress),
            "excluded": sum(one.excluded for one in self.progress),
            "call": {
                "run_id": report.run_id,
                "fetched": report.fetched,
                "duplicates": report.duplicates,
                "excluded": report.excluded,
                "delivered": report.delivered,
                "quarantined": report.quarantined,
                "shortened": report.shortened,
                "backlog": report.backlog,
                "seconds": round(report.run_seconds, 3),
            },
        }


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """How far the backfill is.

    Parameters
    ----------
    range
        The range.
    redeliver
        As it was asked for.
    trails
        The trails that were worked on.
    plan
        The slices that are left, if they were asked for.
    """

    range: Range
    redeliver: bool
    trails: Sequence[BackfilledTrail] = ()
    plan: Sequence[PlannedSlice] | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            **self.range.fields,
            "redeliver": self.redeliver,
            "finished": self.plan is None and all(trail.is_finished for trail in self.trails),
            "busy": any(trail.busy or trail.waits_for_run for trail in self.trails),
            "plan": None if self.plan is None else [one.document() for one in self.plan],
            "trails": [trail.document() for trail in self.trails],
        }


@dataclass(slots=True)
class _Prepared:
    """A trail whose backfill is possible."""

    parts: TrailParts
    gateway: Gateway
    bounds: Bounds
    slices: Sequence[Range]
    progress: list[SliceProgress]
    gone_before: int | None = None


def perform(request: BackfillRequest, installation: Installation, progress: Progress) -> BackfillResult:
    """Deliver what the range holds, as far as there is time. Asked again, it continues.

    Raises
    ------
    RequestInvalid
        If the range cannot be delivered: Kong no longer has it, or runs have yet to read it. Nothing was delivered.
    CollectorError
        If something was not delivered for another reason than lack of time. What was delivered is marked.
    """
    now = int(installation.clock.now())
    prepared = [_prepare(parts, request, now) for parts in installation.trails]
    if request.plan:
        left = [
            PlannedSlice(one.parts, number, part)
            for one in prepared
            for number, (part, done) in enumerate(zip(one.slices, one.progress, strict=True))
            if not done.is_settled
        ]
        return BackfillResult(request.range, request.redeliver, plan=left)
    trails = [_Work(one, request, installation, progress).do() for one in prepared]
    return BackfillResult(request.range, request.redeliver, trails)


# -- whether it is possible


def _refusal(problem: str) -> RequestInvalid:
    return RequestInvalid([problem])


def _prepare(parts: TrailParts, request: BackfillRequest, now: int) -> _Prepared:
    checkpoint = _checkpoint_of(parts, request.range, now)
    if not parts.plan.may_overlap and not request.redeliver:
        _refuse_lost_marks(parts, checkpoint, request.range)
    slices = request.range.slices()
    source = parts.source
    gateway = source.describe()
    bounds = Bounds.of(now, gateway.clock, gateway_ahead_seconds=checkpoint.gateway_ahead_seconds)
    if request.slice is not None:
        # Whoever made the plan has asked the rest. Each request of the gateway becomes an entry itself.
        if request.slice >= len(slices):
            raise _refusal(f"slice: the range has {len(slices)} slices, numbered from 0.")
        chosen = [slices[request.slice]]
        return _Prepared(parts, gateway, bounds, chosen, [parts.ledger.load_slice(request.range, chosen[0])])
    with ThreadPoolExecutor(_READERS, thread_name_prefix="progress") as readers:
        progress = list(readers.map(lambda part: parts.ledger.load_slice(request.range, part), slices))
    prepared = _Prepared(parts, gateway, bounds, slices, progress)
    left = [part for part, done in zip(slices, progress, strict=True) if not done.done]
    if not left:
        return prepared
    if not source.filters_by_time(bounds.latest + FUTURE_SECONDS):
        raise _refusal(
            "This gateway does not filter by time, so each run reads everything that it keeps, and nothing is left "
            "to a backfill but what INITIAL_LOOKBACK_SECONDS has left out. For that, upgrade Kong to 3.4.3.9, "
            "3.5.0.5, 3.6.1.5, 3.7.0.0 or later."
        )
    gone_before = _gone_before(parts, Range(left[0].after, request.range.before), bounds)
    if gone_before is not None and not any(done.version for done in progress):
        # To the full hour: it is a moving target.
        begin = -(-gone_before // _HOUR_SECONDS) * _HOUR_SECONDS
        raise _refusal(
            f"Kong no longer has entries from before {utc(gone_before)}: it deletes them once they are older than "
            f"audit_log_record_ttl. Give --after {utc(begin)} or later."
        )
    prepared.gone_before = gone_before
    return prepared


def _checkpoint_of(parts: TrailParts, backfill: Range, now: int) -> Checkpoint:
    if not parts.plan.keep_checkpoint:
        raise _refusal("A backfill keeps its progress in the ledger. Set LEDGER.")
    checkpoint = parts.ledger.load_checkpoint()
    if backfill.before > now:
        raise _refusal(f"before: {utc(backfill.before)} is in the future.")
    if backfill.after < now - MAX_RETENTION_SECONDS:
        raise _refusal(f"after: no gateway keeps entries from {utc(backfill.after)} until now.")
    if checkpoint.complete_until is None:
        raise _refusal(
            f"There is no checkpoint of {parts.trail}: no run has delivered anything yet. Let one run first: runs "
            "read everything from there on, and a backfill what is older."
        )
    read_by_runs = checkpoint.complete_until - parts.plan.overlap_seconds
    if checkpoint.reading is not None and checkpoint.reading.window is not None:
        read_by_runs = min(read_by_runs, checkpoint.reading.window.after)
    if backfill.before > read_by_runs:
        raise _refusal(
            f"The next run of {parts.trail} reads everything from {utc(read_by_runs)} on, so that is nothing for a "
            f"backfill. Give --before {utc(read_by_runs)} or earlier."
        )
    return checkpoint


def _refuse_lost_marks(parts: TrailParts, checkpoint: Checkpoint, backfill: Range) -> None:
    is_lost = checkpoint.cache is not None and has_lost_marks(checkpoint.cache, parts.seen.look())
    whole_after = checkpoint.complete_until if is_lost else checkpoint.marks_whole_after
    if whole_after is None or backfill.after >= whole_after:
        return
    raise _refusal(
        f"The cache has lost its marks of entries from before {utc(whole_after)}, so what was delivered of them "
        "cannot be told from what was not. Give --after that moment or later, or --redeliver: then everything that "
        "is not marked is delivered, and some of it for the second time, with the same UID."
    )


def _gone_before(parts: TrailParts, left: Range, bounds: Bounds) -> int | None:
    """Return the moment before which the gateway has deleted entries of a range; ``None`` if it has all of them."""
    if parts.source.has_entries_before(left.after + 1):
        return None
    page = next(iter(parts.source.pages(left.window)), None)
    entries = [entry for entry in page.entries if left.has(entry.timestamp)] if page is not None else []
    if not entries:
        return None if parts.source.has_entries_before(left.before) else left.before
    # An entry expires when it was recorded plus the retention: it says when, so the retention follows.
    retention_seconds = max(bounds.gateway + one.remaining_seconds - (one.timestamp or 0) for one in entries)
    gone_before = bounds.gateway - retention_seconds
    return gone_before if gone_before > left.after else None


# -- the work


@dataclass(slots=True)
class _Work:
    """The work on the slices of one trail."""

    prepared: _Prepared
    request: BackfillRequest
    installation: Installation
    progress: Progress
    problems: list[CollectorError] = field(default_factory=list)
    ends: list[SliceEnd] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def do(self) -> BackfilledTrail:
        """Work on the slices that are left, the oldest first."""
        prepared, parts = self.prepared, self.prepared.parts
        clock = self.installation.clock
        started = clock.monotonic()
        plan = parts.plan
        report = RunReport(plan.trail, plan.run_id, window=self.request.range.window)
        report.backfill = self.request.range.window
        left = [number for number, one in enumerate(prepared.progress) if not one.is_settled]
        if left:
            parts.seen.open()
            self._show()
            self._work_on(left)
        for end in self.ends:
            report.add(end.report)
        trail = BackfilledTrail(parts, prepared.progress, report, prepared.gone_before)
        trail.busy = sum(end.is_busy for end in self.ends)
        trail.waits_for_run = any(end.waited for end in self.ends)
        report.finished = trail.is_finished
        report.run_seconds = clock.monotonic() - started
        self._report(report)
        if report.excluded_counted:
            self.installation.telemetry.count(parts.trail, {"EntriesExcluded": report.excluded_counted})
        self.installation.telemetry.info("BACKFILL_CALL_ENDED", "A call of a backfill ended.", report=report.summary())
        self._raise_problems(report)
        return trail

    def _work_on(self, left: Sequence[int]) -> None:
        usual = self.prepared.parts.plan.parallel_deliveries
        lanes = min(usual, self.request.parallel_deliveries or usual)
        at_once = min(self.request.at_once, lanes, len(left))
        numbers = self._numbers(left)
        with ThreadPoolExecutor(at_once, thread_name_prefix="slice") as workers:
            list(workers.map(lambda _: self._work_in_turn(numbers, lanes // at_once), range(at_once)))

    def _numbers(self, left: Sequence[int]) -> Callable[[], int | None]:
        """Return a function that returns the next slice to work on; ``None`` if there is none, or no time."""
        pending: Iterator[int] = iter(left)
        guard = self.prepared.parts.reading_guard

        def following() -> int | None:
            with self._lock:
                return None if self.problems or guard.remaining_seconds() < 0 else next(pending, None)

        return following

    def _work_in_turn(self, numbers: Callable[[], int | None], lanes: int) -> None:
        prepared = self.prepared
        while (number := numbers()) is not None:
            try:
                run = prepared.parts.slice_run(self.request.range, prepared.slices[number], lanes)
                end = run.run(prepared.gateway, prepared.bounds)
            except TimeBudgetReached:
                return
            except CollectorError as error:
                with self._lock:
                    self.problems.append(error)
                return
            with self._lock:
                prepared.progress[number] = end.progress
                self.ends.append(end)
                self.problems += end.problems
                self._show()

    def _show(self) -> None:
        done = [one.done for one in self.prepared.progress]
        self.progress("slices", sum(done), len(done))

    def _report(self, report: RunReport) -> None:
        """Add the call's report to the chain of run reports, if there is something to report."""
        parts = self.prepared.parts
        findings = parts.destination.findings() or Findings()
        try:
            reported = parts.ledger.load_checkpoint().reported
            written = [part for one in self.prepared.progress for part in one.parts]
            own = [part for end in self.ends for part in end.report.parts]
            found = {part.name: part for part in (*findings.parts, *written) if reported.lacks(part)}
            report.parts = list((found | {part.name: part for part in own}).values())
            if report.delivered or report.quarantined or report.parts or report.excluded_counted:
                report_beside_runs(
                    parts.ledger,
                    report,
                    names_all_parts=not findings.may_lack_parts,
                    attempts=_REPORT_ATTEMPTS,
                    wait=lambda attempt: self.installation.clock.sleep(backoff_seconds(min(attempt, 3))),
                )
        except LedgerError as error:
            self.problems.append(error)

    def _raise_problems(self, report: RunReport) -> None:
        if not self.problems:
            return
        for problem in self.problems:
            if isinstance(problem, (*_MISCONFIGURATIONS, RequestInvalid)):
                raise problem
        raise RunFailed(list(dict.fromkeys(str(problem) for problem in self.problems)), report.summary())


VERB = Verb(BackfillRequest.read, perform)
