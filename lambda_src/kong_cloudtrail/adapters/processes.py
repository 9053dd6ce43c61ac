"""Which process this is, and whether another one has ended: on Linux, for certain or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def own_name() -> str:
    """Return a name that no other process of any machine has or will have; empty where there is no such name.

    Made of the boot of the kernel, the process namespace, the process id, and the moment when the process started. Not
    for Lambda: machines that are restored from one snapshot share all of these.
    """
    return _name(os.getpid())


def is_gone(name: str) -> bool:
    """Tell whether the process of that name ran here, among the processes that can be seen, and has ended."""
    own = own_name()
    parts = name.split(":")
    return bool(own) and parts[:2] == own.split(":")[:2] and len(parts) == 4 and _name(int(parts[2])) != name


def _name(process_id: int) -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink()
        status = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # Behind the command's name in parentheses, which may hold anything: state is field 3, starttime field 22 (proc(5)).
    fields = status.rpartition(")")[2].split()
    namespace_number = str(namespace).strip("pid:[]")
    return "" if fields[0] in "ZX" else f"{boot}:{namespace_number}:{process_id}:{fields[19]}"
