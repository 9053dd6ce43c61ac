"""``kong-cloudtrail reconcile``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from ..asking import Asking, asks, window_options
from ..exit_status import ExitStatus, most_urgent
from ..interruption import confirms
from ..program import Program
from ..rows import escaped
from ..terminal import print_facts, say

_SHOWN = 20
"""Entries of a kind that are shown to people. JSON has more."""

_BASES = {
    "parts": "the parts of the archive, by the entries' keys",
    "lake": "CloudTrail Lake, by UID",
    "marks": "our own marks: what CloudTrail has confirmed. Copies and extra events are not known",
}


@click.command(short_help="Prove that a destination holds everything that Kong shows.")
@window_options
@click.option("--repair", is_flag=True, help="Deliver what is missing.")
@click.option("--yes", is_flag=True, help="Do not ask about what a query costs.")
@asks
def reconcile(asking: Asking, after: str, before: str, repair: bool, yes: bool) -> ExitStatus:
    """Prove that a destination holds everything that Kong shows of a window, each entry once.

    Reads the entries of the window from Kong and compares them with what the destination holds: the parts of an
    archive; CloudTrail Lake by SQL, if EVENT_DATA_STORE is set; otherwise our own marks. Names what is missing, doubled
    or extra, and what is in quarantine or was discarded, with the reason. The window has to be settled, and still kept
    by Kong. The result is added to a chain in the ledger, which `verify` checks.

    \b
    Examples:
      kong-cloudtrail reconcile --after yesterday --before today --stack KongCloudTrailIntegration
      kong-cloudtrail reconcile --after 2026-03-01 --before 2026-03-08 --repair --function NAME
    """
    statuses = []
    while True:
        document = asking.answer("reconcile", after=after, before=before, repair=repair or None, yes=yes or None)
        if document["consent"]:
            if not _agrees(asking, document):
                return ExitStatus.DONE
            yes = True
            continue
        for trail in document["trails"]:
            if not asking.as_json:
                _print(asking.program, trail)
            statuses.append(_status(trail))
        after = min((trail["covered_until"] for trail in document["trails"]), default=before)
        if document["finished"]:
            return most_urgent(statuses)
        say(f"The function's time was used up at {after}: going on from there.")


def _agrees(asking: Asking, document: Mapping[str, Any]) -> bool:
    for each in document["consent"]:
        size = "an unknown amount" if each["bytes"] is None else f"about {each['bytes'] / 1e9:.2f} GB"
        cost = "" if each["dollars"] is None else f", about {each['dollars']:.2f} $"
        say(f"{_name(each)}: {each['what']} It reads {size}{cost} (0.005 $ per GB; prices differ by Region).")
    if asking.as_json or not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked here: give --yes.")
    return confirms("Go on?")


def _print(program: Program, trail: Mapping[str, Any]) -> None:
    print_facts(list(_facts(trail)))
    for kind, entries in _lists(trail):
        click.echo(f"{kind}:")
        for text in entries[:_SHOWN]:
            click.echo(f"  {escaped(text)}")
        if len(entries) > _SHOWN:
            click.echo(f"  … {len(entries) - _SHOWN} more with --json")
    name = _name(trail)
    too_many = [f"{trail[kind]} are {kind}" for kind in ("doubled", "extra") if trail[kind]]
    if trail["complete"] and too_many:
        program.complain(f"{name}: everything that Kong shows is held, or accounted for, but {' and '.join(too_many)}.")
    elif trail["complete"]:
        click.echo(f"{name}: complete. Everything that Kong shows is held, or accounted for.")
    elif trail["finished"]:
        program.complain(f"{name}: not complete. {_advice(trail)}")


def _facts(trail: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "trail", _name(trail)
    yield "window", f"{trail['after']} to {trail['covered_until']}"
    yield "compared with", _BASES[trail["basis"]]
    for name in ("shown", "missing", "doubled", "extra", "quarantined", "discarded", "released", "excluded"):
        yield name, "unknown" if trail[name] is None else str(trail[name])
    if trail["unreadable"]:
        yield "unreadable", f"{trail['unreadable']} gaps: rows that Kong cannot show"
    if trail["repair"] is not None:
        repair = trail["repair"]
        yield "delivered now", str(repair["delivered"])
        if repair["quarantined"] or repair["failed"]:
            yield "not delivered", f"{repair['quarantined']} now in quarantine, {repair['failed']} failed"
    if trail["bytes_scanned"] is not None:
        yield "Lake has read", f"{trail['bytes_scanned'] / 1e6:.1f} MB"
    yield "kept in", trail["place"]


def _lists(trail: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    texts = {
        "missing": [f"{each['id']}  {each['request_time'] or ''}" for each in trail["missing_entries"]],
        "doubled": [
            f"{each['id']}  {each['copies']} copies of {each['expected']}" for each in trail["doubled_entries"]
        ],
        "extra": [each["id"] for each in trail["extra_entries"]],
        "quarantined": [f"{each['name']}  {each['code']}" for each in trail["quarantined_entries"]],
        "discarded": [f"{each['name']}  {each['code']}  {each['reason']}" for each in trail["discarded_entries"]],
    }
    yield from ((kind, entries) for kind, entries in texts.items() if entries)


def _advice(trail: Mapping[str, Any]) -> str:
    if trail["missing"] and trail["repair"] is None:
        return f"{trail['missing']} entries are missing: deliver them with --repair, while Kong still has them."
    if trail["missing"]:
        return f"{trail['repair']['failed']} entries could not be delivered: see the messages above, and ask again."
    return "Kong cannot show some rows: check its error log and its database."


def _status(trail: Mapping[str, Any]) -> ExitStatus:
    if (trail["finished"] and not trail["complete"]) or trail["doubled"] or trail["extra"] or trail["unreadable"]:
        return ExitStatus.NOT_VERIFIED
    repaired = sum(trail["repair"][name] for name in ("delivered", "quarantined")) if trail["repair"] else 0
    if trail["missing"] > repaired:
        return ExitStatus.NOT_VERIFIED
    return ExitStatus.QUARANTINED if trail["quarantined"] else ExitStatus.DONE


def _name(trail: Mapping[str, Any]) -> str:
    return "/".join(trail[name] for name in ("source", "stream", "destination"))
