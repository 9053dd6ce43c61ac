"""The construct in apps that know less, or are built otherwise, than ours: lookups, tokens, nested stacks, stages."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import CfnOutput, CfnParameter, Duration, Environment, Fn, NestedStack, Stack, Stage, TimeZone
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_ssm as ssm
from aws_cdk.assertions import Annotations, Match

from stacks import (
    AlarmOptions,
    CacheOptions,
    DedupeCache,
    EventStoreOptions,
    ExistingCache,
    FunctionOptions,
    Ledger,
    LedgerOptions,
    NetworkOptions,
    ReplicationGroupCache,
    ScheduleOptions,
    ServerlessOptions,
    SettingsError,
)
from stacks.settings.checks import schedule
from tests.infra.synthesis import (
    SECRET_ARN,
    SUBNET_IDS,
    VPC_ID,
    Synthesis,
    foreign_stack,
    integrate,
    new_app,
    resource_statements,
    statements,
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
    assert problem.startswith("kong.admin_api: its port is not known before the deployment")
    app, stack, vpc = foreign_stack(tmp_path / "with")
    trail = integrate(stack, vpc=vpc, **api(stack), network=NetworkOptions(kong_port=8444))
    rules = egress_rules(template_of(app, stack), trail.security_group)
    assert 8444 in [rule["FromPort"] for rule in rules]
    assert {rule["CidrIp"] for rule in rules if "CidrIp" in rule} <= {"0.0.0.0/0", "kong.example.com"}


def test_settings_that_nothing_depends_on_may_be_parameters(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    texts = ("resource_name", "source_name", "external_id", "log_level", "kong_root_ca", "security_group")
    numbers = ("page_size", "parallel_deliveries", "overlap_seconds", "sweep_seconds", "redis_db")

    def parameter(name: str, kind: str = "String") -> CfnParameter:
        return CfnParameter(stack, name.title().replace("_", ""), type=kind)

    pending: dict[str, Any] = {name: parameter(name).value_as_string for name in texts}
    pending |= {name: parameter(name, "Number").value_as_number for name in numbers}
    integrate(
        stack,
        vpc=vpc,
        **pending,
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
        (lambda text, _: {"schedule": text}, "run.schedule: is not known before the deployment"),
        (lambda text, _: {"kong_superadmin": text}, "kong.superadmin: is not known before the deployment"),
        (lambda text, _: {"kong_admin_token_secret": text}, "kong.token_secret: is not known before"),
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
    ("selection", "reason"),
    [
        (
            ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS),
            "There are no 'Private' subnet groups in this VPC",
        ),
        (ec2.SubnetSelection(subnet_group_name="audit"), "There are no subnet groups with name 'audit' in this VPC"),
    ],
)
def test_subnets_that_the_vpc_does_not_have(tmp_path: Path, selection: ec2.SubnetSelection, reason: str) -> None:
    (found,) = problems(
        tmp_path,
        lambda stack: {
            "vpc": ec2.Vpc(stack, "Own", nat_gateways=0, subnet_configuration=two_subnets(ec2.SubnetType.PUBLIC)),
            "subnets": selection,
        },
    )
    assert found.startswith("subnets: this VPC has none of that kind; choose others")
    assert reason in found


# -- a VPC that another account shares

OWNER = "444455556666"


def borrowed_statements(synthesis: Synthesis) -> list[str]:
    (found,) = (
        resources
        for _, effect, actions, resources, _ in statements(synthesis)
        if effect == "Allow" and "CreateNetworkInterface" in actions
    )
    return [arn for arn in found.split() if OWNER in arn]


def test_interfaces_are_made_in_subnets_of_the_account_that_shares_them(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    integrate(
        stack,
        vpc=vpc,
        network=NetworkOptions(vpc_owner_account=OWNER),
        security_group=ec2.SecurityGroup.from_security_group_id(
            stack, "Group", "sg-0123456789abcdef0", allow_all_outbound=False
        ),
    )
    assert set(borrowed_statements(template_of(app, stack))) == {
        *(f"arn:aws:ec2:eu-central-1:{OWNER}:subnet/{subnet}" for subnet in SUBNET_IDS),
        f"arn:aws:ec2:eu-central-1:{OWNER}:security-group/sg-0123456789abcdef0",
    }


@pytest.mark.parametrize(("owner", "borrowed"), [(OWNER, 2), (ACCOUNT, 0)])
def test_a_lookup_tells_whose_vpc_it_is(tmp_path: Path, owner: str, borrowed: int) -> None:
    (key,) = LOOKED_UP
    context: dict[str, Any] = {key: {**LOOKED_UP[key], "ownerAccountId": owner}}
    app = new_app(tmp_path, **context)
    stack = Stack(app, "Foreign", env=HERE)
    integrate(stack, vpc=ec2.Vpc.from_lookup(stack, "Vpc", vpc_id=VPC_ID))
    assert len(borrowed_statements(template_of(app, stack))) == borrowed


def test_ones_own_account_shares_nothing(tmp_path: Path) -> None:
    app = new_app(tmp_path)
    stack = Stack(app, "Foreign", env=HERE)
    integrate(stack, vpc=imported_vpc(stack), network=NetworkOptions(vpc_owner_account=ACCOUNT))
    assert borrowed_statements(template_of(app, stack)) == []


def test_endpoints_of_a_shared_vpc_are_its_owners(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        lambda _: {
            "network": NetworkOptions(
                vpc_owner_account=OWNER,
                interface_endpoints=[ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER],
                gateway_endpoints=[ec2.GatewayVpcEndpointAwsService.S3],
            )
        },
    )
    assert [problem.partition(":")[0] for problem in found] == [
        "network.interface_endpoints",
        "network.gateway_endpoints",
    ]
    assert "have its owner create them" in found[0]


# -- ways out


def test_https_can_be_narrowed(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    proxy = ec2.SecurityGroup.from_security_group_id(stack, "Proxy", "sg-0123456789abcdef5")
    trail = integrate(
        stack, vpc=vpc, network=NetworkOptions(https_peers=[ec2.Peer.prefix_list("pl-0123456789abcdef0"), proxy])
    )
    synthesis = template_of(app, stack)
    rules = egress_rules(synthesis, trail.security_group)
    assert {rule["FromPort"] for rule in rules if rule.get("CidrIp") == "0.0.0.0/0"} == {8444}
    separate = [rule["Properties"] for rule in synthesis.of_type("AWS::EC2::SecurityGroupEgress")]
    assert {
        rule.get("DestinationPrefixListId") or rule.get("DestinationSecurityGroupId")
        for rule in [*rules, *separate]
        if rule["FromPort"] == 443
    } == {"pl-0123456789abcdef0", "sg-0123456789abcdef5"}
    (ingress,) = (
        rule["Properties"]
        for rule in synthesis.of_type("AWS::EC2::SecurityGroupIngress")
        if rule["Properties"]["GroupId"] == "sg-0123456789abcdef5"
    )
    assert ingress["FromPort"] == 443


@pytest.mark.parametrize(
    ("group", "remark"),
    [
        (lambda s, _: ec2.SecurityGroup.from_security_group_id(s, "G", "sg-0123456789abcdef0"), "counts as one that"),
        (lambda s, vpc: ec2.SecurityGroup(s, "G", vpc=vpc), "lets everything out, as the CDK makes groups"),
        (
            lambda s, _: ec2.SecurityGroup.from_security_group_id(
                s, "G", "sg-0123456789abcdef0", allow_all_outbound=False
            ),
            "",
        ),
        (lambda s, vpc: ec2.SecurityGroup(s, "G", vpc=vpc, allow_all_outbound=False), ""),
        (lambda *_: "collector", ""),
    ],
)
def test_a_group_that_lets_everything_out_is_remarked(tmp_path: Path, group: Callable[..., Any], remark: str) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    integrate(stack, vpc=vpc, security_group=group(stack, vpc))
    found = Annotations.from_stack(stack).find_warning("*", Match.string_like_regexp("^network.security_group: "))
    assert [remark in str(one.entry.data) for one in found] == ([True] if remark else [])


# -- keys

KEY = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"
TOKEN_ARN = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:kong-a1B2c3"


def decrypting(synthesis: Synthesis) -> list[tuple[str, str]]:
    return [(one[3], one[4]) for one in statements(synthesis) if one[2] == "kms:Decrypt"]


VIA_SECRETS_MANAGER = '{"StringEquals": {"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com"}}'


@pytest.mark.parametrize("secret", ["kong/token", TOKEN_ARN, "secret"])
@pytest.mark.parametrize("key", [KEY, "key"])
def test_a_token_secret_under_a_customers_key_can_be_read(tmp_path: Path, secret: str, key: str) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    integrate(
        stack,
        vpc=vpc,
        kong_admin_token_secret=secretsmanager.Secret.from_secret_name_v2(stack, "Token", "kong/token")
        if secret == "secret"
        else secret,
        kong_admin_token_key=kms.Key.from_key_arn(stack, "Key", KEY) if key == "key" else key,
    )
    assert decrypting(template_of(app, stack)) == [(KEY, VIA_SECRETS_MANAGER)]


@pytest.mark.parametrize(
    ("properties", "problem"),
    [
        ({"kong_admin_token_key": KEY}, "kong.token_key: is given without kong.token_secret"),
        (
            {"kong_admin_token_key": "0123", "kong_admin_token_secret": "kong"},
            "kong.token_key: is no ARN of a KMS key; give the key's ARN",
        ),
        (
            {"kong_admin_token_key": KEY.replace("key/", "alias/"), "kong_admin_token_secret": "kong"},
            "kong.token_key: is an alias, and policies name the key itself",
        ),
        (
            {"kong_admin_token_key": KEY.replace("eu-central-1", "us-east-1"), "kong_admin_token_secret": "kong"},
            "kong.token_key: is in another region than the stack",
        ),
    ],
)
def test_a_token_key_that_will_not_do(tmp_path: Path, properties: dict[str, Any], problem: str) -> None:
    (found,) = problems(tmp_path, lambda _: properties)
    assert found.startswith(problem)


def alias_of(stack: Stack) -> kms.IKey:
    return kms.Alias.from_alias_name(stack, "Alias", "alias/theirs")


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda key, _: {"encryption_key": key}, "encryption_key"),
        (
            lambda key, _: {"kong_admin_token_key": key, "kong_admin_token_secret": "kong"},
            "kong.token_key",
        ),
        (
            lambda key, _: {"event_store": EventStoreOptions(encryption_key=key), "channel_arn": None},
            "CloudTrailLake.event_store.encryption_key",
        ),
        (
            lambda key, stack: {
                "kong_admin_token_secret": secretsmanager.Secret.from_secret_attributes(
                    stack, "Token", secret_complete_arn=TOKEN_ARN, encryption_key=key
                )
            },
            "kong.token_secret",
        ),
        (
            lambda key, stack: {
                "ledger": LedgerOptions(
                    existing_bucket=s3.Bucket.from_bucket_attributes(
                        stack, "Bucket", bucket_name="theirs", encryption_key=key
                    )
                )
            },
            "ledger.existing_bucket",
        ),
        (
            lambda key, stack: {
                "function": FunctionOptions(dead_letter_queue=sqs.Queue(stack, "Queue", encryption_master_key=key))
            },
            "function.dead_letter_queue",
        ),
        (
            lambda key, stack: {
                "cache": CacheOptions(
                    existing=ExistingCache(
                        host="cache",
                        password_secret=secretsmanager.Secret.from_secret_attributes(
                            stack, "Password", secret_complete_arn=TOKEN_ARN, encryption_key=key
                        ),
                    )
                )
            },
            "cache.existing.password_secret",
        ),
    ],
)
def test_an_alias_known_by_its_name_is_refused_wherever_a_key_is_given(
    tmp_path: Path, make: Callable[..., dict[str, Any]], place: str
) -> None:
    (found,) = problems(tmp_path, lambda stack: make(alias_of(stack), stack))
    assert found.startswith(f"{place}: is an alias known by its name alone, and policies name the key itself")


def test_an_alias_of_a_key_of_the_same_app_stands_for_the_key(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    alias = kms.Key(stack, "Key").add_alias("alias/ours")
    integrate(stack, vpc=vpc, encryption_key=alias, kong_superadmin=True)
    synthesis = template_of(app, stack)
    key = "<AWS::KMS::Key.Arn>"
    assert synthesis.flat(synthesis.only("AWS::Logs::LogGroup")["Properties"]["KmsKeyId"]) == key
    assert synthesis.flat(synthesis.only("AWS::ElastiCache::ReplicationGroup")["Properties"]["KmsKeyId"]) == key
    assert decrypting(synthesis) == [(key, VIA_SECRETS_MANAGER)]


def key_policy(synthesis: Synthesis, service: str) -> list[tuple[str, str]]:
    return [
        (actions, condition)
        for kind, principal, _, actions, _, condition in resource_statements(synthesis)
        if kind == "AWS::KMS::Key" and principal == service
    ]


def test_keys_of_the_same_app_let_the_services_in(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    key = kms.Key(stack, "Key")
    topic = sns.Topic(stack, "Topic", master_key=key)
    integrate(
        stack,
        vpc=vpc,
        channel_arn=None,
        encryption_key=key,
        event_store=EventStoreOptions(encryption_key=key),
        alarms=AlarmOptions(topic=topic),
    )
    synthesis = template_of(app, stack)
    # Keys of event data stores take no conditions on who asks.
    assert key_policy(synthesis, "cloudtrail.amazonaws.com") == [
        ("kms:Decrypt kms:DescribeKey kms:GenerateDataKey", "")
    ]
    assert key_policy(synthesis, "cloudwatch.amazonaws.com") == [("kms:Decrypt kms:GenerateDataKey*", "")]
    ((_, condition),) = key_policy(synthesis, "logs.amazonaws.com")
    assert "kms:EncryptionContext:aws:logs:arn" in condition
    assert Annotations.from_stack(stack).find_warning("*", Match.string_like_regexp("policy is out of reach")) == []


def test_keys_from_elsewhere_are_remarked(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    key = kms.Key.from_key_arn(stack, "Key", KEY)
    integrate(
        stack,
        vpc=vpc,
        channel_arn=None,
        encryption_key=key,
        event_store=EventStoreOptions(encryption_key=key),
        alarms=AlarmOptions(topic=sns.Topic(stack, "Topic", master_key=key)),
    )
    found = Annotations.from_stack(stack).find_warning("*", Match.string_like_regexp("policy is out of reach"))
    assert sorted(str(one.entry.data).split(":")[0] for one in found) == [
        "CloudTrailLake.event_store.encryption_key",
        "alarms.topic",
        "encryption_key",
    ]
    assert "has to let logs.amazonaws.com use kms:Encrypt" in "".join(str(one.entry.data) for one in found)


# -- where the CDK expects something that connects, or that is granted something


def test_the_trail_connects_and_is_granted_as_anything_of_the_cdk(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(stack, vpc=vpc)
    kong = ec2.SecurityGroup(stack, "Kong", vpc=vpc)
    kong.connections.allow_from(trail, ec2.Port.tcp(8444), "The collector")
    assert trail.cache is not None
    kong.connections.allow_to_default_port(trail.cache)
    kms.Key(stack, "Key").grant_decrypt(trail)
    synthesis = template_of(app, stack)
    ingress = [rule["Properties"] for rule in synthesis.of_type("AWS::EC2::SecurityGroupIngress")]
    assert {(rule["Description"], rule["FromPort"]) for rule in ingress} >= {("The collector", 8444)}
    assert 6380 in {rule["FromPort"] for rule in ingress}
    assert [one[3] for one in statements(synthesis) if one[2] == "kms:Decrypt"] == ["<AWS::KMS::Key.Arn>"]


def test_cache_and_ledger_of_another_app_are_shared(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    cache = DedupeCache.from_attributes(
        stack,
        "Cache",
        host="master.theirs.abc123.euc1.cache.amazonaws.com",
        port=6380,
        username="kong-audit-user",
        iam_cache="theirs",
        client_security_group=ec2.SecurityGroup.from_security_group_id(
            stack, "Client", "sg-0123456789abcdef4", allow_all_outbound=False
        ),
    )
    ledger = Ledger.from_attributes(
        stack,
        "Ledger",
        bucket_name="theirs",
        prefix="audit",
        encryption_key=kms.Key.from_key_arn(stack, "Key", KEY),
    )
    trail = integrate(stack, vpc=vpc, cache=cache, ledger=ledger, source_name="ours")
    synthesis = template_of(app, stack)

    assert not any(
        "ElastiCache" in one["Type"] or "S3" in one["Type"] for one in synthesis.template["Resources"].values()
    )
    variables = synthesis.only(FUNCTION)["Properties"]["Environment"]["Variables"]
    assert variables["LEDGER"] == "s3://theirs/audit"
    assert {name: text for name, text in variables.items() if name.startswith("REDIS_")} == {
        "REDIS_HOST": "master.theirs.abc123.euc1.cache.amazonaws.com:6380",
        "REDIS_TLS": "true",
        "REDIS_DB": "0",
        "REDIS_USERNAME": "kong-audit-user",
        "REDIS_IAM_CACHE": "theirs",
        "REDIS_SERVERLESS": "false",
    }
    assert "sg-0123456789abcdef4" in synthesis.only(FUNCTION)["Properties"]["VpcConfig"]["SecurityGroupIds"]
    granted = {one[2]: one[3] for one in statements(synthesis)}
    place = "arn:aws:elasticache:eu-central-1:<AWS::AccountId>"
    assert set(granted["elasticache:Connect"].split()) == {
        f"{place}:replicationgroup:theirs",
        f"{place}:user:kong-audit-user",
    }
    assert granted["s3:GetObject s3:PutObject"] == "arn:aws:s3:::theirs/audit/*"
    assert granted["kms:Decrypt kms:GenerateDataKey"] == KEY
    # Whose cache it is, that app watches it.
    assert not {name for name in trail.observability.alarms if name.startswith(("cache_memory", "evictions"))}


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"host": "a:1"}, "cache.existing.host: must be a host name"),
        ({"host": "a", "iam_cache": "theirs"}, "cache.existing.iam_cache: the function signs in by IAM as username"),
        (
            {"host": "a", "iam_cache": "theirs", "username": "kong", "tls": False},
            "cache.existing.iam_cache: the function signs in by IAM as username, by TLS",
        ),
        ({"host": "a", "iam_cache": "Theirs", "username": "k"}, "cache.existing.iam_cache: must be the name of an"),
    ],
)
def test_attributes_that_will_not_do(tmp_path: Path, attributes: dict[str, Any], problem: str) -> None:
    _, stack, _ = foreign_stack(tmp_path)
    with pytest.raises(SettingsError, match=problem):
        DedupeCache.from_attributes(stack, "Cache", **attributes)


def test_the_token_is_filled_by_a_command_that_an_app_can_put_out(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(stack, vpc=vpc, kong_superadmin=True)
    CfnOutput(stack, "FillToken", value=str(trail.fill_token_command))
    synthesis = template_of(app, stack)
    command = synthesis.flat(synthesis.template["Outputs"]["FillToken"]["Value"])
    assert command.startswith('read -rs TOKEN; printf %s "$TOKEN" | aws secretsmanager put-secret-value --region ')
    assert "--secret-id <AWS::SecretsManager::Secret.Ref> --secret-string file:///dev/stdin" in command
    for number, secret in enumerate([None, "kong"]):
        other = integrate(stack, f"T{number}", vpc=vpc, kong_admin_token_secret=secret, source_name=f"s{number}")
        assert other.fill_token_command is None


# -- variables


@pytest.mark.parametrize(
    ("name", "value", "note"),
    [
        (
            "OVERLAP_SECOND",
            "60",
            "is none of the function's variables, and changes nothing; did you mean OVERLAP_SECONDS?",
        ),
        ("overlap_sceonds", "60", "did you mean OVERLAP_SECONDS?"),
        ("EXTERNALID", "x", "did you mean EXTERNAL_ID?"),
        ("OUR_API_KEY", "abc", "looks like a secret by its name"),
        ("DB_PASSWORD", "abc", "looks like a secret by its name"),
        ("GITHUB_TOKEN", "abc", "looks like a secret by its name"),
        ("GITHUB_TOKEN", "arn:aws:secretsmanager:eu-central-1:111122223333:secret:x", ""),
        ("TOKEN_TTL_SECONDS", "60", ""),
        ("HTTPS_PROXY", "http://proxy:3128", ""),
        ("AWS_ENDPOINT_URL_CLOUDTRAIL_DATA", "https://x", ""),
    ],
)
def test_a_variable_that_may_be_meant_otherwise_is_remarked(tmp_path: Path, name: str, value: str, note: str) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    integrate(stack, vpc=vpc, lambda_env={name: value})
    found = Annotations.from_stack(stack).find_warning("*", Match.string_like_regexp(f"^function.environment {name}: "))
    assert [note in str(one.entry.data) for one in found] == ([True] if note else [])
    assert "abc" not in "".join(str(one.entry.data) for one in found)


@pytest.mark.parametrize("name", ["KONG_ADMIN_TOKN", "kong_admin_tokens", "REDIS_PASWORD"])
def test_a_misspelt_secret_is_refused_as_the_right_one_is(tmp_path: Path, name: str) -> None:
    (found,) = problems(tmp_path, lambda _: {"lambda_env": {name: "planted"}})
    assert found.startswith(f"function.environment {name}: looks like ")
    assert "planted" not in found


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
    accounts = {"First": ACCOUNT, "Second": "444455556666", "Third": "777788889999"}
    stacks = [Stack(app, name, env=Environment(account=account, region=REGION)) for name, account in accounts.items()]
    for stack, name in zip(stacks[:2], (None, "second"), strict=True):
        integrate(stack, vpc=imported_vpc(stack), ledger=bucket(stack), resource_name=name)
    with pytest.raises(SettingsError, match="source_name: is the name of another gateway in the same ledger"):
        integrate(stacks[2], vpc=imported_vpc(stacks[2]), ledger=bucket(stacks[2]), resource_name="second")


def test_gateways_of_one_name_in_one_account_are_refused(tmp_path: Path) -> None:
    """Metrics and alarms go by the name, and alarms of one name could not be created twice."""
    app = new_app(tmp_path)
    accounts = {"First": ACCOUNT, "Second": ACCOUNT, "Third": "444455556666"}
    stacks = {
        name: Stack(app, name, env=Environment(account=account, region=REGION)) for name, account in accounts.items()
    }
    for name in ("First", "Third"):
        integrate(stacks[name], vpc=imported_vpc(stacks[name]))
    with pytest.raises(SettingsError, match="source_name: is the name of another gateway in this account and region"):
        integrate(stacks["Second"], vpc=imported_vpc(stacks["Second"]))


# -- schedules


WEEK = 7 * 86_400


@pytest.mark.parametrize(
    ("expression", "shortest_seconds", "longest_seconds"),
    [
        ("rate(1 hours)", 3600, 3600),
        ("cron(0 * * * ? *)", 3600, 3600),
        ("cron(*/5 * * * ? *)", 300, 300),
        ("cron(0/20 8-18/2 * * ? *)", 1200, 13 * 3600 + 20 * 60),
        ("cron(30 9,17 ? * * *)", 8 * 3600, 16 * 3600),
        ("cron(0 22-2/2 * * ? *)", 2 * 3600, 20 * 3600),
        ("cron(0 3 * * ? *)", 86_400, 86_400),
        ("cron(0 9 ? * MON-FRI *)", 86_400, 3 * 86_400),
        ("cron(0 9 ? * 2-6 *)", 86_400, 3 * 86_400),
        ("cron(0 9 ? * fri-mon *)", 86_400, 4 * 86_400),
        ("cron(0 9 ? * SUN *)", WEEK, WEEK),
        ("cron(0 9 ? * L *)", WEEK, WEEK),
        ("cron(0 9 1 * ? *)", 28 * 86_400, 31 * 86_400),
        ("cron(0 9 L * ? *)", 28 * 86_400, 31 * 86_400),
        ("cron(0 9 L-1 * ? *)", 28 * 86_400, 31 * 86_400),
        ("cron(0 9 LW * ? *)", 28 * 86_400, 33 * 86_400),
        ("cron(0 9 15W * ? *)", 28 * 86_400, 32 * 86_400),
        ("cron(0 9 31W * ? *)", 29 * 86_400, 63 * 86_400),
        ("cron(0 9 ? * 6L *)", 28 * 86_400, 35 * 86_400),
        ("cron(0 9 ? * 3#2 *)", 28 * 86_400, 35 * 86_400),
        ("cron(0 0 1 JAN,JUL ? *)", 181 * 86_400, 184 * 86_400),
        ("cron(0 0 29 2 ? *)", 1461 * 86_400, 1461 * 86_400),
        ("cron(0 0 1 1 ? 2026-2027)", 365 * 86_400, 365 * 86_400),
    ],
)
def test_how_far_apart_the_times_of_a_schedule_are(
    expression: str, shortest_seconds: int, longest_seconds: int
) -> None:
    found = schedule(expression)
    assert (found.shortest_seconds, found.longest_seconds) == (shortest_seconds, longest_seconds)


def test_weekdays_next_to_a_day_stay_within_their_month() -> None:
    days = {date.fromordinal(day) for day in schedule("cron(0 9 1W * ? *)").days}
    assert date(2026, 8, 3) in days, "the 1st is a Saturday, so it is the Monday after"
    days = {date.fromordinal(day) for day in schedule("cron(0 9 31W * ? *)").days}
    assert date(2026, 5, 29) in days, "the 31st is a Sunday, so it is the Friday before"
    assert not [day for day in days if day.month == 6], "June has no 31st"


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("cron(99 99 * * ? *)", ["minutes must be from 0 to 59", "hours must be from 0 to 23"]),
        ("cron(60 * * * ? *)", ["minutes must be from 0 to 59"]),
        ("cron(0 24 * * ? *)", ["hours must be from 0 to 23"]),
        ("cron(* 59 * * ? *)", ["hours must be from 0 to 23"]),
        ("cron(0 L * * ? *)", ["hours must be from 0 to 23"]),
        ("cron(0/0 * * * ? *)", ["minutes must be from 0 to 59"]),
        ("cron(0/60 * * * ? *)", ["minutes must be from 0 to 59"]),
        ("cron(/5 * * * ? *)", ["minutes must be from 0 to 59"]),
        ("cron(0,,5 * * * ? *)", ["minutes must be from 0 to 59"]),
        ("cron(0 0 0 * ? *)", ["days of the month must be from 1 to 31"]),
        ("cron(0 0 32W * ? *)", ["days of the month must be from 1 to 31"]),
        ("cron(0 0 1 13 ? *)", ["months must be from 1 to 12, e.g. 1, JAN-MAR or 1/3"]),
        ("cron(0 0 1 JANUARY ? *)", ["months must be from 1 to 12"]),
        ("cron(0 0 ? * 0 *)", ["days of the week must be from 1 to 7"]),
        ("cron(0 0 ? * 8L *)", ["days of the week must be from 1 to 7"]),
        ("cron(0 0 ? * 3#6 *)", ["days of the week must be from 1 to 7"]),
        ("cron(0 0 ? * 3#1,6#3 *)", ["days of the week must be from 1 to 7"]),
        ("cron(0 0 1 1 ? 1969)", ["years must be from 1970 to 2199"]),
        ("cron(0 0 1 * MON *)", ["one of the two days must be ?"]),
        ("cron(0 0 * * * *)", ["one of the two days must be ?"]),
        ("cron(0 0 ? * ? *)", ["one of the two days must be ?"]),
        (
            "cron(x x x x x x)",
            ["minutes", "hours", "days of the month", "months", "days of the week", "years", "one of"],
        ),
        ("cron(0 0 30 2 ? *)", ["never comes, or comes once"]),
        ("cron(0 0 1 1 ? 2027)", ["never comes, or comes once"]),
        ("cron(0 0 * * ?)", ["must be rate(NUMBER minutes|hours|days) or cron(SIX FIELDS)"]),
        ("cron(0 0 * * ? * *)", ["must be rate("]),
        ("rate(0 hours)", ["must be rate("]),
        ("rate(5 seconds)", ["must be rate("]),
    ],
)
def test_a_schedule_that_eventbridge_refuses(expression: str, parts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"must be|never comes") as raised:
        schedule(expression)
    message = str(raised.value).partition("YEAR): ")[2] or str(raised.value)
    assert [part[: len(wanted)] for part, wanted in zip(message.split("; "), parts, strict=False)] == parts
    assert len(parts) == 1 or len(message.split("; ")) == len(parts)


def test_a_time_zones_clock_adds_an_hour(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    daily = scheduler.ScheduleExpression.cron(hour="3", minute="0", time_zone=TimeZone.EUROPE_BERLIN)
    assert integrate(stack, vpc=vpc, schedule=daily).schedule_period.to_hours() == 25
    utc = scheduler.ScheduleExpression.cron(hour="3", minute="0", time_zone=TimeZone.ETC_UTC)
    assert integrate(stack, "Other", vpc=vpc, schedule=utc, source_name="b").schedule_period.to_hours() == 24
    app.synth()


@pytest.mark.parametrize(
    ("expression", "held_back_seconds", "tried_seconds"),
    [
        ("rate(1 minute)", 60, 60),
        ("cron(0/20 8-18 * * ? *)", 1200, 1200),
        ("rate(1 day)", 21_600, 86_400),
        ("cron(0 3 ? * SUN *)", 21_600, 86_400),
        ("cron(0 3 1 * ? *)", 21_600, 86_400),
    ],
)
def test_an_event_is_held_back_until_the_next_tick_at_most(
    tmp_path: Path, expression: str, held_back_seconds: int, tried_seconds: int
) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    integrate(stack, vpc=vpc, schedule=expression)
    synthesis = template_of(app, stack)
    invoke = synthesis.only("AWS::Lambda::EventInvokeConfig")["Properties"]
    retries = synthesis.only("AWS::Scheduler::Schedule")["Properties"]["Target"]["RetryPolicy"]
    assert (invoke["MaximumEventAgeInSeconds"], retries["MaximumEventAgeInSeconds"]) == (
        held_back_seconds,
        tried_seconds,
    )


def test_a_schedule_that_cannot_be_watched_is_remarked_unless_it_is_off(tmp_path: Path) -> None:
    remark = Match.string_like_regexp("alarms.missed_runs: cannot be watched")
    app = new_app(tmp_path)
    for name, enabled in (("On", True), ("Off", False)):
        stack = Stack(app, name, env=Environment(account=ACCOUNT, region=REGION))
        integrate(
            stack,
            vpc=imported_vpc(stack),
            source_name=name,
            schedule="cron(0 3 ? * SUN *)",
            schedule_options=ScheduleOptions(enabled=enabled),
        )
        assert len(Annotations.from_stack(stack).find_warning("*", remark)) == int(enabled)


def test_what_is_shared_is_watched_once(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    first = integrate(stack, "First", vpc=vpc, source_name="first")
    second = integrate(stack, "Second", vpc=vpc, source_name="second", cache=first.cache)
    other = integrate(stack, "Third", source_name="third", vpc=vpc)
    about_the_cache = {"cache_memory_percent_1", "cache_memory_percent_2", "evictions_1", "evictions_2"}
    assert about_the_cache <= first.observability.alarms.keys()
    assert first.observability.alarms.keys() - second.observability.alarms.keys() == about_the_cache
    assert other.observability.alarms.keys() == first.observability.alarms.keys()
    app.synth()


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
        ({"schedule": Duration.hours(1)}, "run.schedule: must be rate("),
        ({"alarms": {}}, "alarms: must be AlarmOptions"),
        ({"alarms": AlarmOptions(topic="arn")}, "alarms.topic: must be a topic"),  # type: ignore[arg-type]
        ({"alarms": AlarmOptions(lag=3600)}, "alarms.lag: must be a Duration"),  # type: ignore[arg-type]
        ({"event_store": True, "channel_arn": None}, "CloudTrailLake.event_store: must be EventStoreOptions"),
        ({"network": NetworkOptions(kong_peers=["sg-1"])}, "network.kong_peers: must be a list of peers"),  # type: ignore[list-item]
        ({"cache": CacheOptions(existing="host")}, "cache.existing: must be ExistingCache"),  # type: ignore[arg-type]
        ({"cache": CacheOptions(serverless=True)}, "cache.serverless: must be ServerlessOptions"),  # type: ignore[arg-type]
        ({"cache": CacheOptions(engine_version=8.1)}, "cache.engine_version: must be a version as text"),  # type: ignore[arg-type]
        ({"encryption_key": SECRET_ARN}, "encryption_key: must be a key"),
        ({"kong_admin_token_secret": 5}, "kong.token_secret: must be a secret"),
        ({"kong_root_ca": b"PEM"}, "kong.root_ca: must be text"),
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
    assert [problem.partition(":")[0] for problem in found] == ["run.page_size", "alarms.evictions"]
