"""The seen set and the lock, in Valkey or Redis.

Their keys begin with ``kong-cloudtrail:{source/stream/destination}:``. The braces are part of the key: they put all
keys of a trail into one slot, so that a pipeline works in cluster mode too.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import (
    AuthenticationError,
    LockError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.lock import Lock
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from ..domain.backfill import Range
from ..domain.checkpoint import CacheState
from ..domain.entry import Entry
from ..domain.trail import Trail
from ..errors import CacheFull, LockLost, RequestInvalid, SeenSetUnavailable
from ..ports import Clock
from .marks import LOOK_UP, MARK, Places

COMMAND_SECONDS = 3.0
LOCK_SECONDS = 15.0
"""How long a lock outlives the process that held it. After a run was killed, the next one can begin after this time."""

RENEWAL_SECONDS = LOCK_SECONDS / 5

RELEASE_SECONDS = 0.5
"""How long the end of a run waits for the lock to be released; otherwise it expires by itself."""

RESERVED_MARK_BYTES = 300
"""Upper limit of the server's memory for a mark: that of one which is alone in its hour."""

LEAST_RESERVE_BYTES = 64 * 1024
_RESERVE_MILLISECONDS = 7 * 86_400_000


_RESERVE_SCRIPT = "redis.call('SET', KEYS[1], string.rep('x', ARGV[1]), 'PX', ARGV[2])"


# Taken and renewed in the same way: no other range may be at work, and no other call at this slice.
_SLICE_SCRIPT = """
local range, owner = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if range and range ~= ARGV[1] then return range end
if owner and owner ~= ARGV[2] then return owner end
if ARGV[4] == 'renew' and not owner then return '' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return ARGV[2]
"""


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
    """The marks of delivered entries. Those of an hour expire together, some time after the source's entries.

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
        self,
        client: redis.Redis,
        trail: Trail,
        lock: ValkeyLock | ValkeySliceLock | None = None,
        *,
        marks_in_flight: int = 0,
    ) -> None:
        self._client = client
        self._lock = lock
        self._look_up = client.register_script(LOOK_UP)
        self._mark = client.register_script(MARK)
        self._prefix = key_prefix(trail)
        self._lock_name = _run_lock(trail) if lock is None else lock.name
        self._cache_id = f"{self._prefix}:cache"
        self._count = f"{self._prefix}:marks"
        self._hash_key_name = f"{self._prefix}:hash-key"
        self._hash_key: str | None = None
        self._reserve = f"{self._prefix}:reserve"
        self._reserve_bytes = max(LEAST_RESERVE_BYTES, marks_in_flight * RESERVED_MARK_BYTES)

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
        pipeline.set(self._hash_key_name, secrets.token_hex(16), nx=True)
        pipeline.get(self._hash_key_name)
        try:
            answers = pipeline.execute(raise_on_error=False)
            if any(isinstance(answer, OutOfMemoryError) for answer in answers):
                self._client.delete(self._reserve)
        except RedisError as error:
            raise SeenSetUnavailable(advice_on(error)) from error
        for answer in answers:
            if isinstance(answer, OutOfMemoryError):
                raise CacheFull(f"Nothing was delivered. {_FULL}", marked=False) from answer
            if isinstance(answer, RedisError):
                raise SeenSetUnavailable(advice_on(answer)) from answer
        self._hash_key = str(answers[5])
        return CacheState(cache_id=str(answers[2]), marks_written=int(answers[3] or 0))

    def expect(self, entries: Sequence[Entry]) -> None:
        """Do nothing: a look-up is one round trip."""

    def look(self) -> CacheState:
        """Identify the cache without writing anything. Raises `SeenSetUnavailable`."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.get(self._cache_id)
        pipeline.get(self._count)
        try:
            cache_id, count = pipeline.execute()
        except RedisError as error:
            raise SeenSetUnavailable(advice_on(error)) from error
        return CacheState(cache_id=str(cache_id or ""), marks_written=int(count or 0))

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
        try:
            if (hash_key := self._read_hash_key()) is None:
                if self._lock is not None:
                    self._lock.compare(self._client.get(self._lock_name))
                return set()
            places = Places(self._prefix, hash_key.encode(), entries)
            token, *digits = self._look_up(keys=[self._lock_name, *places.names], args=places.marks)
        except RedisError as error:
            raise SeenSetUnavailable(advice_on(error)) from error
        if self._lock is not None:
            self._lock.compare(token)
        return places.keys_where(digits)

    def mark(self, entries: Sequence[Entry], lifetime_seconds: int) -> None:
        """Mark entries, with one command. The marks last for `lifetime_seconds` or longer.

        Raises
        ------
        CacheFull
            If the cache has no room for more marks. These ones may have been written in place of the reserve:
            ``marked``.
        SeenSetUnavailable
            If the cache does not answer.
        """
        if not entries:
            return
        try:
            hash_key = self._hash_key = self._read_hash_key() or secrets.token_hex(16)
        except RedisError as error:
            raise SeenSetUnavailable(advice_on(error)) from error
        places = Places(self._prefix, hash_key.encode(), entries)
        names = [*places.names, self._hash_key_name, self._count]
        values: list[bytes | str | int] = [*places.marks, hash_key, lifetime_seconds, len(entries)]
        try:
            self._mark(keys=names, args=values)
        except OutOfMemoryError as error:
            self._mark_in_reserve(names, values)
            raise CacheFull(_FULL, marked=True) from error
        except RedisError as error:
            raise SeenSetUnavailable(advice_on(error)) from error

    def _read_hash_key(self) -> str | None:
        """Return the key of the hash, also to somebody who has not opened the cache; ``None`` if there is no mark."""
        if self._hash_key is None:
            found = self._client.get(self._hash_key_name)
            self._hash_key = None if found is None else str(found)
        return self._hash_key

    def _mark_in_reserve(self, names: list[str], values: list[bytes | str | int]) -> None:
        try:
            self._client.delete(self._reserve)
            self._mark(keys=names, args=values)
        except OutOfMemoryError as error:
            raise CacheFull(_FULL, marked=False) from error
        except RedisError as error:
            raise SeenSetUnavailable(advice_on(error)) from error


