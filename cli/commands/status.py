"""``kong-cloudtrail status``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from kong_cloudtrail.domain.moment import span, utc
from kong_cloudtrail.errors import SettingsError

from ..asking import Asking, asks
from ..exit_status import ExitStatus
from ..rows import shown
from ..terminal import print_facts


@click.command(short_help="Show how far the trails are.")
@asks
def status(asking: Asking) -> ExitStatus:
    """Show how far the trails are.

    For each trail: when a run last had delivered everything, how old an undelivered entry can be at most, what the
    last run did that delivered something, gaps, and how many entries are in quarantine; and the memory of the cache.
    With --function or --stack also when the schedule comes next. All of it is read from ledger and cache, so Kong is
    not asked. What cannot be read is said, and the rest is shown; the status is 1 then.

    \b
    Examples:
      kong-cloudtrail status --stack KongCloudTrailIntegration
      kong-cloudtrail status --json | jq '.trails[] | {destination, lag_seconds, quarantine_open}'
    """
    document = {**asking.ask("status"), **_schedules(asking)}
    asking.printed(document)
    problems = [*document["problems"], *document["schedule_problems"]]
    for trail in document["trails"]:
        problems += trail["problems"]
        if not asking.as_json:
            click.echo("/".join(trail[name] for name in ("source", "stream", "destination")))
            print_facts([(f"  {name}", shown(value)) for name, value in _facts(trail, document)])
    if not asking.as_json and document["cache"] is not None:
        click.echo("cache")
        print_facts([(f"  {name}", value) for name, value in _facts_of_cache(document["cache"])])
    for problem in dict.fromkeys(problems):  # trails have a ledger in common
        asking.program.complain(problem)
    return ExitStatus.FAILED if problems else ExitStatus.DONE


def _schedules(asking: Asking) -> dict[str, Any]:
    """Return the schedules as far as whoever asks may see them; ``None`` where there is no deployment to look at."""
    if not asking.has_deployment:
        return {"schedules": None, "schedule_problems": []}
    from botocore.exceptions import BotoCoreError, ClientError

    from ..deployment import Deployment

    try:
        found = Deployment(function=asking.function, stack=asking.stack).schedules()
    except SettingsError as error:
        return {"schedules": None, "schedule_problems": list(error.problems)}
    except BotoCoreError as error:
        problem = f"The schedules could not be read: AWS did not answer ({type(error).__name__}). Check the network."
        return {"schedules": None, "schedule_problems": [problem]}
    except ClientError as error:
        problem = (
            f"The schedules could not be read ({error.response['Error'].get('Code')}). You need the permissions "
            "scheduler:ListSchedules and scheduler:GetSchedule."
        )
        return {"schedules": None, "schedule_problems": [problem]}
    return {"schedules": [each.document() for each in found], "schedule_problems": []}


def _facts(trail: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    caught_up_at, first_run_at = trail["caught_up_at"], trail["first_run_at"]
    if caught_up_at is not None:
        yield "last complete run", f"{utc(caught_up_at)}, {span(trail['lag_seconds'])} ago"
    elif first_run_at is not None:
        yield "last complete run", f"none since the first run at {utc(first_run_at)}"
    elif trail["is_reading"] is not None:
        yield "last complete run", "there was no run yet"
    if trail["complete_until"] is not None:
        yield "complete until", utc(trail["complete_until"])
    if trail["is_reading"]:
        yield "unfinished", "the last run did not read everything; the next one continues"
    age = trail["oldest_undelivered_age_seconds"]
    yield "oldest undelivered", "unknown" if age is None else f"at most {span(age)} old"
    yield from _facts_of_report(trail["last_report"])
    yield from _facts_of_gaps(trail["gaps"])
    quarantine = trail["quarantine_open"]
    yield "in quarantine", "unknown" if quarantine is None else f"{quarantine:,}"
    yield "next run", _next_run(trail["destination"], document["schedules"])


def _facts_of_report(report: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if report is None:
        return
    written_at = report["written_at"]
    when = "" if written_at is None else f", {utc(int(written_at))}"
    end = "finished" if report["finished"] else "unfinished"
    yield "last run that delivered", f"number {report['number']}{when}, {end}"
    names = ("fetched", "excluded", "delivered", "quarantined", "failed", "backlog")
    counts = ", ".join(f"{report[name]:,} {name}" for name in names if report[name])
    yield "its counts", counts or "none"


def _facts_of_gaps(gaps: Sequence[Mapping[str, Any]] | None) -> Iterator[tuple[str, str]]:
    if gaps is None:
        return
    yield "gaps", f"{len(gaps):,}"
    for gap in gaps[:3]:
        where = "at an unknown time" if gap["after"] is None else f"from {utc(gap['after'])}"
        yield "", f"{gap['kind']} {where}: {gap['reason']}"


def _facts_of_cache(cache: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    used, limit, left = cache["used_bytes"], cache["limit_bytes"], cache["entries_left"]
    yield "memory", f"{used:,} bytes, no limit" if limit is None else f"{used / limit:.0%} of {limit:,} bytes"
    if left is not None:
        yield "room for", f"about {left:,} entries"
    if cache["policy"] is not None:
        yield "eviction", cache["policy"]


def _next_run(destination: str, schedules: Sequence[Mapping[str, Any]] | None) -> str:
    if schedules is None:
        return "unknown"
    mine = [each for each in schedules if each["destination"] in (None, destination)]
    if not mine:
        return "there is no schedule"
    if not any(each["enabled"] for each in mine):
        return "the schedule is off"
    moments = [each["next_run_at"] for each in mine if each["next_run_at"] is not None]
    expressions = ", ".join(each["expression"] for each in mine if each["enabled"])
    return f"about {utc(min(moments))} ({expressions})" if moments else expressions
