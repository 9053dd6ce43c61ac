"""The floor: what the two APIs take by themselves.

Fetches the same pages as the collector, the next one meanwhile, and posts ready-made batches with the same
parallelism. Nothing is parsed, looked up, mapped or marked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import requests

from benchmarks.contender import PARALLEL_DELIVERIES, Surroundings, tell

PAGE_SIZE = 1000
BATCH_EVENTS = 100
_OFFSET = re.compile(rb'"offset":\s*"([^"]+)"')


def run() -> int:
    """Fetch all pages, post as many events."""
    surroundings = Surroundings.from_environment()
    cloudtrail: Any = surroundings.cloudtrail(PARALLEL_DELIVERIES)
    batch = _ready_made_batch()
    delivered = 0
    with ThreadPoolExecutor(PARALLEL_DELIVERIES) as lanes, ThreadPoolExecutor(1) as fetcher:
        under_way = set()
        source = pages(surroundings.kong_admin_api)
        following = fetcher.submit(next, source, None)
        while (entries := following.result()) is not None:
            following = fetcher.submit(next, source, None)
            for start in range(0, entries, BATCH_EVENTS):
                events = batch[: min(BATCH_EVENTS, entries - start)]
                delivered += len(events)
                under_way.add(
                    lanes.submit(cloudtrail.put_audit_events, channelArn=surroundings.channel_arn, auditEvents=events)
                )
        for call in wait(under_way).done:
            call.result()
    return delivered


def pages(kong_admin_api: str) -> Iterator[int]:
    """Fetch all pages; return the number of entries of each."""
    session = requests.Session()
    parameters: dict[str, str | int] = {"size": PAGE_SIZE}
    while True:
        body = session.get(f"{kong_admin_api}/audit/requests", params=parameters, timeout=60).content
        yield body.count(b'"request_id"')
        offset = _OFFSET.search(body, max(0, len(body) - 1000)) or _OFFSET.search(body, 0, 1000)
        if offset is None:
            return
        parameters["offset"] = offset[1].decode()


def ready_made_event() -> dict[str, Any]:
    """Return an event as the collector maps it."""
    return {
        "version": "3.10.0.2-enterprise-edition",
        "userIdentity": {"type": "RBACUser", "principalId": "3c1f6f0e-5d0b-4a57-9f0a-0b8f6a2f7e11"},
        "eventSource": "kong-gateway",
        "eventName": "POST/team-a/services",
        "eventTime": "2026-01-01T00:00:00Z",
        "UID": "0123456789abcdef0123456789abcdef",
        "recipientAccountId": "123456789012",
        "requestParameters": {"payload": {"name": "billing", "host": "billing.example.test"}},
        "sourceIPAddress": "192.0.2.10",
        "additionalEventData": {
            "hostname": "kong-cp-1",
            "signature": None,
            "status": 201,
            "ttl": 2591940,
            "path": "/team-a/services",
            "workspace": "cca82c73-2365-441b-8860-9e074d93b205",
            "method": "POST",
        },
    }


def _ready_made_batch() -> list[dict[str, str]]:
    data = json.dumps(ready_made_event(), separators=(",", ":"))
    return [{"id": f"ready-made-{number}", "eventData": data, "eventDataChecksum": "x" * 44} for number in range(100)]


if __name__ == "__main__":
    tell(run)
