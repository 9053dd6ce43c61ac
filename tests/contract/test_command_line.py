"""The same run from a laptop: exit status, output for people and for programs, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.http_server import LOOPBACK
from sandbox.processes import free_port
from tests.conftest import CACHE_PASSWORD, KONG_TOKEN, Site
from tests.helpers import REPOSITORY, entries, entry, wait_until


class Terminal:
    """Runs commands in an empty folder, with the site's environment variables and no others."""

    def __init__(self, site: Site, folder: Path) -> None:
        folder.mkdir()
        (temporary := folder.with_name("temporary")).mkdir()
        self.folder = folder
        self.environment: dict[str, str] = {
            **site.environment,
            "PYTHONPATH": str(REPOSITORY / "lambda_src"),
            "PATH": os.environ["PATH"],
            "TMPDIR": str(temporary),
            "PYTHONWARNINGS": "error::ResourceWarning",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "kong_cloudtrail", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> Output:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return Output(process.returncode, out, err)


class Output:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return report

    def assert_failed(self, *words: str) -> None:
        """Check that it failed as it should: with a message for people, and nothing that is for programmers only."""
        assert self.status == 1
        assert "Traceback" not in self.err + self.out
        assert self.err.startswith("kong_cloudtrail: ") or "\nkong_cloudtrail: " in self.err
        for word in words:
            assert word in self.err
        for secret in (KONG_TOKEN, CACHE_PASSWORD, json.dumps(KONG_TOKEN)[1:-1]):
            assert secret not in self.err + self.out


@pytest.fixture
def terminal(site: Site, tmp_path: Path) -> Terminal:
    return Terminal(site, tmp_path / "folder")


def recent(site: Site, count: int) -> list[dict[str, Any]]:
    return [entry(number, request_timestamp=int(site.kong.now()) - 10 - number) for number in range(1, count + 1)]


class TestSync:
    def test_delivers_and_tells_programs_in_the_last_line(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 5))

        first, second = terminal.run("sync", "--json"), terminal.run("sync", "--json")

        assert (first.status, first.err, second.status) == (0, "", 0)
        assert sorted(site.cloudtrail.accepted_uids()) == [row["request_id"] for row in entries(5)]
        counts = [
            {name: output.report[name] for name in ("fetched", "duplicates", "delivered", "failed")}
            for output in (first, second)
        ]
        assert counts == [
            {"fetched": 5, "duplicates": 0, "delivered": 5, "failed": 0},
            {"fetched": 5, "duplicates": 5, "delivered": 0, "failed": 0},
        ]

    def test_tells_people_in_lines(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 5))

        output = terminal.run("sync")

        assert output.status == 0
        assert dict(line.split() for line in output.out.splitlines()) == {
            "fetched": "5",
            "duplicates": "0",
            "delivered": "5",
            "shortened": "0",
            "quarantined": "0",
            "failed": "0",
        }

    def test_without_a_ledger_keeps_no_checkpoint_and_makes_no_folder(self, terminal: Terminal, site: Site) -> None:
        del terminal.environment["LEDGER"]
        site.kong.add_entries(recent(site, 5))

        assert terminal.run("sync").status == 0

        assert list(terminal.folder.iterdir()) == []

    def test_without_a_ledger_a_bad_record_still_has_a_place(self, terminal: Terminal, site: Site) -> None:
        del terminal.environment["LEDGER"]
        site.kong.add_entries([{"request_id": "odd", "request_timestamp": int(site.kong.now()) - 5}])

        output = terminal.run("sync", "--json")

        assert (output.status, output.report["quarantined"]) == (0, 1)
        [quarantined] = terminal.folder.glob("ledger/quarantine/kong-eu/*.json")
        assert json.loads(quarantined.read_text())["entry"]["request_id"] == "odd"


