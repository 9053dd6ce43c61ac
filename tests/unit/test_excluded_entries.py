"""Runs that exclude entries: each is counted once, whatever dies, none is forgotten, and none holds up the others."""

from __future__ import annotations

from typing import Any

import pytest
from kong_cloudtrail.domain.exclusion import Excluded, Exclusion
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.errors import RunFailed

from tests.fakes import Death, Kong, World, accept_all, refuse
from tests.helpers import NOW, entries, entry

DAY = 86_400
STATUS = Exclusion.of(paths=["/status"])
READS = Exclusion.of(methods=["GET"], paths=["/status"])


def checks(*numbers: int) -> list[dict[str, Any]]:
    return [entry(number, method="GET", path=f"/status?{number}") for number in numbers]


def new_world(*rows: object, **options: Any) -> World:
    return World(kong=Kong(list(rows), **options))


def run(world: World, exclusion: Exclusion = STATUS, *, at: int = NOW, **plan: Any) -> RunReport:
    world.live()
    world.clock.time = float(at)
    world.kong.now = at
    return world.run(exclusion=exclusion, **plan)


def published(world: World) -> int:
    """Return what the metric adds up to."""
    return sum(report.excluded_counted or 0 for report in world.telemetry.published)


def excluded(world: World) -> Excluded:
    return world.ledger.load_checkpoint().excluded


def add_up(report: RunReport) -> bool:
    parts = (report.duplicates, report.excluded, report.delivered, report.quarantined, report.failed, report.backlog)
    return report.fetched == sum(parts)


@pytest.mark.parametrize("filters", [True, False])
class TestCount:
    def test_every_entry_is_counted_once_and_kept_nowhere(self, filters: bool) -> None:
        world = new_world(*entries(3), *checks(10, 11, 12, 13), filters=filters)

        first, again = run(world), run(world, at=NOW + 60)

        assert (first.fetched, first.delivered, first.excluded) == (7, 3, 4)
        assert first.excluded_by_rule == {"path:/status": 4}
        assert (again.delivered, again.excluded, again.duplicates) == (0, 0, again.fetched)
        assert add_up(first)
        assert add_up(again)
        assert first.finished
        assert excluded(world).totals == {"path:/status": 4}
        assert len(world.cloudtrail.accepted) == len(world.seen.marks) == 3

    def test_new_ones_are_counted_as_they_come(self, filters: bool) -> None:
        world = new_world(*checks(1, 2, 3), filters=filters)
        run(world)
        for number in range(-1, -6, -1):
            world.kong.entries += [*checks(number), entry(number, request_id=f"new{number}")]

            report = run(world, at=NOW + 10 - number)

            assert (report.excluded, report.delivered) == (1, 1)
        assert excluded(world).totals == {"path:/status": 8}

    def test_rule_that_is_added_later_leaves_delivered_ones_delivered(self, filters: bool) -> None:
        world = new_world(*entries(2), *checks(3, 4), filters=filters)
        run(world, Exclusion())

        report = run(world, at=NOW + 60)

        assert (report.excluded, report.delivered) == (0, 0)
        assert excluded(world).totals == {}

    def test_wherever_the_process_dies(self, filters: bool) -> None:
        rows = [*entries(4), *checks(20, 21, 22, 23, 24), *entries(2, first=30), *checks(2000, 2001)]
        step, unpublished = 0, list[int]()
        while True:
            step += 1
            world = new_world(*rows, filters=filters, page_size=1)
            life = world.live(dies_at=step)
            try:
                world.run(exclusion=STATUS)
            except Death:
                pass
            except RunFailed:
                assert life.is_over
            run(world)
            run(world, at=NOW + 60)
            assert excluded(world).totals == {"path:/status": 7}, f"it died at step {step}"
            unpublished += [step] if published(world) != 7 else []
            assert world.store.documents("runs/")[-1]["exclusion"]["totals"] == {"path:/status": 7}
            assert {row["request_id"] for row in [*entries(4), *entries(2, first=30)]} == set(
                world.cloudtrail.accepted_ids
            )
            if not life.is_over:
                break
        assert step > 20
        # Only a process that dies between saving the count and publishing it
        assert len(unpublished) <= 1, unpublished


