"""Whole runs into the archive, without a cache: each entry exactly once, wherever a run dies."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from kong_cloudtrail.destinations.archive.destination import Archive
from kong_cloudtrail.destinations.archive.held import HeldEntries
from kong_cloudtrail.destinations.archive.part_log import Listed
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.errors import DestinationUnavailable, RunFailed
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.fakes import Death, Kong, Life, World
from tests.helpers import entry
from tests.unit.test_part_log import PREFIX, InOrder, MemoryS3, open_log

ENTRIES = [
    *(entry(number, request_timestamp=1_717_243_200 - number * 1200) for number in range(1, 8)),
    entry(8, method=None, path=None),  # no event
    entry(9, request_timestamp=None),
]


RUN_NUMBERS = count(1)


class MortalS3(MemoryS3):
    """A bucket before and after each of whose calls a run may die."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life()
        self.silent_on: str | None = None
        self.stores_when_silent = True
        self.late: list[tuple[str, bytes]] = []

    def listed(self, prefix: str) -> list[Listed]:
        self.life.step()
        return super().listed(prefix)

    def read(self, name: str, version: str | None = None) -> Iterator[bytes]:
        self.life.step()
        return super().read(name, version)

    def create(self, name: str, body: bytes) -> bool:
        self.life.step()
        is_silent = name.removeprefix(PREFIX) == self.silent_on
        if is_silent and not self.stores_when_silent:
            self.late.append((name, body))
        created = not (is_silent and not self.stores_when_silent) and super().create(name, body)
        self.life.step()
        if is_silent:
            raise DestinationUnavailable("Silent", "no answer")
        return created

    def end_silence(self) -> None:
        """Answer again, and let the writes arrive that had not."""
        self.silent_on, late, self.late = None, self.late, []
        for name, body in late:
            super().create(name, body)


class Site:
    """A gateway and a bucket, which outlive runs."""

    def __init__(self, *, filters: bool) -> None:
        self.s3 = MortalS3()
        self.world = World(kong=Kong(ENTRIES, filters=filters))

    def run(self, dies_at: int | None = None) -> RunReport:
        log = open_log(self.s3)
        run_id = f"{next(RUN_NUMBERS):08x}-{0:08x}"
        log._readers = InOrder()
        self.world.seen = HeldEntries(log)  # type: ignore[assignment]
        self.world.cloudtrail = Archive(log, "kong", "requests", run_id)  # type: ignore[assignment]
        self.s3.life = self.world.live(dies_at)
        return self.world.run(run_id=run_id, may_overlap=True)

    def reported_parts(self) -> set[str]:
        """Return the names of the parts that run reports name."""
        reports = self.world.store.documents("runs/")
        return {part["name"] for report in reports for part in report["parts"]}


@pytest.mark.parametrize("filters", [True, False])
def test_run_archives_everything_and_the_next_one_nothing(filters: bool) -> None:
    site = Site(filters=filters)

    first, second = site.run(), site.run()

    assert (first.delivered, first.quarantined, second.delivered) == (len(ENTRIES), 0, 0)
    assert sorted(site.s3.keys()) == sorted(read_entry(value).key for value in ENTRIES)


@pytest.mark.parametrize("filters", [True, False])
def test_each_entry_is_archived_exactly_once_wherever_a_run_dies(filters: bool) -> None:
    for dies_at in count(1):
        site = Site(filters=filters)
        try:
            site.run(dies_at)
        except Death:
            site.run()
        else:
            break

        assert sorted(site.s3.keys()) == sorted(read_entry(value).key for value in ENTRIES)
        assert site.reported_parts() == set(site.s3.names), dies_at
        assert site.run().parts == []  # each is reported, and none again
    assert dies_at > 20


def test_lost_checkpoint_makes_nothing_come_twice() -> None:
    site = Site(filters=True)
    site.run()
    site.world.store.objects.clear()

    assert site.run().delivered == 0
    assert len(site.s3.keys()) == len(ENTRIES)


def test_fault_of_s3_is_never_an_entrys() -> None:
    # Given an hour that cannot be written, while all others can
    class Ill(MortalS3):
        def create(self, name: str, body: bytes) -> bool:
            if "/10-" in name:
                raise DestinationUnavailable("InternalError", "S3 is ill.", content_matters=False)
            return super().create(name, body)

    site = Site(filters=True)
    well, site.s3 = site.s3, Ill()

    with pytest.raises(RunFailed, match="S3 is ill"):
        site.run()
    report = site.world.telemetry.published[-1]
    assert report.quarantined == 0
    assert 0 < report.failed < len(ENTRIES)

    # When it is well again, its entries arrive in one part
    well.versions = site.s3.versions
    site.s3 = well
    assert site.run().delivered == report.failed
    assert sorted(site.s3.keys()) == sorted(read_entry(value).key for value in ENTRIES)
    assert len([name for name in site.s3.names if "/10-" in name]) == 1


@pytest.mark.parametrize("stores_when_silent", [True, False], ids=["stored", "stored later"])
def test_part_whose_answer_never_came_is_reported_by_a_later_run(stores_when_silent: bool) -> None:
    site = Site(filters=True)
    site.s3.silent_on = "day=2024-06-01/11-000000.json.gz"
    site.s3.stores_when_silent = stores_when_silent
    with pytest.raises(RunFailed):
        site.run()
    reported = site.reported_parts()
    site.s3.end_silence()

    assert reported == {*site.s3.names} - {"day=2024-06-01/11-000000.json.gz"} != set()
    site.run()
    assert site.reported_parts() == {*site.s3.names}
    assert site.run().parts == []  # each is reported, and none again
    assert sorted(site.s3.keys()) == sorted(read_entry(value).key for value in ENTRIES)
