"""Rows of an answer, at terminals of any width, in a pipe, and as JSON. Whatever is in them shows and does nothing."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterable

import pytest

from cli.athena import Column
from cli.rows import Row, print_rows

COLUMNS = [Column("at", "varchar"), Column("who", "varchar"), Column("calls", "bigint")]
ROWS: list[Row] = [["2026-11-24T08:45:00Z", "alice", "7"], ["2026-11-24T08:50:00Z", None, "1234"]]
UUID = "7a1d2c34-1111-4222-8333-444455556666"
HOSTILE = "GET/\x1b[2J\x9b31m\t\r\n\u202eevil\ud800\\"


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


Show = Callable[[list[Column], Iterable[Row]], list[str]]


@pytest.fixture(params=[60, 200])
def columns(request: pytest.FixtureRequest) -> int:
    """Columns of the terminal."""
    return int(request.param)


@pytest.fixture
def show(columns: int, monkeypatch: pytest.MonkeyPatch) -> Show:
    """Print rows on a terminal, and return its lines."""

    def run(of: list[Column], rows: Iterable[Row]) -> list[str]:
        terminal = Tty()
        with monkeypatch.context() as patch:
            patch.setenv("TERM", "xterm-256color")
            patch.setenv("COLUMNS", str(columns))
            patch.setattr(sys, "stdout", terminal)
            print_rows(of, rows, as_json=False)
        return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()]

    return run


class TestTerminal:
    def test_table(self, show: Show) -> None:
        assert show(COLUMNS, ROWS) == [
            "at                    who    calls",
            "2026-11-24T08:45:00Z  alice      7",
            "2026-11-24T08:50:00Z          1234",
        ]

    def test_rows_that_are_too_wide_are_shown_one_below_the_other(self, show: Show, columns: int) -> None:
        shown = show([*COLUMNS, Column("workspace", "varchar")], [[*row, UUID] for row in ROWS])

        assert all(len(line) <= columns for line in shown)
        assert sum(UUID in line for line in shown) == 2
        if columns == 60:
            assert [line.split()[:2] for line in shown[:5]] == [
                ["row", "1"],
                ["at", "2026-11-24T08:45:00Z"],
                ["who", "alice"],
                ["calls", "7"],
                ["workspace", UUID],
            ]

    def test_long_text_is_there_to_its_end(self, show: Show, columns: int) -> None:
        text = "".join(f"{number:04}" for number in range(250))

        shown = show([Column("entry", "varchar")], [[text]])

        assert all(len(line) <= columns for line in shown)
        assert "".join(line.removeprefix("entry").strip() for line in shown[1:]) == text

    def test_nothing_in_a_row_is_a_command_to_the_terminal(self, show: Show) -> None:
        assert show([Column("path", "varchar")], [[HOSTILE]])[1] == (r"GET/\x1b[2J\x9b31m\t\r\n\u202eevil\ud800" + "\\")

    def test_many_rows_come_in_pieces_of_one_table(self, show: Show, columns: int) -> None:
        rows = ([str(number), "x" * (180 if number == 2000 else 1), "1"] for number in range(2500))

        shown = show(COLUMNS, rows)

        assert all(len(line) <= columns for line in shown)
        assert [line.split()[0] for line in shown if line.endswith(" 1")] == [str(number) for number in range(2500)]
        assert sum("calls" in line for line in shown) == 1
        assert sum(line.count("x") for line in shown) == 2679

    def test_no_rows(self, show: Show) -> None:
        assert [line.split() for line in show(COLUMNS, [])] == [["at", "who", "calls"]]

    def test_no_columns(self, show: Show) -> None:
        assert show([], []) == []


class TestPipe:
    def test_lines_with_tabs(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_rows(COLUMNS, ROWS, as_json=False)

        assert capsys.readouterr().out == (
            "at\twho\tcalls\n2026-11-24T08:45:00Z\talice\t7\n2026-11-24T08:50:00Z\t\t1234\n"
        )

    def test_a_row_is_one_line_with_its_cells(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_rows(COLUMNS, [[HOSTILE, "a\tb\\t", "1"]], as_json=False)

        line = capsys.readouterr().out.splitlines()[1]
        assert line.split("\t") == [r"GET/\x1b[2J\x9b31m\t\r\n\u202eevil\ud800\\", r"a\tb\\t", "1"]

    def test_no_columns(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_rows([], [], as_json=False)

        assert capsys.readouterr().out == ""


class TestJson:
    def test_text_is_as_it_was(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_rows([Column("path", "varchar")], [[HOSTILE], [""], [None]], as_json=True)

        lines = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
        assert lines == [HOSTILE, "", None]

    def test_only_what_cannot_lose_anything_is_more_than_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        kinds = {
            "bigint": "9007199254740993",
            "boolean": "true",
            "double": "0.1",
            "decimal(38,9)": "1.10",
            "date": "2026",
        }
        columns = [Column(kind, kind) for kind in kinds]

        print_rows(columns, [list(kinds.values())], as_json=True)

        assert json.loads(capsys.readouterr().out) == kinds | {"bigint": 9007199254740993, "boolean": True}

    def test_columns_of_one_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_rows([Column("a", "varchar")] * 3, [["1", "2", "3"]], as_json=True)

        assert json.loads(capsys.readouterr().out) == {"a": "1", "a_2": "2", "a_3": "3"}
