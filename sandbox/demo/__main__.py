"""The demo: deploys the real stack to a local AWS, and shows audit entries arrive in the archive and in CloudTrail.

``make demo`` runs it. Only the three things that cannot run on one machine are simulated: Kong Gateway Enterprise,
CloudTrail Lake and AWS's control plane. ``cdk deploy`` deploys the stack, the function is the bundled one, the cache is
a real Valkey behind TLS, and every address is on loopback.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle
from typing import Any

import requests
from rich.table import Table

from sandbox.cloudtrail.emulator import CloudTrailEmulator
from sandbox.cloudtrail.records import AcceptedEvent
from sandbox.demo.archive import ArchiveTour
from sandbox.demo.backfill import BackfillTour
from sandbox.demo.live import LiveDemo
from sandbox.demo.page import DemoPage
from sandbox.demo.site import (
    ARCHIVE,
    ID_FIELDS,
    LAKE,
    LOGS,
    OBJECTS,
    REQUESTS,
    DemoError,
    Deployment,
    Lake,
    RunFailed,
    Site,
    Trail,
    console,
    deploy,
    running_site,
    step,
)
from sandbox.demo.terminal import commands, exports
from sandbox.demo.watch import Watch, stream_of
from sandbox.machinery.control import ControlServer

HISTORY_ENTRIES = 250
HISTORY_DAYS = 7
SHOWN_EVENTS = 12


def main() -> int:
    """Run the demo; return 0 only if both sides agree."""
    parser = argparse.ArgumentParser(prog="make demo")
    parser.add_argument(
        "--keep", action="store_true", help="also show it in the browser, and keep everything running until Ctrl-C"
    )
    parser.add_argument(
        "--destination", default=f"{ARCHIVE},{LAKE}", help=f"{ARCHIVE}, {LAKE}, {LOGS}, or several with commas between"
    )
    parser.add_argument("--streams", default=REQUESTS, help=f"{REQUESTS}, {OBJECTS}, or both with a comma between them")
    parser.add_argument(
        "--backfill",
        action="store_true",
        help="let the trails begin a day ago, and deliver what is older by the state machine of Step Functions",
    )
    options = parser.parse_args()
    destinations = _chosen(parser, "--destination", options.destination, (ARCHIVE, LAKE, LOGS))
    streams = _chosen(parser, "--streams", options.streams, (REQUESTS, OBJECTS))
    trails = [Trail(stream, destination) for stream in streams for destination in destinations]
    # A terminated demo exits its `with` blocks as an interrupted one does, and so stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    try:
        with running_site(destinations) as site:
            deployment = deploy(site, trails, BackfillTour.settings if options.backfill else {})
            if options.backfill:
                _prove_backfill(site, deployment, trails, started)
            elif options.keep:
                _prove_and_stay(site, deployment, trails, started)
            else:
                _prove(site, deployment, trails, started)
    except DemoError as error:
        console.print(f"\n[bold red]The demo failed:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything is stopped.")
        return 130
    return 0


def _chosen(parser: argparse.ArgumentParser, option: str, given: str, known: Sequence[str]) -> list[str]:
    """Return the names that an option lists, in the order of the known ones."""
    chosen = [name for name in known if name in given.split(",")]
    if not chosen or set(given.split(",")) - set(chosen):
        parser.error(f"{option}: write {', '.join(known)}, or several with commas between")
    return chosen


# -- the proof


def _prove(site: Site, deployment: Deployment, trails: Sequence[Trail], started: float) -> None:
    _seed(site, trails)
    for trail in trails:
        report = _run(deployment, trail, "First run")
        _expect("the first run delivers everything", len(_ids_at_kong(site, trail.stream)), report["delivered"])
    if site.lake is not None:
        _show_events(site.lake.cloudtrail)

    for trail in trails:
        report = _run(deployment, trail, "Second run")
        _expect("the second run delivers nothing", 0, report["delivered"])

    site.use_admin_api(["services/billing", "plugins/rate-limiting"])
    for trail in trails:
        report = _run(deployment, trail, "Third run, after alice made two more calls")
        _expect("the third run delivers the two new ones", 2, report["delivered"])

    if deployment.has_archive:
        archive = ArchiveTour(site, deployment, streams={trail.stream for trail in trails})
        archive.ask()
        archive.verify()
    for stream in dict.fromkeys(trail.stream for trail in trails):
        _compare(site, deployment, stream)
    console.print(f"\n[bold green]All sides agree.[/] {time.monotonic() - started:.0f} s in total.")


def _seed(site: Site, trails: Sequence[Trail]) -> None:
    now = int(time.time())
    first, last = now - HISTORY_DAYS * 86_400, now - 60
    site.kong.seed_entries(HISTORY_ENTRIES, seed=1, first_timestamp=first, last_timestamp=last)
    changes = site.kong.seed_objects(HISTORY_ENTRIES, seed=1, first_timestamp=first, last_timestamp=last)
    site.use_admin_api(["services/billing", "services/search", "consumers/mobile-app"])
    console.print(
        f"\nKong has {HISTORY_ENTRIES} audit entries of the last {HISTORY_DAYS} days, and alice has just added three."
    )
    if any(trail.stream == OBJECTS for trail in trails):
        console.print(f"It has recorded {changes} changes of objects that these requests made, and alice's three.")


def _prove_backfill(site: Site, deployment: Deployment, trails: Sequence[Trail], started: float) -> None:
    _seed(site, trails)
    tour = BackfillTour(site, HISTORY_DAYS)
    for trail in trails:
        first, at_kong = _run(deployment, trail, "First run, from a day ago on"), len(_ids_at_kong(site, trail.stream))
        if not 0 < first["delivered"] < at_kong:
            raise DemoError(f"Expected that the first run delivers a day: it delivered {first['delivered']} entries.")
        console.print(f"  {at_kong - first['delivered']} entries are older than the trail.")
    for _ in range(2):
        for line in tour.backfill():
            console.print(f"  {line}", soft_wrap=True, markup=False)
    for trail in trails:
        after = _run(deployment, trail, "Run after the backfill")
        _expect("it delivers nothing", 0, after["delivered"])
    for stream in dict.fromkeys(trail.stream for trail in trails):
        _compare(site, deployment, stream)
    console.print(f"\n[bold green]All sides agree.[/] {time.monotonic() - started:.0f} s in total.")


def _compare(site: Site, deployment: Deployment, stream: str) -> None:
    """Compare what each destination holds of a stream with Kong's audit log, by the entries' ids."""
    at_kong = _ids_at_kong(site, stream)
    table = Table("", "entries", "of Kong's", title=f"Counts on all sides: {stream}", title_justify="left")
    table.add_row(f"Kong's /audit/{stream}, read page by page", str(len(at_kong)), "")
    found = {}
    if deployment.has_archive:
        found["Archive, lines of all parts"] = deployment.archived_ids(stream)
    if site.lake is not None:
        accepted = site.lake.cloudtrail.accepted()
        found["CloudTrail, accepted events"] = [one.uid for one in accepted if stream_of(one.event) == stream]
    if site.logs is not None:
        stored = site.logs.emulator.stored()
        found["CloudWatch Logs, stored events"] = [one.uid for one in stored if stream_of(one.event) == stream]
    for name, ids in found.items():
        table.add_row(name, str(len(ids)), str(len(at_kong & set(ids))))
    console.print()
    console.print(table)
    for name, ids in found.items():
        _expect(f"no entry is there twice ({name.partition(',')[0]})", len(set(ids)), len(ids))
        if at_kong != set(ids):
            raise DemoError(f"Kong and {name.partition(',')[0]} differ in {len(at_kong ^ set(ids))} entries.")


def _ids_at_kong(site: Site, stream: str) -> set[str]:
    """Read the audit log independently of the function: page by page, with another client."""
    ids: set[str] = set()
    parameters: dict[str, str] = {"size": "100"}
    while True:
        response = requests.get(
            f"{site.kong.url}/audit/{stream}",
            params=parameters,
            headers={"Kong-Admin-Token": site.kong_token},
            verify=str(site.kong.ca_pem_path),
            timeout=10,
        )
        response.raise_for_status()
        page = response.json()
        ids.update(entry[ID_FIELDS[stream]] for entry in page["data"])
        if "offset" not in page:
            return ids
        parameters["offset"] = page["offset"]


def _run(deployment: Deployment, trail: Trail, title: str) -> dict[str, Any]:
    with step(f"{title} ({trail.stream} into {trail.destination})"):
        result = deployment.invoke(trail)
    console.print(
        f"  fetched {result['fetched']}, duplicates {result['duplicates']}, delivered [bold]{result['delivered']}[/], "
        f"failed {result['failed']} [dim]({result['run_seconds']} s in the function)[/]"
    )
    return result


def _expect(what: str, expected: int, actual: int) -> None:
    if actual != expected:
        raise DemoError(f"Expected that {what}: expected {expected}, got {actual}.")
    console.print(f"  [green]✓[/] {what}: {actual}")


def _show_events(cloudtrail: CloudTrailEmulator) -> None:
    events = sorted((accepted.event for accepted in cloudtrail.accepted()), key=lambda event: event["eventTime"])
    table = Table(title=f"The newest {SHOWN_EVENTS} events in CloudTrail", title_justify="left")
    for column in ("eventTime", "eventName", "user", "sourceIPAddress", "status"):
        table.add_column(column, no_wrap=True)
    for event in events[-SHOWN_EVENTS:]:
        identity = event["userIdentity"]
        table.add_row(
            event["eventTime"],
            event["eventName"][:44],
            identity.get("details", {}).get("userName") or identity["principalId"][:24],
            event.get("sourceIPAddress", "-"),
            str(event["additionalEventData"].get("status", "-")),
        )
    console.print()
    console.print(table)
    console.print()


# -- KEEP=1


def _prove_and_stay(site: Site, deployment: Deployment, trails: Sequence[Trail], started: float) -> None:
    """Let visitors use the demo until Ctrl-C; with CloudTrail Lake, show it in the browser from the first run on."""
    if site.lake is None:
        _prove(site, deployment, trails, started)
        _show_lines(_lines(site, deployment, None))
        _wait_for_interruption()
        return
    with _events_server(site.lake.cloudtrail) as events_url:
        lines = _lines(site, deployment, events_url)
        demo = _live_demo(site, site.lake, deployment, trails, lines)
        with DemoPage(demo) as page:
            console.print(f"\nWatch it in the browser: [bold]{page.url}[/]")
            _prove(site, deployment, trails, started)
            demo.open()
            _show_lines(lines)
            console.print(f"\nIn the browser: [bold]{page.url}[/]")
            _wait_for_interruption()


def _show_lines(lines: Sequence[str]) -> None:
    console.print("\nEverything runs until Ctrl-C. In another terminal, paste the exports, then any other line:\n")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


@contextmanager
def _events_server(cloudtrail: CloudTrailEmulator) -> Iterator[str]:
    """Serve the events that CloudTrail accepted to a `POST` from a terminal."""
    control = ControlServer(cloudtrail, (AcceptedEvent,))
    control.start()
    try:
        yield f"{control.url}accepted"
    finally:
        control.stop()


def _lines(site: Site, deployment: Deployment, events_url: str | None) -> list[str]:
    assert site.kong.ca_pem_path is not None
    token_header = site.directory / "kong-token-header.txt"
    token_header.touch(mode=0o600)
    token_header.write_text(f"Kong-Admin-Token: {site.kong_token}\n")
    return [
        *exports(
            function_environment=deployment.environment,
            aws_environment=site.aws.environment(),
            kong_root_ca=site.kong.ca_pem_path,
        ),
        *commands(
            function_name=deployment.function_name,
            log_group_name=deployment.log_group_name,
            token_header=token_header,
            events_url=events_url,
            has_archive="ARCHIVE" in deployment.environment,
        ),
    ]


def _live_demo(site: Site, lake: Lake, deployment: Deployment, trails: Sequence[Trail], lines: list[str]) -> LiveDemo:
    kinds = cycle(("services", "routes", "consumers", "plugins"))

    def invoke() -> None:
        for trail in trails:
            with suppress(RunFailed):  # the page shows the failure: it reads the function's log
                deployment.invoke(trail)

    watch = Watch(
        kong=site.kong,
        kong_token=site.kong_token,
        cloudtrail=lake.cloudtrail,
        valkey=lake.cache.valkey,
        ledger=deployment,
        runs=deployment.runs,
    )
    return LiveDemo(
        watch=watch,
        kong=site.kong,
        cloudtrail=lake.cloudtrail,
        cache=lake.cache,
        invoke=invoke,
        use_admin_api=lambda calls: site.use_admin_api([f"{next(kinds)}/demo" for _ in range(calls)]),
        commands=tuple(lines),
    )


def _wait_for_interruption() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print()


if __name__ == "__main__":
    sys.exit(main())
