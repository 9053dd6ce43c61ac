"""The construct in somebody else's app: their VPC, two of them in one stack, imported things, problems."""

from pathlib import Path
from typing import Any

import pytest
from aws_cdk import CfnParameter, CfnResource, Duration, Environment, Stack, TimeZone
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_secretsmanager as secretsmanager
from cdk_nag import AwsSolutionsChecks

from stacks import (
    CacheOptions,
    EventStoreOptions,
    ExistingCache,
    KongCloudTrailIntegration,
    KongOptions,
    LedgerOptions,
    ReplicationGroupCache,
    SettingsError,
)
from tests.infra.synthesis import (
    CHANNEL_ARN,
    SUBNET_IDS,
    VPC_ID,
    foreign_stack,
    function_environment,
    integrate,
    new_app,
    statements,
    template_of,
)

API = "https://kong-admin.example.internal"


def imported_vpc(stack: Stack) -> ec2.IVpc:
    return ec2.Vpc.from_vpc_attributes(
        stack, "Vpc", vpc_id=VPC_ID, availability_zones=["a", "b"], private_subnet_ids=list(SUBNET_IDS)
    )


def test_three_arguments_are_enough_and_two_fit_into_one_stack(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stack = Stack(app, "Foreign")  # neither account nor region is known
    vpc = ec2.Vpc(stack, "Vpc")
    for name in ("First", "Second"):
        source = None if name == "First" else "second"
        KongCloudTrailIntegration(
            stack, name, vpc=vpc, kong=KongOptions(admin_api=API), channel_arn=CHANNEL_ARN, source_name=source
        )
    ours = [node for name in ("First", "Second") for node in stack.node.find_child(name).node.find_all()]
    findings = {
        resource.construct_path
        for violation in AwsSolutionsChecks().validate_scope(stack).violations
        for resource in violation.violating_resources
    }
    assert findings.isdisjoint({node.node.path for node in ours})

    synthesis = template_of(app, stack)
    physical = {
        "AWS::EC2::SecurityGroup": "GroupName",
        "AWS::ElastiCache::ReplicationGroup": "ReplicationGroupId",
        "AWS::IAM::Role": "RoleName",
        "AWS::Lambda::Function": "FunctionName",
        "AWS::Logs::LogGroup": "LogGroupName",
        "AWS::S3::Bucket": "BucketName",
        "AWS::SQS::Queue": "QueueName",
        "AWS::Scheduler::Schedule": "Name",
        "AWS::SecretsManager::Secret": "Name",
    }
    named = [kind for kind, name in physical.items() for r in synthesis.of_type(kind) if name in r["Properties"]]
    assert named == [], "no physical name unless asked for"
    assert len(synthesis.of_type("AWS::Scheduler::Schedule")) == 2


def test_without_a_name_the_ledger_has_no_prefix(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stack = Stack(app, "Foreign")
    integrate(stack, "Trail", vpc=imported_vpc(stack), kong_admin_api=API, channel_arn=CHANNEL_ARN, source_name="eu")
    environment = function_environment(template_of(app, stack))
    assert environment["LEDGER"] == "s3://kong-ledger-bucket/"
    assert environment["SOURCE_NAME"] == "eu"


def test_kong_on_443_needs_one_rule(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stack = Stack(app, "Foreign")
    trail = integrate(
        stack, "Trail", vpc=imported_vpc(stack), kong_admin_api=API, channel_arn=CHANNEL_ARN, security_group="collector"
    )
    synthesis = template_of(app, stack)
    (group,) = (
        group["Properties"]
        for group in synthesis.of_type("AWS::EC2::SecurityGroup")
        if group["Properties"].get("GroupName") == "collector"
    )
    assert [rule["FromPort"] for rule in group["SecurityGroupEgress"] if "CidrIp" in rule] == [443]
    assert trail.security_group.security_group_id


def test_subnets_known_by_id_only(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stack = Stack(app, "Foreign")
    integrate(
        stack,
        "Trail",
        vpc=imported_vpc(stack),
        subnets=ec2.SubnetSelection(
            subnets=[ec2.Subnet.from_subnet_id(stack, name, name) for name in ("subnet-0000000a", "subnet-0000000b")]
        ),
        kong_admin_api=API,
        channel_arn=CHANNEL_ARN,
    )
    group = template_of(app, stack).only("AWS::ElastiCache::SubnetGroup")
    assert group["Properties"]["SubnetIds"] == ["subnet-0000000a", "subnet-0000000b"]


def test_a_channel_known_at_deployment_only(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stack = Stack(app, "Foreign", env=Environment(region="eu-central-1"))
    channel = CfnParameter(stack, "Channel")
    integrate(stack, "Trail", vpc=imported_vpc(stack), kong_admin_api=API, channel_arn=channel.value_as_string)
    variables = template_of(app, stack).only("AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    assert variables["CHANNEL_ARN"] == {"Ref": "Channel"}


def test_all_problems_at_once_before_anything_is_created(tmp_path: Path) -> None:
    stack = Stack(new_app(tmp_path), "Foreign", env=Environment(region="us-east-1"))
    vpc = imported_vpc(stack)
    with pytest.raises(SettingsError) as raised:
        integrate(
            stack,
            "Trail",
            vpc=vpc,
            subnets=ec2.SubnetSelection(subnets=vpc.private_subnets[:1]),
            kong_admin_api="kong",
            channel_arn=CHANNEL_ARN,
            page_size=0,
            lambda_env={"KONG_ADMIN_TOKEN": "planted"},
        )
    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        "subnets",
        "function.environment KONG_ADMIN_TOKEN",
        "kong.admin_api",
        "run.page_size",
        "channel_arn",
    ]
    assert "planted" not in str(raised.value)
    assert stack.node.find_child("Trail").node.children == []


def test_several_gateways_share_a_cache_and_a_ledger(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    common: dict[str, Any] = {"vpc": vpc, "kong_admin_api": API, "channel_arn": CHANNEL_ARN}
    first = integrate(stack, "Emea", source_name="emea", **common)
    integrate(stack, "Apac", source_name="apac", cache=first.cache, ledger=first.ledger, **common)
    synthesis = template_of(app, stack)

    assert len(synthesis.of_type("AWS::ElastiCache::ReplicationGroup")) == 1
    assert len(synthesis.of_type("AWS::S3::Bucket")) == 1
    variables = [f["Properties"]["Environment"]["Variables"] for f in synthesis.of_type("AWS::Lambda::Function")]
    for name in ("REDIS_HOST", "REDIS_USERNAME", "LEDGER"):
        assert variables[0][name] == variables[1][name]
    assert {one["SOURCE_NAME"] for one in variables} == {"emea", "apac"}
    (client,) = (
        f"{name}"
        for name, resource in synthesis.template["Resources"].items()
        if resource["Type"] == "AWS::EC2::SecurityGroup" and "CacheClient" in name
    )
    for function in synthesis.of_type("AWS::Lambda::Function"):
        members = function["Properties"]["VpcConfig"]["SecurityGroupIds"]
        assert {"Fn::GetAtt": [client, "GroupId"]} in members
    allowed = [one for one in statements(synthesis) if one[2] == "elasticache:Connect" or "s3:Get" in one[2]]
    assert len(allowed) == 4, "both roles may use what is shared"


@pytest.mark.parametrize("part", ["cache", "ledger"])
def test_gateways_that_share_have_names_of_their_own(tmp_path: Path, part: str) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    common: dict[str, Any] = {"vpc": vpc, "kong_admin_api": API, "channel_arn": CHANNEL_ARN}
    first = integrate(stack, "First", **common)
    with pytest.raises(SettingsError) as raised:
        integrate(stack, "Second", **common, **{part: getattr(first, part)})
    (problem,) = raised.value.problems
    assert problem.startswith(f"source_name: is the name of another gateway in the same {part}")


def test_gateways_in_one_existing_cache_and_bucket_have_names_of_their_own_too(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    bucket = s3.Bucket.from_bucket_name(stack, "Bucket", "their-bucket")
    common: dict[str, Any] = {"vpc": vpc, "kong_admin_api": API, "channel_arn": CHANNEL_ARN}

    def shared(**options: Any) -> dict[str, Any]:
        return {
            **common,
            "cache": CacheOptions(existing=ExistingCache(host="cache")),
            "ledger": LedgerOptions(existing_bucket=bucket, **options),
        }

    integrate(stack, "First", **shared())
    with pytest.raises(SettingsError) as raised:
        integrate(stack, "Second", **shared())
    assert len(raised.value.problems) == 2
    # Another database of the cache, and another prefix in the bucket, are other places, but not other metrics.
    with pytest.raises(SettingsError, match="source_name: is the name of another gateway in this account and region"):
        integrate(stack, "Third", **shared(prefix="third"), redis_db=1)


def test_types_of_the_cdk_at_the_border(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    secret = secretsmanager.Secret(stack, "Token")
    trail = integrate(
        stack,
        "Trail",
        vpc=vpc,
        kong_admin_api=API,
        channel_arn=CHANNEL_ARN,
        kong_admin_token_secret=secret,
        security_group=ec2.SecurityGroup.from_security_group_id(stack, "Group", "sg-0123456789abcdef0"),
        schedule=scheduler.ScheduleExpression.cron(hour="3", minute="0", time_zone=TimeZone.EUROPE_BERLIN),
    )
    synthesis = template_of(app, stack)
    assert trail.token_secret is secret
    assert trail.token_secret_is_new is False
    assert trail.schedule_period.to_hours() == 25, "a day on which the clock is set back"
    variables = synthesis.only("AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    assert synthesis.template["Resources"][variables["KONG_ADMIN_TOKEN_SECRET"]["Ref"]]["Type"].endswith("::Secret")
    assert variables["KONG_SUPERADMIN"] == "true"
    schedule = synthesis.only("AWS::Scheduler::Schedule")["Properties"]
    assert (schedule["ScheduleExpression"], schedule["ScheduleExpressionTimezone"]) == (
        "cron(0 3 * * ? *)",
        "Europe/Berlin",
    )
    assert (
        "sg-0123456789abcdef0" in synthesis.only("AWS::Lambda::Function")["Properties"]["VpcConfig"]["SecurityGroupIds"]
    )


def test_grants(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(
        stack, "Trail", vpc=vpc, kong_admin_api=API, channel_arn=CHANNEL_ARN, kong_superadmin=True, resource_name="kong"
    )
    auditor = iam.Role(stack, "Auditor", assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"))
    trail.grant_invoke(auditor)
    trail.grant_read_ledger(auditor)
    trail.grant_consume_dead_letters(auditor)
    trail.grant_fill_token(auditor)
    granted = {(one[2], one[3]) for one in statements(template_of(app, stack)) if one[0] == "ec2.amazonaws.com"}
    function, bucket, update = "<AWS::Lambda::Function.Arn>", "<AWS::S3::Bucket.Arn>", "secretsmanager:UpdateSecret"
    assert granted == {
        ("lambda:InvokeFunction", f"{function} {function}:*"),
        ("s3:GetBucket* s3:GetObject* s3:List*", f"{bucket} {bucket}/kong/*"),
        (
            "sqs:ChangeMessageVisibility sqs:DeleteMessage sqs:GetQueueAttributes sqs:GetQueueUrl sqs:ReceiveMessage",
            "<AWS::SQS::Queue.Arn>",
        ),
        (f"secretsmanager:PutSecretValue {update} {update}VersionStage", "<AWS::SecretsManager::Secret.Ref>"),
    }


def test_no_token_to_fill(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(stack, "Trail", vpc=vpc, kong_admin_api=API, channel_arn=CHANNEL_ARN)
    with pytest.raises(ValueError, match="there is no secret to fill"):
        trail.grant_fill_token(iam.AccountRootPrincipal())


def test_metrics(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(stack, "Trail", vpc=vpc, kong_admin_api=API, channel_arn=CHANNEL_ARN, source_name="emea")
    metrics = {
        "RunsFinished": trail.metric_runs_finished(),
        "EventsDelivered": trail.metric_events_delivered(),
        "EntriesExcluded": trail.metric_entries_excluded(),
        "EntriesFoundLate": trail.metric_entries_found_late(),
        "GapsOpen": trail.metric_gaps_open(),
        "EntriesQuarantined": trail.metric_entries_quarantined(),
        "QuarantineOpen": trail.metric_quarantine_open(),
        "OldestUndeliveredAgeSeconds": trail.metric_oldest_undelivered_age(),
        "CheckpointLagSeconds": trail.metric_checkpoint_lag(),
        "PagesRead": trail.metric("PagesRead", statistic="Average", period=Duration.hours(1)),
    }
    for name, metric in metrics.items():
        assert (metric.namespace, metric.metric_name, metric.dimensions) == (
            "KongCloudTrail",
            name,
            {"source": "emea", "stream": "requests", "destination": "cloudtrail-lake"},
        )
    assert metrics["RunsFinished"].statistic == "Sum"
    assert metrics["CheckpointLagSeconds"].statistic == metrics["GapsOpen"].statistic == "Maximum"
    assert (metrics["PagesRead"].statistic, metrics["PagesRead"].period.to_hours()) == ("Average", 1)
    assert trail.metric_errors().namespace == "AWS/Lambda"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("EventDelivered", "did you mean EventsDelivered"),
        ("quarantineopen", "did you mean QuarantineOpen?"),
        ("xyz", "there are Backlog, CheckpointLagSeconds"),
    ],
)
def test_a_metric_that_there_is_not(tmp_path: Path, name: Any, advice: str) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    with pytest.raises(ValueError, match=f"the function writes no metric of that name; {advice}"):
        integrate(stack, vpc=vpc).metric(name)


def test_every_part_and_its_l1_can_be_reached(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(
        stack,
        "Trail",
        vpc=vpc,
        kong_admin_api=API,
        channel_arn=None,
        kong_superadmin=True,
        cache=CacheOptions(authentication="iam"),
        event_store=EventStoreOptions(dashboard=True),
        external_id="kong",
    )
    parts = {part.node.path: part for owner in [trail, *trail.node.children] for part in _constructs_of(owner)}
    reachable = {node.node.path for part in parts.values() for node in part.node.find_all()}
    resources = {node.node.path for node in trail.node.find_all() if CfnResource.is_cfn_resource(node)}
    assert resources - reachable - {path for path in resources if "Policy" in path} == set()
    assert isinstance(trail.collector.function.node.default_child, lambda_.CfnFunction)
    assert isinstance(trail.cache, ReplicationGroupCache)
    trail.cache.replication_group.add_property_override("CacheNodeType", "cache.r7g.large")


def _constructs_of(owner: Any) -> list[Any]:
    return [value for value in vars(owner).values() if hasattr(value, "node")]
