"""Secrets come from Secrets Manager, and leave through no log line, whatever somebody tries to log."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from urllib.parse import quote, quote_plus

import boto3
import pytest
from aws_lambda_powertools import Logger
from kong_cloudtrail.errors import SecretUnavailable
from kong_cloudtrail.runtime.redaction import Redactor
from kong_cloudtrail.runtime.secrets import Secrets
from kong_cloudtrail.runtime.telemetry import LambdaTelemetry, RedactingFormatter

from cli.terminal import TerminalTelemetry
from sandbox.machinery.http_server import HttpServer, Request, Response
from sandbox.machinery.local_aws import LocalAws

SECRETS = [
    "t0ken-of-the-auditor",
    'with "quotes" and \\backslashes\\',
    "with/slash+plus=equals&and%percent",
    "with a space",
    "mit Umläuten und 😀",
    'Schlüssel "1" \\ 2',
]


class TestSecretsManager:
    @pytest.fixture
    def manager(self, local_aws: LocalAws, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        for name, value in local_aws.environment().items():
            monkeypatch.setenv(name, value)
        client = boto3.client("secretsmanager")
        yield client
        for secret in client.list_secrets()["SecretList"]:
            client.delete_secret(SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True)
        client.close()

    def test_value_is_read_by_name_and_by_arn(self, manager: Any) -> None:
        arn = manager.create_secret(Name="kong/token", SecretString="t0ken")["ARN"]
        secrets = Secrets(lambda _: None)

        assert [secrets.read("kong/token"), secrets.read(arn)] == ["t0ken", "t0ken"]

    def test_white_space_around_it_is_not_part_of_it(self, manager: Any) -> None:
        manager.create_secret(Name="kong/token", SecretString=" t0ken\n")

        assert Secrets(lambda _: None).read("kong/token") == "t0ken"

    def test_value_is_kept_until_asked_for_anew(self, manager: Any) -> None:
        manager.create_secret(Name="kong/token", SecretString="old")
        secrets = Secrets(lambda _: None)
        assert secrets.read("kong/token") == "old"

        manager.put_secret_value(SecretId="kong/token", SecretString="new")

        assert secrets.read("kong/token") == "old"
        assert secrets.read("kong/token", fresh=True) == "new"
        assert secrets.read("kong/token") == "new"

    def test_every_value_is_concealed(self, manager: Any) -> None:
        manager.create_secret(Name="kong/token", SecretString="t0ken")
        redactor = Redactor()

        Secrets(redactor.conceal).read("kong/token")

        assert redactor.clean("the token is t0ken") == "the token is ***"

    def test_missing_secret_says_what_to_check(self, manager: Any) -> None:
        with pytest.raises(SecretUnavailable, match=r"kong/token.*ResourceNotFoundException.*GetSecretValue"):
            Secrets(lambda _: None).read("kong/token")

    def test_empty_secret_says_how_to_fill_it(self, manager: Any) -> None:
        manager.create_secret(Name="kong/token", SecretString=" ")

        with pytest.raises(SecretUnavailable, match=r"is empty.*put-secret-value --secret-id kong/token"):
            Secrets(lambda _: None).read("kong/token")

    def test_text_of_an_error_stays_out_of_the_message(
        self, aws_credentials: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(request: Request) -> Response:
            body = {"__type": "AccessDeniedException", "Message": "hunter2 may not do that"}
            return Response(400, json.dumps(body).encode(), {"Content-Type": "application/x-amz-json-1.1"})

        server = HttpServer(refuse)
        server.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.origin)
        try:
            with pytest.raises(SecretUnavailable) as unavailable:
                Secrets(lambda _: None).read("kong/token")
        finally:
            server.stop()

        assert "AccessDeniedException" in str(unavailable.value)
        assert "hunter2" not in str(unavailable.value)
        assert unavailable.value.__cause__ is None


class TestRedactor:
    @pytest.mark.parametrize("secret", SECRETS)
    @pytest.mark.parametrize(
        "spell",
        [
            str,
            json.dumps,
            lambda text: json.dumps(text, ensure_ascii=False),
            lambda text: json.dumps(json.dumps(text)),
            quote,
            lambda text: quote(text, safe=""),
            lambda text: re.sub("%..", lambda match: match[0].lower(), quote(text, safe="")),
            quote_plus,
            repr,
        ],
        ids=["plain", "JSON", "JSON not ASCII", "JSON in JSON", "URL path", "URL", "URL in lower case", "form", "repr"],
    )
    def test_finds_a_secret_however_it_is_spelled(self, secret: str, spell: Callable[[str], str]) -> None:
        redactor = Redactor()
        redactor.conceal(secret)

        cleaned = redactor.clean(f"before {spell(secret)} after {spell(secret)}")

        assert spell(secret).strip("\"'\\") not in cleaned
        assert cleaned.startswith("before ")
        assert cleaned.count("***") == 2

    def test_secret_that_is_part_of_another_leaves_nothing_of_it(self) -> None:
        redactor = Redactor()
        for secret in ("abc", "xabcx"):
            redactor.conceal(secret)

        assert redactor.clean("xabcx abc") == "*** ***"

    def test_empty_secret_changes_nothing(self) -> None:
        redactor = Redactor()
        redactor.conceal("")

        assert redactor.clean("text") == "text"


def append_and_log(logger: Logger, secret: str) -> None:
    logger.append_keys(token=secret)
    logger.error("look")


class TestLogLines:
    SERVICES = count(1)

    @pytest.fixture
    def stream(self) -> io.StringIO:
        return io.StringIO()

    @pytest.fixture
    def logger(self, stream: io.StringIO) -> Iterator[Logger]:
        redactor = Redactor()
        for secret in SECRETS:
            redactor.conceal(secret)
        service = f"service-{next(self.SERVICES)}"  # Powertools keeps one logger for each, with its first stream
        yield Logger(service=service, logger_formatter=RedactingFormatter(redactor.clean), stream=stream)
        logging.getLogger(service).handlers.clear()

    ATTEMPTS: dict[str, Callable[[Logger, str], None]] = {  # noqa: RUF012 - never changed
        "message": lambda logger, secret: logger.info(f"the token is {secret}."),
        "argument": lambda logger, secret: logger.info("the token is %s", secret),
        "message that is an object": lambda logger, secret: logger.info({"token": secret, "nested": [{"a": secret}]}),
        "extra key": lambda logger, secret: logger.info("look", token=secret),
        "extra": lambda logger, secret: logger.info("look", extra={"token": {"deep": [secret]}}),
        "name of a key": lambda logger, secret: logger.info("look", extra={secret: 1}),
        "list": lambda logger, secret: logger.warning("look", tokens=[secret, {"b": (secret,)}]),
        "appended key": lambda logger, secret: append_and_log(logger, secret),
        "JSON within": lambda logger, secret: logger.info("look", body=json.dumps({"token": secret})),
        "URL": lambda logger, secret: logger.info(f"GET /a?token={quote(secret)}"),
        "header": lambda logger, secret: logger.info("sent", headers={"Kong-Admin-Token": secret}),
        "object": lambda logger, secret: logger.info("look", error=ValueError(secret)),
    }

    @pytest.mark.parametrize("secret", SECRETS)
    @pytest.mark.parametrize("attempt", ATTEMPTS)
    def test_hold_no_secret(self, logger: Logger, stream: io.StringIO, attempt: str, secret: str) -> None:
        self.ATTEMPTS[attempt](logger, secret)

        line = stream.getvalue()
        assert "***" in line
        assert_absent(secret, line)

    @pytest.mark.parametrize("secret", SECRETS)
    def test_hold_no_secret_of_an_exception(self, logger: Logger, stream: io.StringIO, secret: str) -> None:
        try:
            try:
                raise ValueError(f"cause: {secret}")
            except ValueError as cause:
                raise RuntimeError(f"the token {secret} was refused") from cause
        except RuntimeError:
            logger.exception("it failed")

        assert "***" in stream.getvalue()
        assert_absent(secret, stream.getvalue())

    def test_stay_structured(self, logger: Logger, stream: io.StringIO) -> None:
        LambdaTelemetry(logger, None).warning("RUN_UNFINISHED", "The time was used up.", backlog=5)  # type: ignore[arg-type]

        line = json.loads(stream.getvalue())
        assert (line["level"], line["code"], line["message"], line["backlog"]) == (
            "WARNING",
            "RUN_UNFINISHED",
            "The time was used up.",
            5,
        )


def assert_absent(secret: str, line: str) -> None:
    """Fail if a secret can be read out of a line, as it is or as the value of something within."""
    assert secret not in line
    assert json.dumps(secret)[1:-1] not in line
    assert json.dumps(secret, ensure_ascii=False)[1:-1] not in line
    assert quote(secret) not in line
    assert secret not in json.dumps(json.loads(line), ensure_ascii=False)


def test_terminal_shows_no_secret() -> None:
    redactor = Redactor()
    redactor.conceal("t0ken")
    stream = io.StringIO()
    telemetry = TerminalTelemetry(redactor.clean, stream)

    telemetry.info("CODE", "the token is t0ken", also="t0ken")
    telemetry.warning("CODE", "t0ken")

    assert stream.getvalue() == "the token is *** also=***\nCODE: ***\n"
