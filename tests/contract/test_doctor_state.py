"""What the doctor says about cache and ledger, beside what is really wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kong_cloudtrail.domain import reaching
from kong_cloudtrail.domain.checkpoint import Checkpoint, OpenGap
from kong_cloudtrail.domain.finding import Finding, Status
from kong_cloudtrail.errors import LedgerError, SecretUnavailable
from kong_cloudtrail.ports import ObjectStore
from kong_cloudtrail.state import cache_checkup
from kong_cloudtrail.state.cache_checkup import CacheCheckup, ValkeyGauge
from kong_cloudtrail.state.folder_store import FolderStore
from kong_cloudtrail.state.ledger import Ledger
from kong_cloudtrail.state.ledger_checkup import LedgerCheckup, ProgressCheckup
from kong_cloudtrail.state.s3_store import S3Store
from kong_cloudtrail.state.valkey import connect

from sandbox.machinery.http_server import LOOPBACK, HttpServer, Response
from sandbox.machinery.processes import free_port
from sandbox.machinery.valkey import TlsProxy, Valkey
from stacks.parts.cache_access import ACCESS_STRING
from tests.conftest import CACHE_PASSWORD, CACHE_USERNAME
from tests.fakes import Store
from tests.helpers import NOW, TRAIL, FakeClock

PROBE = "kong-cloudtrail:{kong/requests/cloudtrail-lake}:doctor"


def by_name(found: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in found}


def bad(found: dict[str, Finding]) -> dict[str, Status]:
    return {name: finding.status for name, finding in found.items() if finding.status is not Status.OK}


@pytest.fixture(autouse=True)
def busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, the cache is not."""
    monkeypatch.setattr(cache_checkup, "SLOW_SECONDS", 60.0)


