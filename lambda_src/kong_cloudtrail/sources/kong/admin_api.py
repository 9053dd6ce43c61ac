"""Requests for pages of ``/audit/requests`` and ``/audit/objects``, made once or with retries."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

from ...domain.backoff import backoff_seconds
from ...domain.jsontext import decode_page
from ...errors import SourceRefused, SourceUnavailable, TimeBudgetReached
from ...ports import Clock
from .http import HttpClient, Kind, Reply, Trouble

REQUESTS_PATH = "/audit/requests"
OBJECTS_PATH = "/audit/objects"
TOKEN_HEADER = "Kong-Admin-Token"  # noqa: S105 - the name of the header

MAX_ATTEMPTS = 5
"""Attempts until Kong counts as down."""
PAGE_ATTEMPTS = 3
"""Attempts for one page, until a cheap request finds out whether Kong is down."""
QUICK_SECONDS = 5.0
"""Time-out of requests that are cheap for a healthy Kong."""
MAX_RETRY_AFTER_SECONDS = 120.0
MAX_PAGE_BYTES = 24 * 2**20
"""Limit for a page of several entries: larger ones are requested again with fewer entries."""
MAX_ENTRY_BYTES = 80 * 2**20
"""Limit for a page of one entry: a body of 10 MB, Kong's usual limit, with every byte of it escaped, and some more."""

