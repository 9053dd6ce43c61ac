"""Quarantine: what is accepted leaves it, what is not stays, what is discarded is kept, and nothing is lost between."""

from __future__ import annotations

import contextlib
import json
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from kong_cloudtrail.errors import (
    BatchRefused,
    DestinationUnavailable,
    LedgerError,
    RequestInvalid,
    SeenSetUnavailable,
)
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.fakes import TRAIL, Death, Kong, World, accept_all, fail_with, refuse
from tests.helpers import GATEWAY, NOW, REPOSITORY, Budget, entries, entry
from tests.installed import Installed, Parts

FOLDER = f"quarantine/{TRAIL}/"
ILL = DestinationUnavailable("InternalServerError", "CloudTrail is ill.")


def world_with_a_quarantine(*odd: object) -> World:
    world = World(kong=Kong([*entries(3), *odd]))
    world.cloudtrail.always = refuse("InvalidData")
    world.run()
    world.cloudtrail.always = accept_all
    return world


@cache
def schema() -> Draft202012Validator:
    document = json.loads((REPOSITORY / "docs" / "schemas" / "quarantine.json").read_text())
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


def ask(world: World, action: str, **fields: object) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(Installed(world).ask("quarantine", action=action, **fields)))
    schema().validate(document)
    return document


def replay(world: World, *names: str, dry_run: bool = False) -> dict[str, Any]:
    """Replay, and return what became of the only trail."""
    document = ask(world, "replay", names=list(names), dry_run=dry_run)
    [trail] = document["trails"]
    assert document["finished"] == (not trail["left"] and not trail["skipped"])
    return {"codes": sorted(each["code"] for each in trail["refused_entries"]), **trail}


def names(world: World) -> list[str]:
    return [each["name"] for each in ask(world, "list")["entries"]]


