"""An S3 in memory for the benchmarks: fast, with the latency of a network, and with counted calls.

It knows what archive and ledger ask of S3: conditional writes, versions, and the listing of both. Tests use S3
implementations that nobody here wrote.
"""

from __future__ import annotations

import hashlib
import itertools
import time
import urllib.parse
from collections import Counter
from xml.sax.saxutils import escape

from sandbox.machinery.control import Controlled, ControlServer, remote, remote_property
from sandbox.machinery.http_server import HttpServer, Request, Response
from sandbox.machinery.processes import serve_until_stopped, start_module

MAX_LISTED = 1000


class MemoryS3:
    """One bucket of any name. Thread-safe: a call changes one dictionary entry."""

    def __init__(self) -> None:
        self._latency_seconds = 0.0
        self._objects: dict[str, bytes] = {}
        self._calls: Counter[str] = Counter()
        self._server = HttpServer(self._handle)
        self.url = self._server.origin

    def start(self) -> None:
        """Start serving."""
        self._server.start()

    @property
    def calls(self) -> dict[str, int]:
        """The number of calls by method, since `reset_counters`."""
        return dict(self._calls)

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each object in bytes."""
        return {name: len(body) for name, body in self._objects.items()}

    def configure(self, latency_seconds: float) -> None:
        """Set how long each call takes at least."""
        self._latency_seconds = latency_seconds

    def reset_counters(self) -> None:
        """Begin to count anew."""
        self._calls.clear()

    def clear(self) -> None:
        """Remove all objects."""
        self._objects.clear()

    def _handle(self, request: Request) -> Response:
        time.sleep(self._latency_seconds)
        query = dict(request.query)
        name = urllib.parse.unquote(request.path).lstrip("/").partition("/")[2]
        self._calls[request.method if name else "LIST"] += 1
        if not name:
            return _xml(self._listing(query))
        if request.method == "PUT":
            return self._put(name, request)
        if request.method == "DELETE":
            self._objects.pop(name, None)
            return Response(204)
        body = self._objects.get(name)
        return _error(404, "NoSuchKey") if body is None else Response(200, body, {"ETag": _etag(body)})

    def _put(self, name: str, request: Request) -> Response:
        stored = self._objects.get(name)
        if "if-none-match" in request.headers and stored is not None:
            return _error(412, "PreconditionFailed")
        if "if-match" in request.headers and (stored is None or request.headers["if-match"] != _etag(stored)):
            return _error(412, "PreconditionFailed")
        body = request.body
        if "aws-chunked" in request.headers.get("content-encoding", ""):
            body = _dechunked(body)
        self._objects[name] = body
        return Response(200, b"", {"ETag": _etag(body), "x-amz-version-id": "1"})

    def _listing(self, query: dict[str, str]) -> str:
        prefix, after = query.get("prefix", ""), query.get("key-marker", query.get("continuation-token", ""))
        names = (name for name in sorted(self._objects) if name.startswith(prefix) and name > after)
        found = list(itertools.islice(names, MAX_LISTED + 1))
        more, found = len(found) > MAX_LISTED, found[:MAX_LISTED]
        end = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        if "versions" in query:
            items = "".join(
                f"<Version><Key>{escape(name)}</Key><VersionId>1</VersionId><IsLatest>true</IsLatest></Version>"
                for name in found
            )
            marker = f"<NextKeyMarker>{escape(found[-1])}</NextKeyMarker>" if more else ""
            return f"<ListVersionsResult>{end}{marker}{items}</ListVersionsResult>"
        items = "".join(f"<Contents><Key>{escape(name)}</Key></Contents>" for name in found)
        token = f"<NextContinuationToken>{escape(found[-1])}</NextContinuationToken>" if more else ""
        return f"<ListBucketResult>{end}{token}{items}</ListBucketResult>"


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _dechunked(body: bytes) -> bytes:
    pieces: list[bytes] = []
    while True:
        head, _, body = body.partition(b"\r\n")
        size = int(head.partition(b";")[0], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[:size])
        body = body[size + 2 :]


def _xml(text: str) -> Response:
    return Response(200, f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode(), {"Content-Type": "application/xml"})


def _error(status: int, code: str) -> Response:
    response = _xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>")
    response.status = status
    return response


class S3Process(Controlled):
    """The same in a process of its own."""

    def __init__(self) -> None:
        super().__init__(start_module("benchmarks.s3", []))

    configure = remote(MemoryS3.configure)
    reset_counters = remote(MemoryS3.reset_counters)
    clear = remote(MemoryS3.clear)
    calls = remote_property(MemoryS3.calls)
    sizes = remote_property(MemoryS3.sizes)


def main() -> None:
    """Serve until interrupted or ended; print one line of JSON with `url` and `control_port`."""
    s3 = MemoryS3()
    control = ControlServer(s3)
    control.start()
    s3.start()
    serve_until_stopped({"url": s3.url, "control_port": control.port})


if __name__ == "__main__":
    main()
