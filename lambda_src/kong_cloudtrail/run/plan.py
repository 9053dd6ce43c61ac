"""How runs go about their work: the settings that the engine follows."""

from __future__ import annotations

from dataclasses import dataclass

from ..domain.trail import Trail


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run goes about its work.

    Parameters
    ----------
    trail
        Names the trail.
    keep_checkpoint
        Whether runs begin where the last one ended. If not, each reads everything that the gateway retains.
    overlap_seconds
        How far before the checkpoint a run begins, to catch entries that became visible late.
    sweep_seconds
        How long after the beginning of a sweep the next one begins; 0: there are none.
    initial_lookback_seconds
        How far back the first run begins; ``None``: at everything that the gateway retains.
    parallel_deliveries
        Batches under way at once.
    """

    trail: Trail
    keep_checkpoint: bool
    overlap_seconds: int
    sweep_seconds: int
    initial_lookback_seconds: int | None
    parallel_deliveries: int
