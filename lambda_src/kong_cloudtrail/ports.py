"""The interfaces between a run and the world: source, destination, state, time. Tests implement them in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, Any, Protocol

from .domain.checkpoint import CacheState, Checkpoint
from .domain.entry import Entry
from .domain.event import Batch, Event, Original
from .domain.gateway import Gateway
from .domain.part import Part
from .domain.report import RunReport
from .domain.trail import Trail
from .domain.window import Window

if TYPE_CHECKING:  # what verbs need and runs do not
    from .domain.backfill import Range, SliceProgress
    from .domain.finding import Finding
    from .domain.report_chain import IsSignedBy, NoteReport, ReportChain, ReportedPart


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows that the source cannot show at the moment. They are passed, and read again later.

    Parameters
    ----------
    window
        The request times of the rows; ``None`` if the gateway cannot filter, as they are unknown then.
    reason
        Why they could not be read, in a few words that may be logged.
    """

    window: Window | None
    reason: str


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the source.

    Parameters
    ----------
    entries
        The entries that it shows.
    resume
        Pass it to `Source.pages` to continue right after this page. Opaque. ``None`` for the last page.
    is_last
        Whether the reading ends with this page.
    gap
        Rows between the previous page and this one that could not be read and were passed.
    as_asked
        Whether the answer matches the request: bounds, order, size, and that the last page is the end. If not, its
        entries are real, but nothing is known about what lies between and around them.
    newest_first
        Whether the entries come newest first. If not, those that follow may have any time in the window.
    """

    entries: Sequence[Entry]
    resume: str | None
    is_last: bool
    gap: Gap | None = None
    as_asked: bool = True
    newest_first: bool = True


class Source(Protocol):
    """Where entries come from. Methods raise `SourceError` if the gateway does not answer as documented."""

    @property
    def windows_show_all(self) -> bool:
        """Whether each entry is in some window. If not, only sweeps find the others."""

    def describe(self) -> Gateway:
        """Ask for version, host name and clock. Never raises `SourceError`: a run can do without them."""

    def filters_by_time(self, later: int) -> bool:
        """Find out whether time filters work, by asking for entries from `later` (Unix seconds) on."""

    def has_entries_before(self, timestamp: int) -> bool:
        """Return whether there is any entry older than `timestamp` (Unix seconds)."""

    def pages(self, window: Window | None, resume: str | None = None) -> Iterator[Page]:
        """Read a window page by page, or everything for ``None``. The last page may be empty."""

    def complete(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return new entries with their `Entry.context`, where this source has more to say. Never raises.

        Called once for the new entries of a page, while the next page is fetched in another thread.
        """


NOT_MAPPABLE = "NotMappable"
"""The code in quarantine of an entry that could not be mapped to an event, in place of one of the destination's."""


class Verdict(Enum):
    """What a destination says about an entry that it did not accept."""

    REFUSED = auto()
    """The entry breaks a rule: it will never be accepted as it is."""
    DAMAGED = auto()
    """The entry was damaged in transit. If that happens twice, it counts as refused."""
    THROTTLED = auto()
    """The destination asks to be called less often."""
    OUTAGE = auto()
    """The destination has a temporary problem of its own."""
    UNKNOWN = auto()
    """The code is not documented."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an entry of a batch was not accepted.

    Parameters
    ----------
    code
        The destination's error code.
    message
        Its message. It may repeat content: for the quarantine, never for a log.
    verdict
        Whether trying again can help.
    """

    code: str
    message: str
    verdict: Verdict = Verdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class Answer:
    """What the destination says about a batch.

    Parameters
    ----------
    successful
        Ids that were accepted.
    failed
        Ids that were not accepted, with the reasons. An id in neither is unconfirmed.
    misconfiguration
        If nothing is accepted until somebody changes something: what to change. May be logged. Otherwise "".
    parts
        Parts that this call wrote.
    redated
        How many of those that were accepted have the time of the call, as the destination does not take their own.
    """

    successful: frozenset[str]
    failed: Mapping[str, Failure] = field(default_factory=dict)
    misconfiguration: str = ""
    parts: Sequence[Part] = ()
    redated: int = 0


