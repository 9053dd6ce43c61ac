"""Settings: what is accepted, and every problem at once, without a value in it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stacks import DeploymentSettings, IntegrationSettings, SettingsError
from stacks.settings.resolved import DEFAULT_TAGS
from tests.infra.synthesis import CHANNEL_ARN, CONTEXT, ROOT, SUBNET_IDS, VPC_ID

PLANTED = "planted-Secret-4711"
KEY = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"


def problems(**context: Any) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        DeploymentSettings.from_context({**CONTEXT, **context}, environment_region=context.pop("region", None))
    assert PLANTED not in str(raised.value)
    return list(raised.value.problems)


def environment(**context: Any) -> dict[str, str]:
    """The function's variables as far as the settings tell them."""
    options = DeploymentSettings.from_context({**CONTEXT, **context})
    return dict(IntegrationSettings.from_settings(options.integration).environment)


def test_required_settings_and_their_defaults() -> None:
    options = DeploymentSettings.from_context(CONTEXT)
    assert (options.vpc_id, options.subnet_ids, options.tags) == (VPC_ID, SUBNET_IDS, DEFAULT_TAGS)
    assert options.region == "eu-central-1", "without a word about the region, the channel decides"
    assert environment() == {
        "KONG_ADMIN_API": CONTEXT["kong_admin_api"],
        "KONG_SUPERADMIN": "false",
        "DESTINATION": "cloudtrail-lake",
        "CHANNEL_ARN": CHANNEL_ARN,
        "REDIS_DB": "0",
        "SOURCE_NAME": "kong",
        "LOG_LEVEL": "INFO",
    }


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        ("existing_vpc", None, "is missing; give the id of the VPC"),
        ("existing_vpc", "", "is missing"),
        ("existing_vpc", PLANTED, "looks like vpc-"),
        ("existing_vpc", "vpc-0123456789ABCDEF0", "looks like vpc-"),
        ("existing_subnet_ids", None, "is missing; give the ids of at least two subnets"),
        ("existing_subnet_ids", SUBNET_IDS[0], "at least two different subnets"),
        ("existing_subnet_ids", [SUBNET_IDS[0]] * 3, "at least two different subnets"),
        ("existing_subnet_ids", [SUBNET_IDS[0], PLANTED], "number 2 is no subnet id"),
        ("existing_subnet_ids", 7, "must be a list"),
        ("existing_subnet_ids", "[" + PLANTED, "must be a list"),
        ("resource_tags", PLANTED, "must be a map"),
        ("resource_tags", [PLANTED], "must be a map"),
        ("resource_tags", {"aws:x": "y"}, "does not begin with aws:"),
        ("resource_tags", {"k": [PLANTED]}, "every value must be text"),
        ("resource_tags", {f"k{i}": "v" for i in range(51)}, "at most 50 tags"),
        ("aws_region", PLANTED, "must be a region's name"),
        ("resource_name", "two words", "must be at most 64 letters"),
        ("security_group", "sg-0123456789abcdef0", "none that begins with sg-"),
        ("schedule", "hourly", "must be rate("),
        ("schedule", "rate(0 hours)", "must be rate("),
        ("schedule", "at(2026-01-01T00:00:00)", "must be rate("),
        ("cache_engine", "memcached", "must be one of valkey, redis"),
        ("channel_arn", "arn:aws:cloudtrail:eu-central-1:1234:channel/x", "is not the ARN of a CloudTrail channel"),
        ("channel_arn", CHANNEL_ARN.replace("channel/", "eventdatastore/"), "is not the ARN of a CloudTrail channel"),
        ("channel_arn", CHANNEL_ARN.replace("eu-central-1", "il-central-1"), "has no cloudtrail-data endpoint"),
        ("kong_admin_api", None, "is missing; give the URL"),
        ("kong_admin_api", "kong.example.com:8444", "does not begin with http:// or https://"),
        ("kong_admin_api", "//kong.example.com:8444", "does not begin with http:// or https://"),
        ("kong_admin_api", "ftp://kong.example.com", "does not begin with http:// or https://"),
        ("kong_admin_api", "https://", "has no valid host and port"),
        ("kong_admin_api", "https://kong:99999", "has no valid host and port"),
        ("kong_admin_api", "https://[::1", "has no valid host and port"),
        ("kong_admin_api", "https://kong ng:8444", "contains white space"),
        ("kong_admin_api", f"https://admin:{PLANTED}@kong:8444", "carries credentials"),
        ("kong_admin_api", f"https://kong:8444/?token={PLANTED}", "has a query"),
        ("kong_superadmin", PLANTED, "must be true or false"),
        ("kong_superadmin", 7, "must be true or false"),
        ("kong_admin_token", PLANTED, "a literal token"),
        ("KONG_ADMIN_TOKEN", PLANTED, "a literal token"),
        ("kong_admin_token_secret", f"{PLANTED} {PLANTED}", "must be the ARN or the name"),
        ("kong_admin_token_secret", "arn:aws:s3:::bucket", "is not the ARN of a secret"),
        (
            "kong_admin_token_secret",
            "arn:aws:secretsmanager:us-east-1:111122223333:secret:kong-a1B2c3",
            "is in another region than the stack",
        ),
        ("kong_root_ca", f"/{PLANTED}/ca.pem", "neither PEM text nor the path of a readable file"),
        ("kong_root_ca", "/", "is the path of a folder or a device, not of a file"),
        ("kong_root_ca", "/dev/zero", "is the path of a folder or a device, not of a file"),
        ("kong_root_ca", str(ROOT / "app.py"), "holds no PEM certificate, or a damaged one"),
        (
            "kong_root_ca",
            f"-----BEGIN CERTIFICATE-----\n{PLANTED}\n-----END CERTIFICATE-----",
            "holds no PEM certificate, or a damaged one",
        ),
        (
            "kong_root_ca",
            f"-----BEGIN PRIVATE KEY-----\n{PLANTED}\n-----END PRIVATE KEY-----",
            "contains a private key",
        ),
        ("redis_db", "one", "whole number from 0 to 2147483646"),
        ("redis_db", 1.5, "whole number from 0 to 2147483646"),
        ("redis_db", True, "whole number from 0 to 2147483646"),
        ("external_id", "x", "2 to 1224"),
        ("external_id", "üñïçödé-42", "2 to 1224 ASCII letters"),
        ("external_id", 42, "must be text"),
        ("external_id", True, "must be text"),
        ("map_status_to_error_code", "perhaps", "must be true or false"),
        ("source_name", "a/b", "at most 64 ASCII letters"),
        ("overlap_seconds", -1, "whole number"),
        ("initial_lookback_seconds", 0, "whole number from 1 to 1000000000"),
        ("sweep_seconds", 60, "from 3600 to 2592000, or 0 for no sweeps"),
        ("sweep_seconds", "3599", "from 3600 to 2592000, or 0"),
        ("sweep_seconds", 2_592_001, "from 3600 to 2592000, or 0"),
        ("sweep_seconds", "daily", "from 3600 to 2592000, or 0"),
        ("sweep_seconds", False, "from 3600 to 2592000, or 0"),
        ("page_size", 1001, "from 1 to 1000"),
        ("parallel_deliveries", 0, "from 1 to 64"),
        ("exclude_methods", "GET,READ", "names a method that there is not"),
        ("exclude_methods", ["GET"], "must be text"),
        ("exclude_paths", "status", "from the first slash on"),
        ("exclude_paths", "/status?pretty", "without a query string"),
        ("exclude_paths", "/a//b", "from the first slash on"),
        ("exclude_paths", "/a/%2e/b", "from the first slash on"),
        ("exclude_paths", "/a/../b", "no such path is ever excluded"),
        ("exclude_paths", "/metrics**", "has ** within a segment"),
        ("exclude_paths", "/status,/**/*", "the audit trail would be empty"),
        ("exclude_paths", "/status,,/x", "none of them empty"),
        ("exclude_paths", "/" + "x" * 200, "at most 50 patterns of at most 200 characters"),
        ("exclude_paths", ",".join(f"/{number}" for number in range(51)), "at most 50 patterns"),
        ("exclude_statuses", "4x4", "or classes such as 3xx"),
        ("exclude_statuses", "600", "from 100 to 599"),
        ("exclude_own_reads", True, "name or id of the RBAC user"),
        ("exclude_own_reads", "no", "leave it out"),
        ("exclude_own_reads", "x" * 201, "is longer than 200 characters"),
        ("log_level", "LOUD", "must be one of DEBUG"),
        ("redis_password", PLANTED, "generates the cache's password"),
        ("stack_name", "two words", "must be at most 128 letters, digits or hyphens, a letter first"),
        ("stack_name", "1st", "a letter first"),
        ("vpc_owner_account", "1234", "must be an account's 12 digits, as text"),
        ("vpc_owner_account", 444455556666, "must be text"),
        ("permissions_boundary", "arn:aws:iam::1234:policy/x", "must be the ARN or the name of a managed policy"),
        ("encryption_key", PLANTED, "is no ARN of a KMS key; give the key's ARN"),
        ("encryption_key", KEY.rpartition("/")[2], "is no ARN of a KMS key; give the key's ARN"),
        ("encryption_key", "alias/kong", "is an alias, and policies name the key itself; give the key's ARN"),
        ("encryption_key", KEY.replace("key/", "alias/"), "is an alias, and policies name the key itself"),
        ("encryption_key", KEY.replace("eu-central-1", "us-east-1"), "is in another region than the stack"),
        ("kong_retention_days", "0", "whole number from 1 to 3650"),
        ("backfill", "0", "whole number from 1 to 8"),
        ("backfill", "true", "whole number from 1 to 8"),
        ("kong_admin_token_key", KEY, "is given without kong_admin_token_secret"),
        ("lambda_env", PLANTED, "must be a map"),
        ("lambda_env", f'{{"KONG_ADMIN_API": "{PLANTED}"', "must be a map"),
        ("lambda_env", {"A B": PLANTED}, "letters, digits and underscores"),
    ],
)
def test_one_problem(setting: str, value: Any, advice: str) -> None:
    (problem,) = problems(**{setting: value})
    assert problem.startswith(f"{setting}: ")
    assert advice in problem


