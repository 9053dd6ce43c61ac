"""Half-open stretches of Kong's clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FIRST_SLICE_SECONDS = 86_400
TARGET_SLICE_PAGES = 10
_GREATEST_GROWTH = 4.0


@dataclass(frozen=True, slots=True)
class Window:
    """Entries with ``after <= request_timestamp < before``.

    Parameters
    ----------
    after
        Unix seconds, inclusive, as Kong's ``after`` filter.
    before
        Unix seconds, exclusive, as Kong's ``before`` filter. ``None``: no upper bound.
    """

    after: int
    before: int | None


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a run's reading.

    Parameters
    ----------
    window
        What to read; ``None``: everything, without filters.
    complete_until
        Where the checkpoint may stand once all of this slice and of those before it is delivered or quarantined, Unix
        seconds; ``None`` if this slice says nothing about it.
    """

    window: Window | None
    complete_until: int | None


class Slices:
    """Cut a window into slices, oldest first, each as long as the last one says that it should be.

    A window that is no longer than the first slice is not cut: the hourly run of a healthy trail asks once. A backlog
    of weeks becomes several, so that the checkpoint moves while it is worked off, and a run that is cut short leaves
    lasting progress behind.

    Parameters
    ----------
    window
        What to cut; bounded.
    complete_until
        What no slice's `Slice.complete_until` may pass, Unix seconds.
    known_seconds
        How much of the window's beginning was read before. It is part of the first slice, on top of its width.
    width_seconds
        Of the first slice.
    target_pages
        Pages that a slice should have. Less costs more requests; more moves the checkpoint later.
    """

    def __init__(
        self,
        window: Window,
        *,
        complete_until: int,
        known_seconds: int = 0,
        width_seconds: int = FIRST_SLICE_SECONDS,
        target_pages: int = TARGET_SLICE_PAGES,
    ) -> None:
        if window.before is None:
            raise ValueError("a window without an end cannot be cut into slices")
        self._after = window.after
        self._before = window.before
        self._complete_until = complete_until
        self._target_pages = target_pages
        self._known_seconds = known_seconds
        self._width_seconds = width_seconds

    def __iter__(self) -> Iterator[Slice]:
        while self._after < self._before:
            end = min(self._after + self._known_seconds + self._width_seconds, self._before)
            self._known_seconds = 0
            yield Slice(Window(self._after, end), min(end, self._complete_until))
            self._after = end

    def had(self, pages: int) -> None:
        """Tell how many pages the slice just read had; the next one is sized by it."""
        factor = min(_GREATEST_GROWTH, self._target_pages / max(pages, 1))
        self._width_seconds = max(1, int(self._width_seconds * factor))

    def width_for_next_run(self, *, got_through: bool) -> int:
        """Return how wide the first slice of the next run should be, if the time of this one did not suffice.

        Parameters
        ----------
        got_through
            Whether this run got through a slice. If not, it leaves nothing lasting behind, and with slices as wide the
            next one would do no better.
        """
        width_seconds = self._width_seconds * 2 if got_through else self._width_seconds // 4
        return max(1, min(width_seconds, FIRST_SLICE_SECONDS))
