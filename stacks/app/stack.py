"""The stack of this repository's own app: an imported VPC, the construct, tags and outputs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from aws_cdk import Annotations, CfnOutput, Duration, Environment, Fn, Stack, Tags
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

from ..integration import KongCloudTrailIntegration
from ..observability.alarms import AlarmOptions
from ..settings.groups import (
    Archive,
    CacheOptions,
    CloudTrailLake,
    CloudWatchLogs,
    Destination,
    FunctionOptions,
    KongOptions,
    NetworkOptions,
    RunOptions,
    ScheduleOptions,
)
from ..settings.names import DEFAULT_STREAM, properties_of
from ..settings.resolved import DeploymentSettings


class IntegrationStack(Stack):
    """One integration in an existing VPC, from context values.

    Nothing is looked up: the template follows from the settings alone, offline and without credentials.

    Parameters
    ----------
    scope, construct_id
        As for every stack.
    options : DeploymentSettings
        The checked settings.
    account : str, optional
        Account to deploy to. Default: that of the credentials at deployment.

    Attributes
    ----------
    integration : KongCloudTrailIntegration
        The construct.
    trail : str
        Which gateway is read, and where its entries go. Another one in the same stack replaces the trail.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, options: DeploymentSettings, account: str | None = None
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            env=Environment(account=account, region=options.region),
            description="Kong Gateway's audit trail, kept in AWS",
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
            private_subnet_route_table_ids=None if options.route_table_ids is None else list(options.route_table_ids),
        )
        # Routes are not read here either.
        Annotations.of(vpc).acknowledge_warning("@aws-cdk/aws-ec2:noSubnetRouteTableId")
        self.integration = KongCloudTrailIntegration(
            self,
            "Integration",
            vpc=vpc,
            alarms=self._alarms(options),
            encryption_key=None
            if options.encryption_key is None
            else kms.Key.from_key_arn(self, "Key", options.encryption_key),
            permissions_boundary=self._boundary(options.permissions_boundary),
            **_properties(options),
        )
        kept = " and ".join(self._place(name) for name in options.destinations)
        self.trail = f"{self.integration.source_name}: {self.integration.admin_api} into {kept}"
        self._add_outputs()

    def replaced_trail(self, outdir: Path) -> str | None:
        """Say which other trail the stack had when it was last synthesised into a directory; None if none is known."""
        try:
            template = json.loads((outdir / f"{self.stack_name}.template.json").read_text("utf-8"))
            before = template["Outputs"]["Trail"]["Value"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return before if isinstance(before, str) and before != self.trail else None

    def _place(self, destination: str) -> str:
        """Return words for a destination that do not depend on what CloudFormation makes of it."""
        if destination == CloudTrailLake.destination:
            return str(self.integration.channel_arn)
        return "an archive in S3" if destination == Archive.destination else "CloudWatch Logs"

    def _boundary(self, policy: str | None) -> iam.IManagedPolicy | None:
        if policy is None:
            return None
        if policy.startswith("arn:"):
            return iam.ManagedPolicy.from_managed_policy_arn(self, "Boundary", policy)
        return iam.ManagedPolicy.from_managed_policy_name(self, "Boundary", policy)

    def _alarms(self, options: DeploymentSettings) -> AlarmOptions:
        alarms = AlarmOptions(runbook_url=options.runbook_url)
        if options.alarm_topic is None:
            return alarms
        return replace(alarms, topic=sns.Topic.from_topic_arn(self, "AlarmTopic", options.alarm_topic))

    def _add_outputs(self) -> None:
        integration = self.integration
        CfnOutput(self, "Trail", value=self.trail, description="Which gateway is read, and where its entries go")
        CfnOutput(
            self,
            "FunctionName",
            value=integration.collector.function.function_name,
            description="Name of the function that collects",
        )
        if integration.cache is not None:
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
        for trail, schedule in integration.schedules.items():
            stream, destination = trail.split("/")
            suffix = ("" if stream == DEFAULT_STREAM else stream.capitalize()) + _OUTPUT_SUFFIX[destination]
            CfnOutput(
                self,
                f"ScheduleName{suffix}",
                value=schedule.schedule.schedule_name,
                description=f"Name of the schedule of {stream} into {destination}",
            )
        if integration.backfill is not None:
            CfnOutput(
                self,
                "BackfillStateMachineArn",
                value=integration.backfill.state_machine.state_machine_arn,
                description="The state machine that delivers large ranges: kong-cloudtrail backfill --state-machine",
            )
        self._add_outputs_of_the_archive()
        if integration.logs is not None:
            CfnOutput(
                self,
                "TrailLogGroupName",
                value=integration.logs.log_group.log_group_name,
                description="Name of the log group that the events go to; stays when the stack goes",
            )
        if integration.fill_token_command is not None:
            CfnOutput(
                self,
                "FillKongAdminToken",
                value=integration.fill_token_command,
                description="Run it, paste Kong's token and press Enter; the function fails until then",
            )

    def _add_outputs_of_the_archive(self) -> None:
        archive, queries = self.integration.archive, self.integration.archive_queries
        if archive is not None:
            CfnOutput(
                self,
                "ArchiveUrl",
                value=archive.url,
                description="Where the archive is; stays when the stack goes",
            )
            if archive.signing_key is not None:
                CfnOutput(
                    self,
                    "ArchiveSigningKeyArn",
                    value=archive.signing_key.key_arn,
                    description="The key that signs run reports; aws kms get-public-key shows what verifies them",
                )
        if queries is not None:
            CfnOutput(self, "AthenaWorkgroup", value=queries.workgroup_name, description="Workgroup of the queries")
            CfnOutput(
                self,
                "AthenaTable",
                value=f"{queries.database_name}.{queries.table_name}",
                description="Database and table of the archive",
            )
            CfnOutput(
                self,
                "QueryExample",
                value=f"kong-cloudtrail query who-did-what --stack {self.stack_name}",
                description="Asks the archive; the other named queries are in the workgroup",
            )


_OUTPUT_SUFFIX = {Archive.destination: "Archive", CloudTrailLake.destination: "", CloudWatchLogs.destination: "Logs"}


def _properties(options: DeploymentSettings) -> dict[str, Any]:
    """Return the flat settings as properties of the construct."""
    settings, retention_days = options.integration, options.kong_retention_days
    return {
        "kong": KongOptions(
            audit_log_retention=None if retention_days is None else Duration.days(retention_days),
            **properties_of(KongOptions, settings),
        ),
        "destinations": [_destination(name, options) for name in options.destinations],
        "run": RunOptions(
            schedule_options=ScheduleOptions(enabled=options.schedule_enabled),
            backfill=options.backfill,
            **properties_of(RunOptions, settings),
        ),
        "function": FunctionOptions(**properties_of(FunctionOptions, settings)),
        "cache": None if options.cache is None else replace(options.cache, **properties_of(CacheOptions, settings)),
        "network": NetworkOptions(
            endpoints=options.route_table_ids is not None,
            vpc_owner_account=options.vpc_owner_account,
            **properties_of(NetworkOptions, settings),
        ),
        **{name: settings.get(name) for name in ("source_name", "resource_name")},
    }


def _destination(name: str, options: DeploymentSettings) -> Destination:
    settings = options.integration
    if name == Archive.destination:
        return replace(options.archive, **properties_of(Archive, settings))
    if name == CloudWatchLogs.destination:
        return replace(options.logs, **properties_of(CloudWatchLogs, settings))
    return CloudTrailLake(channel_arn=settings.get("channel_arn"), **properties_of(CloudTrailLake, settings))
