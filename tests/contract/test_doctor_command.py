"""The commands doctor and status: what a person and a program get, here and from a deployed function."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from botocore.exceptions import ClientError
from kong_cloudtrail import handler as module
from kong_cloudtrail.assembly import examination
from kong_cloudtrail.domain.finding import Area, Status
from kong_cloudtrail.errors import SettingsError
from kong_cloudtrail.operations import doctor
from kong_cloudtrail.operations.doctor import examine
from kong_cloudtrail.operations.verb import no_progress
from kong_cloudtrail.state import cache_checkup

import cli.deployed
import cli.deployment
from cli.commands import doctor as doctor_command
from cli.exit_status import ExitStatus
from sandbox.cloudwatch_logs.emulator import LogsEmulator
from tests.conftest import CACHE_PASSWORD, KONG_TOKEN, Site
from tests.contract.test_command_line import Terminal
from tests.contract.test_handler import Context
from tests.helpers import REPOSITORY, entry
from tests.lambda_endpoint import LambdaEndpoint

SCHEMAS = REPOSITORY / "docs" / "schemas"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:collector"


@pytest.fixture(autouse=True)
def busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, no check is late and the cache is near."""
    monkeypatch.setattr(doctor, "CHECK_SECONDS", 60.0)
    monkeypatch.setattr(cache_checkup, "SLOW_SECONDS", 60.0)
    patient = {field.name: 20.0 for field in dataclasses.fields(examination.LIMITS)}
    monkeypatch.setattr(examination, "LIMITS", dataclasses.replace(examination.LIMITS, **patient))


