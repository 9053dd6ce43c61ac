"""What a run reads, in which order, and where the next run continues.

On a gateway that filters by time::

    gaps        what earlier runs had to pass, for a bounded share of the time
    new         from the checkpoint minus the overlap, oldest slice first, with no upper end
    sweep       once a day, everything older, to find entries that became visible late; for a bounded time

A gateway without filters is read from one end to the other; each run continues where the last one had to stop.

Pages are grouped into stretches. A stretch is the unit of progress: once all of its entries are settled, the position
after it is saved. The source hides how a gateway pages and filters.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from ..domain.checkpoint import Checkpoint, OpenGap, Position
from ..domain.entry import Entry
from ..domain.report import RunReport
from ..domain.window import Slices, Window
from ..errors import CollectorError, SourceUnavailable
from ..ports import Clock, Gap, Page, Source
from .guard import RunGuard
from .plan import Plan

STRETCH_PAGES = 10
"""Pages of a stretch: as many may have to be read again after a run was killed."""

SWEEP_RUN_SECONDS = 60.0
"""How long a run sweeps: the next run, and new entries with it, should not have to wait for an old one."""

GAP_SHARE = 0.25
"""Share of a run's time for reading that is spent on gaps at most."""

GAP_YOUNG_SECONDS = 7200
"""For so long, every run tries again what the gateway could not show: most failures pass within two hours."""

_GAP_RUN_SECONDS = 60.0
_FIRST_LOOK_BACK_SECONDS = 86_400


class Purpose(Enum):
    """Why something is read."""

    NEW = "new"
    GAP = "gap"
    SWEEP = "sweep"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive pages that are settled together.

    Parameters
    ----------
    purpose
        Why they were read.
    slice_window
        The slice that they belong to; ``None`` if everything is read.
    position
        Where the reading continues after them; ``None``: it is complete.
    complete_until
        The checkpoint once this stretch and all before it are settled, Unix seconds; ``None`` if this stretch does not
        determine it.
    span
        Request times of the entries; ``None`` if no entry has one.
    has_undated
        Whether there are entries without a request time, which no window can find again.
    gaps
        Rows that were passed, as they could not be read.
    proven
        Whether every page was as asked. If not, there may be more entries between those that were shown.
    reading_proven
        Whether every page of the reading so far was as asked.
    failed
        Why the rest of the slice could not be read; "" if it was read.
    began_at
        When the reading began, Unix seconds by our own clock.
    newest_first
        Whether the entries come newest first, so that what is left of the slice is older than `span`.
    retried
        The gap that is being read again.
    """

    purpose: Purpose
    slice_window: Window | None
    position: Position | None
    complete_until: int | None
    span: Window | None
    has_undated: bool
    gaps: tuple[Gap, ...]
    proven: bool
    reading_proven: bool
    failed: str
    began_at: int
    newest_first: bool
    retried: OpenGap | None

    def as_gap(self, since: int) -> OpenGap | None:
        """Return the gap that reads this stretch again; ``None`` if no window covers it."""
        if not self.proven or self.slice_window is None:
            return None
        if self.failed or self.has_undated:
            window: Window | None = self.slice_window
        else:
            window = self.span
        if window is None or window.before is None:
            return None
        if self.failed:
            return OpenGap(window, "unreadable", self.failed, since)
        return OpenGap(window, "undelivered", "not delivered", since)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader yields: the entries of a page, and the stretch that ends with it.

    Parameters
    ----------
    purpose
        Why it was read.
    window
        The slice that it belongs to; ``None`` if everything is read.
    page
        The page; ``None`` if a stretch ends because no further page could be read.
    stretch
        The stretch that ends here, if one does.
    """

    purpose: Purpose
    window: Window | None
    page: Page | None
    stretch: Stretch | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """The time by the clocks, Unix seconds. It decides neither what is read nor how far the checkpoint moves forward.

    Parameters
    ----------
    now
        Our own clock.
    earliest
        The earlier of our own clock and the gateway's: the checkpoint never passes it.
    latest
        The later of the two.
    gateway
        The gateway's clock, for ages of entries; our own clock if the gateway's is not known.
    """

    now: int
    earliest: int
    latest: int
    gateway: int

    @classmethod
    def of(cls, own: int, gateway: int | None, *, gateway_ahead_seconds: int = 0) -> Bounds:
        """Combine our own clock with the time that the gateway, or a proxy in front of it, showed.

        Parameters
        ----------
        own, gateway
            The two clocks; ``None`` if the gateway showed none.
        gateway_ahead_seconds
            How far the gateway's clock was ahead of ours when it was last shown.
        """
        gateway = own + gateway_ahead_seconds if gateway is None else gateway
        return cls(own, min(own, gateway), max(own, gateway), gateway)


