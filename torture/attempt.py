"""One run of the collector, and everything that happens to it and around it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torture.entries import REFUSED_UID
from torture.plan import (
    Action,
    Freeze,
    Kill,
    LedgerTrouble,
    Moment,
    Round,
    SecondRun,
    Traffic,
    ValkeyTrouble,
)
from torture.process import CollectorProcess
from torture.site import Site

LONGEST_RUN_SECONDS = 180.0
"""What a run from the command line, without a budget, may take before it is killed."""

_POLL_SECONDS = 0.004
_STARTING_SECONDS = 20.0
"""What a process may take besides the budget of its invocation."""

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
        The run, and others that were started meanwhile.
    tick
        The tick of the schedule that they name, if any.
    valkey_failed
        Whether Valkey did not answer for longer than the collector waits.
    valkey_lost_marks
        Whether Valkey lost its data, or got back older data.
    valkey_full
        Whether Valkey took no more writes.
    frozen
        Whether the run stood still.
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
        self._calls_seen = self._accepting = 0
        self._over_relay = any(
            isinstance(action, ValkeyTrouble) and action.kind in ("lose reply", "break connections")
            for action in round_.actions
        )
        self.processes: list[CollectorProcess] = []
        self.tick = site.tick_of(round_)
        self.valkey_failed = False
        self.valkey_lost_marks = False
        self.valkey_full = False
        self.frozen = False
        self.hung = False

    def go(self) -> None:
        """Run the collector, and make whole afterwards what was broken."""
        self._prepare()
        self._calls_seen = len(self._site.cloudtrail.calls)
        budget_seconds = self._round.budget_seconds
        patience_seconds = LONGEST_RUN_SECONDS if budget_seconds is None else budget_seconds + _STARTING_SECONDS
        try:
            self._happen({"before": 1})
            self._start()
            began = time.monotonic()
            while any(process.is_running for process in self.processes):
                self._happen(
                    {
                        "start": 1,
                        "kong": len(self._site.kong.requests),
                        "cloudtrail": self._accepting_calls(),
                    }
                )
                if time.monotonic() - began > patience_seconds + (LONGEST_RUN_SECONDS if self.frozen else 0):
                    self.hung = True
                    for process in self.processes:
                        process.signal("KILL")
                time.sleep(_POLL_SECONDS)
            for process in self.processes:
                process.finish()
        finally:
            for process in self.processes:
                process.signal("KILL")  # where the torture itself is ended
            for repair in reversed(self._repairs):
                repair()
        self._site.kong.clear_faults()
        self._site.relay.clear_faults()
        self._site.wait_until_quiet()
        self._site.cloudtrail.clear_faults()

    # -- what was planned

    def _prepare(self) -> None:
        round_, kong, cloudtrail = self._round, self._site.kong, self._site.cloudtrail
        kong.reset_counters()
        kong.configure(latency_seconds=round_.kong_latency_seconds)
        cloudtrail.configure(latency_seconds=round_.delivery_latency_seconds, calls_per_second=round_.calls_per_second)
        for kong_fault in round_.kong_faults:
            kong.inject(kong_fault.fault)
        for call_fault in round_.call_faults:
            cloudtrail.inject(call_fault.fault)
        if round_.kill is not None:
            self._prepare_kill(round_.kill)
        cloudtrail.fail_entries("InvalidData", uid_pattern=REFUSED_UID)
        for refusal in round_.entry_refusals:
            cloudtrail.fail_entries(refusal.code, times=refusal.times, times_per_entry=refusal.times_per_entry)
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

    def _start(self) -> None:
        self.processes.append(self._site.start(self._round, self.tick, over_relay=self._over_relay))

    def _step(self, action: Action) -> Callable[[], None]:
        match action:
            case ValkeyTrouble():
                return lambda: self._trouble_valkey(action)
            case LedgerTrouble():
                return lambda: self._repairs.append(self._site.ledger.trouble(action))
            case Traffic():
                return lambda: self._record(action.count)
            case SecondRun():
                return self._start
            case Freeze():
                return lambda: self._freeze(action.seconds)

    # -- when it happens

    def _accepting_calls(self) -> int:
        """Return in how many calls since the beginning CloudTrail accepted something."""
        new = self._site.cloudtrail.calls[self._calls_seen :]
        self._calls_seen += len(new)
        self._accepting += sum(call.accepted > 0 for call in new)
        return self._accepting

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
        valkey, relay = self._site.valkey, self._site.relay
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
            case "full":
                self._limit_memory(trouble.headroom_bytes)
                self._repairs.append(lambda: self._limit_memory(None))
            case "snapshot":
                self._site.snapshot = valkey.snapshot()
            case "restore":
                self._restore()
            case "break connections":
                relay.break_connections()
            case "lose reply":
                relay.lose_reply(trouble.command)
        self.valkey_lost_marks |= trouble.kind in ("stop", "restart", "flush")
        self.valkey_full |= trouble.kind == "full"
        self.valkey_failed |= trouble.kind in ("stop", "restart") or trouble.seconds > _VALKEY_PATIENCE_SECONDS

    def _limit_memory(self, headroom_bytes: int | None) -> None:
        self._site.valkey.limit_memory(headroom_bytes)

    def _restore(self) -> None:
        if self._site.snapshot is not None:
            self._site.valkey.restore(self._site.snapshot)
            self.valkey_lost_marks = True

    def _freeze(self, seconds: float) -> None:
        """Let the run stand still until its lock has expired and another run has begun."""
        process = self.processes[0]
        if not process.is_running:
            return
        self.frozen = True
        process.freeze()
        self._repairs.append(process.thaw)
        thaws_at = time.monotonic() + seconds
        self._due += [(thaws_at - _HEAD_START_SECONDS, self._start), (thaws_at, process.thaw)]

    def _record(self, count: int) -> None:
        self._site.advance_clock(1)
        self._site.add_fresh(count, seed=self._round.entries_seed + count)


_HEAD_START_SECONDS = 0.7
"""How long before a frozen run goes on another one is started: about when that one begins to deliver."""
