"""The state of a running demo on both sides: what Kong shows, what CloudTrail has, what is marked or in quarantine.

It is that of requests. If changes of objects are collected, too, they are left out here.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import requests
from kong_cloudtrail.domain.trail import Trail
from kong_cloudtrail.sources.kong.entries import read_entry
from kong_cloudtrail.state.marks import Places
from kong_cloudtrail.state.valkey import ValkeySeenSet, key_prefix

from sandbox.cloudtrail.emulator import CloudTrailEmulator
from sandbox.demo.parts import READER
from sandbox.demo.runs import Run
from sandbox.kong.simulator import KongSimulator
from sandbox.machinery.valkey import Valkey

_PAGE_SIZE = 1000
PICTURE_SECONDS = 0.3
"""For how long one reading of the state serves all open pages."""


def stream_of(event: Mapping[str, Any]) -> str:
    """Return the stream of an event in CloudTrail."""
    return "objects" if "dao_name" in event["additionalEventData"] else "requests"


class LedgerObjects(Protocol):
    """The objects of the ledger."""

    def names(self) -> Iterator[str]:
        """Return the names of all objects."""

    def read(self, name: str) -> bytes:
        """Return an object's content."""


@dataclass(frozen=True)
class Arrival:
    """An entry at CloudTrail.

    Parameters
    ----------
    event_id
        The id that CloudTrail assigned when the entry first arrived.
    received_at
        When it first arrived, Unix seconds.
    times
        How often it was accepted.
    """

    event_id: str
    received_at: float
    times: int


@dataclass(frozen=True)
class Picture:
    """The state of everything at one time, by request id.

    Parameters
    ----------
    entries
        Kong's entries as it shows them, oldest first.
    arrivals
        What CloudTrail accepted.
    marks
        The cache's keys.
    quarantine
        The codes of the reasons.
    runs
        The runs of the last time, oldest first.
    """

    entries: Mapping[str, Mapping[str, Any]]
    arrivals: Mapping[str, Arrival]
    marks: Mapping[str, str]
    quarantine: Mapping[str, str]
    runs: list[Run]

    @property
    def waiting(self) -> int:
        """How many entries at Kong are neither delivered nor in quarantine."""
        return sum(one not in self.arrivals and one not in self.quarantine for one in self.entries)

    def place(self, request_id: str) -> str:
        """Return where an entry is, in a few words."""
        if request_id in self.quarantine:
            return "in quarantine"
        if request_id in self.arrivals:
            return "delivered" if request_id in self.marks else "delivered, not marked"
        return "waits at Kong" if request_id in self.entries else "unknown"


class Watch:
    """Reads the state of every part of a running demo, even if it is broken. Safe to use from several threads.

    Parameters
    ----------
    kong, kong_token
        Kong, and a token that may read its audit log.
    cloudtrail, valkey, ledger
        The parts.
    runs
        Returns the runs of the last time, oldest first.
    """

    def __init__(
        self,
        *,
        kong: KongSimulator,
        kong_token: str,
        cloudtrail: CloudTrailEmulator,
        valkey: Valkey,
        ledger: LedgerObjects,
        runs: Callable[[], list[Run]],
    ) -> None:
        self._lock = threading.Lock()
        self._picture: Picture | None = None
        self._taken_at = 0.0
        self._kong = _KongEntries(kong, kong_token)
        self._cloudtrail = _Arrivals(cloudtrail)
        self._quarantine = _Quarantine(ledger)
        self._valkey = valkey.client()
        self._runs = runs

    def look(self) -> Picture:
        """Return the state of everything, as of at most `PICTURE_SECONDS` ago."""
        with self._lock:
            if self._picture is None or time.monotonic() - self._taken_at > PICTURE_SECONDS:
                runs = self._runs()  # first, so that the rest shows their effects
                entries = self._kong.read()
                self._picture = Picture(
                    entries, self._cloudtrail.read(), self._read_marks(entries), self._quarantine.read(), runs
                )
                self._taken_at = time.monotonic()
            return self._picture

    def remaining_seconds(self, key: str) -> int:
        """Return how long a mark stays in the cache."""
        return int(self._valkey.pttl(key)) // 1000

    def close(self) -> None:
        """Close the connections."""
        self._kong.close()
        self._valkey.close()

    def _read_marks(self, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Return the keys that the marks of rows are in."""
        entries = {request_id: read_entry(row) for request_id, row in rows.items()}
        keys: dict[str, str] = {}
        for name in self._valkey.scan_iter(match="kong-cloudtrail:*:hash-key"):
            trail = Trail(*name.partition("{")[2].partition("}")[0].split("/"))
            marked = ValkeySeenSet(self._valkey, trail).seen(list(entries.values()))
            keys |= {
                request_id: Places(key_prefix(trail), b"", [entry]).names[0]
                for request_id, entry in entries.items()
                if entry.key in marked
            }
        return keys


class _KongEntries:
    """The audit log, read over HTTP; each time only what is new."""

    def __init__(self, kong: KongSimulator, token: str) -> None:
        self._kong = kong
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Kong-Admin-Token"] = token
        self._session.verify = str(kong.ca_pem_path) if kong.ca_pem_path else True
        self._entries: dict[str, Mapping[str, Any]] = {}

    def read(self) -> dict[str, Mapping[str, Any]]:
        newest = max((row["request_timestamp"] for row in self._entries.values()), default=0)
        entries = self._entries | self._read_since(newest)
        if len(entries) != self._kong.entry_count():  # some have expired, or older ones have become visible
            entries = self._read_since(0)
        self._entries = entries
        return entries

    def close(self) -> None:
        self._session.close()

    def _read_since(self, moment: int) -> dict[str, Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = []
        arguments: dict[str, str | int] = {"after": moment, "size": _PAGE_SIZE}
        while True:
            response = self._session.get(f"{self._kong.url}/audit/requests?{READER}", params=arguments, timeout=10)
            response.raise_for_status()
            page = response.json()
            rows += page["data"]
            if "offset" not in page:
                return {row["request_id"]: row for row in sorted(rows, key=lambda row: int(row["request_timestamp"]))}
            arguments["offset"] = page["offset"]


@dataclass
class _Arrivals:
    cloudtrail: CloudTrailEmulator
    arrivals: dict[str, Arrival] = field(default_factory=dict)
    events_read: int = 0

    def read(self) -> dict[str, Arrival]:
        accepted = self.cloudtrail.accepted()
        if len(accepted) < self.events_read:  # somebody cleared it
            self.arrivals, self.events_read = {}, 0
        arrivals = dict(self.arrivals)
        for event in accepted[self.events_read :]:
            if stream_of(event.event) != "requests":
                continue
            first = arrivals.get(event.uid, Arrival(event.event_id, event.received_at, 0))
            arrivals[event.uid] = Arrival(first.event_id, first.received_at, first.times + 1)
        self.arrivals, self.events_read = arrivals, len(accepted)
        return arrivals


@dataclass
class _Quarantine:
    ledger: LedgerObjects
    known: dict[str, tuple[str, str]] = field(default_factory=dict)  # by name of the object: request id, code

    def read(self) -> dict[str, str]:
        names = [name for name in self.ledger.names() if {"quarantine", "requests"} <= set(name.split("/")[:-1])]
        self.known = {name: self.known.get(name) or self._read_one(name) for name in names}
        return dict(self.known.values())

    def _read_one(self, name: str) -> tuple[str, str]:
        record = json.loads(self.ledger.read(name))
        return record["entry"]["request_id"], record["code"]
