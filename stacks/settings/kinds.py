"""What kind of thing a property has to be, for callers whom no type checker told.

A kind says nothing of values: those are checked afterwards, on a group whose wrong kinds are set back to their
defaults, so that all problems of a group are reported at once.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from enum import Enum
from typing import Any, ClassVar, TypeVar

from aws_cdk import Duration, RemovalPolicy, Token
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler

_Group = TypeVar("_Group", bound="Group")


@dataclass(frozen=True)
class Kind:
    """What is asked for, in words, and whether something is that.

    Attributes
    ----------
    form : str
        What to write, with an example.
    fits : callable
        Whether a value other than None will do.
    takes_none : bool
        Whether None will do, although it is not the default.
    """

    form: str
    fits: Callable[[Any], bool]
    takes_none: bool = False


def of(form: str, *classes: type) -> Kind:
    """Return the kind of things that are of a class."""
    return Kind(form, lambda value: isinstance(value, classes))


def having(form: str, *attributes: str) -> Kind:
    """Return the kind of things that have attributes.

    The CDK's interfaces are protocols, and `isinstance` would ask the CDK for the value of every attribute of theirs.
    """
    return Kind(form, lambda value: all(_has(value, attribute) for attribute in attributes))


def each(kind: Kind) -> Kind:
    """Return the kind of sequences of which every item is of a kind."""
    return Kind(
        f"a list of {kind.form}",
        lambda value: isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(map(kind.fits, value)),
    )


def either(form: str, *kinds: Kind) -> Kind:
    """Return the kind of things that are of one of several kinds."""
    return Kind(form, lambda value: any(kind.fits(value) for kind in kinds))


def whole(low: int, high: int, what: str = "") -> Kind:
    """Return the kind of whole numbers within limits; one that is known at deployment only will do."""
    return Kind(f"a whole number{what} from {low} to {high}", lambda value: _is_whole(value, low, high))


def member(form: str, members: type[Enum]) -> Kind:
    """Return the kind of members of an enumeration. Some of the CDK's have text for their values."""
    return Kind(form, lambda value: isinstance(value, members))


def matching(form: str, pattern: str) -> Kind:
    """Return the kind of texts of some form; one that is known at deployment only will do."""
    return Kind(
        form,
        lambda value: (
            isinstance(value, str)
            and (Token.is_unresolved(value) or re.fullmatch(pattern, value, re.ASCII) is not None)
        ),
    )


def lasting(low_seconds: int, high_seconds: int, form: str = "") -> Kind:
    """Return the kind of durations within limits."""
    example = form or f"a Duration from {low_seconds} to {high_seconds} seconds, e.g. Duration.seconds({high_seconds})"
    return Kind(
        example,
        lambda value: (
            isinstance(value, Duration)
            and (value.is_unresolved() or low_seconds <= value.to_seconds(integral=False) <= high_seconds)
        ),
    )


def days(low: int, high: int) -> Kind:
    """Return the kind of durations of whole days within limits, known at synthesis."""
    return Kind(
        f"a Duration of whole days, {low} to {high}, e.g. Duration.days(365)",
        lambda value: (
            isinstance(value, Duration)
            and not value.is_unresolved()
            and value.to_days(integral=False) in range(low, high + 1)
        ),
    )


