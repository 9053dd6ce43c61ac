"""The garbage collector while a run is at work."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_ALLOCATIONS = 10_000
"""Objects between two looks of the collector: the ones of two pages, instead of Python's 700."""


@contextlib.contextmanager
def rarely_collected() -> Iterator[None]:
    """Let the garbage collector look less often, and not at what was imported.

    A run makes a million objects, and nearly all of them go by their reference counts, not by the collector. Looking
    for cycles among them as often as Python does takes a twentieth of the CPU time of a first sync.
    """
    if not gc.get_freeze_count():  # once for a process: what is frozen is never collected
        gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(_ALLOCATIONS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