class TestProgress:
    def test_nothing_but_excluded_entries_moves_the_checkpoint_and_is_reported(self) -> None:
        world = new_world(*checks(5, 6))

        report = run(world)

        assert report.finished
        assert world.complete_until == NOW - 5
        [kept] = world.store.documents("runs/")
        assert (kept["excluded"], kept["excluded_by_rule"]) == (2, {"path:/status": 2})
        assert kept["exclusion"] == {"rules": ["path:/status"], "totals": {"path:/status": 2}}
        run(world, at=NOW + 60)
        assert len(world.store.documents("runs/")) == 1

    def test_excluded_before_a_failure_is_counted_when_the_checkpoint_passes_it(self) -> None:
        world = new_world(*checks(1), *entries(1, first=2))
        world.cloudtrail.always = refuse("InternalFailure")
        with pytest.raises(RunFailed):
            run(world)
        assert excluded(world).totals == {}

        world.cloudtrail.always = accept_all
        report = run(world)

        assert (report.excluded, report.delivered) == (1, 1)
        assert excluded(world).totals == {"path:/status": 1}

    def test_excluded_beside_a_gap_is_counted_once(self) -> None:
        # Given old entries, of which one cannot be delivered, while newer ones can
        stuck = entry(300, request_timestamp=NOW - 20 * DAY, payload="x" * 150_000)
        old = [entry(400 + n, request_timestamp=NOW - 20 * DAY - n, method="GET", path="/status") for n in range(5)]
        newer = [entry(n, request_timestamp=NOW - n * DAY // 4) for n in range(1, 60)]
        world = new_world(stuck, *old, *newer)
        world.store.refuses = lambda name: name.startswith("originals/")
        with pytest.raises(RunFailed):
            run(world)
        assert [gap.kind for gap in world.ledger.load_checkpoint().gaps] == ["undelivered"]
        assert excluded(world).totals == {"path:/status": 5}

        world.store.refuses = lambda name: False
        reports = [run(world, at=NOW + 60), run(world, at=NOW + 2 * DAY)]

        assert [report.excluded for report in reports] == [0, 0]
        assert world.is_settled(stuck)
        assert excluded(world).totals == {"path:/status": 5}

    def test_sweep_does_not_count_again(self) -> None:
        world = new_world(*checks(3 * DAY, 2 * DAY), *entries(2))
        run(world)

        report = run(world, at=NOW + 2 * DAY)

        assert report.fetched >= 2
        assert (report.excluded, report.found_late) == (0, 0)
        assert excluded(world).totals == {"path:/status": 2}

    def test_two_runs_at_once_count_each_entry_once(self) -> None:
        world = new_world(*checks(1, 2, 3), *entries(2, first=10))
        other = new_world(*world.kong.entries)
        other.store, other.seen, other.cloudtrail = world.store, world.seen, world.cloudtrail

        def overtake(name: str) -> bool:
            world.store.refuses = lambda name: False
            other.run(exclusion=STATUS, may_overlap=True)
            return False

        world.store.refuses = lambda name: (
            name.startswith("checkpoints/") and world.kong.pages_read > 2 and overtake(name)
        )
        world.run(exclusion=STATUS, may_overlap=True)

        assert published(world) + published(other) == 3
        assert "RUN_OVERTAKEN" in world.telemetry.codes
        assert excluded(world).totals == {"path:/status": 3}
        assert list(world.ledger.verify_reports()) == []

    def test_cache_that_lost_its_marks_changes_nothing(self) -> None:
        world = new_world(*checks(1, 2, 3))
        run(world)
        world.seen.lose_everything()

        report = run(world, at=NOW + 60)

        assert (report.excluded, report.duplicates) == (0, 3)


class TestChangedRules:
    def test_what_is_no_longer_excluded_is_delivered_by_a_sweep_and_is_not_late(self) -> None:
        world = new_world(*checks(10 * DAY, 5 * DAY, 1), *entries(2, first=2))
        run(world)

        report = run(world, Exclusion(), at=NOW + 3600)

        assert "EXCLUSION_CHANGED" in world.telemetry.codes
        assert (report.delivered, report.found_late) == (3, 0)
        assert len(world.cloudtrail.accepted) == 5
        assert not excluded(world).awaits_sweep

        # And from then on, what is late counts as late.
        world.kong.entries.append(entry(3 * DAY))
        assert run(world, Exclusion(), at=NOW + 3 * DAY).found_late == 1

    def test_rules_in_force_are_in_the_chain_of_reports(self) -> None:
        world = new_world(*entries(2))
        run(world)
        run(world, READS, at=NOW + 3600)
        run(world, READS, at=NOW + 7200)
        run(world, Exclusion(), at=NOW + 10_800)

        rules = [report["exclusion"]["rules"] for report in world.store.documents("runs/")]
        assert rules == [["path:/status"], ["method:GET", "path:/status"], []]
        assert world.telemetry.codes.count("EXCLUSION_CHANGED") == 2

    def test_first_rules_of_a_trail_are_no_change(self) -> None:
        world = new_world(*entries(2))

        run(world)

        assert "EXCLUSION_CHANGED" not in world.telemetry.codes

    def test_without_filters_the_next_reading_finds_them(self) -> None:
        world = new_world(*checks(10 * DAY, 5 * DAY, 1), filters=False)
        run(world)

        report = run(world, Exclusion(), at=NOW + 60, sweep_seconds=0)

        assert (report.delivered, report.found_late) == (3, 0)
        assert not excluded(world).awaits_sweep


def test_failures_are_not_told_of_excluded_entries() -> None:
    world = new_world(*checks(1), *entries(1, first=2))
    world.cloudtrail.always = refuse("InternalFailure")

    with pytest.raises(RunFailed, match="1 of 2 entries were not delivered") as failed:
        run(world)

    assert failed.value.summary["excluded"] == 1
