"""Run all benchmarks: ``make bench``. Every comparison is of runs in turn on one machine, printed as ratios."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.s3 import S3Process
from sandbox.cloudtrail.emulator import CloudTrailProcess
from sandbox.kong.simulator import KongProcess
from sandbox.machinery.processes import PROJECT_DIRECTORY
from sandbox.machinery.valkey import Valkey

KONG_LATENCY_SECONDS = 0.020
CLOUDTRAIL_LATENCY_SECONDS = 0.030
S3_LATENCY_SECONDS = 0.030
RETENTION_SECONDS = 20 * 86_400
NEW_ENTRIES = 100
FIRST_SYNC_ENTRIES = 50_000
STEADY_ENTRIES = (1_000, 10_000, 100_000)
RECONCILED_ENTRIES = (100_000, 1_000_000)
LARGEST = STEADY_ENTRIES[-1]
BACKFILL_ENTRIES = 10_000
BACKFILL_SLOWNESS = 5
"""How much slower than usual everything else is, so that not the machine's processor is what is measured."""
ROUNDS = 3
IMPORT_ROUNDS = 7
LIBRARIES = (
    "boto3",
    "redis",
    "requests",
    "orjson",
    "aws_lambda_powertools.metrics",
    "aws_lambda_powertools.utilities.idempotency.persistence.cache",
)
"""What the handler imports of what is not ours."""

COLUMNS = (
    "",
    "seconds",
    "ratio",
    "CPU seconds",
    "Kong calls",
    "Kong MB",
    "deliveries",
    "Redis commands",
    "S3 calls",
    "peak MB",
)

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Measurement:
    """One run of one contender.

    Parameters
    ----------
    contender, seconds, cpu_seconds, delivered, peak_megabytes
        As the contender told. CPU seconds are those of all its threads, in user mode and in the kernel.
    kong_calls, kong_megabytes, deliveries, redis_commands, s3_calls
        As the other sides counted. A delivery is a call to CloudTrail, or a part that was written.
    stored_bytes
        Size of all parts; 0 for CloudTrail Lake.
    """

    contender: str
    seconds: float
    cpu_seconds: float
    delivered: int
    peak_megabytes: float
    kong_calls: int
    kong_megabytes: float
    deliveries: int
    redis_commands: int
    s3_calls: int = 0
    stored_bytes: int = 0


