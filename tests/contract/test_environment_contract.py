"""The variables that the stack gives the function are the ones that the function reads."""

from __future__ import annotations

import json
from pathlib import Path

from kong_cloudtrail.settings import Settings

from tests.infra.synthesis import Synthesis, function_environment, synthesise


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


def test_every_setting_of_the_deployment_arrives_in_the_function(tmp_path: Path) -> None:
    environment = function_environment(
        synthesise(
            tmp_path,
            kong_admin_api="https://kong.example.com:9444/admin",
            kong_superadmin="true",
            kong_admin_token_secret="kong-token",
            redis_db="3",
            external_id="ours-42",
            map_status_to_error_code="true",
            source_name="emea",
            overlap_seconds="60",
            initial_lookback_seconds="3600",
            sweep_seconds="7200",
            page_size="500",
            parallel_deliveries="4",
            lambda_env=json.dumps({"OUR_OWN": "passed through"}),
        )
    )

    settings = Settings.from_mapping(environment)

    assert settings.kong_admin_api == "https://kong.example.com:9444/admin"
    assert settings.kong_needs_token
    assert settings.kong_admin_token_secret == "kong-token"
    assert settings.redis_db == 3
    assert settings.external_id == "ours-42"
    assert settings.map_status_to_error_code
    assert settings.source_name == "emea"
    assert settings.overlap_seconds == 60
    assert settings.initial_lookback_seconds == 3600
    assert settings.sweep_seconds == 7200
    assert settings.page_size == 500
    assert settings.parallel_deliveries == 4
    assert environment["OUR_OWN"] == "passed through"
