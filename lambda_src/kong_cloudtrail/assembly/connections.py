"""The clients of the services, and where ledgers and archives are kept."""

from __future__ import annotations

import atexit
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import redis
from botocore.exceptions import BotoCoreError

from ..destinations import cloudtrail, cloudwatch_logs
from ..destinations.archive.folder import FolderParts
from ..destinations.archive.part_log import PartLog, PartStore
from ..destinations.archive.s3 import S3Parts
from ..destinations.cloudtrail.destination import CloudTrailLake
from ..destinations.cloudwatch_logs.destination import CloudWatchLogs
from ..destinations.cloudwatch_logs.destination import connect as connect_logs
from ..domain.trail import Trail
from ..errors import SettingsError
from ..ports import ObjectStore
from ..runtime.redaction import Redactor
from ..runtime.secrets import Secrets
from ..runtime.signing import KmsSigner
from ..settings import Settings
from ..state.elasticache_iam import ElastiCacheIam
from ..state.folder_store import FolderStore
from ..state.ledger import Ledger
from ..state.s3_store import S3Store
from ..state.valkey import connect
from .trails import SystemClock

if TYPE_CHECKING:
    from mypy_boto3_logs.client import CloudWatchLogsClient

_T = TypeVar("_T")

DEFAULT_LEDGER = "./ledger"
"""Where quarantine and originals go if LEDGER is not set. No checkpoint is kept there: a folder that happens to be in
the working directory must not decide what is read."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Time-outs for each service but Kong (`sources.kong.http`). `run.guard` decides when something new may begin.

    A service that hangs makes the run fail, and the run has to end before its time is used up. So the less time it has,
    the shorter the time-outs.

    Parameters
    ----------
    cache_seconds
        For Valkey: for a connection, and for each answer, once. If it hangs, a run waits for two answers (its own, and
        one that another delivery has begun to wait for in the meantime) and for `release_seconds`.
    release_seconds
        For the release of the lock.
    connect_seconds, answer_seconds
        For CloudTrail and CloudWatch Logs: for a connection, and for each part of an answer. Near the end of a run, a
        call is waited for only until the run has to end.
    ledger_connect_seconds, ledger_answer_seconds
        For S3 and for Secrets Manager: the same, in each of three attempts.
    """

    cache_seconds: float
    release_seconds: float
    connect_seconds: float
    answer_seconds: float
    ledger_connect_seconds: float
    ledger_answer_seconds: float

    @classmethod
    def within(cls, budget_seconds: float) -> Limits:
        """Return the limits for a run with this time budget."""
        # The budgets of a function's invocations differ by milliseconds; that is no reason for new connections.
        seconds = math.floor(2 * min(budget_seconds, 900.0)) / 2
        return cls(
            cache_seconds=_between(0.4, seconds / 12, 3.0),
            release_seconds=_between(0.2, seconds / 30, 0.5),
            connect_seconds=_between(0.5, seconds / 10, 5.0),
            answer_seconds=_between(1.0, seconds / 3, 15.0),
            ledger_connect_seconds=_between(0.3, seconds / 30, 3.0),
            ledger_answer_seconds=_between(0.3, seconds / 20, 5.0),
        )


def _between(least: float, value: float, most: float) -> float:
    return max(least, min(value, most))


