"""Seen set and lock on a real Valkey: over TLS, with an ACL user, and with the server going away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import redis
from kong_cloudtrail.domain.entry import Entry
from kong_cloudtrail.errors import CacheFull, LockLost, SecretUnavailable, SeenSetUnavailable
from kong_cloudtrail.state import valkey as adapter
from kong_cloudtrail.state.marks import HOUR_SECONDS
from kong_cloudtrail.state.valkey import ValkeyLock, ValkeySeenSet

from sandbox.machinery.valkey import TlsProxy, Valkey
from tests.conftest import CACHE_PASSWORD, CACHE_USERNAME
from tests.helpers import NOW, TRAIL, FakeClock, keyed, wait_until

pytestmark = pytest.mark.usefixtures("bare_environment")

PREFIX = "kong-cloudtrail:{kong/requests/cloudtrail-lake}"
LOCK = f"{PREFIX}:lock"


def connect(port: int, **options: object) -> redis.Redis:
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "db": 0,
        "tls": False,
        "username": CACHE_USERNAME,
        "password": CACHE_PASSWORD,
        "connections": 4,
    }
    return adapter.connect(**(settings | options))  # type: ignore[arg-type]


@pytest.fixture
def client(valkey: Valkey) -> Iterator[redis.Redis]:
    with connect(valkey.port) as connected:
        yield connected


def at(moment: int, *keys: str) -> list[Entry]:
    """Return entries of one moment."""
    return [replace(entry, timestamp=moment) for entry in keyed(keys)]


def name_of(moment: int) -> str:
    """Return the key of the marks of an hour."""
    return f"{PREFIX}:seen:{moment // HOUR_SECONDS}"


class TestSeenSet:
    def test_knows_what_was_marked_and_nothing_else(self, client: redis.Redis) -> None:
        seen = ValkeySeenSet(client, TRAIL)

        seen.mark(keyed(["a:1", "b"]), 60)

        assert seen.seen(keyed(["a:1", "b", "a", "c"])) == {"a:1", "b"}

    def test_takes_a_whole_page_at_once(self, client: redis.Redis) -> None:
        seen = ValkeySeenSet(client, TRAIL)
        keys = [f"{number:032d}:0123456789abcdef" for number in range(1000)]

        seen.mark(keyed(keys), 60)

        assert seen.seen(keyed(keys)) == set(keys)

    def test_nothing_to_do_is_no_error(self, client: redis.Redis) -> None:
        seen = ValkeySeenSet(client, TRAIL)

        seen.mark(keyed([]), 60)

        assert seen.seen(keyed([])) == set()

    def test_each_mark_lives_as_long_as_it_should(self, client: redis.Redis, valkey: Valkey) -> None:
        seen = ValkeySeenSet(client, TRAIL)
        seen.mark(at(NOW, "short"), 100)
        seen.mark(at(NOW + HOUR_SECONDS, "long", "too"), 2_592_000)

        with valkey.client() as observer:
            assert 90 < observer.ttl(name_of(NOW)) <= 100 + HOUR_SECONDS
            assert 2_591_990 < observer.ttl(name_of(NOW + HOUR_SECONDS)) <= 2_592_000 + HOUR_SECONDS

    def test_marks_of_an_hour_live_as_long_as_the_last_of_them(self, client: redis.Redis, valkey: Valkey) -> None:
        seen = ValkeySeenSet(client, TRAIL)
        for seconds in (100, 200_000, 100):
            seen.mark(at(NOW, str(seconds)), seconds)

        with valkey.client() as observer:
            assert 199_990 < observer.ttl(name_of(NOW)) <= 200_000 + HOUR_SECONDS

    def test_entry_without_a_time_has_a_mark_of_its_own(self, client: redis.Redis, valkey: Valkey) -> None:
        seen = ValkeySeenSet(client, TRAIL)
        timeless = [replace(entry, timestamp=None) for entry in keyed(["a", "b", "c"])]
        seen.mark([*timeless[:2], *keyed(["x"])], 100)

        assert seen.seen([*timeless, *keyed(["x", "a"])]) == {"a", "b", "x"}
        with valkey.client() as observer:
            names = list(observer.scan_iter(f"{PREFIX.replace('{', '[{]').replace('}', '[}]')}:seen:*"))
            assert sorted(observer.type(name) for name in names) == ["hash", "string", "string"]

    @pytest.mark.parametrize("count", [256, 257, 5_000, 30_000])
    def test_hour_with_any_number_of_marks_is_exact(self, client: redis.Redis, count: int) -> None:
        seen = ValkeySeenSet(client, TRAIL)
        keys = [f"{number:032d}:0123456789abcdef" for number in range(count)]
        for begin in range(0, count, 1000):
            seen.mark(keyed(keys[begin : begin + 1000]), 60)

        for begin in range(0, count, 1000):
            page = keys[begin : begin + 1000]
            others = [f"other-{key}" for key in page]
            assert seen.seen(keyed([*page, *others])) == set(page)

    def test_marking_again_takes_no_memory(self, client: redis.Redis, valkey: Valkey) -> None:
        seen = ValkeySeenSet(client, TRAIL)
        keys = [f"{number:032d}:0123456789abcdef" for number in range(1000)]
        seen.mark(keyed(keys), 60)
        with valkey.client() as observer:
            before = observer.memory_usage(name_of(NOW), samples=0)

            seen.mark(keyed(keys), 60)

            assert observer.memory_usage(name_of(NOW), samples=0) == before

    def test_same_entry_has_another_mark_in_another_cache(self, client: redis.Redis, valkey: Valkey) -> None:
        # So nobody can prepare two entries with the same mark.
        ValkeySeenSet(client, TRAIL).mark(keyed(["a"]), 60)
        with valkey.client(decode_responses=False) as observer:
            first = observer.hgetall(name_of(NOW))
            valkey.flush()
            ValkeySeenSet(client, TRAIL).mark(keyed(["a"]), 60)

            assert observer.hgetall(name_of(NOW)) != first

    def test_expired_mark_is_forgotten(self, client: redis.Redis, valkey: Valkey) -> None:
        seen = ValkeySeenSet(client, TRAIL)
        seen.mark(keyed(["a"]), 60)

        with valkey.client() as observer:
            observer.expire(name_of(NOW), 0)

        assert seen.seen(keyed(["a"])) == set()

    def test_sources_are_apart(self, client: redis.Redis) -> None:
        ValkeySeenSet(client, TRAIL).mark(keyed(["a"]), 60)

        assert ValkeySeenSet(client, replace(TRAIL, source="other")).seen(keyed(["a"])) == set()

    def test_databases_are_apart(self, client: redis.Redis, valkey: Valkey) -> None:
        ValkeySeenSet(client, TRAIL).mark(keyed(["a"]), 60)

        with connect(valkey.port, db=3) as other:
            assert ValkeySeenSet(other, TRAIL).seen(keyed(["a"])) == set()

    def test_works_again_after_the_server_was_replaced(self, client: redis.Redis, valkey: Valkey) -> None:
        # Given a server that comes back empty, also of what it knew of our script
        seen = ValkeySeenSet(client, TRAIL)
        seen.mark(keyed(["a"]), 60)
        valkey.restart_empty()

        seen.mark(keyed(["b"]), 60)

        assert seen.seen(keyed(["a", "b"])) == {"b"}

    def test_works_again_after_connections_broke(
        self, valkey: Valkey, valkey_tls: TlsProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(valkey_tls.ca_pem_path))
        with connect(valkey_tls.port, tls=True) as client:
            seen = ValkeySeenSet(client, TRAIL)
            seen.mark(keyed(["a"]), 60)
            valkey_tls.break_connections()

            assert seen.seen(keyed(["a"])) == {"a"}


class TestAccess:
    def test_over_tls_with_the_ca_that_python_trusts(
        self, valkey: Valkey, valkey_tls: TlsProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(valkey_tls.ca_pem_path))

        with connect(valkey_tls.port, tls=True) as client:
            assert ValkeySeenSet(client, TRAIL).seen(keyed(["a"])) == set()

    def test_certificate_of_an_unknown_ca_is_refused(self, valkey: Valkey, valkey_tls: TlsProxy) -> None:
        with connect(valkey_tls.port, tls=True) as client, pytest.raises(SeenSetUnavailable, match="REDIS_TLS"):
            ValkeySeenSet(client, TRAIL).seen(keyed(["a"]))

    def test_certificate_for_another_host_is_refused(
        self, valkey: Valkey, valkey_tls: TlsProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(valkey_tls.ca_pem_path))

        # Every address of 127.0.0.0/8 leads here; the certificate is for 127.0.0.1 only. 127.1 is a spelling of it.
        with connect(valkey_tls.port, tls=True, host="127.1") as client, pytest.raises(SeenSetUnavailable):
            ValkeySeenSet(client, TRAIL).seen(keyed(["a"]))

    @pytest.mark.parametrize(
        "credentials",
        [{"password": "wrong"}, {"username": "stranger"}, {"username": None, "password": None}, {"username": None}],
    )
    def test_wrong_credentials_are_named_and_not_shown(
        self, valkey: Valkey, credentials: dict[str, str | None]
    ) -> None:
        with connect(valkey.port, **credentials) as client, pytest.raises(SeenSetUnavailable) as unavailable:
            ValkeySeenSet(client, TRAIL).seen(keyed(["a"]))

        assert "refused the credentials" in str(unavailable.value)
        assert "REDIS_USERNAME" in str(unavailable.value)
        for secret in ("wrong", "stranger", CACHE_PASSWORD):
            assert secret not in str(unavailable.value)


class TestServerAway:
    @pytest.fixture
    def orphan(self, client: redis.Redis, valkey: Valkey) -> Iterator[redis.Redis]:
        client.ping()
        valkey.stop()
        yield client

    def test_cannot_be_asked(self, orphan: redis.Redis) -> None:
        with pytest.raises(SeenSetUnavailable, match="Check that it is up"):
            ValkeySeenSet(orphan, TRAIL).seen(keyed(["a"]))

    def test_cannot_be_told(self, orphan: redis.Redis) -> None:
        with pytest.raises(SeenSetUnavailable, match="Check that it is up"):
            ValkeySeenSet(orphan, TRAIL).mark(keyed(["a"]), 60)

    def test_lock_cannot_be_taken(self, orphan: redis.Redis) -> None:
        with pytest.raises(SeenSetUnavailable):
            ValkeyLock(orphan, TRAIL, FakeClock()).acquire()

    def test_cannot_be_opened(self, orphan: redis.Redis) -> None:
        with pytest.raises(SeenSetUnavailable, match="Check that it is up"):
            ValkeySeenSet(orphan, TRAIL).open()


class TestOpening:
    def test_tells_the_same_cache_again_and_counts_its_marks(self, client: redis.Redis) -> None:
        first = ValkeySeenSet(client, TRAIL).open()
        ValkeySeenSet(client, TRAIL).mark(keyed(["a", "b", "c"]), 60)
        ValkeySeenSet(client, TRAIL).mark(keyed(["c", "d"]), 60)

        second = ValkeySeenSet(client, TRAIL).open()

        assert (first.marks_written, second.marks_written) == (0, 5)
        assert first.cache_id == second.cache_id

    def test_tells_that_the_cache_was_emptied(self, client: redis.Redis, valkey: Valkey) -> None:
        first = ValkeySeenSet(client, TRAIL).open()
        ValkeySeenSet(client, TRAIL).mark(keyed(["a"]), 60)
        valkey.flush()

        second = ValkeySeenSet(client, TRAIL).open()

        assert first.cache_id != second.cache_id
        assert second.marks_written == 0

    def test_is_one_for_each_source(self, client: redis.Redis) -> None:
        ValkeySeenSet(client, replace(TRAIL, source="other")).mark(keyed(["a"]), 60)

        one, other = ValkeySeenSet(client, TRAIL).open(), ValkeySeenSet(client, replace(TRAIL, source="other")).open()

        assert (one.marks_written, other.marks_written) == (0, 1)
        assert one.cache_id != other.cache_id

    def test_takes_one_round_trip(self, client: redis.Redis, valkey: Valkey) -> None:
        client.ping()
        with valkey.client() as observer:
            before = observer.info("stats")["total_reads_processed"]

            ValkeySeenSet(client, TRAIL).open()

            assert observer.info("stats")["total_reads_processed"] - before == 2  # and one is the observer's

    def test_reserve_outlives_no_source_that_nobody_runs_any_more(self, client: redis.Redis, valkey: Valkey) -> None:
        ValkeySeenSet(client, TRAIL).open()

        with valkey.client() as observer:
            assert 0 < observer.ttl(f"{PREFIX}:reserve") <= 7 * 86_400


class TestFullCache:
    """Nothing may be delivered that cannot be marked: it would be delivered again in each run."""

    IN_FLIGHT = 1600

    @pytest.fixture
    def small(self) -> Iterator[redis.Redis]:
        with (
            Valkey(max_memory_bytes=3_000_000) as server,
            connect(server.port, username=None, password=None) as connected,
        ):
            yield connected

    def seen_set(self, client: redis.Redis) -> ValkeySeenSet:
        return ValkeySeenSet(client, TRAIL, marks_in_flight=self.IN_FLIGHT)

    def fill_by_marks(self, seen: ValkeySeenSet, name: str) -> CacheFull:
        for batch in range(10_000):
            try:
                seen.mark(keyed([f"{name}-{batch}-{number:020d}:0123456789abcdef" for number in range(100)]), 3600)
            except CacheFull as full:
                return full
        raise AssertionError("it is never full")

    def fill_by_others(self, client: redis.Redis) -> None:
        with contextlib.suppress(redis.exceptions.OutOfMemoryError):
            for number in range(1_000_000):
                client.set(f"other-{number}", "x" * 1000)

    def test_that_becomes_full_still_takes_the_marks_in_flight(self, small: redis.Redis) -> None:
        seen = self.seen_set(small)
        seen.open()

        full = self.fill_by_marks(seen, "first")

        assert full.marked
        assert "more memory" in str(full)
        for batch in range(self.IN_FLIGHT // 100 - 1):
            seen.mark(keyed([f"late-{batch}-{number:020d}:0123456789abcdef" for number in range(100)]), 3600)

    def test_marks_that_came_with_the_news_are_there(self, small: redis.Redis) -> None:
        seen = self.seen_set(small)
        seen.open()
        self.fill_by_others(small)

        with pytest.raises(CacheFull) as full:
            seen.mark(keyed(["a", "b"]), 60)

        assert full.value.marked
        assert seen.seen(keyed(["a", "b", "c"])) == {"a", "b"}

    def test_that_is_full_without_a_reserve_says_that_nothing_was_marked(self, small: redis.Redis) -> None:
        self.fill_by_others(small)
        seen = self.seen_set(small)

        with pytest.raises(CacheFull) as full:
            seen.mark(keyed(["a"]), 60)

        assert not full.value.marked
        assert seen.seen(keyed(["a"])) == set()

    def test_is_not_opened_again_and_again(self, small: redis.Redis) -> None:
        seen = self.seen_set(small)
        seen.open()
        self.fill_by_marks(seen, "first")
        self.fill_by_others(small)

        for _ in range(3):
            with pytest.raises(CacheFull, match=r"Nothing was delivered.*more memory"):
                self.seen_set(small).open()

    def test_that_has_room_for_less_than_is_in_flight_is_not_opened_and_keeps_that_room(
        self, small: redis.Redis
    ) -> None:
        self.fill_by_others(small)
        small.delete(*[f"other-{number}" for number in range(200)])

        with pytest.raises(CacheFull):
            self.seen_set(small).open()

        assert small.exists(f"{PREFIX}:reserve") == 0
        small.set("another-source", "can still write")

    def test_is_opened_once_there_is_room(self, small: redis.Redis) -> None:
        self.fill_by_others(small)
        with pytest.raises(CacheFull):
            self.seen_set(small).open()

        small.config_set("maxmemory", 4_000_000)

        assert self.seen_set(small).open().marks_written == 0


class TestServerThatHangs:
    """It takes connections and answers nothing: no wait is longer than the time that a command may take."""

    SECONDS = 0.3

    @pytest.fixture
    def hanging(
        self, valkey: Valkey, valkey_tls: TlsProxy, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> Iterator[redis.Redis]:
        monkeypatch.setenv("SSL_CERT_FILE", str(valkey_tls.ca_pem_path))
        with connect(valkey_tls.port, tls=True, command_seconds=self.SECONDS) as client:
            client.ping()
            yield client
            valkey.resume()

    @pytest.mark.parametrize("connected", [True, False])
    @pytest.mark.parametrize("command", ["open", "seen", "mark"])
    def test_is_waited_for_once(self, hanging: redis.Redis, valkey: Valkey, command: str, connected: bool) -> None:
        seen = ValkeySeenSet(hanging, TRAIL)
        commands: dict[str, Callable[[], object]] = {
            "open": seen.open,
            "seen": lambda: seen.seen(keyed(["a"])),
            "mark": lambda: seen.mark(keyed(["a"]), 60),
        }
        if not connected:
            hanging.connection_pool.disconnect()
        valkey.pause()
        started = time.monotonic()

        with pytest.raises(SeenSetUnavailable, match="did not answer"):
            commands[command]()

        assert time.monotonic() - started < 10 * self.SECONDS  # and not the 16 time-outs of retries within retries

    def test_does_not_hold_up_the_end_of_a_run(self, hanging: redis.Redis, valkey: Valkey) -> None:
        lock = ValkeyLock(hanging, TRAIL, FakeClock(), release_seconds=0.2)
        assert lock.acquire()
        valkey.pause()
        started = time.monotonic()

        lock.release()

        assert time.monotonic() - started < 3

    def test_that_closes_a_connection_is_asked_again(self, valkey: Valkey, valkey_tls: TlsProxy) -> None:
        with connect(valkey.port, command_seconds=self.SECONDS) as client:
            seen = ValkeySeenSet(client, TRAIL)
            seen.mark(keyed(["a"]), 60)
            with valkey.client() as observer:
                observer.client_kill_filter(_type="normal", skipme=True)

            assert seen.seen(keyed(["a"])) == {"a"}


class TestLock:
    @pytest.fixture
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A lock that is renewed twenty times a second."""
        monkeypatch.setattr(adapter, "RENEWAL_SECONDS", 0.05)

    def lock(self, client: redis.Redis, **options: object) -> ValkeyLock:
        return ValkeyLock(client, TRAIL, FakeClock(), **options)  # type: ignore[arg-type]

    def test_one_at_a_time(self, client: redis.Redis) -> None:
        first, second, third = (self.lock(client) for _ in range(3))

        assert first.acquire()
        assert not second.acquire()
        first.release()
        assert third.acquire()
        third.release()

    @pytest.mark.parametrize("part", ["source", "stream", "destination"])
    def test_trails_do_not_wait_for_each_other(self, client: redis.Redis, part: str) -> None:
        one = ValkeyLock(client, TRAIL, FakeClock())
        other = ValkeyLock(client, replace(TRAIL, **{part: "other"}), FakeClock())

        assert one.acquire()
        assert other.acquire()
        one.release()
        other.release()

    def test_expires_if_its_process_dies(self, client: redis.Redis, valkey: Valkey) -> None:
        lock = self.lock(client)
        lock.acquire()

        with valkey.client() as observer:
            assert 0 < observer.pttl(LOCK) <= 15_000
        lock.release()

    @pytest.mark.usefixtures("quick")
    def test_is_renewed_while_the_run_works(self, client: redis.Redis, valkey: Valkey) -> None:
        clock = FakeClock()
        lock = ValkeyLock(client, TRAIL, clock)
        lock.acquire()
        with valkey.client() as observer:
            observer.pexpire(LOCK, 10_000)

            wait_until(lambda: observer.pttl(LOCK) > 11_000)  # it was given its full time again

            clock.time += 0.4
            wait_until(lambda: lock._valid_until > clock.time + 0.4)  # and so was our own idea of it
        lock.check()
        lock.release()

    @pytest.mark.usefixtures("quick")
    def test_loss_is_noticed_if_somebody_else_has_it(self, client: redis.Redis, valkey: Valkey) -> None:
        lock = self.lock(client)
        lock.acquire()
        with valkey.client() as observer:
            observer.set(LOCK, "somebody else's")

            wait_until(lambda: _is_lost(lock))

            lock.release()
            assert observer.get(LOCK) == "somebody else's"

    @pytest.mark.usefixtures("quick")
    def test_loss_is_noticed_if_redis_was_emptied(self, client: redis.Redis, valkey: Valkey) -> None:
        lock = self.lock(client)
        lock.acquire()
        valkey.flush()

        wait_until(lambda: _is_lost(lock))

        lock.release()

    def test_is_lost_by_our_own_clock_whatever_redis_says(self, client: redis.Redis) -> None:
        clock = FakeClock()
        lock = ValkeyLock(client, TRAIL, clock)
        lock.acquire()
        lock.check()

        clock.time += 15

        with pytest.raises(LockLost, match="nothing more"):
            lock.check()
        lock.release()
        client.close()

    @pytest.mark.usefixtures("quick")
    @pytest.mark.parametrize("error", [RuntimeError("odd"), SecretUnavailable("no credentials"), OSError("no route")])
    def test_is_kept_on_after_a_failure_of_any_kind(
        self, client: redis.Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        # Given a renewal for which the client could not sign in
        lock = self.lock(client)
        failures = iter([error, error])
        reacquire = lock._lock.reacquire

        def fail_at_first() -> bool:
            for failure in failures:
                raise failure
            return reacquire()

        monkeypatch.setattr(lock._lock, "reacquire", fail_at_first)
        assert lock.acquire()
        with valkey.client() as observer:
            observer.pexpire(LOCK, 10_000)

            wait_until(lambda: observer.pttl(LOCK) > 11_000)

        assert not list(failures)

        lock.check()
        lock.release()

    def test_is_given_back_even_if_redis_is_away(self, client: redis.Redis, valkey: Valkey) -> None:
        lock = self.lock(client)
        lock.acquire()
        valkey.stop()

        lock.release()  # nothing is raised: it expires by itself


def _is_lost(lock: ValkeyLock) -> bool:
    try:
        lock.check()
    except LockLost:
        return True
    return False


class TestCacheThatIsEmptiedDuringARun:
    """The marks are gone with the lock: nothing that is read from then on may pass as new."""

    def test_look_up_finds_the_lock_gone(self, valkey: Valkey) -> None:
        client = connect(valkey.port)
        lock = ValkeyLock(client, TRAIL, FakeClock())
        seen = ValkeySeenSet(client, TRAIL, lock)
        assert lock.acquire()
        seen.mark(keyed(["a"]), 60)
        assert seen.seen(keyed(["a", "b"])) == {"a"}

        valkey.flush()

        with pytest.raises(LockLost):
            seen.seen(keyed(["a", "b"]))
        with pytest.raises(LockLost):
            lock.check()
        lock.release()
        client.close()
