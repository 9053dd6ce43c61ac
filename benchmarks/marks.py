"""What marks cost in the cache: memory, and the time for a page, beside one key with an expiry for each mark."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import redis
from kong_cloudtrail.domain.entry import Entry
from kong_cloudtrail.domain.trail import Trail
from kong_cloudtrail.state.valkey import ValkeySeenSet, connect, key_prefix

from sandbox.machinery.valkey import Valkey

TRAIL = Trail("kong", "requests", "cloudtrail-lake")
RETENTION_SECONDS = 30 * 86_400
BEGIN = 1_790_000_000
PAGE_ENTRIES = 1000
BATCH_ENTRIES = 100
PAGES = 20
SPREADS_SECONDS = {"over 30 days": RETENTION_SECONDS, "in one hour": 3600}


_PLAIN_SCRIPT = "for i = 1, #KEYS do redis.call('SET', KEYS[i], '1', 'EX', ARGV[1]) end"


class Layout(Protocol):
    """A way to keep marks."""

    def seen(self, entries: Sequence[Entry]) -> object:
        """Look entries up."""

    def mark(self, entries: Sequence[Entry], lifetime_seconds: int) -> None:
        """Mark entries."""


class OneKeyEach:
    """The plain way: a key for each mark."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._mark = client.register_script(_PLAIN_SCRIPT)
        self._prefix = f"{key_prefix(TRAIL)}:plain:"

    def seen(self, entries: Sequence[Entry]) -> object:
        """Look entries up, with one command."""
        return self._client.mget(self._names(entries))

    def mark(self, entries: Sequence[Entry], lifetime_seconds: int) -> None:
        """Mark entries, with one command."""
        self._mark(keys=self._names(entries), args=[lifetime_seconds])

    def _names(self, entries: Sequence[Entry]) -> list[bytes]:
        return [f"{self._prefix}{entry.key}".encode() for entry in entries]


def entries(count: int, spread_seconds: int) -> Iterator[Entry]:
    """Return entries like Kong's, evenly spread, oldest first."""
    for number in range(count):
        digest = f"{number * 2654435761 % 2**64:032x}"  # as many characters as Kong's random ids
        yield Entry(None, digest, f"{digest}:{number:016x}", BEGIN + number * spread_seconds // count, 0)


def pages(count: int, spread_seconds: int) -> Iterator[list[Entry]]:
    """Return the same, in pages."""
    page: list[Entry] = []
    for entry in entries(count, spread_seconds):
        page.append(entry)
        if len(page) == PAGE_ENTRIES:
            yield page
            page = []


def bytes_each(count: int, spread_seconds: int) -> float:
    """Return the memory for each of so many marks."""
    with Valkey() as server, connect_to(server) as client:
        seen = ValkeySeenSet(client, TRAIL)
        seen.open()
        before = used_bytes(client)
        for page in pages(count, spread_seconds):
            seen.mark(page, RETENTION_SECONDS)
        return (used_bytes(client) - before) / count


def milliseconds_for_a_page(spread_seconds: int) -> Iterator[tuple[str, float, float]]:
    """Time look-ups of marked pages, and marking them in batches; yield the layout and the medians of both."""
    with Valkey() as server, connect_to(server) as client:
        marks = ValkeySeenSet(client, TRAIL)
        marks.open()
        contenders: dict[str, Layout] = {"one key each": OneKeyEach(client), "hours": marks}
        times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contenders}
        for page in pages(PAGES * PAGE_ENTRIES, spread_seconds):
            for name, contender in contenders.items():
                began = time.perf_counter()
                for begin in range(0, PAGE_ENTRIES, BATCH_ENTRIES):
                    contender.mark(page[begin : begin + BATCH_ENTRIES], RETENTION_SECONDS)
                marked = time.perf_counter()
                contender.seen(page)
                times[name][0].append(time.perf_counter() - marked)
                times[name][1].append(marked - began)
        for name, (look_ups, markings) in times.items():
            yield name, statistics.median(look_ups) * 1000, statistics.median(markings) * 1000


def connect_to(server: Valkey) -> redis.Redis:
    """Return a client as the collector has it."""
    return connect("127.0.0.1", server.port, db=0, tls=False, username=None, password=None, connections=2)


def used_bytes(client: redis.Redis) -> int:
    """Return the memory that the server uses."""
    used: int = client.info("memory")["used_memory"]
    return used


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--marks", type=int, nargs="*", default=[100_000, 1_000_000], help="how many, one or more")
    arguments = parser.parse_args()
    for count in arguments.marks:
        for spread, seconds in SPREADS_SECONDS.items():
            print(f"{count:>12,} marks {spread:<13} {bytes_each(count, seconds):6.1f} bytes each", flush=True)
    for rate, seconds in (("70", PAGES * PAGE_ENTRIES * 51), ("1,400", PAGES * PAGE_ENTRIES * 3), ("20,000", 3600)):
        for name, look_up, marking in milliseconds_for_a_page(seconds):
            print(f"page of 1000, {rate:>6} an hour, {name:<12}  look up {look_up:5.1f} ms, mark {marking:5.1f} ms")


if __name__ == "__main__":
    main()
