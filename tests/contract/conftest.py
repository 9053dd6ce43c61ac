"""What the tests of the Kong adapter connect with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.kong.simulator import KongSimulator
from tests.helpers import NOW, FakeClock
from tests.kong_client import Connect, connect_to


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def kong() -> Iterator[KongSimulator]:
    with KongSimulator() as simulator:
        simulator.set_clock(frozen_at=NOW)
        yield simulator


@pytest.fixture
def connect(clock: FakeClock) -> Connect:
    """Return a function that connects to a Kong; waits take no time."""
    return lambda url, **options: connect_to(url, clock, **options)
