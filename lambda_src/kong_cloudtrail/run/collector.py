"""One run: read, drop what was seen, map, batch, deliver, mark, move the checkpoint.

::

    source ──page──▶ entries ──seen set──▶ new ──map──▶ events ──pack──▶ batches ══▶ destination    (several at once)
       ▲                                   │ not mappable                 │ accepted     │ refused
      └── the next page meanwhile         └─▶ quarantine, mark           └─▶ mark       └─▶ quarantine, mark

``reading`` decides what is read and in which order, and ``progress`` moves the checkpoint. The parts of a run are
interfaces: see ``ports``. docs/delivery-guarantees.md says what users may rely on.
"""

from __future__ import annotations

import contextlib

from ..domain.checkpoint import Checkpoint
from ..domain.gateway import Gateway
from ..domain.report import MAX_COUNTED, RunReport
from ..domain.window import Window
from ..errors import (
    CheckpointConflict,
    CollectorError,
    DestinationError,
    DestinationMisconfigured,
    LedgerError,
    RunFailed,
    SecretUnavailable,
    SourceRefused,
    StateError,
    TimeBudgetReached,
)
from ..ports import Clock, Destination, Findings, Ledger, RunLock, SeenSet, Source, Telemetry
from .beginning import Beginning, begin
from .delivery import Delivery
from .guard import RunGuard
from .indicators import Indicators
from .intake import Intake
from .plan import Plan
from .progress import Progress
from .reading import Bounds, Purpose, Reader, Reading, read_ahead

MARK_MARGIN_SECONDS = 3600
"""A mark outlives the gateway's entry by this plus twice the overlap: clocks differ, and a run takes time."""

_MISCONFIGURATIONS = (DestinationMisconfigured, SecretUnavailable, SourceRefused)
"""Errors that every later run will meet as well, until somebody changes something."""


