"""The part log: every entry in exactly one part, whoever writes, whatever fails, whoever dies."""

from __future__ import annotations

import gzip
import json
import queue
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_cloudtrail.destinations.archive import part_log
from kong_cloudtrail.destinations.archive.destination import Archive
from kong_cloudtrail.destinations.archive.held import HeldEntries
from kong_cloudtrail.destinations.archive.line import LineMapper
from kong_cloudtrail.destinations.archive.packer import IDLE_EVENTS, Packer
from kong_cloudtrail.destinations.archive.part_log import (
    UNDATED_HOUR,
    Listed,
    PartAbsent,
    PartLog,
    PartStore,
    hour_of,
)
from kong_cloudtrail.domain.entry import Entry
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.domain.part import Part
from kong_cloudtrail.domain.workers import Workers
from kong_cloudtrail.errors import DestinationMisconfigured, DestinationUnavailable, SeenSetUnavailable
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.helpers import GATEWAY, NOW, entry

RUN_ID = "665af000-0000000a"
HOUR = "day=2024-06-01/11"
PREFIX = "source=kong/stream=requests/"
MAPPER = LineMapper(GATEWAY, "kong", "requests")


def event(number: int, **fields: Any) -> Event:
    """Return the line of an entry of the hour `HOUR`, unless its time is given."""
    return MAPPER.map(read_entry(entry(number, **{"request_timestamp": NOW - 60, **fields})))


class MemoryS3:
    """A versioned bucket. Conditional writes and delete markers are as S3 documents them."""

    def __init__(self) -> None:
        self.versions: dict[str, list[tuple[str, bytes | None]]] = {}  # oldest first; None is a delete marker
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._count = 0

    def locate(self, name: str) -> str:
        return f"memory://{name}"

    def listed(self, prefix: str) -> list[Listed]:
        with self._lock:
            self.calls["list"] += 1
            return [
                Listed(name, first[0], is_intact=len(versions) == 1)
                for name, versions in sorted(self.versions.items())
                if name.startswith(prefix) and (first := next((v for v in versions if v[1] is not None), None))
            ]

    def read(self, name: str, version: str | None = None) -> Iterator[bytes]:
        with self._lock:
            self.calls["read"] += 1
            body = self._body(name) if version is None else dict(self.versions.get(name, [])).get(version)
        if body is None:
            raise PartAbsent
        for begin in range(0, len(body), 100):
            yield body[begin : begin + 100]

    def create(self, name: str, body: bytes) -> bool:
        with self._lock:
            self.calls["create"] += 1
            if self._body(name) is not None:
                return False
            self._put(name, body)
            return True

    # -- behind the log's back

    def overwrite(self, name: str, body: bytes) -> None:
        self._put(PREFIX + name, body)

    def hide(self, name: str) -> None:
        self._put(PREFIX + name, None)

    def destroy(self, name: str) -> None:
        del self.versions[PREFIX + name]

    @property
    def names(self) -> list[str]:
        return [name.removeprefix(PREFIX) for name in sorted(self.versions) if self._body(name) is not None]

    def lines(self) -> list[dict[str, Any]]:
        """Return what a reader sees."""
        bodies = [self._body(name) for name in sorted(self.versions)]
        return [json.loads(line) for body in bodies if body is not None for line in gzip.decompress(body).splitlines()]

    def keys(self) -> list[str]:
        return [line["key"] for line in self.lines()]

    def _put(self, name: str, body: bytes | None) -> None:
        self._count += 1
        self.versions.setdefault(name, []).append((str(self._count), body))

    def _body(self, name: str) -> bytes | None:
        versions = self.versions.get(name)
        return versions[-1][1] if versions else None


def open_log(store: PartStore, **options: Any) -> PartLog:
    return PartLog(store, "kong", "requests", sleep=lambda seconds: None, **options)


@pytest.fixture
def s3() -> MemoryS3:
    return MemoryS3()


