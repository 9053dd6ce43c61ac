"""Two days of hourly runs, lived through in a minute: what CloudWatch would know of them.

Everything that the dashboard shows is measured. The collector and its telemetry are the deployed ones; Kong and
CloudTrail are the simulators, the cache is a real Valkey. Kong's clock and the collector's are put forward by an hour
from run to run. What AWS would count of the outside, failed invocations, dead letters and the cache's memory, is
counted here in the same way.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics
from kong_cloudtrail.assembly import Assembly, SystemClock, UnlimitedTime
from kong_cloudtrail.errors import RunFailed
from kong_cloudtrail.runtime.redaction import Redactor
from kong_cloudtrail.runtime.telemetry import NAMESPACE, SERVICE, LambdaTelemetry, RedactingFormatter
from kong_cloudtrail.settings import Settings

from sandbox.cloudtrail.emulator import CloudTrailEmulator
from sandbox.kong.simulator import KongSimulator
from sandbox.machinery import faults
from sandbox.machinery.valkey import Valkey

HOUR_SECONDS = 3600
HOURS = 48
FIRST_HOUR = 1_772_409_600
"""2026-03-02T00:00:00Z, a Monday."""

SOURCE, OTHER_SOURCE = "kong-us", "kong-eu"
FUNCTION, QUEUE, CACHE_GROUP = "collector", "dead-letters", "marks"
NODE_BYTES = 2**29
"""Memory of a cache.t4g.micro."""

MetricKey = tuple[str, str, tuple[str, ...]]
"""Namespace, name, dimensions as name, value, name, value, ...: as the definition of a dashboard has them."""


@dataclass
class Capture:
    """What was measured.

    Parameters
    ----------
    points
        Unix seconds and value, by metric, in order of time.
    runs
        The log lines with code ``RUN_ENDED`` of the first source, oldest first, each with its time.
    """

    points: dict[MetricKey, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    runs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, moment: int, namespace: str, name: str, dimensions: Mapping[str, str], value: float) -> None:
        """Add a measurement; Unix seconds."""
        flat = tuple(part for pair in sorted(dimensions.items()) for part in pair)
        self.points[namespace, name, flat].append((moment, round(value, 4)))

    def to_json(self) -> str:
        """Write it down, a metric or a run a line, so that differences can be read."""
        lines = [
            json.dumps({"metric": [namespace, name, *dimensions], "points": points})
            for (namespace, name, dimensions), points in sorted(self.points.items())
        ]
        lines += [json.dumps({"run": run}) for run in self.runs]
        return "\n".join([*lines, ""])

    @classmethod
    def from_json(cls, text: str) -> Capture:
        """Read what `to_json` wrote."""
        capture = cls()
        for line in map(json.loads, text.splitlines()):
            if "run" in line:
                capture.runs.append(line["run"])
            else:
                namespace, name, *dimensions = line["metric"]
                capture.points[namespace, name, tuple(dimensions)] = [(at, value) for at, value in line["points"]]
        return capture


@dataclass(frozen=True)
class _Site:
    kong: KongSimulator
    cloudtrail: CloudTrailEmulator
    dead_letters: list[int]


def _kong_is_down(site: _Site) -> None:
    site.kong.inject(faults.bad_gateway(503, times=5))


def _cloudtrail_throttles(site: _Site) -> None:
    site.cloudtrail.inject(faults.Fault(kind="throttle", times=3))


def _an_entry_is_refused(site: _Site) -> None:
    site.cloudtrail.fail_entries("InvalidData", times=1)


def _kong_is_slow(site: _Site) -> None:
    site.kong.configure(latency_seconds=0.25)


def _kong_is_quick(site: _Site) -> None:
    site.kong.configure(latency_seconds=0.02)


def _somebody_clears_the_queue(site: _Site) -> None:
    site.dead_letters.clear()


_STORY: Mapping[int, Sequence[Callable[[_Site], None]]] = {
    10: (_cloudtrail_throttles,),
    20: (_kong_is_down,),
    21: (_kong_is_down,),
    27: (_somebody_clears_the_queue,),
    33: (_kong_is_slow,),
    38: (_kong_is_quick,),
    HOURS - 1: (_an_entry_is_refused,),
}
"""What happens before the run of an hour."""

_LARGE_ENTRY_HOUR = 15


class _PutForward(SystemClock):
    """The machine's time, but for the hour."""

    def __init__(self) -> None:
        self.moment = FIRST_HOUR

    def now(self) -> float:
        return float(self.moment)


class _TimedAssembly(Assembly):
    def __init__(self, settings: Settings, redactor: Redactor, clock: _PutForward) -> None:
        super().__init__(settings, redactor)
        self._clock = clock


