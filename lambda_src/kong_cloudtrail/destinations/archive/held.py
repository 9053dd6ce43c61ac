"""What the archive holds is what was delivered: its parts take the place of marks in a cache."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

from ...domain.checkpoint import CacheState
from ...domain.entry import Entry
from ...errors import DestinationUnavailable, SeenSetUnavailable
from .part_log import PartLog


class HeldEntries:
    """Implements `ports.SeenSet` by reading the parts of the hours that entries are from, and no others.

    Parameters
    ----------
    log
        The part log of the trail, the same one that the destination writes to.
    remaining_seconds
        Returns for how long the run may wait for parts.
    """

    def __init__(self, log: PartLog, remaining_seconds: Callable[[], float] = lambda: math.inf) -> None:
        self._log = log
        self._remaining_seconds = remaining_seconds

    def open(self) -> CacheState:
        """Begin a run: what earlier runs have read is read again. There are no marks that could get lost."""
        self._log.forget(self._remaining_seconds)
        return CacheState(cache_id="archive", marks_written=0)

    def expect(self, entries: Sequence[Entry]) -> None:
        """Read the parts of the hours that the entries are from. Raises as `seen`."""
        with _as_seen_set():
            self._log.prepare(entries)

    def look(self) -> CacheState:
        """Do the same as `open`, which writes nothing either."""
        return self.open()

    def seen(self, entries: Sequence[Entry]) -> set[str]:
        """Return the keys of the entries that are archived.

        Raises
        ------
        SeenSetUnavailable
            If the parts cannot be read at the moment.
        DestinationMisconfigured
            If they cannot be read until somebody changes something.
        """
        with _as_seen_set():
            return self._log.held(entries)

    def mark(self, entries: Sequence[Entry], lifetime_seconds: int) -> None:
        """Do nothing: a part that is written is the mark of its entries."""


@contextlib.contextmanager
def _as_seen_set() -> Iterator[None]:
    try:
        yield
    except DestinationUnavailable as error:
        raise SeenSetUnavailable(str(error)) from error