@pytest.fixture
def log(s3: MemoryS3) -> Iterator[PartLog]:
    opened = open_log(s3)
    yield opened
    opened.close()


def append(log: PartLog, *numbers: int) -> Part | None:
    return log.append(HOUR, [event(number) for number in numbers], RUN_ID)


def held(log: PartLog, *numbers: int) -> set[int]:
    keys = {event(number).entry.key: number for number in numbers}
    return {keys[key] for key in log.held([event(number).entry for number in numbers])}


# -- any interleaving of writers, any fault between any two calls


class Dead(BaseException):
    """The writer's process was killed."""


UNAVAILABLE = DestinationUnavailable("500", "S3 failed.")


@dataclass
class Stage:
    """Lets one call of one writer happen at a time, as a script says; keeps writes that arrive late."""

    s3: MemoryS3
    arrivals: queue.Queue[tuple[int, bool]] = field(default_factory=queue.Queue)
    turns: dict[int, queue.Queue[str]] = field(default_factory=dict)
    late: list[Callable[[], object]] = field(default_factory=list)

    def call(self, writer: int, act: Callable[[], Any], *, writes: bool) -> Any:
        self.arrivals.put((writer, True))
        fault = self.turns[writer].get()
        if fault == "dies before":
            raise Dead
        if fault == "fails":
            raise UNAVAILABLE
        if fault == "arrives late" and writes:
            self.late.append(act)
            raise UNAVAILABLE
        result = act()
        if fault == "dies after":
            raise Dead
        if fault == "answer lost":
            raise UNAVAILABLE
        return result

    def play(self, writers: Sequence[Callable[[], None]], script: Iterable[tuple[int, str]]) -> None:
        self.turns.update({number: queue.Queue() for number in range(len(writers))})

        def live(number: int) -> None:
            try:
                writers[number]()
            except Dead:
                pass
            finally:
                self.arrivals.put((number, False))

        with ThreadPoolExecutor(len(writers)) as pool:
            lives = [pool.submit(live, number) for number in range(len(writers))]
            moving = set(range(len(writers)))
            waiting: list[int] = []
            steps = iter(script)
            while moving or waiting:
                while moving:
                    number, wants_turn = self.arrivals.get(timeout=30)
                    moving.remove(number)
                    waiting += [number] if wants_turn else []
                if not waiting:
                    break
                choice, fault = next(steps, (0, "none"))
                if fault == "late one arrives":
                    if self.late:
                        self.late.pop(choice % len(self.late))()
                    continue
                number = sorted(waiting)[choice % len(waiting)]
                waiting.remove(number)
                moving.add(number)
                self.turns[number].put(fault)
        for life in lives:
            life.result()


@dataclass
class StagedS3:
    """The bucket as one writer sees it."""

    stage: Stage
    writer: int

    def locate(self, name: str) -> str:
        return name

    def listed(self, prefix: str) -> list[Listed]:
        return list(self.stage.call(self.writer, lambda: self.stage.s3.listed(prefix), writes=False))

    def read(self, name: str, version: str | None = None) -> Iterator[bytes]:
        yield from self.stage.call(self.writer, lambda: list(self.stage.s3.read(name, version)), writes=False)

    def create(self, name: str, body: bytes) -> bool:
        return bool(self.stage.call(self.writer, lambda: self.stage.s3.create(name, body), writes=True))


class InOrder(Workers):
    """Works in the caller's thread, so that a writer makes one call at a time and a dead one makes none."""

    def __init__(self) -> None:
        super().__init__(0, "")

    def submit(self, work: Callable[[], None]) -> None:
        work()


def writer(store: PartStore, batches: list[list[int]], confirm: Callable[[list[int]], None]) -> Callable[[], None]:
    def write() -> None:
        log = open_log(store)
        log._readers = InOrder()
        try:
            for batch in batches:
                done = False
                while not done:
                    try:
                        append(log, *batch)
                        confirm(batch)
                        done = True
                    except DestinationUnavailable:
                        pass
        finally:
            log.close()

    return write


