"""Delivering what lies in quarantine: what is accepted leaves it, what is not stays, and nothing is lost in between."""

from __future__ import annotations

import json

import pytest
from kong_cloudtrail.errors import BatchRefused, DestinationUnavailable, LedgerError
from kong_cloudtrail.operations.release import QuarantineRelease, Released
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.fakes import TRAIL, Kong, World, accept_all, fail_with, refuse
from tests.helpers import GATEWAY, entries, entry


def world_with_a_quarantine(*odd: object) -> World:
    world = World(kong=Kong([*entries(3), *odd]))
    world.cloudtrail.always = refuse("InvalidData")
    world.run()
    world.cloudtrail.always = accept_all
    return world


def release(world: World) -> Released:
    return QuarantineRelease(world.ledger, world.cloudtrail).run()


def test_delivers_everything_as_the_run_would_have() -> None:
    world = world_with_a_quarantine()

    assert release(world) == Released(delivered=3)

    delivered = {event.id: json.loads(event.data) for event in world.cloudtrail.accepted}
    assert delivered.keys() == {row["request_id"] for row in entries(3)}
    for event in delivered.values():
        assert event["version"] == GATEWAY.version
        assert event["additionalEventData"]["hostname"] == GATEWAY.hostname
    assert world.quarantined == []
    assert len(world.store.documents("released/")) == 3


def test_what_is_refused_again_stays() -> None:
    world = world_with_a_quarantine(entry(9, request_timestamp="yesterday"))
    world.cloudtrail.always = refuse("InvalidData", f"{2:032d}")

    outcome = release(world)

    assert outcome.delivered == 2
    assert sorted(outcome.refused.values()) == ["InvalidData", "NotMappable"]
    assert set(outcome.refused) == set(world.store.names("quarantine/"))


def test_a_call_that_is_refused_for_its_content_keeps_its_entry_only() -> None:
    world = world_with_a_quarantine()
    world.cloudtrail.script = [fail_with(BatchRefused("ValidationException", "no"))]

    outcome = release(world)

    assert (outcome.delivered, list(outcome.refused.values())) == (2, ["ValidationException"])


def test_what_the_answer_does_not_name_stays() -> None:
    world = world_with_a_quarantine()
    world.cloudtrail.always = lambda _: accept_all([])

    assert set(release(world).refused.values()) == {"Unconfirmed"}
    assert len(world.quarantined) == 3


def test_what_is_too_large_is_kept_whole_before_it_is_delivered() -> None:
    world = world_with_a_quarantine(entry(9, payload="x" * 300_000))
    for name in list(world.store.names("originals/")):
        del world.store.objects[name]

    assert release(world).delivered == 4

    assert len(list(world.store.names("originals/"))) == 1


ILL = DestinationUnavailable("InternalServerError", "CloudTrail is ill.")


@pytest.mark.parametrize("accepted_first", [0, 1])
def test_cloudtrail_away_costs_nothing(accepted_first: int) -> None:
    world = world_with_a_quarantine(*entries(7, first=10))
    world.cloudtrail.script = [accept_all] * accepted_first
    world.cloudtrail.always = fail_with(ILL)
    with pytest.raises(DestinationUnavailable):
        release(world)
    assert len(world.cloudtrail.calls) <= 10
    assert len(world.quarantined) == 10 - accepted_first

    world.cloudtrail.always = accept_all
    assert release(world).delivered == 10 - accepted_first
    assert sorted(world.cloudtrail.accepted_ids) == sorted(read_entry(row).id for row in world.kong.entries)


def test_a_call_that_fails_keeps_its_entry_and_not_those_behind_it() -> None:
    world = world_with_a_quarantine()
    world.cloudtrail.script = [fail_with(ILL)]

    outcome = release(world)

    assert (outcome.delivered, list(outcome.refused.values())) == (2, ["InternalServerError"])


def test_the_only_one_that_fails_says_why() -> None:
    world = world_with_a_quarantine()
    for name in list(world.store.names("quarantine/"))[1:]:
        del world.store.objects[name]
    world.cloudtrail.always = fail_with(ILL)

    with pytest.raises(DestinationUnavailable, match="ill"):
        release(world)


def test_something_else_in_the_quarantine_is_named() -> None:
    world = world_with_a_quarantine()
    world.store.objects[f"quarantine/{TRAIL}/notes.txt"] = b"look here"

    with pytest.raises(LedgerError, match=r"notes\.txt"):
        release(world)


def test_no_run_delivers_it_once_more() -> None:
    world = world_with_a_quarantine()
    release(world)
    world.live()

    assert world.run().delivered == 0
