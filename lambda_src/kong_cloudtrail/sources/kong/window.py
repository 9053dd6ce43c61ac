"""Reading a window of request time, on a gateway that filters by it."""

from __future__ import annotations

from ...domain.window import Window
from ...ports import Gap, Page
from .admin_api import AdminApi, Answer, Effort, OffsetRefused, Question
from .checks import filters_by_time, never_rises, request_times
from .http import Trouble
from .poison import LATEST, Shown, Stretch, find_second
from .reading import ROW_ATTEMPTS, NotAsAsked, Position, Reading, RowUnreadable, refused_offset

_SAMPLES = 8
"""Few: rows that are skipped by mistake are in the gap, and read again with it."""

HARMLESS: Question = {"before": 0}
"""No row matches if filters work, so that any healthy gateway answers quickly."""


class WindowReading(Reading):
    """A window, on a gateway that filters by time and shows the newest rows first.

    Every answer is checked against the request. The first one that does not match ends the reading: the entries that
    Kong showed are delivered, but nothing is concluded from them.

    Parameters
    ----------
    api, page_size, resume
        As in `Reading`.
    window
        The window to read.
    now
        The approximate time, Unix seconds.
    """

    def __init__(self, api: AdminApi, page_size: int, resume: str | None, *, window: Window, now: int) -> None:
        self._window = window
        self._now = now
        self._refused_at: int | None = None
        super().__init__(api, page_size, resume, harmless=HARMLESS)

    def _beginning(self) -> Position:
        return Position(self._page_size, self._window.before)

    def _question(self) -> Question:
        position = self._position
        return _stretch(self._window.after, position.before, position.offset)

    def _fits(self, question: Question, answer: Answer) -> bool:
        times = request_times(answer.entries)
        before = question.get("before")
        return (
            filters_by_time(answer.version) is not False
            and all(moment >= int(question["after"]) for moment in times)
            and (before is None or all(moment <= int(before) for moment in times))
        )

    def _take(self, answer: Answer, times: list[int]) -> Page:
        position = self._position
        if not self._honours(answer, times):
            return Page(self._entries(answer), None, is_last=True, as_asked=False)
        if times:
            position.time = times[-1]
        had_offset, position.offset = position.offset is not None, answer.offset
        position.made = False
        if answer.offset is not None:
            return Page(self._entries(answer), position.text(), is_last=False)
        if not had_offset:
            return Page(self._entries(answer), None, is_last=True)
        # After several pages, the end may be wrong: a node may have misread the offset.
        ends = [moment for moment in (position.time, position.before) if moment is not None]
        if position.time is None or min(ends) <= self._window.after:
            return Page(self._entries(answer), None, is_last=True, as_asked=position.time is not None)
        position.before, position.ending = min(ends), True
        return Page(self._entries(answer), position.text(), is_last=False)

    def _honours(self, answer: Answer, times: list[int]) -> bool:
        position = self._position
        if position.ending:
            # Rows without a time come in no order: the last ones of the window are shown once more.
            return not times and answer.offset is None
        bounds = [moment for moment in (position.before, position.time) if moment is not None]
        return (
            len(answer.entries) <= self._asked_for
            and filters_by_time(answer.version) is not False
            and (not times or (times[-1] >= self._window.after and all(times[0] <= bound for bound in bounds)))
            and never_rises(times)
            and not self._is_other_order
            and (answer.offset is None or self._is_new(answer.offset))
            # Rows should follow an offset. They may have expired, or a node may have misread the offset.
            and (bool(answer.entries) or position.offset is None or position.made)
        )

    def _replace_offset(self) -> None:
        position = self._position
        seen = position.time
        if (seen is None and self._pages) or (seen is not None and seen == self._refused_at):
            raise refused_offset(self._api.host)
        # By time, including the rest of the last second: rows that are shown twice do no harm. But if the offset led
        # past an unreadable row of that second, the rest of it is in the gap.
        self._refused_at = seen
        self._offsets.clear()
        if seen is not None:
            before = seen if position.made else seen + 1
            position.before = before if position.before is None else min(before, position.before)
        position.offset, position.made = None, False

    def _pass(self, row: RowUnreadable) -> Gap | None:
        position, after = self._position, self._window.after
        if position.offset is not None and position.time is not None:
            # Rows of the last second may be left. They come first, and time filters cannot separate them.
            rest = self._shows(_stretch(position.time, position.before, position.offset), row.effort)
            if rest is Shown.ROW:
                return None
            if rest is Shown.UNREADABLE:
                last = None if self._cursor is None else self._cursor.id_in(position.offset)
                return self._pass_second(row, position.time, last)
            position.before, position.offset = position.time, None
        second = find_second(self._shows_stretch(row.effort), after, position.before, self._now)
        position.offset = None
        if second is None:
            return None
        if not self._is_unreadable(row, second):
            position.before = None if second == LATEST else second + 1
            return None
        return self._pass_second(row, second)

    def _pass_second(self, row: RowUnreadable, second: int, lowest: str | None = None) -> Gap:
        """Move past a row whose request time is known, and no further than necessary.

        Parameters
        ----------
        row, second
            The row, and its request time.
        lowest
            Id of the row before it, if that has the same request time.
        """
        position = self._position
        window = Window(second, None if second == LATEST else second + 1)
        # The rows after it may be of the same second, which no filter can divide.
        behind = None if row.is_slow or second == LATEST else self._offset_behind(row, second, lowest)
        position.offset, position.made = behind, behind is not None
        position.before = second if behind is None else second + 1
        if behind is not None:
            position.time = second
        return Gap(window, row.trouble.reason)

    def _offset_behind(self, row: RowUnreadable, second: int, lowest: str | None) -> str | None:
        """Return the offset of the rest of a second; ``None`` if it is not known how to make one."""
        try:
            if self._cursor is None:
                answer = self._api.peek(_stretch(0, second, None), row.effort)  # any row shows the format
                self._remember(answer, request_times(answer.entries))
            cursor = self._cursor
            if cursor is None or (cursor.time_at is None and lowest is None):
                return None
            request_id = self._id_behind(row, second, _stretch(second, second + 1, None), lowest, _SAMPLES)
        except (Trouble, OffsetRefused, NotAsAsked):
            return None
        return None if request_id is None else cursor.at(request_id, second)

    def _is_unreadable(self, row: RowUnreadable, second: int) -> bool:
        """Return whether the row cannot be read in several attempts: the search makes only one for each request."""
        row.effort.begin()
        try:
            before = None if second == LATEST else second + 1
            self._api.insist(_stretch(second, before, None), 1, row.effort, attempts=ROW_ATTEMPTS)
        except Trouble:
            self._api.check_alive(self._harmless, row.effort)
            return True
        return False

    def _shows_stretch(self, effort: Effort) -> Stretch:
        return lambda after, before: self._shows(_stretch(after, before, None), effort)


def _stretch(after: int, before: int | None, offset: str | None) -> Question:
    question: dict[str, int | str] = {"after": after}
    if before is not None:
        question["before"] = before
    if offset is not None:
        question["offset"] = offset
    return question
