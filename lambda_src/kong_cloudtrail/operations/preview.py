"""Preview: what the next run would deliver, without writing anything anywhere.

It reads as a run does: the same checkpoint, windows, look-ups and mapping. It takes no lock, so a run that is at work
may deliver meanwhile what it shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..domain.checkpoint import Checkpoint
from ..domain.entry import Entry
from ..domain.jsontext import encode
from ..domain.moment import utc
from ..domain.report import RunReport
from ..domain.trail import Trail
from ..errors import (
    CollectorError,
    DestinationMisconfigured,
    EntryNotMappable,
    SecretUnavailable,
    SourceRefused,
    TimeBudgetReached,
)
from ..ports import Mapper
from ..run.beginning import Beginning, begin
from ..run.intake import fresh_entries
from ..run.progress import Progress as RunProgress
from ..run.reading import Purpose, Reading
from .fields import Fields
from .installation import Installation, TrailLedger, TrailParts
from .verb import Progress, Verb

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

_LASTING = (DestinationMisconfigured, SecretUnavailable, SourceRefused)

MAX_ANSWER_BYTES = 400_000
"""Entries and events of an answer: the function can return it then, and need not put it into the ledger."""


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """To show what the next run would deliver.

    Parameters
    ----------
    limit
        Entries of each trail at most.
    """

    limit: int

    @classmethod
    def read(cls, fields: Fields) -> PreviewRequest:
        """Read the request."""
        return cls(fields.number("limit", least=1, most=MAX_LIMIT, default=DEFAULT_LIMIT))


@dataclass(frozen=True, slots=True)
class PreviewedEntry:
    """An entry, and what would become of it.

    Parameters
    ----------
    entry
        The entry.
    purpose
        Why the run would read it.
    event
        Its event; ``None`` if it cannot be mapped.
    shortened
        Whether the event is shortened.
    problem
        Why it cannot be mapped; ``None`` if it can. It would go to quarantine.
    size_bytes
        Size of entry and event as JSON.
    """

    entry: Entry
    purpose: Purpose
    event: str | None
    shortened: bool
    problem: str | None
    size_bytes: int

    def document(self, *, whole: bool) -> dict[str, Any]:
        """Return it as JSON, without entry and event unless they are wanted."""
        moment = self.entry.timestamp
        return {
            "id": self.entry.id,
            "time": None if moment is None else utc(moment),
            "purpose": self.purpose.value,
            "fate": "quarantined" if self.problem is not None else "shortened" if self.shortened else "delivered",
            "problem": self.problem,
            "bytes": self.size_bytes,
            "entry": json.loads(encode(self.entry.value)) if whole else None,
            "event": json.loads(self.event) if whole and self.event is not None else None,
        }


@dataclass(slots=True)
class PreviewedTrail:
    """What the next run of a trail would deliver.

    Parameters
    ----------
    parts
        The trail.
    entries
        The entries, in the order in which the run would read them.
    fetched
        Entries that the gateway showed.
    found
        How many of these are to be delivered.
    excluded
        Entries that a rule would leave out.
    more
        Whether the run would read on, and perhaps find more.
    notices
        What the run would warn of, each with its code.
    problem
        Why the run would fail, so that there is nothing to show; ``None`` if it would not.
    room_bytes
        Room that is left for entries and events in the answer.
    """

    parts: TrailParts
    room_bytes: int
    entries: list[PreviewedEntry] = field(default_factory=list)
    fetched: int = 0
    found: int = 0
    excluded: int = 0
    more: bool = False
    notices: list[dict[str, str]] = field(default_factory=list)
    problem: CollectorError | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            **self.parts.trail.fields,
            "fetched": self.fetched,
            "found": self.found,
            "excluded": self.excluded,
            "more": self.more,
            "notices": self.notices,
            "problem": None if self.problem is None else _problem(self.problem),
            "entries": list(self._shown()),
        }

    def _shown(self) -> Iterator[dict[str, Any]]:
        room_bytes = self.room_bytes
        for one in self.entries:
            room_bytes -= one.size_bytes
            yield one.document(whole=room_bytes >= 0)

    # -- what the run would tell its telemetry

    def info(self, code: str, message: str, **details: Any) -> None:
        """Drop it."""

    def warning(self, code: str, message: str, **details: Any) -> None:
        """Keep it for the answer."""
        self.notices.append({"code": code, "message": message})

    def progress(self, report: RunReport) -> None:
        """Drop it."""

    def publish(self, report: RunReport) -> None:
        """Drop it."""

    def count(self, trail: Trail, counts: Mapping[str, int]) -> None:
        """Drop it."""


@dataclass(frozen=True, slots=True)
class PreviewResult:
    """What the next runs would deliver, trail by trail."""

    trails: Sequence[PreviewedTrail]

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"trails": [trail.document() for trail in self.trails]}


class _ReadOnly:
    """The checkpoint of a ledger, which can be changed in memory alone."""

    def __init__(self, ledger: TrailLedger) -> None:
        self.load_checkpoint = ledger.load_checkpoint

    def save_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        return replace(checkpoint)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a preview may not call {name}")


def perform(request: PreviewRequest, installation: Installation, progress: Progress) -> PreviewResult:
    """Show what the next run of each trail would deliver. Nothing is written.

    Raises
    ------
    CollectorError
        If no trail could be shown, as the gateway, the ledger or the cache cannot be read.
    """
    room_bytes = MAX_ANSWER_BYTES // max(len(installation.trails), 1)
    trails: list[PreviewedTrail] = []
    for parts in installation.trails:
        try:
            trails.append(_preview(parts, request, installation, progress, room_bytes))
        except CollectorError as error:  # one trail never holds up another
            trails.append(PreviewedTrail(parts, 0, problem=error))
    problems = [trail.problem for trail in trails if trail.problem is not None]
    if problems and len(problems) == len(trails):
        raise problems[0]
    return PreviewResult(trails)


def _problem(error: CollectorError) -> dict[str, Any]:
    return {"message": str(error), "may_pass": not isinstance(error, _LASTING)}


def _preview(
    parts: TrailParts, request: PreviewRequest, installation: Installation, progress: Progress, room_bytes: int
) -> PreviewedTrail:
    previewed = PreviewedTrail(parts, room_bytes)
    plan = parts.plan
    report = RunReport(plan.trail)
    checkpoint = RunProgress(
        _ReadOnly(parts.ledger),
        keep=plan.keep_checkpoint,
        overlap_seconds=plan.overlap_seconds,
        sweep_seconds=plan.sweep_seconds,
        may_overlap=plan.may_overlap,
        report=report,
        rules=plan.exclusion.names,
    )
    beginning = begin(
        plan,
        checkpoint,
        source=parts.source,
        open_cache=parts.seen.look,
        guard=parts.reading_guard,
        telemetry=previewed,
        clock=installation.clock,
        report=report,
        backfilled_until=parts.lock.backfilled_until(),
    )
    try:
        _read(previewed, beginning, request.limit, progress)
    except TimeBudgetReached:
        previewed.more = True
    return previewed


def _read(previewed: PreviewedTrail, beginning: Beginning, limit: int, progress: Progress) -> None:
    exclusion = previewed.parts.plan.exclusion
    mapper = previewed.parts.destination.mapper(beginning.gateway)
    shown: set[str] = set()
    for reading in beginning.reader:
        if reading.page is None:
            continue
        page = reading.page.entries
        fresh = fresh_entries(page, previewed.parts.seen, shown, beginning.assumed_before(reading))
        shown.update(entry.key for entry in fresh)
        kept = [entry for entry in fresh if exclusion.rule_of(entry) is None]
        previewed.fetched += len(page)
        previewed.excluded += len(fresh) - len(kept)
        previewed.found += len(kept)
        shown_now = previewed.parts.source.complete(kept[: limit - len(previewed.entries)])
        previewed.entries += [_map(entry, mapper, reading) for entry in shown_now]
        progress("entries", previewed.found, None)
        if len(previewed.entries) == limit:
            previewed.more = True  # it is not worth a request to find out
            return


def _map(entry: Entry, mapper: Mapper, reading: Reading) -> PreviewedEntry:
    size_bytes = len(entry.original())
    try:
        event = mapper.map(entry)
    except EntryNotMappable as error:
        return PreviewedEntry(entry, reading.purpose, None, False, str(error), size_bytes)
    size_bytes += len(event.data)
    return PreviewedEntry(entry, reading.purpose, event.data, event.original is not None, None, size_bytes)


VERB = Verb(PreviewRequest.read, perform)
