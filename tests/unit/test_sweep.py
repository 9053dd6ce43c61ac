"""Sweeps and gaps: what became visible late, could not be shown, or could not be delivered, arrives all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kong_cloudtrail.domain.checkpoint import Checkpoint, OpenGap
from kong_cloudtrail.domain.exclusion import Exclusion, Rule
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import RunFailed
from kong_cloudtrail.ports import Page

from tests.fakes import Kong, World
from tests.helpers import NOW, Budget, entries, entry

DAY, HOUR = 86_400, 3600


def run_at(world: World, moment: int, **plan: Any) -> None:
    world.kong.own_clock = lambda: moment
    world.kong.now = moment
    world.clock.time = float(moment)
    world.live()
    world.run(**plan)


def hourly(count: int) -> list[object]:
    return [entry(number, request_timestamp=NOW - number * HOUR) for number in range(1, count + 1)]


def minutely(count: int) -> list[object]:
    return [entry(number, request_timestamp=NOW - number * 60) for number in range(1, count + 1)]


def stop_after_pages(world: World, pages: int) -> None:
    """Let the time of the next run be up after some pages."""
    pages_at_start = world.kong.pages_read
    world.budget = Budget(lambda: 100.0 if world.kong.pages_read - pages_at_start < pages else 25.0)


def let_pages_take_five_seconds(world: World) -> None:
    """Let the next run have five minutes, and a Kong that takes five seconds for a page."""
    world.kong.clock = lambda: None
    pages = world.kong.pages

    def slow_pages(*arguments: Any) -> Iterator[Page]:
        for page in pages(*arguments):
            world.clock.time += 5
            yield page

    world.kong.pages = slow_pages  # type: ignore[method-assign, assignment]
    world.clock.time = float(NOW)
    world.budget = Budget(lambda: NOW + 300 - world.clock.time)


class TestSweep:
    @pytest.mark.parametrize(("windows_show_all", "found_by"), [(False, 2), (True, 3)])
    def test_first_one_comes_early_where_windows_do_not_show_all(self, windows_show_all: bool, found_by: int) -> None:
        # Given an entry that only sweeps can see
        world = World(kong=Kong(hourly(3)))
        world.kong.windows_show_all = windows_show_all
        windows = world.kong.windows
        world.kong.hides = lambda row: row == hourly(3)[2] and not (windows and windows[-1] and windows[-1].after == 0)
        for number, moment in enumerate((NOW, NOW + HOUR, NOW + 2 * DAY), 1):
            run_at(world, moment)
            assert world.is_marked(hourly(3)[2]) == (number >= found_by)

    def test_finds_what_became_visible_late_however_late(self) -> None:
        world = World(kong=Kong(hourly(200), page_size=50))
        run_at(world, NOW)
        late = [entry(900 + number, request_timestamp=NOW - number * DAY) for number in range(1, 8)]
        world.kong.entries += late
        run_at(world, NOW + HOUR)
        assert not any(world.is_settled(row) for row in late)

        run_at(world, NOW + DAY)

        report = world.telemetry.published[-1]
        assert all(world.is_settled(row) for row in late)
        assert (report.found_late, report.delivered, report.finished) == (7, 7, True)
        assert 6 * DAY < report.max_lateness_seconds < 8 * DAY
        assert world.telemetry.codes == ["SWEEP_ENDED", "ENTRIES_FOUND_LATE"]
        assert len(world.cloudtrail.accepted) == 207

    def test_comes_once_a_day(self) -> None:
        world = World(kong=Kong(hourly(5), page_size=50))
        for hour in range(72):
            run_at(world, NOW + hour * HOUR)

        assert world.telemetry.codes == ["SWEEP_ENDED"] * 2

    def test_costs_pages_and_look_ups_alone(self) -> None:
        world = World(kong=Kong(hourly(200), page_size=50))
        run_at(world, NOW)
        calls, pages = len(world.cloudtrail.calls), world.kong.pages_read

        run_at(world, NOW + DAY)

        assert len(world.cloudtrail.calls) == calls
        assert world.kong.pages_read - pages == 1 + 4

    def test_can_be_switched_off(self) -> None:
        world = World(kong=Kong(hourly(5), page_size=50))
        run_at(world, NOW, sweep_seconds=0)
        world.kong.entries.append(entry(9, request_timestamp=NOW - 3 * DAY))

        run_at(world, NOW + 10 * DAY, sweep_seconds=0)

        assert len(world.cloudtrail.accepted) == 5

    def test_goes_on_over_several_runs_and_never_delays_new_entries(self) -> None:
        # Given far more than a run can look through, and an entry that is late at the far end of it
        world = World(kong=Kong(hourly(400), page_size=4))
        run_at(world, NOW)
        late = entry(900, request_timestamp=NOW - 399 * HOUR - 5)
        world.kong.entries.append(late)

        for run in range(40):
            fresh = entry(1000 + run, request_timestamp=NOW + DAY + run * HOUR)
            world.kong.entries.append(fresh)
            pages_at_start = world.kong.pages_read
            world.budget = Budget(lambda: 100.0 if world.kong.pages_read - pages_at_start < 8 else 25.0)  # noqa: B023
            run_at(world, NOW + DAY + run * HOUR)
            assert world.is_settled(fresh)
            assert world.telemetry.published[-1].finished
            if world.is_settled(late):
                break

        assert 10 < run < 20
        assert len(world.cloudtrail.accepted) == len(world.kong.entries)

    def test_that_is_killed_goes_on(self) -> None:
        world = World(kong=Kong(hourly(400), page_size=4))
        run_at(world, NOW)
        world.kong.fails_at_page = world.kong.pages_read + 60
        with pytest.raises(RunFailed, match="Kong is down"):
            run_at(world, NOW + DAY)
        position = world.ledger.load_checkpoint().sweep
        assert position is not None
        assert position.resume is not None
        pages = world.kong.pages_read

        run_at(world, NOW + DAY + HOUR)

        assert world.kong.pages_read - pages < 55
        assert world.telemetry.codes == ["SWEEP_ENDED"]

    @pytest.mark.parametrize("newest_first", [True, False])
    def test_finds_what_appeared_in_the_part_of_a_reading_that_an_earlier_run_had_read(
        self, newest_first: bool
    ) -> None:
        # Given a run that was cut short, and entries that appear a day later among those that it had read
        world = World(kong=Kong(minutely(30), page_size=5, newest_first=newest_first))
        run_at(world, NOW)
        world.kong.entries.append(entry(900, request_timestamp=NOW + HOUR))
        stop_after_pages(world, 2)
        run_at(world, NOW + HOUR)
        assert world.ledger.load_checkpoint().reading is not None
        late = [entry(901 + number, request_timestamp=NOW - 90) for number in range(20)]
        world.kong.entries += late

        world.budget = Budget()
        run_at(world, NOW + DAY)

        assert all(world.is_settled(row) for row in late)
        assert len(world.cloudtrail.accepted) == 51
        assert world.telemetry.published[-1].finished

    def test_that_finds_such_entries_counts_them_as_late(self) -> None:
        world = World(kong=Kong(minutely(30), page_size=5))
        run_at(world, NOW)
        world.kong.entries.append(entry(900, request_timestamp=NOW + HOUR))
        stop_after_pages(world, 2)
        run_at(world, NOW + HOUR)
        world.kong.entries.append(entry(901, request_timestamp=NOW - 90))

        world.budget = Budget()
        run_at(world, NOW + DAY)

        report = world.telemetry.published[-1]
        assert (report.found_late, report.max_lateness_seconds) == (1, HOUR + 90)
        assert "ENTRIES_FOUND_LATE" in world.telemetry.codes

    @pytest.mark.parametrize("newest_first", [True, False])
    def test_finds_what_a_former_rule_excluded_from_a_reading_that_an_earlier_run_began(
        self, newest_first: bool
    ) -> None:
        world = World(kong=Kong(minutely(30), page_size=5, newest_first=newest_first))
        even = Exclusion([Rule("even", lambda fields: int(fields["request_id"]) % 2 == 0)])
        run_at(world, NOW, exclusion=even)
        fresh = [entry(900 + number, request_timestamp=NOW + number) for number in range(40)]
        world.kong.entries += [*fresh, entry(999, request_timestamp=NOW + HOUR)]
        stop_after_pages(world, 4)
        run_at(world, NOW + HOUR, exclusion=even)

        world.budget = Budget()
        run_at(world, NOW + 2 * HOUR)

        assert all(world.is_settled(row) for row in world.kong.entries)
        assert world.telemetry.published[-1].found_late == 0

    def test_goes_no_further_back_than_marks_are_known_to_be_whole(self) -> None:
        world = World(kong=Kong(hourly(50), page_size=100))
        run_at(world, NOW)
        world.seen.lose_everything()

        run_at(world, NOW + DAY)
        run_at(world, NOW + 2 * DAY)

        assert len(world.cloudtrail.accepted) == 51  # the overlap holds one
        swept = [window for window in world.kong.windows if window is not None and window.before is not None]
        assert [window.after for window in swept[-2:]] == [NOW - HOUR - 900] * 2

    def test_goes_back_all_the_way_once_kong_has_deleted_what_lost_its_marks(self) -> None:
        world = World(kong=Kong(hourly(50), page_size=100))
        run_at(world, NOW)
        world.seen.lose_everything()
        run_at(world, NOW + DAY)
        world.kong.entries = [entry(500, request_timestamp=NOW + 30 * DAY)]

        run_at(world, NOW + 31 * DAY)

        assert world.ledger.load_checkpoint().marks_whole_after is None

    def test_does_not_go_back_before_the_trail_begins(self) -> None:
        world = World(kong=Kong(hourly(50), page_size=100))
        run_at(world, NOW, initial_lookback_seconds=10 * HOUR)
        run_at(world, NOW + DAY, initial_lookback_seconds=10 * HOUR)

        assert len(world.cloudtrail.accepted) == 10

    def test_late_entry_that_cannot_be_delivered_does_not_hold_it_up(self) -> None:
        world = World(kong=Kong(hourly(200), page_size=5))
        run_at(world, NOW)
        stubborn = entry(900, request_timestamp=NOW - 20 * HOUR, payload="x" * 150_000)
        late = entry(901, request_timestamp=NOW - 190 * HOUR)
        world.kong.entries += [stubborn, late]
        world.store.refuses = lambda name: name.startswith("originals/")

        with pytest.raises(RunFailed):
            run_at(world, NOW + DAY)

        assert world.is_settled(late)
        assert [gap.kind for gap in world.ledger.load_checkpoint().gaps] == ["undelivered"]
        world.store.refuses = lambda name: False
        run_at(world, NOW + DAY + HOUR)
        assert world.is_settled(stubborn)
        assert world.ledger.load_checkpoint().gaps == ()


class TestMixedControlPlane:
    @pytest.mark.parametrize("page", [1, 2, 3])
    def test_what_is_shown_is_delivered_and_the_checkpoint_stays(self, page: int) -> None:
        world = World(kong=Kong(entries(20), page_size=5))
        world.kong.ignores_filter_at_page = page

        run_at(world, NOW)

        report = world.telemetry.published[-1]
        assert not report.finished
        assert len(world.cloudtrail.accepted) == 20
        assert world.complete_until is None
        assert "MIXED_CONTROL_PLANE" in world.telemetry.codes

        world.kong.ignores_filter_at_page = None
        run_at(world, NOW + 60)
        assert world.telemetry.published[-1].finished
        assert len(world.cloudtrail.accepted) == 20

    def test_is_followed_by_a_sweep(self) -> None:
        world = World(kong=Kong(hourly(30), page_size=5))
        run_at(world, NOW)
        hidden = entry(900, request_timestamp=NOW - 10 * HOUR)
        world.kong.ignores_filter_at_page = world.kong.pages_read + 1
        run_at(world, NOW + HOUR)
        world.kong.ignores_filter_at_page = None
        world.kong.entries.append(hidden)

        run_at(world, NOW + 2 * HOUR)

        assert world.is_settled(hidden)


class TestPoisonAtKong:
    @pytest.mark.parametrize("filters", [True, False])
    def test_is_passed_counted_told_and_fetched_once_it_can_be(self, filters: bool) -> None:
        world = World(kong=Kong(entries(50), page_size=10, filters=filters))
        poison = world.kong.entries[17]
        world.kong.poison = lambda row: row is poison

        run_at(world, NOW)

        assert len(world.cloudtrail.accepted) == 49
        assert world.telemetry.published[-1].gaps == 1
        assert "GAP_PASSED" in world.telemetry.codes
        fresh = entry(900, request_timestamp=NOW + HOUR)
        world.kong.entries.insert(0, fresh)
        run_at(world, NOW + HOUR)
        assert world.is_settled(fresh)
        assert world.telemetry.published[-1].gaps == 1

        world.kong.poison = lambda row: False
        run_at(world, NOW + DAY)
        assert world.is_settled(poison)
        assert world.telemetry.published[-1].gaps == 0
        assert len(world.cloudtrail.accepted) == 51

    @pytest.mark.parametrize("newest_first", [True, False])
    def test_that_every_run_meets_is_one_gap(self, newest_first: bool) -> None:
        # Given a gateway that is quiet first, so that the row stays in the overlap
        world = World(kong=Kong(minutely(30), page_size=50, newest_first=newest_first))
        poison = world.kong.entries[3]
        world.kong.poison = lambda row: row is poison
        for minute in range(120):
            if minute > 60:
                world.kong.entries.append(entry(900 + minute, request_timestamp=NOW + minute * 60))
            run_at(world, NOW + minute * 60)
            assert world.telemetry.published[-1].gaps == 1

        assert world.complete_until == NOW + 119 * 60
        assert len(world.ledger.load_checkpoint().gaps) == 1
        assert world.kong.pages_read < 500
        world.kong.poison = lambda row: False
        run_at(world, NOW + DAY)
        assert all(world.is_settled(row) for row in world.kong.entries)
        assert world.ledger.load_checkpoint().gaps == ()

    def test_is_not_tried_in_every_run(self) -> None:
        world = World(kong=Kong(entries(50), page_size=100))
        poison = world.kong.entries[17]
        world.kong.poison = lambda row: row is poison
        run_at(world, NOW)
        world.kong.windows.clear()

        for hour in range(1, 20):
            run_at(world, NOW + hour * HOUR, overlap_seconds=0)

        assert len(world.kong.windows) == 19 + 1  # and once more within two hours, as most failures pass

    def test_that_was_a_passing_failure_is_delivered_by_the_next_run(self) -> None:
        world = World(kong=Kong(entries(50), page_size=100))
        hidden = world.kong.entries[17]
        world.kong.poison = lambda row: row is hidden
        run_at(world, NOW)
        world.kong.poison = lambda row: False

        run_at(world, NOW + HOUR)

        assert world.is_settled(hidden)
        assert world.telemetry.published[-1].gaps == 0


class TestStuckSlice:
    def test_holds_up_neither_newer_entries_nor_itself(self) -> None:
        # Given one entry, days ago, of which the original cannot be kept, and newer ones in later slices
        rows = [entry(number, request_timestamp=NOW - number * DAY) for number in range(1, 10)]
        rows[6]["payload"] = "x" * 150_000
        world = World(kong=Kong(rows, page_size=1))
        world.store.refuses = lambda name: name.startswith("originals/")
        for hour in range(4):
            with pytest.raises(RunFailed):
                run_at(world, NOW + hour * HOUR)

        assert len(world.cloudtrail.accepted) == 8
        assert world.complete_until == NOW - DAY
        report = world.telemetry.published[-1]
        assert report.gaps == 1
        assert report.oldest_undelivered_age_seconds is not None
        assert report.oldest_undelivered_age_seconds > 7 * DAY

        world.store.refuses = lambda name: False
        run_at(world, NOW + 5 * HOUR)
        assert len(world.cloudtrail.accepted) == 9
        assert world.telemetry.published[-1].gaps == 0

    def test_slice_that_cannot_be_read_does_not_hold_up_newer_ones(self) -> None:
        rows = hourly(380)
        world = World(kong=Kong(rows, page_size=1))
        world.kong.fails_at_page = 30

        with pytest.raises(RunFailed, match="Kong is down"):
            run_at(world, NOW)

        assert world.is_settled(rows[0])
        assert [gap.kind for gap in world.ledger.load_checkpoint().gaps] == ["unreadable"]
        run_at(world, NOW + DAY)
        assert len(world.cloudtrail.accepted) == 380
        assert world.telemetry.published[-1].gaps == 0

    def test_two_slices_in_a_row_and_kong_is_down(self) -> None:
        world = World(kong=Kong(hourly(380), page_size=1))
        world.kong.is_down_from_page = 30

        with pytest.raises(RunFailed, match="Kong is down"):
            run_at(world, NOW)

        assert world.kong.pages_read == 31

    def test_gaps_take_a_bounded_share_of_the_time(self) -> None:
        # Given gaps with far more in them than a run can read
        world = World(kong=Kong(hourly(400), page_size=2))
        gap = OpenGap(Window(NOW - 400 * HOUR, NOW - 10 * HOUR), "undelivered", "not delivered", NOW)
        world.ledger.save_checkpoint(Checkpoint(complete_until=NOW - HOUR, gaps=(gap,)))
        fresh = entry(900, request_timestamp=NOW + 5)
        world.kong.entries.append(fresh)
        let_pages_take_five_seconds(world)

        world.run()

        assert world.is_settled(fresh)
        assert world.telemetry.published[-1].finished
        [left] = world.ledger.load_checkpoint().gaps
        assert left.window is not None
        assert left.window.before is not None
        assert left.window.before < NOW - 20 * HOUR

    @pytest.mark.parametrize("newest_first", [True, False])
    def test_gap_of_unknown_time_stays_until_everything_is_read(self, newest_first: bool) -> None:
        # Given a row that a gateway without filters could not show, which filters since
        world = World(kong=Kong(hourly(400), page_size=2, newest_first=newest_first))
        gap = OpenGap(None, "unreadable", "status 500", NOW)
        world.ledger.save_checkpoint(Checkpoint(complete_until=NOW - HOUR, gaps=(gap,), sweep_due=NOW + HOUR))
        let_pages_take_five_seconds(world)

        world.run()

        assert not all(world.is_settled(row) for row in world.kong.entries)
        assert world.telemetry.published[-1].gaps == 1
        world.budget = Budget()
        world.clock.time = float(NOW)
        world.kong = Kong(world.kong.entries, page_size=400, newest_first=newest_first)
        world.run()
        assert all(world.is_settled(row) for row in world.kong.entries)
        assert world.telemetry.published[-1].gaps == 0


class TestLedgerThatCannotBeWritten:
    def test_what_does_not_need_it_is_delivered(self) -> None:
        # Given a trail that is days behind
        world = World(kong=Kong(hourly(300), page_size=10))
        world.store.is_read_only = True

        with pytest.raises(RunFailed) as failed:
            run_at(world, NOW)

        assert len(world.cloudtrail.accepted) == 300
        assert "ledger" in str(failed.value)
        world.store.is_read_only = False
        run_at(world, NOW + HOUR)
        assert len(world.cloudtrail.accepted) == 300
        assert world.complete_until == NOW - HOUR

    def test_first_run_that_looks_back_does_not_begin_without_it(self) -> None:
        world = World(kong=Kong(hourly(5)))
        world.store.is_read_only = True

        with pytest.raises(RunFailed):
            run_at(world, NOW, initial_lookback_seconds=DAY)

        assert world.cloudtrail.calls == []


def test_ledger_error_is_told_once() -> None:
    world = World(kong=Kong(hourly(300), page_size=10))
    world.store.is_read_only = True
    with pytest.raises(RunFailed) as failed:
        run_at(world, NOW)

    assert len(failed.value.problems) == 1


class TestGatewayWithoutFiltersThatDoesNotAnswerAsAsked:
    def test_new_entries_are_reached_from_a_position_that_an_earlier_run_left(self) -> None:
        # Given a reading that was cut short, and answers that prove nothing from then on
        world = World(kong=Kong(hourly(60), filters=False, page_size=5))
        pages_at_start = world.kong.pages_read
        world.budget = Budget(lambda: 100.0 if world.kong.pages_read - pages_at_start < 6 else 25.0)
        run_at(world, NOW)
        world.budget = Budget()
        fresh = [entry(900 + number, request_timestamp=NOW + number) for number in range(10)]
        world.kong.entries[:0] = fresh
        world.kong.proves_nothing = True

        for hour in range(1, 3):
            run_at(world, NOW + hour * HOUR)

        assert all(world.is_settled(row) for row in world.kong.entries)
        report = world.telemetry.published[-1]
        assert not report.finished
        assert world.complete_until is None
        assert report.checkpoint_lag_seconds is not None
        assert report.checkpoint_lag_seconds > HOUR
        assert "MIXED_CONTROL_PLANE" in world.telemetry.codes

        world.kong.proves_nothing = False
        run_at(world, NOW + 4 * HOUR)
        assert world.telemetry.published[-1].finished
        assert len(world.cloudtrail.accepted) == 70

    def test_short_runs_reach_everything(self) -> None:
        world = World(kong=Kong(hourly(60), filters=False, page_size=5))
        world.kong.proves_nothing = True
        for hour in range(8):
            pages_at_start = world.kong.pages_read
            world.budget = Budget(lambda: 100.0 if world.kong.pages_read - pages_at_start < 3 else 25.0)  # noqa: B023
            run_at(world, NOW + hour * HOUR)
            assert not world.telemetry.published[-1].finished

        assert len(world.cloudtrail.accepted) == 60
        assert world.complete_until is None