NUMBERS = range(6)
batches = st.lists(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4), min_size=1, max_size=3)
faults = st.sampled_from(
    ["none"] * 5
    + ["fails", "answer lost", "arrives late", "late one arrives", "late one arrives", "dies before", "dies after"]
)


@settings(max_examples=250, deadline=None)
@given(st.lists(batches, min_size=2, max_size=4), st.lists(st.tuples(st.integers(0, 3), faults), max_size=40))
def test_every_entry_is_in_exactly_one_part_whatever_happens(
    work: list[list[list[int]]], script: list[tuple[int, str]]
) -> None:
    s3 = MemoryS3()
    stage = Stage(s3)

    def confirm(numbers: list[int]) -> None:
        # Said to be delivered: the checkpoint moves past them, and they may never be read again.
        assert {event(number).entry.key for number in numbers} <= set(s3.keys())

    stage.play([writer(StagedS3(stage, number), its, confirm) for number, its in enumerate(work)], script)
    for put in stage.late[::2]:
        put()

    # When the next run reads everything again, and the last write arrives after it
    writer(s3, [list(NUMBERS)], confirm)()
    for put in stage.late:
        put()

    assert sorted(s3.keys()) == sorted(event(number).entry.key for number in NUMBERS)
    assert all(len(versions) == 1 for versions in s3.versions.values())
    assert s3.names == [f"{HOUR}-{number:06}.json.gz" for number in range(len(s3.names))]


class TestPart:
    def test_has_a_line_for_each_entry(self, log: PartLog, s3: MemoryS3) -> None:
        part = append(log, 1, 2)

        assert s3.names == [f"{HOUR}-000000.json.gz"]
        assert [line["entry"]["request_id"] for line in s3.lines()] == [f"{1:032d}", f"{2:032d}"]
        assert part is not None
        assert (part.name, part.entries, part.first, part.last) == (s3.names[0], 2, NOW - 60, NOW - 60)

    def test_same_content_has_the_same_hash(self) -> None:
        parts = [append(open_log(MemoryS3()), 1, 2) for _ in range(2)]

        assert parts[0] == parts[1]

    def test_is_not_written_for_nothing(self, log: PartLog, s3: MemoryS3) -> None:
        append(log, 1, 2)

        assert append(log, 2, 1) is None
        assert len(s3.names) == 1

    def test_holds_an_entry_once_that_was_given_twice(self, log: PartLog, s3: MemoryS3) -> None:
        append(log, 1, 1)

        assert len(s3.keys()) == 1

    def test_whose_answer_was_lost_is_reported_as_written(self, s3: MemoryS3) -> None:
        class Forgetful(MemoryS3):
            def create(self, name: str, body: bytes) -> bool:
                super().create(name, body)
                return super().create(name, body)  # as if the SDK repeated it

        part = append(open_log(Forgetful()), 1)

        assert part is not None
        assert part == append(open_log(s3), 1)

    def test_says_which_run_wrote_it(self, s3: MemoryS3) -> None:
        written = open_log(s3).append(HOUR, [event(1), event(2)], "665af000-0000000b")

        reader = open_log(s3)
        held(reader, 1)

        assert written is not None
        assert reader.known_parts == [replace(written, first=None, last=None)]

    @pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
    def test_without_a_run_in_its_header_is_read_all_the_same(self, s3: MemoryS3, piece_bytes: int) -> None:
        line = f"{event(1).data}\n".encode()
        s3.create(f"{PREFIX}{HOUR}-000000.json.gz", gzip.compress(line))

        reader = open_log(s3)

        assert held(reader, 1) == {1}
        assert [part.run_id for part in reader.known_parts] == [""]

    def test_of_another_run_with_the_same_content_stays_its_own(self, s3: MemoryS3) -> None:
        class Hidden(MemoryS3):
            """Lists nothing, as before another writer was done."""

            def listed(self, prefix: str) -> list[Listed]:
                return []

        s3 = Hidden()
        open_log(s3).append(HOUR, [event(1)], "665af000-0000000b")

        part = open_log(s3).append(HOUR, [event(1)], "665af000-0000000c")

        assert part is not None
        assert part.run_id == "665af000-0000000b"


