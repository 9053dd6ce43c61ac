"""What operations work with, as the settings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..destinations import archive
from ..domain.trail import Trail
from ..ports import AlarmHistory, Inspector, Telemetry, TimeBudget
from ..run.collector import Collector
from ..settings import StoredTrails
from ..state.ledger import Ledger
from .connections import open_archive, open_store
from .runs import Assembly, TrailParts
from .trails import SystemClock, trails_of

if TYPE_CHECKING:
    from ..domain.report_chain import IsSignedBy


class WholeInstallation:
    """An installation whose settings are all known.

    Parameters
    ----------
    assembly
        Builds the parts.
    trails
        The trails that the request is about.
    telemetry
        Log and metrics.
    budget
        The time that there is.
    is_signed
        Checks the signature of a run report; ``None``: signatures are not checked.
    configuration
        The variables in force, without secrets.
    """

    alarm_history: AlarmHistory | None = None

    def __init__(
        self,
        assembly: Assembly,
        trails: Sequence[Trail],
        telemetry: Telemetry,
        budget: TimeBudget,
        is_signed: IsSignedBy | None = None,
        configuration: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.clock = SystemClock()
        self.telemetry = telemetry
        self.budget = budget
        self.is_signed = is_signed
        self.configuration = configuration
        self.trails: Sequence[TrailParts] = [assembly.parts(trail, telemetry, budget) for trail in trails]
        self.stored_trails = self.trails
        self._assembly = assembly

    def run(self, trail: Trail) -> Collector:
        """Return the collector for one run of a trail. Raises `SecretUnavailable`."""
        return self._assembly.collector(trail, self.telemetry, self.budget)


class StoredInstallation:
    """An installation of which only ledger and archive are known, which is enough to look into what it has stored.

    Parameters
    ----------
    settings
        Where ledger and archive are.
    is_signed
        Checks the signature of a run report; ``None``: signatures are not checked.
    alarm_history
        The changes of its alarms; ``None``: nobody is asked.
    configuration
        The variables in force, without secrets.
    """

    def __init__(
        self,
        settings: StoredTrails,
        is_signed: IsSignedBy | None = None,
        alarm_history: AlarmHistory | None = None,
        configuration: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.clock = SystemClock()
        self.is_signed = is_signed
        self.alarm_history = alarm_history
        self.configuration = configuration
        self.stored_trails: Sequence[StoredParts] = [StoredParts(settings, trail) for trail in trails_of(settings)]


class StoredParts:
    """What a trail has stored.

    Parameters
    ----------
    settings
        Where ledger and archive are.
    trail
        The trail.
    """

    def __init__(self, settings: StoredTrails, trail: Trail) -> None:
        self.trail = trail
        self.ledger = Ledger(open_store(settings.ledger), trail, SystemClock())
        self._settings = settings

    @property
    def inspector(self) -> Inspector | None:
        """Inspects the parts of the destination; ``None`` if it keeps none."""
        if self.trail.destination != archive.NAME or self._settings.archive is None:
            return None
        from ..destinations.archive.inspection import ArchiveInspector

        return ArchiveInspector(open_archive(self._settings.archive), self.trail.source, self.trail.stream)
