"""What a run needs of the cache, looked at piece by piece; and the memory of the cache."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import redis
from redis.exceptions import (
    AuthenticationError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)

from ..domain.finding import Area, Finding
from ..domain.reaching import Plain, Server, reach, speaks_tls
from ..errors import SecretUnavailable, SeenSetUnavailable
from ..ports import CacheMemory
from .valkey import LEAST_RESERVE_BYTES, advice_on

AREA = Area("cache")

PINGS = 3
SLOW_SECONDS = 0.02
FULL_SOON_SHARE = 0.75
"""As the alarm on the cache's memory."""
ENTRY_BYTES = 12
"""What an entry's mark takes, where requests are frequent."""

_PROBE_MILLISECONDS = 10_000
_PROBE_SCRIPT = "return redis.call('GET', KEYS[1])"
_PLAIN = Plain(
    b"PING\r\n", (b"+PONG", b"-"), "Redis' protocol without encryption", "Set REDIS_TLS=false, or use the port for TLS."
)
_POLICY = "noeviction"
_OUTAGES = (redis.ConnectionError, redis.TimeoutError)


class CacheCheckup:
    """Finds out whether the cache takes marks, and keeps them.

    Parameters
    ----------
    host, port
        Its address.
    tls
        Whether it is spoken to with TLS.
    connect
        Returns a client as `valkey.connect` does. Raises `SecretUnavailable`.
    probe
        A key that may be written.
    is_serverless
        Whether it is a serverless cache, whose policy nobody can set.
    """

    area, name = AREA.name, "cache"

    def __init__(
        self, host: str, port: int, *, tls: bool, connect: Callable[[], redis.Redis], probe: str, is_serverless: bool
    ) -> None:
        self._server = Server(
            AREA,
            host,
            port,
            "REDIS_HOST",
            ssl.create_default_context if tls else None,
            "The public CAs are trusted, and those in the file SSL_CERT_FILE names. Set that to the CA of the cache.",
            plain=_PLAIN,
        )
        self._address = (host, port)
        self._connect = connect
        self._probe = probe
        self._is_serverless = is_serverless

    def run(self) -> Iterator[Finding]:
        """Yield what is found."""
        if not (yield from reach(self._server)):
            return
        try:
            with self._connect() as client:
                yield from self._round_trip(client)
                yield from self._write(client)
                yield from self._information(client)
        except SecretUnavailable as error:
            yield AREA.failed("sign-in", str(error), "Make the secret readable, or correct REDIS_PASSWORD_SECRET.")
        except RedisError as error:
            if self._server.tls is None and isinstance(error, _OUTAGES) and speaks_tls(*self._address):
                what = "The port speaks TLS, and REDIS_TLS is false."
                yield AREA.failed("TLS", what, "Set REDIS_TLS=true, or use the port without TLS.")
            else:
                yield _failure(error)

    def _round_trip(self, client: redis.Redis) -> Iterator[Finding]:
        client.ping()
        yield AREA.ok("sign-in", "The cache accepts the user.")
        seconds = min(_seconds(client.ping) for _ in range(PINGS))
        what = f"An answer of the cache takes {seconds * 1000:.1f} ms."
        if seconds < SLOW_SECONDS:
            yield AREA.ok("round trip", what)
        else:
            yield AREA.warning(
                "round trip", what, "Put the function into the subnets of the cache: each page waits for two answers."
            )

    def _write(self, client: redis.Redis) -> Iterator[Finding]:
        try:
            client.set(self._probe, "1", px=_PROBE_MILLISECONDS)
            # As a run does: marks are read and written by scripts.
            client.eval(_PROBE_SCRIPT, 1, self._probe)
        except OutOfMemoryError:
            yield AREA.failed(
                "writing",
                "The cache is full: it takes no marks, so nothing is delivered.",
                "Give the cache more memory: about 12 bytes for each entry that Kong retains.",
            )
        except ReadOnlyError:
            yield AREA.failed(
                "writing",
                "This node is a replica, which takes no marks.",
                "Set REDIS_HOST to the primary endpoint of the replication group.",
            )
        except MovedError:
            yield AREA.failed(
                "writing",
                "The cache has several shards (cluster mode), and this node is not the one for the marks.",
                "Use a cache with cluster mode disabled, or with a single shard.",
            )
        except NoPermissionError:
            yield AREA.failed(
                "writing",
                "The user of the cache may not read and write the keys of the collector, or not by scripts.",
                "Let its access string allow ~kong-cloudtrail:* and the commands in stacks/parts/cache_access.py.",
            )
        else:
            yield AREA.ok("writing", "The cache takes marks.")

    def _information(self, client: redis.Redis) -> Iterator[Finding]:
        information = _information_of(client)
        if information is None:
            yield AREA.not_checked(
                "memory",
                "The user of the cache may not ask for its memory and eviction policy.",
                "Add +info to the user's access string.",
            )
            return
        memory = _memory_of(information)
        if memory is None:
            yield AREA.not_checked("memory", "The cache does not tell its memory.")
        else:
            yield _memory(memory)
            yield self._policy(memory.policy)
        if (cluster := information.get("cluster_enabled")) is not None:
            yield AREA.ok("cluster mode", "On; the marks of a trail are in one slot." if int(cluster) else "Off.")

    def _policy(self, policy: str | None) -> Finding:
        if policy is None:
            return AREA.not_checked("eviction", "The cache does not tell its eviction policy.")
        if policy == _POLICY:
            return AREA.ok("eviction", "The cache never evicts a mark (noeviction).")
        what = f"The eviction policy is {policy}: a full cache forgets what was delivered, and it is delivered again."
        if self._is_serverless:
            return AREA.warning("eviction", what, "Keep its data limit well above what Kong retains.")
        return AREA.failed("eviction", what, f"Set maxmemory-policy to {_POLICY} in the cache's parameter group.")


