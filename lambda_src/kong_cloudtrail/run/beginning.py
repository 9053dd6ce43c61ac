"""How a run begins: the checkpoint is loaded, the gateway and the cache are identified, and what to read is decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..domain.checkpoint import CacheState
from ..domain.gateway import Gateway
from ..domain.report import RunReport
from ..ports import Clock, Source, Telemetry
from .guard import RunGuard
from .plan import Plan
from .progress import Progress
from .reading import Bounds, Purpose, Reader, Reading

FUTURE_SECONDS = 3600
"""To find out whether the gateway filters by time, it is asked for entries this far ahead of all clocks."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is known when a run begins.

    Parameters
    ----------
    gateway
        What the gateway says of itself.
    bounds
        The time by the clocks.
    reader
        Reads what the run has to read.
    known_after
        It is not known of older entries whether they were delivered, or they are not this trail's, or not this run's,
        Unix seconds; ``None``: it is known of all.
    """

    gateway: Gateway
    bounds: Bounds
    reader: Reader
    known_after: int | None

    def assumed_before(self, reading: Reading) -> int | None:
        """Return the request time before which the entries of a page are skipped; ``None``: none are.

        Everything is shown by a gateway that does not filter, and by a node that ignores filters, whatever was asked
        for. That settles nothing: it is read again.
        """
        if reading.page is None:
            return None
        everything = reading.purpose is Purpose.NEW and reading.window is None
        return self.known_after if everything or not reading.page.as_asked else None


def begin(
    plan: Plan,
    progress: Progress,
    *,
    source: Source,
    open_cache: Callable[[], CacheState],
    guard: RunGuard,
    telemetry: Telemetry,
    clock: Clock,
    report: RunReport,
    backfilled_until: int | None = None,
) -> Beginning:
    """Begin a run.

    Parameters
    ----------
    plan
        The settings.
    progress
        The checkpoint. Where the trail begins is saved, if it is not known yet.
    source, telemetry, clock
        The parts of the run; see ``ports``.
    open_cache
        Identifies the cache.
    guard
        Limits the time for reading.
    report
        The run's report.
    backfilled_until
        As of `Reader`.
    """
    gateway = source.describe()
    ahead_seconds = progress.checkpoint.gateway_ahead_seconds
    bounds = Bounds.of(int(clock.now()), gateway.clock, gateway_ahead_seconds=ahead_seconds)
    filters = source.filters_by_time(bounds.latest + FUTURE_SECONDS)
    is_first = progress.checkpoint.first_run_at is None
    _look_back(plan, progress, bounds, telemetry)
    for notice in progress.begin(open_cache(), gateway.version, bounds):
        telemetry.warning(notice.code, notice.message)
    if is_first and not source.windows_show_all:
        progress.sweep_soon()
    _forget_lost_marks(progress, source, filters=filters)
    reader = Reader(
        source,
        filters=filters,
        checkpoint=progress.checkpoint,
        bounds=bounds,
        plan=plan,
        guard=guard,
        clock=clock,
        report=report,
        backfilled_until=backfilled_until,
    )
    limits = (progress.checkpoint.begins_at, progress.checkpoint.marks_whole_after, backfilled_until)
    return Beginning(gateway, bounds, reader, max((limit for limit in limits if limit), default=None))


def _look_back(plan: Plan, progress: Progress, bounds: Bounds, telemetry: Telemetry) -> None:
    """Note where the trail begins, if not at everything that the gateway retains."""
    if plan.initial_lookback_seconds is None or progress.checkpoint.begins_at is not None:
        return
    if not plan.keep_checkpoint:
        telemetry.warning(
            "LOOK_BACK_EACH_RUN",
            "LEDGER is not set, so the beginning of the first run is not remembered: each run looks back by "
            "INITIAL_LOOKBACK_SECONDS, and older entries are not delivered. Set LEDGER.",
        )
    if progress.checkpoint.complete_until is None:
        progress.begin_at(max(bounds.earliest - plan.initial_lookback_seconds, 0))


def _forget_lost_marks(progress: Progress, source: Source, *, filters: bool) -> None:
    """Let sweeps read everything again, once the gateway has deleted all entries that lost their marks."""
    whole_after = progress.checkpoint.marks_whole_after
    if whole_after is not None and filters and not source.has_entries_before(whole_after):
        progress.marks_are_whole_again()
