"""Torture: run the collector, kill it, break everything around it, and see whether anything was lost or came twice.

The collector is the real one, a process for each run; Kong and CloudTrail are the simulators, Valkey is real, and
ledger and archive are folders, or in moto's S3. What happens is drawn from the seed beforehand (`draw`); what must be
true is checked after every run (`audit`). The same seed gives the same plan; at which line a signal meets the process
is up to the machine.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sandbox.machinery.processes import PROJECT_DIRECTORY
from torture.attempt import Attempt
from torture.draw import make_plan
from torture.plan import (
    DESTINATIONS,
    RIGHT_CLOCKS,
    STREAMS,
    Action,
    ArchiveTrouble,
    DestinationName,
    LedgerTrouble,
    Round,
    Scenario,
    StreamName,
    ValkeyTrouble,
    calm_round,
)
from torture.process import CollectorProcess
from torture.runs import Counts, Problem, Run, condense
from torture.s3 import MotoServer
from torture.site import Site

COLLECTOR = PROJECT_DIRECTORY / "lambda_src"
_MOST_PROBLEMS = 20
_MOST_CLOSING_RUNS = 6
_CLOSING_SWEEPS = 2
"""The first one ends where the checkpoint was. What became visible behind an unfinished reading lies above that."""

Teller = Callable[[str], None]


def print_line(line: str) -> None:
    """Print a line at once: a teller for several processes."""
    print(line, flush=True)


@dataclass
class Verdict:
    """How a torture ended.

    Parameters
    ----------
    seed, rounds
        Of the plan.
    problems
        What was wrong, each with scenario, round and run.
    rules
        How often which rule was broken.
    counts
        What happened, in numbers.
    seconds
        How long it took.
    """

    seed: int
    rounds: int
    problems: list[str] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0

    def __str__(self) -> str:
        text = f"seed {self.seed}: {self.rounds} rounds in {self.seconds:.0f} s\n{self.counts}\n"
        text += "".join(f"  - {problem}\n" for problem in self.problems[:_MOST_PROBLEMS])
        if not self.problems:
            return text + "PASSED: nothing lost, nothing hidden, nothing else twice"
        broken = ", ".join(f"{rule} {count}" for rule, count in self.rules.most_common())
        return text + f"FAILED with {len(self.problems)} problems: {broken}"


@dataclass(frozen=True)
class _Played:
    """What became of one scenario."""

    number: int
    problems: list[tuple[str, Problem]]
    counts: Counts


def torture(
    rounds: int,
    seed: int,
    *,
    collector: Path = COLLECTOR,
    only: int | None = None,
    focus: Collection[str] = (),
    destinations: Sequence[DestinationName] = DESTINATIONS,
    streams: Sequence[StreamName] = STREAMS,
    jobs: int = 1,
    tell: Teller = lambda line: None,
) -> Verdict:
    """Run a plan.

    Parameters
    ----------
    rounds, seed
        Of the plan.
    collector
        The folder with the package ``kong_cloudtrail`` to be tortured.
    only
        Run the scenario of this number alone.
    focus
        If not empty: only these situations happen, names of `draw.CHANCES`.
    destinations, streams
        Of the scenarios; see `make_plan`.
    jobs
        Scenarios at once, each in a process of its own if there are several. `tell` is called in that process then,
        and must be something that can be sent there.
    tell
        Is told how it goes, in lines.
    """
    everything = make_plan(rounds, seed, focus, destinations, streams)
    plan = [one for one in everything if only in (None, one.number)]
    return play(plan, seed, collector=collector, jobs=jobs, tell=tell)


def play(
    plan: Collection[Scenario],
    seed: int = 0,
    *,
    collector: Path = COLLECTOR,
    jobs: int = 1,
    tell: Teller = lambda line: None,
) -> Verdict:
    """Run scenarios. As `torture`."""
    verdict = Verdict(seed, sum(len(scenario.rounds) for scenario in plan))
    began = time.monotonic()
    with contextlib.ExitStack() as resources:
        s3_port = None
        if any(scenario.needs_s3 for scenario in plan):
            s3_port = resources.enter_context(MotoServer()).port
        one = partial(_play_one, collector=collector, s3_port=s3_port, tell=tell)
        for played in _played(one, plan, jobs):
            verdict.counts += played.counts
            verdict.rules.update(problem.rule for _, problem in played.problems)
            verdict.problems += [f"scenario {played.number}, {where}: {what}" for where, what in played.problems]
    verdict.seconds = time.monotonic() - began
    return verdict


def _played(one: Callable[[Scenario], _Played], plan: Collection[Scenario], jobs: int) -> Iterable[_Played]:
    if jobs == 1:
        yield from map(one, plan)
        return
    with ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=end_in_good_order
    ) as pool:
        try:
            yield from pool.map(partial(_work, one), plan)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _work(one: Callable[[Scenario], _Played], scenario: Scenario) -> _Played:
    """Play a scenario in a process of the pool, which would take its end for a result and go on."""
    try:
        return one(scenario)
    except SystemExit:
        os._exit(128 + signal.SIGTERM)


def end_in_good_order() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that it stops everything that it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _play_one(scenario: Scenario, *, collector: Path, s3_port: int | None, tell: Teller) -> _Played:
    tell(f"{scenario.number}: {scenario}")
    problems: list[tuple[str, Problem]] = []
    with (
        tempfile.TemporaryDirectory(prefix="torture-") as folder,
        Site(scenario, Path(folder), collector, s3_port) as site,
    ):
        for where, problem in _rounds(scenario, site, tell):
            tell(f"{scenario.number}:   PROBLEM in {where}: {problem}")
            problems.append((where, problem))
        return _Played(scenario.number, problems, site.auditor.counts)


def _rounds(scenario: Scenario, site: Site, tell: Teller) -> Iterator[tuple[str, Problem]]:
    """Play all rounds of a scenario, then let it calm down; yield what is wrong, and where."""
    site.add_backlog()
    before: Round | None = None
    for number, round_ in enumerate(scenario.rounds, 1):
        began = time.monotonic()
        site.set_clocks(round_.clocks)
        site.advance_clock(round_.advance_seconds)
        site.add_fresh(round_.new_entries, seed=round_.entries_seed)
        site.set_clocks(round_.clocks.of_run)
        run, problems = _run(site, scenario, round_, number, before)
        before = round_
        site.auditor.counts.situations.update(set(round_.situations))
        tell(
            f"{scenario.number}:   {round_.number}: {_describe(round_)} -> {_outcome(run)}, "
            f"{time.monotonic() - began:.1f} s"
        )
        yield from ((f"round {round_.number}", problem) for problem in condense(problems))
    yield from _close(scenario, site, before)


def _close(scenario: Scenario, site: Site, before: Round | None) -> Iterator[tuple[str, Problem]]:
    """Let everything be well, and sweep, until nothing is left to be done."""
    site.wait_for_late()
    site.set_clocks(RIGHT_CLOCKS)
    site.advance_clock_until_all_is_due()
    for number in range(1, _MOST_CLOSING_RUNS + 1):
        if number <= _CLOSING_SWEEPS:
            site.trail.make_sweep_due()
        run, problems = _run(site, scenario, calm_round(), len(scenario.rounds) + number, before)
        before = calm_round()
        yield from ((f"closing run {number}", problem) for problem in condense(problems))
        summary = run.summary or {}
        did_something = summary.get("delivered") or summary.get("quarantined")
        if number > _CLOSING_SWEEPS and not did_something and not site.trail.read().is_sweeping:
            break
    else:
        yield "closing runs", Problem("ending", f"runs with nothing new to do still do something: {run.output}")
    if not (run.summary or {}).get("finished"):
        yield "closing runs", Problem("ending", "a run around which all is well does not finish")
    yield from (("the end", problem) for problem in condense(site.auditor.end()))
    verified = site.verify()
    archive = (verified.report() or {}).get("archive") or {}
    if verified.exit_status != 0 or archive.get("unreported"):
        yield "the end", Problem("reports", f"verify: {verified.output}")


def _run(site: Site, scenario: Scenario, round_: Round, number: int, before: Round | None) -> tuple[Run, list[Problem]]:
    """Run the collector once, with all that the round has in store, and check what became of it."""
    site.set_nodes(round_)
    site.set_poison(round_)
    earliest_clock, sane_clock = site.clock_readings()
    site.auditor.begin_run(number, sane_clock)
    attempt = Attempt(site, round_)
    attempt.go()
    damage = site.ends.damage
    clocks_before = before.clocks.of_run if before is not None else RIGHT_CLOCKS

    def seen_from_outside(process: CollectorProcess) -> Run:
        return Run(
            number=number,
            exit_status=process.exit_status,
            summary=process.report(),
            output=process.output,
            parallel_deliveries=round_.parallel_deliveries,
            earliest_clock=earliest_clock,
            sane_clock=sane_clock,
            seconds=process.seconds,
            budget_seconds=round_.budget_seconds,
            waited_for_cpu_seconds=process.waited_for_cpu_seconds,
            killed=process.got in ("KILL", "TERM"),
            interrupted=process.got == "INT",
            frozen=attempt.frozen,
            companions=len(attempt.processes) - 1,
            lost_batches=round_.lost_batches,
            valkey_failed=damage.valkey_failed,
            valkey_full=damage.valkey_full,
            valkey_lost_marks=damage.valkey_lost_marks,
            was_locked=round_.another_holds_lock,
            was_worked_off=attempt.tick in site.finished_ticks or len(attempt.processes) > 1,
            calm=round_.is_calm and len(attempt.processes) == 1,
            fair=_is_fair(scenario, round_) and len(attempt.processes) == 1 and not damage.valkey_lost_marks,
            clock_jumped=round_.clocks.of_run != RIGHT_CLOCKS or clocks_before != RIGHT_CLOCKS,
            kong_was_down=round_.kong_is_down and bool(site.kong.requests),
            destination_was_down=attempt.destination_was_down and len(attempt.processes) == 1,
            poisoned=site.auditor.keys_of((*site.poisoned_rows, *site.ends.poisoned)),
            poisoned_times=site.auditor.times_of(site.poisoned_rows),
        )

    run, *others = map(seen_from_outside, attempt.processes)
    problems = [Problem("budget", f"did not end, and was killed after {run.seconds:.0f} s")] if attempt.hung else []
    for other in others:
        problems += site.auditor.check_output(other)
    problems += site.ends.end_run(run)
    for other in others:
        problems += site.auditor.check_success(other)
    _note_tick(site, attempt.tick, [run, *others])
    site.auditor.counts.ledgers[scenario.ledger] += 1
    site.auditor.counts.destinations[_destination_of(scenario)] += 1
    site.auditor.counts.streams[scenario.stream] += 1
    way = "command line" if round_.budget_seconds is None else f"Lambda with {round_.budget_seconds} s"
    site.auditor.counts.ways[way] += 1
    return run, problems


def _destination_of(scenario: Scenario) -> str:
    return f"archive in {scenario.archive}" if scenario.destination == "archive" else scenario.destination


def _is_fair(scenario: Scenario, round_: Round) -> bool:
    """Tell whether nothing but poison keeps a round's run from delivering what can do without the ledger."""
    if round_.mixed is not None or round_.budget_seconds not in (None, 60):
        return False
    ledger_troubles = [
        action for action in round_.actions if isinstance(action, LedgerTrouble) and not action.is_harmless
    ]
    # In a folder, what cannot be written cannot be read either.
    unreadable = any(trouble.place in ("", "checkpoints") for trouble in ledger_troubles)
    if unreadable and scenario.ledger == "folder":
        return False
    others = tuple(action for action in round_.actions if action not in ledger_troubles)
    return not replace(round_, actions=others).passing_troubles


