"""The function's settings, read from environment variables once, every problem reported at once."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from .errors import SettingsError

_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}
_NOTHING = {"", "null", "none", "disabled"}
_CHANNEL_ARN = re.compile(
    r"arn:aws[a-z-]*:cloudtrail:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):channel/[A-Za-z0-9-]+"
)
_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_CACHE_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_MASKED = "***"
_DEFAULT_SWEEP_SECONDS = 86_400
_SHORTEST_SWEEP_SECONDS = 3600
_LONGEST_SWEEP_SECONDS = 2_592_000


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that must not be seen: ``repr`` and ``str`` hide it.

    Parameters
    ----------
    value
        The secret itself; ask for it only where it is used.
    """

    value: str = field(repr=False)

    def __str__(self) -> str:
        return _MASKED


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run needs to know. `from_mapping` says which variable each comes from, and its default."""

    kong_admin_api: str
    kong_needs_token: bool
    kong_admin_token: Secret | None
    kong_admin_token_secret: str | None
    kong_root_ca: str | None
    redis_host: str
    redis_port: int
    redis_db: int
    redis_tls: bool
    redis_username: str | None
    redis_password: Secret | None
    redis_password_secret: str | None
    redis_iam_cache: str | None
    redis_serverless: bool
    channel_arn: str
    channel_region: str
    channel_account_id: str
    external_id: str | None
    map_status_to_error_code: bool
    source_name: str
    ledger: str | None
    overlap_seconds: int
    initial_lookback_seconds: int | None
    sweep_seconds: int
    page_size: int
    parallel_deliveries: int

    @classmethod
    def from_mapping(cls, environment: Mapping[str, str]) -> Settings:
        """Parse environment variables.

        Parameters
        ----------
        environment
            Names and values, e.g. ``os.environ``. An empty value counts as not given. Names that are not ours are
            left alone.

        Raises
        ------
        SettingsError
            Naming every problem, each with what to write instead. Never holds the value of a secret.
        """
        read = _Reader(environment)
        redis_host, redis_port = read.host_and_port("REDIS_HOST", "localhost:6379")
        region, account_id = read.channel("CHANNEL_ARN")
        has_token = read.is_given("KONG_ADMIN_TOKEN") or read.is_given("KONG_ADMIN_TOKEN_SECRET")
        settings = cls(
            kong_admin_api=read.url("KONG_ADMIN_API", "http://localhost:8001"),
            # Whoever gives a token and does not say otherwise wants it to be used.
            kong_needs_token=read.boolean("KONG_SUPERADMIN", default=has_token),
            kong_admin_token=read.secret("KONG_ADMIN_TOKEN"),
            kong_admin_token_secret=read.text("KONG_ADMIN_TOKEN_SECRET"),
            kong_root_ca=read.certificate("KONG_ROOT_CA"),
            redis_host=redis_host,
            redis_port=redis_port,
            redis_db=read.number("REDIS_DB", default=0, lowest=0, highest=1_000_000),
            redis_tls=read.boolean("REDIS_TLS", default=False),
            redis_username=read.text("REDIS_USERNAME"),
            redis_password=read.secret("REDIS_PASSWORD"),
            redis_password_secret=read.text("REDIS_PASSWORD_SECRET"),
            redis_iam_cache=read.matching("REDIS_IAM_CACHE", _CACHE_NAME, "the name of an ElastiCache cache"),
            redis_serverless=read.boolean("REDIS_SERVERLESS", default=False),
            channel_arn=read.text("CHANNEL_ARN") or "",
            channel_region=region,
            channel_account_id=account_id,
            external_id=read.matching("EXTERNAL_ID", _EXTERNAL_ID, "2 to 1224 letters, digits or _+=,.@:/-"),
            map_status_to_error_code=read.boolean("MAP_STATUS_TO_ERROR_CODE", default=False),
            source_name=read.source_name("SOURCE_NAME"),
            ledger=read.ledger("LEDGER"),
            overlap_seconds=read.number("OVERLAP_SECONDS", default=900, lowest=0, highest=2_592_000),
            initial_lookback_seconds=read.optional_number("INITIAL_LOOKBACK_SECONDS", lowest=1, highest=10**10),
            sweep_seconds=read.sweep_seconds("SWEEP_SECONDS"),
            page_size=read.number("PAGE_SIZE", default=1000, lowest=1, highest=1000),
            parallel_deliveries=read.number("PARALLEL_DELIVERIES", default=8, lowest=1, highest=64),
        )
        if settings.kong_needs_token and not has_token:
            read.problem(
                "KONG_SUPERADMIN is true, but there is no token: set KONG_ADMIN_TOKEN_SECRET to the ARN or name of a "
                "Secrets Manager secret that holds it (outside AWS: KONG_ADMIN_TOKEN to the token itself)."
            )
        if settings.redis_iam_cache is not None:
            read.iam(settings)
        read.finish()
        return settings


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """What it takes to look into a ledger.

    Parameters
    ----------
    place
        ``s3://bucket/prefix``, or a folder; ``None`` if none is set.
    source_name
        Name of the source.
    """

    place: str | None
    source_name: str

    @classmethod
    def from_mapping(cls, environment: Mapping[str, str]) -> LedgerSettings:
        """Parse environment variables. As `Settings.from_mapping`."""
        read = _Reader(environment)
        settings = cls(read.ledger("LEDGER"), read.source_name("SOURCE_NAME"))
        read.finish()
        return settings


class _Reader:
    """Reads single variables and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._problems: list[str] = []

    def problem(self, sentence: str) -> None:
        self._problems.append(sentence)

    def finish(self) -> None:
        if self._problems:
            raise SettingsError(self._problems)

    def iam(self, settings: Settings) -> None:
        """Check what belongs to IAM authentication."""
        if settings.redis_username is None or not settings.redis_tls:
            self.problem(
                "REDIS_IAM_CACHE is set, which also needs REDIS_USERNAME, the user of the cache that signs in, and "
                "REDIS_TLS=true."
            )
        if settings.redis_password is not None or settings.redis_password_secret is not None:
            self.problem("REDIS_IAM_CACHE signs in without a password: leave REDIS_PASSWORD and its secret out.")

    def is_given(self, name: str) -> bool:
        return self.text(name) is not None

    def text(self, name: str) -> str | None:
        return self._environment.get(name, "").strip() or None

    def secret(self, name: str) -> Secret | None:
        value = self.text(name)
        return None if value is None else Secret(value)

    def boolean(self, name: str, *, default: bool) -> bool:
        value = (self.text(name) or str(default)).lower()
        if value not in _TRUE | _FALSE:
            self.problem(f"{name} is neither true nor false: write one of the two.")
        return value in _TRUE

    def number(self, name: str, *, default: int, lowest: int, highest: int) -> int:
        value = self.optional_number(name, lowest=lowest, highest=highest)
        return default if value is None else value

    def optional_number(self, name: str, *, lowest: int, highest: int) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if re.fullmatch(r"[0-9]{1,12}", value) is None or not lowest <= int(value) <= highest:
            self.problem(f"{name} is not a whole number from {lowest} to {highest}: write one, without a unit.")
            return lowest
        return int(value)

    def sweep_seconds(self, name: str) -> int:
        value = self.text(name) or str(_DEFAULT_SWEEP_SECONDS)
        if re.fullmatch(r"[0-9]{1,7}", value) is None or not (
            int(value) == 0 or _SHORTEST_SWEEP_SECONDS <= int(value) <= _LONGEST_SWEEP_SECONDS
        ):
            self.problem(
                f"{name} is neither 0, for no sweeps, nor a whole number from {_SHORTEST_SWEEP_SECONDS} to "
                f"{_LONGEST_SWEEP_SECONDS}: write one of the two, without a unit."
            )
            return _DEFAULT_SWEEP_SECONDS
        return int(value)

    def matching(self, name: str, pattern: re.Pattern[str], description: str) -> str | None:
        value = self.text(name)
        if value is not None and pattern.fullmatch(value) is None:
            self.problem(f"{name} holds something else than {description}.")
        return value

    def url(self, name: str, default: str) -> str:
        value = self.text(name) or default
        example = "https://kong-admin.example.com:8444"
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018 - raises for a port that is none
        except ValueError:
            self.problem(f"{name} is not a URL: write scheme, host and port, such as {example}.")
            return value
        if parts.scheme not in ("http", "https") or not parts.hostname:
            self.problem(f"{name} needs a scheme and a host: write e.g. {example}.")
        if parts.username is not None or parts.password is not None:
            self.problem(f"{name} holds credentials: leave them out of the URL and use KONG_ADMIN_TOKEN_SECRET.")
        if parts.query or parts.fragment:
            self.problem(f"{name} has a query string or fragment: leave it out, only a base path may follow the port.")
        return value.rstrip("/")

    def host_and_port(self, name: str, default: str) -> tuple[str, int]:
        value = self.text(name) or default
        try:
            parts = urlsplit(f"//{value}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or port is None or parts.path or parts.username is not None:
            self.problem(f"{name} is not host:port: write e.g. localhost:6379.")
        return host or "", port or 0

    def channel(self, name: str) -> tuple[str, str]:
        example = "arn:aws:cloudtrail:us-east-1:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef"
        value = self.text(name)
        match = _CHANNEL_ARN.fullmatch(value or "")
        if match is None:
            what = f"{name} is not set" if value is None else f"{name} is not the ARN of a CloudTrail channel"
            self.problem(f"{what}: write it as CloudTrail shows it, e.g. {example}.")
            return "", ""
        return match["region"], match["account"]

    def certificate(self, name: str) -> str | None:
        value = self.text(name)
        if value is None or value.lower() in _NOTHING:
            return None
        if "-----BEGIN" not in value:
            try:
                value = Path(value).read_text(encoding="utf-8", errors="replace")
            except (OSError, ValueError):
                value = ""
        certificates = "\n".join(_CERTIFICATE.findall(value))  # without comments, which may hold anything
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificates)
        except (ssl.SSLError, ValueError):
            self.problem(
                f"{name} is neither a PEM certificate nor a file that holds one, or it is damaged: give the "
                "certificate of the CA that signed the Admin API's, or leave the variable empty to trust the public "
                "CAs."
            )
        return certificates

    def source_name(self, name: str) -> str:
        return self.matching(name, _SOURCE_NAME, "up to 64 letters, digits or ._-") or "kong"

    def ledger(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and "://" in value and re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{2,62}(/.*)?", value) is None:
            self.problem(f"{name} is neither s3://bucket/prefix nor a folder: write one of the two.")
        return value
