"""The settings that a run follows."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..domain.exclusion import Exclusion
from ..domain.trail import Trail


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings that a run follows.

    Parameters
    ----------
    trail
        The trail that the run works on.
    run_id
        Id of the run. Ids of later runs are greater.
    may_overlap
        Whether runs of the trail may take place at the same time, because the destination excludes doubles by itself.
    keep_checkpoint
        Whether a run begins where the last one ended. If not, each run reads everything that the gateway retains.
    overlap_seconds
        How far before the checkpoint a run begins, to catch entries that became visible late.
    sweep_seconds
        Time from the beginning of a sweep to that of the next one; 0: no sweeps.
    initial_lookback_seconds
        How far back the first run begins; ``None``: it reads everything that the gateway retains.
    parallel_deliveries
        Batches in flight at once.
    exclusion
        The rules that leave entries out.
    """

    trail: Trail
    run_id: str
    may_overlap: bool
    keep_checkpoint: bool
    overlap_seconds: int
    sweep_seconds: int
    initial_lookback_seconds: int | None
    parallel_deliveries: int
    exclusion: Exclusion = field(default_factory=Exclusion)
