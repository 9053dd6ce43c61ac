"""Everything that cannot be deployed, said at once and before anything is created; and what may be meant otherwise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from aws_cdk import Stack, Token
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from .errors import SettingsError
from .observability.alarms import AlarmOptions
from .parts import keys
from .parts.archive import PREFIX
from .parts.cache import DedupeCache
from .parts.ledger import Ledger
from .parts.shared import Sources
from .parts.subnets import ChosenSubnets, UnknownSubnets
from .settings import checks, kinds
from .settings.groups import (
    Archive,
    CacheOptions,
    CloudTrailLake,
    CloudWatchLogs,
    Destination,
    EventStoreOptions,
    FunctionOptions,
    KongOptions,
    LedgerOptions,
    NetworkOptions,
    RunOptions,
    ScheduleOptions,
)
from .settings.kinds import Group, Kind
from .settings.names import TrailName, for_the_construct, settings_of, trails_of
from .settings.resolved import IntegrationSettings, destinations_of

_KINDS: Mapping[str, Kind] = {
    "vpc": kinds.VPC,
    "kong": kinds.of('KongOptions(admin_api="https://…")', KongOptions),
    "channel_arn": kinds.SETTING,
    "destinations": kinds.each(
        kinds.of(
            "Archive(…), CloudTrailLake(…) or CloudWatchLogs(…), at most one of each",
            Archive,
            CloudTrailLake,
            CloudWatchLogs,
        )
    ),
    "source_name": kinds.SETTING,
    "resource_name": kinds.SETTING,
    "subnets": kinds.SUBNETS,
    "run": kinds.of("RunOptions(…)", RunOptions),
    "function": kinds.of("FunctionOptions(…)", FunctionOptions),
    "cache": kinds.of("CacheOptions(…), or the cache of another integration", CacheOptions, DedupeCache),
    "ledger": kinds.of("LedgerOptions(…), or the ledger of another integration", LedgerOptions, Ledger),
    "network": kinds.of("NetworkOptions(…)", NetworkOptions),
    "alarms": kinds.of("AlarmOptions(…)", AlarmOptions),
    "dashboard": kinds.BOOLEAN,
    "encryption_key": kinds.KEY,
    "permissions_boundary": kinds.POLICY,
}

_NEEDED = ("vpc", "kong", "dashboard")
"""None does not stand for "not given" here."""

_Destination = TypeVar("_Destination", bound=Destination)

_UNKNOWN_KONG = KongOptions(admin_api="")

_USUAL_DELIVERIES = 8
"""Calls to a destination at a time, where their number is known at deployment only."""

_DATABASES_OF_NEW_CACHE = 16
"""What the parameter ``databases`` is by default, and the new cache's parameter group leaves it alone.
https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html"""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a caller gave to the construct, by the names of its properties; nothing is checked."""

    vpc: ec2.IVpc
    kong: KongOptions
    channel_arn: str | None
    destinations: Sequence[Destination] | None
    source_name: str | None
    resource_name: str | None
    subnets: ec2.SubnetSelection | None
    run: RunOptions | None
    function: FunctionOptions | None
    cache: CacheOptions | DedupeCache | None
    ledger: LedgerOptions | Ledger | None
    network: NetworkOptions | None
    alarms: AlarmOptions | None
    dashboard: bool
    encryption_key: kms.IKey | None
    permissions_boundary: iam.IManagedPolicy | None

    def wrong_kinds(self) -> dict[str, str]:
        """Return what is of a kind that nothing more can be said of, with what it has to be."""
        return {name: kind.form for name, kind in _KINDS.items() if not self._fits(name, kind)}

    def _fits(self, name: str, kind: Kind) -> bool:
        value = getattr(self, name)
        return name not in _NEEDED if value is None else kind.fits(value)


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What was given, of the right kinds, and with the defaults filled in.

    Attributes
    ----------
    vpc, subnet_selection, subnets
        The VPC, what was chosen of its subnets, and which those are.
    vpc_owner_account
        The account that shares the VPC with the stack's. None: the VPC is the stack's own.
    sources
        Names that are taken in the app.
    kong, run, schedule, function, ledger, network, alarms, dashboard
        The properties of the construct.
    lake, archive, logs
        Where entries are kept; None where they are not.
    cache
        The cache; None where there is to be none.
    resource_name
        The same, unchecked.
    encryption_key, permissions_boundary
        The same.
    """

    vpc: ec2.IVpc
    subnet_selection: ec2.SubnetSelection | None
    subnets: ChosenSubnets
    vpc_owner_account: str | None
    sources: Sources
    kong: KongOptions
    lake: CloudTrailLake | None
    archive: Archive | None
    logs: CloudWatchLogs | None
    run: RunOptions
    schedule: ScheduleOptions
    function: FunctionOptions
    cache: CacheOptions | DedupeCache | None
    ledger: LedgerOptions | Ledger
    network: NetworkOptions
    alarms: AlarmOptions
    dashboard: bool
    resource_name: str | None
    encryption_key: kms.IKey | None
    permissions_boundary: iam.IManagedPolicy | None

    @property
    def place(self) -> LedgerOptions | Ledger:
        """The ledger, with the prefix that it is going to have."""
        return prefixed(self.ledger, self.resource_name) if isinstance(self.ledger, LedgerOptions) else self.ledger

    @property
    def has_new_cache(self) -> bool:
        """Whether a cache is created."""
        return isinstance(self.cache, CacheOptions) and self.cache.existing is None

    @property
    def event_store(self) -> EventStoreOptions | None:
        """The event data store to create, if any."""
        return None if self.lake is None else self.lake.event_store

    @property
    def groups(self) -> list[Group]:
        """What the caller filled, rather than made elsewhere."""
        parts = (
            self.kong,
            self.run,
            self.alarms,
            self.cache,
            self.ledger,
            self.network,
            self.function,
            self.lake,
            self.archive,
            self.logs,
        )
        return [part for part in parts if isinstance(part, Group)]

    def settings(self) -> dict[str, object]:
        """Return the plain settings of all groups. What is no text or number is told otherwise, or not at all."""
        found = settings_of(*(group.of_right_kinds() for group in self.groups))
        return {name: _plain(value) for name, value in found.items()}

    def problems(self, variables: Mapping[str, str]) -> Iterator[str]:
        """Say what is wrong with the groups of options, and between them and the function's variables."""
        yield from self.subnets.problems(needs_two_zones=self.has_new_cache)
        for group in self.groups:
            yield from group.problems()
        yield from self._problems_of_sharing(variables)
        yield from self._problems_of_the_network(variables)
        yield from keys.problems("encryption_key", self.encryption_key)
        if self.kong.token_secret is None and kinds.KEY.fits(self.kong.token_key):
            yield f"kong.token_key: {checks.UNUSED_KEY}"

    def _problems_of_sharing(self, variables: Mapping[str, str]) -> Iterator[str]:
        yield from self.sources.problems(self.cache, self.place, self.archive, variables)
        yield from self._problems_of_the_archives_bucket()
        cache = self.cache
        if cache is None:
            return
        one_database = cache.serverless is not None if isinstance(cache, CacheOptions) else not cache.has_databases
        if one_database and variables["REDIS_DB"] != "0":
            yield "redis_db: must be 0, the only database of a serverless cache"
        elif self.has_new_cache and _number(variables["REDIS_DB"]) >= _DATABASES_OF_NEW_CACHE:
            yield f"redis_db: must be from 0 to {_DATABASES_OF_NEW_CACHE - 1}, the databases of a new cache"

    def _problems_of_the_archives_bucket(self) -> Iterator[str]:
        if self.archive is None:
            return
        archive, place = self.archive.of_right_kinds(), self.place
        theirs = archive.existing_bucket
        ledgers = place.of_right_kinds().existing_bucket if isinstance(place, LedgerOptions) else place.bucket
        if theirs is None or ledgers is None:
            return
        name = theirs if isinstance(theirs, str) else theirs.bucket_name
        folder = f"{archive.prefix or PREFIX}/"
        if name == ledgers.bucket_name and f"{place.prefix or ''}/".startswith(folder):
            yield (
                f"ledger.prefix: is below the archive's, {folder}, where the bucket's policy denies to overwrite "
                "anything, and the ledger has to; give another prefix, or another bucket"
            )

    def _problems_of_the_network(self, variables: Mapping[str, str]) -> Iterator[str]:
        admin_api = checks.service_url(variables["KONG_ADMIN_API"]) if "KONG_ADMIN_API" in variables else None
        if admin_api is not None and admin_api.port is None and self.network.kong_port is None:
            yield (
                "kong_admin_api: its port is not known before the deployment, and the function's security group has "
                "to name it; give it as network.kong_port, or in the URL"
            )
        if self.vpc_owner_account is not None:
            for name in ("endpoints", "interface_endpoints", "gateway_endpoints"):
                if getattr(self.network, name):
                    yield (
                        f"network.{name}: cannot be created in a VPC that another account shares with this one; leave "
                        "them out, and have its owner create them"
                    )
        elif self.network.of_right_kinds().endpoints and not self.subnets.have_route_tables:
            yield (
                "network.endpoints: the endpoint of S3 goes into the route tables of the subnets, which are not known; "
                "look the VPC up, or import it with private_subnet_route_table_ids"
            )


