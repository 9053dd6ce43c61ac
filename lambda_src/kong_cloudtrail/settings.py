"""The function's settings, read from environment variables once, every problem reported at once."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from . import variables
from .errors import SettingsError
from .variables import (
    ARCHIVE,
    CLOUDTRAIL_LAKE,
    CLOUDWATCH_LOGS,
    Address,
    Channel,
    EventDataStore,
    InvalidValue,
    Items,
    LogGroup,
    Names,
    Variable,
)

_T = TypeVar("_T")

_MASKED = "***"
_PLACES = {
    ARCHIVE: "set ARCHIVE to s3://bucket/prefix or a folder",
    CLOUDTRAIL_LAKE: f"set CHANNEL_ARN to the ARN of a channel, e.g. {variables.EXAMPLE_CHANNEL_ARN}",
    CLOUDWATCH_LOGS: f"set LOG_GROUP to the ARN of a log group, e.g. {variables.EXAMPLE_LOG_GROUP}",
}
"""What to do for each destination that lacks its place."""

_NOT_SHOWN = frozenset(
    {
        "EXTERNAL_ID",
        "KONG_ADMIN_TOKEN_SECRET",
        "KONG_ROOT_CA",
        "REDIS_PASSWORD_SECRET",
        "REDIS_USERNAME",
    }
)
"""Variables that are no secrets themselves, and that an auditor has no use for."""


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
    destinations: tuple[str, ...]
    streams: tuple[str, ...]
    channel: Channel | None
    external_id: str | None
    event_data_store: EventDataStore | None
    archive: str | None
    archive_format: str
    archive_account_id: str | None
    archive_signing_key: str | None
    log_group: LogGroup | None
    log_group_format: str
    log_group_retention_days: int | None
    map_status_to_error_code: bool
    source_name: str
    ledger: str | None
    overlap_seconds: int
    initial_lookback_seconds: int | None
    sweep_seconds: int
    page_size: int
    parallel_deliveries: int
    exclude_methods: tuple[str, ...]
    exclude_paths: tuple[str, ...]
    exclude_statuses: tuple[str, ...]
    exclude_own_reads: str | None

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
        settings, problems = cls.as_far_as_readable(environment)
        if problems:
            raise SettingsError(problems)
        return settings

    @classmethod
    def as_far_as_readable(cls, environment: Mapping[str, str]) -> tuple[Settings, tuple[str, ...]]:
        """Parse environment variables, to check what can be checked in spite of wrong ones.

        Returns
        -------
        Settings
            A wrong value is the empty one of its kind.
        tuple of str
            Every problem, as in `SettingsError`. Each begins with the variable's name and a colon.
        """
        read = _Reader(environment)
        cache = read.value(variables.REDIS_HOST) or Address("", 0)
        channel = read.value(variables.CHANNEL_ARN)
        archive = read.value(variables.ARCHIVE_PLACE)
        has_token = read.is_given(variables.KONG_ADMIN_TOKEN) or read.is_given(variables.KONG_ADMIN_TOKEN_SECRET)
        needs_token = read.value(variables.KONG_SUPERADMIN)
        read.value(variables.LOG_LEVEL)  # only checked here: the logger is made before
        settings = cls(
            kong_admin_api=str(read.value(variables.KONG_ADMIN_API) or ""),
            # Whoever gives a token and does not say otherwise wants it to be used.
            kong_needs_token=has_token if needs_token is None else needs_token,
            kong_admin_token=read.secret(variables.KONG_ADMIN_TOKEN),
            kong_admin_token_secret=read.value(variables.KONG_ADMIN_TOKEN_SECRET),
            kong_root_ca=read.value(variables.KONG_ROOT_CA),
            redis_host=cache.host,
            redis_port=cache.port,
            redis_db=read.value(variables.REDIS_DB) or 0,
            redis_tls=read.value(variables.REDIS_TLS) or False,
            redis_username=read.value(variables.REDIS_USERNAME),
            redis_password=read.secret(variables.REDIS_PASSWORD),
            redis_password_secret=read.value(variables.REDIS_PASSWORD_SECRET),
            redis_iam_cache=read.value(variables.REDIS_IAM_CACHE),
            redis_serverless=read.value(variables.REDIS_SERVERLESS) or False,
            destinations=read.destinations(),
            streams=read.streams(),
            channel=channel,
            external_id=read.value(variables.EXTERNAL_ID),
            event_data_store=read.value(variables.EVENT_DATA_STORE),
            archive=archive,
            archive_format=read.value(variables.ARCHIVE_FORMAT) or "",
            archive_account_id=read.value(variables.ARCHIVE_ACCOUNT_ID),
            archive_signing_key=read.value(variables.ARCHIVE_SIGNING_KEY),
            log_group=read.value(variables.LOG_GROUP),
            log_group_format=read.value(variables.LOG_GROUP_FORMAT) or "",
            log_group_retention_days=read.value(variables.LOG_GROUP_RETENTION_DAYS),
            map_status_to_error_code=read.value(variables.MAP_STATUS_TO_ERROR_CODE) or False,
            source_name=read.value(variables.SOURCE_NAME) or "",
            ledger=read.value(variables.LEDGER) or _ledger_beside(archive),
            overlap_seconds=read.value(variables.OVERLAP_SECONDS) or 0,
            initial_lookback_seconds=read.value(variables.INITIAL_LOOKBACK_SECONDS),
            sweep_seconds=read.value(variables.SWEEP_SECONDS) or 0,
            page_size=read.value(variables.PAGE_SIZE) or 0,
            parallel_deliveries=read.value(variables.PARALLEL_DELIVERIES) or 0,
            exclude_methods=read.items(variables.EXCLUDE_METHODS),
            exclude_paths=read.items(variables.EXCLUDE_PATHS),
            exclude_statuses=read.items(variables.EXCLUDE_STATUSES),
            exclude_own_reads=read.value(variables.EXCLUDE_OWN_READS),
        )
        if settings.kong_needs_token and not has_token:
            read.problem(
                variables.KONG_SUPERADMIN,
                "is true, but there is no token; set KONG_ADMIN_TOKEN_SECRET to the ARN or name of a Secrets Manager "
                "secret that holds it (outside AWS: KONG_ADMIN_TOKEN to the token itself)",
            )
        if settings.redis_iam_cache is not None:
            read.iam(settings)
        return settings, read.problems


@dataclass(frozen=True, slots=True)
class StoredTrails:
    """What it takes to look into what trails have stored: ledger and archive, without Kong and cache.

    Parameters
    ----------
    ledger
        ``s3://bucket/prefix``, or a folder; ``None`` if none is set.
    source_name
        Name of the source.
    streams, destinations
        The streams and destinations of its trails.
    archive
        Place of the archive, as `ledger`; ``None`` if none is set.
    archive_signing_key
        ARN of the key that signs run reports; ``None`` if there is none.
    """

    ledger: str | None
    source_name: str
    streams: tuple[str, ...]
    destinations: tuple[str, ...]
    archive: str | None
    archive_signing_key: str | None

    @classmethod
    def from_mapping(cls, environment: Mapping[str, str]) -> StoredTrails:
        """Parse environment variables. As `Settings.from_mapping`."""
        read = _Reader(environment)
        archive = read.value(variables.ARCHIVE_PLACE)
        settings = cls(
            read.value(variables.LEDGER) or _ledger_beside(archive),
            read.value(variables.SOURCE_NAME) or "",
            read.streams(),
            read.destinations(needs_place=False),
            archive,
            read.value(variables.ARCHIVE_SIGNING_KEY),
        )
        read.finish()
        return settings


def _ledger_beside(archive: str | None) -> str | None:
    """Return the ledger of an archive in a folder: a folder in it, so that a laptop needs one setting.

    Queries pass over names that begin with an underscore. In a bucket it would not do: the archive's are locked.
    """
    return None if archive is None or "://" in archive else f"{archive.rstrip('/')}/_ledger"


def shown_configuration(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are in force and may be shown, by name: those that are given, and defaults.

    Secrets are not among them, nor what only helps to get at one. A wrong value is none: a URL may hold a password.
    """
    shown = {}
    for variable in variables.TABLE:
        if variable.secret or variable.name in _NOT_SHOWN:
            continue
        text = (environment.get(variable.name) or "").strip() or variable.default
        with contextlib.suppress(InvalidValue):
            if variable.read(text) is not None and text:
                shown[variable.name] = text
    return dict(sorted(shown.items()))