Question = Mapping[str, int | str]
"""Query arguments, without the page's size."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_http_date = re.compile(
    r"[a-z]{3}, (?P<day>\d\d) (?P<month>[a-z]{3}) (?P<year>\d{4}) (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d) "
    r"(?:GMT|UTC|(?P<sign>[+-])(?P<hours>\d\d)(?P<minutes>\d\d))",
    re.IGNORECASE | re.ASCII,
).fullmatch
_gateway_version = re.compile(r"kong/(?P<version>\S+)", re.IGNORECASE).search

ADVICE = {
    401: (
        "does not know the token. Check that the secret holds the token of an RBAC user and nothing else, and that "
        "KONG_SUPERADMIN is true"
    ),
    403: "does not let the user of the token read it. Give the user a role with read permission on {path}",
    404: (
        "does not have it. Switch audit_log on in kong.conf, and check that the URL leads to a control plane of Kong "
        "Gateway Enterprise, with the right base path"
    ),
    400: "does not accept the request. A certificate may be required of the client (mutual TLS), or a proxy interferes",
}
"""What to do about an answer of `AUDIT_PATH` that will not change by itself. The sentence begins with "it"."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A page as Kong returned it.

    Parameters
    ----------
    entries
        The elements of ``data``, parsed.
    offset
        The offset of the next page; ``None`` if there is none.
    version
        The release that answered, for example ``3.10.0.2-enterprise-edition``; empty if the answer does not say.
    body_bytes
        Length of the body.
    """

    entries: list[object]
    offset: str | None
    version: str
    body_bytes: int


class OffsetRefused(Exception):
    """Kong does not accept an offset."""


class Effort:
    """The failed attempts of one request so far."""

    def __init__(self) -> None:
        self.attempts = 0
        """Attempts that failed since `begin`."""
        self.total_attempts = 0
        self.rebuffs = 0
        """How often in a row Kong throttled; not counted as attempts."""
        self.trouble: Trouble | None = None
        """Why the last attempt failed."""

    def begin(self) -> None:
        """Reset the counts, for another request with the same purpose."""
        self.attempts = self.rebuffs = 0

    def failed(self, trouble: Trouble) -> None:
        """Record a failed attempt."""
        self.total_attempts += 1
        self.trouble = trouble
        if trouble.kind is Kind.THROTTLED:
            self.rebuffs += 1
        else:
            self.rebuffs = 0
            self.attempts += 1

    @property
    def is_exhausted(self) -> bool:
        """Whether to give up."""
        return max(self.attempts, self.rebuffs) >= MAX_ATTEMPTS


class AdminApi:
    """The part of Kong's Admin API that is used here.

    Parameters
    ----------
    http
        The HTTP client.
    url
        URL of the Admin API, for messages.
    path
        Path of the audit log to read: `REQUESTS_PATH` or `OBJECTS_PATH`.
    token
        Returns the token, or ``None`` if the Admin API needs none. Called with ``True`` to read it again after Kong
        refused the last one.
    clock
        The time, for ``Retry-After``.
    sleep
        Waits for the given seconds; raises if the run has no time for it.
    """

    def __init__(
        self,
        http: HttpClient,
        url: str,
        path: str,
        *,
        token: Callable[[bool], str | None],
        clock: Clock,
        sleep: Callable[[float], None],
    ) -> None:
        self.host = urlsplit(url).hostname or url
        self.path = path
        self._http = http
        self._token = token
        self._clock = clock
        self._sleep = sleep

    def root(self, seconds: float) -> Reply:
        """Request ``/`` once, with a time-out of `seconds` at most.

        Raises as `HttpClient.get`, and `SourceRefused` if the token cannot be sent in a header.
        """
        headers = self._headers(self._checked_token())
        return self._http.get("/", {}, headers, limit_bytes=MAX_PAGE_BYTES, seconds=min(seconds, QUICK_SECONDS))

    def reply(self, question: Question, size: int, *, seconds: float) -> Reply:
        """Request a page once, and return the answer whatever it is. Raises as `root`."""
        return self._get_page(question, size, self._checked_token(), seconds)

    def ask(self, question: Question, size: int, *, seconds: float = math.inf) -> Answer:
        """Request a page once; a second time if the token was rotated in the meantime.

        Parameters
        ----------
        question
            Which rows.
        size
            How many rows at most.
        seconds
            Time-out.

        Raises
        ------
        Trouble
            If there was no usable answer.
        OffsetRefused
            If Kong does not accept the offset.
        SourceRefused
            For an answer that will not change by itself.
        SourceUnavailable
            If ``Retry-After`` is longer than a run can wait.
        TimeBudgetReached
            If the run's time is used up.
        """
        token = self._checked_token()
        reply = self._get_page(question, size, token, seconds)
        if reply.status == 401 and token is not None and (renewed := self._checked_token(fresh=True)) != token:
            reply = self._get_page(question, size, renewed, seconds)
        if reply.status == 429 or reply.status >= 500:
            kind = Kind.THROTTLED if reply.status == 429 else Kind.FAILED
            raise Trouble(kind, f"status {reply.status}", wait_seconds=self._retry_after_seconds(reply.headers))
        if reply.status == 400 and "offset" in question:
            raise OffsetRefused
        if reply.status != 200:
            advice = ADVICE.get(
                reply.status, "gave an answer that is not documented. Check that the URL is the Admin API's"
            ).format(path=self.path)
            if reply.status in (403, 404) and self.path == OBJECTS_PATH:
                advice += ", or take objects out of STREAMS"
            raise SourceRefused(f"Kong at {self.host} answered {self.path} with status {reply.status}: it {advice}.")
        return _page_of(reply)

    def insist(
        self,
        question: Question,
        size: int,
        effort: Effort,
        *,
        attempts: int = PAGE_ATTEMPTS,
        seconds: float = math.inf,
    ) -> Answer:
        """Request a page until there is one. The wait between attempts grows.

        After a time-out, a single row is requested once more and a larger page is not: a smaller page is quicker.

        Parameters
        ----------
        question, size, seconds
            As for `ask`.
        effort
            Records the failed attempts.
        attempts
            Attempts at most, if Kong can be reached at all.

        Raises
        ------
        Trouble
            If all attempts failed.
        SourceUnavailable
            If there is no connection, or Kong keeps throttling, or failed attempts used up the run's time.
        """
        while True:
            try:
                return self.ask(question, size, seconds=seconds)
            except TimeBudgetReached:
                self._blame(effort)
                raise
            except Trouble as trouble:
                effort.failed(trouble)
                if trouble.is_last:
                    self._blame(effort)
                if trouble.kind in (Kind.UNREACHABLE, Kind.THROTTLED):
                    if effort.is_exhausted:
                        raise self.unavailable(effort) from trouble
                elif effort.attempts >= min(attempts, _attempts_worth(trouble, size)):
                    raise
            self._wait(effort)

    def peek(self, question: Question, effort: Effort) -> Answer:
        """Request a single row once, with a short time-out. Raises as `insist`."""
        effort.begin()
        return self.insist(question, 1, effort, attempts=1, seconds=QUICK_SECONDS)

    def check_alive(self, question: Question, effort: Effort) -> Answer:
        """Make a request that is cheap for Kong, and repeat it as long as attempts are left.

        Raises
        ------
        SourceUnavailable
            If Kong does not answer it either.
        """
        if effort.trouble is not None and effort.trouble.wait_seconds > 0:
            self._wait(effort)
        while True:
            try:
                return self.ask(question, 1, seconds=QUICK_SECONDS)
            except TimeBudgetReached:
                self._blame(effort)
                raise
            except Trouble as trouble:
                effort.failed(trouble)
                if trouble.is_last:
                    self._blame(effort)
                if effort.is_exhausted:
                    raise self.unavailable(effort) from trouble
            self._wait(effort)

    def unavailable(self, effort: Effort) -> SourceUnavailable:
        """Return the error to raise when all attempts failed."""
        return SourceUnavailable(
            f"Kong at {self.host} did not answer {self.path} in {effort.total_attempts} attempts; the last ended with "
            f"{effort.trouble}. Check that the control plane is well and can be reached from here: address, port, "
            "security groups."
        )

    def _wait(self, effort: Effort) -> None:
        asked_to_wait = effort.trouble.wait_seconds if effort.trouble else 0.0
        try:
            self._sleep(max(backoff_seconds(max(effort.attempts, effort.rebuffs, 1)), asked_to_wait))
        except TimeBudgetReached:
            self._blame(effort)
            raise

    def _blame(self, effort: Effort) -> None:
        """Raise `SourceUnavailable` if failed attempts used up the run's time, and not reading."""
        if effort.trouble is not None:
            raise SourceUnavailable(
                f"Kong at {self.host} did not answer {self.path} before the run's time was used up; the last of "
                f"{effort.total_attempts} attempts ended with {effort.trouble}. Check that the control plane is well "
                "and can be reached from here: address, port, security groups."
            ) from None

    def _get_page(self, question: Question, size: int, token: str | None, seconds: float) -> Reply:
        return self._http.get(
            self.path,
            {**question, "size": size},
            self._headers(token),
            limit_bytes=MAX_ENTRY_BYTES if size == 1 else MAX_PAGE_BYTES,
            seconds=seconds,
        )

    def _headers(self, token: str | None) -> dict[str, str]:
        return {TOKEN_HEADER: token} if token else {}  # releases before 3.11 fail on an empty header

    def _checked_token(self, *, fresh: bool = False) -> str | None:
        token = self._token(fresh)
        if token is not None and not (token.isascii() and token.isprintable()):
            raise SourceRefused(
                "The token for Kong contains characters that an HTTP header cannot, such as a line break or a "
                "typographic quotation mark. Store it again, exactly as Kong issued it."
            )
        return token

    def _retry_after_seconds(self, headers: Mapping[str, str]) -> float:
        """Read ``Retry-After``, seconds or a date (RFC 9110, section 10.2.3)."""
        value = headers.get("Retry-After", "")
        if value.isascii() and value.isdigit():
            seconds = float(value)
        else:
            moment = parse_date(value)
            seconds = 0.0 if moment is None else moment - self._clock.now()
        if seconds > MAX_RETRY_AFTER_SECONDS:
            raise SourceUnavailable(
                f"Kong at {self.host} asks to wait {seconds:.0f} s before the next request (Retry-After). The next run "
                "continues from here."
            )
        return max(seconds, 0.0)


