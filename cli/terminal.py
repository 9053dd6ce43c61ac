"""What people see: tables, progress and messages on a terminal, plain lines in a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TextIO

import click

if TYPE_CHECKING:
    from kong_cloudtrail.domain.report import RunReport
    from rich.console import Console
    from rich.progress import Progress

_BAR_COLUMNS = 70
"""Columns from which on there is room for a bar beside the numbers."""


def say(message: str) -> None:
    """Write a message to standard error. Where that is closed or full, nothing happens."""
    try:
        click.echo(message, err=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Keep Python from writing once more, as it ends, what a stream could not take."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether tables, colours and progress make sense on a stream; ``None`` is one that is closed."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names and values to standard output: a table on a terminal, a line each in a pipe.

    Parameters
    ----------
    facts
        Names and their values.
    """
    _print_columns(facts, numbers=False)


def print_counts(counts: Sequence[tuple[str, int]]) -> None:
    """Print names and numbers to standard output, the numbers right-aligned. In a pipe they are plain digits."""
    style = "," if is_terminal(sys.stdout) else ""
    _print_columns([(name, format(count, style)) for name, count in counts], numbers=True)


def _print_columns(rows: Sequence[tuple[str, str]], *, numbers: bool) -> None:
    if is_terminal(sys.stdout):
        _print_table(rows, numbers=numbers)
        return
    name_width = max(len(name) for name, _ in rows)
    value_width = max(len(value) for _, value in rows) if numbers else 0
    click.echo("\n".join(f"{name:<{name_width}}  {value:>{value_width}}" for name, value in rows))


def _print_table(rows: Sequence[tuple[str, str]], *, numbers: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right" if numbers else "left", overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    console = _console(sys.stdout)
    console.print(table)
    console.file.flush()


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, markup=False, highlight=False, emoji=False)


class TerminalTelemetry:
    """Lines on a stream, and a display of the progress if that is a terminal. What cannot be written is left out.

    Parameters
    ----------
    clean
        Takes secrets out of a line.
    stream
        Where to write; standard error by default.
    """

    def __init__(self, clean: Callable[[str], str], stream: TextIO | None = None) -> None:
        self._clean = clean
        self._stream = stream or sys.stderr
        self._console = _console(self._stream) if is_terminal(self._stream) else None
        self._progress: Progress | None = None
        self._started = time.monotonic()
        self._first = Pace(0.0, 0.0)
        self.misconfigured = False
        """Whether the run found something that fails again until somebody changes something. Known at its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_progress()

    def info(self, code: str, message: str, **details: Any) -> None:
        """Write a line."""
        self._line("", message, details)

    def warning(self, code: str, message: str, **details: Any) -> None:
        """Write a line that begins with the code."""
        self._line(f"{code}: ", message, details)

    def progress(self, report: RunReport) -> None:
        """Show how far the run is, in place."""
        if self._console is None:
            return
        with contextlib.suppress(OSError):
            self._show(self._console, report)

    def _show(self, console: Console, report: RunReport) -> None:
        if self._progress is None:
            self._progress = _begin_progress(console)
        share, seconds = share_read(report, time.time()), time.monotonic() - self._started
        if not report.fetched:
            self._first = Pace(seconds, share or 0.0)
        text = describe_progress(report, share, seconds, self._first)
        task = self._progress.task_ids[0]
        self._progress.update(task, completed=share or 0, total=None if share is None else 1, description=text)

    def publish(self, report: RunReport) -> None:
        """Take the display away; the caller prints the result."""
        self.misconfigured = report.misconfigured
        self._end_progress()

    def _end_progress(self) -> None:
        if self._progress is not None:
            with contextlib.suppress(OSError):
                self._progress.stop()
            self._progress = None

    def _line(self, prefix: str, message: str, details: dict[str, Any]) -> None:
        suffix = "".join(f" {name}={value}" for name, value in details.items())
        line = self._clean(f"{prefix}{message}{suffix}")
        try:
            self._write(line, is_warning=bool(prefix))
        except OSError:  # the reader has ended, or the terminal is gone: no reason for a run to fail
            discard(self._stream)

    def _write(self, line: str, *, is_warning: bool) -> None:
        if self._console is None:
            self._stream.write(line + "\n")
            return
        from rich.text import Text

        # Not wrapped: the terminal does it, and what is copied from there stays one line.
        self._console.print(Text(line, style="yellow" if is_warning else ""), soft_wrap=True)


def _begin_progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = (BarColumn(bar_width=12), text) if console.width >= _BAR_COLUMNS else (text,)
    progress = Progress(*columns, console=console, transient=True)
    progress.add_task("", total=None)
    progress.start()
    return progress


def share_read(report: RunReport, now: float) -> float | None:
    """Return which share of a run's time window is read.

    Parameters
    ----------
    report
        The run's.
    now
        The end of the window, Unix seconds.

    Returns
    -------
    float or None
        From 0 to 1; ``None`` if it is not known: Kong does not say how many entries there are, and only gateways that
        filter by time are read in slices.
    """
    window = report.window
    if window is None or window.after == 0 or now <= window.after:  # from 0 on: how far back entries go is not known
        return None
    return min(report.window_seconds_read / (now - window.after), 1.0)


class Pace(NamedTuple):
    """How far a run was after how many seconds.

    Stretches without entries are read in no time, so the remaining time is judged by what came after the first entry.
    """

    seconds: float
    share: float


def describe_progress(report: RunReport, share: float | None, seconds: float, first: Pace) -> str:
    """Return one line, the least important at its end: what does not fit a narrow terminal is cut off.

    Parameters
    ----------
    report
        The run's.
    share
        As from `share_read`.
    seconds
        How long the run has taken.
    first
        How far the run was as it met the first entry.
    """
    parts = []
    if share is not None:
        parts.append(f"{share:.0%}")
    if share is not None and share > first.share:
        left_seconds = (seconds - first.seconds) * (1 - share) / (share - first.share)
        parts.append(f"~{_clock(left_seconds)} left")
    parts += [f"{report.fetched:,} read", f"{report.delivered:,} delivered"]
    if seconds >= 1:
        parts.append(f"{report.fetched / seconds:,.0f}/s")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
