"""The groups of options: what each makes of the template, and what does not go together."""

from pathlib import Path
from typing import Any

import pytest
from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from stacks import (
    CacheOptions,
    CloudTrailLake,
    EventStoreOptions,
    ExistingCache,
    FunctionOptions,
    LedgerOptions,
    NetworkOptions,
    ScheduleOptions,
    ServerlessOptions,
    SettingsError,
)
from stacks.parts.lake_dashboard import QUERIES
from tests.infra.synthesis import (
    CHANNEL_ARN,
    KEY_ARN,
    SHAPES,
    SUBNET_IDS,
    Shaped,
    Synthesis,
    foreign_stack,
    function_environment,
    integrate,
    synthesise,
    template_of,
)

API = "https://kong-admin.example.internal:8444"
FUNCTION = "AWS::Lambda::Function"
GROUP = "AWS::ElastiCache::ReplicationGroup"
SERVERLESS = "AWS::ElastiCache::ServerlessCache"
STORE = "AWS::CloudTrail::EventDataStore"


def build(outdir: Path, **properties: Any) -> Synthesis:
    app, stack, vpc = foreign_stack(outdir)
    integrate(stack, vpc=vpc, **properties)
    return template_of(app, stack)


def problems(outdir: Path, **properties: Any) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        build(outdir, **properties)
    return list(raised.value.problems)


def bucket(stack: Stack) -> s3.IBucket:
    return s3.Bucket.from_bucket_name(stack, "B", "their-bucket")


EXISTING = ExistingCache(host="cache.example.internal")


@pytest.mark.parametrize(
    ("properties", "problem"),
    [
        ({"cache": CacheOptions(existing=EXISTING, node_type="cache.t4g.small")}, "cache: existing is given, and with"),
        ({"cache": CacheOptions(existing=EXISTING, serverless=ServerlessOptions())}, "cache: existing is given"),
        ({"cache": CacheOptions(existing=ExistingCache(host="a:1"))}, "cache.existing.host: must be a host name"),
        ({"cache": CacheOptions(existing=ExistingCache(host="a", port=0))}, "cache.existing.port: must be a whole"),
        (
            {"cache": CacheOptions(serverless=ServerlessOptions(), node_type="cache.t4g.small")},
            "cache.node_type: a serverless cache has none",
        ),
        ({"cache": CacheOptions(serverless=ServerlessOptions(), port=6380)}, "cache.port: a serverless cache has none"),
        (
            {"cache": CacheOptions(serverless=ServerlessOptions(), engine_version="8.1")},
            "cache.engine_version: is no version of valkey",
        ),
        ({"cache": CacheOptions(serverless=ServerlessOptions(max_storage_gib=0))}, "cache.serverless.max_storage_gib"),
        (
            {"cache": CacheOptions(serverless=ServerlessOptions(max_ecpu_per_second=1))},
            "cache.serverless.max_ecpu_per_second",
        ),
        ({"cache": CacheOptions(serverless=ServerlessOptions()), "redis_db": 1}, "cache.database: must be 0"),
        ({"redis_db": 16}, "cache.database: must be from 0 to 15, the databases of a new cache"),
        ({"cache": CacheOptions(engine="memcached")}, "cache.engine: must be one of"),  # type: ignore[arg-type]
        ({"cache": CacheOptions(engine="redis", engine_version="6.2")}, "cache.engine_version: is no version of redis"),
        ({"cache": CacheOptions(engine_version="8")}, "cache.engine_version: is no version of valkey"),
        ({"cache": CacheOptions(node_type="t4g.micro")}, "cache.node_type: must be a type of node"),
        ({"cache": CacheOptions(authentication="none")}, "cache.authentication: must be one"),  # type: ignore[arg-type]
        ({"cache": CacheOptions(port=80)}, "cache.port: must be a whole number from 1150"),
        ({"ledger": LedgerOptions(prefix="/a/")}, "ledger.prefix: must be"),
        ({"function": FunctionOptions(memory_size=64)}, "function.memory_size: must be a whole number of MiB from 128"),
        (
            {"function": FunctionOptions(timeout=Duration.minutes(16))},
            "function.timeout: must be a Duration from 60 to 900",
        ),
        (
            {"function": FunctionOptions(max_event_age=Duration.hours(7))},
            "function.max_event_age: must be a Duration from",
        ),
        ({"function": FunctionOptions(reserved_concurrent_executions=0)}, "function.reserved_concurrent_executions"),
        ({"function": FunctionOptions(runtime=lambda_.Runtime.PYTHON_3_9)}, "function.runtime: must be a Python"),
        ({"function": FunctionOptions(runtime=lambda_.Runtime.NODEJS_22_X)}, "function.runtime: must be a Python"),
        ({"schedule_options": ScheduleOptions(retry_attempts=186)}, "run.schedule_options.retry_attempts: must be"),
        (
            {"schedule_options": ScheduleOptions(max_event_age=Duration.seconds(1))},
            "run.schedule_options.max_event_age: must be a Duration from",
        ),
        ({"network": NetworkOptions(kong_port=0)}, "network.kong_port: must be"),
        (
            {"event_store": EventStoreOptions()},
            "CloudTrailLake.channel_arn: is given, and event_store makes another one",
        ),
        (
            {"event_store": EventStoreOptions(source="Kong"), "channel_arn": None},
            "CloudTrailLake.event_store.source: must be one of",
        ),
        (
            {"event_store": EventStoreOptions(billing_mode="CHEAP"), "channel_arn": None},
            "CloudTrailLake.event_store.billing_mode: must be one of",
        ),
        (
            {"event_store": EventStoreOptions(retention=Duration.days(3)), "channel_arn": None},
            "CloudTrailLake.event_store.retention: must be between 7 and 3653 days",
        ),
        (
            {
                "event_store": EventStoreOptions(billing_mode="FIXED_RETENTION_PRICING", retention=Duration.days(3000)),
                "channel_arn": None,
            },
            "CloudTrailLake.event_store.retention: must be between 7 and 2557 days",
        ),
        (
            {"event_store": EventStoreOptions(name="a b"), "channel_arn": None},
            "CloudTrailLake.event_store.name: must be",
        ),
    ],
)
def test_one_problem(tmp_path: Path, properties: dict[str, Any], problem: str) -> None:
    (found,) = problems(tmp_path, **properties)
    assert found.startswith(problem)


