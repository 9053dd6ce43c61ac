"""Verify: each way in which somebody may have changed reports or parts is found, and named."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from kong_cloudtrail.destinations.archive import inspection as inspection_module
from kong_cloudtrail.destinations.archive.destination import Archive
from kong_cloudtrail.destinations.archive.inspection import ArchiveInspector
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.domain.part import Part
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.domain.trail import Trail
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.operations.verify import VerifiedTrail, verify
from kong_cloudtrail.state.ledger import Ledger

from tests.fakes import Store
from tests.helpers import NOW, FakeClock
from tests.unit.test_part_log import HOUR, PREFIX, MemoryS3, event, open_log

TRAIL = Trail("kong", "requests", "archive")
RUN_IDS = (f"{NOW - 7200:08x}-00000001", f"{NOW - 3600:08x}-00000002")
PARTS = (f"{HOUR}-000000.json.gz", f"{HOUR}-000001.json.gz")
REPORT = "runs/kong/requests/archive/000000000{}.json"


class Sealer:
    """Signs with a word that nobody else knows."""

    def __init__(self, word: bytes = b"sealed: ") -> None:
        self.word = word

    def sign(self, body: bytes) -> bytes:
        return self.word + body[-20:]

    def check(self, body: bytes, signature: bytes) -> bool:
        return signature == self.sign(body)


class Site:
    """An archive with two parts, written and reported by two runs."""

    def __init__(self, signer: Sealer | None = None) -> None:
        self.s3 = MemoryS3()
        self.store = Store()
        self.signer = signer
        for run_id, numbers in zip(RUN_IDS, ((1, 2), (3,)), strict=True):
            self.run(run_id, [event(number) for number in numbers])

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, TRAIL, FakeClock(), self.signer)

    def run(self, run_id: str, lines: list[Event], *, dies: bool = False) -> None:
        log = open_log(self.s3)
        parts = Archive(log, "kong", "requests", run_id).deliver(lines).parts
        log.close()
        if not dies:
            report = RunReport(TRAIL, run_id, delivered=len(lines), parts=list(parts))
            ledger = self.ledger
            ledger.save_checkpoint(ledger.add_report(report, ledger.load_checkpoint()))

    def verify(self, check: Callable[[bytes, bytes], bool] | None = None) -> VerifiedTrail:
        inspector = ArchiveInspector(self.s3, "kong", "requests", now=lambda: NOW)
        return verify(self.ledger, inspector, check)

    def content(self, part: str) -> bytes:
        return gzip.decompress(b"".join(self.s3.read(PREFIX + part)))

    def replace(self, part: str, content: bytes) -> None:
        """Put other content in place of a part, and leave no trace of the first."""
        self.s3.destroy(part)
        self.s3.create(PREFIX + part, gzip.compress(content))


@pytest.fixture
def site() -> Site:
    return Site()


def test_what_was_written_is_whole(site: Site) -> None:
    verified = site.verify()

    assert verified.faults == ()
    assert not verified.found_nothing
    assert (verified.chain.count, verified.chain.signed) == (2, None)
    assert verified.inspection is not None
    assert (verified.inspection.parts, verified.inspection.entries) == (2, 3)


def test_nothing_is_not_whole() -> None:
    inspector = ArchiveInspector(MemoryS3(), "kong", "requests")

    assert verify(Ledger(Store(), TRAIL, FakeClock()), inspector, None).found_nothing


def test_progress_says_how_many_parts_are_done(site: Site) -> None:
    said: list[tuple[int, int]] = []

    inspector = ArchiveInspector(site.s3, "kong", "requests")
    verify(site.ledger, inspector, None, lambda what, done, total: said.append((done, total)))

    assert said == [(1, 2), (2, 2)]


class TestPart:
    def test_that_was_altered(self, site: Site) -> None:
        site.replace(PARTS[0], site.content(PARTS[0]).replace(b'"status":201', b'"status":200', 1))

        [fault] = site.verify().faults

        assert f"memory://{PREFIX}{PARTS[0]} was altered" in fault
        assert "report 1" in fault

    def test_that_was_compressed_anew_is_the_same(self, site: Site) -> None:
        site.replace(PARTS[0], site.content(PARTS[0]))

        assert site.verify().faults == ()

    def test_that_lost_its_last_line(self, site: Site) -> None:
        site.replace(PARTS[0], site.content(PARTS[0]).splitlines(keepends=True)[0])

        [fault] = site.verify().faults

        assert "was altered" in fault
        assert "It has 1 entries, and the report says 2" in fault

    @pytest.mark.parametrize(
        "body",
        [b"", b"hello", gzip.compress(b"hello\n"), gzip.compress(b'{"key":"a"}')],
        ids=["empty", "no gzip", "no line of ours", "no end of line"],
    )
    def test_that_is_damaged(self, site: Site, body: bytes) -> None:
        site.s3.destroy(PARTS[1])
        site.s3.create(PREFIX + PARTS[1], body)

        [fault] = site.verify().faults

        assert f"{PARTS[1]} is damaged" in fault

    @pytest.mark.parametrize("number", [0, 1])
    def test_that_was_removed(self, site: Site, number: int) -> None:
        site.s3.destroy(PARTS[number])

        [fault] = site.verify().faults

        assert f"{PARTS[number]} is missing: report {number + 1} says that it holds {2 - number} entries" in fault

    def test_that_is_hidden_or_overwritten(self, site: Site) -> None:
        site.s3.hide(PARTS[0])
        site.s3.overwrite(PARTS[1], gzip.compress(b'{"key":"x"}\n'))

        first, second = site.verify().faults

        assert f"{PARTS[0]} was removed or overwritten. Its first version is still there" in first
        assert f"{PARTS[1]} was removed or overwritten" in second

    def test_that_nobody_wrote(self, site: Site) -> None:
        site.s3.create(f"{PREFIX}{HOUR}-000002.json.gz", gzip.compress(f"{event(9).data}\n".encode()))

        [fault] = site.verify().faults

        assert f"{HOUR}-000002.json.gz is in no run report" in fault

    def test_behind_a_gap(self, site: Site) -> None:
        site.s3.create(f"{PREFIX}{HOUR}-000005.json.gz", gzip.compress(f"{event(9).data}\n".encode()))

        missing, extra = site.verify().faults

        assert "The parts 000002 to 000004 of memory://" in missing
        assert "000005.json.gz is in no run report" in extra

    def test_that_has_a_name_of_its_own(self, site: Site) -> None:
        site.s3.create(f"{PREFIX}day=2024-06-01/notes.txt", b"hello")

        [fault] = site.verify().faults

        assert fault == f"memory://{PREFIX}day=2024-06-01/notes.txt is not a part of the archive."

    def test_of_a_run_that_may_be_at_work_is_no_fault(self, site: Site) -> None:
        site.run(f"{NOW - 60:08x}-00000003", [event(4)], dies=True)

        verified = site.verify()

        assert verified.faults == ()
        assert verified.inspection is not None
        assert verified.inspection.unreported == 1

    def test_of_a_run_that_died_long_ago_is_a_fault(self, site: Site) -> None:
        site.run(f"{NOW - 3000:08x}-00000003", [event(4)], dies=True)

        [fault] = site.verify().faults

        assert "its run died and no later one has found it" in fault

    def test_that_two_reports_name_differently(self, site: Site) -> None:
        ledger = site.ledger
        checkpoint = ledger.load_checkpoint()
        part = replace(first_part(site), sha256="0" * 64)
        ledger.save_checkpoint(ledger.add_report(RunReport(TRAIL, RUN_IDS[0], parts=[part]), checkpoint))

        [fault] = site.verify().faults

        assert fault == (
            f"Reports 1 and 3 contradict each other about {PARTS[0]}: the part was removed after report 1 and written "
            "anew, or one of the two was altered."
        )


def first_part(site: Site) -> Part:
    log = open_log(site.s3)
    log.held([event(1).entry])
    [first, *_] = sorted(log.known_parts, key=lambda part: part.name)
    return first


class TestKey:
    def test_in_two_parts(self, site: Site) -> None:
        line = site.content(PARTS[0]).splitlines(keepends=True)[0]
        site.replace(PARTS[1], site.content(PARTS[1]) + line)

        altered, doubled = site.verify().faults

        assert "was altered" in altered
        key = event(1).entry.key
        assert doubled == f"The key {key} is in memory://{PREFIX}{PARTS[0]} and in memory://{PREFIX}{PARTS[1]}."

    def test_of_a_copied_part_is_one_fault_that_names_a_key(self, site: Site) -> None:
        copy = f"{HOUR}-000002.json.gz"
        site.s3.create(PREFIX + copy, gzip.compress(site.content(PARTS[0])))

        _, doubled = site.verify().faults

        assert any(doubled.startswith(f"The key {event(number).entry.key} is in ") for number in (1, 2))
        assert doubled.endswith(f"{PARTS[0]} and in memory://{PREFIX}{copy}. So are 1 other keys.")

    def test_twice_in_a_part(self, site: Site) -> None:
        site.replace(PARTS[1], site.content(PARTS[1]) * 2)

        _, doubled = site.verify().faults

        assert f"is twice in memory://{PREFIX}{PARTS[1]}" in doubled

    def test_is_found_among_many_that_are_on_disk(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inspection_module, "_BUCKET_MEMORY_BYTES", 64)
        lines = [event(number, request_timestamp=NOW - number * 60) for number in range(10, 400)]
        site.run(f"{NOW - 1800:08x}-00000003", lines)
        assert site.verify().faults == ()
        site.s3.create(
            f"{PREFIX}day=2024-05-01/00-000000.json.gz", gzip.compress(f"{lines[123].data}\n".encode("ascii"))
        )

        _, doubled = site.verify().faults

        assert "day=2024-05-01/00-000000.json.gz" in doubled


class TestReport:
    def test_that_was_removed(self, site: Site) -> None:
        del site.store.objects[REPORT.format(1)]

        faults = site.verify().faults

        assert "Report(s) 1 to 1 are missing." in faults
        assert any(f"{PARTS[0]} is in no run report" in fault for fault in faults)

    def test_that_was_altered(self, site: Site) -> None:
        name = REPORT.format(1)
        site.store.objects[name] = site.store.objects[name].replace(b'"delivered":2', b'"delivered":1')

        assert "Report 2 does not continue report 1: one of the two was altered." in site.verify().faults

    def test_without_the_checkpoint(self, site: Site) -> None:
        del site.store.objects["checkpoints/kong/requests/archive.json"]

        assert any("no checkpoint: it was removed" in fault for fault in site.verify().faults)

    def test_whose_list_of_parts_was_spoiled(self, site: Site) -> None:
        name = REPORT.format(2)
        fields = json.loads(site.store.objects[name]) | {"parts": [{"name": "x"}]}
        site.store.objects[name] = json.dumps(fields).encode()

        faults = site.verify().faults

        assert "Report 2 has no readable list of parts: it was altered." in faults

    @pytest.mark.parametrize(
        "body",
        [b"[" * 100_000, b'{"parts": [{"name": "x", "sha256": "", "entries": Infinity}], "writtenAt": Infinity}'],
        ids=["nested too deeply", "infinite numbers"],
    )
    def test_that_no_parser_expects_is_a_fault_and_no_crash(self, site: Site, body: bytes) -> None:
        site.store.objects[REPORT.format(1)] = body

        assert "Report 2 does not continue report 1: one of the two was altered." in site.verify().faults

    def test_that_has_a_second_name(self, site: Site) -> None:
        name = REPORT.format("01")
        site.store.objects[name] = site.store.objects[REPORT.format(1)]

        assert site.verify().faults == (f"{name} is not a run report.",)


class SlowFirstPart(MemoryS3):
    """Shows its first part only when the reads of all others have begun, or after a second."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self._parts = parts
        self._begun = 0
        self.all_begun = threading.Event()
        self.waited_in_vain = False

    def read(self, name: str, version: str | None = None) -> Iterator[bytes]:
        self._begun += 1
        if self._begun == self._parts:
            self.all_begun.set()
        if name.endswith("00-000000.json.gz"):
            self.waited_in_vain = not self.all_begun.wait(1.0)
        yield from super().read(name, version)


