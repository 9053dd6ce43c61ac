"""Puts the parts together as the settings say. Used by both composition roots, ``handler`` and ``__main__``."""

from __future__ import annotations

import atexit
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

import redis
from botocore.exceptions import BotoCoreError

from .adapters.cloudtrail import CloudTrailDestination
from .adapters.elasticache_iam import ElastiCacheIam
from .adapters.folder_store import FolderStore
from .adapters.kong import KongAuditSource
from .adapters.redaction import Redactor
from .adapters.s3_store import S3Store
from .adapters.secrets import Secrets
from .adapters.valkey import ValkeyLock, ValkeySeenSet, connect
from .collector import Collector, Plan
from .domain.event import EventMapper, Gateway
from .errors import SettingsError
from .guard import FOR_DELIVERING, FOR_READING, RunGuard
from .ledger import Ledger
from .ports import ObjectStore, Telemetry, TimeBudget
from .release import QuarantineRelease
from .settings import LedgerSettings, Settings

_T = TypeVar("_T")

DEFAULT_LEDGER = "./ledger"
"""Where quarantine and originals go if LEDGER is not set. No checkpoint is kept there: a folder that merely happens to
lie in the working directory must not decide what is read."""


class SystemClock:
    """The machine's time."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


class UnlimitedTime:
    """The time budget of a laptop."""

    def remaining_seconds(self) -> float:
        """Return infinity."""
        return math.inf


class Assembly:
    """What outlives a run: connections, and secrets for a while.

    Parameters
    ----------
    settings
        What to build.
    redactor
        Told of every secret.
    owner, is_gone
        As in `ValkeyLock`.
    """

    def __init__(
        self,
        settings: Settings,
        redactor: Redactor,
        *,
        owner: str = "",
        is_gone: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.settings = settings
        self._owner = owner
        self._is_gone = is_gone
        self._redactor = redactor
        self._clock = SystemClock()
        for secret in (settings.kong_admin_token, settings.redis_password):
            if secret is not None:
                redactor.conceal(secret.value)

    def collector(self, telemetry: Telemetry, budget: TimeBudget) -> Collector:
        """Return what does one run.

        Raises
        ------
        SecretUnavailable
            If the cache's password cannot be read.
        """
        settings = self.settings
        lock = ValkeyLock(self.cache, settings.source_name, self._clock, owner=self._owner, is_gone=self._is_gone)
        reading_guard = RunGuard(budget, lock, self._clock, FOR_READING)
        source = KongAuditSource(
            settings.kong_admin_api,
            token=self._kong_token,
            root_ca=self._kong_root_ca_path,
            page_size=settings.page_size,
            clock=self._clock,
            sleep=reading_guard.sleep,
            remaining_seconds=reading_guard.remaining_seconds,
        )
        plan = Plan(
            source=settings.source_name,
            keep_checkpoint=settings.ledger is not None,
            overlap_seconds=settings.overlap_seconds,
            settle_seconds=settings.settle_seconds,
            initial_lookback_seconds=settings.initial_lookback_seconds,
            parallel_deliveries=settings.parallel_deliveries,
        )
        return Collector(
            plan,
            source=source,
            seen=ValkeySeenSet(self.cache, settings.source_name, lock),
            destination=self._destination,
            ledger=self.ledger,
            lock=lock,
            mapper=self._mapper,
            reading_guard=reading_guard,
            delivery_guard=RunGuard(budget, lock, self._clock, FOR_DELIVERING),
            telemetry=telemetry,
            clock=self._clock,
        )

    def quarantine_release(self) -> QuarantineRelease:
        """Return what delivers the entries in quarantine. Needs neither Kong nor the cache."""
        return QuarantineRelease(self.ledger, self._destination, self._mapper)

    def _mapper(self, gateway: Gateway) -> EventMapper:
        return EventMapper(
            gateway,
            self.settings.channel_account_id,
            self.ledger.locate_original,
            map_status_to_error_code=self.settings.map_status_to_error_code,
        )

    @cached_property
    def cache(self) -> redis.Redis:
        """The connections to Valkey. Raises `SecretUnavailable`."""
        settings = self.settings
        password = settings.redis_password.value if settings.redis_password else None
        if settings.redis_password_secret is not None:
            password = self._secrets.read(settings.redis_password_secret)
        return connect(
            settings.redis_host,
            settings.redis_port,
            db=settings.redis_db,
            tls=settings.redis_tls,
            username=settings.redis_username,
            password=password,
            credentials=self._cache_token,
            # One for each delivery, for the page at hand, for the lock, and for the guard of the invocation.
            connections=settings.parallel_deliveries + 3,
        )

    @property
    def _cache_token(self) -> ElastiCacheIam | None:
        settings = self.settings
        if settings.redis_iam_cache is None or settings.redis_username is None:
            return None
        return ElastiCacheIam(
            settings.redis_username,
            settings.redis_iam_cache,
            settings.channel_region,  # a channel takes events in its own region only, so everything is there
            serverless=settings.redis_serverless,
        )

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of the source."""
        return open_ledger(LedgerSettings(self.settings.ledger, self.settings.source_name))

    @cached_property
    def _destination(self) -> CloudTrailDestination:
        settings = self.settings
        return _with_aws(
            lambda: CloudTrailDestination(
                settings.channel_arn,
                settings.channel_region,
                external_id=settings.external_id,
                connections=settings.parallel_deliveries,
            )
        )

    @cached_property
    def _secrets(self) -> Secrets:
        return _with_aws(lambda: Secrets(self._redactor.conceal))

    @cached_property
    def _kong_root_ca_path(self) -> str | None:
        """The CA's certificate as a file, the only form that requests takes."""
        if self.settings.kong_root_ca is None:
            return None
        return _as_file(self.settings.kong_root_ca)

    def _kong_token(self, fresh: bool) -> str | None:
        settings = self.settings
        if not settings.kong_needs_token:
            return None
        if settings.kong_admin_token_secret is not None:
            return self._secrets.read(settings.kong_admin_token_secret, fresh=fresh)
        return settings.kong_admin_token.value if settings.kong_admin_token else None


def open_ledger(settings: LedgerSettings) -> Ledger:
    """Return the ledger of a source. Raises `SettingsError` if boto3's own configuration cannot be used."""
    place = settings.place or DEFAULT_LEDGER
    store: ObjectStore = _with_aws(lambda: S3Store(place)) if place.startswith("s3://") else FolderStore(place)
    return Ledger(store, settings.source_name, SystemClock())


@cache
def _as_file(text: str) -> str:
    """Write a text to a file that goes with the process; once, however often a run fails and begins anew."""
    folder = Path(tempfile.mkdtemp(prefix="kong-cloudtrail-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "certificates.pem"
    path.write_text(text, encoding="ascii")
    return str(path)


def _with_aws(make: Callable[[], _T]) -> _T:
    """Make something that needs boto3's own configuration: profile, region, files."""
    try:
        return make()
    except BotoCoreError as error:
        problem = (
            f"The AWS configuration cannot be used: {str(error).rstrip('.')}. Check AWS_PROFILE and AWS_REGION, and "
            "the files that they refer to."
        )
        raise SettingsError([problem]) from None
