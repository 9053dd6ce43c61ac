"""Slices tile their window: what lies between two of them would never be read."""

from hypothesis import given
from hypothesis import strategies as st
from kong_cloudtrail.domain.window import FIRST_SLICE_SECONDS, Slices, Window

DAY = 86_400


def cut(after: int, horizon: int, pages_of: list[int], *, known_seconds: int = 0) -> list[Window]:
    """Cut a window, telling for each slice how many pages it had (the last number repeats)."""
    slices = Slices(after, horizon=horizon, known_seconds=known_seconds)
    found: list[Window] = []
    for window in slices:
        found.append(window)
        slices.had(pages_of[min(len(found), len(pages_of)) - 1])
    return found


@given(st.integers(0, 10**7), st.integers(-10, 10**6), st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_slices_tile_the_window(after: int, length: int, pages_of: list[int]) -> None:
    # The last number is the number of pages of all further slices: below the target, or they would become tiny.
    slices = cut(after, after + length, [*pages_of, 5])

    position = after
    for window in slices[:-1]:
        assert window.after == position
        assert window.before is not None
        assert window.before > position
        position = window.before
    assert slices[-1] == Window(position, None)


@given(st.integers(0, 10**7), st.integers(0, 10**6))
def test_last_slice_begins_at_the_horizon_at_the_latest(after: int, length: int) -> None:
    assert cut(after, after + length, [10])[-1].after <= after + length


def test_healthy_trail_asks_once() -> None:
    assert cut(0, FIRST_SLICE_SECONDS, [3]) == [Window(0, None)]


def test_quiet_gateway_is_asked_once_about_what_is_known() -> None:
    assert cut(0, 30 * DAY, [0], known_seconds=30 * DAY - 3600) == [Window(0, None)]


def test_slices_grow_over_quiet_times_and_shrink_over_busy_ones() -> None:
    quiet = cut(0, 365 * DAY, [0])
    busy = cut(0, DAY + DAY // 10 + DAY // 100 + 1, [100])

    assert len(quiet) <= 6
    assert busy[:3] == [
        Window(0, DAY),
        Window(DAY, DAY + DAY // 10),
        Window(DAY + DAY // 10, DAY + DAY // 10 + DAY // 100),
    ]


def test_slice_is_never_shorter_than_a_second() -> None:
    assert len(cut(0, DAY + 5, [10**9])) == 6
