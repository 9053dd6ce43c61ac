"""Whether the run may begin something new: only while there is time left and the lock is held."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import TimeBudgetReached
from ..ports import Clock, HeldLock, TimeBudget


@dataclass(frozen=True, slots=True)
class Reserve:
    """Time that is kept back to finish what is in flight.

    Parameters
    ----------
    least_seconds
        Kept back of any budget.
    share
        Share of the budget that is added to it.
    longest_seconds
        Upper limit of the sum.
    """

    least_seconds: float
    share: float
    longest_seconds: float

    def of(self, budget_seconds: float) -> float:
        """Return the seconds to keep of a budget."""
        return min(self.longest_seconds, self.least_seconds + self.share * max(budget_seconds, 0.0))


FOR_ENDING = Reserve(0.15, 0.03, 0.8)
"""To release the lock and to publish the report: what is still in flight by then is given up."""

FOR_DELIVERING = Reserve(0.5, 0.22, 20.0)
"""For a call to the destination, its marks, and the end of the run."""

FOR_READING = Reserve(0.6, 0.3, 35.0)
"""The same, and before it a page: entries that were read can still be delivered by this run."""


class NoLock:
    """The lock of a trail whose runs may overlap. It is always held."""

    def acquire(self) -> bool:
        """Return ``True``."""
        return True

    def check(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""

    def backfilled_until(self) -> None:
        """Return ``None``: such runs need not make way for a backfill."""

    def must_wait(self) -> bool:
        """Return ``False``."""
        return False


class RunGuard:
    """Checks time and lock before each page, each batch and each wait.

    Parameters
    ----------
    budget
        How long the run may take.
    lock
        The run's lock.
    clock
        Used to wait.
    reserve
        How much of the budget has to be left when something new begins.
    """

    def __init__(self, budget: TimeBudget, lock: HeldLock, clock: Clock, reserve: Reserve) -> None:
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
        """Return for how many seconds something new may still begin; negative if that time is over."""
        return self._budget.remaining_seconds() - self._reserve_seconds

    def seconds_to_end(self) -> float:
        """Return for how many seconds something in flight may be waited for; negative if that time is over."""
        return self._budget.remaining_seconds() - self._ending_seconds

    def time_is_up(self) -> TimeBudgetReached:
        """Return the error to raise when nothing new may begin any more."""
        return TimeBudgetReached("The run's time is used up; the next run continues where this one ends.")

    def sleep(self, seconds: float) -> None:
        """Wait, if enough time is left. Raises as `check`."""
        self._check_time(seconds)
        self._clock.sleep(seconds)
        self.check()

    def _check_time(self, needed_seconds: float) -> None:
        if self.remaining_seconds() < needed_seconds:
            raise self.time_is_up()
