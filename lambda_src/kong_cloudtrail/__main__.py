"""The collector from a command line: ``python -m kong_cloudtrail sync``."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from . import tfvars
from .adapters import processes
from .adapters.redaction import Redactor
from .adapters.telemetry import TerminalTelemetry
from .assembly import Assembly, open_ledger
from .errors import KongCloudTrailError, RunFailed, describe_fault
from .settings import LedgerSettings, Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0 only if everything is as it should be."""
    options = _parser().parse_args(arguments)
    redactor = Redactor()
    try:
        return int(options.command(options, redactor))
    except KongCloudTrailError as error:
        print(redactor.clean(f"kong_cloudtrail: {error}"), file=sys.stderr)
        return 1
    except Exception as error:
        print(f"kong_cloudtrail: {describe_fault(error)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kong_cloudtrail",
        description="Carry Kong Gateway's audit entries to AWS CloudTrail Lake. The settings are environment "
        "variables; see the README.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sync = commands.add_parser("sync", help="do one run: deliver every entry that was not delivered yet")
    sync.add_argument("--json", action="store_true", help="print the run's report as one JSON object, as the last line")
    sync.set_defaults(command=_sync)
    release = commands.add_parser("release", help="deliver what lies in quarantine, once the cause is gone")
    release.set_defaults(command=_release)
    verify = commands.add_parser("verify-runs", help="check that no run report of the ledger was removed or altered")
    verify.set_defaults(command=_verify_runs)
    variables = commands.add_parser(
        "tfvars", help="print the CDK app's context for a Terraform variables file of Kong's proof of concept"
    )
    variables.add_argument("file", type=Path, help="the file, e.g. my.tfvars")
    variables.set_defaults(command=_tfvars)
    return parser


class _UntilInterrupted:
    """The time budget of a laptop: endless, until somebody presses Ctrl-C; then the run ends as if its time were up."""

    def __init__(self) -> None:
        self.interrupted = False

    def remaining_seconds(self) -> float:
        return -math.inf if self.interrupted else math.inf

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, *_: object) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever presses it again means it


def _sync(options: argparse.Namespace, redactor: Redactor) -> int:
    settings = Settings.from_mapping(os.environ)
    # Somebody at a terminal who killed a run need not wait until its lock expires.
    assembly = Assembly(settings, redactor, owner=processes.own_name(), is_gone=processes.is_gone)
    summary: Mapping[str, Any] = {}
    try:
        with _UntilInterrupted() as budget, processes.on_one_cpu():
            report = assembly.collector(TerminalTelemetry(redactor.clean), budget).run()
        summary = report.summary()
    except RunFailed as error:
        summary = error.summary
        raise
    finally:
        if summary:
            _tell(summary, as_json=options.json)
    if budget.interrupted:
        print("kong_cloudtrail: interrupted; what was delivered is marked, the next run goes on.", file=sys.stderr)
        return 130
    return 0


def _tell(summary: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary), flush=True)
        return
    for name in ("fetched", "duplicates", "delivered", "shortened", "quarantined", "failed"):
        print(f"{name:<12}{summary[name]:>10}")
    sys.stdout.flush()


def _release(_options: argparse.Namespace, redactor: Redactor) -> int:
    outcome = Assembly(Settings.from_mapping(os.environ), redactor).quarantine_release().run()
    print(f"delivered {outcome.delivered}, still refused {len(outcome.refused)}")
    for name, code in outcome.refused.items():
        print(f"{code}  {name}")
    return 1 if outcome.refused else 0


def _verify_runs(_options: argparse.Namespace, _redactor: Redactor) -> int:
    faults = list(open_ledger(LedgerSettings.from_mapping(os.environ)).verify_reports())
    for fault in faults:
        print(fault)
    if not faults:
        print("The chain of run reports is whole.")
    return 1 if faults else 0


def _tfvars(options: argparse.Namespace, _redactor: Redactor) -> int:
    translation = tfvars.read(options.file)
    print(f"In cdk.json:\n\n{translation.as_json()}\n\nor as arguments:\n\n{translation.as_arguments()}", flush=True)
    for remark in translation.remarks:
        print(f"\n- {remark}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