@dataclass(frozen=True, slots=True)
class Advice:
    """The name of a destination in messages, and what to check when it fails. All of it may be logged.

    Parameters
    ----------
    name
        Its usual name.
    if_down
        What to check if it accepts nothing.
    if_all_refused
        What to check if it refuses every call for its content.
    if_answers_get_lost
        What to check if its answers do not arrive or cannot be read.
    if_in_doubt
        What follows if it is not known whether entries were accepted.
    """

    name: str
    if_down: str
    if_all_refused: str
    if_answers_get_lost: str
    if_in_doubt: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run came across in a destination that keeps parts.

    Parameters
    ----------
    parts
        Parts that it read or wrote.
    problems
        For each part that somebody removed or overwrote, by name: what happened, and what to do.
    may_lack_parts
        Whether it may have written a part that is not among these, or that is yet to appear: it got no answer.
    """

    parts: Sequence[Part] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    may_lack_parts: bool = False


@dataclass(frozen=True, slots=True)
class InspectedPart:
    """A part, as it is there.

    Parameters
    ----------
    name
        Its name, below the destination's prefix.
    sha256
        SHA-256 of its uncompressed content.
    entries
        Number of entries in it.
    """

    name: str
    sha256: str
    entries: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in a destination that keeps parts, compared with the run reports.

    Parameters
    ----------
    place
        Where the parts are, as a location that a person can look up.
    parts
        Number of parts that are there.
    entries
        Number of entries in them.
    doubled
        Number of entries that are there once more than they should be.
    unreported
        Parts that no report names yet, because the run that wrote them may still be at work.
    found_by_later_runs
        Parts that no report of the run that wrote them names, because that run died, but the report of a later one.
    faults
        One sentence for each part that is missing, altered, damaged or extra, and for each key that is there twice.
    contents
        The parts that could be read, if the inspection was of a window. Of all parts there may be too many.
    """

    place: str
    parts: int
    entries: int
    doubled: int
    unreported: int
    found_by_later_runs: int
    faults: tuple[str, ...]
    contents: tuple[InspectedPart, ...] = ()


TakeEntry = Callable[[Any, int | None], object]
"""Takes an entry, as the source showed it, and its time in Unix seconds, or ``None``."""


class Inspector(Protocol):
    """Inspects a destination that keeps parts."""

    def inspect(
        self,
        reported: Mapping[str, ReportedPart],
        progress: Callable[[int, int], None] = ...,
        *,
        window: Window | None = None,
        take: TakeEntry | None = None,
    ) -> Inspection:
        """Compare what is there with the parts that the run reports name.

        Parameters
        ----------
        reported
            These parts, by name.
        progress
            Called with the number of parts that are done, and of all parts.
        window
            Only the parts that may hold entries of this window; ``None``: all.
        take
            Gets each entry of these parts, in no particular order, one at a time.

        Raises
        ------
        DestinationError
            If it cannot be read.
        """


class Basis(StrEnum):
    """What a reconciliation compares the source with."""

    PARTS = "parts"
    """The parts of an archive: every copy of every entry, by its key."""
    LAKE = "lake"
    """Answers of CloudTrail Lake: every copy, by ``UID``."""
    MARKS = "marks"
    """Our own marks: what the destination has confirmed, or the ledger has in quarantine. Copies are not known."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What has to be agreed to, because it costs money.

    Parameters
    ----------
    what
        What is about to be done, in words.
    bytes
        About how much is read; ``None`` if that is not known.
    dollars
        About what it costs; ``None`` if that is not known.
    """

    what: str
    bytes: int | None
    dollars: float | None


class Inventory(Protocol):
    """What a destination holds, to be compared with what the source shows.

    Every method may raise `DestinationError`, or `StateError` if it is known by marks. It is asked for one window after
    the other, in order of time, once `begin` was called.
    """

    @property
    def basis(self) -> Basis:
        """What its answers are drawn from."""

    @property
    def grain_seconds(self) -> int:
        """Windows that begin and end at multiples of this are answered with less effort."""

    def needs_consent(self, window: Window) -> Consent | None:
        """Return what it costs to look at a window; ``None`` if that is not worth a question."""

    def begin(self, window: Window) -> None:
        """Begin to look at a window, which is then asked for piece by piece."""

    def identify(self, entry: Entry) -> tuple[bytes, str]:
        """Return the digest by which an entry is compared, and what it is the digest of."""

    def held(self, window: Window) -> Iterator[Sequence[bytes]]:
        """Return the digests of what is held of a window, each copy once."""

    def held_of(self, entries: Sequence[Entry]) -> Iterator[Sequence[bytes]]:
        """Return the digests of those of some entries that are held, if `held` cannot tell."""

    def held_without_time(self) -> Iterator[Sequence[bytes]]:
        """Return the digests of entries that are held without a usable request time."""

    def names(self, window: Window, identities: Collection[bytes]) -> Mapping[bytes, str]:
        """Return what some digests of a window are the digests of, as far as it is known."""

    def bytes_scanned(self) -> int | None:
        """Return how much somebody bills for; ``None`` if nobody does."""


