"""Whatever clocks, nodes, proxies and failures do between and during runs: after a sweep, every entry has arrived.

A history is drawn: entries are recorded and become visible at once or late, clocks jump, Kong and CloudTrail and the
ledger fail, runs are short or killed. Then all of it heals, and a few ordinary runs must deliver what is missing, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kong_cloudtrail.domain.checkpoint import Checkpoint
from kong_cloudtrail.domain.exclusion import Exclusion, Rule
from kong_cloudtrail.errors import DestinationUnavailable, RunFailed
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.fakes import Death, Kong, World, accept_all, fail_with, refuse
from tests.helpers import NOW, Budget, entry, examples

HOUR, DAY = 3600, 86_400

KINDS = {
    "filtering gateway": {"filters": True},
    "filtering gateway, in any order": {"filters": True, "newest_first": False},
    "gateway without filters": {"filters": False},
}

Step = tuple[str, int, int]


class History:
    """A world, and the true time, from which its clocks may differ."""

    def __init__(self, *, page_size: int, filters: bool, newest_first: bool = True) -> None:
        self.time = NOW
        self.kong_offset = self.own_offset = 0
        self.date_offset: int | None = None
        self.visible_at: dict[str, int] = {}
        self.rows: list[dict[str, Any]] = []
        self.poisoned: set[str] = set()
        self.has_died = False
        self.world = World(kong=Kong(page_size=page_size, filters=filters, newest_first=newest_first))
        kong = self.world.kong
        kong.hides = lambda row: self.visible_at[self.id_of(row)] > self.time
        kong.poison = lambda row: self.id_of(row) in self.poisoned
        kong.own_clock = lambda: self.time + self.own_offset
        kong.clock = lambda: None if self.date_offset is None else self.time + self.date_offset
        self.plan: dict[str, Any] = {"overlap_seconds": 900}

    @staticmethod
    def id_of(row: object) -> str:
        assert isinstance(row, dict)
        return str(row["request_id"])

    def record(self, count: int, lateness_seconds: int) -> None:
        for _ in range(count):
            number = len(self.rows) + 1
            row = entry(number, request_timestamp=self.time + self.kong_offset - number % 3)
            self.rows.append(row)
            self.visible_at[row["request_id"]] = self.time + lateness_seconds
            # Without filters rows come in no order.
            self.world.kong.entries.insert(number * 7919 % len(self.rows), row)

    def run(self, *, pages: int | None = None, dies_at: int | None = None) -> None:
        world = self.world
        world.live()
        before = world.ledger.load_checkpoint()
        world.live(dies_at)
        world.clock.time = float(self.time + self.own_offset)
        pages_at_start = world.kong.pages_read
        short = Budget(lambda: 100.0 if world.kong.pages_read - pages_at_start < (pages or 0) else 25.0)
        world.budget = Budget() if pages is None else short
        shown = [row for row in self.rows if self.visible_at[row["request_id"]] <= self.time]
        try:
            world.run(**self.plan)
        except Death:
            self.has_died = True
        except RunFailed:
            pass
        world.live()
        if before.reading is None:
            self.check_checkpoint(before, shown)

    def check_checkpoint(self, before: Checkpoint, shown: list[dict[str, Any]]) -> None:
        """Fail if the checkpoint passed an entry that the run was shown, or should have been, and did not deliver."""
        after = self.world.ledger.load_checkpoint()
        if after.complete_until == before.complete_until:
            return
        looked_at_from = (before.complete_until or 0) - self.plan["overlap_seconds"]
        for row in shown:
            moment = row["request_timestamp"]
            in_a_gap = any(
                gap.window is None or gap.window.after <= moment < (gap.window.before or moment + 1)
                for gap in after.gaps
            )
            if looked_at_from <= moment < (after.complete_until or 0) and not in_a_gap:
                assert self.world.is_settled(row) or self.excludes(row), f"the checkpoint passed {row['request_id']}"

    def excludes(self, row: dict[str, Any]) -> bool:
        rules: Exclusion = self.plan.get("exclusion", Exclusion())
        return rules.rule_of(read_entry(row)) is not None

    def heal(self) -> None:
        world = self.world
        self.poisoned.clear()
        self.kong_offset = self.own_offset = 0
        self.date_offset = 0
        world.kong.fails_at_page = world.kong.ignores_filter_at_page = None
        world.cloudtrail.always = accept_all
        world.store.is_read_only = False
        self.time = max(self.time, *self.visible_at.values(), NOW) + 3 * DAY


def next_page(history: History, number: int) -> int:
    return history.world.kong.pages_read + number


STEPS: dict[str, Callable[[History, int, int], None]] = {
    "record": lambda history, count, _: history.record(count % 9 + 1, 0),
    "record late": lambda history, count, late: history.record(count % 3 + 1, late * 997 % (2 * DAY)),
    "wait": lambda history, seconds, _: setattr(history, "time", history.time + seconds * 37),
    "run": lambda history, *_: history.run(),
    "short run": lambda history, pages, _: history.run(pages=pages % 4),
    "killed run": lambda history, step, _: history.run(dies_at=step + 1),
    "Kong's clock": lambda history, hours, sign: setattr(history, "kong_offset", (hours % 30 - 15) * HOUR * (sign % 2)),
    "own clock": lambda history, hours, sign: setattr(history, "own_offset", (hours % 30 - 15) * HOUR * (sign % 2)),
    "proxy's date": lambda history, hours, none: setattr(
        history, "date_offset", None if none % 3 == 0 else (hours % 30 - 15) * HOUR
    ),
    "a page fails": lambda history, number, _: setattr(
        history.world.kong, "fails_at_page", next_page(history, number % 4 + 1)
    ),
    "a node ignores filters": lambda history, number, _: setattr(
        history.world.kong, "ignores_filter_at_page", next_page(history, number % 4 + 1)
    ),
    "poison": lambda history, number, _: history.poisoned.update(
        [history.rows[number % len(history.rows)]["request_id"]] if history.rows else []
    ),
    "CloudTrail is down": lambda history, *_: setattr(
        history.world.cloudtrail, "always", fail_with(DestinationUnavailable("InternalFailure", "CloudTrail is ill."))
    ),
    "CloudTrail throttles an entry": lambda history, number, _: setattr(
        history.world.cloudtrail, "always", refuse("Throttling", f"{number % 40:032d}")
    ),
    "CloudTrail is well": lambda history, *_: setattr(history.world.cloudtrail, "always", accept_all),
    "the ledger cannot be written": lambda history, *_: setattr(history.world.store, "is_read_only", True),
    "the ledger is well": lambda history, *_: setattr(history.world.store, "is_read_only", False),
    "release": lambda history, number, _: setattr(history.world.kong, "version", f"3.{number % 3}"),
}

steps = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 200), st.integers(0, 200)), max_size=25)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(steps=steps, page_size=st.integers(1, 5))
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_after_a_sweep_everything_has_arrived_once(kind: dict[str, bool], steps: list[Step], page_size: int) -> None:
    history = History(page_size=page_size, **kind)
    history.record(3, 0)
    for name, one, other in steps:
        STEPS[name](history, one, other)

    history.heal()
    for _ in range(3):
        history.run()

    world = history.world
    missing = [row["request_id"] for row in history.rows if not world.is_settled(row)]
    assert missing == []
    if not history.has_died:
        twice = [event_id for event_id, times in Counter(world.cloudtrail.accepted_ids).items() if times > 1]
        assert twice == []
    report = world.telemetry.published[-1]
    assert (report.finished, report.gaps, report.delivered, report.failed) == (True, 0, 0, 0)
    assert list(world.ledger.verify_reports()) == []


NO_LATENESS = sorted(STEPS.keys() - {"record late", "Kong's clock", "own clock", "proxy's date", "release"})
steps_without_lateness = st.lists(
    st.tuples(st.sampled_from(NO_LATENESS), st.integers(0, 200), st.integers(0, 200)), max_size=25
)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(steps=steps_without_lateness, page_size=st.integers(1, 5))
@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_shows_in_time_arrives_without_a_sweep(kind: dict[str, bool], steps: list[Step], page_size: int) -> None:
    history = History(page_size=page_size, **kind)
    history.plan["sweep_seconds"] = 0
    history.record(3, 0)
    for name, one, other in steps:
        STEPS[name](history, one, other)

    history.heal()
    for _ in range(3):
        history.run()

    assert [row["request_id"] for row in history.rows if not history.world.is_settled(row)] == []
    report = history.world.telemetry.published[-1]
    assert (report.finished, report.gaps, report.delivered, report.failed) == (True, 0, 0, 0)


CALM = ("record", "wait", "run", "short run", "killed run", "a page fails", "CloudTrail is down", "CloudTrail is well")
calm_steps = st.lists(st.tuples(st.sampled_from(CALM), st.integers(0, 200), st.integers(0, 200)), max_size=12)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(before=calm_steps, after=calm_steps)
@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_emptied_cache_costs_duplicates_and_no_entry(
    kind: dict[str, bool], before: list[Step], after: list[Step]
) -> None:
    history = History(page_size=3, **kind)
    history.record(3, 0)
    for name, one, other in before:
        STEPS[name](history, one, other)
    history.world.seen.lose_everything()
    for name, one, other in after:
        STEPS[name](history, one, other)

    history.heal()
    for _ in range(3):
        history.run()

    assert [row["request_id"] for row in history.rows if not history.world.is_settled(row)] == []
    # What may come twice is bounded: each entry at most once more for the cache, and once for each death
    if not history.has_died:
        assert max(Counter(history.world.cloudtrail.accepted_ids).values()) <= 2


EVERY_FOURTH = Exclusion([Rule("every fourth", lambda fields: int(fields["request_id"]) % 4 == 0)])
COUNTED = sorted(set(NO_LATENESS) - {"poison", "a node ignores filters"})
steps_that_count = st.lists(st.tuples(st.sampled_from(COUNTED), st.integers(0, 200), st.integers(0, 200)), max_size=25)


def excluded_in(history: History, steps: list[Step]) -> tuple[int, int]:
    """Work a history off with a rule; return how many entries were counted as excluded, and how many there are."""
    history.plan["exclusion"] = EVERY_FOURTH
    history.record(3, 0)
    for name, one, other in steps:
        STEPS[name](history, one, other)
    history.heal()
    for _ in range(3):
        history.run()
    excluded = [row for row in history.rows if history.excludes(row)]
    others = [row for row in history.rows if not history.excludes(row)]
    assert not [row for row in excluded if history.world.is_settled(row)]
    assert [row for row in others if not history.world.is_settled(row)] == []
    assert list(history.world.ledger.verify_reports()) == []
    return history.world.ledger.load_checkpoint().excluded.totals.get("every fourth", 0), len(excluded)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(steps=steps_that_count, page_size=st.integers(1, 5))
@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_excluded_entries_are_counted_once_whatever_fails(
    kind: dict[str, bool], steps: list[Step], page_size: int
) -> None:
    counted, present = excluded_in(History(page_size=page_size, **kind), steps)

    assert counted == present


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(steps=steps, page_size=st.integers(1, 5))
@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_excluded_entry_is_counted_twice(kind: dict[str, bool], steps: list[Step], page_size: int) -> None:
    counted, present = excluded_in(History(page_size=page_size, **kind), steps)

    assert counted <= present