@pytest.fixture
def terminal(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    terminal = Terminal(site, tmp_path / "home", capsys)
    # Nobody is there, which is no failure of a check.
    terminal.environment |= {"AWS_ENDPOINT_URL_CLOUDTRAIL": site.cloudtrail.url, "AWS_ENDPOINT_URL_S3": site.kong.url}
    site.kong.add_entries(
        [entry(number, request_timestamp=int(site.kong.now()) - 20 - number) for number in range(1, 13)]
    )
    return terminal


def checked(verb: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return a document that its schema describes, and that has no secret in it."""
    jsonschema.validate(
        document,
        json.loads((SCHEMAS / f"{verb}.json").read_text("utf-8")),
        cls=jsonschema.Draft202012Validator,
    )
    for secret in (KONG_TOKEN, CACHE_PASSWORD):
        assert secret not in json.dumps(document)
    return document


def diagnose(terminal: Terminal, *options: str) -> tuple[int, dict[str, str]]:
    """Return the exit status, and the status of each check that is not ok."""
    output = terminal.run("doctor", "--json", *options)
    document = checked("doctor", output.report)
    assert "Traceback" not in output.err
    return output.status, {
        f"{each['area']}: {each['check']}": each["status"] for each in document["findings"] if each["status"] != "ok"
    }


UNSEEN = {
    "cloudtrail-lake: channel": "not_checked",
    "cloudtrail-lake: permission": "not_checked",
    "clock: AWS": "not_checked",
}
"""What the sandbox has not: CloudTrail's control plane, and S3."""


class TestDoctor:
    def test_healthy_site(self, terminal: Terminal, site: Site) -> None:
        site.kong.set_clock()
        terminal.run("sync")

        status, unlike = diagnose(terminal)

        assert status == ExitStatus.DONE
        assert unlike == UNSEEN
        assert [call.target.partition("?")[0] for call in site.kong.requests if "audit" in call.target]
        assert [path.name for path in (site.ledger / "doctor").iterdir()] == ["kong-eu.json"]

    def test_before_the_first_run(self, terminal: Terminal) -> None:
        assert diagnose(terminal) == (ExitStatus.DONE, UNSEEN | {"ledger: last run": "warning"})

    def test_every_failure_is_found_at_once(self, terminal: Terminal, site: Site) -> None:
        site.kong.configure(audit_log=False)
        site.kong.set_clock(skew_seconds=-86_400)
        terminal.environment |= {"REDIS_PASSWORD": "another", "LEDGER": "/dev/null/ledger"}

        status, unlike = diagnose(terminal)

        assert status == ExitStatus.MISCONFIGURED
        assert unlike == UNSEEN | {
            "kong: audit log": "failed",
            "kong: clock": "failed",
            "cache: sign-in": "failed",
            "ledger: reading": "failed",
            "ledger: last run": "failed",
        }

    def test_outage_may_pass(self, terminal: Terminal, site: Site) -> None:
        site.valkey.stop()

        status, unlike = diagnose(terminal)

        assert status == ExitStatus.FAILED
        assert {name for name, found in unlike.items() if found == "failed"} <= {
            "cache: connection",
            "cache: TLS",
            "cache: round trip",
            "cache: sign-in",
        }
        assert any(name.startswith("cache: ") for name in unlike)

    def test_wrong_settings_are_findings_and_the_rest_is_checked(self, terminal: Terminal) -> None:
        terminal.environment |= {"PAGE_SIZE": "many", "CHANNEL_ARN": "arn", "REDIS_DB": "x"}

        status, unlike = diagnose(terminal)

        assert status == ExitStatus.MISCONFIGURED
        assert {name: found for name, found in unlike.items() if found != "warning"} == {
            "settings: PAGE_SIZE": "failed",
            "settings: CHANNEL_ARN": "failed",
            "settings: REDIS_DB": "failed",
            "cache: cache": "not_checked",
            "cloudtrail-lake: channel": "not_checked",
        } | {name: found for name, found in unlike.items() if name == "clock: AWS"}

    def test_misspelled_names_have_no_effect_and_are_named(self, terminal: Terminal) -> None:
        terminal.environment |= {"KONG_ADMIN_APi": KONG_TOKEN, "PAGESIZE": "1", "KONG_ADMIN_API_URI": "kong.example"}

        status, unlike = diagnose(terminal)

        warnings = {name for name, found in unlike.items() if found == "warning"}
        assert (status, warnings) == (
            ExitStatus.DONE,
            {"settings: KONG_ADMIN_APi", "settings: PAGESIZE", "ledger: last run"},
        )

    def test_nothing_is_set(self, terminal: Terminal) -> None:
        for name in list(terminal.environment):
            if name.startswith(("KONG_", "REDIS_", "CHANNEL", "LEDGER", "SOURCE", "AWS_")):
                del terminal.environment[name]

        status, unlike = diagnose(terminal)

        assert status == ExitStatus.MISCONFIGURED
        assert unlike["settings: DESTINATION"] == "failed"
        assert unlike["kong: connection"] == "failed"
        assert unlike["ledger: ledger"] == "warning"

    def test_token_that_is_not_sent(self, terminal: Terminal) -> None:
        terminal.environment["KONG_SUPERADMIN"] = "false"

        status, unlike = diagnose(terminal)

        assert (status, unlike["settings: KONG_SUPERADMIN"]) == (ExitStatus.MISCONFIGURED, "warning")
        assert unlike["kong: rights"] == "failed"

    def test_aws_profile_that_does_not_exist_hides_nothing_else(self, terminal: Terminal) -> None:
        terminal.environment["AWS_PROFILE"] = "tpyo"

        status, unlike = diagnose(terminal)

        assert (status, unlike["cloudtrail-lake: AWS"]) == (ExitStatus.MISCONFIGURED, "failed")
        assert not any(name.startswith(("kong", "cache")) for name in unlike)

    def test_destination_that_there_is_not(self, terminal: Terminal) -> None:
        terminal.run("doctor", "--destination", "archive").assert_failed(ExitStatus.USAGE, "no trail")

    def test_archive_alone_needs_no_cache(self, terminal: Terminal, tmp_path: Path) -> None:
        terminal.environment |= {"ARCHIVE": str(tmp_path / "archive"), "DESTINATION": "archive", "REDIS_HOST": ""}

        output = terminal.run("doctor", "--json")

        areas = {finding["area"] for finding in output.report["findings"]}
        assert areas == {"settings", "kong", "ledger", "archive", "clock"}
        assert list(tmp_path.glob("archive")) == []

    def test_pipe_gets_a_line_for_each_finding(self, terminal: Terminal) -> None:
        terminal.environment["KONG_ADMIN_TOKEN"] = "another"

        output = terminal.run("doctor")

        header, *lines = [line.split("\t") for line in output.out.splitlines()]
        assert header == ["status", "area", "check", "what", "do"]
        assert {len(line) for line in lines} == {5}
        (failed,) = [line for line in lines if line[0] == "failed"]
        assert failed[1:3] == ["kong", "rights"]
        assert output.status == ExitStatus.MISCONFIGURED


@pytest.mark.parametrize("option", ["--function", "--stack", "--stream", "--destination"])
def test_name_that_is_empty_is_none(terminal: Terminal, option: str) -> None:
    output = terminal.run("status", option, "")

    assert (output.status, output.out) == (ExitStatus.USAGE, "")
    assert "Is a variable of your shell not set?" in output.err


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


FINDING = {"area": "kong", "check": "rights", "what": "W" * 10 + " word" * 20, "do": "Do it " * 10, "may_pass": False}


class TestTable:
    @pytest.mark.parametrize("columns", [60, 200])
    @pytest.mark.parametrize("no_color", [True, False])
    def test_fits_the_terminal(self, monkeypatch: pytest.MonkeyPatch, columns: int, no_color: bool) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.delenv("NO_COLOR", raising=False)
        if no_color:
            monkeypatch.setenv("NO_COLOR", "1")
        stream = Tty()
        monkeypatch.setattr(sys, "stdout", stream)
        odd = FINDING | {"status": "failed", "check": "a\x1b[31mb", "what": "path \x1b]0;owned\x07"}
        fine = FINDING | {"status": "ok", "do": None}

        doctor_command._print(
            {
                "findings": [FINDING | {"status": "failed"}, odd, fine],
                "counts": {"ok": 1, "warning": 0, "failed": 2, "not_checked": 0},
                "seconds": 1.0,
            }
        )

        shown = stream.getvalue()
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert all(len(line) <= columns for line in plain.splitlines())
        assert "\x1b" not in plain
        assert "\x07" not in plain
        assert r"\x1b]0;owned\x07" in plain
        assert bool(re.search(r"\x1b\[(1;)?3\d", shown)) is not no_color
        assert plain.count("> Do it") == 2
        assert "2 failed, 1 ok, in 1.0 s." in plain


class FakeAws:
    """What a deployment has around its function, as boto3 shows it."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.denied: set[str] = set()
        self.concurrency: dict[str, Any] = {}
        self.state = "ENABLED"
        self.targets = [ARN]
        self.variables = {"SOURCE_NAME": "kong-eu"}
        self.alarms = [("kong-eu: No successful run", "OK"), ("kong-eu-2: No successful run", "ALARM")]

    def client(self, service: str, **_: Any) -> FakeAws:
        return self

    def get_paginator(self, operation: str) -> FakeAws:
        self._check(operation)
        self._operation = operation
        return self

    def paginate(self, **_: Any) -> Iterator[dict[str, Any]]:
        if self._operation == "describe_alarms":
            for name, state in self.alarms:
                since = datetime.fromtimestamp(self.now, UTC)
                yield {"MetricAlarms": [{"AlarmName": name, "StateValue": state, "StateUpdatedTimestamp": since}]}
            return
        for arn in self.targets:
            yield {"Schedules": [{"GroupName": "default", "Name": "hourly", "Target": {"Arn": arn}}]}

    def get_schedule(self, **_: Any) -> dict[str, Any]:
        return {
            "Name": "hourly",
            "State": self.state,
            "ScheduleExpression": "rate(1 hour)",
            "CreationDate": datetime.fromtimestamp(self.now - 600, UTC),
            "Target": {"Arn": ARN, "Input": '{"destination": "cloudtrail-lake"}'},
        }

    def get_function_concurrency(self, **_: Any) -> dict[str, Any]:
        self._check("get_function_concurrency")
        return self.concurrency

    def _check(self, operation: str) -> None:
        if operation in self.denied:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, operation)


@pytest.fixture
def deployed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LambdaEndpoint]:
    """The function of the same site, and a command line that finds it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module.assembly.cache_clear()
    with LambdaEndpoint(lambda event: module.handler(event, Context())) as endpoint:  # type: ignore[arg-type]
        terminal.environment |= endpoint.environment
        yield endpoint
    module.assembly.cache_clear()


class OnlyAround:
    """boto3 for `cli.deployment` alone: the function itself is asked by the real one."""

    def __init__(self, aws: FakeAws) -> None:
        self.client = aws.client


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    fake = FakeAws(time.time())
    monkeypatch.setattr(cli.deployment, "boto3", OnlyAround(fake))
    monkeypatch.setattr(
        cli.deployed,
        "configuration",
        lambda **_: {
            "FunctionName": "collector",
            "FunctionArn": ARN,
            "Environment": {"Variables": fake.variables},
        },
    )
    return fake


class TestDeployment:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({}, {}),
            ({"state": "DISABLED"}, {"schedule": "failed"}),
            ({"targets": []}, {"schedule": "warning"}),
            ({"concurrency": {"ReservedConcurrentExecutions": 0}}, {"function": "failed"}),
            ({"alarms": [("kong-eu, archive: Lag", "ALARM")]}, {"alarms": "warning"}),
            ({"alarms": [("kong-eu: No run (helper)", "ALARM"), ("kong-eu: Lag", "OK")]}, {}),
            ({"alarms": []}, {"alarms": "warning"}),
            ({"denied": {"list_schedules"}}, {"schedule": "not_checked"}),
            ({"denied": {"describe_alarms"}}, {"alarms": "not_checked"}),
            ({"denied": {"get_function_concurrency"}}, {"function": "not_checked"}),
        ],
    )
    def test_what_is_broken_is_what_is_found(
        self, aws: FakeAws, change: dict[str, Any], expected: dict[str, str]
    ) -> None:
        for name, value in change.items():
            setattr(aws, name, value)

        found = examine(cli.deployment.Deployment(function="collector", stack=None).checks, no_progress)

        assert {each.check: each.status for each in found if each.status is not Status.OK} == expected
        assert {each.check for each in found} == {"function", "schedule", "alarms"}

    def test_log_group_is_looked_at_with_the_permissions_of_the_operator(
        self, aws: FakeAws, logs: LogsEmulator
    ) -> None:
        aws.variables |= {"DESTINATION": "cloudwatch-logs", "LOG_GROUP": logs.log_group_arn}

        checks = cli.deployment.Deployment(function="collector", stack=None).checks

        assert {(check.area, check.name) for check in checks} >= {("cloudwatch-logs", "log group")}

    def test_what_the_function_may_not_see_the_operator_may(self) -> None:
        area = Area("cloudwatch-logs")
        of_function = [area.ok("log group", "It exists."), area.not_checked("retention", "Not allowed.")]
        around = [
            area.ok("log group", "It exists, too."),
            area.ok("retention", "For ever."),
            area.failed("x", "y", "z"),
        ]
        document = {"findings": [finding.document() for finding in of_function]}

        both = doctor_command._with(document, around)["findings"]
        neither = doctor_command._with(document, [area.not_checked("retention", "Nor here.")])["findings"]

        assert [each["what"] for each in both] == ["It exists.", "For ever.", "y"]
        assert [each["what"] for each in neither] == ["It exists.", "Not allowed."]


