"""``evidence`` as people use it: exit status, the page, the JSON, and what is said if there can be none."""

from __future__ import annotations

import hashlib
import html
import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import SettingsError

from cli.alarms import CloudWatchAlarms
from cli.exit_status import ExitStatus
from sandbox.machinery.processes import free_port
from tests.conftest import Site
from tests.contract.test_archive_commands import terminal
from tests.contract.test_command_line import Terminal
from tests.helpers import entry
from tests.unit.test_evidence import schema

__all__ = ["terminal"]

PERIOD = ("--after", "2d", "--before", "1h")


@pytest.fixture
def archived(terminal: Terminal, site: Site) -> Terminal:
    """An archive of two days, into which a run has just delivered everything."""
    now = int(site.kong.now())
    site.kong.add_entries([entry(number, request_timestamp=now - 7000 * number) for number in range(1, 20)])
    assert terminal.run("sync").status == ExitStatus.DONE
    return terminal


def test_page_and_json_are_of_one_answer(archived: Terminal) -> None:
    output = archived.run("evidence", *PERIOD, "--html", "report.html", "--json")

    document = output.report
    schema().validate(document)
    page = (archived.folder / "report.html").read_text("utf-8")
    assert output.status == ExitStatus.NOT_VERIFIED  # nobody has reconciled
    assert (document["verdict"], document["trails"][0]["delivered"]) == ("unproven", 19)
    assert hashlib.sha256(output.out.encode()).hexdigest() in page
    assert "Not proven." in page
    assert [path.name for path in archived.folder.iterdir() if "report" in path.name] == ["report.html"]


class TestByHand:
    """The commands of the page, as a sceptic types them: they need nothing of this project."""

    def commands(self, archived: Terminal) -> dict[str, tuple[str, str]]:
        """Return what is to be typed at each step, and what is expected then."""
        archived.run("reconcile", "--after", "20h", "--before", "2h")
        output = archived.run("evidence", "--after", "20h", "--before", "2h", "--html", "report.html", "--json")
        (archived.folder / "report.json").write_text(output.out)
        page = (archived.folder / "report.html").read_text("utf-8")
        steps = re.findall(r"<h3>([^<]*)</h3><pre>(.*?)</pre><p>Expected: (.*?)</p>", page, re.DOTALL)
        assert len(steps) == 8
        return {
            title: (html.unescape(commands), html.unescape(re.sub("<[^>]*>", "", expected)))
            for title, commands, expected in steps
        }

    def typed(self, archived: Terminal, commands: str) -> str:
        """Return what the commands of a step say."""
        done = subprocess.run(
            ["bash", "-euc", commands], cwd=archived.folder, text=True, check=True, capture_output=True, timeout=60
        )
        assert done.stderr == ""
        return done.stdout

    def test_all_of_them_say_what_is_expected(self, archived: Terminal, site: Site) -> None:
        # A second run, so that one report continues another.
        site.kong.add_entries([entry(99, request_timestamp=int(site.kong.now()) - 1)])
        archived.run("sync")

        steps = self.commands(archived)

        page = (archived.folder / "report.html").read_text("utf-8")
        checked = []
        for title, (commands, expected) in steps.items():
            if "kong-cloudtrail" in commands:
                continue
            said = self.typed(archived, commands)
            if "report.json" in commands:
                assert said.split()[0] in page
            else:
                hashes = re.findall("[0-9a-f]{64}", expected)
                assert hashes, title
                assert all(each in said for each in hashes), title
            checked.append(title)
        assert len(checked) == 5

    def test_an_altered_and_a_removed_report_are_noticed(self, archived: Terminal, site: Site) -> None:
        for number in range(3):
            site.kong.add_entries([entry(90 + number, request_timestamp=int(site.kong.now()) - 9 + number)])
            archived.run("sync")
        [(commands, expected)] = [
            found for title, found in self.commands(archived).items() if "no run report was removed" in title
        ]
        assert self.typed(archived, commands).strip() in expected
        (folder,) = {path.parent for path in (archived.folder / "archive" / "_ledger" / "runs").rglob("*.json")}
        second, whole = folder / "0000000002.json", (folder / "0000000002.json").read_bytes()

        second.write_bytes(whole.replace(b'"delivered":1', b'"delivered":2'))
        assert "0000000003.json does not continue the one before\n" in self.typed(archived, commands)
        second.unlink()
        assert "0000000003.json does not continue the one before\n" in self.typed(archived, commands)
        second.write_bytes(whole)
        (folder / "0000000004.json").unlink()
        assert self.typed(archived, commands).strip() not in expected


def test_people_read_the_same_without_a_page(archived: Terminal) -> None:
    output = archived.run("evidence", *PERIOD)

    assert "delivered            19" in output.out
    assert "unchecked: Not reconciled" in output.out
    assert output.out.endswith("Not proven. Nothing was found to be wrong. But not everything was checked.\n")


def test_needs_neither_kong_nor_the_cache(archived: Terminal) -> None:
    archived.environment |= {"KONG_ADMIN_API": "http://127.0.0.1:9", "REDIS_HOST": "127.0.0.1:9"}

    assert archived.run("evidence", *PERIOD, "--json").report["trails"][0]["delivered"] == 19


