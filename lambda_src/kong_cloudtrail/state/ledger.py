"""The durable state of a trail: checkpoint, quarantine, originals of shortened entries, run reports.

Names in the store, where ``{trail}`` is ``{source}/{stream}/{destination}``::

    checkpoints/{trail}.json            how far the trail is done, and what is still to be read
    quarantine/{trail}/{key}.json       a whole entry that could not be delivered, with the reason
    released/{trail}/{key}.json         the same, after it was delivered from quarantine
    discarded/{trail}/{key}.json        the same, after somebody decided that it stays undelivered
    originals/{trail}/{id}-{hash}.json  a whole entry that was delivered shortened
    runs/{trail}/{number}.json          the report of a run that delivered something, with the hash of the one before
    runs/{trail}/{number}.sig           its signature, if there is a key
    backfills/{trail}/{range}/{slice}.json  how far a slice of a backfill is done
    reconciled/{trail}/{number}.json    the result of a reconciliation, with the hash of the one before; signed, too
    reconciled/{trail}/newest           number and hash of the newest one

The checkpoint also contains the number and hash of the newest run report. So a report that is missing at the end is
noticed like one that is missing in the middle.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from .. import __version__
from ..domain.backfill import Range, SliceProgress
from ..domain.checkpoint import Checkpoint
from ..domain.entry import Context, Entry
from ..domain.event import Original
from ..domain.gateway import Gateway
from ..domain.jsontext import encode
from ..domain.part import Part
from ..domain.report import RunReport
from ..domain.report_chain import ChainCheck, IsSignedBy, NoteReport, ReportChain, note_nothing
from ..domain.trail import Trail
from ..domain.window import Window
from ..errors import CheckpointConflict, LedgerError
from ..ports import Clock, Failure, ObjectStore, Quarantined, QuarantineState, Signer, Stored
from . import checkpoint_document

_RECORD = ".json"
_SIGNATURE = ".sig"
_NEWEST = "newest"
_DELIVERED_WITHIN_SECONDS = 7200
_MOST_REPORTS_READ = 1500

REPORTS_PER_RESULT_NAMED = 24
"""One of so many run reports names the newest result of `reconcile`: to look for it is one more call to the store."""


class Ledger:
    """Reads and writes the ledger of one trail.

    Parameters
    ----------
    store
        Where the objects are kept.
    trail
        The trail.
    clock
        The time of writes.
    signer
        Signs run reports; ``None``: they are not signed.
    """

    def __init__(self, store: ObjectStore, trail: Trail, clock: Clock, signer: Signer | None = None) -> None:
        self._signer = signer
        self._store = store
        self._trail = trail
        self._clock = clock

    # -- originals and quarantine

    def locate_original(self, entry_id: str, sha256: str) -> str:
        """Return where the original of a shortened entry is kept."""
        return self._store.locate(self._original_name(entry_id, sha256))

    def keep_original(self, original: Original) -> None:
        """Keep a whole entry, before its shortened event is delivered."""
        self._store.write(self._original_name(original.entry_id, original.sha256), original.body)

    def quarantine(self, entry: Entry, gateway: Gateway, failure: Failure, attempts: int) -> str:
        """Keep an entry that cannot be delivered, with the reason.

        Parameters
        ----------
        entry
            The entry.
        gateway
            The gateway that showed it.
        failure
            Why it could not be delivered.
        attempts
            How often it was sent; 0 if it could not be mapped.

        Returns
        -------
        str
            Where it is kept.
        """
        now = self._clock.now()
        record = {
            **self._trail.fields,
            "id": entry.id,
            "key": entry.key,
            "timestamp": entry.timestamp,
            "code": failure.code,
            "message": failure.message,
            "attempts": attempts,
            "codeVersion": __version__,
            "quarantinedAt": now,
            "shownUntil": now + entry.remaining_seconds,
            "gateway": {"version": gateway.version, "hostname": gateway.hostname},
            "entry": entry.value,
            **({} if entry.context is None else {"context": asdict(entry.context)}),
        }
        name = self._quarantine_name(entry.key.replace(":", "-"))
        self._store.write(name, encode(record).encode("ascii"))
        return self._store.locate(name)

    def quarantine_size(self, at_most: int) -> int:
        """Return the number of entries in quarantine; counting stops at `at_most`. Raises `LedgerError`."""
        return sum(1 for _ in itertools.islice(self._store.names(f"quarantine/{self._trail.path}/"), at_most))

    def names_in_quarantine(self, state: QuarantineState = QuarantineState.QUARANTINED) -> Iterator[str]:
        """Return the names of the entries in a state, sorted. Raises `LedgerError`, also for other objects."""
        prefix = self._quarantine_name("", state).removesuffix(_RECORD)
        for name in self._store.names(prefix):
            if not name.endswith(_RECORD):
                raise self._not_ours(name)
            yield name.removeprefix(prefix).removesuffix(_RECORD)

    def read_quarantined(self, name: str, state: QuarantineState = QuarantineState.QUARANTINED) -> Quarantined | None:
        """Return an entry; ``None`` if there is none of this name in this state.

        Raises
        ------
        LedgerError
            If it cannot be read, or was not written by this program.
        """
        object_name = self._quarantine_name(name, state)
        stored = self._store.read(object_name)
        if stored is None:
            return None
        try:
            record = json.loads(stored.body)
            left = record.get(state, {})
            return Quarantined(
                name=name,
                state=state,
                entry=_entry_of(record, self._clock.now()),
                gateway=Gateway(record["gateway"]["version"], record["gateway"]["hostname"], clock=None),
                code=str(record["code"]),
                message=str(record["message"]),
                attempts=int(record["attempts"]),
                since=float(record["quarantinedAt"]),
                left_at=float(left["at"]) if left else None,
                reason=str(left.get("reason", "")),
                size_bytes=len(stored.body),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise self._not_ours(object_name) from error

    def release(self, name: str) -> None:
        """Move an entry out of quarantine, after it was delivered. Does nothing if it is not there."""
        self._leave(name, QuarantineState.RELEASED, {})

    def discard(self, name: str, *, reason: str, by: str) -> None:
        """Move an entry out of quarantine that is to stay undelivered. Does nothing if it is not there."""
        self._leave(name, QuarantineState.DISCARDED, {"by": by, "reason": reason})

    def _leave(self, name: str, state: QuarantineState, note: dict[str, str]) -> None:
        """Write the record under its new name, with a note, and only then remove the old one."""
        old = self._quarantine_name(name)
        stored = self._store.read(old)
        if stored is None:
            return
        # Added as text: parsing the record might change the entry.
        added = encode({"at": self._clock.now(), "codeVersion": __version__, **note})
        body = stored.body.rstrip().removesuffix(b"}") + f',"{state}":{added}}}'.encode("ascii")
        self._store.write(self._quarantine_name(name, state), body)
        self._store.remove(old)

    def _not_ours(self, name: str) -> LedgerError:
        return LedgerError(
            f"{self._store.locate(name)} is not an entry that this program put into quarantine. Move it to another "
            "place."
        )

    def _quarantine_name(self, name: str, state: QuarantineState = QuarantineState.QUARANTINED) -> str:
        folder = "quarantine" if state is QuarantineState.QUARANTINED else state
        return f"{folder}/{self._trail.path}/{name}{_RECORD}"

    def _original_name(self, entry_id: str, sha256: str) -> str:
        return f"originals/{self._trail.path}/{entry_id}-{sha256[:16]}.json"

    # -- checkpoint and run reports

    def load_checkpoint(self) -> Checkpoint:
        """Return the checkpoint of the trail; an empty one if none was written yet.

        Raises
        ------
        LedgerError
            If it cannot be read, or is not a checkpoint.
        """
        stored = self._store.read(self._checkpoint_name)
        if stored is None:
            return Checkpoint()
        try:
            return checkpoint_document.from_document(json.loads(stored.body), stored.version)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise LedgerError(
                f"{self._store.locate(self._checkpoint_name)} is not a checkpoint of this program. Restore an earlier "
                "version of it. Only if there is none, remove it: the next run then reads everything that the gateway "
                "retains, and delivers again what is not marked in the cache."
            ) from error

    def save_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        """Write a checkpoint over the one that it was derived from.

        Raises
        ------
        CheckpointConflict
            If another run has written one since.
        """
        body = {
            **self._trail.fields,
            **checkpoint_document.to_document(checkpoint),
            "codeVersion": __version__,
        }
        version = self._store.write_if(self._checkpoint_name, encode(body).encode("ascii"), checkpoint.version)
        if version is None:
            raise CheckpointConflict(
                f"Another run has moved the checkpoint of {self._trail} in the meantime, so this run did not write its "
                "own. Nothing is lost: the next run begins at the newer one."
            )
        return replace(checkpoint, version=version)

    def load_slice(self, backfill: Range, part: Range) -> SliceProgress:
        """Return how far a slice of a backfill is done; an empty progress if it was not begun.

        Raises
        ------
        LedgerError
            If it cannot be read, or is something else.
        """
        name = self._slice_name(backfill, part)
        stored = self._store.read(name)
        if stored is None:
            return SliceProgress()
        try:
            fields = json.loads(stored.body)
            resume = fields["resume"]
            return SliceProgress(
                resume=None if resume is None else str(resume),
                done=bool(fields["done"]),
                unreadable=int(fields["unreadable"]),
                delivered=int(fields["delivered"]),
                quarantined=int(fields["quarantined"]),
                excluded=int(fields["excluded"]),
                parts=tuple(Part.from_fields(one) for one in fields["parts"]),
                version=stored.version,
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise LedgerError(
                f"{self._store.locate(name)} is not the progress of a backfill. Remove it: the slice is then read "
                "again from its beginning, and what is delivered stays delivered once."
            ) from error

    def save_slice(self, backfill: Range, part: Range, progress: SliceProgress) -> SliceProgress:
        """Write the progress of a slice over the one that it was derived from; return it with its new version.

        Raises
        ------
        CheckpointConflict
            If another call has written one since.
        """
        body = {
            **self._trail.fields,
            "backfill": backfill.fields,
            "slice": part.fields,
            "resume": progress.resume,
            "done": progress.done,
            "unreadable": progress.unreadable,
            "delivered": progress.delivered,
            "quarantined": progress.quarantined,
            "excluded": progress.excluded,
            "parts": [one.fields for one in progress.parts],
            "codeVersion": __version__,
        }
        name = self._slice_name(backfill, part)
        version = self._store.write_if(name, encode(body).encode("ascii"), progress.version)
        if version is None:
            raise CheckpointConflict(f"Another call is at work on the slice of {self._trail} in {name}.")
        return replace(progress, version=version)

    def backfilled(self) -> list[Window]:
        """Return the slices of backfills that were read to their end, in the order of time. Raises `LedgerError`."""
        folder, found = f"backfills/{self._trail.path}/", []
        for name in self._store.names(folder):
            backfill_name, _, part_name = name.removeprefix(folder).removesuffix(_RECORD).partition("/")
            backfill, part = Range.named(backfill_name), Range.named(part_name)
            if backfill is not None and part is not None and self.load_slice(backfill, part).done:
                found.append(part.window)
        return sorted(found, key=lambda window: window.after)

    def add_report(self, report: RunReport, checkpoint: Checkpoint) -> Checkpoint:
        """Add a run's report to the chain.

        Returns
        -------
        Checkpoint
            The given checkpoint with the new number and hash, not yet saved.
        """
        while True:
            number = checkpoint.run_number + 1
            name = self._report_name(number)
            body = encode(
                report.summary()
                | {
                    "parts": [part.fields for part in report.parts],
                    "exclusion": {
                        "rules": list(checkpoint.excluded.rules),
                        "totals": dict(checkpoint.excluded.totals),
                    },
                    "reconciled": None if number % REPORTS_PER_RESULT_NAMED else self._newest_result(),
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
            if self._signer is not None:
                self._store.write_if(_signature_name(name), self._signer.sign(body), None)
            checkpoint = replace(checkpoint, run_number=number, run_sha256=hashlib.sha256(body).hexdigest())
            if written:
                return checkpoint

    def newest_report(self, checkpoint: Checkpoint) -> Mapping[str, Any] | None:
        """Return the fields of the newest run report that a checkpoint knows; ``None`` if there is none."""
        body = self._body(self._report_name(checkpoint.run_number)) if checkpoint.run_number else None
        try:
            fields = json.loads(body or b"")
        except (ValueError, RecursionError):
            return None
        return fields if isinstance(fields, dict) else None

    def verify_reports(self) -> Iterator[str]:
        """Check the chain of run reports; yield one sentence for each fault."""
        yield from self.read_reports().faults

    def read_reports(self, is_signed: IsSignedBy | None = None, note: NoteReport | None = None) -> ReportChain:
        """Read all run reports, and check that none is missing, altered or misplaced.

        Parameters
        ----------
        is_signed
            Checks the signature of a report; ``None``: signatures are not checked.
        note
            Gets each report, in their order.

        Raises
        ------
        LedgerError
            If the ledger cannot be read.
        """
        checkpoint = self.load_checkpoint()
        check = ChainCheck(self._trail, checkpoint, is_signed, note or note_nothing)
        chain = self._read_chain(f"runs/{self._trail.path}/", check)
        if chain.count:
            return chain
        others = {"/".join(name.split("/")[1:-1]) for name in self._store.names("runs/")}
        return replace(chain, other_trails=tuple(sorted(others)))

    def trails_beside(self) -> list[str]:
        """Return the other trails of the same source that have a checkpoint here, as `Trail.path`, sorted.

        Raises
        ------
        LedgerError
            If the ledger cannot be read.
        """
        folder = "checkpoints/"
        paths = (
            name.removeprefix(folder).removesuffix(_RECORD)
            for name in self._store.names(f"{folder}{self._trail.source}/")
        )
        return sorted(path for path in paths if path != self._trail.path)

    def delivered_bytes(self, window: Window) -> int | None:
        """Return about how many bytes of events the runs delivered of a window.

        Entries are mostly delivered within an hour or two, so these are the runs of that time. The newest reports are
        read first, and not more than two months of hourly ones.

        Returns
        -------
        int or None
            ``None`` if no report tells.
        """
        newest, found = self.load_checkpoint().run_number, None
        end = (window.before or 0) + _DELIVERED_WITHIN_SECONDS
        for number in range(newest, max(newest - _MOST_REPORTS_READ, 0), -1):
            try:
                fields = json.loads(self._body(self._report_name(number)) or b"")
                written_at, size = float(fields["writtenAt"]), int(fields["delivered_bytes"])
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue  # `verify` names it
            if written_at < window.after:
                break
            if written_at < end:
                found = (found or 0) + size
        return found

    # -- results of reconciliations

    def add_reconciliation(self, result: Mapping[str, Any]) -> tuple[str, int]:
        """Add a result to its own chain, which no run waits for.

        Returns
        -------
        tuple
            Where it is, and its number.

        Raises
        ------
        LedgerError
            If it cannot be written.
        """
        while True:
            newest = self._newest_reconciliation()
            number = newest.run_number + 1
            name = f"{self._reconciled}{number:010}.json"
            added = {
                **self._trail.fields,
                "number": number,
                "previousSha256": newest.run_sha256,
                "writtenAt": self._clock.now(),
                "codeVersion": __version__,
                "result": result,
            }
            body = encode(added).encode("ascii")
            written = self._store.write_if(name, body, None) is not None
            if not written and (stored := self._store.read(name)) is not None:
                body = stored.body  # of another reconciliation, which may have died before it said so
            if self._signer is not None:
                self._store.write_if(_signature_name(name), self._signer.sign(body), None)
            head = encode({"number": number, "sha256": hashlib.sha256(body).hexdigest()}).encode("ascii")
            self._store.write_if(f"{self._reconciled}{_NEWEST}", head, newest.version)
            if written:
                return self._store.locate(name), number

    def read_reconciliations(self, is_signed: IsSignedBy | None = None, note: NoteReport | None = None) -> ReportChain:
        """Read the results of all reconciliations, and check that none is missing, altered or misplaced.

        Parameters
        ----------
        is_signed
            Checks the signature of a result; ``None``: signatures are not checked.
        note
            Gets each result, in their order.

        Raises
        ------
        LedgerError
            If the ledger cannot be read.
        """
        check = ChainCheck(
            self._trail,
            self._newest_reconciliation(),
            is_signed,
            note or note_nothing,
            noun="Reconcile result",
            document="result of a reconciliation",
            head=f"object {_NEWEST}",
        )
        return self._read_chain(self._reconciled, check)

    def _newest_result(self) -> dict[str, Any] | None:
        """Return number and hash of the newest result; ``None`` if there is none, or if what says so was altered."""
        stored = self._store.read(f"{self._reconciled}{_NEWEST}")
        newest = None if stored is None else _newest_in(stored)
        if newest is None:  # a run has nothing to do with what was altered: `verify` says so
            return None
        return {"number": newest.run_number, "sha256": newest.run_sha256}

    def _newest_reconciliation(self) -> Checkpoint:
        """Return what is remembered of the newest result, in the form that a chain is checked against."""
        stored = self._store.read(f"{self._reconciled}{_NEWEST}")
        if stored is None:
            return Checkpoint()
        if (newest := _newest_in(stored)) is None:
            raise LedgerError(
                f"{self._store.locate(self._reconciled + _NEWEST)} was altered. Restore an earlier version of it."
            )
        return newest

    @property
    def _reconciled(self) -> str:
        return f"reconciled/{self._trail.path}/"

    def _read_chain(self, folder: str, check: ChainCheck) -> ReportChain:
        is_signed = check.is_signed
        names = list(self._store.names(folder))
        signatures = {name for name in names if name.endswith(_SIGNATURE)}
        for name in names:
            if name in signatures or name.endswith(f"/{_NEWEST}"):
                continue
            signature = _signature_name(name)
            check.take(
                name,
                self._body(name) or b"",
                self._body(signature) if is_signed is not None and signature in signatures else None,
            )
        return ReportChain(
            place=self._store.locate(folder),
            trail=self._trail,
            count=check.count,
            first=check.first,
            last=check.last,
            complete_until=check.checkpoint.complete_until,
            signed=None if is_signed is None else check.signed,
            signatures=len(signatures),
            parts=check.parts,
            hashes=check.hashes,
            results=check.results,
            faults=tuple(check.end()),
            other_trails=(),
        )

    def _body(self, name: str) -> bytes | None:
        stored = self._store.read(name)
        return None if stored is None else stored.body

    # -- names

    @property
    def _checkpoint_name(self) -> str:
        return f"checkpoints/{self._trail.path}.json"

    def _slice_name(self, backfill: Range, part: Range) -> str:
        return f"backfills/{self._trail.path}/{backfill.name}/{part.name}.json"

    def _report_name(self, number: int) -> str:
        return f"runs/{self._trail.path}/{number:010}.json"


def _signature_name(report_name: str) -> str:
    return report_name.removesuffix(".json") + _SIGNATURE


def _newest_in(stored: Stored) -> Checkpoint | None:
    """Return what `reconciled/…/newest` says, in the form that a chain is checked against; ``None`` if altered."""
    try:
        head = json.loads(stored.body)
        return Checkpoint(run_number=int(head["number"]), run_sha256=str(head["sha256"]), version=stored.version)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _entry_of(record: dict[str, Any], now: float) -> Entry:
    """Return the entry in a quarantine record."""
    timestamp = record["timestamp"]
    return Entry(
        value=record["entry"],
        id=str(record["id"]),
        key=str(record["key"]),
        timestamp=None if timestamp is None else int(timestamp),
        remaining_seconds=max(int(record["shownUntil"] - now), 0),
        context=Context(**record["context"]) if "context" in record else None,
    )