def parse_date(text: str) -> int | None:
    """Return the Unix seconds of an HTTP date (RFC 9110, section 5.6.7), or ``None`` if the text is not one.

    The format is fixed, and so is the zone, GMT. Some proxies write another zone as an offset, which is accepted. A
    date without a zone is not.
    """
    date = _http_date(text.strip())
    if date is None or (month := date["month"].lower()) not in _MONTHS:
        return None
    offset = timedelta(hours=int(date["hours"] or 0), minutes=int(date["minutes"] or 0))
    try:
        zone = timezone(-offset if date["sign"] == "-" else offset)
        day = datetime(int(date["year"]), _MONTHS.index(month) + 1, int(date["day"]), tzinfo=zone)
        moment = day + timedelta(hours=int(date["hour"]), minutes=int(date["minute"]), seconds=int(date["second"]))
        return int(moment.astimezone(UTC).timestamp())
    except (ValueError, OverflowError):
        return None


def version_of(headers: Mapping[str, str]) -> str:
    """Return the release that the ``Server`` header names; empty if it names none."""
    match = _gateway_version(headers.get("Server", ""))
    return match["version"] if match else ""


def is_cached(headers: Mapping[str, str]) -> bool:
    """Return whether an answer comes from a cache between Kong and the collector."""
    age = headers.get("Age", "").strip()
    return age.isascii() and age.isdigit() and age.strip("0") != ""


def object_of(reply: Reply) -> dict[str, Any] | None:
    """Return the JSON object that is the body, or ``None``."""
    try:
        document = decode_page(reply.body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _attempts_worth(trouble: Trouble, size: int) -> int:
    if trouble.kind is Kind.SLOW and size == 1:
        return 2
    return 1 if trouble.kind in (Kind.SLOW, Kind.HEAVY) else MAX_ATTEMPTS


def _page_of(reply: Reply) -> Answer:
    if is_cached(reply.headers):
        raise Trouble(Kind.FAILED, "an answer from a cache (no proxy may cache the Admin API)")
    page = object_of(reply)
    if page is None:
        raise Trouble(Kind.FAILED, f"{len(reply.body)} bytes that are not a JSON object")
    entries, offset = page.get("data"), page.get("offset")
    if entries == {}:
        entries = []  # how Lua's JSON encoders write an empty array unless told otherwise
    if not isinstance(entries, list) or not (offset is None or (isinstance(offset, str) and offset)):
        raise _wrong_shape("data is not an array, or offset is not a string")
    if offset is None and page.get("next") is not None:
        raise _wrong_shape("there is a next page but no offset")
    return Answer(entries, offset, version_of(reply.headers), len(reply.body))


def _wrong_shape(what: str) -> Trouble:
    return Trouble(
        Kind.FAILED,
        f"an answer that does not have the documented shape: {what} (does KONG_ADMIN_API lead to the Admin API?)",
    )
