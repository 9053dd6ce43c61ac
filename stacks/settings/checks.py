"""One check per kind of setting.

Each takes a value as context or a caller gave it (text, or what JSON can hold), and returns it in the form in which it
is used, or raises `ValueError` with advice that does not repeat the value. Values that are not known yet (`is_pending`)
pass where the deployment does not depend on them.
"""

import json
import math
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aws_cdk import Token

from . import cron
from .cron import Schedule
from .groups import Authentication, Engine

EXAMPLE_CHANNEL_ARN = "arn:aws:cloudtrail:us-east-1:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef"

CLOUDTRAIL_DATA_REGIONS = frozenset(
    {
        "us-east-1",
        "us-east-2",
        "us-west-1",
        "us-west-2",
        "af-south-1",
        "ap-east-1",
        "ap-southeast-1",
        "ap-southeast-2",
        "ap-southeast-3",
        "ap-south-1",
        "ap-northeast-1",
        "ap-northeast-2",
        "ap-northeast-3",
        "ca-central-1",
        "eu-central-1",
        "eu-west-1",
        "eu-west-2",
        "eu-west-3",
        "eu-south-1",
        "eu-north-1",
        "me-central-1",
        "me-south-1",
        "sa-east-1",
    }
)
"""Regions with a ``cloudtrail-data`` endpoint (https://docs.aws.amazon.com/general/latest/gr/ct.html, 2026-04)."""

_LOOKUP_PLACEHOLDER = "dummy-value-for-"
"""What CDK's lookups return while the app is synthesised for the first time, only to find out what to look up.
https://docs.aws.amazon.com/cdk/v2/guide/get-ssm-value.html"""

_TOKEN = re.compile(r"\$\{Token\[[^\]]*\]\}")
"""How a CDK token is written inside a text."""

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_NO_CA = frozenset({"", "null", "none", "disabled"})
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_HTTPS_PORT = 443
SHORTEST_SWEEP_SECONDS, LONGEST_SWEEP_SECONDS = 3600, 30 * 86_400
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

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


def log_level(value: object) -> str:
    """Return the name of one of Python's log levels."""
    if is_pending(value):
        return pending_text(value)
    return choice(value, _LOG_LEVELS)


def boolean_text(value: object) -> str:
    """Return ``true`` or ``false``."""
    known(value, "what is created depends on it")
    given = str(value).strip().lower()
    if given not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return "true" if given in _TRUE else "false"


def integer_text(value: object, low: int, high: int | None = None) -> str:
    """Return a whole number within the limits, as text."""
    if is_pending(value):
        return pending_text(value)
    limits = f"a whole number of {low} or more" if high is None else f"a whole number from {low} to {high}"
    given = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,10}", given):
        raise ValueError(f"must be {limits}")
    number = int(given)
    if number < low or (high is not None and number > high):
        raise ValueError(f"must be {limits}")
    return str(number)


def sweep_seconds(value: object) -> str:
    """Return the time between two sweeps as text; 0 stands for none."""
    advice = f"must be a whole number from {SHORTEST_SWEEP_SECONDS} to {LONGEST_SWEEP_SECONDS}, or 0 for no sweeps"
    try:
        given = integer_text(value, 0, LONGEST_SWEEP_SECONDS)
    except ValueError:
        raise ValueError(advice) from None
    if not is_pending(given) and 0 < int(given) < SHORTEST_SWEEP_SECONDS:
        raise ValueError(advice)
    return given


def _matching(value: object, pattern: str, advice: str) -> str:
    given = text(value)
    if is_pending(given):
        return given
    if not re.fullmatch(pattern, given):
        raise ValueError(advice)
    return given


def external_id(value: object) -> str:
    """Return an external id as PutAuditEvents takes it."""
    return _matching(value, r"[\w+=,.@:/-]{2,1224}", "must be 2 to 1224 letters, digits or any of +=,.@:/-_")


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


def source_name(value: object) -> str:
    """Return a name that can stand in Redis keys, S3 keys and metric dimensions."""
    return _matching(
        value,
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        "must be at most 64 letters, digits, dots, hyphens or underscores, a letter or digit first",
    )


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


def secret_id(value: object) -> str:
    """Return the ARN or the name of a secret."""
    given = text(value)
    if given.startswith("arn:"):
        pattern, advice = (
            r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]{1,519}",
            "is no ARN of a secret; it looks like arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX",
        )
    else:
        pattern, advice = r"[A-Za-z0-9/_+=.@-]{1,512}", "must be the ARN or the name of a Secrets Manager secret"
    return _matching(given, pattern, advice)


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
    if name not in CLOUDTRAIL_DATA_REGIONS:
        raise ValueError(
            "has no cloudtrail-data endpoint, so CloudTrail Lake takes no events there; deploy to one of "
            + ", ".join(sorted(CLOUDTRAIL_DATA_REGIONS))
        )


