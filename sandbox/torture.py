"""Torture: run the collector, kill it, break everything around it, and see whether anything was lost or came twice.

``python -m sandbox.torture --rounds 200 --seed 1`` (with the collector on ``PYTHONPATH``, as ``make torture`` does it).
The collector is the real one, a process for each run; Kong and CloudTrail are the simulators, Valkey is real. What
happens is drawn from the seed beforehand (`torture_plan`); what must be true is checked after every run
(`torture_audit`). The same seed gives the same plan; at which line a signal meets the process is up to the machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.processes import PROJECT_DIRECTORY
from sandbox.torture_attempt import Attempt
from sandbox.torture_audit import Counts, Run
from sandbox.torture_plan import Round, Scenario, calm_round, make_plan
from sandbox.torture_site import LONGEST_RUN_SECONDS, CollectorProcess, Site, parse_report

COLLECTOR = PROJECT_DIRECTORY / "lambda_src"
_MOST_PROBLEMS = 20


@dataclass
class Verdict:
    """How a torture ended.

    Parameters
    ----------
    seed, rounds
        Of the plan.
    problems
        What was wrong, one sentence each, with scenario, round and run.
    counts
        What happened, in numbers.
    seconds
        How long it took.
    """

    seed: int
    rounds: int
    problems: list[str] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = self.counts
        causes = ", ".join(f"{count} because {cause}" for cause, count in counts.duplicates.most_common() if count)
        text = (
            f"seed {self.seed}: {self.rounds} rounds, {counts.runs} runs, {counts.kills} of them killed, "
            f"{counts.entries} entries, {self.seconds:.0f} s\n"
            f"{counts.quarantined} in quarantine; delivered again: {causes or 'none'}\n"
        )
        text += "".join(f"  - {problem}\n" for problem in self.problems[:_MOST_PROBLEMS])
        if not self.problems:
            return text + "PASSED: nothing lost, nothing else twice"
        return text + f"FAILED with {len(self.problems)} problems"


def torture(
    rounds: int,
    seed: int,
    *,
    collector: Path = COLLECTOR,
    only: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
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
    tell
        Is told how it goes, in lines.
    """
    verdict = Verdict(seed, rounds)
    began = time.monotonic()
    for scenario in make_plan(rounds, seed):
        if only not in (None, scenario.number):
            continue
        tell(str(scenario))
        with tempfile.TemporaryDirectory(prefix="torture-") as folder, Site(scenario, Path(folder), collector) as site:
            for problem in _play(scenario, site, tell):
                tell(f"  PROBLEM: {problem}")
                verdict.problems.append(f"scenario {scenario.number}, {problem}")
            verdict.counts += site.auditor.counts
    verdict.seconds = time.monotonic() - began
    return verdict


def _play(scenario: Scenario, site: Site, tell: Callable[[str], None]) -> Iterator[str]:
    """Play all rounds of a scenario, then let it calm down; yield what is wrong."""
    site.advance_clock(0)
    site.add_backlog(scenario.backlog_entries, seed=scenario.rounds[0].entries_seed, seconds=scenario.backlog_seconds)
    for number, round_ in enumerate(scenario.rounds, 1):
        began = time.monotonic()
        site.advance_clock(round_.advance_seconds)
        site.add_fresh(round_.new_entries, seed=round_.entries_seed)
        run, problems = _run(site, round_, number)
        tell(f"  {round_.number}: {_describe(round_)} -> {_outcome(run)}, {time.monotonic() - began:.1f} s")
        yield from (f"round {round_.number}: {problem}" for problem in problems)

    site.advance_clock_until_all_is_due()
    for number in (1, 2):
        run, problems = _run(site, calm_round(), len(scenario.rounds) + number)
        yield from (f"closing run {number}: {problem}" for problem in problems)
    if run.summary is None or run.summary["delivered"] or run.summary["quarantined"]:
        yield f"a run with nothing new to do did something: {run.output}"
    yield from site.auditor.end()
    if (verified := site.verify_runs()).exit_status != 0:
        yield f"verify-runs: {verified.output}"


def _run(site: Site, round_: Round, number: int) -> tuple[Run, list[str]]:
    """Run the collector once, with all that the round has in store, and check what became of it."""
    if round_.another_holds_lock:
        site.lock_as_another()
    site.auditor.begin_run(number, site.now)
    began_at = site.now
    attempt = Attempt(site, round_)
    attempt.go()

    def seen_from_outside(process: CollectorProcess) -> Run:
        return Run(
            number=number,
            began_at=began_at,
            exit_status=process.exit_status,
            summary=parse_report(process.output),
            output=process.output,
            parallel_deliveries=round_.parallel_deliveries,
            killed=process.got in ("KILL", "TERM"),
            interrupted=process.got == "INT",
            lost_answers=sum(one.fault.times for one in round_.call_faults if one.loses_answer),
            valkey_failed=attempt.valkey_failed,
            valkey_emptied=attempt.valkey_emptied,
            was_locked=round_.another_holds_lock,
            calm=round_.is_calm and len(attempt.processes) == 1,
        )

    run, *others = map(seen_from_outside, attempt.processes)
    problems = [f"did not end within {LONGEST_RUN_SECONDS:.0f} s"] if attempt.hung else []
    for other in others:
        problems += [f"second run: {problem}" for problem in site.auditor.check_output(other)]
    problems += site.auditor.end_run(run, site.cloudtrail.accepted(), site.marked_keys())
    site.remove_lock_of_another()
    # Not even a dead run's lock is removed: on the same machine the next run sees that it is dead, and takes it over.
    if site.is_locked() and not (run.killed or run.interrupted or run.valkey_failed):
        problems.append("left its lock behind")
    return run, problems


def _describe(round_: Round) -> str:
    troubles = [type(action).__name__ for action in round_.actions]
    troubles += [f"Kong {fault.kind}" for fault in round_.kong_faults]
    troubles += [f"CloudTrail {one.fault.kind}" for one in round_.call_faults]
    troubles += [refusal.code for refusal in round_.entry_refusals]
    if round_.another_holds_lock:
        troubles.append("locked")
    if round_.kill is not None:
        troubles.append(round_.kill.signal)
    return f"{round_.new_entries} entries; {', '.join(troubles) or 'no trouble'}"


def _outcome(run: Run) -> str:
    if run.summary is None:
        return "killed" if run.killed else f"status {run.exit_status}, no report"
    return f"status {run.exit_status}, {run.summary['delivered']} delivered, {run.summary['failed']} failed"


def main() -> int:
    """Torture from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.torture", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="SCENARIO", help="run one scenario of the plan alone")
    parser.add_argument("--collector", type=Path, default=COLLECTOR, help="torture another kong_cloudtrail than ours")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.rounds} rounds", flush=True)
    verdict = torture(
        options.rounds,
        options.seed,
        collector=options.collector.resolve(),
        only=options.only,
        tell=lambda line: print(line, flush=True),
    )
    print(verdict)
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