def test_what_is_brought_along_excludes_settings_of_a_new_one(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    their_log = logs.LogGroup.from_log_group_name(stack, "L", "their-log")
    fifo = sqs.Queue.from_queue_arn(stack, "Q", "arn:aws:sqs:eu-central-1:111122223333:queue.fifo")
    with pytest.raises(SettingsError) as raised:
        integrate(
            stack,
            "Trail",
            vpc=vpc,
            kong_admin_api=None,
            destinations=[CloudTrailLake()],
            cache=CacheOptions(existing=EXISTING, port=6381),
            ledger=LedgerOptions(existing_bucket=bucket(stack), removal_policy=RemovalPolicy.DESTROY),
            function=FunctionOptions(
                log_group=their_log, log_retention=logs.RetentionDays.ONE_DAY, dead_letter_queue=fifo
            ),
        )
    assert [problem.partition(",")[0] for problem in raised.value.problems] == [
        "kong.admin_api: is missing; give the URL of the Admin API as the function reaches it",
        "CloudTrailLake.channel_arn: is missing; give the ARN of the CloudTrail Lake channel",
        "cache: existing is given",
        "ledger: existing_bucket is given",
        "function: log_group is given",
        "function.dead_letter_queue: is a FIFO queue",
    ]
    assert stack.node.find_child("Trail").node.children == []


@pytest.mark.parametrize(
    ("options", "family", "version"),
    [
        (CacheOptions(), "valkey8", "8.1"),
        (CacheOptions(engine_version="7.2"), "valkey7", "7.2"),
        (CacheOptions(engine_version="9.0"), "valkey9", "9.0"),
        (CacheOptions(engine="redis"), "redis7", "7.1"),
    ],
)
def test_version_and_parameter_family_go_together(
    tmp_path: Path, options: CacheOptions, family: str, version: str
) -> None:
    synthesis = build(tmp_path, cache=options)
    assert synthesis.only(GROUP)["Properties"]["EngineVersion"] == version
    parameters = synthesis.only("AWS::ElastiCache::ParameterGroup")["Properties"]
    assert parameters["CacheParameterGroupFamily"] == family
    assert parameters["Properties"] == {"maxmemory-policy": "noeviction"}


def test_signing_in_by_iam_stores_no_secret(shaped: Shaped) -> None:
    synthesis = shaped("default")
    assert synthesis.of_type("AWS::SecretsManager::Secret") == []
    group = synthesis.only(GROUP)["Properties"]
    assert "AuthToken" not in group
    assert [synthesis.flat(one) for one in group["UserGroupIds"]] == ["<AWS::ElastiCache::UserGroup.Ref>"]
    user = synthesis.only("AWS::ElastiCache::User")["Properties"]
    assert user["AuthenticationMode"] == {"Type": "iam"}
    assert user["UserId"] == user["UserName"] == user["UserId"].lower()
    assert "-@all" in user["AccessString"]
    assert "~kong-cloudtrail:*" in user["AccessString"]


def test_a_password_is_generated_and_never_in_the_template(shaped: Shaped) -> None:
    synthesis = shaped("password")
    secret = synthesis.only("AWS::SecretsManager::Secret")["Properties"]["GenerateSecretString"]
    assert (secret["PasswordLength"], secret["ExcludePunctuation"]) == (64, True)
    group = synthesis.only(GROUP)["Properties"]
    token = synthesis.flat(group["AuthToken"])
    assert token == "{{resolve:secretsmanager:<AWS::SecretsManager::Secret.Ref>:SecretString:::}}"
    assert "UserGroupIds" not in group
    assert synthesis.of_type("AWS::ElastiCache::User") == []


def test_redis_oss_switches_the_default_user_off(shaped: Shaped) -> None:
    users = [user["Properties"] for user in shaped("Redis OSS").of_type("AWS::ElastiCache::User")]
    (default,) = (user for user in users if user["UserName"] == "default")
    assert default["AccessString"] == "off -@all"
    assert len(shaped("Redis OSS").only("AWS::ElastiCache::UserGroup")["Properties"]["UserIds"]) == 2


@pytest.mark.parametrize("shape", ["serverless", "serverless, password"])
def test_a_serverless_cache_has_limits_and_users(shaped: Shaped, shape: str) -> None:
    synthesis = shaped(shape)
    cache = synthesis.only(SERVERLESS)["Properties"]
    storage = 1 if shape == "serverless" else 5
    assert cache["CacheUsageLimits"] == {
        "DataStorage": {"Maximum": storage, "Unit": "GB"},
        "ECPUPerSecond": {"Maximum": 5000},
    }
    assert synthesis.flat(cache["UserGroupId"]) == "<AWS::ElastiCache::UserGroup.Ref>"
    assert (cache["MajorEngineVersion"], cache["SubnetIds"]) == ("8", list(SUBNET_IDS))
    assert len(cache["ServerlessCacheName"]) <= 40
    assert synthesis.of_type(GROUP) == synthesis.of_type("AWS::ElastiCache::SubnetGroup") == []
    environment = function_environment(synthesis)
    assert environment["REDIS_HOST"] == "kong.serverless.euc1.cache.amazonaws.com:6379"
    assert environment["REDIS_TLS"] == "true"


def test_an_existing_cache(shaped: Shaped) -> None:
    synthesis = shaped("imported")
    assert not any("ElastiCache" in resource["Type"] for resource in synthesis.template["Resources"].values())
    environment = synthesis.only(FUNCTION)["Properties"]["Environment"]["Variables"]
    assert environment["REDIS_HOST"] == "cache.example.internal:6379"
    assert environment["REDIS_TLS"] == "true"
    ingress = [rule["Properties"] for rule in synthesis.of_type("AWS::EC2::SecurityGroupIngress")]
    assert {(rule["GroupId"], rule["SourceSecurityGroupId"], rule["FromPort"]) for rule in ingress} == {
        ("sg-0123456789abcdef1", "sg-0123456789abcdef0", 6379),  # the function, into their cache
        ("sg-0123456789abcdef2", "sg-0123456789abcdef0", 8444),  # the function, into their Kong
    }


def test_a_bare_existing_cache(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    integrate(
        stack,
        "Trail",
        vpc=vpc,
        subnets=ec2.SubnetSelection(subnets=vpc.private_subnets[:1]),  # one is enough where no cache is created
        kong_admin_api=API,
        channel_arn=CHANNEL_ARN,
        cache=CacheOptions(existing=ExistingCache(host="cache", port=7000, tls=False)),
    )
    synthesis = template_of(app, stack)
    environment = synthesis.only(FUNCTION)["Properties"]["Environment"]["Variables"]
    assert {name for name in environment if name.startswith("REDIS_")} == {"REDIS_HOST", "REDIS_TLS", "REDIS_DB"}
    assert environment["REDIS_TLS"] == "false"
    (group,) = synthesis.of_type("AWS::EC2::SecurityGroup")
    assert ("0.0.0.0/0", 7000) in {
        (rule["CidrIp"], rule["FromPort"]) for rule in group["Properties"]["SecurityGroupEgress"]
    }


def test_everything_imported_creates_the_function_its_clock_and_what_watches_it(shaped: Shaped) -> None:
    kinds = sorted({resource["Type"] for resource in shaped("imported").template["Resources"].values()})
    assert kinds == [
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::CompositeAlarm",
        "AWS::CloudWatch::Dashboard",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::IAM::Policy",
        "AWS::IAM::Role",
        "AWS::Lambda::EventInvokeConfig",
        FUNCTION,
        "AWS::Scheduler::Schedule",
    ]
    function = shaped("imported").only(FUNCTION)["Properties"]
    assert function["LoggingConfig"]["LogGroup"] == "their-log"
    assert function["Environment"]["Variables"]["LEDGER"] == "s3://their-bucket/kong"
    assert function["VpcConfig"]["SecurityGroupIds"] == ["sg-0123456789abcdef0"]


def test_a_customers_key_is_on_everything_that_holds_data(shaped: Shaped) -> None:
    synthesis = shaped("customer's key")
    encrypted = {
        ("AWS::S3::Bucket", "BucketEncryption"),
        ("AWS::SQS::Queue", "KmsMasterKeyId"),
        ("AWS::Logs::LogGroup", "KmsKeyId"),
        ("AWS::SecretsManager::Secret", "KmsKeyId"),
        (GROUP, "KmsKeyId"),
        (FUNCTION, "KmsKeyArn"),
    }
    for kind, name in encrypted:
        resources = synthesis.of_type(kind)
        assert resources
        assert all("Fn::GetAtt" in str(resource["Properties"][name]) for resource in resources), kind


def test_invocation_options_arrive(shaped: Shaped) -> None:
    synthesis = shaped("invocation")
    function = synthesis.only(FUNCTION)["Properties"]
    assert (function["MemorySize"], function["Timeout"], function["Architectures"]) == (512, 300, ["x86_64"])
    assert (function["Runtime"], function["ReservedConcurrentExecutions"]) == ("python3.13", 1)
    assert function["TracingConfig"] == {"Mode": "Active"}
    assert synthesis.only("AWS::Logs::LogGroup")["Properties"]["RetentionInDays"] == 731
    invoke = synthesis.only("AWS::Lambda::EventInvokeConfig")["Properties"]
    assert (invoke["MaximumEventAgeInSeconds"], invoke["MaximumRetryAttempts"]) == (600, 0)
    schedule = synthesis.only("AWS::Scheduler::Schedule")["Properties"]
    assert (schedule["ScheduleExpression"], schedule["State"]) == ("rate(30 minutes)", "DISABLED")
    assert schedule["FlexibleTimeWindow"] == {"MaximumWindowInMinutes": 5, "Mode": "FLEXIBLE"}
    assert schedule["Target"]["RetryPolicy"] == {"MaximumEventAgeInSeconds": 1200, "MaximumRetryAttempts": 0}
    assert schedule["GroupName"] == synthesis.only("AWS::Scheduler::ScheduleGroup")["Properties"]["Name"]
    assert "Group" in str(synthesis.only("AWS::Scheduler::Schedule")["DependsOn"])


def test_ones_own_code(tmp_path: Path) -> None:
    code = lambda_.Code.from_bucket(bucket(foreign_stack(tmp_path / "other")[1]), "function.zip")
    function = build(tmp_path, function=FunctionOptions(code=code)).only(FUNCTION)["Properties"]
    assert function["Code"]["S3Key"] == "function.zip"
    assert function["Handler"] == "kong_cloudtrail.handler.handler"


def test_a_ledger_of_ones_own_making(tmp_path: Path) -> None:
    options = LedgerOptions(prefix="audit/kong", bucket_name="our-ledger", removal_policy=RemovalPolicy.DESTROY)
    synthesis = build(tmp_path, ledger=options, resource_name="collector")
    ledger = synthesis.only("AWS::S3::Bucket")
    assert (ledger["Properties"]["BucketName"], ledger["DeletionPolicy"]) == ("our-ledger", "Delete")
    assert function_environment(synthesis)["LEDGER"] == "s3://kong-ledger-bucket/audit/kong"


def egress(synthesis: Synthesis) -> set[tuple[str, int]]:
    (group,) = (
        group["Properties"]
        for group in synthesis.of_type("AWS::EC2::SecurityGroup")
        if group["Properties"]["GroupDescription"].startswith("Collector")
    )
    names = ("CidrIp", "CidrIpv6", "DestinationPrefixListId", "DestinationSecurityGroupId")
    separate = [rule["Properties"] for rule in synthesis.of_type("AWS::EC2::SecurityGroupEgress")]
    return {
        (str(next(rule[name] for name in names if name in rule)), rule["FromPort"])
        for rule in [*group["SecurityGroupEgress"], *separate]
        if "Cache" not in str(rule)
    }


@pytest.mark.parametrize(
    ("api", "options", "expected"),
    [
        (API, NetworkOptions(), {("0.0.0.0/0", 8444)}),
        ("http://10.1.2.3:8001", NetworkOptions(), {("10.1.2.3/32", 8001)}),
        ("http://[fd00::7]:8001", NetworkOptions(), {("fd00::7/128", 8001)}),
        (API, NetworkOptions(kong_port=9444), {("0.0.0.0/0", 9444)}),
        (
            API,
            NetworkOptions(kong_peers=[ec2.Peer.prefix_list("pl-0123456789abcdef0"), ec2.Peer.ipv4("10.0.0.0/16")]),
            {("pl-0123456789abcdef0", 8444), ("10.0.0.0/16", 8444)},
        ),
    ],
)
def test_where_the_function_may_go(
    tmp_path: Path, api: str, options: NetworkOptions, expected: set[tuple[str, int]]
) -> None:
    assert egress(build(tmp_path, kong_admin_api=api, network=options)) == {*expected, ("0.0.0.0/0", 443)}


def test_endpoints_admit_the_function_only(tmp_path: Path) -> None:
    app, stack, _ = foreign_stack(tmp_path)
    vpc = ec2.Vpc(stack, "Own", max_azs=2)
    integrate(
        stack,
        "Trail",
        vpc=vpc,
        kong_admin_api=API,
        channel_arn=CHANNEL_ARN,
        network=NetworkOptions(
            interface_endpoints=[ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER],
            gateway_endpoints=[ec2.GatewayVpcEndpointAwsService.S3],
        ),
    )
    synthesis = template_of(app, stack)
    endpoints = {
        one["Properties"]["VpcEndpointType"]: one["Properties"] for one in synthesis.of_type("AWS::EC2::VPCEndpoint")
    }
    assert endpoints["Interface"]["ServiceName"] == "com.amazonaws.eu-central-1.secretsmanager"
    assert endpoints["Interface"]["PrivateDnsEnabled"] is True
    assert len(endpoints["Gateway"]["RouteTableIds"]) == 2
    (group,) = (
        group["Properties"]
        for group in synthesis.of_type("AWS::EC2::SecurityGroup")
        if group["Properties"]["GroupDescription"].startswith("Endpoints")
    )
    (rule,) = group["SecurityGroupIngress"]
    assert rule["FromPort"] == 443
    assert "NetworkSecurityGroup" in str(rule["SourceSecurityGroupId"])


def test_no_endpoints_unless_asked_for(shaped: Shaped) -> None:
    assert shaped("default").of_type("AWS::EC2::VPCEndpoint") == []


def test_store_and_channel_have_the_form_that_cloudtrail_asks_for(shaped: Shaped) -> None:
    synthesis = shaped("event store")
    store = synthesis.only(STORE)["Properties"]
    assert (store["MultiRegionEnabled"], store["OrganizationEnabled"]) == (False, False)
    assert store["AdvancedEventSelectors"][0]["FieldSelectors"] == [
        {"Field": "eventCategory", "Equals": ["ActivityAuditLog"]}
    ]
    assert (store["BillingMode"], store["RetentionPeriod"]) == ("EXTENDABLE_RETENTION_PRICING", 366)
    assert store["TerminationProtectionEnabled"] is True
    channel = synthesis.only("AWS::CloudTrail::Channel")["Properties"]
    assert channel["Source"] == "KongGatewayEnterprise"
    assert synthesis.flat(channel["Destinations"][0]["Location"]) == f"<{STORE}.EventDataStoreArn>"
    assert function_environment(synthesis)["CHANNEL_ARN"] == CHANNEL_ARN


CHANNEL = "AWS::CloudTrail::Channel"


def policies_of(synthesis: Synthesis, kind: str) -> tuple[str, str]:
    resource = synthesis.only(kind)
    return resource["DeletionPolicy"], resource["UpdateReplacePolicy"]


def test_what_a_failed_first_deployment_leaves_does_not_block_the_next_one(shaped: Shaped, tmp_path: Path) -> None:
    synthesis = shaped("event store")
    goes, stays = ("RetainExceptOnCreate", "Retain"), ("Retain", "Retain")
    # There can be one channel of each source; the bucket and the log would be left behind, empty.
    assert {policies_of(synthesis, kind) for kind in (CHANNEL, "AWS::S3::Bucket", "AWS::Logs::LogGroup")} == {goes}
    # CloudTrail does not remove a protected store, and the roll-back would fail. So the store stays, and its name is
    # never taken again.
    assert policies_of(synthesis, STORE) == stays
    name = synthesis.flat(synthesis.only(STORE)["Properties"]["Name"])
    assert "<AWS::StackId>" in name
    options = EventStoreOptions(termination_protection=False)
    assert policies_of(build(tmp_path, channel_arn=None, event_store=options), STORE) == goes


def test_a_ledger_that_its_owner_wants_kept_or_gone(tmp_path: Path) -> None:
    for number, policy in enumerate([RemovalPolicy.RETAIN, RemovalPolicy.DESTROY]):
        synthesis = build(tmp_path / str(number), ledger=LedgerOptions(removal_policy=policy))
        assert policies_of(synthesis, "AWS::S3::Bucket")[0] == ("Retain", "Delete")[number]


# -- CloudFormation creates a replacement before it removes the old resource: the two cannot have the same name

# What cannot be changed of resources that have a name, and what the name does about it.
UNCHANGEABLE = {
    SERVERLESS: {"SubnetIds", "KmsKeyId"},  # the name follows from both
    CHANNEL: {"Source"},  # so does this one
    # With a name that the caller gave, and these never change: another VPC has names of its own.
    "AWS::EC2::SecurityGroup": {"GroupDescription", "VpcId"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_cannot_be_changed_of_a_named_resource_is_known(shaped: Shaped, shape: str) -> None:
    for resource in shaped(shape).template["Resources"].values():
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("eu-central-1", resource["Type"]).schema
        given = resource["Properties"].keys()
        fixed = {path.rpartition("/")[2] for path in schema.get("createOnlyProperties", [])} & given
        # A resource is known by its name, or has one of its own choice beside its ARN.
        names = given & {path.rpartition("/")[2] for path in schema["primaryIdentifier"]} | given & {"GroupName"}
        if names or resource["Type"] == CHANNEL:
            known = UNCHANGEABLE.get(resource["Type"], set()) | {"UserName"}  # which is the same as the user's id
            assert fixed - names <= known, resource["Type"]


def test_a_serverless_cache_has_another_name_where_it_is_another_cache(tmp_path: Path) -> None:
    def name_of(folder: str, step: int, key: str | None) -> str:
        app, stack, vpc = foreign_stack(tmp_path / folder)
        integrate(
            stack,
            "Trail",
            vpc=vpc,
            subnets=ec2.SubnetSelection(subnets=vpc.private_subnets[::step]),
            kong_admin_api=API,
            channel_arn=CHANNEL_ARN,
            cache=CacheOptions(serverless=ServerlessOptions()),
            encryption_key=kms.Key.from_key_arn(stack, "Key", key) if key else None,
        )
        return str(template_of(app, stack).only(SERVERLESS)["Properties"]["ServerlessCacheName"])

    names = [
        name_of("a", 1, None),
        name_of("b", -1, None),
        name_of("c", 1, KEY_ARN),
        name_of("d", 1, KEY_ARN.replace("key/0", "key/9")),
    ]
    assert len(set(names)) == 4
    assert name_of("again", 1, None) == names[0]


def test_a_channel_of_another_source_has_another_name(tmp_path: Path) -> None:
    names = [
        build(tmp_path / source, channel_arn=None, event_store=EventStoreOptions(source=source, name="kong-prod")).only(
            CHANNEL
        )["Properties"]["Name"]
        for source in ("KongGatewayEnterprise", "Custom")
    ]
    assert names == ["kong-prod", "kong-prod-custom"]


def test_other_stores(tmp_path: Path) -> None:
    options = EventStoreOptions(
        source="Custom", billing_mode="FIXED_RETENTION_PRICING", termination_protection=False, name="kong-prod"
    )
    synthesis = build(tmp_path, channel_arn=None, event_store=options)
    store = synthesis.only(STORE)["Properties"]
    assert (store["RetentionPeriod"], store["TerminationProtectionEnabled"], store["Name"]) == (
        2557,
        False,
        "kong-prod",
    )
    assert synthesis.only("AWS::CloudTrail::Channel")["Properties"]["Source"] == "Custom"
    assert synthesis.of_type("AWS::CloudTrail::ResourcePolicy") == []
    assert synthesis.of_type("AWS::CloudTrail::Dashboard") == []


def test_no_store_where_cloudtrail_takes_no_events(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path, region="il-central-1")
    with pytest.raises(SettingsError, match="has no cloudtrail-data endpoint"):
        integrate(stack, "Trail", vpc=vpc, channel_arn=None, event_store=EventStoreOptions())


def test_the_lake_dashboard_asks_the_store_five_questions(shaped: Shaped) -> None:
    synthesis = shaped("event store")
    widgets = synthesis.only("AWS::CloudTrail::Dashboard")["Properties"]["Widgets"]
    assert [widget["ViewProperties"]["Title"] for widget in widgets] == [
        "Who did what",
        "Refused calls",
        "Changes by workspace",
        "Logins to Kong Manager",
        "Activity by hour",
    ]
    for widget in widgets:
        statement = synthesis.flat(widget["QueryStatement"])
        # Two parameters, each a quoted question mark; the store by its id, the last part of its ARN.
        assert statement.count("'?'") == statement.count("?") == len(widget["QueryParameters"]) == 2
        assert "FROM Fn::Select(Fn::Split(/, <AWS::CloudTrail::EventDataStore.EventDataStoreArn>))" in statement
        assert {"Height", "Width", "Title", "View"} <= widget["ViewProperties"].keys()
        # How that column is spelt is not certain (see the module), so no query may depend on it.
        assert "errormessage" not in statement.lower()


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.title)
def test_a_chart_shows_columns_that_its_query_has(query: Any) -> None:
    for name, column in query.properties.items():
        assert f"AS {column}" in query.statement, name


def test_the_cache_by_context(tmp_path: Path) -> None:
    context = {"cache_engine": "Redis", "cache_engine_version": "7.0", "cache_node_type": "cache.r7g.large"}
    synthesis = synthesise(tmp_path / "a", **context, cache_authentication="Password")
    group = synthesis.only(GROUP)["Properties"]
    assert (group["Engine"], group["EngineVersion"], group["CacheNodeType"]) == ("redis", "7.0", "cache.r7g.large")
    assert "AuthToken" in group
    assert synthesise(tmp_path / "b", cache_serverless="true").of_type(SERVERLESS)
    with pytest.raises(SettingsError, match="cache_node_type: must be a type of node"):
        synthesise(tmp_path / "c", cache_node_type="large")
