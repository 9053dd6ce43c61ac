"""Every environment variable of the function and the command line: one table, and one check for each kind of value.

The construct reads this file as well, by its path (``stacks/settings/variables.py``), so that a deployment accepts
exactly the values that the function accepts. Hence the file imports the standard library alone.

The same holds for every variable: white space around a value does not count, and a value that is blank counts as not
given. Words such as ``true`` or ``INFO`` may be written in any case. A number is written in ASCII digits, and leading
zeros do not count.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

_T = TypeVar("_T")

EXAMPLE_CHANNEL_ARN = "arn:aws:cloudtrail:us-east-1:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef"
EXAMPLE_EVENT_DATA_STORE = (
    "arn:aws:cloudtrail:us-east-1:111122223333:eventdatastore/01234567-89ab-cdef-0123-456789abcdef"
)
EXAMPLE_LOG_GROUP = "arn:aws:logs:us-east-1:111122223333:log-group:/kong/audit"
EXAMPLE_URL = "https://kong-admin.example.com:8444"

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

HTTP_PORT, HTTPS_PORT = 80, 443
HIGHEST_DATABASE = 2**31 - 2
"""The directive ``databases`` of ``valkey.conf`` is a C int, and indexes begin with 0. A server has 16 databases unless
that directive says otherwise; which of them a cache really has is known where the cache is."""
LONGEST_WINDOW_SECONDS = 2_592_000
"""As long as Kong keeps its audit log unless told otherwise: 30 days."""
SHORTEST_SWEEP_SECONDS = 3600
LONGEST_LOOKBACK_SECONDS = 1_000_000_000
"""About 31 years: more than any gateway keeps, and a time that every date library can subtract."""
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
ARCHIVE, CLOUDTRAIL_LAKE, CLOUDWATCH_LOGS = "archive", "cloudtrail-lake", "cloudwatch-logs"
DESTINATIONS = (ARCHIVE, CLOUDTRAIL_LAKE, CLOUDWATCH_LOGS)
"""Every destination by its name, as in the keys of trails."""
REQUESTS, OBJECTS = "requests", "objects"
STREAMS = (REQUESTS, OBJECTS)
"""Every stream by its name, as in the keys of trails."""
EVENT_FORMATS = ("json", "ocsf")
"""Of the archive's lines, and of events in CloudWatch Logs."""
LOG_RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
"""https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html"""
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
MAX_PATH_PATTERNS, MAX_PATTERN_CHARACTERS = 50, 200
MAX_CERTIFICATE_FILE_BYTES = 1_000_000
"""The public CAs of a whole operating system take a quarter of this."""

_MAX_URL_CHARACTERS = 2000
_MAX_USER_CHARACTERS = 200
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_PUBLIC_CAS = frozenset({"null", "none", "disabled"})
_BEGIN_CERTIFICATE, _END_CERTIFICATE = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"

_CHANNEL_ARN = re.compile(
    r"arn:aws[a-z-]*:cloudtrail:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):channel/[A-Za-z0-9-]+"
)
_EVENT_DATA_STORE_ARN = re.compile(
    r"arn:aws[a-z-]*:cloudtrail:(?P<region>[a-z0-9-]+):[0-9]{12}:eventdatastore/[A-Za-z0-9-]{3,64}"
)
_LOG_GROUP_ARN = re.compile(
    r"(?P<arn>arn:aws[a-z-]*:logs:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):log-group:(?P<name>[A-Za-z0-9._/#-]{1,512}))"
    r"(:\*)?"
)
_SECRET_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]{1,519}")
_SECRET_NAME = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}")
_NOT_IN_URLS = re.compile(r"[^A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]")  # RFC 3986, appendix A
_HOST_NAME = re.compile(r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_S3_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.{0,900})?")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class InvalidValue(ValueError):
    """A value that a variable cannot have.

    The message goes after the variable's name and a colon. It says what is wrong and what to write instead, and never
    repeats the value: anything can be pasted into the wrong place, a token included.
    """


@dataclass(frozen=True, slots=True)
class Url:
    """An HTTP URL. ``str`` returns it without a slash at its end."""

    text: str
    encrypted: bool
    host: str
    port: int

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port. ``str`` returns ``host:port``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Channel:
    """A CloudTrail channel. ``str`` returns its ARN."""

    arn: str
    region: str
    account_id: str

    def __str__(self) -> str:
        return self.arn


