"""The delivery of one batch: what is sent again, in which parts, and when an entry or the destination is given up.

What an answer says about an entry, and what follows
    accepted                  it is marked
    refused                   quarantine
    damaged (checksum)        sent once more; quarantine if it happens again
    throttled, outage         sent again, up to `MAX_ATTEMPTS` such answers; then it waits for the next run
    unknown code              sent again, up to `MAX_ATTEMPTS` such answers; then quarantine
    the call failed or was    sent again, then in ever smaller parts; an entry for which calls fail even if it is alone
    refused as a whole        goes to quarantine
    no answer about it        it may have been accepted, so it is sent at most once more, alone; then it waits for the
                              next run

If the reason could also be an outage, an entry goes to quarantine only after a sign of life: the destination accepted
something since, or, where calls fail as a whole, refused a single entry. Without one, it is an outage: nothing is
marked, and the run fails.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol, TypeAlias

from ..domain.backoff import backoff_seconds
from ..domain.entry import Entry
from ..domain.event import Event
from ..errors import BatchRefused, DestinationMisconfigured, DestinationUnavailable, TimeBudgetReached
from ..ports import Advice, Answer, Failure, Verdict
from .pace import Lane

MAX_ATTEMPTS = 7
"""Answers of one kind to an entry before it is given up for this run: about 15 seconds of waiting in total."""

SUSPICIOUS_ATTEMPTS = 3
"""The same for a call that fails as a whole while others are accepted, and for entries for which time has run out."""

PROBES = 8
"""Random entries of a batch that are sent alone to find out whether the destination accepts anything."""

LONE_ATTEMPTS = 4
"""Further attempts for an entry for which calls fail even if it is alone, before it goes to quarantine."""

WITNESSES = 3
"""Entries that are held back until the suspects are isolated: one has to be accepted after the suspects were not."""

GIVE_UP_AFTER_REFUSALS = 10
"""Calls in a row that are refused for their content while none is accepted: then the content is not the reason."""

LONE_CALLS = 2
"""Calls for an entry whose answers get lost: an entry that is a batch by itself uses them up without any other call."""

LOST_AGAIN_LIMIT = 3
"""Entries of a batch whose second answer may get lost as well, while the destination accepts others."""

UNCONFIRMED = "Unconfirmed"
"""In place of an error code, for an entry that the destination's answer does not name."""


def shows_life(answer: Answer, events: Sequence[Event]) -> bool:
    """Return whether an answer accepts some of the entries, or refuses single ones with a documented code."""
    return any(event.id in answer.successful for event in events) or any(
        failure.verdict is Verdict.REFUSED for failure in answer.failed.values()
    )


class LifeSigns:
    """Which calls the destination answered with a sign of life. Safe to use from several threads.

    A moment is the number of calls that had begun by then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = 0
        self._latest_alive = 0
        self._latest_accepted = 0
        self._in_vain = 0

    def begin(self) -> int:
        """Record that a call begins; return its number."""
        with self._lock:
            self._begun += 1
            return self._begun

    def end(self, call: int, *, alive: bool, accepted: bool = False, throttled: bool = False) -> None:
        """Record that a call has ended: whether its answer was a sign of life, and whether anything was accepted.

        A throttled call counts neither way.
        """
        with self._lock:
            if accepted:
                self._latest_accepted = max(self._latest_accepted, call)
            if alive:
                self._latest_alive = max(self._latest_alive, call)
                self._in_vain = 0
            elif not throttled:
                self._in_vain += 1

    def moment(self) -> int:
        """Return the present moment."""
        return self._begun

    def since(self, moment: int) -> bool:
        """Return whether there was a sign of life in a call that began after a moment.

        Calls that began earlier do not count, whenever their answers arrived.
        """
        return self._latest_alive > moment

    def accepted_since(self, moment: int) -> bool:
        """Return whether anything was accepted in a call that began after a moment."""
        return self._latest_accepted > moment

    def calls_in_vain(self) -> int:
        """Return how many calls in a row have ended without a sign of life."""
        return self._in_vain


class Desk(Protocol):
    """What a shipment needs of the delivery that it is part of."""

    @property
    def advice(self) -> Advice:
        """The destination's name and advice, for messages."""

    @property
    def life(self) -> LifeSigns:
        """Which calls the destination answered with a sign of life."""

    @property
    def one_search(self) -> AbstractContextManager[object]:
        """Held by the batch that searches for what makes calls fail: in an outage, one batch searches for all."""

    def send(self, events: Sequence[Event]) -> Answer:
        """Make one call, and mark accepted entries. Raises as `Destination.deliver`, and the errors that stop a run."""

    def wait(self, seconds: float) -> None:
        """Wait before another attempt. Raises the errors that stop a run."""

    def has_time_for(self, seconds: float) -> bool:
        """Return whether something new may still begin after a wait."""

    def count_code(self, code: str, times: int) -> None:
        """Count an error code, given for so many entries."""

    def put_in_quarantine(self, entry: Entry, failure: Failure, attempts: int) -> bool:
        """Put an entry into quarantine; ``False`` if that was not possible."""

    def give_up(self, count: int, error: DestinationUnavailable | None = None) -> None:
        """Record that so many entries stay undelivered although there was time."""


