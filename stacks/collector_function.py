"""The function: its role, network, log group, environment, and the queue for what could not be run."""

from collections.abc import Mapping
from typing import Any

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from .dedupe_cache import PORT, DedupeCache
from .lambda_asset import LambdaAsset
from .reviewed import accept, accept_wildcard

HANDLER = "kong_cloudtrail.handler.handler"
_ARCHITECTURE = lambda_.Architecture.ARM_64
_RUNTIME = lambda_.Runtime.PYTHON_3_14

_ENI_ACTIONS = (
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)
_ENI_LOOKUPS = ("ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets")


class CollectorFunction(Construct):
    """The function that carries entries from Kong to CloudTrail.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    vpc, subnets
        Where the function runs.
    cache : DedupeCache
        The cache that it may connect to.
    environment : Mapping of str to str
        Its settings.
    secret_arns : list of str
        The secrets that it may read.
    channel_arn : str
        The channel that it may deliver to.
    kong_port : int
        Port of Kong's Admin API.
    max_event_age : Duration
        How long Lambda may hold back an invocation: not beyond the next one.
    name, security_group_name : str or None
        Physical names of the function and of its security group.

    Attributes
    ----------
    function : lambda_.Function
        The function.
    role : iam.Role
        Its role.
    security_group : ec2.SecurityGroup
        Its security group.
    log_group : logs.LogGroup
        Its logs.
    dead_letters : sqs.Queue
        Invocations that failed, with their error.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        subnets: ec2.SubnetSelection | None,
        cache: DedupeCache,
        environment: Mapping[str, str],
        secret_arns: list[str],
        channel_arn: str,
        kong_port: int,
        max_event_age: Duration,
        name: str | None,
        security_group_name: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.security_group = ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=vpc,
            security_group_name=security_group_name,
            description="Collector of the Kong audit trail: reaches its cache, the Admin API of Kong and HTTPS",
            allow_all_outbound=False,
        )
        # Addresses of Kong and of AWS's endpoints are not known here, so the port alone is narrowed down. Names are
        # resolved by the VPC's own resolver, which security groups do not govern.
        for port, what in {kong_port: "Admin API of Kong", 443: "AWS APIs over HTTPS"}.items():
            self.security_group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(port), what)
        self.security_group.add_egress_rule(
            ec2.Peer.security_group_id(cache.security_group.security_group_id), ec2.Port.tcp(PORT), "The cache"
        )
        self.log_group = logs.LogGroup(
            self,
            "Logs",
            # As long as auditors commonly look back. The name is CloudFormation's choice: a group that was kept does
            # not stand in the way of deploying again.
            retention=logs.RetentionDays.ONE_YEAR,
            removal_policy=RemovalPolicy.RETAIN,
        )
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        accept(
            self.dead_letters,
            "AwsSolutions-SQS3",
            "This is the dead-letter queue, of the function's failed invocations and of its schedule.",
        )
        self.role = self._create_role(secret_arns, channel_arn)
        self.function = self._create_function(
            vpc=vpc,
            vpc_subnets=subnets,
            security_groups=[self.security_group, cache.client_security_group],
            environment=dict(environment),
            max_event_age=max_event_age,
            function_name=name,
        )

    def _create_function(self, **properties: Any) -> lambda_.Function:
        asset = LambdaAsset(_ARCHITECTURE, _RUNTIME)
        try:
            return lambda_.Function(
                self,
                "Function",
                description="Delivers Kong Gateway's audit log entries to CloudTrail Lake",
                runtime=_RUNTIME,
                architecture=_ARCHITECTURE,
                handler=HANDLER,
                code=asset.code,
                role=self.role,
                log_group=self.log_group,
                memory_size=1024,
                timeout=Duration.minutes(15),
                # A failed run is not repeated: the next one does its work, with a fresh time budget.
                retry_attempts=0,
                on_failure=destinations.SqsDestination(self.dead_letters),
                **properties,
            )
        except RuntimeError:
            if asset.failure is not None:
                raise asset.failure from None
            raise

    def _create_role(self, secret_arns: list[str], channel_arn: str) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description="The Kong audit trail's collector",
        )

        def allow(actions: tuple[str, ...], *resources: str) -> None:
            role.add_to_policy(iam.PolicyStatement(actions=list(actions), resources=list(resources)))

        allow(("logs:CreateLogStream", "logs:PutLogEvents"), self.log_group.log_group_arn)
        allow(("cloudtrail-data:PutAuditEvents",), channel_arn)
        allow(("secretsmanager:GetSecretValue",), *secret_arns)
        # https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html, "Required IAM permissions"
        interfaces = Stack.of(self).format_arn(service="ec2", resource="*", resource_name="*")
        allow(_ENI_ACTIONS, interfaces)
        allow(_ENI_LOOKUPS, "*")
        # Lambda makes those calls itself. Made from inside the function they carry the function's ARN, and are denied.
        role.add_to_policy(
            iam.PolicyStatement(
                effect=iam.Effect.DENY,
                actions=[*_ENI_ACTIONS, *_ENI_LOOKUPS],
                resources=["*"],
                conditions={"Null": {"lambda:SourceFunctionArn": "false"}},
            )
        )
        accept_wildcard(
            role,
            interfaces,
            "Lambda creates and deletes the function's network interfaces, whose ids nobody knows beforehand; this is "
            "the narrowest form that Lambda documents. A second statement denies these calls to the function's code.",
        )
        accept_wildcard(
            role,
            "*",
            "ec2:DescribeNetworkInterfaces and ec2:DescribeSubnets know no resources. A second statement denies these "
            "calls to the function's code.",
        )
        return role
