"""Reconciling a day of many entries with an archive in a folder: ``python -m benchmarks.reconcile FOLDER ENTRIES``.

With ``--prepare`` it writes the archive, in which a few entries are missing. Pages of Kong are made here, in place of a
gateway, and the time that takes is told apart: what remains is the work of `reconcile` itself, from parsed pages on.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kong_cloudtrail.assembly import SystemClock, UnlimitedTime
from kong_cloudtrail.destinations.archive.destination import Archive
from kong_cloudtrail.destinations.archive.folder import FolderParts
from kong_cloudtrail.destinations.archive.inventory import ArchiveInventory
from kong_cloudtrail.destinations.archive.part_log import PartLog
from kong_cloudtrail.domain.checkpoint import Checkpoint
from kong_cloudtrail.domain.gateway import Gateway
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.domain.trail import Trail
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.operations.verb import answer
from kong_cloudtrail.ports import Page
from kong_cloudtrail.run.guard import NoLock
from kong_cloudtrail.run.plan import Plan
from kong_cloudtrail.sources.kong.entries import read_entries
from kong_cloudtrail.state.folder_store import FolderStore
from kong_cloudtrail.state.ledger import Ledger

PAGE_ENTRIES = 1000
MISSING = (17, 4_711)
"""Entries that the archive lacks."""

_DAY_SECONDS = 86_400
_MIDNIGHT = int(time.time()) // _DAY_SECONDS * _DAY_SECONDS
_TRAIL = Trail("kong", "requests", "archive")
_GATEWAY = Gateway("3.10.0.2-enterprise-edition", "kong-cp-1", None)


@dataclass
class _ManyEntries:
    """A gateway with entries all over yesterday."""

    count: int
    made_seconds: float = field(default=0.0)
    """How long it took to make the pages."""
    made_cpu_seconds: float = field(default=0.0)
    windows_show_all: bool = True

    def describe(self) -> Gateway:
        return _GATEWAY

    def filters_by_time(self, later: int) -> bool:
        return True

    def has_entries_before(self, timestamp: int) -> bool:
        return True

    def pages(self, window: Window | None, resume: str | None = None) -> Iterator[Page]:
        assert window is not None
        assert window.before is not None
        first, last = (self._first_of(moment) for moment in (window.after, window.before))
        for end in range(last, first - 1, -PAGE_ENTRIES):
            began, began_cpu = time.perf_counter(), time.process_time()
            begin = max(end - PAGE_ENTRIES, first)
            rows = [self.row(number) for number in range(end - 1, begin - 1, -1)]
            self.made_seconds += time.perf_counter() - began
            self.made_cpu_seconds += time.process_time() - began_cpu
            yield Page(read_entries(rows), None, is_last=begin == first)
            if begin == first:
                return

    def row(self, number: int) -> dict[str, Any]:
        """Return an entry as Kong shows it."""
        return {
            "request_id": f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}",
            "request_timestamp": _MIDNIGHT - _DAY_SECONDS + number * _DAY_SECONDS // self.count,
            "client_ip": "192.0.2.10",
            "method": "POST",
            "path": f"/services?number={number}",
            "status": 201,
            "payload": f'{{"name":"service-{number}"}}',
            "rbac_user_id": "3c1f6f0e-5d0b-4a57-9f0a-0b8f6a2f7e11",
            "workspace": "7a1d2c34-1111-4222-8333-444455556666",
            "ttl": 2_000_000,
        }

    def _first_of(self, moment: int) -> int:
        """Return the number of the first entry from a moment on."""
        seconds = moment - (_MIDNIGHT - _DAY_SECONDS)
        return min(max(-(-seconds * self.count // _DAY_SECONDS), 0), self.count)


def prepare(folder: Path, count: int) -> None:
    """Write the archive, hour by hour, and a checkpoint as if a run had just ended."""
    source = _ManyEntries(count)
    log = PartLog(FolderParts(str(folder)), "kong", "requests")
    destination = Archive(log, "kong", "requests", f"{_MIDNIGHT:08x}-00000000")
    mapper = destination.mapper(_GATEWAY)
    missing = {source.row(number)["request_id"] for number in MISSING}
    for begin in range(_MIDNIGHT - _DAY_SECONDS, _MIDNIGHT, 3600):
        for page in source.pages(Window(begin, begin + 3600)):
            events = [mapper.map(entry) for entry in page.entries if entry.id not in missing]
            if events:
                destination.deliver(events)
    log.close()
    ledger(folder).save_checkpoint(Checkpoint(complete_until=int(time.time()), caught_up_at=int(time.time())))


def ledger(folder: Path) -> Ledger:
    """Return the ledger beside the archive."""
    return Ledger(FolderStore(str(folder / "_ledger")), _TRAIL, SystemClock())


def reconcile(folder: Path, count: int) -> dict[str, Any]:
    """Reconcile yesterday, and return what it took."""
    source = _ManyEntries(count)
    plan = Plan(
        trail=_TRAIL,
        run_id="0-0",
        may_overlap=True,
        keep_checkpoint=True,
        overlap_seconds=900,
        sweep_seconds=86_400,
        initial_lookback_seconds=None,
        parallel_deliveries=8,
    )
    parts = SimpleNamespace(
        trail=_TRAIL,
        ledger=ledger(folder),
        source=source,
        inventory=ArchiveInventory(FolderParts(str(folder)), "kong", "requests"),
        plan=plan,
        lock=NoLock(),
    )
    installation: Any = SimpleNamespace(
        clock=SystemClock(),
        budget=UnlimitedTime(),
        trails=[parts],
        telemetry=SimpleNamespace(count=lambda *_: None, warning=lambda *_: None),
    )
    window = {"after": utc(_MIDNIGHT - _DAY_SECONDS), "before": utc(_MIDNIGHT)}
    began, began_cpu = time.perf_counter(), time.process_time()
    [trail] = answer("reconcile", window, installation)["trails"]
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    assert (trail["shown"], trail["missing"], trail["extra"]) == (count, len(MISSING), 0), trail
    peak_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "entries": count,
        "seconds": seconds - source.made_seconds,
        "cpu_seconds": cpu_seconds - source.made_cpu_seconds,
        "peak_megabytes": peak_kilobytes / 1024,
    }


def main() -> int:
    """Prepare, or measure and print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconcile")
    parser.add_argument("folder", type=Path)
    parser.add_argument("entries", type=int)
    parser.add_argument("--prepare", action="store_true", help="write the archive")
    options = parser.parse_args()
    if options.prepare:
        prepare(options.folder, options.entries)
    else:
        json.dump(reconcile(options.folder, options.entries), sys.stdout)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
