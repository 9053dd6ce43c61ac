"""Rows of an answer on standard output: a table on a terminal, tab-separated lines in a pipe, or JSON lines."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import click

from .terminal import is_terminal, stdout_console

if TYPE_CHECKING:
    from rich.console import Console

Row = Sequence[str | None]

_PIECE_ROWS = 1000
"""Rows that a terminal shows at once. The first ones decide whether they are a table."""
_GAP = 2
_CHECKS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("tinyint", "smallint", "integer", "bigint"), int),
    "boolean": lambda text: {"true": True, "false": False}[text],
}
_NUMBERS = frozenset({"tinyint", "smallint", "integer", "bigint", "float", "real", "double", "decimal"})
# Anything can be in a path that somebody requested: commands for the terminal, and marks that turn the direction.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NAMED = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


class Column(Protocol):
    """A column: its name, and its type as Athena names it."""

    @property
    def name(self) -> str:
        """The name."""

    @property
    def type(self) -> str:
        """The type."""


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column of an answer that does not come from Athena.

    Parameters
    ----------
    name
        Its name.
    type
        As Athena names it: ``varchar``, or ``bigint`` for numbers.
    """

    name: str
    type: str = "varchar"


def escaped(text: str) -> str:
    """Return text in which nothing can command a terminal."""
    return "".join(map(_visible, text))


def visible(text: str) -> str:
    """Return text in which nothing can command a terminal but line feeds."""
    return "\n".join(map(escaped, text.split("\n")))


def print_rows(columns: Sequence[Column], rows: Iterable[Row], *, as_json: bool) -> int:
    """Print rows as they come, and return how many there were."""
    if as_json:
        return _print_each(_json_lines(columns, rows))
    if is_terminal(sys.stdout):
        return _print_on_terminal(columns, rows)
    if not columns:
        return 0
    click.echo("\t".join(_escaped(column.name) for column in columns))
    return _print_each("\t".join(_escaped(value or "") for value in row) for row in rows)


def _print_each(lines: Iterable[str]) -> int:
    count = 0
    for line in lines:
        click.echo(line)
        count += 1
    return count


# -- JSON


def _json_lines(columns: Sequence[Column], rows: Iterable[Row]) -> Iterator[str]:
    names = _distinct([column.name for column in columns])
    for row in rows:
        values = (_typed(column, value) for column, value in zip(columns, row, strict=True))
        yield json.dumps(dict(zip(names, values, strict=True)))


def _distinct(names: Iterable[str]) -> list[str]:
    """Return names that differ: Athena allows the same one twice, and an object of JSON does not."""
    found: list[str] = []
    for name in names:
        numbers = itertools.count(2)
        candidate = name
        while candidate in found:
            candidate = f"{name}_{next(numbers)}"
        found.append(candidate)
    return found


def _typed(column: Column, value: str | None) -> Any:
    """Return whole numbers and truth values as such, and everything else as the text that Athena shows."""
    check = _CHECKS.get(column.type)
    if value is None or check is None:
        return value
    try:
        return check(value)
    except (ValueError, KeyError):
        return value


# -- a pipe


def _escaped(text: str) -> str:
    """Return text for a tab-separated line: a backslash before what would break it."""
    return "".join(_visible(character) for character in text.replace("\\", "\\\\")) if _is_odd(text) else text


def _is_odd(text: str) -> bool:
    return "\\" in text or _CONTROL.search(text) is not None


def _visible(character: str) -> str:
    if _CONTROL.match(character) is None:
        return character
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


# -- a terminal


def _print_on_terminal(columns: Sequence[Column], rows: Iterable[Row]) -> int:
    console = stdout_console()
    pending = iter(rows)
    piece = list(itertools.islice(pending, _PIECE_ROWS))
    widths = _widths(columns, piece)
    fit = _fit(widths, console)
    count = 0
    while piece or count == 0:
        if not fit:
            _print_records(console, columns, piece, count)
        elif columns:
            _print_table(console, columns, piece, widths, with_names=count == 0)
        count += len(piece)
        piece = list(itertools.islice(pending, _PIECE_ROWS))
        if not piece:
            break
        wider = [max(pair) for pair in zip(widths, _widths(columns, piece), strict=True)]
        widths = wider if _fit(wider, console) else widths
    console.file.flush()
    return count


def _fit(widths: Sequence[int], console: Console) -> bool:
    return sum(widths) + _GAP * (len(widths) - 1) <= console.width


def _widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    from rich.cells import cell_len

    return [
        max(cell_len(text) for text in (shown(column.name), *(shown(row[place]) for row in rows)))
        for place, column in enumerate(columns)
    ]


def shown(value: str | None) -> str:
    """Return a value for a terminal: control characters are visible, and do nothing."""
    return "" if value is None else escaped(value)


def _print_table(
    console: Console, columns: Sequence[Column], rows: Sequence[Row], widths: Sequence[int], *, with_names: bool
) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=with_names, header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        justify: Any = "right" if column.type.partition("(")[0] in _NUMBERS else "left"
        table.add_column(Text(shown(column.name)), width=max(width, 1), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(value)) for value in row))
    console.print(table)


def _print_records(console: Console, columns: Sequence[Column], rows: Sequence[Row], before: int) -> None:
    """Print a block of lines for each row: what to do with rows that are wider than the terminal."""
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    for number, row in enumerate(rows, before + 1):
        table = Table.grid(padding=(0, _GAP))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for column, value in zip(columns, row, strict=True):
            table.add_row(Text(shown(column.name)), Text(shown(value)))
        console.print(Rule(f"row {number}", align="left", style="dim"))
        console.print(table)