@pytest.mark.usefixtures("deployed")
class TestDeployed:
    def test_healthy(self, terminal: Terminal, aws: FakeAws) -> None:
        terminal.run("sync")

        output = terminal.run("doctor", "--json", "--function", "collector")

        document = checked("doctor", output.report)
        assert output.status == ExitStatus.DONE
        assert [each["check"] for each in document["findings"] if each["area"] == "deployment"] == [
            "function",
            "schedule",
            "alarms",
        ]
        assert {each["status"] for each in document["findings"] if each["area"] == "deployment"} == {"ok"}
        assert document["counts"]["ok"] == sum(each["status"] == "ok" for each in document["findings"])

    def test_function_with_wrong_settings_answers_all_the_same(self, terminal: Terminal, aws: FakeAws) -> None:
        terminal.environment["PAGE_SIZE"] = "many"

        status, unlike = diagnose(terminal, "--function", "collector")

        assert (status, unlike["settings: PAGE_SIZE"]) == (ExitStatus.MISCONFIGURED, "failed")

    def test_function_that_does_not_answer_does_not_hide_the_rest(
        self, terminal: Terminal, aws: FakeAws, deployed: LambdaEndpoint
    ) -> None:
        aws.state = "DISABLED"
        deployed.function = lambda event: {"hello": "world"}

        status, unlike = diagnose(terminal, "--function", "collector")

        assert status == ExitStatus.MISCONFIGURED
        assert unlike == {"deployment: answer": "failed", "deployment: schedule": "failed"}

    def test_whoever_may_only_ask_the_function(
        self, terminal: Terminal, aws: FakeAws, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: Any) -> Any:
            raise SettingsError(["The function could not be read (AccessDeniedException)."])

        monkeypatch.setattr(cli.deployed, "configuration", refuse)
        terminal.run("sync")

        status, unlike = diagnose(terminal, "--function", "collector")

        assert (status, unlike) == (ExitStatus.DONE, UNSEEN | {"deployment: function": "not_checked"})

    def test_whoever_may_not_ask_the_function_sees_the_rest(
        self, terminal: Terminal, aws: FakeAws, deployed: LambdaEndpoint
    ) -> None:
        aws.state = "DISABLED"
        deployed.refusal = "AccessDeniedException"

        status, unlike = diagnose(terminal, "--function", "collector")

        assert status == ExitStatus.MISCONFIGURED
        assert unlike == {"deployment: answer": "failed", "deployment: schedule": "failed"}

    @pytest.mark.parametrize("missing", ["AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID"])
    @pytest.mark.parametrize("verb", ["doctor", "status"])
    def test_without_region_profile_or_credentials(self, terminal: Terminal, verb: str, missing: str) -> None:
        terminal.environment["AWS_PROFILE"] = "tpyo"
        if missing != "AWS_PROFILE":
            for name in ("AWS_PROFILE", missing):
                del terminal.environment[name]

        terminal.run(verb, "--function", "collector").assert_failed(ExitStatus.USAGE, "AWS_PROFILE, AWS_REGION")

    @pytest.mark.parametrize("answer", [None, 5, []])
    def test_function_that_is_another_one(self, terminal: Terminal, deployed: LambdaEndpoint, answer: object) -> None:
        deployed.function = lambda event: answer

        terminal.run("status", "--function", "collector").assert_failed(ExitStatus.FAILED, "it is not a collector")

    def test_status_knows_the_next_run(self, terminal: Terminal, aws: FakeAws) -> None:
        terminal.run("sync")

        machine, person = (terminal.run("status", *more, "--function", "collector") for more in (("--json",), ()))

        document = checked("status", machine.report)
        (schedule,) = document["schedules"]
        assert schedule["next_run_at"] == int(aws.now - 600) + 3600
        assert (machine.status, person.status) == (ExitStatus.DONE, ExitStatus.DONE)
        assert "(rate(1 hour))" in person.out

    def test_status_without_the_right_to_see_the_schedule(self, terminal: Terminal, aws: FakeAws) -> None:
        aws.denied = {"list_schedules"}

        output = terminal.run("status", "--json", "--function", "collector")

        assert checked("status", output.report)["schedules"] is None
        assert output.status == ExitStatus.FAILED
        assert "scheduler:ListSchedules" in output.err


