"""The demo's page and its JSON API, on 127.0.0.1 only.

===========================  =====================================================================
``GET /``                    the page, with ``/page.css`` and ``/page.js``
``GET /api/state``           everything that the page shows
``GET /api/entry?id=…``      where one entry is
``POST /api/calls``          ``{"calls": 5}``: make Admin API calls, which Kong records
``POST /api/run``            ``{}``: run the collector now
``POST /api/refuse``         ``{}``: let CloudTrail refuse the next entry
``POST /api/break``          ``{"part": "kong"}``, or ``cloudtrail``, or ``cache``
``POST /api/mend``           the same
===========================  =====================================================================

Other web sites that are open in the same browser can neither press the buttons nor read the answers: a POST must come
from this page (``Origin``), and every request must be for this address (``Host``), whatever name points to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from sandbox.demo.live import LiveDemo, Refused
from sandbox.machinery.http_server import HttpServer, Request, Response

_DIRECTORY = Path(__file__).parent
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_MAX_BODY_BYTES = 1000


class DemoPage:
    """Serves the page of a demo on a free port. A context manager that serves from entry to exit.

    Parameters
    ----------
    demo
        What is shown and done.

    Attributes
    ----------
    url
        Where the page is.
    """

    def __init__(self, demo: LiveDemo) -> None:
        self._demo = demo
        self._server = HttpServer(self.handle)
        self._origins = {self._server.origin, f"http://localhost:{self._server.port}"}
        self.url = f"{self._server.origin}/"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._demo.close()

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        try:
            response = self._answer(request)
        except Exception as error:  # its text may hold anything
            response = _problem(500, f"The demo could not look or act ({type(error).__name__}).")
        response.headers.update(_SECURITY_HEADERS)
        return response

    def _answer(self, request: Request) -> Response:
        if f"http://{request.headers.get('host', '')}" not in self._origins:
            return _problem(421, "This is not the address of the demo's page.")
        if request.method == "GET":
            return self._get(request)
        if request.method != "POST":
            return _problem(405, "Use GET to look and POST to act.")
        if request.headers.get("origin") not in self._origins:
            return _problem(403, "Only the demo's own page may press its buttons.")
        return self._post(request)

    def _get(self, request: Request) -> Response:
        if request.path in _FILES:
            name, content_type = _FILES[request.path]
            return Response(200, (_DIRECTORY / name).read_bytes(), {"Content-Type": content_type})
        match request.path:
            case "/api/state":
                return _json(200, self._demo.state())
            case "/api/entry":
                return _json(200, self._demo.entry(dict(request.query).get("id", "").strip()))
        return _problem(404, "There is no such page.")

    def _post(self, request: Request) -> Response:
        try:
            arguments = _arguments(request)
            match request.path:
                case "/api/run":
                    self._demo.run()
                case "/api/refuse":
                    self._demo.refuse_next()
                case "/api/calls":
                    self._demo.use_admin_api(_calls(arguments))
                case "/api/break":
                    self._demo.break_(str(arguments.get("part")))
                case "/api/mend":
                    self._demo.mend(str(arguments.get("part")))
                case _:
                    return _problem(404, "There is no such button.")
        except Refused as refusal:
            return _problem(409, str(refusal))
        return _json(200, {})


def _arguments(request: Request) -> dict[str, Any]:
    try:
        arguments = json.loads(request.body) if len(request.body) <= _MAX_BODY_BYTES else None
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise Refused("Send a JSON object.")
    return arguments


def _calls(arguments: Mapping[str, Any]) -> int:
    calls = arguments.get("calls")
    if isinstance(calls, bool) or not isinstance(calls, int):
        raise Refused("Give the number of calls as a whole number.")
    return calls


def _problem(status: int, what: str) -> Response:
    return _json(status, {"problem": what})


def _json(status: int, value: Mapping[str, Any]) -> Response:
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/json"})
