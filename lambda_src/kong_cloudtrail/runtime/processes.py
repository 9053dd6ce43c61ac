"""What the system knows of processes: which one this is, whether another one has ended, where one runs. Linux alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def own_name() -> str:
    """Return a name that no other process of any machine has or will have; empty where there is no such name.

    Made of the boot of the kernel, the process namespace, the process id, and the moment when the process started. Not
    for Lambda: machines that are restored from one snapshot share all of these.
    """
    try:
        return _name(os.getpid())
    except OSError:
        return ""


def is_gone(name: str) -> bool:
    """Tell whether the process of that name ran here, among the processes that can be seen, and has ended."""
    own = own_name()
    parts = name.split(":")
    if not own or parts[:2] != own.split(":")[:2] or len(parts) != 4:
        return False
    process_id = int(parts[2])
    try:
        return _name(process_id) != name
    except OSError:
        return not _exists(process_id)  # where /proc hides the processes of others, one that runs is not to be seen


@contextlib.contextmanager
def on_one_cpu() -> Iterator[None]:
    """Keep this thread, and the threads that it starts meanwhile, on the CPU on which it runs.

    The threads of one interpreter take turns. Where each turn is on another CPU, its caches are cold: a first sync
    takes a third longer then, on an idle machine as on a busy one. Where the system cannot do it, nothing happens.
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
        return int(_fields("self")[36])  # field 39 (proc(5)): the CPU of the last turn
    except (OSError, ValueError, IndexError):
        return 0


def _fields(process: int | str) -> list[str]:
    """Return the fields of a process's status from the third one on. Raises `OSError` if it is not listed."""
    status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    return status.rpartition(")")[2].split()  # behind the command's name in parentheses, which may hold anything


def _name(process_id: int) -> str:
    """Return the name of a process; empty if it has ended and is still listed. Raises `OSError` if it is not listed."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    namespace = Path("/proc/self/ns/pid").readlink()
    fields = _fields(process_id)  # state is field 3, starttime field 22 (proc(5))
    namespace_number = str(namespace).strip("pid:[]")
    return "" if fields[0] in "ZX" else f"{boot}:{namespace_number}:{process_id}:{fields[19]}"


def _exists(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process_id > 0  # 0 stands for the caller's own group
