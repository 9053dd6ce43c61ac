"""The clock: EventBridge Scheduler invokes the function."""

from collections.abc import Mapping

from aws_cdk import Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from ..settings.groups import ScheduleOptions
from ..settings.names import TrailName
from .grants import allow, allow_key
from .nag import accept_own_policy

_RUN: Mapping[str, object] = {"scheduled_time": scheduler.ContextAttribute.scheduled_time}
_LONGEST_EVENT_AGE_SECONDS = 86_400
_SHORTEST_EVENT_AGE_SECONDS = 60

_WHAT = {"requests": "the audit log of requests to", "objects": "the audit log of changes in"}


class CollectorSchedule(Construct):
    """The schedule of one trail, a role that can invoke the one function, and the queue for what it could not.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    function : lambda_.IFunction
        What to invoke.
    trail : TrailName
        Of which trail.
    expression : scheduler.ScheduleExpression
        When.
    dead_letters : sqs.IQueue
        Where invocations end that Lambda did not take.
    period_seconds : int
        Time between two ticks, or what stands for it.
    options : ScheduleOptions
        Retries, window, group.
    name : str or None
        Physical name of the schedule.
    description : str
        What it is for.
    event : Mapping of str to object
        What the function gets beside the destination and the id of the tick. Default: what a run gets.

    Attributes
    ----------
    schedule : scheduler.Schedule
        The schedule.
    role : iam.Role
        The role that it assumes.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        function: lambda_.IFunction,
        trail: TrailName,
        expression: scheduler.ScheduleExpression,
        dead_letters: sqs.IQueue,
        period_seconds: int,
        options: ScheduleOptions,
        name: str | None,
        description: str = "Collects {what} Kong Gateway for {destination}",
        event: Mapping[str, object] = _RUN,
    ) -> None:
        super().__init__(scope, construct_id)
        group_arn = (
            Stack.of(self).format_arn(service="scheduler", resource="schedule-group", resource_name="default")
            if options.group is None
            else options.group.schedule_group_arn
        )
        self.role = iam.Role(
            self,
            "Role",
            description="Invokes the Kong audit trail's collector",
            # Without the conditions, a schedule of another account could have this role assumed.
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account, "aws:SourceArn": group_arn}},
            ),
        )
        allow(self.role, ("lambda:InvokeFunction",), function.function_arn)
        allow(self.role, ("sqs:SendMessage",), dead_letters.queue_arn)
        if dead_letters.encryption_master_key is not None:
            allow_key(
                self.role, dead_letters.encryption_master_key, ("kms:Decrypt", "kms:GenerateDataKey"), service="sqs"
            )
        accept_own_policy(self.role)
        # Beyond the next tick, an invocation would only compete with it.
        age_seconds = min(max(period_seconds, _SHORTEST_EVENT_AGE_SECONDS), _LONGEST_EVENT_AGE_SECONDS)
        self.schedule = scheduler.Schedule(
            self,
            "Schedule",
            schedule_name=name,
            description=description.format(what=_WHAT[trail.stream], destination=trail.destination),
            schedule=expression,
            enabled=options.enabled,
            time_window=options.time_window,
            schedule_group=options.group,
            target=targets.LambdaInvoke(
                function,
                # CDK would add every version and alias of the function to the role.
                role=self.role.without_policy_updates(),
                dead_letter_queue=dead_letters,
                retry_attempts=options.retry_attempts,
                max_event_age=options.max_event_age or Duration.seconds(age_seconds),
                # EventBridge delivers at least once. By its id the function recognises the same tick coming twice.
                input=scheduler.ScheduleTargetInput.from_object(
                    {
                        "execution_id": scheduler.ContextAttribute.execution_id,
                        **event,
                        "stream": trail.stream,
                        "destination": trail.destination,
                    }
                ),
            ),
        )
        # The role itself is named by the schedule; without its policy the first tick would fail.
        self.schedule.node.add_dependency(self.role.node.find_child("DefaultPolicy"))
        if options.group is not None:
            self.schedule.node.add_dependency(options.group)  # CDK names the group, but does not wait for it
