"""Writes the example of docs/queries.md: its entries, and each named query with its SQL and its answer.

Run it with ``python -m tools.queries_page``. It asks the Athena of a local AWS (`sandbox.machinery.local_aws`).

A test does the same and compares, so the page cannot fall behind.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from cli.athena import Athena
from sandbox.machinery.local_aws import LocalAws
from sandbox.machinery.processes import PROJECT_DIRECTORY
from stacks.parts.archive_sql import NAMED_QUERIES, statement
from tools import example_archive
from tools.example_archive import DAY_SECONDS, ENTRIES, LAST_DAY, OBJECTS

PAGE = PROJECT_DIRECTORY / "docs" / "queries.md"

_BLOCK = re.compile(r"(?<=<!-- made by tools\.queries_page: )(?P<name>[a-z-]+) -->\n.*?(?=<!-- end -->)", re.DOTALL)

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def render(page: str, ask: Callable[[str], Table]) -> str:
    """Return the page with its example made anew, each block between its two markers.

    Parameters
    ----------
    page
        The page.
    ask
        Returns the names of the columns, and the rows, that a named query answers.
    """
    blocks = {"entries": _markdown(*_entries()), "objects": _markdown(*_objects())}
    blocks |= {
        query.name: f"{query.description}.\n\n```sql\n{statement(query, 'json')}\n```\n\n{_markdown(*ask(query.name))}"
        for query in NAMED_QUERIES
    }
    return _BLOCK.sub(lambda block: f"{block['name']} -->\n\n{blocks[block['name']]}\n", page)


def asker(athena: Athena, days: int) -> Callable[[str], Table]:
    """Return what asks an example whose entries were moved by some days, and answers as if they were not."""
    named = {query.name: query for query in athena.named_queries()}
    times = [DAY_SECONDS * n + LAST_DAY for n in range(-1, 1)]
    times += [entry["request_timestamp"] for entry in ENTRIES if entry["request_timestamp"] is not None]
    back = {_day(at + days * DAY_SECONDS): _day(at) for at in times}
    back |= {str(at + days * DAY_SECONDS): str(at) for at in times}
    moved = re.compile("|".join(back))

    def ask(name: str) -> Table:
        query = named[name]
        answer = athena.ask(query.sql, database=query.database, most_rows=1000)
        rows = [[moved.sub(lambda found: back[found[0]], value or "") for value in row] for row in answer.rows]
        return [column.name for column in answer.columns], rows

    return ask


def statements_of_readers(page: str) -> list[str]:
    """Return the statements of the section with queries of a reader's own."""
    return re.findall(r"```sql\n(.*?)\n```", _section(page, "Queries of your own"), re.DOTALL)


def documented_columns(page: str) -> set[str]:
    """Return the columns that the page names."""
    rows = re.findall(r"^\| (`.*?) \|", _section(page, "The table"), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def _section(page: str, title: str) -> str:
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _entries() -> Table:
    shown = ("request_timestamp", "rbac_user_name", "client_ip", "method", "path", "status", "workspace")
    rows = [[_time(entry["request_timestamp"]), *(str(entry[name] or "") for name in shown[1:])] for entry in ENTRIES]
    return shown, rows


def _objects() -> Table:
    shown = ("request_timestamp", "operation", "dao_name", "entity_key", "entity", "request_id")
    return shown, [[_time(one["request_timestamp"]), *(str(one[name]) for name in shown[1:])] for one in OBJECTS]


def _time(seconds: int | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: str) -> str:
    return f"`{value}`" if value.startswith("{") else value


def main() -> int:
    """Write the page."""
    with LocalAws() as aws:
        os.environ |= aws.environment()
        days = example_archive.days_moved()
        example_archive.create(days)
        athena = Athena(example_archive.WORKGROUP)
        PAGE.write_text(render(PAGE.read_text("utf-8"), asker(athena, days)), encoding="utf-8")
        athena.close()
    print(f"Wrote {PAGE.relative_to(PROJECT_DIRECTORY)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
