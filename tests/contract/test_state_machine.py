"""The state machine of backfills in the local AWS, with the real handler behind it.

The definition is that of the snapshot, which another test holds against the template. ministack runs it as it is. It
runs a distributed map, but has no redrive. Another execution stands for one: both go by the ledger.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest
from kong_cloudtrail import handler as module
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.errors import DestinationMisconfigured

from cli import state_machine
from cli.exit_status import ExitStatus
from sandbox.machinery.local_aws import LocalAws
from tests.conftest import Site
from tests.contract.test_command_line import Terminal, recent
from tests.contract.test_handler import Context
from tests.helpers import REPOSITORY, entry, wait_until
from tests.lambda_endpoint import LambdaEndpoint

HOUR = 3600
SLICES = 4
SNAPSHOT = REPOSITORY / "tests" / "infra" / "snapshots" / "backfill.json"
# Lets the function in the local AWS do what the one in this process does, errors included.
FORWARDER = """
import json, os, urllib.request

def handler(event, context):
    with urllib.request.urlopen(os.environ["HANDLER_URL"], json.dumps(event).encode()) as response:
        answer = json.loads(response.read())
        if response.headers.get("X-Amz-Function-Error"):
            raise type(answer["errorType"], (Exception,), {})(answer["errorMessage"])
        return answer
"""


@pytest.fixture(scope="module")
def hasty_aws() -> Iterator[LocalAws]:
    """A local AWS whose state machines do not wait."""
    with LocalAws(function_environment={"SFN_WAIT_SCALE": "0"}) as aws:
        yield aws


class Machine:
    """The state machine, and executions of it."""

    def __init__(self, aws: LocalAws, endpoint: LambdaEndpoint, name: str) -> None:
        session: Any = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("forwarder.py", FORWARDER)
        role = "arn:aws:iam::000000000000:role/any"
        function = session.client("lambda", endpoint_url=aws.url).create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=role,
            Handler="forwarder.handler",
            Code={"ZipFile": code.getvalue()},
            Timeout=60,
            Environment={"Variables": {"HANDLER_URL": endpoint.environment["AWS_ENDPOINT_URL_LAMBDA"]}},
        )
        self._states = session.client("stepfunctions", endpoint_url=aws.url)
        self.environment = {"AWS_ENDPOINT_URL_SFN": aws.url}
        self.arn: str = self._states.create_state_machine(
            name=name,
            roleArn=role,
            definition=definition_with(function["FunctionArn"]),
        )["stateMachineArn"]

    def execute(self, **fields: Any) -> dict[str, Any]:
        """Run it to its end; return what is known of the execution, the output parsed."""
        arn = self._states.start_execution(stateMachineArn=self.arn, input=json.dumps(fields))["executionArn"]
        wait_until(lambda: self._states.describe_execution(executionArn=arn)["status"] != "RUNNING")
        found: dict[str, Any] = self._states.describe_execution(executionArn=arn)
        found["output"] = json.loads(found.get("output") or "null")
        runs = self._states.list_map_runs(executionArn=arn)["mapRuns"]
        found["items"] = {}
        if runs:
            found["items"] = self._states.describe_map_run(mapRunArn=runs[0]["mapRunArn"])["itemCounts"]
        return found


Handle = Callable[[dict[str, Any]], Any]


class Function:
    """The handler, one event after the other, as one process serves one."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self.remaining_millis: Callable[[], int] = lambda: 300_000
        self.failure: Exception = DestinationMisconfigured("No such channel.")
        self.fails: Callable[[dict[str, Any]], bool] = lambda event: False

    def __call__(self, event: dict[str, Any]) -> Any:
        with self._lock, mock.patch.dict(os.environ, self._environment):
            if self.fails(event):
                raise self.failure
            return module.handler(event, Context(self.remaining_millis))  # type: ignore[arg-type]


@pytest.fixture
def function(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Function]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module.assembly.cache_clear()
    yield Function({**site.environment, "INITIAL_LOOKBACK_SECONDS": str(HOUR)})
    module.assembly.cache_clear()


