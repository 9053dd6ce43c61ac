"""Synthesises the app's stack inside the test process, without bundling: neither pip nor network is needed."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from aws_cdk import App, Duration, Environment, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs

from stacks import (
    AlarmOptions,
    Archive,
    CacheOptions,
    CloudTrailLake,
    CloudWatchLogs,
    DeploymentSettings,
    EventStoreOptions,
    ExistingCache,
    FunctionOptions,
    IntegrationStack,
    KongCloudTrailIntegration,
    KongOptions,
    LedgerOptions,
    NetworkOptions,
    RunOptions,
    ScheduleOptions,
    ServerlessOptions,
)
from stacks.settings.kinds import Group

ROOT = Path(__file__).parents[2]
CDK_JSON = json.loads((ROOT / "cdk.json").read_text("utf-8"))

VPC_ID = "vpc-0123456789abcdef0"
SUBNET_IDS = ("subnet-0123456789abcdef0", "subnet-0123456789abcdef1")
CHANNEL_ARN = "arn:aws:cloudtrail:eu-central-1:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef"
CONTEXT: Mapping[str, Any] = {
    "existing_vpc": VPC_ID,
    "existing_subnet_ids": ",".join(SUBNET_IDS),
    "kong_admin_api": "https://kong-admin.example.internal:8444",
    "channel_arn": CHANNEL_ARN,
}

TOPIC_ARN = "arn:aws:sns:eu-central-1:111122223333:alarms"
KEY_ARN = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"
SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:imported-a1B2c3"


def _imported(stack: Stack) -> dict[str, Any]:
    """Everything that can be brought along, known by its id or ARN alone."""
    key = kms.Key.from_key_arn(stack, "Key", KEY_ARN)
    group = ec2.SecurityGroup.from_security_group_id
    return {
        "encryption_key": key,
        "security_group": group(stack, "Function", "sg-0123456789abcdef0", allow_all_outbound=False),
        "kong_admin_token_secret": secretsmanager.Secret.from_secret_attributes(
            stack, "Token", secret_complete_arn=SECRET_ARN, encryption_key=key
        ),
        "cache": CacheOptions(
            existing=ExistingCache(
                host="cache.example.internal",
                security_group=group(stack, "TheirCache", "sg-0123456789abcdef1"),
                password_secret=secretsmanager.Secret.from_secret_name_v2(stack, "Password", "cache/password"),
            )
        ),
        "ledger": LedgerOptions(
            existing_bucket=s3.Bucket.from_bucket_attributes(
                stack, "Bucket", bucket_name="their-bucket", encryption_key=key
            ),
            prefix="kong",
        ),
        "function": FunctionOptions(
            log_group=logs.LogGroup.from_log_group_name(stack, "Log", "their-log"),
            dead_letter_queue=sqs.Queue.from_queue_arn(
                stack, "Queue", "arn:aws:sqs:eu-central-1:111122223333:their-queue"
            ),
        ),
        "network": NetworkOptions(kong_peers=[group(stack, "Kong", "sg-0123456789abcdef2")]),
    }


# The shapes that a deployment can take, by what differs from the least that has to be said.
SHAPES: Mapping[str, Callable[[Stack], dict[str, Any]]] = {
    "default": lambda _: {},
    "new token": lambda _: {"kong_superadmin": True},
    "password": lambda _: {"cache": CacheOptions(authentication="password")},
    "Redis OSS": lambda _: {"cache": CacheOptions(engine="redis")},
    "serverless": lambda _: {"cache": CacheOptions(serverless=ServerlessOptions())},
    "serverless, password": lambda _: {
        "cache": CacheOptions(authentication="password", serverless=ServerlessOptions(max_storage_gib=5))
    },
    "customer's key": lambda stack: {
        "encryption_key": kms.Key(stack, "Key", enable_key_rotation=True),
        "kong_superadmin": True,
    },
    "imported": _imported,
    "shared VPC": lambda _: {"network": NetworkOptions(vpc_owner_account="444455556666")},
    "event store": lambda _: {
        "destinations": [CloudTrailLake(event_store=EventStoreOptions(dashboard=True), external_id="kong/prod")],
    },
    "archive": lambda _: {"destinations": [Archive()]},
    "archive of both streams": lambda _: {"destinations": [Archive()], "streams": "requests,objects"},
    "archive and Lake": lambda _: {"destinations": [Archive(), CloudTrailLake(channel_arn=CHANNEL_ARN)]},
    "backfill": lambda _: {"destinations": [Archive()], "run": RunOptions(backfill=8)},
    "backfill, customer's key": lambda stack: {
        "encryption_key": kms.Key(stack, "Key", enable_key_rotation=True),
        "run": RunOptions(backfill=4),
    },
    "archive in a bucket that is there": lambda stack: {
        "destinations": [Archive(existing_bucket="their-archive", prefix="audit/kong", signing_key=KEY_ARN)],
        "encryption_key": kms.Key.from_key_arn(stack, "Key", KEY_ARN),
        "kong_superadmin": True,
    },
    "archive, compliance": lambda _: {
        "destinations": [Archive(lock="compliance", retention=Duration.days(2557), glacier_ir_after=Duration.days(90))],
    },
    "archive, OCSF, signed": lambda stack: {
        "destinations": [Archive(format="ocsf", signing_key=True, lock="none")],
        "encryption_key": kms.Key(stack, "Key", enable_key_rotation=True),
        "cache": CacheOptions(),
    },
    "CloudWatch Logs": lambda _: {"destinations": [CloudWatchLogs()]},
    "CloudWatch Logs, everything": lambda stack: {
        "destinations": [
            CloudWatchLogs(
                format="ocsf",
                log_group_name="/kong/audit",
                retention=Duration.days(3653),
                activity_alarms=True,
                dashboard=True,
                s3_tables=True,
            ),
            Archive(),
        ],
        "encryption_key": kms.Key(stack, "Key", enable_key_rotation=True),
        "alarms": AlarmOptions(topic=sns.Topic.from_topic_arn(stack, "Topic", TOPIC_ARN)),
    },
    "CloudWatch Logs, a group that is there": lambda _: {
        "destinations": [CloudWatchLogs(existing_log_group="their-group", retention=Duration.days(7), queries=False)],
    },
    "invocation": lambda stack: {
        "function": FunctionOptions(
            memory_size=512,
            timeout=Duration.minutes(5),
            architecture=lambda_.Architecture.X86_64,
            runtime=lambda_.Runtime.PYTHON_3_13,
            reserved_concurrent_executions=1,
            max_event_age=Duration.minutes(10),
            tracing=lambda_.Tracing.ACTIVE,
            log_retention=logs.RetentionDays.TWO_YEARS,
        ),
        "schedule": scheduler.ScheduleExpression.rate(Duration.minutes(30)),
        "schedule_options": ScheduleOptions(
            enabled=False,
            retry_attempts=0,
            max_event_age=Duration.minutes(20),
            time_window=scheduler.TimeWindow.flexible(Duration.minutes(5)),
            group=scheduler.ScheduleGroup(stack, "Group"),
        ),
        "permissions_boundary": iam.ManagedPolicy.from_managed_policy_name(stack, "Boundary", "boundary"),
    },
}

# What stands for a value that CloudFormation fills in, by the type of the resource and the attribute.
_SAMPLES = {
    ("AWS::ElastiCache::ReplicationGroup", "PrimaryEndPoint.Address"): "master.kong.abc123.euc1.cache.amazonaws.com",
    ("AWS::ElastiCache::ReplicationGroup", "PrimaryEndPoint.Port"): "6380",
    ("AWS::ElastiCache::ReplicationGroup", "Ref"): "kong-replication-group",
    ("AWS::ElastiCache::ServerlessCache", "Endpoint.Address"): "kong.serverless.euc1.cache.amazonaws.com",
    ("AWS::CloudTrail::Channel", "ChannelArn"): CHANNEL_ARN,
    ("AWS::CloudTrail::EventDataStore", "EventDataStoreArn"): CHANNEL_ARN.replace("channel/", "eventdatastore/"),
    ("AWS::SecretsManager::Secret", "Ref"): "arn:aws:secretsmanager:eu-central-1:111122223333:secret:Password-a1B2c3",
    ("AWS::Logs::LogGroup", "Ref"): "kong-log-group",
    ("AWS::S3::Bucket", "Ref"): "kong-ledger-bucket",
    ("AWS::KMS::Key", "Arn"): KEY_ARN,
}


@dataclass(frozen=True)
class Synthesis:
    """A synthesised stack and its template."""

    stack: Any
    template: dict[str, Any]

    def of_type(self, resource_type: str) -> list[dict[str, Any]]:
        return [r for r in self.template["Resources"].values() if r["Type"] == resource_type]

    def only(self, resource_type: str) -> dict[str, Any]:
        (resource,) = self.of_type(resource_type)
        return resource

    def flat(self, value: Any) -> str:
        """Write CloudFormation's references as ``<type.attribute>``, which does not change with logical ids."""
        if isinstance(value, str):
            return value
        ((function, argument),) = value.items()
        if function == "Fn::Join":
            separator, parts = argument
            return str(separator).join(self.flat(part) for part in parts)
        if function in ("Fn::Select", "Fn::Split"):
            return f"{function}({', '.join(self.flat(part) for part in argument if not isinstance(part, int))})"
        name, attribute = (argument, "Ref") if function == "Ref" else argument
        if name.startswith("AWS::"):
            return f"<{name}>"
        return f"<{self.template['Resources'][name]['Type']}.{attribute}>"


