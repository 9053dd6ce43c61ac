"""From a page of Kong's entries to batches under way: drop what was seen, map the rest, pack it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from .delivery import Delivery
from .domain.batching import Batch, Batcher
from .domain.entry import MAX_RETENTION_SECONDS, Entry
from .domain.event import EventMapper
from .domain.report import RunReport
from .errors import EntryNotMappable
from .ports import SeenSet


class Intake:
    """Takes pages and hands batches to the delivery.

    Parameters
    ----------
    mapper
        Makes events of entries.
    seen
        Knows what was delivered before.
    delivery
        Where batches go.
    report
        Counts what was fetched and what was known.
    """

    def __init__(self, mapper: EventMapper, seen: SeenSet, delivery: Delivery, report: RunReport) -> None:
        self._mapper = mapper
        self._seen = seen
        self._delivery = delivery
        self._report = report
        self._batcher = Batcher()
        self.known_before: int | None = None
        """Entries older than this, Unix seconds, are none of this run's even if they are not marked."""
        self._outcomes: list[Future[bool]] = []

    def take(self, page: Sequence[object]) -> None:
        """Send the new entries of a page on their way, full batches at a time.

        Parameters
        ----------
        page
            The elements of ``data`` as parsed.
        """
        entries = {entry.key: entry for entry in map(Entry.read, page)}
        # First what is under way, then what is marked: an entry that goes from the one to the other in between is
        # found in the second. The other way round it would be found in neither.
        under_way = self._delivery.under_way
        candidates = [key for key in entries if key not in under_way]
        seen = self._seen.seen(candidates)
        fresh = [entries[key] for key in candidates if key not in seen]
        if self.known_before is not None:
            fresh = self._mark_what_is_known(fresh, self.known_before)
        self._report.pages += 1
        self._report.fetched += len(page)
        self._report.duplicates += len(page) - len(fresh)
        for entry in fresh:
            self._send(entry)

    def end_slice(self) -> list[Future[bool]]:
        """Send off what is left, so that no batch holds entries of two slices.

        Returns
        -------
        list
            The outcomes of everything taken since the last call.
        """
        self._submit(self._batcher.flush())
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _mark_what_is_known(self, unmarked: Sequence[Entry], known_before: int) -> list[Entry]:
        """Mark the entries that are older than `known_before`; return the others."""
        # A date from before Kong could have kept anything is no date: such an entry may be new.
        oldest = known_before - MAX_RETENTION_SECONDS
        known: list[Entry] = []
        fresh: list[Entry] = []
        for entry in unmarked:
            date = entry.timestamp
            (known if date is not None and oldest <= date < known_before else fresh).append(entry)
        if known:
            self._delivery.mark(known)
        return fresh

    def _send(self, entry: Entry) -> None:
        self._delivery.under_way.add(entry.key)
        try:
            event = self._mapper.map(entry)
        except EntryNotMappable as error:
            self._outcomes.append(self._delivery.quarantine(entry, str(error)))
        else:
            self._submit(self._batcher.add(event))

    def _submit(self, batch: Batch | None) -> None:
        if batch is not None:
            self._outcomes.append(self._delivery.submit(batch))
