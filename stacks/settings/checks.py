"""One check per kind of setting, beside those of the function's variables, which `variable` runs.

Each takes a value as context or a caller gave it (text, or what JSON can hold), and returns it in the form in which it
is used, or raises `ValueError` with advice that does not repeat the value. Values that are not known yet (`is_pending`)
pass where the deployment does not depend on them.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import Token

from . import cron
from .cron import Schedule
from .groups import (
    BUCKET_NAME_FORM,
    BUCKET_NAME_PATTERN,
    KEY_PREFIX_FORM,
    KEY_PREFIX_PATTERN,
    LOG_GROUP_FORM,
    LOG_GROUP_PATTERN,
    Authentication,
    Engine,
)
from .variables import VARIABLES, table

DAILY = "cron(20 4 * * ? *)"
"""When a trail is reconciled if it is just to be done daily: the day before has long been settled by then."""

_LOOKUP_PLACEHOLDER = "dummy-value-for-"
"""What CDK's lookups return while the app is synthesised for the first time, only to find out what to look up.
https://docs.aws.amazon.com/cdk/v2/guide/get-ssm-value.html"""

_TOKEN = re.compile(r"\$\{Token\[[^\]]*\]\}")
"""How a CDK token is written inside a text."""

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html, "Defined runtime environment variables"
_RESERVED_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)


@dataclass(frozen=True, kw_only=True)
class ServiceUrl:
    """A URL taken apart as far as the deployment needs it. What is not known yet is empty: `host`, or None: `port`."""

    url: str
    encrypted: bool
    host: str
    port: int | None


@dataclass(frozen=True, kw_only=True)
class ChannelArn:
    """A CloudTrail channel's ARN. `region` is empty where the ARN is known at deployment only."""

    arn: str
    region: str


def is_pending(value: object) -> bool:
    """Say whether a value is known later: when CloudFormation fills it in (a CDK token), or when it was looked up."""
    if isinstance(value, str):
        return Token.is_unresolved(value) or value.startswith(_LOOKUP_PLACEHOLDER)
    if isinstance(value, float) and not math.isfinite(value):
        return False  # the CDK cannot even be asked
    return (isinstance(value, float) or hasattr(value, "creation_stack")) and Token.is_unresolved(value)


def pending_text(value: object) -> str:
    """Return a pending value as text in which CloudFormation finds it; a token's number would not be found again."""
    return value if isinstance(value, str) else Token.as_string(value)


def known(value: object, reason: str) -> None:
    """Refuse a value that is not known yet, where the deployment depends on it."""
    if is_pending(value):
        raise ValueError(f"is not known before the deployment, and {reason}; write it out")


def text(value: object) -> str:
    """Return text that is not empty, without the white space around it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text")
    return value.strip()


def choice(value: object, choices: Sequence[str]) -> str:
    """Return one of the choices, whatever its case was."""
    for candidate in choices:
        if text(value).lower() == candidate.lower():
            return candidate
    raise ValueError(f"must be one of {', '.join(choices)}")


def engine(value: object) -> Engine:
    """Return an engine of ElastiCache."""
    return "redis" if choice(value, ("valkey", "redis")) == "redis" else "valkey"


def authentication(value: object) -> Authentication:
    """Return a way to sign in to the cache."""
    return "iam" if choice(value, ("iam", "password")) == "iam" else "password"


def boolean_text(value: object) -> str:
    """Return ``true`` or ``false``."""
    known(value, "what is created depends on it")
    return _read(table.boolean, value)


def integer_text(value: object, low: int, high: int) -> str:
    """Return a whole number within the limits, as text."""
    if is_pending(value):
        return pending_text(value)
    given = str(value).strip()
    if isinstance(value, bool) or re.fullmatch(r"[0-9]{1,10}", given) is None or not low <= int(given) <= high:
        raise ValueError(f"must be a whole number from {low} to {high}")
    return str(int(given))


def variable(name: str, value: object) -> str:
    """Return what to write into the function's environment for one of its variables: text that the function accepts.

    Empty text stands for "not given". A value that is known at deployment only passes unchecked.
    """
    check = VARIABLES[name].check
    if check is table.url:
        return service_url(value).url
    if check is table.boolean:
        return boolean_text(value)
    if is_pending(value):
        return pending_text(value).strip()
    return _read(check, value)


def _read(check: Callable[[str], Any], value: object) -> str:
    """Run one of the function's checks on a value that may be a number or a truth value instead of text."""
    if not isinstance(value, str | int | float):
        raise ValueError("must be text, a number, true or false")
    given = str(table.as_text(value)).strip()
    found = check(given) if given else None
    if not isinstance(value, str) and not isinstance(found, int):
        raise ValueError("must be text")
    return "" if found is None else str(table.as_text(found))


