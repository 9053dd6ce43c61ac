"""``kong-cloudtrail evidence``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kong_cloudtrail.errors import SettingsError

from .. import environment
from ..asking import window_options
from ..exit_status import ExitStatus
from ..files import write_whole
from ..program import Program
from ..report import render
from ..report.wording import VERDICTS, moment, number, span
from ..rows import escaped
from ..terminal import OperationProgress, print_facts, say

if TYPE_CHECKING:
    from kong_cloudtrail.ports import AlarmHistory
    from kong_cloudtrail.settings import StoredTrails

_STATUSES = {"complete": ExitStatus.DONE, "complete_with_exceptions": ExitStatus.QUARANTINED}


@click.command(short_help="Write the report for an auditor: whether the trail of a period is complete.")
@window_options
@click.option(
    "--html",
    "html",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report to this file, as a page that needs nothing else to be read or printed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the same as a JSON object in a line.")
@environment.public_key_option
@click.option("--alarms", is_flag=True, help="Ask CloudWatch, with your own credentials, which alarms were raised.")
@environment.settings_options
@click.pass_obj
def evidence(
    program: Program,
    after: str,
    before: str,
    html: Path | None,
    as_json: bool,
    public_key: Path | None,
    alarms: bool,
    env_file: Path | None,
    function: str | None,
    stack: str | None,
) -> ExitStatus:
    """Show whether the audit trail of a period is complete, with everything that says so.

    Reads the ledger and the archive, and needs neither Kong nor the cache. For each trail: how many entries Kong
    showed, and how many are delivered, missing, doubled and in quarantine; whether run reports and parts are as they
    were written; entries by day and by kind; the longest delay; configuration; hashes; and how to check all that by
    hand. What was not checked is named: without `reconcile`, for one, a trail is not proven to be complete.

    The status is 0 if the trails are proven to be complete, 5 if they are but for known exceptions, such as entries in
    quarantine, and otherwise 6. The report is written in each of these cases.

    \b
    Examples:
      kong-cloudtrail evidence --after 2026-03-01 --before 2026-04-01 --html march.html --stack KongCloudTrail
      kong-cloudtrail evidence --after 2026-03-01 --before 2026-04-01 --html march.html --json > march.json
    """
    from kong_cloudtrail.assembly import StoredInstallation
    from kong_cloudtrail.operations.verb import answer
    from kong_cloudtrail.settings import StoredTrails, shown_configuration

    variables = environment.read(env_file, function, stack)
    settings = StoredTrails.from_mapping(variables)
    if settings.ledger is None:
        raise SettingsError(["LEDGER: is missing; give s3://bucket/prefix or the folder of the ledger."])
    with OperationProgress() as progress:
        installation = StoredInstallation(
            settings,
            environment.signature_check(settings, public_key),
            _alarm_history(settings) if alarms else None,
            shown_configuration(variables),
        )
        document = answer("evidence", {"after": after, "before": before}, installation, progress.show)
    line = json.dumps(document)
    if html is not None:
        sha256 = hashlib.sha256(f"{line}\n".encode()).hexdigest()
        write_whole(html, render(document, sha256, f"{html.stem}.json"))
    if as_json:
        click.echo(line)
    else:
        _print(document)
    if html is not None:
        say(f"Wrote {html}.")
    return _STATUSES.get(document["verdict"], ExitStatus.NOT_VERIFIED)


def _alarm_history(settings: StoredTrails) -> AlarmHistory:
    from ..alarms import CloudWatchAlarms

    return CloudWatchAlarms(settings.source_name)


def _print(document: Mapping[str, Any]) -> None:
    for trail in document["trails"]:
        print_facts(list(_facts(document, trail)))
        for finding in trail["findings"]:
            click.echo(f"{finding['severity']}: {escaped(finding['text'])}")
    verdict = VERDICTS[document["verdict"]]
    click.echo(f"{verdict.words}. {verdict.sentence}")


def _facts(document: Mapping[str, Any], trail: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    chain, delay = trail["chain"], trail["longest_delay"]
    yield "trail", "/".join((trail["source"], trail["stream"], trail["destination"]))
    yield "from", moment(document["after"])
    yield "to before", moment(document["before"])
    yield "verdict", VERDICTS[trail["verdict"]].words
    yield "Kong showed", number(trail["shown"])
    for name in ("delivered", "missing", "doubled"):
        yield name, number(trail[name])
    for name in ("quarantined", "discarded"):
        yield name, number(trail["quarantine"][name])
    yield "left out by filters", number(trail["excluded"]["entries"])
    yield "run reports", number(chain["reports"])
    yield "faults in the chain", number(chain["faults"])
    yield "signatures", _signatures(chain)
    yield "longest delay", "not known" if delay is None else f"at most {span(delay['at_most_seconds'])}"


def _signatures(chain: Mapping[str, Any]) -> str:
    if not chain["signatures"]:
        return "none"
    if chain["signed"] is None:
        return f"{chain['signatures']:,}, not checked: give --public-key or set ARCHIVE_SIGNING_KEY"
    return f"{chain['signed']:,} of {chain['signatures']:,} right"
