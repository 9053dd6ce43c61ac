"""The ledger's bucket: what is kept, and what passes."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest

from stacks import LedgerOptions
from tests.infra.synthesis import Shaped, Synthesis, foreign_stack, integrate, statements, template_of

BUCKET = "AWS::S3::Bucket"
KEPT = ("checkpoints", "quarantine", "released", "originals", "runs")
PASSING = ("answers", "doctor")


def rules_of(synthesis: Synthesis) -> list[Mapping[str, Any]]:
    rules: list[Mapping[str, Any]] = synthesis.only(BUCKET)["Properties"]["LifecycleConfiguration"]["Rules"]
    return rules


@pytest.fixture(scope="module", params=["", "gateways/eu"])
def ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Synthesis]:
    """A ledger's template, with the prefix of its keys."""
    app, stack, vpc = foreign_stack(tmp_path_factory.mktemp("ledger"))
    options = LedgerOptions(prefix=request.param) if request.param else None
    integrate(stack, vpc=vpc, ledger=options)
    return f"{request.param}/" if request.param else "", template_of(app, stack)


def test_long_answers_and_probes_are_gone_after_a_week(ledger: tuple[str, Synthesis]) -> None:
    prefix, synthesis = ledger

    assert {
        rule["Prefix"]: (rule["ExpirationInDays"], rule["NoncurrentVersionExpiration"]["NoncurrentDays"])
        for rule in rules_of(synthesis)
    } == {f"{prefix}{folder}/": (7, 1) for folder in PASSING}
    assert {rule["Status"] for rule in rules_of(synthesis)} == {"Enabled"}


def test_nothing_else_expires(ledger: tuple[str, Synthesis]) -> None:
    prefix, synthesis = ledger

    for folder in KEPT:
        assert not any(f"{prefix}{folder}/kong".startswith(rule["Prefix"]) for rule in rules_of(synthesis))


def test_the_function_may_write_long_answers(ledger: tuple[str, Synthesis]) -> None:
    prefix, synthesis = ledger
    written = f"<{BUCKET}.Arn>/{prefix}answers/kong/x.json"

    writable = [
        resource
        for role, effect, actions, resource, _ in statements(synthesis)
        if role == "lambda.amazonaws.com" and effect == "Allow" and "s3:PutObject" in actions.split()
    ]

    assert any(fnmatchcase(written, resource) for resource in writable)


def test_a_bucket_that_is_there_keeps_its_own_rules(shaped: Shaped) -> None:
    assert not shaped("imported").of_type(BUCKET)