class TestFailure:
    def test_wrong_settings_are_named_all_at_once(self, terminal: Terminal) -> None:
        terminal.environment |= {"CHANNEL_ARN": "wrong", "REDIS_HOST": "wrong", "PAGE_SIZE": "wrong"}

        output = terminal.run("sync", "--json")

        output.assert_failed("3 problem(s)", "CHANNEL_ARN is", "REDIS_HOST is", "PAGE_SIZE is")
        assert output.out == ""

    def test_kong_that_is_away(self, terminal: Terminal) -> None:
        terminal.environment["KONG_ADMIN_API"] = f"https://{LOOPBACK}:{free_port()}"

        output = terminal.run("sync", "--json")

        output.assert_failed("did not answer", "security groups")
        assert output.report["fetched"] == 0

    def test_kong_that_refuses_the_token(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_user("collector", "another")

        terminal.run("sync", "--json").assert_failed("401", "token of an RBAC user")

    def test_kong_that_is_not_trusted(self, terminal: Terminal) -> None:
        del terminal.environment["KONG_ROOT_CA"]

        terminal.run("sync").assert_failed("KONG_ROOT_CA")

    def test_cache_that_is_away(self, terminal: Terminal, site: Site) -> None:
        site.valkey.stop()

        output = terminal.run("sync", "--json")

        output.assert_failed("The cache did not answer", "REDIS_HOST")
        assert output.report["fetched"] == 0

    def test_cache_that_refuses_the_password(self, terminal: Terminal) -> None:
        terminal.environment["REDIS_PASSWORD"] = "wrong-password"

        output = terminal.run("sync")

        output.assert_failed("refused the credentials")
        assert "wrong-password" not in output.err

    def test_channel_that_does_not_exist(self, terminal: Terminal, site: Site) -> None:
        terminal.environment["CHANNEL_ARN"] = site.cloudtrail.channel_arn.removesuffix("cdef") + "0000"
        site.kong.add_entries(recent(site, 5))

        output = terminal.run("sync", "--json")

        output.assert_failed("ChannelNotFound", "correct CHANNEL_ARN")
        assert {name: output.report[name] for name in ("fetched", "delivered", "failed")} == {
            "fetched": 5,
            "delivered": 0,
            "failed": 5,
        }

    def test_entries_of_another_account(self, terminal: Terminal, site: Site) -> None:
        site.cloudtrail.fail_entries("InvalidRecipient")
        site.kong.add_entries(recent(site, 5))

        terminal.run("sync").assert_failed("InvalidRecipient", "the account in CHANNEL_ARN")

    def test_ledger_that_cannot_be_written(self, terminal: Terminal, site: Site) -> None:
        site.ledger.write_text("a file is in the way")

        terminal.run("sync").assert_failed("Check LEDGER")

    def test_missing_credentials(self, terminal: Terminal, site: Site) -> None:
        del terminal.environment["AWS_ACCESS_KEY_ID"], terminal.environment["AWS_SECRET_ACCESS_KEY"]
        site.kong.add_entries(recent(site, 1))

        terminal.run("sync").assert_failed("no AWS credentials")

    def test_interruption_ends_in_order(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 5))
        site.kong.configure(latency_seconds=0.3)
        process = terminal.start("sync")
        wait_until(lambda: bool(site.kong.requests))

        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)

        assert process.returncode == 130
        assert "interrupted" in err
        assert "Traceback" not in err
        assert terminal.run("sync", "--json").status == 0
        assert sorted(site.cloudtrail.accepted_uids()) == [row["request_id"] for row in entries(5)]

    def test_unknown_command_shows_the_usage(self, terminal: Terminal) -> None:
        output = terminal.run("synch")

        assert output.status == 2
        assert "usage: python -m kong_cloudtrail" in output.err


def test_killed_run_does_not_keep_the_next_one_waiting(terminal: Terminal, site: Site) -> None:
    site.kong.add_entries(recent(site, 5))
    site.kong.configure(latency_seconds=0.3)
    process = terminal.start("sync")
    wait_until(lambda: bool(site.kong.requests))  # it has the lock, and asks Kong for the next thing
    process.kill()
    process.communicate()
    site.kong.configure(latency_seconds=0)

    output = terminal.run("sync", "--json")

    assert (output.status, output.report["skipped"]) == (0, False)
    assert sorted(site.cloudtrail.accepted_uids()) == [row["request_id"] for row in entries(5)]


