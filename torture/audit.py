"""What must be true after every run of the collector, whatever happened to it; checked from outside.

The auditor knows what Kong shows, what the destination has, and what lies in the ledger. It takes nothing from the
collector but its rule for telling entries apart, and of the checkpoint only what its users rely on: `completeUntil`,
`gaps` and `marksWholeAfter`. What holds for one destination alone is in `cloudtrail_audit` and `archive_audit`.

When an entry may stay undelivered without anybody being told, and how long:

- It is *late*: when the first run began that could see it, it was older than the newest settled entry by more than the
  overlap. Windows do not reach it; it has to be delivered once a sweep has ended that began later.
- It lies in a *gap* that the checkpoint lists: Kong could not show it, or it could not be delivered, while newer ones
  could. It has to be delivered by the sweep after that is over. A run around which all is well leaves no gaps. Once two
  runs had time to look, none but the rows that Kong cannot show stay undelivered because of them, and their neighbours
  within `GAP_NEIGHBOURHOOD_SECONDS`.
- It is late, and older than `marksWholeAfter`, after the cache has lost marks: nobody can tell it from one that was
  delivered before. Only such an entry may be missing in the end. `marksWholeAfter` may move only where marks were lost.
- It is the change of an object, on a gateway that filters by time, and has no time: it has to be delivered by a sweep.
  Or it is dated in the future: it has to be delivered once that has come, or by a sweep.
- It is itself poison for CloudTrail: it waits, or goes to quarantine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torture.endings import check_output
from torture.entries import NewEntry
from torture.fidelity import Shown
from torture.ledgers import LedgerView
from torture.plan import DestinationName, StreamName
from torture.runs import GAP_NEIGHBOURHOOD_SECONDS, Counts, Problem, Run
from torture.state import State, Trail, trail_of

RULES = {
    "output": "no traceback, token or payload is printed; a report is, and its counts add up",
    "ending": "exit status 0 only if nothing stayed undelivered; a run around which all is well succeeds",
    "lock": "another run's lock is heeded, one's own not left behind, and nobody is said to be at work who is not",
    "budget": "a run ends within its time",
    "outage": "a run that Kong or the destination did not answer at all is a failure; if it was Kong, it ends soon",
    "altered": "what the destination has, or quarantine, is an entry of Kong's, whole",
    "doubles": "no more comes twice in a run than may be under way without an answer, and nothing three times",
    "again": "what is marked is not delivered again",
    "old doubles": "where marks were lost, nothing older than the overlap comes again, but if clocks jumped as well",
    "quarantine": "nothing is given up that an outage, or damage on the way, explains",
    "marks": "what is marked is settled; what is settled is marked, but for what was under way when a run broke off",
    "checkpoint": "it goes back only after a clock jumped, and never passes what is undelivered or all that is settled",
    "success": "a run that says it is through has delivered all that was due",
    "starved": "two runs that had time and no excuse deliver everything but the poison itself",
    "progress": "a run around which all is well delivers something, or moves its state forward, if anything is due",
    "gaps": "no gap begins where nothing went wrong, and none is left in the end",
    "excluded": "what is to be left out is delivered nowhere, kept nowhere, and counted once",
    "reports": "the chain of run reports is whole, and so is what it names",
    "lost": "in the end everything is delivered or in quarantine",
}


@dataclass
class Auditor:
    """Checks the runs of one scenario; what the destination has is looked at by a subclass.

    Parameters
    ----------
    ledger
        The ledger.
    overlap_seconds
        Setting of the collector.
    gateway_filters
        Whether this Kong filters by time.
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
    secrets: Sequence[str]
    destination: ClassVar[DestinationName]
    counts: Counts = field(default_factory=Counts)
    excluded_methods: Sequence[str] = ()
    stream: StreamName = "requests"

    def __post_init__(self) -> None:
        self.entries: list[Shown] = []
        """What is to be delivered."""
        self._excluded: list[Shown] = []
        """What is to be left out."""
        self._by_key: dict[str, Shown] = {}
        self._by_id: dict[str, list[Shown]] = defaultdict(list)
        self.trail = trail_of(self.destination, self.stream)
        self._trail = Trail(self.ledger, self.trail)
        self._before = State()
        self._after = State()
        self._runs_begun = 0
        self._passed_by_run = 0
        self._readings: dict[int, int] = {}
        """The run in which each reading began that was left unfinished, by its moment."""
        self._sane_clock = 0
        self._marks_were_lost = False
        self._clock_jumped_since = False
        self._jump_may_show = False
        """Whether a clock jumped, and no run around which it was right has come to its end since."""
        self._unreadable_times: set[int] = set()
        self._undelivered_at_start: list[Shown] = []
        self._told: set[Problem] = set()

    # -- before a run

    def show(self, new: NewEntry, missing_fields: frozenset[str]) -> None:
        """Take note of an entry that Kong shows from now on; it leaves out some fields."""
        entry = Shown.read(new, missing_fields, self._runs_begun + 1, self.excluded_methods, self.stream)
        if entry.key in self._by_key:
            return  # the same once more
        (self._excluded if entry.is_excluded else self.entries).append(entry)
        self._by_key[entry.key] = entry
        self._by_id[entry.call_id].append(entry)
        self.counts.entries += 1

    def keys_of(self, ids: Iterable[str]) -> frozenset[str]:
        """Return the keys of the entries with these ids."""
        return frozenset(entry.key for one in ids for entry in self._by_id.get(one, ()))

    def times_of(self, ids: Iterable[str]) -> frozenset[int]:
        """Return the times of the entries with these ids, Unix seconds."""
        return frozenset(entry.timestamp for one in ids for entry in self._by_id.get(one, ()))

    def begin_run(self, number: int, sane_clock: int) -> None:
        """Look at everything as a run begins.

        Parameters
        ----------
        number
            Of the run, counted over the scenario from 1.
        sane_clock
            As `Run.sane_clock`.
        """
        self._runs_begun = number
        self._sane_clock = max(self._sane_clock, sane_clock)
        self._before = self._trail.read()
        newest_settled = self._newest_settled()
        for entry in self.entries:
            if entry.first_run == number and (newest_settled is not None or self._is_in_no_window(entry)):
                passed = self._is_in_no_window(entry) or entry.timestamp < (newest_settled or 0) - self.overlap_seconds
                entry.is_late = passed
                self.counts.late += entry.is_late and self.gateway_filters
        self._undelivered_at_start = [entry for entry in self.entries if not entry.is_settled]

    def _is_in_no_window(self, entry: Shown) -> bool:
        """Tell whether Kong shows an entry to sweeps only: the change of an object at an unknown time."""
        return self.stream == "objects" and entry.timestamp == 0

    def _newest_settled(self, later_seconds: int = 0) -> int | None:
        """Return how far a checkpoint may be: the time of the newest entry that is settled, and not in the future.

        Parameters
        ----------
        later_seconds
            How far the clock may have gone on since the run began.
        """
        # What is left out is done with where the checkpoint is past it, or as far as it.
        passed_until = self._after.complete_until or 0
        times = [entry.timestamp for entry in self.entries if entry.is_settled]
        times += [entry.timestamp for entry in self._excluded if entry.timestamp <= passed_until]
        return max((time for time in times if time <= self._sane_clock + later_seconds), default=None)

    # -- after a run

    def judge(self, run: Run, holdings: Iterable[Problem]) -> list[Problem]:
        """Check everything after a run.

        Parameters
        ----------
        run
            The run.
        holdings
            What is wrong with what the destination has. It is asked when the ledger was read again, and takes note of
            what is settled.

        Returns
        -------
        list
            What is wrong.
        """
        self._after = self._trail.read()
        if (began_at := self._after.reading_began_at) is not None:
            self._readings.setdefault(began_at, run.number)
        self._marks_were_lost |= run.valkey_lost_marks
        self._clock_jumped_since |= self._marks_were_lost and run.clock_jumped
        self._jump_may_show |= run.clock_jumped
        self._count(run)
        problems = [
            *self.check_output(run),
            *holdings,
            *self._check_checkpoint(run),
            *self._check_gaps(run),
            *self._check_excluded(),
            *self.check_success(run),
            *self._check_patience(run),
            *self._check_progress(run),
            *(Problem("reports", text) for text in self._trail.check_reports(self._after)),
        ]
        self._jump_may_show &= run.clock_jumped or not run.did_its_work
        # What stays wrong is told once.
        new = [problem for problem in problems if problem not in self._told]
        self._told.update(new)
        return new

    def end(self) -> list[Problem]:
        """Check after the last run, when everything should have arrived."""
        problems: list[Problem] = []
        for entry in self._undelivered():
            if self._is_excused_for_good(entry):
                self.counts.lost_with_marks += 1
            else:
                problems.append(Problem("lost", f"{entry} is neither delivered nor in quarantine"))
        if self._excluded and not self._after.excluded:
            problems.append(Problem("excluded", f"none of {len(self._excluded)} entries counts as left out"))
        if self._after.gaps:
            problems.append(Problem("gaps", f"left in the end: {self._after.gaps}"))
        return problems

    def _count(self, run: Run) -> None:
        self.counts.runs += 1
        self.counts.kills += run.killed
        self.counts.sweeps += self._after.sweep_due not in (None, self._before.sweep_due)
        self.counts.gaps += len([gap for gap in self._after.gaps if gap not in self._before.gaps])
        if not run.did_nothing:
            self.counts.found_late += (run.summary or {}).get("found_late", 0)

    def _undelivered(self) -> Iterator[Shown]:
        return (entry for entry in self.entries if not entry.is_settled)

    def _is_excused_for_good(self, entry: Shown) -> bool:
        """Tell whether nobody can know that an entry was not delivered: see the module."""
        whole_after = self._after.marks_whole_after
        return entry.is_late and self._marks_were_lost and whole_after is not None and entry.timestamp < whole_after

    def _is_excused(self, entry: Shown) -> bool:
        """Tell whether an entry need not be delivered before a sweep."""
        if self._is_excused_for_good(entry) or self._after.gap_holds(entry.timestamp):
            return True
        return entry.is_late and self.gateway_filters

    def check_output(self, run: Run) -> Iterator[Problem]:
        """Check what a run printed and how it ended; yield what is wrong."""
        yield from check_output(run, self.secrets)

    # -- what is remembered

    def _check_checkpoint(self, run: Run) -> Iterator[Problem]:
        before, after = self._before, self._after
        if after.complete_until != before.complete_until:
            went_back = after.complete_until is None or (before.complete_until or 0) > after.complete_until
            if not went_back:
                self._passed_by_run = self._reading_began_in(run)
                self._note_late(after.complete_until or 0)
            if went_back and not self._jump_may_show:
                yield Problem("checkpoint", f"went back from {before.complete_until} to {after.complete_until}")
            newest = self._newest_settled(_RUNNING_SECONDS)
            if newest is not None and (after.complete_until or 0) > newest + 1:
                yield Problem(
                    "checkpoint", f"{after.complete_until} is past the newest entry that is settled, {newest}"
                )
        if after.marks_whole_after != before.marks_whole_after and not self._marks_were_lost:
            yield Problem("checkpoint", f"marksWholeAfter moved to {after.marks_whole_after}: no marks were ever lost")
        for entry in self._undelivered():
            passed = entry.first_run <= self._passed_by_run and entry.timestamp < (after.complete_until or 0)
            # Without filters the next reading shows it: the checkpoint decides nothing there.
            if passed and not entry.is_late and not self._is_excused(entry):
                yield Problem("checkpoint", f"has passed {entry}, which is not delivered")

    def _reading_began_in(self, run: Run) -> int:
        """Return the run in which the reading began that moved the checkpoint: what became visible later is late."""
        began_at = self._before.reading_began_at
        return run.number if began_at is None else self._readings.get(began_at, run.number)

    def _note_late(self, complete_until: int) -> None:
        for entry in self._undelivered():
            if entry.first_run > self._passed_by_run and entry.timestamp < complete_until - self.overlap_seconds:
                entry.is_late = True

    def _check_excluded(self) -> Iterator[Problem]:
        for entry in self._excluded:
            if entry.accepted or entry.quarantined:
                yield Problem("excluded", f"{entry} is to be left out, and was not")
        shown = len(self._excluded)
        if self._after.excluded > shown:
            yield Problem("excluded", f"{self._after.excluded} entries count as left out, and there are {shown}")
        if self._after.excluded < self._before.excluded:
            yield Problem("excluded", f"the count went back from {self._before.excluded} to {self._after.excluded}")

    def _check_gaps(self, run: Run) -> Iterator[Problem]:
        new = [gap for gap in self._after.gaps if gap not in self._before.gaps]
        if new and run.calm and not self._before.gaps:
            yield Problem("gaps", f"passed rows although nothing went wrong: {new}")

    # -- whether it did what it could

    def check_success(self, run: Run) -> Iterator[Problem]:
        """Check that a run that says that it is through did all of its work; yield what is wrong."""
        if not run.did_its_work:
            return
        for entry in self._undelivered():
            if entry.first_run > run.number or self._is_excused(entry):
                continue
            if self.stream == "objects" and self.gateway_filters and entry.timestamp > run.earliest_clock:
                continue  # a window that may be in any order ends when its reading begins
            yield Problem("success", f"ended as a success without delivering {entry}")

    def _check_patience(self, run: Run) -> Iterator[Problem]:
        """Check that nothing waits for longer than it has to because of something else."""
        if not run.fair or run.did_nothing:
            return
        for entry in self._undelivered():
            if entry.first_run > run.number or not entry.is_plain or entry.key in run.poisoned:
                continue
            if self._is_near_poison(entry, run) or (entry.is_late and self.gateway_filters):
                continue
            if self._is_excused_for_good(entry):
                continue
            entry.chances += 1
            if entry.chances == _PATIENCE_RUNS:
                yield Problem("starved", f"{entry} had {_PATIENCE_RUNS} runs that could have delivered it")

    def _is_near_poison(self, entry: Shown, run: Run) -> bool:
        """Tell whether an entry cannot be had without a row that Kong cannot show, or could not before a sweep."""
        self._unreadable_times |= run.poisoned_times
        times = self._unreadable_times if self._after.gap_holds(entry.timestamp) else run.poisoned_times
        if not self.gateway_filters:
            return bool(times)  # there is no way around a row but by its place in the order
        return any(abs(entry.timestamp - time) <= GAP_NEIGHBOURHOOD_SECONDS for time in times)

    def _check_progress(self, run: Run) -> Iterator[Problem]:
        if not run.calm or run.did_nothing:
            return
        due = [entry for entry in self._undelivered_at_start if not self._is_excused(entry)]
        if not due or any(entry.is_settled for entry in self._undelivered_at_start):
            return
        if self._before.moved_to(self._after):
            return
        if not run.had_its_time:
            self.counts.out_of_cpu += 1
            return
        yield Problem("progress", f"{len(due)} entries were due; none was delivered, and the checkpoint says the same")


_PATIENCE_RUNS = 2
_RUNNING_SECONDS = 60
