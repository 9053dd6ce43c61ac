"""No clock decides what is read: neither Kong's, nor a proxy's, nor our own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fakes import Kong, World
from tests.helpers import NOW, entries, entry

DAY, HOUR, MINUTE = 86_400, 3600, 60


def run_at(world: World, own: int, *, kong: int | None = None, date: int | None = None, **plan: object) -> None:
    """Run while our own clock, Kong's clock and the `Date` that we see show these times."""
    world.kong.now = own if kong is None else kong
    world.kong.clock = lambda: world.kong.now if date is None else date
    world.clock.time = float(own)
    world.live()
    world.run(**plan)


def record(world: World, *moments: int) -> list[dict[str, object]]:
    """Let Kong record entries at these times of its clock."""
    rows = [entry(len(world.kong.entries) + number, request_timestamp=moment) for number, moment in enumerate(moments)]
    world.kong.entries.extend(rows)
    return rows


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("date_is_ahead", [20 * MINUTE, 2 * HOUR, DAY])
def test_a_date_that_is_ahead_of_kong_hides_nothing(date_is_ahead: int, filters: bool) -> None:
    # Given a proxy with a clock of its own, or a Date with an offset that somebody ignored; no sweep helps
    world = World(kong=Kong(filters=filters, page_size=100))
    for hour in range(5):
        now = NOW + hour * HOUR
        record(world, *range(now - 50 * MINUTE, now, 5 * MINUTE))
        run_at(world, now + date_is_ahead, date=now + date_is_ahead, sweep_seconds=0)

    assert all(world.is_settled(row) for row in world.kong.entries)
    assert len(world.cloudtrail.accepted) == len(world.kong.entries)


@pytest.mark.parametrize("date", [0, NOW - DAY, NOW + DAY, None])
def test_no_date_of_a_proxy_hides_or_repeats_anything(date: int | None) -> None:
    world = World(kong=Kong(page_size=100))
    for hour in range(4):
        now = NOW + hour * HOUR
        record(world, *range(now - 50 * MINUTE, now, 5 * MINUTE))
        world.kong.clock = lambda: date
        world.clock.time = float(now)
        world.live()
        world.run(sweep_seconds=0)

    assert all(world.is_settled(row) for row in world.kong.entries)
    assert len(world.cloudtrail.accepted) == len(world.kong.entries)
    if date is None:
        assert world.telemetry.codes == []
        assert [window.after for window in world.kong.windows[1:] if window] == [
            NOW + hour * HOUR - 5 * MINUTE - 900 for hour in range(3)
        ]


def test_clock_of_kong_that_goes_back_for_a_while_hides_nothing_from_a_sweep() -> None:
    # Given a machine that was resumed: its clock is an hour behind between two runs, and right again at both
    world = World(kong=Kong(entries(20), page_size=100))
    run_at(world, NOW)
    hidden = record(world, *range(NOW - HOUR, NOW - HOUR + 50))
    run_at(world, NOW + HOUR)

    run_at(world, NOW + DAY + HOUR)

    assert all(world.is_settled(row) for row in hidden)
    report = world.telemetry.published[-1]
    assert (report.found_late, report.delivered) == (50, 50)
    assert report.max_lateness_seconds > 40 * MINUTE
    assert "ENTRIES_FOUND_LATE" in world.telemetry.codes


@pytest.mark.parametrize("overlap_seconds", [0, 900])
@pytest.mark.parametrize("since", [60, HOUR, 20 * HOUR])
@pytest.mark.parametrize("lose_marks", [None, "before", "after"])
@pytest.mark.parametrize("filters", [True, False])
def test_clocks_that_were_ahead_hide_nothing(
    overlap_seconds: int, since: int, lose_marks: str | None, filters: bool
) -> None:
    # Given a collector and a Kong on one machine, a day ahead, then right; perhaps with a cache that was emptied
    world = World(kong=Kong(entries(20), page_size=100, filters=filters))
    run_at(world, NOW - HOUR, overlap_seconds=overlap_seconds)
    record(world, *range(NOW + DAY, NOW + DAY + 20))
    if lose_marks == "before":
        world.seen.lose_everything()
    run_at(world, NOW + DAY + 20, overlap_seconds=overlap_seconds)
    if lose_marks == "after":
        world.seen.lose_everything()
    made_since = record(world, *range(NOW, NOW + since, max(since // 50, 1)))

    run_at(world, NOW + since, overlap_seconds=overlap_seconds)

    assert all(world.is_settled(row) for row in made_since)
    assert "CLOCK_JUMPED" in world.telemetry.codes
    if lose_marks is None:
        assert len(world.cloudtrail.accepted) == len(world.kong.entries)


def test_own_clock_that_was_ahead_brings_a_sweep_at_once() -> None:
    world = World(kong=Kong(entries(20), page_size=100))
    run_at(world, NOW + DAY, kong=NOW)
    hidden = record(world, NOW - 2 * HOUR)

    run_at(world, NOW + 60)

    assert all(world.is_settled(row) for row in hidden)
    assert "CLOCK_JUMPED" in world.telemetry.codes


@pytest.mark.parametrize("kong_is_ahead", [-DAY, -HOUR, HOUR, DAY])
def test_clocks_that_differ_for_good_lose_nothing_and_are_not_worth_a_word(kong_is_ahead: int) -> None:
    world = World(kong=Kong(page_size=100))
    for hour in range(5):
        now = NOW + hour * HOUR
        record(world, now + kong_is_ahead - 600)
        run_at(world, now, kong=now + kong_is_ahead, sweep_seconds=0)

    assert all(world.is_settled(row) for row in world.kong.entries)
    assert len(world.cloudtrail.accepted) == 5
    assert world.telemetry.codes == []


@pytest.mark.parametrize("jitter", [lambda run: 250 * (-1) ** run, lambda run: 800 * (run % 2)])
def test_nodes_whose_clocks_differ_by_less_than_the_overlap_are_not_worth_a_word(jitter: Callable[[int], int]) -> None:
    world = World(kong=Kong(page_size=100))
    for run in range(6):
        now = NOW + HOUR * run // 6
        record(world, now + jitter(run))
        run_at(world, now, kong=now + jitter(run), sweep_seconds=0)

    assert all(world.is_settled(row) for row in world.kong.entries)
    assert world.telemetry.codes == []


def test_clock_of_kong_that_is_seen_to_go_back_brings_a_sweep_at_once() -> None:
    world = World(kong=Kong(entries(20), page_size=100))
    run_at(world, NOW)
    hidden = record(world, NOW - 5 * HOUR)

    run_at(world, NOW + HOUR, kong=NOW - HOUR)

    assert all(world.is_settled(row) for row in hidden)
    assert "CLOCK_JUMPED" in world.telemetry.codes


def test_entry_of_the_future_does_not_drag_the_checkpoint_while_kong_tells_no_time() -> None:
    # Given a Kong whose clock is a day behind ours, which a proxy now hides, and an entry dated in between
    world = World(kong=Kong(page_size=100))
    record(world, NOW - DAY - 60)
    run_at(world, NOW, kong=NOW - DAY, sweep_seconds=0)
    record(world, NOW - DAY + HOUR)
    world.kong.clock = lambda: None
    world.clock.time = float(NOW + 60)
    world.live()
    world.run(sweep_seconds=0)

    assert world.complete_until == NOW - DAY - 60
