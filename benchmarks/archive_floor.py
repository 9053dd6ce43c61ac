"""The floor of the archive: what the two APIs take by themselves.

Fetches the same pages as the collector, the next one meanwhile, compresses as many bytes, and puts as many objects with
the same parallelism. Nothing is parsed, looked up or mapped.
"""

from __future__ import annotations

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.contender import PARALLEL_DELIVERIES, tell
from benchmarks.floor import pages, ready_made_event

ENTRIES_OF_AN_HOUR = int(os.environ.get("BENCH_ENTRIES_OF_AN_HOUR", "104"))


def run() -> int:
    """Fetch all pages, put as many lines."""
    s3: Any = boto3.client(
        "s3",
        config=Config(
            retries={"total_max_attempts": 1}, max_pool_connections=PARALLEL_DELIVERIES, parameter_validation=False
        ),
    )
    lines = ready_made_lines()
    delivered = 0

    def put(number: int, count: int) -> None:
        first = number * ENTRIES_OF_AN_HOUR
        body = gzip.compress(b"".join(lines[(first + index) % len(lines)] for index in range(count)), 6)
        s3.put_object(Bucket="bucket", Key=f"floor/{number:06}.json.gz", Body=body, IfNoneMatch="*")

    with ThreadPoolExecutor(PARALLEL_DELIVERIES) as lanes, ThreadPoolExecutor(1) as fetcher:
        under_way = set()
        source = pages(os.environ["KONG_ADMIN_API"])
        following = fetcher.submit(next, source, None)
        number = waiting = 0
        while (entries := following.result()) is not None:
            following = fetcher.submit(next, source, None)
            delivered += entries
            waiting += entries
            while waiting >= ENTRIES_OF_AN_HOUR:
                under_way.add(lanes.submit(put, number, ENTRIES_OF_AN_HOUR))
                number, waiting = number + 1, waiting - ENTRIES_OF_AN_HOUR
        under_way.add(lanes.submit(put, number, waiting))
        for call in wait(under_way).done:
            call.result()
    return delivered


def ready_made_lines() -> list[bytes]:
    """Return lines as the collector writes them: the event, and the entry."""
    lines = []
    for number in range(5000):
        uid = f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}"
        event = ready_made_event() | {"UID": uid, "eventTime": f"2026-01-01T00:{number % 60:02}:00Z"}
        entry = {
            "client_ip": "192.0.2.10",
            "signature": None,
            "removed_from_payload": None,
            "status": 201,
            "ttl": 2591940,
            "rbac_user_id": "3c1f6f0e-5d0b-4a57-9f0a-0b8f6a2f7e11",
            "path": f"/team-a/services/{uid[20:]}",
            "payload": '{"name":"billing","host":"billing.example.test"}',
            "request_timestamp": 1767225600 + number,
            "workspace": "cca82c73-2365-441b-8860-9e074d93b205",
            "method": "POST",
            "request_id": uid,
        }
        line = {"key": uid, "source": "kong", "stream": "requests", "schemaVersion": 1, **event, "entry": entry}
        lines.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    return lines


if __name__ == "__main__":
    tell(run)
