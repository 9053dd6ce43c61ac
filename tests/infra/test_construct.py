"""The construct in somebody else's app: their VPC, two of them in one stack, imported things, problems."""

from pathlib import Path

import pytest
from aws_cdk import CfnParameter, Environment, Stack
from aws_cdk import aws_ec2 as ec2
from cdk_nag import AwsSolutionsChecks

from stacks import KongCloudTrailIntegration, SettingsError
from tests.infra.synthesis import CHANNEL_ARN, SUBNET_IDS, VPC_ID, function_environment, new_app, template_of

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
        KongCloudTrailIntegration(stack, name, vpc=vpc, kong_admin_api=API, channel_arn=CHANNEL_ARN)
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
    KongCloudTrailIntegration(
        stack, "Trail", vpc=imported_vpc(stack), kong_admin_api=API, channel_arn=CHANNEL_ARN, source_name="eu"
    )
    environment = function_environment(template_of(app, stack))
    assert environment["LEDGER"] == "s3://kong-ledger-bucket/"
    assert environment["SOURCE_NAME"] == "eu"


def test_kong_on_443_needs_one_rule(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stack = Stack(app, "Foreign")
    trail = KongCloudTrailIntegration(
        stack, "Trail", vpc=imported_vpc(stack), kong_admin_api=API, channel_arn=CHANNEL_ARN, security_group="collector"
    )
    synthesis = template_of(app, stack)
    (group,) = (
        group["Properties"]
        for group in synthesis.of_type("AWS::EC2::SecurityGroup")
        if group["Properties"].get("GroupName") == "collector"
    )
    assert [rule["FromPort"] for rule in group["SecurityGroupEgress"] if "CidrIp" in rule] == [443]
    assert trail.collector.security_group.security_group_id


def test_subnets_known_by_id_only(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stack = Stack(app, "Foreign")
    KongCloudTrailIntegration(
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
    KongCloudTrailIntegration(
        stack, "Trail", vpc=imported_vpc(stack), kong_admin_api=API, channel_arn=channel.value_as_string
    )
    variables = template_of(app, stack).only("AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    assert variables["CHANNEL_ARN"] == {"Ref": "Channel"}


def test_all_problems_at_once_before_anything_is_created(tmp_path: Path) -> None:
    stack = Stack(new_app(tmp_path), "Foreign", env=Environment(region="us-east-1"))
    vpc = imported_vpc(stack)
    with pytest.raises(SettingsError) as raised:
        KongCloudTrailIntegration(
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
        "lambda_env KONG_ADMIN_TOKEN",
        "kong_admin_api",
        "page_size",
        "channel_arn",
    ]
    assert "planted" not in str(raised.value)
    assert stack.node.find_child("Trail").node.children == []


def test_slow_and_fast_schedules_bound_the_age_of_an_event(tmp_path: Path) -> None:
    ages = {}
    for number, schedule in enumerate(["rate(1 minute)", "rate(1 day)", "cron(0 3 * * ? *)"]):
        app = new_app(tmp_path / str(number))
        stack = Stack(app, "Foreign")
        KongCloudTrailIntegration(
            stack, "T", vpc=imported_vpc(stack), kong_admin_api=API, channel_arn=CHANNEL_ARN, schedule=schedule
        )
        config = template_of(app, stack).only("AWS::Lambda::EventInvokeConfig")
        ages[schedule] = config["Properties"]["MaximumEventAgeInSeconds"]
    assert ages == {"rate(1 minute)": 60, "rate(1 day)": 21_600, "cron(0 3 * * ? *)": 3600}
