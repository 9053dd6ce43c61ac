"""One run from lock to report: what it reads, what it does when a part of the world fails, what it leaves behind."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import pytest
from kong_cloudtrail.domain.entry import Entry
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import DestinationUnavailable, RunFailed, TimeBudgetReached
from kong_cloudtrail.ports import Page

from tests.fakes import Kong, Lock, Seen, World, accept_all, fail_with
from tests.helpers import NOW, Budget, entries, entry, wait_until

DAY = 86_400


def budget_of(world: World, pages: int) -> Budget:
    """Return a budget that is used up, but for delivering, once so many pages were read."""
    pages_at_start = world.kong.pages_read
    return Budget(lambda: 100.0 if world.kong.pages_read - pages_at_start < pages else 25.0)


def run_again(world: World, *, at: int, **plan: object) -> None:
    world.kong.now = at
    world.clock.time = float(at)
    world.live()
    world.run(**plan)


class TestWhatIsRead:
    def test_first_run_reads_everything_that_kong_retains(self) -> None:
        old = [entry(number, request_timestamp=NOW - number * DAY) for number in range(1, 31)]
        world = World(kong=Kong(old))

        report = world.run()

        assert report.delivered == 30
        assert world.complete_until == NOW - DAY  # the newest that Kong showed, whatever the clocks say

    def test_first_run_may_begin_later(self) -> None:
        world = World(kong=Kong([entry(1, request_timestamp=NOW - 50), entry(2, request_timestamp=NOW - 101)]))

        report = world.run(initial_lookback_seconds=100)

        assert report.delivered == 1
        assert world.complete_until == NOW - 50

    @pytest.mark.parametrize("trouble", ["Kong", "CloudTrail", "Redis"])
    def test_it_may_begin_later_counted_from_the_first_try(self, trouble: str) -> None:
        # Given a first run that delivers nothing, for whatever reason
        world = World(kong=Kong([entry(1, request_timestamp=NOW - 50)]))
        if trouble == "Kong":
            world.kong.fails_at_page = 1
        elif trouble == "CloudTrail":
            world.cloudtrail.always = fail_with(DestinationUnavailable("InternalServerError", "CloudTrail is ill."))
        else:
            world.seen.fails_to_tell = True
        with pytest.raises(RunFailed):
            world.run(initial_lookback_seconds=100)
        world.cloudtrail.always = accept_all
        world.seen.fails_to_tell = False

        run_again(world, at=NOW + 3600, initial_lookback_seconds=100)

        assert len(world.cloudtrail.accepted_ids) == 1

    def test_whoever_looks_back_without_a_ledger_is_warned(self) -> None:
        world = World(kong=Kong([entry(1, request_timestamp=NOW - 50)]))

        world.run(initial_lookback_seconds=100, keep_checkpoint=False)

        assert "LOOK_BACK_EACH_RUN" in world.telemetry.codes
        assert world.complete_until is None

    def test_it_may_begin_later_on_a_gateway_that_cannot_filter(self) -> None:
        old, new = entry(1, request_timestamp=NOW - 101), entry(2, request_timestamp=NOW - 50)
        world = World(kong=Kong([new, old], filters=False))

        report = world.run(initial_lookback_seconds=100)
        run_again(world, at=NOW + 3600, initial_lookback_seconds=100)

        assert (report.delivered, report.duplicates) == (1, 1)
        assert world.cloudtrail.accepted_ids == [new["request_id"]]

    def test_next_run_reads_what_is_new_and_an_overlap(self) -> None:
        world = World(kong=Kong(entries(3)))
        world.run(overlap_seconds=900)

        run_again(world, at=NOW + 3600, overlap_seconds=900)

        assert world.kong.windows[1:] == [Window(NOW - 1 - 900, None)]
        assert world.complete_until == NOW - 1

    def test_quiet_gateway_is_asked_once_however_long_it_is_quiet(self) -> None:
        world = World(kong=Kong(entries(3)))
        world.run()
        for day in range(1, 20):
            run_again(world, at=NOW + day * DAY, sweep_seconds=0)

        assert set(world.kong.windows[1:]) == {Window(NOW - 1 - 900, None)}
        assert len(world.kong.windows) == 20
        assert world.telemetry.published[-1].checkpoint_lag_seconds == 0

    @pytest.mark.parametrize("late", range(0, 901, 100))
    def test_entry_that_shows_up_late_is_caught_within_the_overlap(self, late: int) -> None:
        world = World(kong=Kong(entries(3)))
        world.run(overlap_seconds=900)
        straggler = entry(99, request_timestamp=NOW - late)
        world.kong.entries.append(straggler)

        run_again(world, at=NOW + 3600, overlap_seconds=900)

        assert world.cloudtrail.accepted_ids.count(straggler["request_id"]) == 1

    def test_entry_of_the_very_second_of_the_checkpoint_is_not_lost(self) -> None:
        world = World(kong=Kong([entry(1, request_timestamp=NOW)]))
        world.run(overlap_seconds=0)
        world.kong.entries.append(entry(2, request_timestamp=NOW))

        run_again(world, at=NOW + 60, overlap_seconds=0)

        assert sorted(world.cloudtrail.accepted_ids) == [entry(1)["request_id"], entry(2)["request_id"]]

    def test_entries_of_the_future_are_delivered_at_once_and_hide_nothing(self) -> None:
        soon, far = entry(1, request_timestamp=NOW + 600), entry(2, request_timestamp=NOW + 30 * DAY)
        world = World(kong=Kong([soon, far]))

        world.run()
        assert sorted(world.cloudtrail.accepted_ids) == [soon["request_id"], far["request_id"]]
        assert world.complete_until is None

        made_since = [entry(9, request_timestamp=NOW + 1), entry(8, request_timestamp=NOW + 500)]
        world.kong.entries += made_since
        run_again(world, at=NOW + 3600, overlap_seconds=0)
        assert all(world.is_settled(row) for row in made_since)
        assert len(world.cloudtrail.accepted) == 4
        assert world.complete_until == NOW + 600

    def test_entries_from_1970_are_delivered(self) -> None:
        world = World(kong=Kong([entry(1, request_timestamp=0), entry(2)]))

        assert world.run().delivered == 2

    @pytest.mark.parametrize("keep_checkpoint", [True, False])
    def test_gateway_without_filters_is_read_in_full_each_time(self, keep_checkpoint: bool) -> None:
        world = World(kong=Kong(entries(5), filters=False))
        world.run(keep_checkpoint=keep_checkpoint)
        late = entry(99, request_timestamp=NOW - 20 * DAY)
        world.kong.entries.append(late)

        run_again(world, at=NOW + 3600, keep_checkpoint=keep_checkpoint)

        assert world.kong.windows == [None, None]
        assert sorted(world.cloudtrail.accepted_ids) == sorted(row["request_id"] for row in [*entries(5), late])

    def test_gateway_that_gets_filters_later_goes_on_at_the_checkpoint(self) -> None:
        world = World(kong=Kong(entries(5), filters=False))
        world.run()
        world.kong.filters = True

        run_again(world, at=NOW + 3600)

        [window] = world.kong.windows[1:]
        assert window is not None
        assert window.before is None
        assert NOW - 910 <= window.after <= NOW - 900

    def test_without_a_checkpoint_every_run_reads_everything_and_keeps_none(self) -> None:
        world = World(kong=Kong(entries(5)))
        world.run(keep_checkpoint=False)

        run_again(world, at=NOW + 3600, keep_checkpoint=False)

        assert [window.after for window in world.kong.windows if window] == [0, 0]
        assert world.store.objects == {}
        assert len(world.cloudtrail.accepted) == 5

    def test_empty_kong_is_a_finished_run(self) -> None:
        world = World()

        report = world.run()

        assert (report.fetched, report.finished, world.complete_until) == (0, True, None)
        assert report.oldest_undelivered_age_seconds == 0


class TestBacklog:
    @pytest.mark.parametrize("filters", [True, False])
    @pytest.mark.parametrize("pages", [1, 2, 7])
    def test_runs_that_cannot_read_a_slice_to_its_end_go_on_where_the_last_one_stopped(
        self, pages: int, filters: bool
    ) -> None:
        # Given a Kong so slow that there is time for few pages, and many more in the first slice
        backlog = [entry(number, request_timestamp=NOW - number * 60) for number in range(1, 200)]
        world = World(kong=Kong(backlog, page_size=10, filters=filters))
        for run in range(1, 200 // (10 * pages) + 4):
            world.budget = budget_of(world, pages)
            world.live()
            report = world.run(overlap_seconds=60)
            assert report.fetched <= 10 * (pages + 1)
            assert report.delivered > 0 or run > 200 // (10 * pages)

        # Then each of them made progress, until all was delivered
        assert len(world.cloudtrail.accepted_ids) == len(set(world.cloudtrail.accepted_ids)) == 199

    def test_last_slice_holds_the_whole_overlap(self) -> None:
        # Else an entry that shows late could lie in a slice that was read earlier than the newest entry
        world = World(kong=Kong([entry(number, request_timestamp=NOW - number * 1000) for number in range(1, 200)]))
        world.run(overlap_seconds=50_000)

        assert len(world.kong.windows) > 1
        last = world.kong.windows[-1]
        assert last is not None
        assert last.before is None
        assert last.after <= NOW - 50_000

    def test_what_is_recorded_while_everything_is_read_is_not_passed(self) -> None:
        # Given a gateway without filters, which takes ten minutes to be read, and records something meanwhile
        class SlowKong(Kong):
            def pages(self, *arguments: Any) -> Iterator[Page]:
                for page in super().pages(*arguments):
                    world.clock.time += 60
                    yield page

        world = World(kong=SlowKong(entries(10), filters=False, page_size=1))
        world.kong.entries[9] = entry(50, request_timestamp=NOW)
        world.run(overlap_seconds=0, sweep_seconds=0)
        made_meanwhile = entry(60, request_timestamp=NOW - 5)
        world.kong.entries.insert(0, made_meanwhile)

        # When it gets filters, then the entry is found
        world.kong.filters = True
        run_again(world, at=NOW + 3600, overlap_seconds=0, sweep_seconds=0)

        assert world.is_settled(made_meanwhile)

    def test_row_of_unknown_time_that_cannot_be_read_keeps_the_checkpoint(self) -> None:
        world = World(kong=Kong(entries(10), filters=False))
        world.kong.poison = lambda row: row == entry(5)

        world.run()

        assert world.complete_until is None

    @pytest.mark.parametrize("filters", [True, False])
    def test_lag_of_a_first_reading_that_is_not_at_its_end_is_told(self, filters: bool) -> None:
        world = World(
            kong=Kong([entry(number, request_timestamp=NOW - number * 60) for number in range(200)], filters=filters)
        )
        for number in range(5):
            world.budget = budget_of(world, 4)
            run_again(world, at=NOW + 600 * number)
            report = world.telemetry.published[-1]
            assert not report.finished
            assert report.checkpoint_lag_seconds == 600 * number  # since the first run, however old the entries are
            assert report.oldest_undelivered_age_seconds is not None
            assert report.oldest_undelivered_age_seconds >= 60

    @pytest.mark.parametrize("filters", [True, False])
    def test_new_entries_are_reached_however_much_there_is_to_read_before_them(self, filters: bool) -> None:
        # Given an overlap, or a gateway without filters, with far more than a run can read
        old = [entry(number, request_timestamp=NOW - number * 60) for number in range(1, 200)]
        world = World(kong=Kong(old, page_size=10, filters=filters))
        plan = {"overlap_seconds": 20_000, "sweep_seconds": 0}
        world.run(**plan)
        fresh = [entry(1000 + number, request_timestamp=NOW + number) for number in range(30)]
        world.kong.entries += fresh

        lags = []
        for run in range(1, 40):
            world.budget = budget_of(world, 3)
            run_again(world, at=NOW + 600 * run, **plan)
            lags.append(world.telemetry.published[-1].checkpoint_lag_seconds or 0)

        assert all(world.is_settled(row) for row in fresh)
        assert len(world.cloudtrail.accepted) == 229
        # And the lag tells how long ago everything was delivered that there was
        assert 600 <= max(lags) < 10_000

    def test_time_that_is_up_before_kong_has_answered_is_no_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World()

        def too_late() -> None:
            raise TimeBudgetReached("no time")

        monkeypatch.setattr(world.kong, "describe", too_late)

        report = world.run()

        assert not report.finished
        assert world.telemetry.codes == ["RUN_UNFINISHED"]

    @pytest.mark.parametrize("filters", [True, False])
    def test_the_little_that_a_short_run_reads_is_delivered(self, filters: bool) -> None:
        # Given a Kong so slow that there is time for one page only, of less than a batch
        world = World(kong=Kong(entries(100), page_size=20, filters=filters))
        for run in range(1, 30):
            pages_at_start = world.kong.pages_read
            world.budget = Budget(lambda: 100.0 if world.kong.pages_read == pages_at_start else 25.0)  # noqa: B023
            world.live()
            report = world.run()
            assert report.delivered + report.duplicates == report.fetched
            if run == 1:
                assert report.delivered > 0

    def test_next_slice_is_asked_for_while_the_last_page_of_this_one_is_worked_on(self) -> None:
        days = [entry(number, request_timestamp=NOW - number * DAY) for number in range(1, 10)]
        usual = World(kong=Kong(days))
        usual.run()
        slices = len(usual.kong.windows)
        assert slices > 2

        class PatientSeen(Seen):
            """Does not answer for a slice until the next one is asked for."""

            looks = 0

            def seen(self, entries: Sequence[Entry]) -> set[str]:
                self.looks += 1
                if self.looks < slices:
                    wait_until(lambda: len(world.kong.windows) > self.looks)
                return super().seen(entries)

        world = World(kong=Kong(days), seen=PatientSeen())
        world.run()

        assert world.kong.windows == usual.kong.windows

    def test_checkpoint_moves_slice_by_slice_when_time_is_short(self) -> None:
        # Given a backlog of weeks, and time for some pages in each run
        backlog = [entry(number, request_timestamp=NOW - number * 3600) for number in range(1, 800)]
        world = World(kong=Kong(backlog, page_size=10))
        checkpoints: list[int] = []
        for run in count(1):
            assert run < 40, "runs without end"
            pages_at_start = world.kong.pages_read
            world.budget = Budget(lambda: 100.0 if world.kong.pages_read - pages_at_start < 15 else 10.0)  # noqa: B023
            world.live()
            report = world.run()
            checkpoints.append(world.complete_until or 0)
            if report.finished:
                break

        # Then every run makes lasting progress until all is delivered, once
        assert run > 3
        assert checkpoints == sorted(checkpoints)
        assert checkpoints[-1] == NOW - 3600
        assert sorted(world.cloudtrail.accepted_ids) == sorted(row["request_id"] for row in backlog)

    def test_marks_make_progress_where_there_is_no_checkpoint_between(self) -> None:
        # Given a gateway that cannot filter, and time for three of ten pages in the first run
        world = World(kong=Kong(entries(1000), filters=False, page_size=100))
        # Time passes only once something is delivered, so that it does not depend on how threads take turns.
        world.budget = Budget(lambda: 100.0 if world.kong.pages_read < 5 or not world.seen.marks else 10.0)

        report = world.run()

        assert not report.finished
        assert 0 < report.delivered < 1000
        assert world.complete_until is None
        assert len(world.seen.marks) == report.delivered

        world.live()
        world.budget = Budget()
        rest = world.run()
        assert rest.delivered == 1000 - report.delivered
        assert rest.finished

    def test_backlog_is_told(self) -> None:
        world = World(kong=Kong([entry(number, request_timestamp=NOW - number * DAY) for number in range(1, 30)]))
        world.budget = Budget(lambda: 100.0 if world.kong.pages_read < 5 else 10.0)

        report = world.run()

        assert not report.finished
        assert report.oldest_undelivered_age_seconds is not None
        assert report.oldest_undelivered_age_seconds > DAY
        assert world.telemetry.published == [report]


class TestKongFails:
    @pytest.mark.parametrize("page", [1, 2, 3, 5])
    def test_what_was_fetched_before_is_delivered_and_the_run_fails(self, page: int) -> None:
        world = World(kong=Kong(entries(10)))
        world.kong.fails_at_page = page

        with pytest.raises(RunFailed, match="Kong is down") as failed:
            world.run()

        fetched = 2 * (page - 1)
        assert failed.value.summary["fetched"] == fetched
        assert len(world.cloudtrail.accepted) == fetched
        assert len(world.seen.marks) == fetched
        assert world.complete_until is None

        world.live()
        world.run()
        assert sorted(world.cloudtrail.accepted_ids) == sorted(row["request_id"] for row in entries(10))

    def test_slices_that_were_done_before_stay_done(self) -> None:
        days = [entry(number, request_timestamp=NOW - number * DAY) for number in range(1, 10)]
        world = World(kong=Kong(days))
        world.kong.fails_at_page = 7

        with pytest.raises(RunFailed):
            world.run()
        delivered = len(world.cloudtrail.accepted)

        assert delivered > 0
        position = world.ledger.load_checkpoint().reading
        assert position is not None
        world.kong.windows.clear()
        world.live()
        assert world.run().duplicates <= 2
        assert world.kong.windows[0] == position.window
        assert len(world.cloudtrail.accepted) == 9


class TestRedisFails:
    def test_at_the_look_up_nothing_is_delivered(self) -> None:
        world = World(kong=Kong(entries(5)))
        world.seen.fails_to_tell = True

        with pytest.raises(RunFailed, match="Redis is down"):
            world.run()

        assert world.cloudtrail.calls == []
        assert world.complete_until is None

    def test_at_the_mark_the_run_stops_and_says_what_may_come_twice(self) -> None:
        world = World(kong=Kong(entries(2000), page_size=10))
        world.seen.fails_to_mark = True

        with pytest.raises(RunFailed, match="may be delivered a second time"):
            world.run()

        assert len(world.cloudtrail.calls) <= 2  # the batches in flight
        assert world.complete_until is None

        world.live()
        world.seen.fails_to_mark = False
        world.run()
        assert {row["request_id"] for row in entries(2000)} == set(world.cloudtrail.accepted_ids)

    def test_at_the_quarantine_the_entry_is_quarantined_again(self) -> None:
        world = World(kong=Kong([None]))
        world.seen.fails_to_mark = True

        with pytest.raises(RunFailed):
            world.run()

        assert len(world.quarantined) == 1
        world.live()
        world.seen.fails_to_mark = False
        assert world.run().quarantined == 1
        assert len(world.quarantined) == 1

    def test_emptied_between_two_runs_costs_the_overlap_at_most(self) -> None:
        world = World(kong=Kong([entry(number, request_timestamp=NOW - number * 60) for number in range(1, 200)]))
        world.run(overlap_seconds=900)
        world.seen = Seen()

        run_again(world, at=NOW + 3600, overlap_seconds=900)

        doubles = len(world.cloudtrail.accepted) - 199
        assert doubles == 16  # from the checkpoint to the overlap before it, both of them included
        assert "MARKS_LOST" in world.telemetry.codes


class TestLedgerFails:
    def test_at_the_beginning_nothing_is_read(self) -> None:
        world = World(kong=Kong(entries(5)))
        world.store.refuses = lambda name: True

        with pytest.raises(RunFailed, match="ledger is down"):
            world.run()

        assert world.kong.pages_read == 0
        assert world.cloudtrail.calls == []

    def test_at_the_end_everything_is_delivered_and_marked_and_the_run_fails(self) -> None:
        world = World(kong=Kong(entries(5)))
        world.store.refuses = lambda name: name.startswith("runs/")

        with pytest.raises(RunFailed, match="ledger is down"):
            world.run()

        assert len(world.seen.marks) == 5
        world.live()
        world.store.refuses = lambda name: False
        report = world.run()
        assert (report.duplicates, report.delivered, world.complete_until) == (5, 0, NOW - 1)
        assert [report.finished for report in world.telemetry.published] == [False, True]

    @pytest.mark.parametrize(
        "body",
        [
            b'{"completeUntil": "yesterday"}',
            b'{"completeUntil": 1, "reading": 5}',
            b"",
            b"[]",
        ],
    )
    def test_checkpoint_that_is_none_is_said_so(self, body: bytes) -> None:
        world = World(kong=Kong(entries(5)))
        world.store.objects["checkpoints/kong-test/requests/cloudtrail-lake.json"] = body

        with pytest.raises(RunFailed, match="is not a checkpoint of this program"):
            world.run()

    def test_checkpoint_of_another_run_is_not_overwritten(self) -> None:
        world, other = World(kong=Kong(entries(5))), World(kong=Kong(entries(5)))
        other.store = world.store
        other.kong.entries.append(entry(9, request_timestamp=NOW + 7200))
        other.kong.now = NOW + 7200
        other.clock.time = float(NOW + 7200)

        def overtake(name: str) -> bool:
            world.store.refuses = lambda name: False
            other.run()
            return False

        world.store.refuses = lambda name: name.startswith("runs/") and overtake(name)

        with pytest.raises(RunFailed, match="Another run has moved the checkpoint"):
            world.run()

        assert world.complete_until == NOW + 7200


class TestLock:
    def test_second_run_says_so_and_ends_without_work(self) -> None:
        world = World(kong=Kong(entries(5)), lock=Lock(held_by_another=True))

        report = world.run()

        assert (report.skipped, report.finished, report.fetched) == (True, False, 0)
        assert world.kong.pages_read == 0
        assert world.telemetry.codes == ["RUN_SKIPPED"]
        assert not world.lock.released

    @pytest.mark.parametrize("checks", range(8))
    def test_run_that_lost_its_lock_delivers_nothing_more(self, checks: int) -> None:
        world = World(kong=Kong(entries(600), page_size=100))
        world.lock.lost_after_checks = checks

        with pytest.raises(RunFailed, match="lock is lost"):
            world.run()

        assert len(world.cloudtrail.calls) <= checks
        assert len(world.seen.marks) == len(world.cloudtrail.accepted)
        assert world.complete_until is None

    def test_is_given_back_however_the_run_ends(self) -> None:
        finished, failed = World(), World()
        failed.kong.fails_at_page = 1

        finished.run()
        with pytest.raises(RunFailed):
            failed.run()

        assert finished.lock.released
        assert failed.lock.released


class TestReport:
    def test_kept_one_is_the_one_that_is_returned(self) -> None:
        world = World(kong=Kong(entries(3)))
        report = world.run()

        [kept] = world.store.documents("runs/")
        assert kept["finished"] is report.finished is True
        assert {name: kept[name] for name in report.summary()} == report.summary()
        assert kept["writtenAt"] == NOW

    def test_numbers_add_up(self) -> None:
        world = World(kong=Kong([*entries(7), entry(1), None]))
        world.run()
        world.kong.entries += [*entries(3, first=50), "odd"]
        world.live()

        report = world.run()

        assert report.fetched == 13
        assert (
            report.fetched == report.duplicates + report.delivered + report.quarantined + report.failed + report.backlog
        )
        assert (report.duplicates, report.delivered, report.quarantined) == (9, 3, 1)
        assert report.delivered_bytes == sum(len(event.data) for event in world.cloudtrail.accepted[-3:])

    def test_is_published_however_the_run_ends(self) -> None:
        world = World(kong=Kong(entries(3)))
        world.kong.fails_at_page = 1

        with pytest.raises(RunFailed) as failed:
            world.run()

        assert [report.summary() for report in world.telemetry.published] == [failed.value.summary]

    def test_chain_of_reports_is_whole_after_good_and_bad_runs(self) -> None:
        world = World(kong=Kong(entries(3)))
        for first in (10, 20, 30):
            world.run()
            world.kong.entries += entries(3, first=first)
            world.kong.fails_at_page = world.kong.pages_read + 2
            world.live()
            with pytest.raises(RunFailed):
                world.run()
            world.kong.fails_at_page = None
            world.live()

        assert list(world.ledger.verify_reports()) == []
        assert len(world.store.documents("runs/")) >= 3
