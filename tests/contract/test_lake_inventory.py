"""CloudTrail Lake, asked by SQL what it holds: the query is executed, and every answer is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kong_cloudtrail.destinations.cloudtrail.destination import CloudTrailLake
from kong_cloudtrail.destinations.cloudtrail.inventory import LakeInventory
from kong_cloudtrail.domain.audit_event import uid_of
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import DestinationMisconfigured, DestinationUnavailable
from kong_cloudtrail.sources.kong.entries import read_entry

from cli.exit_status import ExitStatus
from sandbox.cloudtrail.emulator import CloudTrailEmulator
from sandbox.cloudtrail.lake import EVENT_DATA_STORE_ARN
from tests.conftest import Site
from tests.contract.test_command_line import Terminal
from tests.contract.test_reconcile_command import WINDOW, fill, terminal
from tests.helpers import ACCOUNT_ID, GATEWAY, NOW, entry

__all__ = ["terminal"]

Ask = Callable[..., LakeInventory]


@pytest.fixture
def ask(aws_credentials: None, cloudtrail: CloudTrailEmulator, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDTRAIL_DATA", cloudtrail.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDTRAIL", cloudtrail.url)

    def make(**changes: Any) -> LakeInventory:
        given: dict[str, Any] = {
            "event_data_store": EVENT_DATA_STORE_ARN,
            "region": "us-east-1",
            "channel_arn": cloudtrail.channel_arn,
            "uid_of": uid_of,
            "estimate_bytes": lambda window: 2_000_000_000,
            "sleep": lambda seconds: None,
        }
        return LakeInventory(**(given | changes))

    return make


def deliver(cloudtrail: CloudTrailEmulator, rows: list[dict[str, Any]]) -> None:
    lake = CloudTrailLake(
        cloudtrail.channel_arn,
        "us-east-1",
        ACCOUNT_ID,
        external_id=None,
        map_status_to_error_code=False,
        locate_original=lambda *_: "",
        connections=1,
    )
    mapper = lake.mapper(GATEWAY)
    answer = lake.deliver([mapper.map(read_entry(row)) for row in rows])
    assert len(answer.successful) == len(rows)
    lake.close()


def held(inventory: LakeInventory, window: Window) -> list[bytes]:
    return [one for several in inventory.held(window) for one in several]


ROWS = [entry(number) for number in range(1, 41)]  # a second older each
ALL = Window(NOW - 60, NOW)


def test_answers_slice_by_slice_from_one_query(ask: Ask, cloudtrail: CloudTrailEmulator) -> None:
    deliver(cloudtrail, ROWS)
    cloudtrail.lake.page_rows = 7
    inventory = ask()

    inventory.begin(ALL)
    found = [held(inventory, Window(begin, begin + 13)) for begin in range(NOW - 60, NOW, 13)]

    expected = [
        {inventory.identify(read_entry(row))[0] for row in ROWS if begin <= row["request_timestamp"] < begin + 13}
        for begin in range(NOW - 60, NOW, 13)
    ]
    assert [set(each) for each in found] == expected
    assert sum(map(len, found)) == 40
    assert len(cloudtrail.lake.statements) == 1
    assert inventory.bytes_scanned() == sum(len(event.event_data) for event in cloudtrail.accepted())


def test_counts_copies_and_names_them(ask: Ask, cloudtrail: CloudTrailEmulator) -> None:
    deliver(cloudtrail, ROWS[:3])
    cloudtrail.double([ROWS[1]["request_id"]])
    inventory = ask()
    inventory.begin(ALL)

    identity, uid = inventory.identify(read_entry(ROWS[1]))

    assert held(inventory, ALL).count(identity) == 2
    assert inventory.names(ALL, {identity, b"unknown"}) == {identity: uid}


def test_window_is_half_open_and_limits_what_is_billed(ask: Ask, cloudtrail: CloudTrailEmulator) -> None:
    deliver(cloudtrail, ROWS)
    inventory = ask()
    window = Window(NOW - 20, NOW - 10)
    inventory.begin(window)

    assert len(held(inventory, window)) == 10
    assert "eventTime >= '2024-06-01 11:59:40' AND eventTime < '2024-06-01 11:59:50'" in cloudtrail.lake.statements[0]
    assert inventory.bytes_scanned() == sum(
        len(event.event_data) for event in cloudtrail.accepted() if "11:59:4" in event.event["eventTime"]
    )


def test_says_what_it_costs_before(ask: Ask) -> None:
    consent = ask().needs_consent(ALL)

    assert consent is not None
    assert (consent.bytes, consent.dollars) == (2_000_000_000, 0.01)


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        ("AccessDeniedException", DestinationMisconfigured, "cloudtrail:StartQuery"),
        ("InactiveEventDataStoreException", DestinationMisconfigured, "not active"),
        ("MaxConcurrentQueriesException", DestinationUnavailable, "Ask again"),
    ],
)
def test_refusals_say_what_to_do(
    ask: Ask, cloudtrail: CloudTrailEmulator, code: str, kind: type[Exception], word: str
) -> None:
    cloudtrail.lake.refusal = code
    inventory = ask()
    inventory.begin(ALL)

    with pytest.raises(kind, match=word):
        held(inventory, ALL)


def test_another_store(ask: Ask) -> None:
    inventory = ask(event_data_store=EVENT_DATA_STORE_ARN.replace("0a1b", "ffff"))
    inventory.begin(ALL)

    with pytest.raises(DestinationMisconfigured, match="no such store"):
        held(inventory, ALL)


@pytest.mark.parametrize("outcome", ["FAILED", "CANCELLED", "TIMED_OUT"])
def test_query_that_does_not_end_well(ask: Ask, cloudtrail: CloudTrailEmulator, outcome: str) -> None:
    cloudtrail.lake.outcome = outcome
    inventory = ask()
    inventory.begin(ALL)

    with pytest.raises(DestinationUnavailable, match=outcome):
        held(inventory, ALL)


class TestReconcile:
    @pytest.fixture
    def delivered(self, terminal: Terminal, site: Site, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        """A trail in the Lake, which may be asked; what is in the window."""
        monkeypatch.setattr("kong_cloudtrail.destinations.cloudtrail.inventory.POLL_SECONDS", 0.0)
        terminal.environment |= {
            "EVENT_DATA_STORE": EVENT_DATA_STORE_ARN,
            "AWS_ENDPOINT_URL_CLOUDTRAIL": site.cloudtrail.url,
        }
        rows = fill(site)
        assert terminal.run("sync").status == 0
        return rows

    def test_asks_before_it_costs(self, terminal: Terminal, site: Site, delivered: list[dict[str, Any]]) -> None:
        output = terminal.run("reconcile", *WINDOW)

        assert output.status == ExitStatus.USAGE
        assert "0.005 $ per GB" in output.err
        assert "give --yes" in output.err
        assert site.cloudtrail.lake.statements == []

    def test_finds_holes_doubles_and_extra_events(
        self,
        terminal: Terminal,
        site: Site,
        delivered: list[dict[str, Any]],
        aws_credentials: None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDTRAIL_DATA", site.cloudtrail.url)
        hole, double = delivered[3]["request_id"], delivered[20]["request_id"]
        site.cloudtrail.lose([hole])
        site.cloudtrail.double([double])
        extra = entry(999, request_timestamp=delivered[5]["request_timestamp"])
        deliver(site.cloudtrail, [extra])

        output = terminal.run("reconcile", *WINDOW, "--yes", "--json")

        [trail] = output.report["trails"]
        assert output.status == ExitStatus.NOT_VERIFIED
        assert (trail["basis"], trail["shown"]) == ("lake", len(delivered))
        assert [each["id"] for each in trail["missing_entries"]] == [hole]
        assert [(each["id"], each["copies"]) for each in trail["doubled_entries"]] == [(double, 2)]
        assert [each["id"] for each in trail["extra_entries"]] == [extra["request_id"]]
        assert trail["bytes_scanned"] > 0

    def test_repairs_a_hole_although_it_is_marked(
        self, terminal: Terminal, site: Site, delivered: list[dict[str, Any]]
    ) -> None:
        site.cloudtrail.lose([delivered[3]["request_id"]])

        repaired = terminal.run("reconcile", *WINDOW, "--yes", "--repair")

        assert (repaired.status, "delivered now" in repaired.out) == (0, True)
        assert site.cloudtrail.accepted_uids().count(delivered[3]["request_id"]) == 1
        assert len(site.cloudtrail.accepted_uids()) == 60

    def test_entries_of_the_same_id_are_counted(
        self, terminal: Terminal, site: Site, delivered: list[dict[str, Any]]
    ) -> None:
        twin = delivered[7] | {"status": 409}
        site.kong.add_entries([twin])

        found = terminal.run("reconcile", *WINDOW, "--yes", "--json").report["trails"][0]

        assert (found["missing"], found["doubled"]) == (1, 0)
