"""What the collector needs from the world. Adapters provide it; tests provide it in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .domain.event import Event, Gateway
from .domain.report import RunReport
from .domain.window import Window


@dataclass(frozen=True, slots=True)
class Probe:
    """What one question told about a gateway's time filters.

    Parameters
    ----------
    filters
        Whether ``after`` and ``before`` are honoured. Older gateways ignore them without an error.
    has_later_entries
        Whether there are entries from the moment asked about on.
    """

    filters: bool
    has_later_entries: bool


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the source.

    Parameters
    ----------
    entries
        The elements of ``data`` as parsed.
    is_last
        Whether nothing of the window follows.
    """

    entries: Sequence[object]
    is_last: bool


class AuditSource(Protocol):
    """Where entries come from. Every method raises `SourceError` if Kong does not answer as documented."""

    def describe(self) -> Gateway:
        """Ask for version, host name and clock."""

    def probe(self, later: int) -> Probe:
        """Find out whether time filters work, by asking for entries from `later` (Unix seconds) on."""

    def has_entries_before(self, timestamp: int) -> bool:
        """Tell whether there is any entry older than `timestamp` (Unix seconds)."""

    def pages(self, window: Window | None) -> Iterator[Page]:
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
            If the call as a whole was not accepted.
        """


class SeenSet(Protocol):
    """Which entries were delivered already. Every method raises `SeenSetUnavailable`."""

    def seen(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that are marked, with one round trip."""

    def mark(self, keys: Sequence[str], lifetime_seconds: int) -> None:
        """Mark keys for so long, with one round trip."""

    def is_complete(self) -> bool:
        """Tell whether `set_complete` was called, and nothing was lost since."""

    def set_complete(self) -> None:
        """Note that every delivered entry which Kong still shows is marked."""


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