class TestHeld:
    def test_knows_what_others_wrote(self, log: PartLog, s3: MemoryS3) -> None:
        append(open_log(s3), 1, 2)
        append(open_log(s3), 3)

        assert held(log, 1, 2, 3, 4) == {1, 2, 3}

    def test_reads_an_hour_once_in_a_run(self, log: PartLog, s3: MemoryS3) -> None:
        append(open_log(s3), 1)
        held(log, 1)
        calls = s3.calls.copy()

        held(log, 1, 2)
        append(log, 2)

        assert s3.calls - calls == {"create": 1}

    def test_reads_only_hours_that_are_asked_for(self, log: PartLog, s3: MemoryS3) -> None:
        earlier = [event(number, request_timestamp=NOW - number * 3600) for number in range(1, 100)]
        Archive(log, "kong", "requests", RUN_ID).deliver(earlier)
        reader = open_log(s3)
        calls = s3.calls.copy()

        assert reader.held([earlier[0].entry, earlier[1].entry]) == {earlier[0].entry.key, earlier[1].entry.key}

        assert s3.calls - calls == {"list": 1, "read": 2}

    def test_lists_months_once_a_run_comes_to_a_third_day(self, log: PartLog, s3: MemoryS3) -> None:
        def day(number: int) -> Event:
            return event(number, request_timestamp=NOW - number * 86_400)  # back from the first of June

        for number in range(40):
            log.append(hour_of(day(number).entry), [day(number)], RUN_ID)
        reader = open_log(s3)
        calls = s3.calls.copy()

        for number in range(40):
            assert reader.held([day(number).entry]) == {day(number).entry.key}

        # The first two days, and May and April
        assert s3.calls - calls == {"list": 4, "read": 40}

    def test_finds_what_was_written_to_a_listed_day_since(self, log: PartLog, s3: MemoryS3) -> None:
        earlier = [event(number, request_timestamp=NOW - number * 86_400 - 3600) for number in range(5)]
        held_before = [log.held([one.entry]) for one in earlier]
        other = open_log(s3)
        for one in earlier:
            other.append(hour_of(one.entry), [one], "665af000-0000000b")

        parts = [log.append(hour_of(one.entry), [one], RUN_ID) for one in earlier]

        assert held_before == [set()] * 5
        assert len(s3.versions) == 5
        assert [part and part.run_id for part in parts] == ["665af000-0000000b"] * 5

    def test_two_entries_with_one_id_are_two(self, log: PartLog) -> None:
        one, other = event(1, status=200), event(1, status=500)
        log.append(HOUR, [one], RUN_ID)

        assert log.held([one.entry, other.entry]) == {one.entry.key}

    def test_listing_that_shows_a_part_but_not_the_one_before_it(self, log: PartLog, s3: MemoryS3) -> None:
        append(log, 1)
        append(log, 2)

        class Lagging(StagedS3):
            def listed(self, prefix: str) -> list[Listed]:
                return s3.listed(prefix)[1:]

            def read(self, name: str, version: str | None = None) -> Iterator[bytes]:
                return s3.read(name, version)

        reader = open_log(Lagging(Stage(s3), 0))

        assert held(reader, 1, 2) == {1, 2}
        assert reader.problems == {}

    def test_answers_that_break_off_are_asked_for_again(self, s3: MemoryS3) -> None:
        append(open_log(s3), 1)
        breaks = 2

        class Breaking(MemoryS3):
            def read(self, name: str, version: str | None = None) -> Iterator[bytes]:
                nonlocal breaks
                breaks -= 1
                pieces = list(super().read(name, version))
                yield from pieces[:1] if breaks == 0 else pieces[: len(pieces) if breaks < 0 else 2]
                if breaks > 0:
                    raise UNAVAILABLE

        breaking = Breaking()
        breaking.versions = s3.versions

        assert held(open_log(breaking), 1) == {1}

    def test_outage_is_one_of_the_seen_set(self, s3: MemoryS3) -> None:
        class Down(MemoryS3):
            def listed(self, prefix: str) -> list[Listed]:
                raise UNAVAILABLE

        with pytest.raises(SeenSetUnavailable, match="S3 failed"):
            HeldEntries(open_log(Down())).seen([event(1).entry])

    @pytest.mark.parametrize("what", ["listed", "read"])
    def test_a_store_that_never_answers_is_waited_for_only_until_the_run_has_to_end(
        self, s3: MemoryS3, log: PartLog, what: str
    ) -> None:
        append(log, 1)
        never = threading.Event()
        left_seconds = iter([0.01, 0.01, 0.0])

        def hang(*_: object) -> Any:
            never.wait()

        setattr(s3, what, hang)
        seen = HeldEntries(open_log(s3), lambda: next(left_seconds))
        seen.open()

        with pytest.raises(SeenSetUnavailable, match="still being read when the run had to end"):
            seen.seen([event(1).entry])
        never.set()


