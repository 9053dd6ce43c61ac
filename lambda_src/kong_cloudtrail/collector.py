"""One run: read, drop what was seen, map, batch, deliver, mark, move the checkpoint.

::

    Kong ──page──▶ entries ──seen set──▶ new ──map──▶ events ──pack──▶ batches ══▶ CloudTrail    (several at once)
      ▲                                   │ not mappable                 │ successful   │ bad record
      └── the next page meanwhile         └─▶ quarantine, mark           └─▶ mark       └─▶ quarantine, mark

The collector knows no Kong, no CloudTrail and no Redis: see ``ports``. What a reader may rely on is in
docs/delivery-guarantees.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

from .delivery import Delivery
from .domain.event import EventMapper, Gateway
from .domain.report import RunReport
from .domain.window import FIRST_SLICE_SECONDS, Slice, Slices, Window
from .errors import (
    DestinationError,
    DestinationMisconfigured,
    KongCloudTrailError,
    LedgerError,
    RunFailed,
    SecretUnavailable,
    SourceRefused,
    StateError,
    TimeBudgetReached,
)
from .guard import RunGuard
from .intake import Intake
from .ledger import Ledger
from .ports import AuditSource, Clock, Destination, Page, RunLock, SeenSet, Telemetry
from .progress import Progress

FUTURE_SECONDS = 3600
"""Entries dated further ahead of Kong's clock than this are read at once; nearer ones when their time has come."""

_MARK_MARGIN_SECONDS = 3600
"""A mark outlives Kong's entry by this and twice the overlap: clocks differ, and a run takes time."""

_FIRST_LOOK_BACK_SECONDS = 86_400

_MISCONFIGURATIONS = (DestinationMisconfigured, SecretUnavailable, SourceRefused)
"""What no later run will overcome unless somebody changes something."""


Reading: TypeAlias = tuple[Slice, Page]
"""A page, and the slice that it is of."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run goes about its work.

    Parameters
    ----------
    source
        Name of the source, as in every key and metric.
    keep_checkpoint
        Whether runs begin where the last one ended. If not, each reads everything that Kong retains.
    overlap_seconds
        How far before the checkpoint a run begins, to catch entries that became visible late.
    settle_seconds
        How far behind Kong's clock a run ends.
    initial_lookback_seconds
        How far back the first run begins; ``None``: at everything that Kong retains.
    parallel_deliveries
        Batches under way at once.
    """

    source: str
    keep_checkpoint: bool
    overlap_seconds: int
    settle_seconds: int
    initial_lookback_seconds: int | None
    parallel_deliveries: int