class TestCache:
    def examine(
        self,
        valkey: Valkey,
        *,
        username: str | None = CACHE_USERNAME,
        password: str | Exception = CACHE_PASSWORD,
        is_serverless: bool = False,
        command_seconds: float = 20.0,
        port: int | None = None,
        tls: bool = False,
        db: int = 0,
    ) -> dict[str, Finding]:
        def make() -> Any:
            if isinstance(password, Exception):
                raise password
            return connect(
                valkey.host,
                port or valkey.port,
                db=db,
                tls=tls,
                username=username,
                password=password,
                connections=2,
                command_seconds=command_seconds,
            )

        checkup = CacheCheckup(
            valkey.host, port or valkey.port, tls=tls, connect=make, probe=PROBE, is_serverless=is_serverless
        )
        found = by_name(checkup.run())
        assert CACHE_PASSWORD not in repr(found)
        return found

    def test_healthy(self, valkey: Valkey) -> None:
        found = self.examine(valkey)

        assert bad(found) == {}
        assert list(found) == [
            "connection",
            "sign-in",
            "round trip",
            "writing",
            "memory",
            "eviction",
            "cluster mode",
        ]
        with valkey.client() as client:
            assert list(client.scan_iter()) == [PROBE]
            assert 0 < client.pttl(PROBE) <= 10_000

    def test_user_of_the_stack_may_do_all_of_it_and_no_more(self, valkey: Valkey) -> None:
        with valkey.client() as admin:
            admin.execute_command("ACL", "SETUSER", "of-stack", "reset", ">secret", *ACCESS_STRING.split())
            admin.execute_command("ACL", "LOG", "RESET")
            try:
                assert bad(self.examine(valkey, username="of-stack", password="secret")) == {}
                assert admin.execute_command("ACL", "LOG") == []
            finally:
                admin.execute_command("ACL", "DELUSER", "of-stack")

    def test_user_who_may_not_ask_for_the_memory(self, valkey: Valkey) -> None:
        with valkey.client() as admin:
            admin.execute_command("ACL", "SETUSER", "short", "reset", ">secret", "on", "~*", "+@all", "-info")
            try:
                found = self.examine(valkey, username="short", password="secret")
            finally:
                admin.execute_command("ACL", "DELUSER", "short")

        assert bad(found) == {"memory": Status.NOT_CHECKED}
        assert "+info" in str(found["memory"].do)

    def test_user_who_may_not_write(self, valkey: Valkey) -> None:
        with valkey.client() as admin:
            admin.execute_command("ACL", "SETUSER", "reader", "reset", ">secret", "on", "~*", "+@all", "-@write")
            try:
                found = self.examine(valkey, username="reader", password="secret")
            finally:
                admin.execute_command("ACL", "DELUSER", "reader")

        assert bad(found) == {"writing": Status.FAILED}
        assert "access string" in str(found["writing"].do)

    def test_user_who_may_not_call_scripts(self, valkey: Valkey) -> None:
        with valkey.client() as admin:
            admin.execute_command("ACL", "SETUSER", "bare", "reset", ">secret", "on", "~*", "+@all", "-@scripting")
            try:
                found = self.examine(valkey, username="bare", password="secret")
            finally:
                admin.execute_command("ACL", "DELUSER", "bare")

        assert bad(found) == {"writing": Status.FAILED}
        assert "or not by scripts" in found["writing"].what

    def test_encrypted_where_it_should_not_be(self, valkey: Valkey, valkey_tls: TlsProxy) -> None:
        found = self.examine(valkey, port=valkey_tls.port)

        assert bad(found) == {"TLS": Status.FAILED}
        assert (found["TLS"].do, found["TLS"].may_pass) == ("Set REDIS_TLS=true, or use the port without TLS.", False)

    def test_not_encrypted_where_it_should_be(self, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reaching, "SECONDS", 0.5)  # a cache waits for the end of what it takes for a command

        found = self.examine(valkey, tls=True)

        assert bad(found) == {"TLS": Status.FAILED}
        assert "speaks Redis' protocol without encryption" in found["TLS"].what
        assert not found["TLS"].may_pass

    def test_database_that_there_is_not(self, valkey: Valkey) -> None:
        found = self.examine(valkey, db=9999)

        assert bad(found) == {"sign-in": Status.FAILED}
        assert found["sign-in"].do == "Correct REDIS_DB."

    def test_wrong_password(self, valkey: Valkey) -> None:
        found = self.examine(valkey, password="another")

        assert bad(found) == {"sign-in": Status.FAILED}
        assert not found["sign-in"].may_pass
        assert "refused the credentials" in found["sign-in"].what

    def test_password_that_cannot_be_read(self, valkey: Valkey) -> None:
        found = self.examine(valkey, password=SecretUnavailable("The secret cache/password is empty."))

        assert bad(found) == {"sign-in": Status.FAILED}
        assert "cache/password is empty" in found["sign-in"].what

    def test_full(self, valkey: Valkey) -> None:
        valkey.limit_memory(-1000)
        try:
            found = self.examine(valkey)
        finally:
            valkey.limit_memory(None)

        assert bad(found) == {"writing": Status.FAILED, "memory": Status.FAILED}
        assert "The cache is full" in found["writing"].what
        assert not found["writing"].may_pass
        assert "room for about 0 more entries" in found["memory"].what

    def test_nearly_full(self, valkey: Valkey) -> None:
        with valkey.client() as admin:
            used = admin.info("memory")["used_memory"]
        valkey.limit_memory(used // 5)
        try:
            found = self.examine(valkey)
        finally:
            valkey.limit_memory(None)

        assert bad(found) == {"memory": Status.WARNING}

    @pytest.mark.parametrize(("is_serverless", "status"), [(False, Status.FAILED), (True, Status.WARNING)])
    def test_that_evicts(self, valkey: Valkey, is_serverless: bool, status: Status) -> None:
        with valkey.client() as admin:
            admin.config_set("maxmemory-policy", "volatile-lru")
            try:
                found = self.examine(valkey, is_serverless=is_serverless)
            finally:
                admin.config_set("maxmemory-policy", "noeviction")

        assert bad(found) == {"eviction": status}
        assert "volatile-lru" in found["eviction"].what

    def test_far_away(self, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cache_checkup, "SLOW_SECONDS", 0.0)

        assert bad(self.examine(valkey)) == {"round trip": Status.WARNING}

    def test_replica(self, valkey: Valkey) -> None:
        with valkey.client() as admin:
            admin.replicaof(LOOPBACK, str(free_port()))
            try:
                found = self.examine(valkey)
            finally:
                admin.replicaof("NO", "ONE")

        assert bad(found) == {"writing": Status.FAILED}
        assert "primary endpoint" in str(found["writing"].do)

    def test_stopped(self, valkey: Valkey) -> None:
        valkey.stop()

        found = self.examine(valkey)

        assert bad(found) == {"connection": Status.FAILED}
        assert found["connection"].may_pass
        assert "REDIS_HOST" in str(found["connection"].do)

    def test_that_hangs(self, valkey: Valkey) -> None:
        valkey.pause()
        try:
            found = self.examine(valkey, command_seconds=0.3)
        finally:
            valkey.resume()

        assert bad(found) == {"round trip": Status.FAILED}
        assert found["round trip"].may_pass

    def test_gauge(self, valkey: Valkey) -> None:
        valkey.limit_memory(1_000_000)
        try:
            with valkey.client() as client:
                memory = ValkeyGauge(client).measure()
        finally:
            valkey.limit_memory(None)

        assert memory is not None
        assert memory.limit_bytes is not None
        assert (memory.policy, memory.entries_left) == (
            "noeviction",
            (memory.limit_bytes - memory.used_bytes) // 12,
        )


class Careless(Store):
    """Writes whatever the condition."""

    def write_if(self, name: str, body: bytes, version: str | None) -> str | None:
        self.write(name, body)
        return super().write_if(name, body, self._version_of(name))

    def _version_of(self, name: str) -> str | None:
        stored = self.read(name)
        return None if stored is None else stored.version


class Crowded(Store):
    """Another check-up writes the same object, once, just before."""

    def __init__(self) -> None:
        super().__init__()
        self._others = [b"another check-up"]

    def write_if(self, name: str, body: bytes, version: str | None) -> str | None:
        if self._others:
            self.objects[name] = self._others.pop()
        return super().write_if(name, body, version)


class TestLedger:
    def examine(self, store: ObjectStore) -> dict[str, Finding]:
        return by_name(LedgerCheckup(store, "kong").run())

    def test_healthy_and_leaves_one_object_however_often(self) -> None:
        store = Store()

        for _ in range(3):
            assert bad(self.examine(store)) == {}

        assert list(store.objects) == ["doctor/kong.json"]

    def test_in_a_folder(self, tmp_path: Path) -> None:
        for _ in range(2):
            assert bad(self.examine(FolderStore(str(tmp_path / "ledger")))) == {}

    def test_two_check_ups_at_a_time(self) -> None:
        assert bad(self.examine(Crowded())) == {}

    def test_that_cannot_be_read(self) -> None:
        store = Store()
        store.refuses = lambda name: True

        assert bad(self.examine(store)) == {"reading": Status.FAILED}

    def test_that_cannot_be_written(self) -> None:
        store = Store()
        store.is_read_only = True

        assert bad(self.examine(store)) == {"writing": Status.FAILED}

    def test_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "ledger").write_text("")

        found = self.examine(FolderStore(str(tmp_path / "ledger")))

        assert list(bad(found).values()) == [Status.FAILED]
        assert "Check LEDGER" in str(next(iter(found.values())).do)

    def test_that_honours_no_condition(self) -> None:
        found = self.examine(Careless())

        assert bad(found) == {"conditional writes": Status.FAILED}
        assert "Amazon S3" in str(found["conditional writes"].do)

    @pytest.mark.usefixtures("aws_credentials")
    @pytest.mark.parametrize(("status", "may_pass"), [(403, False), (0, True)])
    def test_in_s3_that_refuses_or_is_away(self, monkeypatch: pytest.MonkeyPatch, status: int, may_pass: bool) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        server = HttpServer(lambda request: Response(status, body))
        server.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.origin if status else f"http://{LOOPBACK}:{free_port()}")
        try:
            reading = self.examine(S3Store("s3://ledger/kong", connect_seconds=0.2, answer_seconds=0.2))["reading"]
        finally:
            server.stop()

        assert (reading.status, reading.may_pass) == (Status.FAILED, may_pass)
        assert "s3://ledger/kong/" in reading.what
        assert "permissions on the bucket" in str(reading.do)


