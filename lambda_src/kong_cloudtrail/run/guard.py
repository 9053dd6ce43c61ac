"""May the run begin something new? Only while there is time left and the lock is ours."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import TimeBudgetReached
from ..ports import Clock, RunLock, TimeBudget


@dataclass(frozen=True, slots=True)
class Reserve:
    """Time that is kept for what is under way.

    Parameters
    ----------
    least_seconds
        Of any budget.
    share
        Of the budget, on top of that.
    longest_seconds
        Of a long budget.
    """

    least_seconds: float
    share: float
    longest_seconds: float

    def of(self, budget_seconds: float) -> float:
        """Return the seconds to keep of a budget."""
        return min(self.longest_seconds, self.least_seconds + self.share * max(budget_seconds, 0.0))


FOR_ENDING = Reserve(0.15, 0.03, 0.8)
"""To give the lock back and to publish the report: what is still under way by then is given up."""

FOR_DELIVERING = Reserve(0.5, 0.22, 20.0)
"""What a call of the destination and its marks may take, and the end."""

FOR_READING = Reserve(0.6, 0.3, 35.0)
"""The same, and before that the delivery of what was read: a run never leaves off with entries in its hands."""


class RunGuard:
    """Asked before each page, each batch and each wait.

    Parameters
    ----------
    budget
        How long the run may go on.
    lock
        The run's lock.
    clock
        Used to wait.
    reserve
        What has to be left of the budget when something new begins.
    """

    def __init__(self, budget: TimeBudget, lock: RunLock, clock: Clock, reserve: Reserve) -> None:
        self._budget = budget
        self._lock = lock
        self._clock = clock
        whole_seconds = budget.remaining_seconds()
        self._reserve_seconds = reserve.of(whole_seconds)
        self._ending_seconds = FOR_ENDING.of(whole_seconds)

    def check(self) -> None:
        """Return if something new may begin.

        Raises
        ------
        TimeBudgetReached
            If too little time is left.
        LockLost
            If another run may have begun.
        """
        self._check_time(0.0)
        self._lock.check()

    def remaining_seconds(self) -> float:
        """Return how long something new may still begin; negative if no longer."""
        return self._budget.remaining_seconds() - self._reserve_seconds

    def seconds_to_end(self) -> float:
        """Return how long something that is under way may be waited for; negative if no longer."""
        return self._budget.remaining_seconds() - self._ending_seconds

    def time_is_up(self) -> TimeBudgetReached:
        """Return what to raise when nothing new may begin any more."""
        return TimeBudgetReached("The run's time is used up; the next run goes on where this one ends.")

    def sleep(self, seconds: float) -> None:
        """Wait, unless the time left does not allow for it. Raises as `check`."""
        self._check_time(seconds)
        self._clock.sleep(seconds)
        self.check()

    def _check_time(self, needed_seconds: float) -> None:
        if self.remaining_seconds() < needed_seconds:
            raise self.time_is_up()
