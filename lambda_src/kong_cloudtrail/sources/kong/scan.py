"""Reading everything, or a window whose rows may come in any order."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from ...domain.entry import Entry
from ...domain.window import Window
from ...errors import SourceUnavailable
from ...ports import Gap, Page
from .admin_api import AdminApi, Answer, Effort, OffsetRefused, Question
from .checks import TELLING_TIMES, filters_by_time, request_times
from .entries import REQUEST, Shape
from .http import Trouble
from .poison import Shown, find_older_second
from .reading import NotAsAsked, Position, Reading, RowUnreadable, refused_offset
from .window import HARMLESS

_DAY_SECONDS = 86_400
_LEARNING_ATTEMPTS = 24
_SAMPLES = 32
"""Many: rows that are skipped by mistake are not seen until those around them can be read."""


class ScanReading(Reading):
    """Everything, or a window of request time, page by page.

    Whether rows come newest first depends on the release, but all answers must have the same order. An answer in
    another order, or of another release, proves nothing. The reading of everything continues, so that all entries that
    Kong shows are delivered. That of a window ends: everything is read next.

    Parameters
    ----------
    api, page_size, resume
        As in `Reading`.
    shape
        What identifies the rows.
    window
        The window to read, on a gateway that filters by time; ``None``: everything.
    now
        The time by the clock that is ahead, ours or the gateway's, Unix seconds.
    """

    def __init__(
        self,
        api: AdminApi,
        page_size: int,
        resume: str | None,
        *,
        shape: Shape = REQUEST,
        window: Window | None = None,
        now: int = 0,
    ) -> None:
        self._window = window
        self._now = now
        super().__init__(api, page_size, resume, harmless={} if window is None else HARMLESS, shape=shape)

    def _beginning(self) -> Position:
        return Position(self._page_size, None if self._window is None else self._window.before)

    def _question(self) -> Question:
        offset = self._position.offset
        return self._bounds if offset is None else {**self._bounds, "offset": offset}

    @property
    def _bounds(self) -> Question:
        if self._window is None:
            return {}
        before = self._position.before
        return {"after": self._window.after, **({} if before is None else {"before": before})}

    def _fits(self, question: Question, answer: Answer) -> bool:
        return self._is_within_bounds(answer, request_times(answer.entries))

    def _is_within_bounds(self, answer: Answer, times: list[int]) -> bool:
        if self._window is None:
            return True
        before = self._position.before
        return (
            filters_by_time(answer.version) is not False
            and all(moment >= self._window.after for moment in times)
            and (before is None or all(moment < before for moment in times))
        )

    def _take(self, answer: Answer, times: list[int]) -> Page:
        position, entries = self._position, self._entries(answer)
        as_asked = (
            self._is_of_the_same_release(answer.version)
            and self._is_within_bounds(answer, times)
            and self._is_in_order(times)
            and not self._is_other_order
            and len(answer.entries) <= self._asked_for
            # Rows should follow an offset. They may have expired, or a node may have misread the offset.
            and (bool(answer.entries) or position.offset is None or position.made)
        )
        if times:
            position.time = times[-1]
        position.offset, position.made = answer.offset, False
        if answer.offset is None or (self._window is not None and not as_asked):
            return self._page(entries, None, as_asked=as_asked)
        if not self._is_new(answer.offset):
            return self._page(entries, None, as_asked=False)
        if self._window is not None and position.before is None:
            # What is recorded during the reading may come before the rows that were shown. It is left to the next one.
            position.before = max([self._now, *times]) + 1
        return self._page(entries, position.text(), as_asked=as_asked)

    def _page(self, entries: list[Entry], resume: str | None, *, as_asked: bool) -> Page:
        return Page(entries, resume, is_last=resume is None, as_asked=as_asked, newest_first=False)

    def _is_of_the_same_release(self, version: str) -> bool:
        position = self._position
        position.version = position.version or version
        return not version or version == position.version

    def _is_in_order(self, times: list[int]) -> bool:
        position = self._position
        newest_first = _looks_newest_first(times)
        if position.newest_first is None:
            position.newest_first = newest_first
        last = position.time
        if position.newest_first and last is not None and sum(one > last for one in times) > len(times) // 10:
            return False
        return newest_first in (None, position.newest_first)

    def _replace_offset(self) -> None:
        if self._pages:
            raise refused_offset(self._api.host)
        self._position = self._beginning()  # the offset is of an earlier run
        self._offsets.clear()
        self._rows.clear()
        self._cursor = None

    def _pass(self, row: RowUnreadable) -> Gap:
        try:
            behind = self._offset_behind(row)
        except (OffsetRefused, NotAsAsked):
            behind = None
        if behind is None:
            raise SourceUnavailable(
                f"Kong at {self._api.host} works, but cannot show a row of {self._api.path}: the request ended with "
                f"{row.trouble}. The format of its offsets is not known well enough to pass the row. Check the "
                "database and the log of the control plane, or upgrade Kong."
            ) from row
        self._position.offset, self._position.made = behind, True
        return Gap(self._window_of_gap(), row.trouble.reason)

    def _window_of_gap(self) -> Window | None:
        if self._window is None:
            return None
        # Where in it the row is, no order tells. If it is dated later than now, the next reading meets it again.
        return Window(self._window.after, self._position.before or self._now + 1)

    def _latest(self) -> int:
        return self._position.before or self._now + _DAY_SECONDS

    def _offset_behind(self, row: RowUnreadable) -> str | None:
        """Return an offset after the row; ``None`` if it is not known how to make one."""
        offset = self._position.offset
        if self._cursor is None and self._window is not None:
            self._learn_format(self._window.after, self._latest(), row.effort)
        cursor, ids = self._cursor, self._ids()
        if cursor is None or ids is None or (offset is None and self._window is None):
            return None
        second: int | None = None
        if offset is not None:
            last_second, lowest = cursor.time_in(offset), cursor.id_in(offset)
        else:  # the first row of the window
            last_second, lowest = (None if cursor.time_at is None else self._latest()), None
        if last_second is not None:
            first_id = ids.id(0)

            def readable(moment: int) -> bool:
                question = {**self._bounds, "offset": cursor.at(first_id, moment - 1)}
                return self._shows(question, row.effort) is not Shown.UNREADABLE

            second = (
                last_second
                if readable(last_second)
                else find_older_second(readable, last_second, samples=0 if row.is_slow else _SAMPLES)
            )
        row_id = self._id_behind(row, second, self._bounds, lowest if second == last_second else None, _SAMPLES)
        if row_id is None:
            return None
        if second is not None:
            self._position.time = second
        return cursor.at(row_id, second)

    def _learn_format(self, after: int, before: int, effort: Effort) -> None:
        """Find out what offsets look like, from any row around the one that cannot be read."""
        stretches = deque([(0, after), (after, before)])
        for _ in range(_LEARNING_ATTEMPTS):
            if not stretches:
                return
            begin, end = stretches.popleft()
            try:
                answer = self._api.peek({"after": begin, "before": end}, effort)
            except Trouble:
                middle = (begin + end) // 2
                stretches += [(begin, middle), (middle, end)] if begin < middle else []
                continue
            if answer.offset is not None:
                self._remember(answer, request_times(answer.entries))
                return


def _looks_newest_first(times: list[int]) -> bool | None:
    """Return whether rows come newest first; ``None`` if there are too few rows, or they look like neither order.

    In an order that is unrelated to time, about every other row is later than the one before. A few such rows may also
    be rows with an odd time in a gateway that orders by time.
    """
    if len(set(times)) < TELLING_TIMES:
        return None
    rises = sum(later > earlier for earlier, later in pairwise(times))
    if rises <= len(times) // 10:
        return True
    return False if rises >= len(times) // 4 else None
