"""Evidence: numbers are those of the period, every fault is named, and what was not checked is never called right."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from kong_cloudtrail.destinations.archive.destination import Archive
from kong_cloudtrail.destinations.archive.inspection import ArchiveInspector
from kong_cloudtrail.domain.backfill import Range, SliceProgress
from kong_cloudtrail.domain.checkpoint import OpenGap
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.domain.reconciliation import COUNTS, Coverage, Reconciled
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.domain.trail import Trail
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import LedgerError, RequestInvalid
from kong_cloudtrail.operations.verb import answer
from kong_cloudtrail.ports import AlarmChange, AlarmHistory, AlarmRecord, Failure, Inspector
from kong_cloudtrail.sources.kong.entries import read_entry
from kong_cloudtrail.state.ledger import REPORTS_PER_RESULT_NAMED, Ledger

from tests.fakes import Store
from tests.helpers import GATEWAY, NOW, REPOSITORY, FakeClock, entry
from tests.unit.test_part_log import MemoryS3, open_log

DAY = 86_400
MIDNIGHT = NOW - 12 * 3600  # 2024-06-01T00:00:00Z
AFTER, BEFORE = MIDNIGHT - 3 * DAY, MIDNIGHT
PERIOD = {"after": "2024-05-29", "before": "2024-06-01"}
ARCHIVE = Trail("kong", "requests", "archive")
LAKE = Trail("kong", "requests", "cloudtrail-lake")


@cache
def schema() -> Draft202012Validator:
    document = json.loads((REPOSITORY / "docs" / "schemas" / "evidence.json").read_text("utf-8"))
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


@dataclass
class Parts:
    """What a trail has stored, in memory."""

    trail: Trail = ARCHIVE
    store: Store = field(default_factory=Store)
    s3: MemoryS3 = field(default_factory=MemoryS3)
    clock: FakeClock = field(default_factory=FakeClock)
    _runs: int = 0

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, self.trail, self.clock)

    @property
    def inspector(self) -> Inspector | None:
        if self.trail.destination != "archive":
            return None
        return ArchiveInspector(self.s3, "kong", "requests", now=lambda: NOW + DAY)

    def run(self, rows: Sequence[Mapping[str, Any]], *, at: int, after: int | None = None, **counts: Any) -> None:
        """Archive rows, and report it."""
        self._runs += 1
        run_id = f"{at:08x}-{self._runs:08x}"
        entries = [read_entry(dict(row)) for row in rows]
        parts: Sequence[Any] = ()
        if self.trail.destination == "archive" and entries:
            log = open_log(self.s3)
            archive = Archive(log, "kong", "requests", run_id)
            by_hour: dict[int, list[Any]] = {}
            for each in entries:
                by_hour.setdefault((each.timestamp or 0) // 3600, []).append(archive.mapper(GATEWAY).map(each))
            parts = [part for batch in by_hour.values() for part in archive.deliver(batch).parts]
            log.close()
        window = Window(at - DAY if after is None else after, None)
        report = RunReport(
            self.trail, run_id, window, fetched=len(rows), delivered=len(rows), parts=list(parts), finished=True
        )
        for name, value in counts.items():
            setattr(report, name, value)
        self.clock.time = float(at)
        ledger = self.ledger
        checkpoint = ledger.add_report(report, ledger.load_checkpoint())
        times = [each.timestamp for each in entries if each.timestamp is not None]
        ledger.save_checkpoint(
            replace(
                checkpoint,
                complete_until=max(times, default=checkpoint.complete_until),
                first_run_at=checkpoint.first_run_at or at,
                caught_up_at=at,
            )
        )
        self.clock.time = float(NOW)

    def change_checkpoint(self, **changes: Any) -> None:
        ledger = self.ledger
        ledger.save_checkpoint(replace(ledger.load_checkpoint(), **changes))

    def reconcile(self, after: int = AFTER, until: int = BEFORE, *, repair: Any = None, **counts: Any) -> None:
        """Keep the result of a reconciliation, as the verb does."""
        result = {
            "basis": "parts",
            "after": utc(after),
            "covered_until": utc(until),
            **dict.fromkeys(COUNTS, 0),
            "shown": 4,
            "repair": repair,
            **counts,
        }
        self.ledger.add_reconciliation(result)


@dataclass
class Installed:
    stored_trails: Sequence[Parts]
    is_signed: Callable[[bytes, bytes], bool] | None = None
    alarm_history: AlarmHistory | None = None
    configuration: Mapping[str, str] = field(default_factory=dict)

    @property
    def clock(self) -> FakeClock:
        return self.stored_trails[0].clock


def ask(*parts: Parts, **options: Any) -> dict[str, Any]:
    document = json.loads(json.dumps(answer("evidence", options.pop("period", PERIOD), Installed(parts, **options))))
    schema().validate(document)
    return dict(document)


def ask_one(parts: Parts, **options: Any) -> dict[str, Any]:
    (trail,) = ask(parts, **options)["trails"]
    return dict(trail)


def codes(trail: Mapping[str, Any], severity: str | None = None) -> list[str]:
    return [each["code"] for each in trail["findings"] if severity in (None, each["severity"])]


def row(number: int, at: int, **fields: Any) -> dict[str, Any]:
    return entry(number, request_timestamp=at, **fields)


@pytest.fixture
def parts() -> Parts:
    """An archive with four entries of the period, and one on either side of it."""
    parts = Parts()
    parts.run([row(1, AFTER - 5), row(2, AFTER), row(3, AFTER + DAY, method="GET", status=403)], at=AFTER + 2 * DAY)
    parts.run([row(4, BEFORE - 10, method="DELETE", status=204), row(5, BEFORE - 1), row(6, BEFORE)], at=NOW - 3600)
    return parts


class TestNumbers:
    def test_are_those_of_the_period(self, parts: Parts) -> None:
        parts.reconcile()

        trail = ask_one(parts)

        assert trail["verdict"] == "complete"
        assert (trail["shown"], trail["delivered"], trail["missing"], trail["doubled"]) == (4, 4, 0, 0)
        assert trail["activity"]["kinds"] == {"read": 1, "create": 2, "update": 0, "delete": 1, "other": 0}
        assert trail["activity"]["outcomes"] == {"done": 3, "refused": 1, "failed": 0, "unknown": 0}
        assert [(day["day"], day["entries"]) for day in trail["activity"]["days"]] == [
            ("2024-05-29", 1),
            ("2024-05-30", 1),
            ("2024-05-31", 2),
        ]

    def test_of_the_longest_delay_are_a_limit_for_entries_of_the_period(self, parts: Parts) -> None:
        # The entry of the second AFTER waited for two days; the one before is not of the period.
        assert ask_one(parts)["longest_delay"] == {"at_most_seconds": 2 * DAY, "report": 1}

    def test_are_given_without_a_comparison_too_and_not_called_complete(self, parts: Parts) -> None:
        trail = ask_one(parts)

        assert (trail["verdict"], trail["shown_basis"], trail["missing"]) == (
            "unproven",
            "archive_and_quarantine",
            None,
        )
        assert codes(trail, "unchecked") == ["not_reconciled"]

    def test_of_a_destination_without_parts_are_those_of_its_runs(self) -> None:
        parts = Parts(LAKE)
        parts.run([row(2, AFTER), row(3, BEFORE - 5)], at=NOW - 60)

        trail = ask_one(parts)

        assert (trail["shown"], trail["shown_basis"], trail["archive"], trail["doubled"]) == (
            2,
            "run_reports",
            None,
            None,
        )
        assert trail["activity"]["basis"] == "time_of_run"
        assert "counted_by_runs" in codes(trail, "note")

    def test_of_a_destination_without_parts_are_those_of_comparisons_if_there_are_any(self) -> None:
        parts = Parts(LAKE)
        parts.run([row(2, AFTER), row(3, BEFORE - 5), row(4, BEFORE + 5)], at=NOW - 60)
        parts.reconcile(shown=4, quarantined=1, excluded=1, doubled=None, extra=None)

        trail = ask_one(parts)

        assert (trail["shown"], trail["delivered"], trail["missing"], trail["doubled"]) == (4, 2, 0, None)
        assert "counted_by_runs" not in codes(trail)
        assert codes(trail, "unchecked") == ["doubles_not_checked"]

    def test_count_runs_of_the_period_only(self) -> None:
        parts = Parts(LAKE)
        for day in range(-40, 0):
            parts.run([row(100 + day, MIDNIGHT + day * DAY)], at=MIDNIGHT + day * DAY + 60, after=MIDNIGHT + day * DAY)
        parts.run([], at=NOW - 60, delivered=1)

        written = [each["written_at"][:10] for each in ask_one(parts)["runs"]["reports"]]

        assert written == ["2024-05-29", "2024-05-30", "2024-05-31", "2024-06-01"]

    def test_hashes_are_those_of_what_is_there(self, parts: Parts) -> None:
        trail = ask_one(parts)
        names = [part["name"] for part in trail["archive"]["parts"]]

        assert all(AFTER - 3600 < _hour(name) < BEFORE for name in names)
        assert {part["report"] for part in trail["archive"]["parts"]} == {1, 2}
        verified = answer("verify", {}, Installed([parts]))
        assert verified["whole"] is True


def _hour(name: str) -> int:
    day, hour = int(name[12:14]), int(name[15:17])
    return MIDNIGHT + (day - 1) * DAY - (31 * DAY if name[9:11] == "05" else 0) + hour * 3600


class TestFaults:
    def test_a_removed_part(self, parts: Parts) -> None:
        parts.reconcile()
        name = ask_one(parts)["archive"]["parts"][0]["name"]
        parts.s3.destroy(name)

        trail = ask_one(parts)

        assert (trail["verdict"], codes(trail, "fault")) == ("incomplete", ["archive_altered", "fewer_than_compared"])
        assert name in trail["findings"][0]["text"]

    def test_a_removed_part_of_another_day_is_not_of_this_period(self, parts: Parts) -> None:
        parts.reconcile()
        (other,) = {name for name in parts.s3.versions if "day=2024-06-01" in name}
        parts.s3.destroy(other.removeprefix("source=kong/stream=requests/"))

        assert ask_one(parts)["verdict"] == "complete"

    def test_a_removed_report(self, parts: Parts) -> None:
        parts.reconcile()
        del parts.store.objects["runs/kong/requests/archive/0000000001.json"]

        assert "chain_broken" in codes(ask_one(parts), "fault")

    @pytest.mark.parametrize("body", [b"", b"[]", b'{"window": 1, "parts": [{}], "writtenAt": "x"}', b"\xff"])
    def test_an_altered_report_is_a_fault_and_no_crash(self, parts: Parts, body: bytes) -> None:
        parts.store.write("runs/kong/requests/archive/0000000001.json", body)

        assert "chain_broken" in codes(ask_one(parts), "fault")

    @pytest.mark.parametrize(("name", "code"), [("missing", "entries_missing"), ("doubled", "entries_doubled")])
    def test_what_a_comparison_found(self, parts: Parts, name: str, code: str) -> None:
        parts.reconcile(**{name: 2})

        trail = ask_one(parts)

        assert (trail["verdict"], codes(trail, "fault")) == ("incomplete", [code])

    def test_what_was_repaired_is_not_missing(self, parts: Parts) -> None:
        parts.reconcile(missing=3, repair={"delivered": 2, "quarantined": 1, "failed": 0})

        trail = ask_one(parts)

        assert (trail["verdict"], trail["missing"], trail["reconciliation"]["quarantined"]) == ("complete", 0, 1)

    def test_what_a_repair_put_into_quarantine_is_not_delivered_until_it_is_released(self) -> None:
        parts = Parts(LAKE)
        parts.run([row(number, AFTER + number) for number in range(9)], at=NOW - 60)
        parts.reconcile(shown=10, missing=1, repair={"delivered": 0, "quarantined": 1, "failed": 0})
        quarantined = read_entry(row(9, AFTER + 9))
        parts.ledger.quarantine(quarantined, GATEWAY, Failure("InvalidData", ""), 1)

        assert ask_one(parts)["delivered"] == 9
        parts.ledger.release(quarantined.key.replace(":", "-"))
        assert ask_one(parts)["delivered"] == 10

    def test_doubles_of_which_one_comparison_knows_though_another_does_not(self) -> None:
        parts = Parts(LAKE)
        parts.run([row(2, AFTER), row(3, BEFORE - 5)], at=NOW - 60)
        parts.reconcile(AFTER, AFTER + DAY, basis="lake", doubled=3)
        parts.reconcile(AFTER + DAY, BEFORE, basis="marks", doubled=None)

        assert "entries_doubled" in codes(ask_one(parts), "fault")

    def test_more_than_kong_showed_is_not_passed_over(self, parts: Parts) -> None:
        parts.reconcile(extra=2)

        trail = ask_one(parts)

        assert (trail["verdict"], codes(trail, "exception")) == ("complete_with_exceptions", ["entries_extra"])

    @pytest.mark.parametrize("kind", ["quarantined", "discarded"])
    def test_an_entry_that_was_taken_out_of_the_quarantine_by_hand(self, parts: Parts, kind: str) -> None:
        quarantined = read_entry(row(7, AFTER + 9))
        name = quarantined.key.replace(":", "-")
        parts.ledger.quarantine(quarantined, GATEWAY, Failure("InvalidData", ""), 1)
        if kind == "discarded":
            parts.ledger.discard(name, reason="a load test", by="somebody")
        counts: dict[str, Any] = {"shown": 5, kind: 1, f"{kind}_entries": [{"name": name, "code": "InvalidData"}]}
        parts.reconcile(**counts)
        assert ask_one(parts)["verdict"] == "complete_with_exceptions"
        (record,) = [each for each in parts.store.objects if each.endswith(f"/{name}.json")]
        del parts.store.objects[record]

        trail = ask_one(parts)

        assert (trail["verdict"], codes(trail, "fault")) == ("incomplete", ["quarantine_altered"])
        assert name in trail["findings"][0]["text"]

    def test_an_archive_with_fewer_entries_than_were_found_in_it(self, parts: Parts) -> None:
        parts.reconcile(shown=5)

        assert codes(ask_one(parts), "fault") == ["fewer_than_compared"]

    def test_the_last_comparison_taken_away_with_its_traces(self, parts: Parts) -> None:
        """Somebody puts an older state of the results in place, in which nothing was missing."""
        parts.reconcile()
        before = {name: body for name, body in parts.store.objects.items() if name.startswith("reconciled/")}
        parts.reconcile(missing=5)
        for number in range(REPORTS_PER_RESULT_NAMED):
            parts.run([row(20 + number, NOW - 60)], at=NOW - 30)
        assert ask_one(parts)["missing"] == 5
        for name in [name for name in parts.store.objects if name.startswith("reconciled/")]:
            del parts.store.objects[name]
        parts.store.objects |= before

        trail = ask_one(parts)

        assert (trail["verdict"], codes(trail, "fault")) == ("incomplete", ["chain_broken"])
        text = "Reconcile result(s) 2 to 2 are missing at the end, which run reports name."
        assert trail["findings"][0]["text"] == text
        assert answer("verify", {}, Installed([parts]))["trails"][0]["faults"] == [text]

    def test_the_last_comparison_replaced_by_another(self, parts: Parts) -> None:
        parts.reconcile(missing=5)
        for number in range(REPORTS_PER_RESULT_NAMED):
            parts.run([row(20 + number, NOW - 60)], at=NOW - 30)
        for name in [name for name in parts.store.objects if name.startswith("reconciled/")]:
            del parts.store.objects[name]
        parts.reconcile()

        assert ask_one(parts)["findings"][0]["text"] == (
            "Reconcile result 1 is not the one that run reports name: it was altered."
        )

    def test_a_run_goes_on_when_the_results_are_damaged(self, parts: Parts) -> None:
        parts.reconcile()
        parts.store.write("reconciled/kong/requests/archive/newest", b"[]")

        parts.run([row(20, NOW - 60)], at=NOW - 30)

        assert parts.ledger.load_checkpoint().run_number == 3

    def test_a_comparison_of_another_trail(self, parts: Parts) -> None:
        other = Parts(Trail("staging", "requests", "archive"))
        other.reconcile()
        for name, body in other.store.objects.items():
            if name.startswith("reconciled/"):
                parts.store.objects[name.replace("staging", "kong")] = body

        trail = ask_one(parts)

        assert (codes(trail, "fault"), trail["chain"]["faults"]) == (["chain_broken"], 1)

    def test_rows_that_kong_could_not_show(self, parts: Parts) -> None:
        parts.reconcile(unreadable=1)

        assert codes(ask_one(parts), "fault") == ["rows_unreadable"]

    def test_an_altered_comparison(self, parts: Parts) -> None:
        parts.reconcile()
        parts.reconcile(missing=5)
        name = "reconciled/kong/requests/archive/0000000001.json"
        parts.store.write(name, parts.store.objects[name].replace(b'"missing":0', b'"missing":1'))

        assert "chain_broken" in codes(ask_one(parts), "fault")

    @pytest.mark.parametrize("result", [{}, {"after": "x"}, {"after": "2024-05-29T00:00:00Z", "covered_until": 7}])
    def test_a_comparison_that_cannot_be_read_proves_nothing(self, parts: Parts, result: dict[str, Any]) -> None:
        parts.ledger.add_reconciliation(result)

        assert codes(ask_one(parts), "unchecked") == ["not_reconciled"]

    def test_runs_that_did_not_get_to_the_end(self) -> None:
        parts = Parts()
        parts.run([row(1, AFTER + 5)], at=AFTER + DAY)
        parts.reconcile(shown=1)

        assert codes(ask_one(parts), "fault") == ["not_delivered_to_the_end"]

    def test_a_quiet_gateway_is_none(self, parts: Parts) -> None:
        # Nothing happened after the last entry, and a later run found that.
        parts.change_checkpoint(complete_until=BEFORE - DAY)
        parts.reconcile()

        assert ask_one(parts)["verdict"] == "complete"

    @pytest.mark.parametrize(
        ("window", "is_of_the_period"),
        [(Window(AFTER + 5, AFTER + 6), True), (None, True), (Window(BEFORE, BEFORE + 5), False)],
    )
    def test_a_stretch_that_could_not_be_read(
        self, parts: Parts, window: Window | None, is_of_the_period: bool
    ) -> None:
        parts.change_checkpoint(gaps=(OpenGap(window, "unreadable", "status 500", NOW),))
        parts.reconcile()

        assert ("gap_open" in codes(ask_one(parts), "fault")) == is_of_the_period

    def test_a_ledger_that_cannot_be_read_is_said_at_once(self, parts: Parts) -> None:
        parts.store.write("checkpoints/kong/requests/archive.json", b"hello")

        with pytest.raises(LedgerError, match="is not a checkpoint"):
            ask(parts)


class TestExceptions:
    def test_quarantine_has_a_reason_for_each_and_no_content(self, parts: Parts) -> None:
        for number, at, code in (
            (7, AFTER + 9, "InvalidData"),
            (8, BEFORE + 9, "InvalidData"),
            (9, AFTER, "NotMappable"),
        ):
            quarantined = read_entry(row(number, at, payload="s3cret"))
            parts.ledger.quarantine(quarantined, GATEWAY, Failure(code, "s3cret is wrong"), 1)
        parts.reconcile(shown=6, quarantined=2)

        document = ask(parts)
        trail = document["trails"][0]

        assert trail["verdict"] == "complete_with_exceptions"
        assert trail["quarantine"]["by_reason"] == {"InvalidData": 1, "NotMappable": 1}
        assert (trail["shown"], trail["delivered"], trail["quarantine"]["quarantined"]) == (6, 4, 2)
        assert "s3cret" not in json.dumps(document)

    def test_what_filters_left_out_is_named(self, parts: Parts) -> None:
        name = "runs/kong/requests/archive/0000000002.json"
        body = json.loads(parts.store.objects[name]) | {"excluded_by_rule": {"own-reads": 12, "GET /status": 3}}
        parts.store.write(name, json.dumps(body).encode())

        trail = ask_one(parts)

        assert trail["excluded"] == {"entries": 15, "by_rule": {"GET /status": 3, "own-reads": 12}}
        assert "entries_excluded" in codes(trail, "exception")

    def test_what_only_a_comparison_left_out_is_named_too(self, parts: Parts) -> None:
        parts.reconcile(shown=9, excluded=5)

        trail = ask_one(parts)

        assert (trail["verdict"], trail["excluded"]["entries"]) == ("complete_with_exceptions", 5)
        assert codes(trail, "exception") == ["entries_excluded"]
        assert "Runs report none; comparisons with Kong found 5." in trail["findings"][0]["text"]

    def test_a_trail_that_begins_within_the_period(self, parts: Parts) -> None:
        parts.change_checkpoint(begins_at=AFTER + 3600)

        assert "begins_later" in codes(ask_one(parts), "exception")

    def test_a_backfill_of_what_is_older_than_the_trail(self, parts: Parts) -> None:
        parts.change_checkpoint(begins_at=AFTER + DAY)
        parts.reconcile()
        whole = Range(AFTER, AFTER + DAY)
        parts.ledger.save_slice(whole, Range(AFTER + 3600, AFTER + DAY), SliceProgress(done=True))
        first = Range(AFTER, AFTER + 3600)
        begun = parts.ledger.save_slice(whole, first, SliceProgress())

        trail = ask_one(parts)
        assert (trail["verdict"], codes(trail, "exception")) == ("complete_with_exceptions", ["begins_later"])
        assert "2024-05-29T00:00:00Z to 2024-05-29T01:00:00Z." in trail["findings"][0]["text"]

        parts.ledger.save_slice(whole, first, replace(begun, done=True))
        trail = ask_one(parts)
        assert (trail["verdict"], "backfilled" in codes(trail, "note")) == ("complete", True)


class TestHonesty:
    def test_nothing_at_all(self) -> None:
        document = ask(Parts())

        assert (document["verdict"], codes(document["trails"][0], "unchecked")) == ("empty", ["nothing_recorded"])

    def test_names_other_trails_of_the_ledger(self, parts: Parts) -> None:
        other = Parts(LAKE, store=parts.store)

        assert "kong/requests/archive" in ask_one(other)["findings"][0]["text"]

    def test_a_period_without_entries_is_not_called_complete_unless_it_was_compared(self, parts: Parts) -> None:
        period = {"after": "2024-05-01", "before": "2024-05-02"}

        trail = ask_one(parts, period=period)

        assert (trail["verdict"], trail["shown"], trail["activity"]["days"]) == ("unproven", 0, [])

    def test_nothing_at_all_may_be_an_audit_log_that_was_off(self, parts: Parts) -> None:
        period = {"after": "2024-05-01", "before": "2024-05-02"}
        parts.reconcile(MIDNIGHT - 31 * DAY, MIDNIGHT - 30 * DAY, shown=0)

        trail = ask_one(parts, period=period)

        assert (trail["verdict"], "nothing_shown" in codes(trail, "note")) == ("complete", True)

    def test_names_the_trails_that_it_says_nothing_of(self, parts: Parts) -> None:
        objects = Parts(Trail("kong", "objects", "archive"), store=parts.store)
        objects.run([], at=NOW - 60)
        Parts(Trail("kong-2", "objects", "archive"), store=parts.store).run([], at=NOW - 60)

        assert ask(parts)["trails_beside"] == ["kong/objects/archive"]
        assert ask(parts, objects)["trails_beside"] == []

    def test_a_period_that_has_not_ended(self, parts: Parts) -> None:
        document = ask(parts, period={"after": "2024-05-29", "before": "2024-07-01"})

        assert document["so_far"] is True
        assert "so_far" in codes(document["trails"][0], "note")
        assert codes(document["trails"][0], "fault") == []

    def test_a_period_in_the_future(self, parts: Parts) -> None:
        document = ask(parts, period={"after": "2025-01-01", "before": "2025-02-01"})

        assert (document["so_far"], document["verdict"]) == (True, "unproven")

    def test_comparisons_of_a_part_of_the_period(self, parts: Parts) -> None:
        parts.reconcile(AFTER, AFTER + DAY, shown=1)

        trail = ask_one(parts)

        assert (trail["verdict"], trail["missing"], codes(trail, "unchecked")) == (
            "unproven",
            None,
            ["partly_reconciled"],
        )
        assert trail["reconciliation"]["uncovered"] == [
            {"after": "2024-05-30T00:00:00Z", "before": "2024-06-01T00:00:00Z"}
        ]

    def test_signatures_without_a_key(self, parts: Parts) -> None:
        parts.store.write("runs/kong/requests/archive/0000000001.sig", b"signature")
        parts.reconcile()

        assert codes(ask_one(parts), "unchecked") == ["signatures_not_checked"]
        wrong = ask_one(parts, is_signed=lambda body, signature: False)
        assert (wrong["verdict"], wrong["chain"]["signed"]) == ("incomplete", 0)

    def test_one_bad_trail_makes_all_bad(self, parts: Parts) -> None:
        parts.reconcile()

        assert ask(parts, Parts(LAKE))["verdict"] == "empty"

    def test_alarms_and_configuration_are_passed_on(self, parts: Parts) -> None:
        class Alarms:
            def record(self, window: Window) -> AlarmRecord:
                changes = [AlarmChange("kong: lag", NOW - 60, "ALARM"), AlarmChange("kong: lag", NOW, "OK")]
                return AlarmRecord(["kong: lag", "kong: other"], NOW - DAY, changes)

        document = ask(parts, alarm_history=Alarms(), configuration={"SOURCE_NAME": "kong"})

        assert (document["alarms"]["watched"], document["alarms"]["raised"]) == (2, {"kong: lag": 1})
        assert document["configuration"] == {"SOURCE_NAME": "kong"}
        assert ask(parts)["alarms"] is None

    def test_what_is_asked_wrongly_is_said(self, parts: Parts) -> None:
        with pytest.raises(RequestInvalid, match="before: has to be later"):
            ask(parts, period={"after": "2024-06-01", "before": "2024-05-01"})


class TestCoverage:
    def results(self, *spans: tuple[int, int, int, int]) -> list[Reconciled]:
        """Return results about a span each, with their number and how many were missing."""
        counts: dict[str, int | None] = dict.fromkeys(COUNTS, 0)
        return [
            Reconciled(
                Window(after, before), NOW - number, counts | {"shown": 1, "missing": missing}, "parts", "", number
            )
            for after, before, number, missing in spans
        ]

    def test_days_make_a_month(self) -> None:
        coverage = Coverage.of(Window(0, 30), self.results(*((day, day + 1, day + 5, 0) for day in range(30))))

        assert (coverage.is_whole, coverage.is_exact, coverage.total("shown")) == (True, True, 30)

    def test_the_newest_counts(self) -> None:
        coverage = Coverage.of(Window(0, 30), self.results((0, 30, 1, 9), (0, 30, 2, 0)))

        assert (coverage.total("missing"), len(coverage.results), coverage.is_exact) == (0, 1, True)

    def test_what_an_older_one_found_missing_stays_until_all_of_it_was_compared_again(self) -> None:
        assert Coverage.of(Window(0, 30), self.results((0, 30, 1, 9), (0, 29, 2, 0))).total("missing") == 9

    def test_our_own_marks_never_replace_a_comparison_with_the_destination(self) -> None:
        [old, new] = self.results((0, 30, 1, 9), (0, 30, 2, 0))

        coverage = Coverage.of(Window(0, 30), [old, replace(new, basis="marks")])

        assert (coverage.total("missing"), coverage.results) == (9, [old])

    def test_holes_are_known(self) -> None:
        coverage = Coverage.of(Window(0, 30), self.results((-5, 4, 1, 0), (6, 9, 1, 0), (20, 40, 1, 0)))

        assert coverage.uncovered == [Window(4, 6), Window(9, 20)]
        assert not coverage.is_whole

    def test_what_reaches_beyond_is_not_exact(self) -> None:
        coverage = Coverage.of(Window(0, 30), self.results((-5, 40, 1, 0)))

        assert (coverage.is_whole, coverage.is_exact) == (True, False)
