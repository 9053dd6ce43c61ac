"""``kong-cloudtrail verify``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.errors import SettingsError

from .. import environment
from ..exit_status import ExitStatus
from ..program import Program
from ..terminal import OperationProgress, print_facts


@click.command(short_help="Check that nothing of the audit trail was removed or altered.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON object in a line.")
@environment.public_key_option
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
    from kong_cloudtrail.assembly import StoredInstallation
    from kong_cloudtrail.operations.verb import answer
    from kong_cloudtrail.settings import StoredTrails

    settings = StoredTrails.from_mapping(environment.read(env_file, function, stack))
    if settings.ledger is None:
        raise SettingsError(["LEDGER: is missing; give s3://bucket/prefix or the folder whose reports to check."])
    with OperationProgress() as progress:
        installation = StoredInstallation(settings, environment.signature_check(settings, public_key))
        document = answer("verify", {}, installation, progress.show)
    if as_json:
        click.echo(json.dumps(document))
    for trail in document["trails"]:
        _print(program, trail, as_json=as_json)
    return ExitStatus.DONE if document["whole"] else ExitStatus.NOT_VERIFIED


def _print(program: Program, trail: Mapping[str, Any], *, as_json: bool) -> None:
    name = "/".join((trail["source"], trail["stream"], trail["destination"]))
    if not as_json:
        print_facts(list(_facts(name, trail)))
    for fault in trail["faults"]:
        program.complain(fault)
    if not trail["reports"] and not (trail["archive"] or {}).get("parts"):
        program.complain(_nothing_found(name, trail))
    elif not trail["faults"] and not as_json:
        what = "run reports and parts" if trail["archive"] is not None else "run reports"
        click.echo(f"{name}: whole. No {what} were removed or altered.")


def _facts(name: str, trail: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    first, last, archive = trail["first_run"], trail["last_run"], trail["archive"]
    yield "place", trail["place"]
    yield "trail", name
    yield "reports", str(trail["reports"])
    if trail["signed"] is not None:
        yield "of them signed", str(trail["signed"])
    elif trail["signatures"]:
        yield "signatures", f"{trail['signatures']}, not checked: give --public-key or set ARCHIVE_SIGNING_KEY"
    if first is not None and last is not None:
        yield "first run", _run(first)
        yield "last run", _run(last)
        begin = "everything that Kong retained" if first["after"] is None else _time(first["after"])
        yield "entries from", begin
        yield "entries until", _time(trail["complete_until"])
    if trail["reconciliations"]:
        yield "reconciled", f"{trail['reconciliations']} results"
    if archive is not None:
        yield "archive", archive["place"]
        yield "parts", str(archive["parts"])
        yield "entries", str(archive["entries"])
        if archive["found_by_later_runs"]:
            yield "found later", f"{archive['found_by_later_runs']} parts of runs that died"
        if archive["unreported"]:
            yield "not reported yet", f"{archive['unreported']} parts of runs that may be at work"


def _run(run: Mapping[str, Any]) -> str:
    return f"{run['number']}, {_time(run['written_at'])}"


def _time(moment: float | None) -> str:
    """Return Unix seconds as RFC 3339."""
    if moment is None:
        return "unknown"
    try:
        return utc(int(moment))
    except (ValueError, OverflowError, OSError):  # an altered report may contain anything
        return "unknown"


def _nothing_found(name: str, trail: Mapping[str, Any]) -> str:
    if trail["other_trails"]:
        others = ", ".join(trail["other_trails"])
        advice = f"This ledger has reports of: {others}. Check SOURCE_NAME, STREAMS and DESTINATION."
    elif trail["complete_until"] is not None:
        advice = "There is a checkpoint, so there were runs, but none of them has delivered anything yet."
    else:
        advice = "Check LEDGER and SOURCE_NAME. A ledger has no reports until a run has delivered something."
    return f"Nothing to verify: {trail['place']} has no run reports of {name}. {advice}"