class Collector:
    """Delivers the new entries of one trail.

    Parameters
    ----------
    plan
        The settings that a run follows.
    source, seen, destination, ledger, lock, telemetry, clock
        The parts; see ``ports``.
    reading_guard, delivery_guard
        Asked before each page, and before each batch.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        source: Source,
        seen: SeenSet,
        destination: Destination,
        ledger: Ledger,
        lock: RunLock,
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
        self._reading_guard = reading_guard
        self._delivery_guard = delivery_guard
        self._telemetry = telemetry
        self._clock = clock
        self._started = 0.0

    def run(self) -> RunReport:
        """Do one run.

        Returns
        -------
        RunReport
            What was done. ``finished`` is false if there was not enough time: the next run continues.

        Raises
        ------
        RunFailed
            If anything stays undelivered for another reason than lack of time. Everything else was delivered before.
        """
        report = RunReport(self._plan.trail, self._plan.run_id)
        self._started = self._clock.monotonic()
        problems: list[CollectorError] = []
        try:
            if self._lock.acquire():
                try:
                    problems = self._collect(report)
                finally:
                    self._lock.release()
            else:
                report.skipped = True
                self._telemetry.info(
                    "RUN_SKIPPED",
                    "Another run is delivering this trail, so this one does nothing. If that run was killed, its lock "
                    "expires within seconds: run again.",
                )
        except TimeBudgetReached:
            self._log_unfinished(report)
        except CollectorError as error:
            if self._plan.may_overlap and isinstance(error, CheckpointConflict):
                self._log_overtaken()
            else:
                problems = [error]
        finally:
            report.run_seconds = self._clock.monotonic() - self._started
            report.misconfigured = any(isinstance(problem, _MISCONFIGURATIONS) for problem in problems)
            self._telemetry.publish(report)
        if problems:
            raise RunFailed(list(dict.fromkeys(str(problem) for problem in problems)), report.summary())
        return report

    def _collect(self, report: RunReport) -> list[CollectorError]:
        """Read, deliver, move the checkpoint; return what went wrong."""
        plan = self._plan
        progress = Progress(
            self._ledger,
            keep=plan.keep_checkpoint,
            overlap_seconds=plan.overlap_seconds,
            sweep_seconds=plan.sweep_seconds,
            may_overlap=plan.may_overlap,
            report=report,
            rules=plan.exclusion.names,
        )
        indicators = Indicators(progress, report)
        indicators.measure(int(self._clock.now()))  # reported if the run gets no further
        report.gaps = len(progress.checkpoint.gaps)
        beginning = begin(
            plan,
            progress,
            source=self._source,
            open_cache=self._seen.open,
            guard=self._reading_guard,
            telemetry=self._telemetry,
            clock=self._clock,
            report=report,
            backfilled_until=self._lock.backfilled_until(),
        )
        gateway, bounds, reader = beginning.gateway, beginning.bounds, beginning.reader
        if reader.meets_backfill:
            self._make_way(report)
            return []
        delivery = self._delivery(gateway, report)
        intake = Intake(
            self._destination.mapper(gateway),
            self._source.complete,
            self._destination.packer(),
            self._seen,
            delivery,
            report,
            overlap_seconds=plan.overlap_seconds,
            exclusion=plan.exclusion,
            excluded=progress.checkpoint.excluded,
        )
        stopped_by: CollectorError | None = None
        try:
            self._take_all(beginning, intake, delivery, progress, indicators, report)
        except CollectorError as error:
            stopped_by = error
        finally:
            intake.end_stretch()
            delivery.close()
        return self._conclude(bounds, reader, delivery, progress, indicators, report, stopped_by)

    def _take_all(
        self,
        beginning: Beginning,
        intake: Intake,
        delivery: Delivery,
        progress: Progress,
        indicators: Indicators,
        report: RunReport,
    ) -> None:
        """Process everything that the reader reads."""
        checkpoint = progress.checkpoint
        for reading in read_ahead(iter(beginning.reader), self._seen.expect, self._reading_guard):
            self._log_reading(reading, report)
            if reading.page is not None:
                intake.take(
                    reading.page.entries,
                    assumed_before=beginning.assumed_before(reading),
                    late_before=self._late_before(checkpoint, reading),
                    counts_excluded=reading.purpose is Purpose.NEW,
                )
            if reading.stretch is not None:
                progress.stretch_read(reading.stretch, intake.end_stretch(), intake.excluded_of_stretch())
                indicators.note(reading.stretch)
            delivery.check()
            progress.move()
            self._telemetry.progress(report)

    def _late_before(self, checkpoint: Checkpoint, reading: Reading) -> int | None:
        """Return before which request time, Unix seconds, new entries of a reading are late; ``None``: none are.

        Parameters
        ----------
        checkpoint
            The checkpoint when the run began.
        reading
            What shows the entries.
        """
        if checkpoint.excluded.awaits_sweep:
            return None  # what a rule excluded that is no longer in force is found now, and is not late
        if reading.purpose is Purpose.SWEEP:
            return None if reading.window is None else reading.window.before
        if reading.purpose is Purpose.NEW and reading.window is None and checkpoint.complete_until is not None:
            return checkpoint.complete_until - self._plan.overlap_seconds
        return None

    # -- when a run ends

    def _conclude(
        self,
        bounds: Bounds,
        reader: Reader,
        delivery: Delivery,
        progress: Progress,
        indicators: Indicators,
        report: RunReport,
        stopped_by: CollectorError | None,
    ) -> list[CollectorError]:
        """Complete the report, save checkpoint and report in the ledger, and return what went wrong."""
        stops = [error for error in (reader.stopped_by, stopped_by, delivery.stopped_by) if error is not None]
        overtaken = [error for error in stops if self._plan.may_overlap and isinstance(error, CheckpointConflict)]
        failures = [error for error in stops if error not in overtaken and not isinstance(error, TimeBudgetReached)]
        problems = [*reader.problems, *delivery.problems, *failures]
        left_to_next = bool(stops) and not failures
        remaining = report.fetched - report.duplicates - report.delivered - report.quarantined - report.excluded
        report.failed = delivery.given_up if left_to_next else remaining
        report.backlog = remaining - report.failed
        progress.settle()
        if not reader.is_proven:
            progress.sweep_soon()
        report.finished = reader.is_complete and not (stops or progress.is_blocked or remaining)
        if self._plan.keep_checkpoint:
            report.gaps = len(progress.checkpoint.gaps)
        report.run_seconds = self._clock.monotonic() - self._started
        indicators.oldest_undelivered = delivery.oldest_undelivered
        indicators.measure(int(self._clock.now()), bounds.gateway - bounds.now)
        with contextlib.suppress(LedgerError):  # saving fails as well then, and reports it
            refuses = self._destination.refuses_entries
            report.quarantine_open = self._ledger.quarantine_size(MAX_COUNTED) if refuses else 0
        findings = self._findings(report)
        try:
            progress.save(findings)
        except (LedgerError, StateError) as error:
            problems.append(error)
            report.finished = False
        if report.failed:
            problems.insert(0, self._undelivered(report))
        if left_to_next and overtaken:
            self._log_overtaken()
        elif left_to_next:
            self._log_unfinished(report)
        self._log_warnings(reader, report)
        return problems

    def _findings(self, report: RunReport) -> Findings:
        """Report damaged parts, and return what the run came across."""
        findings = self._destination.findings()
        if findings is None:
            return Findings()
        report.parts_damaged = len(findings.problems)
        for problem in findings.problems.values():
            self._telemetry.warning("PART_CHANGED", problem)
        return findings

    def _log_reading(self, reading: Reading, report: RunReport) -> None:
        page, stretch = reading.page, reading.stretch
        if page is not None and page.gap is not None:
            report.gaps = (report.gaps or 0) + 1
            self._telemetry.warning(
                "GAP_PASSED",
                f"The gateway cannot show an entry ({page.gap.reason}). The run continues after it, and sweeps try it "
                "again. Check the gateway's error log and its database.",
                reason=page.gap.reason,
                window=_times(page.gap.window),
            )
        if reading.purpose is Purpose.SWEEP and stretch is not None and stretch.position is None:
            self._telemetry.info(
                "SWEEP_ENDED", "The sweep has read everything older.", window=_times(stretch.slice_window)
            )

    def _log_warnings(self, reader: Reader, report: RunReport) -> None:
        if not reader.is_proven:
            self._telemetry.warning(
                "MIXED_CONTROL_PLANE",
                "The gateway's answers do not match the requests: its nodes run different releases, or a proxy answers "
                "in its place. The entries that it showed are delivered. The checkpoint stays until all answers match: "
                "finish the upgrade, or check what is between this collector and the gateway.",
            )
        if report.redated:
            self._telemetry.info(
                "ENTRIES_REDATED",
                f"{self._destination.advice.name} does not take the times of {report.redated} entries, as they are too "
                "old or too far ahead. It has them at the time of their delivery; each event says when the request was "
                "made. Look for them by that field.",
            )
        if report.found_late:
            self._telemetry.warning(
                "ENTRIES_FOUND_LATE",
                f"{report.found_late} entries became visible too late for earlier runs, up to "
                f"{report.max_lateness_seconds} s after they were recorded. They are delivered now. If this happens "
                "again, set the clocks of the control plane by NTP, or raise OVERLAP_SECONDS.",
            )

    def _log_unfinished(self, report: RunReport) -> None:
        self._telemetry.warning(
            "RUN_UNFINISHED", "The run's time is used up; the next run continues from here.", backlog=report.backlog
        )

    def _make_way(self, report: RunReport) -> None:
        report.skipped = True
        self._telemetry.warning(
            "RUN_SKIPPED",
            "A backfill is at work on entries that this run would have to read, too, so this one does nothing. The "
            "next run after the backfill continues.",
        )

    def _log_overtaken(self) -> None:
        self._telemetry.warning(
            "RUN_OVERTAKEN",
            "Another run of this trail has moved the checkpoint, so this one ends and leaves the rest to it. Nothing "
            "is lost or delivered twice.",
        )

    def _undelivered(self, report: RunReport) -> CollectorError:
        codes = ", ".join(f"{code} ({count} times)" for code, count in report.error_codes.most_common())
        return DestinationError(
            f"{report.failed} of {report.fetched} entries were not delivered"
            + (f"; {self._destination.advice.name} answered {codes}. " if codes else ". ")
            + "They stay unmarked: the next run fetches and delivers them again."
        )

    # -- building the parts of a run

    def _delivery(self, gateway: Gateway, report: RunReport) -> Delivery:
        return Delivery(
            destination=self._destination,
            seen=self._seen,
            ledger=self._ledger,
            guard=self._delivery_guard,
            clock=self._clock,
            gateway=gateway,
            report=report,
            telemetry=self._telemetry,
            parallel_deliveries=self._plan.parallel_deliveries,
            mark_margin_seconds=MARK_MARGIN_SECONDS + 2 * self._plan.overlap_seconds,
        )


def _times(window: Window | None) -> dict[str, int | None] | None:
    return None if window is None else {"after": window.after, "before": window.before}
