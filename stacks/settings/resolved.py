"""The settings of a deployment, resolved: defaults filled in, checked together, and frozen.

The names of these classes end in ``Settings``, those of what a caller fills in ``Options``. Settings come as context
values of the app, or out of the groups of the construct's properties (`names` knows which is where). Every problem is
collected before anything is raised, and each says what to write instead. No problem repeats a value: anything can be
pasted into the wrong place, a token included.
"""

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from aws_cdk import Duration

from ..errors import SettingsError as SettingsError
from . import checks, variables
from .checks import ServiceUrl
from .cron import Schedule
from .groups import (
    LOCKS,
    MAX_SLICES_AT_ONCE,
    Archive,
    CacheOptions,
    CloudTrailLake,
    CloudWatchLogs,
    ServerlessOptions,
)

_T = TypeVar("_T")

DEFAULT_STACK_NAME = "KongCloudTrailIntegration"
DEFAULT_RESOURCE_NAME = "kong-cloudtrails-integration"
DEFAULT_TAGS: Mapping[str, str] = {"project": "kong-cloudtrail-integrations"}
DEFAULT_SCHEDULE = "rate(1 hour)"
DEFAULT_SOURCE_NAME = variables.DEFAULTS["SOURCE_NAME"]

ENVIRONMENT_LIMIT_BYTES = 4096
"""Names and values of a function's environment together (AWS Lambda quota, not adjustable)."""

RESERVED_ENVIRONMENT_BYTES = 900
"""Room for what is only known at deployment: the cache's host name, two secret ARNs, the ledger's bucket."""

RESERVED_FOR_ARCHIVE_BYTES = 300
"""The same for the archive: its bucket and prefix, the ARN of the key that signs."""

RESERVED_FOR_LOGS_BYTES = 650
"""The same for CloudWatch Logs: the ARN of its group, whose name may have 512 characters, and its retention."""

# The function's variables that a caller may set, each with the check that turns a given value into the text of the
# environment. The same names in lower case are the settings.
_VARIABLES: Mapping[str, Callable[[object], str]] = {
    name: partial(checks.variable, name) for name in variables.SETTINGS
}

_REQUIRED_VARIABLES = {name: what for name, what in variables.REQUIRED.items() if name != "CHANNEL_ARN"}
"""What every deployment has to be given. A channel is needed for CloudTrail Lake alone."""

_CHANNEL = f"the ARN of the CloudTrail Lake channel, e.g. {variables.table.EXAMPLE_CHANNEL_ARN}"

_CHOICE = (
    "say where the audit trail is to be kept. archive: in S3, immutable, queried with SQL, in any account and region. "
    "cloudtrail-lake: in CloudTrail Lake, which AWS offers only to accounts that used it before 2026-05-31; it needs "
    "channel_arn as well. cloudwatch-logs: in a log group, with alarms and Logs Insights, in any account and region. "
    "Or several: archive,cloudwatch-logs"
)

_ADD_ARCHIVE = "name archive there too, or leave it out"
_ADD_LOGS = "name cloudwatch-logs there too, or leave it out"

_LITERAL_ADVICE = (
    "a literal token would end up in templates and shell histories. Store it in AWS Secrets Manager and give the "
    "secret's ARN or name as kong_admin_token_secret; or give kong_superadmin=true alone, and the deployment creates "
    "an empty secret and prints the command that fills it"
)

# Variables that hold a secret and are never taken, with what to do instead.
_REFUSED: Mapping[str, str] = {
    "KONG_ADMIN_TOKEN": _LITERAL_ADVICE,
    "REDIS_PASSWORD": "the deployment generates the cache's password and keeps it in AWS Secrets Manager; leave it out",
}

# Variables that follow from the resources of the deployment: a given value is left aside, with a note.
_BY_DEPLOYMENT = variables.BY_DEPLOYMENT

_LEFT_ASIDE = "is set by the deployment to the resources that it creates; the given value is not used."

_SECRETS = r"TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY"
"""What names of variables have in them that hold a secret."""

_KNOWN_VARIABLES = frozenset(variables.VARIABLES)


@dataclass(frozen=True, kw_only=True)
class KongAccess:
    """Where Kong's Admin API is and how the function proves who it is.

    Attributes
    ----------
    admin_api : ServiceUrl
        Base URL of the Admin API; its port is the one that the function may reach.
    token_secret : str or None
        ARN or name of the existing secret that holds the token. None: none exists.
    needs_token : bool
        Whether the Admin API asks for a token.
    """

    admin_api: ServiceUrl
    needs_token: bool
    token_secret: str | None


