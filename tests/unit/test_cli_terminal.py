"""What a person sees at a terminal, and what a pipe or a log file gets instead."""

from __future__ import annotations

import io
import re
import sys

import pytest
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.domain.window import Window

from cli.terminal import Pace, TerminalTelemetry, describe_progress, print_counts, print_facts, share_read
from tests.helpers import TRAIL


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[60, 200])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(request.param))
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return int(request.param)


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


class TestProgress:
    def test_is_shown_in_place_and_taken_away_at_the_end(self, columns: int) -> None:
        stream = Tty()
        with TerminalTelemetry(str, stream) as telemetry:
            telemetry.progress(RunReport(TRAIL, pages=2, fetched=2000, duplicates=51, delivered=1900))
            telemetry.publish(RunReport(TRAIL))

        shown = stream.getvalue()
        assert "2,000 read  1,900 delivered" in without_escapes(shown)
        assert all(len(line) <= columns for line in without_escapes(shown).replace("\r", "\n").split("\n"))
        assert shown.rstrip("\x1b[?25h\r").endswith("\x1b[2K")  # the last line was cleared

    def test_messages_stand_above_it_in_one_line(self, columns: int) -> None:
        stream = Tty()
        message = "The time was used up; " * 10
        with TerminalTelemetry(str, stream) as telemetry:
            telemetry.progress(RunReport(TRAIL, pages=2, fetched=2000))
            telemetry.warning("RUN_UNFINISHED", message, backlog=5)

        assert f"RUN_UNFINISHED: {message} backlog=5\n" in without_escapes(stream.getvalue())

    @pytest.mark.parametrize("term", ["dumb", "unknown", "", None])
    def test_terminals_that_know_lines_only_get_lines(self, monkeypatch: pytest.MonkeyPatch, term: str | None) -> None:
        monkeypatch.setenv("TERM", term or "")
        if term is None:
            monkeypatch.delenv("TERM")
        assert_plain(Tty(), monkeypatch)

    def test_pipes_get_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert_plain(io.StringIO(), monkeypatch)

    def test_remembers_that_somebody_has_to_change_something(self) -> None:
        telemetry = TerminalTelemetry(str, io.StringIO())
        assert not telemetry.misconfigured
        telemetry.publish(RunReport(TRAIL, misconfigured=True))
        assert telemetry.misconfigured


def assert_plain(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that a stream gets lines, without a progress display and without a control character."""
    monkeypatch.setattr(sys, "stdout", stream)
    with TerminalTelemetry(str, stream) as telemetry:
        telemetry.progress(RunReport(TRAIL, pages=2))
        telemetry.info("RUN_SKIPPED", "Another run is at work.")
        telemetry.warning("RUN_UNFINISHED", "The time was used up.", backlog=5)
        telemetry.publish(RunReport(TRAIL))
    print_counts([("fetched", 1234567), ("failed", 0)])
    print_facts([("place", "s3://bucket/" + "x" * 80), ("source", "kong")])

    assert stream.getvalue() == (
        "Another run is at work.\nRUN_UNFINISHED: The time was used up. backlog=5\n"
        "fetched  1234567\nfailed         0\n"
        f"place   s3://bucket/{'x' * 80}\nsource  kong\n"
    )


class TestTables:
    def test_fit_the_terminal(self, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = Tty()
        monkeypatch.setattr(sys, "stdout", stream)

        print_counts([("fetched", 1234567), ("failed", 0)])
        print_facts([("place", "s3://bucket/" + "x" * 80), ("source", "[kong]")])

        lines = without_escapes(stream.getvalue()).splitlines()
        assert [line.rstrip() for line in lines[:2]] == ["fetched  1,234,567", "failed           0"]
        assert all(len(line.rstrip()) <= columns for line in lines)
        assert "".join(line.strip() for line in lines[2:-1]).count("x") == 80  # folded, not cut
        assert lines[-1].split() == ["source", "[kong]"]

    def test_no_color(self, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = Tty()
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("NO_COLOR", "1")
        with TerminalTelemetry(str, stream) as telemetry:
            telemetry.warning("CODE", "A message.")

        print_counts([("fetched", 1)])

        assert not re.search(r"\x1b\[[0-9;]*3[0-7]", stream.getvalue())


class TestRemainingTime:
    def test_is_judged_by_what_came_after_the_first_entry(self) -> None:
        window = Window(1000, None)
        report = RunReport(TRAIL, window=window, window_seconds_read=600, fetched=12_345, delivered=12_000)

        share = share_read(report, now=2000)

        assert share == 0.6
        text = describe_progress(report, share, 60, Pace(seconds=20, share=0.2))
        assert text == "60%  ~0:40 left  12,345 read  12,000 delivered  206/s"
        assert describe_progress(report, share, 9000, Pace(0, 0)).startswith("60%  ~1:40:00 left  ")

    @pytest.mark.parametrize(
        ("window", "now"),
        [(None, 2000), (Window(1000, None), 1000), (Window(0, None), 2000)],
    )
    def test_is_left_out_where_it_is_not_known(self, window: Window | None, now: int) -> None:
        report = RunReport(TRAIL, window=window, window_seconds_read=10, fetched=10)

        share = share_read(report, now)

        assert share is None
        assert describe_progress(report, share, 0.1, Pace(0, 0)) == "10 read  0 delivered"

    def test_begins_with_the_share_alone(self) -> None:
        report = RunReport(TRAIL, window=Window(1000, None), window_seconds_read=300)
        assert describe_progress(report, 0.3, 0.1, Pace(0.1, 0.3)) == "30%  0 read  0 delivered"

    def test_share_is_never_more_than_all(self) -> None:
        report = RunReport(TRAIL, window=Window(1000, None), window_seconds_read=5000)
        assert share_read(report, 2000) == 1.0

    def test_a_hundred_thousand_entries_fit_into_60_columns(self) -> None:
        report = RunReport(TRAIL, fetched=100_000, delivered=100_000)
        assert len(describe_progress(report, 0.5, 3600, Pace(0, 0))) < 60
