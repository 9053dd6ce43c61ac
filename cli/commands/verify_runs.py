"""``kong-cloudtrail verify-runs``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from kong_cloudtrail.errors import SettingsError

from .. import environment
from ..exit_status import ExitStatus
from ..program import Program
from ..terminal import print_facts

if TYPE_CHECKING:
    from kong_cloudtrail.state.run_reports import ReportChain, StoredReport


@click.command("verify-runs", short_help="Check that no run report was removed or altered.")
@environment.settings_options
@click.pass_obj
def verify_runs(program: Program, env_file: Path | None, function: str | None, stack: str | None) -> ExitStatus:
    """Check that no run report in the ledger was removed or altered.

    Needs only LEDGER and SOURCE_NAME. Says which reports it has read, and fails if there are none.

    \b
    Example:
      kong-cloudtrail verify-runs --stack KongCloudTrail
    """
    from kong_cloudtrail.assembly import open_ledger
    from kong_cloudtrail.settings import LedgerSettings

    settings = LedgerSettings.from_mapping(environment.read(env_file, function, stack))
    if settings.place is None:
        raise SettingsError(["LEDGER: is missing; give s3://bucket/prefix or the folder whose reports to check."])
    chain = open_ledger(settings).read_reports()
    print_facts(list(_facts(chain)))
    for fault in chain.faults:
        program.complain(fault)
    if not chain.count:
        program.complain(_nothing_found(chain))
    if chain.faults or not chain.count:
        return ExitStatus.NOT_VERIFIED
    click.echo("The chain of run reports is complete: none was removed or altered.")
    return ExitStatus.DONE


def _facts(chain: ReportChain) -> list[tuple[str, str]]:
    facts = [("place", chain.place), ("trail", str(chain.trail)), ("reports", str(chain.count))]
    if chain.first is None or chain.last is None:
        return facts
    begin = "everything that Kong retained" if chain.first.after is None else _time(chain.first.after)
    return [
        *facts,
        ("first run", _run(chain.first)),
        ("last run", _run(chain.last)),
        ("entries from", begin),
        ("entries until", _time(chain.complete_until)),
    ]


def _run(report: StoredReport) -> str:
    return f"{report.number}, {_time(report.written_at)}"


def _time(moment: float | None) -> str:
    """Return Unix seconds as RFC 3339."""
    if moment is None:
        return "unknown"
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # an altered report may contain anything
        return "unknown"


def _nothing_found(chain: ReportChain) -> str:
    if chain.other_trails:
        advice = f"This ledger has reports of: {', '.join(chain.other_trails)}. Check SOURCE_NAME."
    elif chain.complete_until is not None:
        advice = "There is a checkpoint, so there were runs, but none of them has delivered anything yet."
    else:
        advice = "Check LEDGER and SOURCE_NAME. A ledger has no reports until a run has delivered something."
    return f"Nothing to verify: {chain.place} has no run reports of {chain.trail}. {advice}"
