"""Every wait of the delivery has an end within the run's time, and something that is down is a failure."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from kong_cloudtrail.domain.entry import Entry
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.errors import CacheFull, DestinationUnavailable, RunFailed
from kong_cloudtrail.ports import Answer

from tests.fakes import Kong, World, accept_all, fail_with, refuse
from tests.helpers import NOW, Budget, entries, entry, wait_until

DOWN = DestinationUnavailable("EndpointConnectionError", "CloudTrail could not be reached.")


def world_of(count: int) -> World:
    return World(kong=Kong(entries(count), page_size=1000))


class TestDownInAShortRun:
    @pytest.mark.parametrize("budget_seconds", [2, 3, 10, 30])
    @pytest.mark.parametrize("count", [1, 100, 1000])
    def test_is_a_failure(self, budget_seconds: int, count: int) -> None:
        world = world_of(count)
        world.budget = Budget(lambda: NOW + budget_seconds - world.clock.time)
        world.cloudtrail.always = fail_with(DOWN)

        with pytest.raises(RunFailed, match="could not be reached"):
            world.run()

        assert world.seen.marks == {}
        assert world.clock.time < NOW + budget_seconds

    @pytest.mark.parametrize("code", ["InternalFailure", "SomethingNew", "Throttling"])
    def test_entry_by_entry_likewise(self, code: str) -> None:
        world = world_of(100)
        world.budget = Budget(lambda: NOW + 3 - world.clock.time)
        world.cloudtrail.always = refuse(code)

        with pytest.raises(RunFailed, match=code):
            world.run()

        assert world.quarantined == []

    def test_that_is_noticed_when_the_time_has_passed_is_one_too(self) -> None:
        # Given a call that fails after so long that nothing new may begin
        world = world_of(100)
        world.budget = Budget(lambda: NOW + 10 - world.clock.time)

        def react(events: Sequence[Event]) -> Answer:
            world.clock.time += 9
            raise DOWN

        world.cloudtrail.always = react

        with pytest.raises(RunFailed, match="could not be reached"):
            world.run()

    def test_throttled_in_part_is_none(self) -> None:
        world = world_of(3)
        world.budget = Budget(lambda: NOW + 10 - world.clock.time)
        world.cloudtrail.always = refuse("Throttling", entry(2)["request_id"])

        report = world.run()

        assert (report.delivered, report.backlog, report.failed, report.finished) == (2, 1, 0, False)


class BlackHole:
    """A CloudTrail that takes calls and answers none of them."""

    def __init__(self, *, from_call: int = 1) -> None:
        self._from_call = from_call
        self._calls = 0
        self._lock = threading.Lock()
        self._reached_at: float | None = None
        self.opened = threading.Event()

    def seconds_from_then(self, seconds: float) -> Budget:
        """Return a budget whose time begins to pass when the first call hangs: nothing before is hurried."""
        return Budget(lambda: seconds - (time.monotonic() - self._reached_at if self._reached_at else 0.0))

    def deliver(self, events: Sequence[Event]) -> Answer:
        with self._lock:
            self._calls += 1
            hangs = self._calls >= self._from_call
        if hangs:
            self._reached_at = self._reached_at or time.monotonic()
            self.opened.wait(60)
        return accept_all(events)


@pytest.fixture
def hole() -> Iterator[BlackHole]:
    hole = BlackHole()
    yield hole
    hole.opened.set()


class TestCallThatDoesNotEnd:
    @pytest.mark.parametrize("count", [1, 100, 5000])
    @pytest.mark.parametrize("from_call", [1, 4])
    def test_ends_the_run_within_its_time_as_a_failure(self, hole: BlackHole, count: int, from_call: int) -> None:
        world = world_of(count)
        hole._from_call = min(from_call, (count + 99) // 100)
        world.cloudtrail.deliver = hole.deliver  # type: ignore[method-assign]
        world.budget = hole.seconds_from_then(1)
        started = time.monotonic()

        with pytest.raises(RunFailed, match=r"were still in flight.*may be delivered a second time"):
            world.run(parallel_deliveries=3)

        assert time.monotonic() - started < 10  # and not the minute of the call
        assert world.lock.released
        assert len(world.telemetry.published) == 1

    def test_that_ends_after_all_changes_nothing_any_more(self, hole: BlackHole) -> None:
        world = world_of(100)
        world.cloudtrail.deliver = hole.deliver  # type: ignore[method-assign]
        world.budget = hole.seconds_from_then(1)
        with pytest.raises(RunFailed) as failed:
            world.run()
        summary = dict(failed.value.summary)

        hole.opened.set()
        wait_until(lambda: not any(thread.name.startswith("delivery") for thread in threading.enumerate()))

        assert world.telemetry.published[0].summary() == summary
        assert summary["delivered"] == 0

    def test_ends_a_run_without_a_limit_too(self, hole: BlackHole, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kong_cloudtrail.run.delivery.LONGEST_CALL_SECONDS", 0.5)
        world = world_of(1000)
        world.cloudtrail.deliver = hole.deliver  # type: ignore[method-assign]
        monkeypatch.setattr(world.clock, "monotonic", time.monotonic)
        world.budget = Budget(lambda: math.inf)

        with pytest.raises(RunFailed, match="were still in flight"):
            world.run(parallel_deliveries=2)


class TestBackoff:
    def test_of_a_batch_does_not_hold_up_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Given one lane, and a batch that waits for its next try until all others are delivered
        world = world_of(1000)
        world.cloudtrail.script = [accept_all, fail_with(DestinationUnavailable("500", "no"))]

        def sleep(seconds: float) -> None:
            wait_until(lambda: len(world.cloudtrail.accepted) == 900)

        monkeypatch.setattr(world.clock, "sleep", sleep)

        report = world.run(parallel_deliveries=1)

        assert report.delivered == 1000

    def test_does_not_hold_up_the_end_of_a_run_that_was_stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Given a batch that waits for its next try when another one finds that marks cannot be written
        world = world_of(200)
        asleep, over = threading.Event(), threading.Event()

        def sleep(seconds: float) -> None:
            asleep.set()
            over.wait(60)

        def accept_late(events: Sequence[Event]) -> Answer:
            assert asleep.wait(10)
            world.seen.fails_to_mark = True
            return accept_all(events)

        monkeypatch.setattr(world.clock, "sleep", sleep)
        world.cloudtrail.script = [fail_with(DestinationUnavailable("500", "no")), accept_late]
        try:
            with pytest.raises(RunFailed, match="Redis is down"):
                world.run(parallel_deliveries=2)
            assert not over.is_set()
        finally:
            over.set()


class TestFullCache:
    def test_stops_all_lanes_and_what_could_be_marked_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = world_of(3000)
        mark = world.seen.mark
        full = threading.Event()

        def mark_the_last(entries: Sequence[Entry], lifetime_seconds: int) -> None:
            mark(entries, lifetime_seconds)
            if len(world.seen.marks) >= 500:
                full.set()
                raise CacheFull("The cache is full.", marked=True)

        monkeypatch.setattr(world.seen, "mark", mark_the_last)

        with pytest.raises(RunFailed, match="The cache is full") as failed:
            world.run(parallel_deliveries=2)

        assert len(world.seen.marks) == len(world.cloudtrail.accepted_ids) == failed.value.summary["delivered"]
        assert 500 <= failed.value.summary["delivered"] <= 700

    def test_that_could_not_even_take_these_says_what_may_come_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = world_of(3000)

        def refuse_marks(keys: Sequence[str], lifetime_seconds: int) -> None:
            raise CacheFull("The cache is full.", marked=False)

        monkeypatch.setattr(world.seen, "mark", refuse_marks)

        with pytest.raises(RunFailed, match=r"may be delivered a second time.*The cache is full"):
            world.run(parallel_deliveries=2)

        assert len(world.cloudtrail.accepted_ids) <= 200