class TestUndated:
    @pytest.mark.parametrize(
        "odd",
        [
            entry(1, request_timestamp=None),
            entry(1, request_timestamp="yesterday"),
            entry(1, request_timestamp=12),
            entry(1, request_timestamp=253_402_300_799),
            "text",
            None,
            [1, 2],
        ],
    )
    def test_is_archived_once_whenever_it_is_read(self, s3: MemoryS3, odd: Any) -> None:
        for _ in range(3):
            line = MAPPER.map(read_entry(odd))
            Archive(open_log(s3), "kong", "requests", RUN_ID).deliver([line])

        assert s3.names == [f"{UNDATED_HOUR}-000000.json.gz"]
        assert [line["entry"] for line in s3.lines()] == [odd]

    def test_hours_begin_and_end_on_the_hour(self) -> None:
        def hour(seconds: int | None) -> str:
            return hour_of(Entry({}, "a", "a", seconds, 0))

        assert [hour(NOW - 1), hour(NOW), hour(NOW + 3599), hour(NOW + 3600)] == [
            "day=2024-06-01/11",
            "day=2024-06-01/12",
            "day=2024-06-01/12",
            "day=2024-06-01/13",
        ]
        assert hour(part_log.EARLIEST_SECOND) == UNDATED_HOUR
        assert hour(part_log.LATEST_SECOND) == "day=2099-12-31/23"
        assert hour(part_log.LATEST_SECOND + 1) == hour(part_log.EARLIEST_SECOND - 1) == UNDATED_HOUR


