"""Output: tables, progress and messages on a terminal, plain lines in a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TextIO

import click

if TYPE_CHECKING:
    from kong_cloudtrail.domain.report import RunReport
    from kong_cloudtrail.domain.trail import Trail
    from rich.console import Console
    from rich.progress import Progress

_BAR_COLUMNS = 70
"""Width of a terminal that has room for a bar beside the numbers."""


def say(message: str) -> None:
    """Write a message to standard error. Does nothing if that is closed, or the disk is full."""
    try:
        click.echo(message, err=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Keep Python from trying to flush a broken stream when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether to use tables, colours and progress on a stream; ``None`` is a closed one."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names and values to standard output: as a table on a terminal, as lines in a pipe.

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


def stdout_console() -> Console:
    """Return what prints tables to standard output."""
    return _console(sys.stdout)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on a terminal that something takes its time. In a pipe it shows nothing."""
    if not is_terminal(sys.stderr):
        yield
        return
    with _console(sys.stderr).status(what):
        yield


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, markup=False, highlight=False, emoji=False)


class TerminalTelemetry:
    """Writes lines to a stream, and shows the progress if that is a terminal. Output that fails is dropped.

    Parameters
    ----------
    clean
        Masks secrets in a line.
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
        """Whether the run met an error that lasts until somebody changes something. Known when the run has ended."""

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
        """Update the progress display."""
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
        """Remove the progress display; the caller prints the result."""
        self.misconfigured = report.misconfigured
        self._end_progress()

    def count(self, trail: Trail, counts: Mapping[str, int]) -> None:
        """Do nothing: the caller prints the result."""

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
        except OSError:  # the reader has ended, or the terminal is gone: the run should not fail for that
            discard(self._stream)

    def _write(self, line: str, *, is_warning: bool) -> None:
        if self._console is None:
            self._stream.write(line + "\n")
            return
        from rich.text import Text

        # Wrapped by the terminal, so that a line that is copied stays one line.
        self._console.print(Text(line, style="yellow" if is_warning else ""), soft_wrap=True)


class OperationProgress:
    """Shows on a terminal how far an operation is. In a pipe it shows nothing."""

    def __init__(self) -> None:
        self._console = _console(sys.stderr) if is_terminal(sys.stderr) else None
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            with contextlib.suppress(OSError):
                self._progress.stop()

    def show(self, what: str, done: int, total: int | None) -> None:
        """Show that so many are done, of all: ``None`` if that is not known."""
        if self._console is None:
            return
        with contextlib.suppress(OSError):
            if self._progress is None:
                self._progress = _begin_progress(self._console)
            task = self._progress.task_ids[0]
            counts = f"{done:,} {what}" if total is None else f"{done:,} of {total:,} {what}"
            self._progress.update(task, completed=done, total=total, description=counts)


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
    """Return the share of a run's time window that is read.

    Parameters
    ----------
    report
        The run's report.
    now
        The end of the window, Unix seconds.

    Returns
    -------
    float or None
        From 0 to 1; ``None`` if it is not known: Kong does not say how many entries there are, and only gateways that
        filter by time are read in slices.
    """
    window = report.window
    if window is None or window.after == 0 or now <= window.after:  # 0: the time of the oldest entry is not known
        return None
    return min(report.window_seconds_read / (now - window.after), 1.0)


class Pace(NamedTuple):
    """The share that a run had read after some seconds.

    Stretches without entries take no time, so the remaining time is estimated from the pace after the first entry.
    """

    seconds: float
    share: float


def describe_progress(report: RunReport, share: float | None, seconds: float, first: Pace) -> str:
    """Return one line, with the least important part at its end: a narrow terminal cuts it off.

    Parameters
    ----------
    report
        The run's report.
    share
        The result of `share_read`.
    seconds
        Duration of the run so far.
    first
        The pace when the run met the first entry.
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