@dataclass(frozen=True, slots=True)
class EventDataStore:
    """An event data store of CloudTrail Lake. ``str`` returns its ARN."""

    arn: str
    region: str

    def __str__(self) -> str:
        return self.arn


@dataclass(frozen=True, slots=True)
class LogGroup:
    """A log group of CloudWatch Logs. ``str`` returns its ARN."""

    arn: str
    name: str
    region: str
    account_id: str

    def __str__(self) -> str:
        return self.arn


@dataclass(frozen=True, slots=True)
class Names:
    """Names of destinations or streams. ``str`` returns them with commas between them."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.names)


@dataclass(frozen=True, slots=True)
class Items:
    """A list, each item once. ``str`` returns it with commas between them."""

    items: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.items)


def as_text(value: object) -> str:
    """Return what to write into the environment for a value that a check returned."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- one check for each kind. Each takes text without white space around it, which is not empty.


def boolean(text: str) -> bool:
    """Return whether a text means yes. Raises `InvalidValue`, as all checks."""
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise InvalidValue("must be true or false")
    return word in _TRUE


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """Return the check for whole numbers within limits."""

    def check(text: str) -> int:
        # Twelve digits are more than any limit has; int() would take time for millions of them.
        if re.fullmatch(r"[0-9]{1,12}", text) is None or not lowest <= int(text) <= highest:
            raise InvalidValue(f"must be a whole number from {lowest} to {highest}, without a unit")
        return int(text)

    return check


def sweep_interval(text: str) -> int:
    """Return the time between two sweeps in seconds; 0 stands for none."""
    try:
        seconds = whole(0, LONGEST_WINDOW_SECONDS)(text)
    except InvalidValue:
        seconds = -1
    if seconds != 0 and seconds < SHORTEST_SWEEP_SECONDS:
        raise InvalidValue(
            f"must be a whole number from {SHORTEST_SWEEP_SECONDS} to {LONGEST_WINDOW_SECONDS}, or 0 for no sweeps, "
            "without a unit"
        )
    return seconds


def log_level(text: str) -> str:
    """Return the name of one of Python's log levels."""
    level = text.upper()
    if not text.isascii() or level not in LOG_LEVELS:
        raise InvalidValue(f"must be one of {', '.join(LOG_LEVELS)}")
    return level


def matching(pattern: str, advice: str) -> Callable[[str], str]:
    """Return the check for texts of some form."""
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise InvalidValue(advice)
        return text

    return check


def url(text: str) -> Url:
    """Return the base URL of an HTTP API, without a slash at its end."""
    advice = f"write scheme, host and port, and a base path if there is one, e.g. {EXAMPLE_URL}"
    if re.match(r"https?://", text, re.IGNORECASE) is None:
        raise InvalidValue(f"does not begin with http:// or https://; {advice}")
    if (foreign := _NOT_IN_URLS.search(text)) is not None:
        raise InvalidValue(f"contains {_what(foreign[0])}; {advice}")
    if len(text) > _MAX_URL_CHARACTERS:
        raise InvalidValue(f"is longer than {_MAX_URL_CHARACTERS} characters; {advice}")
    if "?" in text or "#" in text:
        raise InvalidValue(f"has a query or a fragment; {advice}")
    authority = text.partition("://")[2].partition("/")[0]
    if "@" in authority:
        raise InvalidValue(
            "carries credentials before the @; take them out of the URL, and put Kong's token into a secret of AWS "
            "Secrets Manager (KONG_ADMIN_TOKEN_SECRET)"
        )
    encrypted = text[:5].lower() == "https"
    try:
        host, port = _host_and_port(authority)
    except ValueError:
        raise InvalidValue(f"has no valid host and port; {advice}") from None
    return Url(text.rstrip("/"), encrypted, host, port or (HTTPS_PORT if encrypted else HTTP_PORT))


def address(text: str) -> Address:
    """Return host and port of the cache."""
    try:
        host, port = _host_and_port(text)
    except ValueError:
        port = None
    if port is None:
        raise InvalidValue("must be host:port, e.g. localhost:6379, without a scheme, credentials or a path")
    return Address(host, port)


