"""Finding a row that Kong cannot show.

Rows are requested one at a time, and one request fails although Kong works. The position of the row can be found
without seeing it: request the rows after a guess. If they can be read, the row is before the guess.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from .offsets import IdSpace

LATEST = 4_102_444_800
"""2100-01-01. Rows with later dates are passed together."""

_DAY = 86_400
_SMALLER_POWERS = 4
_STEP_GROWTH = 4
_MAX_BISECTIONS = 24


class Shown(enum.Enum):
    """The result of a request for a single row."""

    ROW = enum.auto()
    NOTHING = enum.auto()
    UNREADABLE = enum.auto()


Stretch = Callable[[int, int | None], Shown]
"""Requests the newest row with ``after <= request time < before``."""


def find_second(shows: Stretch, after: int, before: int | None, now: int) -> int | None:
    """Find the request time of the newest row of a stretch, which cannot be read, on a gateway that filters by time.

    If the row is in ``[guess, before)``, Kong cannot show the newest row of it. Otherwise it shows nothing.

    Parameters
    ----------
    shows
        Makes the requests.
    after, before
        The stretch.
    now
        Where to search first if there is no upper bound, Unix seconds.

    Returns
    -------
    int or None
        Unix seconds, `LATEST` for anything later. ``None`` if the row can be read in the meantime.
    """
    try:
        if before is not None:
            return _newest(shows, after, before, before)
        for bound in (now + _DAY, LATEST):
            if bound > after and not _holds(shows, bound, None):
                return _newest(shows, after, bound, None)
            after = max(after, bound)
        return LATEST
    except _Readable:
        return None


class _Readable(Exception):
    """The row can be read in the meantime."""


def _holds(shows: Stretch, after: int, before: int | None) -> bool:
    """Return whether the row is in a stretch, as its newest row. Raises `_Readable`."""
    shown = shows(after, before)
    if shown is Shown.ROW:
        raise _Readable
    return shown is Shown.UNREADABLE


def _newest(shows: Stretch, holding: int, empty: int, before: int | None) -> int:
    """Return the latest beginning of a stretch that contains the row: first in growing steps, then by bisection."""
    step = 1
    while (guess := empty - step) > holding and not _holds(shows, guess, before):
        empty = guess
        step *= _STEP_GROWTH
    holding = max(holding, guess)
    while empty - holding > 1:
        middle = (holding + empty) // 2
        if _holds(shows, middle, before):
            holding = middle
        else:
            empty = middle
    return holding


def find_older_second(readable: Callable[[int], bool], failing: int, *, samples: int) -> int:
    """Return the request time of the newest row that cannot be read, on a gateway that only orders by time.

    Parameters
    ----------
    readable
        Returns whether the newest row before a time can be read.
    failing
        A time, Unix seconds, before which it cannot.
    samples
        As for `find_id`.
    """
    distance = _nearest(lambda distance: readable(failing - distance), 1, failing, samples)
    return failing - distance


def find_id(
    readable: Callable[[str], bool], ids: IdSpace, lowest: int, spacing: int | None, *, samples: int
) -> str | None:
    """Find an id after which rows can be read, as near as possible to those that cannot.

    Parameters
    ----------
    readable
        Returns whether the rows after an id can be read.
    ids
        The ids.
    lowest
        Number of an id after which rows cannot be read.
    spacing
        Distance between the ids that Kong shows; ``None``: not known.
    samples
        How often to try for readable rows between two that cannot be read. Most of these requests fail.

    Returns
    -------
    str or None
        ``None`` if there is no such id.
    """

    def is_readable(distance: int) -> bool:
        return readable(ids.id(lowest + distance))

    farthest = ids.largest - lowest
    if farthest < 1 or not is_readable(farthest):
        return None
    first = None if spacing is None else max(spacing >> _SMALLER_POWERS, 1)
    return ids.id(lowest + _nearest(is_readable, first, farthest, samples))


def _nearest(readable: Callable[[int], bool], first: int | None, farthest: int, samples: int) -> int:
    """Return the smallest distance after which rows can be read, or one so near that hardly any row is in between.

    Parameters
    ----------
    readable
        Returns whether rows after a distance can be read.
    first
        The distance to try first; it is doubled until rows can be read. ``None``: begin with the middle power of two.
    farthest
        A distance after which rows can be read.
    samples
        Smaller distances to try once one was found.
    """
    if first is None:
        failing, good = _power(readable, farthest)
    else:
        failing, good = 0, first
        while good < farthest and not readable(good):
            failing, good = good, good * 2
        good = min(good, farthest)
    for _ in range(_MAX_BISECTIONS):
        failing, good = _closer(readable, failing, good)
        earlier = _sampled(readable, failing, samples)
        if earlier is None:
            break
        failing, good = earlier
    return good


def _power(readable: Callable[[int], bool], farthest: int) -> tuple[int, int]:
    """Return two distances around the first row that can be read; the second is at most twice the first."""
    failing, good = -1, farthest.bit_length()
    while good - failing > 1:
        middle = (failing + good) // 2
        if (1 << middle) < farthest and not readable(1 << middle):
            failing = middle
        else:
            good = middle
    return (0 if failing < 0 else 1 << failing), min(1 << good, farthest)


def _closer(readable: Callable[[int], bool], failing: int, good: int) -> tuple[int, int]:
    """Return two distances around the first row that can be read, much closer."""
    for _ in range(_MAX_BISECTIONS):
        if good - failing <= 1:
            break
        middle = (failing + good) // 2
        if readable(middle):
            good = middle
        else:
            failing = middle
    return failing, good


def _sampled(readable: Callable[[int], bool], failing: int, samples: int) -> tuple[int, int] | None:
    """Return two distances below `failing`, where rows can be read after the second; ``None`` if there are none."""
    known_failing = 0
    for part in range(1, samples):
        guess = failing * part // samples
        if guess > known_failing:
            if readable(guess):
                return known_failing, guess
            known_failing = guess
    return None