class Reports(Protocol):
    """The run reports of one trail, and the results of its reconciliations."""

    def read_reports(self, is_signed: IsSignedBy | None = None, note: NoteReport | None = None) -> ReportChain:
        """Read and check them; `note` gets each. Raises `LedgerError`."""

    def newest_report(self, checkpoint: Checkpoint) -> Mapping[str, Any] | None:
        """Return the fields of the newest one that a checkpoint knows; ``None`` if there is none, or it is no report.

        Raises `LedgerError`.
        """

    def read_reconciliations(self, is_signed: IsSignedBy | None = None, note: NoteReport | None = None) -> ReportChain:
        """Read and check the results of reconciliations; `note` gets each. Raises `LedgerError`."""

    def trails_beside(self) -> Sequence[str]:
        """Return the other trails of the same source that the ledger knows, as `Trail.path`. Raises `LedgerError`."""


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """A change of an alarm's state.

    Parameters
    ----------
    alarm
        The alarm's name.
    at
        When, Unix seconds.
    state
        The new state: ``ALARM``, ``OK`` or ``INSUFFICIENT_DATA``.
    """

    alarm: str
    at: float
    state: str


@dataclass(frozen=True, slots=True)
class AlarmRecord:
    """What is known of the alarms of an installation in a window.

    Parameters
    ----------
    alarms
        Their names.
    known_since
        Unix seconds: earlier changes are not kept.
    changes
        The changes in the window, oldest first.
    """

    alarms: Sequence[str]
    known_since: float
    changes: Sequence[AlarmChange]


class AlarmHistory(Protocol):
    """The changes of the alarms of an installation."""

    def record(self, window: Window) -> AlarmRecord:
        """Return what is known of them in a window. Raises `CollectorError`."""


class Reconciliations(Protocol):
    """Where the results of reconciliations are kept."""

    def add_reconciliation(self, result: Mapping[str, Any]) -> tuple[str, int]:
        """Add a result to its chain; return where it is and its number. Raises `LedgerError`."""


class Signer(Protocol):
    """Signs run reports."""

    def sign(self, body: bytes) -> bytes:
        """Return the signature of a report. Raises `LedgerError`."""


class Mapper(Protocol):
    """Maps the entries of one gateway to events."""

    def map(self, entry: Entry) -> Event:
        """Return the event of an entry. Raises `EntryNotMappable` if a required field would have to be invented."""


class Packer(Protocol):
    """Packs events into batches within the limits of a call."""

    def add(self, event: Event) -> Batch | None:
        """Add an event; return the batch that it completes, or the one that it no longer fits into, if any."""

    def flush(self) -> Batch | None:
        """Return one of the batches that are not complete; ``None`` if there are no more."""


class Destination(Protocol):
    """Where entries are kept. Only the folder of a destination knows its format, limits and codes."""

    @property
    def advice(self) -> Advice:
        """Its name in messages, and what to check when it fails."""

    @property
    def refuses_entries(self) -> bool:
        """Whether it may refuse single entries. If not, nothing goes to quarantine."""

    def mapper(self, gateway: Gateway) -> Mapper:
        """Return a mapper for the entries of a gateway."""

    def packer(self) -> Packer:
        """Return an empty packer."""

    def deliver(self, events: Sequence[Event]) -> Answer:
        """Deliver one batch, in one call.

        Raises
        ------
        DestinationError
            If the call as a whole was not accepted, or if that is unknown: `DestinationUnavailable.maybe_accepted`.
        """

    def findings(self) -> Findings | None:
        """Return what this run came across; ``None`` if the destination does not show what it holds."""