def channel(text: str) -> Channel:
    """Return a CloudTrail channel, taken apart."""
    match = _CHANNEL_ARN.fullmatch(text)
    if match is None or len(text) > 256:
        raise InvalidValue(
            f"is not the ARN of a CloudTrail channel; it looks like {EXAMPLE_CHANNEL_ARN}, and "
            "`aws cloudtrail list-channels` shows it"
        )
    return Channel(text, cloudtrail_data_region(match["region"]), match["account"])


def event_data_store(text: str) -> EventDataStore:
    """Return an event data store, taken apart."""
    match = _EVENT_DATA_STORE_ARN.fullmatch(text)
    if match is None:
        raise InvalidValue(
            f"is not the ARN of a CloudTrail event data store; it looks like {EXAMPLE_EVENT_DATA_STORE}, and "
            "`aws cloudtrail list-event-data-stores` shows it"
        )
    return EventDataStore(text, match["region"])


def log_group(text: str) -> LogGroup:
    """Return a log group, taken apart. Some pages and calls of AWS write its ARN with an asterisk at the end."""
    match = _LOG_GROUP_ARN.fullmatch(text)
    if match is None:
        raise InvalidValue(
            f"is not the ARN of a log group; it looks like {EXAMPLE_LOG_GROUP}, and `aws logs describe-log-groups` "
            "shows it"
        )
    return LogGroup(match["arn"], match["name"], match["region"], match["account"])


def log_retention_days(text: str) -> int:
    """Return for how many days a log group keeps events."""
    try:
        days = whole(1, LOG_RETENTION_DAYS[-1])(text)
    except InvalidValue:
        days = 0
    if days not in LOG_RETENTION_DAYS:
        raise InvalidValue(f"must be one of {', '.join(map(str, LOG_RETENTION_DAYS))}, without a unit")
    return days


def cloudtrail_data_region(text: str) -> str:
    """Return a region where events can be delivered."""
    if text not in CLOUDTRAIL_DATA_REGIONS:
        raise InvalidValue(
            "has no cloudtrail-data endpoint, so CloudTrail Lake takes no events there; deploy to one of "
            + ", ".join(sorted(CLOUDTRAIL_DATA_REGIONS))
        )
    return text


def secret_id(text: str) -> str:
    """Return the ARN or the name of a secret in AWS Secrets Manager."""
    if text.startswith("arn:"):
        pattern, advice = (
            _SECRET_ARN,
            "is not the ARN of a secret; it looks like arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX",
        )
    else:
        pattern, advice = _SECRET_NAME, "must be the ARN or the name of a Secrets Manager secret"
    if pattern.fullmatch(text) is None:
        raise InvalidValue(advice)
    return text


def names_of(known: Sequence[str]) -> Callable[[str], Names]:
    """Return the check for names out of a few, with commas between them."""

    def check(text: str) -> Names:
        given = [name.strip().lower() for name in text.split(",") if name.strip()]
        if not given or not set(given) <= set(known):
            what = "names one that there is not" if given else "names none"
            many = "both" if len(known) == 2 else "several"
            raise InvalidValue(f"{what}; write {' or '.join(known)}, or {many} with a comma between them")
        return Names(tuple(name for name in known if name in given))

    return check


def event_format(text: str) -> str:
    """Return the form of events."""
    name = text.lower()
    if name not in EVENT_FORMATS:
        raise InvalidValue(f"must be {' or '.join(EVENT_FORMATS)}")
    return name


def methods(text: str) -> Items:
    """Return the names of HTTP methods, in capitals."""
    found = _items(text, str.upper)
    if not set(found.items) <= set(METHODS):
        raise InvalidValue(f"names a method that there is not; write some of {', '.join(METHODS)}, with commas between")
    return found


def statuses(text: str) -> Items:
    """Return HTTP statuses and classes of them."""
    found = _items(text, str.lower)
    if not all(re.fullmatch(r"[1-5]([0-9]{2}|xx)", item) for item in found.items):
        raise InvalidValue("must be statuses from 100 to 599, or classes such as 3xx, with commas between")
    return found


def path_patterns(text: str) -> Items:
    """Return patterns of paths. `domain.exclusion.PathPattern` says what they match."""
    found = _items(text, str)
    if len(found.items) > MAX_PATH_PATTERNS or any(len(item) > MAX_PATTERN_CHARACTERS for item in found.items):
        raise InvalidValue(
            f"must be at most {MAX_PATH_PATTERNS} patterns of at most {MAX_PATTERN_CHARACTERS} characters; * stands "
            "for any characters of a segment, and /** for any number of segments"
        )
    for item in found.items:
        _check_pattern(item)
    return found


