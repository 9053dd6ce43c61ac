"""One run of the collector, and everything that happens to it and around it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

from torture.plan import Action, Freeze, LedgerTrouble, Moment, Round, SecondRun, Traffic
from torture.process import CollectorProcess
from torture.site import Site

LONGEST_RUN_SECONDS = 180.0
"""What a run from the command line, without a budget, may take before it is killed."""

_POLL_SECONDS = 0.004
_STARTING_SECONDS = 20.0
"""What a process may take besides the budget of its invocation."""


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
    frozen
        Whether the run stood still.
    destination_was_down
        Whether no delivery was answered, though some were tried.
    hung
        Whether the run did not end by itself.
    """

    def __init__(self, site: Site, round_: Round) -> None:
        self._site = site
        self._round = round_
        self._repairs: list[Callable[[], None]] = []
        self._waiting: list[tuple[Moment, Callable[[], None]]] = []
        self._due: list[tuple[float, Callable[[], None]]] = []
        self.processes: list[CollectorProcess] = []
        self.tick = site.tick_of(round_)
        self.destination_was_down = False
        self.frozen = False
        self.hung = False

    def go(self) -> None:
        """Run the collector, and make whole afterwards what was broken."""
        self._prepare()
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
                        "delivery": self._deliveries(),
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
            self.destination_was_down = self._site.ends.was_down(self._round)
            for repair in reversed(self._repairs):
                repair()
        self._site.kong.clear_faults()
        self._site.ends.calm_down()

    def repair_later(self, repair: Callable[[], None]) -> None:
        """Do something when the run has ended."""
        self._repairs.append(repair)

    def do_after(self, seconds: float, step: Callable[[], None]) -> None:
        """Do something after a while."""
        self._due.append((time.monotonic() + seconds, step))

    # -- what was planned

    def _prepare(self) -> None:
        round_, kong = self._round, self._site.kong
        kong.reset_counters()
        kong.configure(latency_seconds=round_.kong_latency_seconds)
        for kong_fault in round_.kong_faults:
            kong.inject(kong_fault.fault)
        self._site.ends.prepare(round_, self._site.plain_ids, self._strike)
        if round_.kill is not None and round_.kill.when is not None:
            self._waiting.append((round_.kill.when, self._strike))
        for action in round_.actions:
            self._waiting.append((action.when, self._step(action)))

    def _strike(self) -> None:
        if self._round.kill is not None:
            self.processes[0].signal(self._round.kill.signal)

    def _start(self) -> None:
        self.processes.append(self._site.start(self._round, self.tick))

    def _step(self, action: Action) -> Callable[[], None]:
        match action:
            case LedgerTrouble():
                return lambda: self.repair_later(self._site.ledger.trouble(action))
            case Traffic():
                return lambda: self._record(action.count)
            case SecondRun():
                return self._start
            case Freeze():
                return lambda: self._freeze(action)
        step = self._site.ends.step(action, self)
        if step is None:
            raise ValueError(f"{action} cannot happen to this destination")
        return step

    # -- when it happens

    def _deliveries(self) -> int:
        """Return how many there were, if anything waits for one."""
        is_awaited = any(moment.where == "delivery" for moment, _ in self._waiting)
        return self._site.ends.deliveries() if is_awaited else 0

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

    def _freeze(self, freeze: Freeze) -> None:
        """Let the run stand still until its lock has expired and another run has begun."""
        process = self.processes[0]
        if not process.is_running:
            return
        self.frozen = True
        process.freeze()
        self._repairs.append(process.thaw)
        self.do_after(freeze.seconds - freeze.head_start_seconds, self._start)
        self.do_after(freeze.seconds, process.thaw)

    def _record(self, count: int) -> None:
        self._site.advance_clock(1)
        self._site.add_fresh(count, seed=self._round.entries_seed + count)