@dataclass(frozen=True, kw_only=True)
class IntegrationSettings:
    """Everything the construct was told, checked.

    Attributes
    ----------
    kong : KongAccess
        Kong's Admin API.
    destinations : tuple of str
        Where entries are kept: some of ``archive``, ``cloudtrail-lake`` and ``cloudwatch-logs``.
    streams : tuple of str
        What is read: ``requests``, ``objects``, or both.
    channel_arn : str
        ARN of the CloudTrail Lake channel; empty where it is still to be created, or there is none.
    schedule : Schedule
        When the function runs.
    reconcile : Schedule or None
        When the day before is reconciled; None for never.
    environment : Mapping of str to str
        The function's variables as far as they are known before deployment.
    resource_name : str or None
        Physical name of the function, and the stem of the other names. None: CloudFormation chooses.
    security_group : str or None
        Physical name of the function's security group: the given one, else `resource_name`.
    notes : tuple of str
        Remarks that stop nothing.
    """

    kong: KongAccess
    destinations: tuple[str, ...]
    streams: tuple[str, ...]
    channel_arn: str
    schedule: Schedule
    reconcile: Schedule | None
    environment: Mapping[str, str]
    resource_name: str | None
    security_group: str | None
    notes: tuple[str, ...]

    @classmethod
    def from_settings(
        cls,
        settings: Mapping[str, object],
        *,
        region: str | None = None,
        subnet_ids: Sequence[str] | None = None,
        least_subnets: int = 2,
        new_channel: bool = False,
        has_cache: bool = True,
        clock_changes: bool = False,
        further: Callable[[Mapping[str, str]], Iterable[str]] = lambda _: (),
    ) -> "IntegrationSettings":
        """Check the properties of the construct.

        Parameters
        ----------
        settings : Mapping of str to object
            Values by the names of the settings; None stands for "not given".
        region : str, optional
            Region of the stack, where known.
        subnet_ids : sequence of str, optional
            The subnets chosen for the function and the cache.
        least_subnets : int
            How many different ones are needed.
        new_channel : bool
            Whether a channel is to be created, so that none may be given.
        has_cache : bool
            Whether the function has a cache.
        clock_changes : bool
            Whether the schedule goes by the clock of a time zone.
        further : callable
            Takes the function's variables and returns problems of what is no plain setting.

        Raises
        ------
        SettingsError
            With every problem of the settings.
        """
        reader = _Reader(settings)
        if subnet_ids is not None:
            reader.check("subnets", lambda: checks.subnet_ids(subnet_ids, least_subnets))
        options, environment = _read_integration(
            reader, region, new_channel=new_channel, has_cache=has_cache, clock_changes=clock_changes
        )
        reader.problems += further(environment)
        if reader.problems or options is None:
            raise SettingsError(reader.problems)
        return options


