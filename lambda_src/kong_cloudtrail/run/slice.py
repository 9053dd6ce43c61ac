"""One slice of a backfill: read, drop what is delivered, map, deliver, mark, save the progress.

It is a run over a window with an end. Runs from the checkpoint on go on beside it. Where the destination excludes
doubles by itself, nothing else is needed. Elsewhere neither of the two knows what the other has in flight, so both
leave alone what is the other's: the slice writes the backfill's range into the cache, then waits for the run that is
at work, if one is; runs that begin later read nothing that is older than the range's end. Slices have no entry in
common, so any number of them may be at work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from ..domain.backfill import Range, SliceProgress
from ..domain.checkpoint import Checkpoint, Position
from ..domain.exclusion import Excluded
from ..domain.gateway import Gateway
from ..domain.report import RunReport
from ..errors import (
    CheckpointConflict,
    CollectorError,
    DestinationError,
    LedgerError,
    SourceUnavailable,
    TimeBudgetReached,
)
from ..ports import BackfillLedger, Clock, Destination, SeenSet, SliceLock, Source, Telemetry
from .collector import MARK_MARGIN_SECONDS
from .delivery import Delivery
from .guard import RunGuard
from .intake import Intake
from .plan import Plan
from .reading import Bounds, Reader, Stretch, read_ahead

_WAIT_SECONDS = 1.0

_MIXED = (
    "The gateway's answers do not match the requests: its nodes run different releases, or a proxy answers in its "
    "place. Finish the upgrade, or check what is between this collector and the gateway; then ask for the backfill "
    "again."
)


@dataclass(frozen=True, slots=True)
class SliceEnd:
    """How the work on a slice ended.

    Parameters
    ----------
    progress
        How far it is done.
    report
        The counts of this call.
    problems
        What went wrong, other than lack of time.
    is_busy
        Whether another call is at work on it.
    waited
        Whether time was up before the run ended that was at work on the trail.
    """

    progress: SliceProgress
    report: RunReport
    problems: Sequence[CollectorError] = ()
    is_busy: bool = False
    waited: bool = False


@dataclass(frozen=True, slots=True)
class _Settled:
    """Up to where everything is settled: as in `SliceProgress`; `excluded` by this call."""

    resume: str | None = None
    done: bool = False
    unreadable: int = 0
    excluded: int = 0


class SliceRun:
    """Delivers a slice of a backfill.

    Parameters
    ----------
    plan
        The settings.
    backfill, part
        The whole range, and the slice.
    source, seen, destination, ledger, lock, telemetry, clock
        The parts; see ``ports``.
    reading_guard, delivery_guard
        Asked before each page, and before each batch.
    """

    def __init__(
        self,
        plan: Plan,
        backfill: Range,
        part: Range,
        *,
        source: Source,
        seen: SeenSet,
        destination: Destination,
        ledger: BackfillLedger,
        lock: SliceLock,
        reading_guard: RunGuard,
        delivery_guard: RunGuard,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self._plan = plan
        self._backfill = backfill
        self._part = part
        self._source = source
        self._seen = seen
        self._destination = destination
        self._ledger = ledger
        self._lock = lock
        self._reading_guard = reading_guard
        self._delivery_guard = delivery_guard
        self._telemetry = telemetry
        self._clock = clock
        self._report = RunReport(plan.trail, plan.run_id)
        self._open: deque[tuple[Stretch, Sequence[Future[bool]], int]] = deque()
        self._is_stuck = False
        self._has_moved = False
        self._waited = False
        self._begin_with(SliceProgress())

    def run(self, gateway: Gateway, bounds: Bounds) -> SliceEnd:
        """Work on the slice until it is done, or the time is up.

        Parameters
        ----------
        gateway, bounds
            The gateway, and the time by its clock and ours.
        """
        try:
            self._begin_with(self._ledger.load_slice(self._backfill, self._part))
            if self._saved.is_settled:
                return self._end()
            if not self._lock.acquire():
                return self._end(is_busy=True)
            try:
                while self._lock.must_wait():
                    self._waited = True
                    self._reading_guard.sleep(_WAIT_SECONDS)
                self._waited = False
                # Only now: another call may have worked on it until the lock was taken.
                self._begin_with(self._ledger.load_slice(self._backfill, self._part))
                return self._end() if self._saved.is_settled else self._work(gateway, bounds)
            finally:
                self._lock.release()
        except TimeBudgetReached:
            return self._end()
        except CollectorError as error:
            return self._end([error])

    def _begin_with(self, progress: SliceProgress) -> None:
        self._before = self._saved = progress
        # If rows could not be shown, perhaps they can now.
        self._settled = _Settled() if progress.done else _Settled(progress.resume)

    def _end(self, problems: Sequence[CollectorError] = (), *, is_busy: bool = False) -> SliceEnd:
        return SliceEnd(self._saved, self._report, problems, is_busy=is_busy, waited=self._waited)

    def _work(self, gateway: Gateway, bounds: Bounds) -> SliceEnd:
        reader = self._reader(bounds)
        delivery = self._delivery(gateway)
        intake = Intake(
            self._destination.mapper(gateway),
            self._source.complete,
            self._destination.packer(),
            self._seen,
            delivery,
            self._report,
            overlap_seconds=self._plan.overlap_seconds,
            exclusion=self._plan.exclusion,
            excluded=Excluded(),
        )
        stops: list[CollectorError] = []
        problems: list[CollectorError] = []
        try:
            self._take_all(reader, bounds, intake, delivery)
        except CollectorError as error:
            stops.append(error)
        finally:
            intake.end_stretch()
            delivery.close()
        self._settle()
        stops += [error for error in (reader.stopped_by, delivery.stopped_by) if error is not None]
        try:
            self._save()
        except CheckpointConflict as error:
            stops.append(error)
        except LedgerError as error:
            problems.append(error)
        failures = [error for error in stops if not isinstance(error, TimeBudgetReached | CheckpointConflict)]
        if not reader.is_proven:
            failures.append(SourceUnavailable(_MIXED))
        problems += [*delivery.problems, *failures]
        report = self._report
        remaining = report.fetched - report.duplicates - report.delivered - report.quarantined - report.excluded
        report.failed = delivery.given_up if stops and not failures else remaining
        report.backlog = remaining - report.failed
        if report.failed and not problems:
            problems.append(DestinationError(f"{report.failed} entries were not delivered. Ask again: they are next."))
        return self._end(problems, is_busy=any(isinstance(error, CheckpointConflict) for error in stops))

    def _take_all(self, reader: Reader, bounds: Bounds, intake: Intake, delivery: Delivery) -> None:
        begin = Position(self._part.window, self._settled.resume, None, bounds.earliest, bounds.now)
        for reading in read_ahead(reader.read_range(begin), self._seen.expect, self._reading_guard):
            if reading.page is not None:
                # A node that ignores filters shows more than was asked for. That is not this slice's.
                intake.take([entry for entry in reading.page.entries if self._part.has(entry.timestamp)])
            if reading.stretch is not None:
                outcomes = intake.end_stretch()
                self._open.append((reading.stretch, outcomes, len(intake.excluded_of_stretch())))
            delivery.check()
            self._settle()
            if self._has_moved:
                self._try_to_save()
            self._telemetry.progress(self._report)

    # -- progress

    def _settle(self) -> None:
        """Advance past the stretches that are settled by now. One that is not holds up all later ones."""
        while self._open and all(outcome.done() for outcome in self._open[0][1]):
            stretch, outcomes, excluded = self._open.popleft()
            self._is_stuck |= not stretch.proven or bool(stretch.failed) or not all(one.result() for one in outcomes)
            if not self._is_stuck:
                self._has_moved = True
                self._settled = _Settled(
                    None if stretch.position is None else stretch.position.resume,
                    stretch.position is None,
                    self._settled.unreadable + len(stretch.gaps),
                    self._settled.excluded + excluded,
                )

    def _try_to_save(self) -> None:
        try:
            self._save()
        except CheckpointConflict:
            raise
        except LedgerError:
            return  # tried once more at the end; what was delivered is marked

    def _save(self) -> None:
        report, before, settled = self._report, self._before, self._settled
        progress = SliceProgress(
            resume=settled.resume,
            done=settled.done,
            unreadable=settled.unreadable,
            delivered=before.delivered + report.delivered,
            excluded=before.excluded + settled.excluded,
            quarantined=before.quarantined + report.quarantined,
            parts=(*before.parts, *report.parts),
            version=self._saved.version,
        )
        if progress != self._saved:
            self._saved = self._ledger.save_slice(self._backfill, self._part, progress)
            report.excluded_counted = settled.excluded
        self._has_moved = False

    # -- building the parts

    def _reader(self, bounds: Bounds) -> Reader:
        return Reader(
            self._source,
            filters=True,
            checkpoint=Checkpoint(),
            bounds=bounds,
            plan=self._plan,
            guard=self._reading_guard,
            clock=self._clock,
            report=self._report,
        )

    def _delivery(self, gateway: Gateway) -> Delivery:
        return Delivery(
            destination=self._destination,
            seen=self._seen,
            ledger=self._ledger,
            guard=self._delivery_guard,
            clock=self._clock,
            gateway=gateway,
            report=self._report,
            telemetry=self._telemetry,
            parallel_deliveries=self._plan.parallel_deliveries,
            mark_margin_seconds=MARK_MARGIN_SECONDS + 2 * self._plan.overlap_seconds,
        )
