"""A deployment accepts exactly the values that the function accepts, and the function reads them as they were meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from kong_cloudtrail import variables
from kong_cloudtrail.errors import SettingsError
from kong_cloudtrail.settings import Secret, Settings, value_or_default

from stacks import IntegrationSettings
from stacks import SettingsError as DeploymentError
from stacks.settings import resolved
from stacks.settings import variables as of_deployment
from tests.helpers import REPOSITORY, examples

PLANTED = "hunter2"
ARCHIVE = "s3://bucket-1/archive"
CHANNEL = variables.EXAMPLE_CHANNEL_ARN
LOG_GROUP = variables.EXAMPLE_LOG_GROUP
PEM = trustme.CA().cert_pem.bytes().decode("ascii")
VARIABLES = {variable.name: variable for variable in variables.TABLE}
NAMES = list(VARIABLES)
SETTINGS = [name for name, variable in VARIABLES.items() if variable.setting]

VALID: dict[str, list[str]] = {
    "CHANNEL_ARN": [CHANNEL, CHANNEL.replace("us-east-1", "eu-central-1"), CHANNEL.replace("us-east-1", "eu-south-2")],
    "KONG_ADMIN_API": ["http://10.1.2.3", "HTTPS://Kong_1.internal.:08444/a/b//", "https://[2001:db8::1]:8444"],
    "KONG_ADMIN_TOKEN_SECRET": ["kong/token", "arn:aws:secretsmanager:us-east-1:111122223333:secret:kong/token-a1B2c3"],
    "KONG_ROOT_CA": [PEM, f"Issuer: x\n{PEM}# y\n{PEM}".replace("\n", "\r\n"), str(REPOSITORY), "Disabled", "NULL"],
    "EXTERNAL_ID": ["ours-42", "üñïçödé-42", "a+b=c,d.e@f:g/h-i_j", "x" * 1224, "x" * 1225],
    "EVENT_DATA_STORE": [
        variables.EXAMPLE_EVENT_DATA_STORE,
        variables.EXAMPLE_EVENT_DATA_STORE.replace("us-east-1", "eu-central-1"),
    ],
    "SOURCE_NAME": ["kong.eu-1_a", "x" * 64, "x" * 65],
    "LOG_LEVEL": ["debug", "Warning", "ınfo", "LOUD"],
    "KONG_ADMIN_TOKEN": ["a token"],
    "REDIS_HOST": ["localhost:6379", "[::1]:6379"],
    "REDIS_USERNAME": ["collector"],
    "REDIS_PASSWORD": ["pâss word"],
    "REDIS_PASSWORD_SECRET": ["cache/password"],
    "REDIS_IAM_CACHE": ["kong-cache"],
    "DESTINATION": [
        "archive",
        "cloudtrail-lake",
        "archive,cloudtrail-lake",
        "cloudtrail-lake, Archive",
        "CloudWatch-Logs",
        "cloudwatch-logs,archive",
    ],
    "STREAMS": ["requests", "objects", "requests,objects", " Objects,, requests"],
    "ARCHIVE": ["s3://bucket-1/a/prefix", "./archive", "s3://bucket-1"],
    "ARCHIVE_FORMAT": ["json", "OCSF"],
    "ARCHIVE_ACCOUNT_ID": ["111122223333"],
    "ARCHIVE_SIGNING_KEY": ["arn:aws:kms:us-east-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"],
    "LOG_GROUP": [LOG_GROUP, f"{LOG_GROUP}:*", LOG_GROUP.replace("/kong/audit", "kong.audit_#1-a"), f"{LOG_GROUP}:x"],
    "LOG_GROUP_FORMAT": ["json", "OCSF"],
    "LOG_GROUP_RETENTION_DAYS": ["7", "3653", "0365", "8", "0", "1e1"],
    "LEDGER": ["s3://bucket-1/a/prefix", "./ledger", "s3://bucket-1"],
    "EXCLUDE_METHODS": ["GET", "head, Options,HEAD", "optıons"],
    "EXCLUDE_PATHS": ["/", "/status", "/status/, /metrics/**,/services/*/plugins", "/**", "/a/../b", "/a**"],
    "EXCLUDE_STATUSES": ["204", "3XX, 404,3xx", "099"],
    "EXCLUDE_OWN_READS": ["collector", "3c1f6f0e-5d0b-4a57-9f0a-0b8f6a2f7e11", "ünser, Sammler", "true"],
}
BOOLEANS = ["true", "FALSE", "1", "off", "yes", "2"]
NUMBERS = [
    *"0169",
    "15",
    "16",
    "64",
    "65",
    "900",
    "1000",
    "1001",
    "3599",
    "3600",
    "007",
    "1_0",
    "+1",
    "1.0",
    "٣",
    "1e3",
]
NUMBERS += [str(limit + step) for limit in (2_592_000, 10**9, 2**31 - 2, 10**12) for step in (0, 1)]

TROUBLE = [
    *' \t\n\r\x00\x07\x7f\x85\u00a0\u200b\ufeff\udc80éſK٣/:?#@%[]{}\\"<0-_.$',
    "//",
    "://",
    "..",
    ":0",
    "@",
    PLANTED,
]
"""What changes the meaning of a text, or looks as if it did."""


def examples_of(name: str) -> list[str]:
    check = VARIABLES[name].check
    return VALID.get(name) or (BOOLEANS if check is variables.boolean else NUMBERS)


@st.composite
def near_valid(draw: st.DrawFn, name: str) -> str:
    """Return a text that is valid, or that somebody would write who thinks so."""
    text = draw(st.sampled_from(examples_of(name)))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 2)))
        text = text[:start] + draw(st.sampled_from(["", *TROUBLE])) + text[end:]
    return draw(st.sampled_from([text, text, f" {text}\n", text.swapcase(), text * 2]))


def texts(name: str) -> st.SearchStrategy[str]:
    foreign = [text for other in NAMES for text in examples_of(other)]
    return st.one_of(
        near_valid(name), near_valid(name), st.text(), st.sampled_from([*foreign, "9" * 5000, "x" * 10_000])
    )


def environment(name: str, text: str) -> dict[str, str]:
    """Return the least environment of the function, with one variable."""
    found = {"CHANNEL_ARN": CHANNEL, "KONG_ADMIN_API": "https://kong.example.com", name: text}
    if name == "ARCHIVE_FORMAT" or (name == "DESTINATION" and "archive" in text.lower()):
        found["ARCHIVE"] = ARCHIVE
    if name == "LOG_GROUP_FORMAT" or (name == "DESTINATION" and "logs" in text.lower()):
        found["LOG_GROUP"] = LOG_GROUP
    if name == "DESTINATION" and found.keys() & {"ARCHIVE", "LOG_GROUP"} and "lake" not in text.lower():
        del found["CHANNEL_ARN"]  # which a deployment refuses without CloudTrail Lake
    if name == "KONG_SUPERADMIN" and text.strip():
        found["KONG_ADMIN_TOKEN"] = "token"
    if name == "REDIS_IAM_CACHE":
        found |= {"REDIS_TLS": "true", "REDIS_USERNAME": "collector"}
    return found


def read(given: dict[str, str]) -> Settings | tuple[str, ...]:
    """Return what the function makes of an environment: its settings, or the problems."""
    try:
        return Settings.from_mapping(given)
    except SettingsError as error:
        return error.problems


def deploy(name: str, value: object) -> dict[str, str] | tuple[str, ...]:
    """Return the environment that a deployment gives the function, or the problems."""
    setting = name.lower()
    given = {"channel_arn": CHANNEL, "kong_admin_api": "https://kong.example.com", setting: value}
    if name == "DESTINATION" and "lake" not in str(value).lower():
        del given["channel_arn"]
    if name == "ARCHIVE_FORMAT":
        given["destination"] = "archive,cloudtrail-lake"
    if name == "LOG_GROUP_FORMAT":
        given["destination"] = "cloudtrail-lake,cloudwatch-logs"
    try:
        options = IntegrationSettings.from_settings(given)
    except DeploymentError as error:
        return error.problems
    secret = options.kong.token_secret
    places = {"ARCHIVE": ARCHIVE} if "archive" in options.destinations else {}
    if "cloudwatch-logs" in options.destinations:
        places["LOG_GROUP"] = LOG_GROUP
    return {**options.environment, **places, **({"KONG_ADMIN_TOKEN_SECRET": secret} if secret else {})}


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_deployment_accepts_what_the_function_accepts_and_means_the_same(name: str, data: st.DataObject) -> None:
    text = data.draw(texts(name))
    assume("${Token[" not in text)  # these stand for what is known at deployment only
    # What a deployment requires has a default on a laptop, where the destination follows from what there is.
    assume(text.strip() or not (VARIABLES[name].missing or name in ("DESTINATION", "CHANNEL_ARN")))

    of_function, deployed = read(environment(name, text)), deploy(name, text)

    if isinstance(of_function, tuple):
        (problem,), (of_synth,) = of_function, deployed
        assert problem == f"{name}: {of_synth.removeprefix(f'{name.lower()}: ')}."
        return
    assert isinstance(deployed, dict), deployed
    if "KONG_ADMIN_TOKEN" in (given := environment(name, text)):
        deployed["KONG_ADMIN_TOKEN"] = given["KONG_ADMIN_TOKEN"]
    assert read(deployed) == of_function
    assert value_or_default(variables.LOG_LEVEL, deployed) == value_or_default(variables.LOG_LEVEL, given)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=examples(30), deadline=None)
@given(data=st.data())
def test_settings_refuse_what_the_check_refuses_and_no_message_repeats_a_value(name: str, data: st.DataObject) -> None:
    text = data.draw(texts(name))
    variable = VARIABLES[name]

    try:
        value = variable.read(text)
    except variables.InvalidValue as error:
        assert PLANTED not in str(error)
        assert f"{name}: {error}." in read(environment(name, text))  # type: ignore[operator]
        return

    # What was accepted stays the same when it is written into an environment, and read again.
    if value is not None:
        assert variable.read(variables.as_text(value)) == value
    if name != "CHANNEL_ARN" or value is not None:
        assert isinstance(read(environment(name, text)), Settings)


@pytest.mark.parametrize("name", NAMES)
def test_examples_reach_both_sides_of_every_check(name: str) -> None:
    # The properties above would hold of a check that refuses everything.
    accepted = [text for text in examples_of(name) if read(environment(name, text)).__class__ is Settings]
    assert accepted


@pytest.mark.parametrize(
    ("name", "typed", "text"),
    [
        ("KONG_SUPERADMIN", True, "true"),
        ("KONG_SUPERADMIN", False, "false"),
        ("MAP_STATUS_TO_ERROR_CODE", True, "true"),
        ("REDIS_DB", 3, "3"),
        ("SWEEP_SECONDS", 0, "0"),
        ("PAGE_SIZE", 1000, "1000"),
    ],
)
def test_numbers_and_truth_values_are_written_as_text(name: str, typed: object, text: str) -> None:
    deployed = deploy(name, typed)

    assert isinstance(deployed, dict)
    assert deployed[name] == text


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    "value", [1.5, float("nan"), float("inf"), [], {}, b"1", object(), -1], ids=lambda value: type(value).__name__
)
def test_what_is_no_text_is_refused_with_a_sentence(name: str, value: object) -> None:
    (problem,) = deploy(name, value)

    assert problem.startswith(f"{name.lower()}: ")


class TestTable:
    def test_names_are_unique(self) -> None:
        assert len(NAMES) == len(variables.TABLE)

    def test_defaults_are_accepted(self) -> None:
        for variable in variables.TABLE:
            assert variable.default is None or variable.read(variable.default) is not None

    def test_a_deployment_reads_the_same_table(self, tmp_path: Path) -> None:
        assert list(of_deployment.VARIABLES) == NAMES
        assert Path(of_deployment.table.__file__).samefile(variables.__file__)

    def test_every_secret_is_refused_with_advice(self) -> None:
        assert set(resolved._REFUSED) == set(of_deployment.SECRETS)

    def test_settings_hide_every_secret(self) -> None:
        given: dict[str, Any] = dict.fromkeys(of_deployment.SECRETS, PLANTED)
        found = read({"CHANNEL_ARN": CHANNEL, **given})
        assert isinstance(found, Settings)
        assert [getattr(found, name.lower()) for name in of_deployment.SECRETS] == [Secret(PLANTED)] * 2