@dataclass(frozen=True, kw_only=True)
class DeploymentSettings:
    """Everything this repository's own app is told by its context.

    Attributes
    ----------
    vpc_id, subnet_ids : str, tuple of str
        The VPC where Kong's control plane runs, and at least two of its subnets.
    region : str
        Region of the deployment: ``aws_region``, else the environment's, else the channel's.
    tags : Mapping of str to str
        Tags of every resource.
    alarm_topic : str or None
        ARN of the SNS topic that alarms tell. None: they tell nobody.
    runbook_url : str or None
        Where the operators' copy of the runbook is. None: its path in the repository.
    schedule_enabled : bool
        Whether the function runs by schedule.
    stack_name : str
        Name of the stack: `DEFAULT_STACK_NAME`, followed by the resource name where that is not the default, so that
        each gateway has a stack of its own.
    encryption_key : str or None
        ARN of the customer's key. None: AWS's own keys.
    permissions_boundary : str or None
        ARN or name of the policy that bounds every role. None: no boundary.
    vpc_owner_account : str or None
        Account that shares the VPC with this one. None: the VPC is this one's.
    route_table_ids : tuple of str or None
        Route tables of the subnets, in their order, if endpoints are to be created. None: they are not.
    kong_retention_days : int or None
        How long Kong keeps an entry, in days. None: as long as it does unless told otherwise.
    backfill : int or None
        With how many slices at once a state machine delivers large ranges. None: there is no state machine.
    cache : CacheOptions or None
        The new cache; None where there is to be none.
    destinations : tuple of str
        Where entries are kept: some of ``archive``, ``cloudtrail-lake`` and ``cloudwatch-logs``.
    archive : Archive
        The archive, if there is to be one.
    logs : CloudWatchLogs
        The log group, if there is to be one.
    integration : Mapping of str to object
        The settings of `KongCloudTrailIntegration`, as given; `names.properties_of` finds those of its groups.
    notes : tuple of str
        Remarks that stop nothing.
    """

    vpc_id: str
    subnet_ids: tuple[str, ...]
    region: str
    tags: Mapping[str, str]
    alarm_topic: str | None
    runbook_url: str | None
    schedule_enabled: bool
    stack_name: str
    encryption_key: str | None
    permissions_boundary: str | None
    vpc_owner_account: str | None
    route_table_ids: tuple[str, ...] | None
    kong_retention_days: int | None
    backfill: int | None
    cache: CacheOptions | None
    destinations: tuple[str, ...]
    archive: Archive
    logs: CloudWatchLogs
    integration: Mapping[str, Any]
    notes: tuple[str, ...]

    @classmethod
    def from_context(
        cls, context: Mapping[str, object], *, environment_region: str | None = None
    ) -> "DeploymentSettings":
        """Check the context values of the app.

        Parameters
        ----------
        context : Mapping of str to object
            Context values by name; names that are no settings are ignored.
        environment_region : str, optional
            Region to deploy to where the context does not name one.

        Raises
        ------
        SettingsError
            With every problem of the settings.
        """
        integration: dict[str, Any] = {name: context[name] for name in _INTEGRATION_SETTINGS if name in context}
        for name in ("destination", "streams"):
            given = integration.get(name)
            if isinstance(given, list | tuple) and all(isinstance(text, str) for text in given):
                integration[name] = ",".join(given)  # a list in cdk.json, as the other lists may be
        if not _given(integration.get("resource_name")):
            integration["resource_name"] = DEFAULT_RESOURCE_NAME
        reader = _Reader({**context, **integration})  # the whole context: a literal token is looked for as well
        vpc_id = reader.required(
            "existing_vpc",
            checks.vpc_id,
            "the id of the VPC where Kong's control plane runs, e.g. vpc-0123456789abcdef0",
        )
        destinations = destinations_of(reader.settings)
        cache = _read_cache(reader, destinations)
        subnet_ids = reader.required(
            "existing_subnet_ids",
            partial(checks.subnet_ids, at_least=1 if cache is None else 2),
            f"the ids of at least {'one subnet' if cache is None else 'two subnets'} of that VPC, e.g. "
            "subnet-0123456789abcdef0,subnet-0fedcba9876543210",
        )
        tags = reader.optional("resource_tags", checks.tags)
        alarm_topic = reader.optional("alarm_topic", checks.topic_arn)
        runbook_url = reader.optional("runbook_url", checks.web_page)
        schedule_enabled = reader.optional("schedule_enabled", checks.boolean_text) != "false"
        region = reader.optional("aws_region", checks.region)
        if region is None and not _given(context.get("aws_region")):
            region = environment_region
        stack_name = reader.optional("stack_name", checks.stack_name) or _stack_name(integration["resource_name"])
        encryption_key = reader.optional("encryption_key", checks.key_arn)
        permissions_boundary = reader.optional("permissions_boundary", checks.boundary)
        vpc_owner_account = reader.optional("vpc_owner_account", checks.account)
        route_table_ids = _read_route_tables(reader, subnet_ids)
        source_name = _source_name(integration["resource_name"])
        options, environment = _read_integration(
            reader, region, new_channel=False, has_cache=cache is not None, source_name=source_name
        )
        has_channel = CloudTrailLake.destination in destinations
        if region is None and destinations and not has_channel and not _given(context.get("aws_region")):
            reader.problems.append("aws_region: is missing; give the region of the deployment, e.g. us-east-1")
        if environment["SOURCE_NAME"] == source_name:
            integration["source_name"] = source_name
        if encryption_key is not None:
            reader.check(
                "encryption_key", lambda: checks.same_region_as_key(encryption_key, region or _region(options))
            )
        kong_retention = reader.optional("kong_retention_days", partial(checks.integer_text, low=1, high=3650))
        backfill = reader.optional("backfill", partial(checks.integer_text, low=1, high=MAX_SLICES_AT_ONCE))
        archive = _read_archive(reader, destinations, region)
        logs = _read_logs(reader, destinations, region)
        if reader.problems or options is None or vpc_id is None or subnet_ids is None:
            raise SettingsError(reader.problems)
        return cls(
            vpc_id=vpc_id,
            subnet_ids=subnet_ids,
            # A channel takes events in its own region only, so it is where the stack belongs when nobody says more.
            region=region or _region(options) or "",
            tags=DEFAULT_TAGS if tags is None else tags,
            alarm_topic=alarm_topic,
            runbook_url=runbook_url,
            schedule_enabled=schedule_enabled,
            stack_name=stack_name,
            encryption_key=encryption_key,
            permissions_boundary=permissions_boundary,
            vpc_owner_account=vpc_owner_account,
            route_table_ids=route_table_ids,
            kong_retention_days=None if kong_retention is None else int(kong_retention),
            backfill=None if backfill is None else int(backfill),
            cache=cache,
            destinations=options.destinations,
            archive=archive,
            logs=logs,
            # Kong's address is a property that is required, so it becomes one where `lambda_env` has it.
            integration={**integration, "kong_admin_api": options.kong.admin_api.url},
            notes=tuple(_context_notes(context)),
        )


