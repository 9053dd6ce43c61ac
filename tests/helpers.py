"""What several tests need: example entries, time that tests control, and the environment of a run."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kong_cloudtrail.destinations.cloudtrail.event import EventMapper
from kong_cloudtrail.domain.entry import Entry
from kong_cloudtrail.domain.gateway import Gateway
from kong_cloudtrail.domain.trail import Trail
from kong_cloudtrail.sources.kong.entries import read_entry

REPOSITORY = Path(__file__).parents[1]
FIXTURES = Path(__file__).parent / "fixtures"

NOW = 1_717_243_200
"""2024-06-01T12:00:00Z, Kong's clock in most tests."""

ACCOUNT_ID = "123456789012"
TRAIL = Trail("kong", "requests", "cloudtrail-lake")
GATEWAY = Gateway("3.10.0.2-enterprise-edition", "kong-cp-1", NOW)


def entry(number: int = 1, **fields: Any) -> dict[str, Any]:
    """Return an ordinary entry, a second older for each number."""
    return {
        "request_id": f"{number:032d}",
        "request_timestamp": NOW - number,
        "client_ip": "192.0.2.10",
        "method": "POST",
        "path": f"/services?number={number}",
        "status": 201,
        "payload": f'{{"name":"service-{number}"}}',
        "removed_from_payload": None,
        "rbac_user_id": "3c1f6f0e-5d0b-4a57-9f0a-0b8f6a2f7e11",
        "rbac_user_name": "alice",
        "request_source": None,
        "signature": None,
        "workspace": "7a1d2c34-1111-4222-8333-444455556666",
        "ttl": 2_591_990,
    } | fields


def entries(count: int, *, first: int = 1, **fields: Any) -> list[dict[str, Any]]:
    """Return ordinary entries, newest first."""
    return [entry(number, **fields) for number in range(first, first + count)]


def change(number: int = 1, **fields: Any) -> dict[str, Any]:
    """Return the entry of an ordinary change of an object, caused by the request of `entry`."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "request_id": f"{number:032d}",
        "request_timestamp": NOW - number,
        "dao_name": "services",
        "operation": "update",
        "entity": f'{{"id":"s{number}","name":"service-{number}"}}',
        "entity_key": f"s{number}",
        "removed_from_entity": None,
        "rbac_user_id": "3c1f6f0e-5d0b-4a57-9f0a-0b8f6a2f7e11",
        "signature": None,
        "ttl": 2_591_990,
    } | fields


def changes(count: int, *, first: int = 1, **fields: Any) -> list[dict[str, Any]]:
    """Return the entries of ordinary changes, newest first."""
    return [change(number, **fields) for number in range(first, first + count)]


def keyed(keys: Iterable[str]) -> list[Entry]:
    """Return entries with these keys, and nothing else in them."""
    return [Entry({}, key, key, NOW, 0) for key in keys]


def locate_original(entry_id: str, sha256: str) -> str:
    """Stand in for the ledger."""
    return f"ledger://{entry_id}/{sha256}"


def event_of(value: object, **options: Any) -> dict[str, Any]:
    """Map an entry, and return the event parsed."""
    mapper = EventMapper(GATEWAY, ACCOUNT_ID, locate_original, **options)
    parsed: dict[str, Any] = json.loads(mapper.map(read_entry(value)).data)
    return parsed


class FakeClock:
    """Time that passes only when somebody waits."""

    def __init__(self, now: float = NOW) -> None:
        self.time = float(now)
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds


class Budget:
    """A time budget that ends at a moment of a clock, or whenever a test says so."""

    def __init__(self, remaining_seconds: Callable[[], float] = lambda: math.inf) -> None:
        self._remaining_seconds = remaining_seconds

    def remaining_seconds(self) -> float:
        return self._remaining_seconds()


def examples(count: int) -> int:
    """Return with how many examples a property is tried: a count in the suite, a multiple of it in `make torture`."""
    return count * int(os.environ.get("EXAMPLES", "1"))


def wait_until(condition: Callable[[], bool], *, timeout_seconds: float = 60.0) -> None:
    """Return as soon as a condition holds; fail if it never does."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.005)


def settings_environment(**changes: str | None) -> dict[str, str]:
    """Return environment variables of a valid deployment; ``None`` takes one away."""
    environment: Mapping[str, str | None] = {
        "CHANNEL_ARN": f"arn:aws:cloudtrail:us-east-1:{ACCOUNT_ID}:channel/01234567-89ab-cdef-0123-456789abcdef",
        "KONG_ADMIN_API": "https://kong.example.com:8444",
        "REDIS_HOST": "cache.example.com:6379",
    } | changes
    return {name: value for name, value in environment.items() if value is not None}
