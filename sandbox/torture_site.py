"""Where a torture takes place: the servers of one scenario, a ledger, and processes of the collector."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Self

import psutil
import redis

from sandbox.cloudtrail import CloudTrailEmulator
from sandbox.kong import KongSimulator
from sandbox.kong_profiles import PROFILES
from sandbox.torture_audit import SOURCE, Auditor
from sandbox.torture_entries import PAYLOAD_MARK, EntryMaker, NewEntry
from sandbox.torture_plan import Round, Scenario
from sandbox.valkey import Valkey

BEGINNING = 1_750_000_000
"""Where Kong's clock stands at first, Unix seconds. It moves only as the plan says."""

LONGEST_RUN_SECONDS = 60.0
_KEY_PREFIX = f"kong-cloudtrail:{{{SOURCE}}}:"
_LOCK_KEY = f"{_KEY_PREFIX}lock"
_SEEN_PREFIX = f"{_KEY_PREFIX}seen:"
_ANOTHER = "another-machine/its-token"
_QUIET_TIMEOUT_SECONDS = 20.0
_POLL_SECONDS = 0.002


class CollectorProcess:
    """A process of the collector.

    Parameters
    ----------
    arguments
        Of its command line.
    environment
        Its whole environment.
    folder
        Its working directory.

    Attributes
    ----------
    got
        The signal that it was sent: ``KILL``, ``TERM``, ``INT``, or "".
    output
        What it printed, after `finish`.
    """

    def __init__(self, arguments: Iterable[str], environment: dict[str, str], folder: Path) -> None:
        self._printed: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by finish
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kong_cloudtrail", *arguments],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.got = ""
        self.output = ""

    @property
    def is_running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def exit_status(self) -> int:
        """Its exit status, after `finish`; negative for the signal that ended it."""
        return int(self._process.returncode)

    def signal(self, name: str) -> None:
        """Send it ``KILL``, ``TERM`` or ``INT`` if it still runs; after ``KILL`` it does not."""
        if self.is_running:
            self.got = name
            self._process.send_signal(signal.Signals[f"SIG{name}"])
            if name == "KILL":
                self._process.wait()

    def finish(self) -> None:
        """Wait for its end, and read what it printed."""
        self._process.wait(LONGEST_RUN_SECONDS)
        self._printed.seek(0)
        self.output = self._printed.read().decode(errors="replace")
        self._printed.close()


