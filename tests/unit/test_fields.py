"""What people write in a request: moments, choices, numbers; and that everything wrong is said at once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kong_cloudtrail.domain.entry import LATEST_SECOND
from kong_cloudtrail.domain.moment import parse_moment, utc
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import RequestInvalid
from kong_cloudtrail.operations.fields import Fields

NOW = datetime(2026, 3, 15, 10, 30, 15, tzinfo=UTC).timestamp() + 0.9


class TestMoment:
    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("now", "2026-03-15T10:30:15Z"),
            ("today", "2026-03-15T00:00:00Z"),
            (" Yesterday ", "2026-03-14T00:00:00Z"),
            ("90s", "2026-03-15T10:28:45Z"),
            ("30m", "2026-03-15T10:00:15Z"),
            ("2h", "2026-03-15T08:30:15Z"),
            ("1d", "2026-03-14T10:30:15Z"),
            ("2w", "2026-03-01T10:30:15Z"),
            ("2026-03-01", "2026-03-01T00:00:00Z"),
            ("2026-03-01T09:30:00Z", "2026-03-01T09:30:00Z"),
            ("2026-03-01T09:30:00+02:00", "2026-03-01T07:30:00Z"),
            ("2026-03-01 09:30", "2026-03-01T09:30:00Z"),
            ("2026-03-01T09:30:00.999Z", "2026-03-01T09:30:00Z"),
        ],
    )
    def test_in_each_form(self, text: str, moment: str) -> None:
        assert utc(parse_moment(text, NOW)) == moment

    @pytest.mark.parametrize("text", ["", "soon", "2x", "-2h", "2026-13-01", "٣h", "2026-03-01T09:30:00+99:00", "1.5h"])
    def test_in_no_form(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not a moment; write one like"):
            parse_moment(text, NOW)

    @pytest.mark.parametrize("text", ["999999999w", "1969-12-31", "0001-01-01T00:00:00+14:00"])
    def test_before_1970(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"not between the years 1970 and 9999|not a moment"):
            parse_moment(text, NOW)

    @given(st.integers(0, LATEST_SECOND))
    def test_is_read_as_it_is_shown(self, seconds: int) -> None:
        assert parse_moment(utc(seconds), NOW) == seconds


class TestFields:
    def test_everything_wrong_is_said_at_once(self) -> None:
        fields = Fields({"after": "soon", "limit": 0, "dry_run": "yes", "action": "lst", "nmes": []}, NOW)
        fields.moment("after")
        fields.number("limit", least=1, most=10, default=5)
        fields.flag("dry_run")
        fields.choice("action", ("list", "show"))
        fields.texts("names")

        with pytest.raises(RequestInvalid) as raised:
            fields.finish()

        assert len(raised.value.problems) == 5
        for words in (
            "after: 'soon' is not a moment",
            "limit: has to be a whole number from 1 to 10",
            "dry_run: has to be true or false",
            "action: has to be one of list, show",
            "There is no field nmes; the fields are: action, after, dry_run, limit, names.",
        ):
            assert words in str(raised.value)

    def test_what_is_not_given_has_its_default(self) -> None:
        fields = Fields({"after": None}, NOW)

        assert fields.moment("after") is None
        assert fields.text("name") is None
        assert fields.choice("action", ("list",)) is None
        assert fields.number("limit", least=1, most=10, default=5) == 5
        assert fields.flag("dry_run") is False
        assert fields.texts("names") == ()
        fields.finish()

    @pytest.mark.parametrize(
        ("given_fields", "problem"),
        [
            ({}, "after: is missing. before: is missing."),
            ({"after": "2h"}, "before: is missing."),
            ({"after": "1h", "before": "2h"}, "before: has to be later than `after`."),
            ({"after": "1h", "before": "1h"}, "before: has to be later than `after`."),
            ({"after": 5, "before": "1h"}, "after: has to be a moment, as a text."),
        ],
    )
    def test_window_that_is_none(self, given_fields: dict[str, object], problem: str) -> None:
        fields = Fields(given_fields, NOW)
        fields.window()

        with pytest.raises(RequestInvalid) as raised:
            fields.finish()
        assert str(raised.value) == problem

    def test_window(self) -> None:
        fields = Fields({"after": "2026-03-01", "before": "2026-03-02"}, NOW)

        assert fields.window() == Window(1_772_323_200, 1_772_409_600)
        fields.finish()
