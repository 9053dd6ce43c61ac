"""Delivering batches: send, confirm, mark. In this order, whatever happens.

What becomes of an entry if the process dies
    before the call           it is unmarked: the next run fetches and delivers it
    during or after the call  it may have been accepted: the next run delivers it again, with the same ``UID``
    after it was marked       it is done

Only ids that CloudTrail lists as ``successful`` are marked, and ids that are safely in quarantine. Several batches are
under way at once; the number falls when CloudTrail throttles and rises again when it takes what it gets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from .backoff import backoff_seconds
from .domain.batching import Batch
from .domain.entry import Entry
from .domain.event import Event, Gateway
from .domain.report import RunReport
from .errors import (
    BatchRefused,
    DestinationMisconfigured,
    DestinationUnavailable,
    KongCloudTrailError,
    LedgerError,
    SeenSetUnavailable,
    TimeBudgetReached,
)
from .guard import RunGuard
from .ledger import NOT_MAPPABLE, Ledger
from .pace import Pace, Places
from .ports import Answer, Clock, Destination, Failure, SeenSet

MAX_ATTEMPTS = 7
"""Sendings of an entry before it is given up for this run: about a quarter of a minute of waiting in all."""

GIVE_UP_AFTER_BATCHES = 3
"""Batches in a row of which CloudTrail took nothing through all attempts: then it is down, and the run ends."""

MAX_WAITING_ORIGINAL_BYTES = 24 * 2**20
"""Of whole entries behind shortened events, under way at once: bounds memory when entries of 10 MB come in a row."""

GIVE_UP_AFTER_REFUSALS = 10
"""Entries in a row, each refused alone by a whole call, and none accepted: then it is not their content."""

BAD_RECORD_CODES = frozenset({"FieldTooLong", "FieldNotFound", "InvalidData", "InvalidChecksum"})
SENT_ONCE_MORE_CODES = frozenset({"InvalidChecksum"})
"""Codes of damage in transit at first; of a bad record if it happens twice."""
UNCONFIRMED = "Unconfirmed"
"""Stands for the error code of an entry that CloudTrail's answer does not name."""
TRANSIENT_CODES = frozenset({"Throttling", "InternalFailure"})
MISCONFIGURATION_ADVICE = {
    "InvalidRecipient": (
        "the account in CHANNEL_ARN is not the one that owns the channel: write the ARN as CloudTrail shows it"
    ),
    "InvalidEventSource": (
        "the channel's source does not take the event source kong-gateway: use a channel whose source is Kong Gateway "
        "(KongGatewayEnterprise) or Custom"
    ),
    "AccountNotSubscribed": (
        "the account has no CloudTrail Lake, which is closed to new customers since 2026-05-31: use a channel of an "
        "account that has"
    ),
}
"""Error codes of single entries that are true of every entry, each with what to change."""