class Arena:
    """A Kong, a CloudTrail and a Valkey, and the contenders run against them.

    Parameters
    ----------
    entries
        That Kong holds.
    version
        Of the gateway; "2.8" has neither filters nor order.
    latency
        Whether the network's latency is simulated.
    """

    def __init__(self, stack: ExitStack, *, entries: int, version: str = "3.10", latency: bool = True) -> None:
        self.kong = stack.enter_context(KongProcess(version=version))
        self.cloudtrail = stack.enter_context(CloudTrailProcess(validate="light"))
        self.valkey = stack.enter_context(Valkey())
        self._ledger = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._begin(entries, latency=latency)

    def _begin(self, entries: int, *, latency: bool) -> None:
        self._latency = latency
        self.slowness = 1
        """Factor of all latencies."""
        self.further: dict[str, str] = {}
        """Further variables of the contenders."""
        self._seed = 1
        self.now = int(time.time())
        self._add(entries, self.now - RETENTION_SECONDS, self.now - 3600)

    def add_new_entries(self) -> None:
        """Let something happen at Kong."""
        now = int(time.time())
        self._add(NEW_ENTRIES, now - 5, now - 1)

    def forget(self) -> None:
        """Undo all that a contender did, for the next one."""
        self.valkey.flush()
        self.cloudtrail.clear()
        self._ledger = Path(tempfile.mkdtemp(dir=self._ledger))

    def run(self, contender: str, *, latency: bool | None = None) -> Measurement:
        """Run a contender as a process of its own."""
        slow = self._latency if latency is None else latency
        self.cloudtrail.configure(latency_seconds=self.slowness * CLOUDTRAIL_LATENCY_SECONDS if slow else 0.0)
        calls_before, commands_before = len(self.cloudtrail.calls), self._redis_commands()
        output = self._output_of(contender, slow=slow)
        return self._measurement(
            contender,
            output,
            deliveries=len(self.cloudtrail.calls) - calls_before,
            redis_commands=self._redis_commands() - commands_before,
        )

    def _output_of(self, contender: str, *, slow: bool) -> str:
        self.kong.configure(latency_seconds=self.slowness * KONG_LATENCY_SECONDS if slow else 0.0)
        self.kong.reset_counters()
        return subprocess.run(
            [sys.executable, "-m", f"benchmarks.{contender}"],
            cwd=PROJECT_DIRECTORY,
            env=self._environment() | self.further,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    def _measurement(self, contender: str, output: str, **counted: int) -> Measurement:
        told = json.loads(output.splitlines()[-1])
        return Measurement(
            contender,
            told["seconds"],
            told["cpu_seconds"],
            told["delivered"],
            told["peak_megabytes"],
            sum(self.kong.calls.values()),
            self.kong.bytes_sent / 1e6,
            **counted,
        )

    def _add(self, count: int, first: int, last: int) -> None:
        self.kong.seed_entries(count, seed=self._seed, first_timestamp=first, last_timestamp=last)
        self._seed += 1

    def _redis_commands(self) -> int:
        with self.valkey.client() as client:
            stats: dict[str, dict[str, Any]] = client.info("commandstats")
        ours = ("get", "mget", "set", "exists", "eval", "evalsha")
        return sum(int(value["calls"]) for name, value in stats.items() if name.removeprefix("cmdstat_") in ours)

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": f"{PROJECT_DIRECTORY / 'lambda_src'}{os.pathsep}{PROJECT_DIRECTORY}",
            "KONG_ADMIN_API": self.kong.url,
            "REDIS_HOST": f"{self.valkey.host}:{self.valkey.port}",
            "CHANNEL_ARN": self.cloudtrail.channel_arn,
            "LEDGER": str(self._ledger),
            "AWS_ENDPOINT_URL_CLOUDTRAIL_DATA": self.cloudtrail.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
        }


class ArchiveArena(Arena):
    """A Kong and an S3 that holds archive and ledger, and the contenders run against them. Without a cache."""

    def __init__(self, stack: ExitStack, *, entries: int, latency: bool = True) -> None:
        self.kong = stack.enter_context(KongProcess())
        self.s3 = stack.enter_context(S3Process())
        self._begin(entries, latency=latency)

    def forget(self) -> None:
        """Undo all that a contender did, for the next one."""
        self.s3.clear()

    def run(self, contender: str, *, latency: bool | None = None) -> Measurement:
        """Run a contender as a process of its own."""
        slow = self._latency if latency is None else latency
        self.s3.configure(latency_seconds=self.slowness * S3_LATENCY_SECONDS if slow else 0.0)
        self.s3.reset_counters()
        before = self._parts()
        output = self._output_of(contender, slow=slow)
        s3_calls, parts = sum(self.s3.calls.values()), self._parts()
        return self._measurement(
            contender,
            output,
            deliveries=len(parts) - len(before),
            redis_commands=0,
            s3_calls=s3_calls,
            stored_bytes=sum(parts.values()) - sum(before.values()),
        )

    def _parts(self) -> dict[str, int]:
        return {name: size for name, size in self.s3.sizes.items() if name.endswith(".json.gz")}

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": f"{PROJECT_DIRECTORY / 'lambda_src'}{os.pathsep}{PROJECT_DIRECTORY}",
            "KONG_ADMIN_API": self.kong.url,
            "ARCHIVE": "s3://bucket/archive",
            "LEDGER": "s3://bucket/ledger",
            "AWS_ENDPOINT_URL_S3": self.s3.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
        }


