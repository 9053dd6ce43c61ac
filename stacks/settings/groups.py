"""The groups of properties that a caller of the construct fills: their names end in ``Options``.

All are frozen and keyword-only. A group says what is wrong with it by `problems`, so that the construct can report the
problems of all groups at once, before it creates anything. A property that is also a setting of the app, or a variable
of the function, is checked as such: `Group.settings` names the setting, `resolved` has the checks. What is resolved
and checked is called ``…Settings``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from aws_cdk import Duration, RemovalPolicy, Token
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sqs as sqs

from ..parts import keys
from . import cron, kinds, variables
from .kinds import Group, Kind

Authentication = Literal["iam", "password"]
Engine = Literal["valkey", "redis"]

DEFAULT_AUTHENTICATION: Authentication = "iam"
DEFAULT_ENGINE: Engine = "valkey"

# Versions that a replication group can have. Redis OSS 6 and older are in, or near, paid extended support.
# https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/engine-versions.html
_ENGINE_VERSIONS = {"valkey": r"(7\.2|8\.[0-2]|9\.[01])", "redis": r"7\.[01]"}
_SERVERLESS_VERSIONS = {"valkey": r"[789]", "redis": r"7"}

BUCKET_NAME_FORM = "the name of a bucket: 3 to 63 lower-case letters, digits, dots or hyphens"
BUCKET_NAME_PATTERN = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
KEY_PREFIX_FORM = "letters, digits or any of !-_.'() with single slashes between"
KEY_PREFIX_PATTERN = r"[\w!.'()-]+(/[\w!.'()-]+)*"
"""S3 takes an asterisk as well, which in a policy stands for anything."""
_BUCKET_NAME = kinds.matching(BUCKET_NAME_FORM, BUCKET_NAME_PATTERN)
_KEY_PREFIX = kinds.matching(KEY_PREFIX_FORM, KEY_PREFIX_PATTERN)

_LOG_GROUP_NAME = kinds.matching(
    "the name of a log group: 1 to 512 letters, digits or any of ._/#-", r"[A-Za-z0-9._/#-]{1,512}"
)
LOG_GROUP_FORM = "the name or the ARN of a log group"
LOG_GROUP_PATTERN = r"(arn:aws[a-z-]*:logs:[a-z0-9-]+:[0-9]{12}:log-group:)?[A-Za-z0-9._/#-]{1,512}(:\*)?"
_WORKING_HOURS = r"([01]?[0-9]|2[0-4])-([01]?[0-9]|2[0-4])"
_NEW_GROUP_PROPERTIES = ("log_group_name", "deletion_protection", "removal_policy")
_ALARM_PROPERTIES = ("refused_calls", "working_hours")

LOCKS = ("governance", "compliance", "none")
"""How Object Lock may keep an archive."""

MAX_SLICES_AT_ONCE = 8
"""Slices of a backfill: as many as the calls that a run makes to a destination by default."""

_LONGEST_DAYS = 36_500
_DAYS = kinds.days(1, _LONGEST_DAYS)


def _given(group: Any, *but: str) -> list[str]:
    """Return the names of the properties that differ from their default."""
    return [
        field.name for field in fields(group) if field.name not in but and getattr(group, field.name) != field.default
    ]


@dataclass(frozen=True, kw_only=True)
class KongOptions(Group):
    """Where Kong's Admin API is, and how the function proves who it is.

    Attributes
    ----------
    admin_api : str
        URL of the Admin API as the function reaches it, with protocol and port; a base path is allowed. Its host may
        be known at deployment only, as a load balancer's of the same app; so may its port, if `NetworkOptions` names
        that.
    superadmin : bool or None
        Whether the Admin API needs a token. Default: yes if `token_secret` is given.
    token_secret : secretsmanager.ISecret or str or None
        The secret that holds the token as plain text, or its ARN or name. Default: where a token is needed, an empty
        secret is created, and the construct's `fill_token_command` is the command that fills it. Runs fail until
        somebody has run it.
    token_key : kms.IKey or str or None
        The key that encrypts `token_secret`, or its ARN, where that secret is given by name or ARN and the key is not
        AWS's own. Default: AWS's own, or what the secret itself tells.
    root_ca : str or None
        PEM of the CA that signed the Admin API's certificate, or the path of such a file. Default: the public CAs.
    audit_log_retention : Duration or None
        How long Kong keeps an entry (``audit_log_record_ttl`` in ``kong.conf``); the dashboard counts it down.
        Default: 30 days, as Kong's.
    """

    admin_api: str
    superadmin: bool | None = None
    token_secret: secretsmanager.ISecret | str | None = None
    token_key: kms.IKey | str | None = None
    root_ca: str | None = None
    audit_log_retention: Duration | None = None

    place: ClassVar[str] = "kong"
    settings: ClassVar[Mapping[str, str]] = {
        "admin_api": "kong_admin_api",
        "superadmin": "kong_superadmin",
        "token_secret": "kong_admin_token_secret",
        "token_key": "kong_admin_token_key",
        "root_ca": "kong_root_ca",
    }
    kinds: ClassVar[Mapping[str, Kind]] = {
        "admin_api": kinds.SETTING,
        "superadmin": kinds.SETTING,
        "token_secret": kinds.either(
            "a secret, e.g. secretsmanager.Secret.from_secret_name_v2(…), or the ARN or name of one",
            kinds.TEXT,
            kinds.SECRET,
        ),
        "token_key": kinds.either("a key, e.g. kms.Key.from_key_arn(…), or the ARN of one", kinds.TEXT, kinds.KEY),
        "root_ca": kinds.SETTING,
        "audit_log_retention": kinds.lasting(3600, 315_360_000, "a Duration from an hour on, e.g. Duration.days(30)"),
    }

    def value_problems(self) -> Iterator[str]:
        """Say what is wrong with the keys. The rest is checked with the function's variables."""
        if isinstance(self.token_secret, str):
            if Token.is_unresolved(self.token_secret) and not self.token_secret.startswith("arn:"):
                yield (
                    "kong.token_secret: is not known before the deployment, so nothing tells an ARN from a name; "
                    "give the secret itself, e.g. secretsmanager.Secret.from_secret_complete_arn(…)"
                )
        else:
            yield from keys.problems("kong.token_secret", _key_of(self.token_secret))
        if not isinstance(self.token_key, str):
            yield from keys.problems("kong.token_key", self.token_key)
        if self.audit_log_retention is not None and self.audit_log_retention.is_unresolved():
            yield "kong.audit_log_retention: is not known before the deployment, and the dashboard counts it down"


