"""What the tests of the Kong adapter share: connecting to a server without waiting for real, and what came of it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import TimeBudgetReached
from kong_cloudtrail.ports import Gap, Page
from kong_cloudtrail.sources.kong.requests_stream import KongRequests

from sandbox.kong.simulator import KongSimulator
from sandbox.machinery.http_server import HttpServer, Request, Response
from tests.helpers import FakeClock

AUDIT = "/audit/requests"

Connect = Callable[..., KongRequests]
"""Connects to the Kong at a URL, with options of `KongRequests`."""


def connect_to(url: str, clock: FakeClock, *, token: object = None, **options: Any) -> KongRequests:
    """Return a source whose waits take no time."""
    defaults: dict[str, Any] = {
        "token": token if callable(token) else lambda fresh: token,
        "root_ca": None,
        "page_size": 1000,
        "clock": clock,
        "sleep": clock.sleep,
        "remaining_seconds": lambda: math.inf,
    }
    return KongRequests(url, **(defaults | options))


class Deadline:
    """A run's time that really passes: so many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining_seconds(self) -> float:
        return self._end - time.monotonic()

    def sleep(self, seconds: float) -> None:
        if self.remaining_seconds() < seconds:
            raise TimeBudgetReached("The run's time is used up.")
        time.sleep(seconds)

    @property
    def options(self) -> dict[str, Any]:
        """What to give to `connect_to`."""
        return {"remaining_seconds": self.remaining_seconds, "sleep": self.sleep}


def read(source: KongRequests, window: Window | None = None, resume: str | None = None) -> list[Any]:
    return rows_of(list(source.pages(window, resume)))


def gaps(pages: list[Page]) -> list[Gap]:
    return [page.gap for page in pages if page.gap is not None]


def rows_of(pages: list[Page]) -> list[Any]:
    return [entry.value for page in pages for entry in page.entries]


def shown(page: Page) -> list[Any]:
    """Return the rows of a page as Kong sent them."""
    return rows_of([page])


def is_proven(pages: list[Page]) -> bool:
    """Tell whether a reading came to its end and every answer was as asked."""
    assert [page.is_last for page in pages] == [False] * (len(pages) - 1) + [True]
    return all(page.as_asked for page in pages)


def ids(rows: list[Any]) -> list[str]:
    return [row["request_id"] for row in rows]


def queries(kong: KongSimulator) -> list[dict[str, str]]:
    """Return the query arguments of each call of the audit log."""
    calls = [parse_qs(urlsplit(call.target).query) for call in kong.requests if AUDIT in call.target]
    return [{name: values[0] for name, values in query.items()} for query in calls]


def sizes_asked_for(kong: KongSimulator) -> list[int]:
    return [int(query["size"]) for query in queries(kong)]


def page_of(*rows: Any, **more: Any) -> Response:
    return Response(200, json.dumps({"data": rows, "next": None} | more).encode())


class Odd:
    """A server that answers as no Kong would."""

    def __init__(self, answer: Callable[[Request], Response]) -> None:
        self._answer = answer
        self.requests: list[Request] = []
        self._server = HttpServer(self._handle)
        self.url = self._server.origin

    def _handle(self, request: Request) -> Response:
        self.requests.append(request)
        return self._answer(request)

    def __enter__(self) -> Odd:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
