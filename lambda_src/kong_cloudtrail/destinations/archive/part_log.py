"""The part log: how any number of writers put each entry into exactly one object, without a lock or a cache.

The entries of an hour of request time are a log of numbered objects, its *parts*::

    source=S/stream=requests/day=2024-06-01/12-000000.json.gz
    source=S/stream=requests/day=2024-06-01/12-000001.json.gz

Part N may be written only by a writer that has read or written parts 0 to N-1, only with entries that are in none of
them, and only if there is no part N. If there is one, another writer was faster, or an earlier attempt of this one
whose answer was lost. The writer reads that part, drops its entries from what is left, and goes on with N+1. So at any
moment the parts of an hour hold no key twice, and whoever dies leaves nothing that has to be cleaned up. A part is
never written again.

The store must have conditional writes. It should keep versions and lock them, as then a part that is removed or
overwritten behind the log's back is still there: *a part is the first version of its object*, whatever is shown now.
So the entries of a hidden part are not archived again, its number is not used again, and there is no harm in bringing
it back. If no version is left, its number is a gap, unless it was the last one. A gap is never filled, as whoever
fills it may not know the later parts. What the source still shows of its entries is archived again, in a new part. A
part that cannot be read stops the writer, as nobody knows what is in it.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import struct
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol, TypeVar

from ...domain.backoff import backoff_seconds
from ...domain.entry import Entry
from ...domain.event import Event
from ...domain.part import Part
from ...domain.workers import Workers
from ...errors import DestinationMisconfigured, DestinationUnavailable

UNDATED_HOUR = "day=2015-01-01/00"
"""The hour of entries without a usable time. It never changes, so that a later run finds them again. It is a day that a
query can name, and older than every gateway with an audit log."""

EARLIEST_SECOND = 1_420_070_400
"""2015-01-01T00:00:00Z: entries that say they are older have no usable time."""

LATEST_SECOND = 4_102_444_799
"""2099-12-31T23:59:59Z: entries that say they are newer have no usable time."""

MAX_REMEMBERED_ENTRIES = 400_000
"""Entries whose digests are kept in memory, about 100 bytes each. The hours that were not used for longest are
forgotten, and read again if they are needed. A single hour with more is kept whole."""

_T = TypeVar("_T")
_Read = TypeVar("_Read")

DAYS_LISTED_ALONE = 2
"""Days that are listed one by one. A reading of more days lists whole months: an hourly part each is one call."""

READ_ATTEMPTS = 3

_POLL_SECONDS = 0.5

MAX_GAPS = 1000
"""Missing parts of an hour that are looked for. More are no accident."""

_GROUP_BYTES = 32 * 1024
DIGEST_BYTES = 16
"""Size of what is kept in memory of an entry's key."""

_CHUNK_BYTES = 256 * 1024
_GZIP_HEAD_BYTES = 120
_HEAD_BYTES = 8 * 1024  # more than the key at the beginning of a line takes
_GZIP = 16 + zlib.MAX_WBITS
_GZIP_HEADER = b"\x1f\x8b\x08\x08" + b"\0" * 5 + b"\xff"
"""The header of RFC 1952, followed by the name of the compressed file: the id of the run that wrote the part."""

_parts = re.compile(r"(day=\d{4}-\d\d-\d\d/\d\d)-(\d{6,})\.json\.gz").fullmatch
_run_id = re.compile(re.escape(_GZIP_HEADER) + rb"([a-z0-9-]{1,100})\0").match
# A line begins with its key, in either format: see `LineMapper` and `OcsfMapper`.
_key_of_line = re.compile(rb'\{(?:"key":|"metadata":\{"uid":)"([^"\\]+)"[,}]').match


class PartAbsent(Exception):
    """There is no object of this name."""


class NotAPart(Exception):
    """An object with the name of a part has other content."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object that a store has.

    Parameters
    ----------
    name
        Its name.
    version
        Its first version; ``None`` if the store keeps none.
    is_intact
        Whether the first version is what a reader gets: it was neither removed nor overwritten.
    """

    name: str
    version: str | None = None
    is_intact: bool = True


class PartStore(Protocol):
    """Where parts are kept. Methods raise `DestinationUnavailable` or `DestinationMisconfigured`."""

    def listed(self, prefix: str) -> Iterable[Listed]:
        """Return all objects whose names begin with `prefix`, also those that are hidden by a delete marker."""

    def read(self, name: str, version: str | None = None) -> Iterator[bytes]:
        """Return an object, or one of its versions, piece by piece. Raises `PartAbsent` before the first piece."""

    def create(self, name: str, body: bytes) -> bool:
        """Write an object if there is none of this name.

        Returns
        -------
        bool
            ``False`` if there is one, perhaps from an earlier attempt of this very call. Nothing was written then.
        """

    def locate(self, name: str) -> str:
        """Return where an object is or would be, as a location that a person can look up."""


