"""Audit entries for a torture: ordinary ones, late ones, odd ones, and such as CloudTrail does not take."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sandbox.kong.entries import make_entries, make_objects

PAYLOAD_MARK = "m4rk-0f-a-payl0ad"
"""Is in every ordinary payload, so that a payload in a log shows."""

REFUSED_UID = "^refused-"
"""Entries with such an id are to be refused by CloudTrail as bad records."""

_TEN_YEARS_SECONDS = 315_360_000


def choose(ids: list[str], count: int, seed: int) -> list[str]:
    """Choose entries, rather new ones than old ones."""
    rng = random.Random(seed)
    return [rng.choice(ids[-100:] if rng.random() < 0.7 else ids) for _ in range(count if ids else 0)]


@dataclass(frozen=True)
class NewEntry:
    """An entry for Kong to show.

    Parameters
    ----------
    timestamp
        Where Kong files it, Unix seconds.
    fields
        As Kong shows it; ``None`` for a `row`.
    row
        The very bytes that Kong shows.
    hidden_seconds
        How long after its time Kong shows it; 0: at once.
    raw_ttl
        Whether ``ttl`` is shown as it is, or counts down.
    is_plain
        Whether it can be delivered without the ledger, and gives CloudTrail no reason to refuse it.
    cause
        Of a changed object: the request that changed it, which Kong shows, too; ``None`` if it does not.
    """

    timestamp: int
    fields: dict[str, Any] | None = None
    row: bytes = b""
    hidden_seconds: int = 0
    raw_ttl: bool = False
    is_plain: bool = False
    cause: dict[str, Any] | None = None


class EntryMaker:
    """Makes the entries of one scenario: requests.

    Parameters
    ----------
    latest_seconds
        How long after its time an entry may become visible, at most.

    Attributes
    ----------
    plain_ids
        The ids of plain entries, in the order in which they were made.
    """

    _id: ClassVar[str] = "request_id"

    def __init__(self, latest_seconds: int) -> None:
        self._latest_seconds = latest_seconds
        self.plain_ids: list[str] = []

    def backlog(self, count: int, *, seed: int, now: int, seconds: int) -> Iterator[NewEntry]:
        """Yield what Kong holds before the first run: evenly over so many seconds, and some from 1970."""
        rng = random.Random(seed)
        for fields, cause in self._ordinary(count, seed=seed, first=now - seconds, last=now):
            for entry in self._one(rng, fields, now=fields["request_timestamp"]):
                yield replace(entry, cause=cause)
        for fields, cause in self._ordinary(count // 40, seed=seed + 1, first=0, last=0):
            # Filed at the beginning of time, where only a first run looks, or at its end, where every run does.
            stamp = rng.choice((0, None, "soon", 1e300))
            timestamp = int(stamp) if isinstance(stamp, float) else 0
            yield NewEntry(timestamp, fields | {"request_timestamp": stamp}, cause=cause)

    def fresh(self, count: int, *, seed: int, now: int) -> Iterator[NewEntry]:
        """Yield entries that were made since the last round, or before it and became visible late."""
        rng = random.Random(seed)
        for fields, cause in self._ordinary(count, seed=seed, first=now - 1, last=now):
            for entry in self._one(rng, fields, now=now):
                yield replace(entry, cause=cause)

    def _ordinary(
        self, count: int, *, seed: int, first: int, last: int
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
        """Yield entries as a busy Kong records them, each with the request that caused it, if that is another entry."""
        for fields in make_entries(count, seed=seed, first_timestamp=first, last_timestamp=last):
            if fields["payload"] is not None and fields["payload"].startswith("{"):
                fields["payload"] = json.dumps({"mark": PAYLOAD_MARK} | json.loads(fields["payload"]))
            yield fields, None

    def _one(self, rng: random.Random, fields: dict[str, Any], *, now: int) -> Iterator[NewEntry]:
        stamp = fields["request_timestamp"]
        choice = rng.random()
        if choice < 0.85:
            self.plain_ids.append(fields[self._id])
            yield NewEntry(stamp, fields, is_plain=True)
        elif choice < 0.91:
            yield self._late(rng, fields, now)
        elif choice < 0.93:
            yield NewEntry(stamp, fields | {self._id: "refused-" + fields[self._id]})
        elif choice < 0.945:
            yield NewEntry(stamp, fields | rng.choice(self._oversize())())
        else:
            yield from self._odd(rng, fields)

    def _late(self, rng: random.Random, fields: dict[str, Any], now: int) -> NewEntry:
        """Return an entry that becomes visible as late as is allowed, or earlier."""
        late_seconds = rng.choice((self._latest_seconds, rng.randint(1, self._latest_seconds)))
        age_seconds = rng.randint(0, late_seconds)
        stamp = now - age_seconds
        return NewEntry(stamp, fields | {"request_timestamp": stamp}, hidden_seconds=late_seconds, is_plain=True)

    def _odd(self, rng: random.Random, fields: dict[str, Any]) -> Iterator[NewEntry]:
        stamp = fields["request_timestamp"]
        match rng.randrange(8):
            case 0:  # an id that was there before, on another request
                yield NewEntry(stamp, fields | self._same_id(rng.choice(self.plain_ids or ["first"]), fields[self._id]))
            case 1:  # twice
                yield NewEntry(stamp, fields)
                yield NewEntry(stamp, fields)
            case 2:  # from a clock that is ahead
                stamp += rng.choice((1, 30, 3_000, _TEN_YEARS_SECONDS))
                yield NewEntry(stamp, fields | {"request_timestamp": stamp})
            case 3:
                yield NewEntry(stamp, fields | {"ttl": rng.choice((0, None, 0.5, -1, "soon"))}, raw_ttl=True)
            case 4:
                yield NewEntry(stamp, row=_odd_row(rng, fields, fields[self._id]))
            case 5:
                stamp_text = json.dumps(rng.choice((None, str(stamp), True, [stamp], stamp + 0.5, -1, 10**15)))
                row = json.dumps(fields | {"request_timestamp": 0}).replace(
                    '_timestamp": 0', f'_timestamp": {stamp_text}'
                )
                yield NewEntry(stamp, row=row.encode())
            case _:
                changes = rng.choice(self._odd_fields())(fields[self._id])
                odd = {name: value for name, value in (fields | changes).items() if value is not _MISSING}
                # Where there is none, Kong's filters know none either.
                yield NewEntry(odd["request_timestamp"] or 0, odd)

    def _same_id(self, id_: str, unique: str) -> dict[str, Any]:
        return {"request_id": id_, "path": unique}

    def _oversize(self) -> Sequence[Callable[[], dict[str, Any]]]:
        return _OVERSIZE

    def _odd_fields(self) -> Sequence[Callable[[str], dict[str, Any]]]:
        return _ODD_FIELDS


class ObjectMaker(EntryMaker):
    """The same of changed objects; of some of them Kong shows no request."""

    _id = "id"

    def _ordinary(
        self, count: int, *, seed: int, first: int, last: int
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
        rng = random.Random(seed)
        requests = make_entries(count, seed=seed, first_timestamp=first, last_timestamp=last)
        writing = (one | {"method": "PATCH", "status": 200, "path": "/plugins"} for one in requests)
        causes: dict[str, dict[str, Any] | None] = {}

        def noted() -> Iterator[dict[str, Any]]:
            for request in writing:
                causes[request["request_id"]] = request if rng.random() < 0.8 else None
                yield request

        for fields in make_objects(noted(), seed=seed):
            fields["entity"] = json.dumps({"mark": PAYLOAD_MARK} | json.loads(fields["entity"]))
            yield fields, causes[fields["request_id"]]

    def _same_id(self, id_: str, unique: str) -> dict[str, Any]:
        return {"id": id_, "entity_key": unique}

    def _oversize(self) -> Sequence[Callable[[], dict[str, Any]]]:
        return _OVERSIZE_OBJECTS

    def _odd_fields(self) -> Sequence[Callable[[str], dict[str, Any]]]:
        return _ODD_FIELDS_OF_OBJECTS


_MISSING = object()

_ODD_FIELDS: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda unique: {"request_id": _MISSING, "path": f"/{unique}"},
    lambda unique: {"request_id": "", "path": f"/{unique}"},
    lambda unique: {"request_id": "  ", "path": f"/{unique}"},
    lambda unique: {"request_id": None, "path": f"/{unique}"},
    lambda unique: {"request_id": int(unique, 16), "path": f"/{unique}"},
    lambda unique: {"request_id": f"größe / {unique}"},
    lambda unique: {"request_id": unique * 40},
    lambda unique: {"request_id": f"\ud800{unique}"},
    lambda _: {"method": None},
    lambda _: {"path": None},
    lambda _: {"path": _MISSING, "method": _MISSING},
    lambda _: {"path": ["/a"], "method": 7},
    lambda _: {"path": ""},
    lambda _: {"path": "///?a=b?c=d"},
    lambda _: {"payload": "null"},
    lambda _: {"payload": '{"name":"a\ud800b"}'},
    lambda _: {"payload": '{"a":1,"a":2}'},
    lambda _: {"payload": '{"a":9007199254740993,"b":0.1,"c":1e400}'},
    lambda _: {"payload": {"a": [1, 2.5, None]}},
    lambda _: {"payload": "[" * 300 + "]" * 300},
    lambda _: {"client_ip": "unix:"},
    lambda _: {"client_ip": 5},
    lambda _: {"rbac_user_id": {"id": 1}, "rbac_user_name": ["a"]},
    lambda _: {"rbac_user_id": "", "workspace": 2**70},
    lambda _: {"status": "200", "signature": "a" * 300},
    lambda _: {"status": 2**63, "hostname": "of the entry itself"},
    lambda _: {"": {"": []}, "UID": "x", "shortened": True, "__proto__": {"a": 1}},
    lambda _: {"nested": json.loads('{"a":' * 150 + "1" + "}" * 150)},
)


_ODD_FIELDS_OF_OBJECTS: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda unique: {"id": _MISSING, "entity_key": unique},
    lambda unique: {"id": "", "entity_key": unique},
    lambda unique: {"id": " " * 32, "entity_key": unique},
    lambda unique: {"id": None, "entity_key": unique},
    lambda unique: {"id": uuid.UUID(unique).int, "entity_key": unique},
    lambda unique: {"id": f"größe / {unique}"},
    lambda unique: {"id": unique * 40},
    lambda unique: {"id": f"\ud800{unique}"},
    lambda _: {"request_id": " " * 32},
    lambda _: {"request_id": ""},
    lambda _: {"request_id": None},
    lambda _: {"request_id": _MISSING},
    lambda _: {"request_id": 7},
    lambda _: {"request_id": ["a"]},
    lambda _: {"request_timestamp": None},
    lambda _: {"request_timestamp": None, "request_id": None},
    lambda _: {"request_timestamp": None, "operation": "delete", "entity": None},
    lambda _: {"operation": None},
    lambda _: {"operation": _MISSING, "dao_name": _MISSING},
    lambda _: {"operation": ["create"], "dao_name": 7},
    lambda _: {"operation": "delete", "entity": None},
    lambda _: {"operation": "delete", "entity": _MISSING, "entity_key": _MISSING},
    lambda _: {"entity": ""},
    lambda _: {"entity": '{"name":'},
    lambda _: {"entity": '{"a":1,"a":2}'},
    lambda _: {"entity": '{"a":9007199254740993,"b":0.1,"c":1e400}'},
    lambda _: {"entity": '{"name":"a\ud800b"}'},
    lambda _: {"entity": {"a": [1, 2.5, None]}},
    lambda _: {"entity": "[" * 300 + "]" * 300},
    lambda _: {"entity": "null", "entity_key": {"id": 1}},
    lambda _: {"entity_key": 5},
    lambda _: {"entity_key": ["a", None]},
    lambda _: {"rbac_user_id": None},
    lambda _: {"rbac_user_id": {"id": 1}},
    lambda _: {"workspace": "of the entry itself", "hostname": 1, "client_ip": "unix:", "eventTimeSource": "x"},
    lambda _: {"": {"": []}, "UID": "x", "shortened": True, "__proto__": {"a": 1}},
)


def _odd_row(rng: random.Random, fields: dict[str, Any], unique: str) -> bytes:
    fields = fields | {"path": "/odd"}
    whole = json.dumps(fields).encode()
    return rng.choice(
        (
            json.dumps(unique).encode(),
            str(uuid.UUID(unique).int).encode(),
            f'["{unique}"]'.encode(),
            f'{{"{unique}":null}}'.encode(),
            whole.replace(b'"/odd"', b'"/odd\xff\xfe"'),
            whole.replace(b'"/odd"', b'"/odd","number":1e400,"other":0.12345678901234567890'),
            whole.replace(b'"/odd"', b'"/odd","digits":' + b"9" * 5000),
        )
    )


_OVERSIZE: tuple[Callable[[], dict[str, Any]], ...] = (
    lambda: {"payload": json.dumps({"mark": PAYLOAD_MARK, "key": "k" * 120_000})},
    lambda: {"payload": '"\\' * 60_000},
    lambda: {"payload": json.dumps({"ü": "ü" * 600_000}, ensure_ascii=False)},
    lambda: {"payload": "p" * 4_000_000},
    lambda: {"path": "/big?" + "q" * 150_000},
    lambda: {"path": "/" + "p" * 5_000},
    lambda: {"rbac_user_id": "u" * 3_000, "rbac_user_name": "n" * 40_000},
    lambda: {"signature": "s" * 30_000},
    lambda: {f"field-{index}": "f" * 90 for index in range(400)},
)

_OVERSIZE_OBJECTS: tuple[Callable[[], dict[str, Any]], ...] = (
    lambda: {"entity": json.dumps({"mark": PAYLOAD_MARK, "key": "k" * 120_000})},
    lambda: {"entity": '"\\' * 60_000},
    lambda: {"entity": json.dumps({"ü": "ü" * 600_000}, ensure_ascii=False)},
    lambda: {"entity": "p" * 4_000_000},
    lambda: {"entity_key": "k" * 150_000},
    lambda: {"dao_name": "d" * 5_000},
    lambda: {"rbac_user_id": "u" * 3_000},
    lambda: {"removed_from_entity": "s" * 30_000},
    lambda: {f"field-{index}": "f" * 90 for index in range(400)},
)