SETTING = Kind("", lambda _: True, takes_none=True)
"""What is a setting as well, and is checked as such: with its value, in `resolved`."""
TEXT = of("text", str)
BOOLEAN = Kind("True or False", lambda value: isinstance(value, bool))
VPC = having("a VPC, e.g. ec2.Vpc.from_lookup(…)", "vpc_id", "select_subnets")
SUBNETS = of("ec2.SubnetSelection(…)", ec2.SubnetSelection)
KEY = having("a key, e.g. kms.Key.from_key_arn(…)", "key_arn")
BUCKET = having("a bucket, e.g. s3.Bucket.from_bucket_name(…)", "bucket_arn")
QUEUE = having("a queue, e.g. sqs.Queue.from_queue_arn(…)", "queue_arn")
TOPIC = having("a topic, e.g. sns.Topic.from_topic_arn(…)", "topic_arn")
LOG_GROUP = having("a log group, e.g. logs.LogGroup.from_log_group_name(…)", "log_group_arn")
SECRET = having("a secret, e.g. secretsmanager.Secret.from_secret_name_v2(…)", "secret_arn")
SECURITY_GROUP = having("a security group, e.g. ec2.SecurityGroup.from_security_group_id(…)", "security_group_id")
POLICY = having("a managed policy, e.g. iam.ManagedPolicy.from_managed_policy_arn(…)", "managed_policy_arn")
SCHEDULE_GROUP = having(
    "a schedule group, e.g. scheduler.ScheduleGroup.from_schedule_group_name(…)", "schedule_group_arn"
)
PEERS = each(having("peers, e.g. ec2.Peer.ipv4(…), or security groups", "can_inline_rule"))
INTERFACE_SERVICES = each(having("services, e.g. ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER", "name", "port"))
GATEWAY_SERVICES = each(having("services, e.g. ec2.GatewayVpcEndpointAwsService.S3", "name"))
ARCHITECTURE = of("lambda_.Architecture.ARM_64 or X86_64", lambda_.Architecture)
RUNTIME = of("a runtime, e.g. lambda_.Runtime.PYTHON_3_14", lambda_.Runtime)
CODE = of("code, e.g. lambda_.Code.from_asset(…)", lambda_.Code)
TRACING = member("lambda_.Tracing.ACTIVE, PASS_THROUGH or DISABLED", lambda_.Tracing)
RETENTION = member("a member of logs.RetentionDays, e.g. logs.RetentionDays.ONE_YEAR", logs.RetentionDays)
REMOVAL = member("a member of RemovalPolicy, e.g. RemovalPolicy.RETAIN", RemovalPolicy)
TIME_WINDOW = of("scheduler.TimeWindow.flexible(…) or off()", scheduler.TimeWindow)


class Group:
    """Properties that belong together. A subclass is a frozen dataclass, and says what kind each of them is.

    Attributes
    ----------
    place : str
        Where the group is given, as problems begin with it.
    kinds : Mapping
        The kind of each property. None will do where it is the default.
    settings : Mapping of str to str
        The properties that are settings of the app as well, each with the name of the setting.
    """

    place: ClassVar[str]
    kinds: ClassVar[Mapping[str, Kind]]
    settings: ClassVar[Mapping[str, str]] = {}

    def problems(self) -> Iterator[str]:
        """Say what is wrong: first with the kinds, then with the values that are of the right kind."""
        for name, kind in self._wrong_kinds().items():
            or_none = ", or None" if self._default(name) is None else ""
            yield f"{self.place}.{name}: must be {kind.form}{or_none}"
        yield from self.of_right_kinds().value_problems()

    def of_right_kinds(self: _Group) -> _Group:
        """Return the group with what is of a wrong kind set back to its default."""
        return _without(self, self._wrong_kinds())

    def _wrong_kinds(self) -> Mapping[str, Kind]:
        return {name: kind for name, kind in self.kinds.items() if not self._fits(name, kind)}

    def value_problems(self) -> Iterator[str]:
        """Say what is wrong with values and between them; every property is of its kind."""
        return iter(())

    def _fits(self, name: str, kind: Kind) -> bool:
        value = getattr(self, name)
        if value is None:
            return kind.takes_none or self._default(name) is None
        return kind.fits(value)

    def _default(self, name: str) -> Any:
        return next(_default_of(field) for field in fields(self) if field.name == name)  # type: ignore[arg-type]


def _without(group: _Group, wrong: Mapping[str, Kind]) -> _Group:
    """Return a group with some properties set back to their defaults."""
    defaults = {field.name: _default_of(field) for field in fields(group)}  # type: ignore[arg-type]
    return replace(group, **{name: "" if defaults[name] is MISSING else defaults[name] for name in wrong})  # type: ignore[type-var]


def _default_of(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _has(value: Any, attribute: str) -> bool:
    try:
        return hasattr(value, attribute)
    except RuntimeError:  # what the CDK raises where it has the attribute, but cannot tell its value
        return True


def _is_whole(value: Any, low: int, high: int) -> bool:
    # What is no number in JSON, such as infinity, ends the CDK's process.
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    # The CDK is asked last, as that takes a call of its process. Its tokens are numbers far below all others.
    return (low <= value <= high and value == int(value)) or Token.is_unresolved(value)