@dataclass(slots=True)
class PartContent:
    """What a part holds.

    Parameters
    ----------
    sha256
        SHA-256 of its uncompressed content.
    digests
        Digests of its keys.
    doubled
        Digests of keys that are in it more than once.
    run_id
        The run that wrote it; empty if it does not say.
    """

    sha256: str
    digests: set[bytes]
    doubled: list[bytes] = field(default_factory=list)
    run_id: str = ""

    @property
    def lines(self) -> int:
        """Number of its lines."""
        return len(self.digests) + len(self.doubled)


@dataclass(eq=False, slots=True)
class _Hour:
    """What is known about an hour: everything in its parts below `next_number`."""

    next_number: int
    digests: set[bytes]
    lock: threading.Lock = field(default_factory=threading.Lock)


class PartLog:
    """The parts of one stream of one source. Safe to use from several threads, processes and machines.

    Parameters
    ----------
    store
        Where the parts are.
    source, stream
        The names of the trail.
    workers
        Parts to read at the same time.
    sleep
        Function that waits for the given seconds.
    """

    def __init__(
        self,
        store: PartStore,
        source: str,
        stream: str,
        *,
        workers: int = 8,
        max_remembered_entries: int = MAX_REMEMBERED_ENTRIES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._prefix = prefix_of(source, stream)
        self._max_remembered_entries = max_remembered_entries
        self._sleep = sleep
        self._readers = Workers(workers, "archive")
        self._remaining_seconds: Callable[[], float] = lambda: math.inf
        self._lock = threading.Lock()
        self._hours: OrderedDict[str, _Hour] = OrderedDict()
        self._listed: set[str] = set()
        self._listing: dict[str, dict[int, Listed]] = {}
        self._outdated: set[str] = set()
        self._problems: dict[str, str] = {}
        self._known_parts: dict[str, Part] = {}
        self._unanswered: set[str] = set()

    def close(self) -> None:
        """End the threads that read parts."""
        self._readers.end()

    def forget(self, remaining_seconds: Callable[[], float] = lambda: math.inf) -> None:
        """Forget what is known, so that it is read again: what a run relies on is what is there when it begins.

        Parameters
        ----------
        remaining_seconds
            Returns for how long the run may wait for the parts that it reads.
        """
        with self._lock:
            self._remaining_seconds = remaining_seconds
            self._hours.clear()
            self._listed.clear()
            self._listing.clear()
            self._outdated.clear()
            self._problems.clear()
            self._known_parts.clear()
            self._unanswered.clear()

    @property
    def problems(self) -> dict[str, str]:
        """Parts that somebody removed or overwrote, by name, and what to do: what was noticed since `forget`."""
        with self._lock:
            return dict(self._problems)

    @property
    def known_parts(self) -> list[Part]:
        """The parts that were read or written since `forget`. First and last request time of a read one are unknown."""
        with self._lock:
            return list(self._known_parts.values())

    @property
    def has_unanswered_writes(self) -> bool:
        """Whether a write since `forget` has no answer: there may be a part, now or later, that is not known."""
        with self._lock:
            return bool(self._unanswered)

    def prepare(self, entries: Iterable[Entry]) -> None:
        """Read the hours of these entries, if they are not known. Raises as `held`."""
        self._open({hour_of(entry) for entry in entries})

    def held(self, entries: Iterable[Entry]) -> set[str]:
        """Return the keys of the entries that are in a part. Reads the hours of these entries, if they are not known.

        Raises
        ------
        DestinationUnavailable
            If parts cannot be read at the moment.
        DestinationMisconfigured
            If parts cannot be read until somebody changes something.
        """
        by_hour: dict[str, list[Entry]] = {}
        for entry in entries:
            by_hour.setdefault(hour_of(entry), []).append(entry)
        hours = self._open(by_hour)
        self._forget_what_is_too_much(hours.keys())
        return {
            entry.key
            for name, candidates in by_hour.items()
            if (digests := hours[name].digests)
            for entry in candidates
            if digest(entry.key) in digests
        }

    def append(self, hour: str, events: Sequence[Event], run_id: str) -> Part | None:
        """Write a part with those of the events that no part has yet.

        Parameters
        ----------
        hour
            The hour of all of them: `hour_of`.
        events
            Their lines.
        run_id
            The run that writes.

        Returns
        -------
        Part or None
            ``None`` if all of them are in parts that others wrote. If another run has written this very part, that run
            is its `run_id`.

        Raises
        ------
        DestinationUnavailable
            If this can be tried again. Whether a part was written is not known; another attempt finds out.
        DestinationMisconfigured
            If nothing can be written until somebody changes something.
        """
        known = self._open([hour])[hour]
        offered = {digest(event.entry.key): event for event in events}
        with known.lock:
            while left := {key: event for key, event in offered.items() if key not in known.digests}:
                part, body = _part(_part_name(hour, known.next_number), list(left.values()), run_id)
                if self._create(part, body):
                    known.digests.update(left)
                    known.next_number += 1
                    return part
                try:
                    content = self._read(part.name)
                except PartAbsent as error:
                    with self._lock:
                        self._forget_hour(hour)
                    raise DestinationUnavailable(
                        "PartRemoved",
                        f"The part {self._locate(part.name)} of the archive was removed meanwhile.",
                        content_matters=False,
                    ) from error
                if content.run_id == run_id:
                    # An earlier attempt wrote it, perhaps for another batch: no one else would report it.
                    self._note_known(Part(part.name, content.sha256, content.lines, None, None, run_id))
                known.digests |= content.digests
                known.next_number += 1
                if content.sha256 == part.sha256:
                    return replace(part, run_id=content.run_id)  # an earlier attempt wrote it; its answer was lost
        return None

    def _create(self, part: Part, body: bytes) -> bool:
        with self._lock:
            self._unanswered.add(part.name)
        created = self._store.create(self._prefix + part.name, body)
        if created:
            self._note_known(part)
        # Either way the name is taken, so an earlier write of it that is still under way comes to nothing.
        with self._lock:
            self._unanswered.discard(part.name)
        return created

    # -- what is known

    def _open(self, names: Collection[str]) -> dict[str, _Hour]:
        """Return hours by name. Those that are not known are read, all at once."""
        with self._lock:
            hours = {name: self._hours[name] for name in names if name in self._hours}
            for name in hours:
                self._hours.move_to_end(name)
        new = [name for name in names if name not in hours]
        if new:
            read = self._read_hours(new)
            with self._lock:
                # Another thread may have read an hour, too, and gone on from there.
                hours |= {name: self._hours.setdefault(name, hour) for name, hour in read.items()}
        return hours

    def _forget_what_is_too_much(self, used: Collection[str]) -> None:
        with self._lock:
            excess = sum(len(hour.digests) for hour in self._hours.values()) - self._max_remembered_entries
            for name in [name for name in self._hours if name not in used] if excess > 0 else ():
                if excess <= 0:
                    break
                excess -= len(self._hours[name].digests)
                self._forget_hour(name)

    def _read_hours(self, names: Collection[str]) -> dict[str, _Hour]:
        """Read the parts of some hours."""
        listed = self._parts_of_hours(names)
        hours = {name: _Hour(_next_number(name, listed[name]), set()) for name in names}
        # Also those that were not listed: a listing is no snapshot, and may show a part but not the one before it.
        parts = [(name, number) for name, hour in hours.items() for number in range(hour.next_number)]
        contents = self._read_all(
            lambda part: self._read_listed(_part_name(*part), listed[part[0]].get(part[1])), parts
        )
        for (name, _), content in zip(parts, contents, strict=True):
            hours[name].digests |= content.digests
        return hours

    def _parts_of_hours(self, names: Collection[str]) -> dict[str, dict[int, Listed]]:
        """Return the parts of some hours by number. Lists what is not listed yet, all at once.

        A listing may be old: parts that it lacks are found by the write that is refused.
        """
        with self._lock:
            prefixes = self._prefixes_to_list(names)
        for prefix, found in zip(prefixes, self._read_all(self._parts_below, prefixes), strict=True):
            with self._lock:
                self._listed.add(prefix)
                self._outdated = {name for name in self._outdated if not name.startswith(prefix)}
                for hour, number, part in found:
                    self._listing.setdefault(hour, {})[number] = part
        with self._lock:
            return {name: dict(self._listing.get(name, {})) for name in names}

    def _prefixes_to_list(self, names: Collection[str]) -> list[str]:
        """Return what to list: days, or months if the reading is long. Call it with the lock held."""
        outdated = {_day(name) for name in names if name in self._outdated}
        days = {_day(name) for name in names if self._listed.isdisjoint((_day(name), _month(name)))}
        is_long = len(self._listed) + len(days) > DAYS_LISTED_ALONE
        return sorted(outdated | ({_month(day) for day in days} if is_long else days))

    def _forget_hour(self, name: str) -> None:
        """Forget an hour. Its listing may lack parts that were written since. Call it with the lock held."""
        self._hours.pop(name, None)
        self._outdated.add(name)

    def _read_all(self, read: Callable[[_T], _Read], what: Sequence[_T]) -> Iterator[_Read]:
        """Read several things at once, and return them in order. Waits no longer than the run has time."""
        futures = [_begin(self._readers, read, one) for one in what]
        try:
            for future in futures:
                while not future.done():
                    left_seconds = self._remaining_seconds()
                    if left_seconds <= 0:
                        raise self._unanswered_reading()
                    wait([future], min(left_seconds, _POLL_SECONDS))
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    def _unanswered_reading(self) -> DestinationUnavailable:
        return DestinationUnavailable(
            "Unanswered",
            f"The archive in {self._locate('')} was still being read when the run had to end. Check the function's "
            "path to S3: the VPC endpoint, or NAT and routes.",
            content_matters=False,
        )

    def _parts_below(self, prefix: str) -> list[tuple[str, int, Listed]]:
        found = []
        for part in self._store.listed(self._prefix + prefix):
            if (match := part_number(part.name.removeprefix(self._prefix))) is not None:
                found.append((*match, part))
        return found

    def _read_listed(self, name: str, part: Listed | None) -> PartContent:
        """Return what a part holds: nothing if there is no such part, which is noted."""
        try:
            content = self._read(name, None if part is None else part.version)
        except PartAbsent:
            self._note(
                name,
                "was removed, and no version of it is left. What the source still shows of its entries is archived "
                "again, in a new part. Find out who removed it.",
            )
            return PartContent("", set())
        found = Part(name, content.sha256, content.lines, None, None, content.run_id)
        self._note_known(found)
        if part is not None and not part.is_intact:
            self._note(
                name,
                "was removed or overwritten. Its first version is still there: restore it by deleting the later "
                "versions and delete markers. Its entries are not archived again.",
            )
        return content

    def _note_known(self, part: Part) -> None:
        with self._lock:
            self._known_parts[part.name] = part

    def _note(self, name: str, problem: str) -> None:
        with self._lock:
            self._problems[name] = f"The part {self._locate(name)} of the archive {problem}"

    def _locate(self, name: str) -> str:
        return self._store.locate(self._prefix + name)

    def _read(self, name: str, version: str | None = None) -> PartContent:
        for attempt in range(1, READ_ATTEMPTS + 1):
            try:
                return read_content(self._store.read(self._prefix + name, version))
            except (DestinationUnavailable, NotAPart) as error:
                if attempt < READ_ATTEMPTS:
                    self._sleep(backoff_seconds(attempt))
                elif isinstance(error, DestinationUnavailable):
                    raise
        raise DestinationMisconfigured(
            f"The part {self._locate(name)} of the archive cannot be read: it was altered. It is "
            "not known which entries it holds, so nothing is archived. Restore its first version."
        )


def _begin(workers: Workers, read: Callable[[_T], _Read], what: _T) -> Future[_Read]:
    future: Future[_Read] = Future()

    def work() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(read(what))
            except Exception as error:
                future.set_exception(error)

    workers.submit(work)
    return future


def prefix_of(source: str, stream: str) -> str:
    """Return what the names of all parts of a stream begin with, below the archive's prefix."""
    return f"source={source}/stream={stream}/"


@lru_cache(maxsize=4096)
def _hour_name(hours_since_1970: int) -> str:
    return datetime.fromtimestamp(hours_since_1970 * 3600, UTC).strftime("day=%Y-%m-%d/%H")


def hour_of(entry: Entry) -> str:
    """Return the hour in which an entry is archived, ``day=YYYY-MM-DD/HH``. It depends on the entry alone."""
    seconds = entry.timestamp
    if seconds is None or not EARLIEST_SECOND <= seconds <= LATEST_SECOND:
        return UNDATED_HOUR
    return _hour_name(seconds // 3600)


def _day(hour: str) -> str:
    return hour[: len("day=YYYY-MM-DD/")]


def _month(hour: str) -> str:
    return hour[: len("day=YYYY-MM-")]


def digest(key: str) -> bytes:
    """Return what is kept in memory of an entry's key."""
    return _digest(key.encode("ascii"))


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=DIGEST_BYTES).digest()


def part_number(name: str) -> tuple[str, int] | None:
    """Return the hour and the number of a part by its name; ``None`` if it is not the name of a part."""
    match = _parts(name)
    return None if match is None else (match[1], int(match[2]))


def _part_name(hour: str, number: int) -> str:
    return f"{hour}-{number:06}.json.gz"


def _next_number(hour: str, listed: Collection[int]) -> int:
    number = max(listed, default=-1) + 1
    if number - len(listed) > MAX_GAPS:
        raise DestinationMisconfigured(
            f"The archive has the part {_part_name(hour, number - 1)}, but {number - len(listed)} parts before it are "
            "missing. Nothing is archived. Restore them, or remove that part if it is not one of the archive's."
        )
    return number


def _part(name: str, events: Sequence[Event], run_id: str) -> tuple[Part, bytes]:
    """Return a part and its bytes. The uncompressed content is never in memory as a whole."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    sha256, crc32, size_bytes = hashlib.sha256(), 0, 0
    pieces = [_GZIP_HEADER, run_id.encode("ascii"), b"\0"]
    for lines in _grouped(events):
        chunk = ("\n".join(lines) + "\n").encode("ascii")
        sha256.update(chunk)
        crc32 = zlib.crc32(chunk, crc32)
        size_bytes += len(chunk)
        pieces.append(compressor.compress(chunk))
    pieces += [compressor.flush(), struct.pack("<LL", crc32, size_bytes & 0xFFFFFFFF)]
    times = [event.entry.timestamp for event in events if event.entry.timestamp is not None]
    part = Part(name, sha256.hexdigest(), len(events), min(times, default=None), max(times, default=None), run_id)
    return part, b"".join(pieces)


def _grouped(events: Sequence[Event]) -> Iterator[list[str]]:
    """Return the lines in groups of about `_GROUP_BYTES`: few calls are fast, and no group needs much memory."""
    group: list[str] = []
    size_bytes = 0
    for event in events:
        group.append(event.data)
        size_bytes += len(event.data)
        if size_bytes >= _GROUP_BYTES:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group


def read_content(pieces: Iterable[bytes], take: Callable[[bytes], object] | None = None) -> PartContent:
    """Read a part piece by piece; `take` gets each of its lines. Raises `NotAPart`."""
    sha256 = hashlib.sha256()
    digests: set[bytes] = set()
    doubled: list[bytes] = []
    head, pieces = _peek(pieces)
    run_id = _run_id(head)
    for keys in _keys(_decompressed(pieces), sha256.update, take):
        for key in keys:
            found = _digest(key)
            if found in digests:
                doubled.append(found)
            digests.add(found)
    return PartContent(sha256.hexdigest(), digests, doubled, "" if run_id is None else run_id[1].decode("ascii"))


def find_key(pieces: Iterable[bytes], wanted: bytes) -> str | None:
    """Return the key in a part that has a digest; ``None`` if there is none. Raises `NotAPart`."""
    for keys in _keys(_decompressed(pieces)):
        for key in keys:
            if _digest(key) == wanted:
                return key.decode("utf-8", "replace")
    return None


def _keys(
    chunks: Iterable[bytes],
    note: Callable[[bytes], object] = lambda chunk: None,
    take: Callable[[bytes], object] | None = None,
) -> Iterator[list[bytes]]:
    """Return the keys of the lines, chunk by chunk; `note` gets each chunk, and `take` each line. Raises `NotAPart`."""
    rest = b""
    for chunk in chunks:
        note(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        if take is None:
            rest = rest[:_HEAD_BYTES]  # the key is at the beginning; a line may have many megabytes
        keys = []
        for line in lines:
            if (key := _key_of_line(line)) is None:
                raise NotAPart
            keys.append(key[1])
            if take is not None:
                take(line)
        yield keys
    if rest:
        raise NotAPart


def _peek(pieces: Iterable[bytes]) -> tuple[bytes, Iterable[bytes]]:
    """Return the beginning of some pieces, and all of them again."""
    left = iter(pieces)
    head = b""
    while len(head) < _GZIP_HEAD_BYTES and (piece := next(left, None)) is not None:
        head += piece
    return head, itertools.chain([head], left)


def _decompressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(wbits=_GZIP)
    try:
        for piece in pieces:
            left = piece
            while left:
                yield decompressor.decompress(left, _CHUNK_BYTES)
                left = decompressor.unconsumed_tail
        yield decompressor.flush()
    except zlib.error as error:
        raise NotAPart from error
    if not decompressor.eof or decompressor.unused_data:
        raise NotAPart


def read_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Return the lines of a part, each whole and without its line break. Raises `NotAPart`."""
    rest: list[bytes] = []
    for chunk in _decompressed(pieces):
        first, *others = chunk.split(b"\n")
        rest.append(first)
        for line in others:
            yield b"".join(rest)
            rest = [line]
    if any(rest):
        raise NotAPart
