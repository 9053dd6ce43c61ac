"""Reconcile: whether a destination holds everything that the source shows of a window, each entry once.

The window is read slice by slice, oldest first, and each slice is compared with what the destination holds. So memory
is bounded by a slice, and what an unfinished reconciliation found is right for a shorter window. The window has to be
settled (older than what runs may still be about to deliver) and still retained by the source: otherwise it would prove
nothing that an entry is not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..domain.checkpoint import Checkpoint
from ..domain.entry import Entry
from ..domain.exclusion import Excluded, Exclusion
from ..domain.moment import utc
from ..domain.reconciliation import without
from ..domain.report import RunReport
from ..domain.tally import Difference, ShownEntry, Tally, name_digest
from ..domain.trail import Trail
from ..domain.window import Window
from ..errors import CollectorError, RequestInvalid, SourceUnavailable, StateError, TimeBudgetReached
from ..ports import Basis, Consent, Findings, Gap, Inventory, Page, QuarantineState, SeenSet, Telemetry, TimeBudget
from ..run.beginning import FUTURE_SECONDS
from ..run.collector import MARK_MARGIN_SECONDS
from ..run.delivery import Delivery
from ..run.guard import FOR_DELIVERING, FOR_READING, NoLock, RunGuard
from ..run.intake import Intake
from ..run.progress import Progress as RunProgress
from ..run.reading import Bounds
from .fields import Fields
from .installation import Installation, TrailParts
from .verb import Progress, Verb

METRICS = ("EntriesMissing", "EntriesDoubled", "EntriesExtra", "ReconciliationsFinished")
"""What a reconciliation counts, for alarms."""

MOST_NAMED = 1000
"""Entries of a kind that a result names. All are counted."""

RETENTION_MARGIN_SECONDS = 3600
"""Entries that expire within this time count as expired: they may be gone before they are read."""

_SURELY_RETAINED_SECONDS = 2 * 86_400
"""For so long, a source keeps entries that shows none from which it could be known."""

_FIRST_SLICE_SECONDS = 6 * 3600
_LONGEST_SLICE_SECONDS = 31 * 86_400
_TARGET_SLICE_ENTRIES = 200_000
_GREATEST_GROWTH = 4.0
_FEW_SECONDS = 20  # so many seconds are asked for one by one, in place of the whole slice


@dataclass(frozen=True, slots=True)
class ReconcileRequest:
    """To reconcile a window.

    Parameters
    ----------
    window
        The window of request times.
    repair
        Whether to deliver what is missing.
    agreed
        Whether to do what costs money without asking.
    """

    window: Window
    repair: bool = False
    agreed: bool = False

    @classmethod
    def read(cls, fields: Fields) -> ReconcileRequest:
        """Read the request."""
        return cls(fields.window(), repair=fields.flag("repair"), agreed=fields.flag("yes"))


@dataclass(slots=True)
class Repair:
    """What became of the missing entries.

    Parameters
    ----------
    delivered, quarantined, failed
        How many were delivered now, went to quarantine, or could not be delivered.
    """

    delivered: int = 0
    quarantined: int = 0
    failed: int = 0

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"delivered": self.delivered, "quarantined": self.quarantined, "failed": self.failed}


@dataclass(slots=True)
class Reconciled:
    """What was found for one trail. Each list of entries has at most `MOST_NAMED`.

    Parameters
    ----------
    trail
        The trail.
    window
        What was asked for.
    basis
        What the source was compared with.
    covered_until
        Up to when it was compared, Unix seconds.
    shown
        Entries that the source showed.
    missing
        Entries that the destination does not hold, and that nothing accounts for.
    doubled
        Entries that it holds more than once; ``None`` if that is not known.
    extra
        Entries that it holds and the source does not show; ``None`` if that is not known.
    quarantined, discarded, excluded
        Entries that it does not hold, as they are in quarantine, were discarded from there, or a rule leaves them out.
    released
        Entries that it holds, and that were delivered from quarantine.
    unreadable
        Gaps: rows that the source cannot show, so that nothing is known about them.
    repair
        What became of the missing entries; ``None`` if they were left alone.
    bytes_scanned
        What somebody bills for; ``None`` if nobody does.
    number, place
        Number of the result in its chain, and where it is.
    """

    trail: Trail
    window: Window
    basis: Basis
    covered_until: int
    shown: int = 0
    missing: int = 0
    doubled: int | None = 0
    extra: int | None = 0
    quarantined: int = 0
    discarded: int = 0
    released: int = 0
    excluded: int = 0
    unreadable: int = 0
    missing_entries: list[dict[str, Any]] = field(default_factory=list)
    doubled_entries: list[dict[str, Any]] = field(default_factory=list)
    extra_entries: list[dict[str, Any]] = field(default_factory=list)
    quarantined_entries: list[dict[str, Any]] = field(default_factory=list)
    discarded_entries: list[dict[str, Any]] = field(default_factory=list)
    repair: Repair | None = None
    bytes_scanned: int | None = None
    number: int | None = None
    place: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether all of the window was compared."""
        return self.window.before is not None and self.covered_until >= self.window.before

    @property
    def still_missing(self) -> int:
        """Missing entries that were not delivered by the repair, nor put into quarantine."""
        repaired = 0 if self.repair is None else self.repair.delivered + self.repair.quarantined
        return max(self.missing - repaired, 0)

    @property
    def is_complete(self) -> bool:
        """Whether everything that the source shows is held by now, or accounted for."""
        return self.is_finished and not self.still_missing and not self.unreadable

    def result(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Return it as JSON, as it is kept in the ledger.

        Parameters
        ----------
        checkpoint
            The trail's checkpoint, whose newest run report ties the result to the chain of those.
        """
        return {
            "basis": self.basis,
            "after": utc(self.window.after),
            "before": utc(self.window.before or 0),
            "covered_until": utc(self.covered_until),
            "finished": self.is_finished,
            "complete": self.is_complete,
            "run_number": checkpoint.run_number,
            "run_sha256": checkpoint.run_sha256,
            **{name: getattr(self, name) for name in _COUNTS},
            **{f"{name}_entries": getattr(self, f"{name}_entries") for name in _NAMED},
            "repair": None if self.repair is None else self.repair.document(),
            "bytes_scanned": self.bytes_scanned,
        }


_COUNTS = ("shown", "missing", "doubled", "extra", "quarantined", "discarded", "released", "excluded", "unreadable")
_NAMED = ("missing", "doubled", "extra", "quarantined", "discarded")


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """What was found, trail by trail; or what has to be agreed to first.

    Parameters
    ----------
    trails
        What was found.
    asks
        What costs money, with the trail; empty if nothing does, or it was agreed to.
    """

    trails: Sequence[Mapping[str, Any]]
    asks: Sequence[tuple[Trail, Consent]] = ()

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "complete": bool(self.trails) and all(trail["complete"] for trail in self.trails),
            "finished": bool(self.trails) and all(trail["finished"] for trail in self.trails),
            "trails": list(self.trails),
            "consent": [
                {**trail.fields, "what": consent.what, "bytes": consent.bytes, "dollars": consent.dollars}
                for trail, consent in self.asks
            ],
        }


def perform(request: ReconcileRequest, installation: Installation, progress: Progress) -> ReconcileResult:
    """Reconcile every trail.

    Raises
    ------
    RequestInvalid
        If the window proves nothing: it is not settled yet, or the source no longer keeps it.
    SourceError, DestinationError, StateError, LedgerError, SecretUnavailable
        If something cannot be read, or what is missing cannot be delivered.
    """
    if not request.agreed:
        asks = [
            (parts.trail, consent)
            for parts in installation.trails
            if (consent := parts.inventory.needs_consent(request.window)) is not None
        ]
        if asks:
            return ReconcileResult([], asks)
    found = []
    for index, parts in enumerate(installation.trails):
        budget = _Share(installation.budget, len(installation.trails) - index)
        outcome, checkpoint = _Reconciliation(request, parts, installation, budget, progress).run()
        result = outcome.result(checkpoint)
        outcome.place, outcome.number = parts.ledger.add_reconciliation(result)
        installation.telemetry.count(parts.trail, _metrics(outcome))
        _warn(outcome, installation.telemetry)
        found.append({**parts.trail.fields, **result, "number": outcome.number, "place": outcome.place})
    return ReconcileResult(found)


def _warn(outcome: Reconciled, telemetry: Telemetry) -> None:
    if outcome.still_missing:
        telemetry.warning(
            "ENTRIES_MISSING",
            f"{outcome.still_missing} entries that the gateway shows are missing in {outcome.trail}. Deliver them with "
            f"`reconcile --repair` while it has them. {outcome.place} names them.",
        )
    if not outcome.is_finished:
        telemetry.warning(
            "RECONCILE_UNFINISHED",
            f"The time was used up when {outcome.trail} was compared until {utc(outcome.covered_until)}. Reconcile the "
            "rest of the window from there.",
        )


def _metrics(outcome: Reconciled) -> Mapping[str, int]:
    counts = (outcome.still_missing, outcome.doubled, outcome.extra, int(outcome.is_finished))
    return {name: count for name, count in zip(METRICS, counts, strict=True) if count is not None}


class _Share:
    """The time of a trail, less what is left for the trails that come after."""

    def __init__(self, budget: TimeBudget, trails_left: int) -> None:
        self._budget = budget
        seconds = budget.remaining_seconds()
        self._kept_seconds = seconds * (1 - 1 / trails_left) if math.isfinite(seconds) else 0.0

    def remaining_seconds(self) -> float:
        return self._budget.remaining_seconds() - self._kept_seconds


class _Reconciliation:
    """The reconciliation of one trail."""

    def __init__(
        self,
        request: ReconcileRequest,
        parts: TrailParts,
        installation: Installation,
        budget: TimeBudget,
        progress: Progress,
    ) -> None:
        self._budget = budget
        self._request = request
        self._parts = parts
        self._installation = installation
        self._progress = progress
        self._inventory: Inventory = parts.inventory
        self._source = parts.source
        self._guard = RunGuard(budget, NoLock(), installation.clock, FOR_READING)
        self._checkpoint = parts.ledger.load_checkpoint()
        self._settled: dict[QuarantineState, dict[bytes, str]] = {}
        self._rule_of = parts.plan.exclusion.rule_of
        self._undated: set[bytes] = set()
        self._time_is_up = False
        basis = self._inventory.basis
        known = None if basis is Basis.MARKS else 0
        window = request.window
        self._outcome = Reconciled(parts.trail, window, basis, window.after, doubled=known, extra=known)

    def run(self) -> tuple[Reconciled, Checkpoint]:
        """Reconcile, as far as the time allows."""
        window, outcome = self._request.window, self._outcome
        if self._request.repair and outcome.basis is Basis.MARKS:
            problem = (
                "repair: is not possible by marks: what lost its mark would be delivered again. Sweeps deliver what is "
                "not marked. Set EVENT_DATA_STORE to compare with CloudTrail Lake itself."
            )
            raise RequestInvalid([problem])
        self._check_window(window)
        for state in QuarantineState:
            names = self._parts.ledger.names_in_quarantine(state)
            self._settled[state] = {name_digest(name): name for name in names}
        if not self._request.repair:
            self._compare_all(window)
            return outcome, self._checkpoint
        outcome.repair = Repair()
        # Nobody else may deliver what is found missing, from the moment on that it is.
        lock = self._parts.lock
        if not lock.acquire():
            raise StateError(f"A run of {self._parts.trail} is at work. Repair when it has ended.")
        try:
            self._leave_to_backfill(window, lock.backfilled_until())
            self._parts.seen.open()
            self._compare_all(window)
        finally:
            lock.release()
        return outcome, self._checkpoint

    def _leave_to_backfill(self, window: Window, backfilled_until: int | None) -> None:
        """Raise `StateError` if a backfill is at work that may be about to deliver what is missing in the window."""
        if backfilled_until is not None and window.after < backfilled_until:
            raise StateError(
                f"A backfill of {self._parts.trail} is at work on entries from before {utc(backfilled_until)}. Repair "
                "when it has ended: half a minute after its last call."
            )

    # -- which windows prove something

    def _check_window(self, window: Window) -> None:
        """Raise `RequestInvalid` if the window proves nothing, and say which one would."""
        now = int(self._installation.clock.now())
        gateway = self._source.describe()
        ahead_seconds = self._checkpoint.gateway_ahead_seconds
        bounds = Bounds.of(now, gateway.clock, gateway_ahead_seconds=ahead_seconds)
        if not self._source.filters_by_time(bounds.latest + FUTURE_SECONDS):
            problem = (
                "The gateway ignores time filters, so a window of it cannot be read. Upgrade it: 3.4.3.9, 3.5.0.5, "
                "3.6.1.5, 3.7.0.0 and later have them."
            )
            raise RequestInvalid([problem])
        self._check_rules()
        settled_until = self._settled_until(bounds)
        if window.before is None or window.before > settled_until:
            problem = (
                f"before: entries are settled up to {utc(settled_until)}. Later ones may not be delivered yet, or may "
                "still become visible. Give that moment, or an earlier one."
            )
            raise RequestInvalid([problem])
        self._check_beginning(window, self._retained_from(window, bounds))

    def _check_rules(self) -> None:
        """Raise `RequestInvalid` unless what is left out here is what runs leave out.

        Under other rules, holes would count as left out; or what was left out as missing, and be delivered by a repair.
        """
        here, of_runs = self._parts.plan.exclusion.names, self._checkpoint.excluded.rules
        if here == of_runs or self._checkpoint.first_run_at is None:
            return
        problem = (
            f"The rules that leave entries out are others here ({', '.join(here) or 'none'}) than in the newest run "
            f"({', '.join(of_runs) or 'none'}). Set the EXCLUDE variables that the runs have, or let a run begin with "
            "these."
        )
        raise RequestInvalid([problem])

    def _check_beginning(self, window: Window, retained_from: int) -> None:
        """Raise `RequestInvalid` if the window begins before what was to be delivered, or is still retained."""
        skipped = self._never_read(window)
        delivered_from = skipped[-1].before or 0 if skipped else 0
        if window.after >= max(retained_from, delivered_from):
            return
        if retained_from >= delivered_from:
            problem = (
                f"{utc(retained_from)} is the earliest moment that proves something: older entries may have expired."
            )
        else:
            first = "" if delivered_from == window.before else f"{utc(delivered_from)} is the earliest moment here: "
            problem = (
                f"{first}the trail begins at {utc(self._begins_at)}, and no backfill has delivered all that is older. "
                "`backfill` does, as long as Kong has it."
            )
        raise RequestInvalid([f"after: {problem}"])

    def _never_read(self, window: Window) -> list[Window]:
        """Return what of a window is older than the trail, and was not delivered by a backfill either."""
        if window.after >= self._begins_at:
            return []
        older = Window(window.after, min(window.before or self._begins_at, self._begins_at))
        return without([older], self._parts.ledger.backfilled())

    @property
    def _begins_at(self) -> int:
        return self._checkpoint.begins_at or 0

    def _settled_until(self, bounds: Bounds) -> int:
        checkpoint = self._checkpoint
        caught_up = checkpoint.caught_up_at
        known = [
            moment
            # When everything was read, by the gateway's clock.
            for moment in (
                checkpoint.complete_until,
                None if caught_up is None else caught_up + bounds.gateway - bounds.now,
            )
            if moment is not None
        ]
        if not known:
            raise RequestInvalid(
                ["No run has delivered anything yet, or LEDGER is not set: nothing can be reconciled."]
            )
        return max(min(max(known), bounds.earliest) - self._parts.plan.overlap_seconds, 0)

    def _retained_from(self, window: Window, bounds: Bounds) -> int:
        """Return the earliest request time of which the source still shows everything.

        That older entries are there proves nothing: one may have a wrong date.
        """
        for asked in (window, Window(window.after, None)):
            page = next(self._source.pages(asked), None)
            # What has lived as long as such an entry will live expires now.
            expiring = [
                entry.timestamp - entry.remaining_seconds
                for entry in (() if page is None else page.entries)
                if entry.timestamp is not None and entry.timestamp <= bounds.gateway
            ]
            if expiring:
                return max(*expiring, 0) + RETENTION_MARGIN_SECONDS
        return max(bounds.gateway - _SURELY_RETAINED_SECONDS, 0)

    # -- slice by slice

    def _compare_all(self, window: Window) -> None:
        outcome = self._outcome
        self._inventory.begin(window)
        slices = _Slices(window, self._inventory.grain_seconds)
        for piece in slices:
            try:
                if self._guard.remaining_seconds() < 0:
                    raise self._guard.time_is_up()
                slices.had(self._compare(piece))
            except TimeBudgetReached:
                if outcome.covered_until == window.after:
                    raise TimeBudgetReached(
                        "The time was used up before anything was compared. Give the function more time, or do it on "
                        "this machine: --here."
                    ) from None
                break
            outcome.covered_until = piece.before or 0
            self._progress("entries", outcome.shown, None)
            if self._time_is_up:
                break
        outcome.bytes_scanned = self._inventory.bytes_scanned()

    def _compare(self, piece: Window) -> int:
        """Compare a slice, and add to the outcome; return the number of records that the source showed."""
        tally, found = Tally(), _Found()
        undated = self._show(piece, tally, found)
        for identities in self._inventory.held(piece):
            tally.hold(identities)
        if undated:
            for identities in self._inventory.held_without_time():
                tally.hold(undated.intersection(identities))
        for shown, differences in tally.compare():
            found.shown += shown
            for difference in differences:
                self._judge(difference, found)
        found.released.difference_update(one.name for one in found.absent)
        self._add(piece, found)
        return tally.records

    def _show(self, piece: Window, tally: Tally, found: _Found) -> set[bytes]:
        """Read a slice from the source; return the identities of its entries without a request time."""
        undated = set()
        released = self._settled[QuarantineState.RELEASED]
        for page in self._pages(piece, found):
            for entry in page.entries:
                identity, name = self._inventory.identify(entry)[0], name_digest(_quarantine_name(entry))
                if entry.timestamp is None:
                    if name in self._undated:  # it may be shown in every window
                        continue
                    self._undated.add(name)
                    undated.add(identity)
                if name in released:
                    found.released.add(name)
                tally.show(identity, name, entry.timestamp, is_excluded=self._rule_of(entry) is not None)
            for identities in self._inventory.held_of(page.entries):
                tally.hold(identities)
        return undated

    def _pages(self, piece: Window, found: _Found) -> Iterator[Page]:
        for page in self._source.pages(piece):
            if not page.as_asked:
                raise SourceUnavailable(
                    "The gateway's answers do not match the requests: its nodes run different releases, or a proxy "
                    "answers in its place. Reconcile when all answers match."
                )
            if page.gap is not None:
                found.gaps.append(page.gap)
            yield page
            if page.is_last:
                return
            if self._guard.remaining_seconds() < 0:
                raise self._guard.time_is_up()

    def _judge(self, difference: Difference, found: _Found) -> None:
        shown, copies = difference.shown, difference.copies
        if not shown:
            found.extra.append(difference.identity)
        elif copies > len(shown):
            found.doubled.append(difference)
        else:
            # Of entries that only their name tells apart, it is not known which ones are held.
            lacking = len(shown) - copies
            absent: list[ShownEntry] = []
            for one in shown:
                if lacking and self._is_accounted_for(one, found):
                    lacking -= 1
                else:
                    absent.append(one)
            found.absent += absent[:lacking]

    def _is_accounted_for(self, one: ShownEntry, found: _Found) -> bool:
        for state, names in (
            (QuarantineState.QUARANTINED, found.quarantined),
            (QuarantineState.DISCARDED, found.discarded),
        ):
            if (name := self._settled[state].get(one.name)) is not None:
                names.append(name)
                return True
        found.excluded += one.is_excluded
        return one.is_excluded

    # -- what a slice adds to the outcome

    def _add(self, piece: Window, found: _Found) -> None:
        outcome = self._outcome
        missing = self._look_again(piece, found)
        outcome.shown += found.shown
        outcome.missing += len(found.absent)
        outcome.unreadable += len(found.gaps)
        outcome.quarantined += len(found.quarantined)
        outcome.discarded += len(found.discarded)
        outcome.released += len(found.released)
        outcome.excluded += found.excluded
        self._name(outcome.missing_entries, missing)
        self._name(outcome.quarantined_entries, self._reasons(found.quarantined, QuarantineState.QUARANTINED))
        self._name(outcome.discarded_entries, self._reasons(found.discarded, QuarantineState.DISCARDED))
        if outcome.doubled is None or outcome.extra is None:
            return
        outcome.doubled += len(found.doubled)
        outcome.extra += len(found.extra)
        wanted = [one.identity for one in found.doubled] + found.extra
        if not wanted or len(outcome.doubled_entries) + len(outcome.extra_entries) >= 2 * MOST_NAMED:
            return
        names = self._inventory.names(piece, frozenset(wanted[: 2 * MOST_NAMED]))
        self._name(
            outcome.doubled_entries,
            (
                {"id": names.get(one.identity, one.identity.hex()), "copies": one.copies, "expected": len(one.shown)}
                for one in found.doubled
            ),
        )
        self._name(outcome.extra_entries, ({"id": names.get(one, one.hex())} for one in found.extra))

    @staticmethod
    def _name(named: list[dict[str, Any]], further: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> None:
        for one in further:
            if len(named) >= MOST_NAMED:
                return
            named.append(one)

    def _reasons(self, names: Sequence[str], state: QuarantineState) -> Iterator[dict[str, Any]]:
        for name in names:
            record = self._parts.ledger.read_quarantined(name, state)
            code = None if record is None else record.code
            reason = {} if state is QuarantineState.QUARANTINED else {"reason": record.reason if record else None}
            yield {"name": name, "code": code, **reason}

    def _look_again(self, piece: Window, found: _Found) -> list[dict[str, Any]]:
        """Read what is missing once more: to name it, and to deliver it if that was asked for."""
        outcome = self._outcome
        if not found.absent or (len(outcome.missing_entries) >= MOST_NAMED and outcome.repair is None):
            return []
        wanted = {(one.identity, one.name): one for one in found.absent}
        named: list[dict[str, Any]] = []
        with (
            _Delivering(self._parts, self._installation, self._budget, piece)
            if outcome.repair is not None
            else _Nothing() as delivering
        ):
            for window in _windows_of(found.absent, piece):
                for page in self._pages(window, _Found()):
                    entries = []
                    for entry in page.entries:
                        key = (self._inventory.identify(entry)[0], name_digest(_quarantine_name(entry)))
                        if wanted.pop(key, None) is not None:
                            entries.append(entry)
                    named += [_missing(entry) for entry in entries]
                    delivering.take(entries)
        if outcome.repair is not None:
            repair, report = outcome.repair, delivering.report
            repair.delivered += report.delivered
            repair.quarantined += report.quarantined
            repair.failed += len(found.absent) - report.delivered - report.quarantined
            if isinstance(delivering.problem, TimeBudgetReached):
                self._time_is_up = True
            elif delivering.problem is not None:
                raise delivering.problem
        # Those that the source has stopped to show meanwhile have no other name.
        return named + [{"id": one.identity.hex(), "request_time": _time(one.second)} for one in wanted.values()]


@dataclass(slots=True)
class _Found:
    """What was found in a slice."""

    shown: int = 0
    absent: list[ShownEntry] = field(default_factory=list)
    doubled: list[Difference] = field(default_factory=list)
    extra: list[bytes] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)
    released: set[bytes] = field(default_factory=set)
    gaps: list[Gap] = field(default_factory=list)
    excluded: int = 0


class _Slices:
    """Cuts a window into slices, oldest first, about as long as `_TARGET_SLICE_ENTRIES` take."""

    def __init__(self, window: Window, grain_seconds: int) -> None:
        self._window = window
        self._grain_seconds = grain_seconds
        self._width_seconds = _FIRST_SLICE_SECONDS

    def __iter__(self) -> Iterator[Window]:
        after, end = self._window.after, self._window.before or 0
        while after < end:
            before = (after + self._width_seconds) // self._grain_seconds * self._grain_seconds
            before = min(max(before, after // self._grain_seconds * self._grain_seconds + self._grain_seconds), end)
            yield Window(after, before)
            after = before

    def had(self, records: int) -> None:
        """Record how many records the last slice had. This determines the width of the next one."""
        factor = min(_GREATEST_GROWTH, _TARGET_SLICE_ENTRIES / max(records, 1))
        self._width_seconds = int(min(max(self._width_seconds * factor, 1), _LONGEST_SLICE_SECONDS))


class _Nothing:
    """Delivers nothing."""

    report = RunReport(Trail("", "", ""))
    problem: CollectorError | None = None

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None: ...

    def take(self, entries: Sequence[Entry]) -> None: ...


class _Delivering:
    """Delivers entries as a run does, and adds a run report to the chain.

    The marks are not asked, as an entry may be marked and missing all the same. A destination that excludes doubles by
    itself still does.
    """

    def __init__(self, parts: TrailParts, installation: Installation, budget: TimeBudget, window: Window) -> None:
        plan = parts.plan
        self.report = RunReport(parts.trail, plan.run_id, window)
        self.problem: CollectorError | None = None
        self._progress = RunProgress(
            parts.ledger,
            keep=plan.keep_checkpoint,
            overlap_seconds=plan.overlap_seconds,
            sweep_seconds=plan.sweep_seconds,
            may_overlap=True,  # the report is added beside whatever runs save
            report=self.report,
        )
        self._destination = parts.destination
        gateway = parts.source.describe()
        self._delivery = Delivery(
            destination=parts.destination,
            seen=parts.seen,
            ledger=parts.ledger,
            guard=RunGuard(budget, parts.lock, installation.clock, FOR_DELIVERING),
            clock=installation.clock,
            gateway=gateway,
            report=self.report,
            telemetry=installation.telemetry,
            parallel_deliveries=plan.parallel_deliveries,
            mark_margin_seconds=MARK_MARGIN_SECONDS + 2 * plan.overlap_seconds,
        )
        self._intake = Intake(
            parts.destination.mapper(gateway),
            parts.source.complete,
            parts.destination.packer(),
            _Unseen(parts.seen),
            self._delivery,
            self.report,
            overlap_seconds=plan.overlap_seconds,
            exclusion=Exclusion(),  # what is left out is not missing
            excluded=Excluded(),
        )

    def __enter__(self) -> _Delivering:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if kind is None:
                self._intake.end_stretch()
        finally:
            self._delivery.close()
        report = self.report
        report.failed = report.fetched - report.duplicates - report.delivered - report.quarantined
        report.finished = not report.failed
        self._progress.save(self._destination.findings() or Findings())
        problems = [self._delivery.stopped_by, *self._delivery.problems]
        self.problem = next((problem for problem in problems if problem is not None), None)

    def take(self, entries: Sequence[Entry]) -> None:
        """Deliver entries."""
        if entries:
            self._intake.take(entries)
            self._delivery.check()


class _Unseen:
    """Marks of which nobody is asked."""

    def __init__(self, seen: SeenSet) -> None:
        self.open = seen.open
        self.expect = seen.expect
        self.look = seen.look
        self.mark = seen.mark

    def seen(self, entries: Sequence[Entry]) -> set[str]:
        return set()


def _windows_of(absent: Sequence[ShownEntry], piece: Window) -> list[Window]:
    """Return the windows to read for some entries: a few single seconds, or the whole slice."""
    seconds = {one.second for one in absent}
    if len(seconds) > _FEW_SECONDS or min(seconds) < 0:
        return [piece]
    return [Window(second, second + 1) for second in sorted(seconds)]


def _quarantine_name(entry: Entry) -> str:
    """Return the name that an entry has in quarantine."""
    return entry.key.replace(":", "-")


def _missing(entry: Entry) -> dict[str, Any]:
    return {"id": entry.id, "request_time": None if entry.timestamp is None else utc(entry.timestamp)}


def _time(second: int) -> str | None:
    return None if second < 0 else utc(second)


VERB = Verb(ReconcileRequest.read, perform)
