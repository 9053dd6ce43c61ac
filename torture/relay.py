"""What stands between the collector and Valkey: passes bytes on, and loses a reply when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Self

from sandbox.machinery.http_server import LOOPBACK

_CHUNK_BYTES = 256 * 1024
_TIMEOUT_SECONDS = 10.0


class ValkeyRelay:
    """Listens on a free loopback port. A context manager that runs it, in a thread with an event loop of its own.

    Parameters
    ----------
    target_port
        Where Valkey listens, on loopback.

    Attributes
    ----------
    port
        Where this one listens, from entry on.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="valkey-relay", daemon=True)
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._command = b""
        self._nth = 0
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, LOOPBACK, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT_SECONDS)
        self._loop.close()

    def lose_reply(self, command: str, nth: int = 1) -> None:
        """Let Valkey carry out the `nth` next command whose bytes hold this text, and break the connection then.

        Parameters
        ----------
        command
            Of the command or one of its arguments, e.g. ``SET`` or a part of a key.
        nth
            1 is the next one.
        """
        self._loop.call_soon_threadsafe(self._lose, command.encode(), nth)

    def break_connections(self) -> None:
        """Break every open connection; new ones are welcome."""
        self._run(self._break_connections())

    def clear_faults(self) -> None:
        """Lose no reply any more."""
        self._loop.call_soon_threadsafe(self._lose, b"", 0)

    def _lose(self, command: bytes, nth: int) -> None:
        self._command, self._nth = command, nth

    def _is_to_be_lost(self, data: bytes) -> bool:
        if self._nth == 0 or self._command not in data:
            return False
        self._nth -= 1
        return self._nth == 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._open.add(writer)
        loses = asyncio.Event()
        try:
            other_reader, other_writer = await asyncio.open_connection(LOOPBACK, self._target_port)
            self._open.add(other_writer)
            there = asyncio.ensure_future(self._pass_on(reader, other_writer, watched=loses))
            back = asyncio.ensure_future(self._pass_on(other_reader, writer, gated_by=loses))
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            there.cancel()
            back.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            other_writer.transport.abort()
            self._open.discard(other_writer)
        except OSError:
            pass  # Valkey is away: the client sees that its connection is
        finally:
            writer.transport.abort()
            self._open.discard(writer)
            self._serving.discard(task)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        watched: asyncio.Event | None = None,
        gated_by: asyncio.Event | None = None,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                if gated_by is not None and gated_by.is_set():
                    return  # the reply that is lost
                if watched is not None and self._is_to_be_lost(data):
                    watched.set()
                writer.write(data)
                await writer.drain()

    async def _break_connections(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()
        while self._serving:
            await asyncio.sleep(0.001)

    async def _close(self) -> None:
        self._server.close()
        await self._break_connections()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_TIMEOUT_SECONDS)