@dataclass(frozen=True, kw_only=True)
class ExistingCache(Group):
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
    iam_cache : str or None
        Name of the serverless cache, or id of the replication group, where the function signs in by IAM as
        `username`. Default: it does not.
    serverless : bool
        Whether `iam_cache` is a cache of ElastiCache Serverless. Default: no.
    client_security_group : ec2.ISecurityGroup or None
        A group whose members the cache admits; the function becomes one. Default: none.
    """

    host: str
    port: int = 6379
    security_group: ec2.ISecurityGroup | None = None
    password_secret: secretsmanager.ISecret | None = None
    username: str | None = None
    tls: bool = True
    iam_cache: str | None = None
    serverless: bool = False
    client_security_group: ec2.ISecurityGroup | None = None

    place: ClassVar[str] = "cache.existing"
    kinds: ClassVar[Mapping[str, Kind]] = {
        "host": kinds.matching(
            "a host name or an IPv4 address alone; the port is another property", r"[A-Za-z0-9.-]{1,253}"
        ),
        "port": kinds.whole(1, 65_535),
        "security_group": kinds.SECURITY_GROUP,
        "password_secret": kinds.SECRET,
        "username": kinds.TEXT,
        "tls": kinds.BOOLEAN,
        "iam_cache": kinds.matching("the name of an ElastiCache cache", r"[a-z][a-z0-9-]{0,39}"),
        "serverless": kinds.BOOLEAN,
        "client_security_group": kinds.SECURITY_GROUP,
    }

    def value_problems(self) -> Iterator[str]:
        """Say what does not go together."""
        if self.username is not None and self.password_secret is None and self.iam_cache is None:
            yield (
                f"{self.place}.username: is given without password_secret or iam_cache, and would not be used; give "
                "one of the two as well"
            )
        if self.iam_cache is not None and (self.username is None or self.password_secret is not None or not self.tls):
            yield (
                f"{self.place}.iam_cache: the function signs in by IAM as username, by TLS and without a password; "
                "give username, and leave password_secret and tls out"
            )
        yield from keys.problems(f"{self.place}.password_secret", _key_of(self.password_secret))


@dataclass(frozen=True, kw_only=True)
class ServerlessOptions(Group):
    """What a cache of ElastiCache Serverless may use at most.

    At the limit of stored data it evicts marks (``volatile-lru``; no other policy can be chosen), and an entry whose
    mark is gone may be delivered again. So keep the limit far above what is needed, and watch it: a mark takes about
    12 bytes, for as long as Kong keeps the entry.

    Attributes
    ----------
    max_storage_gib : int
        Stored data in GiB, 1 to 5000. Default: 1, enough for some eighty million entries.
    max_ecpu_per_second : int
        ElastiCache processing units a second, 1000 to 15 000 000. Default: 5000.
    """

    max_storage_gib: int = 1
    max_ecpu_per_second: int = 5000

    place: ClassVar[str] = "cache.serverless"
    kinds: ClassVar[Mapping[str, Kind]] = {
        "max_storage_gib": kinds.whole(1, 5000),
        "max_ecpu_per_second": kinds.whole(1000, 15_000_000),
    }

    def value_problems(self) -> Iterator[str]:
        """Say what cannot be known too late."""
        if Token.is_unresolved(self.max_storage_gib):
            yield f"{self.place}.max_storage_gib: is not known before the deployment, and an alarm follows from it"


@dataclass(frozen=True, kw_only=True)
class CacheOptions(Group):
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
    database : int or None
        Index of the database in the cache. A serverless cache has one only. Default: 0.
    """

    existing: ExistingCache | None = None
    serverless: ServerlessOptions | None = None
    engine: Engine | None = None
    engine_version: str | None = None
    node_type: str | None = None
    port: int | None = None
    authentication: Authentication | None = None
    database: int | None = None

    place: ClassVar[str] = "cache"
    settings: ClassVar[Mapping[str, str]] = {"database": "redis_db"}
    kinds: ClassVar[Mapping[str, Kind]] = {
        "existing": kinds.of("ExistingCache(…)", ExistingCache),
        "serverless": kinds.of("ServerlessOptions(…)", ServerlessOptions),
        "engine": kinds.of("one of valkey, redis", str),
        "engine_version": kinds.of('a version as text, e.g. "8.1"', str),
        "node_type": kinds.matching("a type of node, e.g. cache.t4g.micro", r"cache\.[a-z0-9-]+\.[a-z0-9]+"),
        "port": kinds.whole(1150, 65_535),
        "authentication": kinds.of("one of iam, password", str),
        "database": kinds.SETTING,
    }

    def value_problems(self) -> Iterator[str]:
        """Say what no cache has, and what does not go together."""
        if self.existing is None:
            yield from self._problems_of_new()
            return
        yield from self.existing.problems()
        if others := _given(self, "existing", "database"):
            yield (
                f"cache: existing is given, and with it {', '.join(others)} for a new one; leave one or the other out"
            )

    def _problems_of_new(self) -> Iterator[str]:
        if self.serverless is not None:
            yield from self.serverless.problems()
            for name in _given(self, "serverless", "engine", "engine_version", "authentication", "database"):
                yield f"cache.{name}: a serverless cache has none to choose; leave it out, or serverless"
        if self.engine not in (None, "valkey", "redis"):
            yield "cache.engine: must be one of valkey, redis"
        elif self.engine_version is not None:
            engine = self.engine or DEFAULT_ENGINE
            versions = (_ENGINE_VERSIONS if self.serverless is None else _SERVERLESS_VERSIONS)[engine]
            if not kinds.matching("", versions).fits(self.engine_version) or Token.is_unresolved(self.engine_version):
                form = (
                    "e.g. 8.1 (Redis OSS: 7.1)" if self.serverless is None else "the major one, e.g. 8 (Redis OSS: 7)"
                )
                yield f"cache.engine_version: is no version of {engine} that ElastiCache offers; write {form}"
        if self.authentication not in (None, "iam", "password"):
            yield "cache.authentication: must be one of iam, password"