class SeenSet(Protocol):
    """Which entries were delivered already.

    Every method may raise `SeenSetUnavailable`, or `DestinationMisconfigured` if the destination tells what it holds.
    """

    def open(self) -> CacheState:
        """Identify the cache, and reserve memory for the marks of everything in flight. Raises `CacheFull`."""

    def expect(self, entries: Sequence[Entry]) -> None:
        """Fetch what `seen` will need for these entries, if that is not known yet. Called in another thread."""

    def look(self) -> CacheState:
        """Identify the cache without writing anything."""

    def seen(self, entries: Sequence[Entry]) -> set[str]:
        """Return the keys of the entries that are marked, with as few round trips as possible."""

    def mark(self, entries: Sequence[Entry], lifetime_seconds: int) -> None:
        """Mark entries, with one round trip, for `lifetime_seconds` at least. Raises `CacheFull`."""


class HeldLock(Protocol):
    """A lock, for whoever works under it."""

    def check(self) -> None:
        """Raise `LockLost` unless the lock is still held."""


class RunLock(HeldLock, Protocol):
    """Lets one run at a time work on a trail."""

    def acquire(self) -> bool:
        """Take the lock; ``False`` if another run holds it. Raises `SeenSetUnavailable`."""

    def release(self) -> None:
        """Release the lock if it is still held; never raises."""

    def backfilled_until(self) -> int | None:
        """Return where the range of a backfill ends that is at work here, Unix seconds; ``None``: there is none.

        The run has to leave everything older to the backfill: neither of the two knows what the other has in flight.
        Raises `SeenSetUnavailable`.
        """


class SliceLock(HeldLock, Protocol):
    """Lets one call at a time work on a slice of a backfill, beside runs, which leave its range alone meanwhile."""

    def acquire(self) -> bool:
        """Take the lock; ``False`` if another call holds it.

        Raises
        ------
        RequestInvalid
            If a backfill of another range is at work on the trail.
        SeenSetUnavailable
            If the cache does not answer.
        """

    def must_wait(self) -> bool:
        """Return whether a run is still at work that began before it could know of this backfill."""

    def release(self) -> None:
        """Release the lock if it is still held; never raises."""


class Keeping(Protocol):
    """What a delivery keeps in the ledger. Every method may raise `LedgerError`."""

    def keep_original(self, original: Original) -> None:
        """Keep a whole entry, before its shortened event is delivered."""

    def quarantine(self, entry: Entry, gateway: Gateway, failure: Failure, attempts: int) -> str:
        """Keep an entry that cannot be delivered, with the reason; return a location that a person can look up."""


class Ledger(Keeping, Protocol):
    """The durable state of one trail. Every method may raise `LedgerError`."""

    def load_checkpoint(self) -> Checkpoint:
        """Return the checkpoint; an empty one if none was written yet."""

    def save_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        """Write a checkpoint over the one that it was derived from; return it with its new version.

        Raises
        ------
        CheckpointConflict
            If another run has written one since.
        """

    def add_report(self, report: RunReport, checkpoint: Checkpoint) -> Checkpoint:
        """Add a run's report to the chain; return the checkpoint that refers to it, not yet saved."""

    def quarantine_size(self, at_most: int) -> int:
        """Return the number of entries in quarantine; counting stops at `at_most`."""


class BackfillLedger(Ledger, Protocol):
    """The durable state of one trail, with the progress of backfills. Every method may raise `LedgerError`."""

    def load_slice(self, backfill: Range, part: Range) -> SliceProgress:
        """Return how far a slice of a backfill is done; an empty progress if it was not begun."""

    def backfilled(self) -> Sequence[Window]:
        """Return the slices of all backfills that were read to their end, in the order of time."""

    def save_slice(self, backfill: Range, part: Range, progress: SliceProgress) -> SliceProgress:
        """Write the progress of a slice over the one that it was derived from; return it with its new version.

        Raises
        ------
        CheckpointConflict
            If another call has written one since.
        """


class QuarantineState(StrEnum):
    """What has become of an entry that could not be delivered."""

    QUARANTINED = "quarantined"
    """It is in quarantine."""
    RELEASED = "released"
    """It was delivered from there."""
    DISCARDED = "discarded"
    """Somebody has decided that it stays undelivered."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An entry that could not be delivered, as the ledger keeps it.

    Parameters
    ----------
    name
        Its name in the quarantine of its trail.
    state
        Where it is now.
    entry
        The whole entry.
    gateway
        The gateway that showed it.
    code, message
        Why it could not be delivered. The message may repeat content.
    attempts
        How often it was sent; 0 if it could not be mapped.
    since
        When it was put into quarantine, Unix seconds.
    left_at
        When it left the quarantine, Unix seconds; ``None`` if it is there.
    reason
        Why somebody discarded it; empty otherwise.
    size_bytes
        Size of the record.
    """

    name: str
    state: QuarantineState
    entry: Entry
    gateway: Gateway
    code: str
    message: str
    attempts: int
    since: float
    left_at: float | None
    reason: str
    size_bytes: int


