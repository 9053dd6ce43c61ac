"""Whole runs into CloudWatch Logs, put together as in production, against a strict emulator of PutLogEvents."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kong_cloudtrail.assembly import Assembly, SystemClock, UnlimitedTime
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.errors import DestinationMisconfigured, RunFailed
from kong_cloudtrail.runtime.redaction import Redactor
from kong_cloudtrail.settings import Settings

from cli.terminal import TerminalTelemetry
from sandbox.cloudwatch_logs.emulator import LOG_GROUP, LogsEmulator
from sandbox.machinery import faults
from sandbox.machinery.faults import Fault
from tests.conftest import Site
from tests.helpers import entry

Run = Callable[..., RunReport]
DAY = 86_400


@pytest.fixture
def run(site: Site, logs: LogsEmulator, bare_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that does one run of each trail; waits do not take time."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(SystemClock, "sleep", staticmethod(lambda seconds: None))
    del site.environment["CHANNEL_ARN"]
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)

    def run_once(logs: LogsEmulator = logs, **changes: str) -> RunReport:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", logs.url)
        redactor = Redactor()
        environment = site.environment | {"LOG_GROUP": logs.log_group_arn} | changes
        assembly = Assembly(Settings.from_mapping(environment), redactor)
        try:
            reports = [
                assembly.collector(trail, TerminalTelemetry(redactor.clean), UnlimitedTime()).run()
                for trail in assembly.trails
            ]
        finally:
            assembly.close()
        return reports[-1]

    return run_once


def rows(*ages_seconds: int, **fields: Any) -> list[dict[str, Any]]:
    now = int(time.time())
    return [
        entry(number, request_id=f"id-{number:06d}", request_timestamp=now - age, ttl=90 * DAY, **fields)
        for number, age in enumerate(ages_seconds)
    ]


def uids(of: list[dict[str, Any]]) -> list[str]:
    return sorted(row["request_id"] for row in of)


def test_first_sync_of_forty_days_delivers_everything_once(run: Run, site: Site, logs: LogsEmulator) -> None:
    kept = rows(*range(5, 40 * DAY, 3600))
    site.kong.add_entries(kept)

    report = run(PAGE_SIZE="100")

    assert report.finished
    old = sum(1 for row in kept if time.time() - row["request_timestamp"] > 14 * DAY - 3600)
    assert report.delivered == len(kept)
    assert old - 2 <= report.redated <= old + 2
    assert report.quarantined == report.failed == 0
    assert sorted(logs.stored_uids()) == uids(kept)
    by_uid = {row["request_id"]: row["request_timestamp"] for row in kept}
    for stored in logs.stored():
        own = by_uid[stored.uid]
        assert stored.event["eventTime"] == utc(own)
        assert stored.timestamp == own * 1000 or stored.ingestion_time - stored.timestamp < 60_000

    again = run(PAGE_SIZE="100")
    assert (again.delivered, again.redated) == (0, 0)
    assert sorted(logs.stored_uids()) == uids(kept)


@pytest.mark.parametrize("known", [True, False])
def test_retention_shorter_than_what_kong_keeps(run: Run, site: Site, known: bool) -> None:
    kept = rows(*range(5, 30 * DAY, 7200))
    site.kong.add_entries(kept)
    with LogsEmulator(retention_days=3) as logs:
        report = run(logs, **({"LOG_GROUP_RETENTION_DAYS": "3"} if known else {}))
        assert sorted(logs.stored_uids()) == uids(kept)
        assert report.delivered == len(kept)
        assert report.redated >= 27 * 12
        assert sum(call.expired for call in logs.calls) == 0 or not known


@pytest.mark.parametrize("skew_hours", [-30, -3, 3, 30])
def test_clock_of_kong_that_is_wrong(run: Run, site: Site, logs: LogsEmulator, skew_hours: int) -> None:
    site.kong.set_clock(skew_seconds=3600 * skew_hours)
    kept = rows(*(age - 3600 * skew_hours for age in range(10, 7200, 60)))
    site.kong.add_entries(kept)
    report = run()
    assert sorted(logs.stored_uids()) == uids(kept)
    assert (report.redated > 0) is (skew_hours > 0)


@pytest.mark.parametrize("ahead_hours", [-5, 5])
def test_own_clock_that_is_wrong(run: Run, site: Site, ahead_hours: int) -> None:
    kept = rows(*range(10, 7200, 60))
    site.kong.add_entries(kept)
    with LogsEmulator(clock_ahead_seconds=3600 * ahead_hours) as logs:
        report = run(logs)
        assert report.finished
        assert sorted(logs.stored_uids()) == uids(kept)


def test_both_streams_have_a_log_stream_each(run: Run, site: Site, logs: LogsEmulator) -> None:
    site.kong.add_entries(rows(10, 20))
    run(STREAMS="requests,objects")
    assert Counter(stored.stream for stored in logs.stored())["kong-eu/requests"] == 2


def test_events_of_ocsf_and_an_archive_beside(run: Run, site: Site, logs: LogsEmulator, tmp_path: Path) -> None:
    kept = rows(10, 20 * DAY)
    site.kong.add_entries(kept)
    report = run(LOG_GROUP_FORMAT="ocsf", ARCHIVE=str(tmp_path / "archive"))
    assert report.trail.destination == "cloudwatch-logs"
    assert [stored.event["class_uid"] for stored in logs.stored()] == [6003, 6003]
    assert sorted(logs.stored_uids()) == uids(kept)
    assert list((tmp_path / "archive").rglob("*.json.gz"))


def test_what_is_too_large_is_delivered_shortened_and_kept_whole(run: Run, site: Site, logs: LogsEmulator) -> None:
    [large] = rows(10, payload="x" * 1_500_000)
    site.kong.add_entries([large])
    report = run()
    assert (report.delivered, report.shortened) == (1, 1)
    [stored] = logs.stored()
    mark = stored.event["additionalEventData"]["shortened"]
    assert mark["fields"] == ["requestParameters.payload"]
    [original] = site.ledger.glob("originals/**/*.json")
    assert json.loads(original.read_text())["payload"] == large["payload"]
    assert "cloudwatch-logs" in str(original)


def test_faults_that_pass_change_nothing(run: Run, site: Site, logs: LogsEmulator) -> None:
    kept = rows(*range(10, 1500))
    site.kong.add_entries(kept)
    logs.inject(Fault(kind="throttle", path="/PutLogEvents", nth=2, times=2))
    logs.inject(faults.aws_error("ServiceUnavailableException", 500, path="/PutLogEvents", nth=4))
    report = run()
    assert report.finished
    assert sorted(logs.stored_uids()) == uids(kept)


def test_lost_answer_brings_the_batch_in_flight_twice_at_most(run: Run, site: Site, logs: LogsEmulator) -> None:
    kept = rows(*range(10, 900))
    site.kong.add_entries(kept)
    logs.inject(Fault(kind="reset_after", path="/PutLogEvents", nth=3))
    report = run()
    assert report.finished
    times = Counter(logs.stored_uids())
    assert sorted(times) == uids(kept)
    assert max(times.values()) <= 2
    assert sum(times.values()) - len(times) <= 250
    assert len({stored.message for stored in logs.stored()}) == len(kept)


def test_entry_that_makes_calls_fail_goes_to_quarantine(run: Run, site: Site, logs: LogsEmulator) -> None:
    kept = rows(*range(10, 60))
    site.kong.add_entries(kept)
    logs.poison(["id-000017"], faults.aws_error("InvalidParameterException"))
    report = run()
    assert (report.delivered, report.quarantined) == (49, 1)
    assert "id-000017" not in logs.stored_uids()


def test_missing_group_stops_the_run_and_marks_nothing(run: Run, site: Site, logs: LogsEmulator) -> None:
    site.kong.add_entries(rows(10, 20))
    logs.delete_group(LOG_GROUP)
    with pytest.raises((DestinationMisconfigured, RunFailed), match="LOG_GROUP"):
        run()
    assert logs.stored_count() == 0
    with LogsEmulator() as there:
        assert run(there).delivered == 2
