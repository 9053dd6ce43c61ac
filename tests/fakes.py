"""The world of the collector in memory: what it reads, where it delivers, what it remembers, and how it dies.

Each fake does what its port promises and records what was asked of it. `World` holds the state that outlives a run, so
that a test can run again with what a failed run left behind.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kong_cloudtrail.destinations.cloudtrail.destination import CloudTrailLake, read_answer
from kong_cloudtrail.destinations.cloudtrail.event import EventMapper
from kong_cloudtrail.destinations.cloudtrail.packer import Packer
from kong_cloudtrail.domain.checkpoint import CacheState
from kong_cloudtrail.domain.entry import Entry
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.domain.gateway import Gateway
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.domain.trail import Trail
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import LedgerError, LockLost, SeenSetUnavailable, SourceUnavailable
from kong_cloudtrail.ports import Answer, Gap, Page, Stored, TimeBudget
from kong_cloudtrail.run.collector import Collector
from kong_cloudtrail.run.guard import FOR_DELIVERING, FOR_READING, RunGuard
from kong_cloudtrail.run.plan import Plan
from kong_cloudtrail.sources.kong.entries import read_entries, read_entry
from kong_cloudtrail.state.ledger import Ledger

from tests.helpers import ACCOUNT_ID, GATEWAY, NOW, Budget, FakeClock

SOURCE_NAME = "kong-test"
TRAIL = Trail(SOURCE_NAME, "requests", "cloudtrail-lake")

_cache_ids = itertools.count(1)


class Death(BaseException):
    """The process is killed: nobody catches this, and nobody tidies up after it."""


class Life:
    """Counts the steps at which a process may be killed, and kills it at one of them; dead is dead in all threads."""

    def __init__(self, dies_at: int | None = None) -> None:
        self._dies_at = dies_at
        self._lock = threading.Lock()
        self.steps = 0
        self.is_over = False

    def step(self) -> None:
        with self._lock:
            self.steps += 1
            if self.is_over or self.steps == self._dies_at:
                self.is_over = True
                raise Death


class Kong:
    """Entries, shown in pages: filtered by time and newest first, or as they stand, like a gateway without filters.

    With filters and not newest first, they come in an order that has nothing to do with time, as changes of objects do:
    what is recorded while a window is read may come before or after the rows that were shown.
    """

    def __init__(
        self,
        entries: Iterable[object] = (),
        *,
        filters: bool = True,
        newest_first: bool = True,
        page_size: int = 2,
    ) -> None:
        self.newest_first = newest_first
        self.own_clock: Callable[[], int] = lambda: NOW
        self.entries: list[object] = list(entries)
        self.now = NOW
        self.clock: Callable[[], int | None] = lambda: self.now
        self.version = GATEWAY.version
        self.filters = filters
        self.page_size = page_size
        self.fails_at_page: int | None = None
        self.is_down_from_page: int | None = None
        self.poison: Callable[[object], bool] = lambda row: False
        self.hides: Callable[[object], bool] = lambda row: False
        self.ignores_filter_at_page: int | None = None
        self.proves_nothing = False
        self.windows_show_all = True
        self.pages_read = 0
        self.windows: list[Window | None] = []
        self.life = Life()

    def describe(self) -> Gateway:
        self.life.step()
        return Gateway(self.version, GATEWAY.hostname, self.clock())

    def filters_by_time(self, later: int) -> bool:
        self.life.step()
        return self.filters

    def has_entries_before(self, timestamp: int) -> bool:
        self.life.step()
        return bool(self._within(Window(-(10**12), timestamp)))

    def pages(self, window: Window | None, resume: str | None = None) -> Iterator[Page]:
        self.windows.append(window)
        window = window if self.filters else None
        any_order = window is not None and not self.newest_first
        if window is not None and any_order:
            bound, _, resume = (resume or "|").partition("|")
            window = self._bounded(window, bound)
        rows = self._within(window)
        names = [repr(row) for row in rows]
        start = names.index(resume) + 1 if resume in names else 0
        gap: Gap | None = None
        while True:
            self.life.step()
            self.pages_read += 1
            is_down = self.is_down_from_page is not None and self.pages_read >= self.is_down_from_page
            if is_down or self.pages_read == self.fails_at_page:
                raise SourceUnavailable("Kong is down.")
            if self.pages_read == self.ignores_filter_at_page:
                yield Page(read_entries(self.entries[: self.page_size]), None, is_last=True, as_asked=False)
                return
            shown = rows[start : start + self.page_size]
            poison = next((index for index, row in enumerate(shown) if self.poison(row)), None)
            begin = start
            start += len(shown)
            following_gap = None
            if poison is not None:
                start += poison + 1 - len(shown)
                at = _timestamp(shown[poison])
                if window is None:
                    where = None
                else:
                    where = (
                        Window(window.after, window.before or self._latest() + 1) if any_order else Window(at, at + 1)
                    )
                following_gap = Gap(where, "status 500")
                shown = shown[:poison]
            is_last = start >= len(rows) and following_gap is None
            # Whoever continues after a page that ends before a row that cannot be read meets that row again.
            done = begin + len(shown) if following_gap else start
            resume = None if is_last else names[done - 1] if done else "the beginning"
            if window is not None and any_order and resume is not None:
                resume = f"{window.before or ''}|{resume}"
            yield Page(
                read_entries(shown),
                resume,
                is_last=is_last,
                gap=gap,
                as_asked=not self.proves_nothing,
                newest_first=not any_order,
            )
            if is_last:
                return
            gap = following_gap

    def complete(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        return entries

    def _bounded(self, window: Window, bound: str) -> Window:
        """Return the window without what is recorded from now on, unless one page shows all of it."""
        if window.before is not None or bound:
            return Window(window.after, int(bound) if bound else window.before)
        rows = self._within(window)
        if len(rows) <= self.page_size:
            return window
        newest = max(_timestamp(row) for row in rows[: self.page_size])
        return Window(window.after, max(self._latest(), newest) + 1)

    def _latest(self) -> int:
        return max(self.own_clock(), self.clock() or 0)

    def _within(self, window: Window | None) -> list[object]:
        shown = [row for row in self.entries if not self.hides(row)]
        if window is None:
            return shown
        before = 10**12 if window.before is None else window.before
        rows = [row for row in shown if window.after <= _timestamp(row) < before]
        if not self.newest_first:
            return sorted(rows, key=lambda row: hashlib.sha256(repr(row).encode()).digest())
        return sorted(rows, key=lambda row: -_timestamp(row))


def _timestamp(row: object) -> int:
    stamp = row.get("request_timestamp") if isinstance(row, dict) else None
    return stamp if isinstance(stamp, int) else NOW - 1


Reaction = Callable[[Sequence[Event]], Answer]
"""What CloudTrail makes of a call: an answer, or an exception."""


def accept_all(events: Sequence[Event]) -> Answer:
    return Answer(frozenset(event.id for event in events))


def refuse(code: str, *ids: str) -> Reaction:
    """Return a reaction that refuses some entries with a code, and accepts the others."""

    def react(events: Sequence[Event]) -> Answer:
        failed = [event.id for event in events if not ids or event.id in ids]
        return read_answer(
            {
                "successful": [{"id": event.id, "eventID": "1"} for event in events if event.id not in failed],
                "failed": [{"id": one, "errorCode": code, "errorMessage": f"{code} of {one}"} for one in failed],
            }
        )

    return react


def fail_with(error: Exception) -> Reaction:
    """Return a reaction that refuses the whole call."""

    def react(events: Sequence[Event]) -> Answer:
        raise error

    return react


class CloudTrail:
    """Reacts to calls as scripted, and then as it always does; remembers what it was sent and what it accepted."""

    def __init__(self) -> None:
        self.script: list[Reaction] = []
        self.always: Reaction = accept_all
        self.calls: list[list[str]] = []
        self.accepted: list[Event] = []
        self.life = Life()
        self._lock = threading.Lock()

    advice = CloudTrailLake.advice
    refuses_entries = True

    def mapper(self, gateway: Gateway) -> EventMapper:
        return EventMapper(gateway, ACCOUNT_ID, lambda entry_id, sha256: f"memory://{entry_id}-{sha256[:16]}")

    def packer(self) -> Packer:
        return Packer()

    def findings(self) -> None:
        pass

    def deliver(self, events: Sequence[Event]) -> Answer:
        with self._lock:
            self.life.step()
            self.calls.append([event.id for event in events])
            reaction = self.script.pop(0) if self.script else self.always
            answer = reaction(events)
            self.accepted += [event for event in events if event.id in answer.successful]
            self.life.step()
            return answer

    @property
    def accepted_ids(self) -> list[str]:
        return [event.id for event in self.accepted]


class Seen:
    """Marks of delivered entries."""

    def __init__(self) -> None:
        self.marks: dict[str, int] = {}
        self.cache_id = str(next(_cache_ids))
        self.marks_written = 0
        self.fails_to_tell = False
        self.fails_to_mark = False
        self.life = Life()

    def open(self) -> CacheState:
        self.life.step()
        if self.fails_to_tell:
            raise SeenSetUnavailable("Redis is down.")
        return CacheState(self.cache_id, self.marks_written)

    def expect(self, entries: Sequence[Entry]) -> None:
        pass

    def look(self) -> CacheState:
        self.life.step()
        return CacheState(self.cache_id, self.marks_written)

    def seen(self, entries: Sequence[Entry]) -> set[str]:
        self.life.step()
        if self.fails_to_tell:
            raise SeenSetUnavailable("Redis is down.")
        return self.marks.keys() & {entry.key for entry in entries}

    def mark(self, entries: Sequence[Entry], lifetime_seconds: int) -> None:
        self.life.step()
        if self.fails_to_mark:
            raise SeenSetUnavailable("Redis is down.")
        self.marks |= dict.fromkeys((entry.key for entry in entries), lifetime_seconds)
        self.marks_written += len(entries)
        self.life.step()

    def lose_everything(self) -> None:
        self.marks, self.cache_id, self.marks_written = {}, str(next(_cache_ids)), 0


class Store:
    """A ledger's objects in a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refuses: Callable[[str], bool] = lambda name: False
        self.is_read_only = False
        self.life = Life()

    def locate(self, name: str) -> str:
        return f"memory://{name}"

    def read(self, name: str) -> Stored | None:
        self._step(name)
        body = self.objects.get(name)
        return None if body is None else Stored(body, _version(body))

    def write(self, name: str, body: bytes) -> None:
        self._step(name, writes=True)
        self.objects[name] = body
        self.life.step()

    def write_if(self, name: str, body: bytes, version: str | None) -> str | None:
        self._step(name, writes=True)
        stored = self.objects.get(name)
        if (None if stored is None else _version(stored)) != version:
            return None
        self.objects[name] = body
        self.life.step()
        return _version(body)

    def remove(self, name: str) -> None:
        self._step(name, writes=True)
        self.objects.pop(name, None)

    def names(self, prefix: str) -> Iterator[str]:
        self._step(prefix)
        yield from sorted(name for name in self.objects if name.startswith(prefix))

    def _step(self, name: str, *, writes: bool = False) -> None:
        self.life.step()
        if self.refuses(name) or (writes and self.is_read_only):
            raise LedgerError(f"The ledger is down for {name}.")

    def documents(self, prefix: str) -> list[dict[str, Any]]:
        return [json.loads(self.objects[name]) for name in self.names(prefix)]


