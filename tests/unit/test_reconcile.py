"""Reconcile: each hole, double and extra entry that somebody plants is found and named, and nothing else is."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from kong_cloudtrail.destinations.archive.destination import Archive
from kong_cloudtrail.destinations.archive.held import HeldEntries
from kong_cloudtrail.destinations.archive.inspection import ArchiveInspector
from kong_cloudtrail.destinations.archive.inventory import ArchiveInventory
from kong_cloudtrail.destinations.archive.line import LineMapper
from kong_cloudtrail.domain.audit_event import uid_of
from kong_cloudtrail.domain.backfill import Range, SliceProgress
from kong_cloudtrail.domain.entry import Entry
from kong_cloudtrail.domain.exclusion import Exclusion
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.domain.ocsf import OcsfMapper
from kong_cloudtrail.domain.tally import identity_of
from kong_cloudtrail.errors import (
    DestinationMisconfigured,
    RequestInvalid,
    SourceUnavailable,
    StateError,
    TimeBudgetReached,
)
from kong_cloudtrail.operations import reconcile as module
from kong_cloudtrail.operations.verify import verify
from kong_cloudtrail.ports import Inventory
from kong_cloudtrail.run.plan import Plan
from kong_cloudtrail.sources.kong.entries import read_entry
from kong_cloudtrail.state.ledger import Ledger

from tests.fakes import TRAIL, Kong, World, accept_all, refuse
from tests.helpers import GATEWAY, NOW, REPOSITORY, Budget, entry
from tests.installed import Installed, Parts
from tests.unit.test_part_log import PREFIX, MemoryS3, open_log

ARCHIVE = TRAIL  # the world has one ledger
DAY = 86_400
MIDNIGHT = NOW - NOW % DAY
YESTERDAY = {"after": utc(MIDNIGHT - DAY), "before": utc(MIDNIGHT)}
MAPPER = LineMapper(GATEWAY, "kong", "requests")
_runs = count(1)


@cache
def schema() -> Draft202012Validator:
    document = json.loads((REPOSITORY / "docs" / "schemas" / "reconcile.json").read_text())
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


def spread(number: int, *, every_seconds: int = 1200, **fields: Any) -> dict[str, Any]:
    """Return entries all over yesterday, 72 of them, and those of today and the day before."""
    return entry(number, **{"request_timestamp": NOW - number * every_seconds, **fields})


ENTRIES = [spread(number) for number in range(1, 200)]
OF_YESTERDAY = [row for row in ENTRIES if MIDNIGHT - DAY <= row["request_timestamp"] < MIDNIGHT]


@dataclass
class ArchiveParts(Parts):
    """The parts of a trail into an archive."""

    s3: MemoryS3 | None = None
    exclusion: Exclusion = field(default_factory=Exclusion)

    @property
    def plan(self) -> Plan:
        run_id = f"{NOW:08x}-{next(_runs):08x}"
        return replace(super().plan, trail=self.trail, run_id=run_id, may_overlap=True, exclusion=self.exclusion)

    @property
    def inventory(self) -> Inventory:
        assert self.s3 is not None
        return ArchiveInventory(self.s3, "kong", "requests")


class Site:
    """A gateway and its archive, after a run that has delivered everything."""

    def __init__(
        self,
        rows: Iterable[object] = ENTRIES,
        *,
        line_format: str = "json",
        page_size: int = 50,
        exclusion: Exclusion | None = None,
    ) -> None:
        self.exclusion = exclusion or Exclusion()
        self.s3 = MemoryS3()
        self.world = World(kong=Kong(rows, page_size=page_size))
        self.line_format = line_format
        self.run()

    def open(self) -> None:
        """Let the world have an archive, read anew."""
        log = open_log(self.s3)
        self.world.seen = HeldEntries(log)  # type: ignore[assignment]
        self.world.cloudtrail = Archive(  # type: ignore[assignment]
            log, "kong", "requests", f"{NOW:08x}-{next(_runs):08x}", line_format=self.line_format
        )

    def run(self) -> None:
        self.open()
        log_run_id = self.world.cloudtrail._run_id  # type: ignore[attr-defined]
        self.world.run(run_id=log_run_id, may_overlap=True, trail=ARCHIVE, exclusion=self.exclusion)

    @property
    def parts(self) -> ArchiveParts:
        return ArchiveParts(self.world, ARCHIVE, s3=self.s3, exclusion=self.exclusion)

    def ask(self, **fields: object) -> dict[str, Any]:
        """Reconcile, and return what was found for the trail."""
        self.open()
        installed = Installed(self.world, trails=[self.parts])
        document = json.loads(json.dumps(installed.ask("reconcile", **(YESTERDAY | fields))))
        schema().validate(document)
        [trail] = document["trails"]
        result: dict[str, Any] = trail
        return result

    # -- what somebody does behind its back

    def change(self, part: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
        """Change the lines of a part, and leave no trace."""
        lines = gzip.decompress(b"".join(self.s3.read(PREFIX + part))).splitlines()
        self.s3.destroy(part)
        self.s3.create(PREFIX + part, gzip.compress(b"".join(line + b"\n" for line in change(lines))))

    def take_out(self, row: dict[str, Any]) -> None:
        key = read_entry(row).key
        self.change(self.part_of(row), lambda lines: [line for line in lines if key.encode() not in line])

    def add(self, row: dict[str, Any]) -> None:
        """Add a line to the archive, in a further part."""
        hour = self.part_of(row, of_the_hour=True).rpartition("-")[0]
        numbers = [name for name in self.s3.names if name.startswith(hour)]
        mapper = OcsfMapper(GATEWAY, "kong", "requests") if self.line_format == "ocsf" else MAPPER
        line = mapper.map(read_entry(row)).data
        self.s3.create(f"{PREFIX}{hour}-{len(numbers):06}.json.gz", gzip.compress(f"{line}\n".encode()))

    def part_of(self, row: dict[str, Any], *, of_the_hour: bool = False) -> str:
        stamp = row["request_timestamp"]
        if of_the_hour:
            return f"day={utc(stamp)[:10]}/{utc(stamp)[11:13]}-000000.json.gz"
        key = read_entry(row).key.encode()
        [name] = [each for each in self.s3.names if key in gzip.decompress(b"".join(self.s3.read(PREFIX + each)))]
        return name


def counts(trail: dict[str, Any]) -> dict[str, int]:
    """Return what is not as it should be."""
    names = ("missing", "doubled", "extra", "quarantined", "discarded", "excluded", "unreadable")
    return {name: trail[name] for name in names if trail[name]}


class TestWhole:
    def test_archive_is_complete(self) -> None:
        trail = Site().ask()

        assert (trail["complete"], trail["finished"], trail["shown"], counts(trail)) == (True, True, 72, {})
        assert (trail["after"], trail["before"], trail["covered_until"]) == (
            YESTERDAY["after"],
            YESTERDAY["before"],
            YESTERDAY["before"],
        )
        assert trail["basis"] == "parts"

    def test_of_nothing_is_complete(self) -> None:
        site = Site([spread(number) for number in range(1, 5)])
        site.world.kong.entries.append(spread(1, request_timestamp=MIDNIGHT - 5 * DAY))

        assert (site.ask()["shown"], site.ask()["complete"]) == (0, True)

    def test_ocsf_lines_are_read_like_the_others(self) -> None:
        site = Site(line_format="ocsf")
        site.take_out(OF_YESTERDAY[7])

        odd = site.ask(after=utc(MIDNIGHT - DAY + 77), before=utc(MIDNIGHT - 1277))

        assert counts(odd) == {"missing": 1}

    def test_metrics_say_so(self) -> None:
        site = Site()
        site.ask()

        assert site.world.telemetry.counted == [
            (ARCHIVE, {"EntriesMissing": 0, "EntriesDoubled": 0, "EntriesExtra": 0, "ReconciliationsFinished": 1})
        ]

    def test_asks_the_source_for_little(self) -> None:
        site = Site()
        site.world.kong.windows.clear()

        site.ask()

        assert len(site.world.kong.windows) <= 3


class TestPlanted:
    def test_holes(self) -> None:
        site = Site()
        holes = OF_YESTERDAY[3], OF_YESTERDAY[40], OF_YESTERDAY[71]
        for row in holes:
            site.take_out(row)

        trail = site.ask()

        assert (trail["complete"], counts(trail)) == (False, {"missing": 3})
        assert sorted(trail["missing_entries"], key=lambda each: str(each["id"])) == [
            {"id": row["request_id"], "request_time": utc(row["request_timestamp"])} for row in holes
        ]
        assert site.world.telemetry.counted[0][1]["EntriesMissing"] == 3
        assert ("ENTRIES_MISSING", "3 entries") in [(code, text[:9]) for code, text in site.world.telemetry.told]

    def test_a_whole_part(self) -> None:
        site = Site()
        part = site.part_of(OF_YESTERDAY[10])
        site.s3.destroy(part)

        assert counts(site.ask()) == {"missing": 3}

    def test_a_part_that_is_hidden_is_still_there(self) -> None:
        site = Site()
        site.s3.hide(site.part_of(OF_YESTERDAY[10]))

        assert counts(site.ask()) == {}

    def test_doubles_in_a_part_and_across_parts(self) -> None:
        site = Site()
        site.add(OF_YESTERDAY[5])
        site.add(OF_YESTERDAY[5])
        site.change(site.part_of(OF_YESTERDAY[30]), lambda lines: [*lines, lines[0]])

        trail = site.ask()

        assert (trail["complete"], counts(trail)) == (True, {"doubled": 2})
        assert {each["id"]: each["copies"] for each in trail["doubled_entries"]}[read_entry(OF_YESTERDAY[5]).key] == 3

    def test_extra_ones(self) -> None:
        site = Site()
        extra = entry(999, request_timestamp=MIDNIGHT - 5000)
        site.add(extra)

        trail = site.ask()

        assert counts(trail) == {"extra": 1}
        assert trail["extra_entries"] == [{"id": read_entry(extra).key}]

    def test_another_content_of_a_known_id_is_missing_and_extra(self) -> None:
        site = Site()
        index = site.world.kong.entries.index(OF_YESTERDAY[3])
        site.world.kong.entries[index] = OF_YESTERDAY[3] | {"status": 500}

        assert counts(site.ask()) == {"missing": 1, "extra": 1}

    def test_all_of_them_together(self) -> None:
        site = Site()
        site.take_out(OF_YESTERDAY[1])
        site.add(OF_YESTERDAY[5])
        site.add(entry(999, request_timestamp=MIDNIGHT - 5000))

        assert counts(site.ask()) == {"missing": 1, "doubled": 1, "extra": 1}

    def test_more_than_are_named_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_NAMED", 5)
        site = Site()
        for row in OF_YESTERDAY[:20]:
            site.take_out(row)

        trail = site.ask()

        assert (trail["missing"], len(trail["missing_entries"])) == (20, 5)

    def test_a_part_that_cannot_be_read_is_no_hole(self) -> None:
        site = Site()
        part = site.part_of(OF_YESTERDAY[10])
        site.s3.destroy(part)
        site.s3.create(PREFIX + part, b"not gzip")

        with pytest.raises(DestinationMisconfigured, match="was altered"):
            site.ask()


class TestEdges:
    SECONDS = (MIDNIGHT - DAY - 1, MIDNIGHT - DAY, MIDNIGHT - DAY, MIDNIGHT - 1, MIDNIGHT - 1, MIDNIGHT, MIDNIGHT)

    @pytest.fixture
    def site(self) -> Site:
        rows = [entry(number, request_timestamp=second) for number, second in enumerate(self.SECONDS)]
        return Site([*rows, entry(99, request_timestamp=NOW - 1)])

    def test_are_half_open(self, site: Site) -> None:
        trail = site.ask()

        assert (trail["shown"], counts(trail)) == (4, {})

    @pytest.mark.parametrize("shift_seconds", [1, 59, 1800, 3599])
    def test_may_lie_within_an_hour(self, site: Site, shift_seconds: int) -> None:
        after, before = MIDNIGHT - DAY - shift_seconds, MIDNIGHT + shift_seconds

        trail = site.ask(after=utc(after), before=utc(before))

        assert (trail["shown"], counts(trail)) == (7, {})

    def test_holes_at_both(self, site: Site) -> None:
        site.take_out(entry(1, request_timestamp=self.SECONDS[1]))
        site.take_out(entry(4, request_timestamp=self.SECONDS[4]))

        assert {each["id"] for each in site.ask()["missing_entries"]} == {f"{1:032d}", f"{4:032d}"}

    def test_holes_just_beyond_are_not_of_the_window(self, site: Site) -> None:
        site.take_out(entry(0, request_timestamp=self.SECONDS[0]))
        site.take_out(entry(5, request_timestamp=self.SECONDS[5]))

        assert counts(site.ask()) == {}

    @pytest.mark.parametrize("width_seconds", [1, 3600, 5000, 40 * DAY])
    def test_slices_of_any_width_find_the_same(self, monkeypatch: pytest.MonkeyPatch, width_seconds: int) -> None:
        monkeypatch.setattr(module, "_FIRST_SLICE_SECONDS", width_seconds)
        site = Site()
        site.take_out(OF_YESTERDAY[20])
        site.add(OF_YESTERDAY[5])

        trail = site.ask(after=utc(MIDNIGHT - DAY + 100))

        assert (trail["shown"], counts(trail)) == (71, {"missing": 1, "doubled": 1})

    def test_entries_without_a_time_are_compared_once(self) -> None:
        # The fake shows them in the second before noon.
        site = Site([*ENTRIES, entry(500, request_timestamp=None), entry(501, request_timestamp="x")])
        site.world.clock.time += 7200
        site.world.kong.now += 7200
        site.run()
        site.world.kong.entries.append(entry(502, request_timestamp=None))

        trail = site.ask(before=utc(NOW))

        assert counts(trail) == {"missing": 1}
        assert trail["missing_entries"] == [{"id": f"{502:032d}", "request_time": None}]


class TestExcluded:
    def test_what_a_rule_leaves_out_is_counted_and_not_missing(self) -> None:
        rows = [row | {"method": "GET"} if number % 4 == 0 else row for number, row in enumerate(ENTRIES)]
        rule = Exclusion.of(methods=["GET"])
        site = Site(rows, exclusion=rule)
        site.take_out(OF_YESTERDAY[2])

        trail = site.ask()

        assert counts(trail) == {"excluded": 18, "missing": 1}
        assert (trail["shown"], trail["complete"]) == (72, False)
        assert site.ask(repair=True)["repair"]["delivered"] == 1
        assert counts(site.ask()) == {"excluded": 18}

    def test_what_was_delivered_before_the_rule_is_held(self) -> None:
        site = Site()
        site.exclusion = Exclusion.of(methods=["POST"])
        site.run()

        assert counts(site.ask()) == {}

    @pytest.mark.parametrize("repair", [False, True])
    def test_other_rules_than_those_of_runs_hide_no_hole(self, repair: bool) -> None:
        site = Site()
        site.take_out(OF_YESTERDAY[2])
        site.exclusion = Exclusion.of(methods=["POST"])

        with pytest.raises(RequestInvalid, match=r"others here \(method:POST\) than in the newest run \(none\)"):
            site.ask(repair=repair)

    def test_without_the_rules_of_runs_nothing_that_they_leave_out_is_delivered(self) -> None:
        site = Site(exclusion=Exclusion.of(methods=["POST"]))
        site.exclusion = Exclusion()

        with pytest.raises(RequestInvalid, match=r"others here \(none\) than in the newest run \(method:POST\)"):
            site.ask(repair=True)


class TestRefused:
    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"before": "now"}, "settled up to 2024-06-01T11:45:00Z"),
            ({"before": utc(NOW + DAY)}, "settled up to 2024-06-01T11:45:00Z"),
            ({"after": utc(NOW), "before": utc(NOW - 1)}, "later than `after`"),
            ({"before": None}, "before: is missing"),
        ],
    )
    def test_what_is_not_settled(self, fields: dict[str, Any], problem: str) -> None:
        with pytest.raises(RequestInvalid, match=problem):
            Site().ask(**fields)

    def test_what_no_run_has_reached_yet(self) -> None:
        site = Site()
        site.world.clock.time += 3 * DAY
        site.world.kong.now += 3 * DAY

        with pytest.raises(RequestInvalid, match="settled up to 2024-06-01T11:45:00Z"):
            site.ask(before=utc(NOW + DAY))

    @pytest.mark.parametrize("clock_off_seconds", [-DAY, DAY])
    def test_a_wrong_clock_here_never_widens_what_counts_as_settled(self, clock_off_seconds: int) -> None:
        site = Site()
        site.world.clock.time += clock_off_seconds

        with pytest.raises(RequestInvalid, match="settled up to"):
            site.ask(before=utc(NOW - 60))

    def test_what_is_no_longer_kept(self) -> None:
        rows = [spread(number, ttl=30 * 3600 - number * 1200) for number in range(1, 90)]
        site = Site(rows)

        with pytest.raises(RequestInvalid, match=r"after: 2024-05-31T07:00:00Z is the earliest .* may have expired"):
            site.ask()
        assert counts(site.ask(after="2024-05-31T07:00:00Z")) == {}

    def test_an_old_date_is_no_proof_that_old_entries_are_kept(self) -> None:
        rows = [spread(number, ttl=30 * 3600 - number * 1200) for number in range(1, 90)]
        site = Site([*rows, entry(500, request_timestamp=1_500_000_000)])

        with pytest.raises(RequestInvalid, match="may have expired"):
            site.ask()

    def test_a_gateway_that_shows_nothing_keeps_two_days_at_least(self) -> None:
        site = Site()
        site.world.kong.entries = []

        with pytest.raises(RequestInvalid, match="after: 2024-05-30T12:00:00Z is the earliest"):
            site.ask(after="2024-05-30T11:59:59Z")
        assert counts(site.ask()) == {"extra": 72}

    def test_what_is_before_the_trail_began(self) -> None:
        with pytest.raises(RequestInvalid, match=r"after: 2024-05-31T23:00:00Z .* the trail begins at 2024-05-31T23"):
            _beginning_at(MIDNIGHT - 3600).ask(before=utc(NOW - 3600))

    def test_a_window_that_is_over_before_the_trail_began(self) -> None:
        with pytest.raises(RequestInvalid, match="after: the trail begins at 2024-06-01T00:00:00Z, and no backfill"):
            _beginning_at(MIDNIGHT).ask()

    def test_gateway_without_filters(self) -> None:
        site = Site()
        site.world.kong.filters = False

        with pytest.raises(RequestInvalid, match="ignores time filters"):
            site.ask()

    def test_before_any_run(self) -> None:
        site = Site()
        site.world.store.objects.clear()

        with pytest.raises(RequestInvalid, match="No run has delivered anything yet"):
            site.ask()

    def test_answers_that_prove_nothing(self) -> None:
        site = Site()
        site.world.kong.proves_nothing = True

        with pytest.raises(SourceUnavailable, match="different releases"):
            site.ask()

    def test_rows_that_cannot_be_shown_are_told(self) -> None:
        site = Site()
        site.world.kong.poison = lambda row: row == OF_YESTERDAY[4]

        trail = site.ask()

        assert (trail["complete"], counts(trail)) == (False, {"extra": 1, "unreadable": 1})


class TestTime:
    def test_what_was_compared_in_time_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_FIRST_SLICE_SECONDS", 7200)
        monkeypatch.setattr(module, "_GREATEST_GROWTH", 1.0)
        site = Site()
        site.take_out(OF_YESTERDAY[-1])
        asked = count()
        site.world.budget = Budget(lambda: 1000.0 if next(asked) < 12 else 0.0)

        first = site.ask()
        site.world.budget = Budget()
        rest = site.ask(after=first["covered_until"])

        assert (first["finished"], first["complete"], first["missing"]) == (False, False, 1)
        assert YESTERDAY["after"] < first["covered_until"] < YESTERDAY["before"]
        assert (rest["complete"], first["shown"] + rest["shown"]) == (True, 72)

    def test_too_little_for_anything(self) -> None:
        site = Site()
        site.world.budget = Budget(lambda: 0.1)

        with pytest.raises(TimeBudgetReached, match="--here"):
            site.ask()


class TestRepair:
    def test_delivers_what_is_missing_and_nothing_else(self) -> None:
        site = Site()
        holes = OF_YESTERDAY[3], OF_YESTERDAY[40]
        for row in holes:
            site.take_out(row)
        before = sorted(site.s3.keys())

        trail = site.ask(repair=True)

        assert trail["repair"] == {"delivered": 2, "quarantined": 0, "failed": 0}
        assert (trail["complete"], trail["missing"]) == (True, 2)
        assert sorted(site.s3.keys()) == sorted([*before, *(read_entry(row).key for row in holes)])
        assert counts(site.ask()) == {}
        assert site.world.telemetry.counted[0][1]["EntriesMissing"] == 0

    def test_its_parts_are_in_a_run_report(self) -> None:
        site = Site()
        site.s3.destroy(site.part_of(OF_YESTERDAY[0]))
        site.ask(repair=True)

        found = verify(site.parts.ledger, ArchiveInspector(site.s3, "kong", "requests", now=lambda: NOW + DAY), None)

        assert [fault for fault in found.faults if "in no run report" in fault] == []
        assert found.reconciliations.count == 1

    def test_of_what_is_whole_does_nothing(self) -> None:
        site = Site()
        before = dict(site.s3.versions)

        assert site.ask(repair=True)["repair"] == {"delivered": 0, "quarantined": 0, "failed": 0}
        assert site.s3.versions == before


class TestByMarks:
    """A destination that cannot be asked: what is marked was confirmed."""

    @pytest.fixture
    def world(self) -> World:
        world = World(kong=Kong(ENTRIES, page_size=50))
        world.run()
        return world

    def ask(self, world: World, **fields: object) -> dict[str, Any]:
        document = json.loads(json.dumps(Installed(world).ask("reconcile", **(YESTERDAY | fields))))
        schema().validate(document)
        [trail] = document["trails"]
        result: dict[str, Any] = trail
        return result

    def test_whole(self, world: World) -> None:
        trail = self.ask(world)

        assert (trail["basis"], trail["complete"], trail["shown"], counts(trail)) == ("marks", True, 72, {})
        assert (trail["doubled"], trail["extra"]) == (None, None)

    def test_what_is_not_marked_is_missing(self, world: World) -> None:
        del world.seen.marks[read_entry(OF_YESTERDAY[3]).key]

        trail = self.ask(world)

        assert [each["id"] for each in trail["missing_entries"]] == [OF_YESTERDAY[3]["request_id"]]

    def test_cannot_repair(self, world: World) -> None:
        with pytest.raises(RequestInvalid, match="not possible by marks"):
            self.ask(world, repair=True)


def _beginning_at(moment: int, *backfilled: tuple[int, int], done: bool = True) -> Site:
    """Return a site whose trail begins at a moment, with slices of backfills."""
    site = Site()
    ledger = site.parts.ledger
    ledger.save_checkpoint(replace(ledger.load_checkpoint(), begins_at=moment))
    for after, before in backfilled:
        ledger.save_slice(Range(MIDNIGHT - 9 * DAY, MIDNIGHT), Range(after, before), SliceProgress(done=done))
    return site


class TestBackfilled:
    """What a backfill has delivered before the trail began is compared like the rest."""

    HALF = MIDNIGHT - DAY // 2

    @pytest.mark.parametrize("begins_at", [MIDNIGHT - 3600, MIDNIGHT, NOW])
    def test_slice_by_slice(self, begins_at: int) -> None:
        site = _beginning_at(begins_at, (self.HALF, MIDNIGHT), (MIDNIGHT - 2 * DAY, self.HALF))
        site.take_out(OF_YESTERDAY[2])

        trail = site.ask()

        assert (trail["shown"], counts(trail)) == (72, {"missing": 1})

    @pytest.mark.parametrize(
        ("slices", "earliest"),
        [
            ([(MIDNIGHT - DAY, HALF - 1), (HALF, MIDNIGHT)], HALF),
            ([(HALF, MIDNIGHT)], HALF),
            ([(MIDNIGHT - DAY + 1, MIDNIGHT)], MIDNIGHT - DAY + 1),
        ],
    )
    def test_holes_between_prove_nothing(self, slices: list[tuple[int, int]], earliest: int) -> None:
        site = _beginning_at(MIDNIGHT, *slices)

        with pytest.raises(RequestInvalid, match=f"after: {utc(earliest)} is the earliest .*`backfill` does"):
            site.ask()
        assert counts(site.ask(after=utc(earliest))) == {}

    def test_what_is_not_done_proves_nothing(self) -> None:
        site = _beginning_at(MIDNIGHT, (MIDNIGHT - DAY, MIDNIGHT), done=False)

        with pytest.raises(RequestInvalid, match="no backfill has delivered"):
            site.ask()

    def test_other_objects_among_them_do_no_harm(self) -> None:
        site = _beginning_at(MIDNIGHT, (MIDNIGHT - DAY, MIDNIGHT))
        for name in ("a-b/c-d.json", "5-4/3-2.json", "notes.txt", "1-2/1-2/3.json"):
            site.world.store.objects[f"backfills/{ARCHIVE}/{name}"] = b"{}"

        assert counts(site.ask()) == {}


class TestSettledOtherwise:
    """Entries that were refused: in the Lake's trail, seen by an inventory that holds what was accepted."""

    @pytest.fixture
    def installed(self) -> Installed:
        world = World(kong=Kong(ENTRIES, page_size=50))
        world.cloudtrail.always = refuse("InvalidData", *(OF_YESTERDAY[index]["request_id"] for index in (3, 30, 60)))
        world.run()
        world.cloudtrail.always = accept_all
        return Installed(world, trails=[AcceptedParts(world)])

    def ask(self, installed: Installed, **fields: object) -> dict[str, Any]:
        [trail] = installed.ask("reconcile", **(YESTERDAY | fields))["trails"]
        result: dict[str, Any] = trail
        return result

    def test_each_is_accounted_for_with_the_reason(self, installed: Installed) -> None:
        listed = installed.ask("quarantine", action="list")["entries"]
        discarded, released = listed[0]["name"], listed[1]["name"]
        installed.ask("quarantine", action="discard", names=[discarded], reason="a load test")
        installed.ask("quarantine", action="replay", names=[released])

        trail = self.ask(installed)

        assert (trail["complete"], counts(trail), trail["released"]) == (True, {"quarantined": 1, "discarded": 1}, 1)
        assert trail["quarantined_entries"] == [{"name": listed[2]["name"], "code": "InvalidData"}]
        assert trail["discarded_entries"] == [{"name": discarded, "code": "InvalidData", "reason": "a load test"}]

    @pytest.mark.parametrize("status", range(500, 508))  # they are compared in the order of their hashes
    def test_of_two_with_the_same_uid_the_refused_one_is_not_missing(self, installed: Installed, status: int) -> None:
        world = installed.trails[0].world
        twin = OF_YESTERDAY[3] | {"status": status}
        world.kong.entries.append(twin)
        held = world.cloudtrail.mapper(GATEWAY).map(read_entry(twin))
        world.cloudtrail.accepted.append(held)
        installed.trails = [AcceptedParts(world, by_uid=True)]

        assert counts(self.ask(installed)) == {"quarantined": 3}

        world.cloudtrail.accepted.remove(held)
        assert counts(self.ask(installed)) == {"quarantined": 3, "missing": 1}

    def test_a_released_one_that_is_not_there_is_missing(self, installed: Installed) -> None:
        installed.ask("quarantine", action="replay")
        installed.trails[0].world.cloudtrail.accepted.pop()

        assert counts(self.ask(installed)) == {"missing": 1}

    def test_repair_waits_for_no_run(self, installed: Installed) -> None:
        installed.trails[0].world.lock.held_by_another = True

        with pytest.raises(StateError, match="at work"):
            self.ask(installed, repair=True)

    @pytest.mark.parametrize(("until", "is_refused"), [(MIDNIGHT - DAY + 1, True), (MIDNIGHT - DAY, False)])
    def test_repair_leaves_the_range_of_a_backfill_alone(
        self, installed: Installed, until: int, is_refused: bool
    ) -> None:
        world = installed.trails[0].world
        world.lock.backfilled = until
        delivered = len(world.cloudtrail.accepted)

        if is_refused:
            with pytest.raises(StateError, match="A backfill of kong"):
                self.ask(installed, repair=True)
            assert len(world.cloudtrail.accepted) == delivered
        else:
            assert self.ask(installed, repair=True)["repair"] is not None
        assert world.lock.released

    def test_repair_delivers_although_it_is_marked(self, installed: Installed) -> None:
        world = installed.trails[0].world
        lost = world.cloudtrail.accepted.pop(-1)
        assert lost.entry.key in world.seen.marks

        trail = self.ask(installed, repair=True)
        wanted = MIDNIGHT - DAY <= (lost.entry.timestamp or 0) < MIDNIGHT

        assert trail["repair"]["delivered"] == int(wanted)
        assert world.lock.released

    def test_what_the_repair_cannot_deliver_goes_to_quarantine(self, installed: Installed) -> None:
        world = installed.trails[0].world
        lost = OF_YESTERDAY[10]
        world.cloudtrail.accepted = [one for one in world.cloudtrail.accepted if one.id != lost["request_id"]]
        world.cloudtrail.always = refuse("InvalidData", lost["request_id"])

        trail = self.ask(installed, repair=True)

        assert trail["repair"] == {"delivered": 0, "quarantined": 1, "failed": 0}
        assert counts(self.ask(installed)) == {"quarantined": 4}


