"""S3 for a torture: moto's server as a process of its own, and a proxy in front of it that gets in the way."""

from __future__ import annotations

import re
import sys
import threading
import urllib.parse
from collections.abc import Mapping
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

S3FaultKind = Literal["denied", "error", "slow down", "conflict", "reset", "lost"]
"""``denied``: 403. ``error``: 500. ``slow down``: 503. ``conflict``: 409, as when two conditional writes meet; no other
write gets it. ``reset``: the connection is reset before anything is done. ``lost``: it is done, and no answer comes.
"""

_ERRORS: dict[str, tuple[int, str]] = {
    "denied": (403, "AccessDenied"),
    "error": (500, "InternalError"),
    "slow down": (503, "SlowDown"),
    "conflict": (409, "ConditionalRequestConflict"),
}
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
    times_left: int


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
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._one_write = threading.Lock()
        self._rules: list[_Rule] = []
        self._server = HttpServer(self._handle)
        self.url = self._server.origin

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def inject(self, kind: S3FaultKind, *, method: str = "PUT", path: str = "", times: int = 1) -> None:
        """Let calls go wrong.

        Parameters
        ----------
        kind
            How.
        method
            Of the calls.
        path
            Regular expression, searched in the unquoted path of bucket and key.
        times
            How many of them.
        """
        with self._lock:
            self._rules.append(_Rule(kind, method, re.compile(path), times))

    def clear_faults(self) -> None:
        """Forget the faults that have not happened yet."""
        with self._lock:
            self._rules.clear()

    def _next_for(self, request: Request) -> S3FaultKind | None:
        path = urllib.parse.unquote(request.path)
        with self._lock:
            for rule in self._rules:
                if rule.kind == "conflict" and not _CONDITIONS & request.headers.keys():
                    continue
                if rule.times_left > 0 and rule.method == request.method and rule.path.search(path):
                    rule.times_left -= 1
                    return rule.kind
        return None

    def _handle(self, request: Request) -> Response:
        kind = self._next_for(request)
        if kind == "reset":
            return Response(0, ending="reset")
        if kind in _ERRORS:
            return _error(*_ERRORS[kind])
        response = self._forward(request)
        if kind == "lost":
            response.ending = "reset"
        return response

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
