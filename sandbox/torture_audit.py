"""What must be true after every run of the collector, whatever happened to it; checked from outside.

The auditor knows what Kong shows, what CloudTrail accepted, what Valkey has marked and what lies in the ledger. It
takes nothing from the collector but its rule for telling entries apart, which names the marks.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Self

from kong_cloudtrail.domain.entry import MAX_RETENTION_SECONDS, Entry
from kong_cloudtrail.domain.jsontext import decode_page

from sandbox.cloudtrail_records import AcceptedEvent
from sandbox.torture_entries import NewEntry

SOURCE = "kong"
BATCH_EVENTS = 100
FUTURE_SECONDS = 3600
"""Entries dated further ahead than this are read at once, nearer ones when their time has come."""

_OUTCOMES = ("duplicates", "delivered", "quarantined", "failed", "backlog")


@dataclass(eq=False)
class Shown:
    """An entry that Kong shows, and what has become of it."""

    value: Any
    timestamp: int
    visible_at: int | None
    ttl_counts_down: bool
    key: str
    first_run: int | None = None
    """The first run that began when it was visible."""
    accepted: int = 0
    quarantined: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it is delivered or in quarantine."""
        return self.accepted > 0 or self.quarantined

    def __str__(self) -> str:
        fields = self.value if isinstance(self.value, dict) else {}
        return f"entry {str(fields.get('request_id'))[:40]!r} of {self.timestamp} ({self.key[:60]!r})"


@dataclass(frozen=True)
class Run:
    """One run of the collector, as seen from outside.

    Parameters
    ----------
    number
        Counted over the scenario.
    began_at
        Kong's clock, Unix seconds.
    exit_status
        Negative: the signal that ended it.
    summary
        What it printed on standard output, parsed; ``None`` if nothing.
    output
        All that it printed.
    parallel_deliveries
        Its setting.
    killed, interrupted
        Whether it got a signal that ends it at once, or one that it may answer.
    lost_answers
        How many answers of CloudTrail were kept from it, at most.
    valkey_failed
        Whether Valkey did not answer for a while.
    valkey_emptied
        Whether Valkey lost its data.
    was_locked
        Whether another run, on another machine, seemed to be at work when it began.
    calm
        Whether nothing went wrong around it.
    """

    number: int
    began_at: int
    exit_status: int
    summary: dict[str, Any] | None
    output: str
    parallel_deliveries: int
    killed: bool = False
    interrupted: bool = False
    lost_answers: int = 0
    valkey_failed: bool = False
    valkey_emptied: bool = False
    was_locked: bool = False
    calm: bool = False

    @property
    def cause_of_duplicates(self) -> str:
        """What explains that an entry comes twice, in this run or because of it."""
        if self.valkey_emptied:
            return "Valkey had lost its data"
        if self.killed:
            return "a run was killed"
        return "Valkey failed" if self.valkey_failed else "an answer was lost"


@dataclass
class Counts:
    """What a torture saw, for the verdict."""

    runs: int = 0
    kills: int = 0
    entries: int = 0
    quarantined: int = 0
    duplicates: Counter[str] = field(default_factory=Counter)
    """Events that were accepted once more, by what explains it."""

    def __iadd__(self, other: Counts) -> Self:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


