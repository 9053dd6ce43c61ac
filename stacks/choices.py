"""Groups of optional properties of the construct: what to leave to it, what to tune, what to bring along.

All are frozen and keyword-only, and every property has a default. A group says what is wrong with it by `problems`, so
that the construct can report the problems of all groups at once, before it creates anything.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from aws_cdk import Duration, RemovalPolicy, Token
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sqs as sqs

Authentication = Literal["iam", "password"]
Engine = Literal["valkey", "redis"]

DEFAULT_AUTHENTICATION: Authentication = "iam"
DEFAULT_ENGINE: Engine = "valkey"

# Versions that a replication group can have. Redis OSS 6 and older are in, or near, paid extended support.
# https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/engine-versions.html
_ENGINE_VERSIONS = {"valkey": r"(7\.2|8\.[0-2]|9\.[01])", "redis": r"7\.[01]"}
_SERVERLESS_VERSIONS = {"valkey": r"[789]", "redis": r"7"}


def _whole(value: object, low: int, high: int) -> bool:
    return Token.is_unresolved(value) or (
        isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high and value == int(value)
    )


def _within(name: str, value: object, low: int, high: int, what: str = "") -> Iterator[str]:
    if value is not None and not _whole(value, low, high):
        yield f"{name}: must be a whole number{what} from {low} to {high}"


def _lasting(name: str, value: object, low: int, high: int) -> Iterator[str]:
    if value is None:
        return
    if not isinstance(value, Duration):
        yield f"{name}: must be a Duration, e.g. Duration.seconds({high})"
    elif not value.is_unresolved() and not low <= value.to_seconds() <= high:
        yield f"{name}: must be between {low} and {high} seconds"


def _given(group: Any, *but: str) -> list[str]:
    """Return the names of the properties that differ from their default."""
    return [
        field.name for field in fields(group) if field.name not in but and getattr(group, field.name) != field.default
    ]


@dataclass(frozen=True, kw_only=True)
class ExistingCache:
    """A Valkey or Redis that is there already.

    Attributes
    ----------
    host : str
        Its host name or address.
    port : int
        Its port. Default: 6379.
    security_group : ec2.ISecurityGroup or None
        Its security group, in which a rule admits the function (unless it was imported as immutable). Default: none;
        the function may then reach the port at any address, and letting it in is up to you.
    password_secret : secretsmanager.ISecret or None
        The secret whose whole value is the password. Default: no password is needed.
    username : str or None
        The user that the password belongs to. Default: the cache's default user.
    tls : bool
        Whether it speaks TLS, with a certificate of a public CA. Default: yes.
    """

    host: str
    port: int = 6379
    security_group: ec2.ISecurityGroup | None = None
    password_secret: secretsmanager.ISecret | None = None
    username: str | None = None
    tls: bool = True

    def problems(self) -> Iterator[str]:
        """Say what is wrong."""
        if not Token.is_unresolved(self.host) and not re.fullmatch(r"[A-Za-z0-9.-]{1,253}", self.host):
            yield "cache.existing.host: must be a host name or an IPv4 address alone; the port is another property"
        yield from _within("cache.existing.port", self.port, 1, 65_535)
        if self.username is not None and self.password_secret is None:
            yield "cache.existing.username: is given without password_secret, and would not be used; give both"


@dataclass(frozen=True, kw_only=True)
class ServerlessOptions:
    """What a cache of ElastiCache Serverless may use at most.

    At the limit of stored data it evicts marks (``volatile-lru``; no other policy can be chosen), and an entry whose
    mark is gone may be delivered again. So keep the limit far above what is needed, and watch it: a mark takes about
    150 bytes, for as long as Kong keeps the entry.

    Attributes
    ----------
    max_storage_gib : int
        Stored data in GiB, 1 to 5000. Default: 1, enough for some six million entries.
    max_ecpu_per_second : int
        ElastiCache processing units a second, 1000 to 15 000 000. Default: 5000.
    """

    max_storage_gib: int = 1
    max_ecpu_per_second: int = 5000

    def problems(self) -> Iterator[str]:
        """Say what is wrong."""
        if Token.is_unresolved(self.max_storage_gib):
            yield "cache.serverless.max_storage_gib: is not known before the deployment, and an alarm follows from it"
        yield from _within("cache.serverless.max_storage_gib", self.max_storage_gib, 1, 5000)
        yield from _within("cache.serverless.max_ecpu_per_second", self.max_ecpu_per_second, 1000, 15_000_000)


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """The cache that remembers which entries were delivered.

    Attributes
    ----------
    existing : ExistingCache or None
        A cache to use instead of a new one. Default: a new one.
    serverless : ServerlessOptions or None
        ElastiCache Serverless instead of two nodes. Default: a replication group of two nodes.
    engine : str or None
        ``valkey`` or ``redis`` (Redis OSS). Default: ``valkey``.
    engine_version : str or None
        Version of the engine, e.g. ``8.1``; of ElastiCache Serverless the major version alone, e.g. ``8``.
        Default: Valkey 8.1, Redis OSS 7.1.
    node_type : str or None
        Type of the two nodes. Default: ``cache.t4g.micro``.
    port : int or None
        Port of the two nodes. Default: 6380.
    authentication : str or None
        ``iam``: the function signs in with its role, as a user that may use this project's keys and commands only; no
        secret is stored. ``password``: a generated one, in Secrets Manager. Default: ``iam``.
    """

    existing: ExistingCache | None = None
    serverless: ServerlessOptions | None = None
    engine: Engine | None = None
    engine_version: str | None = None
    node_type: str | None = None
    port: int | None = None
    authentication: Authentication | None = None

    def problems(self) -> Iterator[str]:
        """Say what is wrong."""
        if not isinstance(self.existing, ExistingCache | None):
            yield "cache.existing: must be ExistingCache(…)"
        elif not isinstance(self.serverless, ServerlessOptions | None):
            yield "cache.serverless: must be ServerlessOptions(…)"
        elif self.existing is None:
            yield from self._problems_of_new()
        else:
            yield from self.existing.problems()
            if others := _given(self, "existing"):
                yield (
                    f"cache: existing is given, and with it {', '.join(others)} for a new one; "
                    "leave one or the other out"
                )

    def _problems_of_new(self) -> Iterator[str]:
        if self.serverless is not None:
            yield from self.serverless.problems()
            for name in _given(self, "serverless", "engine", "engine_version", "authentication"):
                yield f"cache.{name}: a serverless cache has none to choose; leave it out, or serverless"
        if self.engine not in (None, "valkey", "redis"):
            yield "cache.engine: must be one of valkey, redis"
        elif self.engine_version is not None:
            engine = self.engine or DEFAULT_ENGINE
            versions = (_ENGINE_VERSIONS if self.serverless is None else _SERVERLESS_VERSIONS)[engine]
            if not isinstance(self.engine_version, str) or not re.fullmatch(versions, self.engine_version):
                form = (
                    "e.g. 8.1 (Redis OSS: 7.1)" if self.serverless is None else "the major one, e.g. 8 (Redis OSS: 7)"
                )
                yield f"cache.engine_version: is no version of {engine} that ElastiCache offers; write {form}"
        if (
            self.node_type is not None
            and not Token.is_unresolved(self.node_type)
            and not re.fullmatch(r"cache\.[a-z0-9-]+\.[a-z0-9]+", self.node_type)
        ):
            yield "cache.node_type: is no type of node; it looks like cache.t4g.micro"
        if self.authentication not in (None, "iam", "password"):
            yield "cache.authentication: must be one of iam, password"
        yield from _within("cache.port", self.port, 1150, 65_535)


@dataclass(frozen=True, kw_only=True)
class LedgerOptions:
    """The bucket of checkpoints, quarantine, originals and run reports.

    Attributes
    ----------
    existing_bucket : s3.IBucket or None
        A bucket to use instead of a new one. It should be versioned, encrypted and private. Default: a new one.
    prefix : str or None
        First part of every key, without a slash at its end. Default: the construct's `resource_name`, else none.
    bucket_name : str or None
        Physical name of the new bucket. Default: CloudFormation's choice.
    removal_policy : RemovalPolicy or None
        What becomes of the new bucket with the stack. Default: ``RETAIN``, as it holds evidence.
    server_access_logs_bucket : s3.IBucket or None
        Where the new bucket's access log goes. Default: none is kept.
    """

    existing_bucket: s3.IBucket | None = None
    prefix: str | None = None
    bucket_name: str | None = None
    removal_policy: RemovalPolicy | None = None
    server_access_logs_bucket: s3.IBucket | None = None

    def problems(self) -> Iterator[str]:
        """Say what is wrong."""
        if self.existing_bucket is not None and not hasattr(self.existing_bucket, "bucket_name"):
            yield "ledger.existing_bucket: must be a bucket, e.g. s3.Bucket.from_bucket_name(…)"
        if self.existing_bucket is not None and (others := _given(self, "existing_bucket", "prefix")):
            yield (
                f"ledger: existing_bucket is given, and with it {', '.join(others)} for a new one; "
                "leave one or the other out"
            )
        if (
            self.prefix is not None
            and not Token.is_unresolved(self.prefix)
            and not re.fullmatch(r"[\w!.*'()-]+(/[\w!.*'()-]+)*|", self.prefix, re.ASCII)
        ):
            yield "ledger.prefix: must be letters, digits or any of !-_.*'() with single slashes between"


@dataclass(frozen=True, kw_only=True)
class FunctionOptions:
    """The function, its logs, and the queue for what could not be run.

    Attributes
    ----------
    memory_size : int or None
        Memory in MiB, 128 to 10240; the processor's share grows with it. Default: 1024.
    timeout : Duration or None
        How long a run may take, 1 to 15 minutes; it stops in time by itself, and the next one goes on. Default: 15
        minutes.
    architecture : lambda_.Architecture or None
        Default: ``ARM_64``.
    runtime : lambda_.Runtime or None
        A Python of 3.11 or later. Default: ``PYTHON_3_14``.
    code : lambda_.Code or None
        The function's code, bundled elsewhere. Default: bundled by pip while synthesising.
    reserved_concurrent_executions : int or None
        Default: none reserved, as accounts with a small limit cannot. One is enough: a run holds a lock anyway.
    max_event_age : Duration or None
        How long Lambda may hold back an invocation, 1 minute to 6 hours. Default: until the next tick, at most 6 hours.
    tracing : lambda_.Tracing or None
        X-Ray. Default: disabled.
    log_group : logs.ILogGroup or None
        Where the function writes its log. Default: a new group.
    log_retention : logs.RetentionDays or None
        How long the new group keeps it. Default: a year.
    log_removal_policy : RemovalPolicy or None
        What becomes of the new group with the stack. Default: ``RETAIN``.
    dead_letter_queue : sqs.IQueue or None
        A standard queue for invocations that failed or could not be made. Default: a new one, kept for 14 days.
    """

    memory_size: int | None = None
    timeout: Duration | None = None
    architecture: lambda_.Architecture | None = None
    runtime: lambda_.Runtime | None = None
    code: lambda_.Code | None = None
    reserved_concurrent_executions: int | None = None
    max_event_age: Duration | None = None
    tracing: lambda_.Tracing | None = None
    log_group: logs.ILogGroup | None = None
    log_retention: logs.RetentionDays | None = None
    log_removal_policy: RemovalPolicy | None = None
    dead_letter_queue: sqs.IQueue | None = None

    def problems(self) -> Iterator[str]:
        """Say what is wrong."""
        yield from _within("function.memory_size", self.memory_size, 128, 10_240, " of MiB")
        yield from _lasting("function.timeout", self.timeout, 60, 900)
        yield from _lasting("function.max_event_age", self.max_event_age, 60, 21_600)
        yield from _within("function.reserved_concurrent_executions", self.reserved_concurrent_executions, 1, 10_000)
        if self.runtime is not None and not re.fullmatch(r"python3\.(1[1-9]|[2-9][0-9])", self.runtime.name):
            yield "function.runtime: must be a Python of 3.11 or later"
        if self.log_group is not None and (
            others := [name for name in _given(self, "log_group") if name[:4] == "log_"]
        ):
            yield (
                f"function: log_group is given, and with it {', '.join(others)} for a new one; "
                "leave one or the other out"
            )
        if self.dead_letter_queue is not None and self.dead_letter_queue.fifo:
            yield "function.dead_letter_queue: is a FIFO queue, which neither Lambda nor EventBridge Scheduler can use"


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """How EventBridge Scheduler goes about the schedule.

    Attributes
    ----------
    enabled : bool
        Whether it runs. Default: yes.
    retry_attempts : int
        How often it tries again when Lambda does not take an invocation, 0 to 185. Default: 2.
    max_event_age : Duration or None
        How long it tries, 1 minute to 24 hours. Default: until the next tick.
    time_window : scheduler.TimeWindow or None
        A window within which it may invoke, to spread load. Default: at the very time.
    group : scheduler.IScheduleGroup or None
        Group of the schedule. Default: the account's default group.
    """

    enabled: bool = True
    retry_attempts: int = 2
    max_event_age: Duration | None = None
    time_window: scheduler.TimeWindow | None = None
    group: scheduler.IScheduleGroup | None = None

    def problems(self) -> Iterator[str]:
        """Say what is wrong."""
        yield from _within("schedule_options.retry_attempts", self.retry_attempts, 0, 185)
        yield from _lasting("schedule_options.max_event_age", self.max_event_age, 60, 86_400)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Which ways the function's security group opens, and which endpoints the VPC gets. See ``docs/network.md``.

    Attributes
    ----------
    kong_peers : sequence of ec2.IPeer
        Where Kong's Admin API is: security groups (each gets a rule that admits the function, unless it was imported
        as immutable), prefix lists, or ranges of addresses. IPv6 addresses ask for subnets that all have such
        addresses too. Default: the address in the Admin API's URL where that is one, else any IPv4 address.
    kong_port : int or None
        The port there. Default: that of the URL.
    interface_endpoints : sequence of ec2.IInterfaceVpcEndpointService
        Endpoints to create for the function, with private DNS, admitting the function only, e.g.
        ``ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER``. Default: none.
    gateway_endpoints : sequence of ec2.IGatewayVpcEndpointService
        Endpoints to add to the route tables of the function's subnets, e.g. ``ec2.GatewayVpcEndpointAwsService.S3``.
        Default: none.
    """

    kong_peers: Sequence[ec2.IPeer] = ()
    kong_port: int | None = None
    interface_endpoints: Sequence[ec2.IInterfaceVpcEndpointService] = ()
    gateway_endpoints: Sequence[ec2.IGatewayVpcEndpointService] = ()

    def problems(self) -> Iterator[str]:
        """Say what is wrong."""
        if not all(hasattr(peer, "can_inline_rule") for peer in self.kong_peers):
            yield "network.kong_peers: must be peers, e.g. ec2.Peer.ipv4(…), or security groups"
        yield from _within("network.kong_port", self.kong_port, 1, 65_535)