def definition_with(function_arn: str) -> str:
    """Return the definition in the template, with this function."""
    added = json.loads(SNAPSHOT.read_text("utf-8"))["added"].values()
    [machine] = [resource for resource in added if resource["Type"] == "AWS::StepFunctions::StateMachine"]
    separator, parts = machine["Properties"]["DefinitionString"]["Fn::Join"]
    definition = str(separator).join(part if isinstance(part, str) else function_arn for part in parts)
    assert definition.count('"MaxAttempts": 4') == 3
    # Each attempt takes a second. Of an error, ministack does not tell the kind, so none is taken for a lasting one.
    return definition.replace('"MaxAttempts": 4', '"MaxAttempts": 1')


@pytest.fixture
def machine(hasty_aws: LocalAws, function: Function, request: pytest.FixtureRequest) -> Iterator[Machine]:
    with LambdaEndpoint(function) as endpoint:
        yield Machine(hasty_aws, endpoint, str(request.node.name).replace("_", "-")[:60])


@pytest.fixture
def rows(site: Site, function: Function) -> list[dict[str, Any]]:
    """Let the trail begin an hour ago, and return what is older."""
    now = int(site.kong.now())
    old = [entry(700 + number, request_timestamp=now - 6 * HOUR + number * 1000) for number in range(12)]
    site.kong.add_entries([*old, *recent(site, 3), entry(999, request_timestamp=now - 20 * HOUR)])
    function({})
    return old


def bounds(site: Site) -> dict[str, str]:
    now = int(site.kong.now()) // HOUR * HOUR
    return {"after": utc(now - 6 * HOUR), "before": utc(now - 2 * HOUR)}


def wanted(rows: list[dict[str, Any]], where: dict[str, str]) -> set[str]:
    return {row["request_id"] for row in rows if where["after"] <= utc(row["request_timestamp"]) < where["before"]}


def accepted(site: Site) -> Counter[str]:
    return Counter(site.cloudtrail.accepted_uids())


def test_execution_delivers_the_range_once(machine: Machine, site: Site, rows: list[dict[str, Any]]) -> None:
    where = bounds(site)

    first, second = machine.execute(**where), machine.execute(**where)

    assert first["status"] == second["status"] == "SUCCEEDED", first
    assert (first["items"]["succeeded"], first["items"]["failed"]) == (SLICES, 0)
    [trail] = first["output"]["trails"]
    assert (trail["finished"], trail["slices_done"], trail["delivered"]) == (True, SLICES, len(wanted(rows, where)))
    assert accepted(site).keys() >= wanted(rows, where)
    assert set(accepted(site).values()) == {1}
    # The second one has nothing to do, and says the same
    assert second["items"].get("total", 0) == 0
    assert second["output"]["trails"][0]["delivered"] == trail["delivered"]


def test_what_is_left_is_of_the_same_trails_as_the_plan(
    machine: Machine, site: Site, rows: list[dict[str, Any]], function: Function, tmp_path: Path
) -> None:
    function._environment |= {"DESTINATION": "cloudtrail-lake,archive", "ARCHIVE": str(tmp_path / "archive")}
    module.assembly.cache_clear()
    function({})

    execution = machine.execute(**bounds(site), destination="archive")

    assert execution["status"] == "SUCCEEDED", execution
    [trail] = execution["output"]["trails"]
    assert (trail["destination"], trail["delivered"]) == ("archive", len(wanted(rows, bounds(site))))
    assert not accepted(site).keys() & wanted(rows, bounds(site))


