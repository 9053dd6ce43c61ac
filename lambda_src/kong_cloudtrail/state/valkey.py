"""Valkey, or any Redis, as seen set and lock.

Both keep their keys below ``kong-cloudtrail:{source/stream/destination}:``. The braces are meant literally: they make
all keys of a trail fall into one slot, so that a pipeline works in cluster mode too.
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
from ..domain.trail import Trail
from ..errors import CacheFull, LockLost, SeenSetUnavailable
from ..ports import Clock

COMMAND_SECONDS = 3.0
LOCK_SECONDS = 15.0
"""How long a lock outlives the process that held it: what a run waits for at most after another was killed."""

RELEASE_SECONDS = 0.5
"""How long the end of a run waits for the lock to be given back; it expires by itself."""

MARK_BYTES = 200
"""What a mark takes in the server's memory, at most: 132 with ids of 32 characters and the source ``kong``."""

LEAST_RESERVE_BYTES = 64 * 1024
_RESERVE_MILLISECONDS = 7 * 86_400_000


# A pipeline of a hundred SET … EX takes one round trip too, but packing and unpacking a hundred commands in the client
# costs more than all the rest of marking. Every key is in the script's KEYS and in one slot, as cluster mode asks. The
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
        Whether to speak TLS; the certificate and its host name are verified.
    username, password
        Credentials; ``None`` if there are none.
    connections
        Connections at most.
    credentials
        Asked for user and password at each new connection, instead of `username` and `password`.
    command_seconds
        How long to wait for the server: for a connection, and for each answer. A server that does not answer in time
        is not asked again; one that closes the connection is, at once and a few times.
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
            # A handshake of Redis Enterprise, one round trip more that ElastiCache only refuses.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            max_connections=connections,
            timeout=command_seconds,
        )
    )


def key_prefix(trail: Trail) -> str:
    """Return what all keys of a trail begin with."""
    return f"kong-cloudtrail:{{{trail.path}}}"


class ValkeySeenSet:
    """Marks of delivered entries, each expiring some time after Kong's entry.

    Parameters
    ----------
    client
        From `connect`.
    trail
        Whose.
    lock
        The run's lock, looked at with every look-up: where it is gone, the marks may be gone with it.
    marks_in_flight
        Marks that there may be to write when the cache turns out to be full.
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
        """Begin a run, with one round trip: reserve memory for the marks of all that will be in flight.

        The reserve is a value that takes as much memory as these marks. It is given up for them if the cache becomes
        full during the run.

        Raises
        ------
        CacheFull
            If there is no room for it.
        SeenSetUnavailable
            If the cache does not answer.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.eval(_RESERVE_SCRIPT, 1, self._reserve, str(self._reserve_bytes), str(_RESERVE_MILLISECONDS))
        # Refused if the reserve has filled the cache: a command is let in as long as there is any room before it.
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

    def seen(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that are marked, with one command.

        Raises
        ------
        LockLost
            If the lock is not there, or not ours, any more. A cache that was emptied during the run would else have
            all that it reads from then on delivered again.
        SeenSetUnavailable
            If the cache does not answer.
        """
        if not keys:
            return set()
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
        """Mark keys for so long, with one command.

        Raises
        ------
        CacheFull
            If the cache has no room for more marks; these may have found room in the reserve: ``marked``.
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
        # As bytes, which the client passes on as they are: it would ask of each text what it is.
        prefix = self._prefix
        return [f"{prefix}{key}".encode() for key in keys]


class ValkeyLock:
    """One run at a time: a key with an owner's token and an expiry, renewed in the background while the run works.

    Parameters
    ----------
    client
        From `connect`.
    trail
        Whose.
    clock
        Measures how long ago the lock was renewed.
    release_seconds
        How long to wait at most for it to be given back.
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
        """Take the lock, once in the life of this object."""
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
        """Raise `LockLost` unless the lock is ours by our own clock, whatever Redis says: no round trip."""
        if self._clock.monotonic() >= self._valid_until:
            raise LockLost(
                "The run lost its lock: Redis was not reachable for a while, or was emptied. It delivers nothing more, "
                "as another run may have begun. Nothing is lost; the next run goes on."
            )

    def compare(self, token: object) -> None:
        """Raise `LockLost` unless `token`, just read from the lock's key, is ours."""
        if token != self.token:
            self._valid_until = 0.0
            self.check()

    def release(self) -> None:
        """Give the lock back, if that does not take long; else it expires by itself."""
        self._released.set()
        self._keeper.join(self._release_seconds)

    def _is_ours(self) -> bool:
        """Look whether the lock is ours already: the client repeats a command whose answer got lost."""
        if self._client.get(self.name) != self.token:
            return False
        self._lock.local.token = self.token.encode()
        return True

    def _keep(self) -> None:
        """Renew the lock until it is given back, and then give it back, in a thread that nobody has to wait for."""
        while not self._released.wait(LOCK_SECONDS / 5):
            asked = self._clock.monotonic()
            try:
                self._lock.reacquire()
            except LockError:
                self._valid_until = 0.0  # somebody else's, or gone
                return
            except Exception:  # noqa: S112 - of any kind: signing in anew asks other services too
                continue  # it stays ours until it expires; perhaps the next try gets through
            self._valid_until = asked + LOCK_SECONDS
        with contextlib.suppress(Exception):  # if lost or unreachable, it expires by itself
            self._lock.release()


_FULL = (
    "The cache is full and takes no more marks. What cannot be marked would be delivered again in each run, so nothing "
    "more is delivered until there is room: give the cache more memory, about 140 bytes for each entry that Kong "
    "retains."
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
