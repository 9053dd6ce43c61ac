"""Ctrl-C and SIGTERM: a run ends cleanly, every other command at once."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Self

import click

from .exit_status import ExitStatus

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal asked the program to end.

    Parameters
    ----------
    number
        Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = status_of(number)


def status_of(number: int) -> ExitStatus:
    """Return the exit status of a command that was ended by a signal."""
    return ExitStatus(128 + number)


@contextlib.contextmanager
def raising_on_signals() -> Iterator[None]:
    """Raise `Interrupted` on signals."""

    def raise_interrupted(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, raise_interrupted) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def confirms(question: str) -> bool:
    """Ask a question on the terminal and return whether the answer is yes. No answer is a no.

    A signal that comes just before Python reads would be noticed only after the answer: `input` waits below Python.
    """
    while True:
        click.echo(f"{question} [y/N]: ", nl=False, err=True)
        _wait_for_input()
        line = sys.stdin.readline()
        word = line.strip().lower()
        if word in ("y", "yes"):
            return True
        if word in ("", "n", "no"):
            if not line:
                click.echo(err=True)
            return False


def _wait_for_input() -> None:
    """Return when there is input, or raise what a signal raises."""
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    before = signal.set_wakeup_fd(waker)
    try:
        select.select([sys.stdin, woken], [], [])
    finally:
        signal.set_wakeup_fd(before)
        for end in (woken, waker):
            os.close(end)


_SECONDS_TO_END = 15.0
"""The run's time after a signal: too little to begin anything, and enough for what is in flight."""


class UntilInterrupted:
    """The time budget of a command: unlimited until a signal comes; then the run ends as if its time were used up.

    A second signal ends the process at once. Entries that are not marked by then may be delivered twice, as after any
    crash.
    """

    def __init__(self) -> None:
        self.status: ExitStatus | None = None
        """Exit status for the signal that came; ``None``: none came."""
        self._end_at = math.inf

    def remaining_seconds(self) -> float:
        """Return for how long the run may continue: infinity, or a few seconds."""
        return self._end_at - time.monotonic()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._end) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        self.status = status_of(number)
        self._end_at = time.monotonic() + _SECONDS_TO_END
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # Not through sys.stderr: the signal may have interrupted a write to it.
        with contextlib.suppress(OSError):
            os.write(2, b"\nFinishing the batches in flight. Press Ctrl-C again to end at once.\n")
