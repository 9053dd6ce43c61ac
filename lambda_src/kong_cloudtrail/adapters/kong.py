"""Kong Gateway's Admin API as the source of entries.

The behaviour relied on is documented by Kong: "Audit logging" in the Gateway guides, the Admin API reference and the
changelogs of 3.1 to 3.11. Where versions differ, this client keeps to what holds in all of them: it builds each page's
URL from its own parameters plus ``offset`` and never follows ``next``, which loses filters before 3.9, and any base
path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError

from ..backoff import backoff_seconds
from ..domain.event import Gateway
from ..domain.jsontext import decode_page
from ..domain.window import Window
from ..errors import PageTooHeavy, PageTooSlow, SourceError, SourceRefused, SourceUnavailable
from ..ports import Clock, Page, Probe

AUDIT_PATH = "/audit/requests"
TOKEN_HEADER = "Kong-Admin-Token"  # noqa: S105 - the name of the header

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 20.0
MAX_ATTEMPTS = 5
MAX_BODY_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 120.0
MAX_PAGE_BYTES = 24 * 2**20
"""Of a page of several entries: heavier ones are asked for again with fewer entries."""
QUICK_PAGES = 16
"""Pages after which a size that took Kong too long is tried again: each try costs a time-out."""
MAX_ENTRY_BYTES = 80 * 2**20
"""Of a page of one entry: a body of 10 MB, Kong's usual limit, with every byte of it escaped, and some more."""

_CHUNK_BYTES = 256 * 1024
_GATEWAY_VERSION = re.compile(r"kong/(?P<version>\S+)", re.IGNORECASE)
_UNKNOWN_VERSION = "unknown"

_ADVICE = {
    401: (
        "does not know the token. Check that the secret holds the token of an RBAC user and nothing else, and that "
        "KONG_SUPERADMIN is true"
    ),
    403: "does not let the user of the token read it. Give the user a role with read permission on /audit/requests",
    404: (
        "does not have it. Switch audit_log on in kong.conf, and check that the URL leads to a control plane of Kong "
        "Gateway Enterprise, with the right base path"
    ),
    400: "does not accept the request. A certificate may be required of the client (mutual TLS), or a proxy interferes",
}


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    document: dict[str, Any]
    body_bytes: int


class _Trouble(Exception):
    """An attempt that came to nothing and is worth repeating."""