def _check_pattern(pattern: str) -> None:
    segments = pattern.removesuffix("/").split("/")[1:]
    if re.fullmatch(r"/([A-Za-z0-9._~!$&'()*+;=:@-]+(/[A-Za-z0-9._~!$&'()*+;=:@-]+)*/?)?", pattern) is None:
        raise InvalidValue(
            "must be patterns of paths with commas between, each from the first slash on and without a query string, "
            "e.g. /status,/services/*/plugins,/metrics/**"
        )
    if {".", ".."} & set(segments):
        raise InvalidValue("has a segment . or .., and no such path is ever excluded; leave it out")
    if any("**" in segment and segment != "**" for segment in segments):
        raise InvalidValue("has ** within a segment; it stands for whole segments, as in /metrics/**")
    if segments and set(segments) <= {"*", "**"}:
        raise InvalidValue(
            "has a pattern that matches whatever there is, and the audit trail would be empty; name a segment"
        )


def own_user(text: str) -> str:
    """Return the name or id of the RBAC user of the collector."""
    if text.lower() in _TRUE | _FALSE:
        raise InvalidValue(
            "must be the name or id of the RBAC user that the collector's token belongs to, and of nobody else; to "
            "exclude nothing, leave it out"
        )
    if len(text) > _MAX_USER_CHARACTERS:
        raise InvalidValue(f"is longer than {_MAX_USER_CHARACTERS} characters; write the name or id of an RBAC user")
    return plain(text)


def _items(text: str, written: Callable[[str], str]) -> Items:
    """Return the items of a list, each once, in the order in which they are given."""
    given = [item.strip() for item in text.split(",")]
    if not text.isascii() or not all(given):
        raise InvalidValue("must be a list in ASCII with commas between its items, none of them empty")
    return Items(tuple(dict.fromkeys(written(item) for item in given)))


def header_value(text: str) -> str:
    """Return a token that an HTTP header can hold."""
    if not (text.isascii() and text.isprintable()):
        raise InvalidValue(
            "contains characters that no HTTP header can hold, such as a line break or a typographic quotation mark; "
            "write the token alone, as Kong issued it"
        )
    return text


def plain(text: str) -> str:
    """Return text as it stands."""
    if _CONTROL_CHARACTER.search(text) is not None:
        raise InvalidValue("contains a control character, or bytes that are not UTF-8; leave them out")
    return text


def place(text: str) -> str:
    """Return the place of a ledger or an archive: a folder, or an S3 URL."""
    is_remote = "://" in text or text.lower().startswith("s3:")
    if _CONTROL_CHARACTER.search(text) is not None or (is_remote and _S3_URL.fullmatch(text) is None):
        raise InvalidValue("must be s3://bucket/prefix or a folder")
    return text


def certificates(text: str) -> str | None:
    """Return the certificates of a PEM text or file; None for a word that stands for the public CAs.

    Comments and text forms beside the certificates are left out: an environment of Lambda has room for 4 KB.
    """
    if text.lower() in _PUBLIC_CAS:
        return None
    pem = text if "-----BEGIN" in text else _read_file(text)
    if "PRIVATE KEY-----" in pem:
        raise InvalidValue("contains a private key; give the certificate of the CA alone")
    parts = [part.partition(_END_CERTIFICATE) for part in pem.split(_BEGIN_CERTIFICATE)[1:]]
    found = [re.sub(r"\r+\n", "\n", f"{_BEGIN_CERTIFICATE}{body}{end}") if end else "" for body, end, _ in parts]
    if not found or not _are_certificates(found):
        raise InvalidValue(
            "holds no PEM certificate, or a damaged one; give the certificate of the CA that signed the Admin API's, "
            "or leave it empty to trust the public CAs"
        )
    return "\n".join(found)


def _are_certificates(found: list[str]) -> bool:
    import ssl  # takes longer than this file, and most deployments have no CA of their own

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        for certificate in found:
            context.load_verify_locations(cadata=certificate)
    except (ssl.SSLError, ValueError, TypeError):  # the last two: no text, and text beyond ASCII
        return False
    return True


