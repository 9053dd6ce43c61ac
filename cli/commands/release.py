"""``kong-cloudtrail release``."""

from __future__ import annotations

from pathlib import Path

import click

from .. import environment
from ..exit_status import ExitStatus
from ..program import Program
from ..terminal import TerminalTelemetry


@click.command()
@environment.settings_options
@click.pass_obj
def release(program: Program, env_file: Path | None, function: str | None, stack: str | None) -> ExitStatus:
    """Deliver the entries in quarantine, once the cause is gone.

    Entries that are refused again stay there, and are listed with the code of the reason.

    \b
    Example:
      kong-cloudtrail release --stack KongCloudTrailIntegration
    """
    from kong_cloudtrail.assembly import Assembly, UnlimitedTime
    from kong_cloudtrail.operations.release import QuarantineRelease
    from kong_cloudtrail.settings import Settings

    settings = Settings.from_mapping(environment.read(env_file, function, stack))
    assembly = Assembly(settings, program.redactor)
    with TerminalTelemetry(program.redactor.clean) as telemetry:
        parts = [assembly.parts(trail, telemetry, UnlimitedTime()) for trail in assembly.trails]
        outcomes = [QuarantineRelease(each.ledger, each.destination).run() for each in parts]
    refused = {name: code for outcome in outcomes for name, code in outcome.refused.items()}
    click.echo(f"delivered {sum(outcome.delivered for outcome in outcomes)}, still refused {len(refused)}")
    for name, code in refused.items():
        click.echo(f"{code}  {name}")
    return ExitStatus.QUARANTINED if refused else ExitStatus.DONE
