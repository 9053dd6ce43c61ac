"""One run of the collector, and everything that happens to it and around it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.torture_entries import REFUSED_UID
from sandbox.torture_plan import Kill, LedgerTrouble, Moment, Round, SecondRun, Traffic, ValkeyTrouble
from sandbox.torture_site import LONGEST_RUN_SECONDS, CollectorProcess, Site

_POLL_SECONDS = 0.002
_VALKEY_PATIENCE_SECONDS = 5.0
"""How long the collector waits for an answer of Valkey: shorter pauses must not hurt it."""


class Attempt:
    """A round's run.

    Parameters
    ----------
    site
        Where.
    round_
        What happens.

    Attributes
    ----------
    processes
        The run, and a second one if there was one.
    valkey_failed
        Whether Valkey did not answer for longer than the collector waits.
    valkey_emptied
        Whether Valkey lost its data.
    hung
        Whether the run did not end by itself.
    """

    def __init__(self, site: Site, round_: Round) -> None:
        self._site = site
        self._round = round_
        self._repairs: list[Callable[[], None]] = []
        self._waiting: list[tuple[Moment, Callable[[], None]]] = []
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._entries_judged = 0
        self.processes: list[CollectorProcess] = []
        self.valkey_failed = False
        self.valkey_emptied = False
        self.hung = False

    def go(self) -> None:
        """Run the collector, and make whole afterwards what was broken."""
        self._prepare()
        calls_before = self._accepting_calls()
        try:
            self._happen({"before": 1})
            self.processes.append(self._site.start(self._round))
            began = time.monotonic()
            while any(process.is_running for process in self.processes):
                self._happen(
                    {
                        "start": 1,
                        "kong": len(self._site.kong.requests),
                        "cloudtrail": self._accepting_calls() - calls_before,
                    }
                )
                if time.monotonic() - began > LONGEST_RUN_SECONDS:
                    self.hung = True
                    for process in self.processes:
                        process.signal("KILL")
                time.sleep(_POLL_SECONDS)
            for process in self.processes:
                process.finish()
        finally:
            for repair in reversed(self._repairs):
                repair()
        self._site.kong.clear_faults()
        self._site.wait_until_quiet()
        self._site.cloudtrail.clear_faults()

    # -- what was planned

    def _prepare(self) -> None:
        round_, kong, cloudtrail = self._round, self._site.kong, self._site.cloudtrail
        kong.reset_counters()
        kong.configure(latency_seconds=round_.kong_latency_seconds)
        cloudtrail.configure(
            latency_seconds=round_.cloudtrail_latency_seconds, calls_per_second=round_.calls_per_second
        )
        for kong_fault in round_.kong_faults:
            kong.inject(kong_fault)
        for call_fault in round_.call_faults:
            cloudtrail.inject(call_fault.fault)
        if round_.kill is not None:
            self._prepare_kill(round_.kill)
        cloudtrail.fail_entries("InvalidData", uid_pattern=REFUSED_UID)
        for refusal in round_.entry_refusals:
            cloudtrail.fail_entries(refusal.code, times=refusal.times)
        for action in round_.actions:
            self._waiting.append((action.when, self._step(action)))

    def _prepare_kill(self, kill: Kill) -> None:
        def strike() -> None:
            self.processes[0].signal(kill.signal)

        def look(_event: dict[str, Any]) -> bool:
            """Find no fault with any entry, but kill at one: CloudTrail still accepts the whole call."""
            self._entries_judged += 1
            if self._entries_judged == kill.at_entry:
                strike()
            return False

        if kill.when is not None:
            self._waiting.append((kill.when, strike))
        else:
            self._site.cloudtrail.fail_entries("Never", predicate=look)

    def _step(self, action: ValkeyTrouble | LedgerTrouble | Traffic | SecondRun) -> Callable[[], None]:
        match action:
            case ValkeyTrouble():
                return lambda: self._trouble_valkey(action)
            case LedgerTrouble():
                return lambda: self._trouble_ledger(self._site.ledger / action.place)
            case Traffic():
                return lambda: self._record(action.count)
            case SecondRun():
                return lambda: self.processes.append(self._site.start(self._round))

    # -- when it happens

    def _accepting_calls(self) -> int:
        return sum(call.accepted > 0 for call in self._site.cloudtrail.calls)

    def _happen(self, counts: dict[str, int]) -> None:
        """Let happen what is due, given how often which thing was seen."""
        now = time.monotonic()
        for item in list(self._waiting):
            moment, step = item
            if counts.get(moment.where, 0) >= max(moment.count, 1):
                self._waiting.remove(item)
                self._due.append((now + moment.delay_seconds, step))
        for timed in [one for one in self._due if one[0] <= now]:
            self._due.remove(timed)
            timed[1]()

    # -- what happens

    def _trouble_valkey(self, trouble: ValkeyTrouble) -> None:
        valkey = self._site.valkey
        match trouble.kind:
            case "stop":
                valkey.stop()
                self._repairs.append(valkey.start)
            case "restart":
                valkey.restart_empty()
            case "flush":
                valkey.flush()
            case "pause":
                valkey.pause()
                self._repairs.append(valkey.resume)  # once more does no harm
                self._due.append((time.monotonic() + trouble.seconds, valkey.resume))
        self.valkey_emptied |= trouble.kind != "pause"
        self.valkey_failed |= trouble.kind in ("stop", "restart") or trouble.seconds > _VALKEY_PATIENCE_SECONDS

    def _trouble_ledger(self, place: Path) -> None:
        """Put a file where the ledger has a folder: the one obstacle that stops root too."""
        aside: list[Path] = []
        while True:
            if place.exists():
                aside.append(place.with_name(f"aside-{len(aside)}-{place.name}"))
                place.rename(aside[-1])
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch(exist_ok=False)
                break
            except FileExistsError:
                continue  # the collector made a new one in between

        def repair() -> None:
            place.unlink()
            for folder in aside:
                _move_into(folder, place)

        self._repairs.append(repair)

    def _record(self, count: int) -> None:
        self._site.advance_clock(1)
        self._site.add_fresh(count, seed=self._round.entries_seed + count)


def _move_into(folder: Path, place: Path) -> None:
    """Move what is in one folder into another."""
    place.mkdir(exist_ok=True)
    for path in folder.iterdir():
        target = place / path.name
        if path.is_dir() and target.exists():
            _move_into(path, target)
        else:
            path.replace(target)
    folder.rmdir()