@dataclass
class Auditor:
    """Checks the runs of one scenario.

    Parameters
    ----------
    ledger
        The ledger's folder.
    overlap_seconds, settle_seconds
        Settings of the collector.
    gateway_filters
        Whether this Kong filters by time.
    secrets
        What must not be printed.
    """

    ledger: Path
    overlap_seconds: int
    settle_seconds: int
    gateway_filters: bool
    secrets: Sequence[str]
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.entries: list[Shown] = []
        self._by_key: dict[str, Shown] = {}
        self._by_id: dict[str, list[Shown]] = defaultdict(list)
        self._events_read = 0
        self._quarantine_read: set[str] = set()
        self._checkpoint: int | None = None
        self._checkpoint_run = 0
        self._told: set[str] = set()
        self._unmarked: dict[Shown, str] = {}
        """Accepted by CloudTrail and not marked, each with the reason: what may come twice."""

    # -- what Kong shows

    def show(self, new: NewEntry, missing_fields: Iterable[str]) -> None:
        """Take note of an entry that was added to Kong, which leaves out some fields of it."""
        row = new.row
        if new.fields is not None:
            row = json.dumps({name: value for name, value in new.fields.items() if name not in missing_fields}).encode()
        key = Entry.read(decode_page(row)).key
        if key in self._by_key:
            return  # the same once more
        call_id = Entry.read(decode_page(row)).call_id
        counts_down = new.fields is not None and not new.raw_ttl
        shown = Shown(_parse_exactly(row), new.timestamp, new.visible_at, counts_down, key)
        self.entries.append(shown)
        self._by_key[key] = shown
        self._by_id[call_id].append(shown)
        self.counts.entries += 1

    def begin_run(self, number: int, now: int) -> None:
        """Take note of what is visible as a run begins."""
        for entry in self.entries:
            if entry.first_run is None and (entry.visible_at is None or entry.visible_at <= now):
                entry.first_run = number

    # -- after a run

    def end_run(self, run: Run, accepted: Sequence[AcceptedEvent], marked_keys: set[str]) -> list[str]:
        """Check everything after a run.

        Parameters
        ----------
        run
            The run.
        accepted
            Every event that CloudTrail accepted so far.
        marked_keys
            What the seen set holds now.

        Returns
        -------
        list
            What is wrong, one sentence each.
        """
        self.counts.runs += 1
        self.counts.kills += run.killed
        problems = [
            *self.check_output(run),
            *self._check_accepted(run, accepted),
            *self._check_quarantine(),
            *self._check_marks(run, marked_keys),
            *self._check_checkpoint(run),
            *self._check_promise(run),
            *self._check_reports(),
        ]
        # What stays wrong is told once.
        new = [problem for problem in problems if problem not in self._told]
        self._told.update(new)
        return new

    def end(self) -> list[str]:
        """Check after the last run, when everything should have arrived."""
        return [f"at the end: {entry} is neither delivered nor in quarantine" for entry in self._undelivered()]

    def _undelivered(self) -> Iterator[Shown]:
        return (entry for entry in self.entries if not entry.is_settled)

    def check_output(self, run: Run) -> Iterator[str]:
        """Check what a run printed and how it ended; yield what is wrong."""
        if "Traceback" in run.output:
            yield f"printed a traceback: {run.output.strip().splitlines()[-1][:300]}"
        for secret in self.secrets:
            if secret in run.output:
                yield f"printed a secret or a payload ({secret[:6]}…)"
        if run.killed:
            return
        if run.summary is None and not run.interrupted:
            yield f"printed no report and ended with status {run.exit_status}"
        if run.summary is not None:
            yield from self._check_report(run, run.summary)

    @staticmethod
    def _check_report(run: Run, report: dict[str, Any]) -> Iterator[str]:
        if report["fetched"] != sum(report[part] for part in _OUTCOMES):
            yield f"its counts do not add up: {report}"
        if run.exit_status not in (0, 1) and not run.interrupted:
            yield f"ended with status {run.exit_status}"
        if run.exit_status == 0 and (report["failed"] or report["backlog"]):
            yield "ended as a success although something stayed undelivered"
        valkey_is_well = not (run.valkey_failed or run.valkey_emptied)
        if run.was_locked and valkey_is_well and not report["skipped"]:
            yield "did not heed the lock of another run"
        if run.calm and (run.exit_status != 0 or report["skipped"]):
            yield f"failed although nothing went wrong: {run.output.strip()[:400]}"

    def _check_accepted(self, run: Run, accepted: Sequence[AcceptedEvent]) -> Iterator[str]:
        """Match what CloudTrail has accepted since the last look with what Kong shows."""
        in_this_run: Counter[Shown] = Counter()
        for event in accepted[self._events_read :]:
            entry, damage = self._find(event)
            if entry is None:
                yield f"CloudTrail has an event that is no entry of Kong's, or an altered one: {event.id} ({damage})"
                continue
            entry.accepted += 1
            in_this_run[entry] += 1
            if entry.accepted > 1 and in_this_run[entry] == 1:
                yield from self._check_delivered_again(run, entry)
        self._events_read = len(accepted)
        twice = in_this_run.total() - len(in_this_run)
        self.counts.duplicates[run.cause_of_duplicates] += twice
        # A second run, started beside one that is killed, goes on at once where that one died.
        batches = run.lost_answers + (run.parallel_deliveries if run.killed else 0)
        if twice > BATCH_EVENTS * batches and not run.valkey_emptied:
            yield f"delivered {twice} entries twice, more than {batches} batches"

    def _check_delivered_again(self, run: Run, entry: Shown) -> Iterator[str]:
        if entry in self._unmarked:
            self.counts.duplicates[self._unmarked[entry]] += 1
        elif run.valkey_emptied:
            self.counts.duplicates[run.cause_of_duplicates] += 1
        else:
            yield f"{entry} was delivered again although it was marked"
        if not self._is_read_again(entry, run.began_at):
            yield f"{entry} was delivered again, and is older than the overlap"

    def _is_read_again(self, entry: Shown, now: int) -> bool:
        """Tell whether a run that begins now has to read an entry again, delivered or not."""
        if self._checkpoint is None:
            return True
        oldest_known = self._checkpoint - self.overlap_seconds
        if not self.gateway_filters and entry.timestamp < oldest_known - MAX_RETENTION_SECONDS:
            return True  # no date that Kong could have given: nothing tells whether it was delivered before
        return entry.timestamp >= oldest_known or entry.timestamp >= now + FUTURE_SECONDS

    def _find(self, event: AcceptedEvent) -> tuple[Shown | None, str]:
        """Return the entry that an event holds whole, or ``None`` and what is missing."""
        parsed = event.event
        damage = "no entry has this id"
        for entry in self._by_id.get(event.id, ()):
            lost = list(lost_fields(entry, parsed))
            if not lost:
                return entry, ""
            damage = f"not found in it: {', '.join(lost)[:200]}"
        return None, damage

    def _check_quarantine(self) -> Iterator[str]:
        for path in sorted((self.ledger / "quarantine" / SOURCE).glob("[!.]*.json")):
            if path.name in self._quarantine_read:
                continue
            self._quarantine_read.add(path.name)
            record = json.loads(path.read_bytes())
            entry = next((one for one in self._by_id.get(record["id"], ()) if _is_whole(one, record["entry"])), None)
            if entry is None:
                yield f"{path.name} in quarantine is no entry of Kong's, or an altered one"
            elif not record["code"] or "attempts" not in record:
                yield f"{path.name} in quarantine does not say why"
            else:
                entry.quarantined = True
                self.counts.quarantined += 1

    def _check_marks(self, run: Run, marked_keys: set[str]) -> Iterator[str]:
        """Check that nothing is marked that is not settled, and that little is settled that is not marked."""
        for key in marked_keys - self._by_key.keys():
            yield f"{key} is marked, and no entry of Kong's"
        unmarked: dict[Shown, str] = {}
        for entry in self.entries:
            is_marked = entry.key in marked_keys
            if is_marked and not entry.is_settled:
                yield f"{entry} is marked, but neither delivered nor in quarantine"
            if entry.accepted and not is_marked:
                unmarked[entry] = self._unmarked.get(entry, run.cause_of_duplicates)
        newly = len(unmarked) - len(unmarked.keys() & self._unmarked.keys())
        batches = run.lost_answers + (run.parallel_deliveries if run.killed or run.valkey_failed else 0)
        if newly > BATCH_EVENTS * batches and not run.valkey_emptied:
            yield f"left {newly} entries unmarked that CloudTrail accepted, more than {batches} batches"
        self._unmarked = unmarked

    def _check_checkpoint(self, run: Run) -> Iterator[str]:
        checkpoint = self._read_checkpoint()
        complete_until = checkpoint["completeUntil"]
        if complete_until != self._checkpoint:
            if complete_until is None or (self._checkpoint is not None and complete_until < self._checkpoint):
                yield f"the checkpoint went back from {self._checkpoint} to {complete_until}"
            self._checkpoint, self._checkpoint_run = complete_until, run.number
        if self._checkpoint is None:
            return
        for entry in self._undelivered():
            was_visible = entry.first_run is not None and entry.first_run <= self._checkpoint_run
            if was_visible and entry.timestamp < self._checkpoint:
                yield f"the checkpoint has passed {entry}, which is not delivered"

    def _check_promise(self, run: Run) -> Iterator[str]:
        """Check that a run that ends as a success did all of its work."""
        if run.exit_status != 0 or run.summary is None or run.summary["skipped"]:
            return
        for entry in self._undelivered():
            if entry.first_run is None or entry.first_run > run.number:
                continue
            now = run.began_at
            is_due = entry.timestamp <= now - self.settle_seconds or entry.timestamp >= now + FUTURE_SECONDS
            if is_due or not self.gateway_filters:
                yield f"ended as a success without delivering {entry}"

    def _check_reports(self) -> Iterator[str]:
        """Check the chain of run reports, as `verify-runs` does."""
        checkpoint = self._read_checkpoint()
        previous = "0" * 64
        bodies = [path.read_bytes() for path in sorted((self.ledger / "runs" / SOURCE).glob("[!.]*.json"))]
        for number, body in enumerate(bodies, 1):
            report = json.loads(body)
            if (report["number"], report["previousSha256"]) != (number, previous):
                yield f"run report {number} does not continue the chain"
            previous = hashlib.sha256(body).hexdigest()
            if number == checkpoint["run"]["number"] and previous != checkpoint["run"]["sha256"]:
                yield f"run report {number} is not the one that the checkpoint remembers"
        # Runs that die before they write the checkpoint leave reports that it does not know of yet.
        if checkpoint["run"]["number"] > len(bodies):
            yield f"there are {len(bodies)} run reports, and the checkpoint remembers {checkpoint['run']['number']}"

    def _read_checkpoint(self) -> dict[str, Any]:
        path = self.ledger / "checkpoints" / f"{SOURCE}.json"
        if not path.exists():
            return {"completeUntil": None, "run": {"number": 0, "sha256": "0" * 64}}
        checkpoint: dict[str, Any] = json.loads(path.read_bytes())
        return checkpoint


