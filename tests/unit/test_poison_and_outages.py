"""A bad entry among good ones must not stop the trail, and an outage must not pass for a lot of bad entries."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import pytest
from kong_cloudtrail.destinations.cloudtrail.destination import failure_of, read_answer
from kong_cloudtrail.domain.checkpoint import Checkpoint, OpenGap
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import BatchRefused, DestinationUnavailable, RunFailed
from kong_cloudtrail.ports import Answer
from kong_cloudtrail.run.shipment import MAX_ATTEMPTS, SUSPICIOUS_ATTEMPTS

from tests.fakes import Kong, Reaction, World, accept_all, fail_with, refuse
from tests.helpers import NOW, Budget, FakeClock, entries, entry, wait_until

SERVER_ERROR = DestinationUnavailable("InternalServerError", "CloudTrail did not accept a batch.")
MIDDLEBOX = DestinationUnavailable("403", "CloudTrail did not accept a batch (403, status 403).")
LOST = DestinationUnavailable("ConnectionClosedError", "The answer was lost.", maybe_accepted=True)
THROTTLED = DestinationUnavailable("ThrottlingException", "Slow down.", throttled=True)


def world_of(count: int) -> World:
    return World(kong=Kong(entries(count), page_size=1000))


def ids(numbers: Iterable[int]) -> list[str]:
    return [f"{number:032d}" for number in numbers]


def poisoned(error: Exception, numbers: Collection[int]) -> Reaction:
    """Return a CloudTrail to which every call with one of these entries fails as a whole."""
    poison = set(ids(numbers))

    def react(events: Sequence[Event]) -> Answer:
        if any(event.id in poison for event in events):
            raise error
        return accept_all(events)

    return react


def after(calls: int, then: Reaction, first: Reaction = accept_all) -> Reaction:
    """Return a CloudTrail that changes after so many calls."""
    number = itertools.count(1)
    return lambda events: (first if next(number) <= calls else then)(events)


def accept_and_lose(events: Sequence[Event], world: World) -> Answer:
    """Accept everything and let nobody hear of it."""
    world.cloudtrail.accepted += events
    raise LOST


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn from a batch, at random otherwise, is every third of it, or all of it in order."""

    def sample(population: Sequence[Event], k: int) -> list[Event]:
        return list(population[:: max(len(population) // max(k, 1), 1)][:k])  # [1, 34, 67] of a whole batch

    monkeypatch.setattr("kong_cloudtrail.run.shipment.random.sample", sample)


class SlowClock(FakeClock):
    """Waits that take no time but for others: each lasts until CloudTrail has accepted more, if it still will."""

    def __init__(self, world: World, *, accepts: int) -> None:
        super().__init__()
        self._world = world
        self._accepts = accepts

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        before = len(self._world.cloudtrail.accepted)
        wait_until(lambda: len(self._world.cloudtrail.accepted) > min(before, self._accepts - 1))


def copies(world: World) -> int:
    """Return how often the entry that was sent most often was sent."""
    return max(Counter(itertools.chain.from_iterable(world.cloudtrail.calls)).values())


class TestPoison:
    @pytest.mark.parametrize("error", [SERVER_ERROR, MIDDLEBOX], ids=["500", "403 without a code"])
    @pytest.mark.parametrize("position", [1, 2, 34, 50, 51, 67, 77, 99, 100])
    def test_stands_alone_in_quarantine_and_its_neighbours_are_delivered(self, position: int, error: Exception) -> None:
        world = world_of(100)
        world.cloudtrail.always = poisoned(error, [position])

        report = world.run()

        assert (report.delivered, report.quarantined, report.failed, report.finished) == (99, 1, 0, True)
        assert [(record["id"], record["code"]) for record in world.quarantined] == [
            (ids([position])[0], getattr(error, "code", ""))
        ]
        assert all(world.is_marked(row) for row in world.kong.entries)
        assert len(world.cloudtrail.accepted_ids) == 99  # and none of them twice
        assert len(world.cloudtrail.calls) <= 30

    @pytest.mark.parametrize(
        "positions",
        [range(1, 11), range(91, 101), range(40, 60), [1, 100], [10, 20, 30, 40, 50, 60, 70, 80, 90]],
        ids=str,
    )
    def test_comes_in_numbers(self, positions: Collection[int]) -> None:
        world = world_of(100)
        world.cloudtrail.always = poisoned(SERVER_ERROR, positions)

        report = world.run()

        assert sorted(record["id"] for record in world.quarantined) == ids(sorted(positions))
        assert (report.delivered, report.finished) == (100 - len(positions), True)

    def test_beside_good_batches_is_looked_for_soon(self) -> None:
        world = world_of(1000)
        world.cloudtrail.always = poisoned(SERVER_ERROR, [450])
        world.clock = SlowClock(world, accepts=900)

        report = world.run()

        assert (report.delivered, report.quarantined, report.finished) == (999, 1, True)
        whole = [call for call in world.cloudtrail.calls if call == ids(range(401, 501))]
        assert len(whole) <= SUSPICIOUS_ATTEMPTS  # and not all attempts

    def test_does_not_keep_the_checkpoint_back(self) -> None:
        world = world_of(100)
        world.cloudtrail.always = poisoned(SERVER_ERROR, [7])

        world.run()

        assert world.complete_until is not None

    def test_in_a_short_run_is_found_too(self) -> None:
        world = world_of(100)
        world.cloudtrail.always = poisoned(SERVER_ERROR, [7])
        world.budget = Budget(lambda: NOW + 10 - world.clock.time)

        report = world.run()

        assert (report.delivered, report.quarantined, report.finished) == (99, 1, True)
        assert world.clock.time < NOW + 10

    def test_that_heals_while_it_is_looked_for_is_delivered(self) -> None:
        world = world_of(100)
        world.cloudtrail.always = after(22, accept_all, poisoned(SERVER_ERROR, [7]))

        report = world.run()

        assert (report.delivered, report.quarantined) == (100, 0)

    def test_is_not_marked_where_the_quarantine_cannot_be_written(self) -> None:
        world = world_of(100)
        world.cloudtrail.always = poisoned(SERVER_ERROR, [7])
        world.store.refuses = lambda name: name.startswith("quarantine/")

        with pytest.raises(RunFailed, match="ledger is down"):
            world.run()

        assert len(world.seen.marks) == 99
        assert not world.is_marked(entry(7))

    def test_throttling_in_between_is_no_sign_of_poison(self) -> None:
        world = world_of(100)
        throttles = itertools.cycle([True, False, False, False, False, False])
        poison = poisoned(SERVER_ERROR, [7])

        def react(events: Sequence[Event]) -> Answer:
            if next(throttles):
                raise THROTTLED
            return poison(events)

        world.cloudtrail.always = react

        report = world.run()

        assert [record["id"] for record in world.quarantined] == ids([7])
        assert report.delivered == 99


class TestOutage:
    @pytest.mark.parametrize(
        "error",
        [SERVER_ERROR, MIDDLEBOX, THROTTLED, BatchRefused("ValidationException", "refused")],
        ids=["500", "403 without a code", "throttled", "refused for its content"],
    )
    @pytest.mark.parametrize("count", [1, 2, 9, 100, 3000])
    def test_is_told_from_poison_although_nothing_else_is_known(self, count: int, error: Exception) -> None:
        if count == 1 and isinstance(error, BatchRefused):
            count = 2  # the only entry may well be refused for its content
        world = world_of(count)
        world.cloudtrail.always = fail_with(error)

        with pytest.raises(RunFailed):
            world.run(parallel_deliveries=2)

        assert world.quarantined == []
        assert world.seen.marks == {}
        assert len(world.cloudtrail.calls) <= 6 * MAX_ATTEMPTS

    @pytest.mark.parametrize("calls", range(1, 40))
    def test_that_begins_at_any_moment_sends_nothing_good_to_quarantine(self, calls: int) -> None:
        world = world_of(500)
        world.cloudtrail.always = after(calls, fail_with(SERVER_ERROR), poisoned(SERVER_ERROR, [37]))

        with contextlib.suppress(RunFailed):  # if it begins late, all is done by then
            world.run(parallel_deliveries=2)

        assert {record["id"] for record in world.quarantined} <= set(ids([37]))

    def test_that_passes_costs_nothing(self) -> None:
        world = world_of(500)
        world.cloudtrail.always = after(12, accept_all, fail_with(SERVER_ERROR))

        report = world.run()

        assert (report.delivered, report.quarantined, report.finished) == (500, 0, True)


class TestUnknownCode:
    @pytest.mark.parametrize("count", [1, 100, 2000])
    def test_of_every_entry_is_an_outage(self, count: int) -> None:
        world = world_of(count)
        world.cloudtrail.always = refuse("SomethingNew")

        with pytest.raises(RunFailed, match="SomethingNew"):
            world.run()

        assert world.quarantined == []
        assert world.seen.marks == {}
        assert len(world.cloudtrail.calls) <= 6 * MAX_ATTEMPTS

    def test_of_every_entry_from_some_moment_on_likewise(self) -> None:
        world = world_of(2000)
        world.cloudtrail.always = after(5, refuse("SomethingNew"))

        with pytest.raises(RunFailed, match="SomethingNew"):
            world.run()

        assert world.quarantined == []
        assert len(world.seen.marks) == len(world.cloudtrail.accepted_ids) == 500

    def test_bad_records_among_them_do_not_make_it_the_entries_fault(self) -> None:
        world = world_of(100)
        bad = ids([4, 50])
        world.cloudtrail.always = lambda events: read_answer(
            {
                "failed": [
                    {"id": event.id, "errorCode": "InvalidData" if event.id in bad else "SomethingNew"}
                    for event in events
                ]
            }
        )

        with pytest.raises(RunFailed, match="SomethingNew"):
            world.run()

        assert sorted(record["id"] for record in world.quarantined) == bad

    def test_of_one_entry_goes_to_quarantine(self) -> None:
        world = world_of(100)
        world.cloudtrail.always = refuse("SomethingNew", *ids([4]))

        report = world.run()

        assert [(record["id"], record["attempts"]) for record in world.quarantined] == [(ids([4])[0], MAX_ATTEMPTS)]
        assert (report.delivered, report.finished) == (99, True)

    def test_of_a_whole_batch_goes_to_quarantine_if_others_are_accepted_meanwhile(self) -> None:
        world = world_of(1500)
        world.cloudtrail.always = refuse("SomethingNew", *ids(range(201, 301)))
        world.clock = SlowClock(world, accepts=1400)

        report = world.run(parallel_deliveries=2)

        assert (report.delivered, report.quarantined, report.finished) == (1400, 100, True)

    @pytest.mark.parametrize(
        "code",
        [
            "ServiceUnavailable",
            "ServiceUnavailableException",
            "ThrottlingException",
            "InternalServerError",
            "InternalServerException",
            "InternalError",
            "RequestTimeout",
            "RequestTimeoutException",
            "SlowDown",
            "RequestLimitExceeded",
            "TooManyRequestsException",
        ],
    )
    def test_throttling_and_outage_by_name_are_none(self, code: str) -> None:
        world = world_of(100)
        world.cloudtrail.always = refuse(code, *ids([4]))

        with pytest.raises(RunFailed, match=f"1 of 100 entries were not delivered.*{code}"):
            world.run()

        assert world.quarantined == []
        assert not world.is_marked(entry(4))
        assert len(world.seen.marks) == 99

    @pytest.mark.parametrize(
        ("code", "advice"),
        [
            ("SignatureDoesNotMatch", "clock"),
            ("RequestExpired", "clock"),
            ("InvalidSignatureException", "clock"),
            ("RequestTimeTooSkewed", "clock"),
            ("ExpiredTokenException", "expired"),
        ],
    )
    def test_credentials_and_clock_stop_the_run_with_advice(self, code: str, advice: str) -> None:
        world = world_of(1000)
        world.cloudtrail.always = refuse(code)

        with pytest.raises(RunFailed, match=f"{code}.*{advice}"):
            world.run(parallel_deliveries=2)

        assert world.quarantined == []
        assert world.seen.marks == {}
        assert len(world.cloudtrail.calls) <= 2

    def test_throttlings_do_not_count_towards_it(self) -> None:
        world = world_of(2)
        codes = itertools.cycle(["SomethingNew", "Throttling"])

        def react(events: Sequence[Event]) -> Answer:
            code = next(codes)
            return refuse(code, *ids([2]))(events)

        world.cloudtrail.always = react

        world.run()

        [record] = world.quarantined
        assert (record["code"], record["attempts"]) == ("SomethingNew", 2 * MAX_ATTEMPTS - 1)


class TestDamaged:
    @pytest.mark.parametrize("first", [refuse("Throttling"), fail_with(SERVER_ERROR), fail_with(THROTTLED)])
    def test_counts_as_the_first_time_whatever_was_before(self, first: Reaction) -> None:
        world = world_of(100)
        world.cloudtrail.script = [first, refuse("InvalidChecksum")]

        report = world.run()

        assert (report.delivered, report.quarantined) == (100, 0)

    def test_twice_goes_to_quarantine_whatever_is_in_between(self) -> None:
        world = world_of(3)
        damaged = refuse("InvalidChecksum", *ids([2]))
        world.cloudtrail.script = [damaged, refuse("Throttling"), damaged]

        report = world.run()

        assert (report.delivered, report.quarantined) == (2, 1)

    def test_of_every_entry_is_an_outage(self) -> None:
        world = world_of(2000)
        world.cloudtrail.always = refuse("InvalidChecksum")

        with pytest.raises(RunFailed, match="InvalidChecksum"):
            world.run()

        assert world.quarantined == []
        assert world.seen.marks == {}

    def test_of_the_only_entry_is_tried_on(self) -> None:
        world = world_of(1)
        damaged = refuse("InvalidChecksum")
        world.cloudtrail.script = [damaged] * 4

        report = world.run()

        assert (report.delivered, report.quarantined) == (1, 0)


def say_nothing(events: Sequence[Event]) -> Answer:
    return Answer(frozenset())


class TestLostAnswer:
    """What CloudTrail accepted is not known: each entry is sent at most once more."""

    @pytest.mark.parametrize("reaction", [fail_with(LOST), say_nothing], ids=["lost", "empty"])
    @pytest.mark.parametrize("count", [1, 100, 3000])
    def test_always_costs_one_batch_and_ends_the_run(self, count: int, reaction: Reaction) -> None:
        world = world_of(count)
        world.cloudtrail.always = reaction

        with pytest.raises(RunFailed, match="may be delivered a second time"):
            world.run(parallel_deliveries=8)

        assert world.seen.marks == {}
        assert world.quarantined == []
        sent = set(itertools.chain.from_iterable(world.cloudtrail.calls))
        assert len(sent) <= 100  # one batch, although eight could be under way
        assert copies(world) <= 2

    def test_always_from_some_moment_on_costs_the_batches_in_flight(self) -> None:
        world = world_of(3000)
        world.cloudtrail.always = after(10, lambda events: accept_and_lose(events, world))

        with pytest.raises(RunFailed, match="may be delivered a second time"):
            world.run(parallel_deliveries=2)

        assert copies(world) <= 2
        unmarked = {event.id for event in world.cloudtrail.accepted if event.entry.key not in world.seen.marks}
        assert 0 < len(unmarked) <= 2 * 100

    @pytest.mark.parametrize("nth", range(1, 12))
    def test_once_comes_twice_at_most_and_the_run_goes_on(self, nth: int) -> None:
        world = world_of(1000)
        number = itertools.count(1)

        def react(events: Sequence[Event]) -> Answer:
            return accept_and_lose(events, world) if next(number) == nth else accept_all(events)

        world.cloudtrail.always = react

        report = world.run()

        assert (report.delivered, report.finished) == (1000, True)
        assert Counter(Counter(world.cloudtrail.accepted_ids).values())[2] <= 100
        assert copies(world) <= 2

    def test_throttled_in_between_is_still_sent_twice_at_most(self) -> None:
        world = world_of(100)
        world.cloudtrail.script = [lambda events: accept_and_lose(events, world), fail_with(THROTTLED)]

        report = world.run()

        assert report.delivered == 100
        assert max(Counter(world.cloudtrail.accepted_ids).values()) == 2

    def test_of_one_entry_again_and_again_leaves_that_one_waiting(self) -> None:
        # Given something on the way that resets the connection for what one entry holds
        world = world_of(1000)
        world.cloudtrail.always = poisoned(LOST, [450])

        with pytest.raises(RunFailed, match="1 of 1000 entries were not delivered") as failed:
            world.run()

        assert "may be delivered a second time" in str(failed.value)
        assert len(world.seen.marks) == 999
        assert not world.is_marked(entry(450))
        assert world.quarantined == []
        assert copies(world) == 2

    def test_of_an_entry_that_comes_first_and_alone_does_not_hold_up_the_others(self) -> None:
        # Given a gap, which is read again before what is new
        gap = OpenGap(Window(NOW - 50_000, NOW - 49_000), "undelivered", "not delivered", NOW - 10)
        world = World(kong=Kong([entry(1, request_timestamp=NOW - 49_500), *entries(298, first=2)]))
        world.ledger.save_checkpoint(Checkpoint(complete_until=NOW - 1000, gaps=(gap,)))
        world.cloudtrail.always = poisoned(LOST, [1])

        with pytest.raises(RunFailed, match=r"1 of 299 entries were not delivered.* may be delivered a second time"):
            world.run(parallel_deliveries=1)

        assert len(world.seen.marks) == 298
        assert world.ledger.load_checkpoint().gaps == (gap,)

    @pytest.mark.parametrize("reaction", [fail_with(LOST), say_nothing], ids=["lost", "empty"])
    def test_always_ends_the_run_also_after_a_batch_of_one(self, reaction: Reaction) -> None:
        gap = OpenGap(Window(NOW - 50_000, NOW - 49_000), "undelivered", "not delivered", NOW - 10)
        world = World(kong=Kong([entry(1, request_timestamp=NOW - 49_500), *entries(998, first=2)]))
        world.ledger.save_checkpoint(Checkpoint(complete_until=NOW - 2000, gaps=(gap,)))
        world.cloudtrail.always = reaction

        with pytest.raises(RunFailed, match="may be delivered a second time"):
            world.run(parallel_deliveries=1)

        sent = set(itertools.chain.from_iterable(world.cloudtrail.calls))
        assert len(sent) <= 1 + 100
        assert copies(world) <= 2

    def test_never_confirmed_is_sent_twice_and_waits(self) -> None:
        world = world_of(100)
        accepted = ids(range(2, 101))
        world.cloudtrail.always = lambda events: Answer(frozenset(event.id for event in events if event.id in accepted))

        with pytest.raises(RunFailed, match=r"1 of 100 entries were not delivered.*Unconfirmed \(2 times\)"):
            world.run()

        assert not world.is_marked(entry(1))
        assert len(world.seen.marks) == 99
        assert copies(world) == 2

    def test_of_many_entries_again_ends_the_run(self) -> None:
        world = world_of(1000)
        world.cloudtrail.always = poisoned(LOST, range(401, 451))

        with pytest.raises(RunFailed, match="may be delivered a second time"):
            world.run()

        assert world.quarantined == []
        assert copies(world) == 2

    def test_holds_back_no_more_than_its_lane(self) -> None:
        # An accepted batch without a mark stands for what comes twice if the process dies: never more than lanes.
        world = world_of(3000)
        most = 0

        def react(events: Sequence[Event]) -> Answer:
            nonlocal most
            world.cloudtrail.accepted += events
            unmarked = {event.id for event in world.cloudtrail.accepted if event.entry.key not in world.seen.marks}
            most = max(most, len(unmarked))
            if len(events) > 1 and len(world.cloudtrail.calls) % 3 == 0:
                raise LOST
            return accept_all(events)

        world.cloudtrail.always = react

        world.run(parallel_deliveries=3)

        assert most <= 3 * 100


def test_message_of_cloudtrail_is_in_no_error() -> None:
    world = world_of(3)
    world.cloudtrail.always = lambda events: Answer(
        frozenset(), {event.id: failure_of("SomethingNew", "the field 'hunter2' is bad") for event in events}
    )

    with pytest.raises(RunFailed) as failed:
        world.run()

    assert "hunter2" not in f"{failed.value} {failed.value.summary}"
