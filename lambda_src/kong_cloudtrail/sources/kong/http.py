"""HTTP with a deadline for every wait.

The time-outs of HTTP libraries limit the wait for the next bytes. A server that sends its status line byte by byte,
``100 Continue`` without end, or a body in a trickle, can keep such a client waiting for any time. Here one deadline
limits the whole answer, from connecting to the last byte, and no answer takes longer than the run has left.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import io
import math
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from urllib3.util import Timeout
from urllib3.util.connection import allowed_gai_family
from urllib3.util.ssl_ import create_urllib3_context

from ...errors import SourceRefused, TimeBudgetReached

CONNECT_TIMEOUT_SECONDS = 5.0
"""For each address of the host, and for the TLS handshake."""
READ_TIMEOUT_SECONDS = 20.0
"""For status line and headers as a whole, and for each further piece of the body."""
MAX_ANSWER_SECONDS = 60.0
"""For everything together."""

_CHUNK_BYTES = 256 * 1024
_FIRST_ANSWER_SECONDS = 0.2
_LEAST_PATIENCE_SECONDS = 1.0
_SLOWER_THAN_USUAL = 3.0
_CLOCK_TOLERANCE_SECONDS = 0.05


class Kind(enum.Enum):
    """Why an attempt failed, as far as it matters for the next one."""

    FAILED = enum.auto()
    """An error status, a broken connection, an answer that makes no sense."""
    SLOW = enum.auto()
    """No complete answer in time."""
    HEAVY = enum.auto()
    """The answer is larger than the limit."""
    UNREACHABLE = enum.auto()
    """No connection."""
    THROTTLED = enum.auto()
    """The server asks to try again later."""


class Trouble(Exception):
    """An attempt that failed, and may be worth repeating.

    Parameters
    ----------
    kind
        Why it failed.
    reason
        What happened, in a few words that may be logged.
    wait_seconds
        How long the server asks to wait.
    is_last
        Whether the run's time is used up.
    """

    def __init__(self, kind: Kind, reason: str, *, wait_seconds: float = 0.0, is_last: bool = False) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.wait_seconds = wait_seconds
        self.is_last = is_last


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of any status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def tls_context(root_ca: str | None) -> ssl.SSLContext:
    """Return a context that trusts what `HttpClient` trusts.

    Parameters
    ----------
    root_ca
        Path of the PEM file of the CA to trust; ``None``: the public CAs.
    """
    context = create_urllib3_context()
    context.load_verify_locations(root_ca or DEFAULT_CA_BUNDLE_PATH)
    context.check_hostname = True
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class HttpClient:
    """Makes requests to one server.

    It uses nothing from the environment: no proxy, which would see the token; no ``.netrc``, whose password would be
    sent to Kong; no CA bundle.

    Parameters
    ----------
    base_url
        URL without a slash at the end.
    root_ca
        Path of the PEM file of the CA to trust; ``None``: the public CAs.
    remaining_seconds
        Returns for how long the run may still read. May be infinite, or negative.
    """

    def __init__(self, base_url: str, *, root_ca: str | None, remaining_seconds: Callable[[], float]) -> None:
        self._base_url = base_url
        self._host = urlsplit(base_url).hostname or base_url
        self._verify: str | bool = root_ca or True
        self._remaining_seconds = remaining_seconds
        self._slowest_seconds: float | None = None
        self._unanswered: Trouble | None = None
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(max_retries=0))
        # A cache between us and Kong would hide what is new.
        self._session.headers.update(
            {"User-Agent": "kong-cloudtrail", "Cache-Control": "no-cache, no-store", "Pragma": "no-cache"}
        )

    def get(
        self,
        path: str,
        parameters: Mapping[str, int | str],
        headers: Mapping[str, str],
        *,
        limit_bytes: int,
        seconds: float = math.inf,
    ) -> Reply:
        """Make one GET request. Redirects are not followed: the token is for this host only.

        Parameters
        ----------
        path, parameters, headers
            What to request.
        limit_bytes
            Longer bodies are not read to their end.
        seconds
            Time-out from connecting to the last byte. `MAX_ANSWER_SECONDS` is the upper limit.

        Raises
        ------
        Trouble
            If there was no complete answer. Also if the run's time is used up and the server had enough time to answer.
        SourceRefused
            If the server's certificate is not trusted.
        TimeBudgetReached
            If the run's time is used up, and the server did not have enough time.
        """
        left = self._remaining_seconds()
        if left <= 0:
            raise self._time_is_up(self._unanswered, waited_seconds=0.0)
        timeout: Any = Timeout(total=min(seconds, left, MAX_ANSWER_SECONDS))
        began = time.monotonic()
        try:
            with self._session.get(
                self._base_url + path,
                params=parameters,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                verify=self._verify,
                stream=True,
            ) as response:
                reply = Reply(response.status_code, response.headers, _read(response, limit_bytes))
        except (requests.exceptions.RequestException, HTTPError) as error:
            trouble = self._trouble(error, time.monotonic() - began)
            if self._remaining_seconds() < _CLOCK_TOLERANCE_SECONDS and trouble.kind is not Kind.FAILED:
                raise self._time_is_up(trouble, time.monotonic() - began) from error
            if self._slowest_seconds is None:
                self._unanswered = trouble
            raise trouble from error
        self._slowest_seconds = max(self._slowest_seconds or 0.0, time.monotonic() - began)
        self._unanswered = None
        return reply

    def _time_is_up(self, trouble: Trouble | None, waited_seconds: float) -> Trouble | TimeBudgetReached:
        """Return the error to raise when the run's time is used up: `Trouble` if the server had enough time."""
        if self._unanswered is not None:  # it has not answered once
            patience_seconds = 0.0
        elif self._slowest_seconds is None:
            patience_seconds = _FIRST_ANSWER_SECONDS
        else:
            patience_seconds = max(_LEAST_PATIENCE_SECONDS, _SLOWER_THAN_USUAL * self._slowest_seconds)
        if trouble is not None and waited_seconds >= patience_seconds:
            return Trouble(trouble.kind, trouble.reason, is_last=True)
        return TimeBudgetReached("The run's time is used up; the next run continues where this one ends.")

    def _trouble(self, error: Exception, waited_seconds: float) -> Trouble:
        if isinstance(error, requests.exceptions.SSLError):
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise SourceRefused(
                    f"The certificate of Kong at {self._host} is not trusted, or is for another host. If a private CA "
                    "signed it, set KONG_ROOT_CA to the CA's certificate."
                ) from None
            reason = "a failed TLS handshake (does the port speak TLS, and does it ask for a client certificate?)"
            return Trouble(Kind.UNREACHABLE, reason)
        if isinstance(error, (requests.exceptions.ReadTimeout, ReadTimeoutError)):
            return Trouble(Kind.SLOW, f"a time-out after {waited_seconds:.0f} s")
        cause = _cause(error)
        if isinstance(cause, NameResolutionError):
            return Trouble(Kind.UNREACHABLE, "a host name that cannot be resolved")
        if isinstance(cause, (NewConnectionError, ConnectTimeoutError)):
            return Trouble(Kind.UNREACHABLE, "no connection")
        if isinstance(cause, ProtocolError) and any(isinstance(part, ConnectionResetError) for part in cause.args):
            return Trouble(Kind.FAILED, "a connection that was reset")
        return Trouble(Kind.FAILED, f"a broken answer ({type(cause).__name__})")


