"""``kong-cloudtrail verify``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kong_cloudtrail.errors import SettingsError

from .. import environment
from ..exit_status import ExitStatus
from ..program import Program
from ..terminal import PartsProgress, print_facts

if TYPE_CHECKING:
    from kong_cloudtrail.domain.report_chain import IsSignedBy, ReportChain, StoredReport
    from kong_cloudtrail.operations.verify import Verified
    from kong_cloudtrail.settings import StoredTrails


@click.command(short_help="Check that nothing of the audit trail was removed or altered.")
@click.option("--json", "as_json", is_flag=True, help="Print the result for each trail as a JSON object in a line.")
@click.option(
    "--public-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Check signatures with this key (PEM) instead of asking KMS for the key of ARCHIVE_SIGNING_KEY.",
)
@environment.settings_options
@click.pass_obj
def verify(
    program: Program,
    as_json: bool,
    public_key: Path | None,
    env_file: Path | None,
    function: str | None,
    stack: str | None,
) -> ExitStatus:
    """Check that nothing of the audit trail was removed or altered.

    Checks the chain of run reports in the ledger and, with a signing key, their signatures. For an archive, reads every
    part and checks that it is the one that a report names, that none is missing or extra, and that no entry is there
    twice. Needs neither Kong nor the cache. Says what it has looked at, and fails if there is nothing.

    \b
    Examples:
      kong-cloudtrail verify --stack KongCloudTrailIntegration
      ARCHIVE=./archive kong-cloudtrail verify
    """
    from kong_cloudtrail.assembly import trail_of, verification
    from kong_cloudtrail.settings import StoredTrails

    settings = StoredTrails.from_mapping(environment.read(env_file, function, stack))
    if settings.ledger is None:
        raise SettingsError(["LEDGER: is missing; give s3://bucket/prefix or the folder whose reports to check."])
    is_signed = _signature_check(settings, public_key)
    is_whole = True
    for destination in settings.destinations:
        operation = verification(settings, trail_of(settings.source_name, destination), is_signed)
        with PartsProgress() as progress:
            verified = operation.run(progress.show)
        _print(program, verified, as_json=as_json)
        is_whole = is_whole and not verified.faults and not verified.found_nothing
    return ExitStatus.DONE if is_whole else ExitStatus.NOT_VERIFIED


def _signature_check(settings: StoredTrails, public_key: Path | None) -> IsSignedBy | None:
    if public_key is None and settings.archive_signing_key is None:
        return None
    from ..signatures import check_with_file, check_with_kms

    if public_key is not None:
        return check_with_file(public_key)
    return check_with_kms(settings.archive_signing_key or "")


def _print(program: Program, verified: Verified, *, as_json: bool) -> None:
    chain = verified.chain
    if as_json:
        click.echo(json.dumps(_document(verified)))
    else:
        print_facts(list(_facts(verified)))
    for fault in verified.faults:
        program.complain(fault)
    if verified.found_nothing:
        program.complain(_nothing_found(chain))
    elif not verified.faults and not as_json:
        what = "run reports and parts" if verified.inspection is not None else "run reports"
        click.echo(f"{chain.trail}: whole. No {what} were removed or altered.")


def _document(verified: Verified) -> dict[str, Any]:
    chain, inspection = verified.chain, verified.inspection
    return {
        **chain.trail.fields,
        "whole": not verified.faults and not verified.found_nothing,
        "place": chain.place,
        "reports": chain.count,
        "signed": chain.signed,
        "first_run_at": None if chain.first is None else chain.first.written_at,
        "last_run_at": None if chain.last is None else chain.last.written_at,
        "complete_until": chain.complete_until,
        "archive": None if inspection is None else {k: v for k, v in asdict(inspection).items() if k != "faults"},
        "faults": list(verified.faults),
    }


def _facts(verified: Verified) -> Iterator[tuple[str, str]]:
    chain, inspection = verified.chain, verified.inspection
    yield "place", chain.place
    yield "trail", str(chain.trail)
    yield "reports", str(chain.count)
    if chain.signed is not None:
        yield "of them signed", str(chain.signed)
    elif chain.signatures:
        yield "signatures", f"{chain.signatures}, not checked: give --public-key or set ARCHIVE_SIGNING_KEY"
    if chain.first is not None and chain.last is not None:
        yield "first run", _run(chain.first)
        yield "last run", _run(chain.last)
        begin = "everything that Kong retained" if chain.first.after is None else _time(chain.first.after)
        yield "entries from", begin
        yield "entries until", _time(chain.complete_until)
    if inspection is not None:
        yield "archive", inspection.place
        yield "parts", str(inspection.parts)
        yield "entries", str(inspection.entries)
        if inspection.found_by_later_runs:
            yield "found later", f"{inspection.found_by_later_runs} parts of runs that died"
        if inspection.unreported:
            yield "not reported yet", f"{inspection.unreported} parts of runs that may be at work"


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
        advice = f"This ledger has reports of: {', '.join(chain.other_trails)}. Check SOURCE_NAME and DESTINATION."
    elif chain.complete_until is not None:
        advice = "There is a checkpoint, so there were runs, but none of them has delivered anything yet."
    else:
        advice = "Check LEDGER and SOURCE_NAME. A ledger has no reports until a run has delivered something."
    return f"Nothing to verify: {chain.place} has no run reports of {chain.trail}. {advice}"