class TestRelease:
    def test_delivers_what_was_refused_once_it_is_not_any_more(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 3))
        site.cloudtrail.fail_entries("InvalidData")
        assert terminal.run("sync", "--json").report["quarantined"] == 3
        site.cloudtrail.clear_faults()

        output = terminal.run("release")

        assert (output.status, output.out) == (0, "delivered 3, still refused 0\n")
        assert sorted(site.cloudtrail.accepted_uids()) == sorted(row["request_id"] for row in entries(3))
        assert list(terminal.folder.glob("ledger/quarantine/kong-eu/*")) == []

    def test_names_what_is_still_refused(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries([{"request_id": "odd", "request_timestamp": int(site.kong.now()) - 5}])
        terminal.run("sync")

        output = terminal.run("release")

        assert output.status == 1
        assert output.out.startswith("delivered 0, still refused 1\nNotMappable  quarantine/kong-eu/odd-")

    def test_needs_neither_kong_nor_the_cache(self, terminal: Terminal, site: Site) -> None:
        terminal.environment |= {"KONG_ADMIN_API": "http://127.0.0.1:9", "REDIS_HOST": "127.0.0.1:9"}

        assert terminal.run("release").out == "delivered 0, still refused 0\n"

    def test_cloudtrail_away_is_told_in_words(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries([{"request_id": "odd", "request_timestamp": "x", "path": "/"}, *recent(site, 1)])
        site.cloudtrail.fail_entries("InvalidData")
        terminal.run("sync")
        site.cloudtrail.clear_faults()
        terminal.environment["AWS_ENDPOINT_URL_CLOUDTRAIL_DATA"] = "http://127.0.0.1:9"

        terminal.run("release").assert_failed("CloudTrail could not be reached")


class TestVerifyRuns:
    def test_whole_chain(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 5))
        terminal.run("sync")

        output = terminal.run("verify-runs")

        assert (output.status, output.out) == (0, "The chain of run reports is whole.\n")

    def test_needs_nothing_but_the_ledger_and_the_name_of_the_source(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 5))
        terminal.run("sync")
        for name in site.environment.keys() - {"LEDGER", "SOURCE_NAME"}:
            del terminal.environment[name]

        assert terminal.run("verify-runs").status == 0

    def test_removed_report(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 5))
        terminal.run("sync")
        (site.ledger / "runs/kong-eu/0000000001.json").unlink()

        output = terminal.run("verify-runs")

        assert output.status == 1
        assert "1 to 1 are missing" in output.out


class TestSurroundings:
    """What is wrong around the collector, and not with it, is said in a sentence."""

    @pytest.mark.parametrize("ledger", ["./ledger", "s3://bucket-of-nobody/x"])
    def test_aws_profile_that_does_not_exist(self, terminal: Terminal, ledger: str) -> None:
        terminal.environment |= {"AWS_PROFILE": "tpyo", "LEDGER": ledger}

        terminal.run("sync", "--json").assert_failed("tpyo")

    def test_secret_without_a_region_to_read_it_in(self, terminal: Terminal) -> None:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "KONG_ADMIN_TOKEN"):
            del terminal.environment[name]
        terminal.environment["KONG_ADMIN_TOKEN_SECRET"] = "kong/token"

        terminal.run("sync", "--json").assert_failed("region")

    def test_nothing_is_left_in_the_temporary_folder(self, terminal: Terminal, tmp_path: Path) -> None:
        temporary = tmp_path / "tmp"
        temporary.mkdir()
        terminal.environment["TMPDIR"] = str(temporary)

        terminal.run("sync")

        assert list(temporary.iterdir()) == []

    def test_comment_around_the_certificate(self, terminal: Terminal, site: Site) -> None:
        pem = Path(site.environment["KONG_ROOT_CA"]).read_text()
        terminal.environment |= {"KONG_ROOT_CA": f"# CN=Zertifizierungsstelle für alles\n{pem}", "LC_ALL": "C.UTF-8"}

        assert terminal.run("sync").status == 0

    def test_certificate_that_is_damaged(self, terminal: Terminal) -> None:
        terminal.environment["KONG_ROOT_CA"] = "-----BEGIN CERTIFICATE-----\nMIIBdamaged\n-----END CERTIFICATE-----"

        terminal.run("sync").assert_failed("KONG_ROOT_CA")


def test_interrupted_run_leaves_nothing_unmarked(terminal: Terminal, site: Site) -> None:
    site.kong.add_entries(recent(site, 3000))
    site.cloudtrail.configure(latency_seconds=0.2)
    process = terminal.start("sync")
    wait_until(lambda: site.cloudtrail.accepted_count() > 0)

    process.send_signal(signal.SIGINT)

    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    with site.valkey.client() as observer:
        marked = len(observer.keys("*:seen:*"))
    assert marked == site.cloudtrail.accepted_count() < 3000
