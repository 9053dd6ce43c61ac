"""``kong-cloudtrail preview``."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from ..asking import Asking, asks
from ..exit_status import ExitStatus, most_urgent
from ..rows import TextColumn, print_rows, visible
from ..terminal import is_terminal, say, stdout_console

_DEFAULT_LIMIT = 100
_MAX_LIMIT = 1000
_SIDE_BY_SIDE_COLUMNS = 120
"""Width of a terminal that has room for two columns of JSON."""


_COLUMNS = tuple(map(TextColumn, ("time", "fate", "what", "id")))


@click.command(short_help="Show what the next run would deliver, and write nothing.")
@click.option("--diff", is_flag=True, help="Show each entry beside the event that it becomes.")
@click.option("--ndjson", is_flag=True, help="Print each entry as a JSON object in a line, with its event and trail.")
@click.option(
    "--limit",
    type=click.IntRange(1, _MAX_LIMIT),
    default=_DEFAULT_LIMIT,
    show_default=True,
    metavar="ENTRIES",
    help="Show at most so many entries of each trail.",
)
@asks
def preview(asking: Asking, diff: bool, ndjson: bool, limit: int) -> ExitStatus:
    """Show what the next run would deliver, and write nothing anywhere.

    Reads as a run does: from the checkpoint on, without what is delivered already. No mark, no lock, no object in the
    ledger and no key in the cache is written. A trail whose run would fail does not keep the others from being shown;
    the status is that of the failure then. The fate of an entry is to be delivered, to be shortened (its event has
    too much for CloudTrail, and the ledger keeps the original), or to go to quarantine, as no event can be made of it.

    \b
    Examples:
      kong-cloudtrail preview --stack KongCloudTrailIntegration
      kong-cloudtrail preview --stack KongCloudTrailIntegration --diff --limit 1
      kong-cloudtrail preview --env-file kong.env --ndjson | jq .event
    """
    if ndjson and (diff or asking.as_json):
        raise click.UsageError("Give one of --ndjson, --diff and --json.")
    document = asking.answer("preview", limit=limit)
    ends = []
    for trail in document["trails"]:
        if (problem := trail["problem"]) is not None:
            asking.program.complain(f"{_name(trail)}: {problem['message']}")
            ends.append(ExitStatus.FAILED if problem["may_pass"] else ExitStatus.MISCONFIGURED)
            continue
        for notice in trail["notices"]:
            say(f"{notice['code']}: {notice['message']}")
        if ndjson:
            for each in _with_trail(trail):
                click.echo(json.dumps(each))
        elif not asking.as_json:
            _print(trail, diff=diff)
    return most_urgent(ends)


def _with_trail(trail: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    names = {name: trail[name] for name in ("source", "stream", "destination")}
    return ({**names, **each} for each in trail["entries"])


def _print(trail: Mapping[str, Any], *, diff: bool) -> None:
    entries: Sequence[Mapping[str, Any]] = trail["entries"]
    if diff:
        for each in entries:
            _print_beside(each)
    elif entries:
        print_rows(_COLUMNS, ((each["time"], each["fate"], _what(each), each["id"]) for each in entries), as_json=False)
    say(_summary(trail))


def _what(entry: Mapping[str, Any]) -> str:
    """Return what was done, in a few words."""
    value = entry["entry"]
    if not isinstance(value, dict):
        return f"({entry['bytes']:,} bytes)"
    words = [value.get(name) for name in ("method", "path", "operation", "dao_name")]
    return " ".join(word for word in words if isinstance(word, str))


def _summary(trail: Mapping[str, Any]) -> str:
    name = _name(trail)
    shown, found = len(trail["entries"]), trail["found"]
    if not found and not trail["more"]:
        return f"{name}: nothing to deliver. Kong showed {trail['fetched']:,} entries, which are all delivered."
    if trail["more"]:
        return f"{name}: the first {shown:,} of at least {found:,} entries. Give --limit to see more."
    return f"{name}: {found:,} entries to deliver."


def _name(trail: Mapping[str, Any]) -> str:
    return f"{trail['stream']} into {trail['destination']}"


def _print_beside(entry: Mapping[str, Any]) -> None:
    problem = f": {entry['problem']}" if entry["problem"] else ""
    title = visible(f"{entry['id']}, {entry['time'] or 'no time'}, {entry['fate']}{problem}")
    left, right = (_pretty(entry[name], entry["bytes"]) for name in ("entry", "event"))
    if not is_terminal(sys.stdout):
        click.echo(f"# {title}\n## entry\n{left}\n## event\n{right}\n")
        return
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    console = stdout_console()
    side_by_side = console.width >= _SIDE_BY_SIDE_COLUMNS
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", expand=side_by_side)
    columns = (("entry", left), ("event", right))
    if side_by_side:
        for name, _ in columns:
            table.add_column(name, ratio=1, overflow="fold")
        table.add_row(*(Text(text) for _, text in columns))
    else:
        table.show_header = False
        table.add_column(overflow="fold")
        for part in itertools.chain.from_iterable((Text(name, style="bold"), Text(text)) for name, text in columns):
            table.add_row(part)
    console.print(Rule(title, align="left", style="dim"))
    console.print(table)
    console.file.flush()


def _pretty(value: object, size_bytes: int) -> str:
    if value is None:
        return f"(none, or left out for its size: {size_bytes:,} bytes)"
    return visible(json.dumps(value, indent=2, ensure_ascii=False))