def test_a_part_that_is_read_slowly_lets_no_others_pile_up_in_memory() -> None:
    s3 = SlowFirstPart(parts=50)
    for number in range(50):
        name = f"{PREFIX}day=2024-05-01/00-{number:06}.json.gz"
        s3.create(name, gzip.compress(f"{event(number).data}\n".encode("ascii")))

    ArchiveInspector(s3, "kong", "requests", workers=2, now=lambda: NOW).inspect({})

    assert s3.waited_in_vain
    assert s3.all_begun.is_set()


class TestSignature:
    @pytest.fixture
    def signer(self) -> Sealer:
        return Sealer()

    @pytest.fixture
    def site(self, signer: Sealer) -> Site:
        return Site(signer)

    def test_of_every_report_is_right(self, site: Site, signer: Sealer) -> None:
        verified = site.verify(signer.check)

        assert (verified.faults, verified.chain.signed) == ((), 2)

    def test_by_another_key_is_wrong(self, site: Site) -> None:
        first, second, none = site.verify(Sealer(b"forged: ").check).faults

        assert "The signature of report 1 is wrong" in first
        assert "The signature of report 2 is wrong" in second
        assert none == "No report has a right signature."

    def test_that_is_missing(self, site: Site, signer: Sealer) -> None:
        del site.store.objects[REPORT.format(2).replace(".json", ".sig")]

        assert site.verify(signer.check).faults == ("Report 2 has no signature.",)

    def test_cannot_be_removed_from_all_unnoticed(self, signer: Sealer) -> None:
        assert Site().verify(signer.check).faults == ("No report has a right signature.",)

    def test_is_missing_before_there_was_a_key(self, signer: Sealer) -> None:
        site = Site()
        site.signer = signer
        site.run(f"{NOW - 1800:08x}-00000003", [event(7)])

        verified = site.verify(signer.check)

        assert (verified.faults, verified.chain.signed) == ((), 1)

    def test_is_made_up_for_by_the_next_run_if_a_run_died_before_it(self, site: Site, signer: Sealer) -> None:
        # Given a run that died after its report, before signature and checkpoint
        ledger, name = site.ledger, REPORT.format(3)
        before = ledger.load_checkpoint()
        ledger.add_report(RunReport(TRAIL, delivered=1), before)
        del site.store.objects[name.replace(".json", ".sig")]

        ledger.save_checkpoint(ledger.add_report(RunReport(TRAIL, delivered=2), before))

        verified = site.verify(signer.check)
        assert (verified.faults, verified.chain.signed) == ((), 4)


