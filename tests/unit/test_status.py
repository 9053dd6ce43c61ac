"""Status: what the ledger and the cache tell of a trail, and what is said where they cannot be read."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

import pytest
from kong_cloudtrail.domain.checkpoint import Checkpoint, OpenGap, Position
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import SecretUnavailable, SeenSetUnavailable
from kong_cloudtrail.operations.installation import Installation
from kong_cloudtrail.operations.status import StatusRequest, perform
from kong_cloudtrail.operations.verb import no_progress
from kong_cloudtrail.ports import CacheGauge, CacheMemory, Failure
from kong_cloudtrail.sources.kong.entries import read_entry
from kong_cloudtrail.state.ledger import Ledger

from tests.fakes import Store
from tests.helpers import GATEWAY, NOW, TRAIL, FakeClock, entry

MEMORY = CacheMemory(used_bytes=100, limit_bytes=1000, policy="noeviction", entries_left=4)


class Gauge:
    def __init__(self, reading: CacheMemory | Exception | None) -> None:
        self.reading = reading

    def measure(self) -> CacheMemory | None:
        if isinstance(self.reading, Exception):
            raise self.reading
        return self.reading


class Parts:
    """What status uses of a trail's parts."""

    def __init__(self) -> None:
        self.trail = TRAIL
        self.store = Store()
        self.ledger = Ledger(self.store, TRAIL, FakeClock())
        self.gauge: CacheGauge | Exception | None = Gauge(MEMORY)

    @property
    def cache_gauge(self) -> CacheGauge | None:
        if isinstance(self.gauge, Exception):
            raise self.gauge
        return self.gauge

    def save(self, report: RunReport | None = None, **fields: Any) -> None:
        checkpoint = Checkpoint(**fields)
        if report is not None:
            checkpoint = self.ledger.add_report(report, checkpoint)
        self.ledger.save_checkpoint(checkpoint)


class Site:
    def __init__(self, *trails: Parts) -> None:
        self.clock = FakeClock()
        self.trails = trails


@pytest.fixture
def parts() -> Parts:
    return Parts()


def look(*trails: Parts) -> dict[str, Any]:
    return perform(StatusRequest(), cast(Installation, Site(*trails)), no_progress).document()


def trail(parts: Parts) -> Mapping[str, Any]:
    shown: Mapping[str, Any] = look(parts)["trails"][0]
    return shown


def test_before_the_first_run_nothing_is_invented(parts: Parts) -> None:
    shown = trail(parts)

    assert (shown["caught_up_at"], shown["lag_seconds"], shown["oldest_undelivered_age_seconds"]) == (None, None, None)
    assert (shown["last_report"], shown["gaps"], shown["quarantine_open"]) == (None, [], 0)
    assert shown["problems"] == []


def test_after_a_run_that_delivered_everything(parts: Parts) -> None:
    report = RunReport(TRAIL, "run-1", fetched=5, duplicates=2, delivered=3, finished=True)
    parts.save(report, complete_until=NOW - 300, caught_up_at=NOW - 120, first_run_at=NOW - 9000)

    shown = trail(parts)

    assert (shown["lag_seconds"], shown["oldest_undelivered_age_seconds"]) == (120, 120)
    assert shown["last_report"] | {"run_seconds": 0} == {
        "number": 1,
        "run_id": "run-1",
        "finished": True,
        "fetched": 5,
        "duplicates": 2,
        "excluded": 0,
        "delivered": 3,
        "quarantined": 0,
        "failed": 0,
        "backlog": 0,
        "run_seconds": 0,
        "written_at": NOW,
    }


def test_a_backlog_is_as_old_as_what_was_settled_last(parts: Parts) -> None:
    position = Position(Window(NOW - 8000, NOW), "x", None, NOW, NOW - 60)
    parts.save(complete_until=NOW - 8000, first_run_at=NOW - 60, reading=position)

    shown = trail(parts)

    assert shown["is_reading"]
    assert (shown["lag_seconds"], shown["oldest_undelivered_age_seconds"]) == (60, 8000)


