"""The construct: Kong Gateway's audit trail, kept in CloudTrail Lake."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from aws_cdk import Annotations, Duration, Stack, Token
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from . import checks
from .alarms import AlarmOptions
from .choices import CacheOptions, EventStoreOptions, FunctionOptions, LedgerOptions, NetworkOptions, ScheduleOptions
from .collector_function import CollectorFunction
from .dedupe_cache import NODES, DedupeCache, ReplicationGroupCache, ServerlessDedupeCache, create_cache
from .event_store import EventStore
from .grants import allow, allow_reading
from .kinds import check_kinds
from .ledger import Ledger
from .network import CollectorNetwork
from .observability import Observability
from .options import DEFAULT_SCHEDULE, IntegrationOptions, KongOptions
from .reviewed import accept, accept_amazons_key, controls
from .schedule import CollectorSchedule
from .sources import Sources
from .subnets import ChosenSubnets
from .trail_metrics import CacheNodes, ServerlessCache

METRIC_NAMESPACE = "KongCloudTrail"
"""Where the function writes its metrics."""

_UNKNOWN_PERIOD_SECONDS = 3600
"""Stands for the time between two ticks of a cron schedule that does not run every day."""

_SHARED_METRICS = (
    "source_name: is the name of another gateway in this account and region, so that both count in the same metrics, "
    "and the alarms of the one are quiet while the other runs; give each gateway a name of its own."
)


class KongCloudTrailIntegration(Construct):
    """A scheduled function that delivers Kong's audit log entries to CloudTrail Lake, with everything it needs.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    vpc : ec2.IVpc
        The VPC where Kong's control plane runs; an imported one will do. From the subnets the function needs a way to
        Kong, and one to AWS's public endpoints (NAT): ``cloudtrail-data`` has no VPC endpoint. See ``docs/network.md``.
    kong_admin_api : str
        URL of the Admin API as the function reaches it, with protocol and port; a base path is allowed. Its host may
        be known at deployment only, as a load balancer's of the same app; so may its port, if `network` names that.
    channel_arn : str
        ARN of the CloudTrail Lake channel, in the region of the stack. Required, unless `event_store` makes one.
    subnets : ec2.SubnetSelection, optional
        For the function and a new cache: at least two subnets, in two availability zones (one, if the cache is not
        new). Default: the VPC's private ones.
    resource_name : str, optional
        Physical name of the function and of the schedule, stem of the security groups' names, and first part of the
        ledger's keys. Default: CloudFormation names them, so that several integrations fit into one stack.
    security_group : ec2.ISecurityGroup or str, optional
        An existing security group for the function, or the name of the new one. Default: a new one, named by
        `resource_name`.
    kong_superadmin : bool, optional
        Whether the Admin API needs a token. Default: yes if `kong_admin_token_secret` is given.
    kong_admin_token_secret : secretsmanager.ISecret or str, optional
        The secret that holds the token as plain text, or its ARN or name. Default: where a token is needed, an empty
        secret is created, and an output shows the command that fills it.
    kong_root_ca : str, optional
        PEM of the CA that signed the Admin API's certificate, or the path of such a file. Default: the public CAs.
    redis_db : int, optional
        Database of the cache. Default: 0.
    external_id : str, optional
        External id that the channel's resource policy asks for. Default: none.
    map_status_to_error_code : bool, optional
        Whether a status of 400 and above becomes the event's error code. Default: false.
    source_name : str, optional
        Name of this gateway in keys and metrics. Each gateway in an account and region needs one of its own, since
        alarms go by it. Default: ``kong``.
    overlap_seconds, settle_seconds, initial_lookback_seconds : int, optional
        The window that a run reads. Default: the function's own values.
    page_size, parallel_deliveries : int, optional
        Entries per call to Kong, calls to CloudTrail at a time. Default: the function's own values.
    log_level : str, optional
        ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``. Default: ``INFO``.
    lambda_env : Mapping of str to str, optional
        The function's variables by their own names, instead of the above, and any others. Default: none.
    schedule : scheduler.ScheduleExpression or str, optional
        When to run; as text ``rate(…)`` or ``cron(…)``, in UTC. Default: ``rate(1 hour)``.
    schedule_options : ScheduleOptions, optional
        Retries, time window, group of the schedule. Default: those of `ScheduleOptions`.
    function : FunctionOptions, optional
        Memory, timeout, architecture, logs, dead letters and the like. Default: those of `FunctionOptions`.
    cache : CacheOptions or DedupeCache, optional
        How the cache is to be, or which existing one to use; or the `cache` of another integration, to share it.
        Default: those of `CacheOptions`.
    ledger : LedgerOptions or Ledger, optional
        How the ledger's bucket is to be, or which existing one to use; or the `ledger` of another integration, to
        share it. Default: those of `LedgerOptions`.
    network : NetworkOptions, optional
        Where Kong is, and endpoints to create. Default: those of `NetworkOptions`.
    event_store : EventStoreOptions, optional
        Create an event data store and a channel instead of using `channel_arn`. Default: neither is created.
    alarms : AlarmOptions, optional
        Which alarms there are, from which value on, and whom they tell. Default: those of `AlarmOptions`.
    dashboard : bool, optional
        Whether there is a CloudWatch dashboard. Default: yes.
    encryption_key : kms.IKey, optional
        Key of everything new that holds data: bucket, cache, secrets, logs, queue, the function's environment. The
        policy of an imported one has to let ``logs.amazonaws.com`` use it. Default: AWS's own keys.
    permissions_boundary : iam.IManagedPolicy, optional
        Boundary of every role. Default: none.

    Attributes
    ----------
    cache : DedupeCache
        The cache; its kind tells what is to be found on it.
    ledger : Ledger
        The bucket of checkpoints, quarantine and run reports.
    network : CollectorNetwork
        The function's security group and the endpoints.
    collector : CollectorFunction
        Function, role, log group, dead-letter queue.
    schedule : CollectorSchedule
        The schedule and its role.
    schedule_period : Duration or None
        Time between two ticks, the longest in a day; None for a cron schedule that does not run every day.
    observability : Observability
        Metrics, alarms and dashboard.
    event_store : EventStore or None
        Event data store and channel; None where they are not created.
    channel_arn : str
        ARN of the channel, given or created.
    source_name : str
        Name of this gateway.
    token_secret : secretsmanager.ISecret or None
        The secret with Kong's token; None where no token is needed.
    token_secret_is_new : bool
        Whether that secret was created here, empty, and waits for the token.
    security_group : ec2.ISecurityGroup
        The function's security group.
    connections : ec2.Connections
        Its connections, for rules of your own.

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
    ...     kong_admin_api="https://kong-admin.example.com:8444",
    ...     channel_arn="arn:aws:cloudtrail:us-east-1:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef",
    ... )
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        kong_admin_api: str | None = None,
        channel_arn: str | None = None,
        subnets: ec2.SubnetSelection | None = None,
        resource_name: str | None = None,
        security_group: ec2.ISecurityGroup | str | None = None,
        kong_superadmin: bool | None = None,
        kong_admin_token_secret: secretsmanager.ISecret | str | None = None,
        kong_root_ca: str | None = None,
        redis_db: int | None = None,
        external_id: str | None = None,
        map_status_to_error_code: bool | None = None,
        source_name: str | None = None,
        overlap_seconds: int | None = None,
        settle_seconds: int | None = None,
        initial_lookback_seconds: int | None = None,
        page_size: int | None = None,
        parallel_deliveries: int | None = None,
        log_level: str | None = None,
        lambda_env: Mapping[str, str] | None = None,
        schedule: scheduler.ScheduleExpression | str | None = None,
        schedule_options: ScheduleOptions | None = None,
        function: FunctionOptions | None = None,
        cache: CacheOptions | DedupeCache | None = None,
        ledger: LedgerOptions | Ledger | None = None,
        network: NetworkOptions | None = None,
        event_store: EventStoreOptions | None = None,
        alarms: AlarmOptions | None = None,
        dashboard: bool = True,
        encryption_key: kms.IKey | None = None,
        permissions_boundary: iam.IManagedPolicy | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        check_kinds(
            vpc=vpc,
            subnets=subnets,
            cache=cache,
            ledger=ledger,
            network=network,
            function=function,
            schedule_options=schedule_options,
            event_store=event_store,
            alarms=alarms,
            encryption_key=encryption_key,
            kong_admin_token_secret=kong_admin_token_secret,
        )
        chosen = ChosenSubnets(vpc, subnets)
        cache = cache or CacheOptions()
        ledger = ledger or LedgerOptions()
        network = network or NetworkOptions()
        function = function or FunctionOptions()
        schedule_options = schedule_options or ScheduleOptions()
        alarms = alarms or AlarmOptions()
        expression = schedule.expression_string if isinstance(schedule, scheduler.ScheduleExpression) else schedule
        region = Stack.of(self).region
        sources = Sources.around(self)
        new_cache = isinstance(cache, CacheOptions) and cache.existing is None
        options = IntegrationOptions.from_settings(
            {
                "kong_admin_api": kong_admin_api,
                "channel_arn": channel_arn,
                "resource_name": resource_name,
                "security_group": security_group if isinstance(security_group, str) else None,
                "kong_superadmin": kong_superadmin,
                "kong_admin_token_secret": _arn_of(kong_admin_token_secret),
                "kong_root_ca": kong_root_ca,
                "redis_db": redis_db,
                "external_id": external_id,
                "map_status_to_error_code": map_status_to_error_code,
                "source_name": source_name,
                "overlap_seconds": overlap_seconds,
                "settle_seconds": settle_seconds,
                "initial_lookback_seconds": initial_lookback_seconds,
                "page_size": page_size,
                "parallel_deliveries": parallel_deliveries,
                "log_level": log_level,
                "lambda_env": lambda_env,
                "schedule": expression,
            },
            region=None if Token.is_unresolved(region) else region,
            subnet_ids=None if chosen.pending else chosen.ids,
            least_subnets=2 if new_cache else 1,
            new_channel=event_store is not None,
            further=partial(
                _problems,
                [*chosen.problems(needs_two_zones=new_cache), *alarms.problems(_period_of(expression))],
                sources,
                cache,
                ledger,
                resource_name,
                (network, function, schedule_options, event_store),
                kong_admin_token_secret,
            ),
        )
        notes = [*options.notes, *chosen.notes()]
        if sources.share_metrics(options.environment):
            notes.append(_SHARED_METRICS)
        for note in notes:
            Annotations.of(self).add_warning_v2(f"kong-cloudtrail:{note.partition(':')[0]}", note)
        if permissions_boundary is not None:
            iam.PermissionsBoundary.of(self).apply(permissions_boundary)

        name = options.resource_name
        self.source_name = options.environment["SOURCE_NAME"]
        self.cache = (
            cache
            if isinstance(cache, DedupeCache)
            else create_cache(
                self,
                "Cache",
                cache,
                vpc=vpc,
                subnet_ids=chosen.ids if cache.serverless is None else chosen.one_per_zone(),
                name=name,
                encryption_key=encryption_key,
            )
        )
        if isinstance(ledger, LedgerOptions):
            ledger = Ledger(self, "Ledger", options=_prefixed(ledger, name), encryption_key=encryption_key)
        self.ledger = ledger
        self.event_store = None if event_store is None else EventStore(self, "EventStore", options=event_store)
        self.channel_arn = options.channel_arn if self.event_store is None else self.event_store.channel_arn
        self.token_secret, self.token_secret_is_new = self._token_secret(
            options.kong, kong_admin_token_secret, encryption_key
        )
        self.network = CollectorNetwork(
            self,
            "Network",
            vpc=vpc,
            subnets=subnets,
            admin_api=options.kong.admin_api,
            options=network,
            security_group=options.security_group if isinstance(security_group, str | None) else security_group,
        )
        self.cache.admit(
            self.network.security_group,
            # A stack that made the group for this one cannot depend on it.
            rule_in_own_stack=Stack.of(self.network.security_group).node.path != Stack.of(self).node.path,
        )
        period_seconds = options.schedule.period_seconds or _UNKNOWN_PERIOD_SECONDS
        self.collector = CollectorFunction(
            self,
            "Collector",
            vpc=vpc,
            subnets=subnets,
            security_groups=[
                group for group in (self.network.security_group, self.cache.client_security_group) if group is not None
            ],
            environment={**options.environment, **self._variables(options.kong)},
            period_seconds=period_seconds,
            options=function,
            name=name,
            encryption_key=encryption_key,
            dual_stack=self.network.needs_ipv6,
        )
        self._grant_what_it_needs()
        if self.event_store is not None and "EXTERNAL_ID" in options.environment:
            self.event_store.require_external_id(options.environment["EXTERNAL_ID"], self.collector.role)
        self.schedule = CollectorSchedule(
            self,
            "Schedule",
            function=self.collector.function,
            expression=schedule
            if isinstance(schedule, scheduler.ScheduleExpression)
            else scheduler.ScheduleExpression.expression(options.schedule.expression),
            dead_letters=self.collector.dead_letters,
            period_seconds=period_seconds,
            options=schedule_options,
            name=name,
        )
        self.schedule_period = _period_of(expression)
        self.observability = Observability(
            self,
            "Observability",
            source=self.source_name,
            function=self.collector.function,
            log_group=self.collector.log_group,
            dead_letters=self.collector.dead_letters,
            cache=_watched(self.cache),
            schedule_period=self.schedule_period,
            alarms=alarms,
            dashboard=dashboard,
        )
        sources.take(self.cache, self.ledger, options.environment)

    @property
    def security_group(self) -> ec2.ISecurityGroup:  # noqa: D102 - documented above
        return self.network.security_group

    @property
    def connections(self) -> ec2.Connections:  # noqa: D102 - documented above
        return self.network.security_group.connections

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody start a run."""
        return self.collector.function.grant_invoke(grantee)

    def grant_read_ledger(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody read checkpoints, quarantine, originals and run reports: an auditor, say."""
        return self.ledger.grant_read(grantee)

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
            raise ValueError("Kong needs no token here, so there is no secret to fill; give kong_superadmin=True.")
        return self.token_secret.grant_write(grantee)

    def metric(self, metric_name: str, **properties: Any) -> cloudwatch.Metric:
        """Return one of the metrics that the function writes about its runs, e.g. ``EventsDelivered``.

        Parameters
        ----------
        metric_name : str
            As in the README.
        properties
            As of `cloudwatch.Metric`: ``statistic``, ``period``, ``label``, … Default: the sum of five minutes.
        """
        return cloudwatch.Metric(
            **{
                "namespace": METRIC_NAMESPACE,
                "metric_name": metric_name,
                "dimensions_map": {"source": self.source_name},
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
        """Return the number of events that CloudTrail confirmed."""
        return self.metric("EventsDelivered", **properties)

    def metric_entries_quarantined(self, **properties: Any) -> cloudwatch.Metric:
        """Return the number of entries that CloudTrail refused, and that are kept in the ledger."""
        return self.metric("EntriesQuarantined", **properties)

    def metric_oldest_undelivered_age(self, **properties: Any) -> cloudwatch.Metric:
        """Return the age of the oldest entry that is not delivered yet, in seconds; its maximum of five minutes."""
        return self.metric("OldestUndeliveredAgeSeconds", **{"statistic": cloudwatch.Stats.MAXIMUM, **properties})

    def metric_checkpoint_lag(self, **properties: Any) -> cloudwatch.Metric:
        """Return how far the checkpoint is behind Kong's clock, in seconds; its maximum of five minutes."""
        return self.metric("CheckpointLagSeconds", **{"statistic": cloudwatch.Stats.MAXIMUM, **properties})

    def _variables(self, kong: KongOptions) -> dict[str, str]:
        """Return the function's variables that follow from what was created."""
        variables = {**self.cache.variables, "LEDGER": self.ledger.url, "CHANNEL_ARN": self.channel_arn}
        if self.token_secret is not None:
            variables["KONG_ADMIN_TOKEN_SECRET"] = kong.token_secret or self.token_secret.secret_arn
        return variables

    def _grant_what_it_needs(self) -> None:
        role = self.collector.role
        allow(role, ("cloudtrail-data:PutAuditEvents",), self.channel_arn)
        self.cache.grant_connect(role)
        self.ledger.grant_use(role)
        if self.token_secret is not None:
            allow_reading(role, self.token_secret)

    def _token_secret(
        self, kong: KongOptions, given: secretsmanager.ISecret | str | None, encryption_key: kms.IKey | None
    ) -> tuple[secretsmanager.ISecret | None, bool]:
        if not kong.needs_token:
            return None, False
        if given is not None and not isinstance(given, str):
            return given, False
        if kong.token_secret is None:
            secret = secretsmanager.Secret(
                self, "KongAdminToken", description="Token for Kong's Admin API", encryption_key=encryption_key
            )
            # CDK generates a value where none is given. Kong would refuse that one; an empty secret says what is wrong.
            cast(secretsmanager.CfnSecret, secret.node.default_child).add_property_deletion_override(
                "GenerateSecretString"
            )
            accept(
                secret,
                ("AwsSolutions-SMG4", *controls("SecretsManagerRotationEnabled")),
                "Kong issues this token, so a new one is put here by hand. The function fetches it anew when Kong "
                "refuses the old one.",
            )
            if encryption_key is None:
                accept_amazons_key(secret, "SecretsManagerUsingKMSKey")
            return secret, True
        if not kong.token_secret.startswith("arn:"):
            return secretsmanager.Secret.from_secret_name_v2(self, "KongAdminToken", kong.token_secret), False
        if kong.token_secret[-7] == "-":
            return secretsmanager.Secret.from_secret_complete_arn(self, "KongAdminToken", kong.token_secret), False
        return secretsmanager.Secret.from_secret_partial_arn(self, "KongAdminToken", kong.token_secret), False


def _watched(cache: DedupeCache) -> CacheNodes | ServerlessCache | None:
    """Return what CloudWatch calls the cache; None for one that is not ours to watch."""
    if isinstance(cache, ReplicationGroupCache):
        return CacheNodes.of_replication_group(cache.replication_group.ref, nodes=NODES)
    if isinstance(cache, ServerlessDedupeCache):
        return ServerlessCache(name=cache.name, limit_bytes=cache.limit_bytes)
    return None


def _arn_of(secret: secretsmanager.ISecret | str | None) -> str | None:
    return secret if secret is None or isinstance(secret, str) else secret.secret_arn


def _prefixed(ledger: LedgerOptions, resource_name: str | None) -> LedgerOptions:
    """Return the options with the prefix that they stand for."""
    return ledger if ledger.prefix is not None else replace(ledger, prefix=resource_name)


def _period_of(expression: str | None) -> Duration | None:
    """Return the time between two ticks; None where the expression does not tell, or is none."""
    try:
        seconds = checks.schedule(expression or DEFAULT_SCHEDULE).period_seconds
    except ValueError:
        return None
    return None if seconds is None else Duration.seconds(seconds)


def _problems(
    found: Sequence[str],
    sources: Sources,
    cache: CacheOptions | DedupeCache,
    ledger: LedgerOptions | Ledger,
    resource_name: str | None,
    others: tuple[NetworkOptions, FunctionOptions, ScheduleOptions, EventStoreOptions | None],
    token_secret: secretsmanager.ISecret | str | None,
    variables: Mapping[str, str],
) -> Iterator[str]:
    """Say what is wrong with the groups of options, and between them and the plain settings."""
    yield from found
    for group in (cache, ledger, *others):
        if group is not None and not isinstance(group, DedupeCache | Ledger):
            yield from group.problems()
    place = _prefixed(ledger, resource_name) if isinstance(ledger, LedgerOptions) else ledger
    yield from sources.problems(cache, place, variables)
    one_database = cache.serverless is not None if isinstance(cache, CacheOptions) else not cache.has_databases
    if one_database and variables["REDIS_DB"] != "0":
        yield "redis_db: must be 0, the only database of a serverless cache"
    admin_api = checks.service_url(variables["KONG_ADMIN_API"]) if "KONG_ADMIN_API" in variables else None
    if admin_api is not None and admin_api.port is None and others[0].kong_port is None:
        yield (
            "kong_admin_api: its port is not known before the deployment, and the function's security group has to "
            "name it; give it as network.kong_port, or in the URL"
        )
    if isinstance(token_secret, str) and Token.is_unresolved(token_secret) and not token_secret.startswith("arn:"):
        yield (
            "kong_admin_token_secret: is not known before the deployment, so nothing tells an ARN from a name; give "
            "the secret itself, e.g. secretsmanager.Secret.from_secret_complete_arn(…)"
        )
