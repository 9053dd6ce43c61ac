"""The stack of this repository's own app: an imported VPC, the construct, tags and outputs."""

from dataclasses import replace

from aws_cdk import Annotations, CfnOutput, Environment, Fn, Stack, Tags
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_sns as sns
from constructs import Construct

from .alarms import AlarmOptions
from .choices import ScheduleOptions
from .integration import KongCloudTrailIntegration
from .options import DeploymentOptions


class IntegrationStack(Stack):
    """One integration in an existing VPC, from context values.

    Nothing is looked up: the template follows from the settings alone, offline and without credentials.

    Parameters
    ----------
    scope, construct_id
        As for every stack.
    options : DeploymentOptions
        The checked settings.
    account : str, optional
        Account to deploy to. Default: that of the credentials at deployment.

    Attributes
    ----------
    integration : KongCloudTrailIntegration
        The construct.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, options: DeploymentOptions, account: str | None = None
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            env=Environment(account=account, region=options.region),
            description="Kong Gateway's audit trail, kept in CloudTrail Lake",
        )
        for key, value in options.tags.items():
            Tags.of(self).add(key, value)
        zones = Fn.get_azs()
        vpc = ec2.Vpc.from_vpc_attributes(
            self,
            "Vpc",
            vpc_id=options.vpc_id,
            # CDK wants a zone per subnet. Nothing here reads it, and the real one would be a lookup.
            availability_zones=[Fn.select(index, zones) for index in range(len(options.subnet_ids))],
            private_subnet_ids=list(options.subnet_ids),
        )
        # Routes are not read here either.
        Annotations.of(vpc).acknowledge_warning("@aws-cdk/aws-ec2:noSubnetRouteTableId")
        self.integration = KongCloudTrailIntegration(
            self,
            "Integration",
            vpc=vpc,
            alarms=self._alarms(options),
            schedule_options=ScheduleOptions(enabled=options.schedule_enabled),
            **options.integration,
        )
        self._add_outputs()

    def _alarms(self, options: DeploymentOptions) -> AlarmOptions:
        alarms = AlarmOptions() if options.runbook_url is None else AlarmOptions(runbook=options.runbook_url)
        if options.alarm_topic is None:
            return alarms
        return replace(alarms, topic=sns.Topic.from_topic_arn(self, "AlarmTopic", options.alarm_topic))

    def _add_outputs(self) -> None:
        integration = self.integration
        CfnOutput(
            self,
            "FunctionName",
            value=integration.collector.function.function_name,
            description="Name of the function that collects",
        )
        CfnOutput(self, "CacheEndpoint", value=integration.cache.host, description="host:port of the cache")
        CfnOutput(
            self,
            "LogGroupName",
            value=integration.collector.log_group.log_group_name,
            description="Name of the log group of that function",
        )
        CfnOutput(
            self,
            "LedgerUrl",
            value=integration.ledger.url,
            description="Where checkpoint, quarantine, originals and run reports are; stays when the stack goes",
        )
        CfnOutput(
            self,
            "DeadLetterQueueUrl",
            value=integration.collector.dead_letters.queue_url,
            description="The queue for what could not be run",
        )
        CfnOutput(
            self, "ScheduleName", value=integration.schedule.schedule.schedule_name, description="Name of the schedule"
        )
        if integration.token_secret is not None and integration.token_secret_is_new:
            CfnOutput(
                self,
                "FillKongAdminToken",
                # Neither the shell's history nor the list of processes shows what `read` reads and `printf` prints.
                value='read -rs TOKEN; printf %s "$TOKEN" | aws secretsmanager put-secret-value '
                f"--region {self.region} --secret-id {integration.token_secret.secret_arn} "
                "--secret-string file:///dev/stdin",
                description="Run it, paste Kong's token and press Enter; the function fails until then",
            )