def channel_arn(value: object) -> ChannelArn:
    """Take a channel's ARN apart."""
    given = text(value)
    if is_pending(given):
        return ChannelArn(arn=given, region="")
    _matching(
        given,
        r"arn:aws[a-z-]*:cloudtrail:[a-z0-9-]+:[0-9]{12}:channel/[A-Za-z0-9-]+",
        f"is no ARN of a CloudTrail channel; it looks like {EXAMPLE_CHANNEL_ARN} (aws cloudtrail list-channels)",
    )
    return ChannelArn(arn=given, region=given.split(":")[3])


def same_region_as_channel(channel: ChannelArn, stack_region: str | None) -> None:
    """Refuse a channel that the function could not deliver to."""
    if not channel.region:
        return
    offers_cloudtrail_data(channel.region)
    if stack_region is not None and stack_region != channel.region:
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
    """Take an HTTP URL apart; refuse one that carries credentials. Any part may be known at deployment only."""
    given = text(value)
    if given.startswith(_LOOKUP_PLACEHOLDER):
        return ServiceUrl(url=given, encrypted=True, host="", port=_HTTPS_PORT)
    if _TOKEN.match(given):  # the protocol already is in it
        return ServiceUrl(url=given, encrypted=True, host="", port=None)
    advice = "write protocol, host and port, and a base path if there is one, e.g. https://kong-admin.example.com:8444"
    if not re.match(r"https?://", given, re.IGNORECASE):
        raise ValueError(f"does not begin with http:// or https://; {advice}")
    if re.search(r"[\s\x00-\x1f]", given):
        raise ValueError(f"contains white space; {advice}")
    try:
        # What differs when a token stands for another digit is not known. Left in, its brackets would be IPv6's.
        parts, otherwise = (urlsplit(_TOKEN.sub(digit, given)) for digit in "12")
        host, port, same_port = parts.hostname, parts.port, parts.port == otherwise.port
    except ValueError:
        raise ValueError(f"has no valid host and port; {advice}") from None
    if "@" in parts.netloc:
        raise ValueError(
            "carries credentials before the @; take them out of the URL, and put Kong's token into a secret "
            "(kong_admin_token_secret)"
        )
    if not host or port == 0:
        raise ValueError(f"has no valid host and port; {advice}")
    if parts.query or parts.fragment:
        raise ValueError(f"has a query or a fragment; {advice}")
    encrypted = parts.scheme.lower() == "https"
    return ServiceUrl(
        url=given,
        encrypted=encrypted,
        host=host if host == otherwise.hostname else "",
        port=(port or (_HTTPS_PORT if encrypted else 80)) if same_port else None,
    )


def certificates(value: object) -> str:
    """Return the certificates of a PEM text or file; empty text where none is wanted.

    Anything else in the file (comments, text forms) is left out, since a function's environment has room for 4 KB.
    """
    if is_pending(value):
        return pending_text(value)
    if not isinstance(value, str):
        raise ValueError("must be PEM text, or the path of a PEM file")
    if value.strip().lower() in _NO_CA:
        return ""
    pem = value if "-----BEGIN" in value else _file(value)
    if "PRIVATE KEY-----" in pem:
        raise ValueError("contains a private key; give the certificate of the CA alone")
    found = [certificate.replace("\r\n", "\n") for certificate in _CERTIFICATE.findall(pem)]
    try:
        for certificate in found:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate)
    except (ssl.SSLError, ValueError):
        found = []
    if not found:
        raise ValueError("is no readable PEM certificate; give the CA's certificate, or its path, in PEM form")
    return "\n".join(found) + "\n"


def _file(path: str) -> str:
    try:
        return Path(path.strip()).expanduser().read_text("ascii", "replace")
    except (OSError, ValueError, RuntimeError):
        raise ValueError(
            "is neither PEM text nor the path of a readable file; give the CA's certificate in PEM form, or its path"
        ) from None


def schedule(value: object, *, clock_changes: bool = False) -> Schedule:
    """Read a schedule expression: ``rate(…)`` or ``cron(…)``."""
    known(value, "how long events may wait and alarms look back follows from it")
    if not isinstance(value, str):
        raise ValueError(cron.ADVICE)
    return cron.parse(value.strip(), clock_changes=clock_changes)
