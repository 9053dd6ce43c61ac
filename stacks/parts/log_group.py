"""CloudWatch Logs' side: the log group that the events go to, its queries, its alarms, its dashboard, its table."""

from collections.abc import Mapping

from aws_cdk import ArnFormat, CfnResource, Duration, RemovalPolicy, Stack, Tags
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from constructs import Construct

from ..settings.groups import CloudWatchLogs
from .grants import allow
from .keys import allow_log_groups, allow_s3_tables
from .log_queries import INDEXED_FIELDS, PATTERNS, QUERIES
from .nag import accept, accept_amazons_key, accept_own_policy, accept_wildcard, controls

RETENTION_DAYS = 365
DATA_SOURCE = ("kong_gateway", "api_activity")
"""Name and type of the data source, as CloudWatch names those of other products."""

_NAMESPACE = "KongAuditTrail"
_RUNBOOK = "docs/runbook.md"


class TrailLogGroup(Construct):
    """A log group with deletion protection, field indexes and saved queries, or one that is there already.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    source : str
        Name of the gateway, whose log streams the function may write to.
    options : CloudWatchLogs, optional
        A group to use instead, or how the new one is to be. Default: those of `CloudWatchLogs`.
    event_format : str
        What the events are, ``json`` or ``ocsf``.
    topic : sns.ITopic, optional
        Where alarms about what was done are told. Default: nowhere.
    runbook_url : str, optional
        Address of the runbook that their descriptions name. Default: where it is in the repository.
    encryption_key : kms.IKey, optional
        Key of the new group. Default: CloudWatch Logs' own.

    Attributes
    ----------
    log_group : logs.ILogGroup
        The group.
    arn : str
        Its ARN, as the function's ``LOG_GROUP``.
    variables : Mapping of str to str
        The function's variables about it.
    queries : list of logs.CfnQueryDefinition
        The saved queries.
    metric_filters : list of logs.MetricFilter
        What counts refused calls and changes.
    alarms : list of cloudwatch.Alarm
        The alarms about them.
    dashboard : cloudwatch.Dashboard or None
        The dashboard of queries.
    s3_tables : CfnResource or None
        The association with S3 Tables.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        source: str,
        options: CloudWatchLogs | None = None,
        event_format: str = "json",
        topic: sns.ITopic | None = None,
        runbook_url: str | None = None,
        encryption_key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        options = options or CloudWatchLogs()
        self.source, self._form, self._runbook = source, event_format, runbook_url or _RUNBOOK
        self.log_group = self._log_group(options, encryption_key)
        # Without the asterisk that CloudFormation and the CDK have at its end.
        self.arn = Stack.of(self).format_arn(
            service="logs",
            resource="log-group",
            resource_name=self.log_group.log_group_name,
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        self.variables: Mapping[str, str] = {"LOG_GROUP": self.arn, **_retention(options)}
        self.queries = self._new_queries() if options.queries else []
        self.metric_filters: list[logs.MetricFilter] = []
        self.alarms = self._new_alarms(options, topic) if options.activity_alarms else []
        self.dashboard = self._new_dashboard() if options.dashboard else None
        self.s3_tables = self._new_s3_tables(encryption_key) if options.s3_tables else None

    def grant_read(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody read the events and ask Logs Insights: an auditor, say.

        The calls for a query that was started name no log group, so their permission is for every query of the account.
        """
        reading = self.log_group.grant(
            grantee, "logs:FilterLogEvents", "logs:GetLogEvents", "logs:StartQuery", "logs:GetLogGroupFields"
        )
        answers = iam.Grant.add_to_principal(
            grantee=grantee, actions=["logs:GetQueryResults", "logs:StopQuery"], resource_arns=["*"]
        )
        return reading.combine(answers)

    def grant_use(self, role: iam.IRole) -> None:
        """Let a role add events to the log streams of this gateway, create them, and see whether the group exists."""
        streams = f"{self.arn}:log-stream:{self.source}/*"
        allow(role, ("logs:PutLogEvents",), streams)
        accept_wildcard(role, streams, "One log stream for each stream of this gateway, named by it.")
        # These calls are checked against a log stream without a name.
        any_stream = f"{self.arn}:log-stream:*"
        allow(role, ("logs:CreateLogStream", "logs:DescribeLogStreams"), any_stream)
        accept_wildcard(role, any_stream, "A log stream that is still to be created has no name for policies.")

    def _log_group(self, options: CloudWatchLogs, encryption_key: kms.IKey | None) -> logs.ILogGroup:
        given = options.existing_log_group
        if isinstance(given, str):
            return logs.LogGroup.from_log_group_name(self, "Events", _name_of(given))
        return self._new_log_group(options, encryption_key) if given is None else given

    def _new_log_group(self, options: CloudWatchLogs, encryption_key: kms.IKey | None) -> logs.LogGroup:
        if encryption_key is not None:
            allow_log_groups(self, encryption_key)
        group = logs.LogGroup(
            self,
            "Events",
            log_group_name=options.log_group_name,
            encryption_key=encryption_key,
            # A protected group cannot be removed, so a deployment that fails leaves it where it is.
            removal_policy=options.removal_policy
            or (RemovalPolicy.RETAIN if options.deletion_protection else RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE),
        )
        resource = group.node.default_child
        assert isinstance(resource, logs.CfnLogGroup)  # noqa: S101 - of a group that was just created, it is
        resource.retention_in_days = _days(options)
        # By their own names: the CDK that the wheel allows at the least does not know them all.
        if options.deletion_protection:
            resource.add_property_override("DeletionProtectionEnabled", True)
        resource.add_property_override("FieldIndexPolicies", [{"Fields": list(INDEXED_FIELDS[self._form])}])
        for kind, value in zip(("name", "type"), DATA_SOURCE, strict=True):
            Tags.of(group).add(f"cw:datasource:{kind}", value)
        if encryption_key is None:
            accept_amazons_key(group, "CloudWatchLogGroupEncrypted", "CKV_AWS_158")
        return group

    def _new_queries(self) -> list[logs.CfnQueryDefinition]:
        return [
            logs.CfnQueryDefinition(
                self,
                f"Query{''.join(part.capitalize() for part in query.name.split('-'))}",
                name=f"kong-audit/{self.source}/{query.name}",
                query_string=query.text(self._form),
                log_group_names=[self.log_group.log_group_name],
            )
            for query in QUERIES
        ]

    def _new_alarms(self, options: CloudWatchLogs, topic: sns.ITopic | None) -> list[cloudwatch.Alarm]:
        for name, patterns in PATTERNS.items():
            self.metric_filters.append(
                logs.MetricFilter(
                    self,
                    f"{name}Filter",
                    log_group=self.log_group,
                    filter_pattern=logs.FilterPattern.literal(patterns[self._form]),
                    metric_namespace=_NAMESPACE,
                    metric_name=f"{self.source}/{name}",
                    metric_value="1",
                    default_value=0,
                )
            )
        of_refused, of_changes = self.metric_filters
        refused = of_refused.metric(statistic=cloudwatch.Stats.SUM, period=Duration.hours(1))
        # An alarm's periods begin at any minute, so the hour of a short one is nearly that of what is in it.
        changes = of_changes.metric(statistic=cloudwatch.Stats.SUM, period=Duration.minutes(5))
        first, last = options.hours
        out_of_hours = cloudwatch.MathExpression(
            expression=f"IF(DAY(changes) > 5 OR HOUR(changes) < {first} OR HOUR(changes) >= {last}, changes, 0)",
            using_metrics={"changes": changes},
            label="changes out of hours",
            period=Duration.minutes(5),
        )
        return [
            self._alarm(
                "ManyRefusedCalls",
                f"{self.source}: {options.refused_calls} or more calls of the Admin API were refused in an hour",
                refused,
                24,
                options.refused_calls,
                topic,
                "Somebody tries what they may not do, or with a wrong token. The saved query refused-calls shows who.",
            ),
            self._alarm(
                "ChangesOutOfHours",
                f"{self.source}: Kong was changed out of hours",
                out_of_hours,
                24 * 12,
                1,
                topic,
                f"Outside of Monday to Friday, {first} to {last} o'clock UTC. The saved query who-did-what shows who.",
            ),
        ]

    def _alarm(
        self,
        construct_id: str,
        title: str,
        metric: cloudwatch.IMetric,
        periods_of_a_day: int,
        threshold: float,
        topic: sns.ITopic | None,
        description: str,
    ) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            construct_id,
            alarm_name=title,
            alarm_description=f"{description} Runbook: {self._runbook}#what-was-done-in-kong",
            metric=metric,
            threshold=threshold,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            # Events have the times of the requests, which are past when a run delivers them: an alarm on the present
            # hour would not see them. CloudWatch looks back a day at most without becoming slow.
            evaluation_periods=periods_of_a_day,
            datapoints_to_alarm=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        if topic is None:
            accept(
                alarm,
                controls("CloudWatchAlarmAction"),
                "Whom to tell is for the owner of the account to say, with a topic. Without one the alarm shows in the "
                "account's own overview.",
            )
        else:
            alarm.add_alarm_action(actions.SnsAction(topic))
        return alarm

    def _new_dashboard(self) -> cloudwatch.Dashboard:
        dashboard = cloudwatch.Dashboard(self, "Dashboard", default_interval=Duration.days(7))
        for query in QUERIES:
            if "REQUEST_ID" in query.template:
                continue
            dashboard.add_widgets(
                cloudwatch.LogQueryWidget(
                    title=query.title,
                    log_group_names=[self.log_group.log_group_name],
                    query_string=query.text(self._form),
                    view=cloudwatch.LogQueryVisualizationType.TABLE,
                    width=24,
                    height=8,
                )
            )
        return dashboard

    def _new_s3_tables(self, encryption_key: kms.IKey | None) -> CfnResource:
        from aws_cdk import aws_observabilityadmin as observabilityadmin  # the oldest CDK has no such resource

        stack = Stack.of(self)
        groups = f"{self.arn}:*"
        role = iam.Role(
            self,
            "S3TablesRole",
            description="Lets CloudWatch Logs keep the Kong audit trail as a table of S3 Tables",
            assumed_by=iam.ServicePrincipal(
                "logs.amazonaws.com",
                conditions={
                    "StringEquals": {"aws:SourceAccount": stack.account},
                    "ArnLike": {"aws:SourceArn": [self.arn, groups]},
                },
            ),
        )
        accept_own_policy(role)
        if encryption_key is not None:
            allow_s3_tables(self, encryption_key)
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["logs:integrateWithS3Table"],
                resources=[self.arn, groups],
                conditions={"StringEquals": {"aws:ResourceAccount": stack.account}},
            )
        )
        accept_wildcard(role, groups, "The log streams of the one log group.")
        name, kind = DATA_SOURCE
        encryption: dict[str, str] = (
            {"sseAlgorithm": "AES256"}
            if encryption_key is None
            else {"sseAlgorithm": "aws:kms", "kmsKeyArn": encryption_key.key_arn}
        )
        integration: CfnResource = observabilityadmin.CfnS3TableIntegration(
            self,
            "S3Tables",
            role_arn=role.role_arn,
            encryption=observabilityadmin.CfnS3TableIntegration.EncryptionConfigProperty(
                sse_algorithm=encryption["sseAlgorithm"], kms_key_arn=encryption.get("kmsKeyArn")
            ),
            log_sources=[observabilityadmin.CfnS3TableIntegration.LogSourceProperty(name=name, type=kind)],
        )
        if (policy := role.node.try_find_child("DefaultPolicy")) is not None:
            integration.node.add_dependency(policy)
        return integration


def _name_of(group: str) -> str:
    """Return the name of a log group that was given by it, or by its ARN."""
    return group.rpartition(":log-group:")[2].removesuffix(":*")


def _days(options: CloudWatchLogs) -> int:
    return RETENTION_DAYS if options.retention is None else int(options.retention.to_days())


def _retention(options: CloudWatchLogs) -> dict[str, str]:
    """Return for how long the group keeps events, where that is known."""
    if options.existing_log_group is not None and options.retention is None:
        return {}
    return {"LOG_GROUP_RETENTION_DAYS": str(_days(options))}