def main() -> int:
    """Run what is asked for; print tables, and all numbers as JSON at the end."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--json", type=Path, help="also write all numbers to this file")
    parser.add_argument("--backfill", action="store_true", help="measure backfills alone")
    parser.add_argument("--quick", action="store_true", help="leave out the proof of concept, which takes minutes")
    options = parser.parse_args()
    if options.backfill:
        for name in ("archive", "cloudtrail-lake"):
            backfill(name)
        return 0
    with_latency = first_sync(latency=True, quick=options.quick)
    results: dict[str, Any] = {
        "first_sync_with_latency": with_latency,
        "first_sync_without_latency": first_sync(latency=False, quick=options.quick),
        "steady_state": steady_state(quick=options.quick),
        "archive_first_sync": archive_first_sync(with_latency.get("proof_of_concept")),
        "archive_steady_state": archive_steady_state(),
        "backfill": {name: backfill(name) for name in ("archive", "cloudtrail-lake")},
        "without_filters": without_filters(quick=options.quick),
        "memory": memory(),
        "reconcile": reconcile(),
        "import": importing(),
    }
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1))
    console.print(json.dumps(results), soft_wrap=True)
    return 0


def first_sync(*, latency: bool, quick: bool) -> dict[str, Any]:
    """Everything is new: collector and floor in turn, the proof of concept once."""
    title = f"First sync of {FIRST_SYNC_ENTRIES} entries, {'with' if latency else 'without'} latency"
    with _arena(entries=FIRST_SYNC_ENTRIES, latency=latency) as arena:
        measurements = []
        for _ in range(ROUNDS):
            for contender in ("collector", "floor"):
                measurements.append(arena.run(contender))
                arena.forget()
        if not quick:
            measurements.append(arena.run("proof_of_concept"))
    results = _report(title, measurements)
    _compare(results["collector"], results["floor"], results.get("proof_of_concept"))
    return results


def steady_state(*, quick: bool) -> dict[str, Any]:
    """Have a hundred new entries beside many that are delivered, on a gateway with filters."""
    results: dict[str, Any] = {}
    for entries in STEADY_ENTRIES:
        with _arena(entries=entries) as arena:
            arena.run("collector", latency=False)
            measurements = []
            for _ in range(ROUNDS):
                arena.add_new_entries()
                measurements.append(arena.run("collector"))
            if entries == LARGEST and not quick:
                measurements.append(_proof_of_concept_knowing_the_rest(arena))
        results[str(entries)] = _report(f"{NEW_ENTRIES} new entries beside {entries} delivered", measurements)
    medians = [results[str(entries)]["collector"]["seconds"] for entries in STEADY_ENTRIES]
    results["slowest_to_fastest"] = max(medians) / min(medians)
    console.print(f"Slowest of the three to the fastest: {results['slowest_to_fastest']:.2f}\n")
    return results


def archive_first_sync(proof_of_concept: dict[str, Any] | None) -> dict[str, Any]:
    """Everything is new to an archive: collector and floor in turn.

    Parameters
    ----------
    proof_of_concept
        What it took to deliver as many entries to CloudTrail Lake, the only destination that it has, if it was run.
    """
    with ExitStack() as stack:
        arena = ArchiveArena(stack, entries=FIRST_SYNC_ENTRIES)
        measurements = []
        for _ in range(ROUNDS):
            for contender in ("collector", "archive_floor"):
                measurements.append(arena.run(contender))
                arena.forget()
    results = _report(f"Archive: first sync of {FIRST_SYNC_ENTRIES} entries, with latency", measurements)
    stored = results["collector"]["stored_bytes"] / FIRST_SYNC_ENTRIES
    _compare(results["collector"], results["archive_floor"], proof_of_concept)
    console.print(f"Stored in S3: {stored:.0f} bytes an entry\n")
    return {**results, "stored_bytes_of_an_entry": stored}


def archive_steady_state() -> dict[str, Any]:
    """Have a hundred new entries beside many that are archived."""
    results: dict[str, Any] = {}
    for entries in STEADY_ENTRIES:
        with ExitStack() as stack:
            arena = ArchiveArena(stack, entries=entries)
            arena.run("collector", latency=False)
            measurements = []
            for _ in range(ROUNDS):
                arena.add_new_entries()
                measurements.append(arena.run("collector"))
        results[str(entries)] = _report(f"Archive: {NEW_ENTRIES} new entries beside {entries} archived", measurements)
        # An hourly run makes the fewest: each further run in an hour reads the parts that the hour has by then.
        results[str(entries)]["s3_calls_of_an_hourly_run"] = fewest = min(one.s3_calls for one in measurements)
        console.print(f"S3 calls of an hourly run: {fewest}\n")
    medians = [results[str(entries)]["collector"]["seconds"] for entries in STEADY_ENTRIES]
    results["slowest_to_fastest"] = max(medians) / min(medians)
    console.print(f"Slowest of the three to the fastest: {results['slowest_to_fastest']:.2f}\n")
    return results


def backfill(destination: str) -> dict[str, Any]:
    """Deliver 20 days, with 1 to 8 slices at once, in one process and in as many."""
    table = Table(title=f"Backfill of {BACKFILL_ENTRIES} entries into {destination}", title_justify="left")
    for column in ("slices at once", "processes", "seconds", "entries/s", "speed-up", "deliveries", "peak MB"):
        table.add_column(column, justify="right")
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        kind = ArchiveArena if destination == "archive" else Arena
        arena = kind(stack, entries=BACKFILL_ENTRIES)
        arena.slowness = BACKFILL_SLOWNESS
        arena.add_new_entries()
        for at_once, processes in ((1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 4), (8, 8)):
            arena.forget()
            arena.further = {"INITIAL_LOOKBACK_SECONDS": "1800"}
            arena.run("collector")
            arena.further |= {
                "BACKFILL_AFTER": f"{datetime.fromtimestamp(arena.now - RETENTION_SECONDS, UTC):%Y-%m-%dT%H:%M:%SZ}",
                "BACKFILL_BEFORE": f"{datetime.fromtimestamp(arena.now - 3000, UTC):%Y-%m-%dT%H:%M:%SZ}",
                "BACKFILL_AT_ONCE": str(at_once),
                "BACKFILL_PROCESSES": "yes" if processes > 1 else "",
            }
            found = arena.run("backfill")
            results[f"{at_once} slices, {processes} processes"] = asdict(found)
            first = next(iter(results.values()))["seconds"]
            console.print(f"{at_once} slices at once, {processes} processes: {found.seconds:.1f} s")
            table.add_row(
                str(at_once),
                str(processes),
                f"{found.seconds:.1f}",
                f"{found.delivered / found.seconds:.0f}",
                f"{first / found.seconds:.1f}",
                str(found.deliveries),
                f"{found.peak_megabytes:.0f}",
            )
    console.print(table, "")
    return results


def without_filters(*, quick: bool) -> dict[str, Any]:
    """Have the same on a gateway that neither filters nor orders by time."""
    with _arena(entries=LARGEST, version="2.8") as arena:
        arena.run("collector", latency=False)
        measurements = []
        for _ in range(ROUNDS):
            arena.add_new_entries()
            measurements.append(arena.run("collector"))
        if not quick:
            measurements.append(_proof_of_concept_knowing_the_rest(arena))
    return _report(f"{NEW_ENTRIES} new entries beside {LARGEST}, gateway without filters", measurements)


def memory() -> dict[str, Any]:
    """Peak memory of a first sync, small and large."""
    peaks = {}
    for entries in (10_000, 100_000):
        with _arena(entries=entries, latency=False) as arena:
            peaks[str(entries)] = arena.run("collector").peak_megabytes
    ratio = peaks["100000"] / peaks["10000"]
    table = Table("entries", "peak", title="Peak memory of a first sync", title_justify="left")
    for count, peak in peaks.items():
        table.add_row(count, f"{peak:.0f} MB")
    table.add_row("ratio", f"{ratio:.2f}")
    console.print(table, "")
    return {"peak_megabytes": peaks, "ratio": ratio}


def reconcile() -> dict[str, Any]:
    """Reconcile a day of a million entries with an archive, beside what Kong takes to show them."""
    measured = {}
    for entries in RECONCILED_ENTRIES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.reconcile", folder, str(entries)]
            subprocess.run([*command, "--prepare"], cwd=PROJECT_DIRECTORY, check=True)
            output = subprocess.run(
                command, cwd=PROJECT_DIRECTORY, stdout=subprocess.PIPE, text=True, check=True
            ).stdout
        measured[str(entries)] = json.loads(output)
    columns = ("entries", "seconds, beside Kong", "CPU seconds", "peak")
    table = Table(*columns, title="Reconcile a day with an archive", title_justify="left")
    for count, one in measured.items():
        table.add_row(count, f"{one['seconds']:.1f}", f"{one['cpu_seconds']:.1f}", f"{one['peak_megabytes']:.0f} MB")
    console.print(table, "")
    return measured


def importing() -> dict[str, Any]:
    """Import of the handler against import of its libraries, in turn."""
    commands = {"handler": "import kong_cloudtrail.handler", "libraries": f"import {', '.join(LIBRARIES)}"}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    environment = os.environ | {"PYTHONPATH": str(PROJECT_DIRECTORY / "lambda_src")}
    for _ in range(IMPORT_ROUNDS):
        for name, command in commands.items():
            timed = f"import time; t = time.perf_counter(); {command}; print(time.perf_counter() - t)"
            output = subprocess.run(
                [sys.executable, "-c", timed], env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            seconds[name].append(float(output.stdout))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["handler"] / medians["libraries"]
    console.print(
        f"Import of the handler {medians['handler'] * 1000:.0f} ms, of its libraries alone "
        f"{medians['libraries'] * 1000:.0f} ms: ratio {ratio:.2f}\n"
    )
    return {**medians, "ratio": ratio}


def _proof_of_concept_knowing_the_rest(arena: Arena) -> Measurement:
    """Let the proof of concept have delivered everything, and then a hundred entries be new."""
    arena.run("proof_of_concept", latency=False)
    arena.add_new_entries()
    return arena.run("proof_of_concept")


def _compare(collector: dict[str, Any], floor: dict[str, Any], proof_of_concept: dict[str, Any] | None) -> None:
    """Print how the collector compares with the floor and, if it was run, with the proof of concept."""
    times, cpu_times = (collector[name] / floor[name] for name in ("seconds", "cpu_seconds"))
    console.print(f"The collector takes {times:.2f} times as long as the floor, and {cpu_times:.2f} times its CPU time")
    if proof_of_concept is not None:
        speedup = proof_of_concept["seconds"] / collector["seconds"]
        console.print(f"Its throughput is {speedup:.1f} times that of the proof of concept")
    console.print()


@contextmanager
def _arena(**arguments: Any) -> Iterator[Arena]:
    with ExitStack() as stack:
        yield Arena(stack, **arguments)


def _report(title: str, measurements: list[Measurement]) -> dict[str, Any]:
    """Print a table of the medians, with ratios to the collector; return them."""
    table = Table(title=title, title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if not column else "right")
    names = list(dict.fromkeys(measurement.contender for measurement in measurements))
    results: dict[str, Any] = {}
    for name in names:
        own = sorted((one for one in measurements if one.contender == name), key=lambda one: one.seconds)
        median = own[len(own) // 2]
        results[name] = asdict(median)
        ratio = median.seconds / results[names[0]]["seconds"]
        results[name]["ratio_to_collector"] = ratio
        table.add_row(
            name.replace("_", " "),
            f"{median.seconds:.3f}",
            f"{ratio:.2f}",
            f"{median.cpu_seconds:.2f}",
            str(median.kong_calls),
            f"{median.kong_megabytes:.1f}",
            str(median.deliveries),
            str(median.redis_commands),
            str(median.s3_calls),
            f"{median.peak_megabytes:.0f}",
        )
    console.print(table, "")
    return results


if __name__ == "__main__":
    sys.exit(main())
