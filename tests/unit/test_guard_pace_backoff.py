"""When something new may begin, how much of it at once, and how long to wait before the next try."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from kong_cloudtrail.domain.backoff import BASE_SECONDS, CAP_SECONDS, backoff_seconds
from kong_cloudtrail.errors import LockLost, TimeBudgetReached
from kong_cloudtrail.run.guard import FOR_DELIVERING, FOR_READING, RunGuard
from kong_cloudtrail.run.pace import Pace

from tests.fakes import Lock
from tests.helpers import NOW, Budget, FakeClock, wait_until


class TestGuard:
    @pytest.mark.parametrize(("whole", "reserve"), [(900, 20), (120, 20), (60, 13.7), (7.5, 2.15), (3, 1.16)])
    def test_time_is_up_while_enough_is_left_to_end_well(self, whole: float, reserve: float) -> None:
        clock = FakeClock()
        guard = RunGuard(Budget(lambda: NOW + whole - clock.time), Lock(), clock, FOR_DELIVERING)

        clock.time = NOW + whole - reserve
        guard.check()
        clock.time += 0.1
        with pytest.raises(TimeBudgetReached):
            guard.check()

    @pytest.mark.parametrize("whole", [900, 120, 60, 8, 3])
    def test_reading_ends_while_there_is_time_to_deliver_what_was_read(self, whole: float) -> None:
        budget = Budget(lambda: whole)
        reading = RunGuard(budget, Lock(), FakeClock(), FOR_READING)
        delivering = RunGuard(budget, Lock(), FakeClock(), FOR_DELIVERING)

        assert delivering.remaining_seconds() - reading.remaining_seconds() >= whole / 60

    def test_time_is_never_up_on_a_laptop(self) -> None:
        clock = FakeClock()
        guard = RunGuard(Budget(lambda: math.inf), Lock(), clock, FOR_DELIVERING)

        guard.sleep(10_000)

        assert clock.waits == [10_000]

    def test_wait_that_would_end_too_late_does_not_begin(self) -> None:
        clock = FakeClock()
        guard = RunGuard(Budget(lambda: NOW + 100 - clock.time), Lock(), clock, FOR_DELIVERING)

        with pytest.raises(TimeBudgetReached):
            guard.sleep(80.1)

        assert clock.waits == []

    def test_lost_lock_is_noticed_before_and_after_a_wait(self) -> None:
        lock = Lock()
        lock.lost_after_checks = 1
        guard = RunGuard(Budget(), lock, FakeClock(), FOR_DELIVERING)

        guard.check()
        with pytest.raises(LockLost):
            guard.sleep(1)
        with pytest.raises(LockLost):
            guard.check()


class TestBackoff:
    def test_doubles_up_to_a_cap(self) -> None:
        longest = [backoff_seconds(attempt, uniform=lambda low, high: high) for attempt in range(1, 8)]

        assert longest == [min(BASE_SECONDS * 2**attempt, CAP_SECONDS) for attempt in range(1, 8)]

    @pytest.mark.parametrize("attempt", [1, 5, 20, 10_000])
    def test_half_of_it_is_random(self, attempt: int) -> None:
        shortest: float = backoff_seconds(attempt, uniform=lambda low, high: low)
        longest: float = backoff_seconds(attempt, uniform=lambda low, high: high)

        assert shortest == longest / 2
        assert shortest <= backoff_seconds(attempt) <= longest


class TestPace:
    def assert_open(self, pace: Pace, lanes: int) -> None:
        """Check how many calls can be under way at once: as many as that wait for each other, and never more."""
        together = threading.Barrier(lanes)
        lock = threading.Lock()
        under_way = most = 0

        def call(_: int) -> None:
            nonlocal under_way, most
            with pace.lane() as lane:
                lane.take()
                with lock:
                    under_way += 1
                    most = max(most, under_way)
                together.wait(timeout=10)
                with lock:
                    under_way -= 1

        with ThreadPoolExecutor(3 * lanes) as pool:
            list(pool.map(call, range(3 * lanes)))
        assert most == lanes

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda pace: None, 8),
            (lambda pace: pace.slow_down(), 4),
            (lambda pace: [pace.slow_down() for _ in range(10)], 1),
            (lambda pace: [pace.speed_up() for _ in range(100)], 8),
            # One lane more after as many successes as lanes are open: 1 then about 2, 3, ...
            (lambda pace: [pace.slow_down() for _ in range(3)] + [pace.speed_up()], 2),
            (lambda pace: [pace.slow_down() for _ in range(3)] + [pace.speed_up() for _ in range(4)], 3),
            (lambda pace: [pace.slow_down() for _ in range(3)] + [pace.speed_up() for _ in range(100)], 8),
        ],
    )
    def test_lanes_close_when_throttled_and_open_again(self, change: Callable[[Pace], object], expected: int) -> None:
        pace = Pace(8)
        pace.prove()

        change(pace)

        self.assert_open(pace, expected)

    def test_lane_is_given_back_when_a_call_fails(self) -> None:
        pace = Pace(1)

        with pytest.raises(ValueError, match="failed"), pace.lane() as lane:
            lane.take()
            raise ValueError("failed")

        self.assert_open(pace, 1)

    def test_who_waits_goes_on_when_a_lane_opens(self) -> None:
        pace = Pace(2)
        pace.prove()
        pace.slow_down()
        done = threading.Event()

        def second() -> None:
            with pace.lane() as lane:
                lane.take()
                done.set()

        with pace.lane() as lane:
            lane.take()
            thread = threading.Thread(target=second)
            thread.start()
            pace.speed_up()  # one lane open: one success opens the second
            wait_until(done.is_set)
        thread.join()