class AcceptedInventory(ArchiveInventory):
    """Holds what the fake CloudTrail has accepted, each copy."""

    def __init__(self, world: World, *, by_uid: bool) -> None:
        super().__init__(MemoryS3(), "kong", "requests")
        self.world = world
        self.by_uid = by_uid

    def identify(self, entry: Entry) -> tuple[bytes, str]:
        name = uid_of(entry) if self.by_uid else entry.key
        return identity_of(name), name

    def held(self, window: Any) -> Any:
        within = [
            each.entry
            for each in self.world.cloudtrail.accepted
            if each.entry.timestamp is not None and window.after <= each.entry.timestamp < window.before
        ]
        yield [self.identify(each)[0] for each in within]


@dataclass
class AcceptedParts(Parts):
    by_uid: bool = False

    @property
    def inventory(self) -> Inventory:
        return AcceptedInventory(self.world, by_uid=self.by_uid)


class TestChain:
    def test_results_are_chained_and_checked(self) -> None:
        site = Site()
        results = [site.ask() for _ in range(3)]

        chain = site.parts.ledger.read_reconciliations()

        assert [each["number"] for each in results] == [1, 2, 3]
        assert (chain.count, chain.faults) == (3, ())

    @pytest.mark.parametrize(
        ("number", "fault"),
        [
            (1, "Reconcile result(s) 1 to 1 are missing."),
            (2, "Reconcile result(s) 2 to 2 are missing."),
            (3, "Reconcile result(s) 3 to 3 are missing at the end."),
        ],
    )
    def test_one_that_is_missing_is_noticed(self, number: int, fault: str) -> None:
        site = Site()
        for _ in range(3):
            site.ask()
        del site.world.store.objects[f"reconciled/{ARCHIVE}/{number:010}.json"]

        inspector = ArchiveInspector(site.s3, "kong", "requests", now=lambda: NOW)
        assert fault in verify(site.parts.ledger, inspector, None).faults

    def test_one_that_is_altered_is_noticed(self) -> None:
        site = Site()
        site.take_out(OF_YESTERDAY[1])
        for _ in range(2):
            site.ask()
        name = f"reconciled/{ARCHIVE}/{1:010}.json"
        body = site.world.store.objects[name]
        site.world.store.objects[name] = body.replace(b'"missing":1', b'"missing":0')

        assert site.parts.ledger.read_reconciliations().faults == (
            "Reconcile result 2 does not continue reconcile result 1: one of the two was altered.",
        )

    def test_those_of_another_trail_prove_nothing(self) -> None:
        site = Site()
        site.ask()
        objects, other = site.world.store.objects, replace(ARCHIVE, source="kong-staging")
        for name in [name for name in objects if name.startswith("reconciled/")]:
            objects[name.replace(str(ARCHIVE), str(other))] = objects[name]
        for name in [name for name in objects if name.startswith("runs/")]:
            objects[name.replace(str(ARCHIVE), str(other))] = objects[name]

        ledger = Ledger(site.world.store, other, site.world.clock)

        assert ledger.read_reconciliations().faults == (
            f"Reconcile result 1 is not of this trail but of {ARCHIVE}: it was put here or altered.",
        )
        assert f"Report 1 is not of this trail but of {ARCHIVE}: it was put here or altered." in tuple(
            ledger.verify_reports()
        )

    def test_one_whose_writer_died_before_it_said_so_stays_in_the_chain(self) -> None:
        site = Site()
        site.ask()
        newest = f"reconciled/{ARCHIVE}/newest"
        remembered = site.world.store.objects[newest]
        site.ask()
        site.world.store.objects[newest] = remembered

        assert site.ask()["number"] == 3
        assert site.parts.ledger.read_reconciliations().faults == ()


def test_thousands_of_ids_with_equal_seconds() -> None:
    rows = [entry(number, request_timestamp=MIDNIGHT - 10 + number % 3) for number in range(2000)]
    site = Site([*rows, entry(10_001, request_timestamp=NOW - 1)], page_size=1000)
    for number in (17, 1711):
        site.take_out(rows[number])

    trail = site.ask()

    assert (trail["shown"], trail["missing"]) == (2000, 2)
    assert {each["id"] for each in trail["missing_entries"]} == {f"{17:032d}", f"{1711:032d}"}
