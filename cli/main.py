"""The program: its commands, and how errors become messages and exit statuses."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import click
from kong_cloudtrail import __version__
from kong_cloudtrail.errors import (
    CollectorError,
    DestinationMisconfigured,
    RequestInvalid,
    SecretUnavailable,
    SettingsError,
    SourceRefused,
    describe_fault,
)

from .commands.backfill import backfill
from .commands.doctor import doctor
from .commands.evidence import evidence
from .commands.preview import preview
from .commands.quarantine import quarantine
from .commands.query import query
from .commands.reconcile import reconcile
from .commands.status import status
from .commands.sync import sync
from .commands.tfvars import tfvars
from .commands.verify import verify
from .commands.verify_signatures import verify_signatures
from .errors import QueryRefused, QueryWrong, RemoteRequestInvalid
from .exit_status import ExitStatus
from .interruption import Interrupted, raising_on_signals
from .program import NAME, Program
from .terminal import discard

_OUTPUT_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_MISCONFIGURED = (DestinationMisconfigured, QueryRefused, SecretUnavailable, SourceRefused)


class _Commands(click.Group):
    """Turns every error into a message and an exit status."""

    def invoke(self, ctx: click.Context) -> ExitStatus:
        program = ctx.ensure_object(Program)
        try:
            status: ExitStatus = super().invoke(ctx)
            if sys.stdout is not None:  # None if the program was started with standard output closed
                sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit):
            raise
        except CollectorError as error:
            program.complain(str(error))
            return _status_of(error)
        except ModuleNotFoundError as error:
            program.complain(f"The Python package {error.name} is missing. Install kong-cloudtrail-integration[cli].")
            return ExitStatus.USAGE
        except BrokenPipeError:
            discard(sys.stdout)
            program.complain("The program that reads the output has ended.")
            return ExitStatus.CLOSED_PIPE
        except Exception as error:
            if _is_output(error):
                discard(sys.stdout)
            program.complain(_describe(error))
            return ExitStatus.PROGRAM
        return status

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit status"):
            formatter.write_dl([(str(status.value), status.meaning.replace("`", "")) for status in ExitStatus])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message=f"{NAME} %(version)s")
def commands() -> None:
    """Deliver Kong Gateway's audit log to an archive in S3, CloudTrail Lake or CloudWatch Logs, and prove it.

    Settings are environment variables, such as ARCHIVE. See docs/command-line.md.
    """


for _command in (
    sync,
    preview,
    backfill,
    doctor,
    status,
    quarantine,
    reconcile,
    verify,
    verify_signatures,
    evidence,
    query,
    tfvars,
):
    commands.add_command(_command)


def main(
    arguments: Sequence[str] | None = None, *, program_name: str = NAME, quarantine_is_success: bool = False
) -> int:
    """Run a command.

    Parameters
    ----------
    arguments
        The arguments; by default those of the process.
    program_name
        The program's name in the help.
    quarantine_is_success
        As in `Program`.

    Returns
    -------
    int
        The exit status, see `ExitStatus`.
    """
    program = Program(quarantine_is_success)
    try:
        with raising_on_signals():
            return int(commands.main(arguments, program_name, standalone_mode=False, obj=program))
    except click.ClickException as error:
        error.show()
        return ExitStatus.USAGE
    except Interrupted as error:
        program.complain("Interrupted.")
        return error.status


def _status_of(error: CollectorError) -> ExitStatus:
    if isinstance(error, SettingsError | RequestInvalid | RemoteRequestInvalid | QueryWrong):
        return ExitStatus.USAGE
    return ExitStatus.MISCONFIGURED if isinstance(error, _MISCONFIGURED) else ExitStatus.FAILED


def _is_output(error: Exception) -> bool:
    return isinstance(error, OSError) and error.filename is None and error.errno in _OUTPUT_FAILURES


def _describe(error: Exception) -> str:
    if _is_output(error):
        reason = os.strerror(getattr(error, "errno", 0))
        return f"Writing failed: {reason}. Check where the output goes, and the temporary folder (TMPDIR)."
    # Libraries derive their own errors from OSError; such an error here would be a bug.
    if isinstance(error, OSError) and error.filename is not None and type(error).__module__ == "builtins":
        return f"{error.filename}: {error.strerror}."
    return describe_fault(error)