class KongAuditSource:
    """Reads ``/audit/requests`` of one Kong Gateway.

    Parameters
    ----------
    admin_api
        URL of the Admin API, without a slash at the end; may have a base path.
    token
        Returns the token, or ``None`` if the Admin API needs none. Called with ``True`` to have it fetched anew after
        Kong refused the last one.
    root_ca
        Path of the PEM file of the CA to trust; ``None``: the public ones.
    page_size
        Entries per page to ask for, 1 to 1000.
    clock
        Tells the time if Kong does not.
    sleep
        Waits the given seconds; raises if the run has no time for it.
    remaining_seconds
        Returns how long reading may go on; infinite on a laptop.
    """

    def __init__(
        self,
        admin_api: str,
        *,
        token: Callable[[bool], str | None],
        root_ca: str | None,
        page_size: int,
        clock: Clock,
        sleep: Callable[[float], None],
        remaining_seconds: Callable[[], float],
    ) -> None:
        self._admin_api = admin_api
        self._host = urlsplit(admin_api).hostname or admin_api
        self._token = token
        self._page_size = page_size
        self._clock = clock
        self._sleep = sleep
        self._remaining_seconds = remaining_seconds
        self._session = requests.Session()
        # Retries are ours: they know the run's time, and a body that ends early counts as a failure too.
        self._session.mount("http://", HTTPAdapter(max_retries=0))
        self._session.mount("https://", HTTPAdapter(max_retries=0))
        # Given with each request: on a session, REQUESTS_CA_BUNDLE of the environment would take its place.
        self._verify: str | None = root_ca
        self._session.headers["User-Agent"] = "kong-cloudtrail"

    # -- the port

    def describe(self) -> Gateway:
        """Ask for version, host name and clock.

        Whatever ``/`` answers, and if the user has no right to read it, the run goes on: the ``Server`` header of any
        answer tells the version.
        """
        reply = self._get("/", {}, optional=True)
        version, hostname = reply.document.get("version"), reply.document.get("hostname")
        from_header = _GATEWAY_VERSION.search(reply.headers.get("Server", ""))
        if not isinstance(version, str) or not version:
            version = from_header["version"] if from_header else _UNKNOWN_VERSION
        if not isinstance(hostname, str) or not hostname:
            hostname = self._host
        return Gateway(version, hostname, self._kong_time(reply.headers))

    def probe(self, later: int) -> Probe:
        """Ask for entries from the future: a gateway that answers with older ones ignores time filters."""
        entries, *_ = self._page({"after": later}, 1)
        timestamps = [entry.get("request_timestamp") for entry in entries if isinstance(entry, dict)]
        filters = all(isinstance(stamp, int | float) and stamp >= later for stamp in timestamps)
        if filters and entries:  # or the first of all entries happens to be dated in the future
            filters = not self.has_entries_before(0)
        return Probe(filters=filters, has_later_entries=filters and bool(entries))

    def has_entries_before(self, timestamp: int) -> bool:
        """Tell whether there is any entry older than `timestamp`."""
        entries, *_ = self._page({"before": timestamp}, 1)
        return bool(entries)

    def pages(self, window: Window | None) -> Iterator[Page]:
        """Read a window page by page, with smaller pages while they are too heavy."""
        parameters: dict[str, int | str] = {}
        if window is not None:
            parameters["after"] = window.after
            if window.before is not None:
                parameters["before"] = window.before
        size = largest = self._page_size
        quick_pages = 0
        offsets: set[str] = set()
        while True:
            try:
                entries, offset, body_bytes = self._page(parameters, size)
            except PageTooHeavy as error:
                if size == 1:
                    raise
                self._sleep(0)  # as long as there is time for another try
                if isinstance(error, PageTooSlow):
                    largest, quick_pages = size // 2, 0
                size = max(1, size // 4)
                continue
            quick_pages += 1
            if quick_pages == QUICK_PAGES:
                largest = self._page_size
            yield Page(entries, is_last=offset is None)
            if offset is None:
                return
            if offset in offsets:
                raise SourceUnavailable(
                    f"Kong at {self._host} answered a page of {AUDIT_PATH} with an offset that it gave before, which "
                    "would never end. Look for a proxy that caches the Admin API."
                )
            offsets.add(offset)
            parameters["offset"] = offset
            size = min(largest, self._next_size(size, body_bytes))

    # -- pages

    def _next_size(self, size: int, body_bytes: int) -> int:
        """Grow again, but not to where the next page would be too heavy if its entries are like the last ones."""
        bearable = size * MAX_PAGE_BYTES // (2 * max(body_bytes, 1))
        return max(1, min(self._page_size, size * 2, bearable))

    def _page(self, parameters: Mapping[str, int | str], size: int) -> tuple[Sequence[object], str | None, int]:
        reply = self._get(AUDIT_PATH, {**parameters, "size": size})
        page = reply.document
        entries, offset = page.get("data"), page.get("offset")
        if entries == {}:
            entries = []  # how Lua's JSON encoders write an empty array unless told otherwise
        if not isinstance(entries, list) or not (offset is None or (isinstance(offset, str) and offset)):
            raise self._broken_shape("data is not an array, or offset is not a text")
        if offset is None and page.get("next") is not None:
            raise self._broken_shape("there is a next page but no offset")
        return entries, offset, reply.body_bytes

    def _broken_shape(self, what: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"The answer of Kong at {self._host} to {AUDIT_PATH} does not have the documented shape: {what}. Check "
            "that KONG_ADMIN_API leads to the Admin API itself."
        )

    # -- requests

    def _get(self, path: str, parameters: Mapping[str, int | str], *, optional: bool = False) -> _Reply:
        """Ask until there is an answer, and wait in between, longer each time.

        Parameters
        ----------
        path, parameters
            What to ask for.
        optional
            Whether any answer will do that does not say that Kong is in trouble or does not know the token.

        Raises
        ------
        SourceRefused
            For an answer that will not change by itself.
        SourceUnavailable
            If all attempts failed.
        PageTooHeavy
            If the answer was too large, or too slow in coming.
        """
        trouble = ""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            wait_seconds = backoff_seconds(attempt)
            try:
                reply = self._ask(path, parameters, optional=optional)
            except _Trouble as error:
                trouble = str(error)
            else:
                passing = reply.status == 429 or reply.status >= 500
                if reply.status == 200 or (optional and not passing and reply.status != 401):
                    return reply
                if not passing:
                    raise self._refusal(path, reply.status, with_offset="offset" in parameters)
                if optional and attempt == MAX_ATTEMPTS:
                    return reply  # its headers will do
                trouble = f"status {reply.status}"
                wait_seconds = max(wait_seconds, self._retry_after_seconds(reply.headers))
            if attempt < MAX_ATTEMPTS:
                self._sleep(wait_seconds)
        raise SourceUnavailable(
            f"Kong at {self._host} did not answer {path} in {MAX_ATTEMPTS} attempts; the last ended with {trouble}. "
            "Check that the control plane is well and can be reached from here: address, port, security groups."
        )

    def _ask(self, path: str, parameters: Mapping[str, int | str], *, optional: bool) -> _Reply:
        """Ask once; a second time if the token was rotated meanwhile."""
        token = self._checked_token(fresh=False)
        reply = self._request(path, parameters, token, optional=optional)
        if reply.status == 401 and token is not None and (renewed := self._checked_token(fresh=True)) != token:
            reply = self._request(path, parameters, renewed, optional=optional)
        return reply

    def _checked_token(self, *, fresh: bool) -> str | None:
        token = self._token(fresh)
        if token is not None and not (token.isascii() and token.isprintable()):
            raise SourceRefused(
                "The token for Kong holds characters that no HTTP header can, such as a line break or a typographic "
                "quotation mark. Store it again, alone and as Kong issued it."
            )
        return token

    def _request(
        self, path: str, parameters: Mapping[str, int | str], token: str | None, *, optional: bool = False
    ) -> _Reply:
        left = max(self._remaining_seconds(), 1.0)
        try:
            with self._session.get(
                self._admin_api + path,
                params=parameters,
                headers={TOKEN_HEADER: token} if token else {},
                timeout=(min(CONNECT_TIMEOUT_SECONDS, left), min(READ_TIMEOUT_SECONDS, left)),
                allow_redirects=False,  # the token is for this host alone
                verify=self._verify,
                stream=True,
            ) as response:
                body = self._read(response, single=parameters.get("size", 1) == 1)
                document = _parse(body, optional=optional) if response.status_code == 200 else {}
                return _Reply(response.status_code, response.headers, document, len(body))
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise SourceRefused(
                    f"The certificate of Kong at {self._host} is not trusted, or not for this host. If a private CA "
                    "signed it, give the CA's certificate in KONG_ROOT_CA."
                ) from None
            raise _Trouble("a failed TLS handshake (does Kong require a certificate of its clients?)") from error
        except requests.exceptions.RequestException as error:
            if isinstance(error, requests.exceptions.ReadTimeout) and parameters.get("size", 1) != 1:
                raise PageTooSlow(f"Kong at {self._host} took too long over a page.") from error
            raise _Trouble(type(error).__name__) from error
        except ReadTimeoutError as error:
            if parameters.get("size", 1) != 1:
                raise PageTooSlow(f"Kong at {self._host} took too long over a page.") from error
            raise _Trouble("a time-out") from error
        except HTTPError as error:
            raise _Trouble(type(error).__name__) from error

    def _read(self, response: requests.Response, *, single: bool) -> bytes:
        limit_bytes = MAX_ENTRY_BYTES if single else MAX_PAGE_BYTES
        deadline = self._clock.monotonic() + MAX_BODY_SECONDS
        chunks, size_bytes = [], 0
        # Not iter_content: it waits for whole chunks, and each byte that trickles in prolongs its time-out.
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            if self._remaining_seconds() < 0:
                self._sleep(0)  # which tells that there is no time for the rest
            size_bytes += len(chunk)
            if size_bytes > limit_bytes or self._clock.monotonic() > deadline:
                raise PageTooHeavy(
                    f"Kong at {self._host} answered with more than {limit_bytes} bytes, or took more than "
                    f"{MAX_BODY_SECONDS:.0f} s."
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _kong_time(self, headers: Mapping[str, str]) -> int:
        try:
            return int(parsedate_to_datetime(headers["Date"]).replace(tzinfo=UTC).timestamp())
        except (KeyError, ValueError, OverflowError):
            return int(self._clock.now())

    def _retry_after_seconds(self, headers: Mapping[str, str]) -> float:
        """Read ``Retry-After``, seconds or a date (RFC 9110, section 10.2.3)."""
        value = headers.get("Retry-After", "")
        if value.isascii() and value.isdigit():
            seconds = float(value)
        else:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - self._clock.now()
            except (ValueError, OverflowError):
                return 0.0
        if seconds > MAX_RETRY_AFTER_SECONDS:
            raise SourceUnavailable(
                f"Kong at {self._host} asks to be left alone for {seconds:.0f} s. The next run goes on from here."
            )
        return max(seconds, 0.0)

    def _refusal(self, path: str, status: int, *, with_offset: bool) -> SourceError:
        if status == 400 and with_offset:
            return SourceUnavailable(
                f"Kong at {self._host} does not accept an offset that it gave itself (status 400), as it does when the "
                "control plane is upgraded or its database changes meanwhile. The next run reads on with new ones."
            )
        advice = _ADVICE.get(status, "answered in a way that is not documented. Check that the URL is the Admin API's")
        return SourceRefused(f"Kong at {self._host} answered {path} with status {status}: it {advice}.")


def _parse(body: bytes, *, optional: bool) -> dict[str, Any]:
    try:
        document = decode_page(body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    if optional:
        return {}
    raise _Trouble(f"{len(body)} bytes that are not a JSON object")
