"""What a run did, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .part import Part
from .trail import Trail
from .window import Window

MAX_COUNTED = 10_000
"""A run counts at most so many entries in quarantine: to list more objects in every run would be slow."""


@dataclass(slots=True)
class RunReport:
    """The counts of one run. ``fetched = duplicates + excluded + delivered + quarantined + failed + backlog``.

    Parameters
    ----------
    trail
        The trail of the run.
    run_id
        Id of the run. Ids of later runs are greater.
    window
        What was to be read; ``None`` for everything (a gateway without time filters), or if the run did not get so far.
    backfill
        The whole range, if this was a call of a backfill and no run from the checkpoint on. The counts are those of
        the call.
    fetched
        Entries that the source showed.
    duplicates
        Fetched entries that were delivered or excluded before, or shown twice.
    excluded_by_rule
        Fetched entries that were left out, by the name of the rule.
    excluded_counted
        How many more entries the ledger counts as left out, since the last run that saved its report: each entry once,
        also if a run died in the meantime. ``None`` if there is no ledger.
    delivered
        Fetched entries that the destination confirmed, and that are marked.
    quarantined
        Fetched entries that were put into quarantine, and are marked.
    failed
        Fetched entries that were not delivered although there was time. They stay unmarked and are fetched again.
    backlog
        Fetched entries that are left to the next run because the time was used up. The source may have more.
    shortened
        Delivered entries whose events are shortened; the ledger keeps the originals.
    redated
        Delivered entries whose time the destination does not take: it has them at the time of their delivery, and the
        events say when the request was made.
    pages
        Pages read.
    page_seconds
        How long the source took for pages in total, repeated requests included.
    batches
        Calls to the destination that were answered.
    delivery_seconds
        How long these calls took in total.
    throttled
        How often the destination throttled.
    delivered_bytes
        Bytes of event data delivered: what CloudTrail Lake bills.
    error_codes
        How often each error code was given, for an entry or a call.
    finished
        Whether everything that was to be read was read, and is delivered or in quarantine.
    misconfigured
        Whether something failed that will fail again until somebody changes something.
    skipped
        Whether another run held the lock, so that this one did nothing.
    run_seconds
        Duration of the run.
    oldest_undelivered_age_seconds
        Age of the oldest entry that may still be undelivered; 0 if everything is delivered, ``None`` if unknown.
    checkpoint_lag_seconds
        How long ago a run last had delivered everything that the source showed, or, if none has, the first run began;
        0 if this run did, ``None`` if unknown.
    found_late
        New entries that are older than the checkpoint by more than the overlap: no earlier run could see them.
    max_lateness_seconds
        How much older than the checkpoint the oldest of these is: an upper limit of the time until it became visible.
    gaps
        Open gaps: stretches that could not be read or delivered, and that are tried again; ``None`` if the run did not
        get far enough to know.
    quarantine_open
        Entries in quarantine when the run ended, of this run and earlier ones, up to `MAX_COUNTED`; ``None`` if
        unknown.
    parts
        Parts that this run wrote, and earlier ones that no run has reported. Empty for a destination without parts.
    parts_damaged
        Parts that this run found removed or overwritten; ``None`` if the destination keeps none, or if unknown.
    window_seconds_read
        How much of the window is read so far, in seconds of request time. For a progress display.
    """

    trail: Trail
    run_id: str = ""
    window: Window | None = None
    backfill: Window | None = None
    fetched: int = 0
    duplicates: int = 0
    excluded_by_rule: Counter[str] = field(default_factory=Counter)
    excluded_counted: int | None = None
    delivered: int = 0
    quarantined: int = 0
    failed: int = 0
    backlog: int = 0
    shortened: int = 0
    redated: int = 0
    pages: int = 0
    page_seconds: float = 0.0
    batches: int = 0
    delivery_seconds: float = 0.0
    throttled: int = 0
    delivered_bytes: int = 0
    error_codes: Counter[str] = field(default_factory=Counter)
    finished: bool = False
    misconfigured: bool = False
    skipped: bool = False
    run_seconds: float = 0.0
    oldest_undelivered_age_seconds: float | None = None
    checkpoint_lag_seconds: float | None = None
    found_late: int = 0
    max_lateness_seconds: int = 0
    gaps: int | None = None
    quarantine_open: int | None = None
    parts: list[Part] = field(default_factory=list)
    parts_damaged: int | None = None
    window_seconds_read: int = 0

    @property
    def kong_latency_seconds(self) -> float | None:
        """Mean time for a page; ``None`` without pages."""
        return self.page_seconds / self.pages if self.pages else None

    @property
    def delivery_latency_seconds(self) -> float | None:
        """Mean time for a call to the destination; ``None`` without calls."""
        return self.delivery_seconds / self.batches if self.batches else None

    def add(self, other: RunReport) -> None:
        """Add the counts of a part of the work."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.excluded_counted = (self.excluded_counted or 0) + (other.excluded_counted or 0)
        self.error_codes.update(other.error_codes)
        self.excluded_by_rule.update(other.excluded_by_rule)

    @property
    def excluded(self) -> int:
        """Number of entries that were left out."""
        return self.excluded_by_rule.total()

    @property
    def parts_written(self) -> int:
        """Number of parts that this run wrote."""
        return sum(part.run_id == self.run_id for part in self.parts)

    def summary(self) -> dict[str, Any]:
        """Return the report as a JSON object, without the list of parts."""
        return {
            **self.trail.fields,
            "run_id": self.run_id,
            "window": _bounds(self.window),
            "backfill": _bounds(self.backfill),
            "fetched": self.fetched,
            "duplicates": self.duplicates,
            "excluded": self.excluded,
            "excluded_by_rule": dict(self.excluded_by_rule),
            "delivered": self.delivered,
            "quarantined": self.quarantined,
            "failed": self.failed,
            "backlog": self.backlog,
            "shortened": self.shortened,
            "redated": self.redated,
            "pages": self.pages,
            "batches": self.batches,
            "throttled": self.throttled,
            "delivered_bytes": self.delivered_bytes,
            "error_codes": dict(self.error_codes),
            "kong_latency_seconds": _rounded(self.kong_latency_seconds),
            "delivery_latency_seconds": _rounded(self.delivery_latency_seconds),
            "finished": self.finished,
            "skipped": self.skipped,
            "run_seconds": round(self.run_seconds, 3),
            "oldest_undelivered_age_seconds": self.oldest_undelivered_age_seconds,
            "checkpoint_lag_seconds": self.checkpoint_lag_seconds,
            "found_late": self.found_late,
            "max_lateness_seconds": self.max_lateness_seconds,
            "gaps": self.gaps,
            "quarantine_open": self.quarantine_open,
            "parts_written": self.parts_written,
            "parts_damaged": self.parts_damaged,
        }


_SUMS = (
    "fetched",
    "duplicates",
    "delivered",
    "quarantined",
    "failed",
    "backlog",
    "shortened",
    "pages",
    "page_seconds",
    "batches",
    "delivery_seconds",
    "throttled",
    "delivered_bytes",
)


def _bounds(window: Window | None) -> dict[str, int | None] | None:
    return None if window is None else {"after": window.after, "before": window.before}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