class Shaped(Protocol):
    """Returns the synthesis of a shape, always the same."""

    def __call__(self, shape: str) -> Synthesis: ...


def new_app(outdir: Path, *, writes_tree: bool = False, **context: Any) -> App:
    """Return an app with this repository's feature flags, which bundles nothing.

    What CDK writes into tree.json is resolved once more for it: a seventh of a synthesis. The app and every shape have
    it; of what else tests synthesise, none looks at it.
    """
    return App(
        auto_synth=False,
        analytics_reporting=False,
        tree_metadata=writes_tree,
        outdir=str(outdir),
        context={**CDK_JSON["context"], "aws:cdk:bundling-stacks": [], **context},
    )


def synthesise(outdir: Path, **context: Any) -> Synthesis:
    """Synthesise the app's stack from the example context and the given values."""
    app = new_app(outdir, writes_tree=True, **context)
    options = DeploymentSettings.from_context({**CONTEXT, **context})
    stack = IntegrationStack(app, "KongCloudTrailIntegration", options=options)
    return template_of(app, stack)


def foreign_stack(outdir: Path, *, writes_tree: bool = False, **environment: Any) -> tuple[App, Stack, ec2.IVpc]:
    """Return somebody else's app, a stack of it, and an imported VPC."""
    app = new_app(outdir, writes_tree=writes_tree)
    stack = Stack(app, "Foreign", env=Environment(**(environment or {"region": "eu-central-1"})))
    vpc = ec2.Vpc.from_vpc_attributes(
        stack, "Vpc", vpc_id=VPC_ID, availability_zones=["a", "b"], private_subnet_ids=list(SUBNET_IDS)
    )
    return app, stack, vpc


