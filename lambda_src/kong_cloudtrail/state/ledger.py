"""The durable truth beside Redis: checkpoint, quarantine, originals of shortened entries, run reports.

Names in the store::

    checkpoints/{source}.json            how far the source is done, and what of it is still to be read
    quarantine/{source}/{key}.json       an entry that could not be delivered, whole, with the reason
    originals/{source}/{id}-{hash}.json  an entry that was delivered shortened, whole
    runs/{source}/{number}.json          a report per run that delivered something, with the hash of the one before

The checkpoint also holds the number and hash of the newest run report, so that a report missing at the end shows as
much as one missing in the middle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from .. import __version__
from ..destinations.cloudtrail.event import Gateway
from ..destinations.cloudtrail.shortening import Original
from ..domain.entry import Entry
from ..domain.jsontext import encode
from ..domain.report import RunReport
from ..domain.window import Window
from ..errors import CheckpointConflict, LedgerError
from ..ports import CacheState, Clock, Failure, Gap, ObjectStore

NOT_MAPPABLE = "NotMappable"
"""The code of an entry in quarantine of which no event could be made, in place of one of CloudTrail's."""

NO_REPORT_SHA256 = "0" * 64
"""What the first run report holds as the hash of the one before it."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a reading goes on that a run could not finish.

    Parameters
    ----------
    window
        The slice that is being read; ``None`` if everything is read, without filters.
    resume
        Where in it, as the source said (`Page.resume`); ``None``: at its beginning.
    newest
        Newest request time of all that this reading showed so far, Unix seconds, without what was dated in the future;
        ``None`` if it showed none.
    limit
        What the clocks showed as the slice was begun, Unix seconds: what is dated later is dated in the future.
    began_at
        When the reading began, Unix seconds by our own clock.
    proven
        Whether every answer so far was as asked. If not, the reading goes on, and the checkpoint stays.
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
        Its request times; ``None`` if they are not known, as on a gateway that cannot filter.
    kind
        ``unreadable``: Kong could not show a row. ``undelivered``: an entry could not be delivered.
    reason
        Why, in a few words that may be logged.
    since
        When it was first passed, Unix seconds by our own clock.
    """

    window: Window | None
    kind: Literal["unreadable", "undelivered"]
    reason: str
    since: int

    @classmethod
    def unreadable(cls, gap: Gap, since: int) -> OpenGap:
        """Make one of rows that Kong could not show."""
        return cls(gap.window, "unreadable", gap.reason, since)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a source is done, and what is still to be read.

    Parameters
    ----------
    complete_until
        Unix seconds: every entry that Kong showed with an older request time is delivered or quarantined, but for the
        gaps. Never later than the newest request time that Kong showed. ``None`` before anything was settled.
    begins_at
        Where the first run was asked to begin, Unix seconds; ``None``: at everything that Kong retains.
    caught_up_at
        When the last reading began that settled everything Kong showed, Unix seconds by our own clock.
    reading
        Where the next run goes on, if the last one could not finish its reading.
    gaps
        What was passed and is still to be settled, oldest first.
    sweep
        Where the sweep goes on that is under way; ``None`` if none is.
    sweep_due
        When the next sweep begins, Unix seconds by our own clock; ``None`` before the first run.
    cache
        The cache that holds the marks, as the newest run found it.
    marks_whole_after
        Entries with an older request time may have lost their marks, Unix seconds; ``None``: all marks are there.
    gateway_version
        Kong's version as the newest run found it.
    kong_ahead_seconds
        How far Kong's clock was ahead of ours when it was last shown.
    run_number, run_sha256
        Number and hash of the newest run report.
    version
        Of the stored object that this was read from; ``None`` if there was none.
    """

    complete_until: int | None = None
    begins_at: int | None = None
    caught_up_at: int | None = None
    reading: Position | None = None
    gaps: tuple[OpenGap, ...] = ()
    sweep: Position | None = None
    sweep_due: int | None = None
    cache: CacheState | None = None
    marks_whole_after: int | None = None
    gateway_version: str | None = None
    kong_ahead_seconds: int = 0
    run_number: int = 0
    run_sha256: str = NO_REPORT_SHA256
    version: str | None = None


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
        The Kong Gateway that showed it.
    """

    name: str
    entry: Entry
    gateway: Gateway


