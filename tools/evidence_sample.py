"""Writes docs/evidence-sample.html and .json: the report of a month, from real runs on this machine.

Run it with ``python -m tools.evidence_sample``; it takes a few minutes, and needs `make demo`'s AWS on this machine.

A simulated Kong records a month of calls, and its clock, which is ours too, goes from run to run. So every moment is
the same whenever this is run. So are the hashes, as nothing else in a run report depends on the machine. The id of the
key that signs does, and is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
from kong_cloudtrail.assembly import Assembly, SystemClock, UnlimitedTime
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.runtime.redaction import Redactor
from kong_cloudtrail.settings import Settings

from cli.main import main as kong_cloudtrail
from cli.report import render
from cli.terminal import TerminalTelemetry
from sandbox.kong.entries import make_entries
from sandbox.kong.simulator import KongSimulator
from sandbox.machinery.local_aws import LocalAws
from sandbox.machinery.processes import PROJECT_DIRECTORY

HTML = PROJECT_DIRECTORY / "docs" / "evidence-sample.html"
JSON = HTML.with_suffix(".json")

BUCKETS = ("kong-archive", "kong-ledger")
_ACCOUNT = "111122223333"
_MONTH = datetime(2026, 3, 1, tzinfo=UTC)
_NEXT_MONTH = datetime(2026, 4, 1, tzinfo=UTC)
_HOURS_BETWEEN_RUNS = 6
_RECONCILED_AT_HOUR = 6
_KEY_ID = "01234567-89ab-cdef-0123-456789abcdef"
_OFFICE_HOURS = (8, 18)


def environment_of(kong: KongSimulator, aws: LocalAws, key_arn: str) -> dict[str, str]:
    """Return the variables of the collector, and nothing else."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "KONG_ADMIN_API": kong.url,
        "ARCHIVE": "s3://kong-archive/archive",
        "ARCHIVE_ACCOUNT_ID": _ACCOUNT,
        "ARCHIVE_SIGNING_KEY": key_arn,
        "LEDGER": "s3://kong-ledger/kong-eu",
        "SOURCE_NAME": "kong-eu",
        **aws.environment(),
    }


def entries() -> Iterator[dict[str, Any]]:
    """Return what Kong records in a month: busy in office hours, quiet at the weekend."""
    rng = random.Random(11)
    first, last = int(_MONTH.timestamp()) - 86_400, int(_NEXT_MONTH.timestamp())
    for day, midnight in enumerate(range(first, last, 86_400)):
        is_weekend = datetime.fromtimestamp(midnight, UTC).weekday() >= 5
        count = rng.randrange(2, 6) if is_weekend else rng.randrange(35, 95)
        begin, end = (midnight + hour * 3600 + rng.randrange(3000) for hour in _OFFICE_HOURS)
        yield from make_entries(count, seed=day, first_timestamp=begin, last_timestamp=end)


def run_for_a_month(kong: KongSimulator, environment: dict[str, str]) -> None:
    """Run the collector every few hours, from before the month until after it."""
    every = _HOURS_BETWEEN_RUNS * 3600
    assembly = Assembly(Settings.from_mapping(environment), Redactor())
    with contextlib.closing(assembly), Path(os.devnull).open("w") as nowhere:
        telemetry = TerminalTelemetry(str, nowhere)
        for moment in range(int(_MONTH.timestamp()) - 86_400 + 1800, int(_NEXT_MONTH.timestamp()) + 2 * every, every):
            kong.set_clock(frozen_at=float(moment))
            report = assembly.collector(assembly.trails[0], telemetry, UnlimitedTime()).run()
            assert report.finished, report
            if datetime.fromtimestamp(moment, UTC).hour == _RECONCILED_AT_HOUR:
                reconcile_yesterday(moment)


def reconcile_yesterday(now: int) -> None:
    """Compare the day before with Kong, as somebody's schedule does."""
    midnight = now // 86_400 * 86_400
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = kong_cloudtrail(["reconcile", "--after", utc(midnight - 86_400), "--before", utc(midnight), "--json"])
    assert status == 0 or midnight <= _MONTH.timestamp(), output.getvalue()


def write() -> int:
    """Write both files; return the exit status of `evidence`."""
    numbers = itertools.count(1)
    with ExitStack() as stack:
        aws = stack.enter_context(LocalAws(account_id=_ACCOUNT))
        kong = stack.enter_context(KongSimulator())
        stack.enter_context(mock.patch.dict(os.environ, aws.environment()))
        key_arn = boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec="RSA_2048")["KeyMetadata"]["Arn"]
        s3 = boto3.client("s3")
        for bucket in BUCKETS:
            s3.create_bucket(Bucket=bucket)
        environment = environment_of(kong, aws, key_arn)
        stack.enter_context(mock.patch.dict(os.environ, environment, clear=True))
        stack.enter_context(mock.patch.object(SystemClock, "now", staticmethod(kong.now)))
        stack.enter_context(mock.patch.object(SystemClock, "monotonic", staticmethod(lambda: 0.0)))
        stack.enter_context(mock.patch("secrets.token_hex", lambda size: f"{next(numbers):0{2 * size}x}"))
        for entry in entries():
            kong.add_entries([entry], visible_at=entry["request_timestamp"] + 1)
        run_for_a_month(kong, environment)
        # What is shown as the configuration is that of a deployment, without the addresses of this machine.
        os.environ["KONG_ADMIN_API"] = "https://kong-admin.example.internal:8444"
        kong.set_clock(frozen_at=datetime(2026, 4, 2, 9, 0, tzinfo=UTC).timestamp())
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = kong_cloudtrail(["evidence", "--after", "2026-03-01", "--before", "2026-04-01", "--json"])
        JSON.write_text(output.getvalue().replace(key_arn.rpartition("/")[2], _KEY_ID), encoding="utf-8")
        HTML.write_text(page_of(JSON.read_text("utf-8")), encoding="utf-8")
        return status


def page_of(line: str) -> str:
    """Return the page of what `evidence` has printed, as the command writes it."""
    return render(json.loads(line), hashlib.sha256(line.encode()).hexdigest(), JSON.name)


def main() -> int:
    """Write the sample."""
    status = write()
    print(f"Wrote {HTML.relative_to(PROJECT_DIRECTORY)} and {JSON.name}; the status of `evidence` is {status}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
