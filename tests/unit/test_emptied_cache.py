"""A cache that was emptied between two runs, on a gateway that cannot filter by time, or one of whose nodes cannot."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from kong_cloudtrail.errors import RunFailed

from tests.fakes import Kong, World
from tests.helpers import NOW, entries, entry

HOUR = 3600


def world_after_a_run() -> World:
    old = [entry(number, request_timestamp=NOW - 10 * HOUR - number) for number in range(5)]
    world = World(kong=Kong([*entries(3), *old], filters=False))
    world.run()
    world.live()
    world.kong.now = NOW + HOUR
    return world


def test_only_the_overlap_comes_twice() -> None:
    world = world_after_a_run()
    assert len(world.cloudtrail.accepted_ids) == 8
    world.seen.lose_everything()

    report = world.run()

    assert report.delivered == 3  # what is younger than the checkpoint less the overlap
    assert report.duplicates == 5


def test_what_is_taken_as_delivered_is_not_marked_and_not_delivered_later() -> None:
    world = world_after_a_run()
    world.seen.lose_everything()
    world.run()
    world.live()

    report = world.run()

    assert (report.delivered, report.duplicates) == (0, 8)
    assert len(world.seen.marks) == 3  # a mark says that an entry was delivered, and of the others nobody knows


def test_an_entry_that_shows_late_is_delivered_while_the_cache_is_whole() -> None:
    world = world_after_a_run()
    late = entry(99, request_timestamp=NOW - 10 * HOUR)
    world.kong.entries.append(late)

    world.run()

    assert world.is_settled(late)


def test_cache_that_is_emptied_again_before_a_run_could_finish_costs_no_more() -> None:
    world = world_after_a_run()
    for _ in range(3):
        world.seen.lose_everything()
        world.kong.fails_at_page = world.kong.pages_read + 1
        with pytest.raises(RunFailed, match="Kong is down"):
            world.run()
        world.live()
    world.kong.fails_at_page = None

    report = world.run()

    assert (report.delivered, report.duplicates) == (3, 5)


def test_a_date_that_is_none_does_not_make_an_entry_known() -> None:
    world = world_after_a_run()
    world.seen.lose_everything()
    odd = [entry(90 + number, request_timestamp=stamp) for number, stamp in enumerate((0, -1, 12))]
    world.kong.entries.extend(odd)

    world.run()

    assert all(world.is_settled(one) for one in odd)


def test_a_page_of_entries_without_a_date_does_not_hold_up_the_run() -> None:
    # `None in range(…)` walks through the whole range, which is as long as the years that it spans
    world = world_after_a_run()
    world.seen.lose_everything()
    undated = [entry(90 + number, request_timestamp=None) for number in range(20)]
    world.kong.entries.extend(undated)
    began = time.monotonic()

    world.run()

    assert time.monotonic() - began < 10
    assert all(world.is_settled(one) for one in undated)


def test_node_that_ignores_filters_makes_nothing_old_come_twice() -> None:
    # Given entries that were delivered long ago, and a cache that has lost their marks
    world = World(
        kong=Kong([entry(number, request_timestamp=NOW - number * HOUR) for number in range(1, 9)], page_size=3)
    )
    world.run()
    world.seen.lose_everything()
    world.kong.entries.append(entry(90, request_timestamp=NOW))
    world.run()
    before = Counter(world.cloudtrail.accepted_ids)

    # When a node of an older release answers in between, and shows all of them
    world.kong.page_size = 20
    world.kong.ignores_filter_at_page = world.kong.pages_read + 1
    world.run()

    assert "MIXED_CONTROL_PLANE" in world.telemetry.codes
    assert Counter(world.cloudtrail.accepted_ids) == before
