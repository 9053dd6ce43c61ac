"""What every contender shares: its settings, and the line in which it tells how it went."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import boto3
from botocore.config import Config

PARALLEL_DELIVERIES = 8
"""The collector's default, and the floor's."""


@dataclass(frozen=True)
class Surroundings:
    """Where the simulators are, from the same environment variables that the collector reads."""

    kong_admin_api: str
    redis_host: str
    redis_port: int
    channel_arn: str

    @classmethod
    def from_environment(cls) -> Surroundings:
        """Read them."""
        host, _, port = os.environ["REDIS_HOST"].partition(":")
        return cls(os.environ["KONG_ADMIN_API"], host, int(port), os.environ["CHANNEL_ARN"])

    def cloudtrail(self, connections: int) -> object:
        """Return a client as the collector makes it."""
        return boto3.client(
            "cloudtrail-data",
            region_name=self.channel_arn.split(":")[3],
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=connections,
                parameter_validation=False,
            ),
        )


def tell(run: Callable[[], int]) -> None:
    """Time a run, process start and imports aside, and print one JSON line about it.

    Parameters
    ----------
    run
        Does the work and returns how many entries it delivered.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    delivered = run()
    told = {
        "delivered": delivered,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    json.dump(told, sys.stdout)
    print()
