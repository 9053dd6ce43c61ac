"""What the collector needs from the world. Adapters provide it; tests provide it in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .destinations.cloudtrail.event import Event, Gateway
from .domain.report import RunReport
from .domain.window import Window


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows that Kong cannot show at the moment. They are passed, and read again later.

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
        The elements of ``data`` as parsed.
    resume
        Passed to `AuditSource.pages`, it goes on right after this page. Opaque. ``None`` for the last page.
    is_last
        Whether the reading ends with this page.
    gap
        Rows between the page before and this one that could not be read and were passed.
    as_asked
        Whether the answer honours what was asked for: bounds, order, size, and an end that is one. If not, its entries
        are real, but nothing is known about what lies around them.
    """

    entries: Sequence[object]
    resume: str | None
    is_last: bool
    gap: Gap | None = None
    as_asked: bool = True


class AuditSource(Protocol):
    """Where entries come from. Methods raise `SourceError` if Kong does not answer as documented."""

    def describe(self) -> Gateway:
        """Ask for version, host name and clock. Never raises `SourceError`: a run can do without."""

    def filters_by_time(self, later: int) -> bool:
        """Find out whether time filters work, by asking for entries from `later` (Unix seconds) on."""

    def has_entries_before(self, timestamp: int) -> bool:
        """Tell whether there is any entry older than `timestamp` (Unix seconds)."""

    def pages(self, window: Window | None, resume: str | None = None) -> Iterator[Page]:
        """Read a window page by page, or everything for ``None``; the last page says so, and may be empty."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an entry of a batch was not taken.

    Parameters
    ----------
    code
        ``errorCode`` of the response.
    message
        ``errorMessage`` of the response. May repeat content: for the quarantine, never for a log.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the destination says of a batch.

    Parameters
    ----------
    successful
        Ids that were accepted for good.
    failed
        Ids that were refused. An id in neither is unconfirmed.
    """

    successful: frozenset[str]
    failed: Mapping[str, Failure] = field(default_factory=dict)


class Destination(Protocol):
    """Where events go."""

    def deliver(self, events: Sequence[Event]) -> Answer:
        """Deliver one batch, in one call.

        Raises
        ------
        DestinationError
            If the call as a whole was not accepted, or if that is not known: `DestinationUnavailable.maybe_accepted`.
        """


@dataclass(frozen=True, slots=True)
class CacheState:
    """What tells a cache that kept its marks from one that lost some.

    Parameters
    ----------
    cache_id
        Random, made when the cache had none. Another one means that the cache was emptied or replaced.
    marks_written
        Marks ever written to this cache for this source. A lower number than before means that the cache was restored
        from an old snapshot.
    """

    cache_id: str
    marks_written: int


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