class TestReplay:
    def test_delivers_everything_as_the_run_would_have(self) -> None:
        world = world_with_a_quarantine()

        assert replay(world)["delivered"] == 3

        delivered = {event.id: json.loads(event.data) for event in world.cloudtrail.accepted}
        assert delivered.keys() == {row["request_id"] for row in entries(3)}
        for event in delivered.values():
            assert event["version"] == GATEWAY.version
            assert event["additionalEventData"]["hostname"] == GATEWAY.hostname
        assert world.quarantined == []
        released = world.store.documents("released/")
        assert sorted(record["id"] for record in released) == [row["request_id"] for row in entries(3)]
        assert {record["released"]["at"] for record in released} == {NOW}

    def test_marks_what_it_delivers_for_as_long_as_the_source_shows_it(self) -> None:
        world = world_with_a_quarantine()
        world.seen.lose_everything()
        world.clock.time += 86_400

        replay(world)

        assert world.seen.marks == {read_entry(row).key: 2_591_990 - 86_400 + 3600 + 1800 for row in entries(3)}

    def test_packs_many_into_few_calls(self) -> None:
        world = World(kong=Kong(entries(250), page_size=250))
        world.cloudtrail.always = refuse("InvalidData")
        world.run()
        world.cloudtrail.always, world.cloudtrail.calls = accept_all, []

        assert replay(world)["delivered"] == 250
        assert len(world.cloudtrail.calls) == 3

    def test_only_those_that_are_named(self) -> None:
        world = world_with_a_quarantine()
        first, *others = names(world)

        assert replay(world, f"s3://bucket/{FOLDER}{first}.json")["delivered"] == 1
        assert names(world) == others

    def test_does_nothing_at_all_if_one_of_them_is_not_there(self) -> None:
        world = world_with_a_quarantine()

        with pytest.raises(RequestInvalid, match="no entry mistyped in quarantine"):
            replay(world, names(world)[0], "mistyped")
        assert world.cloudtrail.accepted == []

    def test_what_is_refused_again_stays_with_its_first_reason(self) -> None:
        world = world_with_a_quarantine(entry(9, request_timestamp="yesterday"))
        before = dict(world.store.objects)
        world.cloudtrail.always = refuse("FieldTooLong", f"{2:032d}")

        outcome = replay(world)

        assert (outcome["delivered"], outcome["codes"]) == (2, ["FieldTooLong", "NotMappable"])
        assert sorted(each["name"] for each in outcome["refused_entries"]) == names(world)
        assert all(world.store.objects[name] == before[name] for name in world.store.names("quarantine/"))
        assert world.telemetry.codes.count("ENTRY_QUARANTINED") == 4

    def test_a_call_that_is_refused_for_its_content_keeps_that_entry_only(self) -> None:
        world = world_with_a_quarantine()
        bad = f"{2:032d}"
        world.cloudtrail.always = lambda events: (
            fail_with(BatchRefused("ValidationException", "no"))(events)
            if bad in [event.id for event in events]
            else accept_all(events)
        )

        outcome = replay(world)

        assert (outcome["delivered"], outcome["codes"]) == (2, ["ValidationException"])

    def test_what_the_answer_does_not_name_stays(self) -> None:
        world = world_with_a_quarantine()
        world.cloudtrail.always = lambda _: accept_all([])

        with pytest.raises(DestinationUnavailable):
            replay(world)
        assert len(world.quarantined) == 3

    def test_what_is_too_large_is_kept_whole_before_it_is_delivered(self) -> None:
        world = world_with_a_quarantine(entry(9, payload="x" * 300_000))
        for name in list(world.store.names("originals/")):
            del world.store.objects[name]

        assert replay(world)["delivered"] == 4
        assert len(list(world.store.names("originals/"))) == 1

    @pytest.mark.parametrize("accepted_first", [0, 1])
    def test_cloudtrail_away_costs_nothing(self, accepted_first: int) -> None:
        world = world_with_a_quarantine(*entries(247, first=10))
        world.cloudtrail.accepted = []
        world.cloudtrail.script = [accept_all] * accepted_first
        world.cloudtrail.always = fail_with(ILL)
        with pytest.raises(DestinationUnavailable):
            replay(world)
        assert len(world.quarantined) == 250 - len(world.cloudtrail.accepted)

        world.cloudtrail.always = accept_all
        assert replay(world)["left"] == 0
        assert sorted(world.cloudtrail.accepted_ids) == sorted(read_entry(row).id for row in world.kong.entries)

    def test_a_call_that_fails_once_is_made_again(self) -> None:
        world = world_with_a_quarantine()
        world.cloudtrail.script = [fail_with(ILL)]

        assert replay(world)["delivered"] == 3

    def test_sends_nothing_that_it_could_not_mark(self) -> None:
        world = world_with_a_quarantine()
        world.seen.fails_to_tell = True

        with pytest.raises(SeenSetUnavailable):
            replay(world)
        assert (world.cloudtrail.accepted, len(world.quarantined)) == ([], 3)

    def test_something_else_in_the_quarantine_is_named(self) -> None:
        world = world_with_a_quarantine()
        world.store.objects[f"{FOLDER}notes.txt"] = b"look here"

        with pytest.raises(LedgerError, match=r"notes\.txt"):
            replay(world)

    def test_something_else_that_looks_like_an_entry_is_named(self) -> None:
        world = world_with_a_quarantine()
        world.store.objects[f"{FOLDER}notes.json"] = b"[]"

        with pytest.raises(LedgerError, match=r"notes\.json"):
            replay(world)

    def test_no_run_delivers_it_once_more(self) -> None:
        world = world_with_a_quarantine()
        replay(world)
        world.live()

        assert world.run().delivered == 0

    def test_leaves_a_trail_alone_that_is_being_delivered(self) -> None:
        world = world_with_a_quarantine()
        world.lock.held_by_another = True

        outcome = replay(world)

        assert (outcome["skipped"], outcome["left"]) == (True, 3)
        assert world.cloudtrail.accepted == []

    def test_leaves_a_trail_alone_that_a_backfill_is_at_work_on(self) -> None:
        world = world_with_a_quarantine()
        world.lock.backfilled = NOW - 86_400

        outcome = replay(world)

        assert (outcome["skipped"], outcome["left"]) == (True, 3)
        assert world.cloudtrail.accepted == []
        assert world.lock.released

    def test_ends_in_time_and_says_what_is_left(self) -> None:
        world = world_with_a_quarantine()
        world.budget = Budget(lambda: 0.1)

        assert replay(world)["left"] == 3
        assert world.lock.released

    def test_whenever_the_process_dies_the_entry_is_somewhere(self) -> None:
        for dies_at in range(1, 60):
            world = world_with_a_quarantine()
            for row in entries(2, first=2):
                del world.store.objects[f"{FOLDER}{read_entry(row).key.replace(':', '-')}.json"]
            life = world.live(dies_at)
            with contextlib.suppress(Death):
                replay(world)
            world.live()
            kept = {record["id"] for folder in ("quarantine/", "released/") for record in world.store.documents(folder)}
            assert kept == {f"{1:032d}"}
            replay(world)
            assert set(world.cloudtrail.accepted_ids) == kept
            if not life.is_over:
                return
        pytest.fail("it never got to its end")


class TestDryRun:
    def test_says_what_can_be_mapped_and_touches_nothing(self) -> None:
        world = world_with_a_quarantine(entry(9, request_timestamp="yesterday"))
        before = dict(world.store.objects)

        outcome = replay(world, dry_run=True)

        assert (outcome["delivered"], outcome["codes"]) == (3, ["NotMappable"])
        assert (world.store.objects, world.cloudtrail.accepted) == (before, [])

    def test_needs_neither_the_lock_nor_the_cache(self) -> None:
        world = world_with_a_quarantine()
        world.lock.held_by_another = world.seen.fails_to_tell = True

        assert replay(world, dry_run=True)["delivered"] == 3


