"""The rows behind an audit endpoint: kept serialised and sorted, paged by key, hidden before and after their time."""

from __future__ import annotations

import base64
import binascii
import bisect
import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

Key = tuple[int, str, int]
"""Sort key: minus the Unix time (0 where rows are not ordered by time), the primary key, the row's own number.

The number keeps two rows apart that have the same id, which Kong's database would not allow and a test may want.
"""

_DEFAULT_TTL_SECONDS = 2_592_000
# Above this many new rows at once, sorting the whole (nearly sorted) list costs less than inserting one by one.
_INSERT_ONE_BY_ONE = 200


class InvalidOffset(Exception):
    """The offset is none that this table gave out."""


@dataclass(slots=True)
class Row:
    """One row. Without `expires_at` it is `head` alone; with it, `head` is the row up to the value of `ttl`."""

    key: Key
    timestamp: int
    head: bytes
    expires_at: float | None
    visible_at: float | None

    def serialised(self, now: float) -> bytes:
        """Return the row as JSON, with the seconds that it has left at `now`."""
        if self.expires_at is None:
            return self.head
        return b"%b%d}" % (self.head, math.ceil(self.expires_at - now))


def _row_key(row: Row) -> Key:
    return row.key


def _time_key(row: Row) -> Key:
    return (-row.timestamp, *row.key[1:])


def _id_key(row: Row) -> Key:
    return (0, *row.key[1:])


@dataclass(frozen=True)
class Page:
    """Serialised rows, their primary keys, and the offset of the page after this one if there is one."""

    rows: list[bytes]
    ids: list[str]
    offset: str | None


class _Order:
    """All rows, sorted by one of the two keys."""

    def __init__(self, key: Callable[[Row], Key]) -> None:
        self.key = key
        self.rows: list[Row] = []

    def insert(self, rows: Sequence[Row]) -> None:
        if len(rows) > _INSERT_ONE_BY_ONE:
            self.rows.extend(rows)
            self.rows.sort(key=self.key)
        else:
            for row in rows:
                bisect.insort(self.rows, row, key=self.key)


