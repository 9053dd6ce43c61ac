"""A short torture of the collector: all of it drawn by hand, nothing by chance. The long one is `make torture`.

That the auditor would notice is proved in tests/unit/test_torture_auditor.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sandbox.machinery import faults
from sandbox.machinery.faults import Fault
from torture.draw import CHANCES, make_plan
from torture.entries import EntryMaker
from torture.plan import (
    BEFORE,
    DESTINATIONS,
    ArchiveTrouble,
    CallFault,
    Clocks,
    Kill,
    KongPoison,
    LedgerTrouble,
    Moment,
    PlaceKind,
    Round,
    Scenario,
    SecondRun,
    ValkeyTrouble,
    calm_round,
)
from torture.play import play

NOW = 1_750_000_000

ROUND = replace(calm_round(), new_entries=60, advance_seconds=600, page_size=250, parallel_deliveries=2)


def scenario(*rounds: Round, **changes: Any) -> Scenario:
    numbered = tuple(replace(one, number=number, entries_seed=number) for number, one in enumerate(rounds, 1))
    kinds: dict[str, Any] = {
        "number": 1,
        "kong_version": "3.10",
        "overlap_seconds": 300,
        "sweep_seconds": 86_400,
        "destination": "cloudtrail-lake",
        "ledger": "folder",
        "archive": "folder",
        "own_clock_is_true": True,
        "latest_seconds": 300,
        "server_header": True,
        "backlog_entries": 200,
        "backlog_seconds": 50_000,
        "is_tight": False,
    }
    return Scenario(**(kinds | changes), rounds=numbered)


def test_killed_starved_and_lied_to_nothing_is_lost_and_nothing_else_comes_twice() -> None:
    verdict = play(
        [
            scenario(
                replace(ROUND, kill=Kill(at_entry=60)),
                replace(ROUND, clocks=Clocks(kong_skew_seconds=-3600, are_mended=True)),
                replace(ROUND, kong_poison=KongPoison(faults.server_error(), 1, 0, seed=1)),
                replace(ROUND, actions=(ValkeyTrouble(BEFORE, "flush"),)),
                latest_seconds=5_000,
            )
        ]
    )

    assert not verdict.problems, str(verdict)
    assert verdict.counts.kills == 1
    assert verdict.counts.duplicates["a run was killed"] > 0
    assert verdict.counts.late > 0
    assert verdict.counts.quarantined > 0


def test_killed_while_cloudwatch_logs_takes_a_batch() -> None:
    kills = [replace(ROUND, kill=Kill(at_entry=number)) for number in (1, 60)]
    verdict = play([scenario(*kills, destination="cloudwatch-logs")])

    assert not verdict.problems, str(verdict)
    assert verdict.counts.kills == 2
    assert verdict.counts.duplicates["a run was killed"] > 0


def test_invoked_in_lambda_with_a_ledger_in_s3() -> None:
    in_lambda = replace(ROUND, budget_seconds=60, tick="new")
    verdict = play(
        [
            scenario(
                replace(in_lambda, actions=(LedgerTrouble(BEFORE, "checkpoints", "conflict"),)),
                replace(in_lambda, call_faults=(CallFault(Fault(kind="reset_after"), loses_answer=True),)),
                replace(in_lambda, tick="again"),
                ledger="S3",
            )
        ]
    )

    assert not verdict.problems, str(verdict)
    assert verdict.counts.ledgers["S3"] == verdict.counts.runs >= 5
    assert verdict.counts.ways["Lambda with 60 s"] == 3
    assert verdict.counts.duplicates["an answer was lost"] > 0


@pytest.mark.parametrize("place", ["folder", "S3"])
def test_archive_has_each_entry_once_though_runs_are_killed_and_overlap(place: PlaceKind) -> None:
    at_once = SecondRun(Moment("start", delay_seconds=0.1))
    stumbles = tuple(ArchiveTrouble(BEFORE, kind) for kind in ("lost", "late", "conflict"))
    verdict = play(
        [
            scenario(
                replace(ROUND, kill=Kill(at_part=2) if place == "S3" else Kill(Moment("delivery", 2))),
                replace(ROUND, actions=(at_once, at_once, *(stumbles if place == "S3" else ()))),
                destination="archive",
                archive=place,
            )
        ]
    )

    assert not verdict.problems, str(verdict)
    assert verdict.counts.kills == 1
    assert verdict.counts.parts > 10
    assert not verdict.counts.duplicates


# -- the plan


def test_the_same_seed_gives_the_same_plan_and_the_same_entries() -> None:
    assert make_plan(50, 7) == make_plan(50, 7)
    assert make_plan(50, 7) != make_plan(50, 8)
    assert {one.destination for one in make_plan(50, 7)} == set(DESTINATIONS)
    assert {one.destination for one in make_plan(50, 7, destinations=["archive"])} == {"archive"}
    assert [one.number for scenario in make_plan(50, 7) for one in scenario.rounds] == list(range(1, 51))
    assert list(EntryMaker(60).fresh(300, seed=7, now=NOW)) == list(EntryMaker(60).fresh(300, seed=7, now=NOW))


def test_everything_that_may_happen_does() -> None:
    drawn = {name for scenario in make_plan(3000, 1) for one in scenario.rounds for name in one.situations}

    assert drawn == CHANCES.keys()


def test_a_plan_may_be_about_one_thing() -> None:
    rounds = [one for scenario in make_plan(40, 1, focus=["mixed nodes"]) for one in scenario.rounds]

    assert {name for one in rounds for name in one.situations} == {"mixed nodes"}
    assert any(one.mixed for one in rounds)
    assert all(one.mixed or one.is_calm for one in rounds)
    with pytest.raises(ValueError, match="no such situation: moon"):
        make_plan(40, 1, focus=["moon"])