@pytest.mark.parametrize("name", ["KONG_ADMIN_TOKEN", "kong_admin_token", "Kong_Admin_Token"])
@pytest.mark.parametrize("form", [dict, json.dumps])
def test_a_token_in_lambda_env_is_refused(name: str, form: Any) -> None:
    (problem,) = problems(lambda_env=form({name: PLANTED}))
    assert problem.startswith("lambda_env KONG_ADMIN_TOKEN: a literal token")
    assert "kong_admin_token_secret" in problem


def test_every_problem_in_lambda_env_names_its_variable() -> None:
    found = problems(
        kong_admin_api=None,
        lambda_env={
            "AWS_SECRET_ACCESS_KEY": PLANTED,
            "OTHER": [PLANTED],
            "KONG_ADMIN_API": "kong",
            "PAGE_SIZE": "many",
        },
    )
    assert [problem.partition(":")[0] for problem in found] == [
        "lambda_env AWS_SECRET_ACCESS_KEY",
        "lambda_env OTHER",
        "lambda_env KONG_ADMIN_API",
        "lambda_env PAGE_SIZE",
    ]
    assert "belongs to AWS Lambda" in found[0]
    assert "must be text, a number" in found[1]


def test_all_problems_at_once_in_one_readable_text() -> None:
    context = {
        "existing_vpc": "x",
        "existing_subnet_ids": "y",
        "destination": "archive,cloudtrail-lake",
        "archive_lock": "glue",
        "kong_admin_token": PLANTED,
        "redis_db": "z",
    }
    with pytest.raises(SettingsError) as raised:
        DeploymentSettings.from_context(context, environment_region="il-central-1")
    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        "existing_vpc",
        "existing_subnet_ids",
        "kong_admin_token",
        "kong_admin_api",
        "channel_arn",
        "redis_db",
        "aws_region",
        "archive_lock",
    ]
    lines = str(raised.value).splitlines()
    assert lines[0] == "8 settings need attention:"
    assert len(lines) == 9


