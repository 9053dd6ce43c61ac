"""Reading ``/audit/requests`` page by page, past whatever cannot be read."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

from ...errors import SourceUnavailable
from ...ports import Gap, Page
from .admin_api import AUDIT_PATH, MAX_PAGE_BYTES, PAGE_ATTEMPTS, AdminApi, Answer, Effort, OffsetRefused, Question
from .checks import request_times
from .http import Kind, Trouble
from .offsets import Cursor, IdSpace
from .poison import Shown, find_id

QUICK_PAGES = 16
"""Pages after which a size that failed is tried again: each try may cost a time-out."""
MAX_GAPS = 20
"""That one reading passes, before Kong counts as broken."""

ROW_ATTEMPTS = 3
_REMEMBERED_ROWS = 64
_ROWS_OF_A_PAGE = 16
_SAVED_ROWS = 8
_SHRINKING = 4
_GROWTH = 2


@dataclass(slots=True)
class Position:
    """Where a reading stands.

    Parameters
    ----------
    size
        Rows to ask for next.
    before
        Request time before which everything is still to be read, as in `Window`.
    offset
        Kong's, of the next page; ``None``: the next page is the first one before `before`.
    made
        Whether the offset was made here: Kong has not promised that rows follow.
    time
        Request time of the last row shown, if it has one.
    ending
        Whether all rows were shown, and it is to be checked that none follow.
    version
        The release that answers.
    newest_first
        Whether rows come in that order; ``None``: not known yet.
    rows
        Request time and id of the last rows shown.
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
        """Return it as ASCII text."""
        # Not asdict, which takes its time to copy everything.
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
    """Kong is well and cannot show the next row."""

    def __init__(self, effort: Effort, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.effort = effort
        self.trouble = trouble

    @property
    def is_slow(self) -> bool:
        """Whether each further failure costs a time-out."""
        return self.trouble.kind is Kind.SLOW


class NotAsAsked(Exception):
    """An answer while searching that is none to the question."""


class Reading(ABC):
    """One reading, from a position to its end.

    Parameters
    ----------
    api
        Asks Kong.
    page_size
        Rows per page to ask for.
    resume
        Text of the position to go on at; ``None``, or one that is none: at the beginning.
    harmless
        A question that Kong answers without reading much.
    """

    def __init__(self, api: AdminApi, page_size: int, resume: str | None, *, harmless: Question) -> None:
        self._api = api
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
        known = ((int(moment), str(request_id)) for moment, request_id in self._position.rows)
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
                return Page([], self._position.text(), is_last=False)  # so that a run cut short goes on with this size
        except RowUnreadable as row:
            self._gaps += 1
            if self._gaps > MAX_GAPS:
                raise SourceUnavailable(
                    f"Kong at {self._api.host} is well and cannot show {MAX_GAPS} rows of {AUDIT_PATH} and more; the "
                    f"last one ended with {row.trouble}. Check the database and the log of the control plane."
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
        """Ask for the next page; ``None`` if it fails although Kong is well, and fewer rows are to be asked for."""
        self._asked_for = size = self._position.size
        effort = self._effort
        effort.begin()
        # Most trouble passes. Where large pages have failed a while ago, smaller ones are the next thing to try.
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
        """Ask for more again, but not for pages that are too heavy if the next rows are like the last ones."""
        self._quick_pages += 1
        if self._quick_pages == QUICK_PAGES:
            self._largest = self._page_size
        bearable = size * MAX_PAGE_BYTES // (2 * max(body_bytes, 1))
        self._position.size = max(1, min(self._largest, self._page_size, size * _GROWTH, bearable))

    def _remember(self, answer: Answer, times: list[int]) -> None:
        """Keep what it takes to get past a row that cannot be read, or to notice that another release answers."""
        if len(times) == len(answer.entries):
            rows = zip(times[-_ROWS_OF_A_PAGE:], answer.entries[-_ROWS_OF_A_PAGE:], strict=True)
            ids = [(moment, row.get("request_id")) for moment, row in rows if isinstance(row, dict)]
            self._rows += [(moment, text) for moment, text in ids if isinstance(text, str)]
        if answer.offset is not None and self._rows:
            moment, request_id = self._rows[-1]
            known, self._cursor = self._cursor, Cursor.read(answer.offset, request_id, moment)
            self._is_other_order = bool(known and self._cursor and not self._cursor.is_laid_out_like(known))
        self._position.rows = [list(known) for known in list(self._rows)[-_SAVED_ROWS:]]
        self._position.cursor = None if self._cursor is None else self._cursor.save()

    def _is_new(self, offset: str) -> bool:
        is_new = offset not in self._offsets
        self._offsets.add(offset)
        return is_new

    def _ids(self) -> IdSpace | None:
        by_id = self._cursor is not None and self._cursor.time_at is None
        pairs = [(a, b) for (when, a), (then, b) in pairwise(self._rows) if by_id or when == then]
        return IdSpace.of([text for _, text in self._rows], pairs)

    def _shows(self, question: Question, effort: Effort) -> Shown:
        """Ask for a single row while searching for one that cannot be read. Raises `NotAsAsked`, `OffsetRefused`."""
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
        """Return the id of a row behind which Kong can read again.

        Parameters
        ----------
        row
            What cannot be read.
        when
            Its request time, if rows are ordered by it.
        question
            What is asked, beside the offset.
        lowest
            An id that is before it; ``None``: there is none with this request time.
        samples
            As for `find_id`.
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

    # -- what depends on whether the gateway filters

    @abstractmethod
    def _beginning(self) -> Position:
        """Return the position of the first page."""

    @abstractmethod
    def _question(self) -> Question:
        """Return what to ask for next."""

    @abstractmethod
    def _fits(self, question: Question, answer: Answer) -> bool:
        """Tell whether an answer is one to the question."""

    @abstractmethod
    def _take(self, answer: Answer, times: list[int]) -> Page:
        """Check an answer, move on, and return the page."""

    @abstractmethod
    def _replace_offset(self) -> None:
        """Move to where an offset that Kong refuses would have led."""

    @abstractmethod
    def _pass(self, row: RowUnreadable) -> Gap | None:
        """Move past a row that cannot be read; ``None`` if it can be read by now."""


def refused_offset(host: str) -> SourceUnavailable:
    """Return what to raise when Kong refuses an offset that it gave itself."""
    return SourceUnavailable(
        f"Kong at {host} does not accept an offset that it gave itself (status 400), as it does when the control plane "
        "is upgraded or its database changes meanwhile. The next run reads on with new ones."
    )
