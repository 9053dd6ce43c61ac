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

_CLOCK_JITTER_SECONDS = 5
"""Clocks that show whole seconds, asked over a network, differ by so much anyway."""


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
        self._has_moved = False
        self._kong_time: int | None = None
        self._own_time: int | None = None
        self.slice_seconds = self._checkpoint.slice_seconds
        """How wide the first slice of this run, or at its end of the next one, should be; ``None``: as usual."""

    @property
    def complete_until(self) -> int | None:
        """Everything older is delivered or quarantined, Unix seconds; ``None`` if that is not known."""
        return self._complete_until

    @property
    def has_moved(self) -> bool:
        """Whether the run got through a slice, so that the next one begins later."""
        return self._has_moved

    @property
    def is_blocked(self) -> bool:
        """Whether a slice was read of which something stands undelivered."""
        return self._blocked

    def begin(self, kong_now: int, own_now: int, overlap_seconds: int) -> bool:
        """Compare the clocks with what they showed when the checkpoint was taken, before anything is read.

        A checkpoint taken by a clock that was ahead would hide what is made until its time has come, whether it still
        lies ahead or not. So it is moved back by as much as Kong's clock was set back against our own.

        Parameters
        ----------
        kong_now, own_now
            The two clocks, Unix seconds.
        overlap_seconds
            How far before the checkpoint the run begins anyway: differences below it hide nothing.

        Returns
        -------
        bool
            Whether the checkpoint was moved back.
        """
        then = self._checkpoint
        self._kong_time, self._own_time = kong_now, own_now
        if self._complete_until is None or then.kong_time is None or then.own_time is None:
            return False
        set_back_seconds = (then.kong_time - then.own_time) - (kong_now - own_now)
        tolerance_seconds = max(min(CLOCK_TOLERANCE_SECONDS, overlap_seconds), _CLOCK_JITTER_SECONDS)
        if set_back_seconds <= tolerance_seconds:
            return False
        self._complete_until -= set_back_seconds
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
        moved = self._complete_until != self._checkpoint.complete_until
        if moved or checkpoint != self._checkpoint or self.slice_seconds != self._checkpoint.slice_seconds:
            self._save(checkpoint)

    def settle(self) -> None:
        """Advance past all slices that are done by now, without saving."""
        while self._open and not self._blocked and all(outcome.done() for outcome in self._open[0][1]):
            slice_, outcomes = self._open.popleft()
            if not all(outcome.result() for outcome in outcomes):
                self._blocked = True
            elif slice_.complete_until is not None:
                # The overlap may be wider than what is new: never move back.
                self._has_moved |= slice_.complete_until > (self._complete_until or 0)
                self._complete_until = max(slice_.complete_until, self._complete_until or 0)

    def _save(self, checkpoint: Checkpoint) -> None:
        if self._keep:
            self._checkpoint = self._ledger.save_checkpoint(
                replace(
                    checkpoint,
                    complete_until=self._complete_until,
                    kong_time=self._kong_time,
                    own_time=self._own_time,
                    slice_seconds=self.slice_seconds,
                )
            )
