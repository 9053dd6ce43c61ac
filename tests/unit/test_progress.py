"""The checkpoint never passes something undelivered, and never goes back: all that a run skips depends on it."""

from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.domain.window import Slice, Window
from kong_cloudtrail.errors import CheckpointConflict, LedgerError
from kong_cloudtrail.ledger import Checkpoint, Ledger
from kong_cloudtrail.progress import Progress

from tests.fakes import Store
from tests.helpers import FakeClock


def ledger(store: Store) -> Ledger:
    return Ledger(store, "kong", FakeClock())


def stored(store: Store) -> int | None:
    return ledger(store).load_checkpoint().complete_until


def slice_until(moment: int | None) -> Slice:
    return Slice(Window(0, moment), complete_until=moment)


def outcome(result: bool | None) -> Future[bool]:
    future: Future[bool] = Future()
    if result is not None:
        future.set_result(result)
    return future


def conclude(progress: Progress, report: RunReport) -> None:
    """Do what ends a run."""
    progress.settle()
    progress.save(report)


@pytest.fixture
def store() -> Store:
    return Store()


def test_moves_past_a_slice_only_when_all_of_it_is_settled(store: Store) -> None:
    progress = Progress(ledger(store), keep=True)
    pending = outcome(None)

    progress.slice_read(slice_until(100), [outcome(True), pending])
    progress.move()
    assert stored(store) is None

    pending.set_result(True)
    progress.move()
    assert stored(store) == 100


def test_slice_without_entries_is_settled_at_once(store: Store) -> None:
    progress = Progress(ledger(store), keep=True)

    progress.slice_read(slice_until(100), [])
    progress.move()

    assert stored(store) == 100


def test_later_slice_waits_for_the_earlier_one(store: Store) -> None:
    progress = Progress(ledger(store), keep=True)
    pending = outcome(None)
    progress.slice_read(slice_until(100), [pending])
    progress.slice_read(slice_until(200), [outcome(True)])

    progress.move()
    assert stored(store) is None

    pending.set_result(True)
    progress.move()
    assert stored(store) == 200


def test_nothing_moves_past_a_slice_of_which_something_is_undelivered(store: Store) -> None:
    progress = Progress(ledger(store), keep=True)
    for moment, delivered in ((100, True), (200, False), (300, True)):
        progress.slice_read(slice_until(moment), [outcome(True), outcome(delivered)])

    progress.move()
    conclude(progress, RunReport("kong"))

    assert stored(store) == 100
    assert progress.is_blocked


def test_slice_that_says_nothing_about_the_checkpoint_can_still_block_it(store: Store) -> None:
    progress = Progress(ledger(store), keep=True)
    progress.slice_read(slice_until(None), [outcome(False)])

    progress.move()

    assert progress.is_blocked


def test_never_moves_back(store: Store) -> None:
    ledger(store).save_checkpoint(Checkpoint(500))
    progress = Progress(ledger(store), keep=True)

    progress.slice_read(slice_until(400), [])
    conclude(progress, RunReport("kong"))

    assert stored(store) == 500


@given(st.lists(st.tuples(st.integers(1, 50), st.lists(st.booleans(), max_size=3)), max_size=8), st.randoms())
def test_is_where_everything_before_it_is_settled(slices: list[tuple[int, list[bool]]], random) -> None:  # type: ignore[no-untyped-def]
    # Given slices whose batches end in any order
    store = Store()
    progress = Progress(ledger(store), keep=True)
    open_outcomes: list[tuple[Future[bool], bool]] = []
    ends, moment = [], 0
    for length, results in slices:
        moment += length
        futures = [(outcome(None), result) for result in results]
        open_outcomes += futures
        ends.append((moment, futures))
        progress.slice_read(slice_until(moment), [future for future, _ in futures])
    random.shuffle(open_outcomes)

    # When they end one by one, then at each moment everything before the checkpoint is settled
    last = 0
    for future, result in open_outcomes:
        future.set_result(result)
        progress.move()
        complete_until = stored(store) or 0
        assert complete_until >= last
        last = complete_until
        for end, futures in ends:
            if end <= complete_until:
                assert all(done.done() and done.result() for done, _ in futures)

    # And in the end it stands before the first slice that is not
    conclude(progress, RunReport("kong"))
    expected = 0
    for end, futures in ends:
        if not all(result for _, result in futures):
            break
        expected = end
    assert (stored(store) or 0) == expected


def test_older_run_does_not_overwrite_a_newer_checkpoint(store: Store) -> None:
    older, newer = (Progress(ledger(store), keep=True) for _ in range(2))
    newer.slice_read(slice_until(900), [])
    newer.move()

    older.slice_read(slice_until(100), [])
    with pytest.raises(CheckpointConflict):
        older.move()

    assert stored(store) == 900


def test_failing_store_is_an_error_and_changes_nothing(store: Store) -> None:
    progress = Progress(ledger(store), keep=True)
    store.refuses = lambda name: True

    progress.slice_read(slice_until(100), [])
    with pytest.raises(LedgerError):
        progress.move()

    store.refuses = lambda name: False
    assert stored(store) is None


def test_nothing_is_written_by_a_run_that_changed_nothing(store: Store) -> None:
    progress = Progress(ledger(store), keep=True)

    conclude(progress, RunReport("kong"))

    assert store.objects == {}


def test_nothing_is_read_or_written_where_no_checkpoint_is_kept(store: Store) -> None:
    ledger(store).save_checkpoint(Checkpoint(500))
    before = dict(store.objects)

    progress = Progress(ledger(store), keep=False)
    assert progress.complete_until is None
    progress.slice_read(slice_until(900), [])
    conclude(progress, RunReport("kong", delivered=5))

    assert store.objects == before


def test_report_of_a_run_that_delivered_is_chained_and_remembered(store: Store) -> None:
    for delivered in (5, 0, 7):
        progress = Progress(ledger(store), keep=True)
        progress.slice_read(slice_until(100 + delivered), [])
        conclude(progress, RunReport("kong", delivered=delivered))

    reports = store.documents("runs/")
    assert [report["delivered"] for report in reports] == [5, 7]
    assert ledger(store).load_checkpoint().run_number == 2
    assert list(ledger(store).verify_reports()) == []