def test_channel_of_another_region() -> None:
    (problem,) = problems(aws_region="us-east-1")
    assert "in eu-central-1, the stack in us-east-1" in problem
    assert "give aws_region=eu-central-1" in problem
    with pytest.raises(SettingsError, match="the stack in us-east-1"):
        DeploymentSettings.from_context(CONTEXT, environment_region="us-east-1")
    named = DeploymentSettings.from_context({**CONTEXT, "aws_region": "eu-central-1"}, environment_region="us-east-1")
    assert named.region == "eu-central-1"


def test_the_same_variable_twice() -> None:
    api = CONTEXT["kong_admin_api"]
    assert environment(lambda_env={"KONG_ADMIN_API": api})["KONG_ADMIN_API"] == api
    (problem,) = problems(lambda_env={"KONG_ADMIN_API": "https://other.example.com"})
    assert problem == "kong_admin_api: differs from KONG_ADMIN_API in lambda_env; give one of the two"
    (problem,) = problems(lambda_env={"CHANNEL_ARN": CHANNEL_ARN[:-1] + "0"})
    assert problem.startswith("channel_arn: differs")


@pytest.mark.parametrize("form", [dict, json.dumps])
def test_everything_through_lambda_env(form: Any, ca_pem: Path) -> None:
    found = environment(
        kong_admin_api=None,
        channel_arn=None,
        lambda_env=form(
            {
                "KONG_ADMIN_API": "https://kong:8444/base",
                "KONG_SUPERADMIN": True,
                "KONG_ADMIN_TOKEN": None,
                "KONG_ROOT_CA": str(ca_pem),
                "REDIS_DB": 3,
                "CHANNEL_ARN": CHANNEL_ARN,
                "page_size": "500",
                "AWS_ENDPOINT_URL_CLOUDTRAIL_DATA": "https://localhost:1",
                "OTHER": 1.5,
            }
        ),
    )
    assert found["KONG_ADMIN_API"] == "https://kong:8444/base"
    assert found["KONG_SUPERADMIN"] == "true"
    assert found["KONG_ROOT_CA"].startswith("-----BEGIN CERTIFICATE-----\n")
    assert found["REDIS_DB"] == "3"
    assert found["PAGE_SIZE"] == "500"
    assert found["AWS_ENDPOINT_URL_CLOUDTRAIL_DATA"] == "https://localhost:1"
    assert found["OTHER"] == "1.5"
    assert "KONG_ADMIN_TOKEN" not in found