def lost_fields(entry: Shown, event: dict[str, Any]) -> Iterator[str]:
    """Yield what of an entry is neither in an event nor in the original that the event names."""
    additional = event["additionalEventData"]
    if not isinstance(entry.value, dict):
        yield "all of it"
        return
    shortened = additional.get("shortened")
    if isinstance(shortened, dict) and "sha256" in shortened:
        try:
            body = Path(shortened["original"]).read_bytes()
        except FileNotFoundError:
            yield "the original"
            return
        if hashlib.sha256(body).hexdigest() != shortened["sha256"] or len(body) != shortened["sizeBytes"]:
            yield "the original's size or hash"
        if not _is_whole(entry, json.loads(body)):
            yield "something of the original"
        return
    for name, value in entry.value.items():
        if not _event_holds(event, additional, entry, name, value):
            yield name


def _event_holds(event: dict[str, Any], additional: dict[str, Any], entry: Shown, name: str, value: Any) -> bool:
    if name == "ttl" and entry.ttl_counts_down:
        return isinstance(additional.get("ttl"), int)
    if name in additional:
        return _same(value, additional[name])
    identity = event["userIdentity"]
    match name:
        case "request_id":
            return _same(value, event["UID"]) or value is None
        case "request_timestamp":
            return _same(value, _unix_seconds(event["eventTime"]))
        case "client_ip":
            return _same(value, event.get("sourceIPAddress"))
        case "payload":
            return _same_payload(value, event.get("requestParameters", {}).get("payload"))
        case "rbac_user_id":
            return identity["type"] == "Anonymous" if value is None else _same(value, identity["principalId"])
    return value is None


