"""Where settings come from, which source is the stronger one, and that no value is ever shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import click
import pytest
from botocore.stub import Stubber
from kong_cloudtrail.errors import SettingsError

from cli import environment

SECRET = "planted-Secret-4711"
CHANNEL = "arn:aws:cloudtrail:eu-central-1:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef"
FUNCTION = {
    "CHANNEL_ARN": CHANNEL,
    "KONG_ADMIN_TOKEN_SECRET": "kong/token",
    "REDIS_HOST": "cache.internal:6379",
    "REDIS_IAM_CACHE": "kong",
    "LEDGER": "s3://bucket/kong",
}


@pytest.fixture(autouse=True)
def own_environment(aws_credentials: None) -> Iterator[None]:
    """What a test changes in the environment is gone after it."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Stubber]]:
    """Prepared answers of Lambda and CloudFormation, checked against the services' models."""
    clients: dict[str, Any] = {"lambda": boto3.client("lambda"), "cloudformation": boto3.client("cloudformation")}
    stubbers = {service: Stubber(client) for service, client in clients.items()}
    for stubber in stubbers.values():
        stubber.activate()
    monkeypatch.setattr(boto3, "client", lambda service, **_: clients[service])
    yield stubbers
    for stubber in stubbers.values():
        stubber.assert_no_pending_responses()


def function(aws: dict[str, Stubber], name: str = "collector", **environment: Any) -> None:
    """Let Lambda show a function once."""
    answer = {"Environment": environment} if environment else {}
    aws["lambda"].add_response("get_function_configuration", answer, {"FunctionName": name})


def stack(aws: dict[str, Stubber], **outputs: str) -> None:
    """Let CloudFormation show a stack once."""
    shown = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
    answer = {"Stacks": [{"StackName": "Kong", "CreationTime": 0, "StackStatus": "CREATE_COMPLETE", "Outputs": shown}]}
    aws["cloudformation"].add_response("describe_stacks", answer, {"StackName": "Kong"})


