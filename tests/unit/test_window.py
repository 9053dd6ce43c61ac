"""Slices tile their window: what lies between two of them would never be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kong_cloudtrail.domain.window import FIRST_SLICE_SECONDS, Slice, Slices, Window

DAY = 86_400


def cut(window: Window, pages_of: list[int], *, complete_until: int | None = None) -> list[Slice]:
    """Cut a window, telling for each slice how many pages it had (the last number repeats)."""
    assert window.before is not None
    slices = Slices(window, complete_until=window.before if complete_until is None else complete_until)
    found: list[Slice] = []
    for slice_ in slices:
        found.append(slice_)
        slices.had(pages_of[min(len(found), len(pages_of)) - 1])
    return found


@given(st.integers(0, 10**7), st.integers(-10, 10**6), st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_slices_tile_the_window(after: int, length: int, pages_of: list[int]) -> None:
    before = after + length
    # The last number is the number of pages of all further slices: below the target, or they would become tiny.
    slices = cut(Window(after, before), [*pages_of, 5])

    position = after
    for slice_ in slices:
        assert slice_.window is not None
        assert slice_.window.after == position
        assert slice_.window.before is not None
        assert slice_.window.before > position
        assert slice_.complete_until == slice_.window.before
        position = slice_.window.before
    assert position == max(after, before) or not slices


def test_second_that_is_not_over_is_read_but_not_complete() -> None:
    slices = cut(Window(0, 3 * DAY + 1), [10], complete_until=3 * DAY)

    assert [slice_.complete_until for slice_ in slices] == [DAY, 2 * DAY, 3 * DAY, 3 * DAY]


def test_healthy_trail_asks_once() -> None:
    assert len(cut(Window(0, FIRST_SLICE_SECONDS), [3])) == 1


def test_empty_window_has_no_slice() -> None:
    assert cut(Window(100, 100), [1]) == []


def test_slices_grow_over_quiet_times_and_shrink_over_busy_ones() -> None:
    quiet = cut(Window(0, 365 * DAY), [0])
    busy = cut(Window(0, DAY + DAY // 10 + DAY // 100), [100])
    lengths = [
        slice_.window.before - slice_.window.after for slice_ in busy[:3] if slice_.window and slice_.window.before
    ]

    assert len(quiet) <= 6
    assert lengths == [DAY, DAY // 10, DAY // 100]


def test_slice_is_never_shorter_than_a_second() -> None:
    assert len(cut(Window(0, DAY + 5), [10**9])) == 6


def test_window_without_an_end_is_not_cut() -> None:
    with pytest.raises(ValueError, match="without an end"):
        Slices(Window(0, None), complete_until=0)