class TestList:
    def test_says_what_there_is_without_its_content(self) -> None:
        world = world_with_a_quarantine(entry(9, request_timestamp="yesterday", payload="hunter2-payload"))

        document = ask(world, "list")

        assert [(each["id"], each["code"]) for each in document["entries"]] == [
            *((row["request_id"], "InvalidData") for row in entries(3)),
            (f"{9:032d}", "NotMappable"),
        ]
        assert [each["request_time"] for each in document["entries"]] == [
            *(f"2024-06-01T11:59:{60 - number}Z" for number in (1, 2, 3)),
            None,
        ]
        assert "hunter2" not in json.dumps(document)

    def test_thousands_are_shown_up_to_a_limit(self) -> None:
        world = World(kong=Kong(entries(30), page_size=30))
        world.cloudtrail.always = refuse("InvalidData")
        world.run()

        document = ask(world, "list", limit=20)

        assert (len(document["entries"]), document["more"]) == (20, True)
        assert not ask(world, "list", limit=30)["more"]

    def test_of_several_trails_names_each(self) -> None:
        world = world_with_a_quarantine()
        other = type(TRAIL)("kong-test", "objects", "cloudtrail-lake")
        installed = Installed(world, trails=[Parts(world, other), Parts(world)])

        document = installed.ask("quarantine", action="list")

        assert {each["stream"] for each in document["entries"]} == {"requests"}


class TestShow:
    def test_shows_all_of_it(self) -> None:
        odd = entry(9, request_timestamp="yesterday")
        world = world_with_a_quarantine(odd)

        [shown] = ask(world, "show", names=[names(world)[-1]])["entries"]

        assert (shown["entry"], shown["state"]) == (odd, "quarantined")
        assert "request_timestamp" in shown["message"]

    @pytest.mark.parametrize("state", ["released", "discarded"])
    def test_finds_it_where_it_went(self, state: str) -> None:
        world = world_with_a_quarantine()
        name = names(world)[0]
        if state == "released":
            replay(world, name)
        else:
            ask(world, "discard", names=[name], reason="a load test")

        [shown] = ask(world, "show", names=[name])["entries"]

        assert (shown["state"], shown["entry"]) == (state, entries(1)[0])
        assert [each["name"] for each in ask(world, "list", state=state)["entries"]] == [name]


class TestDiscard:
    def test_keeps_the_entry_with_when_who_and_why(self) -> None:
        world = world_with_a_quarantine()
        name = names(world)[0]
        before = world.store.objects[f"{FOLDER}{name}.json"]
        world.clock.time += 60

        document = ask(world, "discard", names=[name], reason="SEC-1: a load test", by="alice on laptop")

        assert document["entries"] == [{**TRAIL.fields, "name": name}]
        assert name not in names(world)
        [record] = world.store.documents("discarded/")
        note = record.pop("discarded")
        assert record == json.loads(before)
        assert (note["at"], note["by"], note["reason"]) == (NOW + 60, "alice on laptop", "SEC-1: a load test")
        assert len(names(world)) == 2

    def test_is_not_delivered_by_a_replay_or_a_run(self) -> None:
        world = world_with_a_quarantine()
        ask(world, "discard", names=names(world), reason="all of them")

        assert ask(world, "replay")["trails"][0]["delivered"] == 0
        world.live()
        assert world.run().delivered == 0

    def test_keeps_numbers_that_no_double_holds(self) -> None:
        world = world_with_a_quarantine(entry(9, request_timestamp="x", extra=12345678901234567890123, lone="\ud800"))
        name = names(world)[-1]
        before = world.store.objects[f"{FOLDER}{name}.json"]

        ask(world, "discard", names=[name], reason="odd")

        [body] = [world.store.objects[each] for each in world.store.names("discarded/")]
        assert body.startswith(before.removesuffix(b"}"))

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"names": ["a"]}, "reason: is missing"),
            ({"names": ["a"], "reason": "  "}, "reason: is missing"),
            ({"reason": "why"}, "names: give at least one"),
            ({"names": ["../a b"], "reason": "why"}, "is not the name"),
            ({"names": ["a"], "reason": "why", "state": "released"}, "There is no field state"),
        ],
    )
    def test_says_what_is_missing(self, fields: dict[str, Any], problem: str) -> None:
        with pytest.raises(RequestInvalid, match=problem):
            ask(World(), "discard", **fields)


@pytest.mark.parametrize("action", [None, "delete", 3])
def test_other_actions_are_refused(action: Any) -> None:
    with pytest.raises(RequestInvalid, match="action"):
        ask(World(), action)
