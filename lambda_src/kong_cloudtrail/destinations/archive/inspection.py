"""Whether an archive holds exactly what the run reports name: each part whole, none missing or extra, no key twice."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from ...domain.report_chain import ReportedPart
from ...domain.window import Window
from ...ports import InspectedPart, Inspection, TakeEntry
from .part_log import (
    DIGEST_BYTES,
    UNDATED_HOUR,
    Listed,
    NotAPart,
    PartAbsent,
    PartContent,
    PartStore,
    find_key,
    part_number,
    prefix_of,
    read_content,
)
from .stored import read_line

LONGEST_RUN_SECONDS = 1200
"""Longer than any run of the function. Only younger parts may be in no report."""

_BUCKETS = 128
_BUCKET_MEMORY_BYTES = 128 * 1024
"""Digests of a bucket that are kept in memory; more go to a temporary file. 10 000 000 entries take 240 MB of disk."""

_RECORD_BYTES = DIGEST_BYTES + 4


class ArchiveInspector:
    """Reads every part of a stream, several at once, and compares it with what the run reports say.

    Parameters
    ----------
    store
        Where the parts are.
    source, stream
        The names of the trail.
    workers
        Parts to read at the same time.
    now
        Returns the time, Unix seconds.
    """

    def __init__(
        self, store: PartStore, source: str, stream: str, *, workers: int = 8, now: Callable[[], float] = time.time
    ) -> None:
        self._now = now
        self._store = store
        self._prefix = prefix_of(source, stream)
        self._workers = workers

    def inspect(
        self,
        reported: Mapping[str, ReportedPart],
        progress: Callable[[int, int], None] = lambda done, total: None,
        *,
        window: Window | None = None,
        take: TakeEntry | None = None,
    ) -> Inspection:
        """Inspect the archive, in bounded memory.

        Parameters
        ----------
        reported
            The parts that the run reports name, by name.
        progress
            Called with the number of parts that are done, and of all parts.
        window
            Only the parts of hours that are at least in part within this window, and that of entries without a usable
            time. ``None``: all parts.
        take
            Gets each entry of these parts, in no particular order, one at a time.

        Raises
        ------
        DestinationUnavailable, DestinationMisconfigured
            If the archive cannot be read.
        """
        faults: list[str] = []
        parts: dict[str, Listed] = {}
        for listed in self._store.listed(self._prefix):
            name = listed.name.removeprefix(self._prefix)
            if part_number(name) is None:
                faults.append(f"{self._store.locate(listed.name)} is not a part of the archive.")
            elif is_part_of(name, window):
                parts[name] = listed
        reported = {name: part for name, part in reported.items() if is_part_of(name, window)}
        faults += self._missing(reported, parts)
        names = sorted(parts)
        entries = unreported = 0
        contents: list[InspectedPart] = []
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self._workers, "verify"))
            keys = stack.enter_context(_Keys())
            read = self._reader(take)
            for index, content in enumerate(self._read_in_order(pool, [parts[name] for name in names], read)):
                name = names[index]
                faults += self._compare(name, parts[name], content, reported.get(name))
                if content is not None:
                    entries += content.lines
                    unreported += name not in reported and self._may_be_at_work(content.run_id)
                    keys.add(index, content)
                    if window is not None:
                        contents.append(InspectedPart(name, content.sha256, content.lines))
                progress(index + 1, len(names))
            doubles = keys.count_doubles()
            faults += self._doubled(doubles, [parts[name] for name in names])
        return Inspection(
            place=self._store.locate(self._prefix),
            parts=len(names),
            entries=entries,
            doubled=sum(double.keys for double in doubles.values()),
            unreported=unreported,
            found_by_later_runs=sum(not part.written_by_that_run for part in reported.values()),
            faults=tuple(faults),
            contents=tuple(contents),
        )

    def _missing(self, reported: Mapping[str, ReportedPart], parts: Mapping[str, Listed]) -> Iterator[str]:
        for name, part in sorted(reported.items()):
            if name not in parts:
                yield (
                    f"The part {self._locate(name)} is missing: report {part.report} says that it holds {part.entries} "
                    "entries."
                )
        numbers: dict[str, set[int]] = {}
        for name in {*parts, *reported}:
            hour, number = part_number(name) or ("", 0)
            numbers.setdefault(hour, set()).add(number)
        for hour, known in sorted(numbers.items()):
            for first, last in _gaps(known):
                yield (
                    f"The parts {first:06} to {last:06} of {self._locate(hour)} are missing, but later ones are there. "
                    "No report names them."
                )

    def _compare(
        self, name: str, listed: Listed, content: PartContent | None, reported: ReportedPart | None
    ) -> Iterator[str]:
        place = self._locate(name)
        if not listed.is_intact:
            yield (
                f"The part {place} was removed or overwritten. Its first version is still there: restore it by "
                "deleting the later versions and delete markers."
            )
        if reported is None and not (content is not None and self._may_be_at_work(content.run_id)):
            yield (
                f"The part {place} is in no run report: no run wrote it, or its run died and no later one has found it."
            )
        if content is None:
            yield f"The part {place} is damaged: it cannot be read."
        elif reported is not None and content.sha256 != reported.sha256:
            yield (
                f"The part {place} was altered: its content is not the one that report {reported.report} names. It has "
                f"{content.lines} entries, and the report says {reported.entries}."
            )

    def _doubled(self, doubles: Mapping[tuple[int, int], _Doubles], parts: Sequence[Listed]) -> Iterator[str]:
        """Return one sentence for each two parts that have keys in common: a whole copied part is one fault."""
        for (first, second), found in sorted(doubles.items()):
            count, key = found.keys, self._key(parts[second], found.example)
            where = self._store.locate(parts[first].name)
            both = (
                f"twice in {where}"
                if first == second
                else f"in {where} and in {self._store.locate(parts[second].name)}"
            )
            yield f"The key {key} is {both}." + (f" So are {count - 1} other keys." if count > 1 else "")

    def _key(self, part: Listed, digest: bytes) -> str:
        """Return a key by its digest, which is all that is kept of it while parts are compared."""
        try:
            return find_key(self._store.read(part.name, part.version), digest) or digest.hex()
        except (NotAPart, PartAbsent):  # it was changed meanwhile
            return digest.hex()

    def _read_in_order(
        self, pool: ThreadPoolExecutor, parts: Sequence[Listed], read: Callable[[Listed], PartContent | None]
    ) -> Iterator[PartContent | None]:
        """Read parts, several at once, and only a few ahead of one that takes long: each has its keys in memory."""
        reading: deque[Future[PartContent | None]] = deque()
        for part in parts:
            if len(reading) > self._workers:
                yield reading.popleft().result()
            reading.append(pool.submit(read, part))
        while reading:
            yield reading.popleft().result()

    def _may_be_at_work(self, run_id: str) -> bool:
        """Return whether a run may still be about to report its parts. Its id begins with the time when it began."""
        try:
            began = int(run_id.partition("-")[0], 16)
        except ValueError:
            return False
        return abs(self._now() - began) < LONGEST_RUN_SECONDS

    def _reader(self, take: TakeEntry | None) -> Callable[[Listed], PartContent | None]:
        """Return what reads a part; its result is ``None`` if the part is damaged."""
        lock = threading.Lock()

        def take_line(line: bytes) -> None:
            entry, seconds = read_line(line)
            with lock:
                take(entry, seconds)  # type: ignore[misc]  # is not None where this is used

        def read(listed: Listed) -> PartContent | None:
            try:
                pieces = self._store.read(listed.name, listed.version)
                return read_content(pieces, None if take is None else take_line)
            except (NotAPart, PartAbsent):
                return None

        return read

    def _locate(self, name: str) -> str:
        return self._store.locate(self._prefix + name)


def is_part_of(name: str, window: Window | None) -> bool:
    """Return whether a part may hold entries of a window. Entries without a usable time may be of any."""
    hour, _ = part_number(name) or ("", 0)
    if window is None or hour == UNDATED_HOUR:
        return True
    begin = int(datetime.strptime(hour, "day=%Y-%m-%d/%H").replace(tzinfo=UTC).timestamp())
    return window.overlaps(Window(begin, begin + 3600))


def _gaps(numbers: set[int]) -> Iterator[tuple[int, int]]:
    """Return the first and the last number of each gap below the highest one."""
    expected = 0
    for number in sorted(numbers):
        if number > expected:
            yield expected, number - 1
        expected = number + 1


@dataclass(slots=True)
class _Doubles:
    """How many keys two parts have in common, and the digest of one of them."""

    example: bytes
    keys: int = 0


class _Keys:
    """Finds keys that are there twice. Digests are sorted into buckets by their first byte."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._buckets: list[IO[bytes]] = []

    def __enter__(self) -> _Keys:
        self._buckets = [
            self._stack.enter_context(tempfile.SpooledTemporaryFile(_BUCKET_MEMORY_BYTES))  # noqa: SIM115 - it enters one
            for _ in range(_BUCKETS)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, part: int, content: PartContent) -> None:
        """Add the keys of a part."""
        suffix = part.to_bytes(4, "big")
        by_bucket: dict[int, list[bytes]] = {}
        for digest in (*content.digests, *content.doubled):
            by_bucket.setdefault(digest[0] % _BUCKETS, []).append(digest + suffix)
        for bucket, records in by_bucket.items():
            self._buckets[bucket].write(b"".join(records))

    def count_doubles(self) -> dict[tuple[int, int], _Doubles]:
        """Return how many keys each two parts have in common, as the first part of a key and another."""
        found: dict[tuple[int, int], _Doubles] = {}
        for digest, first, second in self._doubles():
            found.setdefault((first, second), _Doubles(digest)).keys += 1
        return found

    def _doubles(self) -> Iterator[tuple[bytes, int, int]]:
        for bucket in self._buckets:
            bucket.seek(0)
            seen: dict[bytes, int] = {}
            while record := bucket.read(_RECORD_BYTES):
                digest, part = record[:DIGEST_BYTES], int.from_bytes(record[DIGEST_BYTES:], "big")
                if digest in seen:
                    yield digest, seen[digest], part
                else:
                    seen[digest] = part
