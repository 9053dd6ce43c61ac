"""Starting processes, waiting until they are ready, and stopping them with their children: by id, never by name."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

PROJECT_DIRECTORY = Path(__file__).resolve().parents[2]
_STOP_TIMEOUT_SECONDS = 10.0
_POLL_SECONDS = 0.02
_PORTS = range(10_000, 32_768)
_PORT_NUMBERS = itertools.count(997 * os.getpid())


class StartError(RuntimeError):
    """A process ended or stayed silent instead of becoming ready. The text holds the end of what it wrote."""


class ManagedProcess:
    """A child process with everything that it starts.

    Parameters
    ----------
    command
        Program and arguments.
    environment
        The whole environment; by default this process's own.
    log_path
        Where standard error goes (and standard output, unless `ready_line` reads it). By default to a file that is
        removed at the end, and serves for the message of a failed start.
    ready_line
        The process prints one line of JSON on standard output when it is ready: see `read_ready_line`.
    directory
        Working directory.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path | None = None,
        environment: Mapping[str, str] | None = None,
        ready_line: bool = False,
        directory: Path | None = None,
    ) -> None:
        self._name = Path(command[0]).name if not ready_line else " ".join(command[1:3])
        self._log: IO[bytes] = tempfile.TemporaryFile() if log_path is None else log_path.open("a+b")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if ready_line else self._log,
            stderr=self._log,
            # A session of its own: Ctrl-C reaches the one who started this, who then stops it in good order.
            start_new_session=True,
        )
        self.pid = self._process.pid

    def read_ready_line(self, *, timeout_seconds: float = 30.0) -> dict[str, Any]:
        """Wait for the line of JSON that says the process is ready, and return it.

        Raises
        ------
        StartError
            If the process ends first, or says nothing in time. It is stopped then.
        """
        assert self._process.stdout is not None
        line = _read_line(self._process.stdout, timeout_seconds)
        if not line:
            raise self._start_error(f"did not become ready within {timeout_seconds:g} s")
        ready: dict[str, Any] = json.loads(line)
        return ready

    def wait_until(self, is_ready: Callable[[], bool], *, timeout_seconds: float = 60.0) -> None:
        """Poll until the process is ready.

        Raises
        ------
        StartError
            If the process ends first, or is not ready in time. It is stopped then.
        """
        deadline = time.monotonic() + timeout_seconds
        while not is_ready():
            if self._process.poll() is not None:
                raise self._start_error(f"ended with status {self._process.returncode}")
            if time.monotonic() > deadline:
                raise self._start_error(f"did not become ready within {timeout_seconds:g} s")
            time.sleep(_POLL_SECONDS)

    def is_running(self) -> bool:
        """Return whether the process itself still runs."""
        return self._process.poll() is None

    def wait_until_ended(self, *, timeout_seconds: float = 60.0) -> int:
        """Wait until the process itself ends on its own, and return its exit status.

        Raises
        ------
        subprocess.TimeoutExpired
            If it does not end in time. It still runs then.
        """
        return self._process.wait(timeout_seconds)

    def tree(self) -> list[psutil.Process]:
        """Return the process and everything that it started, as far as it still runs.

        Children whose parent ended are no longer anyone's children, but still of the process's session.
        """
        found: dict[int, psutil.Process] = {}
        if self._process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(self.pid)
                found = {one.pid: one for one in (process, *process.children(recursive=True))}
        elif psutil.pid_exists(self.pid):
            return []  # the id was given to somebody else, and its session with it
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                if pid not in found and os.getsid(pid) == self.pid:
                    found[pid] = psutil.Process(pid)
        return list(found.values())

    def kill(self) -> None:
        """End the process at once (SIGKILL), giving it no chance to finish anything; its children too."""
        self._end(psutil.Process.kill)

    def stop(self) -> None:
        """Ask the process and its children to end, make them after some seconds, and wait until they are gone."""
        self._end(psutil.Process.terminate)

    def _end(self, ask: Callable[[psutil.Process], None]) -> None:
        processes = self.tree()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                ask(process)
        for process in self._wait(processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._wait(processes)
        self._process.wait()
        self._log.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _wait(self, processes: Sequence[psutil.Process]) -> list[psutil.Process]:
        """Wait until the processes have ended; return those that have not after some seconds."""
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while (alive := [process for process in processes if is_alive(process)]) and time.monotonic() < deadline:
            self._process.poll()
            time.sleep(_POLL_SECONDS)
        return alive

    def _start_error(self, what: str) -> StartError:
        self._log.seek(0)
        tail = self._log.read()[-2000:].decode(errors="replace").strip()
        self.stop()
        return StartError(f"{self._name} {what}. The end of what it wrote:\n{tail}")


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process still runs. A zombie does not, though it stays listed until its parent asks for it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_module(
    module: str, arguments: Sequence[str], *, log_path: Path | None = None, environment: Mapping[str, str] | None = None
) -> ManagedProcess:
    """Start `python -m module` of this project with this interpreter; it prints a ready line."""
    return ManagedProcess(
        [sys.executable, "-m", module, *arguments],
        log_path=log_path,
        environment={**os.environ, **(environment or {})},
        ready_line=True,
        directory=PROJECT_DIRECTORY,
    )


def free_port() -> int:
    """Return a loopback port that is free now, for programs that cannot choose one themselves.

    The port stays free until the program takes it, as far as that can be had: systems take ports for outgoing
    connections from above 32767, and each process here looks in a part of its own below that, never twice at a port.
    """
    for number in itertools.islice(_PORT_NUMBERS, len(_PORTS)):
        port = _PORTS[number % len(_PORTS)]
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise StartError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free")


def serve_until_stopped(ready: Mapping[str, Any]) -> None:
    """Print the ready line of a simulator's process, then let its threads serve until it is interrupted or ended."""
    print(json.dumps(ready), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _read_line(stream: IO[bytes], timeout_seconds: float) -> bytes:
    """Read one line, or give up (b"") after the timeout: a thread, because a pipe has no timeout of its own."""
    lines: list[bytes] = []
    reader = threading.Thread(target=lambda: lines.append(stream.readline()), daemon=True)
    reader.start()
    reader.join(timeout_seconds)
    return lines[0] if lines else b""