def _matching(value: object, pattern: str, advice: str) -> str:
    given = text(value)
    if is_pending(given):
        return given
    if not re.fullmatch(pattern, given, re.ASCII):
        raise ValueError(advice)
    return given


def topic_arn(value: object) -> str:
    """Return the ARN of an SNS topic."""
    return _matching(
        value,
        r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}",
        "is no ARN of an SNS topic; it looks like arn:aws:sns:REGION:ACCOUNT:NAME",
    )


def web_page(value: object) -> str:
    """Return the URL of a page, without a fragment."""
    return _matching(
        value,
        r"https?://[^\s#]{1,500}",
        "is no URL of a page; write one such as https://wiki.example.com/kong-audit-trail, without #",
    )


def bucket_name(value: object) -> str:
    """Return the name of an S3 bucket."""
    return _matching(value, BUCKET_NAME_PATTERN, f"must be {BUCKET_NAME_FORM}")


def key_prefix(value: object) -> str:
    """Return the first part of keys in a bucket."""
    return _matching(value, KEY_PREFIX_PATTERN, f"must be {KEY_PREFIX_FORM}")


def stack_name(value: object) -> str:
    """Return a name that a CloudFormation stack can carry."""
    return _matching(
        value, r"[A-Za-z][A-Za-z0-9-]{0,127}", "must be at most 128 letters, digits or hyphens, a letter first"
    )


def resource_name(value: object) -> str:
    """Return a name that a function and a schedule can carry."""
    return _matching(value, r"[A-Za-z0-9_-]{1,64}", "must be at most 64 letters, digits, hyphens or underscores")


def security_group_name(value: object) -> str:
    """Return a name for a new security group (EC2's rules)."""
    given = _matching(
        value,
        r"[A-Za-z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}",
        "must be at most 255 letters, digits, spaces or any of ._-:/()#,@[]+=&;{}!$*",
    )
    if given.startswith("sg-"):
        raise ValueError("is the name of the group to create, and EC2 allows none that begins with sg-; write a name")
    return given


def key_arn(value: object) -> str:
    """Return the ARN of a KMS key."""
    given = text(value)
    if is_pending(given):
        return given
    advice = "give the key's ARN, as `aws kms describe-key --key-id … --query KeyMetadata.Arn` shows it"
    if "alias/" in given:
        raise ValueError(f"is an alias, and policies name the key itself; {advice}")
    return _matching(
        given,
        r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,64}",
        f"is no ARN of a KMS key; {advice}",
    )


def key_arn_or_boolean(value: object) -> str | bool:
    """Return the ARN of a KMS key, or whether one is to be created."""
    known(value, "what is created depends on it")
    try:
        return boolean_text(value) == "true"
    except ValueError:
        if isinstance(value, str) and value.strip().startswith("arn:"):
            return key_arn(value)
        raise ValueError("must be true, for a new key, or the ARN of an asymmetric KMS key") from None


UNUSED_KEY = (
    "is given without kong_admin_token_secret, and would not be used; leave it out, as a new secret is encrypted with "
    "encryption_key"
)


def same_region_as_key(key: str, stack_region: str | None) -> None:
    """Refuse a key of another region: no service uses it across."""
    if stack_region is None or not key.startswith("arn:") or Token.is_unresolved(key):
        return
    if key.split(":")[3] != stack_region:
        raise ValueError(f"is in another region than the stack; give a key in {stack_region}")


def log_group(value: object) -> str:
    """Return the name or the ARN of a log group."""
    return _matching(value, LOG_GROUP_PATTERN, f"must be {LOG_GROUP_FORM}")


