"""The durable state of a trail: checkpoint, quarantine, originals of shortened entries, run reports.

Names in the store, where ``{trail}`` is ``{source}/{stream}/{destination}``::

    checkpoints/{trail}.json            how far the trail is done, and what is still to be read
    quarantine/{trail}/{key}.json       a whole entry that could not be delivered, with the reason
    released/{trail}/{key}.json         the same, after it was delivered from quarantine
    originals/{trail}/{id}-{hash}.json  a whole entry that was delivered shortened
    runs/{trail}/{number}.json          the report of a run that delivered something, with the hash of the one before
    runs/{trail}/{number}.sig           its signature, if there is a key

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
from ..domain.checkpoint import Checkpoint
from ..domain.entry import Context, Entry
from ..domain.event import Original
from ..domain.gateway import Gateway
from ..domain.jsontext import encode
from ..domain.report import RunReport
from ..domain.report_chain import ChainCheck, IsSignedBy, ReportChain
from ..domain.trail import Trail
from ..errors import CheckpointConflict, LedgerError
from ..ports import Clock, Failure, ObjectStore, Quarantined, Signer
from . import checkpoint_document

_SIGNATURE = ".sig"


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
        record = {
            **self._trail.fields,
            "id": entry.id,
            "key": entry.key,
            "timestamp": entry.timestamp,
            "code": failure.code,
            "message": failure.message,
            "attempts": attempts,
            "codeVersion": __version__,
            "quarantinedAt": self._clock.now(),
            "gateway": {"version": gateway.version, "hostname": gateway.hostname},
            "entry": entry.value,
            **({} if entry.context is None else {"context": asdict(entry.context)}),
        }
        name = f"quarantine/{self._trail.path}/{entry.key.replace(':', '-')}.json"
        self._store.write(name, encode(record).encode("ascii"))
        return self._store.locate(name)

    def quarantine_size(self, at_most: int) -> int:
        """Return the number of entries in quarantine; counting stops at `at_most`. Raises `LedgerError`."""
        return sum(1 for _ in itertools.islice(self._store.names(f"quarantine/{self._trail.path}/"), at_most))

    def quarantined(self) -> Iterator[Quarantined]:
        """Return the entries in quarantine.

        Raises
        ------
        LedgerError
            If they cannot be read, or one of the objects was not written by this program.
        """
        for name in list(self._store.names(f"quarantine/{self._trail.path}/")):
            stored = self._store.read(name)
            try:
                record = json.loads(stored.body if stored else b"")
                gateway = Gateway(record["gateway"]["version"], record["gateway"]["hostname"], clock=None)
                yield Quarantined(name, _entry_of(record), gateway)
            except (ValueError, KeyError, TypeError) as error:
                raise LedgerError(
                    f"{self._store.locate(name)} is not an entry that this program put into quarantine. Move it to "
                    "another place."
                ) from error

    def release(self, quarantined: Quarantined) -> None:
        """Move an entry out of quarantine, after it was delivered."""
        self._store.move(quarantined.name, quarantined.name.replace("quarantine/", "released/", 1))

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

    def read_reports(self, is_signed: IsSignedBy | None = None) -> ReportChain:
        """Read all run reports, and check that none is missing, altered or misplaced.

        Parameters
        ----------
        is_signed
            Checks the signature of a report; ``None``: signatures are not checked.

        Raises
        ------
        LedgerError
            If the ledger cannot be read.
        """
        checkpoint = self.load_checkpoint()
        folder = f"runs/{self._trail.path}/"
        check = ChainCheck(checkpoint, is_signed)
        names = list(self._store.names(folder))
        signatures = {name for name in names if name.endswith(_SIGNATURE)}
        for name in names:
            if name in signatures:
                continue
            signature = _signature_name(name)
            check.take(
                name,
                self._body(name) or b"",
                self._body(signature) if is_signed is not None and signature in signatures else None,
            )
        others = () if check.count else {"/".join(name.split("/")[1:-1]) for name in self._store.names("runs/")}
        return ReportChain(
            place=self._store.locate(folder),
            trail=self._trail,
            count=check.count,
            first=check.first,
            last=check.last,
            complete_until=checkpoint.complete_until,
            signed=None if is_signed is None else check.signed,
            signatures=len(signatures),
            parts=check.parts,
            faults=tuple(check.end()),
            other_trails=tuple(sorted(others)),
        )

    def _body(self, name: str) -> bytes | None:
        stored = self._store.read(name)
        return None if stored is None else stored.body

    # -- names

    @property
    def _checkpoint_name(self) -> str:
        return f"checkpoints/{self._trail.path}.json"

    def _report_name(self, number: int) -> str:
        return f"runs/{self._trail.path}/{number:010}.json"


def _signature_name(report_name: str) -> str:
    return report_name.removesuffix(".json") + _SIGNATURE


def _entry_of(record: dict[str, Any]) -> Entry:
    """Return the entry in a quarantine record. For how long the gateway still shows it is not known."""
    timestamp = record["timestamp"]
    return Entry(
        value=record["entry"],
        id=str(record["id"]),
        key=str(record["key"]),
        timestamp=None if timestamp is None else int(timestamp),
        remaining_seconds=0,
        context=Context(**record["context"]) if "context" in record else None,
    )