def _unix_seconds(event_time: str) -> int:
    return int(datetime.fromisoformat(event_time.replace("Z", "+00:00")).timestamp())


def _same_payload(payload: Any, kept: Any) -> bool:
    if _same(payload, kept):
        return True
    if not isinstance(payload, str) or not isinstance(kept, dict | list):
        return False
    # As lists of pairs, so that a repeated key and the order of the keys count.
    in_order = json.JSONDecoder(object_pairs_hook=list, parse_float=Decimal)
    try:
        return bool(in_order.decode(payload) == in_order.decode(json.dumps(kept)))
    except ValueError:
        return False


def _is_whole(entry: Shown, kept: Any) -> bool:
    """Tell whether a kept entry is the one that Kong showed, but for its falling TTL."""
    if entry.ttl_counts_down and isinstance(entry.value, dict) and isinstance(kept, dict):
        return _same(_without_ttl(entry.value), _without_ttl(kept))
    return _same(entry.value, kept)


def _without_ttl(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "ttl"}


def _same(shown: Any, kept: Any) -> bool:
    """Compare exactly: types, order of keys, and every digit; a number may be kept as the text that it was."""
    match shown:
        case Decimal():
            return not isinstance(kept, bool) and isinstance(kept, int | float | str) and _decimal(kept) == shown
        case dict():
            return (
                isinstance(kept, dict)
                and list(shown) == list(kept)
                and all(_same(value, kept[name]) for name, value in shown.items())
            )
        case list():
            return (
                isinstance(kept, list)
                and len(shown) == len(kept)
                and all(_same(one, other) for one, other in zip(shown, kept, strict=True))
            )
    return type(shown) is type(kept) and bool(shown == kept)


def _decimal(number: float | str) -> Decimal | None:
    try:
        return Decimal(number if isinstance(number, str) else repr(number))
    except InvalidOperation:
        return None


def _parse_exactly(row: bytes) -> Any:
    return json.loads(row.decode("utf-8", "surrogateescape"), parse_float=Decimal, parse_int=_integer)


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) < 4000 else Decimal(text)