def test_an_inspection_of_a_window_reads_its_hours_only() -> None:
    s3 = MemoryS3()
    log = open_log(s3)
    archive = Archive(log, "kong", "requests", RUN_IDS[0])
    hours = {NOW - 7200: 1, NOW - 3600: 2, NOW: 3}
    for at, count in hours.items():
        archive.deliver([event(100 * count + number, request_timestamp=at + number) for number in range(count)])
    archive.deliver([event(999, request_timestamp=None)])
    log.close()
    taken: list[int | None] = []

    inspection = ArchiveInspector(s3, "kong", "requests", now=lambda: NOW).inspect(
        {}, window=Window(NOW - 3600 + 1, NOW + 1), take=lambda entry, seconds: taken.append(seconds)
    )

    # Whole parts: it is for who takes the entries to leave out those that are beside the window.
    assert sorted(taken, key=str) == [NOW - 3600, NOW - 3599, NOW, NOW + 1, NOW + 2, None]
    assert [part.entries for part in inspection.contents] == [1, 2, 3]
    assert (inspection.parts, inspection.entries, inspection.doubled) == (3, 6, 0)
    assert s3.calls["read"] == 3


def test_doubled_entries_are_counted() -> None:
    site = Site()
    copy = site.content(PARTS[0])
    site.s3.create(PREFIX + f"{HOUR}-000002.json.gz", gzip.compress(copy))

    inspection = site.verify().inspection

    assert inspection is not None
    assert (inspection.entries, inspection.doubled) == (5, 2)
