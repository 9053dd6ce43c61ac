"""The checkpoint never passes something undelivered, unless as a gap: all that a run skips depends on it."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kong_cloudtrail.domain.checkpoint import CacheState, Checkpoint, OpenGap, Position
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import CheckpointConflict, LedgerError
from kong_cloudtrail.ports import Gap
from kong_cloudtrail.run.progress import MAX_GAPS, Progress
from kong_cloudtrail.run.reading import Bounds, Purpose, Stretch
from kong_cloudtrail.state.ledger import Ledger

from tests.fakes import Store
from tests.helpers import NOW, TRAIL, FakeClock

CACHE = CacheState("cache", 10)


def ledger(store: Store) -> Ledger:
    return Ledger(store, TRAIL, FakeClock())


def stored(store: Store) -> Checkpoint:
    return ledger(store).load_checkpoint()


def new_progress(store: Store, *, keep: bool = True, report: RunReport | None = None) -> Progress:
    return Progress(
        ledger(store),
        keep=keep,
        overlap_seconds=900,
        sweep_seconds=86_400,
        may_overlap=False,
        report=report or RunReport(TRAIL),
    )


def progress_of(store: Store, *, keep: bool = True, report: RunReport | None = None) -> Progress:
    progress = new_progress(store, keep=keep, report=report)
    list(progress.begin(CACHE, "3.10", Bounds.of(NOW, None)))
    return progress


def stretch(until: int, **changes: object) -> Stretch:
    """Return the stretch that reads the ten seconds before a moment, and ends its slice."""
    usual = Stretch(
        purpose=Purpose.NEW,
        slice_window=Window(until - 10, until),
        position=Position(Window(until, None), None, until - 1, NOW, NOW),
        complete_until=until - 1,
        span=Window(until - 8, until - 3),
        has_undated=False,
        gaps=(),
        proven=True,
        reading_proven=True,
        failed="",
        began_at=NOW,
        newest_first=True,
        retried=None,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def outcome(result: bool | None) -> Future[bool]:
    future: Future[bool] = Future()
    if result is not None:
        future.set_result(result)
    return future


def read(progress: Progress, until: int, *results: bool | None, **changes: object) -> list[Future[bool]]:
    outcomes = [outcome(result) for result in results]
    progress.stretch_read(stretch(until, **changes), outcomes)
    return outcomes


def conclude(progress: Progress) -> None:
    """Do what ends a run."""
    progress.settle()
    progress.save()


@pytest.fixture
def store() -> Store:
    return Store()


class TestOrder:
    def test_moves_past_a_part_only_when_all_of_it_is_settled(self, store: Store) -> None:
        progress = progress_of(store)
        _, pending = read(progress, 100, True, None)
        progress.move()
        assert stored(store).complete_until is None

        pending.set_result(True)
        progress.move()
        assert stored(store).complete_until == 99
        assert stored(store).reading == stretch(100).position

    def test_later_part_waits_for_the_earlier_one(self, store: Store) -> None:
        progress = progress_of(store)
        [pending] = read(progress, 100, None)
        read(progress, 200, True)
        progress.move()
        assert stored(store).complete_until is None

        pending.set_result(True)
        progress.move()
        assert stored(store).complete_until == 199

    def test_never_moves_back_because_of_a_part(self, store: Store) -> None:
        ledger(store).save_checkpoint(Checkpoint(complete_until=500))
        progress = progress_of(store)

        read(progress, 400, True)
        conclude(progress)

        assert stored(store).complete_until == 500

    def test_part_that_does_not_end_a_slice_moves_the_position_alone(self, store: Store) -> None:
        progress = progress_of(store)
        position = Position(Window(90, 100), "behind page 10", 99, NOW, NOW)

        read(progress, 100, True, complete_until=None, position=position)
        progress.move()

        assert (stored(store).complete_until, stored(store).reading) == (None, position)

    @given(st.lists(st.lists(st.booleans(), max_size=3), max_size=8), st.randoms())
    def test_everything_before_it_is_settled_or_a_gap(self, stretches: list[list[bool]], random) -> None:  # type: ignore[no-untyped-def]
        # Given stretches whose batches end in any order
        store = Store()
        progress = progress_of(store)
        pending: list[tuple[Future[bool], bool]] = []
        read_stretches = []
        for number, results in enumerate(stretches):
            futures = read(progress, 100 + 10 * number, *[None] * len(results))
            pending += zip(futures, results, strict=True)
            read_stretches.append((100 + 10 * number, futures))
        random.shuffle(pending)

        # When they end one by one, then at each moment nothing before the checkpoint is forgotten
        for future, result in pending:
            future.set_result(result)
            progress.move()
            checkpoint = stored(store)
            for until, futures in read_stretches:
                if until - 1 <= (checkpoint.complete_until or 0):
                    settled = all(one.done() and one.result() for one in futures)
                    assert settled or Window(until - 8, until - 3) in [gap.window for gap in checkpoint.gaps]

        # And in the end it stands at the last stretch that is settled
        conclude(progress)
        delivered = [until for (until, _), results in zip(read_stretches, stretches, strict=True) if all(results)]
        last = max(delivered, default=None)
        assert stored(store).complete_until == (None if last is None else last - 1)


class TestGaps:
    def test_what_is_stuck_becomes_a_gap_once_something_newer_is_settled(self, store: Store) -> None:
        progress = progress_of(store)
        read(progress, 100, False)
        conclude(progress)
        assert progress.is_blocked
        assert stored(store).complete_until is None

        read(progress, 200, True)
        conclude(progress)

        assert not progress.is_blocked
        assert stored(store).complete_until == 199
        assert stored(store).gaps == (OpenGap(Window(92, 97), "undelivered", "not delivered", NOW),)

    @pytest.mark.parametrize(
        "changes",
        [
            {"proven": False},
            {"has_undated": True, "slice_window": Window(90, None)},
            {"slice_window": None},
            {"slice_window": None, "proven": False, "reading_proven": False},
        ],
        ids=["not proven", "an entry without a time in an open window", "everything read", "everything, not proven"],
    )
    def test_what_no_window_finds_again_is_never_passed(self, store: Store, changes: dict[str, object]) -> None:
        progress = progress_of(store)

        read(progress, 100, False, **changes)
        read(progress, 200, True)
        conclude(progress)

        assert progress.is_blocked
        assert (stored(store).complete_until, stored(store).gaps) == (None, ())

    def test_empty_slice_does_not_show_that_anything_newer_can_be_delivered(self, store: Store) -> None:
        # As when CloudTrail refuses everything, and the next slice was fetched meanwhile
        progress = progress_of(store)

        read(progress, 100, False)
        read(progress, 200, span=None, complete_until=96)
        conclude(progress)

        assert progress.is_blocked
        assert (stored(store).complete_until, stored(store).gaps) == (None, ())

    def test_entry_without_a_time_makes_the_whole_slice_a_gap(self, store: Store) -> None:
        progress = progress_of(store)

        read(progress, 100, False, has_undated=True)
        read(progress, 200, True)
        conclude(progress)

        assert [gap.window for gap in stored(store).gaps] == [Window(90, 100)]

    def test_slice_that_could_not_be_read_becomes_a_gap(self, store: Store) -> None:
        progress = progress_of(store)

        read(progress, 100, failed="SourceUnavailable", span=None)
        read(progress, 200, True)
        conclude(progress)

        assert stored(store).gaps == (OpenGap(Window(90, 100), "unreadable", "SourceUnavailable", NOW),)

    def test_what_kong_could_not_show_is_kept_with_the_checkpoint(self, store: Store) -> None:
        progress = progress_of(store)

        read(progress, 100, True, gaps=(Gap(Window(95, 96), "status 500"),))
        progress.move()

        assert stored(store).complete_until == 99
        assert stored(store).gaps == (OpenGap(Window(95, 96), "unreadable", "status 500", NOW),)

    def test_row_that_still_cannot_be_shown_stays_when_the_rest_of_its_gap_is_settled(self, store: Store) -> None:
        # Given a gap of one second, with so many rows that it is read in two stretches
        second = OpenGap(Window(95, 96), "unreadable", "status 500", NOW - 500)
        ledger(store).save_checkpoint(Checkpoint(complete_until=200, gaps=(second,)))
        progress = progress_of(store)
        again = {"purpose": Purpose.GAP, "retried": second, "span": Window(95, 96)}

        # When the first of them passes a row that the gateway still cannot show
        read(progress, 100, True, gaps=(Gap(Window(95, 96), "status 500"),), **again)
        progress.move()
        read(progress, 100, True, position=None, **again)
        conclude(progress)

        # Then that row is still a gap
        assert stored(store).gaps == (second,)

    def test_too_many_stop_the_checkpoint(self, store: Store) -> None:
        progress = progress_of(store)
        for number in range(MAX_GAPS + 3):
            read(progress, 100 + 10 * number, True, gaps=(Gap(Window(number, number + 1), "status 500"),))
        conclude(progress)

        assert len(stored(store).gaps) == MAX_GAPS
        assert stored(store).complete_until == 100 + 10 * (MAX_GAPS - 1) - 1
        assert progress.is_blocked

    def test_unreadable_ones_that_overlap_are_one_as_old_as_the_oldest(self, store: Store) -> None:
        gaps = (
            OpenGap(Window(0, 10), "unreadable", "status 500", 7),
            OpenGap(Window(10, 20), "unreadable", "status 500", 6),
            OpenGap(Window(15, 25), "undelivered", "not delivered", 4),
            OpenGap(Window(30, 40), "unreadable", "status 500", 5),
        )
        ledger(store).save_checkpoint(Checkpoint(complete_until=500, gaps=gaps))
        progress = progress_of(store)

        read(progress, 100, True, gaps=(Gap(Window(19, 35), "status 502"),))
        conclude(progress)

        joined = OpenGap(Window(10, 40), "unreadable", "status 502", 5)
        assert set(stored(store).gaps) == {gaps[0], gaps[2], joined}

    @pytest.mark.parametrize("window", [Window(10, 90), None])
    def test_one_that_is_being_read_does_not_stand_for_what_is_found_since(
        self, store: Store, window: Window | None
    ) -> None:
        gap = OpenGap(window, "unreadable", "status 500", 5)
        ledger(store).save_checkpoint(Checkpoint(complete_until=500, gaps=(gap,)))
        progress = progress_of(store)
        [pending] = read(progress, 90, None, purpose=Purpose.GAP, retried=gap, position=None)

        read(progress, 90, purpose=Purpose.SWEEP, gaps=(Gap(window, "status 500"),))
        progress.settle()
        pending.set_result(True)
        conclude(progress)

        assert stored(store).gaps == (OpenGap(window, "unreadable", "status 500", NOW),)

    def test_of_unknown_time_is_not_added_by_each_sweep(self, store: Store) -> None:
        gap = OpenGap(None, "unreadable", "status 500", 5)
        ledger(store).save_checkpoint(Checkpoint(complete_until=500, gaps=(gap,)))
        progress = progress_of(store)

        read(progress, 90, purpose=Purpose.SWEEP, gaps=(Gap(None, "status 500"), Gap(Window(5, 6), "status 500")))
        conclude(progress)

        assert [one.window for one in stored(store).gaps] == [None, Window(5, 6)]

    def test_is_closed_once_all_of_it_is_settled(self, store: Store) -> None:
        gap = OpenGap(Window(10, 90), "undelivered", "not delivered", 5)
        ledger(store).save_checkpoint(Checkpoint(complete_until=500, gaps=(gap,)))
        progress = progress_of(store)

        # Rows come newest first: what is left of it ends where the last settled stretch began, ties included
        read(progress, 90, True, purpose=Purpose.GAP, retried=gap, span=Window(50, 88))
        conclude(progress)
        assert [one.window for one in stored(store).gaps] == [Window(10, 51)]

        read(progress, 90, True, purpose=Purpose.GAP, retried=gap, span=Window(12, 50), position=None)
        conclude(progress)
        assert stored(store).gaps == ()

    @pytest.mark.parametrize("newest_first", [True, False])
    @pytest.mark.parametrize("window", [None, Window(10, 90)])
    def test_is_not_closed_by_a_part_without_entries_behind_which_more_may_come(
        self, store: Store, window: Window | None, newest_first: bool
    ) -> None:
        # As when the time for gaps is over after a page that a row ended which cannot be read
        gap = OpenGap(window, "unreadable", "status 500", 5)
        ledger(store).save_checkpoint(Checkpoint(complete_until=500, gaps=(gap,)))
        progress = progress_of(store)

        read(progress, 90, purpose=Purpose.GAP, retried=gap, span=None, newest_first=newest_first)
        conclude(progress)

        assert stored(store).gaps == (gap,)

    @pytest.mark.parametrize(("newest_first", "left"), [(True, Window(0, 51)), (False, None)])
    def test_of_unknown_time_is_narrowed_if_the_order_is_known(
        self, store: Store, newest_first: bool, left: Window | None
    ) -> None:
        gap = OpenGap(None, "unreadable", "status 500", 5)
        ledger(store).save_checkpoint(Checkpoint(complete_until=500, gaps=(gap,)))
        progress = progress_of(store)

        again = {"purpose": Purpose.GAP, "retried": gap, "newest_first": newest_first}
        read(progress, 90, True, span=Window(50, 88), **again)
        conclude(progress)
        assert [one.window for one in stored(store).gaps] == [left]

        read(progress, 90, True, span=Window(12, 50), position=None, **again)
        conclude(progress)
        assert stored(store).gaps == ()

    @pytest.mark.parametrize("newest_first", [True, False])
    @pytest.mark.parametrize("settled", [True, False])
    def test_later_part_waits_for_the_earlier_one_that_is_in_flight(
        self, store: Store, newest_first: bool, settled: bool
    ) -> None:
        gap = OpenGap(Window(10, 90), "undelivered", "not delivered", 5)
        ledger(store).save_checkpoint(Checkpoint(complete_until=500, gaps=(gap,)))
        progress = progress_of(store)
        again = {"purpose": Purpose.GAP, "retried": gap, "newest_first": newest_first}

        [in_flight] = read(progress, 90, None, span=Window(50, 88), **again)
        read(progress, 90, True, span=Window(12, 50), position=None, **again)
        progress.move()
        assert stored(store).gaps == (gap,)

        in_flight.set_result(settled)
        conclude(progress)
        assert stored(store).gaps == (() if settled else (gap,))

    def test_is_not_closed_behind_a_part_that_is_not_settled(self, store: Store) -> None:
        gap = OpenGap(Window(10, 90), "undelivered", "not delivered", 5)
        ledger(store).save_checkpoint(Checkpoint(complete_until=500, gaps=(gap,)))
        progress = progress_of(store)

        read(progress, 90, False, purpose=Purpose.GAP, retried=gap, span=Window(50, 88))
        read(progress, 90, True, purpose=Purpose.GAP, retried=gap, span=Window(12, 50), position=None)
        conclude(progress)

        assert stored(store).gaps == (gap,)

    def test_narrows_to_what_is_still_unreadable_and_keeps_its_age(self, store: Store) -> None:
        gap = OpenGap(Window(10, 90), "unreadable", "SourceUnavailable", 5)
        ledger(store).save_checkpoint(Checkpoint(complete_until=500, gaps=(gap,)))
        progress = progress_of(store)

        row = Gap(Window(40, 41), "status 500")
        read(progress, 90, True, purpose=Purpose.GAP, retried=gap, position=None, gaps=(row,))
        conclude(progress)

        assert stored(store).gaps == (OpenGap(Window(40, 41), "unreadable", "status 500", 5),)

    def test_reading_everything_closes_those_from_before(self, store: Store) -> None:
        gaps = (OpenGap(Window(10, 90), "undelivered", "not delivered", NOW - 5), OpenGap(None, "unreadable", "x", NOW))
        ledger(store).save_checkpoint(Checkpoint(complete_until=500, gaps=gaps))
        progress = progress_of(store)

        read(progress, 600, True, slice_window=None, position=None)
        conclude(progress)

        assert stored(store).gaps == gaps[1:]

    def test_without_a_checkpoint_they_leave_the_run_unfinished(self, store: Store) -> None:
        progress = progress_of(store, keep=False)

        read(progress, 100, True, gaps=(Gap(Window(95, 96), "status 500"),))
        conclude(progress)

        assert progress.is_blocked


class TestSaving:
    def test_older_run_does_not_overwrite_a_newer_checkpoint(self, store: Store) -> None:
        older, newer = progress_of(store), progress_of(store)
        read(newer, 900, True)
        newer.move()

        read(older, 100, True)
        with pytest.raises(CheckpointConflict):
            older.move()

        assert stored(store).complete_until == 899

    def test_ledger_that_takes_nothing_does_not_stop_the_run(self, store: Store) -> None:
        progress = progress_of(store)
        store.is_read_only = True
        for until in (100, 200):
            read(progress, until, True)
            progress.move()

        with pytest.raises(LedgerError):
            progress.save()

        assert store.objects == {}

    def test_report_is_not_written_where_the_checkpoint_cannot_be(self, store: Store) -> None:
        # Else the chain would grow with every run, and each run would walk along all of it
        store.refuses = lambda name: False
        for _ in range(5):
            progress = progress_of(store)
            store.refuses = lambda name: name.startswith("checkpoints/")
            read(progress, 100, True)
            progress.move()
            with pytest.raises(LedgerError):
                progress.save()
            store.refuses = lambda name: False

        assert store.documents("runs/") == []

    def test_nothing_is_read_or_written_where_no_checkpoint_is_kept(self, store: Store) -> None:
        ledger(store).save_checkpoint(Checkpoint(complete_until=500))
        before = dict(store.objects)

        progress = progress_of(store, keep=False, report=RunReport(TRAIL, delivered=5))
        assert progress.checkpoint.complete_until is None
        read(progress, 900, True)
        conclude(progress)

        assert store.objects == before

    def test_report_of_a_run_that_delivered_is_chained_and_remembered(self, store: Store) -> None:
        for delivered in (5, 0, 7):
            progress = progress_of(store, report=RunReport(TRAIL, delivered=delivered))
            read(progress, 100 + delivered, True)
            conclude(progress)

        assert [report["delivered"] for report in store.documents("runs/")] == [5, 7]
        assert stored(store).run_number == 2
        assert list(ledger(store).verify_reports()) == []

    def test_everything_in_it_comes_back_as_it_was_saved(self, store: Store) -> None:
        position = Position(Window(5, None), '{"offset":"x"}', 7, 8, 9)
        checkpoint = Checkpoint(
            complete_until=1,
            begins_at=2,
            caught_up_at=3,
            reading=position,
            gaps=(
                OpenGap(Window(1, 2), "unreadable", "status 500", 4),
                OpenGap(None, "undelivered", "not delivered", 5),
            ),
            sweep=replace(position, window=None, newest=None),
            sweep_due=6,
            cache=CACHE,
            marks_whole_after=7,
            gateway_version="3.10",
            gateway_ahead_seconds=-9,
            run_number=8,
            run_sha256="ab",
        )

        saved = ledger(store).save_checkpoint(checkpoint)

        assert stored(store) == saved == replace(checkpoint, version=saved.version)


def codes(progress: Progress, cache: CacheState, bounds: Bounds, version: str = "3.10") -> Sequence[str]:
    return [notice.code for notice in progress.begin(cache, version, bounds)]


class TestBeginning:
    def begin(
        self, store: Store, checkpoint: Checkpoint, *, cache: CacheState = CACHE, now: int = NOW, version: str = "3.10"
    ) -> tuple[Sequence[str], Checkpoint]:
        ledger(store).save_checkpoint(replace(checkpoint, version=None))
        progress = new_progress(store)
        return codes(progress, cache, Bounds.of(now, None), version), progress.checkpoint

    @pytest.mark.parametrize("cache", [CacheState("another", 50), CacheState("cache", 9)], ids=["emptied", "restored"])
    def test_cache_that_lost_marks_bounds_the_sweeps(self, store: Store, cache: CacheState) -> None:
        before = Checkpoint(complete_until=NOW - 100, cache=CACHE, sweep_due=NOW + 50)

        told, checkpoint = self.begin(store, before, cache=cache)

        assert told == ["MARKS_LOST"]
        assert (checkpoint.marks_whole_after, checkpoint.cache) == (NOW - 1000, cache)

    @pytest.mark.parametrize("cache", [CACHE, CacheState("cache", 900)])
    def test_cache_that_kept_its_marks_is_not_worth_a_word(self, store: Store, cache: CacheState) -> None:
        told, checkpoint = self.begin(store, Checkpoint(complete_until=NOW, cache=CACHE), cache=cache)

        assert told == []
        assert checkpoint.marks_whole_after is None

    def test_first_sweep_is_due_a_day_after_the_first_run(self, store: Store) -> None:
        _, checkpoint = self.begin(store, Checkpoint())

        assert checkpoint.sweep_due == NOW + 86_400

    def test_due_time_that_a_wrong_clock_set_is_not_waited_for(self, store: Store) -> None:
        _, checkpoint = self.begin(store, Checkpoint(sweep_due=NOW + 10**7))

        assert checkpoint.sweep_due == NOW

    def test_new_release_brings_a_sweep(self, store: Store) -> None:
        due = Checkpoint(sweep_due=NOW + 50, gateway_version="3.9", complete_until=NOW)

        _, after_upgrade = self.begin(store, due, version="3.10")
        assert (after_upgrade.sweep_due, after_upgrade.gateway_version) == (NOW, "3.10")

    def test_release_that_is_not_told_is_no_new_one(self, store: Store) -> None:
        due = Checkpoint(sweep_due=NOW + 50, gateway_version="3.9", complete_until=NOW)

        _, untold = self.begin(store, due, version="unknown")
        assert (untold.sweep_due, untold.gateway_version) == (NOW + 50, "3.9")