class ValkeyGauge:
    """Measures the memory of the cache.

    Parameters
    ----------
    client
        A client as `valkey.connect` returns it.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def measure(self) -> CacheMemory | None:
        """Return the memory; ``None`` if the user may not ask, or the cache does not say."""
        try:
            information = _information_of(self._client)
        except RedisError as error:
            raise SeenSetUnavailable(advice_on(error)) from error
        return None if information is None else _memory_of(information)


def _information_of(client: redis.Redis) -> Mapping[str, Any] | None:
    """Return what the server says about itself; ``None`` if this user may not ask."""
    try:
        information: Mapping[str, Any] = client.info()
    except NoPermissionError:
        return None
    return information


def _memory_of(information: Mapping[str, Any]) -> CacheMemory | None:
    used, limit, policy = (information.get(name) for name in ("used_memory", "maxmemory", "maxmemory_policy"))
    if not isinstance(used, int):
        return None
    limit_bytes = limit if isinstance(limit, int) and limit > 0 else None
    return CacheMemory(
        used_bytes=used,
        limit_bytes=limit_bytes,
        policy=None if policy is None else str(policy),
        entries_left=None if limit_bytes is None else max(limit_bytes - used, 0) // ENTRY_BYTES,
    )


def _memory(memory: CacheMemory) -> Finding:
    if memory.limit_bytes is None or memory.entries_left is None:
        return AREA.ok("memory", f"{memory.used_bytes:,} bytes are in use. There is no limit.")
    share = memory.used_bytes / memory.limit_bytes
    room = f"There is room for about {memory.entries_left:,} more entries."
    what = f"{share:.0%} of {memory.limit_bytes:,} bytes are in use. {room}"
    if memory.limit_bytes - memory.used_bytes < LEAST_RESERVE_BYTES:
        return AREA.failed("memory", what, "Give the cache more memory. Without room for marks, nothing is delivered.")
    if share >= FULL_SOON_SHARE:
        return AREA.warning("memory", what, "Give the cache more memory before it is full.")
    return AREA.ok("memory", what)


def _failure(error: RedisError) -> Finding:
    advice = advice_on(error)
    what, _, do = advice.partition(". ")
    is_outage = isinstance(error, _OUTAGES)
    may_pass = is_outage and not isinstance(error, AuthenticationError)
    return AREA.failed("round trip" if may_pass else "sign-in", f"{what}.", do, may_pass=may_pass)


def _seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began
