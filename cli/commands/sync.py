"""``kong-cloudtrail sync``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from kong_cloudtrail.errors import RunFailed

from ..asking import Asking, asks
from ..exit_status import INTERRUPTIONS, ExitStatus, most_urgent
from ..interruption import UntilInterrupted
from ..program import Program
from ..terminal import TerminalTelemetry, print_counts, say

if TYPE_CHECKING:
    from kong_cloudtrail.assembly import Assembly
    from kong_cloudtrail.domain.trail import Trail

_COUNTS = ("fetched", "duplicates", "excluded", "delivered", "shortened", "quarantined", "failed")


@click.command(short_help="Do one run of each trail.")
@asks
def sync(asking: Asking) -> ExitStatus:
    """Do one run of each trail: deliver every entry that was not delivered yet.

    Secrets are read again each time, so you can try a new token before you revoke the old one in Kong.

    \b
    Examples:
      kong-cloudtrail sync --env-file kong.env
      kong-cloudtrail sync --stack KongCloudTrailIntegration
    """
    return _in_function(asking) if asking.is_remote else _in_this_process(asking)


def _in_function(asking: Asking) -> ExitStatus:
    from .. import deployed

    event = asking.event(fresh_secrets=True)
    summaries = deployed.run(event, function=asking.function, stack=asking.stack)
    for summary in summaries:
        if len(summaries) > 1 and not asking.as_json:
            click.echo(f"{summary['stream']} into {summary['destination']}:")
        _print(summary, as_json=asking.as_json)
    return most_urgent([_status(asking.program, summary) for summary in summaries])


def _in_this_process(asking: Asking) -> ExitStatus:
    from kong_cloudtrail.assembly import Assembly
    from kong_cloudtrail.settings import Settings

    assembly = Assembly(Settings.from_mapping(asking.environment()), asking.program.redactor)
    trails = assembly.chosen(asking.stream, asking.destination)
    ends = []
    for trail in trails:
        if len(trails) > 1 and not asking.as_json:
            click.echo(f"{trail.stream} into {trail.destination}:")
        ends.append(_run(asking.program, assembly, trail, as_json=asking.as_json))
        if ends[-1] in INTERRUPTIONS:
            break
    return most_urgent(ends)


def _print(summary: Mapping[str, Any], *, as_json: bool, failed: bool = False) -> None:
    if as_json:
        click.echo(json.dumps(summary))
    # No table of zeros for a run that did nothing.
    elif summary.get("fetched") or not (failed or summary.get("skipped")):
        print_counts([(name, summary[name]) for name in _COUNTS if name != "excluded" or summary.get(name)])


def _run(program: Program, assembly: Assembly, trail: Trail, *, as_json: bool) -> ExitStatus:
    from kong_cloudtrail.runtime.cpu import on_one_cpu
    from kong_cloudtrail.runtime.garbage import rarely_collected

    failure: RunFailed | None = None
    with (
        TerminalTelemetry(program.redactor.clean) as telemetry,
        UntilInterrupted() as budget,
        on_one_cpu(),
        rarely_collected(),
    ):
        try:
            summary: Mapping[str, Any] = assembly.collector(trail, telemetry, budget).run().summary()
        except RunFailed as error:
            failure, summary = error, error.summary
    _print(summary, as_json=as_json, failed=failure is not None)
    if failure is not None:
        program.complain(str(failure))
        return ExitStatus.MISCONFIGURED if telemetry.misconfigured else ExitStatus.FAILED
    if budget.status is not None:
        program.complain("Interrupted. What was delivered is marked; the next run continues.")
        return budget.status
    return _status(program, summary)


def _status(program: Program, summary: Mapping[str, Any]) -> ExitStatus:
    if summary.get("skipped") or not summary["finished"]:  # a run that another one has overtaken
        return ExitStatus.SKIPPED
    if summary["quarantined"]:
        count = summary["quarantined"]
        say(
            f"Refused and put into quarantine: {count}. Run `kong-cloudtrail quarantine replay` once the cause is gone."
        )
        return ExitStatus.DONE if program.quarantine_is_success else ExitStatus.QUARANTINED
    return ExitStatus.DONE
