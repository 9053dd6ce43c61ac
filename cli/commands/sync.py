"""``kong-cloudtrail sync``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kong_cloudtrail.errors import RunFailed

from .. import environment
from ..exit_status import INTERRUPTIONS, ExitStatus, most_urgent
from ..interruption import UntilInterrupted
from ..program import Program
from ..terminal import TerminalTelemetry, print_counts, say

if TYPE_CHECKING:
    from kong_cloudtrail.assembly import Assembly
    from kong_cloudtrail.domain.trail import Trail

_COUNTS = ("fetched", "duplicates", "delivered", "shortened", "quarantined", "failed")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report of each run as a JSON object in a line.")
@environment.settings_options
@click.pass_obj
def sync(program: Program, as_json: bool, env_file: Path | None, function: str | None, stack: str | None) -> ExitStatus:
    """Do one run of each trail: deliver every entry that was not delivered yet.

    Secrets are read again each time, so you can try a new token before you revoke the old one in Kong.

    \b
    Example:
      kong-cloudtrail sync --env-file kong.env
    """
    from kong_cloudtrail.assembly import Assembly
    from kong_cloudtrail.settings import Settings

    settings = Settings.from_mapping(environment.read(env_file, function, stack))
    assembly = Assembly(settings, program.redactor)
    ends = []
    for trail in assembly.trails:
        if len(assembly.trails) > 1 and not as_json:
            click.echo(f"{trail.destination}:")
        ends.append(_run(program, assembly, trail, as_json=as_json))
        if ends[-1] in INTERRUPTIONS:
            break
    return most_urgent(ends)


def _run(program: Program, assembly: Assembly, trail: Trail, *, as_json: bool) -> ExitStatus:
    from kong_cloudtrail.runtime.cpu import on_one_cpu

    failure: RunFailed | None = None
    with (
        TerminalTelemetry(program.redactor.clean) as telemetry,
        UntilInterrupted() as budget,
        on_one_cpu(),
    ):
        try:
            summary: Mapping[str, Any] = assembly.collector(trail, telemetry, budget).run().summary()
        except RunFailed as error:
            failure, summary = error, error.summary
    if as_json:
        click.echo(json.dumps(summary))
    elif summary["fetched"] or not (failure or summary["skipped"]):  # no table of zeros for a run that did nothing
        print_counts([(name, summary[name]) for name in _COUNTS])
    if failure is not None:
        program.complain(str(failure))
        return ExitStatus.MISCONFIGURED if telemetry.misconfigured else ExitStatus.FAILED
    if budget.status is not None:
        program.complain("Interrupted. What was delivered is marked; the next run continues.")
        return budget.status
    return _status(program, summary)


def _status(program: Program, summary: Mapping[str, Any]) -> ExitStatus:
    if summary["skipped"] or not summary["finished"]:  # a run that another one has overtaken
        return ExitStatus.SKIPPED
    if summary["quarantined"]:
        count = summary["quarantined"]
        say(f"Refused and put into quarantine: {count}. Run `kong-cloudtrail release` once the cause is gone.")
        return ExitStatus.DONE if program.quarantine_is_success else ExitStatus.QUARANTINED
    return ExitStatus.DONE
