"""A short torture of the collector, and proof that the torture would notice.

The long one is `make torture`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kong_cloudtrail.domain.entry import Entry

from sandbox.cloudtrail_records import AcceptedEvent
from sandbox.torture import torture
from sandbox.torture_audit import Auditor, Run
from sandbox.torture_entries import EntryMaker, NewEntry
from sandbox.torture_plan import make_plan

SEED = 2617
ROUNDS = 12
NOW = 1_750_000_000
OVERLAP_SECONDS = 60


def test_nothing_is_lost_and_nothing_else_comes_twice_whatever_happens() -> None:
    verdict = torture(ROUNDS, SEED)

    assert not verdict.problems, str(verdict)
    assert verdict.counts.kills >= 3
    assert verdict.counts.quarantined > 0
    assert verdict.counts.duplicates.total() > 0


def test_the_same_seed_gives_the_same_plan_and_the_same_entries() -> None:
    assert make_plan(50, 7) == make_plan(50, 7)
    assert make_plan(50, 7) != make_plan(50, 8)
    assert [round_.number for scenario in make_plan(50, 7) for round_ in scenario.rounds] == list(range(1, 51))
    assert list(EntryMaker(60).fresh(300, seed=7, now=NOW)) == list(EntryMaker(60).fresh(300, seed=7, now=NOW))


# -- the auditor notices


FIELDS: dict[str, Any] = {
    "request_id": "r1",
    "request_timestamp": NOW - 10,
    "client_ip": "192.0.2.10",
    "method": "POST",
    "path": "/services",
    "status": 201,
    "payload": '{"name":"a","port":1.5}',
    "rbac_user_id": None,
    "ttl": 1000,
}
EVENT: dict[str, Any] = {
    "userIdentity": {"type": "Anonymous"},
    "eventTime": "2025-06-15T15:06:30Z",
    "UID": "r1",
    "requestParameters": {"payload": {"name": "a", "port": 1.5}},
    "sourceIPAddress": "192.0.2.10",
    "additionalEventData": {"method": "POST", "path": "/services", "status": 201, "ttl": 999},
}
KEY = Entry.read(FIELDS).key
REPORT = {
    "fetched": 1,
    "duplicates": 0,
    "delivered": 1,
    "quarantined": 0,
    "failed": 0,
    "backlog": 0,
    "skipped": False,
}
GOOD_RUN = Run(number=1, began_at=NOW, exit_status=0, summary=REPORT, output="", parallel_deliveries=2, calm=True)
FAILED_RUN = replace(GOOD_RUN, exit_status=1, summary=REPORT | {"delivered": 0, "failed": 1}, calm=False)


def accepted(event: dict[str, Any] = EVENT) -> AcceptedEvent:
    return AcceptedEvent("r1", json.dumps(event), "event", 1, 0.0)


@pytest.fixture
def auditor(tmp_path: Path) -> Auditor:
    """An auditor who knows of one entry."""
    auditor = Auditor(
        ledger=tmp_path,
        overlap_seconds=OVERLAP_SECONDS,
        settle_seconds=0,
        gateway_filters=True,
        secrets=["s3cret-token"],
    )
    auditor.show(NewEntry(FIELDS["request_timestamp"], FIELDS), missing_fields=())
    auditor.begin_run(1, NOW)
    return auditor


def write(ledger: Path, name: str, content: dict[str, Any]) -> None:
    path = ledger / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def checkpoint(complete_until: int, number: int = 0, sha256: str = "0" * 64) -> dict[str, Any]:
    return {"completeUntil": complete_until, "run": {"number": number, "sha256": sha256}}


def quarantined(**changes: Any) -> dict[str, Any]:
    return {"id": "r1", "code": "InvalidData", "attempts": 1, "entry": FIELDS | {"ttl": 5}} | changes


def test_the_auditor_is_content_with_a_good_run(auditor: Auditor) -> None:
    write(auditor.ledger, "checkpoints/kong.json", checkpoint(NOW))

    assert auditor.end_run(GOOD_RUN, [accepted()], {KEY}) == []
    assert list(auditor.end()) == []


def test_the_auditor_is_content_with_an_entry_in_quarantine(auditor: Auditor) -> None:
    write(auditor.ledger, f"quarantine/kong/{KEY.replace(':', '-')}.json", quarantined())

    assert auditor.end_run(GOOD_RUN, [], {KEY}) == []


def problem(problems: list[str]) -> str:
    assert problems, "the auditor noticed nothing"
    return "\n".join(problems)


def test_the_auditor_notices_a_lost_entry(auditor: Auditor) -> None:
    assert "ended as a success without delivering" in problem(auditor.end_run(GOOD_RUN, [], set()))
    assert "neither delivered nor in quarantine" in problem(list(auditor.end()))


def test_the_auditor_notices_a_mark_without_delivery(auditor: Auditor) -> None:
    assert "is marked, but neither" in problem(auditor.end_run(FAILED_RUN, [], {KEY}))


def test_the_auditor_notices_a_mark_of_nothing_known(auditor: Auditor) -> None:
    assert "no entry of Kong's" in problem(auditor.end_run(FAILED_RUN, [], {"somebody-else"}))


def test_the_auditor_notices_a_checkpoint_past_an_undelivered_entry(auditor: Auditor) -> None:
    write(auditor.ledger, "checkpoints/kong.json", checkpoint(NOW))

    assert "has passed" in problem(auditor.end_run(FAILED_RUN, [], set()))


def test_the_auditor_notices_a_checkpoint_that_goes_back(auditor: Auditor) -> None:
    write(auditor.ledger, "checkpoints/kong.json", checkpoint(NOW))
    auditor.end_run(GOOD_RUN, [accepted()], {KEY})
    write(auditor.ledger, "checkpoints/kong.json", checkpoint(NOW - 1))

    assert "went back" in problem(auditor.end_run(replace(GOOD_RUN, number=2), [accepted()], {KEY}))


@pytest.mark.parametrize(
    "change",
    [
        {"UID": "r2"},
        {"eventTime": "2025-06-15T15:06:31Z"},
        {"sourceIPAddress": "192.0.2.11"},
        {"requestParameters": {"payload": {"port": 1.5, "name": "a"}}},
        {"requestParameters": {"payload": {"name": "a", "port": 1}}},
        {"userIdentity": {"type": "RBACUser", "principalId": "u"}},
        {"additionalEventData": {"method": "POST", "path": "/services", "status": "201", "ttl": 999}},
        {"additionalEventData": {"path": "/services", "status": 201, "ttl": 999}},
    ],
)
def test_the_auditor_notices_an_altered_event(auditor: Auditor, change: dict[str, Any]) -> None:
    assert "altered" in problem(auditor.end_run(GOOD_RUN, [accepted(EVENT | change)], {KEY}))


def test_the_auditor_notices_an_altered_entry_in_quarantine(auditor: Auditor) -> None:
    write(auditor.ledger, "quarantine/kong/r1.json", quarantined(entry=FIELDS | {"status": 200}))

    assert "altered" in problem(auditor.end_run(FAILED_RUN, [], set()))


def test_the_auditor_notices_a_delivery_that_nothing_explains(auditor: Auditor) -> None:
    auditor.end_run(GOOD_RUN, [accepted()], {KEY})

    problems = auditor.end_run(replace(GOOD_RUN, number=2), [accepted(), accepted()], {KEY})

    assert "delivered again although it was marked" in problem(problems)


def test_the_auditor_notices_an_entry_twice_in_one_run(auditor: Auditor) -> None:
    assert "delivered 1 entries twice" in problem(auditor.end_run(GOOD_RUN, [accepted(), accepted()], {KEY}))


def test_the_auditor_knows_that_a_lost_answer_explains_a_double(auditor: Auditor) -> None:
    run = replace(GOOD_RUN, lost_answers=1, calm=False)

    assert auditor.end_run(run, [accepted(), accepted()], {KEY}) == []


def test_the_auditor_notices_accepted_entries_that_are_not_marked(auditor: Auditor) -> None:
    assert "left 1 entries unmarked" in problem(auditor.end_run(GOOD_RUN, [accepted()], set()))


def test_the_auditor_knows_that_a_kill_explains_missing_marks_and_the_double_after_it(auditor: Auditor) -> None:
    killed = replace(GOOD_RUN, killed=True, exit_status=-9, summary=None, calm=False)

    assert auditor.end_run(killed, [accepted()], set()) == []
    assert auditor.end_run(replace(GOOD_RUN, number=2), [accepted(), accepted()], {KEY}) == []


def test_the_auditor_notices_a_double_older_than_the_overlap(auditor: Auditor) -> None:
    write(auditor.ledger, "checkpoints/kong.json", checkpoint(NOW - 10 + OVERLAP_SECONDS + 1))
    emptied = replace(GOOD_RUN, valkey_emptied=True, calm=False)
    auditor.end_run(emptied, [accepted()], set())

    problems = auditor.end_run(replace(GOOD_RUN, number=2), [accepted(), accepted()], {KEY})

    assert "older than the overlap" in problem(problems)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (replace(GOOD_RUN, output="Traceback (most recent call last):\nKeyError: 'x'"), "traceback: KeyError"),
        (replace(GOOD_RUN, output="token s3cret-token"), "secret"),
        (replace(GOOD_RUN, summary=None), "no report"),
        (replace(GOOD_RUN, summary=REPORT | {"fetched": 2}), "do not add up"),
        (replace(GOOD_RUN, exit_status=3), "status 3"),
        (replace(FAILED_RUN, exit_status=0), "success although something stayed undelivered"),
        (replace(FAILED_RUN, calm=True), "although nothing went wrong"),
        (replace(GOOD_RUN, was_locked=True), "did not heed the lock"),
    ],
)
def test_the_auditor_notices_what_a_run_says(auditor: Auditor, run: Run, words: str) -> None:
    assert words in problem(auditor.end_run(run, [accepted()], {KEY}))


def test_the_auditor_notices_a_broken_chain_of_run_reports(auditor: Auditor) -> None:
    write(auditor.ledger, "runs/kong/0000000001.json", {"number": 1, "previousSha256": "0" * 64})
    write(auditor.ledger, "runs/kong/0000000002.json", {"number": 2, "previousSha256": "0" * 64})
    write(auditor.ledger, "checkpoints/kong.json", checkpoint(NOW - 100, number=3))

    problems = problem(auditor.end_run(GOOD_RUN, [accepted()], {KEY}))

    assert "run report 2 does not continue the chain" in problems
    assert "the checkpoint remembers 3" in problems