def value_or_default(variable: Variable[_T], environment: Mapping[str, str]) -> _T | None:
    """Return the value of a variable, and its default also where the value is wrong.

    For what has to work before anybody can be told of wrong settings: the log, and the metric that tells of them.
    `Settings.from_mapping` reports a wrong value along with all others.
    """
    try:
        given = variable.read(environment.get(variable.name))
    except InvalidValue:
        given = None
    return variable.read(variable.default) if given is None else given


def destination_names(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the destinations as far as they can be read, for metrics about settings that are wrong."""
    return _Reader(environment).destinations()


def stream_names(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the streams as far as they can be read; as `destination_names`."""
    return (value_or_default(variables.STREAMS_READ, environment) or Names(())).names


class _Reader:
    """Reads single variables and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._problems: list[str] = []

    def problem(self, variable: Variable[_T], sentence: str) -> None:
        self._problems.append(f"{variable.name}: {sentence}.")

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(self._problems)

    def finish(self) -> None:
        if self._problems:
            raise SettingsError(self._problems)

    def is_given(self, variable: Variable[_T]) -> bool:
        return bool(self._environment.get(variable.name, "").strip())

    def value(self, variable: Variable[_T]) -> _T | None:
        """Return the value, else the default, else None. None also stands for a wrong value: `finish` raises then."""
        try:
            given = variable.read(self._environment.get(variable.name))
        except InvalidValue as error:
            self.problem(variable, str(error))
            return None
        return variable.read(variable.default) if given is None else given

    def items(self, variable: Variable[Items]) -> tuple[str, ...]:
        """Return the items of a list; none if it is not given."""
        found = self.value(variable)
        return () if found is None else found.items

    def destinations(self, *, needs_place: bool = True) -> tuple[str, ...]:
        """Return the names of the destinations that are asked for, else of those that have a place.

        To look into what was stored, nobody needs a channel or a log group.
        """
        places: Mapping[str, Variable[Any]] = {
            ARCHIVE: variables.ARCHIVE_PLACE,
            CLOUDTRAIL_LAKE: variables.CHANNEL_ARN,
            CLOUDWATCH_LOGS: variables.LOG_GROUP,
        }
        if self.is_given(variables.DESTINATION):
            names = (self.value(variables.DESTINATION) or Names(())).names
            for name in names:
                if not self.is_given(places[name]) and (needs_place or name == ARCHIVE):
                    self.problem(places[name], f"is missing, but DESTINATION names {name}; {_PLACES[name]}")
            return names
        names = tuple(name for name in places if self.is_given(places[name]))
        if not names:
            self.problem(
                variables.DESTINATION,
                "there is none. For an archive in S3, which every account can have, "
                f"{_PLACES[ARCHIVE]}. For CloudWatch Logs, {_PLACES[CLOUDWATCH_LOGS]}. For CloudTrail Lake, which "
                f"takes only customers who used it before 2026-05-31, {_PLACES[CLOUDTRAIL_LAKE]}",
            )
        return names

    def streams(self) -> tuple[str, ...]:
        """Return the names of the streams."""
        return (self.value(variables.STREAMS_READ) or Names(())).names

    def secret(self, variable: Variable[str]) -> Secret | None:
        value = self.value(variable)
        return None if value is None else Secret(value)

    def iam(self, settings: Settings) -> None:
        """Check what belongs to IAM authentication."""
        if settings.redis_username is None or not settings.redis_tls:
            self.problem(
                variables.REDIS_IAM_CACHE,
                "is set, which also needs REDIS_USERNAME, the user of the cache that signs in, and REDIS_TLS=true",
            )
        if settings.redis_password is not None or settings.redis_password_secret is not None:
            self.problem(
                variables.REDIS_IAM_CACHE, "signs in without a password; leave REDIS_PASSWORD and its secret out"
            )
