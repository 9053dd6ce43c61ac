"""``kong-cloudtrail query``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from kong_cloudtrail.errors import SettingsError

from .. import environment
from ..errors import QueryWrong
from ..exit_status import ExitStatus
from ..rows import Row, print_rows
from ..terminal import print_facts, say, waiting

if TYPE_CHECKING:
    from ..athena import Athena, NamedQuery

_DEFAULT_LIMIT = 1000
_DOLLARS_PER_BYTE = 5 / 1e12
"""https://aws.amazon.com/athena/pricing/, 2026-11. That a query is billed for 10 MB at least does not show in cents."""


@click.command(short_help="Ask the archive in SQL, by Amazon Athena.")
@click.argument("query", metavar="[NAME|SQL]", required=False)
@click.argument("values", metavar="[VALUE]...", nargs=-1)
@click.option("--list", "show_list", is_flag=True, help="Show the named queries instead.")
@click.option("--json", "as_json", is_flag=True, help="Print each row as a JSON object in a line.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=_DEFAULT_LIMIT,
    show_default=True,
    metavar="ROWS",
    help="Print at most so many rows.",
)
@click.option("--workgroup", metavar="NAME", help="Ask this workgroup of Athena. Default: ATHENA_WORKGROUP.")
@click.option(
    "--database",
    metavar="NAME",
    help="Database of the tables. Default: that of the named query, or ATHENA_DATABASE.",
)
@click.option("--region", metavar="NAME", help="Region of the deployment. Default: AWS_REGION.")
@environment.settings_options
def query(
    query: str | None,
    values: tuple[str, ...],
    show_list: bool,
    as_json: bool,
    limit: int,
    workgroup: str | None,
    database: str | None,
    region: str | None,
    env_file: Path | None,
    function: str | None,
    stack: str | None,
) -> ExitStatus:
    """Ask the archive in SQL, by Amazon Athena.

    NAME is one of the queries that the deployment has brought along; --list shows them. Anything else with a space in
    it is SQL. Each VALUE stands for a question mark in the query. The answer is a table on a terminal, and
    tab-separated lines in a pipe. Athena bills what a query reads, which is said at the end.

    \b
    Examples:
      kong-cloudtrail query --list --stack KongCloudTrailIntegration
      kong-cloudtrail query who-did-what --stack KongCloudTrailIntegration
      kong-cloudtrail query "SELECT count(*) FROM events WHERE day = '2026-11-24'" --stack KongCloudTrailIntegration
      kong-cloudtrail query "SELECT * FROM events WHERE uid = ?" "$REQUEST_ID" --stack KongCloudTrailIntegration
    """
    if show_list == (query is not None):
        raise click.UsageError("Give a query, by name or in SQL, or --list.")
    from ..athena import Athena, use_region

    if region:
        use_region(region)
    variables = environment.read(env_file, function, stack)
    workgroup = workgroup or variables.get("ATHENA_WORKGROUP", "").strip()
    if not workgroup:
        raise SettingsError(
            ["ATHENA_WORKGROUP: is missing; give --stack or --function of a deployment with an archive, or --workgroup"]
        )
    athena = Athena(workgroup)
    try:
        if query is None:
            _print_names(athena, workgroup, as_json=as_json)
        else:
            named = _named(athena, workgroup, query)
            database = database or (named.database if named else variables.get("ATHENA_DATABASE", "").strip())
            _print_answer(athena, named.sql if named else query, values, database, limit, as_json=as_json)
    finally:
        athena.close()
    return ExitStatus.DONE


def _named(athena: Athena, workgroup: str, query: str) -> NamedQuery | None:
    """Return the query of this name; ``None`` if it is SQL."""
    known = {each.name: each for each in athena.named_queries()}
    if query not in known and not any(map(str.isspace, query)):
        names = f"It has: {', '.join(known)}." if known else "It has none."
        raise QueryWrong(f"Workgroup {workgroup} has no query {query}. {names} SQL goes into quotation marks.")
    return known.get(query)


def _print_names(athena: Athena, workgroup: str, *, as_json: bool) -> None:
    found = athena.named_queries()
    if as_json:
        import json

        for each in found:
            click.echo(
                json.dumps(
                    {
                        "name": each.name,
                        "description": each.description,
                        "database": each.database,
                        "sql": each.sql,
                    }
                )
            )
    elif found:
        print_facts([(each.name, each.description) for each in found])
    else:
        say(f"Workgroup {workgroup} has no named queries.")


def _print_answer(
    athena: Athena, sql: str, values: tuple[str, ...], database: str, limit: int, *, as_json: bool
) -> None:
    with waiting("Athena is at work"):
        answer = athena.ask(sql, values, database=database, most_rows=limit + 1)
    rows = _Limited(answer.rows, limit)
    count = print_rows(answer.columns, rows, as_json=as_json)
    if rows.is_cut:
        say(f"There are more rows than the {count:,} that are shown. Give --limit to see more.")
    say(_summary(count, answer.scanned_bytes, answer.seconds))


class _Limited:
    """Some rows, and whether there are more."""

    def __init__(self, rows: Iterator[Row], limit: int) -> None:
        self._rows = rows
        self._limit = limit
        self.is_cut = False
        """Known after the last row."""

    def __iter__(self) -> Iterator[Row]:
        yield from itertools.islice(self._rows, self._limit)
        self.is_cut = next(self._rows, None) is not None


def _summary(count: int, scanned_bytes: int, seconds: float) -> str:
    dollars = scanned_bytes * _DOLLARS_PER_BYTE
    cost = f"about {dollars:,.2f} $" if dollars >= 0.01 else "less than 0.01 $"
    rows = "1 row" if count == 1 else f"{count:,} rows"
    return f"{rows}. Athena read {_size(scanned_bytes)} in {seconds:.1f} s: {cost} (5 $ per TB)."


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
