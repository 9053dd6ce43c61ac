"""Which process this is, and whether another one has ended: on Linux, for certain or not at all."""

from __future__ import annotations

import os
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


def _name(process_id: int) -> str:
    """Return the name of a process; empty if it has ended and is still listed. Raises `OSError` if it is not listed."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    namespace = Path("/proc/self/ns/pid").readlink()
    status = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
    # Behind the command's name in parentheses, which may hold anything: state is field 3, starttime field 22 (proc(5)).
    fields = status.rpartition(")")[2].split()
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
