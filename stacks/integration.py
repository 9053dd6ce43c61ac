"""The construct: Kong Gateway's audit trail, kept in CloudTrail Lake."""

from collections.abc import Mapping
from typing import Any, cast

import jsii
from aws_cdk import Annotations, Duration, Stack, Token
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from .observability.alarms import AlarmOptions
from .observability.construct import Observability
from .observability.metrics import CacheNodes, ServerlessCache
from .parts import keys
from .parts.cache import NODES, DedupeCache, ReplicationGroupCache, ServerlessDedupeCache, create_cache
from .parts.event_store import EventStore
from .parts.function import CollectorFunction
from .parts.grants import allow, allow_reading
from .parts.ledger import Ledger
from .parts.nag import accept, accept_amazons_key, controls
from .parts.network import CollectorNetwork
from .parts.schedule import CollectorSchedule
from .parts.shared import Sources
from .parts.subnets import ChosenSubnets
from .preflight import SHARED_METRICS, Given, check_kinds
from .settings.groups import (
    CacheOptions,
    EventStoreOptions,
    FunctionOptions,
    LedgerOptions,
    NetworkOptions,
    ScheduleOptions,
)
from .settings.resolved import IntegrationOptions, KongOptions

METRIC_NAMESPACE = "KongCloudTrail"
"""Where the function writes its metrics."""


