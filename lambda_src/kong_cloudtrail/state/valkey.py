"""The seen set and the lock, in Valkey or Redis.

Their keys begin with ``kong-cloudtrail:{source/stream/destination}:``. The braces are part of the key: they put all
keys of a trail into one slot, so that a pipeline works in cluster mode too.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Sequence

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, LockError, OutOfMemoryError, RedisError
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.lock import Lock
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from ..domain.checkpoint import CacheState
from ..domain.entry import Entry
from ..domain.trail import Trail
from ..errors import CacheFull, LockLost, SeenSetUnavailable
from ..ports import Clock

COMMAND_SECONDS = 3.0
LOCK_SECONDS = 15.0
"""How long a lock outlives the process that held it. After a run was killed, the next one can begin after this time."""

RELEASE_SECONDS = 0.5
"""How long the end of a run waits for the lock to be released; otherwise it expires by itself."""

MARK_BYTES = 200
"""Upper limit of the server's memory for a mark: it is 148 with ids of 32 characters and the source ``kong``."""

LEAST_RESERVE_BYTES = 64 * 1024
_RESERVE_MILLISECONDS = 7 * 86_400_000


# A pipeline of a hundred SET … EX is one round trip too, but packing and unpacking a hundred commands in the client
# costs more than everything else about marking. Every key is in KEYS and in one slot, as cluster mode requires. The
# last key counts all marks ever written.
_MARK_SCRIPT = """
local marks = #KEYS - 1
for i = 1, marks do redis.call('SET', KEYS[i], '1', 'EX', ARGV[1]) end
redis.call('SET', KEYS[#KEYS], (tonumber(redis.call('GET', KEYS[#KEYS])) or 0) + marks)
"""

_RESERVE_SCRIPT = "redis.call('SET', KEYS[1], string.rep('x', ARGV[1]), 'PX', ARGV[2])"


def connect(
    host: str,
    port: int,
    *,
    db: int,
    tls: bool,
    username: str | None,
    password: str | None,
    connections: int,
    credentials: CredentialProvider | None = None,
    command_seconds: float = COMMAND_SECONDS,
) -> redis.Redis:
    """Return a client that connects when it is first used.

    Parameters
    ----------
    host, port, db
        Address, and index of the database.
    tls
        Whether to use TLS; the certificate and its host name are verified.
    username, password
        Credentials; ``None`` if there are none.
    connections
        Connections at most.
    credentials
        Provides user and password for each new connection, instead of `username` and `password`.
    command_seconds
        How long to wait for the server: for a connection, and for each answer. After a time-out a command is not
        repeated; after a closed connection it is, a few times.
    """
    return redis.Redis(
        connection_pool=redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]
            connection_class=redis.SSLConnection if tls else redis.Connection,
            host=host,
            port=port,
            db=db,
            username=username if credentials is None else None,
            password=password,
            credential_provider=credentials,
            decode_responses=True,
            socket_timeout=command_seconds,
            socket_connect_timeout=command_seconds,
            socket_keepalive=True,
            # Not after a time-out: each retry would take as long again.
            retry=Retry(
                ExponentialWithJitterBackoff(base=0.05, cap=command_seconds / 8),
                retries=3,
                supported_errors=(ConnectionBroken,),
            ),
            # A handshake of Redis Enterprise: a further round trip, which ElastiCache refuses anyway.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            max_connections=connections,
            timeout=command_seconds,
        )
    )


def key_prefix(trail: Trail) -> str:
    """Return the prefix of all keys of a trail."""
    return f"kong-cloudtrail:{{{trail.path}}}"