def same_place_as_log_group(region: str, account: str, stack_region: str | None, stack_account: str | None) -> None:
    """Refuse a log group of elsewhere: the function may write to those of its own region and account."""
    for what, theirs, ours in (("region", region, stack_region), ("account", account, stack_account)):
        is_known = ours is not None and not Token.is_unresolved(theirs) and not Token.is_unresolved(ours)
        if is_known and theirs != ours:
            raise ValueError(f"is in another {what} than the stack; give a log group in {ours}, or leave it out")


def place_of_log_group(group: str) -> tuple[str, str] | None:
    """Return the region and the account of a log group; None of one that was given by its name."""
    if not group.startswith("arn:"):
        return None
    region, account = group.split(":")[3:5]
    return region, account


def boundary(value: object) -> str:
    """Return the ARN or the name of a managed policy."""
    return _matching(
        value,
        r"arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[\w+=,.@/-]{1,512}|[\w+=,.@-]{1,128}",
        "must be the ARN or the name of a managed policy",
    )


def account(value: object) -> str:
    """Return the number of an account."""
    # Leading zeros belong to it, so a number in cdk.json would have lost them.
    return _matching(value, r"[0-9]{12}", "must be an account's 12 digits, as text")


def same_region_as_secret(secret: str, stack_region: str | None) -> None:
    """Refuse a secret of another region: the function asks for it in its own."""
    if stack_region is None or not secret.startswith("arn:") or Token.is_unresolved(secret.split(":")[3]):
        return
    if secret.split(":")[3] != stack_region:
        raise ValueError(f"is in another region than the stack; replicate the secret to {stack_region}")


def region(value: object) -> str:
    """Return a region's name."""
    return _matching(value, r"[a-z]{2}(-[a-z]+)+-[0-9]", "must be a region's name, e.g. us-east-1")


def offers_cloudtrail_data(name: str) -> None:
    """Refuse a region where events cannot be delivered."""
    table.cloudtrail_data_region(name)


def channel_arn(value: object) -> ChannelArn:
    """Take a channel's ARN apart."""
    given = text(value)
    if is_pending(given):
        return ChannelArn(arn=given, region="")
    channel = table.channel(given)
    return ChannelArn(arn=channel.arn, region=channel.region)


def same_region_as_channel(channel: ChannelArn, stack_region: str | None) -> None:
    """Refuse a channel that the function could not deliver to."""
    if channel.region and stack_region not in (None, channel.region):
        raise ValueError(
            f"the channel is in {channel.region}, the stack in {stack_region}, and a channel takes events in its own "
            f"region only; give aws_region={channel.region}, or a channel in {stack_region}"
        )


def vpc_id(value: object) -> str:
    """Return a VPC's id."""
    return _matching(value, r"vpc-([0-9a-f]{8}|[0-9a-f]{17})", "is no VPC id; it looks like vpc-0123456789abcdef0")


def subnet_ids(value: object, at_least: int = 2) -> tuple[str, ...]:
    """Return different subnet ids: two for a new cache, one where there is a cache already."""
    given = _list(value)
    for position, item in enumerate(given, 1):
        if Token.is_unresolved([item]) and not Token.is_unresolved(item):
            raise ValueError(
                "is a list whose length is not known before the deployment; name its items one by one, with "
                "Fn.select, or give the length to Fn.split"
            )
        if not Token.is_unresolved(item) and not re.fullmatch(r"subnet-([0-9a-f]{8}|[0-9a-f]{17})", item):
            raise ValueError(f"number {position} is no subnet id; it looks like subnet-0123456789abcdef0")
    different = tuple(dict.fromkeys(given))
    if not different:
        raise ValueError("none given or found; the function needs at least one")
    if len(different) < at_least:
        raise ValueError(
            f"{len(different)} given, and the cache's two nodes need at least two different subnets, "
            "in two availability zones"
        )
    return different


def route_table_ids(value: object) -> tuple[str, ...]:
    """Return ids of route tables, which may repeat."""
    given = _list(value)
    for position, item in enumerate(given, 1):
        if not Token.is_unresolved(item) and not re.fullmatch(r"rtb-([0-9a-f]{8}|[0-9a-f]{17})", item):
            raise ValueError(f"number {position} is no id of a route table; it looks like rtb-0123456789abcdef0")
    if not given:
        raise ValueError("none given; the endpoint of S3 needs one")
    return tuple(given)


