"""A verb asked of the deployed function: the same answer as in this process, however long, and errors that tell."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from kong_cloudtrail import handler as module
from kong_cloudtrail.assembly import Assembly
from kong_cloudtrail.errors import CollectorError

from cli import deployed as cli_deployed
from cli.exit_status import ExitStatus
from tests.conftest import CACHE_PASSWORD, KONG_TOKEN, Site
from tests.contract.test_command_line import Terminal
from tests.contract.test_handler import Context
from tests.helpers import entries
from tests.lambda_endpoint import LambdaEndpoint

VERIFY = {"verb": "verify"}


@pytest.fixture
def terminal(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(site, tmp_path / "home", capsys)


@pytest.fixture
def deployed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LambdaEndpoint]:
    """The function of the same site, and a command line that finds it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module.assembly.cache_clear()
    with LambdaEndpoint(lambda event: module.handler(event, Context())) as endpoint:  # type: ignore[arg-type]
        terminal.environment |= endpoint.environment
        yield endpoint
    module.assembly.cache_clear()


def test_run_reports_as_in_this_process(terminal: Terminal, site: Site, deployed: LambdaEndpoint) -> None:
    site.kong.add_entries(entries(3))

    output = terminal.run("sync", "--function", "collector", "--json")

    assert output.status == ExitStatus.DONE
    assert output.report["delivered"] == site.cloudtrail.accepted_count() == 3
    assert deployed.events == [{"fresh_secrets": True}]


def test_run_of_one_trail(terminal: Terminal, site: Site, deployed: LambdaEndpoint) -> None:
    output = terminal.run("sync", "--function", "collector", "--destination", "archive")

    output.assert_failed(ExitStatus.USAGE, "no trail with the destination 'archive'", "requests into cloudtrail-lake")


def test_run_that_fails_says_why(terminal: Terminal, site: Site, deployed: LambdaEndpoint) -> None:
    site.kong.add_user("collector", "another")

    terminal.run("sync", "--function", "collector").assert_failed(ExitStatus.FAILED, "401", "token of an RBAC user")


def test_here_means_with_its_settings_in_this_process(terminal: Terminal, deployed: LambdaEndpoint) -> None:
    alone, unread = terminal.run("sync", "--here"), terminal.run("sync", "--env-file", "x", "--function", "f")

    assert alone.status == unread.status == ExitStatus.USAGE
    assert "--here belongs to --function or --stack" in alone.err
    assert "add --here" in unread.err
    assert deployed.events == []


class TestAnswer:
    def test_is_the_same_document(self, terminal: Terminal, site: Site, deployed: LambdaEndpoint) -> None:
        site.kong.add_entries(entries(3))
        terminal.run("sync")
        here = terminal.run("verify", "--json").report

        answer = ask(terminal, VERIFY)

        assert answer | {"answered_at": ""} == here | {"answered_at": ""}
        assert answer["whole"] is True

    def test_of_evidence_has_the_configuration_without_secrets(
        self, terminal: Terminal, site: Site, deployed: LambdaEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.kong.add_entries(entries(3))
        terminal.run("sync")

        answer = ask(terminal, {"verb": "evidence", "after": "2024-01-01", "before": "now"})

        assert (answer["trails"][0]["delivered"], answer["verb"]) == (3, "evidence")
        assert answer["configuration"]["SOURCE_NAME"] == "kong-eu"
        assert not {KONG_TOKEN, CACHE_PASSWORD} & set(answer["configuration"].values())

    def test_that_is_long_goes_through_the_ledger(
        self, terminal: Terminal, site: Site, deployed: LambdaEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 10)

        assert ask(terminal, VERIFY)["verb"] == "verify"

        (kept,) = (site.ledger / "answers" / "kong-eu").iterdir()
        assert json.loads(kept.read_bytes())["verb"] == "verify"

    def test_that_was_altered_in_the_ledger_is_refused(
        self, terminal: Terminal, site: Site, deployed: LambdaEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 10)
        kept = Assembly.keep_answer

        def altered(*arguments: Any) -> Any:
            stored = kept(*arguments)
            Path(stored["place"]).write_text('{"whole": true}')
            return stored

        monkeypatch.setattr(Assembly, "keep_answer", altered)

        assert "missing or altered" in fail(terminal, VERIFY)

    @pytest.mark.parametrize(
        ("event", "words"),
        [
            ({"verb": "veryfy"}, "There is no verb 'veryfy'; the verbs are: sync, "),
            ({"verb": ["verify"]}, "There is no verb ['verify']"),
            ({"verb": "verify", "depth": 3}, "There is no field depth; the fields are: none."),
            ({"verb": "verify", "destination": "archive"}, "There is no trail with the destination 'archive'."),
        ],
    )
    def test_to_a_wrong_request(
        self, terminal: Terminal, deployed: LambdaEndpoint, event: dict[str, Any], words: str
    ) -> None:
        assert words in fail(terminal, event)

    def test_with_an_id_of_a_tick_is_an_error_that_alarms(self, terminal: Terminal, deployed: LambdaEndpoint) -> None:
        assert "no verb" in fail(terminal, {"verb": "veryfy", "execution_id": "1"})

    def test_of_a_function_without_settings(self, terminal: Terminal, deployed: LambdaEndpoint) -> None:
        terminal.environment["PAGE_SIZE"] = "many"

        assert "PAGE_SIZE" in fail(terminal, VERIFY)

    def test_of_a_function_that_is_at_work(self, terminal: Terminal, deployed: LambdaEndpoint) -> None:
        deployed.refusal = "TooManyRequestsException"

        assert "is at work" in fail(terminal, VERIFY)

    def test_of_a_function_that_ran_out_of_time(self, terminal: Terminal, deployed: LambdaEndpoint) -> None:
        class Timeout(Exception):
            pass

        def time_out(event: dict[str, Any]) -> None:
            raise Timeout

        deployed.function = time_out

        assert "ended with Timeout before it answered" in fail(terminal, VERIFY)

    def test_of_somebody_elses_function(self, terminal: Terminal, deployed: LambdaEndpoint) -> None:
        deployed.function = lambda event: {"hello": "world"}

        assert "did not answer to the verb verify" in fail(terminal, VERIFY)


def ask(terminal: Terminal, event: dict[str, Any]) -> dict[str, Any]:
    """Ask the function as a command does, in the terminal's environment."""
    with mock.patch.dict(os.environ, terminal.environment, clear=True):
        return dict(cli_deployed.ask(event, function="collector", stack=None))


def fail(terminal: Terminal, event: dict[str, Any]) -> str:
    """Ask the function for something that it refuses, and return what it says."""
    with pytest.raises(CollectorError) as raised:
        ask(terminal, event)
    return str(raised.value)
