"""May the run begin something new? Only while there is time left and the lock is ours."""

from __future__ import annotations

from .errors import TimeBudgetReached
from .ports import Clock, RunLock, TimeBudget

_LONGEST_RESERVE_SECONDS = 30.0
_RESERVE_SHARE = 0.25


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

    Notes
    -----
    A reserve is kept for what is under way: the last calls of CloudTrail end by themselves (their time-outs are below
    it), what they delivered is marked, and the report is written. A quarter of a short budget, at most 30 s.
    """

    def __init__(self, budget: TimeBudget, lock: RunLock, clock: Clock) -> None:
        self._budget = budget
        self._lock = lock
        self._clock = clock
        self._reserve_seconds = min(_LONGEST_RESERVE_SECONDS, _RESERVE_SHARE * budget.remaining_seconds())

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

    def sleep(self, seconds: float) -> None:
        """Wait, unless the time left does not allow for it. Raises as `check`."""
        self._check_time(seconds)
        self._clock.sleep(seconds)
        self.check()

    def _check_time(self, needed_seconds: float) -> None:
        if self._budget.remaining_seconds() - needed_seconds < self._reserve_seconds:
            raise TimeBudgetReached("The run's time is used up; the next run goes on where this one ends.")
