"""From a page of entries to batches in flight: drop what is marked or excluded, map the others, pack the events."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from concurrent.futures import Future

from ..domain.entry import MAX_RETENTION_SECONDS, Entry
from ..domain.event import Batch
from ..domain.exclusion import Excluded, ExcludedEntry, Exclusion, digest_of
from ..domain.report import RunReport
from ..errors import EntryNotMappable
from ..ports import Mapper, Packer, SeenSet
from .delivery import Delivery


class Intake:
    """Takes pages, and submits batches to the delivery.

    Parameters
    ----------
    mapper
        Maps entries to events.
    complete
        Adds what the source knows beside an entry: `Source.complete`.
    packer
        Packs events into batches.
    seen
        The marks of entries that were delivered before.
    delivery
        Where batches go.
    report
        Counts entries that were fetched, and duplicates.
    overlap_seconds
        How far before the checkpoint runs begin.
    exclusion
        The rules that leave entries out.
    excluded
        What was excluded by earlier runs.
    """

    def __init__(
        self,
        mapper: Mapper,
        complete: Callable[[Sequence[Entry]], Sequence[Entry]],
        packer: Packer,
        seen: SeenSet,
        delivery: Delivery,
        report: RunReport,
        *,
        overlap_seconds: int,
        exclusion: Exclusion,
        excluded: Excluded,
    ) -> None:
        self._mapper = mapper
        self._complete = complete
        self._seen = seen
        self._delivery = delivery
        self._report = report
        self._overlap_seconds = overlap_seconds
        self._packer = packer
        self._outcomes: list[Future[bool]] = []
        self._exclusion = exclusion
        self._excluded = excluded
        self._excluded_now: set[str] = set()
        self._excluded_of_stretch: list[ExcludedEntry] = []

    def take(
        self,
        page: Sequence[Entry],
        *,
        assumed_before: int | None = None,
        late_before: int | None = None,
        counts_excluded: bool = True,
    ) -> None:
        """Submit the new entries of a page, in full batches.

        Parameters
        ----------
        page
            The entries that the source shows.
        assumed_before
            Entries with an older request time, Unix seconds, are skipped even if they are not marked: it is not known
            whether they were delivered, or they are older than the beginning of the trail.
        late_before
            New entries with an older request time, Unix seconds, are counted as found late. Runs reach the checkpoint
            from there on.
        counts_excluded
            Whether excluded entries are counted as such. If not, they count as duplicates: what is read again was
            counted before.
        """
        fresh = fresh_entries(page, self._seen, self._delivery.in_flight, assumed_before)
        left_out = [(entry, rule) for entry in fresh if (rule := self._exclusion.rule_of(entry)) is not None]
        counted = self._count_excluded(left_out) if counts_excluded else 0
        if left_out:
            keys = {entry.key for entry, _ in left_out}
            fresh = [entry for entry in fresh if entry.key not in keys]
        self._report.pages += 1
        self._report.fetched += len(page)
        self._report.duplicates += len(page) - len(fresh) - counted
        if late_before is not None:
            self._count_late(fresh, late_before)
        for entry in self._complete(fresh):
            self._send(entry)

    def end_stretch(self) -> list[Future[bool]]:
        """Submit what is left, so that no batch holds entries of two stretches.

        Returns
        -------
        list
            The outcomes of everything taken since the last call.
        """
        while (batch := self._packer.flush()) is not None:
            self._submit(batch)
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def excluded_of_stretch(self) -> list[ExcludedEntry]:
        """Return the entries that were counted as excluded since the last call."""
        found, self._excluded_of_stretch = self._excluded_of_stretch, []
        return found

    def _count_excluded(self, left_out: Sequence[tuple[Entry, str]]) -> int:
        """Count excluded entries that were not counted before; return their number."""
        count = 0
        for entry, rule in left_out:
            found = ExcludedEntry(digest_of(entry), entry.timestamp or 0, rule)
            if found.digest in self._excluded_now or self._excluded.has_counted(found):
                continue
            self._excluded_now.add(found.digest)
            self._excluded_of_stretch.append(found)
            self._report.excluded_by_rule[rule] += 1
            count += 1
        return count

    def _count_late(self, fresh: Sequence[Entry], late_before: int) -> None:
        checkpoint = late_before + self._overlap_seconds
        times = [entry.timestamp for entry in fresh if _is_dated_before(entry, late_before)]
        lateness = [checkpoint - moment for moment in times if moment is not None]
        report = self._report
        report.found_late += len(lateness)
        report.max_lateness_seconds = max([report.max_lateness_seconds, *lateness])

    def _send(self, entry: Entry) -> None:
        self._delivery.in_flight.add(entry.key)
        try:
            event = self._mapper.map(entry)
        except EntryNotMappable as error:
            self._outcomes.append(self._delivery.quarantine(entry, str(error)))
            return
        if (batch := self._packer.add(event)) is not None:
            self._submit(batch)

    def _submit(self, batch: Batch) -> None:
        self._outcomes.append(self._delivery.submit(batch))


def fresh_entries(page: Sequence[Entry], seen: SeenSet, in_flight: Set[str], assumed_before: int | None) -> list[Entry]:
    """Return the entries of a page that are to be delivered. With as few round trips as possible.

    Parameters
    ----------
    page
        The entries that the source shows.
    seen
        The marks of entries that were delivered before.
    in_flight
        Keys of entries that are being delivered.
    assumed_before
        As of `Intake.take`.
    """
    entries = {entry.key: entry for entry in page}
    # First entries in flight, then marked ones: an entry that is marked in between is found by the second look-up.
    # The other way round it would be found by neither.
    candidates = [entry for key, entry in entries.items() if key not in in_flight]
    marked = seen.seen(candidates)
    fresh = [entry for entry in candidates if entry.key not in marked]
    if assumed_before is None:
        return fresh
    return [entry for entry in fresh if not _is_dated_before(entry, assumed_before)]


def _is_dated_before(entry: Entry, moment: int) -> bool:
    # A date that is older than any gateway's retention is wrong: nothing is known about such an entry.
    date = entry.timestamp
    return date is not None and moment - MAX_RETENTION_SECONDS <= date < moment