def test_a_gap_is_older_than_the_checkpoint(parts: Parts) -> None:
    gap = OpenGap(Window(NOW - 50_000, NOW - 49_999), "unreadable", "status 500", NOW - 40_000)
    parts.save(complete_until=NOW - 300, caught_up_at=NOW - 120, gaps=(gap,))

    shown = trail(parts)

    assert shown["oldest_undelivered_age_seconds"] == 50_000
    assert shown["gaps"] == [
        {
            "after": NOW - 50_000,
            "before": NOW - 49_999,
            "kind": "unreadable",
            "reason": "status 500",
            "since": NOW - 40_000,
        }
    ]


def test_request_times_are_those_of_the_gateways_clock(parts: Parts) -> None:
    parts.save(complete_until=NOW + 3500, caught_up_at=NOW - 120, gateway_ahead_seconds=3600)

    assert trail(parts)["oldest_undelivered_age_seconds"] == 100


def test_quarantine_is_counted(parts: Parts) -> None:
    for number in (1, 2):
        parts.ledger.quarantine(read_entry(entry(number)), GATEWAY, Failure("InvalidData", ""), 1)

    assert trail(parts)["quarantine_open"] == 2


def test_report_that_somebody_removed_is_said(parts: Parts) -> None:
    parts.save(RunReport(TRAIL, "run-1"), caught_up_at=NOW)
    del parts.store.objects["runs/kong/requests/cloudtrail-lake/0000000001.json"]

    shown = trail(parts)

    assert shown["last_report"] is None
    assert shown["problems"] == [f"Run report 1 of {TRAIL.path} is missing or altered: see verify."]


def test_a_trail_that_cannot_be_read_does_not_hide_the_others(parts: Parts) -> None:
    broken = Parts()
    broken.store.refuses = lambda name: name.startswith("checkpoints/")
    parts.save(caught_up_at=NOW - 120)

    document = look(broken, parts)

    assert [each["lag_seconds"] for each in document["trails"]] == [None, 120]
    assert [bool(each["problems"]) for each in document["trails"]] == [True, False]
    assert document["cache"]["entries_left"] == 4


def test_checkpoint_is_shown_where_the_quarantine_cannot_be_read(parts: Parts) -> None:
    parts.save(caught_up_at=NOW - 120)
    parts.store.refuses = lambda name: name.startswith("quarantine/")

    shown = trail(parts)

    assert (shown["lag_seconds"], shown["quarantine_open"]) == (120, None)
    assert len(shown["problems"]) == 1


@pytest.mark.parametrize(
    ("gauge", "words"),
    [
        (Gauge(SeenSetUnavailable("The cache did not answer.")), "did not answer"),
        (SecretUnavailable("The secret is empty."), "secret is empty"),
        (Gauge(None), "+info"),
    ],
)
def test_cache_that_cannot_be_read_is_said(parts: Parts, gauge: Any, words: str) -> None:
    parts.gauge = gauge
    parts.save(caught_up_at=NOW - 120)

    document = look(parts)

    assert (document["cache"], len(document["problems"])) == (None, 1)
    assert words in document["problems"][0]
    assert document["trails"][0]["lag_seconds"] == 120


def test_trails_without_a_cache(parts: Parts) -> None:
    parts.gauge = None

    assert (look(parts)["cache"], look(parts)["problems"]) == (None, [])


def test_trails_are_looked_at_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)

    class Slow(Store):
        def read(self, name: str) -> Any:
            if name.startswith("checkpoints/"):
                both.wait()
            return super().read(name)

    trails = [Parts(), Parts()]
    for parts in trails:
        parts.store = Slow()
        parts.ledger = Ledger(parts.store, TRAIL, FakeClock())

    document = perform(StatusRequest(), cast(Installation, Site(*trails)), no_progress).document()

    assert [trail["problems"] for trail in document["trails"]] == [[], []]
