"""What a run needs from the world: a source, a destination, state, time. Tests provide it in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol

from .domain.checkpoint import CacheState, Checkpoint
from .domain.entry import Entry
from .domain.event import Batch, Event, Original
from .domain.gateway import Gateway
from .domain.report import RunReport
from .domain.window import Window


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows that the source cannot show at the moment. They are passed, and read again later.

    Parameters
    ----------
    window
        Request times that hold them; ``None`` if the gateway cannot filter, as the times are unknown then.
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
        What it shows.
    resume
        Passed to `Source.pages`, it goes on right after this page. Opaque. ``None`` for the last page.
    is_last
        Whether the reading ends with this page.
    gap
        Rows between the page before and this one that could not be read and were passed.
    as_asked
        Whether the answer honours what was asked for: bounds, order, size, and an end that is one. If not, its entries
        are real, but nothing is known about what lies around them.
    """

    entries: Sequence[Entry]
    resume: str | None
    is_last: bool
    gap: Gap | None = None
    as_asked: bool = True


class Source(Protocol):
    """Where entries come from. Methods raise `SourceError` if the gateway does not answer as documented."""

    def describe(self) -> Gateway:
        """Ask for version, host name and clock. Never raises `SourceError`: a run can do without."""

    def filters_by_time(self, later: int) -> bool:
        """Find out whether time filters work, by asking for entries from `later` (Unix seconds) on."""

    def has_entries_before(self, timestamp: int) -> bool:
        """Tell whether there is any entry older than `timestamp` (Unix seconds)."""

    def pages(self, window: Window | None, resume: str | None = None) -> Iterator[Page]:
        """Read a window page by page, or everything for ``None``; the last page says so, and may be empty."""


NOT_MAPPABLE = "NotMappable"
"""The code of an entry in quarantine of which no event could be made, in place of one of the destination's."""


class Verdict(Enum):
    """What a destination says of an entry that it did not accept."""

    REFUSED = auto()
    """The entry breaks a rule: it will never be accepted as it is."""
    DAMAGED = auto()
    """The entry was damaged on its way, at first; it is refused for good if that happens twice."""
    THROTTLED = auto()
    """The destination asks to be called less often."""
    OUTAGE = auto()
    """The destination has a problem of its own, which passes."""
    UNKNOWN = auto()
    """Not documented."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an entry of a batch was not accepted.

    Parameters
    ----------
    code
        The destination's error code.
    message
        Its message. May repeat content: for the quarantine, never for a log.
    verdict
        What the code says about trying again.
    """

    code: str
    message: str
    verdict: Verdict = Verdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class Answer:
    """What the destination says of a batch.

    Parameters
    ----------
    successful
        Ids that were accepted for good.
    failed
        Ids that were not. An id in neither is unconfirmed.
    misconfiguration
        If nothing is accepted until somebody changes something: what to change, fit to be logged. Else "".
    """

    successful: frozenset[str]
    failed: Mapping[str, Failure] = field(default_factory=dict)
    misconfiguration: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """How to speak of a destination, and where to look when it fails. Each sentence is fit to be logged.

    Parameters
    ----------
    name
        What people call it.
    if_down
        Where to look if it accepts nothing that it is sent.
    if_all_refused
        What to check if it refuses every call for its content.
    if_answers_get_lost
        Where to look if its answers do not arrive or cannot be read.
    """

    name: str
    if_down: str
    if_all_refused: str
    if_answers_get_lost: str


class Mapper(Protocol):
    """Makes events of the entries of one gateway."""

    def map(self, entry: Entry) -> Event:
        """Make the event of an entry. Raises `EntryNotMappable` if a required field could only be invented."""


class Packer(Protocol):
    """Packs events into batches within the limits of a call, in the order in which they come."""

    def add(self, event: Event) -> Batch | None:
        """Put an event in; return the batch that it filled, or that had to be closed before it, if any."""

    def flush(self) -> Batch | None:
        """Return what is left, if anything."""


class Destination(Protocol):
    """Where entries are kept. The folder of a destination is the only place that knows its form, limits and codes."""

    @property
    def advice(self) -> Advice:
        """How to speak of it."""

    def mapper(self, gateway: Gateway) -> Mapper:
        """Return what makes events of the entries of a gateway."""

    def packer(self) -> Packer:
        """Return what packs events."""

    def deliver(self, events: Sequence[Event]) -> Answer:
        """Deliver one batch, in one call.

        Raises
        ------
        DestinationError
            If the call as a whole was not accepted, or if that is not known: `DestinationUnavailable.maybe_accepted`.
        """


