"""Entries of megabytes, one after the other, while CloudTrail is slow: memory stays bounded."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator, Sequence

from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.ports import Answer, Page
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.fakes import Kong, Store, World, accept_all
from tests.helpers import entry

ENTRIES = 40
ENTRY_BYTES = 2_100_000


class HeavyKong(Kong):
    def pages(self, window: Window | None, resume: str | None = None) -> Iterator[Page]:
        for number in range(ENTRIES):
            is_last = number == ENTRIES - 1
            row = entry(number, payload=f"{number:07}" * (ENTRY_BYTES // 7))
            yield Page([read_entry(row)], None if is_last else str(number), is_last=is_last)


class ForgetfulStore(Store):
    def write(self, name: str, body: bytes) -> None:
        self.objects[name] = b""


def accept_slowly(events: Sequence[Event]) -> Answer:
    time.sleep(0.3)
    return accept_all(events)


def test_heavy_entries_do_not_pile_up_while_cloudtrail_is_slow() -> None:
    world = World(kong=HeavyKong(filters=False), store=ForgetfulStore())
    world.cloudtrail.deliver = accept_slowly  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        assert world.run(parallel_deliveries=8).delivered == ENTRIES
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < ENTRIES * ENTRY_BYTES  # all of them, each twice (parsed and as JSON), would be twice as much