class _Cause(Enum):
    """Why an entry has to be sent again."""

    THROTTLED = auto()
    OUTAGE = auto()
    UNKNOWN = auto()
    DAMAGED = auto()
    LOST = auto()
    CALL_FAILED = auto()
    CALL_REFUSED = auto()


_CAUSES = {
    Verdict.THROTTLED: _Cause.THROTTLED,
    Verdict.OUTAGE: _Cause.OUTAGE,
    Verdict.DAMAGED: _Cause.DAMAGED,
}
_LIMITS = {
    _Cause.UNKNOWN: MAX_ATTEMPTS,
    _Cause.DAMAGED: 2,
    _Cause.THROTTLED: MAX_ATTEMPTS,
    _Cause.OUTAGE: MAX_ATTEMPTS,
}
_LIMITS_IN_HASTE = {_Cause.UNKNOWN: SUSPICIOUS_ATTEMPTS}
_OF_THE_WHOLE_CALL = (_Cause.CALL_FAILED, _Cause.CALL_REFUSED)

_WholeCall: TypeAlias = DestinationUnavailable | BatchRefused


@dataclass(slots=True)
class _History:
    """The attempts so far for an entry that is not settled yet.

    Parameters
    ----------
    times
        How often each cause occurred.
    first
        The moment at which each cause first occurred.
    cause, failure
        The latest ones.
    sent
        How often the entry was sent.
    alone_since
        Moment at which calls with this entry alone began to fail.
    failures_alone
        How many of those calls failed in a row.
    """

    times: Counter[_Cause] = field(default_factory=Counter)
    first: dict[_Cause, int] = field(default_factory=dict)
    cause: _Cause = _Cause.UNKNOWN
    failure: Failure = field(default_factory=lambda: Failure("", ""))
    sent: int = 0
    alone_since: int = 0
    failures_alone: int = 0

    def note(self, cause: _Cause, failure: Failure, moment: int, *, alone: bool) -> None:
        """Record why the entry was not accepted this time."""
        self.times[cause] += 1
        self.first.setdefault(cause, moment)
        self.cause, self.failure = cause, failure
        self.sent += 1
        if not alone or cause not in _OF_THE_WHOLE_CALL:
            self.failures_alone = 0
            return
        if self.failures_alone == 0:
            self.alone_since = moment
        self.failures_alone += 1


