"""Valkey, or any Redis, as seen set and lock.

Both keep their keys below ``kong-cloudtrail:{source}:``. The braces are meant literally: they make all keys of a source
fall into one slot, so that a pipeline works in cluster mode too.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Sequence

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, LockError, RedisError
from redis.lock import Lock
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from ..errors import LockLost, SeenSetUnavailable
from ..ports import Clock

SOCKET_TIMEOUT_SECONDS = 5.0
LOCK_SECONDS = 15.0
"""How long a lock outlives the process that held it: what a run waits for at most after another was killed."""


# A pipeline of a hundred SET … EX takes one round trip too, but packing and unpacking a hundred commands in the client
# costs more than all the rest of marking. Every key is in the script's KEYS and in one slot, as cluster mode asks.
_MARK_SCRIPT = "for _, key in ipairs(KEYS) do redis.call('SET', key, '1', 'EX', ARGV[1]) end"

_SET_IF_OWNER_SCRIPT = (
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end redis.call('SET', KEYS[2], '1') return 1"
)
_CLEAR_SCRIPT = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


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
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_keepalive=True,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries=3),
            # A handshake of Redis Enterprise, one round trip more that ElastiCache only refuses.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            max_connections=connections,
            timeout=SOCKET_TIMEOUT_SECONDS,
        )
    )


def key_prefix(source: str) -> str:
    """Return what all keys of a source begin with."""
    return f"kong-cloudtrail:{{{source}}}"


class ValkeySeenSet:
    """Marks of delivered entries, each expiring some time after Kong's entry.

    Parameters
    ----------
    client
        From `connect`.
    source
        Name of the source.
    lock
        The run's lock, looked at with every look-up: where it is gone, the marks may be gone with it.
    """

    def __init__(self, client: redis.Redis, source: str, lock: ValkeyLock | None = None) -> None:
        self._client = client
        self._lock = lock
        self._mark = client.register_script(_MARK_SCRIPT)
        self._set_if_owner = client.register_script(_SET_IF_OWNER_SCRIPT)
        self._prefix = f"{key_prefix(source)}:seen:"
        self._complete = f"{key_prefix(source)}:complete"

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
        """Mark keys for so long, with one command."""
        try:
            self._mark(keys=self._names(keys), args=[lifetime_seconds])
        except RedisError as error:
            raise SeenSetUnavailable(_advice(error)) from error

    def _names(self, keys: Sequence[str]) -> list[bytes]:
        # As bytes, which the client passes on as they are: it would ask of each text what it is.
        prefix = self._prefix
        return [f"{prefix}{key}".encode() for key in keys]

    def is_complete(self) -> bool:
        """Tell whether the key that `set_complete` left, and that never expires, is there."""
        try:
            return bool(self._client.exists(self._complete))
        except RedisError as error:
            raise SeenSetUnavailable(_advice(error)) from error

    def set_complete(self) -> None:
        """Leave a key that goes only when all keys go.

        Raises
        ------
        LockLost
            If the lock went meanwhile, as it does when the cache is emptied: then the marks are not complete.
        SeenSetUnavailable
            If the cache does not answer.
        """
        try:
            if self._lock is None:
                self._client.set(self._complete, "1")
            elif not self._set_if_owner(keys=[self._lock.name, self._complete], args=[self._lock.token]):
                self._lock.compare(None)
        except RedisError as error:
            raise SeenSetUnavailable(_advice(error)) from error


class ValkeyLock:
    """One run at a time: a key with an owner's token and an expiry, renewed in the background while the run works.

    Parameters
    ----------
    client
        From `connect`.
    source
        Name of the source.
    clock
        Measures how long ago the lock was renewed.
    owner
        Names this process in the lock, besides a random token; empty if it cannot be named for certain.
    is_gone
        Tells of such a name whether its process has certainly ended: then its lock is taken over at once.
    """

    def __init__(
        self,
        client: redis.Redis,
        source: str,
        clock: Clock,
        *,
        owner: str = "",
        is_gone: Callable[[str], bool] = lambda _owner: False,
    ) -> None:
        self.name = f"{key_prefix(source)}:lock"
        self._client = client
        self._lock: Lock = client.lock(self.name, timeout=LOCK_SECONDS, blocking=False, thread_local=False)
        self.token = f"{owner}/{uuid.uuid4()}"
        self._is_gone = is_gone
        self._clock = clock
        self._valid_until = 0.0
        self._released = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="lock", daemon=True)

    def acquire(self) -> bool:
        """Take the lock, once in the life of this object."""
        asked = self._clock.monotonic()
        try:
            if not self._lock.acquire(token=self.token) and not self._take_over():
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
        """Give the lock back."""
        self._released.set()
        self._keeper.join()
        with contextlib.suppress(LockError, RedisError):  # if lost or unreachable, it expires by itself
            self._lock.release()

    def _take_over(self) -> bool:
        """Look whose the lock is: it may be ours, or of a process that has ended."""
        token = self._client.get(self.name)
        if token == self.token:  # the client repeated a command whose answer got lost, and met its own success
            self._lock.local.token = self.token.encode()
            return True
        if not isinstance(token, str) or not self._is_gone(token.rpartition("/")[0]):
            return False
        self._client.eval(_CLEAR_SCRIPT, 1, self.name, token)
        return bool(self._lock.acquire(token=self.token))

    def _keep(self) -> None:
        while not self._released.wait(LOCK_SECONDS / 5):
            asked = self._clock.monotonic()
            try:
                self._lock.reacquire()
            except LockError:
                self._valid_until = 0.0  # somebody else's, or gone
                return
            except RedisError:
                continue  # it stays ours until it expires; perhaps the next try gets through
            self._valid_until = asked + LOCK_SECONDS


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