def test_every_variable_as_a_setting_of_its_own(ca_pem: Path) -> None:
    given = {
        "kong_admin_api": "http://10.0.0.7:8001",
        "kong_root_ca": ca_pem.read_text(),
        "redis_db": "1",
        "external_id": "kong/prod",
        "map_status_to_error_code": "TRUE",
        "source_name": "kong-eu",
        "overlap_seconds": "60",
        "initial_lookback_seconds": "3600",
        "sweep_seconds": 0,
        "page_size": 100,
        "parallel_deliveries": "4",
        "exclude_methods": "head, Options",
        "exclude_paths": "/status/, /metrics/**",
        "exclude_statuses": "204,3XX",
        "exclude_own_reads": " collector ",
        "log_level": "debug",
    }
    found = environment(**given)
    assert {name: found[name.upper()] for name in given if name != "kong_root_ca"} == {
        "kong_admin_api": "http://10.0.0.7:8001",
        "redis_db": "1",
        "external_id": "kong/prod",
        "map_status_to_error_code": "true",
        "source_name": "kong-eu",
        "overlap_seconds": "60",
        "initial_lookback_seconds": "3600",
        "sweep_seconds": "0",
        "page_size": "100",
        "parallel_deliveries": "4",
        "exclude_methods": "HEAD,OPTIONS",
        "exclude_paths": "/status/,/metrics/**",
        "exclude_statuses": "204,3xx",
        "exclude_own_reads": "collector",
        "log_level": "DEBUG",
    }
    assert "Issuer" not in found["KONG_ROOT_CA"], "only the certificate costs room in the environment"


@pytest.mark.parametrize("value", [None, "", "null", "None", "disabled"])
def test_no_root_ca(value: str | None) -> None:
    assert "KONG_ROOT_CA" not in environment(kong_root_ca=value)
    assert "KONG_ROOT_CA" not in environment(lambda_env={"KONG_ROOT_CA": value})


def test_a_token_secret_says_that_a_token_is_needed() -> None:
    assert environment(kong_admin_token_secret="kong/token")["KONG_SUPERADMIN"] == "true"
    (problem,) = problems(kong_admin_token_secret="kong/token", kong_superadmin="false")
    assert problem.startswith("kong_superadmin: is false, but")


def test_an_environment_beyond_lambdas_limit(ca_pem: Path) -> None:
    (problem,) = problems(kong_root_ca=ca_pem.read_text() * 6)
    assert problem.startswith("lambda_env: the function's environment would take")
    assert "shorten KONG_ROOT_CA" in problem