class Shipment:
    """Delivers the entries of one batch.

    Parameters
    ----------
    desk
        Sends, marks and quarantines.
    lane
        Held during each call and its marks, and as long as an entry of this batch may have been accepted without
        being marked. So no more batches than lanes are delivered twice if the process dies.
    """

    def __init__(self, desk: Desk, lane: Lane) -> None:
        self._desk = desk
        self._lane = lane
        self._unsettled: dict[str, _History] = {}
        self._lost_again: list[Event] = []
        self._complete = True
        self._error: DestinationUnavailable | None = None
        self._size = 0

    def deliver(self, events: Sequence[Event]) -> bool:
        """Send until every entry is settled or given up.

        Returns
        -------
        bool
            Whether all of them are delivered or in quarantine, and marked.

        Raises
        ------
        DestinationUnavailable
            If the destination is down, or answers get lost, or there is no time to send again what failed for a passing
            reason.
        DestinationMisconfigured
            If no call can succeed until somebody changes something.
        TimeBudgetReached
            If the run's time is used up, and nothing went wrong.
        """
        self._size = len(events)
        try:
            self._deliver(events)
            self._leave_lost_to_next_run()
        except TimeBudgetReached as time_is_up:
            failure = self._failure_for_lack_of_time()
            if failure is not None:
                raise failure from time_is_up
            raise
        return self._complete

    def _deliver(self, events: Sequence[Event]) -> None:
        left = self._send_alone_what_got_lost(events)
        attempt = 0
        while left:
            left, whole = self._call(left)
            if isinstance(whole, BatchRefused):
                self._search(left)
                return
            left = self._judge(self._send_alone_what_got_lost(left), _LIMITS)
            if not left:
                return
            attempt += 1
            wait_seconds = backoff_seconds(attempt)
            if self._is_suspicious(left, wait_seconds):
                self._search(left)
                return
            if not self._desk.has_time_for(wait_seconds):
                left = self._judge(left, _LIMITS_IN_HASTE)
            if left:
                self._desk.wait(wait_seconds)

    # -- one call

    def _call(self, events: Sequence[Event]) -> tuple[list[Event], _WholeCall | None]:
        """Make one call.

        Returns
        -------
        tuple
            The events to send again, and the error of the call as a whole, if it failed.
        """
        before = self._desk.life.moment()
        self._lane.take()
        try:
            whole: _WholeCall | None = None
            answer = Answer(frozenset())
            try:
                answer = self._desk.send(events)
            except (DestinationUnavailable, BatchRefused) as error:
                whole = error
            left = [event for event in events if event.id not in answer.successful]
            for event in events if self._unsettled else ():
                if event.id in answer.successful:
                    self._unsettled.pop(event.id, None)
            moment = before if shows_life(answer, events) else self._desk.life.moment()
            refused: list[Event] = []
            if whole is not None:
                self._note_call(left, whole, moment)
            elif left:
                refused = self._note_answers(left, answer, moment)
        finally:
            if not self._is_in_doubt():
                self._lane.leave()
        for event in refused:
            self._quarantine(event)
        return [event for event in left if event.id in self._unsettled], whole

    def _note_call(self, events: Sequence[Event], error: _WholeCall, moment: int) -> None:
        if isinstance(error, BatchRefused):
            cause = _Cause.CALL_REFUSED
        else:
            self._error = error
            cause = _Cause.CALL_FAILED if error.content_matters else _Cause.OUTAGE
            cause = _Cause.THROTTLED if error.throttled else cause
            cause = _Cause.LOST if error.maybe_accepted else cause
        for event in events:
            history = self._unsettled.setdefault(event.id, _History())
            history.note(cause, Failure(error.code, str(error)), moment, alone=len(events) == 1)

    def _note_answers(self, events: Sequence[Event], answer: Answer, moment: int) -> list[Event]:
        """Record what an answer says about entries that were not accepted; return those to be quarantined."""
        refused = []
        codes: Counter[str] = Counter()
        for event in events:
            failure = answer.failed.get(event.id)
            if failure is None:
                failure = Failure(UNCONFIRMED, f"{self._desk.advice.name}'s answers did not name the entry.")
                cause = _Cause.LOST
            else:
                cause = _CAUSES.get(failure.verdict, _Cause.UNKNOWN)
            codes[failure.code] += 1
            self._unsettled.setdefault(event.id, _History()).note(cause, failure, moment, alone=False)
            if failure.verdict is Verdict.REFUSED:
                refused.append(event)
        for code, times in codes.items():
            self._desk.count_code(code, times)
        if answer.misconfiguration:
            raise DestinationMisconfigured(answer.misconfiguration)
        return refused

    def _quarantine(self, event: Event) -> None:
        history = self._unsettled.pop(event.id)
        self._complete &= self._desk.put_in_quarantine(event.entry, history.failure, history.sent)

    def _give_up(self, events: Sequence[Event], error: DestinationUnavailable | None = None) -> None:
        for event in events:
            del self._unsettled[event.id]
        self._complete = False
        self._desk.give_up(len(events), error)

    # -- entries that are not accepted, again and again

    def _judge(self, events: Sequence[Event], limits: Mapping[_Cause, int]) -> list[Event]:
        """Give up the entries that have reached a limit of answers of one kind; return the others.

        Raises
        ------
        DestinationUnavailable
            If the destination accepted nothing at all in the meantime, so that these entries are not the reason.
        """
        waiting = []
        for event in events:
            history = self._unsettled[event.id]
            cause = next((cause for cause, enough in limits.items() if history.times[cause] >= enough), None)
            if cause is None:
                continue
            if not self._desk.life.accepted_since(history.first[cause]):
                if history.times[cause] < MAX_ATTEMPTS:
                    continue  # something else may be accepted before the limit is reached
                raise self._outage()
            if cause in (_Cause.UNKNOWN, _Cause.DAMAGED):
                self._quarantine(event)
            else:
                waiting.append(event)
        if waiting:
            self._give_up(waiting, self._error_of_the_call(waiting[0]))
        return [event for event in events if event.id in self._unsettled]

    # -- answers that got lost or cannot be read

    def _is_in_doubt(self) -> bool:
        return any(history.times[_Cause.LOST] for history in self._unsettled.values())

    def _send_alone_what_got_lost(self, events: Sequence[Event]) -> list[Event]:
        """Send each entry that may have been accepted once more, alone; return the events to send again.

        They are sent alone so that an entry whose answers always get lost does not affect its neighbours.
        """
        if not self._unsettled:
            return list(events)
        lost = [event for event in events if self._times_lost(event) == 1]
        again = [event for event in events if self._times_lost(event) == 0]
        for event in events:
            if self._times_lost(event) > 1:
                self._lose_again(event)
        if lost:
            self._desk.wait(backoff_seconds(1))
        # In random order: the one whose answer gets lost again should not be the first one in each run.
        for event in random.sample(lost, len(lost)):
            left, _ = self._call([event])
            if self._times_lost(event) > 1:
                self._lose_again(event)
            elif left:
                again += left
                if self._desk.life.calls_in_vain() >= MAX_ATTEMPTS:
                    raise self._outage()
        self._leave_lost_to_next_run()
        return again

    def _times_lost(self, event: Event) -> int:
        """Return how many answers to an entry got lost; 0 if the latest one did not."""
        history = self._unsettled.get(event.id)
        return history.times[_Cause.LOST] if history is not None and history.cause is _Cause.LOST else 0

    def _lose_again(self, event: Event) -> None:
        """Record that the second answer to an entry got lost as well. A single case may be chance, or due to the entry.

        Raises
        ------
        DestinationUnavailable
            If there are too many cases for that: then no further entry is risked.
        """
        self._lost_again.append(event)
        is_alive = self._desk.life.since(self._unsettled[event.id].first[_Cause.LOST])
        if len(self._lost_again) > (LOST_AGAIN_LIMIT if is_alive else 1):
            raise self._lost(event)

    def _leave_lost_to_next_run(self) -> None:
        """Leave entries that may have been accepted twice by now to the next run. Raises as `_lose_again`."""
        # A batch of one has no others that could show life. The next batch shows whether it was the entry: otherwise
        # one that comes first, as in a gap, would hold up everything.
        has_no_others = self._size == 1 and self._desk.life.calls_in_vain() <= LONE_CALLS
        for event in self._lost_again:
            error = self._lost(event)
            if not (has_no_others or self._desk.life.since(self._unsettled[event.id].first[_Cause.LOST])):
                raise error
            self._give_up([event], error)
        self._lost_again.clear()

    def _lost(self, event: Event) -> DestinationUnavailable:
        code = self._unsettled[event.id].failure.code
        return self._failure(
            code,
            f"{self._desk.advice.name}'s answer was lost or could not be read ({code}), twice for the same entry. "
            f"{self._desk.advice.if_answers_get_lost}",
        )

    # -- calls that fail or are refused as a whole, perhaps because of one of their entries

    def _is_suspicious(self, events: Sequence[Event], wait_seconds: float) -> bool:
        """Return whether calls fail because of their content, or may do so and there is no time for more attempts."""
        histories = [self._unsettled[event.id] for event in events]
        if any(history.cause is not _Cause.CALL_FAILED for history in histories):
            return False
        attempts = min(history.times[_Cause.CALL_FAILED] for history in histories)
        if attempts >= SUSPICIOUS_ATTEMPTS and self._desk.life.since(_failing_since(histories)):
            return True
        return attempts >= MAX_ATTEMPTS or not self._desk.has_time_for(2 * wait_seconds)

    def _search(self, events: Sequence[Event]) -> None:
        """Halve a batch until the entries that make calls fail are isolated.

        Raises
        ------
        DestinationUnavailable, DestinationMisconfigured
            If the destination accepts nothing at all.
        """
        since = _failing_since(self._unsettled[event.id] for event in events)
        hunt = _Hunt(events)
        self._lane.leave()  # another batch that searches may be waiting for it
        with self._desk.one_search:
            is_alive = self._isolate(hunt, since)
            if is_alive:
                self._hear_witnesses(hunt, since)
        if is_alive:
            self._deliver(hunt.others)
        self._sentence(hunt, since)
        if not is_alive:
            raise self._outage()

    def _isolate(self, hunt: _Hunt, since: int) -> bool:
        """Try ever smaller parts until all suspects are isolated; return ``False`` if nothing is accepted meanwhile."""
        while hunt.parts:
            if self._desk.life.calls_in_vain() < MAX_ATTEMPTS:
                self._try(hunt, hunt.parts.pop())
            elif self._find_life(hunt):
                self._try_suspects_again(hunt, since)
            else:
                return False
        self._try_suspects_again(hunt, since)
        return True

    def _hear_witnesses(self, hunt: _Hunt, since: int) -> None:
        """Send the entries that were held back, to see whether the destination still accepts something."""
        hunt.accused_at = self._desk.life.moment()
        for witness in hunt.witnesses:
            self._try(hunt, [witness])
        self._try_suspects_again(hunt, since)

    def _sentence(self, hunt: _Hunt, since: int) -> None:
        """Put entries for which calls fail even if they are alone into quarantine.

        Raises
        ------
        DestinationUnavailable, DestinationMisconfigured
            If the destination accepted nothing after it did not accept one of them.
        """
        # If all others of the batch were accepted, this one made the calls fail, and nothing is left to send after it.
        explained = self._complete and len(self._unsettled) == 1 < self._size and self._desk.life.since(since)
        guilty = [
            event
            for event in hunt.suspects
            if explained or self._is_proven(hunt, event) or self._is_alone_and_refused(event)
        ]
        are_all = len(guilty) == len(hunt.suspects)
        for event in guilty:
            self._quarantine(event)
        if not are_all:
            raise self._outage()

    def _is_proven(self, hunt: _Hunt, event: Event) -> bool:
        """Return whether the destination accepted something else after it did not accept an entry."""
        moment = self._unsettled[event.id].alone_since
        if hunt.accused_at is None:
            return not self._may_be_passing(event) and self._desk.life.since(moment)
        if hunt.witnesses and not hunt.is_witness(event):
            moment = hunt.accused_at
        return self._desk.life.since(moment)

    def _is_alone_and_refused(self, event: Event) -> bool:
        """Return whether a batch of one entry was refused for its content, and few calls were refused before it."""
        refused = self._size == 1 and self._unsettled[event.id].cause is _Cause.CALL_REFUSED
        return refused and self._desk.life.calls_in_vain() < GIVE_UP_AFTER_REFUSALS

    def _try(self, hunt: _Hunt, part: Sequence[Event]) -> bool:
        """Send a part once; return whether the call failed as a whole."""
        left, whole = self._call(part)
        failed = whole is not None and self._unsettled[part[0].id].cause in _OF_THE_WHOLE_CALL
        if failed:
            hunt.failed(part)
        else:
            hunt.others += left
        return failed

    def _find_life(self, hunt: _Hunt) -> bool:
        """Send random single entries until one is accepted; return ``False`` if none of several is."""
        moment = self._desk.life.moment()
        probes = hunt.take_at_random(PROBES)
        all_failed = True
        while probes and not self._desk.life.since(moment):
            all_failed &= self._try(hunt, [probes.pop()])
        is_alive = self._desk.life.since(moment)
        hunt.parts += [probes] if probes else []
        return is_alive or not all_failed or not hunt.parts

    def _try_suspects_again(self, hunt: _Hunt, since: int) -> None:
        """Send suspects alone a few more times, except those that were refused for their content."""
        if not self._desk.life.since(since):
            return  # nothing is accepted: these entries are not the reason
        for attempt in range(1, LONE_ATTEMPTS + 1):
            again = [event for event in hunt.suspects if self._may_be_passing(event)]
            wait_seconds = backoff_seconds(attempt)
            if not again or not self._desk.has_time_for(wait_seconds):
                return
            self._desk.wait(wait_seconds)
            for event in again:
                hunt.suspects.remove(event)
                self._try(hunt, [event])

    def _may_be_passing(self, event: Event) -> bool:
        history = self._unsettled[event.id]
        return history.cause is _Cause.CALL_FAILED and history.failures_alone <= LONE_ATTEMPTS

    # -- messages

    def _error_of_the_call(self, event: Event) -> DestinationUnavailable | None:
        """Return the error with which the latest call of an entry failed as a whole, if it did."""
        code = self._unsettled[event.id].failure.code
        return self._error if self._error is not None and self._error.code == code else None

    def _outage(self) -> DestinationUnavailable | DestinationMisconfigured:
        """Return the error to raise when the destination accepts nothing."""
        histories, advice = self._unsettled.values(), self._desk.advice
        code = _most_common_code(histories)
        if all(history.cause is _Cause.CALL_REFUSED for history in histories):
            return DestinationMisconfigured(
                f"{advice.name} refuses every call with {code}, whatever entries it contains, so the entries are not "
                f"the reason. {advice.if_all_refused}"
            )
        why = f"{advice.name} accepts nothing ({code}). {advice.if_down}"
        return self._failure(code, self._message_of(code) or why)

    def _failure_for_lack_of_time(self) -> DestinationUnavailable | None:
        """Return the failure for which there was no time to try again; ``None`` if there were only throttled calls."""
        histories = self._unsettled.values()
        if all(
            history.cause is _Cause.THROTTLED and self._desk.life.since(history.first[_Cause.THROTTLED])
            for history in histories
        ):
            return None
        code = _most_common_code(histories)
        why = self._message_of(code) or f"{self._desk.advice.name} did not accept {len(histories)} entries ({code})."
        return self._failure(code, f"{why} There was no time left for another attempt.")

    def _message_of(self, code: str) -> str:
        """Return the message with which the latest call failed as a whole, if it failed with this code."""
        return str(self._error) if self._error is not None and self._error.code == code else ""

    def _failure(self, code: str, why: str) -> DestinationUnavailable:
        """Return an error that also says how many entries may be delivered twice."""
        in_doubt = sum(history.times[_Cause.LOST] > 0 for history in self._unsettled.values())
        if in_doubt:
            why += f" {in_doubt} entries that are not marked may have been accepted. {self._desk.advice.if_in_doubt}"
        return DestinationUnavailable(code, why, maybe_accepted=in_doubt > 0)


