"""The variables that the stack gives the function are the ones that the function reads."""

from __future__ import annotations

import json
from pathlib import Path

import trustme
from kong_cloudtrail.settings import Settings
from kong_cloudtrail.variables import EXAMPLE_EVENT_DATA_STORE, TABLE

from tests.infra.synthesis import CHANNEL_ARN, KEY_ARN, Shaped, Synthesis, function_environment, synthesise


def test_the_function_understands_the_environment_of_a_plain_deployment(synthesis: Synthesis) -> None:
    environment = function_environment(synthesis)

    settings = Settings.from_mapping(environment)

    assert settings.redis_tls
    assert settings.redis_iam_cache
    assert settings.redis_username
    assert settings.redis_password is None
    assert settings.redis_password_secret is None
    assert settings.kong_admin_token is None
    assert settings.ledger is not None
    assert settings.ledger.startswith("s3://")


def test_the_function_understands_the_environment_of_an_archive_alone(shaped: Shaped) -> None:
    settings = Settings.from_mapping(function_environment(shaped("archive")))

    assert settings.destinations == ("archive",)
    assert settings.archive == "s3://kong-ledger-bucket/archive"
    assert settings.archive_format == "json"
    assert settings.archive_signing_key is None


def test_the_function_understands_the_environment_of_two_destinations(shaped: Shaped) -> None:
    settings = Settings.from_mapping(function_environment(shaped("archive and Lake")))

    assert settings.destinations == ("archive", "cloudtrail-lake")
    assert settings.channel is not None
    assert settings.redis_iam_cache


def test_the_function_understands_the_environment_of_cloudwatch_logs(shaped: Shaped) -> None:
    settings = Settings.from_mapping(function_environment(shaped("CloudWatch Logs")))

    assert settings.destinations == ("cloudwatch-logs",)
    assert settings.log_group is not None
    assert settings.log_group.name == "kong-log-group"
    assert settings.log_group.region == "eu-central-1"
    assert settings.log_group_retention_days == 365
    assert settings.redis_iam_cache


def test_the_function_finds_the_key_that_signs(shaped: Shaped) -> None:
    settings = Settings.from_mapping(function_environment(shaped("archive, OCSF, signed")))

    assert settings.archive_format == "ocsf"
    assert settings.archive_signing_key == KEY_ARN


def test_every_setting_of_the_deployment_arrives_in_the_function(tmp_path: Path) -> None:
    # Given another value than the default for each setting
    given = {
        "DESTINATION": "archive,cloudtrail-lake,cloudwatch-logs",
        "STREAMS": "requests,objects",
        "ARCHIVE_FORMAT": "ocsf",
        "LOG_GROUP_FORMAT": "ocsf",
        "CHANNEL_ARN": CHANNEL_ARN.replace("channel/0", "channel/1"),
        "KONG_ADMIN_API": "https://kong.example.com:9444/admin",
        "KONG_SUPERADMIN": "true",
        "KONG_ADMIN_TOKEN_SECRET": "kong-token",
        "KONG_ROOT_CA": trustme.CA().cert_pem.bytes().decode("ascii"),
        "REDIS_DB": "3",
        "EXTERNAL_ID": "ours-42",
        "EVENT_DATA_STORE": EXAMPLE_EVENT_DATA_STORE,
        "MAP_STATUS_TO_ERROR_CODE": "true",
        "SOURCE_NAME": "emea",
        "OVERLAP_SECONDS": "60",
        "SWEEP_SECONDS": "7200",
        "INITIAL_LOOKBACK_SECONDS": "3600",
        "PAGE_SIZE": "500",
        "PARALLEL_DELIVERIES": "4",
        "EXCLUDE_METHODS": "HEAD,OPTIONS",
        "EXCLUDE_PATHS": "/status,/metrics/**",
        "EXCLUDE_STATUSES": "204,3xx",
        "EXCLUDE_OWN_READS": "collector",
        "LOG_LEVEL": "WARNING",
    }
    variables = {variable.name: variable for variable in TABLE if variable.setting}
    assert given.keys() == variables.keys()

    # When the app is synthesised with them
    settings = {name.lower(): value for name, value in given.items()}
    environment = function_environment(
        synthesise(tmp_path, **settings, lambda_env=json.dumps({"OUR_OWN": "passed through"}))
    )

    # Then the function reads each as it was meant
    read = {name: variable.read(environment[name]) for name, variable in variables.items()}
    assert read == {name: variable.read(given[name]) for name, variable in variables.items()}
    assert Settings.from_mapping(environment).page_size == 500
    assert environment["OUR_OWN"] == "passed through"