class _KeptLock(ABC):
    """A key with the owner's token and an expiry, renewed in the background.

    Parameters
    ----------
    name
        The key.
    clock
        Measures how long ago the lock was renewed.
    release_seconds
        How long to wait for the release at most.
    """

    def __init__(self, name: str, clock: Clock, release_seconds: float) -> None:
        self.name = name
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
            if not self._take():
                return False
        except RedisError as error:
            raise SeenSetUnavailable(advice_on(error)) from error
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
        if self._keeper.ident is not None:
            self._keeper.join(self._release_seconds)

    @abstractmethod
    def _take(self) -> bool:
        """Take the lock; raises `RedisError`."""

    @abstractmethod
    def _renew(self) -> None:
        """Renew the lock; raises `LockError` if it is lost."""

    @abstractmethod
    def _give_back(self) -> None:
        """Release the lock."""

    def _keep(self) -> None:
        """Renew the lock until `release` is called, then release it, in a thread that nothing has to wait for."""
        while not self._released.wait(RENEWAL_SECONDS):
            asked = self._clock.monotonic()
            try:
                self._renew()
            except LockError:
                self._valid_until = 0.0  # another run holds it, or it is gone
                return
            except Exception:  # noqa: S112 - any kind of error: a new sign-in calls other services too
                continue  # it is held until it expires; the next attempt may succeed
            self._valid_until = asked + LOCK_SECONDS
        with contextlib.suppress(Exception):  # if lost or unreachable, it expires by itself
            self._give_back()


