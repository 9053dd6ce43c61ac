"""Looking up the requests that caused the changes of objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ...domain.entry import Context, Entry
from ...errors import CollectorError
from ...ports import Clock
from .admin_api import QUICK_SECONDS, AdminApi, Answer, OffsetRefused, Question
from .http import Trouble

MAX_CALLS = 4
"""Calls for the new entries of a page, at most."""

CALL_ROWS = 1000

REMEMBERED_REQUESTS = 20_000
"""Requests that are kept in memory, without their payloads."""

_CLOSE_SECONDS = 60
"""A request and the objects that it changed are recorded within so many seconds of each other, or it is not found."""

_KEPT_FIELDS = ("request_timestamp", "client_ip", "rbac_user_id", "rbac_user_name", "workspace")


class Causes:
    """Finds the requests of entries by their ``request_id``.

    It makes at most `MAX_CALLS` calls for a page, none if nothing in it is new, each once and with a short time-out.
    After one that fails, it makes no more: the entries are delivered without.

    Parameters
    ----------
    api
        Reads ``/audit/requests``.
    clock
        The time of reading.
    """

    def __init__(self, api: AdminApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._known: dict[str, Mapping[str, Any]] = {}
        self._has_failed = False

    def found_for(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the entries, each with what is known of its request. Never raises."""
        wanted = [entry for entry in entries if (name := _request_id(entry)) and name not in self._known]
        if wanted and not self._has_failed:
            try:
                self._look_up(wanted)
            except (CollectorError, Trouble, OffsetRefused):
                self._has_failed = True
        read_at = int(self._clock.now())
        return [replace(entry, context=Context(read_at, self._known.get(_request_id(entry)))) for entry in entries]

    def _look_up(self, entries: Sequence[Entry]) -> None:
        if len(self._known) > REMEMBERED_REQUESTS:
            self._known.clear()
        missing = {_request_id(entry) for entry in entries}
        calls = 0
        for after, before in spans([entry.timestamp for entry in entries if entry.timestamp is not None]):
            self._remember(self._ask({"after": after, "before": before}), missing)
            calls += 1
        if all(entry.timestamp is not None for entry in entries):
            return
        # A release that records no time of objects does not filter by it either.
        question: Question = {}
        while missing and calls < MAX_CALLS:
            answer = self._ask(question)
            self._remember(answer, missing)
            calls += 1
            if answer.offset is None:
                return
            question = {"offset": answer.offset}

    def _ask(self, question: Question) -> Answer:
        return self._api.ask(question, CALL_ROWS, seconds=QUICK_SECONDS)

    def _remember(self, answer: Answer, missing: set[str]) -> None:
        for row in answer.entries:
            name = row.get("request_id") if isinstance(row, dict) else None
            if isinstance(row, dict) and isinstance(name, str) and name.strip():
                self._known[name] = {field: row.get(field) for field in _KEPT_FIELDS}
                missing.discard(name)


def spans(times: Sequence[int]) -> list[tuple[int, int]]:
    """Return at most `MAX_CALLS` windows, Unix seconds, that cover the requests of objects that changed at some times.

    Where the times are furthest apart, a new window begins.
    """
    ordered = sorted(set(times))
    if not ordered:
        return []
    widest = sorted(pairwise(ordered), key=lambda pair: pair[0] - pair[1])[: MAX_CALLS - 1]
    cuts = sorted(pair for pair in widest if pair[1] - pair[0] > 2 * _CLOSE_SECONDS)
    begins = [ordered[0], *(later for _, later in cuts)]
    ends = [*(earlier for earlier, _ in cuts), ordered[-1]]
    return [(max(begin - _CLOSE_SECONDS, 0), end + _CLOSE_SECONDS + 1) for begin, end in zip(begins, ends, strict=True)]


def _request_id(entry: Entry) -> str:
    name = entry.value.get("request_id") if isinstance(entry.value, dict) else None
    return name if isinstance(name, str) and name.strip() else ""