class Quarantine(Protocol):
    """The quarantine of one trail. Every method may raise `LedgerError`."""

    def names_in_quarantine(self, state: QuarantineState = ...) -> Iterator[str]:
        """Return the names of the entries in a state, sorted."""

    def read_quarantined(self, name: str, state: QuarantineState = ...) -> Quarantined | None:
        """Return an entry; ``None`` if there is none of this name in this state."""

    def keep_original(self, original: Original) -> None:
        """Keep a whole entry, before its shortened event is delivered."""

    def release(self, name: str) -> None:
        """Move an entry out of quarantine, after it was delivered. Does nothing if it is not there."""

    def discard(self, name: str, *, reason: str, by: str) -> None:
        """Move an entry out of quarantine that is to stay undelivered. Does nothing if it is not there.

        Parameters
        ----------
        name
            Its name.
        reason, by
            Why, and who says so.
        """


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of the ledger's store.

    Parameters
    ----------
    body
        Its content.
    version
        Opaque; changes with every write.
    """

    body: bytes
    version: str


class ObjectStore(Protocol):
    """A durable store of small objects by name. Every method may raise `LedgerError`."""

    def locate(self, name: str) -> str:
        """Return where an object is or would be, as a location that a person can look up."""

    def read(self, name: str) -> Stored | None:
        """Return an object, or ``None``."""

    def write(self, name: str, body: bytes) -> None:
        """Write an object, and replace an existing one."""

    def write_if(self, name: str, body: bytes, version: str | None) -> str | None:
        """Write an object if its version is still the given one (``None``: if it does not exist).

        Returns
        -------
        str or None
            The new version; ``None`` if the object has another version, and nothing was written.
        """

    def remove(self, name: str) -> None:
        """Remove an object; does nothing if it does not exist."""

    def names(self, prefix: str) -> Iterator[str]:
        """Return the names that begin with `prefix`, sorted."""


class Check(Protocol):
    """Finds out whether something that runs need is as it should be."""

    @property
    def area(self) -> str:
        """The part of the installation, as in `Finding`."""

    @property
    def name(self) -> str:
        """What is looked at, for a check that does not end in time."""

    def run(self) -> Iterator[Finding]:
        """Yield each finding as soon as it is known. An error that is raised counts as a fault of the program."""


@dataclass(frozen=True, slots=True)
class CacheMemory:
    """The memory of the cache.

    Parameters
    ----------
    used_bytes
        What is in use.
    limit_bytes
        The limit; ``None`` if there is none.
    policy
        What happens at the limit: ``maxmemory-policy``; ``None`` if the cache does not say.
    entries_left
        About how many further entries' marks have room; ``None`` without a limit.
    """

    used_bytes: int
    limit_bytes: int | None
    policy: str | None
    entries_left: int | None


class CacheGauge(Protocol):
    """Measures the cache."""

    def measure(self) -> CacheMemory | None:
        """Return its memory; ``None`` if the user may not ask, or it does not say. Raises `SeenSetUnavailable`."""


class Clock(Protocol):
    """The machine's time."""

    def now(self) -> float:
        """Return Unix seconds."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class TimeBudget(Protocol):
    """How long a run may take."""

    def remaining_seconds(self) -> float:
        """Return the seconds until the run would be killed; infinity if nothing limits it."""


class Telemetry(Protocol):
    """Log and metrics of a run. No method makes a run fail, and nothing may contain a payload or a token."""

    def info(self, code: str, message: str, **details: Any) -> None:
        """Log what happened; `code` is stable, for runbooks and searches."""

    def warning(self, code: str, message: str, **details: Any) -> None:
        """Log something that somebody should look into."""

    def progress(self, report: RunReport) -> None:
        """Show how far the run is."""

    def publish(self, report: RunReport) -> None:
        """Publish the run's counts as metrics, once, when it ends."""

    def count(self, trail: Trail, counts: Mapping[str, int]) -> None:
        """Publish counts of a trail as metrics, by their names."""
