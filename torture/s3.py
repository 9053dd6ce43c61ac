"""S3 for a torture: moto's server as a process of its own, and a proxy in front of it that gets in the way."""

from __future__ import annotations

import itertools
import re
import sys
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Literal, Self

import boto3
from botocore.config import Config

from sandbox.machinery.http_server import LOOPBACK, HttpServer, Request, Response
from sandbox.machinery.processes import ManagedProcess, free_port

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

REGION = "us-east-1"

S3FaultKind = Literal["denied", "error", "slow down", "conflict", "exists", "reset", "lost", "late", "cut", "hang"]
"""``denied``: 403. ``error``: 500. ``slow down``: 503. ``conflict``: 409, as when two conditional writes meet; no other
write gets it, nor ``exists``: 412, though there is no such object. ``reset``: the connection is reset before anything
is done. ``lost``: it is done, and no answer comes. ``late``: the same, but it is done only after a while, when whoever
asked for it may have asked again, or be gone. ``cut``: half of the answer is missing. ``hang``: nothing is done, and no
answer comes for as long as the client waits.
"""

_ERRORS: dict[str, tuple[int, str]] = {
    "denied": (403, "AccessDenied"),
    "error": (500, "InternalError"),
    "slow down": (503, "SlowDown"),
    "conflict": (409, "ConditionalRequestConflict"),
    "exists": (412, "PreconditionFailed"),
}
_CONDITIONAL = ("conflict", "exists")
_DELAYS_SECONDS = (0.05, 0.5, 3.0)
_CONDITIONS = {"if-match", "if-none-match"}
_TIMEOUT_SECONDS = 30.0
# Of one connection, or made anew by the proxy's own server.
_NOT_PASSED_ON = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "server"})


class MotoServer:
    """An S3 in memory. A context manager that runs it.

    Attributes
    ----------
    port
        Where it listens, on loopback.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self._process: ManagedProcess | None = None

    def __enter__(self) -> Self:
        self._process = ManagedProcess([sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(self.port)])
        self._process.wait_until(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()

    def _answers(self) -> bool:
        connection = HTTPConnection(LOOPBACK, self.port, timeout=1.0)
        try:
            connection.request("GET", "/moto-api/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def s3_client(port: int) -> S3Client:
    """Return a client of the S3 that listens on this loopback port."""
    return boto3.client(
        "s3",
        endpoint_url=f"http://{LOOPBACK}:{port}",
        region_name=REGION,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="of-the-auditor",
        config=Config(s3={"addressing_style": "path"}, proxies={}, retries={"total_max_attempts": 1}),
    )


@dataclass
class _Rule:
    kind: S3FaultKind
    method: str
    path: re.Pattern[str]
    skips_left: int
    times_left: int
    happened: int = 0


class S3Proxy:
    """Passes calls on to an S3, or lets them go wrong. A context manager that runs it.

    Parameters
    ----------
    port
        Where the S3 listens, on loopback.

    Attributes
    ----------
    url
        For ``AWS_ENDPOINT_URL_S3``.
    on_write
        Called with the path of bucket and key when an object was stored, before anybody is told.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._one_write = threading.Lock()
        self._rules: list[_Rule] = []
        self._delays = itertools.cycle(_DELAYS_SECONDS)
        self._late: list[threading.Timer] = []
        self.on_write: Callable[[str], None] = lambda path: None
        self._server = HttpServer(self._handle)
        self.url = self._server.origin

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.wait_for_late()
        self._server.stop()

    def inject(
        self, kind: S3FaultKind, *, method: str = "PUT", path: str = "", skipped: int = 0, times: int = 1
    ) -> None:
        """Let calls go wrong.

        Parameters
        ----------
        kind
            How.
        method
            Of the calls.
        path
            Regular expression, searched in the unquoted path of bucket and key.
        skipped
            How many of them go well before.
        times
            How many of them do not.
        """
        with self._lock:
            self._rules.append(_Rule(kind, method, re.compile(path), skipped, times))

    def count_faults(self, method: str, path: str) -> int:
        """Return how many calls went wrong by a fault that was injected with these values, and not cleared since."""
        with self._lock:
            return sum(rule.happened for rule in self._rules if (rule.method, rule.path.pattern) == (method, path))

    def clear_faults(self) -> None:
        """Forget the faults that have not happened yet."""
        with self._lock:
            self._rules.clear()

    def wait_for_late(self) -> None:
        """Wait until everything is done that is done late."""
        with self._lock:
            late, self._late = self._late, []
        for timer in late:
            timer.join()

    def _next_for(self, request: Request) -> S3FaultKind | None:
        path = urllib.parse.unquote(request.path)
        with self._lock:
            for rule in self._rules:
                if rule.kind in _CONDITIONAL and not _CONDITIONS & request.headers.keys():
                    continue
                if rule.times_left == 0 or rule.method != request.method or not rule.path.search(path):
                    continue
                if rule.skips_left > 0:
                    rule.skips_left -= 1
                    continue
                rule.times_left -= 1
                rule.happened += 1
                return rule.kind
        return None

    def _handle(self, request: Request) -> Response:
        kind = self._next_for(request)
        if kind in ("reset", "hang"):
            return Response(0, ending=kind)
        if kind in _ERRORS:
            return _error(*_ERRORS[kind])
        if kind == "late":
            self._forward_late(request)
            return Response(0, ending="reset")
        response = self._forward(request)
        if request.method == "PUT" and response.status == 200:
            self.on_write(urllib.parse.unquote(request.path))
        if kind == "lost":
            response.ending = "reset"
        if kind == "cut":
            response.ending = "cut_off"
        return response

    def _forward_late(self, request: Request) -> None:
        with self._lock:
            timer = threading.Timer(next(self._delays), self._forward, (request,))
            self._late.append(timer)
        timer.start()

    def _forward(self, request: Request) -> Response:
        # S3 looks at a condition and writes in one step; moto does not promise to.
        with self._one_write:
            connection = HTTPConnection(LOOPBACK, self._port, timeout=_TIMEOUT_SECONDS)
            try:
                connection.request(request.method, request.target, request.body or None, dict(request.headers))
                answer = connection.getresponse()
                return Response(answer.status, answer.read(), _passed_on(dict(answer.getheaders())))
            except (OSError, HTTPException):
                return _error(503, "ServiceUnavailable")
            finally:
                connection.close()


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON}


def _error(status: int, code: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>injected</Message></Error>'
    return Response(status, body.encode(), {"Content-Type": "application/xml"})
