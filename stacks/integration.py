"""The construct: Kong Gateway's audit trail, kept in AWS."""

from collections.abc import Mapping, Sequence
from typing import Any

import jsii
from aws_cdk import Annotations, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from .observability.alarms import AlarmOptions
from .observability.construct import KONG_RETENTION, Observability
from .observability.metrics import NAMESPACE, CacheNodes, MetricName, ServerlessCache, checked_name, dimensions
from .parts.archive import ArchiveBucket
from .parts.archive_queries import ArchiveQueries
from .parts.backfill import BackfillStateMachine
from .parts.cache import NODES, DedupeCache, ReplicationGroupCache, ServerlessDedupeCache, create_cache
from .parts.event_store import EventStore
from .parts.function import CollectorFunction
from .parts.grants import allow, allow_reading
from .parts.ledger import Ledger
from .parts.log_group import TrailLogGroup
from .parts.network import CollectorNetwork
from .parts.schedule import CollectorSchedule
from .parts.shared import Sources
from .parts.token import KongToken
from .preflight import Given, Plan, check
from .settings.cron import Schedule
from .settings.groups import (
    Archive,
    CacheOptions,
    CloudWatchLogs,
    Destination,
    FunctionOptions,
    KongOptions,
    LedgerOptions,
    NetworkOptions,
    RunOptions,
)
from .settings.names import DEFAULT_STREAM, TrailName

_LONGEST_SCHEDULE_NAME = 64
_RECONCILE = "-reconcile"
"""https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html"""