class TestBehindItsBack:
    """Parts that somebody removes or alters."""

    @pytest.fixture
    def names(self, s3: MemoryS3) -> list[str]:
        for number in (1, 2, 3):
            append(open_log(s3), number)
        return s3.names

    @pytest.mark.parametrize("index", [0, 1, 2])
    def test_hidden_part_still_counts_and_may_come_back(
        self, s3: MemoryS3, log: PartLog, names: list[str], index: int
    ) -> None:
        s3.hide(names[index])

        assert held(log, 1, 2, 3, 4) == {1, 2, 3}
        append(log, 1, 2, 3, 4)

        assert s3.names == sorted({*names, f"{HOUR}-000003.json.gz"} - {names[index]})
        assert "is still there" in log.problems[names[index]]
        s3.versions[PREFIX + names[index]].pop()  # somebody removes the delete marker
        assert sorted(s3.keys()) == sorted(event(number).entry.key for number in (1, 2, 3, 4))

    def test_overwritten_part_counts_as_it_was_first(self, s3: MemoryS3, log: PartLog, names: list[str]) -> None:
        s3.overwrite(names[1], gzip.compress(b""))

        assert held(log, 1, 2, 3) == {1, 2, 3}
        assert "overwritten" in log.problems[names[1]]

    @pytest.mark.parametrize("index", [0, 1])
    def test_gap_is_noticed_and_never_filled(self, s3: MemoryS3, log: PartLog, names: list[str], index: int) -> None:
        s3.destroy(names[index])

        assert held(log, 1, 2, 3) == {1, 2, 3} - {index + 1}
        append(log, 1, 2, 3)

        assert names[index] not in s3.names
        assert s3.names[-1] == f"{HOUR}-000003.json.gz"
        assert sorted(s3.keys()) == sorted(event(number).entry.key for number in (1, 2, 3))
        assert "no version of it is left" in log.problems[names[index]]

    def test_last_part_of_which_nothing_is_left_is_written_anew(
        self, s3: MemoryS3, log: PartLog, names: list[str]
    ) -> None:
        s3.destroy(names[2])

        append(log, 1, 2, 3)

        assert sorted(s3.keys()) == sorted(event(number).entry.key for number in (1, 2, 3))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"not gzip",
            gzip.compress(b'{"key":"a"}'),
            gzip.compress(b'{"key":"a"}\n')[:-3],
            gzip.compress(b'{"id":"a"}\n'),
            gzip.compress(b'{"key":"a"}\n') * 2,
        ],
        ids=["empty", "no gzip", "no end of line", "cut off", "no key", "two members"],
    )
    def test_part_that_cannot_be_read_stops_everything(
        self, s3: MemoryS3, log: PartLog, names: list[str], body: bytes
    ) -> None:
        s3.destroy(names[1])
        s3.overwrite(names[1], body)

        with pytest.raises(DestinationMisconfigured, match=rf"memory://{PREFIX}{names[1]}.*altered"):
            append(log, 4)

    def test_removed_between_refusal_and_reading_is_tried_again(self, s3: MemoryS3, log: PartLog) -> None:
        held(log, 1)
        append(open_log(s3), 1)

        class Vanishing(StagedS3):
            def read(self, name: str, version: str | None = None) -> Iterator[bytes]:
                raise PartAbsent

        log._store, kept = Vanishing(Stage(s3), 0), log._store
        log._store.listed, log._store.create = s3.listed, s3.create  # type: ignore[method-assign]
        with pytest.raises(DestinationUnavailable, match="removed meanwhile"):
            append(log, 1, 2)
        log._store = kept

        append(log, 1, 2)
        assert sorted(s3.keys()) == sorted(event(number).entry.key for number in (1, 2))

    def test_planted_part_with_a_huge_number_is_refused(self, s3: MemoryS3, log: PartLog, names: list[str]) -> None:
        s3.overwrite(f"{HOUR}-999999.json.gz", gzip.compress(b""))

        with pytest.raises(DestinationMisconfigured, match="999996 parts before it are missing"):
            held(log, 1)

    def test_other_objects_are_none_of_its_business(self, s3: MemoryS3, log: PartLog) -> None:
        for name in (f"{HOUR}-000007.json.gz.bak", f"{HOUR}-7.json.gz", f"{HOUR}.json", "day=2024-06-01/readme"):
            s3.overwrite(name, b"hello")

        append(log, 1)

        assert f"{HOUR}-000000.json.gz" in s3.names

    def test_is_among_the_findings_of_a_run(self, s3: MemoryS3, log: PartLog, names: list[str]) -> None:
        s3.hide(names[0])
        seen = HeldEntries(log)
        seen.open()

        for _ in range(2):
            seen.seen([event(1).entry])

        [(name, problem)] = Archive(log, "kong", "requests", RUN_ID).findings().problems.items()
        assert name == names[0]
        assert f"memory://{PREFIX}{names[0]}" in problem


