"""Calling a simulator's methods in another process: JSON over HTTP, on a port of its own.

A port of its own, so that controlling a simulator is never counted, audited, delayed or hit by the faults it injects.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterable
from http.client import HTTPConnection
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from sandbox.machinery.faults import Fault
from sandbox.machinery.http_server import LOOPBACK, HttpServer, Request, Response
from sandbox.machinery.processes import ManagedProcess

_PREFIX = "/__sandbox__/"
_TIMEOUT_SECONDS = 120.0
_TYPE = "__type__"

P = ParamSpec("P")
R = TypeVar("R")


class ControlServer:
    """Offers the public methods and properties of `simulator` as `POST /__sandbox__/{name}`.

    The body is a JSON object of keyword arguments. The answer is 200 with the result as JSON, or 400 with
    `{"error": …}` if the method raised. Bytes travel as `{"__type__": "bytes", "base64": …}`, a `Fault` (or another of
    `types`) as `{"__type__": "Fault", …}` with its fields. Requests of web pages are refused: any site that is open in
    a browser on this machine could send one.

    Parameters
    ----------
    simulator
        The object to control.
    types
        Dataclasses that arguments and results may hold, beside `Fault`.
    """

    def __init__(self, simulator: object, types: Iterable[type] = ()) -> None:
        self._simulator = simulator
        self._names = frozenset(name for name in dir(type(simulator)) if not name.startswith("_"))
        self._codec = _Codec(types)
        self._server = HttpServer(self._handle)
        self.port = self._server.port
        self.url = f"{self._server.origin}{_PREFIX}"

    def start(self) -> None:
        """Start serving."""
        self._server.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.stop()

    def _handle(self, request: Request) -> Response:
        name = request.path.removeprefix(_PREFIX)
        if "origin" in request.headers:  # browsers send it with every POST
            return self._answer(403, {"error": "web pages may not control a simulator"})
        if name not in self._names or request.method != "POST":
            return self._answer(404, {"error": f"POST one of {_PREFIX}: {', '.join(sorted(self._names))}"})
        try:
            member = getattr(self._simulator, name)
            result = member(**self._codec.decode(request.body or b"{}")) if callable(member) else member
            return self._answer(200, result)
        except Exception as error:
            return self._answer(400, {"error": f"{type(error).__name__}: {error}"})

    def _answer(self, status: int, result: Any) -> Response:
        return Response(status, self._codec.encode(result), {"Content-Type": "application/json"})


class Remote:
    """The other end of a `ControlServer`."""

    def __init__(self, port: int, types: Iterable[type] = ()) -> None:
        self._port = port
        self._codec = _Codec(types)

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Call a method, or read a property, of the simulator and return the result.

        Raises
        ------
        RuntimeError
            If the method raised; the text says what.
        """
        connection = HTTPConnection(LOOPBACK, self._port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("POST", _PREFIX + name, self._codec.encode(arguments))
            response = connection.getresponse()
            result = self._codec.decode(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"{name} failed in the simulator's process: {result['error']}")
        return result


class Controlled:
    """Base of the classes that stand for a simulator in another process. Its end is the end of that process.

    Parameters
    ----------
    process
        The process, which prints `url` and `control_port` when it is ready.
    types
        As in `ControlServer`.

    Attributes
    ----------
    url
        Of the simulator.
    pid
        Of its process.
    """

    def __init__(self, process: ManagedProcess, types: Iterable[type] = ()) -> None:
        self._process = process
        ready = process.read_ready_line()
        self._remote = Remote(ready["control_port"], types)
        self.pid = process.pid
        self.url: str = ready["url"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process."""
        self._process.stop()


def remote(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Return the method of a `Controlled` class that calls this method of the simulator, by the same signature."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self: Controlled, *args: P.args, **kwargs: P.kwargs) -> R:
        arguments = dict(signature.bind(self, *args, **kwargs).arguments)
        del arguments["self"]
        result: R = self._remote.call(method.__name__, arguments)
        return result

    return cast("Callable[Concatenate[Any, P], R]", call)


class remote_property:  # noqa: N801 - used like `property`
    """The property of a `Controlled` class that reads the simulator's property of the same name."""

    def __init__(self, original: Any) -> None:
        self.__doc__ = original.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Controlled | None, owner: type) -> Any:
        return self if instance is None else instance._remote.call(self._name, {})


class _Codec:
    """JSON with bytes and some dataclasses in it. Any other iterable becomes an array."""

    def __init__(self, types: Iterable[type]) -> None:
        self._types = {known.__name__: known for known in (Fault, *types)}

    def encode(self, value: Any) -> bytes:
        return json.dumps(value, default=self._to_json).encode()

    def decode(self, data: bytes) -> Any:
        return json.loads(data, object_hook=self._from_json)

    def _to_json(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return {_TYPE: "bytes", "base64": base64.b64encode(value).decode()}
        if type(value).__name__ in self._types:
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return {_TYPE: type(value).__name__, **fields}
        return list(value)

    def _from_json(self, value: dict[str, Any]) -> Any:
        match value.get(_TYPE):
            case "bytes":
                return base64.b64decode(value["base64"])
            case str(name) if name in self._types:
                return self._types[name](**{key: item for key, item in value.items() if key != _TYPE})
        return value
