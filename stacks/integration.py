"""The construct: Kong Gateway's audit trail, kept in CloudTrail Lake."""

from collections.abc import Mapping
from typing import cast

from aws_cdk import Annotations, Duration, Stack, Token
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from .collector_function import CollectorFunction
from .dedupe_cache import DedupeCache
from .ledger import Ledger
from .options import IntegrationOptions, KongOptions
from .reviewed import accept
from .schedule import CollectorSchedule

_HOUR_SECONDS = 3600
_MAX_ASYNC_EVENT_AGE_SECONDS = 6 * _HOUR_SECONDS
"""https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html"""


class KongCloudTrailIntegration(Construct):
    """A scheduled function that delivers Kong's audit log entries to CloudTrail Lake, with everything it needs.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    vpc : ec2.IVpc
        The VPC where Kong's control plane runs; an imported one will do. From the subnets the function needs a way to
        Kong, and one to AWS's public endpoints (NAT): ``cloudtrail-data`` has no VPC endpoint.
    kong_admin_api : str
        URL of the Admin API as the function reaches it, with protocol and port; a base path is allowed.
    channel_arn : str
        ARN of the CloudTrail Lake channel, in the region of the stack.
    subnets : ec2.SubnetSelection, optional
        At least two subnets, in two availability zones, for function and cache. Default: the VPC's private ones.
    resource_name : str, optional
        Physical name of the function and of the schedule, stem of the other names, and first part of the ledger's
        keys. Default: CloudFormation names them, so that several integrations fit into one stack.
    security_group : str, optional
        Name of the function's security group. Default: `resource_name`.
    kong_superadmin : bool, optional
        Whether the Admin API needs a token. Default: yes if `kong_admin_token_secret` is given.
    kong_admin_token_secret : str, optional
        ARN or name of the Secrets Manager secret that holds the token as plain text. Default: where a token is
        needed, an empty secret is created, and an output shows the command that fills it.
    kong_root_ca : str, optional
        PEM of the CA that signed the Admin API's certificate, or the path of such a file. Default: the public CAs.
    redis_db : int, optional
        Database of the cache. Default: 0.
    external_id : str, optional
        External id that the channel's resource policy asks for. Default: none.
    map_status_to_error_code : bool, optional
        Whether a status of 400 and above becomes the event's error code. Default: false.
    source_name : str, optional
        Name of this gateway in keys and metrics. Default: ``kong``.
    overlap_seconds, settle_seconds, initial_lookback_seconds : int, optional
        The window that a run reads. Default: the function's own values.
    page_size, parallel_deliveries : int, optional
        Entries per call to Kong, calls to CloudTrail at a time. Default: the function's own values.
    log_level : str, optional
        ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``. Default: ``INFO``.
    lambda_env : Mapping of str to str, optional
        The function's variables by their own names, instead of the above, and any others.
    schedule : str, optional
        ``rate(…)`` or ``cron(…)``, in UTC. Default: ``rate(1 hour)``.
    cache_engine : str, optional
        ``valkey`` or ``redis``. Default: ``valkey``.

    Attributes
    ----------
    cache : DedupeCache
        Replication group, subnet and parameter group, password, security group.
    ledger : Ledger
        The bucket of checkpoints, quarantine and run reports.
    collector : CollectorFunction
        Function, role, security group, log group, dead-letter queue.
    schedule : CollectorSchedule
        The schedule and its role.
    token_secret : secretsmanager.ISecret or None
        The secret with Kong's token; None where no token is needed.
    token_secret_is_new : bool
        Whether that secret was created here, empty, and waits for the token.

    Raises
    ------
    SettingsError
        With every problem of the settings, before anything is created.

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
        security_group: str | None = None,
        kong_superadmin: bool | None = None,
        kong_admin_token_secret: str | None = None,
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
        schedule: str | None = None,
        cache_engine: str | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        subnet_ids = _subnet_ids(vpc, subnets or ec2.SubnetSelection())
        region = Stack.of(self).region
        options = IntegrationOptions.from_settings(
            {
                "kong_admin_api": kong_admin_api,
                "channel_arn": channel_arn,
                "resource_name": resource_name,
                "security_group": security_group,
                "kong_superadmin": kong_superadmin,
                "kong_admin_token_secret": kong_admin_token_secret,
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
                "schedule": schedule,
                "cache_engine": cache_engine,
            },
            region=None if Token.is_unresolved(region) else region,
            subnet_ids=subnet_ids,
        )
        for note in options.notes:
            Annotations.of(self).add_warning_v2(f"kong-cloudtrail:{note.partition(':')[0]}", note)

        name = options.resource_name
        self.cache = DedupeCache(self, "Cache", vpc=vpc, subnet_ids=subnet_ids, engine=options.cache_engine, name=name)
        self.ledger = Ledger(self, "Ledger", prefix=name or "")
        self.token_secret, self.token_secret_is_new = self._token_secret(options.kong)
        environment = {
            **options.environment,
            "REDIS_HOST": self.cache.host,
            "REDIS_TLS": "true",
            "REDIS_PASSWORD_SECRET": self.cache.password.secret_arn,
            "LEDGER": self.ledger.url,
        }
        secrets = [self.cache.password.secret_arn]
        if self.token_secret is not None:
            environment["KONG_ADMIN_TOKEN_SECRET"] = options.kong.token_secret or self.token_secret.secret_arn
            # An ARN without its random suffix is what a secret's name, or a partial ARN, gives.
            secrets.append(self.token_secret.secret_full_arn or f"{self.token_secret.secret_arn}-??????")
        # Held back beyond the next tick, an invocation would only compete with it. A cron schedule's ticks can be at
        # any distance, so there an hour stands for it.
        max_event_age = Duration.seconds(
            min(options.schedule.period_seconds or _HOUR_SECONDS, _MAX_ASYNC_EVENT_AGE_SECONDS)
        )
        self.collector = CollectorFunction(
            self,
            "Collector",
            vpc=vpc,
            subnets=subnets,
            cache=self.cache,
            environment=environment,
            secret_arns=secrets,
            channel_arn=options.channel_arn,
            kong_port=options.kong.admin_api.port,
            max_event_age=max_event_age,
            name=name,
            security_group_name=options.security_group,
        )
        self.ledger.grant_use(self.collector.role)
        self.schedule = CollectorSchedule(
            self,
            "Schedule",
            function=self.collector.function,
            expression=options.schedule.expression,
            dead_letters=self.collector.dead_letters,
            max_event_age=max_event_age,
            name=name,
        )

    def _token_secret(self, kong: KongOptions) -> tuple[secretsmanager.ISecret | None, bool]:
        if not kong.needs_token:
            return None, False
        if kong.token_secret is None:
            secret = secretsmanager.Secret(self, "KongAdminToken", description="Token for Kong's Admin API")
            # CDK generates a value where none is given. Kong would refuse that one; an empty secret says what is wrong.
            cast(secretsmanager.CfnSecret, secret.node.default_child).add_property_deletion_override(
                "GenerateSecretString"
            )
            accept(
                secret,
                "AwsSolutions-SMG4",
                "Kong issues this token, so a new one is put here by hand. The function fetches it anew when Kong "
                "refuses the old one.",
            )
            return secret, True
        if not kong.token_secret.startswith("arn:"):
            return secretsmanager.Secret.from_secret_name_v2(self, "KongAdminToken", kong.token_secret), False
        if kong.token_secret[-7] == "-":
            return secretsmanager.Secret.from_secret_complete_arn(self, "KongAdminToken", kong.token_secret), False
        return secretsmanager.Secret.from_secret_partial_arn(self, "KongAdminToken", kong.token_secret), False


def _subnet_ids(vpc: ec2.IVpc, chosen: ec2.SubnetSelection) -> list[str]:
    if chosen.subnets:
        # Asked through the VPC, subnets imported by id alone would fail for want of their zone.
        return [subnet.subnet_id for subnet in chosen.subnets]
    return vpc.select_subnets(
        availability_zones=chosen.availability_zones,
        one_per_az=chosen.one_per_az,
        subnet_filters=chosen.subnet_filters,
        subnet_group_name=chosen.subnet_group_name,
        subnet_type=chosen.subnet_type,
    ).subnet_ids
