"""From a page of entries to batches under way: drop what was seen, map the rest, pack it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from ..domain.entry import MAX_RETENTION_SECONDS, Entry
from ..domain.event import Batch
from ..domain.report import RunReport
from ..errors import EntryNotMappable
from ..ports import Mapper, Packer, SeenSet
from .delivery import Delivery


class Intake:
    """Takes pages and hands batches to the delivery.

    Parameters
    ----------
    mapper
        Makes events of entries.
    packer
        Makes batches of events.
    seen
        Knows what was delivered before.
    delivery
        Where batches go.
    report
        Counts what was fetched and what was known.
    overlap_seconds
        How far before the checkpoint runs begin.
    """

    def __init__(
        self,
        mapper: Mapper,
        packer: Packer,
        seen: SeenSet,
        delivery: Delivery,
        report: RunReport,
        *,
        overlap_seconds: int,
    ) -> None:
        self._mapper = mapper
        self._seen = seen
        self._delivery = delivery
        self._report = report
        self._overlap_seconds = overlap_seconds
        self._packer = packer
        self._outcomes: list[Future[bool]] = []

    def take(self, page: Sequence[Entry], *, assumed_before: int | None = None, checkpoint: int | None = None) -> None:
        """Send the new entries of a page on their way, full batches at a time.

        Parameters
        ----------
        page
            What the source shows.
        assumed_before
            Entries with an older request time, Unix seconds, are none of this run's even if they are not marked:
            nothing tells whether they were delivered, or they lie before the trail begins.
        checkpoint
            Where the checkpoint stood as the run began, Unix seconds: new entries that are older by more than the
            overlap are counted as found late.
        """
        entries = {entry.key: entry for entry in page}
        # First what is under way, then what is marked: an entry that goes from the one to the other in between is
        # found in the second. The other way round it would be found in neither.
        under_way = self._delivery.under_way
        candidates = [key for key in entries if key not in under_way]
        seen = self._seen.seen(candidates)
        fresh = [entries[key] for key in candidates if key not in seen]
        if assumed_before is not None:
            fresh = [entry for entry in fresh if not _is_dated_before(entry, assumed_before)]
        self._report.pages += 1
        self._report.fetched += len(page)
        self._report.duplicates += len(page) - len(fresh)
        if checkpoint is not None:
            self._count_late(fresh, checkpoint)
        for entry in fresh:
            self._send(entry)

    def end_part(self) -> list[Future[bool]]:
        """Send off what is left, so that no batch holds entries of two parts.

        Returns
        -------
        list
            The outcomes of everything taken since the last call.
        """
        self._submit(self._packer.flush())
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _count_late(self, fresh: Sequence[Entry], checkpoint: int) -> None:
        late_before = checkpoint - self._overlap_seconds
        times = [entry.timestamp for entry in fresh if _is_dated_before(entry, late_before)]
        lateness = [checkpoint - moment for moment in times if moment is not None]
        report = self._report
        report.found_late += len(lateness)
        report.max_lateness_seconds = max([report.max_lateness_seconds, *lateness])

    def _send(self, entry: Entry) -> None:
        self._delivery.under_way.add(entry.key)
        try:
            event = self._mapper.map(entry)
        except EntryNotMappable as error:
            self._outcomes.append(self._delivery.quarantine(entry, str(error)))
        else:
            self._submit(self._packer.add(event))

    def _submit(self, batch: Batch | None) -> None:
        if batch is not None:
            self._outcomes.append(self._delivery.submit(batch))


def _is_dated_before(entry: Entry, moment: int) -> bool:
    # A date from before a gateway could have kept anything is no date: nothing is known of such an entry.
    date = entry.timestamp
    return date is not None and moment - MAX_RETENTION_SECONDS <= date < moment
