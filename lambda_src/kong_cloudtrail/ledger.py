"""The durable truth beside Redis: checkpoint, quarantine, originals of shortened entries, run reports.

Names in the store::

    checkpoints/{source}.json            everything older than this is delivered or quarantined
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
from typing import Any

from . import __version__
from .domain.entry import Entry
from .domain.event import Gateway
from .domain.jsontext import encode
from .domain.report import RunReport
from .domain.shortening import Original
from .errors import CheckpointConflict, LedgerError
from .ports import Clock, Failure, ObjectStore

NOT_MAPPABLE = "NotMappable"
"""The code of an entry in quarantine of which no event could be made, in place of one of CloudTrail's."""

NO_REPORT_SHA256 = "0" * 64
"""What the first run report holds as the hash of the one before it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a source is done.

    Parameters
    ----------
    complete_until
        Unix seconds by Kong's clock: every older entry is delivered or quarantined. ``None`` before that is known.
    kong_time, own_time
        What Kong's clock and our own showed when the run asked Kong for its time, Unix seconds.
    slice_seconds
        How wide the first slice of the next run should be; ``None``: as usual.
    run_number, run_sha256
        Number and hash of the newest run report.
    version
        Of the stored object that this was read from; ``None`` if there was none.
    """

    complete_until: int | None = None
    kong_time: int | None = None
    own_time: int | None = None
    slice_seconds: int | None = None
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
                gateway = Gateway(record["gateway"]["version"], record["gateway"]["hostname"], now=0)
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
            fields = json.loads(stored.body)
            return Checkpoint(
                _integer_or_none(fields["completeUntil"]),
                _integer_or_none(fields["kongTime"]),
                _integer_or_none(fields["ownTime"]),
                _integer_or_none(fields["sliceSeconds"]),
                int(fields["run"]["number"]),
                str(fields["run"]["sha256"]),
                stored.version,
            )
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
        body = {
            "source": self._source,
            "completeUntil": checkpoint.complete_until,
            "kongTime": checkpoint.kong_time,
            "ownTime": checkpoint.own_time,
            "sliceSeconds": checkpoint.slice_seconds,
            "run": {"number": checkpoint.run_number, "sha256": checkpoint.run_sha256},
            "codeVersion": __version__,
        }
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
        """Check the chain of run reports.

        Yields
        ------
        str
            One sentence for each fault: a report missing, altered or out of place. Nothing if all is well.
        """
        checkpoint = self.load_checkpoint()
        names = list(self._store.names(f"runs/{self._source}/"))
        previous, expected = NO_REPORT_SHA256, 1
        for name in names:
            number_text = name.rpartition("/")[2].removesuffix(".json")
            if not number_text.isdecimal():
                yield f"{name} is not a run report."
                continue
            number = int(number_text)
            if number != expected:
                yield f"Report(s) {expected} to {number - 1} are missing."
            stored = self._store.read(name)
            body = stored.body if stored else b""
            if number == expected and _previous_sha256(body) != previous:
                yield f"Report {number} does not continue report {number - 1}: one of the two was altered."
            previous = hashlib.sha256(body).hexdigest()
            expected = number + 1
            if number == checkpoint.run_number and previous != checkpoint.run_sha256:
                yield f"Report {number} is not the one that the checkpoint remembers: it was altered."
        if expected <= checkpoint.run_number:
            yield f"Report(s) {expected} to {checkpoint.run_number} are missing at the end."

    # -- names

    @property
    def _checkpoint_name(self) -> str:
        return f"checkpoints/{self._source}.json"

    def _report_name(self, number: int) -> str:
        return f"runs/{self._source}/{number:010}.json"


def _integer_or_none(value: Any) -> int | None:
    return None if value is None else int(value)


def _previous_sha256(body: bytes) -> str | None:
    try:
        fields = json.loads(body)
        return str(fields["previousSha256"])
    except (ValueError, KeyError, TypeError):
        return None