class _Gateway:
    """A gateway, and the collector that empties it."""

    def __init__(self, source: str, kong: KongSimulator, environment: Mapping[str, str], scale: float) -> None:
        self.source = source
        self.kong = kong
        self._scale = scale
        self._clock = _PutForward()
        redactor = Redactor()
        settings = Settings.from_mapping({**environment, "SOURCE_NAME": source, "KONG_ADMIN_API": kong.url})
        self._assembly = _TimedAssembly(settings, redactor, self._clock)
        self._lines = io.StringIO()
        self._logger = Logger(
            service=f"{SERVICE}-{source}",  # loggers of one service are one logger
            stream=self._lines,
            logger_formatter=RedactingFormatter(redactor.clean),
        )

    def record(self, hour: int) -> None:
        """Let an hour's worth of calls of the Admin API be made."""
        end = FIRST_HOUR + hour * HOUR_SECONDS
        of_day = (hour - 1) % 24 + 0.5
        count = int(self._scale * (30 + 420 * math.exp(-(((of_day - 13.5) / 3.2) ** 2))))
        self.kong.set_clock(frozen_at=end)
        self.kong.seed_entries(
            count,
            seed=hour,
            first_timestamp=end - HOUR_SECONDS,
            last_timestamp=end - 1,
            large_payloads=int(hour == _LARGE_ENTRY_HOUR),
        )
        self._clock.moment = end

    def run(self) -> tuple[bool, list[dict[str, Any]], list[dict[str, Any]]]:
        """Do a run; return whether it failed, its lines of metrics, and its lines of the log."""
        metrics = Metrics(namespace=NAMESPACE)
        metrics.service = None
        self._lines.seek(0)
        self._lines.truncate()
        telemetry = LambdaTelemetry(self._logger, metrics)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            try:
                self._assembly.collector(telemetry, UnlimitedTime()).run()
                failed = False
            except RunFailed:
                failed = True
        emitted = [json.loads(line) for line in output.getvalue().splitlines()]
        logged = [json.loads(line) for line in self._lines.getvalue().splitlines()]
        return failed, emitted, logged


def capture(hours: int = HOURS) -> Capture:
    """Live through the hours, and measure.

    Parameters
    ----------
    hours
        How many; the last ones, so that the end is always the same.
    """
    result = Capture()
    with (
        tempfile.TemporaryDirectory(prefix="dashboard-") as ledger,
        KongSimulator(latency_seconds=0.02) as kong,
        KongSimulator(latency_seconds=0.02) as other_kong,
        CloudTrailEmulator(latency_seconds=0.03) as cloudtrail,
        Valkey(max_memory_bytes=NODE_BYTES) as valkey,
        _aws_at(cloudtrail.url),
    ):
        environment = {
            "CHANNEL_ARN": cloudtrail.channel_arn,
            "REDIS_HOST": f"{valkey.host}:{valkey.port}",
            "LEDGER": ledger,
            # What was there before the first hour is not part of the picture.
            "INITIAL_LOOKBACK_SECONDS": str(HOUR_SECONDS),
        }
        gateways = [
            _Gateway(SOURCE, kong, environment, scale=1),
            _Gateway(OTHER_SOURCE, other_kong, environment, scale=0.4),
        ]
        site = _Site(kong, cloudtrail, dead_letters=[])
        for hour in range(HOURS - hours, HOURS):
            moment = FIRST_HOUR + hour * HOUR_SECONDS
            for happen in _STORY.get(hour, ()):
                happen(site)
            for gateway in gateways:
                gateway.record(hour)
                failed, emitted, logged = gateway.run()
                for line in emitted:
                    _take(result, moment, line)
                if gateway.source != SOURCE:
                    continue
                result.runs += [{"@timestamp": moment, **line} for line in logged if line.get("code") == "RUN_ENDED"]
                if failed:
                    site.dead_letters.append(moment)
                result.add(moment, "AWS/Lambda", "Errors", {"FunctionName": FUNCTION}, failed)
                result.add(moment, "AWS/Lambda", "Throttles", {"FunctionName": FUNCTION}, 0)
            queue = {"QueueName": QUEUE}
            result.add(moment, "AWS/SQS", "ApproximateNumberOfMessagesVisible", queue, len(site.dead_letters))
            with valkey.client() as client:
                memory, statistics = client.info("memory"), client.info("stats")
            node = {"CacheClusterId": f"{CACHE_GROUP}-001"}
            percent = 100 * memory["used_memory"] / NODE_BYTES
            result.add(moment, "AWS/ElastiCache", "DatabaseMemoryUsagePercentage", node, percent)
            result.add(moment, "AWS/ElastiCache", "Evictions", node, statistics["evicted_keys"])
    return result


def _take(result: Capture, moment: int, line: Mapping[str, Any]) -> None:
    """Read a line in CloudWatch's embedded metric format, as CloudWatch would."""
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = {name: line[name] for name in names}
            for metric in directive["Metrics"]:
                values = line[metric["Name"]]
                for value in values if isinstance(values, list) else [values]:
                    result.add(moment, directive["Namespace"], metric["Name"], dimensions, value)


@contextlib.contextmanager
def _aws_at(cloudtrail_url: str) -> Iterator[None]:
    """Let boto3 find the emulator, and nobody's own settings."""
    variables = {
        "AWS_ENDPOINT_URL_CLOUDTRAIL_DATA": cloudtrail_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in [*variables, "AWS_PROFILE", "AWS_SESSION_TOKEN"]}
    for name in before:
        os.environ.pop(name, None)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