class Collector:
    """Carries the new entries of one source to the destination.

    Parameters
    ----------
    plan
        How.
    source, seen, destination, ledger, lock, telemetry, clock
        The parts; see ``ports``.
    mapper
        Returns what makes events of the entries of a gateway.
    reading_guard, delivery_guard
        Asked before each page, and before each batch.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        source: AuditSource,
        seen: SeenSet,
        destination: Destination,
        ledger: Ledger,
        lock: RunLock,
        mapper: Callable[[Gateway], EventMapper],
        reading_guard: RunGuard,
        delivery_guard: RunGuard,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self._plan = plan
        self._source = source
        self._seen = seen
        self._destination = destination
        self._ledger = ledger
        self._lock = lock
        self._mapper = mapper
        self._reading_guard = reading_guard
        self._delivery_guard = delivery_guard
        self._telemetry = telemetry
        self._clock = clock
        self._started = 0.0
        self._reads_everything = False
        self._slices: Slices | None = None

    def run(self) -> RunReport:
        """Do one run.

        Returns
        -------
        RunReport
            What was done. ``finished`` is false if the time did not suffice: the next run goes on.

        Raises
        ------
        RunFailed
            If anything stands undelivered for another reason than time. All else was delivered before.
        """
        report = RunReport(self._plan.source)
        self._started = self._clock.monotonic()
        problems: list[KongCloudTrailError] = []
        try:
            if self._lock.acquire():
                try:
                    problems = self._collect(report)
                finally:
                    self._lock.release()
            else:
                report.skipped = True
                self._telemetry.info("RUN_SKIPPED", "Another run is at work on this source; this one does nothing.")
        except TimeBudgetReached:
            self._tell_unfinished(report)
        except KongCloudTrailError as error:
            problems = [error]
        finally:
            report.run_seconds = self._clock.monotonic() - self._started
            report.misconfigured = any(isinstance(problem, _MISCONFIGURATIONS) for problem in problems)
            self._telemetry.publish(report)
        if problems:
            raise RunFailed(list(dict.fromkeys(str(problem) for problem in problems)), report.summary())
        return report

    def _collect(self, report: RunReport) -> list[KongCloudTrailError]:
        """Read, deliver, move the checkpoint; return what went wrong."""
        progress = Progress(self._ledger, keep=self._plan.keep_checkpoint)
        if progress.complete_until is not None:  # until Kong tells its time: all that is newer may be undelivered
            report.checkpoint_lag_seconds = max(self._clock.now() - progress.complete_until, 0)
            report.oldest_undelivered_age_seconds = report.checkpoint_lag_seconds
        gateway = self._source.describe()
        if progress.begin(gateway.now, int(self._clock.now()), self._plan.overlap_seconds):
            self._telemetry.warning(
                "CLOCK_WENT_BACK",
                "Kong's clock was ahead when the checkpoint was taken, and has been set back; the run reads again what "
                "it may have hidden. Set the clocks of the control plane by NTP.",
            )
        delivery = self._delivery(gateway, report)
        intake = Intake(self._mapper(gateway), self._seen, delivery, report)
        stopped_by: KongCloudTrailError | None = None
        try:
            for slice_, page in self._read_ahead(self._read(gateway, progress, intake, report)):
                intake.take(page.entries)
                if page.is_last:
                    progress.slice_read(slice_, intake.end_slice())
                delivery.check()
                progress.move()
                self._telemetry.progress(report)
        except KongCloudTrailError as error:
            stopped_by = error
        finally:
            intake.end_slice()
            delivery.close()
        return self._conclude(gateway, delivery, progress, report, stopped_by)

    # -- what to read

    def _read(self, gateway: Gateway, progress: Progress, intake: Intake, report: RunReport) -> Iterator[Reading]:
        """Read everything that the run has to, oldest slice first."""
        plan = self._plan
        # Kong's clock shows whole seconds. The one that it shows is read too, for who looks at once what was done just
        # now; but as more may happen in it, it is not complete.
        complete_until = gateway.now - plan.settle_seconds
        before = complete_until + 1
        later = gateway.now + FUTURE_SECONDS
        probe = self._source.probe(later)
        if not probe.filters:
            intake.known_before = self._known_before(before, progress)
            yield from self._pages(Slice(None, complete_until), report)
            self._reads_everything = True
            return
        window = Window(self._beginning(before, progress), before)
        report.window = window
        if plan.keep_checkpoint:
            self._slices = slices = Slices(
                window,
                complete_until=complete_until,
                known_seconds=max((progress.complete_until or 0) - window.after, 0),
                width_seconds=progress.slice_seconds or FIRST_SLICE_SECONDS,
            )
            for slice_ in slices:
                pages = 0
                for reading in self._pages(slice_, report):
                    pages += 1
                    yield reading
                slices.had(pages)
        else:
            yield from self._pages(Slice(window, complete_until=None), report)
        if probe.has_later_entries:
            yield from self._pages(Slice(Window(later, None), complete_until=None), report)

    def _pages(self, slice_: Slice, report: RunReport) -> Iterator[Reading]:
        asked = self._clock.monotonic()
        for page in self._source.pages(slice_.window):
            report.page_seconds += self._clock.monotonic() - asked
            yield slice_, page
            asked = self._clock.monotonic()

    def _beginning(self, before: int, progress: Progress) -> int:
        """Return where the run begins on a gateway that filters by time."""
        plan = self._plan
        if progress.complete_until is not None:
            return max(progress.complete_until - plan.overlap_seconds, 0)
        first = self._look_back(before, progress)
        if first is not None:
            return first
        if not plan.keep_checkpoint:
            return 0
        # Slices should not begin in 1970: look for a moment before which there is nothing.
        look_back_seconds = _FIRST_LOOK_BACK_SECONDS
        while (beginning := before - look_back_seconds) > 0 and self._source.has_entries_before(beginning):
            look_back_seconds *= 4
        return max(beginning, 0)

    def _known_before(self, before: int, progress: Progress) -> int | None:
        """Return before when entries are known to be none of this run's, on a gateway that does not filter by time."""
        if progress.complete_until is None:
            return self._look_back(before, progress)
        if self._seen.is_complete():
            return None
        # The cache was emptied. The checkpoint knows what was delivered; else all that Kong retains would be delivered
        # again.
        return progress.complete_until - self._plan.overlap_seconds

    def _look_back(self, before: int, progress: Progress) -> int | None:
        """Return where the first run begins, if not at everything that Kong retains."""
        plan = self._plan
        if plan.initial_lookback_seconds is None:
            return None
        if not plan.keep_checkpoint:
            self._telemetry.warning(
                "LOOK_BACK_EACH_RUN",
                "LEDGER is not set, so nothing remembers where the first run began: each run looks back by "
                "INITIAL_LOOKBACK_SECONDS, and what is older by then is not delivered. Set LEDGER.",
            )
        beginning = max(before - plan.initial_lookback_seconds, 0)
        progress.begin_at(beginning)
        return beginning

    def _read_ahead(self, readings: Iterator[Reading]) -> Iterator[Reading]:
        """Fetch the next page, be it of the next slice, while the last one is being worked on."""
        with ThreadPoolExecutor(1, thread_name_prefix="page") as fetcher:
            self._reading_guard.check()
            reading = fetcher.submit(next, readings, None).result()
            while reading is not None:
                in_time = self._reading_guard.remaining_seconds() >= 0
                following = fetcher.submit(next, readings, None) if in_time else None
                yield reading  # there is time to deliver what was read, though there may be none to read on
                if following is None:
                    raise self._reading_guard.time_is_up()
                reading = following.result()

    # -- how it ended

    def _conclude(
        self,
        gateway: Gateway,
        delivery: Delivery,
        progress: Progress,
        report: RunReport,
        stopped_by: KongCloudTrailError | None,
    ) -> list[KongCloudTrailError]:
        """Fill in the rest of the report, write what the ledger keeps of the run, and return what went wrong."""
        stops = [error for error in (stopped_by, delivery.stopped_by) if error is not None]
        problems = [*delivery.problems, *(error for error in stops if not isinstance(error, TimeBudgetReached))]
        out_of_time = bool(stops) and all(isinstance(error, TimeBudgetReached) for error in stops)
        remaining = report.fetched - report.duplicates - report.delivered - report.quarantined
        report.failed = delivery.given_up if out_of_time else remaining
        report.backlog = remaining - report.failed
        progress.settle()
        report.finished = not stops and not progress.is_blocked
        # While a run fails for another reason, the width stays as it was.
        if report.finished:
            progress.slice_seconds = None
        elif out_of_time and self._slices is not None:
            progress.slice_seconds = self._slices.width_for_next_run(got_through=progress.has_moved)
        report.run_seconds = self._clock.monotonic() - self._started
        self._measure_age(gateway.now, delivery, progress, report)
        try:
            if report.finished and self._reads_everything:
                self._seen.set_complete()  # before the checkpoint, which is believed where the cache is not complete
            progress.save(report)
        except (LedgerError, StateError) as error:
            problems.append(error)
            report.finished = False
        if report.failed:
            problems.insert(0, _undelivered(report))
        if out_of_time:
            self._tell_unfinished(report)
        return problems

    def _tell_unfinished(self, report: RunReport) -> None:
        self._telemetry.warning(
            "RUN_UNFINISHED", "The time was used up; the next run goes on from here.", backlog=report.backlog
        )

    @staticmethod
    def _measure_age(now: int, delivery: Delivery, progress: Progress, report: RunReport) -> None:
        undelivered = [delivery.oldest_undelivered, None if report.finished else progress.complete_until]
        oldest = min((moment for moment in undelivered if moment is not None), default=now)
        report.oldest_undelivered_age_seconds = max(now - oldest, 0)
        if progress.complete_until is not None:
            report.checkpoint_lag_seconds = max(now - progress.complete_until, 0)

    # -- putting the parts of a run together

    def _delivery(self, gateway: Gateway, report: RunReport) -> Delivery:
        return Delivery(
            destination=self._destination,
            seen=self._seen,
            ledger=self._ledger,
            guard=self._delivery_guard,
            clock=self._clock,
            gateway=gateway,
            report=report,
            parallel_deliveries=self._plan.parallel_deliveries,
            mark_margin_seconds=_MARK_MARGIN_SECONDS + 2 * self._plan.overlap_seconds,
        )


def _undelivered(report: RunReport) -> KongCloudTrailError:
    codes = ", ".join(f"{code} ({count} times)" for code, count in report.error_codes.most_common())
    return DestinationError(
        f"{report.failed} of {report.fetched} entries were not delivered"
        + (f"; CloudTrail answered {codes}. " if codes else ". ")
        + "They stay unmarked: the next run fetches and delivers them again."
    )