class Site:
    """The servers and the ledger of one scenario. A context manager that runs them.

    Parameters
    ----------
    scenario
        Which.
    folder
        For everything that is written.
    collector
        The folder with the package ``kong_cloudtrail``.

    Attributes
    ----------
    kong, cloudtrail, valkey
        The servers.
    ledger
        The ledger's folder.
    auditor
        Knows all entries.
    now
        Kong's clock, Unix seconds.
    """

    def __init__(self, scenario: Scenario, folder: Path, collector: Path) -> None:
        rng = random.Random(scenario.number)
        secrets = {name: f"{name}-{rng.getrandbits(64):016x}" for name in ("kong", "redis", "aws")}
        profile = PROFILES[scenario.kong_version]
        self.kong = KongSimulator(version=scenario.kong_version, token=secrets["kong"])
        self.cloudtrail = CloudTrailEmulator()
        self.valkey = Valkey(username="collector", password=secrets["redis"])
        self.ledger = folder / "ledger"
        self.auditor = Auditor(
            ledger=self.ledger,
            overlap_seconds=scenario.overlap_seconds,
            settle_seconds=scenario.settle_seconds,
            gateway_filters=profile.filters,
            secrets=[*secrets.values(), PAYLOAD_MARK],
        )
        self.now = BEGINNING
        self._settle_seconds = scenario.settle_seconds
        self._all_visible_at = BEGINNING
        self._missing_fields = profile.missing_fields
        self._maker = EntryMaker(scenario.overlap_seconds)
        self._folder = folder
        self._resources = contextlib.ExitStack()
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(collector),
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": secrets["aws"],
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_ENDPOINT_URL_CLOUDTRAIL_DATA": self.cloudtrail.url,
            "CHANNEL_ARN": self.cloudtrail.channel_arn,
            "KONG_ADMIN_API": self.kong.url,
            "KONG_ADMIN_TOKEN": secrets["kong"],
            "REDIS_HOST": f"{self.valkey.host}:{self.valkey.port}",
            "REDIS_USERNAME": "collector",
            "REDIS_PASSWORD": secrets["redis"],
            "LEDGER": str(self.ledger),
            "OVERLAP_SECONDS": str(scenario.overlap_seconds),
            "SETTLE_SECONDS": str(scenario.settle_seconds),
        }

    def __enter__(self) -> Self:
        for server in (self.kong, self.cloudtrail, self.valkey):
            self._resources.enter_context(server)
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    # -- Kong

    def advance_clock(self, seconds: int) -> None:
        """Move Kong's clock."""
        self.now += seconds
        self.kong.set_clock(frozen_at=self.now)

    def advance_clock_until_all_is_due(self) -> None:
        """Move Kong's clock to where every entry is visible and no longer in the future, unless it is far in it."""
        self.advance_clock(max(self._all_visible_at - self.now, 0) + self._settle_seconds + 1)

    def add_backlog(self, count: int, *, seed: int, seconds: int) -> None:
        """Add what Kong recorded over so many seconds before the first run."""
        self._add(self._maker.backlog(count, seed=seed, now=self.now - 10, seconds=seconds))

    def add_fresh(self, count: int, *, seed: int) -> None:
        """Add what Kong recorded just now, or earlier and shows late."""
        self._add(self._maker.fresh(count, seed=seed, now=self.now))

    def _add(self, entries: Iterable[NewEntry]) -> None:
        for entry in entries:
            if entry.fields is not None:
                self.kong.add_entries([entry.fields], visible_at=entry.visible_at, raw_ttl=entry.raw_ttl)
            else:
                self.kong.add_raw_row(entry.row, timestamp=entry.timestamp, visible_at=entry.visible_at)
            self.auditor.show(entry, self._missing_fields)
            due = max(entry.timestamp, entry.visible_at or 0)
            if due < self.now + 86_400:  # those far in the future are due at once
                self._all_visible_at = max(self._all_visible_at, due)

    # -- Valkey

    def marked_keys(self) -> set[str]:
        """Return what the seen set holds."""
        with self.valkey.client() as client:
            keys = list(client.scan_iter(f"{_SEEN_PREFIX.replace('{', '[{]').replace('}', '[}]')}*", count=1000))
        return {key.removeprefix(_SEEN_PREFIX) for key in keys}

    def is_locked(self) -> bool:
        """Return whether a run holds the lock."""
        with self.valkey.client() as client:
            return bool(client.exists(_LOCK_KEY))

    def lock_as_another(self) -> None:
        """Take the lock as a run on another machine would, of which nobody here can tell whether it lives."""
        with self.valkey.client() as client:
            client.set(_LOCK_KEY, _ANOTHER, ex=60)

    def remove_lock_of_another(self) -> None:
        """Undo `lock_as_another`."""
        with self.valkey.client() as client:
            if client.get(_LOCK_KEY) == _ANOTHER:
                client.delete(_LOCK_KEY)

    # -- the collector

    def start(self, round_: Round) -> CollectorProcess:
        """Start a run."""
        settings = {"PAGE_SIZE": str(round_.page_size), "PARALLEL_DELIVERIES": str(round_.parallel_deliveries)}
        return CollectorProcess(("sync", "--json"), self._environment | settings, self._folder)

    def verify_runs(self) -> CollectorProcess:
        """Let the collector check its chain of run reports; return the ended process."""
        process = CollectorProcess(("verify-runs",), self._environment, self._folder)
        process.finish()
        return process

    def wait_until_quiet(self) -> None:
        """Wait until the servers have done what processes, now dead, had asked of them."""
        _wait_until(lambda: not self._is_cloudtrail_connected(), "CloudTrail")
        _wait_until(self._is_valkey_alone, "Valkey")

    def _is_cloudtrail_connected(self) -> bool:
        port = int(self.cloudtrail.url.rpartition(":")[2])
        connections = psutil.Process().net_connections("tcp4")
        return any(one.laddr.port == port and one.status != psutil.CONN_LISTEN for one in connections)

    def _is_valkey_alone(self) -> bool:
        try:
            with self.valkey.client() as client:
                return len(client.client_list()) == 1
        except redis.RedisError:
            return False


def _wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _QUIET_TIMEOUT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is still busy though no collector runs")
        time.sleep(_POLL_SECONDS)


def parse_report(output: str) -> dict[str, Any] | None:
    """Return the run's report, the only line of its output that is a JSON object; ``None`` if there is none."""
    for line in output.splitlines():
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                report: dict[str, Any] = json.loads(line)
                return report
    return None