@dataclass(frozen=True, kw_only=True)
class Plan(_Parts):
    """What is going to be created: everything is checked.

    Attributes
    ----------
    resolved : IntegrationSettings
        The settings, resolved.
    """

    resolved: IntegrationSettings

    @property
    def trails(self) -> tuple[TrailName, ...]:
        """Each stream in each destination."""
        return trails_of(self.resolved.streams, self.resolved.destinations)

    @property
    def name(self) -> str | None:
        """Physical name of what has one; None: CloudFormation chooses."""
        return self.resolved.resource_name

    @property
    def security_group(self) -> ec2.ISecurityGroup | str | None:
        """The function's security group, or the name of a new one; None: CloudFormation chooses."""
        given = self.network.security_group
        return self.resolved.security_group if given is None or isinstance(given, str) else given

    @property
    def parallel_deliveries(self) -> int:
        """Calls to a destination that a run makes at a time."""
        return _number(self.resolved.environment.get("PARALLEL_DELIVERIES", "")) or _USUAL_DELIVERIES

    @property
    def token_secret(self) -> secretsmanager.ISecret | str | None:
        """The secret with Kong's token, its ARN or its name; None: there is none yet."""
        given = self.kong.token_secret
        return self.resolved.kong.token_secret if given is None or isinstance(given, str) else given

    def borrowed(self, stack: Stack) -> list[str]:
        """Return the ARNs of what the function's network interfaces need of the account that shares its VPC."""
        if self.vpc_owner_account is None:
            return []
        resources = [("subnet", subnet_id) for subnet_id in self.subnets.ids]
        group = self.network.security_group
        if group is not None and not isinstance(group, str):
            resources.append(("security-group", group.security_group_id))
        return [
            stack.format_arn(service="ec2", account=self.vpc_owner_account, resource=kind, resource_name=resource_id)
            for kind, resource_id in resources
        ]

    def notes(self) -> list[str]:
        """Remark what stops nothing, and may be meant otherwise."""
        notes = [
            *map(for_the_construct, self.resolved.notes),
            *self.subnets.notes(to_lake=self.lake is not None, endpoints=self.network.endpoints),
            *self._notes_of_the_group(),
            *self._notes_of_destinations(),
        ]
        if self.schedule.enabled:
            notes += self.alarms.notes(self.resolved.schedule)
        return notes

    def _notes_of_destinations(self) -> Iterator[str]:
        reserved = self.function.reserved_concurrent_executions
        if reserved is not None and not Token.is_unresolved(reserved) and reserved < len(self.trails):
            yield (
                "function.reserved_concurrent_executions: is less than the number of trails (streams times "
                "destinations), each of which has runs of its own. They then wait for each other; reserve as many as "
                "there are trails."
            )
        backfill = self.run.backfill
        if reserved is None or backfill is None or Token.is_unresolved(reserved) or Token.is_unresolved(backfill):
            return
        if reserved < backfill + len(self.resolved.destinations):
            yield (
                "function.reserved_concurrent_executions: is less than the slices of a backfill and the runs that may "
                "be at work at once. Lambda refuses runs then; reserve one for each of them."
            )

    def _notes_of_the_group(self) -> Iterator[str]:
        group = self.network.security_group
        if group is None or isinstance(group, str) or not group.allow_all_outbound:
            return
        if isinstance(group, ec2.SecurityGroup):
            yield (
                "network.security_group: lets everything out, as the CDK makes groups unless told otherwise. Make it "
                "with allow_all_outbound=False, and the rules that the function needs are added."
            )
        else:
            yield (
                "network.security_group: counts as one that lets everything out, as the CDK imports groups unless told "
                "otherwise, so no rule is added to it. If it does not let the function out to Kong, the cache and AWS, "
                "import it with allow_all_outbound=False."
            )