class SeenSet(Protocol):
    """Which entries were delivered already. Every method raises `SeenSetUnavailable`."""

    def open(self) -> CacheState:
        """Identify the cache, and reserve room for the marks of what will be in flight. Raises `CacheFull`."""

    def seen(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that are marked, with one round trip."""

    def mark(self, keys: Sequence[str], lifetime_seconds: int) -> None:
        """Mark keys for so long, with one round trip. Raises `CacheFull`."""


class RunLock(Protocol):
    """Lets one run at a time work on a source."""

    def acquire(self) -> bool:
        """Take the lock; ``False`` if another run holds it. Raises `SeenSetUnavailable`."""

    def check(self) -> None:
        """Raise `LockLost` unless the lock is still ours."""

    def release(self) -> None:
        """Give it back if it is still ours; never raises."""


class Ledger(Protocol):
    """The durable truth of one trail. Every method raises `LedgerError`."""

    def load_checkpoint(self) -> Checkpoint:
        """Return the checkpoint; an empty one if none was written yet."""

    def save_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        """Write a checkpoint over the one that it was derived from; return it with its new version.

        Raises
        ------
        CheckpointConflict
            If another run has written since.
        """

    def add_report(self, report: RunReport, checkpoint: Checkpoint) -> Checkpoint:
        """Chain the report of a run to the ones before it; return the checkpoint, not yet saved, that knows of it."""

    def keep_original(self, original: Original) -> None:
        """Keep a whole entry, before its shortened event is delivered."""

    def quarantine(self, entry: Entry, gateway: Gateway, failure: Failure, attempts: int) -> str:
        """Keep an entry that cannot be delivered, with the reason; return where, in a form that a person can follow."""

    def quarantine_size(self, at_most: int) -> int:
        """Return how many entries are in quarantine, counted up to a number."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An entry in quarantine.

    Parameters
    ----------
    name
        Of its object.
    entry
        The whole entry.
    gateway
        The gateway that showed it.
    """

    name: str
    entry: Entry
    gateway: Gateway


class Quarantine(Protocol):
    """What lies in quarantine of one trail. Every method raises `LedgerError`."""

    def quarantined(self) -> Iterator[Quarantined]:
        """Return the entries."""

    def keep_original(self, original: Original) -> None:
        """Keep a whole entry, before its shortened event is delivered."""

    def release(self, quarantined: Quarantined) -> None:
        """Move an entry out of quarantine, after it was delivered."""


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
    """A durable store of small objects by name. Every method raises `LedgerError`."""

    def locate(self, name: str) -> str:
        """Return where an object is or would be, in a form that a person can follow."""

    def read(self, name: str) -> Stored | None:
        """Return an object, or ``None``."""

    def write(self, name: str, body: bytes) -> None:
        """Write an object, whatever was there."""

    def write_if(self, name: str, body: bytes, version: str | None) -> str | None:
        """Write an object if its version is still the given one (``None``: if it does not exist).

        Returns
        -------
        str or None
            The new version; ``None`` if somebody else had written, and nothing was.
        """

    def move(self, name: str, new_name: str) -> None:
        """Give an object another name; nothing happens if there is none."""

    def names(self, prefix: str) -> Iterator[str]:
        """Return the names that begin with `prefix`, in order."""


class Clock(Protocol):
    """The machine's time."""

    def now(self) -> float:
        """Return Unix seconds."""

    def monotonic(self) -> float:
        """Return seconds since some moment."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class TimeBudget(Protocol):
    """How long the run may go on."""

    def remaining_seconds(self) -> float:
        """Return the seconds until the run would be killed; infinite on a laptop."""


class Telemetry(Protocol):
    """What operators see of a run. Nothing here may fail a run, and nothing may hold a payload or a token."""

    def info(self, code: str, message: str, **details: Any) -> None:
        """Tell what happened; `code` is stable, for runbooks and searches."""

    def warning(self, code: str, message: str, **details: Any) -> None:
        """Tell of something that somebody should look at."""

    def progress(self, report: RunReport) -> None:
        """Tell how far the run is."""

    def publish(self, report: RunReport) -> None:
        """Publish the run's counts as metrics, once, at its end."""