@dataclass(frozen=True, kw_only=True)
class EventStoreOptions:
    """An event data store of CloudTrail Lake and a channel into it, for accounts that AWS still lets create them.

    Both stay when the stack goes.

    Attributes
    ----------
    source : str
        ``KongGatewayEnterprise``, which CloudTrail reserves for Kong, or ``Custom``. A region takes one channel of each
        source, and it cannot be changed later. Default: ``KongGatewayEnterprise``.
    billing_mode : str
        ``EXTENDABLE_RETENTION_PRICING`` or ``FIXED_RETENTION_PRICING``. Default: the former.
    retention : Duration or None
        How long events are kept, 7 to 3653 days (fixed pricing: to 2557). Default: 366 days (fixed: 2557), which the
        price of ingestion includes.
    encryption_key : kms.IKey or None
        Key of the store, whose policy lets ``cloudtrail.amazonaws.com`` encrypt and decrypt. It can never be changed.
        Default: CloudTrail's own.
    termination_protection : bool
        Whether the store refuses to be deleted. Default: yes.
    name : str or None
        Name of store, channel and dashboard, 3 to 128 letters, digits or any of ``._-``. Default: derived from the
        construct's path.
    dashboard : bool
        Whether there is a dashboard of queries in CloudTrail Lake. Queries are billed by the data that they read.
        Default: no.
    """

    source: str = "KongGatewayEnterprise"
    billing_mode: str = "EXTENDABLE_RETENTION_PRICING"
    retention: Duration | None = None
    encryption_key: kms.IKey | None = None
    termination_protection: bool = True
    name: str | None = None
    dashboard: bool = False

    def problems(self) -> Iterator[str]:
        """Say what is wrong."""
        if self.source not in ("KongGatewayEnterprise", "Custom"):
            yield "event_store.source: must be one of KongGatewayEnterprise, Custom"
        longest = {"EXTENDABLE_RETENTION_PRICING": 3653, "FIXED_RETENTION_PRICING": 2557}.get(self.billing_mode)
        if longest is None:
            yield "event_store.billing_mode: must be one of EXTENDABLE_RETENTION_PRICING, FIXED_RETENTION_PRICING"
        elif self.retention is not None and not 7 <= self.retention.to_days(integral=False) <= longest:
            yield f"event_store.retention: must be between 7 and {longest} days"
        if (
            self.name is not None
            and not Token.is_unresolved(self.name)
            and not re.fullmatch(r"[a-zA-Z0-9._-]{3,128}", self.name)
        ):
            yield "event_store.name: must be 3 to 128 letters, digits, dots, hyphens or underscores"