def _list(value: object) -> list[str]:
    advice = "must be a list, or text with commas between the ids"
    if isinstance(value, str):
        if value.strip().startswith("["):
            return _list(_json(value, advice))
        return [item.strip() for item in value.split(",") if item.strip()]
    if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise ValueError(advice)
    return [str(item).strip() for item in value]


def _json(value: str, advice: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        # Not chained: the decoder's error carries the whole text.
        raise ValueError(advice) from None


def _map(value: object, advice: str) -> dict[str, object]:
    decoded = _json(value, advice) if isinstance(value, str) else value
    if not isinstance(decoded, Mapping):
        raise ValueError(advice)
    return {str(name): item for name, item in decoded.items()}


def tags(value: object) -> dict[str, str]:
    """Return a map of tags within AWS's limits."""
    found: dict[str, str] = {}
    for name, item in _map(value, 'must be a map, or its JSON text, e.g. {"project": "kong"}').items():
        if not isinstance(item, str | int | float):
            raise ValueError("every value must be text")
        if not 1 <= len(name) <= 128 or len(str(item)) > 256 or name.lower().startswith("aws:"):
            raise ValueError("a key has 1 to 128 characters and does not begin with aws:, a value has at most 256")
        found[name] = str(item)
    if len(found) > 50:
        raise ValueError("a resource carries at most 50 tags")
    return found


def variables(value: object) -> dict[str, object]:
    """Return a map of environment variables, their values as given."""
    found = _map(value, 'must be a map, or its JSON text, e.g. {"LOG_LEVEL": "DEBUG"}')
    if not all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]+", name) for name in found):
        raise ValueError("a variable's name is made of letters, digits and underscores, a letter first")
    return found


def variable_text(name: str, value: object) -> str:
    """Return a variable's value as text; null is empty."""
    if name in _RESERVED_VARIABLES:
        raise ValueError("belongs to AWS Lambda and cannot be set; leave it out")
    if is_pending(value):
        return pending_text(value)
    if isinstance(value, bool):
        return boolean_text(value)
    if not isinstance(value, str | int | float | None):
        raise ValueError("must be text, a number, true, false or null")
    return "" if value is None else str(value)


def service_url(value: object) -> ServiceUrl:
    """Take an HTTP URL apart. Any part may be known at deployment only."""
    given = text(value)
    if given.startswith(_LOOKUP_PLACEHOLDER):
        return ServiceUrl(url=given, encrypted=True, host="", port=table.HTTPS_PORT)
    if _TOKEN.match(given):  # the protocol already is in it
        return ServiceUrl(url=given, encrypted=True, host="", port=None)
    # What differs when a token stands for another digit is not known. Left in, its brackets would be IPv6's.
    url, otherwise = (table.url(_TOKEN.sub(digit, given)) for digit in "12")
    return ServiceUrl(
        url=given.rstrip("/"),
        encrypted=url.encrypted,
        host=url.host if url.host == otherwise.host else "",
        port=url.port if url.port == otherwise.port else None,
    )


def reconcile(value: object) -> Schedule | None:
    """Read when a trail is reconciled: ``off``, ``daily``, or ``cron(…)``."""
    known(value, "the schedule is part of the template")
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() == "off":
        return None
    if text.lower() != "daily" and not text.startswith("cron("):
        raise ValueError("must be off, daily, or cron(SIX FIELDS) for another time of the day, e.g. cron(0 3 * * ? *)")
    found = cron.parse(DAILY if text.lower() == "daily" else text)
    if found.shortest_seconds < 82_800:  # a day on which the clock is set forward
        raise ValueError("must be once a day at most, as each time the day before is reconciled")
    return found


def schedule(value: object, *, clock_changes: bool = False) -> Schedule:
    """Read a schedule expression: ``rate(…)`` or ``cron(…)``."""
    known(value, "how long events may wait and alarms look back follows from it")
    if not isinstance(value, str):
        raise ValueError(cron.ADVICE)
    return cron.parse(value.strip(), clock_changes=clock_changes)
