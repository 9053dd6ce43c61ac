"""The process may be killed between any two things that it does to the world; the next runs make up for it.

Every port is a fake here, so that a run can be ended at each of its steps in turn, before and after the step's effect.
Real processes are killed elsewhere, at random.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from kong_cloudtrail.destinations.cloudtrail.destination import failure_of
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.errors import BatchRefused, RunFailed
from kong_cloudtrail.ports import Answer
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.fakes import Death, Kong, World
from tests.helpers import NOW, entries, entry

BAD, TRICKLING, POISON = (f"{number:032d}" for number in (3, 5, 7))


def new_world(*, filters: bool) -> World:
    """Return a world with one of everything that can become of an entry, over two slices."""
    rows: list[object] = [
        *entries(8),
        None,  # no event can be made of it
        entry(9, payload="x" * 150_000),  # delivered shortened, the original in the ledger
        *(entry(number, request_timestamp=NOW - 100_000 - number) for number in (10, 11)),
    ]
    world = World(kong=Kong(rows, filters=filters, page_size=5))
    throttlings = iter([True, True])

    def react(events: Sequence[Event]) -> Answer:
        ids = {event.id for event in events}
        if POISON in ids:
            raise BatchRefused("SerializationException", "CloudTrail refused the call for its content.")
        failed = {BAD: failure_of("InvalidData", "")} if BAD in ids else {}
        if TRICKLING in ids and next(throttlings, False):
            failed[TRICKLING] = failure_of("Throttling", "")
        return Answer(frozenset(ids - failed.keys()), failed)

    world.cloudtrail.always = react
    return world


def run_until_death(world: World, dies_at: int | None) -> int:
    """Run, perhaps until a step at which the process is killed; return the number of steps that it came to."""
    life = world.live(dies_at)
    try:
        world.run(parallel_deliveries=1)
    except Death:
        assert life.is_over
    except RunFailed:
        assert life.is_over, "without a death nothing fails here"
    return life.steps


def deaths(filters: bool) -> Iterator[int]:
    """Return every step of a whole life; a few more, as threads take turns differently each time."""
    return iter(range(1, run_until_death(new_world(filters=filters), None) + 6))


def in_flight(world: World) -> set[str]:
    """Return what was accepted but not marked when the process died: what the next run cannot know of."""
    return {event.id for event in world.cloudtrail.accepted if event.entry.key not in world.seen.marks}


def assert_all_is_well(world: World, might_come_twice: set[str]) -> None:
    world.live()  # looking at the world is no step of a run
    # Every entry is settled, and marked
    for row in world.kong.entries:
        assert world.is_settled(row)
        assert world.is_marked(row)
    # Nothing is marked that is not settled
    assert len(world.seen.marks) == len(world.kong.entries)
    # Nothing came twice but what was in flight
    doubles = {event_id for event_id, times in Counter(world.cloudtrail.accepted_ids).items() if times > 1}
    assert doubles <= might_come_twice
    # What was shortened can be found
    [original] = world.store.documents("originals/")
    assert original["request_id"] == f"{9:032d}"
    # Quarantine holds what it should and nothing else
    assert {read_entry(record["entry"]).id for record in world.quarantined} == {
        BAD,
        POISON,
        read_entry(None).id,
    }
    # The checkpoint says that all is done, and the run reports tell of it without a gap
    assert world.complete_until == (NOW - 1 if world.kong.filters else NOW - 2)
    assert world.ledger.load_checkpoint().gaps == ()
    assert list(world.ledger.verify_reports()) == []


@pytest.mark.parametrize("filters", [True, False], ids=["filtering gateway", "gateway without filters"])
def test_killed_at_any_step(filters: bool) -> None:
    for step in deaths(filters):
        world = new_world(filters=filters)
        run_until_death(world, step)
        might_come_twice = in_flight(world)

        run_until_death(world, None)

        assert_all_is_well(world, might_come_twice)


@pytest.mark.parametrize("filters", [True, False], ids=["filtering gateway", "gateway without filters"])
def test_killed_again_and_again(filters: bool) -> None:
    # Given a process that never comes further than some steps beyond where it last came to
    for stride in (7, 12, 19, 29):
        world = new_world(filters=filters)
        might_come_twice: set[str] = set()
        for patience in range(stride, 40 * stride, stride):
            steps = run_until_death(world, patience)
            might_come_twice |= in_flight(world)
            if steps < patience:
                break
        else:
            pytest.fail("never finished")

        assert_all_is_well(world, might_come_twice)


@pytest.mark.parametrize("filters", [True, False], ids=["filtering gateway", "gateway without filters"])
def test_a_life_without_death_sends_nothing_twice(filters: bool) -> None:
    world = new_world(filters=filters)
    run_until_death(world, None)
    calls = len(world.cloudtrail.calls)

    run_until_death(world, None)

    assert_all_is_well(world, set())
    assert len(world.cloudtrail.calls) == calls


def test_marks_lost_with_the_process_cost_duplicates_but_no_entry() -> None:
    # Given a death after which Redis comes back empty: the checkpoint decides what is read again
    for step in deaths(True):
        world = new_world(filters=True)
        run_until_death(world, step)
        world.seen.marks.clear()

        run_until_death(world, None)

        lost: list[Any] = [row for row in world.kong.entries if not world.is_settled(row)]
        assert lost == []
