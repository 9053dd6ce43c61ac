"""What the template must hold. Each check comes with the change that must make it fail."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stacks import DeploymentSettings, IntegrationStack
from stacks.parts.cache_access import ACCESS_STRING
from tests.infra.synthesis import (
    CHANNEL_ARN,
    CONTEXT,
    SUBNET_IDS,
    VPC_ID,
    Synthesis,
    new_app,
    statements,
    synthesise,
)

CACHE = "AWS::ElastiCache::ReplicationGroup"
FUNCTION = "AWS::Lambda::Function"
BUCKET = "AWS::S3::Bucket"
QUEUE = "AWS::SQS::Queue"
GROUP = "AWS::EC2::SecurityGroup"
SCHEDULE = "AWS::Scheduler::Schedule"
INVOKE = "AWS::Lambda::EventInvokeConfig"

# Resource type, path of a property, the value that it must have.
SCHEDULED_EVENT = (
    '{"execution_id":"<aws.scheduler.execution-id>","scheduled_time":"<aws.scheduler.scheduled-time>",'
    '"stream":"requests","destination":"cloudtrail-lake"}'
)

REQUIRED: list[tuple[str, str, Any]] = [
    (CACHE, "Engine", "valkey"),
    (CACHE, "NumCacheClusters", 2),
    (CACHE, "MultiAZEnabled", True),
    (CACHE, "AutomaticFailoverEnabled", True),
    (CACHE, "AtRestEncryptionEnabled", True),
    (CACHE, "TransitEncryptionEnabled", True),
    (CACHE, "TransitEncryptionMode", "required"),
    (CACHE, "UserGroupIds.0", "<AWS::ElastiCache::UserGroup.Ref>"),
    ("AWS::ElastiCache::UserGroup", "UserIds.0", "<AWS::ElastiCache::User.Ref>"),
    (CACHE, "AutoMinorVersionUpgrade", True),
    (CACHE, "CacheParameterGroupName", "<AWS::ElastiCache::ParameterGroup.Ref>"),
    (CACHE, "CacheSubnetGroupName", "<AWS::ElastiCache::SubnetGroup.Ref>"),
    ("AWS::ElastiCache::ParameterGroup", "Properties.maxmemory-policy", "noeviction"),
    ("AWS::ElastiCache::SubnetGroup", "SubnetIds", list(SUBNET_IDS)),
    ("AWS::ElastiCache::User", "AuthenticationMode.Type", "iam"),
    ("AWS::ElastiCache::User", "AccessString", ACCESS_STRING),
    (FUNCTION, "FunctionName", "kong-cloudtrails-integration"),
    (FUNCTION, "Runtime", "python3.14"),
    (FUNCTION, "Architectures", ["arm64"]),
    (FUNCTION, "Handler", "kong_cloudtrail.handler.handler"),
    (FUNCTION, "MemorySize", 1024),
    (FUNCTION, "Timeout", 900),
    (FUNCTION, "VpcConfig.SubnetIds", list(SUBNET_IDS)),
    (FUNCTION, "LoggingConfig.LogGroup", "<AWS::Logs::LogGroup.Ref>"),
    (FUNCTION, "Environment.Variables.REDIS_TLS", "true"),
    (FUNCTION, "Environment.Variables.CHANNEL_ARN", CHANNEL_ARN),
    ("AWS::Logs::LogGroup", "RetentionInDays", 365),
    (INVOKE, "MaximumRetryAttempts", 0),
    (INVOKE, "MaximumEventAgeInSeconds", 3600),
    (INVOKE, "DestinationConfig.OnFailure.Destination", "<AWS::SQS::Queue.Arn>"),
    (QUEUE, "SqsManagedSseEnabled", True),
    (QUEUE, "MessageRetentionPeriod", 14 * 86_400),
    (BUCKET, "VersioningConfiguration.Status", "Enabled"),
    (BUCKET, "PublicAccessBlockConfiguration.BlockPublicAcls", True),
    (BUCKET, "PublicAccessBlockConfiguration.BlockPublicPolicy", True),
    (BUCKET, "PublicAccessBlockConfiguration.IgnorePublicAcls", True),
    (BUCKET, "PublicAccessBlockConfiguration.RestrictPublicBuckets", True),
    (
        BUCKET,
        "BucketEncryption.ServerSideEncryptionConfiguration.0.ServerSideEncryptionByDefault.SSEAlgorithm",
        "AES256",
    ),
    (SCHEDULE, "ScheduleExpression", "rate(1 hour)"),
    (SCHEDULE, "State", "ENABLED"),
    (SCHEDULE, "Target.Arn", "<AWS::Lambda::Function.Arn>"),
    (SCHEDULE, "Target.DeadLetterConfig.Arn", "<AWS::SQS::Queue.Arn>"),
    (SCHEDULE, "Target.RetryPolicy.MaximumRetryAttempts", 2),
    (SCHEDULE, "Target.RetryPolicy.MaximumEventAgeInSeconds", 3600),
    (
        SCHEDULE,
        "Target.Input",
        SCHEDULED_EVENT,
    ),
]


def value_at(synthesis: Synthesis, resource_type: str, path: str) -> Any:
    value: Any = synthesis.only(resource_type)["Properties"]
    for step in path.split("."):
        value = value[int(step)] if isinstance(value, list) else value.get(step)
    return synthesis.flat(value) if isinstance(value, dict) else value


@pytest.mark.parametrize(("resource_type", "path", "expected"), REQUIRED, ids=lambda value: str(value)[:60])
def test_required_property(synthesis: Synthesis, resource_type: str, path: str, expected: Any) -> None:
    assert value_at(synthesis, resource_type, path) == expected


def groups(synthesis: Synthesis) -> dict[str, dict[str, Any]]:
    return {group["Properties"]["GroupName"]: group["Properties"] for group in synthesis.of_type(GROUP)}


def denies_plaintext(synthesis: Synthesis, policy_type: str, action: str) -> bool:
    return any(
        statement["Effect"] == "Deny"
        and statement["Principal"] == {"AWS": "*"}
        and statement["Action"] == action
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        for policy in synthesis.of_type(policy_type)
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    )


def egress(group: dict[str, Any]) -> set[tuple[str, int]]:
    """Rules as (target, port); the rule that CDK writes for "nothing" is none."""
    return {
        (str(rule.get("CidrIp") or rule["DestinationSecurityGroupId"]["Fn::GetAtt"][0]), rule["FromPort"])
        for rule in group["SecurityGroupEgress"]
        if rule.get("CidrIp") != "255.255.255.255/32"
    }


def logical_id(synthesis: Synthesis, name: str) -> str:
    found: str
    (found,) = (
        logical
        for logical, resource in synthesis.template["Resources"].items()
        if resource["Type"] == GROUP and resource["Properties"]["GroupName"] == name
    )
    return found


NAME = "kong-cloudtrails-integration"


def function_reaches_three_things(synthesis: Synthesis) -> bool:
    expected = {("0.0.0.0/0", 8444), ("0.0.0.0/0", 443), (logical_id(synthesis, f"{NAME}-cache"), 6380)}
    return egress(groups(synthesis)[NAME]) == expected and not egress(groups(synthesis)[f"{NAME}-cache-client"])


def cache_admits_clients_only(synthesis: Synthesis) -> bool:
    (rule,) = groups(synthesis)[f"{NAME}-cache"]["SecurityGroupIngress"]
    members = [
        group["Fn::GetAtt"][0] for group in synthesis.only(FUNCTION)["Properties"]["VpcConfig"]["SecurityGroupIds"]
    ]
    client = logical_id(synthesis, f"{NAME}-cache-client")
    return (
        rule["SourceSecurityGroupId"]["Fn::GetAtt"][0] == client
        and (rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) == (6380, 6380, "tcp")
        and sorted(members) == sorted([client, logical_id(synthesis, NAME)])
    )


def stays(synthesis: Synthesis, resource_type: str) -> bool:
    resource = synthesis.only(resource_type)
    return (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


CHECKS: dict[str, tuple[Callable[[Synthesis], bool], Callable[[Synthesis], Any]]] = {
    "function reaches cache, Kong and HTTPS, nothing else": (
        function_reaches_three_things,
        lambda s: groups(s)[NAME]["SecurityGroupEgress"].append({"CidrIp": "0.0.0.0/0", "FromPort": 22}),
    ),
    "cache reaches nothing": (
        lambda s: egress(groups(s)[f"{NAME}-cache"]) == set(),
        lambda s: groups(s)[f"{NAME}-cache"].update(SecurityGroupEgress=[{"CidrIp": "0.0.0.0/0", "FromPort": 0}]),
    ),
    "cache is reached by its clients, the function, only": (
        cache_admits_clients_only,
        lambda s: groups(s)[f"{NAME}-cache"]["SecurityGroupIngress"][0].update(
            SourceSecurityGroupId={"Fn::GetAtt": ["Else", "GroupId"]}
        ),
    ),
    "nobody reaches the function": (
        lambda s: all("SecurityGroupIngress" not in groups(s)[name] for name in (NAME, f"{NAME}-cache-client")),
        lambda s: groups(s)[NAME].update(SecurityGroupIngress=[{"CidrIp": "10.0.0.0/8"}]),
    ),
    "every group is in the given VPC": (
        lambda s: all(group["VpcId"] == VPC_ID for group in groups(s).values()),
        lambda s: groups(s)[NAME].update(VpcId="vpc-00000000"),
    ),
    "bucket refuses plaintext": (
        lambda s: denies_plaintext(s, "AWS::S3::BucketPolicy", "s3:*"),
        lambda s: s.only("AWS::S3::BucketPolicy")["Properties"]["PolicyDocument"]["Statement"].pop(0),
    ),
    "queue refuses plaintext": (
        lambda s: denies_plaintext(s, "AWS::SQS::QueuePolicy", "sqs:*"),
        lambda s: s.only("AWS::SQS::QueuePolicy")["Properties"]["PolicyDocument"]["Statement"].pop(0),
    ),
    "bucket stays": (lambda s: stays(s, BUCKET), lambda s: s.only(BUCKET).update(DeletionPolicy="Delete")),
    "logs stay": (
        lambda s: stays(s, "AWS::Logs::LogGroup"),
        lambda s: s.only("AWS::Logs::LogGroup").update(UpdateReplacePolicy="Delete"),
    ),
    "concurrency is not reserved, which small accounts cannot": (
        lambda s: "ReservedConcurrentExecutions" not in s.only(FUNCTION)["Properties"],
        lambda s: s.only(FUNCTION)["Properties"].update(ReservedConcurrentExecutions=1),
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_check(synthesis: Synthesis, name: str) -> None:
    holds, break_it = CHECKS[name]
    assert holds(synthesis)

    broken = Synthesis(synthesis.stack, copy.deepcopy(synthesis.template))
    break_it(broken)
    assert not holds(broken), "the check does not notice that its property was removed"


def test_resources_are_these_and_no_others(synthesis: Synthesis) -> None:
    kinds = sorted(resource["Type"] for resource in synthesis.template["Resources"].values())
    assert kinds == sorted(
        [
            *[GROUP] * 3,
            CACHE,
            "AWS::ElastiCache::ParameterGroup",
            "AWS::ElastiCache::SubnetGroup",
            "AWS::ElastiCache::User",
            "AWS::ElastiCache::UserGroup",
            BUCKET,
            "AWS::S3::BucketPolicy",
            QUEUE,
            "AWS::SQS::QueuePolicy",
            "AWS::Logs::LogGroup",
            FUNCTION,
            INVOKE,
            *["AWS::IAM::Role", "AWS::IAM::Policy"] * 2,
            SCHEDULE,
            *["AWS::CloudWatch::Alarm"] * 11,
            *["AWS::CloudWatch::CompositeAlarm"] * 3,
            "AWS::CloudWatch::Dashboard",
        ]
    )


def test_outputs(synthesis: Synthesis, with_new_token: Synthesis) -> None:
    assert sorted(synthesis.template["Outputs"]) == [
        "CacheEndpoint",
        "DeadLetterQueueUrl",
        "FunctionName",
        "LedgerUrl",
        "LogGroupName",
        "ScheduleName",
        "Trail",
    ]
    assert sorted(set(with_new_token.template["Outputs"]) - set(synthesis.template["Outputs"])) == [
        "FillKongAdminToken"
    ]


def test_a_runbook_of_ones_own_and_a_schedule_that_waits(tmp_path: Path) -> None:
    synthesis = synthesise(
        tmp_path,
        runbook_url="https://wiki.example.com/kong",
        schedule_enabled="false",
        alarm_topic="arn:aws:sns:eu-central-1:111122223333:on-call",
    )

    made = [*synthesis.of_type("AWS::CloudWatch::Alarm"), *synthesis.of_type("AWS::CloudWatch::CompositeAlarm")]
    assert len(made) == 11, "a schedule that is off misses no runs"
    for alarm in [one for one in made if "helper" not in one["Properties"]["AlarmName"]]:
        assert " Runbook: https://wiki.example.com/kong#" in alarm["Properties"]["AlarmDescription"]
        assert alarm["Properties"]["AlarmActions"] == ["arn:aws:sns:eu-central-1:111122223333:on-call"]
    assert synthesis.only("AWS::Scheduler::Schedule")["Properties"]["State"] == "DISABLED"


KEY = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"
OWNER = "444455556666"


def test_a_retention_of_kongs_own_is_counted_down(tmp_path: Path) -> None:
    synthesis = synthesise(tmp_path, kong_retention_days="2")
    body = synthesis.flat(synthesis.only("AWS::CloudWatch::Dashboard")["Properties"]["DashboardBody"])
    assert "hours until Kong deletes it, at a retention of 48 h" in body


def test_keys_boundary_and_a_shared_vpc_by_context(tmp_path: Path) -> None:
    synthesis = synthesise(
        tmp_path,
        encryption_key=KEY,
        permissions_boundary="arn:aws:iam::111122223333:policy/boundary",
        vpc_owner_account=OWNER,
        kong_admin_token_secret="kong/token",
        kong_admin_token_key=KEY.replace("0123", "9999"),
    )
    assert synthesis.only("AWS::Logs::LogGroup")["Properties"]["KmsKeyId"] == KEY
    assert synthesis.only(FUNCTION)["Properties"]["KmsKeyArn"] == KEY
    boundaries = {role["Properties"]["PermissionsBoundary"] for role in synthesis.of_type("AWS::IAM::Role")}
    assert boundaries == {"arn:aws:iam::111122223333:policy/boundary"}
    granted = [(one[2], one[3]) for one in statements(synthesis)]
    assert ("kms:Decrypt", KEY.replace("0123", "9999")) in granted
    assert any(f":{OWNER}:subnet/{SUBNET_IDS[0]}" in resources for _, resources in granted)


def test_a_boundary_by_its_name(tmp_path: Path) -> None:
    roles = synthesise(tmp_path, permissions_boundary="boundary").of_type("AWS::IAM::Role")
    assert {str(role["Properties"]["PermissionsBoundary"]).count(":policy/boundary") for role in roles} == {1}


def test_a_synthesis_for_another_trail_in_the_same_stack_is_noticed(tmp_path: Path) -> None:
    assert synthesise(tmp_path).stack.replaced_trail(tmp_path) is None, "nothing was there before"

    again = DeploymentSettings.from_context(CONTEXT)
    other = DeploymentSettings.from_context({**CONTEXT, "kong_admin_api": "https://other.example.internal:8444"})
    beside = DeploymentSettings.from_context({**CONTEXT, "resource_name": "other"})

    def replaced(options: DeploymentSettings) -> str | None:
        app = new_app(tmp_path / "again")
        return IntegrationStack(app, options.stack_name, options=options).replaced_trail(tmp_path)

    assert replaced(again) is None
    assert replaced(other) == f"kong: {CONTEXT['kong_admin_api']} into {CHANNEL_ARN}"
    assert replaced(beside) is None


def test_new_token_secret_is_empty_and_its_output_fills_it(with_new_token: Synthesis) -> None:
    (secret,) = (
        resource
        for resource in with_new_token.of_type("AWS::SecretsManager::Secret")
        if "GenerateSecretString" not in resource["Properties"]
    )
    assert "SecretString" not in secret["Properties"]
    command = with_new_token.flat(with_new_token.template["Outputs"]["FillKongAdminToken"]["Value"])
    assert "secretsmanager put-secret-value --region eu-central-1" in command
    assert "--secret-string file:///dev/stdin" in command


def test_tags_are_on_every_resource_that_takes_them(synthesis: Synthesis) -> None:
    tag = {"Key": "project", "Value": "kong-cloudtrail-integrations"}
    untagged = {
        resource["Type"]
        for resource in synthesis.template["Resources"].values()
        if tag not in resource["Properties"].get("Tags", [])
    }
    assert untagged == {
        # These types have no tags.
        "AWS::IAM::Policy",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::S3::BucketPolicy",
        "AWS::SQS::QueuePolicy",
        "AWS::Scheduler::Schedule",
    }