_INTEGRATION_SETTINGS = (
    *(name.lower() for name in _VARIABLES),
    "kong_admin_token_key",
    "lambda_env",
    "resource_name",
    "security_group",
    "schedule",
    "reconcile",
)
_CACHE_SETTINGS = (
    "cache_engine",
    "cache_engine_version",
    "cache_node_type",
    "cache_authentication",
    "cache_serverless",
)
_ARCHIVE_PROPERTIES: Mapping[str, str] = {
    "existing_bucket": "archive_bucket",
    "prefix": "archive_prefix",
    "lock": "archive_lock",
    "retention": "archive_retention_days",
    "signing_key": "archive_signing_key",
    "glacier_ir_after": "archive_glacier_ir_after_days",
    "queries": "archive_queries",
    "scan_limit_gib": "archive_scan_limit_gib",
}
"""The properties of `Archive` that are no variables of the function, and the settings that they are read from."""

_LOGS_PROPERTIES: Mapping[str, str] = {
    "existing_log_group": "log_group",
    "log_group_name": "log_group_name",
    "retention": "log_group_retention_days",
    "deletion_protection": "log_group_deletion_protection",
    "queries": "log_group_queries",
    "activity_alarms": "log_group_alarms",
    "refused_calls": "log_group_refused_calls",
    "working_hours": "log_group_working_hours",
    "dashboard": "log_group_dashboard",
    "s3_tables": "log_group_s3_tables",
}
"""The same of `CloudWatchLogs`."""

_LOGS_SETTINGS = tuple(_LOGS_PROPERTIES.values())
_LOGS_PROPERTY = re.compile(r"\b(existing_log_group|deletion_protection|activity_alarms|refused_calls|working_hours)\b")
_ARCHIVE_SETTINGS = tuple(_ARCHIVE_PROPERTIES.values())
_ARCHIVE_PROPERTY = re.compile(r"\b(existing_bucket|lock|retention|glacier_ir_after)\b")
_SETTINGS = frozenset(
    {
        *_INTEGRATION_SETTINGS,
        *_CACHE_SETTINGS,
        *_ARCHIVE_SETTINGS,
        *_LOGS_SETTINGS,
        "existing_vpc",
        "existing_subnet_ids",
        "resource_tags",
        "aws_region",
        "alarm_topic",
        "runbook_url",
        "schedule_enabled",
        "stack_name",
        "encryption_key",
        "permissions_boundary",
        "vpc_owner_account",
        "vpc_endpoints",
        "existing_route_table_ids",
        "kong_retention_days",
        "backfill",
        "image",
    }
)


class _Reader:
    """Takes settings out of a mapping one by one and notes what is wrong with each."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        self.settings = settings
        self.problems: list[str] = []

    def check(self, name: str, action: Callable[[], _T]) -> _T | None:
        """Run a check that raises ValueError with its advice."""
        try:
            return action()
        except ValueError as problem:
            self.problems.append(f"{name}: {problem}")
            return None

    def optional(self, name: str, check: Callable[[object], _T]) -> _T | None:
        """Return the checked value, or None where it is absent or wrong."""
        value = self.settings.get(name)
        return self.check(name, lambda: check(value)) if _given(value) else None

    def required(self, name: str, check: Callable[[object], _T], what: str) -> _T | None:
        """Do the same, and note it as a problem when the value is absent."""
        if not _given(self.settings.get(name)):
            self.problems.append(f"{name}: is missing; give {what}")
            return None
        return self.optional(name, check)


def _given(value: object) -> bool:
    return value is not None and not (isinstance(value, str) and not value.strip())


def _stack_name(resource_name: object) -> str:
    """Return the name of a gateway's own stack."""
    name = str(resource_name)
    if name == DEFAULT_RESOURCE_NAME:
        return DEFAULT_STACK_NAME
    # A stack's name has no underscores; two gateways whose names differ in those alone have two stacks all the same.
    suffix = f"-{hashlib.sha256(name.encode()).hexdigest()[:6]}" if "_" in name else ""
    return f"{DEFAULT_STACK_NAME}-{name.replace('_', '-')}{suffix}"