class Connections:
    """The clients of the services, created when they are first used, with the time-outs of `limits`.

    Parameters
    ----------
    settings
        Addresses and credentials.
    limits
        The time-outs.
    redactor
        Gets every secret that is read.
    """

    def __init__(self, settings: Settings, limits: Limits, redactor: Redactor) -> None:
        self._settings = settings
        self.limits = limits
        self._redactor = redactor
        self._lakes: dict[str, CloudTrailLake] = {}
        self._part_logs: dict[str, PartLog] = {}

    @cached_property
    def cache(self) -> redis.Redis:
        """The connections to Valkey. Raises `SecretUnavailable`."""
        settings = self._settings
        password = settings.redis_password.value if settings.redis_password else None
        if settings.redis_password_secret is not None:
            password = self.secrets.read(settings.redis_password_secret)
        return connect(
            settings.redis_host,
            settings.redis_port,
            db=settings.redis_db,
            tls=settings.redis_tls,
            username=settings.redis_username,
            password=password,
            credentials=self._cache_token,
            # One for each batch that may mark something, for the record of the invocation, and for each run or slice of
            # a backfill two: for the current page, and for the lock.
            connections=4 * settings.parallel_deliveries + 1,
            command_seconds=self.limits.cache_seconds,
        )

    @property
    def _cache_token(self) -> ElastiCacheIam | None:
        settings = self._settings
        # A channel, or a log group, is in the region where everything is.
        place = settings.channel or settings.log_group
        if settings.redis_iam_cache is None or settings.redis_username is None or place is None:
            return None
        return ElastiCacheIam(
            settings.redis_username,
            settings.redis_iam_cache,
            place.region,
            serverless=settings.redis_serverless,
        )

    @cached_property
    def store(self) -> ObjectStore:
        """Where the ledgers are."""
        return open_store(self._settings.ledger, self.limits)

    def cloudtrail_lake(self, stream: str) -> CloudTrailLake:
        """Return CloudTrail Lake as the destination of a stream."""
        if stream not in self._lakes:
            self._lakes[stream] = self._new_lake(stream)
        return self._lakes[stream]

    def _new_lake(self, stream: str) -> CloudTrailLake:
        settings = self._settings
        channel = settings.channel
        if channel is None:
            raise SettingsError(["CHANNEL_ARN: is missing"])
        ledger = Ledger(self.store, Trail(settings.source_name, stream, cloudtrail.NAME), SystemClock())
        return with_aws(
            lambda: CloudTrailLake(
                channel.arn,
                channel.region,
                channel.account_id,
                stream=stream,
                external_id=settings.external_id,
                map_status_to_error_code=settings.map_status_to_error_code,
                locate_original=ledger.locate_original,
                connections=settings.parallel_deliveries,
                connect_seconds=self.limits.connect_seconds,
                answer_seconds=self.limits.answer_seconds,
            )
        )

    def cloudwatch_logs(self, stream: str) -> CloudWatchLogs:
        """Return CloudWatch Logs as the destination of a stream, anew for each run: what one has learned may change."""
        settings = self._settings
        group = settings.log_group
        if group is None:
            raise SettingsError(["LOG_GROUP: is missing"])
        ledger = Ledger(self.store, Trail(settings.source_name, stream, cloudwatch_logs.NAME), SystemClock())
        days = settings.log_group_retention_days
        return CloudWatchLogs(
            self._logs_client,
            group.name,
            group.account_id,
            settings.source_name,
            stream,
            retention_seconds=None if days is None else days * 86_400,
            locate_original=ledger.locate_original,
            event_format=settings.log_group_format,
            map_status_to_error_code=settings.map_status_to_error_code,
        )

    @cached_property
    def _logs_client(self) -> CloudWatchLogsClient:
        settings, limits = self._settings, self.limits
        return with_aws(
            lambda: connect_logs(
                "" if settings.log_group is None else settings.log_group.region,
                connections=settings.parallel_deliveries,
                connect_seconds=limits.connect_seconds,
                answer_seconds=limits.answer_seconds,
            )
        )

    def part_log(self, stream: str) -> PartLog:
        """Return the part log of a stream in the archive."""
        if stream not in self._part_logs:
            settings = self._settings
            self._part_logs[stream] = PartLog(
                self.part_store, settings.source_name, stream, workers=settings.parallel_deliveries
            )
        return self._part_logs[stream]

    @cached_property
    def part_store(self) -> PartStore:
        """Where the parts of the archive are."""
        settings = self._settings
        return open_archive(settings.archive or "", self.limits, connections=2 * settings.parallel_deliveries)

    @cached_property
    def signer(self) -> KmsSigner:
        """The key that signs the run reports of the archive."""
        return with_aws(
            lambda: KmsSigner(
                self._settings.archive_signing_key or "",
                connect_seconds=self.limits.ledger_connect_seconds,
                answer_seconds=self.limits.ledger_answer_seconds,
            )
        )

    @cached_property
    def secrets(self) -> Secrets:
        """Secrets Manager."""
        return with_aws(
            lambda: Secrets(
                self._redactor.conceal,
                connect_seconds=self.limits.ledger_connect_seconds,
                answer_seconds=self.limits.ledger_answer_seconds,
            )
        )

    @cached_property
    def kong_root_ca_path(self) -> str | None:
        """The CA's certificate as a file, the only form that requests accepts."""
        return None if self._settings.kong_root_ca is None else _as_file(self._settings.kong_root_ca)

    def kong_token(self, fresh: bool) -> str | None:
        """Return the token for the Admin API, and read it again if it has to be fresh. Raises `SecretUnavailable`."""
        settings = self._settings
        if not settings.kong_needs_token:
            return None
        if settings.kong_admin_token_secret is not None:
            return self.secrets.read(settings.kong_admin_token_secret, fresh=fresh)
        return settings.kong_admin_token.value if settings.kong_admin_token else None

    def close(self) -> None:
        """Close the connections to Valkey; the others are closed when they are garbage-collected."""
        if "cache" in self.__dict__:
            self.cache.close()
        for part_log in self._part_logs.values():
            part_log.close()


def open_store(place: str | None, limits: Limits | None = None) -> ObjectStore:
    """Return the store of ledgers. Raises `SettingsError` if the AWS configuration cannot be used."""
    limits = limits or Limits.within(math.inf)
    if place is None or "://" not in place:
        return FolderStore(place or DEFAULT_LEDGER)
    return with_aws(
        lambda: S3Store(
            place,
            connect_seconds=limits.ledger_connect_seconds,
            answer_seconds=limits.ledger_answer_seconds,
        )
    )


def open_archive(place: str, limits: Limits | None = None, *, connections: int = 10) -> PartStore:
    """Return the store of an archive's parts. Raises `SettingsError` if the AWS configuration cannot be used."""
    limits = limits or Limits.within(math.inf)
    if "://" not in place:
        return FolderParts(place)
    return with_aws(
        lambda: S3Parts(
            place,
            connections=connections,
            connect_seconds=limits.connect_seconds,
            answer_seconds=limits.answer_seconds,
        )
    )


@cache
def _as_file(text: str) -> str:
    """Write a text to a temporary file that is removed when the process exits. Each text is written once."""
    folder = Path(tempfile.mkdtemp(prefix="kong-cloudtrail-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "certificates.pem"
    path.write_text(text, encoding="ascii")
    return str(path)


def with_aws(make: Callable[[], _T]) -> _T:
    """Create a client that needs boto3's own configuration: profile, region, files."""
    try:
        return make()
    except (BotoCoreError, ValueError) as error:  # botocore raises ValueError for a malformed endpoint
        problem = (
            f"The AWS configuration cannot be used: {str(error).rstrip('.')}. Check AWS_PROFILE, AWS_REGION and "
            "AWS_ENDPOINT_URL…, and the files that they refer to."
        )
        raise SettingsError([problem]) from None
