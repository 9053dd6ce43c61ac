"""The CPU that this process runs on. Works on Linux only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def on_one_cpu() -> Iterator[None]:
    """Keep this thread, and the threads that it starts in the meantime, on the CPU that it runs on.

    The threads of one interpreter take turns. If each turn is on another CPU, the CPU's caches are cold: a first sync
    takes a third longer, on an idle machine and on a busy one. Does nothing where the system does not support it.
    """
    try:
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {_current_cpu()})
    except (AttributeError, OSError):  # not on this system, or not in this container
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, allowed)


def _current_cpu() -> int:
    try:
        status = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        fields = status.rpartition(")")[2].split()  # from field 3 on: the command's name before it may contain anything
        return int(fields[36])  # field 39 (proc(5)): the CPU of the last turn
    except (OSError, ValueError, IndexError):
        return 0
