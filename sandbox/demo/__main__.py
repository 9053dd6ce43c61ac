"""The demo: deploys the real stack to a local AWS, and shows audit entries arrive in CloudTrail.

``make demo`` runs it. Only the three things that cannot run on one machine are simulated: Kong Gateway Enterprise,
CloudTrail Lake and AWS's control plane. ``cdk deploy`` deploys the stack, the function is the bundled one, the cache is
a real Valkey behind TLS, and every address is on loopback.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from typing import Any

import requests
from rich.table import Table

from sandbox.cloudtrail.records import AcceptedEvent
from sandbox.demo.live import LiveDemo
from sandbox.demo.page import DemoPage
from sandbox.demo.site import DemoError, Deployment, RunFailed, Site, console, deploy, running_site, step
from sandbox.demo.terminal import commands, exports
from sandbox.demo.watch import Watch
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
    keep = parser.parse_args().keep
    # A terminated demo exits its `with` blocks as an interrupted one does, and so stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    try:
        with running_site() as site:
            deployment = deploy(site)
            if keep:
                _prove_and_stay(site, deployment, started)
            else:
                _prove(site, deployment, started)
    except DemoError as error:
        console.print(f"\n[bold red]The demo failed:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything is stopped.")
        return 130
    return 0


# -- the proof


def _prove(site: Site, deployment: Deployment, started: float) -> None:
    now = int(time.time())
    site.kong.seed_entries(
        HISTORY_ENTRIES, seed=1, first_timestamp=now - HISTORY_DAYS * 86_400, last_timestamp=now - 60
    )
    site.use_admin_api(["services/billing", "services/search", "consumers/mobile-app"])
    console.print(
        f"\nKong has {HISTORY_ENTRIES} audit entries of the last {HISTORY_DAYS} days, and alice has just added three."
    )

    expected = len(_ids_at_kong(site))
    first = _run(deployment, "First run")
    _expect("the first run delivers everything", expected, first["delivered"])
    _show_events(site)

    second = _run(deployment, "Second run")
    _expect("the second run delivers nothing", 0, second["delivered"])

    site.use_admin_api(["services/billing", "plugins/rate-limiting"])
    third = _run(deployment, "Third run, after alice made two more calls")
    _expect("the third run delivers the two new ones", 2, third["delivered"])

    at_kong, at_cloudtrail = _ids_at_kong(site), site.cloudtrail.accepted_uids()
    _expect("no entry was delivered twice", len(set(at_cloudtrail)), len(at_cloudtrail))
    if at_kong != set(at_cloudtrail):
        raise DemoError(f"Kong and CloudTrail differ in {len(at_kong ^ set(at_cloudtrail))} entries.")
    table = Table("", "entries", title="Counts on both sides", title_justify="left")
    table.add_row("Kong's audit log, read page by page", str(len(at_kong)))
    table.add_row("CloudTrail, accepted events", str(len(at_cloudtrail)))
    table.add_row("in both, by request id", str(len(at_kong & set(at_cloudtrail))))
    console.print()
    console.print(table)
    console.print(f"\n[bold green]Both sides agree.[/] {time.monotonic() - started:.0f} s in total.")


def _ids_at_kong(site: Site) -> set[str]:
    """Read the audit log independently of the function: page by page, with another client."""
    ids: set[str] = set()
    parameters: dict[str, str] = {"size": "100"}
    while True:
        response = requests.get(
            f"{site.kong.url}/audit/requests",
            params=parameters,
            headers={"Kong-Admin-Token": site.kong_token},
            verify=str(site.kong.ca_pem_path),
            timeout=10,
        )
        response.raise_for_status()
        page = response.json()
        ids.update(entry["request_id"] for entry in page["data"])
        if "offset" not in page:
            return ids
        parameters["offset"] = page["offset"]


def _run(deployment: Deployment, title: str) -> dict[str, Any]:
    with step(title):
        result = deployment.invoke()
    console.print(
        f"  fetched {result['fetched']}, duplicates {result['duplicates']}, delivered [bold]{result['delivered']}[/], "
        f"failed {result['failed']} [dim]({result['run_seconds']} s in the function)[/]"
    )
    return result


def _expect(what: str, expected: int, actual: int) -> None:
    if actual != expected:
        raise DemoError(f"Expected that {what}: expected {expected}, got {actual}.")
    console.print(f"  [green]✓[/] {what}: {actual}")


def _show_events(site: Site) -> None:
    events = sorted((accepted.event for accepted in site.cloudtrail.accepted()), key=lambda event: event["eventTime"])
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


def _prove_and_stay(site: Site, deployment: Deployment, started: float) -> None:
    """Show the demo in the browser from the first run on, and let visitors use it until Ctrl-C."""
    with _events_server(site) as events_url:
        lines = _lines(site, deployment, events_url)
        demo = _live_demo(site, deployment, lines)
        with DemoPage(demo) as page:
            console.print(f"\nWatch it in the browser: [bold]{page.url}[/]")
            _prove(site, deployment, started)
            demo.open()
            console.print(
                "\nEverything runs until Ctrl-C. In another terminal, paste the exports, then any other line:\n"
            )
            for line in lines:
                console.print(line, soft_wrap=True, markup=False)
            console.print(f"\nIn the browser: [bold]{page.url}[/]")
            _wait_for_interruption()


@contextmanager
def _events_server(site: Site) -> Iterator[str]:
    """Serve the events that CloudTrail accepted to a `POST` from a terminal."""
    control = ControlServer(site.cloudtrail, (AcceptedEvent,))
    control.start()
    try:
        yield f"{control.url}accepted"
    finally:
        control.stop()


def _lines(site: Site, deployment: Deployment, events_url: str) -> list[str]:
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
        ),
    ]


def _live_demo(site: Site, deployment: Deployment, lines: list[str]) -> LiveDemo:
    kinds = cycle(("services", "routes", "consumers", "plugins"))

    def invoke() -> None:
        with suppress(RunFailed):  # the page shows the failure: it reads the function's log
            deployment.invoke()

    watch = Watch(
        kong=site.kong,
        kong_token=site.kong_token,
        cloudtrail=site.cloudtrail,
        valkey=site.cache.valkey,
        ledger=deployment,
        runs=deployment.runs,
    )
    return LiveDemo(
        watch=watch,
        kong=site.kong,
        cloudtrail=site.cloudtrail,
        cache=site.cache,
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