class TestProgress:
    @pytest.fixture
    def ledger(self) -> Ledger:
        return Ledger(Store(), TRAIL, FakeClock())

    def examine(self, ledger: Ledger) -> dict[str, Finding]:
        return by_name(ProgressCheckup(ledger, "last run", FakeClock()).run())

    def test_lately(self, ledger: Ledger) -> None:
        ledger.save_checkpoint(Checkpoint(first_run_at=NOW - 9000, caught_up_at=NOW - 3000))

        assert bad(self.examine(ledger)) == {}

    def test_too_long_ago_and_with_a_gap(self, ledger: Ledger) -> None:
        gap = OpenGap(None, "unreadable", "status 500", NOW - 9000)
        ledger.save_checkpoint(Checkpoint(first_run_at=NOW, caught_up_at=NOW - 30 * 3600, gaps=(gap,)))

        found = self.examine(ledger)

        assert bad(found) == {"last run": Status.WARNING, "gaps": Status.WARNING}
        assert "30 hours ago" in found["last run"].what

    @pytest.mark.parametrize(
        ("checkpoint", "words"),
        [(None, "There was no run yet"), (Checkpoint(first_run_at=NOW), "No run has delivered everything yet")],
    )
    def test_never(self, ledger: Ledger, checkpoint: Checkpoint | None, words: str) -> None:
        if checkpoint is not None:
            ledger.save_checkpoint(checkpoint)

        found = self.examine(ledger)

        assert bad(found) == {"last run": Status.WARNING}
        assert words in found["last run"].what

    def test_checkpoint_that_is_none(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(self: Ledger) -> Checkpoint:
            raise LedgerError("The checkpoint is not one. Restore an earlier version of it.")

        monkeypatch.setattr(Ledger, "load_checkpoint", fail)

        found = self.examine(ledger)

        assert bad(found) == {"last run": Status.FAILED}
        assert found["last run"].do == "Restore an earlier version of it."
