"""A small threaded HTTP/1.1 server for the simulators.

Not `http.server`: the simulators must reset connections, cut bodies off, answer with header and body in a single
segment and count what is in flight, and a benchmark must not measure them.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import IO, Literal
from urllib.parse import parse_qsl, urlsplit

LOOPBACK = "127.0.0.1"
_HANDSHAKE_TIMEOUT_SECONDS = 10.0
_MAX_HEADERS = 200


@dataclass(frozen=True)
class Request:
    """One request, read completely."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    client_host: str
    has_client_certificate: bool
    path: str = field(init=False)
    query: list[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.target if self.target.startswith("/") else "/")
        object.__setattr__(self, "path", parts.path)
        object.__setattr__(self, "query", parse_qsl(parts.query, keep_blank_values=True, errors="replace"))


Ending = Literal["keep", "cut_off", "reset", "drip", "continue", "hang"]


@dataclass
class Response:
    """One answer, and how it is sent.

    Parameters
    ----------
    status, body, headers
        The answer.
    ending
        `keep`: sent whole, and the connection stays open. `cut_off`: half of the body is missing. `reset`: nothing is
        sent. `drip`: sent byte by byte, the status line included. `continue`: `100 Continue` without end in place of
        the answer. `hang`: nothing, for as long as the client waits. All but `keep` close the connection.
    pace_seconds
        Waited between two bytes of a `drip`, or two `100 Continue`.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    ending: Ending = "keep"
    pace_seconds: float = 0.0


@dataclass
class Traffic:
    """Counters of a server since it started, or since they were last reset."""

    calls: Counter[str] = field(default_factory=Counter)
    bytes_sent: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    connections: int = 0


class HttpServer:
    """Serves `handler` on a free loopback port, one daemon thread per connection.

    Parameters
    ----------
    handler
        Gives the answer to a request. Called from many threads at once. What it raises becomes a 500 that names the
        exception's type, so that a mistake in a simulator shows in the test that met it.
    port
        0 takes a free one.
    tls
        Serve HTTPS with this context.
    count_as
        Under which name a request is counted in `traffic.calls`; None leaves it uncounted.
    """

    def __init__(
        self,
        handler: Callable[[Request], Response],
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        count_as: Callable[[Request], str | None] = lambda request: request.path,
    ) -> None:
        self._handler = handler
        self._tls = tls
        self._count_as = count_as
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._stopping = threading.Event()
        self.traffic = Traffic()
        self._listener = socket.create_server((LOOPBACK, port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"{'https' if tls else 'http'}://{LOOPBACK}:{self.port}"
        self._acceptor = threading.Thread(target=self._accept, name=f"http-{self.port}", daemon=True)

    def start(self) -> None:
        """Start serving."""
        self._acceptor.start()

    def stop(self) -> None:
        """Stop listening and break every open connection."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            open_connections = list(self._connections)
        for connection in open_connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._acceptor.is_alive():
            self._acceptor.join(timeout=5)

    def pause(self, seconds: float) -> None:
        """Wait inside a handler; ends early when the server stops."""
        if seconds > 0:
            self._stopping.wait(seconds)

    def reset_traffic(self) -> None:
        """Set the counters to zero."""
        with self._lock:
            self.traffic = Traffic(in_flight=self.traffic.in_flight, max_in_flight=self.traffic.in_flight)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_connection, args=(connection,), daemon=True).start()

    def _serve_connection(self, plain: socket.socket) -> None:
        with self._lock:
            self._connections.add(plain)
            self.traffic.connections += 1
        connection = plain
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                plain.settimeout(_HANDSHAKE_TIMEOUT_SECONDS)
                connection = self._tls.wrap_socket(plain, server_side=True)
                connection.settimeout(None)
                with self._lock:
                    self._connections.add(connection)
            with connection.makefile("rb") as reader:
                while not self._stopping.is_set() and self._serve_one(connection, reader):
                    pass
        except OSError:
            pass  # the client went away, or failed the handshake: its business
        finally:
            connection.close()
            plain.close()
            with self._lock:
                self._connections -= {plain, connection}

    def _serve_one(self, connection: socket.socket, reader: IO[bytes]) -> bool:
        """Serve one request; return whether the connection stays open."""
        request = _read_request(connection, reader)
        if request is None:
            return False
        if isinstance(request, Response):
            connection.sendall(_serialise(request, request_method="", close=True))
            return False
        name = self._count_as(request)
        with self._lock:
            if name is not None:
                self.traffic.calls[name] += 1
            self.traffic.in_flight += 1
            self.traffic.max_in_flight = max(self.traffic.max_in_flight, self.traffic.in_flight)
        try:
            try:
                response = self._handler(request)
            except Exception as error:
                response = Response(500, f"simulator failed: {type(error).__name__}: {error}".encode(errors="replace"))
        finally:
            with self._lock:
                self.traffic.in_flight -= 1
        close = request.headers.get("connection", "").lower() == "close" or response.ending != "keep"
        self._answer(connection, reader, response, _serialise(response, request_method=request.method, close=close))
        return not close

    def _answer(self, connection: socket.socket, reader: IO[bytes], response: Response, data: bytes) -> None:
        match response.ending:
            case "reset":
                _reset(connection, reader)
            case "hang":
                reader.read(1)  # returns when the client has gone, or the server stops
            case "continue":
                while not self._stopping.is_set():
                    self._send(connection, b"HTTP/1.1 100 Continue\r\n\r\n")
                    self.pause(response.pace_seconds)
            case "drip":
                for position in range(len(data)):
                    self._send(connection, data[position : position + 1])
                    self.pause(response.pace_seconds)
            case "cut_off":
                self._send(connection, data[: len(data) - max(1, len(response.body) // 2)])
            case "keep":
                self._send(connection, data)

    def _send(self, connection: socket.socket, data: bytes) -> None:
        # Counted before sending: whoever has the answer must find it counted.
        with self._lock:
            self.traffic.bytes_sent += len(data)
        connection.sendall(data)


def _read_request(connection: socket.socket, reader: IO[bytes]) -> Request | Response | None:
    line = reader.readline(65537)
    if not line.strip():
        return None
    words = line.decode("latin-1").split()
    if len(words) != 3:
        return Response(400)
    headers: dict[str, str] = {}
    while (header := reader.readline(65537)) not in (b"\r\n", b"\n", b""):
        name, _, value = header.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
        if len(headers) > _MAX_HEADERS:
            return Response(431)
    if "transfer-encoding" in headers:
        return Response(411)
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not (declared := headers.get("content-length") or "0").isdecimal():
        return Response(400)
    length = int(declared)
    body = reader.read(length) if length else b""
    if len(body) < length:
        return None
    certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    return Request(words[0], words[1], headers, body, connection.getpeername()[0], bool(certificate))


def _serialise(response: Response, *, request_method: str, close: bool) -> bytes:
    try:
        reason = HTTPStatus(response.status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if response.status != HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(response.body)}")
    lines.append(f"Connection: {'close' if close else 'keep-alive'}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")
    return head if request_method == "HEAD" else head + response.body


def _reset(connection: socket.socket, reader: IO[bytes]) -> None:
    """Close so that the peer sees a reset (RST), not an orderly end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reader.close()
    connection.close()


def http_date(unix_seconds: float) -> str:
    """Return a `Date` header's value for a Unix time."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(unix_seconds))