@jsii.implements(ec2.IConnectable, iam.IGrantable)
class KongCloudTrailIntegration(Construct):
    """A scheduled function that keeps Kong's audit log entries in AWS, with everything it needs.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    vpc : ec2.IVpc
        The VPC where Kong's control plane runs; an imported one will do. From the subnets the function needs a way to
        Kong, and one to AWS: for an archive and CloudWatch Logs, VPC endpoints will do; for CloudTrail Lake it takes
        NAT, as ``cloudtrail-data`` has no VPC endpoint. See ``docs/network.md``.
    kong : KongOptions
        Where Kong's Admin API is, and how the function proves who it is.
    channel_arn : str, optional
        ARN of the CloudTrail Lake channel, in the region of the stack: short for
        ``destinations=[CloudTrailLake(channel_arn=…)]``.
    destinations : sequence of Archive, CloudTrailLake or CloudWatchLogs, optional
        Where entries are kept: in an archive in S3, or in CloudWatch Logs, which every account can have; in CloudTrail
        Lake, if AWS still lets the account use it; or in several. Each is a trail of its own, with its own schedule,
        metrics and alarms. Required, unless `channel_arn` is given.
    source_name : str, optional
        Name of this gateway in keys, metrics and alarms. Each gateway in an account and region needs one of its own,
        since alarms go by it. Default: ``kong``.
    resource_name : str, optional
        Physical name of the function and of the schedule, stem of the security groups' names, and first part of the
        ledger's keys. Default: CloudFormation names them, so that several integrations fit into one stack.
    subnets : ec2.SubnetSelection, optional
        For the function and a new cache: at least two subnets, in two availability zones (one, if the cache is not
        new). Default: the VPC's private ones.
    run : RunOptions, optional
        When runs take place, what they read, and how. Default: those of `RunOptions`, a run every hour.
    function : FunctionOptions, optional
        Memory, timeout, architecture, logs, dead letters, variables and the like. Default: those of `FunctionOptions`.
    cache : CacheOptions or DedupeCache, optional
        How the cache is to be, or which existing one to use; or the `cache` of another integration, to share it.
        Default: those of `CacheOptions`; with an archive alone, which knows what it holds, no cache.
    ledger : LedgerOptions or Ledger, optional
        How the ledger's bucket is to be, or which existing one to use; or the `ledger` of another integration, to
        share it. Default: those of `LedgerOptions`.
    network : NetworkOptions, optional
        The function's security group, where Kong is, and endpoints to create. Default: those of `NetworkOptions`.
    alarms : AlarmOptions, optional
        Which alarms there are, from which value on, and whom they tell. Default: those of `AlarmOptions`.
    dashboard : bool, optional
        Whether there is a CloudWatch dashboard. Default: yes.
    encryption_key : kms.IKey, optional
        Key of everything new that holds data: bucket, cache, secrets, logs, queue, the function's environment. The
        policy of one from elsewhere has to let ``logs.amazonaws.com`` use it, of which a warning reminds you. Of an
        alias, the key behind it counts. Default: AWS's own keys.
    permissions_boundary : iam.IManagedPolicy, optional
        Boundary of every role. Default: none.

    Attributes
    ----------
    cache : DedupeCache or None
        The cache; its kind tells what is to be found on it. None where there is none.
    ledger : Ledger
        The bucket of checkpoints, quarantine and run reports.
    network : CollectorNetwork
        The function's security group and the endpoints.
    collector : CollectorFunction
        Function, role, log group, dead-letter queue.
    schedules : Mapping of str to CollectorSchedule
        A schedule and its role for each trail, by stream and destination: ``requests/archive``.
    reconcile_schedules : Mapping of str to CollectorSchedule
        The same for reconciliations; empty unless they are asked for.
    backfill : BackfillStateMachine or None
        The state machine for backfills, and its role; None where there is none.
    schedule_period : Duration
        The most time between two runs of a trail.
    observability : Observability
        Metrics, alarms and dashboard.
    event_store : EventStore or None
        Event data store and channel; None where they are not created.
    channel_arn : str or None
        ARN of the channel, given or created; None where there is none.
    archive : ArchiveBucket or None
        The archive's bucket, and the key that signs; None where there is no archive.
    archive_queries : ArchiveQueries or None
        Table, workgroup and named queries over the archive; None where there are none.
    logs : TrailLogGroup or None
        The log group that the events go to, with its queries and alarms; None where there is none.
    source_name : str
        Name of this gateway.
    admin_api : str
        URL of its Admin API.
    token_secret : secretsmanager.ISecret or None
        The secret with Kong's token; None where no token is needed.
    token_secret_is_new : bool
        Whether that secret was created here, empty, and waits for the token.
    fill_token_command : str or None
        The command that puts the token into the new secret without showing it, for an output of your stack:
        ``CfnOutput(stack, "FillToken", value=trail.fill_token_command)``. This repository's own app has such an output.
        None where no secret was created.
    security_group : ec2.ISecurityGroup
        The function's security group.
    connections : ec2.Connections
        Its connections, for rules of your own: ``kong.connections.allow_from(trail, ec2.Port.tcp(8444))``.
    grant_principal : iam.IPrincipal
        The function's role, for grants of your own: ``key.grant_decrypt(trail)``.

    Raises
    ------
    SettingsError
        With every problem of the settings, before anything is created.

    Notes
    -----
    Every new resource is a child with a CDK type; what has no L2 is the L1 itself, e.g. ``cache.replication_group``.
    Of an L2, ``resource.node.default_child`` is the L1.

    Examples
    --------
    >>> KongCloudTrailIntegration(
    ...     stack,
    ...     "KongAuditTrail",
    ...     vpc=vpc,
    ...     kong=KongOptions(admin_api="https://kong-admin.example.com:8444"),
    ...     channel_arn="arn:aws:cloudtrail:us-east-1:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef",
    ... )
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        kong: KongOptions,
        channel_arn: str | None = None,
        destinations: Sequence[Destination] | None = None,
        source_name: str | None = None,
        resource_name: str | None = None,
        subnets: ec2.SubnetSelection | None = None,
        run: RunOptions | None = None,
        function: FunctionOptions | None = None,
        cache: CacheOptions | DedupeCache | None = None,
        ledger: LedgerOptions | Ledger | None = None,
        network: NetworkOptions | None = None,
        alarms: AlarmOptions | None = None,
        dashboard: bool = True,
        encryption_key: kms.IKey | None = None,
        permissions_boundary: iam.IManagedPolicy | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        given = Given(
            vpc=vpc,
            kong=kong,
            channel_arn=channel_arn,
            destinations=destinations,
            source_name=source_name,
            resource_name=resource_name,
            subnets=subnets,
            run=run,
            function=function,
            cache=cache,
            ledger=ledger,
            network=network,
            alarms=alarms,
            dashboard=dashboard,
            encryption_key=encryption_key,
            permissions_boundary=permissions_boundary,
        )
        plan = check(self, given)
        self._remark(plan)
        if plan.permissions_boundary is not None:
            iam.PermissionsBoundary.of(self).apply(plan.permissions_boundary)
        self.source_name = plan.resolved.environment["SOURCE_NAME"]
        self.admin_api = plan.resolved.kong.admin_api.url
        self.cache = self._new_cache(plan)
        self.ledger = self._new_ledger(plan)
        self.event_store = self._new_event_store(plan)
        self.channel_arn = self._channel_arn(plan)
        self.archive = self._new_archive(plan)
        self.archive_queries = self._new_archive_queries(plan)
        self.logs = self._new_logs(plan)
        token = self._new_token(plan)
        self.token_secret, self.token_secret_is_new = token.secret, token.is_new
        self.fill_token_command = token.fill_command
        self.network = self._new_network(plan)
        self.collector = self._new_collector(plan)
        self._grant_what_it_needs(plan)
        self._trails = plan.trails
        self.schedules: Mapping[str, CollectorSchedule] = {
            str(trail): self._new_schedule(plan, trail) for trail in plan.trails
        }
        when = plan.resolved.reconcile
        self.reconcile_schedules: Mapping[str, CollectorSchedule] = (
            {}
            if when is None
            else {str(trail): self._new_reconcile_schedule(plan, trail, when) for trail in plan.trails}
        )
        self.backfill = self._new_backfill(plan)
        self.schedule_period = Duration.seconds(plan.resolved.schedule.longest_seconds)
        self.observability = self._new_observability(plan)
        plan.sources.take(self.cache, self.ledger, self.archive, plan.resolved.environment)

    @property
    def security_group(self) -> ec2.ISecurityGroup:  # noqa: D102 - documented above
        return self.network.security_group

    @property
    def connections(self) -> ec2.Connections:  # noqa: D102 - documented above
        return self.network.security_group.connections

    @property
    def grant_principal(self) -> iam.IPrincipal:  # noqa: D102 - documented above
        return self.collector.role

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody start a run."""
        return self.collector.function.grant_invoke(grantee)

    def grant_backfill(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody start backfills by the state machine, follow them, and redrive those that failed.

        Raises
        ------
        ValueError
            If there is no state machine.
        """
        if self.backfill is None:
            raise ValueError("There is no state machine for backfills here; give RunOptions(backfill=…).")
        return self.backfill.grant_start(grantee)

    def grant_read_ledger(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody read checkpoints, quarantine, originals and run reports: an auditor, say."""
        return self.ledger.grant_read(grantee)

    def grant_read_archive(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody read what is archived: an auditor, say.

        Raises
        ------
        ValueError
            If there is no archive.
        """
        if self.archive is None:
            raise ValueError("There is no archive here; name one among the destinations.")
        return self.archive.grant_read(grantee)

    def grant_query_archive(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody ask the archive in SQL: an auditor, say.

        Raises
        ------
        ValueError
            If there is nothing to ask.
        """
        if self.archive_queries is None:
            raise ValueError("There are no queries here; name an archive among the destinations, with queries.")
        return self.archive_queries.grant_query(grantee)

    def grant_consume_dead_letters(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody receive and delete what is in the dead-letter queue."""
        return self.collector.dead_letters.grant_consume_messages(grantee)

    def grant_fill_token(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody put a new token into the secret.

        Raises
        ------
        ValueError
            If there is no such secret, because Kong asks for no token.
        """
        if self.token_secret is None:
            raise ValueError(
                "Kong needs no token here, so there is no secret to fill; give KongOptions(superadmin=True, …)."
            )
        return self.token_secret.grant_write(grantee)

    def metric(
        self, name: MetricName, *, stream: str | None = None, destination: str | None = None, **properties: Any
    ) -> cloudwatch.Metric:
        """Return one of the metrics that the function writes about its runs, e.g. ``EventsDelivered``.

        The other methods are short for this one, and take the same properties.

        Parameters
        ----------
        name : MetricName
            As in ``docs/settings.md``.
        stream : str, optional
            Of which trail: ``requests`` or ``objects``. Default: the only one, or else ``requests``.
        destination : str, optional
            Of which trail: ``archive``, ``cloudtrail-lake`` or ``cloudwatch-logs``. Default: the
            only one.
        properties
            As of `cloudwatch.Metric`: ``statistic``, ``period``, ``label``, … Default: the sum of five minutes.

        Raises
        ------
        ValueError
            If there is no metric of that name, no such trail, or several to choose from.
        """
        streams = {trail.stream for trail in self._trails}
        stream = stream or (DEFAULT_STREAM if DEFAULT_STREAM in streams else next(iter(streams)))
        found = [each for each in self._trails if each.stream == stream and destination in (None, each.destination)]
        if len(found) > 1:
            raise ValueError(f"metric: there are several trails; give destination, one of {', '.join(self.schedules)}.")
        if not found:
            raise ValueError(f"metric: there is no such trail; there is {', '.join(self.schedules)}.")
        return cloudwatch.Metric(
            **{
                "namespace": NAMESPACE,
                "metric_name": checked_name(name),
                "dimensions_map": dimensions(self.source_name, found[0]),
                "statistic": cloudwatch.Stats.SUM,
                **properties,
            }
        )

    def metric_errors(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of runs that failed."""
        return self.collector.function.metric_errors(**properties)

    def metric_runs_finished(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of runs after which nothing was left to deliver."""
        return self.metric("RunsFinished", **properties)

    def metric_events_delivered(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of events that the destination confirmed."""
        return self.metric("EventsDelivered", **properties)

    def metric_entries_excluded(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of entries that were left out by a rule."""
        return self.metric("EntriesExcluded", **properties)

    def metric_entries_quarantined(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of entries that the destination refused, and that are kept in the ledger."""
        return self.metric("EntriesQuarantined", **properties)

    def metric_quarantine_open(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of entries that lie in quarantine; the maximum."""
        return self.metric("QuarantineOpen", **{"statistic": cloudwatch.Stats.MAXIMUM, **properties})

    def metric_entries_found_late(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of entries that a sweep delivered: they became visible too late for the window."""
        return self.metric("EntriesFoundLate", **properties)

    def metric_gaps_open(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of stretches that Kong could not show and that are still to be read; the maximum."""
        return self.metric("GapsOpen", **{"statistic": cloudwatch.Stats.MAXIMUM, **properties})

    def metric_oldest_undelivered_age(self, **properties: Any) -> cloudwatch.Metric:
        """Return the age of the oldest entry that is not delivered yet, in seconds; its maximum of five minutes."""
        return self.metric("OldestUndeliveredAgeSeconds", **{"statistic": cloudwatch.Stats.MAXIMUM, **properties})

    def metric_checkpoint_lag(self, **properties: Any) -> cloudwatch.Metric:
        """Return how long ago a run last had delivered everything that Kong showed, in seconds; the maximum."""
        return self.metric("CheckpointLagSeconds", **{"statistic": cloudwatch.Stats.MAXIMUM, **properties})

    def metric_entries_missing(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of entries that a reconciliation found missing, and did not deliver; the maximum."""
        return self.metric("EntriesMissing", **{"statistic": cloudwatch.Stats.MAXIMUM, **properties})

    def metric_parts_written(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of objects that were added to the archive."""
        return self.metric("PartsWritten", destination=Archive.destination, **properties)

    def metric_parts_damaged(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of the archive's objects that somebody removed or overwrote; the maximum."""
        properties = {"statistic": cloudwatch.Stats.MAXIMUM, **properties}
        return self.metric("PartsDamaged", destination=Archive.destination, **properties)

    def _remark(self, plan: Plan) -> None:
        """Warn of what stops nothing, and may be meant otherwise."""
        for note in plan.notes():
            Annotations.of(self).add_warning_v2(f"kong-cloudtrail:{note.partition(':')[0]}", note)

    def _new_cache(self, plan: Plan) -> DedupeCache | None:
        if plan.cache is None or isinstance(plan.cache, DedupeCache):
            return plan.cache
        return create_cache(
            self,
            "Cache",
            plan.cache,
            vpc=plan.vpc,
            subnet_ids=plan.subnets.ids if plan.cache.serverless is None else plan.subnets.one_per_zone(),
            name=plan.name,
            encryption_key=plan.encryption_key,
        )

    def _new_ledger(self, plan: Plan) -> Ledger:
        if isinstance(plan.place, Ledger):
            return plan.place
        return Ledger(self, "Ledger", options=plan.place, encryption_key=plan.encryption_key)

    def _new_event_store(self, plan: Plan) -> EventStore | None:
        return None if plan.event_store is None else EventStore(self, "EventStore", options=plan.event_store)

    def _event_data_store_arn(self, plan: Plan) -> str | None:
        """Return the store that `reconcile` may query."""
        given = plan.resolved.environment.get("EVENT_DATA_STORE")
        if given is not None or self.event_store is None:
            return given
        return self.event_store.event_data_store.attr_event_data_store_arn

    def _channel_arn(self, plan: Plan) -> str | None:
        if plan.lake is None:
            return None
        return plan.resolved.channel_arn if self.event_store is None else self.event_store.channel_arn

    def _new_archive(self, plan: Plan) -> ArchiveBucket | None:
        if plan.archive is None:
            return None
        return ArchiveBucket(
            self, "Archive", source=self.source_name, options=plan.archive, encryption_key=plan.encryption_key
        )

    def _new_archive_queries(self, plan: Plan) -> ArchiveQueries | None:
        if plan.archive is None or self.archive is None or not plan.archive.queries:
            return None
        return ArchiveQueries(
            self,
            "ArchiveQueries",
            archive=self.archive,
            line_format=plan.resolved.environment["ARCHIVE_FORMAT"],
            scan_limit_gib=plan.archive.scan_limit_gib,
            encryption_key=plan.encryption_key,
        )

    def _new_logs(self, plan: Plan) -> TrailLogGroup | None:
        if plan.logs is None:
            return None
        return TrailLogGroup(
            self,
            "Logs",
            source=self.source_name,
            options=plan.logs,
            event_format=plan.resolved.environment["LOG_GROUP_FORMAT"],
            topic=plan.alarms.topic,
            runbook_url=plan.alarms.runbook_url,
            encryption_key=plan.encryption_key,
        )

    def _new_token(self, plan: Plan) -> KongToken:
        if not plan.resolved.kong.needs_token:
            return KongToken()
        return KongToken.in_secret(self, plan.token_secret, plan.encryption_key)

    def _new_network(self, plan: Plan) -> CollectorNetwork:
        network = CollectorNetwork(
            self,
            "Network",
            vpc=plan.vpc,
            subnets=plan.subnet_selection,
            admin_api=plan.resolved.kong.admin_api,
            options=plan.network,
            security_group=plan.security_group,
            **(self._endpoints() if plan.network.endpoints else {}),
        )
        if self.cache is not None:
            self.cache.admit(
                network.security_group,
                # A stack that made the group for this one cannot depend on it.
                rule_in_own_stack=Stack.of(network.security_group).node.path != Stack.of(self).node.path,
            )
        return network

    def _endpoints(self) -> dict[str, Any]:
        """Return the services that the function itself calls, and that have endpoints."""
        interface_services = []
        if self.token_secret is not None or (self.cache is not None and self.cache.password is not None):
            interface_services.append(ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER)
        if self.archive is not None and self.archive.signing_key is not None:
            interface_services.append(ec2.InterfaceVpcEndpointAwsService.KMS)
        if self.logs is not None:
            interface_services.append(ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS)
        return {
            "interface_services": interface_services,
            "gateway_services": [ec2.GatewayVpcEndpointAwsService.S3],
        }

    def _new_collector(self, plan: Plan) -> CollectorFunction:
        groups = (self.network.security_group, None if self.cache is None else self.cache.client_security_group)
        return CollectorFunction(
            self,
            "Collector",
            vpc=plan.vpc,
            subnets=plan.subnet_selection,
            security_groups=[group for group in groups if group is not None],
            environment={**plan.resolved.environment, **self._variables(plan)},
            period_seconds=plan.resolved.schedule.shortest_seconds,
            options=plan.function,
            name=plan.name,
            encryption_key=plan.encryption_key,
            dual_stack=self.network.needs_ipv6,
            borrowed=plan.borrowed(Stack.of(self)),
        )

    def _variables(self, plan: Plan) -> dict[str, str]:
        """Return the function's variables that follow from what was created."""
        variables = {"LEDGER": self.ledger.url}
        if self.cache is not None:
            variables |= self.cache.variables
        if self.channel_arn is not None:
            variables["CHANNEL_ARN"] = self.channel_arn
        if (store := self._event_data_store_arn(plan)) is not None:
            variables["EVENT_DATA_STORE"] = store
        if self.archive_queries is not None:
            # For the command line, which takes its settings from the function's.
            variables["ATHENA_WORKGROUP"] = self.archive_queries.workgroup_name
            variables["ATHENA_DATABASE"] = self.archive_queries.database_name
        if self.archive is not None:
            variables["ARCHIVE"] = self.archive.url
            variables["ARCHIVE_ACCOUNT_ID"] = Stack.of(self).account
            if self.archive.signing_key is not None:
                variables["ARCHIVE_SIGNING_KEY"] = self.archive.signing_key.key_arn
        if self.logs is not None:
            variables |= self.logs.variables
        if self.token_secret is not None:
            variables["KONG_ADMIN_TOKEN_SECRET"] = plan.resolved.kong.token_secret or self.token_secret.secret_arn
        return variables

    def _grant_what_it_needs(self, plan: Plan) -> None:
        role = self.collector.role
        if self.channel_arn is not None:
            self._grant_use_of_the_lake(role, plan, self.channel_arn)
        if self.archive is not None:
            self.archive.grant_use(role)
        if self.logs is not None:
            self.logs.grant_use(role)
        if self.cache is not None:
            self.cache.grant_connect(role)
        self.ledger.grant_use(role)
        if self.channel_arn is not None or self.logs is not None:  # an archive refuses nothing
            self.ledger.grant_leaving_quarantine(role)
        key = plan.kong.token_key
        if isinstance(key, str):
            key = kms.Key.from_key_arn(self, "KongAdminTokenKey", key)
        if self.token_secret is not None:
            allow_reading(role, self.token_secret, key)

    def _grant_use_of_the_lake(self, role: iam.IRole, plan: Plan, channel_arn: str) -> None:
        # The second one, as below, for the verb doctor: whether channel and store take events.
        allow(role, ("cloudtrail-data:PutAuditEvents", "cloudtrail:GetChannel"), channel_arn)
        if (store := self._event_data_store_arn(plan)) is not None:
            allow(role, ("cloudtrail:StartQuery", "cloudtrail:GetQueryResults"), store)
        if self.event_store is None:
            return
        allow(role, ("cloudtrail:GetEventDataStore",), self.event_store.event_data_store.attr_event_data_store_arn)
        if "EXTERNAL_ID" in plan.resolved.environment:
            self.event_store.require_external_id(plan.resolved.environment["EXTERNAL_ID"], role)

    def _new_schedule(self, plan: Plan, trail: TrailName) -> CollectorSchedule:
        given, schedule = plan.run.schedule, plan.resolved.schedule
        return CollectorSchedule(
            self,
            "".join(part.title().replace("-", "") for part in (*_suffixes(trail), "schedule")),
            function=self.collector.function,
            trail=trail,
            expression=given
            if isinstance(given, scheduler.ScheduleExpression)
            else scheduler.ScheduleExpression.expression(schedule.expression),
            dead_letters=self.collector.dead_letters,
            period_seconds=schedule.shortest_seconds,
            options=plan.schedule,
            name=_name_of_schedule(plan.name, trail),
        )

    def _new_backfill(self, plan: Plan) -> BackfillStateMachine | None:
        if plan.run.backfill is None:
            return None
        return BackfillStateMachine(
            self,
            "Backfill",
            function=self.collector.function,
            at_once=plan.run.backfill,
            parallel_deliveries=plan.parallel_deliveries,
            options=plan.function,
            encryption_key=plan.encryption_key,
        )

    def _new_reconcile_schedule(self, plan: Plan, trail: TrailName, when: Schedule) -> CollectorSchedule:
        name = None if plan.name is None else f"{plan.name[: _LONGEST_SCHEDULE_NAME - len(_RECONCILE)]}{_RECONCILE}"
        return CollectorSchedule(
            self,
            "".join(part.title().replace("-", "") for part in (*_suffixes(trail), "reconcile", "schedule")),
            function=self.collector.function,
            trail=trail,
            expression=scheduler.ScheduleExpression.expression(when.expression),
            dead_letters=self.collector.dead_letters,
            period_seconds=when.shortest_seconds,
            options=plan.schedule,
            name=_name_of_schedule(name, trail),
            description="Reconciles the day before of {what} Kong Gateway with {destination}",
            # The moments are evaluated by the function, when the time has come.
            event={"verb": "reconcile", "after": "yesterday", "before": "today", "yes": True},
        )

    def _new_observability(self, plan: Plan) -> Observability:
        return Observability(
            self,
            "Observability",
            source=self.source_name,
            destinations=plan.resolved.destinations,
            streams=plan.resolved.streams,
            function=self.collector.function,
            log_group=self.collector.log_group,
            dead_letters=self.collector.dead_letters,
            cache=_watched(self.cache),
            schedule=plan.resolved.schedule,
            schedule_enabled=plan.schedule.enabled,
            reconciles=plan.resolved.reconcile is not None,
            alarms=plan.alarms,
            kong_retention=plan.kong.audit_log_retention or KONG_RETENTION,
            watched_elsewhere=self._watched_elsewhere(plan.sources),
            dashboard=plan.dashboard,
        )

    def _watched_elsewhere(self, sources: Sources) -> list[str]:
        """Return the alarms that another trail has already, as what they watch is shared with it."""
        if self.cache is None:
            return []
        return [] if sources.is_first_to_watch(self.cache.node.path) else ["cache_memory_percent", "evictions"]


def _suffixes(trail: TrailName) -> list[str]:
    """Return what tells a trail from that of requests in CloudTrail Lake, so that a further one renames nothing."""
    stream = [] if trail.stream == DEFAULT_STREAM else [trail.stream]
    named = (Archive.destination, CloudWatchLogs.destination)
    return stream + ([trail.destination] if trail.destination in named else [])


def _name_of_schedule(name: str | None, trail: TrailName) -> str | None:
    if name is None:
        return None
    suffix = "".join(f"-{part}" for part in _suffixes(trail))
    return f"{name[: _LONGEST_SCHEDULE_NAME - len(suffix)]}{suffix}"


def _watched(cache: DedupeCache | None) -> CacheNodes | ServerlessCache | None:
    """Return what CloudWatch calls the cache; None for one that is not ours to watch."""
    if isinstance(cache, ReplicationGroupCache):
        return CacheNodes.of_replication_group(cache.replication_group.ref, nodes=NODES)
    if isinstance(cache, ServerlessDedupeCache):
        return ServerlessCache(name=cache.name, limit_bytes=cache.limit_bytes)
    return None