class TestStatus:
    def test_tells_programs_and_people(self, terminal: Terminal) -> None:
        terminal.run("sync")

        machine, person = terminal.run("status", "--json"), terminal.run("status")

        document = checked("status", machine.report)
        (trail,) = document["trails"]
        assert (trail["last_report"]["delivered"], trail["quarantine_open"]) == (12, 0)
        assert document["cache"]["policy"] == "noeviction"
        assert (machine.status, person.status, person.err) == (ExitStatus.DONE, ExitStatus.DONE, "")
        lines = person.out.splitlines()
        assert lines[0] == "kong-eu/requests/cloudtrail-lake"
        facts = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in lines[1:] if "  " in line.strip())
        assert facts["its counts"] == "12 fetched, 12 delivered"
        assert facts["next run"] == "unknown"
        assert facts["eviction"] == "noeviction"

    def test_what_cannot_be_read_is_said_and_the_rest_shown(self, terminal: Terminal, site: Site) -> None:
        terminal.run("sync")
        site.valkey.stop()

        output = terminal.run("status", "--json")

        document = checked("status", output.report)
        assert document["cache"] is None
        assert document["trails"][0]["last_report"]["delivered"] == 12
        assert output.status == ExitStatus.FAILED
        assert "The cache did not answer" in output.err

    def test_kong_is_not_asked(self, terminal: Terminal, site: Site) -> None:
        terminal.run("status")

        assert site.kong.requests == []

    def test_damaged_checkpoint(self, terminal: Terminal, site: Site) -> None:
        terminal.run("sync")
        (checkpoint,) = (site.ledger / "checkpoints").rglob("*.json")
        checkpoint.write_text("{}")

        output = terminal.run("status", "--json")

        trail = checked("status", output.report)["trails"][0]
        assert (trail["lag_seconds"], trail["is_reading"]) == (None, None)
        assert "is not a checkpoint" in output.err


@pytest.mark.parametrize("verb", ["doctor", "status"])
def test_schema_names_and_describes_every_field(verb: str) -> None:
    schema = json.loads((SCHEMAS / f"{verb}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    pending = [schema]
    while pending:
        node = pending.pop()
        assert node.get("description"), node
        if "properties" in node:
            assert node["additionalProperties"] is False
            pending += list(node["properties"].values())
        pending += [node["items"]] if "description" in node.get("items", {}) else []
