"""Backfills of large ranges: a state machine that lets the function work on several slices at once."""

import json
from typing import Any

from aws_cdk import ArnFormat, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from ..settings.groups import FunctionOptions
from .grants import allow
from .keys import allow_service
from .logs import new_log_group
from .nag import accept, accept_of_cfn_lint, accept_own_policy, accept_wildcard

_TASK_SECONDS = 930
"""Longer than any call of the function, so that Step Functions does not count one as failed that is still at work."""

_PASSING = 4
"""Further attempts after an error that may pass: 30 seconds, then twice as long each time."""

_LASTING = ("RequestInvalid", "SettingsError", "SecretUnavailable", "DestinationMisconfigured", "SourceRefused")
"""Errors that another attempt meets as well, until somebody changes something."""

_BUSY_SECONDS = 20
"""Longer than the locks of a call that has died."""


class BackfillStateMachine(Construct):
    """A state machine that delivers a range by the function: a distributed map over the slices.

    An execution gets the range, ``{"after": …, "before": …}``, and what else the verb takes. It asks the function for
    the slices that are left, lets it work on them, and then for the whole range, which does what is still left and
    tells how the backfill ended. All progress is in the ledger, so a redrive or another execution continues.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    function : lambda_.IFunction
        The collector.
    at_once : int
        Slices at once.
    parallel_deliveries : int
        Calls to the destination at once, of all slices together.
    options : FunctionOptions
        How the function's logs are kept: the state machine's are kept so, too.
    encryption_key : kms.IKey or None
        Key of definition, executions and logs. None: AWS's own keys.

    Attributes
    ----------
    state_machine : sfn.StateMachine
        The state machine.
    role : iam.Role
        Its role.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        function: lambda_.IFunction,
        at_once: int,
        parallel_deliveries: int,
        options: FunctionOptions,
        encryption_key: kms.IKey | None,
    ) -> None:
        super().__init__(scope, construct_id)
        stack = Stack.of(self)
        self.role = iam.Role(
            self,
            "Role",
            description="Lets the Kong audit trail's collector deliver a range",
            # Without the condition, a state machine of another account could have this role assumed.
            assumed_by=iam.ServicePrincipal(
                "states.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": stack.account}}
            ),
        )
        allow(self.role, ("lambda:InvokeFunction",), function.function_arn)
        self.log_group = new_log_group(self, "Logs", options, encryption_key)
        definition = definition_of(
            function.function_arn,
            partition=stack.partition,
            at_once=at_once,
            parallel_deliveries=parallel_deliveries,
        )
        self.state_machine = sfn.StateMachine(
            self,
            "StateMachine",
            comment="Delivers a range of Kong Gateway's audit log that runs do not read any more",
            definition_body=sfn.DefinitionBody.from_string(json.dumps(definition)),
            role=self.role,
            logs=sfn.LogOptions(destination=self.log_group, level=sfn.LogLevel.ALL, include_execution_data=False),
            removal_policy=RemovalPolicy.DESTROY,
        )
        accept_of_cfn_lint(
            self.state_machine,
            "W3005",
            "CDK lets the state machine wait for its role and the role's policy in one, and the role is named besides.",
        )
        self._allow_map()
        if encryption_key is not None:
            self._encrypt(encryption_key)
        accept_wildcard(self.role, "*", "The calls that deliver logs of state machines know no resources.")
        accept_own_policy(self.role)
        accept(
            self.state_machine,
            ("AwsSolutions-SF2", "Serverless-StepFunctionStateMachineXray", "CKV_AWS_284"),
            "An execution is the function's calls and nothing else, each with a log and a report of its own; there is "
            "no chain of services to trace.",
        )

    def grant_start(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody start executions, follow them, and start them again where they failed."""
        self.state_machine.grant_start_execution(grantee)
        grant: iam.Grant = self.state_machine.grant_execution(
            grantee, "states:DescribeExecution", "states:RedriveExecution"
        )
        return grant

    def _encrypt(self, key: kms.IKey) -> None:
        """Encrypt definition and executions with a key.

        CDK's own construct would allow the use of the key for a state machine without a name, which matches none.
        """
        machine: Any = self.state_machine.node.default_child
        machine.encryption_configuration = sfn.CfnStateMachine.EncryptionConfigurationProperty(
            type="CUSTOMER_MANAGED_KMS_KEY", kms_key_id=key.key_arn, kms_data_key_reuse_period_seconds=300
        )
        logs_arn = Stack.of(self).format_arn(service="logs", resource="*", arn_format=ArnFormat.NO_RESOURCE_NAME)
        in_logs = {"StringEquals": {"kms:EncryptionContext:SourceArn": logs_arn}}
        policy = iam.Policy(
            self,
            "KeyPolicy",
            roles=[self.role],
            statements=[
                iam.PolicyStatement(
                    actions=["kms:Decrypt", "kms:GenerateDataKey"],
                    resources=[key.key_arn],
                    conditions={
                        "StringEquals": {
                            "kms:EncryptionContext:aws:states:stateMachineArn": self.state_machine.state_machine_arn
                        }
                    },
                ),
                iam.PolicyStatement(actions=["kms:GenerateDataKey"], resources=[key.key_arn], conditions=in_logs),
            ],
        )
        accept_own_policy(policy)
        allow_service(self, "encryption_key", key, "delivery.logs.amazonaws.com", ["kms:Decrypt"], conditions=in_logs)

    def _allow_map(self) -> None:
        """Allow what a distributed map does with its own state machine.

        In a policy of its own: the state machine waits for the role's, which cannot name it, then.
        """
        stack, name = Stack.of(self), self.state_machine.state_machine_name
        executions = stack.format_arn(
            service="states",
            resource="execution",
            resource_name=f"{name}/*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        policy = iam.Policy(
            self,
            "MapPolicy",
            roles=[self.role],
            statements=[
                iam.PolicyStatement(
                    actions=["states:StartExecution"], resources=[self.state_machine.state_machine_arn]
                ),
                iam.PolicyStatement(
                    actions=["states:DescribeExecution", "states:RedriveExecution", "states:StopExecution"],
                    resources=[executions],
                ),
            ],
        )
        accept_wildcard(policy, executions, "Step Functions names the executions of a map's items.")
        accept_own_policy(policy)


