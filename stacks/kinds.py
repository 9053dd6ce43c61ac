"""What each property of the construct has to be, for callers whom no type checker told."""

from collections.abc import Callable, Mapping
from typing import Any

from aws_cdk import aws_ec2 as ec2

from .alarms import AlarmOptions
from .choices import CacheOptions, EventStoreOptions, FunctionOptions, LedgerOptions, NetworkOptions, ScheduleOptions
from .dedupe_cache import DedupeCache
from .errors import SettingsError
from .ledger import Ledger


def _any_of(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds)


def _with(attribute: str) -> Callable[[object], bool]:
    # The CDK's interfaces are protocols, and isinstance would ask the CDK for the value of every attribute of theirs.
    return lambda value: hasattr(value, attribute)


_KINDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "vpc": ("a VPC, e.g. ec2.Vpc.from_lookup(…)", _with("vpc_id")),
    "subnets": ("ec2.SubnetSelection(…)", _any_of(ec2.SubnetSelection)),
    "cache": ("CacheOptions(…), or the cache of another integration", _any_of(CacheOptions, DedupeCache)),
    "ledger": ("LedgerOptions(…), or the ledger of another integration", _any_of(LedgerOptions, Ledger)),
    "network": ("NetworkOptions(…)", _any_of(NetworkOptions)),
    "function": ("FunctionOptions(…)", _any_of(FunctionOptions)),
    "schedule_options": ("ScheduleOptions(…)", _any_of(ScheduleOptions)),
    "event_store": ("EventStoreOptions(…)", _any_of(EventStoreOptions)),
    "alarms": ("AlarmOptions(…)", _any_of(AlarmOptions)),
    "encryption_key": ("a key, e.g. kms.Key.from_key_arn(…)", _with("key_arn")),
    "kong_admin_token_secret": (
        "a secret, e.g. secretsmanager.Secret.from_secret_name_v2(…), or the ARN or name of one",
        lambda value: isinstance(value, str) or hasattr(value, "secret_arn"),
    ),
}


def check_kinds(**given: Any) -> None:
    """Refuse values of a kind that nothing more can be said of; None stands for "not given", save for the VPC.

    Raises
    ------
    SettingsError
        With all of them.
    """
    problems = [
        f"{name}: must be {form}"
        for name, (form, fits) in _KINDS.items()
        if (given[name] is not None or name == "vpc") and not fits(given[name])
    ]
    if problems:
        raise SettingsError(problems)