def synthesise_shape(outdir: Path, shape: str) -> Synthesis:
    """Synthesise somebody else's app with the construct in one of its shapes."""
    app, stack, vpc = foreign_stack(outdir, writes_tree=True)
    integrate(stack, vpc=vpc, **SHAPES[shape](stack))
    return template_of(app, stack)


_NESTED: Mapping[str, tuple[type[Group], str]] = {
    setting: (group, name)
    for group in (KongOptions, RunOptions, FunctionOptions, CacheOptions, NetworkOptions)
    for name, setting in {
        **group.settings,
        "schedule_options": "schedule_options",
    }.items()
    if name in group.kinds
}
"""Group and property of what is not the construct's own property, by the name that it has in the app's context."""


def integrate(scope: Any, name: str = "Trail", **properties: Any) -> KongCloudTrailIntegration:
    """Create the construct; whatever has to be said and is not, is said as in the example context.

    What belongs into a group may be given by the name that it has in context: most tests are about one such setting.
    """
    channel = {} if "destinations" in properties else {"channel_arn": CHANNEL_ARN}
    given = {"kong_admin_api": CONTEXT["kong_admin_api"], **channel, **properties}
    if of_lake := {name: given.pop(name) for name in ("event_store", "external_id") if name in given}:
        given["destinations"] = [CloudTrailLake(channel_arn=given.pop("channel_arn"), **of_lake)]
    groups: dict[str, Any] = {}
    for setting in given.keys() & _NESTED.keys():
        group, nested = _NESTED[setting]
        groups.setdefault(group.place, {})[nested] = given.pop(setting)
    for group, _ in _NESTED.values():
        found, nested = given.get(group.place), groups.pop(group.place, None)
        if nested is not None:
            given[group.place] = group(**nested) if found is None else replace(found, **nested)
    return KongCloudTrailIntegration(scope, name, **given)


