"""What a scenario's destination is to the torture: where it is, how it is broken, and how it is audited."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import psutil

from torture.audit import Auditor
from torture.ledgers import LedgerView
from torture.plan import Round, StreamName
from torture.runs import Problem, Run

_QUIET_TIMEOUT_SECONDS = 20.0
_POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Setting:
    """What an auditor has to know of a scenario.

    Parameters
    ----------
    ledger
        The ledger.
    overlap_seconds
        Setting of the collector.
    gateway_filters
        Whether Kong filters by time.
    secrets
        What must not be printed.
    excluded_methods
        Methods of requests that the collector is to leave out.
    stream
        What is delivered.
    """

    ledger: LedgerView
    overlap_seconds: int
    gateway_filters: bool
    secrets: tuple[str, ...]
    excluded_methods: tuple[str, ...]
    stream: StreamName

    @property
    def of_auditor(self) -> dict[str, Any]:
        """Parameters of an `Auditor`."""
        return dict(vars(self))


@dataclass
class Damage:
    """What a round did to the place of the marks.

    Parameters
    ----------
    valkey_failed
        Whether Valkey did not answer for longer than the collector waits.
    valkey_lost_marks
        Whether Valkey lost its data, or got back older data.
    valkey_full
        Whether Valkey took no more writes.
    """

    valkey_failed: bool = False
    valkey_lost_marks: bool = False
    valkey_full: bool = False


class Stage(Protocol):
    """The round that is under way."""

    def repair_later(self, repair: Callable[[], None]) -> None:
        """Do something when the run has ended."""

    def do_after(self, seconds: float, step: Callable[[], None]) -> None:
        """Do something after a while."""


class Ends(Protocol):
    """A destination, with all that the collector needs for it. A context manager that runs it.

    Attributes
    ----------
    damage
        What the round did so far.
    """

    damage: Damage

    def __enter__(self) -> Self:
        """Start what is needed."""

    def __exit__(self, *_: object) -> None:
        """Stop it."""

    @property
    def auditor(self) -> Auditor:
        """The one who knows all entries."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Settings of the collector that never change."""

    @property
    def poisoned(self) -> list[str]:
        """Ids of the entries that cannot be delivered now."""

    def prepare(self, round_: Round, plain_ids: list[str], strike: Callable[[], None]) -> None:
        """Get ready for a round.

        Parameters
        ----------
        round_
            Which.
        plain_ids
            The ids of entries that could be poisoned.
        strike
            Kills the run.
        """

    def environment_of_run(self) -> dict[str, str]:
        """Return settings of the collector for this round."""

    def deliveries(self) -> int:
        """Return how often the destination has taken something since the round began."""

    def step(self, action: Any, stage: Stage) -> Callable[[], None] | None:
        """Return what lets an action happen; ``None`` if it is none of this destination's."""

    def calm_down(self) -> None:
        """Let nothing go wrong any more, and wait until what processes, now dead, had asked for is done."""

    def was_down(self, round_: Round) -> bool:
        """Return whether no delivery of the round was answered, though some were tried."""

    def end_run(self, run: Run) -> list[Problem]:
        """Check everything after a run."""


def is_connected(port: int) -> bool:
    """Return whether anybody is connected to a port of this process."""
    connections = psutil.Process().net_connections("tcp4")
    return any(one.laddr.port == port and one.status != psutil.CONN_LISTEN for one in connections)


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Wait until something that is busy is not; raise `TimeoutError` if it stays so."""
    deadline = time.monotonic() + _QUIET_TIMEOUT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is still busy though no collector runs")
        time.sleep(_POLL_SECONDS)
