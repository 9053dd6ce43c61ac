"""Everything of AWS that the stack needs, on one machine: `ministack`, from a virtual environment of its own."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self

import psutil

from sandbox.machinery.http_server import LOOPBACK
from sandbox.machinery.processes import PROJECT_DIRECTORY, ManagedProcess, StartError, free_port

VIRTUAL_ENVIRONMENT = PROJECT_DIRECTORY / ".venv-ministack"
_MAIN = Path(__file__).with_name("ministack_main.py")
_START_TIMEOUT_SECONDS = 60.0
# Passed on to ministack; everything else of the caller's environment (CA bundles, AWS profiles, proxies) would end up
# in the environment of the functions that it runs, where AWS has no such thing.
_INHERITED = ("PATH", "LANG", "LC_ALL")


class LocalAws:
    """A local AWS on a free loopback port. A context manager that runs it, with everything that it starts.

    Parameters
    ----------
    redis_host, redis_port
        What the endpoint of every replication group is said to be: ministack runs none itself. Functions inherit these
        two variables, so without a cache there must be none.
    function_environment
        Added to the environment of the functions that it runs, where their own variables win.
    account_id, region
        Whose AWS this is.
    log_path
        Where ministack's log goes; by default to a file that is removed at the end.

    Attributes
    ----------
    url
        The endpoint of all services.
    """

    def __init__(
        self,
        *,
        redis_host: str | None = None,
        redis_port: int = 6379,
        function_environment: Mapping[str, str] | None = None,
        account_id: str = "000000000000",
        region: str = "us-east-1",
        log_path: Path | None = None,
    ) -> None:
        self._port = free_port()
        self._account_id = account_id
        self._region = region
        self._log_path = log_path
        self._process: ManagedProcess | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._settings = {
            "BIND_HOST": LOOPBACK,
            "GATEWAY_PORT": str(self._port),
            # These two would listen on every interface, whatever BIND_HOST says.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            **({} if redis_host is None else {"REDIS_HOST": redis_host, "REDIS_PORT": str(redis_port)}),
            "MINISTACK_ACCOUNT_ID": account_id,
            "MINISTACK_REGION": region,
            **self._credentials(),
            **(function_environment or {}),
        }
        self.url = f"http://{LOOPBACK}:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of ministack itself."""
        return self._running().pid

    def environment(self) -> dict[str, str]:
        """Return the variables with which boto3, the AWS CLI and the CDK CLI find this AWS instead of the real one."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            **self._credentials(),
            "CDK_DEFAULT_ACCOUNT": self._account_id,
            "CDK_DEFAULT_REGION": self._region,
            # Nobody's profile, credentials or metadata service may come in between.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Start ministack and wait until it answers.

        Raises
        ------
        StartError
            If it is not installed, or does not answer within a minute.
        """
        python = VIRTUAL_ENVIRONMENT / "bin" / "python"
        if not python.exists():
            raise StartError(f"{VIRTUAL_ENVIRONMENT.name} is missing: run `make {VIRTUAL_ENVIRONMENT.name}/ready`")
        self._directory = tempfile.TemporaryDirectory(prefix="local-aws-", ignore_cleanup_errors=True)
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        # Functions' code is unpacked below TMPDIR: it goes when the directory does. HOME holds no ~/.aws to be found.
        environment |= {
            "TMPDIR": self._directory.name,
            "HOME": self._directory.name,
            "STATE_DIR": f"{self._directory.name}/state",
        }
        self._process = ManagedProcess(
            [str(python), "-P", str(_MAIN)],  # -P: the modules beside that file are none of its own
            environment=environment | self._settings,
            log_path=self._log_path,
            directory=Path(self._directory.name),
        )
        self._process.wait_until(self._answers, timeout_seconds=_START_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """Stop ministack and every function that it runs. What it stored is gone."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def listening_addresses(self) -> list[tuple[str, int]]:
        """Return address and port of everything on which ministack or a function of it listens."""
        return [
            (connection.laddr.ip, connection.laddr.port)
            for process in self._running().tree()
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]

    def _credentials(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
        }

    def _answers(self) -> bool:
        connection = HTTPConnection(LOOPBACK, self._port, timeout=2)
        try:
            connection.request("GET", "/_ministack/health")
            response = connection.getresponse()
            return response.status == 200 and isinstance(json.loads(response.read()), dict)
        except (OSError, HTTPException, ValueError):
            return False
        finally:
            connection.close()

    def _running(self) -> ManagedProcess:
        if self._process is None:
            raise RuntimeError("this AWS is not running: call start()")
        return self._process
