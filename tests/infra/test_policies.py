"""Every statement of every role, beside the list that was reviewed; nag; cfn-lint; CDK's own validation."""

import json
from pathlib import Path

import pytest
from aws_cdk import Validations
from cdk_nag import AwsSolutionsChecks
from cfnlint import lint_file
from cfnlint.config import ManualArgs

from tests.infra.synthesis import CHANNEL_ARN, Synthesis, statements, synthesise

LAMBDA, SCHEDULER = "lambda.amazonaws.com", "scheduler.amazonaws.com"
ENI_ACTIONS = (
    "ec2:AssignPrivateIpAddresses ec2:CreateNetworkInterface ec2:DeleteNetworkInterface ec2:UnassignPrivateIpAddresses"
)
ENI_ACTIONS_AND_LOOKUPS = (
    "ec2:AssignPrivateIpAddresses ec2:CreateNetworkInterface ec2:DeleteNetworkInterface "
    "ec2:DescribeNetworkInterfaces ec2:DescribeSubnets ec2:UnassignPrivateIpAddresses"
)
SECRET = "<AWS::SecretsManager::Secret.Ref>"

REVIEWED = [
    (LAMBDA, "Allow", "cloudtrail-data:PutAuditEvents", CHANNEL_ARN, ""),
    (LAMBDA, "Allow", "logs:CreateLogStream logs:PutLogEvents", "<AWS::Logs::LogGroup.Arn>", ""),
    (LAMBDA, "Allow", "secretsmanager:GetSecretValue", SECRET, ""),
    (LAMBDA, "Allow", "s3:GetObject s3:PutObject", "<AWS::S3::Bucket.Arn>/kong-cloudtrails-integration/*", ""),
    (LAMBDA, "Allow", "s3:ListBucket", "<AWS::S3::Bucket.Arn>", ""),
    (LAMBDA, "Allow", "sqs:GetQueueAttributes sqs:GetQueueUrl sqs:SendMessage", "<AWS::SQS::Queue.Arn>", ""),
    # Lambda's own work on the function's network interfaces, denied to the function's code.
    (LAMBDA, "Allow", ENI_ACTIONS, "arn:aws:ec2:eu-central-1:<AWS::AccountId>:*/*", ""),
    (LAMBDA, "Allow", "ec2:DescribeNetworkInterfaces ec2:DescribeSubnets", "*", ""),
    (LAMBDA, "Deny", ENI_ACTIONS_AND_LOOKUPS, "*", '{"Null": {"lambda:SourceFunctionArn": "false"}}'),
    (SCHEDULER, "Allow", "lambda:InvokeFunction", "<AWS::Lambda::Function.Arn>", ""),
    (SCHEDULER, "Allow", "sqs:SendMessage", "<AWS::SQS::Queue.Arn>", ""),
]


def test_statements_are_the_reviewed_ones(synthesis: Synthesis) -> None:
    assert sorted(statements(synthesis)) == sorted(REVIEWED)


def test_no_managed_policies(synthesis: Synthesis) -> None:
    assert not any("ManagedPolicyArns" in role["Properties"] for role in synthesis.of_type("AWS::IAM::Role"))


def test_scheduler_role_cannot_be_assumed_for_another_account(synthesis: Synthesis) -> None:
    (role,) = (r for r in synthesis.of_type("AWS::IAM::Role") if SCHEDULER in json.dumps(r))
    (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert set(statement["Condition"]["StringEquals"]) == {"aws:SourceAccount", "aws:SourceArn"}


@pytest.mark.parametrize(
    ("secret", "resource"),
    [
        (
            "arn:aws:secretsmanager:eu-central-1:111122223333:secret:kong/token-a1B2c3",
            "arn:aws:secretsmanager:eu-central-1:111122223333:secret:kong/token-a1B2c3",
        ),
        (
            "arn:aws:secretsmanager:eu-central-1:111122223333:secret:kong/token",
            "arn:aws:secretsmanager:eu-central-1:111122223333:secret:kong/token-??????",
        ),
        ("kong/token", "arn:aws:secretsmanager:eu-central-1:<AWS::AccountId>:secret:kong/token-??????"),
    ],
)
def test_an_existing_token_secret_is_the_only_other_secret_read(tmp_path: Path, secret: str, resource: str) -> None:
    synthesis = synthesise(tmp_path, kong_admin_token_secret=secret)
    (statement,) = (s for s in statements(synthesis) if s[2] == "secretsmanager:GetSecretValue")
    assert sorted(statement[3].split()) == sorted([SECRET, resource])
    assert len(synthesis.of_type("AWS::SecretsManager::Secret")) == 1
    variables = synthesis.only("AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    assert variables["KONG_ADMIN_TOKEN_SECRET"] == secret
    assert variables["KONG_SUPERADMIN"] == "true"


@pytest.mark.parametrize("variant", ["synthesis", "with_new_token"])
def test_nag_finds_nothing_unexplained(request: pytest.FixtureRequest, variant: str) -> None:
    report = AwsSolutionsChecks().validate_scope(request.getfixturevalue(variant).stack)
    found = {violation.rule_name: violation.violating_resources for violation in report.violations}
    assert found == {}


def test_nag_speaks_of_a_flag_that_is_taken_out(tmp_path: Path) -> None:
    stack = synthesise(tmp_path).stack
    stack.integration.cache.replication_group.transit_encryption_enabled = False
    report = AwsSolutionsChecks().validate_scope(stack)
    assert [violation.rule_name for violation in report.violations] == ["AwsSolutions-AEC3"]


def test_every_accepted_finding_has_a_reason(with_new_token: Synthesis) -> None:
    accepted = {
        rule.partition("::")[2]: reason
        for construct in with_new_token.stack.integration.node.find_all()
        for entry in construct.node.metadata
        if entry.type == Validations.ACKNOWLEDGED_RULES_METADATA_KEY
        for rule, reason in entry.data.items()
    }
    assert {rule.partition("[")[0] for rule in accepted} == {
        "AwsSolutions-IAM5",
        "AwsSolutions-S1",
        "AwsSolutions-SMG4",
        "AwsSolutions-SQS3",
    }
    assert all(len(str(reason)) > 60 for reason in accepted.values())


@pytest.mark.parametrize("engine", ["valkey", "redis"])
def test_cfn_lint_finds_no_error(tmp_path: Path, engine: str) -> None:
    synthesis = synthesise(tmp_path, cache_engine=engine, kong_superadmin=True)
    template = tmp_path / "template.json"
    template.write_text(json.dumps(synthesis.template))
    matches = lint_file(template, config=ManualArgs(regions=["eu-central-1"]))
    # W3005: CDK writes the function's dependency on its role although the reference implies it.
    assert [str(match) for match in matches if match.rule.id != "W3005"] == []


def test_cdk_validation_finds_nothing(tmp_path: Path) -> None:
    synthesise(tmp_path)
    report = json.loads((tmp_path / "validation-report.json").read_text())
    assert [violation for plugin in report["pluginReports"] for violation in plugin["violations"]] == []


def test_what_the_deployment_sets_cannot_be_given(tmp_path: Path) -> None:
    synthesis = synthesise(tmp_path, lambda_env={"REDIS_HOST": "planted:1", "LEDGER": "planted"}, image="planted")
    assert "planted" not in json.dumps(synthesis.template)
