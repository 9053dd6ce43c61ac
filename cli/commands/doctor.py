"""``kong-cloudtrail doctor``."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click
from kong_cloudtrail.domain.finding import Area, Finding, Status, diagnosis
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.errors import CollectorError, SettingsError
from kong_cloudtrail.ports import Check

from ..asking import Asking, asks
from ..errors import AnswerLost, RemoteRequestInvalid
from ..exit_status import ExitStatus
from ..rows import print_rows, shown
from ..terminal import is_terminal, stdout_console

_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red", Status.NOT_CHECKED: "dim"}
DEPLOYMENT = Area("deployment")
_COLUMNS = ("status", "area", "check", "what", "do")


@click.command(short_help="Check everything that runs need, and say what to do where it is wrong.")
@asks
def doctor(asking: Asking) -> ExitStatus:
    """Check everything that runs need, and say what to do where it is wrong.

    Looks at the settings, at Kong (name, connection, certificate, version, audit log, rights of the token), the cache,
    the ledger, each destination and the clocks, all at the same time, and ends within about ten seconds. A failure
    does not keep the rest from being checked. With --function or --stack, the function looks at these, and you at its
    schedule, its alarms, the table over the archive and the log group, with your own permissions. What may not be seen
    is said to be not checked.

    Nothing is delivered. It leaves a small object below doctor/ in the ledger, and Kong records its few reads.

    Ends with 3 if somebody has to change something, with 1 if something failed that may pass, and with 0 otherwise.

    \b
    Examples:
      kong-cloudtrail doctor --stack KongCloudTrailIntegration
      kong-cloudtrail doctor --env-file kong.env
    """
    document = asking.printed(_diagnosis(asking))
    if not asking.as_json:
        _print(document)
    return _status(document["findings"])


def _diagnosis(asking: Asking) -> Mapping[str, Any]:
    """Return what the installation finds, and with it what only its operator can see."""
    from ..deployment import Deployment, archive_checks

    if not asking.has_deployment:
        return _with(asking.ask("doctor"), _Around(archive_checks(os.environ)).findings())
    deployment = Deployment(function=asking.function, stack=asking.stack)
    around = _Around(deployment.checks)
    began = time.time()
    try:
        document = asking.ask("doctor")
    except RemoteRequestInvalid:
        raise  # the function does not understand
    except CollectorError as error:
        if isinstance(error, SettingsError) and not deployment.can_be_seen:
            raise  # there is no such function, or nobody could look for it
        document = {"verb": "doctor", "answered_at": utc(int(began)), "seconds": 0.0, "findings": [_no_answer(error)]}
    return _with(document, around.findings())


def _no_answer(error: CollectorError) -> dict[str, Any]:
    """Return that the function did not answer, which does not keep the rest from being checked."""
    return DEPLOYMENT.failed(
        "answer",
        " ".join(error.problems) if isinstance(error, SettingsError) else str(error),
        "Correct that, or look at the function's log. Nothing was checked from inside of the VPC.",
        may_pass=isinstance(error, AnswerLost),
    ).document()


class _Around:
    """Checks that go on beside those of the installation. Nobody who presses Ctrl-C waits for them."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = checks
        self._found: list[Finding] = []
        self._thread = threading.Thread(target=self._examine, name="deployment", daemon=True)
        self._thread.start()

    def findings(self) -> list[Finding]:
        self._thread.join()
        return self._found

    def _examine(self) -> None:
        from kong_cloudtrail.operations.doctor import examine
        from kong_cloudtrail.operations.verb import no_progress

        self._found = examine(self._checks, no_progress)


def _with(document: Mapping[str, Any], found: Sequence[Finding]) -> Mapping[str, Any]:
    """Return the document with further findings, each in its area.

    Of two findings about the same thing, that of the installation counts, unless it could not be checked there.
    """
    added = [finding.document() for finding in found]
    checked = {_thing(finding) for finding in added if finding["status"] != Status.NOT_CHECKED}
    findings = [
        finding
        for finding in document["findings"]
        if finding["status"] != Status.NOT_CHECKED or _thing(finding) not in checked
    ]
    known = {_thing(finding) for finding in findings}
    findings += [finding for finding in added if _thing(finding) not in known]
    areas = list(dict.fromkeys(finding["area"] for finding in findings))
    findings.sort(key=lambda finding: areas.index(finding["area"]))
    return {**document, **diagnosis(findings)}


def _thing(finding: Mapping[str, Any]) -> tuple[str, str]:
    return finding["area"], finding["check"]


def _status(findings: Sequence[Mapping[str, Any]]) -> ExitStatus:
    failed = [finding for finding in findings if finding["status"] == Status.FAILED]
    if any(not finding["may_pass"] for finding in failed):
        return ExitStatus.MISCONFIGURED
    return ExitStatus.FAILED if failed else ExitStatus.DONE


def _print(document: Mapping[str, Any]) -> None:
    findings = document["findings"]
    if not is_terminal(sys.stdout):
        rows = ([finding[name] for name in _COLUMNS] for finding in findings)
        print_rows([_Column(name) for name in _COLUMNS], rows, as_json=False)
        return
    _print_table(findings)
    counts = document["counts"]
    parts = [f"{counts[status]} {_word(status)}" for status in reversed(Status) if counts[status]]
    click.echo(f"{', '.join(parts)}, in {document['seconds']:.1f} s.")


class _Column:
    """A column of texts."""

    type = "varchar"

    def __init__(self, name: str) -> None:
        self.name = name


def _print_table(findings: Sequence[Mapping[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = stdout_console()
    area = None
    width = max(len(shown(finding["check"])) for finding in findings)
    for finding in findings:
        if finding["area"] != area:
            area = finding["area"]
            console.print(Text(shown(area), style="bold"))
        status = Status(finding["status"])
        table = Table.grid(padding=(0, 1))
        table.add_column(width=1)
        table.add_column(width=max(len(_word(each)) for each in Status))
        table.add_column(width=min(width, console.width // 4), overflow="fold")
        table.add_column(overflow="fold")
        text = Text(shown(finding["what"]))
        if finding["do"] and status is not Status.OK:
            text.append(f"\n> {shown(finding['do'])}", style="italic")
        table.add_row("", Text(_word(status), style=_STYLES[status]), Text(shown(finding["check"])), text)
        console.print(table)
    console.file.flush()


def _word(status: Status) -> str:
    return status.value.replace("_", " ")
