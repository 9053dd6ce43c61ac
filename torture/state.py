"""What the ledger says of a trail: its checkpoint, and its chain of run reports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torture.ledgers import LedgerView
from torture.plan import DestinationName, StreamName

SOURCE = "kong"
NO_REPORT_SHA256 = "0" * 64

# What changes only where something was achieved.
_ACHIEVEMENTS = ("completeUntil", "reading", "sweep", "gaps", "sliceSeconds")


def trail_of(destination: DestinationName, stream: StreamName = "requests") -> str:
    """Return the name of the trail of a stream into a destination, as in the keys of its ledger."""
    return f"{SOURCE}/{stream}/{destination}"


def checkpoint_of(trail: str) -> str:
    """Return the name of a trail's checkpoint."""
    return f"checkpoints/{trail}.json"


@dataclass(frozen=True)
class State:
    """A checkpoint.

    Parameters
    ----------
    document
        The whole of it; empty if there is none.
    """

    document: dict[str, Any] = field(default_factory=dict)

    @property
    def complete_until(self) -> int | None:
        """Every older entry is settled, but for gaps: Unix seconds; ``None`` if that is not known."""
        complete_until: int | None = self.document.get("completeUntil")
        return complete_until

    @property
    def gaps(self) -> list[dict[str, Any]]:
        """Stretches that Kong could not show."""
        return self.document.get("gaps") or []

    @property
    def reading_after(self) -> int | None:
        """Where the slice begins that was not read to its end: Unix seconds; ``None`` if there is none."""
        reading_after: int | None = (self.document.get("reading") or {}).get("after")
        return reading_after

    @property
    def reading_began_at(self) -> int | None:
        """When the reading began that was not read to its end: Unix seconds; ``None`` if there is none."""
        began_at: int | None = (self.document.get("reading") or {}).get("beganAt")
        return began_at

    @property
    def marks_whole_after(self) -> int | None:
        """Every settled entry from then on is marked: Unix seconds; ``None``: every one is."""
        whole_after: int | None = self.document.get("marksWholeAfter")
        return whole_after

    @property
    def excluded(self) -> int:
        """How many entries were left out and counted."""
        return sum((self.document.get("excluded") or {"totals": {}})["totals"].values())

    @property
    def sweep_due(self) -> int | None:
        """When the next sweep is due: Unix seconds by the collector's clock; ``None`` if never."""
        sweep_due: int | None = self.document.get("sweepDue")
        return sweep_due

    @property
    def is_sweeping(self) -> bool:
        """Whether a sweep has begun and not ended."""
        return bool(self.document.get("sweep"))

    @property
    def last_report(self) -> tuple[int, str]:
        """Number and hash of the newest run report that it knows of."""
        run = self.document.get("run") or {"number": 0, "sha256": NO_REPORT_SHA256}
        return run["number"], run["sha256"]

    def gap_holds(self, timestamp: int) -> bool:
        """Tell whether an entry of this time, Unix seconds, may lie in a gap."""
        return any(_holds(gap, timestamp) for gap in self.gaps)

    def moved_to(self, other: State) -> bool:
        """Tell whether a later state is nearer to its end than this one."""
        return self._achieved() != other._achieved()

    def _achieved(self) -> dict[str, Any]:
        return {name: self.document.get(name) for name in _ACHIEVEMENTS}


def _holds(gap: dict[str, Any], timestamp: int) -> bool:
    after, before = gap.get("after"), gap.get("before")
    return (after is None or after <= timestamp) and (before is None or timestamp < before)


class Trail:
    """Reads what a ledger says of its one trail.

    Parameters
    ----------
    ledger
        The ledger.
    name
        The trail: `trail_of`.
    """

    def __init__(self, ledger: LedgerView, name: str) -> None:
        self._ledger = ledger
        self._name = name
        self._checkpoint = checkpoint_of(name)
        self._reports: dict[str, bytes] = {}

    def read(self) -> State:
        """Return the checkpoint."""
        body = self._ledger.read(self._checkpoint)
        return State(json.loads(body) if body is not None else {})

    def make_sweep_due(self) -> None:
        """Let the next run begin a sweep, as if a day had passed."""
        state = self.read()
        if state.document:
            self._ledger.write(self._checkpoint, json.dumps(state.document | {"sweepDue": 0}).encode())

    def check_reports(self, state: State) -> Iterator[str]:
        """Check the chain of run reports, as `verify` does; yield what is wrong with it."""
        for name in self._ledger.names(f"runs/{self._name}/"):
            if name not in self._reports:
                self._reports[name] = self._ledger.read(name) or b"{}"
        last_number, last_sha256 = state.last_report
        previous = NO_REPORT_SHA256
        for number, (_, body) in enumerate(sorted(self._reports.items()), 1):
            report = json.loads(body)
            if (report.get("number"), report.get("previousSha256")) != (number, previous):
                yield f"run report {number} does not continue the chain"
            previous = hashlib.sha256(body).hexdigest()
            if number == last_number and previous != last_sha256:
                yield f"run report {number} is not the one that the checkpoint remembers"
        # Runs that die before they write the checkpoint leave reports that it does not know of yet.
        if last_number > len(self._reports):
            yield f"there are {len(self._reports)} run reports, and the checkpoint remembers {last_number}"
