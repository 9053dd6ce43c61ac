"""What must be true of what CloudTrail Lake has accepted, of the marks in Valkey, and of the quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from kong_cloudtrail.domain.entry import MAX_RETENTION_SECONDS

from sandbox.cloudtrail.records import AcceptedEvent, RefusedEvent
from torture.audit import Auditor
from torture.fidelity import Shown, lost_fields
from torture.plan import DestinationName
from torture.quarantine import QuarantineRules
from torture.runs import LOST_MARKS, Problem, Run


@dataclass
class LakeAuditor(Auditor):
    """Checks the runs of one scenario into CloudTrail Lake. Parameters as in `Auditor`."""

    destination: ClassVar[DestinationName] = "cloudtrail-lake"
    batch_events: ClassVar[int] = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        self._events_read = 0
        self._accepted_in_run: set[Shown] = set()
        self._quarantine = QuarantineRules(self.ledger, self.trail, self._by_id)
        self._full_cache = (0, 0)
        """While the cache stays full: entries left unmarked, and the most batches in flight."""
        self._unmarked: dict[Shown, str] = {}
        """Entries that were accepted and are not marked, and why."""

    def end_run(
        self,
        run: Run,
        accepted: Sequence[AcceptedEvent],
        marked_keys: set[str],
        refused: Sequence[RefusedEvent] = (),
    ) -> list[Problem]:
        """Check everything after a run.

        Parameters
        ----------
        run
            The run.
        accepted, refused
            Every event that CloudTrail accepted so far, and every refusal of one.
        marked_keys
            What the seen set holds now.

        Returns
        -------
        list
            What is wrong.
        """
        return self.judge(run, self._check_holdings(run, accepted, marked_keys, refused))

    def _check_holdings(
        self, run: Run, accepted: Sequence[AcceptedEvent], marked_keys: set[str], refused: Sequence[RefusedEvent]
    ) -> Iterator[Problem]:
        yield from self._check_accepted(run, accepted)
        yield from self._check_quarantine(run, refused)
        yield from self._check_marks(run, marked_keys)

    # -- what CloudTrail has

    def _check_accepted(self, run: Run, accepted: Sequence[AcceptedEvent]) -> Iterator[Problem]:
        """Match what CloudTrail has accepted since the last look with what Kong shows."""
        in_this_run: Counter[Shown] = Counter()
        for event in accepted[self._events_read :]:
            entry, damage = self._find(event)
            if entry is None:
                yield Problem(
                    "altered", f"CloudTrail has an event that is no entry, or not whole: {event.id} ({damage})"
                )
                continue
            entry.accepted += 1
            in_this_run[entry] += 1
            if entry.accepted > 1 and in_this_run[entry] == 1:
                yield from self._check_delivered_again(run, entry)
        self._events_read = len(accepted)
        self._accepted_in_run = set(in_this_run)
        twice = in_this_run.total() - len(in_this_run)
        self.counts.duplicates[run.cause_of_duplicates] += twice
        if run.valkey_lost_marks:
            return
        # A second run, started beside one that is stopped, goes on at once where that one was.
        batches = (run.lost_batches + run.broken_off_batches) * (1 + run.companions)
        if twice > self.batch_events * batches:
            yield Problem("doubles", f"{twice} entries came twice in this run, more than {batches} batches")
        most = max(in_this_run.values(), default=0)
        if most > 2 * (1 + run.companions):
            yield Problem("doubles", f"one entry came {most} times in this run")

    def _check_delivered_again(self, run: Run, entry: Shown) -> Iterator[Problem]:
        cause = self._unmarked.get(entry) or (run.cause_of_duplicates if run.valkey_lost_marks else "")
        if cause:
            self.counts.duplicates[cause] += 1
        else:
            yield Problem("again", f"{entry} was delivered again although it was marked")
        # What was under way when a run broke off may be of any age: how much of it there may be is another rule's.
        if cause in ("", LOST_MARKS) and not self._is_read_again(entry, run):
            yield Problem("old doubles", f"{entry} was delivered again, and is older than the overlap")

    def _is_read_again(self, entry: Shown, run: Run) -> bool:
        """Tell whether a run has to read an entry again, delivered or not."""
        before, after = self._before, self._after
        if before.complete_until is None or entry.recorded_at is None or entry.timestamp > run.earliest_clock:
            return True
        oldest_known = min(before.complete_until, after.complete_until or before.complete_until)
        if before.reading_after is not None:  # what this has delivered, it has delivered piece by piece
            oldest_known = min(oldest_known, before.reading_after)
        whole_after = after.marks_whole_after
        if self._marks_were_lost and whole_after is not None and entry.timestamp >= whole_after:
            return True  # what is newer and lost its mark was delivered by a reading that was under way then
        if self._clock_jumped_since:  # neither marks nor clocks tell what was delivered: rather twice than never
            oldest_known = min(oldest_known, after.marks_whole_after or 0)
        if entry.timestamp < oldest_known - MAX_RETENTION_SECONDS:
            return True  # no date that Kong could have given: where everything is read, nothing tells whether it is new
        in_gap = before.gap_holds(entry.timestamp) or after.gap_holds(entry.timestamp)
        return in_gap or entry.timestamp >= oldest_known - self.overlap_seconds

    def _find(self, event: AcceptedEvent) -> tuple[Shown | None, str]:
        """Return the entry that an event holds whole, or ``None`` and what is missing."""
        parsed = event.event
        damage = "no entry has this id"
        for entry in self._by_id.get(event.id, ()):
            lost = list(lost_fields(entry, parsed, self.ledger.read_located))
            if not lost:
                return entry, ""
            damage = f"not found in it: {', '.join(lost)[:200]}"
        return None, damage

    def _check_quarantine(self, run: Run, refused: Sequence[RefusedEvent]) -> Iterator[Problem]:
        settled = self._quarantine.check(run, refused, accepted_any=bool(self._accepted_in_run))
        for item in settled:
            if isinstance(item, Problem):
                yield item
            else:
                item.quarantined = True
                self.counts.quarantined += 1

    # -- what is remembered

    def _check_marks(self, run: Run, marked_keys: set[str]) -> Iterator[Problem]:
        """Check that nothing is marked that is not settled, and that little is settled that is not marked."""
        for key in marked_keys - self._by_key.keys():
            yield Problem("marks", f"{key} is marked, and no entry of Kong's")
        unmarked: dict[Shown, str] = {}
        for entry in (*self.entries, *self._excluded):
            is_marked = entry.key in marked_keys
            if is_marked and not entry.is_settled and not self._is_excused_for_good(entry):
                yield Problem("marks", f"{entry} is marked, but neither delivered nor in quarantine")
            if entry.accepted and not is_marked:
                cause = run.cause_in_flight if entry in self._accepted_in_run else run.cause_of_duplicates
                unmarked[entry] = self._unmarked.get(entry, cause)
        left = len(unmarked.keys() & self._accepted_in_run)
        self._unmarked = unmarked
        if run.valkey_lost_marks:
            return
        # A cache that stays full costs the batches under way once, not in every run.
        batches = (run.lost_batches + run.broken_off_batches) * (1 + run.companions)
        earlier, most_batches = self._full_cache if run.valkey_full else (0, 0)
        batches = max(batches, most_batches)
        self._full_cache = (earlier + left, batches) if run.valkey_full else (0, 0)
        if left and earlier + left > self.batch_events * batches:
            yield Problem(
                "marks", f"left {earlier + left} entries unmarked that CloudTrail accepted: over {batches} batches"
            )
