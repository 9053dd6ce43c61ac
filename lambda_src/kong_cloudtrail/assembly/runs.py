"""Builds what runs and other operations consist of, as the settings say.

What only other operations need is imported where it is built: a run in Lambda begins with these imports.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..destinations import archive, cloudtrail, cloudwatch_logs
from ..destinations.archive.destination import Archive
from ..destinations.archive.held import HeldEntries
from ..destinations.cloudtrail.limits import MAX_BATCH_EVENTS as MAX_EVENTS_IN_LAKE
from ..destinations.cloudwatch_logs.limits import MAX_BATCH_EVENTS as MAX_EVENTS_IN_LOGS
from ..domain.composing import uid_of
from ..domain.exclusion import Exclusion
from ..domain.moment import utc
from ..domain.trail import OBJECTS, REQUESTS, Trail
from ..errors import RequestInvalid
from ..ports import (
    CacheGauge,
    Destination,
    HeldLock,
    Inspector,
    Inventory,
    RunLock,
    SeenSet,
    Signer,
    SliceLock,
    Source,
    Telemetry,
    TimeBudget,
)
from ..run.collector import Collector
from ..run.guard import FOR_DELIVERING, FOR_READING, NoLock, RunGuard
from ..run.plan import Plan
from ..runtime.redaction import Redactor
from ..settings import Settings
from ..sources.kong.objects_stream import KongObjects
from ..sources.kong.own_reads import own_reads
from ..sources.kong.requests_stream import KongRequests
from ..sources.kong.stream import KongStream
from ..state.ledger import Ledger
from ..state.valkey import ValkeyLock, ValkeySeenSet, ValkeySliceLock
from .connections import Connections, Limits, with_aws
from .trails import SystemClock, trails_of

if TYPE_CHECKING:
    from ..domain.backfill import Range
    from ..run.slice import SliceRun

_MAX_BATCH_EVENTS = {cloudtrail.NAME: MAX_EVENTS_IN_LAKE, cloudwatch_logs.NAME: MAX_EVENTS_IN_LOGS}
_STREAMS: dict[str, type[KongStream]] = {REQUESTS: KongRequests, OBJECTS: KongObjects}


class Assembly:
    """Builds the parts of trails, and keeps what outlives a run: connections, and secrets for a while.

    Parameters
    ----------
    settings
        The settings.
    redactor
        Gets every secret that is read.
    """

    def __init__(self, settings: Settings, redactor: Redactor) -> None:
        self.settings = settings
        self.trails = trails_of(settings)
        self._redactor = redactor
        self._clock = SystemClock()
        self._connections: Connections | None = None
        for secret in (settings.kong_admin_token, settings.redis_password):
            if secret is not None:
                redactor.conceal(secret.value)

    def chosen(self, stream: object, destination: object) -> Sequence[Trail]:
        """Return the trails of a stream, and into a destination; ``None`` stands for all.

        Raises
        ------
        RequestInvalid
            If there are none.
        """
        chosen = [
            trail
            for trail in self.trails
            if stream in (None, trail.stream) and destination in (None, trail.destination)
        ]
        if not chosen:
            asked = " and ".join(
                f"{name} {value!r}" for name, value in (("stream", stream), ("destination", destination)) if value
            )
            known = ", ".join(f"{trail.stream} into {trail.destination}" for trail in self.trails)
            raise RequestInvalid([f"There is no trail with the {asked}. The trails are: {known}."])
        return chosen

    def connections(self, budget: TimeBudget) -> Connections:
        """Return the connections for a run with this time budget: the existing ones if the time-outs are the same."""
        limits = Limits.within(budget.remaining_seconds())
        if self._connections is None or self._connections.limits != limits:
            self.close()
            self._connections = Connections(self.settings, limits, self._redactor)
        return self._connections

    def keep_answer(self, verb: str, body: bytes, budget: TimeBudget) -> dict[str, Any]:
        """Keep the answer to a verb in the ledger, and return where it is, its size and its SHA-256."""
        moment = self._clock.now()
        name = f"answers/{self.settings.source_name}/{utc(int(moment))}-{verb}-{secrets.token_hex(4)}.json"
        store = self.connections(budget).store
        store.write(name, body)
        return {"place": store.locate(name), "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}

    def close(self) -> None:
        """Close all connections; new ones are made when they are needed."""
        if self._connections is not None:
            self._connections.close()
            self._connections = None

    def uses_cache(self, trail: Trail) -> bool:
        """Return whether the runs of a trail need the cache."""
        return trail.destination != archive.NAME

    def collector(self, trail: Trail, telemetry: Telemetry, budget: TimeBudget) -> Collector:
        """Return the collector for one run of a trail.

        Raises
        ------
        SecretUnavailable
            If the cache's password cannot be read.
        """
        return TrailParts(self.settings, trail, self.connections(budget), telemetry, budget).collector()

    def parts(self, trail: Trail, telemetry: Telemetry, budget: TimeBudget) -> TrailParts:
        """Return the parts of a trail for another operation, which works without the trail's lock."""
        return TrailParts(self.settings, trail, self.connections(budget), telemetry, budget, under_lock=False)


