"""Where a torture takes place: the servers of one scenario, a ledger, and processes of the collector."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import random
import time
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Self

from sandbox.kong.profiles import PROFILES
from sandbox.kong.simulator import KongSimulator
from sandbox.machinery.processes import PROJECT_DIRECTORY
from torture.archive import Archive, FolderPlace, S3Place
from torture.cloudtrail import CloudTrailLake
from torture.cloudwatch_logs import CloudWatchLogs
from torture.ends import Ends, Setting
from torture.entries import PAYLOAD_MARK, EntryMaker, NewEntry, ObjectMaker, choose
from torture.ledgers import FolderLedger, LedgerView, S3Ledger
from torture.plan import LOCK_SECONDS, RIGHT_CLOCKS, STREAMS, Clocks, KongPoison, Round, Scenario
from torture.process import CollectorProcess
from torture.s3 import REGION, S3Proxy, s3_client
from torture.state import Trail

BEGINNING = 1_750_000_000
"""The true time at first, Unix seconds. It moves only as the plan says."""

_CLOSING_SWEEP_SECONDS = 3600
_VERIFY_TIMEOUT_SECONDS = 600.0


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
    s3_port
        Where an S3 listens, on loopback, for scenarios that need one.

    Attributes
    ----------
    kong
        The gateway.
    ends
        The destination.
    ledger
        The ledger.
    trail
        What the ledger says.
    auditor
        Knows all entries: that of `ends`.
    now
        The true time, Unix seconds.
    """

    def __init__(self, scenario: Scenario, folder: Path, collector: Path, s3_port: int | None) -> None:
        rng = random.Random(scenario.number)
        secrets = {name: f"{name}-{rng.getrandbits(64):016x}" for name in ("kong", "redis", "aws")}
        profile = PROFILES[scenario.kong_version]
        self._resources = contextlib.ExitStack()
        self.kong = KongSimulator(version=scenario.kong_version, token=secrets["kong"])
        self.kong.configure(server_header=scenario.server_header, objects_newest_first=scenario.objects_newest_first)
        self._proxy: S3Proxy | None = None
        if scenario.needs_s3:
            if s3_port is None:
                raise ValueError("a scenario with a ledger or an archive in S3 needs an S3")
            self._s3 = s3_client(s3_port)
            self._proxy = S3Proxy(s3_port)
        self.ledger = self._open_ledger(scenario, folder)
        self.ends = self._open_ends(scenario, folder, profile.filters, secrets)
        self.auditor = self.ends.auditor
        self.trail = Trail(self.ledger, self.auditor.trail)
        self.now = BEGINNING
        self._clocks = RIGHT_CLOCKS
        self._scenario = scenario
        self._hidden: list[tuple[int, int, NewEntry]] = []
        self._order = itertools.count()
        self._all_due_at = BEGINNING
        self._shows_objects = scenario.stream == "objects"
        self._missing_fields = profile.missing_object_fields if self._shows_objects else profile.missing_fields
        self._maker = (ObjectMaker if self._shows_objects else EntryMaker)(scenario.latest_seconds)
        self._kong_poison: KongPoison | None = None
        self.poisoned_rows: list[str] = []
        """Ids of the entries that Kong cannot show now."""
        self._folder = folder
        self._last_tick = ""
        self._tick_blocked_until = 0.0
        self.finished_ticks: set[str] = set()
        """Ticks of the schedule that were worked off."""
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": f"{collector}{os.pathsep}{PROJECT_DIRECTORY}",
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": secrets["aws"],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "KONG_ADMIN_API": self.kong.url,
            "KONG_ADMIN_TOKEN": secrets["kong"],
            "LEDGER": self.ledger.place,
            "OVERLAP_SECONDS": str(scenario.overlap_seconds),
            "STREAMS": ",".join(STREAMS),
            "TORTURE_STREAM": scenario.stream,
            "EXCLUDE_METHODS": ",".join(scenario.excluded_methods),
            **self.ends.environment,
        }
        if self._proxy is not None:
            self._environment["AWS_ENDPOINT_URL_S3"] = self._proxy.url

    def __enter__(self) -> Self:
        self._resources.enter_context(self.kong)
        if self._proxy is not None:
            self._resources.enter_context(contextlib.closing(self._s3))
            self._resources.enter_context(self._proxy)
        self._resources.enter_context(self.ends)
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _open_ledger(self, scenario: Scenario, folder: Path) -> LedgerView:
        if scenario.ledger == "folder" or self._proxy is None:
            return FolderLedger(folder / "ledger")
        return S3Ledger(self._s3, self._proxy, f"ledger-{scenario.number}")

    def _open_ends(self, scenario: Scenario, folder: Path, filters: bool, secrets: dict[str, str]) -> Ends:
        setting = Setting(
            ledger=self.ledger,
            overlap_seconds=scenario.overlap_seconds,
            gateway_filters=filters,
            secrets=(*secrets.values(), PAYLOAD_MARK),
            # The rules are about requests. Changes that an excluded request made are delivered all the same.
            excluded_methods=() if scenario.stream == "objects" else scenario.excluded_methods,
            stream=scenario.stream,
        )
        if scenario.destination == "cloudtrail-lake":
            return CloudTrailLake(setting, secrets["redis"])
        if scenario.destination == "cloudwatch-logs":
            return CloudWatchLogs(setting, secrets["redis"], scenario_time=BEGINNING)
        if scenario.archive == "folder" or self._proxy is None:
            return Archive(setting, FolderPlace(folder / "archive"))
        return Archive(setting, S3Place(self._s3, self._proxy, f"archive-{scenario.number}"))

    # -- time

    def set_clocks(self, clocks: Clocks) -> None:
        """Let the clocks show what a round wants them to."""
        self._clocks = clocks
        self.advance_clock(0)

    def advance_clock(self, seconds: int) -> None:
        """Move the true time, and all clocks with it; what becomes visible meanwhile does."""
        self.now += seconds
        clocks = self._clocks
        self.kong.set_clock(frozen_at=self._kong_now)
        if clocks.proxy is None:
            self.kong.configure(date_skew_seconds=0)
        else:
            match clocks.proxy.form:
                case "gmt":
                    self.kong.configure(date_skew_seconds=clocks.proxy.skew_seconds - clocks.kong_skew_seconds)
                case "offset":
                    zone = timezone(timedelta(hours=2))
                    self.kong.configure(date_text=format_datetime(datetime.fromtimestamp(self.now, zone)))
                case "none":
                    self.kong.configure(date_text="")
                case "garbage":
                    self.kong.configure(date_text="the day before yesterday, in the evening")
        while self._hidden and self._hidden[0][0] <= self.now:
            self._show(heapq.heappop(self._hidden)[2])

    def advance_clock_until_all_is_due(self) -> None:
        """Move the time to where every entry is visible and no longer in the future, unless it is far in it."""
        self.advance_clock(max(self._all_due_at - self.now, 0) + 1)

    @property
    def _kong_now(self) -> int:
        return self.now + self._clocks.kong_skew_seconds

    @property
    def _own_now(self) -> int:
        if not self._scenario.own_clock_is_true:
            return int(time.time())
        return self.now + self._clocks.own_skew_seconds

    def clock_readings(self) -> tuple[int, int]:
        """Return what the clocks show: the earliest, and the earliest that the collector can see.

        Its own clock counts only where it is about right: one that is years ahead makes nothing due.
        """
        proxy = self._clocks.proxy
        date = self._kong_now
        if proxy is not None:
            # One with an offset may be refused, and is then as good as none.
            date = self.now + proxy.skew_seconds if proxy.form == "gmt" else self._own_now
        about_right = [self._own_now] if self._scenario.own_clock_is_true else []
        shown = [self._kong_now, *about_right] + ([date] if proxy is not None and proxy.form == "gmt" else [])
        return min(shown), min(date, self._own_now)

    # -- Kong

    def add_backlog(self) -> None:
        """Add what Kong recorded before the first run."""
        scenario = self._scenario
        seed = scenario.rounds[0].entries_seed
        self._add(
            self._maker.backlog(
                scenario.backlog_entries, seed=seed, now=self.now - 10, seconds=scenario.backlog_seconds
            )
        )

    def add_fresh(self, count: int, *, seed: int) -> None:
        """Add what Kong recorded just now, or earlier and shows late."""
        self._add(self._maker.fresh(count, seed=seed, now=self._kong_now))

    def _add(self, entries: Iterable[NewEntry]) -> None:
        for entry in entries:
            made_at = entry.timestamp - self._clocks.kong_skew_seconds
            visible_at = made_at + entry.hidden_seconds
            if entry.hidden_seconds and visible_at > self.now:
                heapq.heappush(self._hidden, (visible_at, next(self._order), entry))
            else:
                self._show(entry)
            due_at = max(entry.timestamp, visible_at)
            if due_at < self.now + 100_000:  # those far in the future are due at once
                self._all_due_at = max(self._all_due_at, due_at)

    def _show(self, entry: NewEntry) -> None:
        if entry.cause is not None:
            self.kong.add_entries([entry.cause])
        if entry.fields is not None:
            add = self.kong.add_objects if self._shows_objects else self.kong.add_entries
            add([entry.fields], raw_ttl=entry.raw_ttl)
        elif self._shows_objects:
            self.kong.add_raw_object(entry.row, timestamp=entry.timestamp)
        else:
            self.kong.add_raw_row(entry.row, timestamp=entry.timestamp)
        self.auditor.show(entry, self._missing_fields)

    def set_nodes(self, round_: Round) -> None:
        """Let the calls reach the nodes that a round wants them to."""
        if round_.mixed is None:
            self.kong.mix_nodes(None)
        else:
            self.kong.mix_nodes(round_.mixed.version, every_nth=round_.mixed.every_nth)

    @property
    def plain_ids(self) -> list[str]:
        """Ids of plain entries, the oldest first."""
        return self._maker.plain_ids

    def set_poison(self, round_: Round) -> None:
        """Poison what a round wants to be poisoned, and heal what it does not."""
        if round_.kong_poison != self._kong_poison:
            self._kong_poison, self.poisoned_rows = round_.kong_poison, []
            self.kong.heal()
            if (poison := round_.kong_poison) is not None:
                self.poisoned_rows = choose(self.plain_ids, poison.rows, poison.seed)
                self.kong.poison(self.poisoned_rows, fault=poison.fault, page_size_over=poison.page_size_over)

    # -- the collector

    def tick_of(self, round_: Round) -> str:
        """Return the tick of the schedule that a round's invocations name; "" if none.

        One whose invocation was killed is repeated only after so long that a lock has expired: waits for it.
        """
        if not round_.tick:
            return ""
        if round_.tick == "new" or not self._last_tick:
            self._last_tick = f"tick-{round_.number}"
        else:
            time.sleep(max(self._tick_blocked_until - time.monotonic(), 0))
        self._tick_blocked_until = 0.0
        return self._last_tick

    def note_killed_tick(self) -> None:
        """Remember that an invocation of the last tick was killed just now."""
        self._tick_blocked_until = time.monotonic() + LOCK_SECONDS + 1

    def start(self, round_: Round, tick: str) -> CollectorProcess:
        """Start a run."""
        settings = self.ends.environment_of_run() | {
            "PAGE_SIZE": str(round_.page_size),
            "PARALLEL_DELIVERIES": str(round_.parallel_deliveries),
            # The closing runs have a number of their own: 0.
            "SWEEP_SECONDS": str(self._scenario.sweep_seconds if round_.number else _CLOSING_SWEEP_SECONDS),
        }
        if self._scenario.own_clock_is_true:
            settings["TORTURE_CLOCK_OFFSET_SECONDS"] = str(self._own_now - time.time())
        arguments = ["sync", "--json", "--stream", self._scenario.stream]
        if round_.budget_seconds is not None:
            arguments = ["lambda"]
            settings |= {"TORTURE_BUDGET_SECONDS": str(round_.budget_seconds), "TORTURE_TICK": tick}
        return CollectorProcess(arguments, self._environment | settings, self._folder)

    def verify(self) -> CollectorProcess:
        """Let the collector check what it has stored; return the ended process."""
        environment = self._environment | {"STREAMS": self._scenario.stream}  # the other one has no runs
        process = CollectorProcess(("verify", "--json"), environment, self._folder)
        process.finish(_VERIFY_TIMEOUT_SECONDS)
        return process

    def wait_for_late(self) -> None:
        """Wait until an S3 has done what it does late, after those who had asked for it have gone."""
        if self._proxy is not None:
            self._proxy.wait_for_late()