@jsii.implements(ec2.IConnectable, iam.IGrantable)
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
        secret is created, and `fill_token_command` is the command that fills it. Runs fail until somebody has run it.
    kong_admin_token_key : kms.IKey or str, optional
        The key that encrypts `kong_admin_token_secret`, or its ARN, where that secret is given by name or ARN and the
        key is not AWS's own. Default: AWS's own, or what the secret itself tells.
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
    overlap_seconds, initial_lookback_seconds : int, optional
        The window that a run reads. Default: the function's own values.
    sweep_seconds : int, optional
        Time between two sweeps, which read back over what Kong retains and deliver what became visible too late for
        the window: 3600 to 2592000, or 0 for no sweeps. Default: 86400, a day.
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
        policy of one from elsewhere has to let ``logs.amazonaws.com`` use it, of which a warning reminds you. Of an
        alias, the key behind it counts. Default: AWS's own keys.
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
    schedule_period : Duration
        The most time between two runs of the schedule.
    observability : Observability
        Metrics, alarms and dashboard.
    event_store : EventStore or None
        Event data store and channel; None where they are not created.
    channel_arn : str
        ARN of the channel, given or created.
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
        kong_admin_token_key: kms.IKey | str | None = None,
        kong_root_ca: str | None = None,
        redis_db: int | None = None,
        external_id: str | None = None,
        map_status_to_error_code: bool | None = None,
        source_name: str | None = None,
        overlap_seconds: int | None = None,
        initial_lookback_seconds: int | None = None,
        sweep_seconds: int | None = None,
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
            security_group=security_group,
            kong_admin_token_secret=kong_admin_token_secret,
            kong_admin_token_key=kong_admin_token_key,
            schedule=schedule,
            schedule_options=schedule_options,
            function=function,
            cache=cache,
            ledger=ledger,
            network=network,
            event_store=event_store,
            alarms=alarms,
            dashboard=dashboard,
            encryption_key=encryption_key,
            permissions_boundary=permissions_boundary,
        )
        stack = Stack.of(self)
        given = Given(
            subnets=ChosenSubnets(vpc, subnets),
            cache=cache or CacheOptions(),
            ledger=ledger or LedgerOptions(),
            network=network or NetworkOptions(),
            function=function or FunctionOptions(),
            schedule_options=schedule_options or ScheduleOptions(),
            event_store=event_store,
            alarms=alarms or AlarmOptions(),
            resource_name=resource_name,
            token_secret=kong_admin_token_secret,
            token_key=kong_admin_token_key,
            encryption_key=encryption_key,
            security_group=security_group,
            vpc_owner_account=_owner_of(vpc, network, stack),
            sources=Sources.around(self),
        )
        options = IntegrationOptions.from_settings(
            {
                "kong_admin_api": kong_admin_api,
                "channel_arn": channel_arn,
                "resource_name": resource_name,
                "security_group": security_group if isinstance(security_group, str) else None,
                "kong_superadmin": kong_superadmin,
                "kong_admin_token_secret": _arn_of(kong_admin_token_secret),
                "kong_admin_token_key": kong_admin_token_key if isinstance(kong_admin_token_key, str) else None,
                "kong_root_ca": kong_root_ca,
                "redis_db": redis_db,
                "external_id": external_id,
                "map_status_to_error_code": map_status_to_error_code,
                "source_name": source_name,
                "overlap_seconds": overlap_seconds,
                "initial_lookback_seconds": initial_lookback_seconds,
                "sweep_seconds": sweep_seconds,
                "page_size": page_size,
                "parallel_deliveries": parallel_deliveries,
                "log_level": log_level,
                "lambda_env": lambda_env,
                "schedule": schedule.expression_string
                if isinstance(schedule, scheduler.ScheduleExpression)
                else schedule,
            },
            region=None if Token.is_unresolved(stack.region) else stack.region,
            subnet_ids=None if given.subnets.pending else given.subnets.ids,
            least_subnets=2 if given.has_new_cache else 1,
            clock_changes=_is_set_forward_and_back(schedule),
            new_channel=event_store is not None,
            further=given.problems,
        )
        self._remark(options, given)
        if permissions_boundary is not None:
            iam.PermissionsBoundary.of(self).apply(permissions_boundary)
        encryption_key = None if encryption_key is None else keys.resolved(encryption_key)

        name = options.resource_name
        self.source_name = options.environment["SOURCE_NAME"]
        self.admin_api = options.kong.admin_api.url
        self.cache = (
            given.cache
            if isinstance(given.cache, DedupeCache)
            else create_cache(
                self,
                "Cache",
                given.cache,
                vpc=vpc,
                subnet_ids=given.subnets.ids if given.cache.serverless is None else given.subnets.one_per_zone(),
                name=name,
                encryption_key=encryption_key,
            )
        )
        place = given.place
        self.ledger = (
            place if isinstance(place, Ledger) else Ledger(self, "Ledger", options=place, encryption_key=encryption_key)
        )
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
            options=given.network,
            security_group=options.security_group if isinstance(security_group, str | None) else security_group,
        )
        self.cache.admit(
            self.network.security_group,
            # A stack that made the group for this one cannot depend on it.
            rule_in_own_stack=Stack.of(self.network.security_group).node.path != Stack.of(self).node.path,
        )
        self.collector = CollectorFunction(
            self,
            "Collector",
            vpc=vpc,
            subnets=subnets,
            security_groups=[
                group for group in (self.network.security_group, self.cache.client_security_group) if group is not None
            ],
            environment={**options.environment, **self._variables(options.kong)},
            period_seconds=options.schedule.shortest_seconds,
            options=given.function,
            name=name,
            encryption_key=encryption_key,
            dual_stack=self.network.needs_ipv6,
            borrowed=_borrowed(stack, given),
        )
        self._grant_what_it_needs(_key_of(self, kong_admin_token_key))
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
            period_seconds=options.schedule.shortest_seconds,
            options=given.schedule_options,
            name=name,
        )
        self.schedule_period = Duration.seconds(options.schedule.longest_seconds)
        self.observability = Observability(
            self,
            "Observability",
            source=self.source_name,
            function=self.collector.function,
            log_group=self.collector.log_group,
            dead_letters=self.collector.dead_letters,
            cache=_watched(self.cache),
            schedule=options.schedule,
            schedule_enabled=given.schedule_options.enabled,
            alarms=given.alarms,
            watched_elsewhere=self._watched_elsewhere(given.sources),
            dashboard=dashboard,
        )
        given.sources.take(self.cache, self.ledger, options.environment)

    @property
    def security_group(self) -> ec2.ISecurityGroup:  # noqa: D102 - documented above
        return self.network.security_group

    @property
    def connections(self) -> ec2.Connections:  # noqa: D102 - documented above
        return self.network.security_group.connections

    @property
    def grant_principal(self) -> iam.IPrincipal:  # noqa: D102 - documented above
        return self.collector.role

    @property
    def fill_token_command(self) -> str | None:  # noqa: D102 - documented above
        if self.token_secret is None or not self.token_secret_is_new:
            return None
        # Neither the shell's history nor the list of processes shows what `read` reads and `printf` prints.
        return (
            'read -rs TOKEN; printf %s "$TOKEN" | aws secretsmanager put-secret-value '
            f"--region {Stack.of(self).region} --secret-id {self.token_secret.secret_arn} "
            "--secret-string file:///dev/stdin"
        )

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

    def _variables(self, kong: KongOptions) -> dict[str, str]:
        """Return the function's variables that follow from what was created."""
        variables = {**self.cache.variables, "LEDGER": self.ledger.url, "CHANNEL_ARN": self.channel_arn}
        if self.token_secret is not None:
            variables["KONG_ADMIN_TOKEN_SECRET"] = kong.token_secret or self.token_secret.secret_arn
        return variables

    def _watched_elsewhere(self, sources: Sources) -> list[str]:
        """Return the alarms that another trail has already, as what they watch is shared with it."""
        found = [] if sources.is_first_to_watch(self.cache.node.path) else ["cache_memory_percent", "evictions"]
        if not sources.is_first_to_watch(self.collector.dead_letters.queue_arn):
            found.append("dead_letters")
        return found

    def _remark(self, options: IntegrationOptions, given: Given) -> None:
        """Warn of what stops nothing, and may be meant otherwise."""
        notes = [*options.notes, *given.notes()]
        if given.schedule_options.enabled:
            notes += given.alarms.notes(options.schedule)
        if given.sources.share_metrics(options.environment):
            notes.append(SHARED_METRICS)
        for note in notes:
            Annotations.of(self).add_warning_v2(f"kong-cloudtrail:{note.partition(':')[0]}", note)

    def _grant_what_it_needs(self, token_key: kms.IKey | None) -> None:
        role = self.collector.role
        allow(role, ("cloudtrail-data:PutAuditEvents",), self.channel_arn)
        self.cache.grant_connect(role)
        self.ledger.grant_use(role)
        if self.token_secret is not None:
            allow_reading(role, self.token_secret, token_key)

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