def test_what_is_wrong_is_on_the_page_and_in_the_status(archived: Terminal) -> None:
    part = next((archived.folder / "archive").rglob("*.json.gz"))
    part.unlink()

    output = archived.run("evidence", *PERIOD, "--html", "report.html", "--json")

    assert (output.status, output.report["verdict"]) == (ExitStatus.NOT_VERIFIED, "incomplete")
    assert f"{part} is missing" in (archived.folder / "report.html").read_text("utf-8")


def test_secrets_of_the_environment_are_not_shown(archived: Terminal) -> None:
    archived.environment |= {
        "KONG_ADMIN_API": "https://admin:s3cret@kong.example.com",
        "KONG_ADMIN_TOKEN": "s3cret",
        "REDIS_PASSWORD": "s3cret",
        "EXTERNAL_ID": "s3cret",
    }

    output = archived.run("evidence", *PERIOD, "--html", "report.html", "--json")

    assert "s3cret" not in output.out + (archived.folder / "report.html").read_text("utf-8")
    assert output.report["configuration"]["SOURCE_NAME"] == "kong-eu"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--after", "2d"), "--before"),
        (("--after", "someday", "--before", "now"), "is not a moment"),
        (("--after", "1h", "--before", "2h"), "has to be later"),
        ((*PERIOD, "--public-key", "missing.pem"), "missing.pem"),
    ],
)
def test_what_is_asked_wrongly(archived: Terminal, arguments: tuple[str, ...], words: str) -> None:
    output = archived.run("evidence", *arguments)

    assert output.status == ExitStatus.USAGE
    assert words in output.err
    assert "Traceback" not in output.err


def test_a_page_that_cannot_be_written(archived: Terminal) -> None:
    archived.run("evidence", *PERIOD, "--html", "missing/report.html").assert_failed(
        ExitStatus.PROGRAM, "missing/report.html", "No such file"
    )


def test_a_ledger_that_is_none(terminal: Terminal) -> None:
    (terminal.folder / "archive").mkdir()

    output = terminal.run("evidence", *PERIOD, "--json")

    assert (output.status, output.report["verdict"]) == (ExitStatus.NOT_VERIFIED, "empty")


def test_a_ledger_that_cannot_be_read(archived: Terminal) -> None:
    (checkpoint,) = (archived.folder / "archive" / "_ledger" / "checkpoints").rglob("*.json")
    checkpoint.write_text("hello")

    archived.run("evidence", *PERIOD, "--html", "report.html").assert_failed(ExitStatus.FAILED, "is not a checkpoint")
    assert not (archived.folder / "report.html").exists()


class TestAlarms:
    NOW = 1_717_243_200

    @pytest.fixture
    def cloudwatch(self, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Any:
        client = boto3.client("cloudwatch")
        monkeypatch.setattr("cli.alarms.boto3.client", lambda *_, **__: client)
        monkeypatch.setattr("cli.alarms.time.time", lambda: float(self.NOW))
        with Stubber(client) as stubber:
            yield stubber

    def test_are_those_of_the_source_in_the_period(self, cloudwatch: Stubber) -> None:
        kinds = ["MetricAlarm", "CompositeAlarm"]
        names = ["kong, archive: lag", "kong: failed (helper)", "kong-eu: lag"]
        cloudwatch.add_response(
            "describe_alarms",
            {"MetricAlarms": [{"AlarmName": name} for name in names], "CompositeAlarms": [{"AlarmName": "kong: runs"}]},
            {"AlarmNamePrefix": "kong", "AlarmTypes": kinds},
        )
        since, until = self.NOW - 30 * 86_400, self.NOW - 3600
        for alarm, state in (("kong, archive: lag", "ALARM"), ("kong: runs", "OK")):
            item = {
                "AlarmName": alarm,
                "Timestamp": datetime.fromtimestamp(self.NOW - 7200, UTC),
                "HistoryData": json.dumps({"newState": {"stateValue": state}}),
            }
            cloudwatch.add_response(
                "describe_alarm_history",
                {"AlarmHistoryItems": [item]},
                {
                    "AlarmName": alarm,
                    "AlarmTypes": kinds,
                    "HistoryItemType": "StateUpdate",
                    "StartDate": datetime.fromtimestamp(since, UTC),
                    "EndDate": datetime.fromtimestamp(until, UTC),
                },
            )

        record = CloudWatchAlarms("kong").record(Window(self.NOW - 90 * 86_400, until))

        assert list(record.alarms) == ["kong, archive: lag", "kong: runs"]
        assert record.known_since == since
        assert [(change.alarm, change.state) for change in record.changes] == [
            ("kong, archive: lag", "ALARM"),
            ("kong: runs", "OK"),
        ]

    def test_that_nobody_may_see(self, cloudwatch: Stubber) -> None:
        cloudwatch.add_client_error("describe_alarms", "AccessDenied")

        with pytest.raises(SettingsError, match=r"AccessDenied.*cloudwatch:DescribeAlarmHistory"):
            CloudWatchAlarms("kong").record(Window(0, self.NOW))

    def test_without_credentials_or_a_region(self, archived: Terminal) -> None:
        archived.environment |= {
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_ENDPOINT_URL_CLOUDWATCH": f"http://127.0.0.1:{free_port()}",
            "AWS_MAX_ATTEMPTS": "1",
        }

        output = archived.run("evidence", *PERIOD, "--alarms", "--html", "report.html")

        output.assert_failed(ExitStatus.USAGE, "CloudWatch could not be asked")
        assert not Path(archived.folder / "report.html").exists()
