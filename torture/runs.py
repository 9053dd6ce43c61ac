"""What the auditor is told of a run, what it says of it, and what a torture counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

GAP_NEIGHBOURHOOD_SECONDS = 2
"""How far from a row that Kong cannot show another one may be, and be passed with it."""

LOST_MARKS = "Valkey had lost marks"

_MOST_ALIKE = 3
_WAIT_SHARE = 0.1


@dataclass(frozen=True)
class Problem:
    """Something that must not be.

    Parameters
    ----------
    rule
        Which rule was broken: a name of `audit.RULES`.
    text
        How.
    """

    rule: str
    text: str

    def __str__(self) -> str:
        return f"[{self.rule}] {self.text}"


def condense(problems: Iterable[Problem]) -> list[Problem]:
    """Return a few problems of each rule, and how many more there are."""
    by_rule: dict[str, list[Problem]] = {}
    for problem in problems:
        by_rule.setdefault(problem.rule, []).append(problem)
    condensed: list[Problem] = []
    for rule, alike in by_rule.items():
        condensed += alike[:_MOST_ALIKE]
        if more := len(alike) - _MOST_ALIKE:
            condensed += [Problem(rule, f"and {more} more")] if more > 0 else []
    return condensed


@dataclass(frozen=True)
class Run:
    """One run of the collector, as seen from outside, and all that happened around it.

    Parameters
    ----------
    number
        Counted over the scenario.
    exit_status
        Negative: the signal that ended it.
    summary
        Its report, parsed; ``None`` if there is none.
    output
        All that it printed.
    parallel_deliveries
        Its setting.
    earliest_clock
        The earliest of the clocks around it as it began, Kong's and its own and those of proxies: Unix seconds.
    sane_clock
        The earlier of those that it can see: its own, and what ``Date`` said if that was a date.
    seconds, budget_seconds
        How long an invocation took, and might take; ``None`` for the command line.
    waited_for_cpu_seconds
        How much of an invocation's time the machine, busy with other things, took away.
    killed, interrupted, frozen
        Whether it got a signal that ends it at once, or one that it may answer, or stood still.
    companions
        Runs that were started while it was at work.
    lost_batches
        How many batches CloudTrail may have accepted without an answer that says so, at most.
    valkey_failed, valkey_full
        Whether Valkey did not answer for a while, or took no more writes.
    valkey_lost_marks
        Whether Valkey lost data, or got back older data.
    was_locked
        Whether another run, on another machine, seemed to be at work when it began.
    was_worked_off
        Whether the tick that it names was worked off by an earlier run.
    calm
        Whether nothing went wrong that it need not get over.
    fair
        Whether nothing kept it from delivering any entry but poison, and it had time.
    clock_jumped
        Whether a clock was wrong, or was when the run before began.
    kong_was_down, destination_was_down
        Whether no call was answered, though some were made.
    poisoned
        Keys of the entries that Kong cannot show, or that make a call of CloudTrail fail.
    poisoned_times
        The times of those that Kong cannot show, Unix seconds.
    """

    number: int
    exit_status: int
    summary: dict[str, Any] | None
    output: str
    parallel_deliveries: int
    earliest_clock: int
    sane_clock: int
    seconds: float | None = None
    budget_seconds: int | None = None
    waited_for_cpu_seconds: float = 0.0
    killed: bool = False
    interrupted: bool = False
    frozen: bool = False
    companions: int = 0
    lost_batches: int = 0
    valkey_failed: bool = False
    valkey_full: bool = False
    valkey_lost_marks: bool = False
    was_locked: bool = False
    was_worked_off: bool = False
    calm: bool = False
    fair: bool = False
    clock_jumped: bool = False
    kong_was_down: bool = False
    destination_was_down: bool = False
    poisoned: frozenset[str] = frozenset()
    poisoned_times: frozenset[int] = frozenset()

    @property
    def did_its_work(self) -> bool:
        """Whether it says that it is through."""
        return self.exit_status == 0 and not self.did_nothing and bool((self.summary or {}).get("finished", True))

    @property
    def did_nothing(self) -> bool:
        """Whether it says that another run is at work, or has been."""
        summary = self.summary or {}
        return bool(summary.get("skipped") or summary.get("repeated"))

    @property
    def broken_off_batches(self) -> int:
        """How many batches may be accepted and not marked because the run was stopped in the middle."""
        stopped = self.killed or self.frozen or self.valkey_failed or self.valkey_full
        return self.parallel_deliveries if stopped else 0

    @property
    def cause_of_duplicates(self) -> str:
        """What explains that an entry comes twice, in this run or because of it."""
        return LOST_MARKS if self.valkey_lost_marks else self._cause_of_break or "an answer was lost"

    @property
    def cause_in_flight(self) -> str:
        """What explains that an entry is unmarked that CloudTrail accepted in this run."""
        return self._cause_of_break or self.cause_of_duplicates

    @property
    def _cause_of_break(self) -> str:
        causes = {
            "a run was killed": self.killed,
            "a run was frozen": self.frozen,
            "Valkey was full": self.valkey_full,
            "Valkey failed": self.valkey_failed,
        }
        return next((cause for cause, applies in causes.items() if applies), "")

    @property
    def had_its_time(self) -> bool:
        """Whether the machine let it work for most of its budget."""
        return self.budget_seconds is None or self.waited_for_cpu_seconds < _WAIT_SHARE * self.budget_seconds


@dataclass
class Counts:
    """What a torture saw, for the verdict."""

    runs: int = 0
    kills: int = 0
    entries: int = 0
    quarantined: int = 0
    sweeps: int = 0
    gaps: int = 0
    out_of_cpu: int = 0
    late: int = 0
    found_late: int = 0
    lost_with_marks: int = 0
    duplicates: Counter[str] = field(default_factory=Counter)
    """Events that were accepted once more, by what explains it."""
    situations: Counter[str] = field(default_factory=Counter)
    """Rounds in which something was drawn, by what."""
    parts: int = 0
    destinations: Counter[str] = field(default_factory=Counter)
    """Runs, by where the entries went."""
    streams: Counter[str] = field(default_factory=Counter)
    """Runs, by what they delivered."""
    ledgers: Counter[str] = field(default_factory=Counter)
    """Runs, by what keeps the ledger."""
    ways: Counter[str] = field(default_factory=Counter)
    """Runs, by how they were started."""

    def __iadd__(self, other: Counts) -> Self:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    def __str__(self) -> str:
        return (
            f"{self.runs} runs ({_list(self.ways)}; of: {_list(self.streams)}; into: {_list(self.destinations)}; "
            f"ledger: {_list(self.ledgers)}), "
            f"{self.kills} of them killed, "
            f"{self.out_of_cpu} not judged for progress, as the machine was too busy\n"
            f"{self.entries} entries, {self.quarantined} of them in quarantine; {self.parts} parts of archives\n"
            f"{self.sweeps} sweeps; {self.late} entries became visible too late for any window, sweeps delivered "
            f"{self.found_late}; {self.lost_with_marks} excused, as the marks were lost\n"
            f"{self.gaps} gaps recorded\n"
            f"situations: {_list(self.situations)}\n"
            f"delivered again, because: {_list(self.duplicates) or 'none'}"
        )


def _list(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common() if count)
