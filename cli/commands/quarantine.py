"""``kong-cloudtrail quarantine``."""

from __future__ import annotations

import getpass
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from ..asking import Asking, asks
from ..exit_status import ExitStatus, most_urgent
from ..interruption import confirms
from ..rows import TextColumn, escaped, print_rows
from ..terminal import print_facts, say

_LIST_COLUMNS = ("name", "code", "quarantined_at", "request_time", "bytes", "id", "trail")
_LEFT_COLUMNS = ("name", "code", "left_at", "request_time", "reason", "bytes", "id", "trail")
_NUMBERS = frozenset({"bytes"})


@click.group(short_help="List, show, deliver or discard the entries that could not be delivered.")
def quarantine() -> None:
    """List, show, deliver or discard the entries that could not be delivered.

    CloudTrail refused them for their content, or no event could be made of them. The ledger keeps each of them whole,
    with the reason. An archive refuses nothing, so its trails have none.
    """


@quarantine.command("list", short_help="List them.")
@click.option(
    "--state",
    type=click.Choice(["quarantined", "released", "discarded"]),
    default="quarantined",
    show_default=True,
    help="Those that are in quarantine, that were delivered from it, or that were discarded.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Show so many at most.")
@asks
def list_entries(asking: Asking, state: str, limit: int) -> ExitStatus:
    """List the entries, without their content.

    \b
    Example:
      kong-cloudtrail quarantine list --stack KongCloudTrailIntegration
    """
    document = asking.answer("quarantine", action="list", state=state, limit=limit)
    if asking.as_json:
        return ExitStatus.DONE
    entries = document["entries"]
    if not entries:
        say(f"No entry is {'in quarantine' if state == 'quarantined' else state}.")
        return ExitStatus.DONE
    names = _LIST_COLUMNS if state == "quarantined" else _LEFT_COLUMNS
    columns = [TextColumn(name, "bigint" if name in _NUMBERS else "varchar") for name in names]
    rows = [[_text(({**entry, "trail": _trail(entry)})[name]) for name in names] for entry in entries]
    print_rows(columns, rows, as_json=False)
    if document["more"]:
        say(f"There are more than {limit}: raise --limit.")
    return ExitStatus.DONE


@quarantine.command(short_help="Show one of them, whole.")
@click.argument("name")
@asks
def show(asking: Asking, name: str) -> ExitStatus:
    """Show an entry with the reason and its whole content, also after it has left the quarantine.

    The content may hold credentials that somebody sent to the Admin API: do not paste it into a ticket.

    \b
    Example:
      kong-cloudtrail quarantine show 8XsOaNYwXgn0VmgA8qYYpVteu14p9GIK-7c1f0d2e9b3a4455
    """
    document = asking.answer("quarantine", action="show", names=[name])
    for entry in () if asking.as_json else document["entries"]:
        facts = [(key, escaped(_text(value))) for key, value in _facts(entry).items() if value is not None]
        print_facts(facts)
        click.echo(json.dumps(entry["entry"], indent=2))
    return ExitStatus.DONE


@quarantine.command(short_help="Deliver them, once the cause is gone.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--dry-run", is_flag=True, help="Deliver nothing: say which of them can be mapped to an event now.")
@asks
def replay(asking: Asking, names: Sequence[str], dry_run: bool) -> ExitStatus:
    """Deliver entries from quarantine, all or those that are named, once the cause is gone.

    They are delivered as a run delivers: mapped anew, sent, marked as delivered, and then moved to `released`. What is
    refused again stays, and is listed with the code of the reason. Needs the cache, so let the function do it unless
    your machine reaches it.

    \b
    Examples:
      kong-cloudtrail quarantine replay --dry-run --stack KongCloudTrailIntegration
      kong-cloudtrail quarantine replay --stack KongCloudTrailIntegration
    """
    document = asking.answer("quarantine", action="replay", names=list(names), dry_run=dry_run)
    trails: Sequence[Mapping[str, Any]] = document["trails"]
    if not asking.as_json:
        delivered, refused, left = (sum(trail[name] for trail in trails) for name in ("delivered", "refused", "left"))
        words = ("can be delivered", "cannot be mapped") if dry_run else ("delivered", "still refused")
        click.echo(f"{words[0]} {delivered}, {words[1]} {refused}" + (f", left {left}" if left else ""))
        for trail in trails:
            for entry in trail["refused_entries"]:
                click.echo(f"{entry['code']}  {entry['name']}")
    if any(trail["skipped"] for trail in trails):
        say("A run or a backfill is at work on the trail, so nothing was done. Ask again when it has ended.")
    elif any(trail["left"] for trail in trails):
        say("The time was used up: ask again for the rest.")
    return most_urgent([_status(trail) for trail in trails])


@quarantine.command(short_help="Decide that some of them stay undelivered.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--reason", required=True, metavar="TEXT", help="Why, such as a ticket. It is kept with the entry.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@asks
def discard(asking: Asking, names: Sequence[str], reason: str, yes: bool) -> ExitStatus:
    """Decide that entries stay undelivered, and no longer count as open.

    Nothing is deleted: each is kept whole in `discarded`, with when, who and why. `reconcile` goes on naming it. Who is
    what your machine says, your user name; what AWS knows about the caller is in the account's CloudTrail.

    \b
    Example:
      kong-cloudtrail quarantine discard NAME --reason "SEC-1234: sent by a load test"
    """
    if not yes:
        if asking.as_json or not sys.stdin.isatty():
            raise click.UsageError("Nobody can be asked here: give --yes.")
        question = f"Discard {len(names)} {'entry' if len(names) == 1 else 'entries'}, never to be delivered?"
        if not confirms(question):
            say("Nothing was discarded.")
            return ExitStatus.DONE
    document = asking.answer("quarantine", action="discard", names=list(names), reason=reason, by=_who())
    if not asking.as_json:
        click.echo(f"discarded {len(document['entries'])}")
    return ExitStatus.DONE


def _who() -> str:
    """Return who is asking, as far as this machine knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such user, as in many containers
        user = "unknown user"
    return f"{user} on {socket.gethostname()}"


def _status(trail: Mapping[str, Any]) -> ExitStatus:
    if trail["skipped"]:
        return ExitStatus.SKIPPED
    if trail["left"]:
        return ExitStatus.FAILED
    return ExitStatus.QUARANTINED if trail["refused"] else ExitStatus.DONE


def _facts(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    shown = {key: value for key, value in entry.items() if key not in ("source", "stream", "destination", "entry")}
    gateway = entry["gateway"]
    return {"trail": _trail(entry), **shown, "gateway": f"{gateway['hostname']}, {gateway['version']}"}


def _trail(entry: Mapping[str, Any]) -> str:
    return "/".join(entry[name] for name in ("source", "stream", "destination"))


def _text(value: object) -> str:
    return "" if value is None else str(value)