@dataclass(frozen=True, slots=True)
class StoredReport:
    """What a stored run report says of its run.

    Parameters
    ----------
    number
        Its number in the chain.
    written_at
        When it was written, Unix seconds; ``None`` if it does not say so.
    after
        Where the run began to read, as request time in Unix seconds; ``None`` if it read everything.
    """

    number: int
    written_at: float | None
    after: int | None

    @classmethod
    def of(cls, number: int, body: bytes) -> StoredReport:
        """Read a report. What an altered one does not say any more is ``None``."""
        try:
            fields = json.loads(body)
            window = fields["window"]
            return cls(number, float(fields["writtenAt"]), None if window is None else int(window["after"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return cls(number, None, None)


@dataclass(frozen=True, slots=True)
class ReportChain:
    """The run reports of a source.

    Parameters
    ----------
    place
        Where they are, in a form that a person can follow.
    source
        Name of the source.
    count
        How many there are.
    first, last
        The first and the last one; ``None`` if there is none.
    complete_until
        The checkpoint, as in `Checkpoint`.
    faults
        One sentence for each report that is missing, altered or out of place.
    other_sources
        If there are no reports: sources that have some in the same ledger.
    """

    place: str
    source: str
    count: int
    first: StoredReport | None
    last: StoredReport | None
    complete_until: int | None
    faults: tuple[str, ...]
    other_sources: tuple[str, ...]


class Ledger:
    """Reads and writes the ledger of one source.

    Parameters
    ----------
    store
        Where the objects are kept.
    source
        Name of the source.
    clock
        Tells when something was written.
    """

    def __init__(self, store: ObjectStore, source: str, clock: Clock) -> None:
        self._store = store
        self._source = source
        self._clock = clock

    # -- entries that are kept

    def locate_original(self, call_id: str, sha256: str) -> str:
        """Return where the original of a shortened entry is kept."""
        return self._store.locate(self._original_name(call_id, sha256))

    def keep_original(self, original: Original) -> None:
        """Keep a whole entry, before its shortened event is delivered."""
        self._store.write(self._original_name(original.call_id, original.sha256), original.body)

    def quarantine(self, entry: Entry, gateway: Gateway, failure: Failure, attempts: int) -> None:
        """Keep an entry that cannot be delivered, with the reason.

        Parameters
        ----------
        entry
            The entry.
        gateway
            The Kong Gateway that showed it.
        failure
            Why it could not be delivered.
        attempts
            How often it was sent; 0 if no event could be made of it.
        """
        record = {
            "source": self._source,
            "id": entry.call_id,
            "code": failure.code,
            "message": failure.message,
            "attempts": attempts,
            "codeVersion": __version__,
            "quarantinedAt": self._clock.now(),
            "gateway": {"version": gateway.version, "hostname": gateway.hostname},
            "entry": entry.value,
        }
        name = f"quarantine/{self._source}/{entry.key.replace(':', '-')}.json"
        self._store.write(name, encode(record).encode("ascii"))

    def quarantined(self) -> Iterator[Quarantined]:
        """Return what lies in quarantine.

        Raises
        ------
        LedgerError
            If it cannot be read, or one of the objects is none of ours.
        """
        for name in list(self._store.names(f"quarantine/{self._source}/")):
            stored = self._store.read(name)
            try:
                record = json.loads(stored.body if stored else b"")
                gateway = Gateway(record["gateway"]["version"], record["gateway"]["hostname"], clock=None)
                yield Quarantined(name, Entry.read(record["entry"]), gateway)
            except (ValueError, KeyError, TypeError) as error:
                raise LedgerError(
                    f"{self._store.locate(name)} is not an entry that this program put into quarantine: move it away."
                ) from error

    def release(self, quarantined: Quarantined) -> None:
        """Move an entry out of quarantine, after it was delivered."""
        self._store.move(quarantined.name, quarantined.name.replace("quarantine/", "released/", 1))

    def _original_name(self, call_id: str, sha256: str) -> str:
        return f"originals/{self._source}/{call_id}-{sha256[:16]}.json"

    # -- checkpoint and run reports

    def load_checkpoint(self) -> Checkpoint:
        """Return the checkpoint of the source; an empty one if none was written yet.

        Raises
        ------
        LedgerError
            If it cannot be read, or is not a checkpoint.
        """
        stored = self._store.read(self._checkpoint_name)
        if stored is None:
            return Checkpoint()
        try:
            return _checkpoint_from(json.loads(stored.body), stored.version)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise LedgerError(
                f"{self._store.locate(self._checkpoint_name)} is not a checkpoint of this program. Restore an earlier "
                "version of it. Only if there is none, remove it: the next run then reads all that Kong retains, and "
                "delivers again what the seen set does not know."
            ) from error

    def save_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        """Write a checkpoint over the one that it was derived from.

        Raises
        ------
        CheckpointConflict
            If another run has written since.
        """
        body = {"source": self._source, **_checkpoint_fields(checkpoint), "codeVersion": __version__}
        version = self._store.write_if(self._checkpoint_name, encode(body).encode("ascii"), checkpoint.version)
        if version is None:
            raise CheckpointConflict(
                f"Another run has moved the checkpoint of source {self._source} meanwhile; ours was not written. "
                "Nothing is lost: the next run begins at the newer one."
            )
        return replace(checkpoint, version=version)

    def add_report(self, report: RunReport, checkpoint: Checkpoint) -> Checkpoint:
        """Chain the report of a run to the ones before it.

        Returns
        -------
        Checkpoint
            The given one with the new number and hash, not yet saved.
        """
        while True:
            number = checkpoint.run_number + 1
            name = self._report_name(number)
            body = encode(
                report.summary()
                | {
                    "number": number,
                    "previousSha256": checkpoint.run_sha256,
                    "writtenAt": self._clock.now(),
                    "codeVersion": __version__,
                }
            ).encode("ascii")
            written = self._store.write_if(name, body, None) is not None
            if not written and (stored := self._store.read(name)) is not None:
                # A run died between its report and its checkpoint: its report is part of the chain.
                body = stored.body
            checkpoint = replace(checkpoint, run_number=number, run_sha256=hashlib.sha256(body).hexdigest())
            if written:
                return checkpoint

    def verify_reports(self) -> Iterator[str]:
        """Check the chain of run reports; yield one sentence for each fault."""
        yield from self.read_reports().faults

    def read_reports(self) -> ReportChain:
        """Read all run reports, and check that none is missing, altered or out of place.

        Raises
        ------
        LedgerError
            If the ledger cannot be read.
        """
        checkpoint = self.load_checkpoint()
        folder = f"runs/{self._source}/"
        check = _ChainCheck(checkpoint)
        for name in self._store.names(folder):
            stored = self._store.read(name)
            check.take(name, stored.body if stored else b"")
        sources = () if check.count else {name.split("/")[1] for name in self._store.names("runs/")}
        return ReportChain(
            place=self._store.locate(folder),
            source=self._source,
            count=check.count,
            first=check.first,
            last=check.last,
            complete_until=checkpoint.complete_until,
            faults=tuple(check.end()),
            other_sources=tuple(sorted(sources)),
        )

    # -- names

    @property
    def _checkpoint_name(self) -> str:
        return f"checkpoints/{self._source}.json"

    def _report_name(self, number: int) -> str:
        return f"runs/{self._source}/{number:010}.json"


def _checkpoint_fields(checkpoint: Checkpoint) -> dict[str, Any]:
    cache = checkpoint.cache
    return {
        "completeUntil": checkpoint.complete_until,
        "beginsAt": checkpoint.begins_at,
        "caughtUpAt": checkpoint.caught_up_at,
        "reading": _position_fields(checkpoint.reading),
        "gaps": [
            {**_window_fields(gap.window), "kind": gap.kind, "reason": gap.reason, "since": gap.since}
            for gap in checkpoint.gaps
        ],
        "sweep": _position_fields(checkpoint.sweep),
        "sweepDue": checkpoint.sweep_due,
        "cache": None if cache is None else {"id": cache.cache_id, "marksWritten": cache.marks_written},
        "marksWholeAfter": checkpoint.marks_whole_after,
        "gatewayVersion": checkpoint.gateway_version,
        "kongAheadSeconds": checkpoint.kong_ahead_seconds,
        "run": {"number": checkpoint.run_number, "sha256": checkpoint.run_sha256},
    }


def _checkpoint_from(fields: Any, version: str) -> Checkpoint:
    cache = fields["cache"]
    return Checkpoint(
        complete_until=_integer_or_none(fields["completeUntil"]),
        begins_at=_integer_or_none(fields["beginsAt"]),
        caught_up_at=_integer_or_none(fields["caughtUpAt"]),
        reading=_position_from(fields["reading"]),
        gaps=tuple(_gap_from(gap) for gap in fields["gaps"]),
        sweep=_position_from(fields["sweep"]),
        sweep_due=_integer_or_none(fields["sweepDue"]),
        cache=None if cache is None else CacheState(str(cache["id"]), int(cache["marksWritten"])),
        marks_whole_after=_integer_or_none(fields["marksWholeAfter"]),
        gateway_version=_text_or_none(fields["gatewayVersion"]),
        kong_ahead_seconds=int(fields["kongAheadSeconds"]),
        run_number=int(fields["run"]["number"]),
        run_sha256=str(fields["run"]["sha256"]),
        version=version,
    )


def _window_fields(window: Window | None) -> dict[str, int | None]:
    return {"after": None, "before": None} if window is None else {"after": window.after, "before": window.before}


def _window_from(fields: Any) -> Window | None:
    after = _integer_or_none(fields["after"])
    return None if after is None else Window(after, _integer_or_none(fields["before"]))


def _position_fields(position: Position | None) -> dict[str, Any] | None:
    if position is None:
        return None
    return {
        **_window_fields(position.window),
        "resume": position.resume,
        "newest": position.newest,
        "limit": position.limit,
        "beganAt": position.began_at,
        "proven": position.proven,
    }


def _position_from(fields: Any) -> Position | None:
    if fields is None:
        return None
    return Position(
        window=_window_from(fields),
        resume=_text_or_none(fields["resume"]),
        newest=_integer_or_none(fields["newest"]),
        limit=int(fields["limit"]),
        began_at=int(fields["beganAt"]),
        proven=bool(fields["proven"]),
    )


def _gap_from(fields: Any) -> OpenGap:
    kind = fields["kind"]
    if kind not in ("unreadable", "undelivered"):
        raise ValueError("a gap of an unknown kind")
    return OpenGap(_window_from(fields), kind, str(fields["reason"]), int(fields["since"]))


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _integer_or_none(value: Any) -> int | None:
    return None if value is None else int(value)


class _ChainCheck:
    """Takes the run reports of a source in order, and notes what is wrong with them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.count = 0
        self.first: StoredReport | None = None
        self.last: StoredReport | None = None
        self._checkpoint = checkpoint
        self._faults: list[str] = []
        self._previous, self._expected = NO_REPORT_SHA256, 1

    def take(self, name: str, body: bytes) -> None:
        """Take the object of that name."""
        number_text = name.rpartition("/")[2].removesuffix(".json")
        if not number_text.isdecimal():
            self._faults.append(f"{name} is not a run report.")
            return
        number = int(number_text)
        self.count += 1
        self.last = StoredReport.of(number, body)
        self.first = self.first or self.last
        if number != self._expected:
            self._faults.append(f"Report(s) {self._expected} to {number - 1} are missing.")
        elif _previous_sha256(body) != self._previous:
            self._faults.append(f"Report {number} does not continue report {number - 1}: one of the two was altered.")
        self._previous = hashlib.sha256(body).hexdigest()
        self._expected = number + 1
        if number == self._checkpoint.run_number and self._previous != self._checkpoint.run_sha256:
            self._faults.append(f"Report {number} is not the one that the checkpoint remembers: it was altered.")

    def end(self) -> list[str]:
        """Return the faults, once all reports were taken."""
        newest = self._checkpoint.run_number
        if self._expected > newest:
            return self._faults
        return [*self._faults, f"Report(s) {self._expected} to {newest} are missing at the end."]


def _previous_sha256(body: bytes) -> str | None:
    try:
        fields = json.loads(body)
        return str(fields["previousSha256"])
    except (ValueError, KeyError, TypeError):
        return None
