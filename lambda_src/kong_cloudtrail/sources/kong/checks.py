"""Checks whether Kong's answer matches the request.

Behind a load balancer, each request may reach another node. During an upgrade, a node that ignores time filters or has
another order gives answers that look normal. A reading that trusted them would end early or miss entries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from ...domain.entry import LATEST_SECOND

TELLING_TIMES = 8
"""If so many different request times of a page are descending, rows come newest first. In an order that is unrelated
to time, this happens once in 40 320 pages."""

_release = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4})(?:\.(\d{1,4}))?)?(?!\d)").match

_request_timestamp: Callable[[Any], Any] = itemgetter("request_timestamp")

# The first patch releases of older minor releases that filter by time.
_FIRST_FILTERING_PATCHES = {(3, 4): (3, 9), (3, 5): (0, 5), (3, 6): (1, 5)}
_FIRST_FILTERING_MINOR = (3, 7)


def filters_by_time(version: str) -> bool | None:
    """Return whether a release filters by time; ``None`` if the version is not precise enough."""
    match = _release(version)
    if match is None:
        return None
    minor = (int(match[1]), int(match[2]))
    if minor not in _FIRST_FILTERING_PATCHES:
        return minor >= _FIRST_FILTERING_MINOR
    if match[4] is None:
        return None
    return (int(match[3]), int(match[4])) >= _FIRST_FILTERING_PATCHES[minor]


def request_times(entries: Sequence[object]) -> list[int]:
    """Return the request times of the rows that have one as a number, in whole Unix seconds and in the rows' order.

    Times that are not between 1970 and 9999 are left out: otherwise one damaged row would make a page look out of order
    for as long as Kong keeps it.
    """
    try:
        times = list(map(_request_timestamp, entries))
    except (TypeError, KeyError):
        times = [row.get("request_timestamp") for row in entries if isinstance(row, dict)]
    if not set(map(type, times)) <= {int}:
        times = [int(moment // 1) for moment in times if type(moment) in (int, float)]
    if times and (min(times) < 0 or max(times) > LATEST_SECOND):
        times = [moment for moment in times if 0 <= moment <= LATEST_SECOND]
    return times


def never_rises(times: list[int]) -> bool:
    """Return whether no request time is later than the one before it."""
    return times == sorted(times, reverse=True)  # at the speed of C, and linear where the answer is yes