class AuditTable:
    """The rows of one audit endpoint. Safe to use from several threads.

    Parameters
    ----------
    newest_first
        Order by `request_timestamp`, newest first, ties by primary key; otherwise by primary key alone.
    id_field
        The primary key's name.
    missing_fields
        Fields to leave out of every row added.
    untimed_are_in_no_window
        A row without a time matches no filter, as NULL in a database; otherwise it counts as one of 1970.
    """

    def __init__(
        self,
        *,
        newest_first: bool,
        id_field: str,
        missing_fields: frozenset[str] = frozenset(),
        untimed_are_in_no_window: bool = False,
    ) -> None:
        self._untimed_are_in_no_window = untimed_are_in_no_window
        self._newest_first = newest_first
        self._id_field = id_field
        self._missing_fields = missing_fields
        self._lock = threading.Lock()
        self._own = _Order(_row_key)
        # By `newest_first`. The other order is made when it is asked for first.
        self._orders = {newest_first: self._own}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._own.rows)

    def add(
        self,
        entries: Iterable[Mapping[str, Any]],
        *,
        now: float,
        visible_at: float | None = None,
        raw_ttl: bool = False,
    ) -> int:
        """Add entries as Kong would show them; return how many.

        A `ttl` that is a number is taken as the seconds left at `now`: the row expires, and shows what is left at each
        read. Any other `ttl` is shown as it is, for ever. An entry without one gets Kong's default of 30 days.

        Parameters
        ----------
        entries
            Objects of any shape; fields that this version of Kong does not have are left out.
        now
            Unix time in seconds.
        visible_at
            Unix time from which reads show the entries.
        raw_ttl
            Show every `ttl` as it is (0, fractional, absent), and never expire.
        """
        return self._insert([self._row(entry, now, visible_at, raw_ttl) for entry in entries])

    def add_raw(self, row: bytes, *, timestamp: int, visible_at: float | None = None) -> int:
        """Add one row as the very bytes to be sent, valid JSON and valid UTF-8 or not, placed at `timestamp`."""
        return self._insert([Row(self._key(timestamp, ""), timestamp, row, None, visible_at)])

    def clear(self) -> None:
        """Remove every row."""
        with self._lock:
            for order in self._orders.values():
                order.rows.clear()

    def page(
        self,
        *,
        now: float,
        size: int,
        offset: str | None,
        after: int | None,
        before: int | None,
        newest_first: bool | None = None,
    ) -> Page:
        """Return the rows strictly beyond `offset` with `after` <= time < `before`, visible at `now`, at most `size`.

        Parameters
        ----------
        now, after, before
            Unix seconds.
        size
            Rows.
        offset
            Of an earlier page. One that was given out in the other order is taken for what it says in this one, as a
            node of another release does: it leads behind everything, or back to the beginning.
        newest_first
            The order; by default the table's own.

        Raises
        ------
        InvalidOffset
            If `offset` is none of this table's.
        """
        beyond = None if offset is None else _decode_offset(offset)
        newest_first = self._newest_first if newest_first is None else newest_first
        with self._lock:
            order = self._order(newest_first)
            rows = order.rows
            start = 0 if beyond is None else bisect.bisect_right(rows, beyond, key=order.key)
            if newest_first and before is not None:
                # Times are negated in the key: `time < before` is `-time >= -before + 1`.
                start = max(start, bisect.bisect_left(rows, -before + 1, key=lambda row: -row.timestamp))
            found: list[Row] = []
            for index in range(start, len(rows)):
                row = rows[index]
                if self._untimed_are_in_no_window and row.timestamp == 0 and (after, before) != (None, None):
                    continue
                if after is not None and row.timestamp < after:
                    if newest_first:
                        break
                    continue
                if before is not None and row.timestamp >= before:
                    continue
                if (row.visible_at is not None and row.visible_at > now) or (
                    row.expires_at is not None and row.expires_at <= now
                ):
                    continue
                found.append(row)
                if len(found) > size:
                    break
        more = len(found) > size
        shown = found[:size]
        return Page(
            [row.serialised(now) for row in shown],
            [row.key[1] for row in shown],
            _encode_offset(order.key(shown[-1])) if more else None,
        )

    def _order(self, newest_first: bool) -> _Order:
        if newest_first not in self._orders:
            self._orders[newest_first] = other = _Order(_time_key if newest_first else _id_key)
            other.rows = sorted(self._own.rows, key=other.key)
        return self._orders[newest_first]

    def _insert(self, rows: Sequence[Row]) -> int:
        with self._lock:
            for order in self._orders.values():
                order.insert(rows)
        return len(rows)

    def _row(self, entry: Mapping[str, Any], now: float, visible_at: float | None, raw_ttl: bool) -> Row:
        fields = {name: value for name, value in entry.items() if name not in self._missing_fields}
        timestamp = _as_timestamp(fields.get("request_timestamp"))
        row_id = fields.get(self._id_field)
        key = self._key(timestamp, row_id if isinstance(row_id, str) else "")
        ttl = fields.get("ttl", _DEFAULT_TTL_SECONDS)
        if raw_ttl or isinstance(ttl, bool) or not isinstance(ttl, int | float) or not math.isfinite(ttl):
            return Row(key, timestamp, _compact(fields), None, visible_at)
        fields.pop("ttl", None)
        head = _compact(fields)[:-1] + (b',"ttl":' if fields else b'"ttl":')
        return Row(key, timestamp, head, now + ttl, visible_at)

    def _key(self, timestamp: int, row_id: str) -> Key:
        return (-timestamp if self._newest_first else 0, row_id, next(self._numbers))


def _compact(value: object) -> bytes:
    """Serialise as lua-cjson does: slashes are escaped, and text beyond ASCII is not.

    Text that UTF-8 cannot carry is escaped, as a gateway of another make might do.
    """
    try:
        return _with_slashes(json.dumps(value, separators=(",", ":"), ensure_ascii=False)).encode()
    except UnicodeEncodeError:
        return _with_slashes(json.dumps(value, separators=(",", ":"))).encode()


def _with_slashes(text: str) -> str:
    return text.replace("/", "\\/")  # outside of strings there are none


def _as_timestamp(value: object) -> int:
    """Return the time by which a row is ordered and filtered: 0 if the entry has none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return int(value)


def _encode_offset(key: Key) -> str:
    return base64.b64encode(_compact(key)).decode().rstrip("=")


def _decode_offset(offset: str) -> Key:
    try:
        decoded = json.loads(base64.b64decode(offset + "=" * (-len(offset) % 4), validate=True))
        time_key, row_id, number = decoded
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidOffset from error
    if not (isinstance(time_key, int) and isinstance(row_id, str) and isinstance(number, int)):
        raise InvalidOffset
    return time_key, row_id, number
