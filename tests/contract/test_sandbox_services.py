"""The real servers of the sandbox start, behave, stay on loopback and leave nothing behind."""

import io
import json
import ssl
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import redis
from botocore.config import Config
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.machinery.certificates import Certificates
from sandbox.machinery.local_aws import LocalAws
from sandbox.machinery.processes import ManagedProcess, StartError, is_alive, start_module
from sandbox.machinery.valkey import TlsProxy, Valkey

NO_RETRY = Retry(NoBackoff(), 0)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certificates")


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey(username="collector", password="pass word", max_memory_bytes=50_000_000) as server:
        yield server


def over_tls(proxy: TlsProxy, **options: Any) -> redis.Redis:
    settings: dict[str, Any] = {
        "host": "localhost",
        "port": proxy.port,
        "username": "collector",
        "password": "pass word",
        "ssl": True,
        "ssl_ca_certs": str(proxy.ca_pem_path),
        "socket_timeout": 5,
        "retry": NO_RETRY,
    }
    return redis.Redis(**settings | options)


class TestValkey:
    def test_access_needs_the_user_and_the_password(self, valkey: Valkey) -> None:
        with valkey.client() as client:
            assert client.acl_whoami() == "collector"
            assert client.config_get("maxmemory") == {"maxmemory": "50000000"}
        wrongs: list[dict[str, Any]] = [{}, {"password": "pass word"}, {"username": "collector", "password": "other"}]
        for wrong in wrongs:
            with (
                redis.Redis(port=valkey.port, retry=NO_RETRY, **wrong) as stranger,
                pytest.raises(redis.AuthenticationError),
            ):
                stranger.ping()

    def test_password_without_user_is_the_default_users(self) -> None:
        with Valkey(password="pw") as server, redis.Redis(port=server.port, password="pw") as client:
            assert client.acl_whoami() == "default"

    def test_the_password_is_in_no_list_of_processes(self, valkey: Valkey) -> None:
        assert "pass word" not in " ".join(psutil.Process(valkey.pid).cmdline())

    def test_restart_loses_the_data_and_keeps_the_port(self) -> None:
        with Valkey() as server:
            port, pid = server.port, server.pid
            with server.client() as client:
                client.set("key", "value")
                server.restart_empty()
                assert (server.port, client.get("key")) == (port, None)
            assert not psutil.pid_exists(pid)
            server.stop()
            with server.client() as client, pytest.raises(redis.ConnectionError):
                client.ping()
            server.start()
            server.flush()

    def test_a_paused_server_hangs_and_goes_on(self) -> None:
        with Valkey() as server, redis.Redis(port=server.port, socket_timeout=0.1, retry=NO_RETRY) as client:
            client.set("key", "value")
            server.pause()
            with pytest.raises(redis.TimeoutError):
                client.get("key")
            server.resume()
            assert client.get("key") == b"value"
            server.pause()  # and a paused server can be stopped

    def test_a_full_server_refuses_writes_until_it_has_room_again(self) -> None:
        with Valkey() as server, server.client() as client:
            server.limit_memory(0)
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                client.set("key", "x" * 10_000)
            assert client.get("key") is None
            server.limit_memory(1_000_000)
            client.set("key", "x" * 10_000)
            server.limit_memory(None)
            client.set("other", "x" * 5_000_000)

    def test_a_snapshot_brings_back_what_was_there_and_nothing_else(self) -> None:
        with Valkey() as server, server.client() as client:
            client.set("lasting", "1")
            client.set("expiring", "2", ex=1000)
            client.hset("hash", mapping={"a": "b"})
            snapshot = server.snapshot()
            expires_at = client.pexpiretime("expiring")
            client.delete("lasting", "expiring")
            client.set("newer", "3")

            server.restore(snapshot)

            assert sorted(client.keys()) == ["expiring", "hash", "lasting"]
            assert (client.get("lasting"), client.hgetall("hash")) == ("1", {"a": "b"})
            assert client.pexpiretime("expiring") == expires_at
            assert client.ttl("lasting") == -1

    def test_listens_on_loopback_only(self, valkey: Valkey) -> None:
        connections = psutil.Process(valkey.pid).net_connections(kind="inet")
        assert {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


class TestTlsProxy:
    def test_carries_large_pipelines_of_several_clients(self, valkey: Valkey, certificates: Certificates) -> None:
        with TlsProxy(target_port=valkey.port, certificates=certificates) as proxy:
            results: list[int] = []

            def work(name: str) -> None:
                with over_tls(proxy) as client:
                    pipeline = client.pipeline(transaction=False)
                    for number in range(2000):
                        pipeline.set(f"{name}:{number}", "x" * 500)
                        pipeline.get(f"{name}:{number}")
                    results.append(len(b"".join(pipeline.execute()[1::2])))

            threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert results == [1_000_000] * 3

    def test_its_certificate_is_checked(self, valkey: Valkey, certificates: Certificates, tmp_path: Path) -> None:
        other = Certificates(tmp_path / "other")
        with TlsProxy(target_port=valkey.port, certificates=certificates) as proxy:
            with over_tls(proxy, ssl_ca_certs=str(other.ca_path)) as client, pytest.raises(redis.ConnectionError) as no:
                client.ping()
            assert isinstance(no.value.__cause__ or no.value.__context__, ssl.SSLCertVerificationError)
            with over_tls(proxy, host="127.0.0.1") as client:
                assert client.ping()

    def test_the_loss_of_the_server_is_passed_on(self, certificates: Certificates) -> None:
        with (
            Valkey() as server,
            TlsProxy(target_port=server.port, certificates=certificates) as proxy,
            over_tls(proxy, username=None, password=None) as client,
        ):
            client.set("key", "value")
            server.stop()
            for _ in range(2):  # on the open connection, and on a new one
                with pytest.raises(redis.ConnectionError):
                    client.ping()
            server.start()
            assert client.get("key") is None
            connection = client.client_id()
            assert client.client_id() == connection
            proxy.break_connections()
            assert client.client_id() != connection


class TestLocalAws:
    def test_runs_functions_on_loopback_only_and_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/of/the/caller")
        with LocalAws(redis_port=7777, function_environment={"SSL_CERT_FILE": "/sandbox/ca.pem"}) as aws:
            for name, value in aws.environment().items():
                monkeypatch.setenv(name, value)
            archive = io.BytesIO()
            with zipfile.ZipFile(archive, "w") as code:
                code.writestr("index.py", "import os\ndef handler(event, context):\n    return dict(os.environ)\n")
            functions = boto3.client("lambda", config=Config(proxies={}))
            functions.create_function(
                FunctionName="shows-its-environment",
                Runtime="python3.13",
                Role="arn:aws:iam::000000000000:role/any",
                Handler="index.handler",
                Code={"ZipFile": archive.getvalue()},
                Environment={"Variables": {"REDIS_HOST": "cache:6379"}},
            )
            seen = json.loads(functions.invoke(FunctionName="shows-its-environment")["Payload"].read())
            assert seen["SSL_CERT_FILE"] == "/sandbox/ca.pem"
            assert seen["REDIS_HOST"] == "cache:6379"  # the function's own variables win
            assert seen["AWS_ENDPOINT_URL"] == aws.url
            assert "REQUESTS_CA_BUNDLE" not in seen
            assert boto3.client("sts").get_caller_identity()["Account"] == "000000000000"
            assert {address for address, _ in aws.listening_addresses()} == {"127.0.0.1"}
            processes = [psutil.Process(aws.pid), *psutil.Process(aws.pid).children(recursive=True)]
            assert len(processes) > 1  # the function's own
        assert not [process for process in processes if is_alive(process)]

    def test_says_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("sandbox.machinery.local_aws.VIRTUAL_ENVIRONMENT", tmp_path / ".venv-ministack")
        with pytest.raises(StartError, match=r"run `make \.venv-ministack/ready`"):
            LocalAws().start()


class TestProcesses:
    def test_a_failed_start_tells_what_the_process_said(self) -> None:
        process = start_module("sandbox.kong.simulator", ["--version=1.0"])
        with pytest.raises(StartError, match="invalid choice"):
            process.read_ready_line()

    def test_a_silent_process_is_stopped(self) -> None:
        process = ManagedProcess([sys.executable, "-c", "import time; time.sleep(600)"])
        with pytest.raises(StartError, match=r"within 0\.1 s"):
            process.wait_until(lambda: False, timeout_seconds=0.1)
        assert not process.is_running()

    def test_grandchildren_are_stopped_even_if_their_parent_ended(self, tmp_path: Path) -> None:
        code = (
            "import subprocess, sys, json;"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
            "print(json.dumps({'child': child.pid}), flush=True)"
        )
        process = ManagedProcess([sys.executable, "-c", code], ready_line=True, log_path=tmp_path / "log")
        child = psutil.Process(process.read_ready_line()["child"])
        process.wait_until_ended()
        assert is_alive(child)
        process.stop()
        assert not is_alive(child)


def test_certificates_are_shared_by_their_directory(tmp_path: Path) -> None:
    first, second = Certificates(tmp_path / "ca"), Certificates(tmp_path / "ca")
    assert first.ca_path.read_bytes() == second.ca_path.read_bytes()
    assert (tmp_path / "ca").stat().st_mode & 0o077 == 0
