"""``kong-cloudtrail tfvars``."""

from __future__ import annotations

from pathlib import Path

import click

from ..exit_status import ExitStatus
from ..terminal import say


@click.command(short_help="Translate variables of Kong's Terraform script.")
@click.argument("file", type=click.Path(path_type=Path))
def tfvars(file: Path) -> ExitStatus:
    """Translate the variables of Kong's Terraform script into context of the CDK app.

    FILE is a .tfvars or .tfvars.json file. Nothing is sent anywhere. The token and the values of unknown variables are
    not printed.

    \b
    Example:
      kong-cloudtrail tfvars terraform/my-vars.tfvars
    """
    from .. import tfvars

    translation = tfvars.read(file)
    click.echo(f"In cdk.json:\n\n{translation.as_json()}\n\nor as arguments:\n\n{translation.as_arguments()}")
    for remark in translation.remarks:
        say(f"\n- {remark}")
    return ExitStatus.DONE
