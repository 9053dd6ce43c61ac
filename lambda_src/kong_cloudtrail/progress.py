"""Moving the checkpoint: only past slices of which every entry is delivered or in quarantine, and in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import replace

from .domain.report import RunReport
from .domain.window import Slice
from .ledger import Checkpoint, Ledger

CLOCK_TOLERANCE_SECONDS = 300
"""Nodes of one control plane, asked in turn, may differ by so much without anybody being alarmed."""


class Progress:
    """The checkpoint of a run.

    Parameters
    ----------
    ledger
        Where it is kept.
    keep
        Whether it is kept at all; if not, every run begins as the first one.
    """

    def __init__(self, ledger: Ledger, *, keep: bool) -> None:
        self._ledger = ledger
        self._keep = keep
        self._checkpoint = ledger.load_checkpoint() if keep else Checkpoint()
        self._complete_until = self._checkpoint.complete_until
        self._open: deque[tuple[Slice, list[Future[bool]]]] = deque()
        self._blocked = False
        self._own_time: int | None = None

    @property
    def complete_until(self) -> int | None:
        """Everything older is delivered or quarantined, Unix seconds; ``None`` if that is not known."""
        return self._complete_until

    @property
    def is_blocked(self) -> bool:
        """Whether a slice was read of which something stands undelivered."""
        return self._blocked

    def begin(self, kong_now: int, own_now: int) -> bool:
        """Compare the checkpoint with the clocks, before anything is read.

        A checkpoint ahead of Kong's clock was taken by a clock that was wrong. It would hide all that is made until its
        time has come, so the time of our own clock when it was taken stands in for it.

        Parameters
        ----------
        kong_now, own_now
            The two clocks, Unix seconds.

        Returns
        -------
        bool
            Whether the checkpoint was moved back.
        """
        self._own_time = own_now
        if self._complete_until is None or self._complete_until <= kong_now + CLOCK_TOLERANCE_SECONDS:
            return False
        self._complete_until = min(kong_now, self._checkpoint.own_time or kong_now)
        return True

    def begin_at(self, beginning: int) -> None:
        """Save where the trail begins, Unix seconds, before anything of it is read.

        A look-back that every run counted anew would pass over what the run before could not deliver.

        Raises
        ------
        LedgerError
            If it could not be saved.
        """
        if self._keep:
            self._complete_until = beginning
            self.move()

    def slice_read(self, slice_: Slice, outcomes: list[Future[bool]]) -> None:
        """Note that a slice was read to its end, and what becomes of its batches."""
        self._open.append((slice_, outcomes))

    def move(self) -> None:
        """Save the checkpoint past all slices that are done by now.

        Raises
        ------
        LedgerError
            If it could not be saved.
        """
        self.settle()
        if self._complete_until != self._checkpoint.complete_until:
            self._save(self._checkpoint)

    def save(self, report: RunReport) -> None:
        """Add the run's report to the chain if it did something, and save the checkpoint. Raises as `move`."""
        checkpoint = self._checkpoint
        if self._keep and (report.delivered or report.quarantined):
            checkpoint = self._ledger.add_report(report, checkpoint)
        if checkpoint != self._checkpoint or self._complete_until != self._checkpoint.complete_until:
            self._save(checkpoint)

    def settle(self) -> None:
        """Advance past all slices that are done by now, without saving."""
        while self._open and not self._blocked and all(outcome.done() for outcome in self._open[0][1]):
            slice_, outcomes = self._open.popleft()
            if not all(outcome.result() for outcome in outcomes):
                self._blocked = True
            elif slice_.complete_until is not None:
                # The overlap may be wider than what is new: never move back.
                self._complete_until = max(slice_.complete_until, self._complete_until or 0)

    def _save(self, checkpoint: Checkpoint) -> None:
        if self._keep:
            self._checkpoint = self._ledger.save_checkpoint(
                replace(checkpoint, complete_until=self._complete_until, own_time=self._own_time)
            )