def check(scope: Construct, given: Given) -> Plan:
    """Check everything that the construct was given.

    Raises
    ------
    SettingsError
        With every problem: with kinds, with values, and between them.
    """
    stack = Stack.of(scope)
    wrong = given.wrong_kinds()
    settings = _settings_of(given, wrong)
    parts = _parts(scope, given, wrong, settings)
    problems = [f"{name}: must be {form}" for name, form in wrong.items()]
    if "destinations" not in wrong:
        problems += _problems_of_destinations(given)
    if not Token.is_unresolved(stack.region):
        problems += _problems_of_regions(parts, stack.region)
    problems += _problems_of_the_log_group(parts, stack)
    try:
        resolved = IntegrationSettings.from_settings(
            {**parts.settings(), **settings},
            region=None if Token.is_unresolved(stack.region) else stack.region,
            subnet_ids=None if parts.subnets.pending else parts.subnets.ids,
            least_subnets=2 if parts.has_new_cache else 1,
            clock_changes=_is_set_forward_and_back(parts.run.schedule),
            # Where nobody can tell whether there is an event store, no channel is missing.
            new_channel=given.channel_arn is None if "destinations" in wrong else parts.event_store is not None,
            has_cache=parts.cache is not None,
            further=parts.problems,
        )
    except SettingsError as error:
        found = (_placed(for_the_construct(problem), given) for problem in error.problems)
        # What stands in for something of a wrong kind is not the caller's.
        problems += [problem for problem in found if problem.partition(":")[0].partition(".")[0] not in wrong]
        raise SettingsError(problems) from None
    if problems:
        raise SettingsError(problems)
    key = None if parts.encryption_key is None else keys.resolved(parts.encryption_key)
    return Plan(**{**vars(parts), "encryption_key": key}, resolved=resolved)


