"""Half-open stretches of request time, and how a long one is cut into slices."""

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

    def contains(self, seconds: int) -> bool:
        """Return whether a moment, Unix seconds, is within it."""
        return self.after <= seconds and (self.before is None or seconds < self.before)

    def overlaps(self, other: Window) -> bool:
        """Return whether there is a moment that is within both."""
        return (other.before is None or self.after < other.before) and (
            self.before is None or other.after < self.before
        )


class Slices:
    """Cuts a window without an upper bound into slices, oldest first.

    The last slice has no upper bound either. A healthy trail gets one slice, and so one request. A backlog of weeks
    gets several, so that the checkpoint moves during the run. The number of pages of a slice determines the width of
    the next one.

    Parameters
    ----------
    after
        Where the window begins, Unix seconds.
    horizon
        The latest possible beginning of the last slice, Unix seconds.
    known_seconds
        How much of the window's beginning an earlier run has read. The first slice is longer by this much.
    width_seconds
        Width of the first slice.
    target_pages
        Pages that a slice should have. With fewer pages there are more requests; with more, the checkpoint moves later.
    """

    def __init__(
        self,
        after: int,
        *,
        horizon: int,
        known_seconds: int = 0,
        width_seconds: int = FIRST_SLICE_SECONDS,
        target_pages: int = TARGET_SLICE_PAGES,
    ) -> None:
        self._after = after
        self._horizon = horizon
        self._target_pages = target_pages
        self._known_seconds = known_seconds
        self._width_seconds = width_seconds

    def __iter__(self) -> Iterator[Window]:
        while (end := self._after + self._known_seconds + self._width_seconds) < self._horizon:
            self._known_seconds = 0
            yield Window(self._after, end)
            self._after = end
        yield Window(self._after, None)

    def had(self, pages: int) -> None:
        """Record how many pages the last slice had. This determines the width of the next one."""
        factor = min(_GREATEST_GROWTH, self._target_pages / max(pages, 1))
        self._width_seconds = max(1, int(self._width_seconds * factor))