@pytest.mark.parametrize(
    ("context", "note"),
    [
        ({"image": "kong:latest"}, "image: is not needed"),
        ({"redis_host": "a:1"}, "redis_host: is set by the deployment"),
        (
            {"kong_superadmn": "true"},
            "kong_superadmn: is no setting and changes nothing; did you mean kong_superadmin?",
        ),
        ({"alarms_topic": "x"}, "alarms_topic: is no setting and changes nothing; did you mean alarm_topic?"),
    ],
)
def test_notes_stop_nothing(context: dict[str, str], note: str) -> None:
    (found,) = DeploymentSettings.from_context({**CONTEXT, **context}).notes
    assert found.startswith(note)


@pytest.mark.parametrize("value", ["wiki/kong", "https://wiki.example.com/kong#alarms", "https://"])
def test_a_runbook_that_cannot_be_opened(value: str) -> None:
    (problem,) = problems(runbook_url=value)
    assert problem.startswith("runbook_url: is no URL of a page")


@pytest.mark.parametrize(
    ("context", "stack_name", "source_name"),
    [
        ({}, "KongCloudTrailIntegration", "kong"),
        ({"resource_name": "kong-cloudtrails-integration"}, "KongCloudTrailIntegration", "kong"),
        ({"resource_name": "emea"}, "KongCloudTrailIntegration-emea", "emea"),
        ({"resource_name": "emea", "source_name": "eu"}, "KongCloudTrailIntegration-emea", "eu"),
        ({"resource_name": "emea", "lambda_env": {"SOURCE_NAME": "eu"}}, "KongCloudTrailIntegration-emea", "eu"),
        ({"resource_name": "emea", "lambda_env": '{"source_name": "emea"}'}, "KongCloudTrailIntegration-emea", "emea"),
        ({"resource_name": "emea", "stack_name": "Audit"}, "Audit", "emea"),
        ({"resource_name": "_emea-"}, "KongCloudTrailIntegration--emea--67243c", "emea-"),
    ],
)
def test_a_gateway_of_another_name_is_another_stack_and_another_trail(
    context: dict[str, Any], stack_name: str, source_name: str
) -> None:
    options = DeploymentSettings.from_context({**CONTEXT, **context})
    assert options.stack_name == stack_name
    assert environment(**context)["SOURCE_NAME"] == source_name


def test_names_that_differ_in_underscores_alone_are_two_stacks() -> None:
    names = {
        DeploymentSettings.from_context({**CONTEXT, "resource_name": name}).stack_name
        for name in ("kong-eu", "kong_eu", "kong-us", "kong_us")
    }
    assert len(names) == 4
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name) for name in names)


def test_contexts_of_others_are_left_alone() -> None:
    context = {**CONTEXT, "@aws-cdk/core:x": True, "vpc-provider:a": {}, "stage": "prod", "aws:cdk:y": 1}
    assert DeploymentSettings.from_context(context).notes == ()


def test_notes_of_the_integration() -> None:
    settings = {
        "kong_admin_api": "http://kong:8001",
        "channel_arn": CHANNEL_ARN,
        "kong_superadmin": True,
        "lambda_env": {"REDIS_HOST": "a:1"},
    }
    notes = IntegrationSettings.from_settings(settings).notes
    assert [note.partition(":")[0] for note in notes] == ["lambda_env REDIS_HOST", "kong_admin_api"]


@pytest.mark.parametrize(
    ("expression", "written", "period_seconds"),
    [
        ("rate(1 hour)", "rate(1 hour)", 3600),
        ("rate(1 hours)", "rate(1 hour)", 3600),
        ("rate(15 minute)", "rate(15 minutes)", 900),
        ("rate(2 days)", "rate(2 days)", 172_800),
        ("cron(0/15 * * * ? *)", "cron(0/15 * * * ? *)", 900),
    ],
)
def test_schedules(expression: str, written: str, period_seconds: int | None) -> None:
    settings = {"kong_admin_api": "https://kong", "channel_arn": CHANNEL_ARN, "schedule": expression}
    schedule = IntegrationSettings.from_settings(settings).schedule
    assert (schedule.expression, schedule.longest_seconds) == (written, period_seconds)


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://kong", 80),
        ("https://kong", 443),
        ("HTTPS://kong:8444/a/b/", 8444),
        ("http://[2001:db8::1]:8001", 8001),
    ],
)
def test_the_admin_apis_port(url: str, port: int) -> None:
    settings = {"kong_admin_api": url, "channel_arn": CHANNEL_ARN}
    assert IntegrationSettings.from_settings(settings).kong.admin_api.port == port