def _read_file(path: str) -> str:
    advice = "give the CA's certificate in PEM form, or the path of a file that holds it"
    try:
        file = Path(path).expanduser()
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # /dev/zero has no end, and a pipe may never begin
            raise InvalidValue(f"is the path of a folder or a device, not of a file; {advice}")
        with file.open("rb") as opened:
            content = opened.read(MAX_CERTIFICATE_FILE_BYTES + 1)
    except InvalidValue:
        raise
    except (OSError, ValueError, RuntimeError):
        raise InvalidValue(f"is neither PEM text nor the path of a readable file; {advice}") from None
    if len(content) > MAX_CERTIFICATE_FILE_BYTES:
        raise InvalidValue(f"is the path of a file of more than {MAX_CERTIFICATE_FILE_BYTES // 10**6} MB; {advice}")
    return content.decode("ascii", "replace")


def _what(character: str) -> str:
    """Return words for a character that no URL contains."""
    if character.isspace():
        return "white space"
    if _CONTROL_CHARACTER.match(character) is not None:
        return "a control character"
    return "a character that URLs have only percent-encoded" if character.isascii() else "a character beyond ASCII"


def _host_and_port(authority: str) -> tuple[str, int | None]:
    """Return the host, and the port where one is given. Raises `ValueError` for anything but ``host[:port]``."""
    if _NOT_IN_URLS.search(authority) is not None or re.search(r"[/?#@]", authority) is not None:
        raise ValueError("more than host and port")
    parts = urlsplit(f"//{authority}")
    host, port = parts.hostname or "", parts.port
    if authority.startswith("["):
        _check_ipv6(host)
    elif len(host) > 253 or _HOST_NAME.fullmatch(host) is None:
        raise ValueError("no host name")
    if port == 0:
        raise ValueError("no port")
    return host, port


def _check_ipv6(host: str) -> None:
    from ipaddress import IPv6Address

    if "%" in host:
        raise ValueError("a zone, which only this machine knows")
    IPv6Address(host)


# -- the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable(Generic[_T]):
    """An environment variable.

    Parameters
    ----------
    name
        Its name. The setting of the app and of the construct has the same name in lower case.
    check
        Takes text that is not blank; returns its value, or None for a word that stands for "not given". Raises
        `InvalidValue`.
    values
        What may be written, for the reference (Markdown).
    meaning
        What it means, for the reference (Markdown).
    default
        What counts where it is not given, as one would write it. None: nothing, or what `default_note` says.
    default_note
        What the reference says of the default, where that is more than `default`.
    missing
        What to give where a deployment lacks it. Empty: it is optional.
    setting
        Whether the app and the construct take it. The others are set by the deployment, or never (`secret`).
    secret
        Whether it holds a secret itself, so that no deployment takes it.
    """

    name: str
    check: Callable[[str], _T | None]
    values: str
    meaning: str
    default: str | None = None
    default_note: str = ""
    missing: str = ""
    setting: bool = False
    secret: bool = False

    def read(self, text: str | None) -> _T | None:
        """Return the value of a text; None if it is not given. Raises `InvalidValue`."""
        text = (text or "").strip()
        return self.check(text) if text else None