@dataclass(frozen=True, kw_only=True)
class LedgerOptions(Group):
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
        What becomes of the new bucket with the stack. Default: ``RETAIN_ON_UPDATE_OR_DELETE``, as it holds evidence,
        unless the deployment that creates it fails.
    server_access_logs_bucket : s3.IBucket or None
        Where the new bucket's access log goes. Default: none is kept.
    """

    existing_bucket: s3.IBucket | None = None
    prefix: str | None = None
    bucket_name: str | None = None
    removal_policy: RemovalPolicy | None = None
    server_access_logs_bucket: s3.IBucket | None = None

    place: ClassVar[str] = "ledger"
    kinds: ClassVar[Mapping[str, Kind]] = {
        "existing_bucket": kinds.BUCKET,
        "prefix": kinds.matching(KEY_PREFIX_FORM, rf"({KEY_PREFIX_PATTERN})?"),
        "bucket_name": _BUCKET_NAME,
        "removal_policy": kinds.REMOVAL,
        "server_access_logs_bucket": kinds.BUCKET,
    }

    def value_problems(self) -> Iterator[str]:
        """Say what does not go together."""
        if self.existing_bucket is not None:
            if others := _given(self, "existing_bucket", "prefix"):
                yield (
                    f"ledger: existing_bucket is given, and with it {', '.join(others)} for a new one; "
                    "leave one or the other out"
                )
            yield from keys.problems("ledger.existing_bucket", self.existing_bucket.encryption_key)


@dataclass(frozen=True, kw_only=True)
class FunctionOptions(Group):
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
        What becomes of the new group with the stack. Default: ``RETAIN_ON_UPDATE_OR_DELETE``.
    dead_letter_queue : sqs.IQueue or None
        A standard queue for invocations that failed or could not be made. Default: a new one, kept for 14 days.
    environment : Mapping of str to str or None
        The function's variables by their own names: those that have a property elsewhere, instead of it, and any
        others. Default: none.
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
    environment: Mapping[str, str] | None = None

    place: ClassVar[str] = "function"
    settings: ClassVar[Mapping[str, str]] = {"environment": "lambda_env"}
    kinds: ClassVar[Mapping[str, Kind]] = {
        "memory_size": kinds.whole(128, 10_240, " of MiB"),
        "timeout": kinds.lasting(60, 900),
        "architecture": kinds.ARCHITECTURE,
        "runtime": kinds.RUNTIME,
        "code": kinds.CODE,
        "reserved_concurrent_executions": kinds.whole(1, 10_000),
        "max_event_age": kinds.lasting(60, 21_600),
        "tracing": kinds.TRACING,
        "log_group": kinds.LOG_GROUP,
        "log_retention": kinds.RETENTION,
        "log_removal_policy": kinds.REMOVAL,
        "dead_letter_queue": kinds.QUEUE,
        "environment": kinds.SETTING,
    }

    def value_problems(self) -> Iterator[str]:
        """Say what the function cannot do with, and what does not go together."""
        if self.runtime is not None and not kinds.matching("", r"python3\.(1[1-9]|[2-9][0-9])").fits(self.runtime.name):
            yield "function.runtime: must be a Python of 3.11 or later"
        if self.log_group is not None and (
            others := [name for name in _given(self, "log_group") if name[:4] == "log_"]
        ):
            yield (
                f"function: log_group is given, and with it {', '.join(others)} for a new one; "
                "leave one or the other out"
            )
        if self.dead_letter_queue is not None:
            if self.dead_letter_queue.fifo:
                yield (
                    "function.dead_letter_queue: is a FIFO queue, which neither Lambda nor EventBridge Scheduler can "
                    "use; give a standard one"
                )
            yield from keys.problems("function.dead_letter_queue", self.dead_letter_queue.encryption_master_key)


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions(Group):
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

    place: ClassVar[str] = "run.schedule_options"
    kinds: ClassVar[Mapping[str, Kind]] = {
        "enabled": kinds.BOOLEAN,
        "retry_attempts": kinds.whole(0, 185),
        "max_event_age": kinds.lasting(60, 86_400),
        "time_window": kinds.TIME_WINDOW,
        "group": kinds.SCHEDULE_GROUP,
    }


@dataclass(frozen=True, kw_only=True)
class RunOptions(Group):
    """When runs take place, what they read, and how.

    Attributes
    ----------
    schedule : scheduler.ScheduleExpression or str or None
        When to run; as text ``rate(…)`` or ``cron(…)``, in UTC. Default: ``rate(1 hour)``.
    schedule_options : ScheduleOptions or None
        Retries, time window, group of the schedule. Default: those of `ScheduleOptions`.
    streams : str or None
        What is read: ``requests`` (who called what), ``objects`` (what changed), or ``requests,objects``. Each is a
        trail of its own in each destination. Default: ``requests``.
    overlap_seconds : int or None
        How far before the checkpoint a run begins, for entries that became visible late. Default: 900.
    initial_lookback_seconds : int or None
        How far back the first run begins. Default: everything that Kong retains.
    sweep_seconds : int or None
        Time between two sweeps, which read back over what Kong retains and deliver what became visible too late for
        the window: 3600 to 2592000, or 0 for no sweeps. Default: 86400, a day.
    page_size : int or None
        Entries per call to Kong, 1 to 1000. Default: 1000.
    parallel_deliveries : int or None
        Calls to a destination at a time, 1 to 64. Default: 8.
    map_status_to_error_code : bool or None
        Whether a status of 400 and above becomes the event's error code. Default: no.
    exclude_methods : str or None
        Methods of requests that are left out and counted, with commas between, e.g. ``HEAD,OPTIONS``. Default: none.
    exclude_paths : str or None
        The same by path: patterns with commas between, each for a whole path without its query string, e.g.
        ``/status,/metrics/**``. Default: none.
    exclude_statuses : str or None
        The same by the status of Kong's answer, e.g. ``204,3xx``. Default: none.
    exclude_own_reads : str or None
        The same for the collector's own reads of the audit log: name or id of the RBAC user that its token belongs to.
        Default: they are delivered.
    reconcile : str or None
        When the day before is reconciled: ``daily`` (at 04:20 UTC), ``cron(…)`` for another time of the day, or
        ``off``. If something is missing, an alarm follows. A query of CloudTrail Lake costs money. Default: ``off``.
    log_level : str or None
        ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``. Default: ``INFO``.
    backfill : int or None
        With how many slices at once a state machine of Step Functions delivers large ranges, 1 to 8. Together they make
        no more calls to a destination at a time than a run does, so that they stay below the quota of CloudTrail Lake,
        which is shared. Default: there is no state machine; the command ``backfill`` works without it, one slice after
        the other.
    """

    schedule: scheduler.ScheduleExpression | str | None = None
    schedule_options: ScheduleOptions | None = None
    streams: str | None = None
    overlap_seconds: int | None = None
    initial_lookback_seconds: int | None = None
    sweep_seconds: int | None = None
    page_size: int | None = None
    parallel_deliveries: int | None = None
    map_status_to_error_code: bool | None = None
    exclude_methods: str | None = None
    exclude_paths: str | None = None
    exclude_statuses: str | None = None
    exclude_own_reads: str | None = None
    reconcile: str | None = None
    log_level: str | None = None
    backfill: int | None = None

    place: ClassVar[str] = "run"
    settings: ClassVar[Mapping[str, str]] = {
        name: name
        for name in (
            "schedule",
            "streams",
            "overlap_seconds",
            "initial_lookback_seconds",
            "sweep_seconds",
            "page_size",
            "parallel_deliveries",
            "map_status_to_error_code",
            "exclude_methods",
            "exclude_paths",
            "exclude_statuses",
            "exclude_own_reads",
            "reconcile",
            "log_level",
        )
    }
    kinds: ClassVar[Mapping[str, Kind]] = {
        "schedule": kinds.either(cron.FORM, kinds.TEXT, kinds.of("", scheduler.ScheduleExpression)),
        "schedule_options": kinds.of("ScheduleOptions(…)", ScheduleOptions),
        "streams": kinds.SETTING,
        "overlap_seconds": kinds.SETTING,
        "initial_lookback_seconds": kinds.SETTING,
        "sweep_seconds": kinds.SETTING,
        "page_size": kinds.SETTING,
        "parallel_deliveries": kinds.SETTING,
        "map_status_to_error_code": kinds.SETTING,
        "exclude_methods": kinds.SETTING,
        "exclude_paths": kinds.SETTING,
        "exclude_statuses": kinds.SETTING,
        "exclude_own_reads": kinds.SETTING,
        "reconcile": kinds.SETTING,
        "log_level": kinds.SETTING,
        "backfill": kinds.whole(1, MAX_SLICES_AT_ONCE),
    }

    def value_problems(self) -> Iterator[str]:
        """Say what is wrong with the schedule's options, and what is known too late."""
        if self.schedule_options is not None:
            yield from self.schedule_options.problems()
        if Token.is_unresolved(self.backfill):
            yield "run.backfill: is not known before the deployment, and what is created depends on it; write it out"


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(Group):
    """Which ways the function's security group opens, and which endpoints the VPC gets. See ``docs/network.md``.

    Attributes
    ----------
    security_group : ec2.ISecurityGroup or str or None
        An existing security group for the function, or the name of the new one. Default: a new one, named by the
        construct's `resource_name`.
    kong_peers : sequence of ec2.IPeer
        Where Kong's Admin API is: security groups (each gets a rule that admits the function, unless it was imported
        as immutable), prefix lists, or ranges of addresses. IPv6 addresses ask for subnets that all have such
        addresses too. Default: the address in the Admin API's URL where that is one, else any IPv4 address.
    kong_port : int or None
        The port there. Default: that of the URL.
    https_peers : sequence of ec2.IPeer
        Where the function may go by HTTPS: AWS's endpoints, or what leads to them. ``cloudtrail-data`` has no VPC
        endpoint and no addresses of its own, so this is for prefix lists, a proxy or a firewall that you keep. Default:
        any IPv4 address.
    vpc_owner_account : str or None
        The account that owns the VPC, where it shares its subnets with this one (AWS RAM): permissions for the
        function's network interfaces name its subnets by that account. Default: the account that the VPC was looked up
        in, else this one.
    endpoints : bool
        Whether to create the endpoints that the function needs and that AWS offers: the gateway endpoint of S3, and
        the interface endpoints of Secrets Manager, if there is a token or a password to read, of KMS, if run
        reports are signed, and of CloudWatch Logs, if events go there. Without CloudTrail Lake, the function then needs
        no NAT. Default: no.
    interface_endpoints : sequence of ec2.IInterfaceVpcEndpointService
        Further endpoints to create for the function, with private DNS, admitting the function only, e.g.
        ``ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER``. Default: none.
    gateway_endpoints : sequence of ec2.IGatewayVpcEndpointService
        Further endpoints to add to the route tables of the function's subnets, e.g.
        ``ec2.GatewayVpcEndpointAwsService.DYNAMODB``. Default: none.
    """

    security_group: ec2.ISecurityGroup | str | None = None
    kong_peers: Sequence[ec2.IPeer] = ()
    kong_port: int | None = None
    https_peers: Sequence[ec2.IPeer] = ()
    vpc_owner_account: str | None = None
    endpoints: bool = False
    interface_endpoints: Sequence[ec2.IInterfaceVpcEndpointService] = ()
    gateway_endpoints: Sequence[ec2.IGatewayVpcEndpointService] = ()

    place: ClassVar[str] = "network"
    settings: ClassVar[Mapping[str, str]] = {"security_group": "security_group"}
    kinds: ClassVar[Mapping[str, Kind]] = {
        "security_group": kinds.either(
            "the name of a new security group, or an existing one, e.g. ec2.SecurityGroup.from_security_group_id(…)",
            kinds.TEXT,
            kinds.SECURITY_GROUP,
        ),
        "kong_peers": kinds.PEERS,
        "kong_port": kinds.whole(1, 65_535),
        "https_peers": kinds.PEERS,
        "vpc_owner_account": kinds.matching("an account's 12 digits, as text", r"[0-9]{12}"),
        "endpoints": kinds.BOOLEAN,
        "interface_endpoints": kinds.INTERFACE_SERVICES,
        "gateway_endpoints": kinds.GATEWAY_SERVICES,
    }


@dataclass(frozen=True, kw_only=True)
class EventStoreOptions(Group):
    """An event data store of CloudTrail Lake and a channel into it, for accounts that AWS still lets create them.

    Both stay when the stack goes. If the deployment that creates them fails, the channel is removed again, and so is a
    store without termination protection.

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
        Key of the store. Its policy has to let ``cloudtrail.amazonaws.com`` encrypt and decrypt, which that of a key of
        your app is made to. It can never be changed. Default: CloudTrail's own.
    termination_protection : bool
        Whether the store refuses to be deleted. Default: yes.
    name : str or None
        Name of store, channel and dashboard, 3 to 128 letters, digits or any of ``._-``. A store with termination
        protection keeps its name if the deployment that creates it fails, and the next one needs another. Default:
        derived from the construct's path and the stack's id, so that it is never taken.
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

    place: ClassVar[str] = "CloudTrailLake.event_store"
    kinds: ClassVar[Mapping[str, Kind]] = {
        "source": kinds.matching("one of KongGatewayEnterprise, Custom", "KongGatewayEnterprise|Custom"),
        "billing_mode": kinds.of("one of EXTENDABLE_RETENTION_PRICING, FIXED_RETENTION_PRICING", str),
        "retention": kinds.of("a Duration, e.g. Duration.days(366)", Duration),
        "encryption_key": kinds.KEY,
        "termination_protection": kinds.BOOLEAN,
        "name": kinds.matching("3 to 128 letters, digits, dots, hyphens or underscores", r"[a-zA-Z0-9._-]{3,128}"),
        "dashboard": kinds.BOOLEAN,
    }

    def value_problems(self) -> Iterator[str]:
        """Say what CloudTrail does not offer."""
        longest = {"EXTENDABLE_RETENTION_PRICING": 3653, "FIXED_RETENTION_PRICING": 2557}.get(self.billing_mode)
        if longest is None:
            yield f"{self.place}.billing_mode: must be one of EXTENDABLE_RETENTION_PRICING, FIXED_RETENTION_PRICING"
        elif (
            self.retention is not None
            and not self.retention.is_unresolved()
            and not 7 <= self.retention.to_days(integral=False) <= longest
        ):
            yield f"{self.place}.retention: must be between 7 and {longest} days"
        yield from keys.problems(f"{self.place}.encryption_key", self.encryption_key)


class Destination(Group):
    """A place where entries are kept: `Archive`, `CloudTrailLake` or `CloudWatchLogs`. Each is a trail of its own.

    Attributes
    ----------
    destination : str
        Its name in settings, metrics and alarms.
    """

    destination: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class CloudTrailLake(Destination):
    """CloudTrail Lake, for accounts that used it before 31 May 2026: AWS takes no new customers.

    Attributes
    ----------
    channel_arn : str or None
        ARN of the channel, in the region of the stack. Default: that of `event_store`; one of the two is required.
    event_store : EventStoreOptions or None
        An event data store and a channel to create, instead of `channel_arn`. Default: neither is created.
    external_id : str or None
        External id that the channel's resource policy asks for. Default: none.
    event_data_store : str or None
        ARN of the event data store behind the channel, which `reconcile` may query. Default: that of `event_store`;
        without either, `reconcile` compares with the collector's own marks.
    """

    channel_arn: str | None = None
    event_store: EventStoreOptions | None = None
    external_id: str | None = None
    event_data_store: str | None = None

    destination: ClassVar[str] = "cloudtrail-lake"
    place: ClassVar[str] = "CloudTrailLake"
    settings: ClassVar[Mapping[str, str]] = {"external_id": "external_id", "event_data_store": "event_data_store"}
    kinds: ClassVar[Mapping[str, Kind]] = {
        "channel_arn": kinds.SETTING,
        "event_store": kinds.of("EventStoreOptions(…)", EventStoreOptions),
        "external_id": kinds.SETTING,
        "event_data_store": kinds.SETTING,
    }

    def value_problems(self) -> Iterator[str]:
        """Say what is wrong with the event store."""
        if self.event_store is not None:
            yield from self.event_store.problems()


@dataclass(frozen=True, kw_only=True)
class Archive(Destination):
    """An archive in S3, for every account: each entry exactly once, immutable, and to be queried with SQL.

    Attributes
    ----------
    existing_bucket : s3.IBucket or str or None
        A bucket to use instead of a new one, or its name. It needs versioning, and should have Object Lock with a
        default retention, and a policy such as that of a new one. One that is given by its name counts as encrypted
        with the construct's `encryption_key`, if there is one. Default: a new one.
    prefix : str or None
        First part of every key, without a slash at its end. Below it, each gateway has a folder of its own, so that
        several gateways may share a bucket and a prefix. Default: ``archive``.
    lock : str or None
        How Object Lock keeps what is archived. ``governance``: nobody deletes it before its time, unless somebody
        changes the bucket's policy first, and is allowed to bypass the lock. ``compliance``: nobody at all, neither
        the account's root user nor AWS; that cannot be taken back. ``none``: what the bucket's policy says is all
        there is. Default: ``governance``.
    retention : Duration or None
        How long it does, in whole days, 1 to 36 500. Default: 365 days.
    format : str or None
        ``json``: the event that CloudTrail defines, with the untouched entry. ``ocsf``: OCSF 1.3, API Activity.
        Default: ``json``.
    signing_key : kms.IKey or str or bool or None
        An asymmetric KMS key that signs run reports, or its ARN. True: one is created. Default: they are not signed.
    glacier_ir_after : Duration or None
        After how long parts go to Glacier Instant Retrieval, in whole days, 1 to 36 500. They can be queried as before,
        each query costs more, and S3 bills them for 90 days at least. Parts below 128 KB stay where they are, as moving
        them would cost more than it saves. Default: never.
    queries : bool
        Whether there are a table in Glue and a workgroup of Athena with named queries. Default: yes.
    scan_limit_gib : int or None
        What a query may read at most, in GiB, 1 to 10 000; Athena bills the data that a query reads. Default: 100.
    bucket_name : str or None
        Physical name of the new bucket. Default: CloudFormation's choice.
    removal_policy : RemovalPolicy or None
        What becomes of the new bucket, and of a new signing key, with the stack. Default:
        ``RETAIN_ON_UPDATE_OR_DELETE``: they stay, unless the deployment that creates them fails.
    server_access_logs_bucket : s3.IBucket or None
        Where the new bucket's access log goes. Default: none is kept.
    """

    existing_bucket: s3.IBucket | str | None = None
    prefix: str | None = None
    lock: str | None = None
    retention: Duration | None = None
    format: str | None = None
    signing_key: kms.IKey | str | bool | None = None
    glacier_ir_after: Duration | None = None
    queries: bool = True
    scan_limit_gib: int | None = None
    bucket_name: str | None = None
    removal_policy: RemovalPolicy | None = None
    server_access_logs_bucket: s3.IBucket | None = None

    destination: ClassVar[str] = "archive"
    place: ClassVar[str] = "Archive"
    settings: ClassVar[Mapping[str, str]] = {"format": "archive_format"}
    kinds: ClassVar[Mapping[str, Kind]] = {
        "existing_bucket": kinds.either(
            "a bucket, e.g. s3.Bucket.from_bucket_attributes(…), or the name of one", _BUCKET_NAME, kinds.BUCKET
        ),
        "prefix": _KEY_PREFIX,
        "lock": kinds.matching(f"one of {', '.join(LOCKS)}", "|".join(LOCKS)),
        "retention": _DAYS,
        "format": kinds.SETTING,
        "signing_key": kinds.either(
            "an asymmetric key, e.g. kms.Key.from_key_arn(…), the ARN of one (not of an alias), or True for a new one",
            kinds.BOOLEAN,
            kinds.matching("", r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,64}"),
            kinds.KEY,
        ),
        "glacier_ir_after": _DAYS,
        "queries": kinds.BOOLEAN,
        "scan_limit_gib": kinds.whole(1, 10_000),
        "bucket_name": _BUCKET_NAME,
        "removal_policy": kinds.REMOVAL,
        "server_access_logs_bucket": kinds.BUCKET,
    }

    def value_problems(self) -> Iterator[str]:
        """Say what does not go together."""
        if self.existing_bucket is not None:
            if others := _given(
                self, "existing_bucket", "prefix", "format", "signing_key", "queries", "scan_limit_gib"
            ):
                yield (
                    f"Archive: existing_bucket is given, and with it {', '.join(others)} for a new one; leave one or "
                    "the other out"
                )
            if not isinstance(self.existing_bucket, str):
                yield from keys.problems("Archive.existing_bucket", self.existing_bucket.encryption_key)
        elif self.lock == "none" and self.retention is not None:
            yield "Archive.retention: is given, and lock is none, so nothing would keep it; leave one of the two out"
        if not self.queries and self.scan_limit_gib is not None:
            yield "Archive.scan_limit_gib: is given, and there are no queries; leave it out, or queries"
        if Token.is_unresolved(self.lock):
            yield "Archive.lock: is not known before the deployment, and what is created depends on it; write it out"
        if not isinstance(self.signing_key, bool | str):
            yield from keys.problems("Archive.signing_key", self.signing_key)
            if self.signing_key is not None and not keys.can_sign(self.signing_key):
                yield (
                    "Archive.signing_key: cannot sign with ECDSA_SHA_256 or RSASSA_PKCS1_V1_5_SHA_256; give a key for "
                    "SIGN_VERIFY of RSA_3072, another length of RSA, or ECC_NIST_P256"
                )


@dataclass(frozen=True, kw_only=True)
class CloudWatchLogs(Destination):
    """A log group of CloudWatch Logs: alarms, dashboards and Logs Insights over what was done, for every account.

    Attributes
    ----------
    existing_log_group : logs.ILogGroup or str or None
        A log group of the stack's region and account to use instead of a new one, or its name or ARN. Default: a new
        one.
    log_group_name : str or None
        Physical name of the new group. Default: CloudFormation's choice.
    retention : Duration or None
        How long the new group keeps events: a number of days that CloudWatch Logs offers, from 1 to 3653. Of an
        existing group, what it has: with it, older entries are not tried in vain. Default: 365 days.
    deletion_protection : bool
        Whether the new group refuses to be deleted, with all that is in it, until somebody takes the protection off.
        Default: yes.
    format : str or None
        ``json``: the event that CloudTrail defines. ``ocsf``: OCSF 1.3, API Activity. Default: ``json``.
    queries : bool
        Whether there are saved queries in Logs Insights. Default: yes.
    activity_alarms : bool
        Whether metric filters count refused calls of the Admin API and changes, and alarms tell of many of the former,
        and of any of the latter out of hours. Default: no.
    refused_calls : int
        From how many refused calls in an hour on, 1 to 1 000 000. Default: 10.
    working_hours : str
        Hours of Monday to Friday, in UTC, outside of which a change is an alarm, e.g. ``7-19``. Default: ``7-19``.
    dashboard : bool
        Whether there is a dashboard of queries. Each look at it is billed by the data that they read. Default: no.
    s3_tables : bool
        Whether what comes in is also kept as a table of S3 Tables, for SQL: the association of the data source
        ``kong_gateway``/``api_activity``, which tags tell of the new group. It is one for the account and region.
        Default: no.
    removal_policy : RemovalPolicy or None
        What becomes of the new group with the stack. Default: ``RETAIN`` with deletion protection, else
        ``RETAIN_ON_UPDATE_OR_DELETE``.
    """

    existing_log_group: logs.ILogGroup | str | None = None
    log_group_name: str | None = None
    retention: Duration | None = None
    deletion_protection: bool = True
    format: str | None = None
    queries: bool = True
    activity_alarms: bool = False
    refused_calls: int = 10
    working_hours: str = "7-19"
    dashboard: bool = False
    s3_tables: bool = False
    removal_policy: RemovalPolicy | None = None

    destination: ClassVar[str] = "cloudwatch-logs"
    place: ClassVar[str] = "CloudWatchLogs"
    settings: ClassVar[Mapping[str, str]] = {"format": "log_group_format"}
    kinds: ClassVar[Mapping[str, Kind]] = {
        "existing_log_group": kinds.either(
            "a log group, e.g. logs.LogGroup.from_log_group_name(…), or the name or ARN of one",
            kinds.matching(LOG_GROUP_FORM, LOG_GROUP_PATTERN),
            kinds.LOG_GROUP,
        ),
        "log_group_name": _LOG_GROUP_NAME,
        "retention": kinds.days(1, 3653),
        "deletion_protection": kinds.BOOLEAN,
        "format": kinds.SETTING,
        "queries": kinds.BOOLEAN,
        "activity_alarms": kinds.BOOLEAN,
        "refused_calls": kinds.whole(1, 1_000_000),
        "working_hours": kinds.matching("two hours of a day, the first one earlier, e.g. 7-19", _WORKING_HOURS),
        "dashboard": kinds.BOOLEAN,
        "s3_tables": kinds.BOOLEAN,
        "removal_policy": kinds.REMOVAL,
    }

    @property
    def hours(self) -> tuple[int, int]:
        """The first hour of work, and the first one after it."""
        first, _, last = self.working_hours.partition("-")
        return int(first), int(last)

    def value_problems(self) -> Iterator[str]:
        """Say what CloudWatch Logs does not offer, and what does not go together."""
        offered = variables.table.LOG_RETENTION_DAYS
        if self.retention is not None and self.retention.to_days(integral=False) not in offered:
            yield f"CloudWatchLogs.retention: must be one of {', '.join(map(str, offered))} days"
        if self.hours[0] >= self.hours[1]:
            yield "CloudWatchLogs.working_hours: must be two hours of a day, the first one earlier, e.g. 7-19"
        if self.existing_log_group is not None and (
            others := [name for name in _given(self) if name in _NEW_GROUP_PROPERTIES]
        ):
            yield (
                f"CloudWatchLogs: existing_log_group is given, and with it {', '.join(others)} for a new one; leave "
                "one or the other out"
            )
        if not self.activity_alarms and (others := [name for name in _ALARM_PROPERTIES if name in _given(self)]):
            yield f"CloudWatchLogs.{others[0]}: is given, and there are no activity_alarms; leave it out, or give them"


def _key_of(secret: secretsmanager.ISecret | None) -> kms.IKey | None:
    return None if secret is None else secret.encryption_key