class TestFunction:
    def test_its_variables_are_the_settings(self, aws: dict[str, Stubber]) -> None:
        function(aws, Variables=FUNCTION)

        found = environment.read(None, "collector", None)

        assert FUNCTION.items() <= found.items()
        assert found["PATH"] == os.environ["PATH"]
        assert "LEDGER" not in os.environ

    def test_stack_names_its_function(self, aws: dict[str, Stubber]) -> None:
        stack(aws, LogGroupName="logs", FunctionName="collector")
        function(aws, Variables=FUNCTION)

        assert environment.read(None, None, "Kong")["LEDGER"] == "s3://bucket/kong"

    def test_stack_of_an_own_app_names_it_by_another_output(self, aws: dict[str, Stubber]) -> None:
        stack(aws, KongAuditTrailFunctionName="collector")
        function(aws, Variables=FUNCTION)

        assert environment.read(None, None, "Kong")["LEDGER"] == "s3://bucket/kong"

    def test_arn_brings_its_region(self, aws: dict[str, Stubber], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        arn = "arn:aws:lambda:eu-central-1:111122223333:function:collector"
        function(aws, arn, Variables=FUNCTION)

        environment.read(None, arn, None)

        session = boto3.DEFAULT_SESSION
        assert session is not None
        assert session.region_name == "eu-central-1"

    @pytest.mark.parametrize(
        ("outputs", "problem"),
        [
            ({}, "has no output FunctionName. Name the function with --function."),
            ({"AFunctionName": "a", "BFunctionName": "b"}, "has several functions: a, b. Name one with --function."),
        ],
    )
    def test_stack_without_one_function(self, aws: dict[str, Stubber], outputs: dict[str, str], problem: str) -> None:
        stack(aws, **outputs)

        with pytest.raises(SettingsError, match=problem):
            environment.read(None, None, "Kong")

    @pytest.mark.parametrize("variables", [{}, {"Variables": {"OTHER": SECRET}}])
    def test_function_of_somebody_else(self, aws: dict[str, Stubber], variables: dict[str, Any]) -> None:
        function(aws, **variables)

        with pytest.raises(SettingsError, match="not a collector") as raised:
            environment.read(None, "collector", None)
        assert SECRET not in str(raised.value)

    def test_variables_under_a_key_that_is_not_allowed(self, aws: dict[str, Stubber]) -> None:
        function(aws, Error={"ErrorCode": "AccessDeniedException", "Message": SECRET})

        with pytest.raises(SettingsError, match="kms:Decrypt") as raised:
            environment.read(None, "collector", None)
        assert SECRET not in str(raised.value)

    def test_lambda_refuses(self, aws: dict[str, Stubber]) -> None:
        aws["lambda"].add_client_error("get_function_configuration", "ResourceNotFoundException")

        with pytest.raises(SettingsError, match=r"ResourceNotFoundException.*lambda:GetFunctionConfiguration"):
            environment.read(None, "collector", None)

    def test_cloudformation_refuses(self, aws: dict[str, Stubber]) -> None:
        aws["cloudformation"].add_client_error("describe_stacks", "ValidationError")

        with pytest.raises(SettingsError, match=r"stack Kong .*ValidationError.*cloudformation:DescribeStacks"):
            environment.read(None, None, "Kong")

    @pytest.mark.parametrize(
        ("name", "value", "problem"),
        [
            ("AWS_ENDPOINT_URL_LAMBDA", "not a url", "Invalid endpoint"),
            ("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9", "Could not connect"),
            ("AWS_PROFILE", "tpyo", "tpyo"),
        ],
    )
    def test_aws_that_cannot_be_asked(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
    ) -> None:
        monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

        with pytest.raises(SettingsError, match=problem):
            environment.read(None, "collector", None)

    def test_one_of_the_two(self) -> None:
        with pytest.raises(click.UsageError, match="either --function or --stack"):
            environment.read(None, "collector", "Kong")


class TestOverriding:
    def test_environment_before_file_before_function(
        self, aws: dict[str, Stubber], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        function(aws, Variables={"CHANNEL_ARN": CHANNEL, "A": "function", "B": "function", "C": "function"})
        (tmp_path / "env").write_text(f"B=file\nC={SECRET}\n")
        os.environ["C"] = "environment"

        found = environment.read(tmp_path / "env", "collector", None)

        assert (found["A"], found["B"], found["C"]) == ("function", "file", "environment")
        assert capsys.readouterr() == ("", "The environment overrides C.\n")

    def test_token_in_the_environment_is_used_instead_of_the_functions_secret(
        self, aws: dict[str, Stubber], capsys: pytest.CaptureFixture[str]
    ) -> None:
        function(aws, Variables=FUNCTION)
        os.environ |= {"KONG_ADMIN_TOKEN": SECRET, "REDIS_PASSWORD": SECRET}

        found = environment.read(None, "collector", None)

        assert "KONG_ADMIN_TOKEN_SECRET" not in found
        assert "REDIS_IAM_CACHE" not in found
        assert capsys.readouterr() == ("", "The environment overrides KONG_ADMIN_TOKEN_SECRET, REDIS_IAM_CACHE.\n")

    def test_empty_variables_replace_nothing_but_themselves(self, aws: dict[str, Stubber]) -> None:
        function(aws, Variables={**FUNCTION, "KONG_ROOT_CA": "pem"})
        os.environ |= {"KONG_ADMIN_TOKEN": "", "KONG_ROOT_CA": ""}

        found = environment.read(None, "collector", None)

        assert found["KONG_ADMIN_TOKEN_SECRET"] == "kong/token"
        assert found["KONG_ROOT_CA"] == ""


class TestFile:
    def read(self, folder: Path, text: str) -> dict[str, str]:
        file = folder / "kong.env"
        file.write_text(text, "utf-8")
        return dict(environment.read(file, None, None))

    def test_ways_of_writing(self, tmp_path: Path) -> None:
        pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
        found = self.read(
            tmp_path,
            f'# comment\n\nexport A=1\r\nB = two words # comment\nC=\'$HOME # "x"\'\nKONG_ROOT_CA="{pem}"\nD=',
        )
        assert {name: found[name] for name in "ABCD"} == {"A": "1", "B": "two words", "C": '$HOME # "x"', "D": ""}
        assert found["KONG_ROOT_CA"] == pem

    def test_becomes_part_of_the_environment_for_the_libraries(self, tmp_path: Path) -> None:
        os.environ["AWS_REGION"] = "us-east-1"
        self.read(tmp_path, "AWS_PROFILE=audit\nAWS_REGION=eu-central-1\n")
        assert (os.environ["AWS_PROFILE"], os.environ["AWS_REGION"]) == ("audit", "us-east-1")

    def test_lines_that_are_no_assignments(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError) as raised:
            self.read(tmp_path, f"A=1\n\n{SECRET}\nB='{SECRET}\nC=1\n")
        assert [problem.partition("kong.env")[2] for problem in raised.value.problems] == [
            ", line 3: is not NAME=value",
            ", line 4: is not NAME=value",
        ]
        assert SECRET not in str(raised.value)

    def test_files_of_another_kind(self, tmp_path: Path) -> None:
        for path, problem in ((tmp_path / "missing", "cannot be read"), (Path("/dev/zero"), "longer than")):
            with pytest.raises(SettingsError, match=problem):
                environment.read(path, None, None)
