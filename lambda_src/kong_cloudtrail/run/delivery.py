"""Delivering batches: send, confirm, mark. Always in this order.

What happens to an entry if the process dies
    before the call           it is not marked: the next run fetches and delivers it
    during or after the call  it may have been accepted: the next run delivers it again, with the same ``UID``
    after it was marked       nothing more: it is done

Only entries that the destination has accepted are marked, and entries that are in quarantine. Several batches are in
flight at once: fewer when the destination throttles, and more again when it accepts. `shipment` decides what is sent
again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from ..domain.entry import Entry
from ..domain.event import Batch, Event
from ..domain.gateway import Gateway
from ..domain.part import Part
from ..domain.report import RunReport
from ..domain.workers import Workers
from ..errors import (
    BatchRefused,
    CacheFull,
    CollectorError,
    DestinationMisconfigured,
    DestinationUnavailable,
    LedgerError,
    SeenSetUnavailable,
    TimeBudgetReached,
)
from ..ports import NOT_MAPPABLE, Advice, Answer, Clock, Destination, Failure, Keeping, SeenSet, Telemetry, Verdict
from .guard import RunGuard
from .pace import POLL_SECONDS, Pace, Places
from .shipment import LifeSigns, Shipment, shows_life

MAX_WAITING_BYTES = 24 * 2**20
"""Limit for `Batch.waiting_bytes` of everything in flight: it bounds memory when many entries have 10 MB."""

MAX_QUARANTINED_LOGGED = 20
"""Entries that a run logs one by one: a destination that refuses everything must not flood the log."""

LONGEST_CALL_SECONDS = 60.0
"""Calls are given up if none ends for so long: a slow trickle of bytes extends every time-out of a call."""


@dataclass(eq=False, slots=True)
class _Task:
    """A batch, or an entry for the quarantine, in flight.

    Parameters
    ----------
    entries
        The entries in it.
    waiting_bytes
        As of `Batch`.
    outcome
        Set when it has ended, or was given up.
    """

    entries: Sequence[Entry]
    waiting_bytes: int
    outcome: Future[bool] = field(default_factory=Future)


class Delivery:
    """Delivers batches, several at once.

    Parameters
    ----------
    destination, seen, ledger, guard, clock
        The parts of the run; see ``ports``.
    gateway
        Where the entries come from.
    report
        Counts what happens to each entry.
    telemetry
        Logs entries that go to quarantine.
    parallel_deliveries
        Calls in flight at once, at most.
    mark_margin_seconds
        How much longer a mark is kept than the source shows its entry.
    """

    def __init__(
        self,
        *,
        destination: Destination,
        seen: SeenSet,
        ledger: Keeping,
        guard: RunGuard,
        clock: Clock,
        gateway: Gateway,
        report: RunReport,
        telemetry: Telemetry,
        parallel_deliveries: int,
        mark_margin_seconds: int,
    ) -> None:
        self._destination = destination
        self.advice: Advice = destination.advice
        """The destination's name and advice, for messages."""
        self._seen = seen
        self._ledger = ledger
        self._guard = guard
        self._clock = clock
        self._gateway = gateway
        self._report = report
        self._telemetry = telemetry
        self._quarantined = 0
        self._mark_margin_seconds = mark_margin_seconds
        self._pace = Pace(parallel_deliveries)
        # One waiting batch for each call in flight keeps the lanes full and memory bounded. There are as many threads
        # as places: a batch that waits for another attempt occupies a thread, and no lane.
        self._places = Places(2 * parallel_deliveries, MAX_WAITING_BYTES)
        self._workers = Workers(2 * parallel_deliveries, "delivery")
        self._changed = threading.Condition()
        self._tasks: set[_Task] = set()
        self._asleep = 0
        self._closed = False
        self._last_progress = clock.monotonic()
        self.life = LifeSigns()
        """Which calls the destination answered with a sign of life."""
        self.one_search = threading.Lock()
        """Held by the batch that searches for the entry that makes calls fail."""
        self.in_flight: set[str] = set()
        """Keys of entries that are neither marked nor given up yet."""
        self.oldest_undelivered: int | None = None
        """Request time of the oldest entry that was submitted but not delivered, Unix seconds."""
        self.given_up = 0
        """Entries that were not delivered although there was time."""
        self.problems: list[CollectorError] = []
        """What went wrong with single entries or batches while the rest went on."""
        self.stopped_by: CollectorError | None = None
        """Why nothing more is delivered; ``None`` while deliveries continue."""

    # -- for the collector

    def submit(self, batch: Batch) -> Future[bool]:
        """Start the delivery of a batch; waits while too many are in flight.

        Returns
        -------
        Future
            ``True`` once all of its entries are delivered or in quarantine, and marked; ``False`` if not.
        """
        return self._in_background(
            [event.entry for event in batch.events],
            lambda: self._deliver_batch(batch.events),
            waiting_bytes=batch.waiting_bytes,
        )

    def quarantine(self, entry: Entry, reason: str) -> Future[bool]:
        """Start putting an entry that cannot be mapped into quarantine. Returns as `submit`."""
        failure = Failure(NOT_MAPPABLE, reason)
        return self._in_background([entry], lambda: self.put_in_quarantine(entry, failure, attempts=0))

    def mark(self, entries: Sequence[Entry]) -> None:
        """Mark entries that are delivered or in quarantine, each for at least as long as the source shows it.

        Raises
        ------
        SeenSetUnavailable
            If the cache does not answer, or is full.
        """
        # One lifetime for all halves the size of the command; entries of a batch expire at about the same time anyway.
        longest_seconds = max(entry.remaining_seconds for entry in entries)
        self._seen.mark(entries, longest_seconds + self._mark_margin_seconds)

    def check(self) -> None:
        """Raise the error that stopped deliveries, if there was one."""
        if self.stopped_by is not None:
            raise self.stopped_by

    def close(self) -> None:
        """Wait for everything in flight, but not beyond the run's end, nor for a call that does not end.

        Every outcome is set afterwards. Entries that are given up stay unmarked, and `stopped_by` says why.
        """
        with self._changed:
            while self._in_hand() and not self._is_overdue():
                self._changed.wait(min(POLL_SECONDS, self._guard.seconds_to_end()))
            self._give_up_what_hangs()
            self._closed = True
            for task in list(self._tasks):
                self._end(task, done=False)
        self._pace.end()
        self._workers.end()

    # -- tasks in flight

    def _in_background(
        self, entries: Sequence[Entry], work: Callable[[], bool], *, waiting_bytes: int = 0
    ) -> Future[bool]:
        task = _Task(entries, waiting_bytes)
        has_place = self._places.take(waiting_bytes, unless=self._need_not_wait)
        with self._changed:
            self._tasks.add(task)
            if not has_place:
                self._end(task, done=False, has_place=False)
                return task.outcome
        self._workers.submit(lambda: self._do(task, work))
        return task.outcome

    def _do(self, task: _Task, work: Callable[[], bool]) -> None:
        done = False
        fault: BaseException | None = None
        try:
            self.check()
            self._guard.check()
            done = work()
        except CollectorError as error:
            self._stop(error)
        except BaseException as error:
            fault = error
        with self._changed:
            if task in self._tasks:
                self._end(task, done=done, fault=fault)

    def _end(self, task: _Task, *, done: bool, fault: BaseException | None = None, has_place: bool = True) -> None:
        """Set the outcome of a task. Call it with the lock held."""
        self._tasks.remove(task)
        if not done:
            timestamps = [entry.timestamp for entry in task.entries if entry.timestamp is not None]
            known = [] if self.oldest_undelivered is None else [self.oldest_undelivered]
            self.oldest_undelivered = min(timestamps + known, default=None)
        self.in_flight.difference_update([entry.key for entry in task.entries])
        if has_place:
            self._places.give_back(task.waiting_bytes)
        if fault is None:
            task.outcome.set_result(done)
        else:
            task.outcome.set_exception(fault)
        self._note_progress()

    def _stop(self, error: CollectorError) -> None:
        with self._changed:
            if not self._closed and (self.stopped_by is None or _weight(error) > _weight(self.stopped_by)):
                self.stopped_by = error
            self._changed.notify_all()
        self._pace.end()

    def _note_progress(self) -> None:
        self._last_progress = self._clock.monotonic()
        self._changed.notify_all()

    def _in_hand(self) -> int:
        """Return the number of tasks to wait for. Once stopped, tasks that wait for another attempt do not count."""
        return len(self._tasks) - (self._asleep if self.stopped_by is not None else 0)

    def _is_overdue(self) -> bool:
        """Return whether waiting is over: the run has to end, or no call ends any more."""
        return self._guard.seconds_to_end() <= 0 or self._clock.monotonic() - self._last_progress > LONGEST_CALL_SECONDS

    def _need_not_wait(self) -> bool:
        if self.stopped_by is None and self._is_overdue():
            with self._changed:
                self._give_up_what_hangs()
        return self.stopped_by is not None

    def _give_up_what_hangs(self) -> None:
        """Stop if there are tasks that do not end. Call it with the lock held."""
        if not self._in_hand():
            return
        entries = sum(len(task.entries) for task in self._tasks)
        self._stop(
            DestinationUnavailable(
                "Unanswered",
                f"{entries} entries were still in flight when the run had to end: {self.advice.name} or the cache did "
                f"not answer. They may have been accepted. {self.advice.if_in_doubt} Check the network paths to both, "
                "and their dashboards.",
                maybe_accepted=True,
            )
        )

    # -- one batch

    def _deliver_batch(self, events: Sequence[Event]) -> bool:
        kept = [event for event in events if self._keep_original(event)]
        with self._pace.lane() as lane:
            return Shipment(self, lane).deliver(kept) and len(kept) == len(events)

    def send(self, events: Sequence[Event]) -> Answer:
        """Make one call, in a lane that was taken, and mark the accepted entries."""
        self.check()
        self._guard.check()  # the last check before entries leave, after the wait for the lane
        self._last_progress = started = self._clock.monotonic()
        call = self.life.begin()
        try:
            answer = self._destination.deliver(events)
        except (DestinationUnavailable, BatchRefused) as error:
            throttled = isinstance(error, DestinationUnavailable) and error.throttled
            self.life.end(call, alive=False, throttled=throttled)
            self.count_code(error.code, 1)
            if throttled:
                self._slow_down()
            raise
        accepted = [event for event in events if event.id in answer.successful]
        self.life.end(call, alive=shows_life(answer, accepted), accepted=bool(accepted))
        self._add_to_report(batches=1, delivery_seconds=self._clock.monotonic() - started)
        self._add_parts(answer.parts)
        if any(failure.verdict is Verdict.THROTTLED for failure in answer.failed.values()):
            self._slow_down()
        else:
            self._pace.speed_up()
        if accepted:
            self._settle(accepted)
            self._add_to_report(redated=answer.redated)
            self._pace.prove()
        return answer

    def _settle(self, events: Sequence[Event]) -> None:
        try:
            full = self._mark_settled([event.entry for event in events])
        except SeenSetUnavailable as error:
            raise SeenSetUnavailable(
                f"{self.advice.name} accepted {len(events)} entries that could not be marked as delivered. "
                f"{self.advice.if_in_doubt} {error}"
            ) from error
        self._add_to_report(
            delivered=len(events),
            shortened=sum(event.original is not None for event in events),
            delivered_bytes=sum(len(event.data) for event in events),
        )
        if full is not None:
            raise full

    def _mark_settled(self, entries: Sequence[Entry]) -> CacheFull | None:
        """Mark entries; return the error to raise if they are marked but nothing more may be delivered."""
        try:
            self.mark(entries)
        except CacheFull as full:
            if full.marked:
                return full
            raise
        return None

    # -- for shipments

    def wait(self, seconds: float) -> None:
        """Wait before another attempt. `close` does not wait for this once deliveries have stopped."""
        with self._changed:
            self._asleep += 1
            self._changed.notify_all()
        try:
            self._guard.sleep(seconds)
        finally:
            with self._changed:
                self._asleep -= 1
        self.check()

    def has_time_for(self, seconds: float) -> bool:
        """Return whether something new may still begin after a wait."""
        return self._guard.remaining_seconds() >= seconds

    def give_up(self, count: int, error: DestinationUnavailable | None = None) -> None:
        """Record that so many entries stay undelivered although there was time."""
        with self._changed:
            if not self._closed:
                self.given_up += count
                self.problems += [] if error is None else [error]

    def count_code(self, code: str, times: int) -> None:
        """Count an error code."""
        with self._changed:
            if not self._closed:
                self._report.error_codes[code] += times

    def put_in_quarantine(self, entry: Entry, failure: Failure, attempts: int) -> bool:
        """Put an entry into quarantine and mark it; ``False`` if that was not possible."""
        try:
            place = self._ledger.quarantine(entry, self._gateway, failure, attempts)
        except LedgerError as error:
            self._withhold(error)
            return False
        full = self._mark_settled([entry])
        self._log_quarantine(entry, failure.code, place)
        self._add_to_report(quarantined=1)
        if full is not None:
            raise full
        return True

    def _log_quarantine(self, entry: Entry, code: str, place: str) -> None:
        with self._changed:
            self._quarantined += 1
            count = self._quarantined
        if count <= MAX_QUARANTINED_LOGGED:
            self._telemetry.warning(
                "ENTRY_QUARANTINED",
                f"An entry was put into quarantine ({code}): {entry.id}. It is kept whole in {place}. Remove the cause,"
                " then deliver it by `quarantine replay`.",
            )
        if count == MAX_QUARANTINED_LOGGED:
            self._telemetry.warning(
                "MORE_QUARANTINED",
                f"{count} entries were put into quarantine by this run. Further ones are counted, but not listed here.",
            )

    # -- if the ledger is down, entries that need it stay unmarked, and the others are delivered

    def _keep_original(self, event: Event) -> bool:
        if event.original is None:
            return True
        try:
            self._ledger.keep_original(event.original)
        except LedgerError as error:
            self._withhold(error)
            return False
        return True

    def _withhold(self, error: LedgerError) -> None:
        with self._changed:
            if not self._closed:
                self.given_up += 1
                self.problems.append(error)

    # -- counting; a call that was given up may still end, but no longer changes the report

    def _slow_down(self) -> None:
        self._pace.slow_down()
        self._add_to_report(throttled=1)

    def _add_parts(self, parts: Sequence[Part]) -> None:
        with self._changed:
            if not self._closed:
                self._report.parts += parts

    def _add_to_report(self, **amounts: float) -> None:
        with self._changed:
            if not self._closed:
                for name, amount in amounts.items():
                    setattr(self._report, name, getattr(self._report, name) + amount)


def _weight(error: CollectorError) -> int:
    """Rank the reasons to stop: misconfigurations first, then failures, then lack of time."""
    if isinstance(error, DestinationMisconfigured):
        return 2
    return 0 if isinstance(error, TimeBudgetReached) else 1