class Delivery:
    """Batches on their way to the destination.

    Parameters
    ----------
    destination, seen, ledger, guard, clock
        The parts that it works with.
    gateway
        Where the entries come from.
    report
        Counts what becomes of each entry.
    parallel_deliveries
        Calls under way at once, at most.
    mark_margin_seconds
        How much longer than Kong shows an entry its mark is kept.
    """

    def __init__(
        self,
        *,
        destination: Destination,
        seen: SeenSet,
        ledger: Ledger,
        guard: RunGuard,
        clock: Clock,
        gateway: Gateway,
        report: RunReport,
        parallel_deliveries: int,
        mark_margin_seconds: int,
    ) -> None:
        self._destination = destination
        self._seen = seen
        self._ledger = ledger
        self._guard = guard
        self._clock = clock
        self._gateway = gateway
        self._report = report
        self._mark_margin_seconds = mark_margin_seconds
        self._pace = Pace(parallel_deliveries)
        self._executor = ThreadPoolExecutor(parallel_deliveries, thread_name_prefix="delivery")
        # One batch waiting for each that is under way keeps the lanes full and memory bounded.
        self._places = Places(2 * parallel_deliveries, MAX_WAITING_ORIGINAL_BYTES)
        self._lock = threading.Lock()
        self._barren_batches = 0
        self._lone_refusals = 0
        self.under_way: set[str] = set()
        """Keys of entries that are neither marked nor given up yet."""
        self.oldest_undelivered: int | None = None
        """Unix seconds of the oldest entry that was taken over but not delivered."""
        self.given_up = 0
        """Entries that were not delivered although there was time."""
        self.problems: list[KongCloudTrailError] = []
        """What went wrong with single entries or batches while the rest went on."""
        self.stopped_by: KongCloudTrailError | None = None
        """Why nothing more is delivered, if so."""

    # -- for the collector

    def submit(self, batch: Batch) -> Future[bool]:
        """Take a batch over; waits while too many are under way.

        Returns
        -------
        Future
            ``True`` once all of its entries are delivered or in quarantine, and marked; ``False`` if not.
        """
        return self._in_background(
            [event.entry for event in batch.events],
            lambda: self._deliver_batch(batch.events),
            original_bytes=batch.original_bytes,
        )

    def quarantine(self, entry: Entry, reason: str) -> Future[bool]:
        """Take over an entry of which no event can be made. Returns as `submit`."""
        return self._in_background([entry], lambda: self._quarantine(entry, Failure(NOT_MAPPABLE, reason), attempts=0))

    def check(self) -> None:
        """Raise what made deliveries stop, if anything did."""
        if self.stopped_by is not None:
            raise self.stopped_by

    def close(self) -> None:
        """Wait for everything that is under way."""
        self._executor.shutdown(wait=True)

    def _in_background(
        self, entries: Sequence[Entry], work: Callable[[], bool], *, original_bytes: int = 0
    ) -> Future[bool]:
        self._places.take(original_bytes)

        def task() -> bool:
            done = False
            try:
                self.check()
                self._guard.check()
                done = work()
            except KongCloudTrailError as error:
                self._stop(error)
            finally:
                if not done:
                    self._note_undelivered(entries)
                self.under_way.difference_update(entry.key for entry in entries)
                self._places.give_back(original_bytes)
            return done

        return self._executor.submit(task)

    def _note_undelivered(self, entries: Sequence[Entry]) -> None:
        timestamps = [entry.timestamp for entry in entries if entry.timestamp is not None]
        with self._lock:
            known = [] if self.oldest_undelivered is None else [self.oldest_undelivered]
            self.oldest_undelivered = min(timestamps + known, default=None)

    def _stop(self, error: KongCloudTrailError) -> None:
        with self._lock:
            if self.stopped_by is None or _weight(error) > _weight(self.stopped_by):
                self.stopped_by = error

    # -- one batch

    def _deliver_batch(self, events: Sequence[Event]) -> bool:
        kept = [event for event in events if self._keep_original(event)]
        return self._deliver(kept) and len(kept) == len(events)

    def _deliver(self, events: Sequence[Event]) -> bool:
        """Send until every event is settled or the attempts are used up."""
        pending = {event.id: event for event in events}
        complete = True
        for attempt in range(1, MAX_ATTEMPTS + 1):
            if not pending:
                return complete
            if attempt > 1:
                self._guard.sleep(backoff_seconds(attempt - 1))
            try:
                answer = self._send(list(pending.values()))
            except BatchRefused as refusal:
                return self._halve(list(pending.values()), refusal, attempt) and complete
            except DestinationUnavailable as error:
                if attempt == MAX_ATTEMPTS:
                    self._give_up(pending, error)
            else:
                complete &= self._settle(pending, answer, attempt)
                if attempt == MAX_ATTEMPTS:
                    self._give_up(pending)
        return complete and not pending

    def _send(self, events: Sequence[Event]) -> Answer:
        """Make one call, in a lane of its own."""
        self.check()
        with self._pace.lane():
            self._guard.check()  # after the wait for the lane: the last look before entries leave
            started = self._clock.monotonic()
            try:
                answer = self._destination.deliver(events)
            except DestinationUnavailable as error:
                self._count_failure(error.code, throttled=error.throttled)
                raise
            seconds = self._clock.monotonic() - started
        throttled = any(failure.code == "Throttling" for failure in answer.failed.values())
        if throttled:
            self._count_throttling()
        else:
            self._pace.speed_up()
        with self._lock:
            self._report.batches += 1
            self._report.delivery_seconds += seconds
        return answer

    def _settle(self, pending: dict[str, Event], answer: Answer, attempt: int) -> bool:
        """Act on an answer; leave in `pending` what should be sent again.

        An id that the answer does not name was not confirmed, so it stays pending too.

        Returns
        -------
        bool
            Whether everything that left `pending` is marked.
        """
        self._mark_delivered([pending.pop(event_id) for event_id in answer.successful if event_id in pending])
        complete = True
        misconfiguration = None
        if unconfirmed := len(pending.keys() - answer.failed.keys()):
            with self._lock:
                self._report.error_codes[UNCONFIRMED] += unconfirmed
        for event_id, failure in answer.failed.items():
            if event_id not in pending:
                continue
            with self._lock:
                self._report.error_codes[failure.code] += 1
            if failure.code in MISCONFIGURATION_ADVICE:
                misconfiguration = failure.code
            elif failure.code in SENT_ONCE_MORE_CODES and attempt == 1:
                continue
            elif failure.code in BAD_RECORD_CODES or (failure.code not in TRANSIENT_CODES and attempt == MAX_ATTEMPTS):
                complete &= self._quarantine(pending.pop(event_id).entry, failure, attempt)
        if misconfiguration:
            raise DestinationMisconfigured(
                f"CloudTrail refuses every entry with {misconfiguration}: {MISCONFIGURATION_ADVICE[misconfiguration]}."
            )
        return complete

    def _mark_delivered(self, events: Sequence[Event]) -> None:
        if not events:
            return
        try:
            self.mark([event.entry for event in events])
        except SeenSetUnavailable as error:
            raise SeenSetUnavailable(
                f"CloudTrail accepted {len(events)} entries that could not be marked as delivered, so they may be "
                f"delivered a second time, with the same UID. {error}"
            ) from error
        with self._lock:
            self._barren_batches = self._lone_refusals = 0
            self._report.delivered += len(events)
            self._report.shortened += sum(event.original is not None for event in events)
            self._report.delivered_bytes += sum(len(event.data) for event in events)

    def mark(self, entries: Sequence[Entry]) -> None:
        """Mark entries that are delivered or in quarantine, each for at least as long as Kong shows it.

        Raises
        ------
        SeenSetUnavailable
            If the cache does not answer.
        """
        # One lifetime for all halves what has to be packed; entries of one batch expire at about the same time anyway.
        longest_seconds = max(entry.remaining_seconds for entry in entries)
        self._seen.mark([entry.key for entry in entries], longest_seconds + self._mark_margin_seconds)

    def _halve(self, events: Sequence[Event], refusal: BatchRefused, attempt: int) -> bool:
        """Find the event for which a whole call was refused, by sending ever smaller parts."""
        if len(events) > 1:
            middle = len(events) // 2
            first = self._deliver(events[:middle])
            return self._deliver(events[middle:]) and first
        with self._lock:
            self._report.error_codes[refusal.code] += 1
            self._lone_refusals += 1
            if self._lone_refusals >= GIVE_UP_AFTER_REFUSALS:
                raise DestinationMisconfigured(
                    f"CloudTrail refuses one call after the other with {refusal.code}, whatever entry it holds, so it "
                    "is not the entries. Check CHANNEL_ARN and EXTERNAL_ID, and look for a proxy in between."
                )
        return self._quarantine(events[0].entry, Failure(refusal.code, str(refusal)), attempt)

    # -- what needs the ledger: if it is down, the entry stays unmarked and the others go on

    def _keep_original(self, event: Event) -> bool:
        if event.original is None:
            return True
        try:
            self._ledger.keep_original(event.original)
        except LedgerError as error:
            self._withhold(error)
            return False
        return True

    def _quarantine(self, entry: Entry, failure: Failure, attempts: int) -> bool:
        try:
            self._ledger.quarantine(entry, self._gateway, failure, attempts)
        except LedgerError as error:
            self._withhold(error)
            return False
        self.mark([entry])
        with self._lock:
            self._report.quarantined += 1
        return True

    def _withhold(self, error: LedgerError) -> None:
        with self._lock:
            self.given_up += 1
            self.problems.append(error)

    # -- what does not get through

    def _give_up(self, pending: dict[str, Event], error: DestinationUnavailable | None = None) -> None:
        with self._lock:
            self.given_up += len(pending)
            if error is None:
                return
            self.problems.append(error)
            self._barren_batches += 1
            if self._barren_batches < GIVE_UP_AFTER_BATCHES:
                return
        raise error

    def _count_failure(self, code: str, *, throttled: bool) -> None:
        with self._lock:
            self._report.error_codes[code] += 1
        if throttled:
            self._count_throttling()

    def _count_throttling(self) -> None:
        self._pace.slow_down()
        with self._lock:
            self._report.throttled += 1


def _weight(error: KongCloudTrailError) -> int:
    """Rank the reasons to stop: one that says what to change, one that is a failure, and time that is up."""
    if isinstance(error, DestinationMisconfigured):
        return 2
    return 0 if isinstance(error, TimeBudgetReached) else 1
