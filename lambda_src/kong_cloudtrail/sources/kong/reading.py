"""Reading an audit log page by page, and passing rows that cannot be read."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

from ...domain.entry import Entry
from ...errors import SourceUnavailable
from ...ports import Gap, Page
from .admin_api import MAX_PAGE_BYTES, PAGE_ATTEMPTS, AdminApi, Answer, Effort, OffsetRefused, Question
from .checks import request_times
from .entries import REQUEST, Shape, read_entries
from .http import Kind, Trouble
from .offsets import NO_TIME, Cursor, IdSpace
from .poison import Shown, find_id

QUICK_PAGES = 16
"""Pages after which a size that failed is tried again: each attempt may cost a time-out."""
MAX_GAPS = 20
"""Gaps that one reading passes before Kong counts as broken."""

ROW_ATTEMPTS = 3
_REMEMBERED_ROWS = 64
_ROWS_OF_A_PAGE = 16
_SAVED_ROWS = 8
_SHRINKING = 4
_GROWTH = 2


@dataclass(slots=True)
class Position:
    """The position of a reading.

    Parameters
    ----------
    size
        Rows to request next.
    before
        Request time before which everything is still to be read, as in `Window`.
    offset
        Kong's offset of the next page; ``None``: the next page is the first one before `before`.
    made
        Whether the offset was made here: then rows need not follow.
    time
        Request time of the last row shown, if it has one.
    ending
        Whether all rows were shown, and the next request checks that none follow.
    version
        The release that answers.
    newest_first
        Whether rows come newest first; ``None``: not known yet.
    rows
        Request times and ids of the last rows shown.
    cursor
        `Cursor.save` of the last offset that was understood.
    """

    size: int
    before: int | None = None
    offset: str | None = None
    made: bool = False
    time: int | None = None
    ending: bool = False
    version: str = ""
    newest_first: bool | None = None
    rows: list[list[int | str]] = field(default_factory=list)
    cursor: list[object] | None = None

    def text(self) -> str:
        """Return the position as ASCII text."""
        # Not asdict, which is slow as it copies everything.
        return json.dumps({field_.name: getattr(self, field_.name) for field_ in fields(self)}, separators=(",", ":"))

    @classmethod
    def read(cls, text: str | None) -> Position | None:
        """Return what `text` returned; ``None`` for anything else."""
        match _json(text):
            case {
                "size": int(),
                "before": int() | None,
                "offset": str() | None,
                "made": bool(),
                "time": int() | None,
                "ending": bool(),
                "version": str(),
                "newest_first": bool() | None,
                "rows": list(rows),
                "cursor": list() | None,
                **other,
            } as saved if not other and all(map(_is_row, rows)):
                return cls(**dict(saved))
        return None


def _json(text: str | None) -> Any:
    try:
        return json.loads(text or "")
    except ValueError:
        return None


def _is_row(row: object) -> bool:
    match row:
        case [int(), str()]:
            return True
    return False


class RowUnreadable(Exception):
    """Kong works, but cannot show the next row."""

    def __init__(self, effort: Effort, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.effort = effort
        self.trouble = trouble

    @property
    def is_slow(self) -> bool:
        """Whether each further failure costs a time-out."""
        return self.trouble.kind is Kind.SLOW


class NotAsAsked(Exception):
    """An answer during a search that does not match the request."""


class Reading(ABC):
    """One reading, from a position to its end.

    Parameters
    ----------
    api
        Kong's Admin API.
    page_size
        Rows per page to request.
    resume
        Text of the position to continue at; with ``None`` or any other text, the reading begins anew.
    harmless
        A request that is cheap for Kong.
    shape
        What identifies the rows.
    """

    def __init__(
        self, api: AdminApi, page_size: int, resume: str | None, *, harmless: Question, shape: Shape = REQUEST
    ) -> None:
        self._api = api
        self._shape = shape
        self._page_size = page_size
        self._harmless = harmless
        self._position = Position.read(resume) or self._beginning()
        self._position.size = max(1, min(self._position.size, page_size))
        self._largest = page_size
        self._quick_pages = 0
        self._pages = 0
        self._asked_for = 0
        self._offsets = {self._position.offset}
        self._gaps = 0
        self._effort = Effort()
        known = ((int(moment), str(row_id)) for moment, row_id in self._position.rows)
        self._rows = deque(known, maxlen=_REMEMBERED_ROWS)
        self._cursor = Cursor.restore(self._position.cursor)
        self._is_other_order = False

    def pages(self) -> Iterator[Page]:
        """Read to the end. Raises `SourceError`, and `TimeBudgetReached` between two pages."""
        while True:
            try:
                page = self._next()
            except NotAsAsked:
                page = Page([], None, is_last=True, as_asked=False)
            except OffsetRefused:
                self._replace_offset()
                continue
            if page is None:
                continue
            yield page
            if page.is_last:
                return

    def _next(self) -> Page | None:
        try:
            answer = self._fetch()
            if answer is None:
                return Page([], self._position.text(), is_last=False)  # so that the next run continues with this size
        except RowUnreadable as row:
            self._gaps += 1
            if self._gaps > MAX_GAPS:
                raise SourceUnavailable(
                    f"Kong at {self._api.host} works, but cannot show more than {MAX_GAPS} rows of {self._api.path}; "
                    f"the last one ended with {row.trouble}. Check the database and the log of the control plane."
                ) from row
            self._largest = self._page_size  # it was not the size
            gap = self._pass(row)
            self._effort = Effort()
            return None if gap is None else Page([], self._position.text(), is_last=False, gap=gap)
        self._effort = Effort()
        self._pages += 1
        times = request_times(answer.entries)
        self._remember(answer, times)
        return self._take(answer, times)

    # -- one page

    def _fetch(self) -> Answer | None:
        """Request the next page; return ``None`` if it fails although Kong works, to request fewer rows next."""
        self._asked_for = size = self._position.size
        effort = self._effort
        effort.begin()
        # Most failures pass. But if large pages failed recently, try smaller ones at once.
        attempts = 1 if size > 1 and self._largest < self._page_size else PAGE_ATTEMPTS
        try:
            answer = self._api.insist(self._question(), size, effort, attempts=attempts)
        except Trouble as trouble:
            if trouble.kind is not Kind.HEAVY:
                self._api.check_alive(self._harmless, effort)
            if size == 1:
                raise RowUnreadable(effort, trouble) from trouble
            self._shrink(size)
            return None
        self._grow(size, answer.body_bytes)
        return answer

    def _shrink(self, size: int) -> None:
        self._largest, self._quick_pages = max(1, size // _GROWTH), 0
        self._position.size = max(1, size // _SHRINKING)

    def _grow(self, size: int, body_bytes: int) -> None:
        """Request larger pages again, but none that would be too large if the next rows are like the last ones."""
        self._quick_pages += 1
        if self._quick_pages == QUICK_PAGES:
            self._largest = self._page_size
        bearable = size * MAX_PAGE_BYTES // (2 * max(body_bytes, 1))
        self._position.size = max(1, min(self._largest, self._page_size, size * _GROWTH, bearable))

    def _remember(self, answer: Answer, times: list[int]) -> None:
        """Keep what is needed to pass a row that cannot be read, or to notice that another release answers."""
        was_timeless = bool(self._rows) and self._rows[-1][0] == NO_TIME
        if len(times) == len(answer.entries) or self._shape.may_lack_time:
            rows = [row for row in answer.entries[-_ROWS_OF_A_PAGE:] if isinstance(row, dict)]
            moments = [next(iter(request_times([row])), NO_TIME) for row in rows]
            ids = zip(moments, [row.get(self._shape.id_field) for row in rows], strict=True)
            self._rows += [(moment, text) for moment, text in ids if isinstance(text, str)]
        if answer.offset is not None and self._rows:
            moment, row_id = self._rows[-1]
            known, self._cursor = self._cursor, Cursor.read(answer.offset, row_id, moment)
            self._is_other_order = False
            if known is not None and self._cursor is not None:
                # The offset of a row without a time does not show where a time would be.
                if moment == NO_TIME and self._cursor.may_be_laid_out_like(known):
                    self._cursor = known
                elif not (was_timeless and known.may_be_laid_out_like(self._cursor)):
                    self._is_other_order = not self._cursor.is_laid_out_like(known)
        self._position.rows = [list(known) for known in list(self._rows)[-_SAVED_ROWS:]]
        self._position.cursor = None if self._cursor is None else self._cursor.save()

    def _entries(self, answer: Answer) -> list[Entry]:
        return read_entries(answer.entries, self._shape)

    def _is_new(self, offset: str) -> bool:
        is_new = offset not in self._offsets
        self._offsets.add(offset)
        return is_new

    def _ids(self) -> IdSpace | None:
        by_id = self._cursor is not None and self._cursor.time_at is None
        pairs = [(a, b) for (when, a), (then, b) in pairwise(self._rows) if by_id or when == then]
        return IdSpace.of([text for _, text in self._rows], pairs)

    def _shows(self, question: Question, effort: Effort) -> Shown:
        """Request a single row during the search for one that cannot be read. Raises `NotAsAsked`, `OffsetRefused`."""
        try:
            answer = self._api.peek(question, effort)
        except Trouble:
            return Shown.UNREADABLE
        if not self._fits(question, answer):
            raise NotAsAsked
        return Shown.ROW if answer.entries else Shown.NOTHING

    def _id_behind(
        self, row: RowUnreadable, when: int | None, question: Question, lowest: str | None, samples: int
    ) -> str | None:
        """Return an id after which Kong can read rows again.

        Parameters
        ----------
        row
            The row that cannot be read.
        when
            Its request time, if rows are ordered by time.
        question
            The parameters of the requests, except the offset.
        lowest
            An id before the row; ``None``: there is none with this request time.
        samples
            As in `find_id`.
        """
        cursor, ids = self._cursor, self._ids()
        if cursor is None or ids is None:
            return None
        number = ids.number(lowest) if lowest is not None else 0
        if number is None:
            return None
        return find_id(
            lambda text: self._shows({**question, "offset": cursor.at(text, when)}, row.effort) is not Shown.UNREADABLE,
            ids,
            number,
            None if lowest is None else ids.spacing([text for _, text in self._rows]),
            samples=0 if row.is_slow else samples,
        )

    # -- depends on whether the gateway filters

    @abstractmethod
    def _beginning(self) -> Position:
        """Return the position of the first page."""

    @abstractmethod
    def _question(self) -> Question:
        """Return the parameters of the next request."""

    @abstractmethod
    def _fits(self, question: Question, answer: Answer) -> bool:
        """Return whether an answer matches the request."""

    @abstractmethod
    def _take(self, answer: Answer, times: list[int]) -> Page:
        """Check an answer, move on, and return the page."""

    @abstractmethod
    def _replace_offset(self) -> None:
        """Move to the position of an offset that Kong refuses."""

    @abstractmethod
    def _pass(self, row: RowUnreadable) -> Gap | None:
        """Move past a row that cannot be read; return ``None`` if it can be read in the meantime."""


def refused_offset(host: str) -> SourceUnavailable:
    """Return the error to raise when Kong refuses its own offset."""
    return SourceUnavailable(
        f"Kong at {host} does not accept its own offset (status 400). This happens when the control plane is upgraded "
        "or its database changes during a run. The next run continues with new offsets."
    )
