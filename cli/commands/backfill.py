"""``kong-cloudtrail backfill``."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from ..asking import Asking, asks, window_options
from ..errors import AnswerLost
from ..exit_status import ExitStatus
from ..interruption import UntilInterrupted
from ..rows import TextColumn, print_rows
from ..terminal import OperationProgress, print_facts, say

_WAIT_SECONDS = 5.0
"""Before the next call, if another call or a run is at work."""
_MAX_AT_ONCE = 8
_ANSWERS_LOST = 3
"""Calls in a row without an answer before the command fails. The backfill continues where it is, whoever asks."""


@click.command(short_help="Deliver a range that runs do not read any more.")
@window_options
@click.option("--plan", "show_plan", is_flag=True, help="Show the slices that are left, and deliver nothing.")
@click.option(
    "--at-once",
    type=click.IntRange(1, _MAX_AT_ONCE),
    default=1,
    show_default=True,
    metavar="SLICES",
    help="Work on so many slices at the same time.",
)
@click.option(
    "--redeliver",
    is_flag=True,
    help="Deliver also what may have been delivered before the cache lost its marks.",
)
@click.option(
    "--state-machine",
    is_flag=False,
    flag_value="",
    metavar="[ARN]",
    help="Let the state machine do it, with several functions at once: this one, or that of the stack.",
)
@asks
def backfill(
    asking: Asking,
    after: str,
    before: str,
    show_plan: bool,
    at_once: int,
    redeliver: bool,
    state_machine: str | None,
) -> ExitStatus:
    """Deliver a range that runs do not read any more, beside them.

    Runs deliver everything from the checkpoint on. A backfill is for what is older: entries from before the beginning
    of the trail (INITIAL_LOOKBACK_SECONDS), or that sweeps leave out since the cache has lost its marks. The range is
    cut into slices, and the progress of each is kept in the ledger: interrupt it, ask again, and it continues. What is
    delivered already is not delivered again. The checkpoint stays where it is, and hourly runs go on.

    With --function or --stack the command asks the function again and again until the backfill is finished. For a large
    range, with --state-machine, Step Functions does, for several slices at once, if the deployment has that.

    \b
    Examples:
      kong-cloudtrail backfill --after 2026-11-01 --before 2026-11-08 --stack KongCloudTrailIntegration
      kong-cloudtrail backfill --after 29d --before 2d --at-once 4 --env-file kong.env
      kong-cloudtrail backfill --after 29d --before 2d --stack KongCloudTrailIntegration --state-machine
    """
    fields: dict[str, object] = {"after": after, "before": before, "redeliver": redeliver or None}
    if show_plan:
        _print_plan(asking.answer("backfill", plan=True, **fields), as_json=asking.as_json)
        return ExitStatus.DONE
    if state_machine is not None:
        return _by_state_machine(asking, fields, state_machine)
    fields["at_once"] = at_once
    if asking.is_remote:
        document = _until_finished(asking, fields, None)
    else:
        with UntilInterrupted() as budget:
            document = _until_finished(asking, fields, budget)
    if asking.as_json:
        click.echo(json.dumps(document))
    if not asking.is_remote and budget.status is not None and not document["finished"]:
        asking.program.complain("Interrupted. What was delivered is marked; ask again, and it continues.")
        return budget.status
    return _conclude(asking, document)


def _by_state_machine(asking: Asking, fields: Mapping[str, object], arn: str) -> ExitStatus:
    from .. import state_machine

    if asking.here or not (arn or asking.stack):
        raise click.UsageError("--state-machine needs --stack, without --here, or the ARN of the state machine.")
    if arn and not re.fullmatch(r"arn:[a-z-]+:states:[a-z0-9-]+:\d{12}:stateMachine:[^:]+", arn):
        raise click.UsageError(f"{arn} is not the ARN of a state machine.")
    with OperationProgress() as progress:
        document = state_machine.deliver(
            asking.event(**fields), arn=arn or None, stack=asking.stack, say=say, show=progress.show
        )
    if asking.as_json:
        click.echo(json.dumps(document))
    return _conclude(asking, document)


def _conclude(asking: Asking, document: Mapping[str, Any]) -> ExitStatus:
    """Print how a backfill ended, and return the exit status."""
    trails = document["trails"]
    for trail in trails:
        if not asking.as_json:
            print_facts(list(_facts(document, trail)))
        if trail["gone_before"]:
            say(f"Kong has deleted entries from before {trail['gone_before']} while the backfill was under way.")
        if trail["unreadable"]:
            say(
                f"Kong could not show {trail['unreadable']} rows. Check its error log and its database, then ask for "
                "the same range again."
            )
    if any(trail["unreadable"] for trail in trails):
        return ExitStatus.FAILED
    return ExitStatus.QUARANTINED if any(trail["quarantined"] for trail in trails) else ExitStatus.DONE


def _until_finished(asking: Asking, fields: Mapping[str, object], budget: UntilInterrupted | None) -> Mapping[str, Any]:
    """Ask until the backfill is finished, or, in this process, until a signal comes."""
    lost = 0
    with OperationProgress() as progress:
        while True:
            try:
                document = asking.ask("backfill", budget, **fields)
            except AnswerLost as error:
                lost += 1
                if lost == _ANSWERS_LOST:
                    raise
                say(str(error))
                time.sleep(_WAIT_SECONDS)
                continue
            lost = 0
            if document["finished"] or (budget is not None and budget.status is not None):
                return document
            trails = document["trails"]
            done = sum(trail["slices_done"] for trail in trails)
            progress.show("slices", done, sum(trail["slices"] for trail in trails))
            if document["busy"]:
                time.sleep(_WAIT_SECONDS)


def _print_plan(document: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        return
    names = ("stream", "destination", "slice", "after", "before")
    columns = [TextColumn(name) for name in names]
    plan = document["plan"]
    if plan:
        print_rows(columns, ([str(one[name]) for name in names] for one in plan), as_json=False)
    say(f"{len(plan):,} slices are left." if plan else "Nothing is left: the backfill is finished.")


def _facts(document: Mapping[str, Any], trail: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "trail", "/".join((trail["source"], trail["stream"], trail["destination"]))
    yield "range", f"{document['after']} to {document['before']}"
    yield "slices", f"{trail['slices_done']} of {trail['slices']}"
    yield "delivered", f"{trail['delivered']:,}"
    yield "quarantined", f"{trail['quarantined']:,}"
    if trail["unreadable"]:
        yield "not readable", f"{trail['unreadable']:,}"