class ValkeySeenSet:
    """The marks of delivered entries. Each expires some time after the source's entry.

    Parameters
    ----------
    client
        A client as `connect` returns it.
    trail
        The trail.
    lock
        The run's lock, which is checked with every look-up: if it is gone, the marks may be gone as well.
    marks_in_flight
        Number of marks that may still have to be written when the cache turns out to be full.
    """

    def __init__(
        self, client: redis.Redis, trail: Trail, lock: ValkeyLock | None = None, *, marks_in_flight: int = 0
    ) -> None:
        self._client = client
        self._lock = lock
        self._mark = client.register_script(_MARK_SCRIPT)
        self._prefix = f"{key_prefix(trail)}:seen:"
        self._cache_id = f"{key_prefix(trail)}:cache"
        self._count = f"{key_prefix(trail)}:marks"
        self._reserve = f"{key_prefix(trail)}:reserve"
        self._reserve_bytes = max(LEAST_RESERVE_BYTES, marks_in_flight * MARK_BYTES)

    def open(self) -> CacheState:
        """Identify the cache, and reserve memory for the marks of everything in flight, with one round trip.

        The reserve is a value that takes as much memory as these marks. It is deleted to make room for them if the
        cache becomes full during the run.

        Raises
        ------
        CacheFull
            If there is no room for the reserve.
        SeenSetUnavailable
            If the cache does not answer.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.eval(_RESERVE_SCRIPT, 1, self._reserve, str(self._reserve_bytes), str(_RESERVE_MILLISECONDS))
        # Refused if the reserve has filled the cache: the server accepts a command while there is any free memory.
        pipeline.set(self._cache_id, uuid.uuid4().hex, nx=True)
        pipeline.get(self._cache_id)
        pipeline.get(self._count)
        try:
            answers = pipeline.execute(raise_on_error=False)
            if any(isinstance(answer, OutOfMemoryError) for answer in answers):
                self._client.delete(self._reserve)
        except RedisError as error:
            raise SeenSetUnavailable(_advice(error)) from error
        for answer in answers:
            if isinstance(answer, OutOfMemoryError):
                raise CacheFull(f"Nothing was delivered. {_FULL}", marked=False) from answer
            if isinstance(answer, RedisError):
                raise SeenSetUnavailable(_advice(answer)) from answer
        return CacheState(cache_id=str(answers[2]), marks_written=int(answers[3] or 0))

    def seen(self, entries: Sequence[Entry]) -> set[str]:
        """Return the keys of the entries that are marked, with one command.

        Raises
        ------
        LockLost
            If the lock is gone, or another run holds it. Without this check, a run whose cache was emptied would
            deliver everything again that it reads from then on.
        SeenSetUnavailable
            If the cache does not answer.
        """
        if not entries:
            return set()
        keys = [entry.key for entry in entries]
        names = self._names(keys)
        try:
            if self._lock is None:
                values = self._client.mget(names)
            else:
                token, *values = self._client.mget([self._lock.name, *names])
                self._lock.compare(token)
        except RedisError as error:
            raise SeenSetUnavailable(_advice(error)) from error
        return {key for key, value in zip(keys, values, strict=True) if value is not None}

    def mark(self, keys: Sequence[str], lifetime_seconds: int) -> None:
        """Mark keys, with one command. The marks expire after `lifetime_seconds`.

        Raises
        ------
        CacheFull
            If the cache has no room for more marks. These ones may have been written in place of the reserve:
            ``marked``.
        SeenSetUnavailable
            If the cache does not answer.
        """
        names = [*self._names(keys), self._count.encode()]
        try:
            self._mark(keys=names, args=[lifetime_seconds])
        except OutOfMemoryError as error:
            self._mark_in_reserve(names, lifetime_seconds)
            raise CacheFull(_FULL, marked=True) from error
        except RedisError as error:
            raise SeenSetUnavailable(_advice(error)) from error

    def _mark_in_reserve(self, names: Sequence[bytes], lifetime_seconds: int) -> None:
        try:
            self._client.delete(self._reserve)
            self._mark(keys=names, args=[lifetime_seconds])
        except OutOfMemoryError as error:
            raise CacheFull(_FULL, marked=False) from error
        except RedisError as error:
            raise SeenSetUnavailable(_advice(error)) from error

    def _names(self, keys: Sequence[str]) -> list[bytes]:
        # As bytes, which the client sends as they are. Text would be checked and encoded by the client, one by one.
        prefix = self._prefix
        return [f"{prefix}{key}".encode() for key in keys]


class ValkeyLock:
    """Lets one run at a time work: a key with the owner's token and an expiry, renewed in the background.

    Parameters
    ----------
    client
        A client as `connect` returns it.
    trail
        The trail.
    clock
        Measures how long ago the lock was renewed.
    release_seconds
        How long to wait for the release at most.
    """

    def __init__(
        self,
        client: redis.Redis,
        trail: Trail,
        clock: Clock,
        *,
        release_seconds: float = RELEASE_SECONDS,
    ) -> None:
        self.name = f"{key_prefix(trail)}:lock"
        self._client = client
        self._lock: Lock = client.lock(self.name, timeout=LOCK_SECONDS, blocking=False, thread_local=False)
        self.token = str(uuid.uuid4())
        self._release_seconds = release_seconds
        self._clock = clock
        self._valid_until = 0.0
        self._released = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="lock", daemon=True)

    def acquire(self) -> bool:
        """Take the lock. Call it only once for an object."""
        asked = self._clock.monotonic()
        try:
            if not self._lock.acquire(token=self.token) and not self._is_ours():
                return False
        except RedisError as error:
            raise SeenSetUnavailable(_advice(error)) from error
        self._valid_until = asked + LOCK_SECONDS
        self._keeper.start()
        return True

    def check(self) -> None:
        """Raise `LockLost` if the lock may have expired by our own clock. Makes no round trip."""
        if self._clock.monotonic() >= self._valid_until:
            raise LockLost(
                "The run lost its lock: the cache could not be reached for a while, or was emptied. The run delivers "
                "nothing more, as another run may have begun. Nothing is lost; the next run continues."
            )

    def compare(self, token: object) -> None:
        """Raise `LockLost` unless `token`, as just read from the lock's key, is this lock's own."""
        if token != self.token:
            self._valid_until = 0.0
            self.check()

    def release(self) -> None:
        """Release the lock, if that does not take long; otherwise it expires by itself."""
        self._released.set()
        self._keeper.join(self._release_seconds)

    def _is_ours(self) -> bool:
        """Return whether this object already holds the lock: the client repeats a command whose answer was lost."""
        if self._client.get(self.name) != self.token:
            return False
        self._lock.local.token = self.token.encode()
        return True

    def _keep(self) -> None:
        """Renew the lock until `release` is called, then release it, in a thread that nothing has to wait for."""
        while not self._released.wait(LOCK_SECONDS / 5):
            asked = self._clock.monotonic()
            try:
                self._lock.reacquire()
            except LockError:
                self._valid_until = 0.0  # another run holds it, or it is gone
                return
            except Exception:  # noqa: S112 - any kind of error: a new sign-in calls other services too
                continue  # it is held until it expires; the next attempt may succeed
            self._valid_until = asked + LOCK_SECONDS
        with contextlib.suppress(Exception):  # if lost or unreachable, it expires by itself
            self._lock.release()


_FULL = (
    "The cache is full and has no room for more marks. Entries that cannot be marked would be delivered again in each "
    "run, so nothing more is delivered until there is room. Give the cache more memory: about 150 bytes for each entry "
    "that Kong retains."
)


def _advice(error: RedisError) -> str:
    kind = type(error).__name__
    if isinstance(error, AuthenticationError) or "NOAUTH" in str(error) or "WRONGPASS" in str(error):
        return (
            f"The cache refused the credentials ({kind}). Check REDIS_USERNAME, and the password's secret or the "
            "role's permission elasticache:Connect."
        )
    return (
        f"The cache did not answer as it should ({kind}). Check that it is up and can be reached from here: "
        "REDIS_HOST, REDIS_TLS, security groups."
    )