def _note_tick(site: Site, tick: str, runs: Collection[Run]) -> None:
    if not tick:
        return
    if any(run.killed for run in runs):
        site.note_killed_tick()
    elif any(run.did_its_work for run in runs):
        site.finished_ticks.add(tick)


def _describe(round_: Round) -> str:
    troubles = [_name(action) for action in round_.actions]
    troubles += [f"Kong {one.fault.kind}" for one in round_.kong_faults]
    troubles += [f"CloudTrail {one.fault.kind}" for one in round_.call_faults]
    troubles += [refusal.code for refusal in round_.entry_refusals]
    if round_.another_holds_lock:
        troubles.append("locked")
    if round_.kill is not None:
        troubles.append(round_.kill.signal)
    if round_.clocks != RIGHT_CLOCKS:
        troubles.append(str(round_.clocks))
    lasting = {"mixed nodes": round_.mixed, "Kong's poison": round_.kong_poison, "poison": round_.call_poison}
    troubles += [name for name, thing in lasting.items() if thing is not None]
    way = "" if round_.budget_seconds is None else f"{round_.budget_seconds} s in Lambda; "
    return f"{round_.new_entries} entries; {way}{', '.join(troubles) or 'no trouble'}"


def _name(action: Action) -> str:
    name = type(action).__name__
    match action:
        case ValkeyTrouble():
            return f"{name} {action.kind}"
        case LedgerTrouble():
            return f"{name} {action.kind} {action.place}".strip()
        case ArchiveTrouble():
            return f"{name} {action.kind} {action.call}"
    return name


def _outcome(run: Run) -> str:
    if run.killed:
        return "killed"
    summary = run.summary or {}
    said = [f"{summary[name]} {name}" for name in ("delivered", "failed", "backlog") if name in summary]
    said += [name for name in ("skipped", "repeated") if summary.get(name)]
    return f"status {run.exit_status}, {', '.join(said) or 'no report'}"
