"""A process of the collector, and what it printed."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

_END_TIMEOUT_SECONDS = 10.0


class CollectorProcess:
    """A process of the collector.

    Parameters
    ----------
    arguments
        Of its command line; see `torture.collector`.
    environment
        Its whole environment.
    folder
        Its working directory.

    Attributes
    ----------
    got
        The signal that it was sent: ``KILL``, ``TERM``, ``INT``, or "".
    output
        What it printed, after `finish`.
    """

    def __init__(self, arguments: Iterable[str], environment: Mapping[str, str], folder: Path) -> None:
        self._printed: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by finish
        self._process = subprocess.Popen(
            [sys.executable, "-m", "torture.collector", *arguments],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._began = time.monotonic()
        self._ended = 0.0
        self.got = ""
        self.output = ""

    @property
    def is_running(self) -> bool:
        """Whether it still runs."""
        if self._process.poll() is None:
            return True
        self._ended = self._ended or time.monotonic()
        return False

    @property
    def exit_status(self) -> int:
        """Its exit status, after `finish`; negative for the signal that ended it."""
        return int(self._process.returncode)

    @property
    def seconds(self) -> float:
        """How long it ran, after `finish`; in Lambda, how long the invocation took, without the start before it."""
        told = _last_line_of(self.output).get("seconds")
        return self._ended - self._began if told is None else float(told)

    @property
    def waited_for_cpu_seconds(self) -> float:
        """How long an invocation had to wait for a CPU, after `finish`; 0 where that is not known."""
        return float(_last_line_of(self.output).get("waitedForCpuSeconds", 0.0))

    def signal(self, name: str) -> None:
        """Send it ``KILL``, ``TERM`` or ``INT`` if it still runs; after ``KILL`` it does not."""
        if self.is_running:
            self.got = name
            self._process.send_signal(signal.Signals[f"SIG{name}"])
            if name == "KILL":
                self._process.wait()

    def freeze(self) -> None:
        """Let it stand still."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """End `freeze`; does no harm to one that goes on, or has ended."""
        self._process.send_signal(signal.SIGCONT)

    def finish(self, timeout_seconds: float = _END_TIMEOUT_SECONDS) -> None:
        """Wait for its end, and read what it printed."""
        self._process.wait(timeout_seconds)
        self._ended = self._ended or time.monotonic()
        self._printed.seek(0)
        self.output = self._printed.read().decode(errors="replace")
        self._printed.close()

    def report(self) -> dict[str, Any] | None:
        """Return the run's report, after `finish`; ``None`` if there is none."""
        last = _last_line_of(self.output)
        report: dict[str, Any] | None = last.get("summary") if last.get("torture") else last
        return report or None


def _last_line_of(output: str) -> dict[str, Any]:
    """Return the last line that is a JSON object."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                document: dict[str, Any] = json.loads(line)
                return document
    return {}