def _key_of(scope: Construct, key: kms.IKey | str | None) -> kms.IKey | None:
    return kms.Key.from_key_arn(scope, "KongAdminTokenKey", key) if isinstance(key, str) else key


def _owner_of(vpc: ec2.IVpc, network: NetworkOptions | None, stack: Stack) -> str | None:
    """Return the account that shares the VPC with the stack's; None where the VPC is the stack's own."""
    given = None if network is None else network.vpc_owner_account
    if given is not None:
        return None if given == stack.account else given
    found = vpc.env.account
    is_known = not Token.is_unresolved(found) and not Token.is_unresolved(stack.account)
    return found if is_known and found != stack.account else None


def _borrowed(stack: Stack, given: Given) -> list[str]:
    """Return the ARNs of what the function's network interfaces need of the account that shares its VPC."""
    if given.vpc_owner_account is None:
        return []
    resources = [("subnet", subnet_id) for subnet_id in given.subnets.ids]
    if given.security_group is not None and not isinstance(given.security_group, str):
        resources.append(("security-group", given.security_group.security_group_id))
    return [
        stack.format_arn(service="ec2", account=given.vpc_owner_account, resource=kind, resource_name=resource_id)
        for kind, resource_id in resources
    ]


def _is_set_forward_and_back(schedule: scheduler.ScheduleExpression | str | None) -> bool:
    """Say whether a schedule goes by a clock with daylight saving time, as far as the zone's name tells."""
    zone = schedule.time_zone if isinstance(schedule, scheduler.ScheduleExpression) else None
    return zone is not None and zone.timezone_name not in ("UTC", "Etc/UTC")
