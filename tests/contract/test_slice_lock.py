"""Backfills beside runs on a real Valkey: whoever comes second sees the other, and no range is worked on twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kong_cloudtrail.domain.backfill import Range
from kong_cloudtrail.errors import LockLost, RequestInvalid, SeenSetUnavailable
from kong_cloudtrail.state import valkey as module
from kong_cloudtrail.state.valkey import ValkeyLock, ValkeySeenSet, ValkeySliceLock, connect

from sandbox.machinery.http_server import LOOPBACK
from sandbox.machinery.valkey import Valkey
from tests.conftest import CACHE_PASSWORD, CACHE_USERNAME
from tests.helpers import NOW, TRAIL, FakeClock, keyed, wait_until

WHOLE = Range(NOW - 7200, NOW)
FIRST, SECOND = WHOLE.slices()[:2]
RANGE_KEY = f"kong-cloudtrail:{{{TRAIL.path}}}:backfill"


@pytest.fixture
def client(valkey: Valkey) -> Iterator[redis.Redis]:
    client = connect(
        LOOPBACK,
        valkey.port,
        db=0,
        tls=False,
        username=CACHE_USERNAME,
        password=CACHE_PASSWORD,
        connections=10,
    )
    yield client
    client.close()


def slice_lock(client: redis.Redis, part: Range = FIRST, whole: Range = WHOLE) -> ValkeySliceLock:
    return ValkeySliceLock(client, TRAIL, whole, part, FakeClock())


def run_lock(client: redis.Redis) -> ValkeyLock:
    return ValkeyLock(client, TRAIL, FakeClock())


def test_slices_of_a_range_are_worked_on_side_by_side(client: redis.Redis) -> None:
    first, second = slice_lock(client), slice_lock(client, SECOND)

    assert first.acquire()
    assert second.acquire()
    for lock in (first, second):
        lock.check()
        lock.release()


def test_slice_is_worked_on_by_one(client: redis.Redis) -> None:
    first, second, third = (slice_lock(client) for _ in range(3))

    assert first.acquire()
    assert not second.acquire()
    second.release()
    first.release()
    assert third.acquire()
    third.release()


def test_other_range_is_refused_while_one_is_at_work(client: redis.Redis) -> None:
    lock = slice_lock(client)
    lock.acquire()
    other = Range(NOW - 3600, NOW + 3600)

    with pytest.raises(RequestInvalid, match="A backfill from 2024-06-01T10:00:00Z to 2024-06-01T12:00:00Z is at work"):
        slice_lock(client, other.slices()[0], other).acquire()

    lock.release()


def test_run_that_begins_later_sees_the_range(client: redis.Redis) -> None:
    before, lock = run_lock(client), slice_lock(client)
    assert before.acquire()
    assert before.backfilled_until() is None
    before.release()

    assert lock.acquire()
    assert not lock.must_wait()
    later = run_lock(client)
    assert later.acquire()
    assert later.backfilled_until() == WHOLE.before
    assert not lock.must_wait()
    for held in (later, lock):
        held.release()


def test_run_that_was_at_work_is_waited_for(client: redis.Redis) -> None:
    run, lock = run_lock(client), slice_lock(client)
    run.acquire()

    assert lock.acquire()
    assert lock.must_wait()
    assert lock.must_wait()
    run.release()
    assert not lock.must_wait()
    lock.release()


def test_run_after_the_one_that_was_at_work_is_not_waited_for(client: redis.Redis) -> None:
    run, lock, later = run_lock(client), slice_lock(client), run_lock(client)
    run.acquire()
    lock.acquire()
    run.release()
    later.acquire()

    assert not lock.must_wait()
    for held in (later, lock):
        held.release()


def test_range_and_slice_expire_by_themselves(client: redis.Redis, valkey: Valkey) -> None:
    lock = slice_lock(client)
    lock.acquire()

    with valkey.client() as observer:
        for name in (RANGE_KEY, lock.name):
            assert 0 < observer.pttl(name) <= 15_000
        lock.release()
        assert observer.exists(lock.name) == 0
        assert observer.exists(RANGE_KEY) == 1  # other slices may be at work


def test_is_renewed_while_the_call_works(client: redis.Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEWAL_SECONDS", 0.1)
    lock = slice_lock(client)
    lock.acquire()
    with valkey.client() as observer:
        for name in (RANGE_KEY, lock.name):
            observer.pexpire(name, 60_000_000)

        wait_until(lambda: observer.pttl(RANGE_KEY) < 20_000)
        wait_until(lambda: observer.pttl(lock.name) < 20_000)
    lock.check()
    lock.release()


@pytest.mark.parametrize("loss", ["slice", "range", "other range", "everything"])
def test_loss_is_noticed_at_the_next_renewal(
    client: redis.Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    monkeypatch.setattr(module, "RENEWAL_SECONDS", 0.1)
    lock = slice_lock(client)
    lock.acquire()
    with valkey.client() as observer:
        match loss:
            case "slice":
                observer.set(lock.name, "another")
            case "range":
                observer.delete(RANGE_KEY, lock.name)
            case "other range":
                observer.set(RANGE_KEY, "1-2")
            case _:
                valkey.flush()

    def is_lost() -> bool:
        try:
            lock.check()
        except LockLost:
            return True
        return False

    wait_until(is_lost)
    lock.release()


def test_emptied_cache_is_noticed_at_the_next_look_up(client: redis.Redis, valkey: Valkey) -> None:
    lock = slice_lock(client)
    lock.acquire()
    seen = ValkeySeenSet(client, TRAIL, lock)
    assert seen.seen(keyed(["a"])) == set()
    valkey.flush()

    with pytest.raises(LockLost):
        seen.seen(keyed(["a"]))
    lock.release()


def test_look_writes_nothing(client: redis.Redis, valkey: Valkey) -> None:
    seen = ValkeySeenSet(client, TRAIL)
    assert seen.look().cache_id == ""
    with valkey.client() as observer:
        assert observer.dbsize() == 0
        state = seen.open()
        keys = set(observer.keys())
        assert seen.look() == state
        assert set(observer.keys()) == keys


def test_cache_that_is_away_is_told(client: redis.Redis, valkey: Valkey) -> None:
    lock, run, seen = slice_lock(client), run_lock(client), ValkeySeenSet(client, TRAIL)
    lock.acquire()
    lock._run = "somebody"
    valkey.stop()

    calls: list[Any] = [lock.must_wait, run.backfilled_until, seen.look, slice_lock(client, SECOND).acquire]
    for call in calls:
        with pytest.raises(SeenSetUnavailable):
            call()
    lock.release()
