"""Whole runs, put together as in production, against Kong, CloudTrail, a real Valkey and a real folder."""

from __future__ import annotations

import gzip
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from kong_cloudtrail.assembly import Assembly, SystemClock, UnlimitedTime
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.errors import RunFailed
from kong_cloudtrail.runtime.redaction import Redactor
from kong_cloudtrail.settings import Settings

from cli.terminal import TerminalTelemetry
from sandbox.kong.simulator import KongSimulator
from sandbox.machinery import faults
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.faults import Fault
from sandbox.machinery.local_aws import LocalAws
from tests.conftest import KONG_TOKEN, Site
from tests.helpers import NOW, change, entry

Run = Callable[..., RunReport]
DAY = 86_400
AUDIT = "/audit/requests"


@pytest.fixture
def run(site: Site, bare_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that does one run, with other settings where asked for; waits do not take time."""
    site.kong.set_clock(frozen_at=NOW)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(SystemClock, "sleep", staticmethod(lambda seconds: None))
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)

    def run_once(**changes: str) -> RunReport:
        redactor = Redactor()
        assembly = Assembly(Settings.from_mapping(site.environment | changes), redactor)
        try:
            return assembly.collector(assembly.trails[0], TerminalTelemetry(redactor.clean), UnlimitedTime()).run()
        finally:
            assembly.close()

    return run_once


def trail(count: int, *, newest: int = NOW - 1, step_seconds: int = 1, **fields: Any) -> list[dict[str, Any]]:
    return [entry(number, request_timestamp=newest - number * step_seconds, **fields) for number in range(count)]


def uids(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["request_id"] for row in rows)


def delivered(site: Site) -> list[str]:
    return sorted(site.cloudtrail.accepted_uids())


def quarantined(site: Site) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(site.ledger.glob("quarantine/**/*.json"))]


@pytest.mark.parametrize("release", ["2.8", "3.4", "3.8", "3.10"])
def test_every_release_of_kong_is_read_completely_and_once(
    run: Run, site: Site, certificates: Certificates, release: str
) -> None:
    with KongSimulator(version=release, certificates=certificates, token=KONG_TOKEN, self_audit=True) as kong:
        kong.set_clock(frozen_at=NOW)
        rows = trail(250, step_seconds=3600)
        kong.add_entries(rows)

        for hour in range(1, 4):
            run(KONG_ADMIN_API=kong.url, PAGE_SIZE="40")
            kong.set_clock(frozen_at=NOW + 3600 * hour)
            late = trail(5, newest=NOW + 3600 * (hour - 1) - 400)
            for number, row in enumerate(late):
                row["request_id"] = f"late-{hour}-{number}"
            kong.add_entries(late)
            rows += late
        run(KONG_ADMIN_API=kong.url, PAGE_SIZE="40")

    accepted = site.cloudtrail.accepted_uids()
    assert len(accepted) == len(set(accepted))
    assert set(uids(rows)) <= set(accepted)  # beside what Kong noted of our own reading


@pytest.mark.parametrize("release", ["2.8", "3.4", "3.10"])
def test_own_reads_are_excluded_and_those_of_others_are_delivered(
    run: Run, site: Site, certificates: Certificates, release: str
) -> None:
    def reads() -> list[str]:
        """Return who has read the audit log, as delivered."""
        events = [accepted.event for accepted in site.cloudtrail.accepted()]
        return [one["userIdentity"]["principalId"] for one in events if one["eventName"] == f"GET{AUDIT}"]

    with KongSimulator(version=release, certificates=certificates, token=KONG_TOKEN, self_audit=True) as kong:
        kong.set_clock(frozen_at=NOW)
        kong.add_user("alice", "token-of-alice")
        kong.add_entries(trail(60))
        settings = {"KONG_ADMIN_API": kong.url, "PAGE_SIZE": "40"}
        run(**settings)
        kong.set_clock(frozen_at=NOW + 60)
        run(**settings)
        (user,) = set(reads())
        site.cloudtrail.clear()
        excluded = []
        for minute in range(2, 5):
            kong.set_clock(frozen_at=NOW + 60 * minute)
            ask = requests.Request(
                "GET", f"{kong.url}{AUDIT}?size=1000", headers={"Kong-Admin-Token": "token-of-alice"}
            )
            with requests.Session() as session:
                assert session.send(ask.prepare(), verify=str(certificates.ca_path), timeout=60).ok
            kong.set_clock(frozen_at=NOW + 60 * minute + 1)
            excluded.append(run(**settings, EXCLUDE_OWN_READS=user).excluded_by_rule)

    assert all(by_rule["own_reads"] > 0 for by_rule in excluded)
    assert len(reads()) == 3
    assert user not in reads()


@pytest.mark.parametrize("destination", ["archive", "cloudtrail-lake"])
@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("release", ["2.8", "3.4", "3.8", "3.10"])
def test_changes_of_objects_are_read_completely_and_once(
    run: Run,
    site: Site,
    certificates: Certificates,
    release: str,
    newest_first: bool,
    destination: str,
    tmp_path: Path,
) -> None:
    options = {"STREAMS": "objects", "DESTINATION": destination, "ARCHIVE": str(tmp_path / "archive")}
    with KongSimulator(version=release, certificates=certificates, token=KONG_TOKEN) as kong:
        kong.set_clock(frozen_at=NOW)
        kong.configure(objects_newest_first=newest_first)
        # Ids are in no order of time
        rows = [change(number * 7919 % 1009, request_timestamp=NOW - 1 - number * 3600) for number in range(250)]
        kong.add_objects(rows)
        kong.add_entries(entry(number * 7919 % 1009, request_timestamp=NOW - 1 - number * 3600) for number in range(50))

        for hour in range(1, 4):
            run(KONG_ADMIN_API=kong.url, PAGE_SIZE="40", **options)
            kong.set_clock(frozen_at=NOW + 3600 * hour)
            new = [
                change(10_000 + 100 * hour + number * 7 % 5, request_timestamp=NOW + 3600 * (hour - 1) - 400 + number)
                for number in range(5)
            ]
            kong.add_objects(new)
            rows += new
        report = run(KONG_ADMIN_API=kong.url, PAGE_SIZE="40", **options)

    delivered_ids = site.cloudtrail.accepted_uids() if destination == "cloudtrail-lake" else archived(tmp_path)
    assert sorted(delivered_ids) == sorted(row["id"] for row in rows)
    assert (report.trail.stream, report.finished, report.gaps) == ("objects", True, 0)


def archived(folder: Path) -> list[str]:
    parts = (folder / "archive").glob("source=kong-eu/stream=objects/day=*/*.json.gz")
    return [json.loads(line)["UID"] for part in parts for line in gzip.decompress(part.read_bytes()).splitlines()]


def test_work_of_a_run_is_what_is_new(run: Run, site: Site) -> None:
    site.kong.add_entries(trail(3000, newest=NOW - 5000, step_seconds=300))
    run()
    new = [row | {"request_id": f"new-{row['request_id']}"} for row in trail(100, newest=NOW + 3000)]
    site.kong.add_entries(new)
    site.kong.set_clock(frozen_at=NOW + 3600)
    site.kong.reset_counters()
    site.cloudtrail.clear()

    report = run()

    assert report.delivered == 100
    assert len(site.kong.requests) <= 3
    assert len(site.cloudtrail.calls) <= 2
    assert site.kong.connections == 1


def test_batches_are_delivered_side_by_side(run: Run, site: Site) -> None:
    site.cloudtrail.configure(latency_seconds=0.3)
    site.kong.add_entries(trail(1200))

    run(PARALLEL_DELIVERIES="6")

    assert site.cloudtrail.max_in_flight == 6
    assert delivered(site) == uids(trail(1200))


def test_throttling_slows_down_and_loses_nothing(run: Run, site: Site) -> None:
    site.kong.add_entries(trail(2000))
    for nth in (2, 5, 6, 11):
        site.cloudtrail.inject(Fault(kind="throttle", nth=nth))

    report = run()

    assert report.throttled == 4
    assert delivered(site) == uids(trail(2000))


class TestClock:
    def test_lateness_within_the_overlap_loses_nothing(self, run: Run, site: Site) -> None:
        rows = trail(20, step_seconds=40)
        for number, row in enumerate(rows):
            site.kong.add_entries([row], visible_at=row["request_timestamp"] + 45 * number)

        for minute in range(0, 40, 10):
            site.kong.set_clock(frozen_at=NOW + 60 * minute)
            run(OVERLAP_SECONDS="1800")

        assert delivered(site) == uids(rows)

    @pytest.mark.parametrize("skew_seconds", [-3 * 3600, 3 * 3600])
    def test_our_own_clock_does_not_matter(self, run: Run, site: Site, skew_seconds: int) -> None:
        # Given a Kong whose clock is hours away from ours, also behind the checkpoint that ours would have made
        now = int(time.time()) + skew_seconds
        site.kong.set_clock(frozen_at=now)
        site.kong.add_entries(trail(5, newest=now - 1))
        run()
        site.kong.set_clock(frozen_at=now + 3600)
        site.kong.add_entries([entry(77, request_timestamp=now + 1800)])

        run()

        assert delivered(site) == uids([*trail(5), entry(77)])


class TestOddEntries:
    def test_are_settled_one_by_one_and_stop_nothing(self, run: Run, site: Site) -> None:
        good = trail(10)
        odd: list[Any] = [
            {"request_id": "no-time"},
            {"request_id": "null-time", "request_timestamp": None, "method": "GET", "path": "/"},
            entry(20, request_id=""),
            entry(21, request_id=" " * 32),
            entry(22, request_id=None),
            entry(23, request_id="not legal/at all?"),
            entry(23, request_id="not legal/at all?", path="/another"),
            entry(24, payload="null"),
            entry(25, payload='{"a":1,"a":2}'),
            entry(26, payload="\ud800", path="/\udfff"),
            entry(27, request_timestamp=0),
            entry(28, request_timestamp=NOW + 400 * DAY),
            entry(29, ttl=None),
            entry(30, ttl=0.5),
            entry(31, status="200", method=None, client_ip=17, workspace={"a": [1]}),
            entry(32, big=2**63, fraction=0.1),
        ]
        site.kong.add_entries([*good, *odd], raw_ttl=True)
        site.kong.add_raw_row(b'{"request_id":"raw","request_timestamp":%d,"path":"/\xff"}' % NOW, timestamp=NOW)

        report = run(PAGE_SIZE="7")

        assert (report.finished, report.failed, report.fetched) == (True, 0, 27)
        assert report.delivered == 25
        assert [record["entry"]["request_id"] for record in quarantined(site)] == ["no-time", "null-time"]
        site.cloudtrail.clear()
        assert run(PAGE_SIZE="7").delivered == 0

    def test_large_payloads_pass_and_their_originals_are_kept(self, run: Run, site: Site) -> None:
        large = entry(1, payload=json.dumps({"body": "x" * 10_000_000}))
        site.kong.add_entries([large, entry(2)])

        report = run()

        assert (report.delivered, report.shortened) == (2, 1)
        [event] = [accepted.event for accepted in site.cloudtrail.accepted() if accepted.uid == large["request_id"]]
        mark = event["additionalEventData"]["shortened"]
        with open(mark["original"], encoding="ascii") as file:  # noqa: PTH123 - the very name that auditors get
            assert json.load(file)["payload"] == large["payload"]

    def test_bad_records_are_kept_whole_with_the_reason(self, run: Run, site: Site) -> None:
        rows = trail(5)
        site.kong.add_entries(rows)
        site.cloudtrail.fail_entries("InvalidData", ids=[rows[3]["request_id"]])

        report = run()

        [record] = quarantined(site)
        assert (report.delivered, report.quarantined, report.finished) == (4, 1, True)
        assert (record["code"], record["message"], record["attempts"]) == ("InvalidData", "injected", 1)
        assert record["entry"]["payload"] == rows[3]["payload"]


class TestTrouble:
    @pytest.mark.parametrize(
        "fault",
        [
            faults.server_error(path=AUDIT, nth=4, times=50),
            faults.invalid_json(path=AUDIT, nth=4, times=50),
            Fault(kind="cut_off", path=AUDIT, nth=4, times=50),
            Fault(kind="reset", path=AUDIT, nth=4, times=50),
            faults.wrong_shape("data is an object", path=AUDIT, nth=4, times=50),
            faults.aws_error("any", 403, path=AUDIT, nth=4),
        ],
        ids=lambda fault: f"{fault.kind} {fault.status}",
    )
    def test_of_kong_in_the_middle_fails_the_run_and_the_next_one_catches_up(
        self, run: Run, site: Site, fault: Fault
    ) -> None:
        site.kong.add_entries(trail(400))
        site.kong.inject(fault)

        with pytest.raises(RunFailed) as failed:
            run(PAGE_SIZE="100")

        before = failed.value.summary["delivered"]
        assert 0 < before < 400
        assert site.cloudtrail.accepted_count() == before
        site.kong.clear_faults()
        report = run(PAGE_SIZE="100")
        assert report.delivered == 400 - before
        assert delivered(site) == uids(trail(400))

    def test_of_cloudtrail_after_it_accepted_costs_the_batch_in_flight(self, run: Run, site: Site) -> None:
        site.kong.add_entries(trail(300))
        site.cloudtrail.inject(Fault(kind="reset_after", nth=2))

        report = run(PARALLEL_DELIVERIES="1")

        accepted = site.cloudtrail.accepted_uids()
        assert report.delivered == 300
        assert sorted(set(accepted)) == uids(trail(300))
        assert len(accepted) == 400

    def test_of_the_cache_in_the_middle_costs_the_batches_in_flight(
        self, run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given a cache that is lost, with all that it knew, when CloudTrail answers for the third time
        site.kong.add_entries(trail(1000))
        judge = site.cloudtrail._judge
        lost = threading.Lock()

        def judge_and_stop(*arguments: Any) -> Any:
            if len(site.cloudtrail.calls) >= 2 and lost.acquire(blocking=False):
                site.valkey.stop()
            return judge(*arguments)

        monkeypatch.setattr(site.cloudtrail, "_judge", judge_and_stop)
        with pytest.raises(RunFailed, match="may be delivered a second time"):
            run(PARALLEL_DELIVERIES="2")
        assert site.cloudtrail.accepted_count() < 1000

        monkeypatch.setattr(site.cloudtrail, "_judge", judge)
        site.valkey.start()
        run()

        assert set(site.cloudtrail.accepted_uids()) == set(uids(trail(1000)))

    def test_of_the_cache_between_runs_costs_the_overlap_at_most(self, run: Run, site: Site) -> None:
        site.kong.add_entries(trail(100, step_seconds=60))
        run(OVERLAP_SECONDS="900")
        site.valkey.restart_empty()
        site.kong.set_clock(frozen_at=NOW + 3600)

        report = run(OVERLAP_SECONDS="900")

        assert report.delivered == 16  # from the newest entry to the overlap before it, both of them included

    def test_of_a_script_cache_that_was_emptied_is_none(self, run: Run, site: Site) -> None:
        site.kong.add_entries(trail(100))
        run()
        with site.valkey.client() as client:
            client.script_flush()
        site.kong.add_entries([entry(500, request_timestamp=NOW - 3)])

        assert run().delivered == 1


class TestTokenFromSecretsManager:
    def test_is_fetched_anew_after_a_rotation_in_the_middle_of_a_run(
        self, run: Run, site: Site, local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in local_aws.environment().items():
            monkeypatch.setenv(name, value)
        manager = boto3.client("secretsmanager")
        arn = manager.create_secret(Name="kong/rotated", SecretString="first")["ARN"]
        site.kong.add_user("collector", "first")
        site.kong.add_entries(trail(10))
        del site.environment["KONG_ADMIN_TOKEN"]

        # When Kong and the secret get a new token after the first page
        describe = site.kong._api._audit_page
        pages = iter(range(100))

        def rotate(*arguments: Any) -> Any:
            page = describe(*arguments)
            if next(pages) == 2:
                manager.put_secret_value(SecretId=arn, SecretString="second")
                site.kong.add_user("collector", "second")
            return page

        monkeypatch.setattr(site.kong._api, "_audit_page", rotate)
        report = run(KONG_ADMIN_TOKEN_SECRET=arn, PAGE_SIZE="2")
        manager.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
        manager.close()

        assert report.delivered == 10
        assert [call.status for call in site.kong.requests].count(401) == 1
