"""Quarantine: the entries that could not be delivered. To list, show, deliver or discard them.

A run does not deliver what is in quarantine, as it is marked, and the gateway need not retain it any more. To replay an
entry is to deliver it as a run does: mapped anew, kept whole if it is shortened, sent, marked, and only then moved out.
If the process dies after a call and before the move, the entry is delivered once more by the next replay, with the same
``UID``. An entry that is refused again stays.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from ..domain.checkpoint import CacheState
from ..domain.entry import Entry
from ..domain.event import Original
from ..domain.gateway import Gateway
from ..domain.moment import utc
from ..domain.report import RunReport
from ..domain.trail import Trail
from ..domain.workers import in_order
from ..errors import CacheFull, CollectorError, EntryNotMappable, RequestInvalid, TimeBudgetReached
from ..ports import NOT_MAPPABLE, Failure, Quarantine, Quarantined, QuarantineState, SeenSet
from ..run.collector import MARK_MARGIN_SECONDS
from ..run.delivery import Delivery
from ..run.guard import FOR_DELIVERING, RunGuard
from .fields import Fields
from .installation import Installation, TrailParts
from .verb import Progress, Result, Verb

ACTIONS = ("list", "show", "replay", "discard")

DEFAULT_LISTED = 1000
MOST_LISTED = 10_000
"""Entries that a list shows at most."""

MOST_REFUSED_NAMED = 1000
"""Entries that a replay names because they stay. All are counted."""

NOBODY = "not told"
"""Who discarded an entry, if nobody says so: Lambda does not tell a function who invokes it."""

_READERS = 8
_name = re.compile(r"[-_A-Za-z0-9]{1,160}").fullmatch
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class QuarantineRequest:
    """To do something with entries in quarantine.

    Parameters
    ----------
    action
        One of `ACTIONS`.
    names
        Names of the entries; for ``replay``, none stands for all.
    state
        For ``list``: which entries.
    limit
        For ``list``: how many entries to show at most.
    dry_run
        For ``replay``: whether nothing is delivered.
    reason, by
        For ``discard``: why, and who says so.
    """

    action: str
    names: tuple[str, ...] = ()
    state: QuarantineState = QuarantineState.QUARANTINED
    limit: int = DEFAULT_LISTED
    dry_run: bool = False
    reason: str = ""
    by: str = ""

    @classmethod
    def read(cls, fields: Fields) -> QuarantineRequest:
        """Read the request."""
        action = fields.choice("action", ACTIONS)
        if action is None:
            raise RequestInvalid([f"action: has to be one of {', '.join(ACTIONS)}."])
        request = _READ[action](fields)
        fields.finish()
        request._check()
        return request

    def _check(self) -> None:
        problems = [f"names: {name!r} is not the name of an entry." for name in self.names if _name(name) is None]
        if self.action in ("show", "discard") and not self.names:
            problems.append("names: give at least one; `list` shows them.")
        if self.action == "discard" and not self.reason:
            problems.append("reason: is missing. It is kept with the entry, for whoever asks later.")
        if problems:
            raise RequestInvalid(problems)


@dataclass(frozen=True, slots=True)
class Listed:
    """The entries of some trails in a state.

    Parameters
    ----------
    state
        The state.
    rows
        The entries, each with its trail.
    more
        Whether there are more than are shown.
    """

    state: QuarantineState
    rows: Sequence[tuple[Trail, Quarantined]]
    more: bool

    def document(self) -> dict[str, Any]:
        """Return it as JSON, without the entries' content."""
        return {
            "action": "list",
            "state": self.state,
            "entries": [{**trail.fields, **_row(each)} for trail, each in self.rows],
            "more": self.more,
        }


@dataclass(frozen=True, slots=True)
class Shown:
    """Entries with their content."""

    rows: Sequence[tuple[Trail, Quarantined]]

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "action": "show",
            "entries": [
                {
                    **trail.fields,
                    **_row(each),
                    "message": each.message,
                    "gateway": {"version": each.gateway.version, "hostname": each.gateway.hostname},
                    "entry": each.entry.value,
                }
                for trail, each in self.rows
            ],
        }