class ValkeyLock(_KeptLock):
    """Lets one run at a time work.

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
        super().__init__(_run_lock(trail), clock, release_seconds)
        self._client = client
        self._lock: Lock = client.lock(self.name, timeout=LOCK_SECONDS, blocking=False, thread_local=False)
        self._range_name = _range_lock(trail)

    def backfilled_until(self) -> int | None:
        """Return where the range of a backfill ends that is at work; ``None`` if there is none.

        Call it after `acquire`: a backfill writes its key first and looks at this lock then, so one of the two sees the
        other.
        """
        try:
            range_name = self._client.get(self._range_name)
        except RedisError as error:
            raise SeenSetUnavailable(advice_on(error)) from error
        return None if range_name is None else int(str(range_name).rpartition("-")[2])

    def _take(self) -> bool:
        return bool(self._lock.acquire(token=self.token)) or self._is_ours()

    def _is_ours(self) -> bool:
        """Return whether this object already holds the lock: the client repeats a command whose answer was lost."""
        if self._client.get(self.name) != self.token:
            return False
        self._lock.local.token = self.token.encode()
        return True

    def _renew(self) -> None:
        self._lock.reacquire()

    def _give_back(self) -> None:
        self._lock.release()


class ValkeySliceLock(_KeptLock):
    """Lets one call at a time work on a slice of a backfill, and backfills of one range only on a trail.

    Two keys: the range, which all slices of a backfill write and which expires when none is at work any more, and the
    slice with the owner's token.

    Parameters
    ----------
    client
        A client as `connect` returns it.
    trail
        The trail.
    backfill, part
        The range of the backfill, and the slice.
    clock
        Measures how long ago the lock was renewed.
    release_seconds
        How long to wait for the release at most.
    """

    def __init__(
        self,
        client: redis.Redis,
        trail: Trail,
        backfill: Range,
        part: Range,
        clock: Clock,
        *,
        release_seconds: float = RELEASE_SECONDS,
    ) -> None:
        super().__init__(f"{_range_lock(trail)}:{part.name}", clock, release_seconds)
        self._client = client
        self._range = backfill
        self._range_name = _range_lock(trail)
        self._run_lock = _run_lock(trail)
        self._run: object = None
        self._script = client.register_script(_SLICE_SCRIPT)

    def must_wait(self) -> bool:
        """Return whether a run is still at work that may have begun before it could see this backfill's range.

        Runs that begin later leave the range alone. Raises `SeenSetUnavailable`.
        """
        if self._run is None:
            return False
        try:
            if self._client.get(self._run_lock) != self._run:
                self._run = None
        except RedisError as error:
            raise SeenSetUnavailable(advice_on(error)) from error
        return self._run is not None

    def _take(self) -> bool:
        holder = self._call("take")
        if holder == self.token:
            self._run = self._client.get(self._run_lock)
            return True
        if _is_range(holder) and holder != self._range.name:
            other = Range(*(int(bound) for bound in holder.split("-")))
            bounds = other.fields
            problem = (
                f"A backfill from {bounds['after']} to {bounds['before']} is at work on this trail, and two could "
                "deliver the same entries. Ask again when it has ended: half a minute after its last call."
            )
            raise RequestInvalid([problem])
        return False

    def _renew(self) -> None:
        if self._call("renew") != self.token:
            raise LockError("lost")

    def _give_back(self) -> None:
        # The range stays for the other slices. It expires by itself.
        self._client.delete(self.name)

    def _call(self, how: str) -> str:
        milliseconds = int(LOCK_SECONDS * 1000)
        return str(
            self._script(keys=[self._range_name, self.name], args=[self._range.name, self.token, milliseconds, how])
        )


_is_range = re.compile(r"\d+-\d+").fullmatch
"""Matches the name of a range; tokens look different."""


def _run_lock(trail: Trail) -> str:
    return f"{key_prefix(trail)}:lock"


def _range_lock(trail: Trail) -> str:
    return f"{key_prefix(trail)}:backfill"


_FULL = (
    "The cache is full and has no room for more marks. Entries that cannot be marked would be delivered again in each "
    "run, so nothing more is delivered until there is room. Give the cache more memory: about 12 bytes for each entry "
    "that Kong retains."
)


def advice_on(error: RedisError) -> str:
    """Return what happened, and what to check. May be logged."""
    kind = type(error).__name__
    if isinstance(error, AuthenticationError) or "NOAUTH" in str(error) or "WRONGPASS" in str(error):
        return (
            f"The cache refused the credentials ({kind}). Check REDIS_USERNAME, and the password's secret or the "
            "role's permission elasticache:Connect."
        )
    if isinstance(error, OutOfMemoryError):
        return _FULL
    if isinstance(error, NoPermissionError):
        return (
            f"The user of the cache may not do what a run needs ({kind}). Let its access string allow "
            "~kong-cloudtrail:* and the commands in stacks/parts/cache_access.py."
        )
    if isinstance(error, ReadOnlyError):
        return (
            f"The cache takes no marks, as this node is a replica ({kind}). Set REDIS_HOST to the primary endpoint of "
            "the replication group."
        )
    if "DB index" in str(error):
        return f"The cache has no database with that index ({kind}). Correct REDIS_DB."
    return (
        f"The cache did not answer as it should ({kind}). Check that it is up and can be reached from here: "
        "REDIS_HOST, REDIS_TLS, security groups."
    )
