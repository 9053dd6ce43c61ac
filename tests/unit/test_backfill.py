"""Backfill: a range beside the runs, killed and asked again, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count, pairwise
from typing import Any

import pytest
from kong_cloudtrail.destinations.archive.destination import Archive
from kong_cloudtrail.destinations.archive.held import HeldEntries
from kong_cloudtrail.domain.backfill import MAX_SLICES, Range
from kong_cloudtrail.domain.checkpoint import Checkpoint, OpenGap
from kong_cloudtrail.domain.exclusion import Exclusion
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import (
    CollectorError,
    DestinationMisconfigured,
    DestinationUnavailable,
    RequestInvalid,
    RunFailed,
)
from kong_cloudtrail.operations.verb import answer
from kong_cloudtrail.ports import Page
from kong_cloudtrail.run.guard import FOR_DELIVERING, FOR_READING, RunGuard
from kong_cloudtrail.run.plan import Plan
from kong_cloudtrail.run.slice import SliceRun
from kong_cloudtrail.sources.kong.entries import read_entry
from kong_cloudtrail.state.ledger import Ledger

from tests.fakes import TRAIL, Death, Kong, Lock, World, accept_all, fail_with, refuse
from tests.helpers import NOW, Budget, entry
from tests.unit.test_archive_runs import MortalS3
from tests.unit.test_part_log import InOrder, open_log

HOUR, DAY = 3600, 86_400
AFTER, BEFORE = NOW - 6 * HOUR, NOW - 2 * HOUR
OLD = [entry(number, request_timestamp=AFTER + number * 1500 - 1) for number in range(1, 9)]
OLDER = entry(50, request_timestamp=AFTER - 1)
NEW = [entry(number, request_timestamp=NOW - number) for number in range(101, 104)]
FIELDS = {"after": utc(AFTER), "before": utc(BEFORE)}

RUN_NUMBERS = count(1)


class Parts:
    """The parts of a trail in a world."""

    trail = TRAIL
    inspector = None

    def __init__(
        self,
        world: World,
        *,
        may_overlap: bool = False,
        keep_checkpoint: bool = True,
        exclusion: Exclusion | None = None,
    ) -> None:
        self.world = world
        self.source, self.destination, self.seen = world.kong, world.cloudtrail, world.seen
        self.lock = world.lock
        self.slice_lock: Callable[[Range], Lock] = lambda part: world.lock
        run_id = f"{int(world.clock.now()):08x}-{next(RUN_NUMBERS):08x}"
        self.plan = Plan(
            trail=TRAIL,
            run_id=run_id,
            may_overlap=may_overlap,
            keep_checkpoint=keep_checkpoint,
            overlap_seconds=900,
            sweep_seconds=DAY,
            initial_lookback_seconds=None,
            parallel_deliveries=2,
            exclusion=exclusion or Exclusion(),
        )

    @property
    def ledger(self) -> Ledger:
        return self.world.ledger

    @property
    def reading_guard(self) -> RunGuard:
        return RunGuard(self.world.budget, self.lock, self.world.clock, FOR_READING)

    def slice_run(self, backfill: Range, part: Range, parallel_deliveries: int) -> SliceRun:
        world, lock = self.world, self.slice_lock(part)
        return SliceRun(
            replace(self.plan, parallel_deliveries=parallel_deliveries),
            backfill,
            part,
            source=world.kong,
            seen=world.seen,
            destination=world.cloudtrail,
            ledger=world.ledger,
            lock=lock,
            reading_guard=RunGuard(world.budget, lock, world.clock, FOR_READING),
            delivery_guard=RunGuard(world.budget, lock, world.clock, FOR_DELIVERING),
            telemetry=world.telemetry,
            clock=world.clock,
        )


class Installation:
    def __init__(self, world: World, parts: Parts) -> None:
        self.clock, self.telemetry, self.budget = world.clock, world.telemetry, world.budget
        self.trails = self.stored_trails = [parts]
        self.is_signed = None
        self.run = None


class Site:
    """A gateway whose trail began late, so that runs never read what is older."""

    def __init__(self, rows: Iterable[object] = (*OLD, OLDER, *NEW), *, filters: bool = True) -> None:
        self.world = World(kong=Kong(rows, filters=filters))
        self.options: dict[str, Any] = {}

    def begin(self) -> None:
        """Let the first run deliver what is new."""
        self.world.run(initial_lookback_seconds=HOUR)

    def ask(self, **fields: object) -> dict[str, Any]:
        parts = Parts(self.world, **self.options)
        return answer("backfill", FIELDS | fields, Installation(self.world, parts))

    def ask_trail(self, **fields: object) -> dict[str, Any]:
        [trail] = self.ask(**fields)["trails"]
        return dict(trail)

    def delivered(self) -> Counter[str]:
        return Counter(self.world.cloudtrail.accepted_ids)

    def reports(self) -> list[dict[str, Any]]:
        return self.world.store.documents("runs/")


def ids(rows: Iterable[object]) -> Counter[str]:
    return Counter(read_entry(row).id for row in rows)


@pytest.fixture
def site() -> Site:
    site = Site()
    site.begin()
    return site


class TestSlices:
    @pytest.mark.parametrize("seconds", [1, HOUR, HOUR + 1, 5 * HOUR + 7, 30 * DAY, 400 * DAY])
    @pytest.mark.parametrize("after", [NOW - NOW % HOUR, NOW - NOW % HOUR + 59])
    def test_cover_the_range_and_meet_at_full_hours(self, after: int, seconds: int) -> None:
        slices = Range(after, after + seconds).slices()

        assert (slices[0].after, slices[-1].before) == (after, after + seconds)
        assert all(one.before == other.after and one.before % HOUR == 0 for one, other in pairwise(slices))
        assert all(one.after < one.before for one in slices)
        assert len(slices) <= MAX_SLICES

    def test_are_hours_if_the_range_is_short(self) -> None:
        assert len(Range(NOW, NOW + 90 * HOUR).slices()) in (90, 91)


class TestDelivery:
    def test_of_the_range_and_nothing_else(self, site: Site) -> None:
        assert site.delivered() == ids(NEW)

        document = site.ask()

        assert site.delivered() == ids([*NEW, *OLD])
        [trail] = document["trails"]
        assert document["finished"]
        assert (trail["slices"], trail["slices_done"], trail["delivered"]) == (4, 4, len(OLD))
        assert all(site.world.is_marked(row) for row in OLD)
        assert not site.world.is_marked(OLDER)

    @pytest.mark.parametrize("at_once", [1, 2, 8])
    def test_of_several_slices_at_once(self, site: Site, at_once: int) -> None:
        site.ask(at_once=at_once)

        assert site.delivered() == ids([*NEW, *OLD])

    def test_asked_twice_delivers_nothing_twice(self, site: Site) -> None:
        site.ask()
        asked = len(site.world.kong.windows)

        again = site.ask_trail()

        assert site.delivered() == ids([*NEW, *OLD])
        assert (again["finished"], again["delivered"], again["call"]["fetched"]) == (True, len(OLD), 0)
        assert len(site.world.kong.windows) == asked  # nor is the gateway asked

    def test_of_another_range_leaves_out_what_is_marked(self, site: Site) -> None:
        site.ask()

        wider = site.ask_trail(after=utc(AFTER - HOUR))

        assert site.delivered() == ids([*NEW, *OLD, OLDER])
        assert wider["call"]["duplicates"] == len(OLD)

    def test_leaves_the_checkpoint_alone(self, site: Site) -> None:
        before = site.world.ledger.load_checkpoint()

        site.ask()

        after = site.world.ledger.load_checkpoint()
        unchanged = {
            "run_number": 0,
            "run_sha256": "",
            "reported": before.reported,
            "version": None,
        }
        assert replace(after, **unchanged) == replace(before, **unchanged)  # type: ignore[arg-type]

    def test_is_reported_in_the_chain(self, site: Site) -> None:
        site.ask()

        report = site.reports()[-1]
        assert report["backfill"] == {"after": AFTER, "before": BEFORE}
        assert report["delivered"] == len(OLD)
        assert list(site.world.ledger.verify_reports()) == []
        assert site.reports()[0]["backfill"] is None

    def test_of_what_cannot_be_delivered_goes_to_quarantine(self, site: Site) -> None:
        bad = read_entry(OLD[2]).id
        site.world.cloudtrail.always = refuse("InvalidData", bad)

        trail = site.ask_trail()

        assert (trail["finished"], trail["quarantined"], trail["delivered"]) == (True, 1, len(OLD) - 1)
        assert all(site.world.is_settled(row) for row in OLD)

    def test_leaves_out_what_a_rule_excludes(self, site: Site) -> None:
        site.world.kong.entries[1] = excluded = OLD[1] | {"method": "GET"}
        site.options = {"exclusion": Exclusion.of(methods=["GET"])}

        trail = site.ask_trail()

        assert (trail["finished"], trail["delivered"], trail["excluded"]) == (True, len(OLD) - 1, 1)
        assert site.delivered() == ids([*NEW, *(row for row in OLD if row["request_id"] != excluded["request_id"])])
        assert site.reports()[-1]["excluded_by_rule"] == {"method:GET": 1}

    def test_counts_each_excluded_entry_once_wherever_it_dies(self) -> None:
        rows = [one | {"method": "GET"} if number % 2 else one for number, one in enumerate(OLD)]
        step = 0
        while True:
            step += 1
            site = Site([*rows, *NEW])
            site.world.kong.page_size = 1
            site.begin()
            site.options = {"exclusion": Exclusion.of(methods=["GET"])}
            life = site.world.live(dies_at=step)
            try:
                site.ask()
            except (Death, CollectorError):
                assert life.is_over
            site.world.live()

            assert site.ask_trail()["excluded"] == 4, f"it died at step {step}"
            if not life.is_over:
                break
        assert step > 20
        assert site.world.telemetry.counted == [(TRAIL, {"EntriesExcluded": 4})]

    def test_counts_excluded_entries_once_when_their_neighbours_are_delivered_later(self) -> None:
        site = Site([*(one | {"method": "GET"} for one in OLD[::2]), *OLD[1::2], *NEW])
        site.begin()
        site.options = {"exclusion": Exclusion.of(methods=["GET"])}
        site.world.cloudtrail.always = refuse("InternalFailure")
        with pytest.raises(RunFailed):
            site.ask()
        site.world.cloudtrail.always = accept_all

        assert site.ask_trail()["excluded"] == 4
        assert sum(counts["EntriesExcluded"] for _, counts in site.world.telemetry.counted) == 4

    def test_of_nothing_but_excluded_entries_is_reported(self, site: Site) -> None:
        site.options = {"exclusion": Exclusion.of(methods=["POST"])}

        site.ask()

        assert site.delivered() == ids(NEW)
        assert site.reports()[-1]["excluded_by_rule"] == {"method:POST": len(OLD)}
        assert site.world.telemetry.counted == [(TRAIL, {"EntriesExcluded": len(OLD)})]

    def test_of_one_slice(self, site: Site) -> None:
        document = site.ask(slice=1)

        [trail] = document["trails"]
        assert (document["finished"], trail["slices"]) == (True, 1)
        assert site.delivered() == ids(
            [*NEW, *(row for row in OLD if AFTER + HOUR <= row["request_timestamp"] < AFTER + 2 * HOUR)]
        )

    def test_plan_names_the_slices_that_are_left(self, site: Site) -> None:
        site.ask(slice=1)
        before = dict(site.world.store.objects)

        document = site.ask(plan=True)

        assert [one["slice"] for one in document["plan"]] == [0, 2, 3]
        assert document["plan"][0] == {
            "stream": "requests",
            "destination": "cloudtrail-lake",
            "slice": 0,
            "after": utc(AFTER),
            "before": utc(AFTER + HOUR),
        }
        assert not document["finished"]
        assert site.world.store.objects == before


class TestUnfinished:
    def test_call_continues_where_the_last_one_ended(self, site: Site) -> None:
        world = site.world
        for call in count(1):
            pages = world.kong.pages_read
            world.budget = Budget(lambda: 100.0 if world.kong.pages_read - pages < 2 else 25.0)  # noqa: B023
            document = site.ask()
            if document["finished"]:
                break
            assert call < 20
        assert call > 1
        assert site.delivered() == ids([*NEW, *OLD])

    def test_slice_continues_within(self) -> None:
        # Given an hour with many pages, and time for some of them
        rows = [entry(number, request_timestamp=AFTER + number) for number in range(1, 101)]
        site = Site([*rows, OLDER, *NEW])
        site.begin()
        world = site.world
        fetched = 0
        for call in count(1):
            pages = world.kong.pages_read
            world.budget = Budget(lambda: 100.0 if world.kong.pages_read - pages < 15 else 25.0)  # noqa: B023
            trail = site.ask_trail()
            fetched += trail["call"]["fetched"]
            if trail["finished"]:
                break
            assert call < 20
        assert call > 2
        assert fetched < 2 * len(rows)
        assert trail["delivered"] == len(rows)
        assert site.delivered() == ids([*NEW, *rows])

    def test_outage_fails_and_the_next_call_continues(self, site: Site) -> None:
        site.world.cloudtrail.always = fail_with(DestinationUnavailable("Down", "CloudTrail is down."))

        with pytest.raises(RunFailed, match="CloudTrail is down"):
            site.ask()
        assert not any(site.world.is_marked(row) for row in OLD)

        site.world.cloudtrail.always = accept_all
        assert site.ask()["finished"]
        assert site.delivered() == ids([*NEW, *OLD])

    def test_misconfiguration_is_told_as_such(self, site: Site) -> None:
        site.world.cloudtrail.always = fail_with(DestinationMisconfigured("No such channel."))

        with pytest.raises(DestinationMisconfigured):
            site.ask()

    def test_kong_down_half_way(self, site: Site) -> None:
        site.world.kong.is_down_from_page = site.world.kong.pages_read + 3

        with pytest.raises(CollectorError, match="Kong is down"):
            site.ask()

        site.world.kong.is_down_from_page = None
        assert site.ask()["finished"]
        assert site.delivered() == ids([*NEW, *OLD])

    def test_row_that_cannot_be_shown_is_tried_again_when_asked_again(self, site: Site) -> None:
        site.world.kong.poison = lambda row: row == OLD[3]

        trail = site.ask_trail()
        assert (trail["finished"], trail["unreadable"], trail["delivered"]) == (True, 1, len(OLD) - 1)

        site.world.kong.poison = lambda row: False
        again = site.ask_trail()
        assert (again["finished"], again["unreadable"], again["delivered"]) == (True, 0, len(OLD))
        assert site.delivered() == ids([*NEW, *OLD])

    def test_node_that_ignores_filters_settles_nothing_and_its_rows_are_not_ours(self, site: Site) -> None:
        kong = site.world.kong
        kong.ignores_filter_at_page = kong.pages_read + 2

        with pytest.raises(RunFailed, match="different releases"):
            site.ask()
        assert set(site.delivered()) <= set(ids([*NEW, *OLD]))

        kong.ignores_filter_at_page = None
        assert site.ask()["finished"]
        assert site.delivered() == ids([*NEW, *OLD])

    def test_ledger_that_cannot_keep_the_progress(self, site: Site) -> None:
        site.world.store.refuses = lambda name: name.startswith("backfills/") and name.endswith(f"{BEFORE}.json")

        with pytest.raises(CollectorError):
            site.ask()

        site.world.store.refuses = lambda name: False
        assert site.ask()["finished"]
        assert site.delivered() == ids([*NEW, *OLD])

    def test_slice_of_another_call_is_left_to_it(self, site: Site) -> None:
        site.world.lock.held_by_another = True

        trail = site.ask_trail()

        assert (trail["finished"], trail["slices_busy"]) == (False, 4)
        assert site.delivered() == ids(NEW)

    def test_progress_that_another_call_has_saved_meanwhile(self, site: Site) -> None:
        # Given another call that works on the same slice of a destination without locks
        world = site.world
        other = Site()
        other.world = world

        class Meddling(Kong):
            def pages(self, window: Window | None, resume: str | None = None) -> Iterator[Page]:
                if self.windows[-1:] != [window]:
                    self.windows.append(window)
                    other.ask(slice=0)
                yield from super().pages(window, resume)

        kong = Meddling(world.kong.entries)
        world.kong = kong

        trail = site.ask_trail(slice=0)

        assert trail["slices_busy"] == 1
        assert site.ask()["finished"]

    def test_waits_for_the_run_that_is_at_work(self, site: Site) -> None:
        class Waiting(Lock):
            def must_wait(self) -> bool:
                return True

        world = site.world
        world.lock = Waiting()
        end = world.clock.now() + 60
        world.budget = Budget(lambda: end - world.clock.now())

        trail = site.ask_trail()

        assert (trail["finished"], trail["waits_for_run"], trail["call"]["fetched"]) == (False, True, 0)


class TestDeath:
    """The process may be killed between any two things that it does; asked again, the backfill makes up for it."""

    def test_of_a_call_into_cloudtrail(self) -> None:
        for dies_at in count(1):
            site = Site()
            site.begin()
            world = site.world
            world.live(dies_at)
            try:
                site.ask()
            except Death:
                in_flight = {one.id for one in world.cloudtrail.accepted if one.entry.key not in world.seen.marks}
            except RunFailed:
                assert world.kong.life.is_over
                in_flight = {one.id for one in world.cloudtrail.accepted if one.entry.key not in world.seen.marks}
            else:
                if not world.kong.life.is_over:
                    break
                in_flight = set()
            world.live()

            assert site.ask()["finished"]

            doubles = {one for one, times in site.delivered().items() if times > 1}
            assert doubles <= in_flight
            assert set(site.delivered()) == set(ids([*NEW, *OLD]))
            assert all(world.is_marked(row) for row in OLD)
            assert list(world.ledger.verify_reports()) == []
        assert dies_at > 40

    @pytest.mark.parametrize("beside_a_run", [False, True])
    def test_of_a_call_into_the_archive(self, beside_a_run: bool) -> None:
        for dies_at in count(1):
            site = ArchiveSite()
            site.run()
            if beside_a_run:
                site.world.kong.entries.append(entry(200, request_timestamp=NOW))
            try:
                site.ask_once(dies_at)
            except Death:
                pass
            except RunFailed:
                assert site.world.kong.life.is_over
            else:
                if not site.world.kong.life.is_over:
                    break
            if beside_a_run:
                site.run()

            assert site.ask_once()["finished"]

            expected = [*NEW, *OLD, *([entry(200, request_timestamp=NOW)] if beside_a_run else [])]
            assert sorted(site.s3.keys()) == sorted(read_entry(row).key for row in expected)
            reported = {part["name"] for report in site.reports() for part in report["parts"]}
            assert reported == set(site.s3.names), dies_at
            assert list(site.world.ledger.verify_reports()) == []
        assert dies_at > 40


class ArchiveSite(Site):
    """The same with an archive."""

    def __init__(self) -> None:
        super().__init__()
        self.s3 = MortalS3()
        self.options = {"may_overlap": True}

    def _open(self, run_id: str, dies_at: int | None) -> None:
        log = open_log(self.s3)
        log._readers = InOrder()
        self.world.seen = HeldEntries(log)  # type: ignore[assignment]
        self.world.cloudtrail = Archive(log, "kong", "requests", run_id)  # type: ignore[assignment]
        self.s3.life = self.world.live(dies_at)

    def run(self) -> None:
        run_id = f"{next(RUN_NUMBERS):08x}-{0:08x}"
        self._open(run_id, None)
        self.world.run(run_id=run_id, may_overlap=True, initial_lookback_seconds=HOUR)

    def ask_once(self, dies_at: int | None = None, **fields: object) -> dict[str, Any]:
        self._open("unknown", dies_at)
        parts = Parts(self.world, **self.options)
        self._open(parts.plan.run_id, dies_at)
        parts.destination, parts.seen = self.world.cloudtrail, self.world.seen
        return answer("backfill", FIELDS | fields, Installation(self.world, parts))


class TestRefusal:
    def refused(self, site: Site, words: str, **fields: object) -> None:
        before = dict(site.world.store.objects)
        with pytest.raises(RequestInvalid, match=words):
            site.ask(**fields)
        assert site.world.store.objects == before
        assert site.delivered() <= ids(NEW)

    def test_of_a_moment_in_the_future(self, site: Site) -> None:
        self.refused(site, "in the future", before=utc(NOW + 60))

    def test_of_what_runs_have_yet_to_read(self, site: Site) -> None:
        until = utc(NEW[0]["request_timestamp"] - 900)
        self.refused(site, f"reads everything from {until} on.*--before {until}", before=utc(NOW - 800))

    def test_before_the_first_run(self) -> None:
        self.refused(Site(), "no checkpoint")

    def test_without_a_ledger(self, site: Site) -> None:
        site.options = {"keep_checkpoint": False}
        self.refused(site, "Set LEDGER")

    def test_of_what_kong_no_longer_has(self) -> None:
        # Given entries that expire five hours after they were recorded
        rows = [row | {"ttl": 5 * HOUR - (NOW - row["request_timestamp"])} for row in [*OLD[3:], *NEW]]
        site = Site(rows)
        site.begin()

        self.refused(site, f"no longer has entries from before {utc(NOW - 5 * HOUR)}.*--after {utc(NOW - 5 * HOUR)}")
        assert site.ask(after=utc(NOW - 5 * HOUR))["finished"]

    def test_of_a_range_that_is_gone_altogether(self) -> None:
        site = Site(NEW)
        site.begin()
        self.refused(site, "no longer has entries")

    def test_not_of_a_gateway_that_is_younger_than_the_range(self) -> None:
        site = Site([*OLD, *NEW])  # the oldest entry is younger than the range, and none has expired
        site.begin()
        assert site.ask()["finished"]

    def test_not_of_what_kong_deletes_while_it_is_under_way(self) -> None:
        rows = [row | {"ttl": 6 * HOUR - (NOW - row["request_timestamp"])} for row in [*OLD, OLDER, *NEW]]
        site = Site(rows)
        site.begin()
        site.ask(slice=0)
        last = OLD[-1]["request_timestamp"]
        site.world.kong.entries[:] = [rows[7] | {"ttl": 6 * HOUR - (NOW + 3 * HOUR - last)}]
        site.world.clock.time = site.world.kong.now = NOW + 3 * HOUR

        trail = site.ask_trail()

        assert trail["finished"]
        assert trail["gone_before"] == utc(NOW - 3 * HOUR)

    def test_of_a_gateway_that_does_not_filter(self) -> None:
        site = Site(filters=False)
        site.begin()
        self.refused(site, "does not filter by time")

    @pytest.mark.parametrize("how", ["noticed by a run", "not noticed yet"])
    def test_of_entries_that_may_have_lost_their_marks(self, site: Site, how: str) -> None:
        site.ask(slice=0)
        site.world.seen.lose_everything()
        if how == "noticed by a run":
            site.world.run()
        delivered = site.delivered()

        with pytest.raises(RequestInvalid, match=r"lost its marks.*--redeliver"):
            site.ask()
        assert site.delivered() == delivered

        assert site.ask(redeliver=True)["finished"]
        assert set(site.delivered()) == set(ids([*NEW, *OLD]))

    def test_of_wrong_fields(self, site: Site) -> None:
        with pytest.raises(RequestInvalid) as caught:
            site.ask(after="never", at_once=9, slice=-1, plan="yes", colour="red")

        problems = str(caught.value)
        for words in ("'never' is not a moment", "at_once: has to be", "slice: has", "plan: has", "no field colour"):
            assert words in problems

    def test_of_a_slice_that_there_is_not(self, site: Site) -> None:
        self.refused(site, "has 4 slices", slice=4)


class TestRunBeside:
    def test_leaves_older_entries_to_the_backfill(self, site: Site) -> None:
        world = site.world
        gap = OpenGap(Window(AFTER, AFTER + 10), "undelivered", "not delivered", NOW)
        checkpoint = world.ledger.load_checkpoint()
        world.ledger.save_checkpoint(replace(checkpoint, gaps=(gap,), begins_at=None))
        world.clock.time = world.kong.now = NOW + 2 * DAY  # a sweep is due
        world.kong.entries.append(new := entry(300, request_timestamp=NOW + 2 * DAY - 5))
        asked = len(world.kong.windows)
        world.lock.backfilled = BEFORE

        report = world.run()

        assert report.finished
        assert site.delivered() == ids([*NEW, new])
        assert all(window is not None and window.after >= BEFORE for window in world.kong.windows[asked:])
        # And the next one without a backfill makes up for it
        world.lock.backfilled = None
        world.run()
        assert site.delivered() == ids([*NEW, new, *OLD, OLDER])

    @pytest.mark.parametrize("cause", ["clock set back", "no filters", "no checkpoint"])
    def test_that_cannot_leave_them_is_skipped(self, site: Site, cause: str) -> None:
        world = site.world
        world.ledger.save_checkpoint(replace(world.ledger.load_checkpoint(), begins_at=None))
        if cause == "clock set back":
            world.clock.time = world.kong.now = BEFORE - HOUR
        elif cause == "no filters":
            world.kong.filters = False
        else:
            world.ledger.save_checkpoint(Checkpoint(version=world.ledger.load_checkpoint().version))
        world.lock.backfilled = BEFORE

        report = world.run()

        assert report.skipped
        assert not report.finished
        assert site.delivered() == ids(NEW)
        assert world.telemetry.published[-1].skipped

    def test_drops_what_a_node_shows_that_ignores_filters(self, site: Site) -> None:
        world = site.world
        world.kong.entries[:] = [*OLD, *NEW]
        world.kong.ignores_filter_at_page = world.kong.pages_read + 1
        world.kong.page_size = 20
        world.lock.backfilled = BEFORE

        report = world.run()

        assert not report.finished
        assert site.delivered() == ids(NEW)

    def test_saves_its_checkpoint_although_a_backfill_added_a_report(self, site: Site) -> None:
        # Given a backfill that reports while a run is at work
        world = site.world
        world.kong.entries.append(new := entry(300, request_timestamp=NOW - 1))
        other_world = replace(world, kong=Kong(world.kong.entries), lock=Lock())

        class Reporting(Kong):
            asked = False

            def pages(self, window: Window | None, resume: str | None = None) -> Iterator[Page]:
                if not self.asked:
                    self.asked = True
                    other = Site()
                    other.world = other_world
                    assert other.ask()["finished"]
                yield from super().pages(window, resume)

        world.kong = Reporting(world.kong.entries)

        report = world.run()

        assert report.finished
        assert world.complete_until == NOW - 1
        assert site.delivered() == ids([*NEW, *OLD, new])
        assert [one["backfill"] is not None for one in site.reports()] == [False, True, False]
        assert list(world.ledger.verify_reports()) == []
