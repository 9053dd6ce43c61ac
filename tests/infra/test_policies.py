"""Every statement of every role, beside the list that was reviewed; nag; CDK's own validation."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import Validations
from cdk_nag import (
    AwsSolutionsChecks,
    HIPAASecurityChecks,
    NIST80053R4Checks,
    NIST80053R5Checks,
    PCIDSS321Checks,
    ServerlessChecks,
)

from tests.infra.synthesis import (
    CHANNEL_ARN,
    KEY_ARN,
    SECRET_ARN,
    SHAPES,
    SUBNET_IDS,
    Shaped,
    Synthesis,
    resource_statements,
    statements,
    synthesise,
)

LAMBDA, SCHEDULER = "lambda.amazonaws.com", "scheduler.amazonaws.com"
ENI_ACTIONS = (
    "ec2:AssignPrivateIpAddresses ec2:CreateNetworkInterface ec2:DeleteNetworkInterface ec2:UnassignPrivateIpAddresses"
)
ENI_LOOKUPS = "ec2:DescribeNetworkInterfaces ec2:DescribeSubnets"
ENI_ACTIONS_AND_LOOKUPS = (
    "ec2:AssignPrivateIpAddresses ec2:CreateNetworkInterface ec2:DeleteNetworkInterface "
    "ec2:DescribeNetworkInterfaces ec2:DescribeSubnets ec2:UnassignPrivateIpAddresses"
)
BUCKET, CHANNEL, KEY = "<AWS::S3::Bucket.Arn>", "<AWS::CloudTrail::Channel.ChannelArn>", "<AWS::KMS::Key.Arn>"
LOG_GROUP, QUEUE, SECRET = "<AWS::Logs::LogGroup.Arn>", "<AWS::SQS::Queue.Arn>", "<AWS::SecretsManager::Secret.Ref>"
USER, STORE = "<AWS::ElastiCache::User.Arn>", "<AWS::CloudTrail::EventDataStore.EventDataStoreArn>"
DASHBOARD = "<AWS::CloudTrail::Dashboard.DashboardArn>"
CACHE = "arn:aws:elasticache:eu-central-1:<AWS::AccountId>"
THEIR_QUEUE = "arn:aws:sqs:eu-central-1:111122223333:their-queue"

EVENTS = "arn:aws:logs:eu-central-1:<AWS::AccountId>:log-group:<AWS::Logs::LogGroup.Ref>"

SEND = "sqs:GetQueueAttributes sqs:GetQueueUrl sqs:SendMessage"
KEY_USE = "kms:Decrypt kms:GenerateDataKey"
KEY_SERVICE = "kms:Decrypt kms:DescribeKey kms:Encrypt kms:GenerateDataKey* kms:ReEncrypt*"

Statement = tuple[str, ...]


def via(service: str) -> str:
    return f'{{"StringEquals": {{"kms:ViaService": "{service}.eu-central-1.amazonaws.com"}}}}'


LAKE_USE = "cloudtrail-data:PutAuditEvents cloudtrail:GetChannel"
PUT_EVENTS = (LAMBDA, "Allow", LAKE_USE, CHANNEL_ARN, "")
WRITE_LOGS = (LAMBDA, "Allow", "logs:CreateLogStream logs:PutLogEvents", LOG_GROUP, "")
CONNECT = (
    LAMBDA,
    "Allow",
    "elasticache:Connect",
    f"{USER} {CACHE}:replicationgroup:<AWS::ElastiCache::ReplicationGroup.Ref>",
    "",
)
READ_SECRET = READ_PASSWORD = (LAMBDA, "Allow", "secretsmanager:GetSecretValue", SECRET, "")
USE_LEDGER = (LAMBDA, "Allow", "s3:GetObject s3:PutObject", f"{BUCKET}/*", "")
LEAVE_QUARANTINE = (LAMBDA, "Allow", "s3:DeleteObject", f"{BUCKET}/quarantine/*", "")
LIST_LEDGER = (LAMBDA, "Allow", "s3:ListBucket", BUCKET, "")
TELL_FAILURES = (LAMBDA, "Allow", SEND, QUEUE, "")
# Lambda's own work on the function's network interfaces, denied to the function's code.
LOOK_AT_INTERFACES = (LAMBDA, "Allow", ENI_LOOKUPS, "*", "")
TELL_MISSED_TICKS = (SCHEDULER, "Allow", "sqs:SendMessage", QUEUE, "")

MAKE_INTERFACES = (LAMBDA, "Allow", ENI_ACTIONS, "arn:aws:ec2:eu-central-1:<AWS::AccountId>:*/*", "")
SHARED_SUBNETS = [f"arn:aws:ec2:eu-central-1:444455556666:subnet/{subnet}" for subnet in SUBNET_IDS]

INVOKE = (SCHEDULER, "Allow", "lambda:InvokeFunction", "<AWS::Lambda::Function.Arn>", "")


def use_archive(bucket: str = BUCKET, prefix: str = "archive") -> list[Statement]:
    """Return what the function may do with the archive: in its own folder, and with the names that begin like it."""
    folder = f"{prefix}/source=kong/*"
    return [
        (LAMBDA, "Allow", "s3:GetObject s3:GetObjectVersion s3:PutObject", f"{bucket}/{folder}", ""),
        (LAMBDA, "Allow", "s3:ListBucketVersions", bucket, f'{{"StringLike": {{"s3:prefix": "{folder}"}}}}'),
        (
            LAMBDA,
            "Allow",
            "s3:GetBucketObjectLockConfiguration s3:GetBucketPolicy s3:GetBucketVersioning",
            bucket,
            "",
        ),
        (LAMBDA, "Allow", "s3:ListBucket", bucket, f'{{"StringLikeIfExists": {{"s3:prefix": "{folder}"}}}}'),
    ]


STATES, MACHINE = "states.amazonaws.com", "<AWS::StepFunctions::StateMachine.Ref>"
DELIVER_LOGS = (
    "logs:CreateLogDelivery logs:DeleteLogDelivery logs:DescribeLogGroups logs:DescribeResourcePolicies "
    "logs:GetLogDelivery logs:ListLogDeliveries logs:PutResourcePolicy logs:UpdateLogDelivery"
)
OF_EXECUTIONS = "states:DescribeExecution states:RedriveExecution states:StopExecution"
BACKFILL: list[Statement] = [
    (STATES, "Allow", "lambda:InvokeFunction", "<AWS::Lambda::Function.Arn>", ""),
    (STATES, "Allow", DELIVER_LOGS, "*", ""),
    (STATES, "Allow", "states:StartExecution", MACHINE, ""),
    (
        STATES,
        "Allow",
        OF_EXECUTIONS,
        "arn:aws:states:eu-central-1:<AWS::AccountId>:execution:<AWS::StepFunctions::StateMachine.Name>/*",
        "",
    ),
]
FROM_LOGS = '{"StringEquals": {"kms:EncryptionContext:SourceArn": "arn:aws:logs:eu-central-1:<AWS::AccountId>:*"}}'
FROM_MACHINE = f'{{"StringEquals": {{"kms:EncryptionContext:aws:states:stateMachineArn": "{MACHINE}"}}}}'


def ledger_below(prefix: str) -> list[Statement]:
    """Return what the function may do with the objects of a ledger with a prefix."""
    return [
        (LAMBDA, "Allow", "s3:GetObject s3:PutObject", f"{BUCKET}/{prefix}/*", ""),
        (LAMBDA, "Allow", "s3:DeleteObject", f"{BUCKET}/{prefix}/quarantine/*", ""),
    ]


def use_log_group(group: str = "<AWS::Logs::LogGroup.Ref>") -> list[Statement]:
    """Return what the function may do with the log group that the events go to."""
    streams = f"arn:aws:logs:eu-central-1:<AWS::AccountId>:log-group:{group}:log-stream:"
    return [
        (LAMBDA, "Allow", "logs:CreateLogStream logs:DescribeLogStreams", f"{streams}*", ""),
        (LAMBDA, "Allow", "logs:PutLogEvents", f"{streams}kong/*", ""),
    ]


REVIEWED: list[Statement] = [
    PUT_EVENTS,
    WRITE_LOGS,
    CONNECT,
    USE_LEDGER,
    LEAVE_QUARANTINE,
    LIST_LEDGER,
    TELL_FAILURES,
    LOOK_AT_INTERFACES,
    MAKE_INTERFACES,
    (LAMBDA, "Deny", ENI_ACTIONS_AND_LOOKUPS, "*", '{"Null": {"lambda:SourceFunctionArn": "false"}}'),
    INVOKE,
    TELL_MISSED_TICKS,
]

# By shape: which of those are not there, and what is there instead.
DIFFERENCES: dict[str, tuple[list[Statement], list[Statement]]] = {
    "default": ([], []),
    "new token": ([], [READ_SECRET]),
    "password": ([CONNECT], [READ_PASSWORD]),
    "Redis OSS": ([], []),
    "serverless": (
        [CONNECT],
        [(LAMBDA, "Allow", "elasticache:Connect", f"{USER} {CACHE}:serverlesscache:<name>", "")],
    ),
    "serverless, password": ([CONNECT], [READ_PASSWORD]),
    "customer's key": (
        [],
        [
            READ_SECRET,
            (LAMBDA, "Allow", "kms:Decrypt", KEY, via("secretsmanager")),
            (LAMBDA, "Allow", KEY_USE, KEY, via("s3")),
            (LAMBDA, "Allow", KEY_USE, KEY, via("sqs")),
            (SCHEDULER, "Allow", KEY_USE, KEY, via("sqs")),
        ],
    ),
    "imported": (
        [WRITE_LOGS, CONNECT, USE_LEDGER, LEAVE_QUARANTINE, LIST_LEDGER, TELL_FAILURES, TELL_MISSED_TICKS],
        [
            (
                LAMBDA,
                "Allow",
                "logs:CreateLogStream logs:PutLogEvents",
                "arn:aws:logs:eu-central-1:<AWS::AccountId>:log-group:their-log:*",
                "",
            ),
            (
                LAMBDA,
                "Allow",
                "secretsmanager:GetSecretValue",
                f"{SECRET_ARN} arn:aws:secretsmanager:eu-central-1:<AWS::AccountId>:secret:cache/password-??????",
                "",
            ),
            (LAMBDA, "Allow", "kms:Decrypt", KEY_ARN, via("secretsmanager")),
            (LAMBDA, "Allow", "s3:GetObject s3:PutObject", "arn:aws:s3:::their-bucket/kong/*", ""),
            (LAMBDA, "Allow", "s3:DeleteObject", "arn:aws:s3:::their-bucket/kong/quarantine/*", ""),
            (LAMBDA, "Allow", "s3:ListBucket", "arn:aws:s3:::their-bucket", ""),
            (LAMBDA, "Allow", KEY_USE, KEY_ARN, via("s3")),
            (LAMBDA, "Allow", SEND, THEIR_QUEUE, ""),
            (SCHEDULER, "Allow", "sqs:SendMessage", THEIR_QUEUE, ""),
        ],
    ),
    "shared VPC": (
        [MAKE_INTERFACES],
        [(*MAKE_INTERFACES[:3], " ".join([*SHARED_SUBNETS, MAKE_INTERFACES[3]]), "")],
    ),
    "event store": (
        [PUT_EVENTS],
        [
            (LAMBDA, "Allow", LAKE_USE, CHANNEL, ""),
            (
                LAMBDA,
                "Allow",
                "cloudtrail:GetEventDataStore cloudtrail:GetQueryResults cloudtrail:StartQuery",
                STORE,
                "",
            ),
        ],
    ),
    "archive": ([PUT_EVENTS, CONNECT, LEAVE_QUARANTINE], use_archive()),
    "archive of both streams": (
        [PUT_EVENTS, CONNECT, LEAVE_QUARANTINE],
        [*use_archive(), INVOKE, TELL_MISSED_TICKS],
    ),
    "archive and Lake": ([], [*use_archive(), INVOKE, TELL_MISSED_TICKS]),
    "backfill": ([PUT_EVENTS, CONNECT, LEAVE_QUARANTINE], [*use_archive(), *BACKFILL]),
    "backfill, customer's key": (
        [],
        [
            *BACKFILL,
            (STATES, "Allow", KEY_USE, KEY, FROM_MACHINE),
            (STATES, "Allow", "kms:GenerateDataKey", KEY, FROM_LOGS),
            (LAMBDA, "Allow", KEY_USE, KEY, via("s3")),
            (LAMBDA, "Allow", KEY_USE, KEY, via("sqs")),
            (SCHEDULER, "Allow", KEY_USE, KEY, via("sqs")),
        ],
    ),
    "archive in a bucket that is there": (
        [PUT_EVENTS, CONNECT, LEAVE_QUARANTINE],
        [
            *use_archive("arn:aws:s3:::their-archive", "audit/kong"),
            READ_SECRET,
            (LAMBDA, "Allow", "kms:Decrypt", KEY_ARN, via("secretsmanager")),
            (LAMBDA, "Allow", KEY_USE, KEY_ARN, via("s3")),
            (LAMBDA, "Allow", KEY_USE, KEY_ARN, via("sqs")),
            (LAMBDA, "Allow", "kms:GetPublicKey kms:Sign", KEY_ARN, ""),
            (SCHEDULER, "Allow", KEY_USE, KEY_ARN, via("sqs")),
        ],
    ),
    "archive, compliance": ([PUT_EVENTS, CONNECT, LEAVE_QUARANTINE], use_archive()),
    "archive, OCSF, signed": (
        [PUT_EVENTS, LEAVE_QUARANTINE],
        [
            *use_archive(),
            (LAMBDA, "Allow", KEY_USE, KEY, via("s3")),
            (LAMBDA, "Allow", KEY_USE, KEY, via("sqs")),
            (LAMBDA, "Allow", "kms:GetPublicKey kms:Sign", KEY, ""),
            (SCHEDULER, "Allow", KEY_USE, KEY, via("sqs")),
        ],
    ),
    "CloudWatch Logs": ([PUT_EVENTS], use_log_group()),
    "CloudWatch Logs, everything": (
        [PUT_EVENTS],
        [
            *use_archive(),
            *use_log_group(),
            INVOKE,
            TELL_MISSED_TICKS,
            (LAMBDA, "Allow", KEY_USE, KEY, via("s3")),
            (LAMBDA, "Allow", KEY_USE, KEY, via("sqs")),
            *2 * [(SCHEDULER, "Allow", KEY_USE, KEY, via("sqs"))],
            (
                "logs.amazonaws.com",
                "Allow",
                "logs:integrateWithS3Table",
                f"{EVENTS}:* {EVENTS}",
                '{"StringEquals": {"aws:ResourceAccount": "<AWS::AccountId>"}}',
            ),
        ],
    ),
    "CloudWatch Logs, a group that is there": ([PUT_EVENTS], use_log_group("their-group")),
    "invocation": (
        [LOOK_AT_INTERFACES],
        [(LAMBDA, "Allow", f"{ENI_LOOKUPS} xray:PutTelemetryRecords xray:PutTraceSegments", "*", "")],
    ),
}

PLAINTEXT = '{"Bool": {"aws:SecureTransport": "false"}}'
LEDGER_POLICY: list[Statement] = [
    ("AWS::S3::BucketPolicy", "*", "Deny", "s3:*", f"{BUCKET} {BUCKET}/*", PLAINTEXT),
    (
        "AWS::S3::BucketPolicy",
        "*",
        "Deny",
        "s3:*",
        f"{BUCKET} {BUCKET}/*",
        '{"NumericLessThan": {"s3:TlsVersion": 1.2}}',
    ),
]
QUEUE_POLICY: list[Statement] = [("AWS::SQS::QueuePolicy", "*", "Deny", "sqs:*", QUEUE, PLAINTEXT)]
ACCOUNT = "arn:aws:iam::<AWS::AccountId>:root"
OF_LOG_GROUPS = (
    '{"ArnLike": {"kms:EncryptionContext:aws:logs:arn": "arn:aws:logs:eu-central-1:<AWS::AccountId>:log-group:*"}}'
)
# Of the archive's bucket, and of the bucket of Athena's results, which has what the ledger's has.
ARCHIVE_POLICIES: list[Statement] = [
    *LEDGER_POLICY,
    *LEDGER_POLICY,
    *LEDGER_POLICY,
    *QUEUE_POLICY,
    (
        "AWS::S3::BucketPolicy",
        "*",
        "Deny",
        "s3:PutObject",
        f"{BUCKET}/archive/*",
        '{"Null": {"s3:if-none-match": "true"}}',
    ),
    (
        "AWS::S3::BucketPolicy",
        "*",
        "Deny",
        "s3:BypassGovernanceRetention s3:DeleteObject s3:DeleteObjectVersion",
        f"{BUCKET}/archive/*",
        "",
    ),
]
OF_THE_DASHBOARD = (
    '{"StringEquals": {"aws:SourceAccount": "<AWS::AccountId>", '
    '"aws:SourceArn": "arn:aws:cloudtrail:eu-central-1:<AWS::AccountId>:dashboard/<name>"}}'
)
OF_S3_TABLES = (
    '{"StringLike": {"kms:EncryptionContext:aws:s3:arn": '
    '"arn:aws:s3tables:eu-central-1:<AWS::AccountId>:bucket/aws-cloudwatch/*"}}'
)
RESOURCE_POLICIES: dict[str, list[Statement]] = {
    "archive": ARCHIVE_POLICIES,
    "archive of both streams": ARCHIVE_POLICIES,
    "archive and Lake": ARCHIVE_POLICIES,
    "backfill": ARCHIVE_POLICIES,
    "backfill, customer's key": [
        *LEDGER_POLICY,
        *QUEUE_POLICY,
        ("AWS::KMS::Key", ACCOUNT, "Allow", "kms:*", "*", ""),
        ("AWS::KMS::Key", "logs.amazonaws.com", "Allow", KEY_SERVICE, "*", OF_LOG_GROUPS),
        ("AWS::KMS::Key", "delivery.logs.amazonaws.com", "Allow", "kms:Decrypt", "*", FROM_LOGS),
    ],
    "archive in a bucket that is there": [*LEDGER_POLICY, *LEDGER_POLICY, *QUEUE_POLICY],
    "archive, compliance": ARCHIVE_POLICIES,
    "archive, OCSF, signed": [
        *ARCHIVE_POLICIES,
        ("AWS::KMS::Key", ACCOUNT, "Allow", "kms:*", "*", ""),
        ("AWS::KMS::Key", ACCOUNT, "Allow", "kms:*", "*", ""),
        ("AWS::KMS::Key", "logs.amazonaws.com", "Allow", KEY_SERVICE, "*", OF_LOG_GROUPS),
    ],
    "CloudWatch Logs, everything": [
        *ARCHIVE_POLICIES,
        ("AWS::KMS::Key", ACCOUNT, "Allow", "kms:*", "*", ""),
        ("AWS::KMS::Key", "logs.amazonaws.com", "Allow", KEY_SERVICE, "*", OF_LOG_GROUPS),
        (
            "AWS::KMS::Key",
            "systemtables.cloudwatch.amazonaws.com",
            "Allow",
            "kms:Decrypt kms:DescribeKey kms:GenerateDataKey",
            "*",
            '{"StringEquals": {"aws:SourceAccount": "<AWS::AccountId>"}}',
        ),
        (
            "AWS::KMS::Key",
            "maintenance.s3tables.amazonaws.com",
            "Allow",
            "kms:Decrypt kms:GenerateDataKey",
            "*",
            OF_S3_TABLES,
        ),
    ],
    "imported": [],
    "customer's key": [
        *LEDGER_POLICY,
        *QUEUE_POLICY,
        ("AWS::KMS::Key", ACCOUNT, "Allow", "kms:*", "*", ""),
        ("AWS::KMS::Key", ACCOUNT, "Allow", f"kms:CreateGrant {KEY_SERVICE}", "*", via("secretsmanager")),
        (
            "AWS::KMS::Key",
            "logs.amazonaws.com",
            "Allow",
            KEY_SERVICE,
            "*",
            OF_LOG_GROUPS,
        ),
    ],
    "event store": [
        *LEDGER_POLICY,
        *QUEUE_POLICY,
        (
            "AWS::CloudTrail::ResourcePolicy",
            "<AWS::IAM::Role.Arn>",
            "Allow",
            "cloudtrail-data:PutAuditEvents",
            CHANNEL,
            '{"StringEquals": {"cloudtrail:ExternalId": "kong/prod"}}',
        ),
        (
            "AWS::CloudTrail::ResourcePolicy",
            "cloudtrail.amazonaws.com",
            "Allow",
            "cloudtrail:StartQuery",
            STORE,
            OF_THE_DASHBOARD,
        ),
        (
            "AWS::CloudTrail::ResourcePolicy",
            "cloudtrail.amazonaws.com",
            "Allow",
            "cloudtrail:StartDashboardRefresh",
            DASHBOARD,
            OF_THE_DASHBOARD,
        ),
    ],
}

# Actions that know no resources, and resources whose names nobody knows beforehand. Each has its reason in the code.
WITH_A_WILDCARD = {
    ENI_LOOKUPS,
    f"{ENI_LOOKUPS} xray:PutTelemetryRecords xray:PutTraceSegments",
    ENI_ACTIONS,
    "s3:GetObject s3:PutObject",  # below one prefix
    "s3:DeleteObject",  # below its quarantine
    "s3:GetObject s3:GetObjectVersion s3:PutObject",  # below the gateway's folder
    "logs:CreateLogStream logs:PutLogEvents",  # the streams of one group
    DELIVER_LOGS,
    OF_EXECUTIONS,  # of one state machine
    "logs:CreateLogStream logs:DescribeLogStreams",
    "logs:PutLogEvents",  # the streams of the gateway
    "logs:integrateWithS3Table",
}


def named(found: Iterable[Statement]) -> list[Statement]:
    """Leave the names out that follow from a hash."""
    of_this_creation = r"(-Fn::Select\(Fn::Split\(-, Fn::Select\(Fn::Split\(/, <AWS::StackId>\)\)\)\))?"
    name = re.compile(r"kong-audit-[0-9a-f]{20}" + of_this_creation)
    return sorted(tuple(name.sub("<name>", part) for part in one) for one in found)


def test_the_reviewed_lists_cover_every_shape() -> None:
    assert DIFFERENCES.keys() == SHAPES.keys()


@pytest.mark.parametrize("shape", SHAPES)
def test_statements_of_roles_are_the_reviewed_ones(shaped: Shaped, shape: str) -> None:
    absent, instead = DIFFERENCES[shape]
    assert named(statements(shaped(shape))) == sorted([*(set(REVIEWED) - set(absent)), *instead])


@pytest.mark.parametrize("shape", SHAPES)
def test_statements_of_resources_are_the_reviewed_ones(shaped: Shaped, shape: str) -> None:
    expected = RESOURCE_POLICIES.get(shape, [*LEDGER_POLICY, *QUEUE_POLICY])
    assert named(resource_statements(shaped(shape))) == sorted(expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_wildcards_are_the_reviewed_ones(shaped: Shaped, shape: str) -> None:
    allowed = [one for one in statements(shaped(shape)) if one[1] == "Allow"]
    assert {actions for _, _, actions, resources, _ in allowed if "*" in resources} <= WITH_A_WILDCARD
    assert not any("*" in actions for _, _, actions, _, _ in allowed)


def test_the_apps_stack_differs_by_the_ledgers_prefix(synthesis: Synthesis) -> None:
    assert sorted(statements(synthesis)) == sorted(
        [*(set(REVIEWED) - {USE_LEDGER, LEAVE_QUARANTINE}), *ledger_below("kong-cloudtrails-integration")]
    )


def test_a_boundary_is_on_every_role(shaped: Shaped) -> None:
    roles = shaped("invocation").of_type("AWS::IAM::Role")
    assert [shaped("invocation").flat(role["Properties"]["PermissionsBoundary"]) for role in roles] == [
        "arn:aws:iam::<AWS::AccountId>:policy/boundary"
    ] * 2


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
def test_an_existing_token_secret_is_the_only_secret_read(tmp_path: Path, secret: str, resource: str) -> None:
    synthesis = synthesise(tmp_path, kong_admin_token_secret=secret)
    (statement,) = (s for s in statements(synthesis) if s[2] == "secretsmanager:GetSecretValue")
    assert statement[3] == resource
    assert synthesis.of_type("AWS::SecretsManager::Secret") == []
    variables = synthesis.only("AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    assert variables["KONG_ADMIN_TOKEN_SECRET"] == secret
    assert variables["KONG_SUPERADMIN"] == "true"


PACKS = (
    AwsSolutionsChecks,
    HIPAASecurityChecks,
    NIST80053R4Checks,
    NIST80053R5Checks,
    PCIDSS321Checks,
    ServerlessChecks,
)


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_nag_finds_nothing_unexplained(shaped: Shaped, shape: str, pack: Any) -> None:
    report = pack().validate_scope(shaped(shape).stack)
    found = {violation.rule_name for violation in report.violations}
    # The older Python is what that shape is about.
    old = {AwsSolutionsChecks: {"AwsSolutions-L1"}, ServerlessChecks: {"Serverless-LambdaLatestVersion"}}
    assert found == (old.get(pack, set()) if shape == "invocation" else set())


@pytest.mark.parametrize("pack", PACKS)
def test_nag_finds_nothing_unexplained_in_the_apps_stack(with_new_token: Synthesis, pack: Any) -> None:
    assert pack().validate_scope(with_new_token.stack).violations == []


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
        "AwsSolutions-AEC6",
        "AwsSolutions-IAM5",
        "AwsSolutions-S1",
        "AwsSolutions-SMG4",
        "AwsSolutions-SQS3",
        "Serverless-LambdaDLQ",
        "Serverless-LambdaTracing",
        "Serverless-SQSRedrivePolicy",
        *(
            f"{pack}-{rule}"
            for pack in ("NIST.800.53.R5", "NIST.800.53.R4", "HIPAA.Security", "PCI.DSS.321")
            for rule in (
                "CloudWatchAlarmAction",
                "CloudWatchLogGroupEncrypted",
                "ElastiCacheRedisClusterAutomaticBackup",
                "IAMNoInlinePolicy",
                "LambdaConcurrency",
                "LambdaDLQ",
                "S3BucketDefaultLockEnabled",
                "S3BucketLoggingEnabled",
                "S3BucketReplicationEnabled",
                "S3DefaultEncryptionKMS",
                "SecretsManagerRotationEnabled",
                "SecretsManagerUsingKMSKey",
            )
        ),
    }
    assert all(len(str(reason)) > 60 for reason in accepted.values())


def test_cdk_validation_finds_nothing(tmp_path: Path) -> None:
    synthesise(tmp_path)
    report = json.loads((tmp_path / "validation-report.json").read_text())
    assert [violation for plugin in report["pluginReports"] for violation in plugin["violations"]] == []


def test_what_the_deployment_sets_cannot_be_given(tmp_path: Path) -> None:
    synthesis = synthesise(tmp_path, lambda_env={"REDIS_HOST": "planted:1", "LEDGER": "planted"}, image="planted")
    assert "planted" not in json.dumps(synthesis.template)