def definition_of(function_arn: str, *, partition: str, at_once: int, parallel_deliveries: int) -> dict[str, Any]:
    """Return the definition, in the States Language with JSONPath, which local emulators know best.

    Parameters
    ----------
    function_arn, partition
        The function, and the partition of its region.
    at_once, parallel_deliveries
        As of `BackfillStateMachine`.
    """
    # Together, the slices make no more calls at once than a run does, which is what keeps runs below quotas.
    deliveries_of_a_slice = max(1, parallel_deliveries // at_once)

    def ask(payload: dict[str, Any], **others: Any) -> dict[str, Any]:
        return {
            "Type": "Task",
            "Resource": f"arn:{partition}:states:::lambda:invoke",
            "Parameters": {"FunctionName": function_arn, **payload},
            "TimeoutSeconds": _TASK_SECONDS,
            "Retry": [
                {"ErrorEquals": list(_LASTING), "MaxAttempts": 0},
                {
                    "ErrorEquals": ["States.ALL"],
                    "IntervalSeconds": 30,
                    "MaxAttempts": _PASSING,
                    "BackoffRate": 2,
                    "JitterStrategy": "FULL",
                },
            ],
            **others,
        }

    merged = "States.JsonMerge($$.Execution.Input, States.StringToJson('{}'), false)"
    plan = json.dumps({"verb": "backfill", "plan": True}, separators=(",", ":"))
    whole = {"verb": "backfill", "plan": False, "execution_id.$": "$$.Execution.Id"}
    # The plan tells the range in its own words: "yesterday" may be over by then.
    moments = {
        "after.$": "$.answer.document.after",
        "before.$": "$.answer.document.before",
        "redeliver.$": "$.answer.document.redeliver",
    }
    return {
        "Comment": "Delivers a range of Kong Gateway's audit log. Input: after, before.",
        "StartAt": "Plan",
        "States": {
            "Plan": ask(
                {"Payload.$": merged.replace("{}", plan)},
                ResultSelector={"answer.$": "$.Payload"},
                Next="Is it possible?",
            ),
            "Is it possible?": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.answer.error", "IsPresent": True, "Next": "Not possible"}],
                "Default": "Take the plan",
            },
            "Not possible": {
                "Type": "Fail",
                "ErrorPath": "$.answer.error.type",
                "CausePath": "$.answer.error.message",
            },
            "Take the plan": {
                "Type": "Pass",
                "Parameters": {"plan.$": "$.answer.document", "whole": {**whole, **moments}},
                "Next": "Slices",
            },
            "Slices": {
                "Type": "Map",
                "Label": "Slices",
                "MaxConcurrency": at_once,
                # What fails is left to the last state, so that one slice does not stop the others.
                "ToleratedFailurePercentage": 100,
                "ItemsPath": "$.plan.plan",
                "ItemSelector": {
                    "request": {
                        **whole,
                        "after.$": "$.plan.after",
                        "before.$": "$.plan.before",
                        "redeliver.$": "$.plan.redeliver",
                        "stream.$": "$$.Map.Item.Value.stream",
                        "destination.$": "$$.Map.Item.Value.destination",
                        "slice.$": "$$.Map.Item.Value.slice",
                        "parallel_deliveries": deliveries_of_a_slice,
                    }
                },
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                    "StartAt": "Deliver the slice",
                    "States": _until_finished(ask({"Payload.$": "$.request"}), "the slice"),
                },
                "ResultPath": None,
                "Next": "Conclude",
            },
            "Conclude": {
                "Type": "Pass",
                # With the stream and the destination that were asked for, if any.
                "Parameters": {"request.$": "States.JsonMerge($$.Execution.Input, $.whole, false)"},
                "Next": "Deliver what is left",
            },
            **_until_finished(ask({"Payload.$": "$.request"}), "what is left"),
        },
    }


def _until_finished(deliver: dict[str, Any], what: str) -> dict[str, Any]:
    """Return the states that ask for something until the answer says that it is finished."""
    again, wait = f"Deliver {what}", f"Wait for {what}"
    return {
        again: {
            **deliver,
            "ResultSelector": {"document.$": "$.Payload.document"},
            "ResultPath": "$.answer",
            "Next": f"Is {what} finished?",
        },
        f"Is {what} finished?": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.answer.document.finished", "BooleanEquals": True, "Next": f"Finished {what}"},
                {"Variable": "$.answer.document.busy", "BooleanEquals": True, "Next": wait},
            ],
            "Default": again,
        },
        # Another call is at work on it, or a run that began before.
        wait: {"Type": "Wait", "Seconds": _BUSY_SECONDS, "Next": again},
        f"Finished {what}": {"Type": "Succeed", "OutputPath": "$.answer.document"},
    }
