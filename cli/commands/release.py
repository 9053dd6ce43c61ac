"""``kong-cloudtrail release``."""

from __future__ import annotations

from pathlib import Path

import click

from .. import environment
from ..exit_status import ExitStatus
from ..program import Program


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
    from kong_cloudtrail.assembly import Assembly
    from kong_cloudtrail.settings import Settings

    settings = Settings.from_mapping(environment.read(env_file, function, stack))
    assembly = Assembly(settings, program.redactor)
    outcomes = [assembly.quarantine_release(trail).run() for trail in assembly.trails]
    refused = {name: code for outcome in outcomes for name, code in outcome.refused.items()}
    click.echo(f"delivered {sum(outcome.delivered for outcome in outcomes)}, still refused {len(refused)}")
    for name, code in refused.items():
        click.echo(f"{code}  {name}")
    return ExitStatus.QUARANTINED if refused else ExitStatus.DONE