def test_slices_are_asked_for_again_until_they_are_finished(
    machine: Machine, site: Site, rows: list[dict[str, Any]], function: Function
) -> None:
    # Given calls with little time, each of which gets a page further, and one that is killed
    now = int(site.kong.now())
    many = [entry(3000 + number, request_timestamp=now - 5 * HOUR + number) for number in range(40)]
    site.kong.add_entries(many)
    function._environment["PAGE_SIZE"] = "10"
    module.assembly.cache_clear()
    begun = [0]

    def remaining_millis() -> int:
        return 300_000 if len(site.kong.requests) - begun[0] < 6 else 30_000

    killed: list[object] = []

    def once(event: dict[str, Any]) -> bool:
        begun[0] = len(site.kong.requests)
        return event.get("slice") == 2 and not killed and not killed.append(event)  # type: ignore[func-returns-value]

    function.remaining_millis, function.fails, function.failure = remaining_millis, once, TimeoutError("killed")
    where = bounds(site)

    execution = machine.execute(**where)

    assert execution["status"] == "SUCCEEDED", execution
    assert killed
    assert accepted(site).keys() >= wanted([*rows, *many], where)
    assert set(accepted(site).values()) == {1}


def test_execution_that_failed_half_way_is_continued_by_another(
    machine: Machine, site: Site, rows: list[dict[str, Any]], function: Function
) -> None:
    function.fails = lambda event: event.get("slice", 3) == 3 and not event.get("plan")
    where = bounds(site)

    broken = machine.execute(**where)

    assert broken["status"] == "FAILED"
    assert (broken["items"]["failed"], broken["items"]["succeeded"]) == (1, SLICES - 1)
    assert 0 < len(accepted(site).keys() & wanted(rows, where)) < len(wanted(rows, where))

    function.fails = lambda event: False
    again = machine.execute(**where)

    assert again["status"] == "SUCCEEDED", again
    assert again["items"]["total"] == 1
    assert accepted(site).keys() >= wanted(rows, where)
    assert set(accepted(site).values()) == {1}


def test_range_that_is_refused_fails_with_what_to_do(machine: Machine, site: Site, rows: list[dict[str, Any]]) -> None:
    execution = machine.execute(after=bounds(site)["after"], before="now")

    assert (execution["status"], execution["error"]) == ("FAILED", "RequestInvalid")
    assert "Give --before" in execution["cause"]


class TestCommand:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(state_machine, "POLL_SECONDS", 0.05)

    @pytest.fixture
    def terminal(self, site: Site, machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
        terminal = Terminal(site, tmp_path / "home", capsys)
        terminal.environment |= machine.environment
        return terminal

    def test_starts_an_execution_and_follows_it(
        self, terminal: Terminal, machine: Machine, site: Site, rows: list[dict[str, Any]]
    ) -> None:
        where = bounds(site)
        options = ("--after", where["after"], "--before", where["before"], "--state-machine", machine.arn)

        output = terminal.run("backfill", *options, "--json")

        assert output.status == ExitStatus.DONE, output.err
        assert output.report["trails"][0]["delivered"] == len(wanted(rows, where))
        assert "Started arn:aws:states:" in output.err

    def test_says_why_it_failed(
        self, terminal: Terminal, machine: Machine, site: Site, rows: list[dict[str, Any]], function: Function
    ) -> None:
        where = bounds(site)
        refused = terminal.run("backfill", "--after", "3h", "--before", "now", "--state-machine", machine.arn)
        function.fails = lambda event: event.get("slice", 3) == 3 and not event.get("plan")
        options = ("--after", where["after"], "--before", where["before"], "--state-machine", machine.arn)
        failed = terminal.run("backfill", *options)

        refused.assert_failed(ExitStatus.USAGE, "Give --before")
        failed.assert_failed(ExitStatus.FAILED, "No such channel.", "Redrive it, or ask again")

    def test_without_a_state_machine(self, terminal: Terminal, machine: Machine) -> None:
        options = ("backfill", "--after", "3h", "--before", "2h", "--state-machine")

        terminal.run(*options, f"{machine.arn}-other").assert_failed(ExitStatus.USAGE, "StateMachineDoesNotExist")
        assert terminal.run(*options, "other").status == ExitStatus.USAGE
        assert terminal.run(*options).status == ExitStatus.USAGE