class TrailParts:
    """What one run of a trail, or another operation on it, consists of. Each part is made when it is first asked for.

    Parameters
    ----------
    settings
        The settings.
    trail
        The trail.
    connections
        The connections to the services.
    telemetry
        Log and metrics.
    budget
        The time that there is.
    under_lock
        Whether the parts work only as long as the trail's lock is held.
    """

    def __init__(
        self,
        settings: Settings,
        trail: Trail,
        connections: Connections,
        telemetry: Telemetry,
        budget: TimeBudget,
        *,
        under_lock: bool = True,
    ) -> None:
        self.trail = trail
        self.telemetry = telemetry
        self.budget = budget
        self.clock = SystemClock()
        self._settings = settings
        self._connections = connections
        self._under_lock = under_lock

    @cached_property
    def run_id(self) -> str:
        """The id of a new run: the time comes first, so that ids of later runs are greater."""
        return f"{int(self.clock.now()):08x}-{secrets.token_hex(4)}"

    @property
    def plan(self) -> Plan:
        """The settings that a run follows."""
        settings = self._settings
        return Plan(
            trail=self.trail,
            run_id=self.run_id,
            may_overlap=self._excludes_doubles,
            keep_checkpoint=settings.ledger is not None,
            overlap_seconds=settings.overlap_seconds,
            sweep_seconds=settings.sweep_seconds,
            initial_lookback_seconds=settings.initial_lookback_seconds,
            parallel_deliveries=settings.parallel_deliveries,
            exclusion=self.exclusion,
        )

    @cached_property
    def exclusion(self) -> Exclusion:
        """The rules that leave entries out."""
        # The rules are about requests. A change that an excluded request made is a change all the same.
        return exclusion_of(self._settings) if self.trail.stream == REQUESTS else Exclusion()

    @cached_property
    def source(self) -> Source:
        """The gateway."""
        return self._source(self.reading_guard)

    def _source(self, guard: RunGuard) -> Source:
        connections, settings = self._connections, self._settings
        return _STREAMS[self.trail.stream](
            settings.kong_admin_api,
            token=connections.kong_token,
            root_ca=connections.kong_root_ca_path,
            page_size=settings.page_size,
            clock=self.clock,
            sleep=guard.sleep,
            remaining_seconds=guard.remaining_seconds,
        )

    @cached_property
    def destination(self) -> Destination:
        """The destination."""
        settings = self._settings
        if self.trail.destination == cloudtrail.NAME:
            return self._connections.cloudtrail_lake(self.trail.stream)
        if self.trail.destination == cloudwatch_logs.NAME:
            return self._connections.cloudwatch_logs(self.trail.stream)
        return Archive(
            self._connections.part_log(self.trail.stream),
            self.trail.source,
            self.trail.stream,
            self.run_id,
            line_format=settings.archive_format,
            recipient_account_id=settings.archive_account_id,
            map_status_to_error_code=settings.map_status_to_error_code,
        )

    @cached_property
    def seen(self) -> SeenSet:
        """Which entries were delivered. Needs the cache, unless the destination knows. Raises `SecretUnavailable`."""
        if self._excludes_doubles:
            return HeldEntries(self._connections.part_log(self.trail.stream), self.delivery_guard.seconds_to_end)
        return self._marks(self._valkey_lock if self._under_lock else None)

    def _marks(self, lock: ValkeyLock | ValkeySliceLock | None) -> ValkeySeenSet:
        marks_in_flight = 2 * self._settings.parallel_deliveries * _MAX_BATCH_EVENTS[self.trail.destination]
        return ValkeySeenSet(self._connections.cache, self.trail, lock, marks_in_flight=marks_in_flight)

    @property
    def lock(self) -> RunLock:
        """The lock of the trail. Raises `SecretUnavailable`."""
        return NoLock() if self._excludes_doubles else self._valkey_lock

    @property
    def cache_gauge(self) -> CacheGauge | None:
        """Measures the cache; ``None`` if the trail needs none. Raises `SecretUnavailable`."""
        from ..state.cache_checkup import ValkeyGauge

        return None if self._excludes_doubles else ValkeyGauge(self._connections.cache)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of the trail."""
        return Ledger(self._connections.store, self.trail, self.clock, self._signer)

    @cached_property
    def inventory(self) -> Inventory:
        """What the destination holds. Raises `SecretUnavailable` if that is known by marks only."""
        from ..destinations.archive.inventory import ArchiveInventory
        from ..destinations.cloudtrail.inventory import LakeInventory
        from ..state.marked import MarkedEntries

        connections = self._connections
        if self.trail.destination == archive.NAME:
            return ArchiveInventory(connections.part_store, self.trail.source, self.trail.stream)
        settings = self._settings
        store, channel = settings.event_data_store, settings.channel
        if self.trail.destination != cloudtrail.NAME or store is None or channel is None:
            return MarkedEntries(self.seen)
        return with_aws(
            lambda: LakeInventory(
                store.arn,
                store.region,
                channel.arn,
                uid_of=uid_of(self.trail.stream),
                estimate_bytes=self.ledger.delivered_bytes,
                sleep=self.reading_guard.sleep,
                connect_seconds=connections.limits.connect_seconds,
                answer_seconds=connections.limits.answer_seconds,
            )
        )

    @property
    def inspector(self) -> Inspector | None:
        """Inspects the parts of the destination; ``None`` if it keeps none."""
        from ..destinations.archive.inspection import ArchiveInspector

        if self.trail.destination != archive.NAME:
            return None
        return ArchiveInspector(self._connections.part_store, self.trail.source, self.trail.stream)

    @cached_property
    def reading_guard(self) -> RunGuard:
        """Asked before each page."""
        return RunGuard(self.budget, self._checked_lock, self.clock, FOR_READING)

    @cached_property
    def delivery_guard(self) -> RunGuard:
        """Asked before each batch."""
        return RunGuard(self.budget, self._checked_lock, self.clock, FOR_DELIVERING)

    def collector(self) -> Collector:
        """Return the collector for one run. Raises `SecretUnavailable`."""
        return Collector(
            self.plan,
            source=self.source,
            seen=self.seen,
            destination=self.destination,
            ledger=self.ledger,
            lock=self.lock,
            reading_guard=self.reading_guard,
            delivery_guard=self.delivery_guard,
            telemetry=self.telemetry,
            clock=self.clock,
        )

    def slice_run(self, backfill: Range, part: Range, parallel_deliveries: int) -> SliceRun:
        """Return what delivers a slice of a backfill, with a lock and a reading of its own.

        Raises
        ------
        SecretUnavailable
            If the cache's password cannot be read.
        """
        from ..run.slice import SliceRun

        seen: SeenSet = self.seen
        lock: SliceLock = NoLock()
        if not self._excludes_doubles:
            connections = self._connections
            seconds = connections.limits.release_seconds
            lock = ValkeySliceLock(connections.cache, self.trail, backfill, part, self.clock, release_seconds=seconds)
            seen = self._marks(lock)
        reading_guard = RunGuard(self.budget, lock, self.clock, FOR_READING)
        return SliceRun(
            replace(self.plan, parallel_deliveries=parallel_deliveries),
            backfill,
            part,
            source=self._source(reading_guard),
            seen=seen,
            destination=self.destination,
            ledger=self.ledger,
            lock=lock,
            reading_guard=reading_guard,
            delivery_guard=RunGuard(self.budget, lock, self.clock, FOR_DELIVERING),
            telemetry=self.telemetry,
            clock=self.clock,
        )

    @property
    def _excludes_doubles(self) -> bool:
        """Whether the destination excludes doubles by itself, and needs neither marks nor a lock."""
        return self.trail.destination == archive.NAME

    @property
    def _checked_lock(self) -> HeldLock:
        return self.lock if self._under_lock else NoLock()

    @cached_property
    def _valkey_lock(self) -> ValkeyLock:
        connections = self._connections
        return ValkeyLock(connections.cache, self.trail, self.clock, release_seconds=connections.limits.release_seconds)

    @property
    def _signer(self) -> Signer | None:
        if self.trail.destination != archive.NAME or self._settings.archive_signing_key is None:
            return None
        return self._connections.signer


def exclusion_of(settings: Settings) -> Exclusion:
    """Return the rules that leave entries out."""
    user = settings.exclude_own_reads
    return Exclusion.of(
        methods=settings.exclude_methods,
        paths=settings.exclude_paths,
        statuses=settings.exclude_statuses,
        further=[] if user is None else [own_reads(user, settings.kong_admin_api)],
    )