def synthesise_two_gateways(outdir: Path) -> Synthesis:
    """Synthesise somebody else's app with two constructs; the second one shares the first one's cache and ledger."""
    app, stack, vpc = foreign_stack(outdir)
    first = integrate(stack, vpc=vpc)
    integrate(stack, "Second", vpc=vpc, source_name="second", cache=first.cache, ledger=first.ledger)
    return template_of(app, stack)


def template_of(app: App, stack: Stack) -> Synthesis:
    """Synthesise any app and take out one stack's template."""
    return Synthesis(stack, app.synth().get_stack_by_name(stack.stack_name).template)


def function_environment(synthesis: Synthesis) -> dict[str, str]:
    """Return the function's variables, with a sample where CloudFormation fills in the value.

    This is one side of the contract with `kong_cloudtrail.settings`, which neither side can import.
    """
    variables = synthesis.only("AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    return {name: _sampled(synthesis, value) for name, value in variables.items()}


def _sampled(synthesis: Synthesis, value: Any) -> str:
    text = synthesis.flat(value).replace("<AWS::AccountId>", "111122223333")
    for (resource_type, attribute), sample in _SAMPLES.items():
        text = text.replace(f"<{resource_type}.{attribute}>", sample)
    assert "<" not in text, f"no sample for {text}"
    return text


def statements(synthesis: Synthesis) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield every policy statement of a role: role, effect, actions, resources, condition."""
    for resource in synthesis.template["Resources"].values():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::IAM::Policy":
            roles = [synthesis.template["Resources"][role["Ref"]] for role in properties["Roles"]]
            policies = [properties]
        elif resource["Type"] == "AWS::IAM::Role":
            roles, policies = [resource], properties.get("Policies", [])
        else:
            continue
        for policy in policies:
            for statement in policy["PolicyDocument"]["Statement"]:
                for role in roles:
                    trusted = role["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"]
                    yield (trusted, *_flat_statement(synthesis, statement))


_RESOURCE_POLICIES = {
    "AWS::CloudTrail::ResourcePolicy": "ResourcePolicy",
    "AWS::KMS::Key": "KeyPolicy",
    "AWS::S3::BucketPolicy": "PolicyDocument",
    "AWS::SQS::QueuePolicy": "PolicyDocument",
}


def resource_statements(synthesis: Synthesis) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Yield every policy statement of a resource: type, principal, effect, actions, resources, condition."""
    for resource in synthesis.template["Resources"].values():
        if resource["Type"] in _RESOURCE_POLICIES:
            for statement in resource["Properties"][_RESOURCE_POLICIES[resource["Type"]]]["Statement"]:
                principal = " ".join(synthesis.flat(value) for value in statement["Principal"].values())
                yield (resource["Type"], principal, *_flat_statement(synthesis, statement))


def _flat_statement(synthesis: Synthesis, statement: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return (
        statement["Effect"],
        " ".join(_list(statement["Action"])),
        " ".join(synthesis.flat(arn) for arn in _list(statement["Resource"])),
        json.dumps(_flat_tree(synthesis, statement["Condition"])) if "Condition" in statement else "",
    )


def _flat_tree(synthesis: Synthesis, value: Any) -> Any:
    if isinstance(value, dict) and len(value) == 1 and (next(iter(value)) == "Ref" or next(iter(value))[:2] == "Fn"):
        return synthesis.flat(value)
    return {key: _flat_tree(synthesis, item) for key, item in value.items()} if isinstance(value, dict) else value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
