"""The torture's auditor notices every kind of fault, and is content where there is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from kong_cloudtrail.sources.kong.entries import read_entry

from sandbox.cloudtrail.records import AcceptedEvent, RefusedEvent
from torture.audit import RULES
from torture.cloudtrail_audit import LakeAuditor
from torture.entries import NewEntry
from torture.ledgers import FolderLedger
from torture.runs import Problem, Run
from torture.state import checkpoint_of, trail_of

NOW = 1_750_000_000
OVERLAP_SECONDS = 60
TRAIL = trail_of("cloudtrail-lake")

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
KEY = read_entry(FIELDS).key
REPORT = {
    "fetched": 1,
    "duplicates": 0,
    "excluded": 0,
    "delivered": 1,
    "quarantined": 0,
    "failed": 0,
    "backlog": 0,
    "skipped": False,
    "finished": True,
}
GOOD_RUN = Run(
    number=1,
    exit_status=0,
    summary=REPORT,
    output="",
    parallel_deliveries=2,
    earliest_clock=NOW,
    sane_clock=NOW,
    calm=True,
    fair=True,
)
FAILED_RUN = replace(GOOD_RUN, exit_status=1, summary=REPORT | {"delivered": 0, "failed": 1}, calm=False, fair=False)


class World:
    """One entry, what became of it, and an auditor who looks at it."""

    def __init__(self, folder: Path) -> None:
        self.ledger = FolderLedger(folder)
        self.auditor = LakeAuditor(
            ledger=self.ledger,
            overlap_seconds=OVERLAP_SECONDS,
            gateway_filters=True,
            secrets=["s3cret-token"],
        )
        self.accepted: list[AcceptedEvent] = []
        self.refused: list[RefusedEvent] = []
        self.marked: set[str] = set()
        self.runs = 0
        self.show()

    def show(self, **changes: Any) -> str:
        """Let Kong show an entry; return its key."""
        fields = FIELDS | changes
        self.auditor.show(NewEntry(fields["request_timestamp"], fields, is_plain=True), frozenset())
        return read_entry(fields).key

    def accept(self, event: dict[str, Any] = EVENT, *, mark: bool = True) -> None:
        self.accepted.append(AcceptedEvent(event["UID"], json.dumps(event), "event", 1, 0.0))
        if mark:
            self.marked.add(KEY)

    def write(self, name: str, content: dict[str, Any]) -> None:
        self.ledger.write(name, json.dumps(content).encode())

    def checkpoint(self, complete_until: int, **more: Any) -> None:
        run = {"number": 0, "sha256": "0" * 64}
        self.write(checkpoint_of(TRAIL), {"completeUntil": complete_until, "run": run} | more)

    def quarantine(self, **changes: Any) -> None:
        record = {"id": "r1", "code": "InvalidData", "attempts": 1, "entry": FIELDS | {"ttl": 5}} | changes
        self.write(f"quarantine/{TRAIL}/{len(self.ledger.names('quarantine/'))}.json", record)
        self.marked.add(KEY)

    def run(self, run: Run = GOOD_RUN, happens: Callable[[], None] = lambda: None, **changes: Any) -> list[Problem]:
        """Let a run happen; return what the auditor says of it."""
        self.runs += 1
        run = replace(run, number=self.runs, **changes)
        self.auditor.begin_run(self.runs, run.sane_clock)
        happens()
        return self.auditor.end_run(run, self.accepted, self.marked, self.refused)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_content_with_an_entry_that_is_left_out_and_counted(world: World) -> None:
    excluding(world)

    assert world.run(happens=lambda: count_excluded(world, 1)) == []
    assert world.auditor.end() == []


def test_content_with_a_good_run(world: World) -> None:
    def deliver() -> None:
        world.accept()
        world.checkpoint(NOW - 10)

    assert world.run(happens=deliver) == []
    assert world.auditor.end() == []


def test_content_with_an_entry_in_quarantine(world: World) -> None:
    assert world.run(happens=world.quarantine) == []
    assert world.auditor.end() == []


def test_content_with_a_double_after_a_lost_answer(world: World) -> None:
    def deliver_twice() -> None:
        world.accept()
        world.accept()

    assert world.run(happens=deliver_twice, lost_batches=1, calm=False) == []


def test_content_with_a_double_after_a_kill(world: World) -> None:
    world.run(happens=lambda: world.accept(mark=False), killed=True, exit_status=-9, summary=None, calm=False)

    assert world.run(happens=world.accept) == []


def test_content_with_a_double_within_the_overlap_after_the_cache_lost_its_marks(world: World) -> None:
    def lose() -> None:
        world.marked.clear()
        world.checkpoint(NOW - 10)

    world.run(happens=world.accept)
    world.run(happens=lose, valkey_lost_marks=True, calm=False)

    assert world.run(happens=world.accept) == []


def test_content_with_a_late_entry_that_waits_for_a_sweep_and_not_with_its_loss(world: World) -> None:
    world.run(happens=world.accept)
    world.show(request_id="late", request_timestamp=NOW - 5_000)

    assert world.run() == []
    assert [problem.rule for problem in world.auditor.end()] == ["lost"]


def test_content_with_the_loss_of_a_late_entry_older_than_the_marks_that_are_left(world: World) -> None:
    def lose() -> None:
        world.marked.clear()
        world.checkpoint(NOW - 10, marksWholeAfter=NOW - 10)

    world.run(happens=world.accept)
    world.run(happens=lose, valkey_lost_marks=True, calm=False)
    world.show(request_id="late", request_timestamp=NOW - 5_000)
    world.run()

    assert world.auditor.end() == []


def test_content_with_an_entry_that_lies_in_a_gap_until_kong_can_show_it(world: World) -> None:
    gap = {"after": NOW - 10, "before": NOW - 9, "reason": "status 500"}

    def pass_it() -> None:
        world.checkpoint(NOW - 10, gaps=[gap])

    assert world.run(FAILED_RUN, pass_it, poisoned_times=frozenset({NOW - 10})) == []
    assert [problem.rule for problem in world.auditor.end()] == ["lost", "gaps"]


def test_content_with_little_progress_as_long_as_there_is_some(world: World) -> None:
    unfinished = REPORT | {"delivered": 0, "fetched": 0, "finished": False}

    assert world.run(happens=lambda: world.checkpoint(NOW - 9_000), summary=unfinished, fair=False) == []


# -- planted faults: each breaks the rule that it is filed under


Planted = Callable[[World], list[Problem]]
PLANTED: list[tuple[str, str, Planted]] = []


def breaks(rule: str, words: str) -> Callable[[Planted], Planted]:
    """File a planted fault under a rule, with words of what the auditor has to say."""

    def file(planted: Planted) -> Planted:
        PLANTED.append((rule, words, planted))
        return planted

    return file


@breaks("output", "traceback: KeyError")
def a_traceback(world: World) -> list[Problem]:
    return world.run(happens=world.accept, output="Traceback (most recent call last):\nKeyError: 'x'")


@breaks("output", "secret")
def a_secret(world: World) -> list[Problem]:
    return world.run(happens=world.accept, output="token s3cret-token")


@breaks("output", "no report")
def no_report(world: World) -> list[Problem]:
    return world.run(happens=world.accept, summary=None)


@breaks("output", "do not add up")
def wrong_sum(world: World) -> list[Problem]:
    return world.run(happens=world.accept, summary=REPORT | {"fetched": 2})


def excluding(world: World) -> None:
    """Let Kong show an entry that is to be left out."""
    world.auditor.excluded_methods = ("PATCH",)
    world.show(request_id="r2", method="PATCH")


def count_excluded(world: World, count: int) -> None:
    world.accept()
    world.checkpoint(NOW - 10, excluded={"totals": {"method:PATCH": count}})


@breaks("excluded", "is to be left out, and was not")
def one_that_is_not_left_out(world: World) -> list[Problem]:
    excluding(world)
    event = EVENT | {"UID": "r2", "additionalEventData": EVENT["additionalEventData"] | {"method": "PATCH"}}
    return world.run(happens=lambda: world.accept(event))


@breaks("excluded", "2 entries count as left out, and there are 1")
def one_that_is_counted_twice(world: World) -> list[Problem]:
    excluding(world)
    return world.run(happens=lambda: count_excluded(world, 2))


@breaks("excluded", "went back from 1 to 0")
def a_count_that_is_lost(world: World) -> list[Problem]:
    excluding(world)
    world.run(happens=lambda: count_excluded(world, 1))
    return world.run(happens=lambda: world.checkpoint(NOW - 10))


@breaks("excluded", "none of 1 entries counts")
def one_that_is_never_counted(world: World) -> list[Problem]:
    excluding(world)
    world.run(happens=lambda: count_excluded(world, 0))
    return world.auditor.end()


@breaks("marks", "neither delivered nor in quarantine")
def one_that_is_left_out_and_marked(world: World) -> list[Problem]:
    excluding(world)
    return world.run(happens=lambda: world.marked.add(world.show(request_id="r2", method="PATCH")))


@breaks("ending", "status 7")
def an_odd_status(world: World) -> list[Problem]:
    return world.run(happens=world.accept, exit_status=7)


@breaks("ending", "success although something stayed undelivered")
def a_failure_that_succeeds(world: World) -> list[Problem]:
    return world.run(FAILED_RUN, exit_status=0)


@breaks("ending", "although nothing went wrong")
def a_failure_without_a_reason(world: World) -> list[Problem]:
    return world.run(FAILED_RUN, calm=True)


@breaks("lock", "did not heed the lock")
def a_lock_that_is_not_heeded(world: World) -> list[Problem]:
    return world.run(happens=world.accept, was_locked=True)


@breaks("lock", "there is none")
def a_run_that_skips_for_nobody(world: World) -> list[Problem]:
    return world.run(summary={"skipped": True})


@breaks("lock", "worked off: it was not")
def a_tick_that_was_not_worked_off(world: World) -> list[Problem]:
    return world.run(summary=REPORT | {"repeated": True})


@breaks("budget", "took 5.0 s more than its 3 s")
def an_overdraft(world: World) -> list[Problem]:
    return world.run(happens=world.accept, budget_seconds=3, seconds=8.0)


@breaks("outage", "no failure although Kong was down")
def an_outage_of_kong_that_is_none(world: World) -> list[Problem]:
    return world.run(summary=REPORT | {"fetched": 0, "delivered": 0, "finished": False}, kong_was_down=True)


@breaks("outage", "no failure although the destination was down")
def an_outage_of_the_destination_that_is_none(world: World) -> list[Problem]:
    return world.run(
        summary=REPORT | {"delivered": 0, "backlog": 1, "finished": False}, destination_was_down=True, fair=False
    )


@breaks("outage", "took 50 s to see")
def an_outage_that_takes_long(world: World) -> list[Problem]:
    return world.run(FAILED_RUN, kong_was_down=True, seconds=50.0)


@breaks("altered", "CloudTrail has an event")
def a_stranger(world: World) -> list[Problem]:
    return world.run(happens=lambda: world.accept(EVENT | {"UID": "r2"}))


@breaks("altered", "is no entry of Kong's, or not whole")
def an_altered_entry_in_quarantine(world: World) -> list[Problem]:
    return world.run(happens=lambda: world.quarantine(entry=FIELDS | {"status": 200}))


@breaks("doubles", "1 entries came twice")
def twice_in_one_run(world: World) -> list[Problem]:
    world.accept()
    return world.run(happens=world.accept)


@breaks("doubles", "one entry came 3 times")
def three_times_in_one_run(world: World) -> list[Problem]:
    world.accept()
    world.accept()
    return world.run(happens=world.accept, lost_batches=1, calm=False)


@breaks("again", "although it was marked")
def a_delivery_that_nothing_explains(world: World) -> list[Problem]:
    world.run(happens=world.accept)
    return world.run(happens=world.accept)


@breaks("old doubles", "older than the overlap")
def a_double_older_than_the_overlap(world: World) -> list[Problem]:
    def lose() -> None:
        world.marked.clear()
        world.checkpoint(NOW - 10 + OVERLAP_SECONDS + 1)

    world.run(happens=world.accept)
    world.run(happens=lose, valkey_lost_marks=True, calm=False)
    return world.run(happens=world.accept)


@breaks("quarantine", "does not say why")
def a_quarantine_without_a_reason(world: World) -> list[Problem]:
    return world.run(happens=lambda: world.quarantine(code=""))


@breaks("quarantine", "which passes")
def given_up_for_a_throttling(world: World) -> list[Problem]:
    return world.run(happens=lambda: world.quarantine(code="Throttling"))


@breaks("quarantine", "at its first checksum")
def given_up_for_one_checksum(world: World) -> list[Problem]:
    world.refused.append(RefusedEvent("r1", "InvalidChecksum", 1))
    return world.run(happens=lambda: world.quarantine(code="InvalidChecksum"))


@breaks("quarantine", "though CloudTrail accepted nothing")
def given_up_in_an_outage(world: World) -> list[Problem]:
    keys = {f"r{number}": world.show(request_id=f"r{number}") for number in range(1, 13)}

    def give_up() -> None:
        for one in keys:
            world.quarantine(id=one, code="SomethingNew", entry=FIELDS | {"request_id": one})
        world.marked |= set(keys.values())

    return world.run(happens=give_up)


@breaks("marks", "neither delivered nor in quarantine")
def a_mark_without_delivery(world: World) -> list[Problem]:
    return world.run(FAILED_RUN, lambda: world.marked.add(KEY))


@breaks("marks", "no entry of Kong's")
def a_mark_of_nothing_known(world: World) -> list[Problem]:
    return world.run(FAILED_RUN, lambda: world.marked.add("somebody-else"))


@breaks("marks", "left 1 entries unmarked")
def accepted_and_not_marked(world: World) -> list[Problem]:
    return world.run(happens=lambda: world.accept(mark=False))


@breaks("marks", "left 240 entries unmarked")
def accepted_and_not_marked_again_and_again(world: World) -> list[Problem]:
    ids = [f"e{number}" for number in range(120)]
    for one in ids:
        world.show(request_id=one)

    def deliver() -> None:
        for one in ids:
            world.accept(EVENT | {"UID": one}, mark=False)

    for _ in range(2):
        problems = world.run(FAILED_RUN, deliver, valkey_full=True)
    return problems


@breaks("checkpoint", "went back")
def a_checkpoint_that_goes_back(world: World) -> list[Problem]:
    world.accept()
    world.run(happens=lambda: world.checkpoint(NOW - 10))
    return world.run(happens=lambda: world.checkpoint(NOW - 11))


@breaks("checkpoint", "past the newest entry that is settled")
def a_checkpoint_that_believes_a_clock(world: World) -> list[Problem]:
    world.accept()
    return world.run(happens=lambda: world.checkpoint(NOW))


@breaks("checkpoint", "has passed")
def a_checkpoint_past_an_undelivered_entry(world: World) -> list[Problem]:
    return world.run(FAILED_RUN, lambda: world.checkpoint(NOW))


@breaks("checkpoint", "no marks were ever lost")
def marks_that_are_written_off(world: World) -> list[Problem]:
    return world.run(happens=lambda: world.checkpoint(NOW - 100, marksWholeAfter=NOW - 100))


@breaks("success", "ended as a success without delivering")
def a_success_that_hides_an_entry(world: World) -> list[Problem]:
    return world.run()


@breaks("starved", "had 2 runs that could have delivered it")
def an_entry_that_starves(world: World) -> list[Problem]:
    starving = replace(FAILED_RUN, fair=True, poisoned=frozenset({"another"}))
    return world.run(starving) + world.run(starving)


@breaks("progress", "none was delivered, and the checkpoint says the same")
def runs_in_a_circle(world: World) -> list[Problem]:
    return world.run(summary=REPORT | {"delivered": 0, "duplicates": 1, "finished": False}, fair=False)


@breaks("gaps", "although nothing went wrong")
def a_gap_without_a_reason(world: World) -> list[Problem]:
    return world.run(happens=lambda: world.checkpoint(NOW - 10, gaps=[{"after": NOW - 10, "before": NOW - 9}]))


@breaks("reports", "run report 2 does not continue the chain")
def a_broken_chain(world: World) -> list[Problem]:
    for number in (1, 2):
        world.write(f"runs/{TRAIL}/{number:010}.json", {"number": number, "previousSha256": "0" * 64})
    return world.run(happens=world.accept)


@breaks("reports", "the checkpoint remembers 3")
def a_report_that_is_missing(world: World) -> list[Problem]:
    world.checkpoint(NOW - 100, run={"number": 3, "sha256": "0" * 64})
    return world.run(happens=world.accept)


@breaks("reports", "not the one that the checkpoint remembers")
def a_report_that_was_replaced(world: World) -> list[Problem]:
    world.write(f"runs/{TRAIL}/0000000001.json", {"number": 1, "previousSha256": "0" * 64})
    world.checkpoint(NOW - 100, run={"number": 1, "sha256": hashlib.sha256(b"another").hexdigest()})
    return world.run(happens=world.accept)


@breaks("lost", "neither delivered nor in quarantine")
def a_lost_entry(world: World) -> list[Problem]:
    world.run(FAILED_RUN)
    return world.auditor.end()


@pytest.mark.parametrize(("rule", "words", "planted"), PLANTED, ids=[planted.__name__ for _, _, planted in PLANTED])
def test_the_auditor_notices(world: World, rule: str, words: str, planted: Planted) -> None:
    problems = planted(world)

    assert [problem for problem in problems if problem.rule == rule and words in problem.text], problems


def test_every_rule_is_seen_to_be_broken() -> None:
    assert {rule for rule, _, _ in PLANTED} == RULES.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"eventTime": "2025-06-15T15:06:31Z"},
        {"sourceIPAddress": "192.0.2.11"},
        {"requestParameters": {"payload": {"port": 1.5, "name": "a"}}},
        {"requestParameters": {"payload": {"name": "a", "port": 1}}},
        {"userIdentity": {"type": "RBACUser", "principalId": "u"}},
        {"additionalEventData": {"method": "POST", "path": "/services", "status": "201", "ttl": 999}},
        {"additionalEventData": {"path": "/services", "status": 201, "ttl": 999}},
    ],
)
def test_the_auditor_notices_an_altered_event(world: World, change: dict[str, Any]) -> None:
    problems = world.run(happens=lambda: world.accept(EVENT | change))

    assert "altered" in {problem.rule for problem in problems}


class TestObjects:
    """The changes of objects, and the requests that caused them."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "id": "o1",
        "request_id": "r1",
        "request_timestamp": NOW - 10,
        "dao_name": "services",
        "operation": "create",
        "entity": '{"name":"a","port":1.5}',
        "entity_key": "s1",
        "rbac_user_id": None,
        "ttl": 1000,
    }
    EVENT: ClassVar[dict[str, Any]] = {
        "userIdentity": {"type": "RBACUser", "principalId": "u1"},
        "eventTime": "2025-06-15T15:06:30Z",
        "UID": "o1",
        "requestParameters": {"entity": {"name": "a", "port": 1.5}, "entity_key": "s1"},
        "sourceIPAddress": "192.0.2.10",
        "additionalEventData": {"request_id": "r1", "dao_name": "services", "operation": "create", "ttl": 999},
    }
    CAUSE: ClassVar[dict[str, Any]] = {"request_id": "r1", "client_ip": "192.0.2.10", "rbac_user_id": "u1"}

    @pytest.fixture
    def auditor(self, tmp_path: Path) -> LakeAuditor:
        return LakeAuditor(
            ledger=FolderLedger(tmp_path),
            overlap_seconds=OVERLAP_SECONDS,
            gateway_filters=True,
            secrets=[],
            stream="objects",
        )

    def told(self, auditor: LakeAuditor, event: dict[str, Any] | None, **changes: Any) -> list[str]:
        """Return the rules that a run breaks that delivered an event of one entry, or nothing."""
        fields = self.FIELDS | changes
        timestamp = fields["request_timestamp"] or 0
        auditor.show(NewEntry(timestamp, fields, is_plain=True, cause=self.CAUSE), frozenset())
        auditor.begin_run(1, NOW)
        accepted = [] if event is None else [AcceptedEvent(event["UID"], json.dumps(event), "event", 1, 0.0)]
        marked = {entry.key for entry in auditor.entries} if accepted else set()
        return [problem.rule for problem in auditor.end_run(GOOD_RUN, accepted, marked)]

    def test_whole_one_is_no_problem(self, auditor: LakeAuditor) -> None:
        assert self.told(auditor, self.EVENT) == []

    @pytest.mark.parametrize(
        "damage",
        [
            {"requestParameters": {"entity_key": "s1"}},
            {"requestParameters": {"entity": {"name": "a", "port": 1.5}}},
            {"sourceIPAddress": "192.0.2.99"},
            {"userIdentity": {"type": "RBACUser", "principalId": "somebody else"}},
        ],
    )
    def test_damaged_one_is(self, auditor: LakeAuditor, damage: dict[str, Any]) -> None:
        assert "altered" in self.told(auditor, self.EVENT | damage)

    @pytest.mark.parametrize(
        ("changes", "rules"), [({}, {"success", "progress"}), ({"request_timestamp": None}, set())]
    )
    def test_one_without_a_time_may_wait_for_a_sweep(
        self, auditor: LakeAuditor, changes: dict[str, Any], rules: set[str]
    ) -> None:
        assert set(self.told(auditor, None, **changes)) == rules
