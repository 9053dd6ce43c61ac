"""An installation in memory, as operations see one: the world of a `World`, for one trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kong_cloudtrail.domain.trail import Trail
from kong_cloudtrail.operations.verb import answer
from kong_cloudtrail.ports import Inventory
from kong_cloudtrail.run.collector import Collector
from kong_cloudtrail.run.plan import Plan
from kong_cloudtrail.state.ledger import Ledger
from kong_cloudtrail.state.marked import MarkedEntries

from tests.fakes import TRAIL, CloudTrail, Kong, Lock, Seen, Telemetry, World
from tests.helpers import FakeClock


@dataclass
class Parts:
    """The parts of one trail."""

    world: World
    trail: Trail = TRAIL
    inspector: None = None

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.world.store, self.trail, self.world.clock)

    @property
    def plan(self) -> Plan:
        return Plan(
            trail=self.trail,
            run_id="0-0",
            may_overlap=False,
            keep_checkpoint=True,
            overlap_seconds=900,
            sweep_seconds=86_400,
            initial_lookback_seconds=None,
            parallel_deliveries=2,
        )

    @property
    def source(self) -> Kong:
        return self.world.kong

    @property
    def destination(self) -> CloudTrail:
        return self.world.cloudtrail

    @property
    def seen(self) -> Seen:
        return self.world.seen

    @property
    def inventory(self) -> Inventory:
        return MarkedEntries(self.world.seen)

    @property
    def lock(self) -> Lock:
        return self.world.lock


@dataclass
class Installed:
    """The installation."""

    world: World
    is_signed: None = None
    alarm_history: None = None
    configuration: Mapping[str, str] = field(default_factory=dict)
    trails: Sequence[Parts] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        self.trails = self.trails or [Parts(self.world)]

    @property
    def stored_trails(self) -> Sequence[Parts]:
        return self.trails

    @property
    def clock(self) -> FakeClock:
        return self.world.clock

    @property
    def telemetry(self) -> Telemetry:
        return self.world.telemetry

    @property
    def budget(self) -> Any:
        return self.world.budget

    def run(self, trail: Trail) -> Collector:
        return self.world.collector()

    def ask(self, verb: str, **fields: object) -> dict[str, Any]:
        """Ask for a verb, and return its answer."""
        return answer(verb, fields, self)
