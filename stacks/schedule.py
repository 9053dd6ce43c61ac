"""The clock: EventBridge Scheduler invokes the function."""

from aws_cdk import Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

_RETRY_ATTEMPTS = 2


class CollectorSchedule(Construct):
    """A schedule with a role that can invoke the one function, and the dead-letter queue for what it could not.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    function : lambda_.IFunction
        What to invoke.
    expression : str
        ``rate(…)`` or ``cron(…)``, in UTC.
    dead_letters : sqs.IQueue
        Where invocations end that Lambda did not take.
    max_event_age : Duration
        How long the scheduler tries: not beyond the next tick.
    name : str or None
        Physical name of the schedule.

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
        expression: str,
        dead_letters: sqs.IQueue,
        max_event_age: Duration,
        name: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.role = iam.Role(
            self,
            "Role",
            description="Invokes the Kong audit trail's collector",
            # Without the conditions, a schedule of another account could have this role assumed.
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={
                    "StringEquals": {
                        "aws:SourceAccount": Stack.of(self).account,
                        "aws:SourceArn": Stack.of(self).format_arn(
                            service="scheduler", resource="schedule-group", resource_name="default"
                        ),
                    }
                },
            ),
            inline_policies={
                "Invoke": iam.PolicyDocument(
                    statements=[
                        iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[function.function_arn]),
                        iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[dead_letters.queue_arn]),
                    ]
                )
            },
        )
        self.schedule = scheduler.Schedule(
            self,
            "Schedule",
            schedule_name=name,
            description="Collects Kong Gateway's audit log entries",
            schedule=scheduler.ScheduleExpression.expression(expression),
            target=targets.LambdaInvoke(
                function,
                # CDK would add every version and alias of the function to the role.
                role=self.role.without_policy_updates(),
                dead_letter_queue=dead_letters,
                retry_attempts=_RETRY_ATTEMPTS,
                max_event_age=max_event_age,
                # EventBridge delivers at least once. By its id the function recognises the same tick coming twice.
                input=scheduler.ScheduleTargetInput.from_object(
                    {
                        "execution_id": scheduler.ContextAttribute.execution_id,
                        "scheduled_time": scheduler.ContextAttribute.scheduled_time,
                    }
                ),
            ),
        )