@dataclass(slots=True)
class Replayed:
    """What a replay did with one trail, or would do.

    Parameters
    ----------
    trail
        The trail.
    delivered
        Entries that were delivered and have left the quarantine; of a dry run, entries that can be mapped.
    refused
        Entries that stay as they were refused again, by name, with the code; of a dry run, those that cannot be mapped.
    refused_count
        Number of these, as at most `MOST_REFUSED_NAMED` are named.
    left
        Entries that were not tried, or to no avail, as the time was used up or deliveries had stopped.
    skipped
        Whether a run held the trail's lock, or a backfill was at work on the trail, so that nothing was done.
    """

    trail: Trail
    delivered: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    refused_count: int = 0
    left: int = 0
    skipped: bool = False

    def refuse(self, name: str, code: str) -> None:
        """Note an entry that stays."""
        self.refused_count += 1
        if len(self.refused) < MOST_REFUSED_NAMED:
            self.refused[name] = code

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            **self.trail.fields,
            "delivered": self.delivered,
            "refused": self.refused_count,
            "refused_entries": [{"name": name, "code": code} for name, code in self.refused.items()],
            "left": self.left,
            "skipped": self.skipped,
        }


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay did, trail by trail."""

    trails: Sequence[Replayed]
    dry_run: bool

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "action": "replay",
            "dry_run": self.dry_run,
            "finished": not any(trail.left or trail.skipped for trail in self.trails),
            "trails": [trail.document() for trail in self.trails],
        }


@dataclass(frozen=True, slots=True)
class DiscardResult:
    """Which entries were discarded, each with its trail."""

    rows: Sequence[tuple[Trail, str]]
    reason: str
    by: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "action": "discard",
            "reason": self.reason,
            "by": self.by,
            "entries": [{**trail.fields, "name": name} for trail, name in self.rows],
        }


def _read_list(fields: Fields) -> QuarantineRequest:
    state = fields.choice("state", tuple(QuarantineState)) or QuarantineState.QUARANTINED
    limit = fields.number("limit", least=1, most=MOST_LISTED, default=DEFAULT_LISTED)
    return QuarantineRequest("list", state=QuarantineState(state), limit=limit)


def _read_show(fields: Fields) -> QuarantineRequest:
    return QuarantineRequest("show", _names(fields))


def _read_replay(fields: Fields) -> QuarantineRequest:
    return QuarantineRequest("replay", _names(fields), dry_run=fields.flag("dry_run"))


def _read_discard(fields: Fields) -> QuarantineRequest:
    reason, by = ((fields.text(name) or "").strip() for name in ("reason", "by"))
    return QuarantineRequest("discard", _names(fields), reason=reason, by=by or NOBODY)


def _names(fields: Fields) -> tuple[str, ...]:
    # A log line or `aws s3 ls` shows the whole name of the object.
    names = (name.rpartition("/")[2].removesuffix(".json") for name in fields.texts("names"))
    return tuple(dict.fromkeys(names))


_READ: Mapping[str, Callable[[Fields], QuarantineRequest]] = {
    "list": _read_list,
    "show": _read_show,
    "replay": _read_replay,
    "discard": _read_discard,
}


def perform(request: QuarantineRequest, installation: Installation, progress: Progress) -> Result:
    """Do what is asked for, with each trail.

    Raises
    ------
    RequestInvalid
        If there is no entry with one of the names. Nothing was done.
    LedgerError
        If the quarantine cannot be read or changed.
    DestinationError, StateError, SecretUnavailable
        If entries could not be delivered. Those that were delivered before have left the quarantine.
    """
    if request.action == "list":
        return _list(request, installation)
    chosen = _find(request, installation)
    if request.action == "show":
        return Shown(
            [
                (parts.trail, found)
                for parts, names in chosen
                for name, state in names.items()
                if (found := parts.ledger.read_quarantined(name, state)) is not None
            ]
        )
    if request.action == "discard":
        return _discard(request, chosen)
    return ReplayResult(
        [_replay(request, parts, names, installation, progress) for parts, names in chosen], request.dry_run
    )


def _row(each: Quarantined) -> dict[str, Any]:
    seconds = each.entry.timestamp
    return {
        "name": each.name,
        "state": each.state,
        "id": each.entry.id,
        "code": each.code,
        "attempts": each.attempts,
        "quarantined_at": utc(int(each.since)),
        "request_time": None if seconds is None else utc(seconds),
        "left_at": None if each.left_at is None else utc(int(each.left_at)),
        "reason": each.reason or None,
        "bytes": each.size_bytes,
    }


def _list(request: QuarantineRequest, installation: Installation) -> Listed:
    rows: list[tuple[Trail, Quarantined]] = []
    more = False
    for parts in installation.trails:
        names = parts.ledger.names_in_quarantine(request.state)
        chosen = islice(names, request.limit - len(rows))
        found = in_order(chosen, partial(_without_content, parts.ledger, request.state), _READERS)
        rows += [(parts.trail, each) for each in found if each is not None]
        more = more or next(names, None) is not None
    return Listed(request.state, rows, more)


def _without_content(ledger: Quarantine, state: QuarantineState, name: str) -> Quarantined | None:
    """Return an entry for a list: its content may have megabytes, and thousands are in memory at once."""
    found = ledger.read_quarantined(name, state)
    if found is None:
        return None
    return replace(found, message="", entry=replace(found.entry, value=None))


def _find(
    request: QuarantineRequest, installation: Installation
) -> list[tuple[TrailParts, dict[str, QuarantineState]]]:
    """Return the trails that have the entries, each with the names and where they are. ``show`` looks everywhere."""
    states = tuple(QuarantineState) if request.action == "show" else (QuarantineState.QUARANTINED,)
    chosen = []
    missing = set(request.names)
    for parts in installation.trails:
        names: dict[str, QuarantineState] = {}
        for state in states if request.names else ():
            for name in request.names:
                if name not in names and parts.ledger.read_quarantined(name, state) is not None:
                    names[name] = state
        missing -= names.keys()
        if names or not request.names:
            chosen.append((parts, names))
    if missing:
        raise RequestInvalid(
            [f"There is no entry {name} in quarantine; `list` shows those that are there." for name in sorted(missing)]
        )
    return chosen


def _discard(
    request: QuarantineRequest, chosen: Sequence[tuple[TrailParts, dict[str, QuarantineState]]]
) -> DiscardResult:
    rows = []
    for parts, names in chosen:
        for name in names:
            parts.ledger.discard(name, reason=request.reason, by=request.by)
            rows.append((parts.trail, name))
    return DiscardResult(rows, request.reason, request.by)


# -- replay


def _replay(
    request: QuarantineRequest,
    parts: TrailParts,
    names: dict[str, QuarantineState],
    installation: Installation,
    progress: Progress,
) -> Replayed:
    chosen = list(names) if request.names else list(parts.ledger.names_in_quarantine())
    outcome = Replayed(parts.trail)
    if not chosen:
        return outcome
    if request.dry_run:
        _try_mapping(chosen, parts, outcome, progress)
        return outcome
    # Against a second replay, and against a run that finds an entry whose mark is lost.
    lock = parts.lock
    if not lock.acquire():
        return _skip(outcome, chosen)
    try:
        if lock.backfilled_until() is not None:
            return _skip(outcome, chosen)  # a backfill may find an entry whose mark is lost, too
        guard = RunGuard(installation.budget, lock, installation.clock, FOR_DELIVERING)
        _deliver(chosen, parts, outcome, installation, guard, progress)
    finally:
        lock.release()
    return outcome


def _skip(outcome: Replayed, chosen: Sequence[str]) -> Replayed:
    outcome.skipped = True
    outcome.left = len(chosen)
    return outcome


def _try_mapping(chosen: Sequence[str], parts: TrailParts, outcome: Replayed, progress: Progress) -> None:
    for done, quarantined in enumerate(in_order(chosen, parts.ledger.read_quarantined, _READERS), 1):
        if quarantined is not None:
            try:
                parts.destination.mapper(quarantined.gateway).map(quarantined.entry)
                outcome.delivered += 1
            except EntryNotMappable:
                outcome.refuse(quarantined.name, NOT_MAPPABLE)
        progress("entries", done, len(chosen))


def _deliver(
    chosen: Sequence[str],
    parts: TrailParts,
    outcome: Replayed,
    installation: Installation,
    guard: RunGuard,
    progress: Progress,
) -> None:
    parts.seen.open()  # before anything is sent that could not be marked
    desk = _Desk(parts.ledger, parts.seen, outcome)
    report = RunReport(parts.trail)
    plan = parts.plan
    delivery = Delivery(
        destination=parts.destination,
        seen=desk,
        ledger=desk,
        guard=guard,
        clock=installation.clock,
        gateway=Gateway("", "", None),  # each entry brings the one that showed it
        report=report,
        telemetry=_Silence(),
        parallel_deliveries=plan.parallel_deliveries,
        mark_margin_seconds=MARK_MARGIN_SECONDS + 2 * plan.overlap_seconds,
    )
    packer = parts.destination.packer()
    stopped: CollectorError | None = None
    try:
        for done, quarantined in enumerate(in_order(chosen, parts.ledger.read_quarantined, _READERS), 1):
            delivery.check()
            guard.check()
            if quarantined is None:
                continue
            desk.remember(quarantined)
            try:
                event = parts.destination.mapper(quarantined.gateway).map(quarantined.entry)
            except EntryNotMappable as reason:
                desk.quarantine(quarantined.entry, quarantined.gateway, Failure(NOT_MAPPABLE, str(reason)), 0)
                continue
            if (batch := packer.add(event)) is not None:
                delivery.submit(batch)
            progress("entries", done, len(chosen))
        while (batch := packer.flush()) is not None:
            delivery.submit(batch)
    except CollectorError as error:
        stopped = error
    finally:
        delivery.close()
    outcome.delivered = desk.released
    outcome.left = len(chosen) - outcome.delivered - outcome.refused_count
    reasons = [error for error in (delivery.stopped_by, stopped, *delivery.problems) if error is not None]
    failures = [error for error in reasons if not isinstance(error, TimeBudgetReached)]
    if outcome.left and failures:
        raise failures[0]


class _Desk:
    """The ledger and the seen set of a replay: what is marked leaves the quarantine, unless it was refused again."""

    def __init__(self, ledger: Quarantine, seen: SeenSet, outcome: Replayed) -> None:
        self._ledger = ledger
        self._seen = seen
        self._outcome = outcome
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()
        self.released = 0

    def remember(self, quarantined: Quarantined) -> None:
        """Remember the name of an entry that is about to be delivered."""
        self._names[quarantined.entry.key] = quarantined.name

    def keep_original(self, original: Original) -> None:
        self._ledger.keep_original(original)

    def quarantine(self, entry: Entry, gateway: Gateway, failure: Failure, attempts: int) -> str:
        """Leave an entry where it is: its record has the first reason, and the time."""
        name = self._names.pop(entry.key)
        with self._lock:
            self._outcome.refuse(name, failure.code)
        return name

    def open(self) -> CacheState:
        return self._seen.open()

    def expect(self, entries: Sequence[Entry]) -> None:
        self._seen.expect(entries)

    def look(self) -> CacheState:
        return self._seen.look()

    def seen(self, entries: Sequence[Entry]) -> set[str]:
        return self._seen.seen(entries)

    def mark(self, entries: Sequence[Entry], lifetime_seconds: int) -> None:
        try:
            self._seen.mark(entries, lifetime_seconds)
        except CacheFull as full:
            if full.marked:
                self._let_go(entries)
            raise
        self._let_go(entries)

    def _let_go(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if (name := self._names.pop(entry.key, None)) is not None:
                self._ledger.release(name)
                with self._lock:
                    self.released += 1


class _Silence:
    """Says nothing: an entry that is refused again did not come into quarantine by this."""

    def info(self, code: str, message: str, **details: Any) -> None: ...

    def warning(self, code: str, message: str, **details: Any) -> None: ...

    def progress(self, report: RunReport) -> None: ...

    def publish(self, report: RunReport) -> None: ...

    def count(self, trail: Trail, counts: Mapping[str, int]) -> None: ...


VERB = Verb(QuarantineRequest.read, perform)
