"""Everything that cannot be deployed, said at once and before anything is created; and what may be meant otherwise."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aws_cdk import Token
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_secretsmanager as secretsmanager

from .errors import SettingsError
from .observability.alarms import AlarmOptions
from .parts import keys
from .parts.cache import DedupeCache
from .parts.ledger import Ledger
from .parts.shared import Sources
from .parts.subnets import ChosenSubnets
from .settings import checks, kinds
from .settings.groups import (
    CacheOptions,
    EventStoreOptions,
    FunctionOptions,
    LedgerOptions,
    NetworkOptions,
    ScheduleOptions,
)
from .settings.kinds import Kind

_KINDS: Mapping[str, Kind] = {
    "vpc": kinds.VPC,
    "subnets": kinds.SUBNETS,
    "security_group": kinds.either(
        "the name of a new security group, or an existing one, e.g. ec2.SecurityGroup.from_security_group_id(…)",
        kinds.TEXT,
        kinds.SECURITY_GROUP,
    ),
    "kong_admin_token_secret": kinds.either(
        "a secret, e.g. secretsmanager.Secret.from_secret_name_v2(…), or the ARN or name of one",
        kinds.TEXT,
        kinds.SECRET,
    ),
    "kong_admin_token_key": kinds.either(
        "a key, e.g. kms.Key.from_key_arn(…), or the ARN of one", kinds.TEXT, kinds.KEY
    ),
    "schedule": kinds.either(checks.SCHEDULE_FORM, kinds.TEXT, kinds.of("", scheduler.ScheduleExpression)),
    "schedule_options": kinds.of("ScheduleOptions(…)", ScheduleOptions),
    "function": kinds.of("FunctionOptions(…)", FunctionOptions),
    "cache": kinds.of("CacheOptions(…), or the cache of another integration", CacheOptions, DedupeCache),
    "ledger": kinds.of("LedgerOptions(…), or the ledger of another integration", LedgerOptions, Ledger),
    "network": kinds.of("NetworkOptions(…)", NetworkOptions),
    "event_store": kinds.of("EventStoreOptions(…)", EventStoreOptions),
    "alarms": kinds.of("AlarmOptions(…)", AlarmOptions),
    "dashboard": kinds.BOOLEAN,
    "encryption_key": kinds.KEY,
    "permissions_boundary": kinds.POLICY,
}
"""The properties that are no plain settings. A plain one is checked with its value."""

_NEEDED = ("vpc", "dashboard")
"""None does not stand for "not given" here."""

_DATABASES_OF_NEW_CACHE = 16
"""What the parameter ``databases`` is by default, and the new cache's parameter group leaves it alone.
https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html"""

SHARED_METRICS = (
    "source_name: is the name of another gateway in this account and region, so that both count in the same metrics, "
    "and the alarms of the one are quiet while the other runs; give each gateway a name of its own."
)


def check_kinds(**given: Any) -> None:
    """Refuse values of a kind that nothing more can be said of.

    Raises
    ------
    SettingsError
        With all of them.
    """
    problems = [
        f"{name}: must be {kind.form}"
        for name, kind in _KINDS.items()
        if not ((given[name] is None and name not in _NEEDED) or (given[name] is not None and kind.fits(given[name])))
    ]
    if problems:
        raise SettingsError(problems)


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the construct was told beside plain settings; every kind is right, and defaults are filled in."""

    subnets: ChosenSubnets
    cache: CacheOptions | DedupeCache
    ledger: LedgerOptions | Ledger
    network: NetworkOptions
    function: FunctionOptions
    schedule_options: ScheduleOptions
    event_store: EventStoreOptions | None
    alarms: AlarmOptions
    resource_name: str | None
    token_secret: secretsmanager.ISecret | str | None
    token_key: kms.IKey | str | None
    encryption_key: kms.IKey | None
    security_group: ec2.ISecurityGroup | str | None
    vpc_owner_account: str | None
    sources: Sources

    @property
    def has_new_cache(self) -> bool:
        """Whether a cache is created."""
        return isinstance(self.cache, CacheOptions) and self.cache.existing is None

    @property
    def place(self) -> LedgerOptions | Ledger:
        """The ledger, with the prefix that it is going to have."""
        return prefixed(self.ledger, self.resource_name) if isinstance(self.ledger, LedgerOptions) else self.ledger

    def problems(self, variables: Mapping[str, str]) -> Iterator[str]:
        """Say what is wrong with the groups of options, and between them and the function's variables."""
        yield from self.subnets.problems(needs_two_zones=self.has_new_cache)
        groups: Iterable[Any] = (
            self.alarms,
            self.cache,
            self.ledger,
            self.network,
            self.function,
            self.schedule_options,
            self.event_store,
        )
        for group in groups:
            if isinstance(group, kinds.Group):
                yield from group.problems()
        yield from self._problems_of_sharing(variables)
        yield from self._problems_of_the_network(variables)
        yield from self._problems_of_keys()

    def _problems_of_sharing(self, variables: Mapping[str, str]) -> Iterator[str]:
        yield from self.sources.problems(self.cache, self.place, variables)
        cache = self.cache
        one_database = cache.serverless is not None if isinstance(cache, CacheOptions) else not cache.has_databases
        if one_database and variables["REDIS_DB"] != "0":
            yield "redis_db: must be 0, the only database of a serverless cache"
        elif self.has_new_cache and _number(variables["REDIS_DB"]) >= _DATABASES_OF_NEW_CACHE:
            yield f"redis_db: must be from 0 to {_DATABASES_OF_NEW_CACHE - 1}, the databases of a new cache"

    def _problems_of_the_network(self, variables: Mapping[str, str]) -> Iterator[str]:
        admin_api = checks.service_url(variables["KONG_ADMIN_API"]) if "KONG_ADMIN_API" in variables else None
        if admin_api is not None and admin_api.port is None and self.network.kong_port is None:
            yield (
                "kong_admin_api: its port is not known before the deployment, and the function's security group has "
                "to name it; give it as network.kong_port, or in the URL"
            )
        if self.vpc_owner_account is not None:
            for name in ("interface_endpoints", "gateway_endpoints"):
                if getattr(self.network, name):
                    yield (
                        f"network.{name}: cannot be created in a VPC that another account shares with this one; leave "
                        "them out, and have its owner create them"
                    )

    def _problems_of_keys(self) -> Iterator[str]:
        yield from keys.problems("encryption_key", self.encryption_key)
        if isinstance(self.token_secret, str):
            if Token.is_unresolved(self.token_secret) and not self.token_secret.startswith("arn:"):
                yield (
                    "kong_admin_token_secret: is not known before the deployment, so nothing tells an ARN from a name; "
                    "give the secret itself, e.g. secretsmanager.Secret.from_secret_complete_arn(…)"
                )
        elif self.token_secret is not None:
            yield from keys.problems("kong_admin_token_secret", self.token_secret.encryption_key)
        if self.token_key is not None and not isinstance(self.token_key, str):
            if self.token_secret is None:
                yield f"kong_admin_token_key: {checks.UNUSED_KEY}"
            yield from keys.problems("kong_admin_token_key", self.token_key)

    def notes(self) -> Iterator[str]:
        """Remark what may be meant otherwise."""
        yield from self.subnets.notes()
        group = self.security_group
        if group is None or isinstance(group, str) or not group.allow_all_outbound:
            return
        if isinstance(group, ec2.SecurityGroup):
            yield (
                "security_group: lets everything out, as the CDK makes groups unless told otherwise. Make it with "
                "allow_all_outbound=False, and the rules that the function needs are added."
            )
        else:
            yield (
                "security_group: counts as one that lets everything out, as the CDK imports groups unless told "
                "otherwise, so no rule is added to it. If it does not let the function out to Kong, the cache and AWS, "
                "import it with allow_all_outbound=False."
            )


def _number(text: str) -> int:
    """Return a checked number; 0 for one that is known at deployment only."""
    return int(text) if text.isdecimal() else 0


def prefixed(ledger: LedgerOptions, resource_name: str | None) -> LedgerOptions:
    """Return the options with the prefix that they stand for."""
    return ledger if ledger.prefix is not None else replace(ledger, prefix=resource_name)
