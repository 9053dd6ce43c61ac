"""Reasons for what rule packs find hold in whichever stack the construct is, and for both generations of cdk-nag."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Environment, NestedStack, Stack, Validations
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sqs as sqs
from cdk_nag import AwsSolutionsChecks, NIST80053R5Checks, ServerlessChecks

from stacks import (
    Archive,
    CloudTrailLake,
    CloudWatchLogs,
    FunctionOptions,
    KongCloudTrailIntegration,
    LedgerOptions,
    RunOptions,
)
from tests.infra.synthesis import CHANNEL_ARN, SUBNET_IDS, VPC_ID, integrate, new_app

HERE = Environment(account="111122223333", region="eu-central-1")
OTHER = "Other/Something/Resource"
Placed = Callable[[Stack, Stack], tuple[Stack, dict[str, Any]]]
"""Takes the root stack and another one; returns where the construct goes, and what it is given."""


def everything_of(stack: Stack) -> dict[str, Any]:
    """Return whatever can be brought along, made by a stack."""
    return {
        "ledger": LedgerOptions(existing_bucket=s3.Bucket(stack, "Bucket"), prefix="kong"),
        "function": FunctionOptions(
            log_group=logs.LogGroup(stack, "Log"), dead_letter_queue=sqs.Queue(stack, "Queue", enforce_ssl=True)
        ),
        "kong_admin_token_secret": secretsmanager.Secret(stack, "Token", encryption_key=kms.Key(stack, "Key")),
    }


PLACES: dict[str, Placed] = {
    "a stack": lambda root, _: (root, {}),
    "with an archive as well": lambda root, _: (
        root,
        {"destinations": [Archive(signing_key=True), CloudTrailLake(channel_arn=CHANNEL_ARN)]},
    ),
    "with a log group": lambda root, _: (
        root,
        {"destinations": [CloudWatchLogs(activity_alarms=True, dashboard=True, s3_tables=True)]},
    ),
    "with another stack's log group": lambda root, other: (
        root,
        {"destinations": [CloudWatchLogs(existing_log_group=logs.LogGroup(other, "Events"), activity_alarms=True)]},
    ),
    "with a state machine": lambda root, _: (root, {"run": RunOptions(backfill=2)}),
    "a nested stack": lambda root, _: (NestedStack(root, "Nested"), {}),
    "with what another stack made": lambda root, other: (root, everything_of(other)),
    "with what the parent made": lambda root, _: (NestedStack(root, "Nested"), everything_of(root)),
    "with what another nested stack made": lambda root, _: (
        NestedStack(root, "Nested"),
        everything_of(NestedStack(root, "Base")),
    ),
}


@pytest.mark.parametrize("strength", ["weak", "strong"])
@pytest.mark.parametrize("place", PLACES)
def test_an_app_that_runs_rule_packs_finds_nothing_unexplained(tmp_path: Path, place: str, strength: str) -> None:
    context: dict[str, Any] = {"@aws-cdk/core:defaultCrossStackReferences": strength}
    app = new_app(tmp_path, **context)
    trail = place_in(app, PLACES[place])

    assert findings(app, tmp_path, trail) == []


def place_in(app: App, placed: Placed) -> KongCloudTrailIntegration:
    root, other = Stack(app, "Root", env=HERE), Stack(app, "Other", env=HERE)
    sqs.Queue(other, "Something", enforce_ssl=True)
    scope, given = placed(root, other)
    vpc = ec2.Vpc.from_vpc_attributes(
        root, "Vpc", vpc_id=VPC_ID, availability_zones=["a", "b"], private_subnet_ids=list(SUBNET_IDS)
    )
    return integrate(scope, vpc=vpc, **given)


def findings(app: App, outdir: Path, trail: KongCloudTrailIntegration) -> list[str]:
    """Synthesise as an app does that runs rule packs; return what they say of the construct."""
    for pack in (AwsSolutionsChecks, NIST80053R5Checks, ServerlessChecks):
        Validations.of(app).add_plugins(pack(app))
    with pytest.raises(RuntimeError, match="ValidationFailed"):  # for the queue beside it, which nobody explained
        app.synth()
    report = json.loads((outdir / "validation-report.json").read_text("utf-8"))
    found = [
        (violation["ruleName"], place["constructPath"])
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for place in violation["violatingConstructs"]
    ]
    assert {("AwsSolutions-SQS3", OTHER), ("Serverless-SQSRedrivePolicy", OTHER)} <= set(found)
    return [rule for rule, place in found if place.startswith(f"{trail.node.path}/")]


# What a process with the older cdk-nag does; it finds by aspects, and tells by annotations.