class Reader:
    """Reads what a run has to read.

    Parameters
    ----------
    source
        Where entries come from.
    filters
        Whether the source filters by time.
    checkpoint
        The checkpoint when the run began.
    bounds
        The time by the clocks.
    plan
        The settings.
    guard
        Limits the time for reading.
    clock
        Measures time.
    report
        Records what was read, and how long the gateway took.
    backfilled_until
        Older entries are left to a backfill, Unix seconds; ``None``: there is none.
    """

    def __init__(
        self,
        source: Source,
        *,
        filters: bool,
        checkpoint: Checkpoint,
        bounds: Bounds,
        plan: Plan,
        guard: RunGuard,
        clock: Clock,
        report: RunReport,
        backfilled_until: int | None = None,
    ) -> None:
        self._backfilled_until = backfilled_until
        self._source = source
        self._filters = filters
        self._checkpoint = checkpoint
        self._bounds = bounds
        self._plan = plan
        self._guard = guard
        self._clock = clock
        self._report = report
        self._pages_read = 0
        self._slices_seconds_read = 0
        self.is_complete = False
        """Whether everything new was read, by a reading that this run began itself."""
        self.is_proven = True
        """Whether every answer was as asked."""
        self.problems: list[CollectorError] = []
        """Errors of slices that could not be read while others could."""
        self.stopped_by: CollectorError | None = None
        """Why nothing more is read; ``None`` while reading continues. It is set before the last stretch is yielded."""

    def __iter__(self) -> Iterator[Reading]:
        if not self._filters:
            yield from self._rounds(self._scan)
            return
        sweeps = self._backfilled_until is None and self._sweep_is_due()
        if self._backfilled_until is None:
            yield from self._gaps(with_unreadable=sweeps)
        beginning = yield from self._rounds(self._slices)
        if sweeps and self.is_proven:
            yield from self._sweep(beginning)

    @property
    def meets_backfill(self) -> bool:
        """Whether new entries cannot be read without those that are left to a backfill."""
        until, unfinished = self._backfilled_until, self._checkpoint.reading
        if until is None:
            return False
        if not self._filters or self._checkpoint.complete_until is None:
            return True
        starts = [self._first_request_time(self._checkpoint.complete_until)]
        if unfinished is not None:
            starts.append(0 if unfinished.window is None else unfinished.window.after)
        return min(starts) < until

    def read_range(self, begin: Position) -> Iterator[Reading]:
        """Read one window and nothing else, from a position in it to its end."""
        yield from self._read(Purpose.NEW, begin)

    # -- new entries

    def _rounds(
        self, read: Callable[[Position], Generator[Reading, None, int | None]]
    ) -> Generator[Reading, None, Position]:
        """Continue the reading of an earlier run, if there is one; then read from a beginning, and return that."""
        unfinished = self._checkpoint.reading
        newest = self._checkpoint.complete_until
        if unfinished is not None and (unfinished.window is None) == (not self._filters):
            read_until = yield from read(unfinished)
            newest = max((one for one in (newest, read_until) if one is not None), default=None)
        beginning = self._beginning(newest)
        yield from read(beginning)
        self.is_complete = self.is_proven and not self.problems
        return beginning

    def _beginning(self, newest: int | None) -> Position:
        """Return where a reading begins, given the newest request time that was read before."""
        window = Window(self._first_request_time(newest), None) if self._filters else None
        return Position(window, None, None, self._bounds.earliest, self._bounds.now)

    def _first_request_time(self, newest: int | None) -> int:
        begins_at = self._checkpoint.begins_at
        if newest is not None:
            return max(newest - self._plan.overlap_seconds, begins_at or 0, 0)
        if begins_at is not None:
            return begins_at
        if not self._plan.keep_checkpoint:
            return 0
        # Slices should not begin in 1970: find a time before which there are no entries.
        look_back_seconds = _FIRST_LOOK_BACK_SECONDS
        while (beginning := self._bounds.earliest - look_back_seconds) > 0:
            if not self._source.has_entries_before(beginning):
                return beginning
            look_back_seconds *= 4
        return 0

    def _slices(self, start: Position) -> Generator[Reading, None, int | None]:
        """Read a window slice by slice; return the newest request time."""
        window = start.window or Window(0, None)
        after, newest = window.after, start.newest
        self._report.window = self._report.window or Window(after, None)
        if start.resume is not None:
            newest = yield from self._slice(start, rest=window.before)
            if not self.is_proven or window.before is None:
                return newest
            after = window.before
        slices = self._cut(after)
        failed_before = False
        for window in slices:
            is_last = window.before is None
            begin = Position(window, None, newest, self._bounds.earliest, start.began_at)
            pages_before = self._pages_read
            try:
                newest = yield from self._slice(begin, rest=window.before)
                failed_before = False
            except SourceUnavailable as error:
                if failed_before or is_last:
                    raise
                failed_before = True  # one slice must not hold up newer ones; two in a row: the gateway is down
                self.problems.append(error)
                self.stopped_by = None
                yield Reading(Purpose.NEW, begin.window, None, _unread(begin, error))
            if not self.is_proven:
                break
            self._slices_seconds_read += (window.before or self._bounds.latest) - window.after
            slices.had(self._pages_read - pages_before)
        return newest

    def _cut(self, after: int) -> Slices:
        checkpoint = self._checkpoint
        known_until = max(checkpoint.complete_until or 0, checkpoint.caught_up_at or 0)
        # The last slice contains the whole overlap, so that all of it is read when the newest entries are. Without a
        # checkpoint there is no reason for slices.
        horizon = self._bounds.earliest - self._plan.overlap_seconds if self._plan.keep_checkpoint else 0
        return Slices(after, horizon=horizon, known_seconds=max(known_until - after, 0))

    def _slice(self, begin: Position, *, rest: int | None) -> Generator[Reading, None, int | None]:
        """Read one slice; return the newest request time so far.

        If an answer is not as asked, the slice proves nothing. Then everything is read once without filters, so that
        all entries that the gateway shows are delivered; the checkpoint stays.
        """
        newest = yield from self._read(Purpose.NEW, begin, rest=rest)
        if not self.is_proven and self._backfilled_until is None:
            everything = Position(None, None, None, begin.limit, begin.began_at)
            yield from self._read(Purpose.NEW, everything)
        return newest

    def _scan(self, start: Position) -> Generator[Reading, None, int | None]:
        """Read everything, without filters; return the newest request time."""
        return (yield from self._read(Purpose.NEW, start))

    # -- older entries

    def _gaps(self, *, with_unreadable: bool) -> Iterator[Reading]:
        """Read gaps again, oldest first: undelivered and young ones in every run, the others with every sweep."""
        share_seconds = min(GAP_SHARE * max(self._guard.remaining_seconds(), 0.0), _GAP_RUN_SECONDS)
        is_over = self._deadline(share_seconds)
        for gap in self._checkpoint.gaps:
            is_young = self._bounds.now - gap.since < GAP_YOUNG_SECONDS
            if gap.kind == "unreadable" and self._plan.sweep_seconds and not (with_unreadable or is_young):
                continue
            if is_over():
                return
            window = gap.window or Window(0, self._checkpoint.complete_until)
            begin = Position(window, None, None, self._bounds.earliest, self._bounds.now)
            yield from self._read(Purpose.GAP, begin, is_over=is_over, retried=gap)

    def _sweep_is_due(self) -> bool:
        """Return whether to sweep after the new entries, or to continue a sweep."""
        checkpoint, due, now = self._checkpoint, self._checkpoint.sweep_due, self._bounds.now
        if not self._plan.sweep_seconds or not self._plan.keep_checkpoint or checkpoint.complete_until is None:
            return False
        return checkpoint.sweep is not None or (due is not None and not now < due <= now + self._plan.sweep_seconds)

    def _sweep(self, beginning: Position) -> Iterator[Reading]:
        """Continue a sweep, or begin one, up to where this run began to read what is new."""
        # Not up to the checkpoint: if an earlier run's reading was continued, nothing else shows what has appeared
        # since in the part of it that was read before.
        ceiling = 0 if beginning.window is None else beginning.window.after
        floor = max(self._checkpoint.begins_at or 0, self._checkpoint.marks_whole_after or 0)
        window = Window(floor, max(ceiling, floor))
        start = self._checkpoint.sweep or Position(window, None, None, self._bounds.earliest, self._bounds.now)
        yield from self._read(Purpose.SWEEP, start, is_over=self._deadline(SWEEP_RUN_SECONDS))

    def _deadline(self, seconds: float) -> Callable[[], bool]:
        """Return a function that says whether so much time has passed, or the run's time for reading is over."""
        end = self._clock.monotonic() + seconds
        return lambda: self._clock.monotonic() >= end or self._guard.remaining_seconds() < 0

    # -- pages

    def _read(
        self,
        purpose: Purpose,
        begin: Position,
        *,
        rest: int | None = None,
        is_over: Callable[[], bool] | None = None,
        retried: OpenGap | None = None,
    ) -> Generator[Reading, None, int | None]:
        """Read from a position to the end of its slice, stretch by stretch; return the newest request time so far.

        Parameters
        ----------
        purpose
            Why it is read.
        begin
            The position to begin at.
        rest
            Where the next slice of the same reading begins; ``None``: there is none.
        is_over
            Called before each page; returns whether to leave the rest to another run. Without it, `TimeBudgetReached`
            is raised when the run's time is used up.
        retried
            The gap that is read again.
        """
        builder = _StretchBuilder(purpose, begin, retried)
        resume = begin.resume
        try:
            for page in self._pages(begin, is_over):
                resume = page.resume
                builder.take(page)
                if purpose is Purpose.NEW:
                    self._report.window_seconds_read = self._slices_seconds_read + builder.seconds_shown
                self.is_proven &= page.as_asked or purpose is not Purpose.NEW
                if not page.is_last and builder.pages < STRETCH_PAGES:
                    yield Reading(purpose, begin.window, page, None)
                    continue
                position = self._behind(begin, page, builder, rest)
                complete_until = self._complete_until(begin, builder) if page.is_last else None
                yield Reading(purpose, begin.window, page, builder.end(position, complete_until))
                builder = builder.next()
        except CollectorError as error:
            self.stopped_by = error
            if builder.pages:
                yield Reading(purpose, begin.window, None, builder.end(_at(begin, resume, builder), None))
            raise
        if builder.pages:  # the time for gaps or sweeps is over
            yield Reading(purpose, begin.window, None, builder.end(_at(begin, resume, builder), None))
        return builder.newest

    def _pages(self, begin: Position, is_over: Callable[[], bool] | None) -> Iterator[Page]:
        pages = self._source.pages(begin.window, begin.resume)
        while True:
            if is_over is not None and is_over():
                return
            if self._guard.remaining_seconds() < 0:
                raise self._guard.time_is_up()
            asked = self._clock.monotonic()
            page = next(pages)
            self._report.page_seconds += self._clock.monotonic() - asked
            self._pages_read += 1
            yield page
            if page.is_last:
                return

    @staticmethod
    def _behind(begin: Position, page: Page, builder: _StretchBuilder, rest: int | None) -> Position | None:
        """Return the position after a page."""
        if not page.is_last:
            return _at(begin, page.resume, builder)
        if rest is None:
            return None
        return Position(Window(rest, None), None, builder.newest, begin.limit, begin.began_at)

    def _complete_until(self, begin: Position, builder: _StretchBuilder) -> int | None:
        """Return up to when everything is read once a slice is: up to the newest request time in it."""
        if builder.newest is None or builder.purpose is not Purpose.NEW or not builder.reading_proven:
            return None
        if begin.window is not None:
            return builder.newest
        # Without filters rows come in any order. Entries that were recorded during the reading may have been missed;
        # they are no older than the newest row minus the duration of the reading.
        if builder.has_untimed_gap:
            return None
        return builder.newest - max(int(self._clock.now()) - begin.began_at, 0) - 1