def _source_name(resource_name: object) -> str:
    """Return the name of a gateway in keys and metrics, where nobody gave one: another one for each stack."""
    name = str(resource_name)
    return DEFAULT_SOURCE_NAME if name == DEFAULT_RESOURCE_NAME else name.lstrip("_-") or DEFAULT_SOURCE_NAME


def _region(options: IntegrationSettings | None) -> str | None:
    """Return the region of the channel, if there is one: a channel takes events in its own region only."""
    if options is None or not options.channel_arn:
        return None
    return checks.channel_arn(options.channel_arn).region or None


def destinations_of(settings: Mapping[str, object], *, new_channel: bool = False) -> tuple[str, ...]:
    """Return where entries are to be kept, as far as settings tell; nothing if they do not, or wrongly."""
    reader = _Reader(settings)
    return _read_destinations(reader, _read_lambda_env(reader), new_channel=new_channel)


def _read_destinations(reader: _Reader, lambda_env: Mapping[str, str], *, new_channel: bool) -> tuple[str, ...]:
    """Return where entries are kept. Without a word about it, a channel speaks for CloudTrail Lake."""
    check = partial(checks.variable, "DESTINATION")
    given = [reader.settings.get("destination"), lambda_env.get("DESTINATION")]
    named = [value for value in given if _given(value)]
    if named:
        # Whether both say the same is told with the other variables.
        found = _Reader({"destination": named[0]}).optional("destination", check)
        return tuple(found.split(",")) if found else ()
    if new_channel or _given(reader.settings.get("channel_arn")) or "CHANNEL_ARN" in lambda_env:
        return (CloudTrailLake.destination,)
    reader.problems.append(f"destination: is missing; {_CHOICE}")
    return ()


def _read_integration(
    reader: _Reader,
    region: str | None,
    *,
    new_channel: bool,
    has_cache: bool,
    clock_changes: bool = False,
    source_name: str = DEFAULT_SOURCE_NAME,
) -> tuple[IntegrationSettings | None, Mapping[str, str]]:
    """Check all plain settings. No options, but variables, where something was noted that leaves them incomplete."""
    notes: list[str] = []
    lambda_env = _read_lambda_env(reader)
    destinations = _read_destinations(reader, lambda_env, new_channel=new_channel)
    environment = _read_environment(reader, lambda_env, destinations, new_channel=new_channel)
    expression = reader.settings.get("schedule") or DEFAULT_SCHEDULE
    schedule = reader.check("schedule", lambda: checks.schedule(expression, clock_changes=clock_changes))
    reconcile = reader.optional("reconcile", checks.reconcile)
    resource_name = reader.optional("resource_name", checks.resource_name)
    security_group = reader.optional("security_group", checks.security_group_name)
    channel_arn, admin_api = environment.get("CHANNEL_ARN"), environment.get("KONG_ADMIN_API")
    if channel_arn is not None:
        channel = checks.channel_arn(channel_arn)
        reader.check("channel_arn", lambda: checks.same_region_as_channel(channel, region))
        region = region or channel.region or None
    to_lake = CloudTrailLake.destination in destinations
    if to_lake and region is not None and (channel_arn is None or not checks.channel_arn(channel_arn).region):
        named = region
        reader.check("aws_region", lambda: checks.offers_cloudtrail_data(named))
    needs_token, token_secret = _read_token(reader, environment, region)
    environment["KONG_SUPERADMIN"] = "true" if needs_token else "false"
    if has_cache:
        environment.setdefault("REDIS_DB", variables.DEFAULTS["REDIS_DB"])
    elif environment.pop("REDIS_DB", None) is not None:
        notes.append("redis_db: is not used, as there is no cache: the archive needs none.")
    environment["DESTINATION"] = ",".join(destinations)
    if Archive.destination in destinations:
        environment.setdefault("ARCHIVE_FORMAT", variables.DEFAULTS["ARCHIVE_FORMAT"])
    if CloudWatchLogs.destination in destinations:
        environment.setdefault("LOG_GROUP_FORMAT", variables.DEFAULTS["LOG_GROUP_FORMAT"])
    environment.setdefault("SOURCE_NAME", source_name)
    environment.setdefault("LOG_LEVEL", variables.DEFAULTS["LOG_LEVEL"])
    reader.check("lambda_env", lambda: _check_size(environment, _reserved_bytes(destinations)))
    has_channel = channel_arn is not None or new_channel or not to_lake
    if schedule is None or admin_api is None or not destinations or not has_channel:
        return None, environment
    options = IntegrationSettings(
        kong=KongAccess(admin_api=checks.service_url(admin_api), needs_token=needs_token, token_secret=token_secret),
        destinations=destinations,
        streams=tuple((environment.get("STREAMS") or variables.DEFAULTS["STREAMS"]).split(",")),
        channel_arn=channel_arn or "",
        schedule=schedule,
        reconcile=reconcile,
        environment=environment,
        resource_name=resource_name,
        security_group=security_group or resource_name,
        notes=(*notes, *_integration_notes(lambda_env, admin_api, needs_token)),
    )
    return options, environment