def _failing_since(histories: Iterable[_History]) -> int:
    """Return the latest moment at which calls with one of these entries began to fail as a whole."""
    return max(
        moment for history in histories for cause, moment in history.first.items() if cause in _OF_THE_WHOLE_CALL
    )


def _most_common_code(histories: Iterable[_History]) -> str:
    return Counter(history.failure.code for history in histories).most_common(1)[0][0]


class _Hunt:
    """The search for the entries of a batch that make calls fail.

    Parameters
    ----------
    events
        The events of the batch. The call with all of them failed.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self.parts: list[list[Event]] = []
        """Parts still to try, the last one first."""
        self.suspects: list[Event] = []
        """Entries for which calls fail even if they are alone."""
        self.others: list[Event] = []
        """Entries to send again for another reason."""
        self.witnesses = random.sample(list(events), min(WITNESSES, len(events) // 2))
        """Entries that are held back until the others are isolated or settled."""
        self.accused_at: int | None = None
        """The moment before the witnesses were sent."""
        if len(events) == 1:
            self.suspects += events
        else:
            kept_back = {event.id for event in self.witnesses}
            self._halve([event for event in events if event.id not in kept_back])

    def failed(self, part: Sequence[Event]) -> None:
        """Record that the call with a part failed."""
        if len(part) == 1:
            self.suspects += part
        else:
            self._halve(part)

    def is_witness(self, event: Event) -> bool:
        """Return whether an entry is a witness."""
        return any(event.id == witness.id for witness in self.witnesses)

    def take_at_random(self, count: int) -> list[Event]:
        """Take random entries out of the parts."""
        events = [event for part in self.parts for event in part]
        taken = random.sample(events, min(count, len(events)))
        gone = {event.id for event in taken}
        self.parts = [rest for part in self.parts if (rest := [event for event in part if event.id not in gone])]
        return taken

    def _halve(self, part: Sequence[Event]) -> None:
        middle = len(part) // 2
        self.parts += [half for half in (list(part[middle:]), list(part[:middle])) if half]