def read_ahead(
    readings: Iterator[Reading], expect: Callable[[Sequence[Entry]], None], guard: RunGuard
) -> Iterator[Reading]:
    """Fetch the next page, and what is known of it, while the last one is being processed.

    It may be of the next slice.

    Parameters
    ----------
    readings
        What is read.
    expect
        Fetches what is known of the entries of a page.
    guard
        Asked before the first page.
    """

    def fetch() -> Reading | None:
        reading = next(readings, None)
        if reading is not None and reading.page is not None:
            expect(reading.page.entries)
        return reading

    with ThreadPoolExecutor(1, thread_name_prefix="page") as fetcher:
        guard.check()
        reading = fetcher.submit(fetch).result()
        while reading is not None:
            following = fetcher.submit(fetch)
            yield reading
            reading = following.result()


def _unread(begin: Position, error: CollectorError) -> Stretch:
    """Return the stretch for a slice, or the rest of one, that could not be read."""
    builder = _StretchBuilder(Purpose.NEW, begin)
    builder.failed = type(error).__name__
    return builder.end(begin, None)


def _at(begin: Position, resume: str | None, builder: _StretchBuilder) -> Position:
    return Position(begin.window, resume, builder.newest, begin.limit, begin.began_at, builder.reading_proven)


class _StretchBuilder:
    """Collects the pages of a stretch."""

    def __init__(self, purpose: Purpose, begin: Position, retried: OpenGap | None = None) -> None:
        self.purpose = purpose
        self.pages = 0
        self.newest = begin.newest
        """Newest request time so far, without entries dated in the future; ``None`` if there is none."""
        self.failed = ""
        self.has_untimed_gap = False
        self._shown: tuple[int, ...] = ()
        self._begin = begin
        self._retried = retried
        self._times: list[int] = []
        self._has_undated = False
        self._gaps: list[Gap] = []
        self._proven = True
        self._newest_first = True
        self.reading_proven = begin.proven

    @property
    def seconds_shown(self) -> int:
        """Seconds of request time between the oldest and the newest entry of the slice so far."""
        return self._shown[-1] - self._shown[0] if self._shown else 0

    def next(self) -> _StretchBuilder:
        """Return a builder for the next stretch of the same slice."""
        following = _StretchBuilder(self.purpose, self._begin, self._retried)
        following.newest = self.newest
        following.reading_proven = self.reading_proven
        following.has_untimed_gap = self.has_untimed_gap
        following._shown = self._shown
        return following

    def take(self, page: Page) -> None:
        """Add a page."""
        self.pages += 1
        self._proven &= page.as_asked
        self._newest_first &= page.newest_first
        self.reading_proven &= page.as_asked
        if page.gap is not None:
            self._gaps.append(page.gap)
            self.has_untimed_gap |= page.gap.window is None
        times = _request_times(page.entries)
        self._has_undated |= len(times) < len(page.entries)
        if times:
            earliest, latest, limit = min(times), max(times), self._begin.limit
            self._times += (earliest, latest)
            self._shown = (min((earliest, *self._shown)), max((latest, *self._shown)))
            # Entries dated in the future do not show how far everything is read.
            newest = latest if latest <= limit else max((one for one in times if one <= limit), default=None)
            if newest is not None:
                self.newest = newest if self.newest is None else max(self.newest, newest)

    def end(self, position: Position | None, complete_until: int | None) -> Stretch:
        """Return the finished stretch."""
        return Stretch(
            purpose=self.purpose,
            slice_window=self._begin.window,
            position=position,
            complete_until=complete_until,
            span=Window(min(self._times), max(self._times) + 1) if self._times else None,
            has_undated=self._has_undated,
            gaps=tuple(self._gaps),
            proven=self._proven,
            reading_proven=self.reading_proven,
            failed=self.failed,
            began_at=self._begin.began_at,
            newest_first=self._newest_first,
            retried=self._retried,
        )


def _request_times(entries: Sequence[Entry]) -> list[int]:
    return [entry.timestamp for entry in entries if entry.timestamp is not None]
