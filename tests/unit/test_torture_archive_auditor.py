"""The torture's auditor of archives notices every kind of fault, and is content where there is none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.unit.test_torture_auditor import EVENT, FIELDS, GOOD_RUN, NOW, REPORT
from torture.archive_audit import RULES, ArchiveAuditor
from torture.entries import NewEntry
from torture.ledgers import FolderLedger
from torture.runs import Problem

PREFIX = "source=kong/stream=requests/"
FIRST = f"{PREFIX}day=2025-06-15/15-000000.json.gz"
SECOND = f"{PREFIX}day=2025-06-15/15-000001.json.gz"
SUCCESS = replace(GOOD_RUN, summary=REPORT)


def line(**changes: Any) -> dict[str, Any]:
    return {"key": read_entry(FIELDS).key} | EVENT | {"entry": FIELDS | {"ttl": 7}} | changes


def part(*lines: dict[str, Any]) -> bytes:
    return gzip.compress("".join(f"{json.dumps(one)}\n" for one in lines).encode())


class World:
    """One entry, an archive, and an auditor who looks at it."""

    def __init__(self, folder: Path) -> None:
        self.ledger = FolderLedger(folder)
        self.auditor = ArchiveAuditor(
            ledger=self.ledger, overlap_seconds=60, gateway_filters=True, secrets=["s3cret-token"]
        )
        self.objects: dict[str, bytes] = {}
        self.runs = 0
        self.show()

    def show(self, **changes: Any) -> None:
        fields = FIELDS | changes
        self.auditor.show(NewEntry(NOW - 10, fields, is_plain=True), frozenset())

    def run(self, objects: dict[str, bytes]) -> list[Problem]:
        """Let a run write some objects; return what the auditor says of it."""
        self.runs += 1
        self.auditor.begin_run(self.runs, NOW)
        self.objects |= objects
        return self.auditor.end_run(replace(SUCCESS, number=self.runs), self.objects)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_content_with_a_part(world: World) -> None:
    assert world.run({FIRST: part(line())}) == []
    assert world.auditor.end() == []
    assert world.auditor.counts.parts == 1


@pytest.mark.parametrize("stamp", [None, 0, 10**11, "soon"])
def test_content_with_an_entry_without_a_usable_time_in_the_hour_of_such_entries(world: World, stamp: object) -> None:
    fields = FIELDS | {"request_id": "r2", "request_timestamp": stamp}
    world.show(**fields)
    undated = {"key": read_entry(fields).key, "notMappable": "has no time", "entry": fields}

    assert world.run({FIRST: part(line()), f"{PREFIX}day=2015-01-01/00-000000.json.gz": part(undated)}) == []


def test_not_content_with_an_entry_that_is_nowhere(world: World) -> None:
    assert "success" in {problem.rule for problem in world.run({})}
    assert [problem.rule for problem in world.auditor.end()] == ["lost"]


Planted = Callable[[World], list[Problem]]


def twice_in_a_part(world: World) -> list[Problem]:
    return world.run({FIRST: part(line(), line())})


def in_two_parts(world: World) -> list[Problem]:
    return world.run({FIRST: part(line())}) + world.run({SECOND: part(line())})


def a_line_of_nobody(world: World) -> list[Problem]:
    return world.run({FIRST: part(line(), line(key="r9:0"))})


def an_altered_entry(world: World) -> list[Problem]:
    return world.run({FIRST: part(line(entry=FIELDS | {"status": 200}))})


def an_altered_event(world: World) -> list[Problem]:
    return world.run({FIRST: part(line(sourceIPAddress="192.0.2.11"))})


def another_hour(world: World) -> list[Problem]:
    return world.run({FIRST.replace("/15-", "/16-"): part(line())})


def another_name(world: World) -> list[Problem]:
    return world.run({FIRST: part(line()), f"{PREFIX}notes.txt": b""})


def a_number_left_out(world: World) -> list[Problem]:
    return world.run({SECOND: part(line())})


def a_part_written_anew(world: World) -> list[Problem]:
    return world.run({FIRST: part(line())}) + world.run({FIRST: part(line(), line())})


def half_a_part(world: World) -> list[Problem]:
    return world.run({FIRST: part(line())[:-9]})


def no_line_break(world: World) -> list[Problem]:
    return world.run({FIRST: gzip.compress(json.dumps(line()).encode())})


def a_refused_entry(world: World) -> list[Problem]:
    world.ledger.write("quarantine/kong/requests/archive/r1.json", b"{}")
    return world.run({FIRST: part(line())})


PLANTED: list[tuple[str, str, Planted]] = [
    ("doubles", "although it was in the archive", twice_in_a_part),
    ("doubles", "although it was in the archive", in_two_parts),
    ("altered", "Kong has not", a_line_of_nobody),
    ("altered", "the entry", an_altered_entry),
    ("altered", "client_ip", an_altered_event),
    ("parts", "and not in day=2025-06-15/15", another_hour),
    ("parts", "not the name of a part", another_name),
    ("parts", "some are missing", a_number_left_out),
    ("parts", "was altered", a_part_written_anew),
    ("parts", "cannot be read", half_a_part),
    ("parts", "line break", no_line_break),
    ("quarantine", "takes every entry", a_refused_entry),
]


@pytest.mark.parametrize(("rule", "words", "planted"), PLANTED, ids=[planted.__name__ for _, _, planted in PLANTED])
def test_the_auditor_notices(world: World, rule: str, words: str, planted: Planted) -> None:
    problems = planted(world)

    assert [problem for problem in problems if problem.rule == rule and words in problem.text], problems


def test_every_rule_is_seen_to_be_broken() -> None:
    assert {rule for rule, _, _ in PLANTED} == RULES.keys()
