"""The construct in apps that know less, or are built otherwise, than ours: lookups, tokens, nested stacks, stages."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import CfnParameter, Duration, Environment, Fn, NestedStack, Stack, Stage
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_ssm as ssm
from aws_cdk.assertions import Annotations, Match

from stacks import (
    AlarmOptions,
    CacheOptions,
    ExistingCache,
    FunctionOptions,
    KongCloudTrailIntegration,
    LedgerOptions,
    NetworkOptions,
    ReplicationGroupCache,
    ServerlessOptions,
    SettingsError,
)
from stacks.checks import schedule
from tests.infra.synthesis import (
    CHANNEL_ARN,
    SECRET_ARN,
    SUBNET_IDS,
    VPC_ID,
    Synthesis,
    foreign_stack,
    new_app,
    template_of,
)

API = "https://kong-admin.example.internal:8444"
ACCOUNT, REGION = "111122223333", "eu-central-1"
HERE = Environment(account=ACCOUNT, region=REGION)
FUNCTION = "AWS::Lambda::Function"

LOOKED_UP = {
    f"vpc-provider:account={ACCOUNT}:filter.vpc-id={VPC_ID}:region={REGION}:returnAsymmetricSubnets=true": {
        "vpcId": VPC_ID,
        "vpcCidrBlock": "10.0.0.0/16",
        "availabilityZones": [],
        "subnetGroups": [
            {
                "name": "audit",
                "type": "Private",
                "subnets": [
                    {"subnetId": subnet, "cidr": f"10.0.{number}.0/24", "availabilityZone": f"{REGION}{'ab'[number]}"}
                    | {"routeTableId": f"rtb-0123456789abcdef{number}"}
                    for number, subnet in enumerate(SUBNET_IDS)
                ],
            }
        ],
    }
}
"""What `cdk synth` writes into cdk.context.json between its two syntheses."""

LENIENT = {"@aws-cdk/core:validateAgainstDefaultRules": False}
"""CDK's own rules refuse the placeholders of CDK's own lookups."""


def missing(outdir: Path) -> list[str]:
    """Return what the first synthesis asks to be looked up."""
    return [one["key"] for one in json.loads((outdir / "manifest.json").read_text("utf-8")).get("missing", [])]


def integrate(scope: Any, name: str = "Trail", **properties: Any) -> KongCloudTrailIntegration:
    return KongCloudTrailIntegration(scope, name, **{"kong_admin_api": API, "channel_arn": CHANNEL_ARN, **properties})


def imported_vpc(stack: Stack) -> ec2.IVpc:
    return ec2.Vpc.from_vpc_attributes(
        stack, "Vpc", vpc_id=VPC_ID, availability_zones=["a", "b"], private_subnet_ids=list(SUBNET_IDS)
    )


def problems(outdir: Path, make: Callable[[Stack], dict[str, Any]]) -> list[str]:
    stack = Stack(new_app(outdir), "Foreign", env=HERE)
    properties = make(stack)
    with pytest.raises(SettingsError) as raised:
        integrate(stack, **{"vpc": imported_vpc(stack), **properties} if "vpc" not in properties else properties)
    assert stack.node.find_child("Trail").node.children == []
    return list(raised.value.problems)


def egress_rules(synthesis: Synthesis, group: ec2.ISecurityGroup) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = synthesis.template["Resources"][
        synthesis.stack.get_logical_id(group.node.default_child)
    ]["Properties"]["SecurityGroupEgress"]
    return found


# -- what is looked up: the first synthesis only finds out what there is to look up, and has to come through


@pytest.mark.parametrize(
    "selection",
    [
        lambda _: None,
        lambda _: ec2.SubnetSelection(subnet_group_name="audit"),
        lambda vpc: ec2.SubnetSelection(subnets=vpc.private_subnets),
    ],
)
@pytest.mark.parametrize("looked_up", [False, True])
def test_a_vpc_from_a_lookup(tmp_path: Path, selection: Callable[[ec2.IVpc], Any], *, looked_up: bool) -> None:
    app = new_app(tmp_path, **(LOOKED_UP if looked_up else LENIENT))
    stack = Stack(app, "Foreign", env=HERE)
    vpc = ec2.Vpc.from_lookup(stack, "Vpc", vpc_id=VPC_ID)
    integrate(stack, vpc=vpc, subnets=selection(vpc))
    synthesis = template_of(app, stack)
    assert missing(tmp_path) == ([] if looked_up else list(LOOKED_UP))
    if looked_up:
        assert synthesis.only("AWS::ElastiCache::SubnetGroup")["Properties"]["SubnetIds"] == list(SUBNET_IDS)


def test_parameters_from_a_lookup(tmp_path: Path) -> None:
    app = new_app(tmp_path, **LENIENT)
    stack = Stack(app, "Foreign", env=HERE)
    names = ("channel_arn", "kong_admin_api", "kong_admin_token_secret", "kong_root_ca", "external_id")
    integrate(
        stack,
        vpc=imported_vpc(stack),
        **{name: ssm.StringParameter.value_from_lookup(stack, f"/kong/{name}") for name in names},
    )
    app.synth()
    assert len(missing(tmp_path)) == len(names)


# -- what CloudFormation fills in


def test_an_api_behind_a_load_balancer_of_the_same_app(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stack = Stack(app, "Foreign", env=HERE)
    vpc = ec2.Vpc(stack, "Vpc", restrict_default_security_group=False)
    balancer = elb.NetworkLoadBalancer(stack, "Balancer", vpc=vpc)
    trail = integrate(stack, vpc=vpc, kong_admin_api=f"https://{balancer.load_balancer_dns_name}:8444/admin")
    synthesis = template_of(app, stack)
    api = synthesis.flat(synthesis.only(FUNCTION)["Properties"]["Environment"]["Variables"]["KONG_ADMIN_API"])
    assert api == "https://<AWS::ElasticLoadBalancingV2::LoadBalancer.DNSName>:8444/admin"
    rules = egress_rules(synthesis, trail.security_group)
    assert ("0.0.0.0/0", 8444) in [(rule.get("CidrIp"), rule["FromPort"]) for rule in rules]


@pytest.mark.parametrize("url", ["{}", "https://kong.example.com:{}", "https://10.1.2.{}:80{}"])
def test_an_api_whose_port_is_known_at_deployment_only(tmp_path: Path, url: str) -> None:
    def api(stack: Stack) -> dict[str, Any]:
        token = CfnParameter(stack, "Api").value_as_string
        return {"kong_admin_api": url.format(token, token)}

    (problem,) = problems(tmp_path / "without", api)
    assert problem.startswith("kong_admin_api: its port is not known before the deployment")
    app, stack, vpc = foreign_stack(tmp_path / "with")
    trail = integrate(stack, vpc=vpc, **api(stack), network=NetworkOptions(kong_port=8444))
    rules = egress_rules(template_of(app, stack), trail.security_group)
    assert 8444 in [rule["FromPort"] for rule in rules]
    assert {rule["CidrIp"] for rule in rules if "CidrIp" in rule} <= {"0.0.0.0/0", "kong.example.com"}


def test_settings_that_nothing_depends_on_may_be_parameters(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    texts = ("resource_name", "source_name", "external_id", "log_level", "kong_root_ca", "security_group")
    numbers = ("page_size", "parallel_deliveries", "overlap_seconds", "redis_db")

    def parameter(name: str, kind: str = "String") -> CfnParameter:
        return CfnParameter(stack, name.title().replace("_", ""), type=kind)

    integrate(
        stack,
        vpc=vpc,
        **{name: parameter(name).value_as_string for name in texts},
        **{name: parameter(name, "Number").value_as_number for name in numbers},
        lambda_env={"MINE": parameter("mine", "Number").value_as_number},
        cache=CacheOptions(node_type=parameter("node_type").value_as_string),
    )
    synthesis = template_of(app, stack)
    variables = synthesis.only(FUNCTION)["Properties"]["Environment"]["Variables"]
    of_environment = {"source_name", "external_id", "log_level", "kong_root_ca", *numbers, "mine"}
    assert {name: variables[name.upper()] for name in of_environment} == {
        name: {"Ref": name.title().replace("_", "")} for name in of_environment
    }
    assert synthesis.only(FUNCTION)["Properties"]["FunctionName"] == {"Ref": "ResourceName"}
    assert "e+" not in json.dumps(synthesis.template), "a token's number is no value"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda text, _: {"schedule": text}, "schedule: is not known before the deployment"),
        (lambda text, _: {"kong_superadmin": text}, "kong_superadmin: is not known before the deployment"),
        (lambda text, _: {"kong_admin_token_secret": text}, "kong_admin_token_secret: is not known before"),
        (
            lambda _, number: {"cache": CacheOptions(serverless=ServerlessOptions(max_storage_gib=number))},
            "cache.serverless.max_storage_gib: is not known before the deployment",
        ),
        (lambda _, number: {"alarms": AlarmOptions(missed_runs=number)}, "alarms.missed_runs: is not known before"),
    ],
)
def test_settings_that_the_deployment_depends_on_are_written_out(
    tmp_path: Path, make: Callable[[str, Any], dict[str, Any]], problem: str
) -> None:
    def given(stack: Stack) -> dict[str, Any]:
        number = CfnParameter(stack, "Number", type="Number").value_as_number
        return make(CfnParameter(stack, "Text").value_as_string, number)

    (found,) = problems(tmp_path, given)
    assert found.startswith(problem)


def test_a_secret_made_elsewhere_is_given_as_such(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    arn = CfnParameter(stack, "Secret").value_as_string
    integrate(
        stack, vpc=vpc, kong_admin_token_secret=secretsmanager.Secret.from_secret_complete_arn(stack, "Token", arn)
    )
    policy = json.dumps(template_of(app, stack).of_type("AWS::IAM::Policy"))
    assert '"Action": "secretsmanager:GetSecretValue", "Effect": "Allow", "Resource": {"Ref": "Secret"}' in policy


def test_subnets_out_of_a_list(tmp_path: Path) -> None:
    def vpc(stack: Stack, length: int | None) -> dict[str, Any]:
        return {
            "vpc": ec2.Vpc.from_vpc_attributes(
                stack,
                "Theirs",
                vpc_id=Fn.import_value("vpc"),
                availability_zones=Fn.get_azs(),
                private_subnet_ids=Fn.split(",", Fn.import_value("subnets"), length),
            )
        }

    (problem,) = problems(tmp_path / "unknown", lambda stack: vpc(stack, None))
    assert problem.startswith("subnets: is a list whose length is not known before the deployment")
    app = new_app(tmp_path / "known")
    stack = Stack(app, "Foreign")
    integrate(stack, **vpc(stack, 2))
    assert len(template_of(app, stack).only("AWS::ElastiCache::SubnetGroup")["Properties"]["SubnetIds"]) == 2


# -- networks


def two_subnets(kind: ec2.SubnetType) -> list[ec2.SubnetConfiguration]:
    return [ec2.SubnetConfiguration(name=name, subnet_type=kind, cidr_mask=26) for name in ("one", "two")]


@pytest.mark.parametrize(
    ("kind", "zones", "cache", "problem"),
    [
        (ec2.SubnetType.PRIVATE_ISOLATED, 1, CacheOptions(), "subnets: are in one availability zone"),
        (ec2.SubnetType.PUBLIC, 2, CacheOptions(), "subnets: are public"),
    ],
)
def test_subnets_that_will_not_do(
    tmp_path: Path, kind: ec2.SubnetType, zones: int, cache: CacheOptions, problem: str
) -> None:
    (found,) = problems(
        tmp_path,
        lambda stack: {
            "vpc": ec2.Vpc(stack, "Own", max_azs=zones, nat_gateways=0, subnet_configuration=two_subnets(kind)),
            "cache": cache,
        },
    )
    assert found.startswith(problem)


def test_one_zone_is_enough_beside_an_existing_cache(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stack = Stack(app, "Foreign", env=HERE)
    vpc = ec2.Vpc(stack, "Vpc", max_azs=1, subnet_configuration=two_subnets(ec2.SubnetType.PRIVATE_ISOLATED))
    integrate(stack, vpc=vpc, cache=CacheOptions(existing=ExistingCache(host="cache")))
    isolated = Match.string_like_regexp("subnets: are isolated, and PutAuditEvents has no VPC endpoint")
    Annotations.from_stack(stack).has_warning("/Foreign/Trail", isolated)


def test_a_serverless_cache_takes_one_subnet_in_each_zone(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stack = Stack(app, "Foreign", env=HERE)
    vpc = ec2.Vpc(
        stack,
        "Vpc",
        max_azs=2,
        subnet_configuration=two_subnets(ec2.SubnetType.PRIVATE_ISOLATED),
        restrict_default_security_group=False,
    )
    integrate(stack, vpc=vpc, cache=CacheOptions(serverless=ServerlessOptions()))
    synthesis = template_of(app, stack)
    of_cache = synthesis.only("AWS::ElastiCache::ServerlessCache")["Properties"]["SubnetIds"]
    of_function = synthesis.only(FUNCTION)["Properties"]["VpcConfig"]["SubnetIds"]
    assert (of_cache, len(of_function)) == (of_function[:2], 4)


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"kong_admin_api": "https://[fd00::8]:8444"}, True),
        ({"network": NetworkOptions(kong_peers=[ec2.Peer.ipv6("fd00::/8")])}, True),
        ({"network": NetworkOptions(kong_peers=[ec2.Peer.ipv4("10.0.0.0/8"), ec2.Peer.prefix_list("pl-1")])}, None),
        ({}, None),
    ],
)
def test_kong_at_an_ipv6_address(tmp_path: Path, properties: dict[str, Any], expected: bool | None) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    integrate(stack, vpc=vpc, **properties)
    network = template_of(app, stack).only(FUNCTION)["Properties"]["VpcConfig"]
    assert network.get("Ipv6AllowedForDualStack") is expected


def test_a_security_group_of_a_stack_that_was_there_first(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    base = Stack(app, "Base", env=HERE)
    vpc = ec2.Vpc(base, "Vpc")
    group = ec2.SecurityGroup(base, "Group", vpc=vpc, allow_all_outbound=False)
    stack = Stack(app, "Foreign", env=HERE)
    trail = integrate(stack, vpc=vpc, security_group=group, network=NetworkOptions(kong_peers=[group]))
    # A rule in the first stack would make each of the two depend on the other.
    (rule,) = template_of(app, stack).of_type("AWS::EC2::SecurityGroupEgress")
    assert rule["Properties"]["FromPort"] == 6380
    assert trail.security_group is group


# -- several stacks


def names_in_a_nested_stack(outdir: Path, *, beside: bool) -> tuple[str, str | None]:
    app = new_app(outdir)
    stack = Stack(app, "Foreign", env=HERE)
    if beside:
        kms.Key(stack, "Key")
        NestedStack(stack, "Other")
    trail = integrate(NestedStack(stack, "Inner"), vpc=imported_vpc(stack))
    assert isinstance(trail.cache, ReplicationGroupCache)
    assert trail.cache.users is not None
    return trail.cache.users.user.user_id, trail.cache.users.group.user_group_id


def test_names_in_a_nested_stack_do_not_follow_from_what_is_beside_it(tmp_path: Path) -> None:
    alone = names_in_a_nested_stack(tmp_path / "alone", beside=False)
    assert names_in_a_nested_stack(tmp_path / "beside", beside=True) == alone
    assert len(set(alone)) == 2


def existing(host: str = "cache.example.internal") -> CacheOptions:
    return CacheOptions(existing=ExistingCache(host=host))


def test_the_same_host_in_another_account_is_another_cache(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    for name, account in (("dev", "111122223333"), ("prod", "444455556666")):
        stack = Stack(Stage(app, name, env=Environment(account=account, region=REGION)), "Foreign")
        integrate(stack, vpc=imported_vpc(stack), cache=existing())
    for name in ("one", "other"):  # nobody knows yet where these two go
        stack = Stack(Stage(app, name), "Foreign")
        integrate(stack, vpc=imported_vpc(stack), cache=existing())
    with pytest.raises(SettingsError, match="source_name: is the name of another gateway in the same cache"):
        integrate(stack, "Again", vpc=stack.node.find_child("Vpc"), cache=existing())


def bucket(stack: Stack) -> LedgerOptions:
    return LedgerOptions(existing_bucket=s3.Bucket.from_bucket_name(stack, "Bucket", "their-bucket"))


def test_the_name_is_a_prefix_in_an_existing_bucket(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stacks = [Stack(app, name, env=HERE) for name in ("First", "Second", "Third")]
    for stack, name in zip(stacks[:2], (None, "second"), strict=True):
        integrate(stack, vpc=imported_vpc(stack), ledger=bucket(stack), resource_name=name)
    with pytest.raises(SettingsError, match="source_name: is the name of another gateway in the same ledger"):
        integrate(stacks[2], vpc=imported_vpc(stacks[2]), ledger=bucket(stacks[2]), resource_name="second")


def test_gateways_of_one_name_in_one_account_are_remarked(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    accounts = {"First": ACCOUNT, "Second": ACCOUNT, "Third": "444455556666"}
    stacks = [Stack(app, name, env=Environment(account=accounts[name], region=REGION)) for name in accounts]
    for stack in stacks:
        integrate(stack, vpc=imported_vpc(stack))
    remark = Match.string_like_regexp("source_name: is the name of another gateway in this account and region")
    remarked = [len(Annotations.from_stack(stack).find_warning("*", remark)) for stack in stacks]
    assert remarked == [0, 1, 0]


# -- schedules


@pytest.mark.parametrize(
    ("expression", "period_seconds"),
    [
        ("cron(0 * * * ? *)", 3600),
        ("cron(*/5 * * * ? *)", 300),
        ("cron(0/20 8-18/2 * * ? *)", 13 * 3600 + 20 * 60),
        ("cron(30 9,17 ? * * *)", 16 * 3600),
        ("cron(0 3 * * ? *)", 86_400),
        ("cron(* 59 * * ? *)", None),
        ("cron(0 L * * ? *)", None),
        ("cron(0 9 ? * MON-FRI *)", None),
        ("cron(0 9 1 * ? *)", None),
    ],
)
def test_alarms_know_how_often_a_cron_schedule_runs(expression: str, period_seconds: int | None) -> None:
    assert schedule(expression).period_seconds == period_seconds


# -- callers whom no type checker told


@pytest.mark.parametrize(
    ("properties", "problem"),
    [
        ({"vpc": VPC_ID}, "vpc: must be a VPC, e.g. ec2.Vpc.from_lookup"),
        ({"vpc": None}, "vpc: must be a VPC"),
        ({"subnets": list(SUBNET_IDS)}, "subnets: must be ec2.SubnetSelection"),
        ({"cache": "valkey"}, "cache: must be CacheOptions(…), or the cache of another integration"),
        ({"ledger": "bucket"}, "ledger: must be LedgerOptions"),
        ({"ledger": LedgerOptions(existing_bucket="b")}, "ledger.existing_bucket: must be a bucket"),  # type: ignore[arg-type]
        ({"function": {"memory_size": 512}}, "function: must be FunctionOptions"),
        ({"function": FunctionOptions(timeout=900)}, "function.timeout: must be a Duration"),  # type: ignore[arg-type]
        ({"schedule": Duration.hours(1)}, "schedule: must be rate("),
        ({"alarms": {}}, "alarms: must be AlarmOptions"),
        ({"alarms": AlarmOptions(topic="arn")}, "alarms.topic: must be a topic"),  # type: ignore[arg-type]
        ({"alarms": AlarmOptions(lag=3600)}, "alarms.lag: must be a Duration"),  # type: ignore[arg-type]
        ({"event_store": True, "channel_arn": None}, "event_store: must be EventStoreOptions"),
        ({"network": NetworkOptions(kong_peers=["sg-1"])}, "network.kong_peers: must be peers"),  # type: ignore[list-item]
        ({"cache": CacheOptions(existing="host")}, "cache.existing: must be ExistingCache"),  # type: ignore[arg-type]
        ({"cache": CacheOptions(serverless=True)}, "cache.serverless: must be ServerlessOptions"),  # type: ignore[arg-type]
        ({"cache": CacheOptions(engine_version=8.1)}, "cache.engine_version: is no version"),  # type: ignore[arg-type]
        ({"encryption_key": SECRET_ARN}, "encryption_key: must be a key"),
        ({"kong_admin_token_secret": 5}, "kong_admin_token_secret: must be a secret"),
        ({"kong_root_ca": b"PEM"}, "kong_root_ca: must be PEM text"),
        (
            {"cache": CacheOptions(existing=ExistingCache(host="cache", username="kong"))},
            "cache.existing.username: is given without password_secret",
        ),
    ],
)
def test_values_of_another_kind(tmp_path: Path, properties: dict[str, Any], problem: str) -> None:
    (found,) = problems(tmp_path, lambda _: properties)
    assert found.startswith(problem)


def test_problems_of_the_alarms_come_with_all_others(tmp_path: Path) -> None:
    found = problems(
        tmp_path, lambda _: {"page_size": 0, "schedule": "rate(3 days)", "alarms": AlarmOptions(evictions=0)}
    )
    assert [problem.partition(":")[0] for problem in found] == ["page_size", "alarms.evictions", "alarms.missed_runs"]
