"""What operations work with: an installation of the collector, and the parts of its trails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..domain.backfill import Range
from ..domain.report_chain import IsSignedBy
from ..domain.trail import Trail
from ..ports import (
    AlarmHistory,
    BackfillLedger,
    CacheGauge,
    Check,
    Clock,
    Destination,
    Inspector,
    Inventory,
    Quarantine,
    Reconciliations,
    Reports,
    RunLock,
    SeenSet,
    Source,
    Telemetry,
    TimeBudget,
)
from ..run.collector import Collector
from ..run.guard import RunGuard
from ..run.plan import Plan
from ..run.slice import SliceRun


class TrailLedger(BackfillLedger, Quarantine, Reconciliations, Reports, Protocol):
    """The ledger of a trail, all of it."""


class StoredTrailParts(Protocol):
    """What a trail has stored. To look into it, neither the gateway nor the cache is needed."""

    @property
    def trail(self) -> Trail:
        """The trail."""

    @property
    def ledger(self) -> TrailLedger:
        """Its ledger."""

    @property
    def inspector(self) -> Inspector | None:
        """Inspects the parts of its destination; ``None`` if that keeps none."""


class TrailParts(StoredTrailParts, Protocol):
    """What an operation on a trail can consist of. Each part is made when it is first asked for.

    The parts work without the trail's lock. An operation that needs it takes it.
    """

    @property
    def plan(self) -> Plan:
        """The settings that a run follows."""

    @property
    def source(self) -> Source:
        """The gateway."""

    @property
    def destination(self) -> Destination:
        """The destination."""

    @property
    def inventory(self) -> Inventory:
        """What the destination holds, by the best evidence that the settings allow."""

    @property
    def seen(self) -> SeenSet:
        """Which entries were delivered. Raises `SecretUnavailable`."""

    @property
    def lock(self) -> RunLock:
        """The lock of the trail. Raises `SecretUnavailable`."""

    @property
    def cache_gauge(self) -> CacheGauge | None:
        """Measures the cache; ``None`` if the trail needs none. Raises `SecretUnavailable`."""

    @property
    def reading_guard(self) -> RunGuard:
        """Limits the time for reading."""

    def slice_run(self, backfill: Range, part: Range, parallel_deliveries: int) -> SliceRun:
        """Return what delivers a slice of a backfill. Raises `SecretUnavailable`."""


class AnyInstallation(Protocol):
    """What every operation has to work with."""

    @property
    def clock(self) -> Clock:
        """The machine's time."""


class ExaminedInstallation(AnyInstallation, Protocol):
    """An installation of which nothing is taken for granted, not even that its settings are right."""

    @property
    def checks(self) -> Sequence[Check]:
        """What finds out how it is, in the order in which it is reported."""

    def clean(self, text: str) -> str:
        """Return a text with every known secret masked."""


class StoredInstallation(AnyInstallation, Protocol):
    """What the trails of an installation have stored."""

    @property
    def stored_trails(self) -> Sequence[StoredTrailParts]:
        """The trails that the request is about."""

    @property
    def is_signed(self) -> IsSignedBy | None:
        """Checks the signature of a run report; ``None``: signatures are not checked."""

    @property
    def alarm_history(self) -> AlarmHistory | None:
        """The changes of its alarms; ``None``: nobody is asked."""

    @property
    def configuration(self) -> Mapping[str, str]:
        """The variables in force, without secrets."""


class Installation(StoredInstallation, Protocol):
    """An installation of the collector."""

    @property
    def trails(self) -> Sequence[TrailParts]:
        """The trails that the request is about."""

    @property
    def telemetry(self) -> Telemetry:
        """Log and metrics."""

    @property
    def budget(self) -> TimeBudget:
        """The time that there is."""

    def run(self, trail: Trail) -> Collector:
        """Return the collector for one run of a trail. Raises `SecretUnavailable`."""
