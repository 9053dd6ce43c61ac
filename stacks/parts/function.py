"""The function: its role, log group, environment, and the queue for what could not be run."""

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Duration, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from ..settings.groups import FunctionOptions
from .grants import allow, allow_key
from .lambda_asset import LambdaAsset
from .logs import new_log_group
from .nag import accept, accept_of_cfn_lint, accept_own_policy, accept_wildcard, controls

HANDLER = "kong_cloudtrail.handler.handler"
_LONGEST_EVENT_AGE_SECONDS = 6 * 3600
_SHORTEST_EVENT_AGE_SECONDS = 60
"""https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html"""

_ENI_ACTIONS = (
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)
_ENI_LOOKUPS = ("ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets")


class CollectorFunction(Construct):
    """The function that carries entries from Kong to their destinations.

    Its role can at first do nothing but write its log and be attached to the VPC; whoever wires it grants the rest.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    vpc : ec2.IVpc
        Where the function runs.
    subnets : ec2.SubnetSelection or None
        Its subnets.
    security_groups : sequence of ec2.ISecurityGroup
        What it is a member of.
    environment : Mapping of str to str
        Its settings.
    period_seconds : int
        Time between two invocations, or what stands for it.
    options : FunctionOptions
        Memory, runtime, log, dead letters.
    name : str or None
        Physical name of the function.
    encryption_key : kms.IKey or None
        Key of new logs, a new queue and the environment. None: AWS's own keys.
    dual_stack : bool
        Whether it may send to IPv6 addresses as well; all its subnets have to have such addresses then.
    borrowed : sequence of str
        ARNs of subnets and security groups that are another account's, which shares them.

    Attributes
    ----------
    function : lambda_.Function
        The function.
    role : iam.Role
        Its role.
    log_group : logs.ILogGroup
        Its logs.
    dead_letters : sqs.IQueue
        Invocations that failed, with their error.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        subnets: ec2.SubnetSelection | None,
        security_groups: Sequence[ec2.ISecurityGroup],
        environment: Mapping[str, str],
        period_seconds: int,
        options: FunctionOptions,
        name: str | None,
        encryption_key: kms.IKey | None,
        dual_stack: bool,
        borrowed: Sequence[str] = (),
    ) -> None:
        super().__init__(scope, construct_id)
        self.log_group = options.log_group or new_log_group(self, "Logs", options, encryption_key)
        self.dead_letters = options.dead_letter_queue or self._new_queue(encryption_key)
        self.role = self._new_role(borrowed)
        if options.log_group is not None:
            accept_wildcard(self.role, self.log_group.log_group_arn, "Lambda names the streams of the log group.")
        if self.dead_letters.encryption_master_key is not None:
            allow_key(
                self.role,
                self.dead_letters.encryption_master_key,
                ("kms:Decrypt", "kms:GenerateDataKey"),
                service="sqs",
            )
        # Held back beyond the next tick, an invocation would only compete with it.
        age_seconds = min(max(period_seconds, _SHORTEST_EVENT_AGE_SECONDS), _LONGEST_EVENT_AGE_SECONDS)
        self.function = self._new_function(
            options,
            vpc=vpc,
            vpc_subnets=subnets,
            security_groups=list(security_groups),
            environment=dict(environment),
            environment_encryption=encryption_key,
            max_event_age=options.max_event_age or Duration.seconds(age_seconds),
            function_name=name,
            ipv6_allowed_for_dual_stack=dual_stack or None,
        )
        accept(
            self.function,
            (*controls("LambdaDLQ"), "Serverless-LambdaDLQ", "CKV_AWS_116"),
            "Failed invocations go to the queue as an on-failure destination, which also gets the error.",
        )
        accept_of_cfn_lint(
            self.function,
            "W3005",
            "CDK lets the function wait for its role and the role's policy in one, and the role is named besides.",
        )
        if encryption_key is None:
            accept(
                self.function,
                "CKV_AWS_173",
                "The environment holds names and addresses, no secret, and Lambda encrypts it with a key of AWS. The "
                "property encryption_key puts a customer's key in its place.",
            )
        if options.reserved_concurrent_executions is None:
            accept(
                self.function,
                (*controls("LambdaConcurrency"), "CKV_AWS_115"),
                "Accounts with a small limit cannot reserve. Two runs at a time do no harm: a lock keeps those of "
                "CloudTrail Lake apart, an archive needs none. The property reserved_concurrent_executions reserves.",
            )
        if options.tracing not in (None, lambda_.Tracing.DISABLED):
            accept_wildcard(self.role, "*", "X-Ray's PutTraceSegments and PutTelemetryRecords know no resources.")
        else:
            accept(
                self.function,
                "Serverless-LambdaTracing",
                "A run is one function with one log and a report of its own; there is no chain of services to trace. "
                "The property tracing switches X-Ray on.",
            )

    def _new_queue(self, encryption_key: kms.IKey | None) -> sqs.Queue:
        queue = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.SQS_MANAGED if encryption_key is None else sqs.QueueEncryption.KMS,
            encryption_master_key=encryption_key,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        accept(
            queue,
            ("AwsSolutions-SQS3", "Serverless-SQSRedrivePolicy"),
            "This is the dead-letter queue, of the function's failed invocations and of its schedule.",
        )
        if encryption_key is None:
            accept(
                queue,
                "CKV_AWS_27",
                "Encrypted at rest with a key that SQS manages, which the rule does not know. The property "
                "encryption_key puts a customer's key in its place.",
            )
        return queue

    def _new_function(self, options: FunctionOptions, **properties: Any) -> lambda_.Function:
        architecture = options.architecture or lambda_.Architecture.ARM_64
        runtime = options.runtime or lambda_.Runtime.PYTHON_3_14
        asset = LambdaAsset(architecture, runtime)
        try:
            return lambda_.Function(
                self,
                "Function",
                description="Delivers Kong Gateway's audit log entries",
                runtime=runtime,
                architecture=architecture,
                handler=HANDLER,
                code=options.code or asset.code,
                role=self.role,
                log_group=self.log_group,
                memory_size=options.memory_size or 1024,
                timeout=options.timeout or Duration.minutes(15),
                tracing=options.tracing,
                reserved_concurrent_executions=options.reserved_concurrent_executions,
                # A failed run is not repeated: the next one does its work, with a fresh time budget.
                retry_attempts=0,
                # By its ARN: for a queue whose key it knows, CDK would let the role do more with the key than it needs.
                on_failure=destinations.SqsDestination(
                    sqs.Queue.from_queue_arn(self, "OnFailure", self.dead_letters.queue_arn)
                ),
                **properties,
            )
        except RuntimeError:
            if asset.failure is not None:
                raise asset.failure from None
            raise

    def _new_role(self, borrowed: Sequence[str]) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description="The Kong audit trail's collector",
        )
        allow(role, ("logs:CreateLogStream", "logs:PutLogEvents"), self.log_group.log_group_arn)
        # https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html, "Required IAM permissions"
        interfaces = Stack.of(self).format_arn(service="ec2", resource="*", resource_name="*")
        allow(role, _ENI_ACTIONS, interfaces, *borrowed)
        allow(role, _ENI_LOOKUPS, "*")
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
        accept_own_policy(role)
        return role
