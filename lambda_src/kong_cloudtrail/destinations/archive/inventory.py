"""What an archive holds of a stretch of request time, to be compared with what the source shows."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from ...domain.entry import Entry
from ...domain.window import Window
from ...errors import DestinationMisconfigured
from ...ports import Basis, Consent
from .part_log import (
    EARLIEST_SECOND,
    LATEST_SECOND,
    UNDATED_HOUR,
    Listed,
    NotAPart,
    PartAbsent,
    PartStore,
    digest,
    part_number,
    prefix_of,
    read_content,
    read_lines,
)

HOUR_SECONDS = 3600
_DAY_SECONDS = 86_400

_Read = TypeVar("_Read")


class ArchiveInventory:
    """Reads the parts of the hours that are asked for, several at once. An entry is compared by its key.

    Parameters
    ----------
    store
        Where the parts are.
    source, stream
        The names of the trail.
    workers
        Parts to read at the same time.
    """

    basis = Basis.PARTS
    grain_seconds = HOUR_SECONDS

    def __init__(self, store: PartStore, source: str, stream: str, *, workers: int = 8) -> None:
        self._store = store
        self._prefix = prefix_of(source, stream)
        self._workers = workers
        self._days: dict[str, Sequence[Listed]] = {}

    def needs_consent(self, window: Window) -> Consent | None:
        """Return ``None``: reading costs next to nothing."""

    def begin(self, window: Window) -> None:
        """Do nothing: parts are read as they are asked for."""

    def identify(self, entry: Entry) -> tuple[bytes, str]:
        """Return the digest of an entry's key, and the key."""
        return digest(entry.key), entry.key

    def held(self, window: Window) -> Iterator[Sequence[bytes]]:
        """Return the digests of the keys with request times in a window, part by part, and each copy once.

        Raises
        ------
        DestinationUnavailable, DestinationMisconfigured
            If the parts cannot be read.
        """
        yield from self._read_all(window, partial(self._digests, window))

    def held_of(self, entries: Sequence[Entry]) -> Iterator[Sequence[bytes]]:
        """Return nothing: what is held is known without the entries."""
        return iter(())

    def held_without_time(self) -> Iterator[Sequence[bytes]]:
        """Return the digests of the keys of entries without a usable request time. Raises as `held`."""
        day, _, hour = UNDATED_HOUR.partition("/")
        parts = [part for part in self._parts_of_day(day) if self._hour_of(part) == f"{day}/{hour}"]
        yield from self._read_parts(parts, self._all_digests)

    def names(self, window: Window, identities: Collection[bytes]) -> Mapping[bytes, str]:
        """Return the keys of some digests in a window. Raises as `held`."""
        found: dict[bytes, str] = {}
        for keys in self._read_all(window, lambda hour, part: self._keys_of(part, identities)):
            found |= keys
        return found

    def bytes_scanned(self) -> int | None:
        """Return ``None``: nobody bills for it."""

    # -- parts

    def _read_all(self, window: Window, read: Callable[[Window, Listed], _Read]) -> Iterator[_Read]:
        parts = []
        hours: dict[str, Window] = {}
        before = window.before if window.before is not None else LATEST_SECOND
        first, last = max(window.after, EARLIEST_SECOND), min(before, LATEST_SECOND + 1)
        for begin in range(first // HOUR_SECONDS * HOUR_SECONDS, last, HOUR_SECONDS):
            hours[_name_of(begin)] = Window(begin, begin + HOUR_SECONDS)
        for day in dict.fromkeys(name.partition("/")[0] for name in hours):
            for part in self._parts_of_day(day):
                hour = self._hour_of(part)
                if hour in hours and hour != UNDATED_HOUR:
                    parts.append((hours[hour], part))
        yield from self._read_parts(parts, lambda pair: read(*pair))

    def _read_parts(self, parts: Sequence[Any], read: Callable[[Any], _Read]) -> Iterator[_Read]:
        """Read several at once, only a few ahead, and return them in order."""
        reading: deque[Future[_Read]] = deque()
        with ThreadPoolExecutor(self._workers, "inventory") as pool:
            for part in parts:
                if len(reading) > self._workers:
                    yield reading.popleft().result()
                reading.append(pool.submit(read, part))
            while reading:
                yield reading.popleft().result()

    def _parts_of_day(self, day: str) -> Sequence[Listed]:
        if day not in self._days:
            self._days = {day: list(self._store.listed(f"{self._prefix}{day}/"))}  # slices come in order of time
        return self._days[day]

    def _hour_of(self, part: Listed) -> str | None:
        number = part_number(part.name.removeprefix(self._prefix))
        return None if number is None else number[0]

    def _digests(self, window: Window, hour: Window, part: Listed) -> Sequence[bytes]:
        before = window.before
        if window.after <= hour.after and (before is None or (hour.before or 0) <= before):
            return self._all_digests(part)

        def read() -> Sequence[bytes]:
            keys = self._keys_with_times(part)
            return [digest(key) for key, second in keys if _is_within(second, window)]

        return self._whole(part, read) or ()

    def _all_digests(self, part: Listed) -> Sequence[bytes]:
        content = self._whole(part, lambda: read_content(self._store.read(part.name, part.version)))
        return () if content is None else (*content.digests, *content.doubled)

    def _keys_of(self, part: Listed, identities: Collection[bytes]) -> Mapping[bytes, str]:
        def read() -> Mapping[bytes, str]:
            keys = (key for key, _ in self._keys_with_times(part))
            return {found: key for key in keys if (found := digest(key)) in identities}

        return self._whole(part, read) or {}

    def _keys_with_times(self, part: Listed) -> Iterator[tuple[str, int | None]]:
        for line in read_lines(self._store.read(part.name, part.version)):
            yield _key_and_time(line)

    def _whole(self, part: Listed, read: Callable[[], _Read]) -> _Read | None:
        """Read a part; ``None`` if it is gone."""
        try:
            return read()
        except PartAbsent:
            return None
        except NotAPart as error:
            raise DestinationMisconfigured(
                f"The part {self._store.locate(part.name)} of the archive cannot be read: it was altered. It is not "
                "known which entries it holds. Restore its first version."
            ) from error


def _key_and_time(line: bytes) -> tuple[str, int | None]:
    """Return the key of a line in either format, and its request time in Unix seconds. Raises `NotAPart`."""
    try:
        fields = json.loads(line)
        if "key" in fields:
            moment = fields.get("eventTime")
            return str(fields["key"]), None if moment is None else int(datetime.fromisoformat(moment).timestamp())
        return str(fields["metadata"]["uid"]), int(fields["time"]) // 1000
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise NotAPart from error


def _is_within(second: int | None, window: Window) -> bool:
    return second is not None and window.after <= second and (window.before is None or second < window.before)


def _name_of(begin: int) -> str:
    return datetime.fromtimestamp(begin, UTC).strftime("day=%Y-%m-%d/%H")