def _version(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


_run_ids = itertools.count(1)


class Lock:
    """A lock that another run may hold, or that gets lost after some looks."""

    def __init__(self, *, held_by_another: bool = False) -> None:
        self.held_by_another = held_by_another
        self.lost_after_checks: int | None = None
        self.checks = 0
        self.released = False
        self.backfilled: int | None = None

    def acquire(self) -> bool:
        return not self.held_by_another

    def check(self) -> None:
        self.checks += 1
        if self.lost_after_checks is not None and self.checks > self.lost_after_checks:
            raise LockLost("The lock is lost.")

    def release(self) -> None:
        self.released = True

    def backfilled_until(self) -> int | None:
        return self.backfilled

    def must_wait(self) -> bool:
        return False


class Telemetry:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.published: list[RunReport] = []
        self.counted: list[tuple[Trail, dict[str, int]]] = []

    @property
    def codes(self) -> list[str]:
        return [code for code, _ in self.told]

    def info(self, code: str, message: str, **details: Any) -> None:
        self.told.append((code, message))

    def warning(self, code: str, message: str, **details: Any) -> None:
        self.told.append((code, message))

    def progress(self, report: RunReport) -> None:
        pass

    def publish(self, report: RunReport) -> None:
        self.published.append(report)

    def count(self, trail: Trail, counts: Mapping[str, int]) -> None:
        self.counted.append((trail, dict(counts)))


@dataclass
class World:
    """Everything that a run works with, and that outlives it."""

    kong: Kong = field(default_factory=Kong)
    cloudtrail: CloudTrail = field(default_factory=CloudTrail)
    seen: Seen = field(default_factory=Seen)
    store: Store = field(default_factory=Store)
    clock: FakeClock = field(default_factory=FakeClock)
    budget: TimeBudget = field(default_factory=Budget)
    lock: Lock = field(default_factory=Lock)
    telemetry: Telemetry = field(default_factory=Telemetry)

    def live(self, dies_at: int | None = None) -> Life:
        """Begin a new life, in which the lock of the last one has expired."""
        life = Life(dies_at)
        for part in (self.kong, self.cloudtrail, self.seen, self.store):
            part.life = life
        self.lock = Lock()
        return life

    def run(self, **plan: Any) -> RunReport:
        """Do one run; raises `RunFailed` as the collector does."""
        return self.collector(**plan).run()

    def collector(self, **plan: Any) -> Collector:
        defaults: Mapping[str, Any] = {
            "trail": TRAIL,
            "run_id": f"{int(self.clock.now()):08x}-{next(_run_ids):08x}",
            "may_overlap": False,
            "keep_checkpoint": True,
            "overlap_seconds": 900,
            "sweep_seconds": 86_400,
            "initial_lookback_seconds": None,
            "parallel_deliveries": 2,
        }
        return Collector(
            Plan(**(dict(defaults) | plan)),
            source=self.kong,
            seen=self.seen,
            destination=self.cloudtrail,
            ledger=self.ledger,
            lock=self.lock,
            reading_guard=RunGuard(self.budget, self.lock, self.clock, FOR_READING),
            delivery_guard=RunGuard(self.budget, self.lock, self.clock, FOR_DELIVERING),
            telemetry=self.telemetry,
            clock=self.clock,
        )

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, TRAIL, self.clock)

    # -- what became of the entries

    @property
    def quarantined(self) -> list[dict[str, Any]]:
        return self.store.documents("quarantine/")

    @property
    def complete_until(self) -> int | None:
        return self.ledger.load_checkpoint().complete_until

    def is_marked(self, value: object) -> bool:
        return read_entry(value).key in self.seen.marks

    def is_settled(self, value: object) -> bool:
        """Tell whether an entry was accepted by CloudTrail or is whole in quarantine."""
        call_id = read_entry(value).id
        return call_id in self.cloudtrail.accepted_ids or value in [record["entry"] for record in self.quarantined]