def _read_route_tables(reader: _Reader, subnet_ids: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the route table of each subnet, if endpoints are to be created."""
    if reader.optional("vpc_endpoints", checks.boolean_text) != "true":
        if _given(reader.settings.get("existing_route_table_ids")):
            reader.problems.append(
                "existing_route_table_ids: is given without vpc_endpoints=true, and would not be used; leave it out"
            )
        return None
    given = reader.required(
        "existing_route_table_ids",
        checks.route_table_ids,
        "the ids of the route tables of the subnets, in the same order, or one for all; the endpoint of S3 goes there",
    )
    if given is None or subnet_ids is None:
        return None
    if len(given) not in (1, len(subnet_ids)):
        reader.problems.append(
            f"existing_route_table_ids: {len(given)} given for {len(subnet_ids)} subnets; give one for each, or one "
            "for all"
        )
        return None
    return given if len(given) > 1 else given * len(subnet_ids)


def _read_cache(reader: _Reader, destinations: Sequence[str]) -> CacheOptions | None:
    """Read the flat settings of a new cache into their group; None where neither they nor a destination ask for one."""
    asked = any(_given(reader.settings.get(name)) for name in _CACHE_SETTINGS)
    if destinations == (Archive.destination,) and not asked:
        return None
    serverless = reader.optional("cache_serverless", checks.boolean_text) == "true"
    options = CacheOptions(
        engine=reader.optional("cache_engine", checks.engine),
        engine_version=reader.optional("cache_engine_version", checks.text),
        node_type=reader.optional("cache_node_type", checks.text),
        authentication=reader.optional("cache_authentication", checks.authentication),
        serverless=ServerlessOptions() if serverless else None,
    )
    reader.problems += [problem.replace("cache.", "cache_", 1) for problem in options.problems()]
    return options


def _read_archive(reader: _Reader, destinations: Sequence[str], region: str | None) -> Archive:
    """Read the flat settings of an archive into their group."""
    if Archive.destination not in destinations:
        for name in _ARCHIVE_SETTINGS:
            if destinations and _given(reader.settings.get(name)):
                reader.problems.append(f"{name}: is given, and destination names no archive; {_ADD_ARCHIVE}")
        return Archive()
    days = partial(checks.integer_text, low=1, high=36_500)
    retention, glacier = (
        reader.optional(name, days) for name in ("archive_retention_days", "archive_glacier_ir_after_days")
    )
    scan_limit = reader.optional("archive_scan_limit_gib", partial(checks.integer_text, low=1, high=10_000))
    signing_key = reader.optional("archive_signing_key", checks.key_arn_or_boolean)
    if isinstance(signing_key, str):
        reader.check("archive_signing_key", lambda: checks.same_region_as_key(signing_key, region))
    archive = Archive(
        existing_bucket=reader.optional("archive_bucket", checks.bucket_name),
        prefix=reader.optional("archive_prefix", checks.key_prefix),
        lock=reader.optional("archive_lock", partial(checks.choice, choices=LOCKS)),
        retention=None if retention is None else Duration.days(int(retention)),
        signing_key=signing_key,
        glacier_ir_after=None if glacier is None else Duration.days(int(glacier)),
        queries=reader.optional("archive_queries", checks.boolean_text) != "false",
        scan_limit_gib=None if scan_limit is None else int(scan_limit),
    )
    reader.problems += map(_of_archive, archive.problems())
    return archive


def _of_archive(problem: str) -> str:
    """Write a problem of the group as one of the settings that it was read from."""
    place, colon, text = problem.partition(":")
    setting = _ARCHIVE_PROPERTIES[place.removeprefix("Archive").removeprefix(".") or "existing_bucket"]
    text = text.replace(" existing_bucket is given", " is given")  # the place says it already
    return f"{setting}{colon}{_ARCHIVE_PROPERTY.sub(lambda found: _ARCHIVE_PROPERTIES[found[0]], text)}"


def _read_logs(reader: _Reader, destinations: Sequence[str], region: str | None) -> CloudWatchLogs:
    """Read the flat settings of a log group into their group."""
    if CloudWatchLogs.destination not in destinations:
        for name in _LOGS_SETTINGS:
            if destinations and _given(reader.settings.get(name)):
                reader.problems.append(f"{name}: is given, and destination leaves CloudWatch Logs out; {_ADD_LOGS}")
        return CloudWatchLogs()
    given: dict[str, Any] = {
        name: reader.optional(_LOGS_PROPERTIES[name], checks.text) for name in ("log_group_name", "working_hours")
    }
    given["existing_log_group"] = group = reader.optional("log_group", checks.log_group)
    if group is not None and (place := checks.place_of_log_group(group)) is not None:
        reader.check("log_group", lambda: checks.same_place_as_log_group(*place, region, None))
    for name in ("deletion_protection", "queries", "activity_alarms", "dashboard", "s3_tables"):
        answer = reader.optional(_LOGS_PROPERTIES[name], checks.boolean_text)
        given[name] = None if answer is None else answer == "true"
    retention = reader.optional("log_group_retention_days", partial(checks.integer_text, low=1, high=3653))
    given["retention"] = None if retention is None else Duration.days(int(retention))
    refused = reader.optional("log_group_refused_calls", partial(checks.integer_text, low=1, high=1_000_000))
    given["refused_calls"] = None if refused is None else int(refused)
    logs = CloudWatchLogs(**{name: value for name, value in given.items() if value is not None})
    reader.problems += map(_of_logs, logs.problems())
    return logs


def _of_logs(problem: str) -> str:
    """Write a problem of the group as one of the settings that it was read from."""
    place, colon, text = problem.partition(":")
    setting = _LOGS_PROPERTIES[place.removeprefix("CloudWatchLogs").removeprefix(".") or "existing_log_group"]
    text = text.replace(" existing_log_group is given", " is given")  # the place says it already
    return f"{setting}{colon}{_LOGS_PROPERTY.sub(lambda found: _LOGS_PROPERTIES[found[0]], text)}"


def _read_environment(
    reader: _Reader, given: Mapping[str, str], destinations: Sequence[str], *, new_channel: bool
) -> dict[str, str]:
    """Merge `lambda_env` with the settings of the same names, and check every variable."""
    needs_channel = CloudTrailLake.destination in destinations and not new_channel
    required = {**_REQUIRED_VARIABLES, **({"CHANNEL_ARN": _CHANNEL} if needs_channel else {})}
    for name, reason in _REFUSED.items():
        if name in given:
            reader.problems.append(f"lambda_env {name}: {reason}")
        reader.problems += [f"{key}: {reason}" for key in (name.lower(), name) if _given(reader.settings.get(key))]
    environment = {name: text for name, text in given.items() if name not in _KNOWN_VARIABLES}
    for name in environment:
        if (meant := _meant_by(name)) is not None and meant in _REFUSED:
            reader.problems.append(f"lambda_env {name}: looks like {meant}, and {_REFUSED[meant]}")
    for name, check in _VARIABLES.items():
        setting = name.lower()
        own = reader.optional(setting, check)
        nested = reader.check(f"lambda_env {name}", partial(check, given[name])) if name in given else None
        if own is not None and nested is not None and own != nested:
            reader.problems.append(f"{setting}: differs from {name} in lambda_env; give one of the two")
        value = nested if own is None else own
        if value:
            environment[name] = value
        elif name in required and name not in given and not _given(reader.settings.get(setting)):
            reader.problems.append(f"{setting}: is missing; give {required[name]}")
    if new_channel and "CHANNEL_ARN" in environment:
        reader.problems.append("channel_arn: is given, and event_store makes another one; leave one of the two out")
    reader.problems += _unused_variables(environment, destinations)
    return environment


def _unused_variables(environment: Mapping[str, str], destinations: Sequence[str]) -> Iterator[str]:
    """Say which variables belong to a destination that is not named."""
    if destinations and CloudTrailLake.destination not in destinations:
        for name in ("channel_arn", "external_id", "event_data_store"):
            if name.upper() in environment:
                yield (
                    f"{name}: is given, and destination leaves CloudTrail Lake out; name cloudtrail-lake there too, or "
                    f"leave {name} out"
                )
    if destinations and Archive.destination not in destinations and "ARCHIVE_FORMAT" in environment:
        yield f"archive_format: is given, and destination names no archive; {_ADD_ARCHIVE}"
    if destinations and CloudWatchLogs.destination not in destinations and "LOG_GROUP_FORMAT" in environment:
        yield f"log_group_format: is given, and destination leaves CloudWatch Logs out; {_ADD_LOGS}"


def _read_lambda_env(reader: _Reader) -> dict[str, str]:
    """Return `lambda_env` without what is empty; the names we know are found in any case."""
    found: dict[str, str] = {}
    for given_name, given_value in (reader.optional("lambda_env", checks.variables) or {}).items():
        name = given_name.upper() if given_name.upper() in _KNOWN_VARIABLES else given_name
        value = reader.check(f"lambda_env {name}", partial(checks.variable_text, name, given_value))
        if value if name not in _KNOWN_VARIABLES else _given(value):
            found[name] = str(value)
    return found


def _read_token(reader: _Reader, environment: dict[str, str], region: str | None) -> tuple[bool, str | None]:
    """Decide whether a token is needed. The secret leaves the environment: its ARN is known at deployment only."""
    superadmin, secret = environment.get("KONG_SUPERADMIN"), environment.pop("KONG_ADMIN_TOKEN_SECRET", None)
    if superadmin == "false" and secret is not None:
        reader.problems.append(
            "kong_superadmin: is false, but kong_admin_token_secret names a token; "
            "write kong_superadmin=true, or leave the secret out"
        )
    key = reader.optional("kong_admin_token_key", checks.key_arn)
    if secret is not None:
        reader.check("kong_admin_token_secret", lambda: checks.same_region_as_secret(secret, region))
    if key is not None:
        reader.check("kong_admin_token_key", lambda: checks.same_region_as_key(key, region))
        if secret is None:
            reader.problems.append(f"kong_admin_token_key: {checks.UNUSED_KEY}")
    return superadmin == "true" or secret is not None, secret


def _reserved_bytes(destinations: Sequence[str]) -> int:
    further = {Archive.destination: RESERVED_FOR_ARCHIVE_BYTES, CloudWatchLogs.destination: RESERVED_FOR_LOGS_BYTES}
    return RESERVED_ENVIRONMENT_BYTES + sum(further.get(destination, 0) for destination in destinations)


def _check_size(environment: Mapping[str, str], reserved_bytes: int) -> None:
    size = sum(len(name.encode()) + len(value.encode()) for name, value in environment.items())
    allowed = ENVIRONMENT_LIMIT_BYTES - reserved_bytes
    if size > allowed:
        largest = max(environment, key=lambda name: len(environment[name]))
        raise ValueError(
            f"the function's environment would take {size} bytes, and Lambda leaves {allowed} beside what the "
            f"deployment adds; shorten {largest}, the largest variable (for KONG_ROOT_CA: the root's certificate alone)"
        )


def _integration_notes(lambda_env: Mapping[str, str], admin_api: str, needs_token: bool) -> list[str]:
    notes = [f"lambda_env {name}: {_LEFT_ASIDE}" for name in _BY_DEPLOYMENT if name in lambda_env]
    for name, value in lambda_env.items():
        if name in _KNOWN_VARIABLES:
            continue
        if meant := _meant_by(name):
            notes.append(
                f"lambda_env {name}: is none of the function's variables, and changes nothing; did you mean {meant}?"
            )
        elif _looks_like_a_secret(name, value):
            notes.append(
                f"lambda_env {name}: looks like a secret by its name, and its value stands in the template and in the "
                "function's configuration, for everybody who may read them. Keep it in AWS Secrets Manager, and give "
                "the secret's ARN instead."
            )
    if needs_token and not checks.service_url(admin_api).encrypted:
        notes.append("kong_admin_api: is plain http, so Kong's token crosses the network unencrypted; use https.")
    return notes


def _meant_by(name: str) -> str | None:
    """Return the variable that a name is a misspelling of; None if it is a name of its own."""
    close = difflib.get_close_matches(name.upper(), _KNOWN_VARIABLES, n=1, cutoff=0.9)
    return close[0] if close else None


def _looks_like_a_secret(name: str, value: str) -> bool:
    is_reference = value.startswith("arn:") or checks.is_pending(value)
    is_small = re.fullmatch(r"[0-9]{1,6}|true|false", value, re.IGNORECASE) is not None
    return not is_reference and not is_small and re.search(_SECRETS, name, re.IGNORECASE) is not None


def _context_notes(context: Mapping[str, object]) -> list[str]:
    notes = []
    if _given(context.get("image")):
        notes.append("image: is not needed. The function's code is bundled with the app; no container image is used.")
    for name, value in context.items():
        if name in _SETTINGS:  # such as archive_signing_key, of which the deployment makes the variable
            continue
        if name.upper() in _BY_DEPLOYMENT and _given(value):
            notes.append(f"{name}: {_LEFT_ASIDE}")
        # Names with a colon, a slash or an @ belong to CDK and to other tools.
        elif not set(name) & set(":/@"):
            close = difflib.get_close_matches(name.lower(), _SETTINGS, n=1, cutoff=0.85)
            if close:
                notes.append(f"{name}: is no setting and changes nothing; did you mean {close[0]}?")
    return notes
