"""The collector in a process whose clock, and whose time, the torture decides on.

``python -m torture.collector sync --json``: the command line, whatever it is asked for. ``python -m torture.collector
lambda``: the handler, invoked once. It is told by the environment:

``TORTURE_CLOCK_OFFSET_SECONDS``
    How far the process's clock is ahead of the machine's.
``TORTURE_BUDGET_SECONDS``
    How long an invocation may take: what its context counts down from.
``TORTURE_STREAM``
    The stream that an invocation names.
``TORTURE_TICK``
    The tick of the schedule that an invocation names; empty for none.

An invocation's end is printed as the last line, a JSON object with ``torture`` in it: see `_invoke`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LOOK_SECONDS = 0.1


class _Context:
    """What Lambda tells a function of its invocation."""

    function_name = "kong-cloudtrails-integration"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:kong-cloudtrails-integration"

    def __init__(self, budget_seconds: float) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self._ends_at = time.monotonic() + budget_seconds

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the invocation may still take."""
        return max(int((self._ends_at - time.monotonic()) * 1000), 0)


def _invoke() -> int:
    """Invoke the handler; print what it returned, or what the error that it raised tells of the run, and how long."""
    from kong_cloudtrail.handler import handler

    tick = os.environ.get("TORTURE_TICK")
    event: dict[str, Any] = {"stream": os.environ["TORTURE_STREAM"]} | ({"execution_id": tick} if tick else {})
    context = _Context(float(os.environ["TORTURE_BUDGET_SECONDS"]))
    began, waits = time.monotonic(), _Waits()
    summary: Any
    try:
        summary, status = handler(event, context), 0  # type: ignore[arg-type]
    except Exception as error:
        summary, status = dict(getattr(error, "summary", {})) or None, 1
        print(f"{type(error).__name__}: {error}", flush=True)
    end = {
        "torture": True,
        "summary": summary,
        "seconds": time.monotonic() - began,
        "waitedForCpuSeconds": waits.seconds(),
    }
    print(json.dumps(end), flush=True)
    return status


class _Waits:
    """How long threads were ready to run, and the machine had no CPU for them, from now on.

    A thread that has ended tells no more, so all are looked at again and again.
    """

    def __init__(self) -> None:
        self._nanoseconds: dict[str, int] = {}
        self._look()
        self._before = sum(self._nanoseconds.values())
        threading.Thread(target=self._keep_looking, name="waits", daemon=True).start()

    def seconds(self) -> float:
        """Return how long all of them waited."""
        self._look()
        return (sum(tuple(self._nanoseconds.values())) - self._before) / 1e9

    def _keep_looking(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        for path in Path("/proc/self/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # a thread that has just ended
                self._nanoseconds[path.parent.name] = int(path.read_text().split()[1])


def main(arguments: Sequence[str]) -> int:
    """Run the collector; return the exit status."""
    if offset_seconds := float(os.environ.get("TORTURE_CLOCK_OFFSET_SECONDS", "0")):
        machines_time = time.time
        time.time = lambda: machines_time() + offset_seconds  # before the collector takes hold of it
    if arguments == ["lambda"]:
        return _invoke()
    from kong_cloudtrail.__main__ import main as command_line

    sys.argv[1:] = arguments
    return command_line()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