class TestRuns:
    def test_rely_on_what_is_there_when_they_begin(self, s3: MemoryS3, log: PartLog) -> None:
        seen = HeldEntries(log)
        append(log, 1)
        s3.destroy(s3.names[0])

        seen.open()

        assert seen.seen([event(1).entry]) == set()

    def test_see_what_was_delivered(self, s3: MemoryS3, log: PartLog) -> None:
        archive, seen = Archive(log, "kong", "requests", RUN_ID), HeldEntries(log)
        seen.open()
        lines = [event(1), event(2, request_timestamp=NOW - 7200)]

        answer = archive.deliver(lines)

        assert answer.successful == {line.id for line in lines}
        assert seen.seen([line.entry for line in lines]) == {line.entry.key for line in lines}
        assert [(part.name, part.run_id) for part in answer.parts] == [
            (f"{HOUR}-000000.json.gz", RUN_ID),
            ("day=2024-06-01/10-000000.json.gz", RUN_ID),
        ]
        assert archive.deliver(lines).parts == []

    def test_threads_of_one_process_share_hours(self, s3: MemoryS3, log: PartLog) -> None:
        archive = Archive(log, "kong", "requests", RUN_ID)
        lines = [event(number, request_timestamp=NOW - number % 3 * 3600 - 1) for number in range(300)]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda begin: archive.deliver(lines[begin : begin + 20]), range(0, 290, 10)))

        assert sorted(s3.keys()) == sorted(line.entry.key for line in lines)


class TestMemory:
    def test_does_not_grow_with_the_archive(self) -> None:
        # Given 100 hours of 500 entries, and room for 2,000
        s3 = MemoryS3()
        lines = [
            [event(500 * hour + n, request_timestamp=NOW - hour * 3600 - 1) for n in range(500)] for hour in range(100)
        ]
        log = open_log(s3, max_remembered_entries=2000)
        for of_hour in lines:
            log.append(hour_of(of_hour[0].entry), of_hour, RUN_ID)

        for of_hour in lines:
            assert len(log.held([line.entry for line in of_hour])) == 500

            assert sum(len(hour.digests) for hour in log._hours.values()) <= 2500

    def test_of_a_remembered_entry_is_about_a_hundred_bytes(self) -> None:
        # 400,000 of these, the most that are kept, take 48 MB at most.
        s3 = MemoryS3()
        of_hour = [
            Event(read, f'{{"key":"{read.key}"}}')
            for read in (Entry({}, f"{n:032}", f"{n:032}:0123456789abcdef", NOW - 60, 0) for n in range(50_000))
        ]
        open_log(s3).append(HOUR, of_hour, RUN_ID)
        log = open_log(s3)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()

        log.held([of_hour[0].entry])
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert after - before < 120 * len(of_hour)
        assert peak - before < 120 * len(of_hour) + 8 * 2**20

    def test_of_reading_long_lines_is_bounded(self) -> None:
        s3 = MemoryS3()
        long = event(1, payload="x" * 20_000_000)
        open_log(s3).append(HOUR, [long, event(2)], RUN_ID)
        log = open_log(s3)
        tracemalloc.start()

        assert len(log.held([long.entry, event(2).entry])) == 2
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak < 4 * 2**20


class TestPacker:
    def test_closes_an_hour_that_gets_nothing_more(self) -> None:
        # Given entries in order, three hours of more than are waited for
        packer, closed = Packer(), []
        for number in range(3 * (IDLE_EVENTS + 1)):
            hour = number // (IDLE_EVENTS + 1)
            if (batch := packer.add(event(number, request_timestamp=NOW - 3600 * hour))) is not None:
                closed.append(batch)

        # Then each hour is one batch, and the first two are written while the third is read
        assert [len(batch.events) for batch in closed] == [IDLE_EVENTS + 1] * 2
        last = packer.flush()
        assert last is not None
        assert len(last.events) == IDLE_EVENTS + 1
        assert packer.flush() is None

    def test_keeps_hours_open_that_come_in_turn(self) -> None:
        packer = Packer()

        closed = [packer.add(event(number, request_timestamp=NOW - number % 48 * 3600)) for number in range(5000)]

        assert closed == [None] * 5000
