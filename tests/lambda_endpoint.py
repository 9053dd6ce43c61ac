"""Lambda's endpoint with one function, which runs in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Self

from sandbox.machinery.http_server import HttpServer, Request, Response


class LambdaEndpoint:
    """Answers ``Invoke`` as Lambda does, errors of the function included.

    Parameters
    ----------
    function
        The function: gets the event, returns the answer.
    """

    def __init__(self, function: Callable[[dict[str, Any]], Any]) -> None:
        self.function = function
        self._server = HttpServer(self._invoke)
        self.events: list[dict[str, Any]] = []
        self.refusal: str | None = None
        """The code that every call is refused with."""

    @property
    def environment(self) -> dict[str, str]:
        """The variable that makes boto3 find it."""
        return {"AWS_ENDPOINT_URL_LAMBDA": self._server.origin}

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def _invoke(self, request: Request) -> Response:
        if self.refusal is not None:
            return Response(429, b"{}", {"x-amzn-ErrorType": self.refusal})
        event: dict[str, Any] = json.loads(request.body)
        self.events.append(event)
        try:
            return Response(200, json.dumps(self.function(event)).encode())
        except Exception as error:
            body = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return Response(200, json.dumps(body).encode(), {"X-Amz-Function-Error": "Unhandled"})