def _cause(error: Exception) -> object:
    """Return the urllib3 error inside of a requests error."""
    inner = error.args[0] if error.args else error
    if isinstance(inner, urllib3.exceptions.MaxRetryError):
        return inner.reason
    return inner if isinstance(inner, Exception) else error


def _read(response: requests.Response, limit_bytes: int) -> bytes:
    chunks, size_bytes = [], 0
    # Not iter_content: it waits for whole chunks.
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise Trouble(Kind.HEAVY, f"more than {limit_bytes} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


# -- deadlines, below urllib3


class _Reader(io.RawIOBase):
    """Reads a socket until a deadline.

    Parameters
    ----------
    sock
        The socket.
    seconds
        From now to the deadline.
    """

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self.deadline = time.monotonic() + seconds

    def makefile(self, mode: str) -> io.BufferedReader:
        """Act as the socket: `http.client.HTTPResponse` only calls its ``makefile``."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the whole answer")
        self._sock.settimeout(min(left, READ_TIMEOUT_SECONDS))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            with contextlib.suppress(OSError):  # if the connection is not closed, it serves the next request
                self._sock.settimeout(READ_TIMEOUT_SECONDS)
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose deadline is the time-out of its socket when it begins."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        self._reader = _Reader(sock, sock.gettimeout() or MAX_ANSWER_SECONDS)
        super().__init__(self._reader, *args, **options)  # type: ignore[arg-type]

    def begin(self) -> None:
        """Read the status line and the headers, and whatever comes before them."""
        deadline = self._reader.deadline
        self._reader.deadline = min(deadline, time.monotonic() + READ_TIMEOUT_SECONDS)
        super().begin()
        self._reader.deadline = deadline


def _connect(connection: urllib3.connection.HTTPConnection) -> socket.socket:
    """Connect to the first address that answers, within one time-out. urllib3 would apply it to each address."""
    deadline = time.monotonic() + float(connection.timeout or CONNECT_TIMEOUT_SECONDS)
    host = connection.host
    try:
        addresses = socket.getaddrinfo(host, connection.port, allowed_gai_family(), socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise NameResolutionError(host, connection, socket.gaierror(str(error))) from error
    problem: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        seconds = min(CONNECT_TIMEOUT_SECONDS, deadline - time.monotonic())
        if seconds <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            for option in connection.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(seconds)
            sock.connect(address)
        except OSError as error:
            problem = error
            sock.close()
        else:
            sock.settimeout(max(min(CONNECT_TIMEOUT_SECONDS, deadline - time.monotonic()), 0.001))  # for TLS
            return sock
    raise NewConnectionError(connection, f"no address of {host} takes a connection: {problem}")


class _HttpConnection(urllib3.connection.HTTPConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _HttpsConnection(urllib3.connection.HTTPSConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class _Adapter(HTTPAdapter):
    """An adapter without retries: the caller retries, as it knows the run's time."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