def _placed(problem: str, given: Given) -> str:
    """Return a problem with the place of the channel, which a caller can give in two."""
    is_there = given.channel_arn is None and problem.startswith("channel_arn:") and given.destinations
    return f"{CloudTrailLake.place}.{problem}" if is_there else problem


def _problems_of_destinations(given: Given) -> Iterator[str]:
    names = [destination.destination for destination in given.destinations or ()]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"destinations: has {name} twice; a gateway has one trail in each destination"
    if names and given.channel_arn is not None:
        yield (
            "channel_arn: is short for destinations=[CloudTrailLake(channel_arn=…)], and destinations is given; write "
            "the channel there"
        )


def _problems_of_regions(parts: _Parts, region: str) -> Iterator[str]:
    """Say which keys are another region's: no service uses them across, and no endpoint leads there."""
    signing_key = None if parts.archive is None else parts.archive.of_right_kinds().signing_key
    for name, key in (("encryption_key", parts.encryption_key), ("Archive.signing_key", signing_key)):
        arn = key if isinstance(key, str) else getattr(key, "key_arn", None)
        try:
            checks.same_region_as_key(arn or "", region)
        except ValueError as problem:
            yield f"{name}: {problem}"


def _problems_of_the_log_group(parts: _Parts, stack: Stack) -> Iterator[str]:
    group = None if parts.logs is None else parts.logs.of_right_kinds().existing_log_group
    if group is None:
        return
    place = checks.place_of_log_group(group) if isinstance(group, str) else (group.env.region, group.env.account)
    try:
        if place is not None:
            checks.same_place_as_log_group(*place, stack.region, stack.account)
    except ValueError as problem:
        yield f"CloudWatchLogs.existing_log_group: {problem}"


def _settings_of(given: Given, wrong: Mapping[str, str]) -> dict[str, object]:
    """Return the settings that are properties of the construct itself, and where entries go."""
    lake = _one(given, wrong, CloudTrailLake)
    names = [] if "destinations" in wrong else [each.destination for each in given.destinations or ()]
    return {
        "destination": ",".join(sorted(set(names))),
        "channel_arn": lake.channel_arn if lake is not None else None if names else given.channel_arn,
        "source_name": given.source_name,
        "resource_name": given.resource_name,
    }