KONG_ADMIN_API = Variable(
    name="KONG_ADMIN_API",
    check=url,
    values="`http://` or `https://`, host, port, and a base path if there is one",
    meaning="URL of Kong's Admin API, as the function reaches it",
    default="http://localhost:8001",
    default_note="required; on a laptop `http://localhost:8001`",
    missing=f"the URL of the Admin API as the function reaches it, e.g. {EXAMPLE_URL}",
    setting=True,
)
DESTINATION = Variable(
    name="DESTINATION",
    check=names_of(DESTINATIONS),
    values="`archive`, `cloudtrail-lake`, `cloudwatch-logs`, or several, such as `archive,cloudwatch-logs`",
    meaning="where the audit trail is kept. Each destination is a trail of its own",
    default_note="what the function has a place for: `ARCHIVE`, `CHANNEL_ARN`, `LOG_GROUP`",
    setting=True,
)
STREAMS_READ = Variable(
    name="STREAMS",
    check=names_of(STREAMS),
    values="`requests`, `objects`, or `requests,objects`",
    meaning=(
        "what is read from Kong: who called what (`/audit/requests`), what changed (`/audit/objects`), or both. Each "
        "stream is a trail of its own in each destination"
    ),
    default=REQUESTS,
    setting=True,
)
CHANNEL_ARN = Variable(
    name="CHANNEL_ARN",
    check=channel,
    values="ARN of a CloudTrail channel",
    meaning="the CloudTrail Lake channel that takes the events",
    default_note="required for `cloudtrail-lake`",
    setting=True,
)
ARCHIVE_FORMAT = Variable(
    name="ARCHIVE_FORMAT",
    check=event_format,
    values=" or ".join(f"`{name}`" for name in EVENT_FORMATS),
    meaning="the form of the archive's lines: the event as in CloudTrail Lake, or OCSF 1.3.0 API Activity",
    default="json",
    setting=True,
)
LOG_GROUP_FORMAT = Variable(
    name="LOG_GROUP_FORMAT",
    check=event_format,
    values=" or ".join(f"`{name}`" for name in EVENT_FORMATS),
    meaning="the same of the events in CloudWatch Logs",
    default="json",
    setting=True,
)
KONG_SUPERADMIN = Variable(
    name="KONG_SUPERADMIN",
    check=boolean,
    values="`true` or `false`",
    meaning="whether the Admin API needs a token",
    default_note="`true` if a token or a secret is given, else `false`",
    setting=True,
)
KONG_ADMIN_TOKEN_SECRET = Variable(
    name="KONG_ADMIN_TOKEN_SECRET",
    check=secret_id,
    values="ARN or name of a Secrets Manager secret",
    meaning="the secret that holds the token",
    default_note=(
        "if a token is needed, the deployment creates an empty secret, and its output `FillKongAdminToken` shows the "
        "command that fills it"
    ),
    setting=True,
)
KONG_ROOT_CA = Variable(
    name="KONG_ROOT_CA",
    check=certificates,
    values="PEM text, or the path of a file of at most 1 MB; `null`, `none` or `disabled` for the public CAs",
    meaning="certificate of the CA that signed the Admin API's",
    default_note="the public CAs",
    setting=True,
)
REDIS_DB = Variable(
    name="REDIS_DB",
    check=whole(0, HIGHEST_DATABASE),
    values=f"0 to {HIGHEST_DATABASE}; 0 to 15 where the deployment creates two nodes, `0` for a serverless cache",
    meaning="index of the cache's database",
    default="0",
    setting=True,
)
EXTERNAL_ID = Variable(
    name="EXTERNAL_ID",
    # https://docs.aws.amazon.com/awscloudtraildata/latest/APIReference/API_PutAuditEvents.html
    check=matching(r"[\w+=,.@:/-]{2,1224}", "must be 2 to 1224 ASCII letters, digits or any of +=,.@:/-_"),
    values="2 to 1224 ASCII letters, digits or any of `+=,.@:/-_`",
    meaning="external id that the channel's policy asks for",
    default_note="none",
    setting=True,
)
EVENT_DATA_STORE = Variable(
    name="EVENT_DATA_STORE",
    check=event_data_store,
    values="ARN of a CloudTrail event data store",
    meaning="the store behind the channel, which `reconcile` asks by SQL what it holds",
    default_note="none: `reconcile` compares with marks",
    setting=True,
)
MAP_STATUS_TO_ERROR_CODE = Variable(
    name="MAP_STATUS_TO_ERROR_CODE",
    check=boolean,
    values="`true` or `false`",
    meaning="write a status of 400 and above to `errorCode` and `errorMessage`",
    default="false",
    setting=True,
)
SOURCE_NAME = Variable(
    name="SOURCE_NAME",
    check=matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        "must be at most 64 ASCII letters, digits, dots, hyphens or underscores, a letter or digit first",
    ),
    values="at most 64 ASCII letters, digits or any of `._-`, a letter or digit first",
    meaning=(
        "name of this gateway in keys, metrics and the ledger. Each gateway of an account and region needs its own. If "
        "you change it, a new trail begins"
    ),
    default="kong",
    default_note="`kong`, or the `resource_name` if you give one",
    setting=True,
)
OVERLAP_SECONDS = Variable(
    name="OVERLAP_SECONDS",
    check=whole(0, LONGEST_WINDOW_SECONDS),
    values=f"0 to {LONGEST_WINDOW_SECONDS}",
    meaning="how far before the checkpoint a run begins, for entries that became visible late",
    default="900",
    setting=True,
)
SWEEP_SECONDS = Variable(
    name="SWEEP_SECONDS",
    check=sweep_interval,
    values=f"{SHORTEST_SWEEP_SECONDS} to {LONGEST_WINDOW_SECONDS}, or `0` for none",
    meaning=(
        "time between two sweeps, which read back over everything that Kong keeps and deliver what became visible too "
        "late for the overlap"
    ),
    default="86400",
    default_note="`86400`, a day",
    setting=True,
)
INITIAL_LOOKBACK_SECONDS = Variable(
    name="INITIAL_LOOKBACK_SECONDS",
    check=whole(1, LONGEST_LOOKBACK_SECONDS),
    values=f"1 to {LONGEST_LOOKBACK_SECONDS}",
    meaning="how far back the first run begins",
    default_note="everything that Kong keeps",
    setting=True,
)
PAGE_SIZE = Variable(
    name="PAGE_SIZE",
    check=whole(1, 1000),
    values="1 to 1000",
    meaning="entries per page",
    default="1000",
    setting=True,
)
PARALLEL_DELIVERIES = Variable(
    name="PARALLEL_DELIVERIES",
    check=whole(1, 64),
    values="1 to 64",
    meaning="calls to a destination at the same time",
    default="8",
    setting=True,
)
EXCLUDE_METHODS = Variable(
    name="EXCLUDE_METHODS",
    check=methods,
    values=f"some of {', '.join(f'`{name}`' for name in METHODS)}, with commas between",
    meaning=(
        "methods of requests that are left out and counted: [what is excluded](delivery-guarantees.md#what-is-excluded)"
    ),
    default_note="none",
    setting=True,
)
EXCLUDE_PATHS = Variable(
    name="EXCLUDE_PATHS",
    check=path_patterns,
    values=(
        f"up to {MAX_PATH_PATTERNS} patterns with commas between, such as `/status,/metrics/**`: `*` stands for any "
        "characters of a segment, and `**` for any number of segments"
    ),
    meaning="the same by path: the whole path without its query string has to match",
    default_note="none",
    setting=True,
)
EXCLUDE_STATUSES = Variable(
    name="EXCLUDE_STATUSES",
    check=statuses,
    values="statuses and classes of them with commas between, such as `204,3xx`",
    meaning="the same by the status of Kong's answer",
    default_note="none",
    setting=True,
)
EXCLUDE_OWN_READS = Variable(
    name="EXCLUDE_OWN_READS",
    check=own_user,
    values="name or id of the RBAC user that the collector's token belongs to",
    meaning="the same for the collector's own reads of the audit log, which it knows by this user among other things",
    default_note="none",
    setting=True,
)
LOG_LEVEL = Variable(
    name="LOG_LEVEL",
    check=log_level,
    values=", ".join(f"`{level}`" for level in LOG_LEVELS),
    meaning="the least severe log lines that are written",
    default="INFO",
    setting=True,
)
KONG_ADMIN_TOKEN = Variable(
    name="KONG_ADMIN_TOKEN",
    check=header_value,
    values="printable ASCII",
    meaning="the token itself",
    default_note="none",
    secret=True,
)
REDIS_HOST = Variable(
    name="REDIS_HOST",
    check=address,
    values="`host:port`",
    meaning="address of Valkey or Redis",
    default="localhost:6379",
)
REDIS_TLS = Variable(
    name="REDIS_TLS",
    check=boolean,
    values="`true` or `false`",
    meaning="whether to use TLS for the cache",
    default="false",
)
REDIS_USERNAME = Variable(
    name="REDIS_USERNAME",
    check=plain,
    values="text",
    meaning="user of the cache",
    default_note="the default user",
)
REDIS_PASSWORD = Variable(
    name="REDIS_PASSWORD",
    check=plain,
    values="text",
    meaning="password of the cache",
    default_note="none",
    secret=True,
)
REDIS_PASSWORD_SECRET = Variable(
    name="REDIS_PASSWORD_SECRET",
    check=secret_id,
    values="ARN or name of a Secrets Manager secret",
    meaning="the secret that holds the cache's password",
    default_note="none",
)
REDIS_IAM_CACHE = Variable(
    name="REDIS_IAM_CACHE",
    check=matching(
        r"[a-z][a-z0-9-]{0,39}",
        "must be the name of an ElastiCache cache: at most 40 lower-case letters, digits or hyphens, a letter first",
    ),
    values="at most 40 lower-case letters, digits or hyphens, a letter first",
    meaning=(
        "name of the ElastiCache cache, to sign in with IAM instead of a password. Needs `REDIS_TLS` and "
        "`REDIS_USERNAME`"
    ),
    default_note="none",
)
REDIS_SERVERLESS = Variable(
    name="REDIS_SERVERLESS",
    check=boolean,
    values="`true` or `false`",
    meaning="whether the cache of `REDIS_IAM_CACHE` is serverless",
    default="false",
)
ARCHIVE_PLACE = Variable(
    name="ARCHIVE",
    check=place,
    values="a folder, or `s3://bucket/prefix`",
    meaning="place of the archive",
    default_note="required for `archive`",
)
ARCHIVE_ACCOUNT_ID = Variable(
    name="ARCHIVE_ACCOUNT_ID",
    check=matching(r"[0-9]{12}", "must be the 12 digits of an AWS account"),
    values="12 digits",
    meaning="the AWS account of the archive, `recipientAccountId` of its lines",
    default_note="none, as of an archive in a folder",
)
ARCHIVE_SIGNING_KEY = Variable(
    name="ARCHIVE_SIGNING_KEY",
    check=matching(
        r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,64}",
        "must be the ARN of a KMS key, arn:aws:kms:REGION:ACCOUNT:key/ID",
    ),
    values="ARN of an asymmetric KMS key (`SIGN_VERIFY`)",
    meaning="the key that signs the run reports of the archive",
    default_note="none, reports are not signed",
)
LOG_GROUP = Variable(
    name="LOG_GROUP",
    check=log_group,
    values="ARN of a log group of CloudWatch Logs",
    meaning="the log group that takes the events",
    default_note="required for `cloudwatch-logs`",
)
LOG_GROUP_RETENTION_DAYS = Variable(
    name="LOG_GROUP_RETENTION_DAYS",
    check=log_retention_days,
    values="a number of days that CloudWatch Logs offers: " + ", ".join(f"`{days}`" for days in LOG_RETENTION_DAYS),
    meaning="for how long that group keeps events",
    default_note="for ever, or unknown: what is refused as too old is sent once more, with the present time",
)
LEDGER = Variable(
    name="LEDGER",
    check=place,
    values="a folder, or `s3://bucket/prefix`",
    meaning="place of checkpoint, quarantine, originals of shortened entries and run reports",
    default_note=(
        "no checkpoint: each run reads everything that Kong keeps. Quarantine and originals go to `./ledger`"
    ),
)

