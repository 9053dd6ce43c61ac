"""How far a trail is done: what one run saves for the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .exclusion import Excluded
from .part import Part, Reported
from .window import Window

NO_REPORT_SHA256 = "0" * 64
"""What the first run report holds as the hash of the one before it."""


@dataclass(frozen=True, slots=True)
class CacheState:
    """The state of the cache, to recognise that it has lost marks.

    Parameters
    ----------
    cache_id
        A random id, written when the cache has none. A different one means that the cache was emptied or replaced.
    marks_written
        Number of marks ever written to this cache for this trail. A lower number than before means that the cache was
        restored from an old snapshot.
    """

    cache_id: str
    marks_written: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where a reading continues that a run could not finish.

    Parameters
    ----------
    window
        The slice that is being read; ``None`` if everything is read, without filters.
    resume
        Where in the slice, as the source said (`ports.Page.resume`); ``None``: at its beginning.
    newest
        Newest request time in this reading so far, Unix seconds, without entries dated in the future; ``None`` if there
        is none.
    limit
        The time by the clocks when the slice was begun, Unix seconds: later entries are dated in the future.
    began_at
        When the reading began, Unix seconds by our own clock.
    proven
        Whether every answer so far was as asked. If not, the reading continues, and the checkpoint stays.
    """

    window: Window | None
    resume: str | None
    newest: int | None
    limit: int
    began_at: int
    proven: bool = True


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A stretch below the checkpoint that is still to be read or delivered.

    Parameters
    ----------
    window
        Its request times; ``None`` if they are unknown, as on a gateway that cannot filter.
    kind
        ``unreadable``: the source could not show a row. ``undelivered``: an entry could not be delivered.
    reason
        Why, in a few words that may be logged.
    since
        When it was first passed, Unix seconds by our own clock.
    """

    window: Window | None
    kind: Literal["unreadable", "undelivered"]
    reason: str
    since: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a trail is done, and what is still to be read.

    Parameters
    ----------
    complete_until
        Unix seconds: every entry that the source showed with an older request time is delivered or in quarantine,
        except for gaps. Never later than the newest request time that the source showed. ``None`` before anything was
        settled.
    begins_at
        Where the first run was asked to begin, Unix seconds; ``None``: at the oldest entry that the source retains.
    first_run_at
        When the first run began, Unix seconds by our own clock.
    caught_up_at
        When the last reading began that settled everything that the source showed, Unix seconds by our own clock.
    reading
        Where the next run continues, if the last one could not finish its reading.
    gaps
        What was passed and is still to be settled, oldest first.
    sweep
        Where an unfinished sweep continues; ``None`` if there is none.
    sweep_due
        When the next sweep begins, Unix seconds by our own clock; ``None`` before the first run.
    cache
        The state of the cache in the newest run.
    marks_whole_after
        Entries with an older request time may have lost their marks, Unix seconds; ``None``: all marks are present.
    gateway_version
        The gateway's version in the newest run.
    gateway_ahead_seconds
        How far the gateway's clock was ahead of ours when it was last shown.
    run_number, run_sha256
        Number and hash of the newest run report.
    reported
        Which parts the run reports name.
    parts
        Parts that were written before this checkpoint was saved, and that no run report names yet.
    excluded
        What was left out because a rule says so.
    version
        Version of the stored object that this was read from; ``None`` if there was none.
    """

    complete_until: int | None = None
    begins_at: int | None = None
    first_run_at: int | None = None
    caught_up_at: int | None = None
    reading: Position | None = None
    gaps: tuple[OpenGap, ...] = ()
    sweep: Position | None = None
    sweep_due: int | None = None
    cache: CacheState | None = None
    marks_whole_after: int | None = None
    gateway_version: str | None = None
    gateway_ahead_seconds: int = 0
    run_number: int = 0
    run_sha256: str = NO_REPORT_SHA256
    reported: Reported = field(default_factory=Reported)
    parts: tuple[Part, ...] = ()
    excluded: Excluded = field(default_factory=Excluded)
    version: str | None = None