def _one(given: Given, wrong: Mapping[str, str], kind: type[_Destination]) -> _Destination | None:
    """Return the destination of a kind; None if it was not given."""
    found = () if "destinations" in wrong else given.destinations or ()
    return next((destination for destination in found if isinstance(destination, kind)), None)


def _parts(scope: Construct, given: Given, wrong: Mapping[str, str], settings: Mapping[str, object]) -> _Parts:
    right: dict[str, Any] = {name: None if name in wrong else value for name, value in vars(given).items()}
    network = right["network"] or NetworkOptions()
    function = right["function"] or FunctionOptions()
    run = right["run"] or RunOptions()
    schedule = run.of_right_kinds().schedule_options or ScheduleOptions()
    asked = not {"vpc", "subnets"} & wrong.keys()
    lake, archive = _one(given, wrong, CloudTrailLake), _one(given, wrong, Archive)
    logs = _one(given, wrong, CloudWatchLogs)
    new_channel = lake is not None and lake.of_right_kinds().event_store is not None
    # A variable of the function may name destinations as well.
    names = destinations_of({**settings_of(function.of_right_kinds()), **settings}, new_channel=new_channel)
    if lake is None and CloudTrailLake.destination in names:
        lake = CloudTrailLake()
    if archive is None and Archive.destination in names:
        archive = Archive()
    if logs is None and CloudWatchLogs.destination in names:
        logs = CloudWatchLogs()
    return _Parts(
        vpc=given.vpc,
        subnet_selection=right["subnets"],
        subnets=ChosenSubnets(given.vpc, given.subnets) if asked else UnknownSubnets(),
        vpc_owner_account=None if "vpc" in wrong else _owner_of(given.vpc, network, Stack.of(scope)),
        sources=Sources.around(scope),
        kong=right["kong"] or _UNKNOWN_KONG,
        lake=lake,
        archive=archive,
        logs=logs,
        run=run,
        schedule=schedule,
        function=function,
        # The archive knows by itself what it holds.
        cache=right["cache"] or (None if names == (Archive.destination,) else CacheOptions()),
        ledger=right["ledger"] or LedgerOptions(),
        network=network,
        alarms=right["alarms"] or AlarmOptions(),
        dashboard=given.dashboard,
        resource_name=given.resource_name,
        encryption_key=right["encryption_key"],
        permissions_boundary=right["permissions_boundary"],
    )


def _number(text: str) -> int:
    """Return a checked number; 0 for one that is known at deployment only."""
    return int(text) if text.isdecimal() else 0


def prefixed(ledger: LedgerOptions, resource_name: str | None) -> LedgerOptions:
    """Return the options with the prefix that they stand for."""
    return ledger if ledger.prefix is not None else replace(ledger, prefix=resource_name)


def _plain(value: object) -> object:
    """Return a property as the setting that it is; None where it is a construct, of which nothing is written."""
    if isinstance(value, scheduler.ScheduleExpression):
        return value.expression_string
    if kinds.SECRET.fits(value):
        return value.secret_arn  # type: ignore[attr-defined]
    return None if kinds.KEY.fits(value) or kinds.SECURITY_GROUP.fits(value) else value


def _owner_of(vpc: ec2.IVpc, network: NetworkOptions, stack: Stack) -> str | None:
    """Return the account that shares the VPC with the stack's; None where the VPC is the stack's own."""
    given = network.vpc_owner_account
    if given is not None:
        return None if given == stack.account else given
    found = vpc.env.account
    is_known = not Token.is_unresolved(found) and not Token.is_unresolved(stack.account)
    return found if is_known and found != stack.account else None


def _is_set_forward_and_back(schedule: scheduler.ScheduleExpression | str | None) -> bool:
    """Say whether a schedule goes by a clock with daylight saving time, as far as the zone's name tells."""
    zone = schedule.time_zone if isinstance(schedule, scheduler.ScheduleExpression) else None
    return zone is not None and zone.timezone_name not in ("UTC", "Etc/UTC")
