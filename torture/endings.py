"""Whether a run ended as it should, in time, and printed what it should and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torture.runs import Problem, Run

_SKIPPED = 4
_ENDINGS = (0, 1, 3, _SKIPPED)
"""Done, failed for a passing reason, misconfigured, skipped: docs/command-line.md. The handler knows the first two."""

_OUTCOMES = ("duplicates", "excluded", "delivered", "quarantined", "failed", "backlog")
_OVERDRAFT_SECONDS = 3.0
_SOON_SECONDS = 40.0


def check_output(run: Run, secrets: Sequence[str]) -> Iterator[Problem]:
    """Check what a run printed and how it ended; yield what is wrong.

    Parameters
    ----------
    run
        The run.
    secrets
        What must not be printed.
    """
    if "Traceback" in run.output:
        yield Problem("output", f"printed a traceback: {run.output.strip().splitlines()[-1][:300]}")
    for secret in secrets:
        if secret in run.output:
            yield Problem("output", f"printed a secret or a payload ({secret[:6]}…)")
    if run.killed:
        return
    if run.summary is None and not run.interrupted and not _may_be_silent(run):
        yield Problem("output", f"printed no report and ended with status {run.exit_status}")
    yield from _check_ending(run)
    yield from _check_time(run)
    if run.summary is not None:
        yield from _check_report(run, run.summary)


def _may_be_silent(run: Run) -> bool:
    """Tell whether a handler may fail before there is a run: it asks the cache first whether to do one."""
    return run.budget_seconds is not None and run.exit_status == 1 and not run.calm


def _check_ending(run: Run) -> Iterator[Problem]:
    if run.exit_status not in _ENDINGS and not run.interrupted:
        yield Problem("ending", f"ended with status {run.exit_status}: {run.output.strip()[-900:]}")
    # A restored snapshot may hold the lock of a run that was at work when it was taken.
    may_skip = run.was_locked or run.companions or run.valkey_lost_marks
    if run.calm and run.exit_status != 0 and not (may_skip and run.exit_status == _SKIPPED):
        yield Problem("ending", f"failed although nothing went wrong: {run.output.strip()[-900:]}")
    summary = run.summary or {}
    if not may_skip and summary.get("skipped") and run.exit_status in (0, _SKIPPED):
        yield Problem("lock", "did nothing, and said that another run is at work: there is none")
    if summary.get("repeated") and not run.was_worked_off:
        yield Problem("lock", "did nothing, and said that its tick was worked off: it was not")
    if run.was_locked and not (run.valkey_failed or run.valkey_lost_marks or run.did_nothing or run.exit_status):
        yield Problem("lock", "did not heed the lock of another run")


def _check_time(run: Run) -> Iterator[Problem]:
    if run.budget_seconds is not None and run.seconds is not None and not run.frozen:
        over_seconds = run.seconds - run.budget_seconds - run.waited_for_cpu_seconds
        if over_seconds > _OVERDRAFT_SECONDS:
            yield Problem("budget", f"took {over_seconds:.1f} s more than its {run.budget_seconds} s")
    who = "Kong" if run.kong_was_down else "the destination" if run.destination_was_down else ""
    if not who:
        return
    if run.exit_status == 0 and not run.did_nothing:
        yield Problem("outage", f"ended as no failure although {who} was down")
    if run.kong_was_down and run.seconds is not None and run.seconds > _SOON_SECONDS:
        yield Problem("outage", f"took {run.seconds:.0f} s to see that Kong was down")


def _check_report(run: Run, report: dict[str, Any]) -> Iterator[Problem]:
    if "fetched" not in report:
        return  # a handler that did no run
    if report["fetched"] != sum(report[part] for part in _OUTCOMES):
        yield Problem("output", f"its counts do not add up: {report}")
    if run.did_its_work and (report["failed"] or report["backlog"]):
        yield Problem("ending", "ended as a success although something stayed undelivered")