TABLE: tuple[Variable[Any], ...] = (
    KONG_ADMIN_API,
    DESTINATION,
    STREAMS_READ,
    CHANNEL_ARN,
    ARCHIVE_FORMAT,
    LOG_GROUP_FORMAT,
    KONG_SUPERADMIN,
    KONG_ADMIN_TOKEN_SECRET,
    KONG_ROOT_CA,
    REDIS_DB,
    EXTERNAL_ID,
    EVENT_DATA_STORE,
    MAP_STATUS_TO_ERROR_CODE,
    SOURCE_NAME,
    OVERLAP_SECONDS,
    SWEEP_SECONDS,
    INITIAL_LOOKBACK_SECONDS,
    PAGE_SIZE,
    PARALLEL_DELIVERIES,
    EXCLUDE_METHODS,
    EXCLUDE_PATHS,
    EXCLUDE_STATUSES,
    EXCLUDE_OWN_READS,
    LOG_LEVEL,
    KONG_ADMIN_TOKEN,
    REDIS_HOST,
    REDIS_TLS,
    REDIS_USERNAME,
    REDIS_PASSWORD,
    REDIS_PASSWORD_SECRET,
    REDIS_IAM_CACHE,
    REDIS_SERVERLESS,
    ARCHIVE_PLACE,
    ARCHIVE_ACCOUNT_ID,
    ARCHIVE_SIGNING_KEY,
    LOG_GROUP,
    LOG_GROUP_RETENTION_DAYS,
    LEDGER,
)
"""Every variable, in the order of the reference."""
