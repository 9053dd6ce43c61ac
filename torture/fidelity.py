"""Whether nothing of an entry is missing where it was kept: in an event, in an original, or in quarantine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from kong_cloudtrail.domain.jsontext import decode_page
from kong_cloudtrail.sources.kong.entries import OBJECT, REQUEST, read_entry

from torture.entries import NewEntry
from torture.plan import StreamName


@dataclass(eq=False)
class Shown:
    """An entry that Kong shows, and what has become of it."""

    value: Any
    timestamp: int
    ttl_counts_down: bool
    call_id: str
    key: str
    recorded_at: int | None
    """When it says that it was made, Unix seconds; ``None`` if it says so in no form that can be understood."""
    is_plain: bool
    """Whether it can be delivered without the ledger, and gives CloudTrail no reason to refuse it."""
    first_run: int
    """The first run that began when it was visible."""
    cause: Mapping[str, Any] | None = None
    """Of a changed object: the request that changed it."""
    is_excluded: bool = False
    """Whether it is to be left out."""
    is_late: bool = False
    """Whether it became visible when what is as old was read already, and is not looked at but by sweeps."""
    chances: int = 0
    """Runs that had no excuse for not delivering it."""
    accepted: int = 0
    """How often the destination has it."""
    quarantined: bool = False

    @classmethod
    def read(
        cls,
        new: NewEntry,
        missing_fields: frozenset[str],
        first_run: int,
        excluded_methods: Collection[str] = (),
        stream: StreamName = "requests",
    ) -> Shown:
        """Take note of an entry, as a Kong without some fields shows it."""
        row = new.row
        if new.fields is not None:
            row = json.dumps({name: value for name, value in new.fields.items() if name not in missing_fields}).encode()
        entry = read_entry(decode_page(row), OBJECT if stream == "objects" else REQUEST)
        return cls(
            value=_parse_exactly(row),
            timestamp=0 if new.fields is not None and "request_timestamp" in missing_fields else new.timestamp,
            ttl_counts_down=new.fields is not None and not new.raw_ttl,
            call_id=entry.id,
            key=entry.key,
            recorded_at=entry.timestamp,
            is_plain=new.is_plain,
            first_run=first_run,
            cause=new.cause,
            is_excluded=(
                isinstance(entry.value, dict)
                and entry.timestamp is not None
                and entry.value.get("method") in [*excluded_methods]
            ),
        )

    @property
    def is_settled(self) -> bool:
        """Whether it is delivered or in quarantine."""
        return self.accepted > 0 or self.quarantined

    def __str__(self) -> str:
        fields = self.value if isinstance(self.value, dict) else {}
        id_ = str(fields.get("id", fields.get("request_id")))
        return f"entry {id_[:40]!r} of {str(self.timestamp)[:20]} ({self.key[:60]!r})"


def lost_fields(entry: Shown, event: dict[str, Any], read_original: Callable[[str], bytes | None]) -> Iterator[str]:
    """Yield what of an entry is neither in an event nor in the original that the event names.

    Parameters
    ----------
    entry
        The entry.
    event
        The event, parsed.
    read_original
        Returns what lies at a place that an event names; ``None`` if nothing does.
    """
    additional = event["additionalEventData"]
    if not isinstance(entry.value, dict):
        yield "all of it"
        return
    shortened = additional.get("shortened")
    if isinstance(shortened, dict) and "sha256" in shortened:
        body = read_original(shortened["original"])
        if body is None:
            yield "the original"
            return
        if hashlib.sha256(body).hexdigest() != shortened["sha256"] or len(body) != shortened["sizeBytes"]:
            yield "the original's size or hash"
        if not is_whole(entry, json.loads(body)):
            yield "something of the original"
        return
    for name, value in entry.value.items():
        if not _event_holds(event, additional, entry, name, value):
            yield name
    if entry.cause is not None and event.get("sourceIPAddress") not in (None, entry.cause["client_ip"]):
        yield "the request that caused it"


def _event_holds(event: dict[str, Any], additional: dict[str, Any], entry: Shown, name: str, value: Any) -> bool:
    if name == "ttl" and entry.ttl_counts_down:
        return isinstance(additional.get("ttl"), int)
    if name in additional:
        return _same(value, additional[name])
    parameters = event.get("requestParameters", {})
    match name:
        case "request_id" | "id":
            return _same(value, event["UID"]) or value is None
        case "entity_key":
            return _same(value, parameters.get("entity_key"))
        case "request_timestamp" if value is None:
            return additional.get("eventTimeSource") in ("request", "reading")
        case "request_timestamp":
            return _same(value, _unix_seconds(event["eventTime"]))
        case "client_ip":
            return _same(value, event.get("sourceIPAddress"))
        case "payload" | "entity":
            return _same_payload(value, parameters.get(name))
        case "rbac_user_id":
            return _names_user(event["userIdentity"], entry, value)
    return value is None


def _names_user(identity: dict[str, Any], entry: Shown, user_id: Any) -> bool:
    if user_id is not None:
        return _same(user_id, identity["principalId"])
    by_request = None if entry.cause is None else entry.cause["rbac_user_id"]
    return identity["type"] == "Anonymous" or (by_request is not None and identity["principalId"] == by_request)


def _unix_seconds(event_time: str) -> int:
    return int(datetime.fromisoformat(event_time.replace("Z", "+00:00")).timestamp())


def _same_payload(payload: Any, kept: Any) -> bool:
    if _same(payload, kept):
        return True
    if not isinstance(payload, str) or not isinstance(kept, dict | list):
        return False
    # As lists of pairs, so that a repeated key and the order of the keys count.
    in_order = json.JSONDecoder(object_pairs_hook=list, parse_float=Decimal)
    try:
        return bool(in_order.decode(payload) == in_order.decode(json.dumps(kept)))
    except ValueError:
        return False


def is_whole(entry: Shown, kept: Any) -> bool:
    """Tell whether a kept entry is the one that Kong showed, but for its falling TTL."""
    if entry.ttl_counts_down and isinstance(entry.value, dict) and isinstance(kept, dict):
        return _same(_without_ttl(entry.value), _without_ttl(kept))
    return _same(entry.value, kept)


def _without_ttl(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "ttl"}


def _same(shown: Any, kept: Any) -> bool:
    """Compare exactly: types, order of keys, and every digit; a number may be kept as the text that it was."""
    match shown:
        case Decimal():
            return not isinstance(kept, bool) and isinstance(kept, int | float | str) and _decimal(kept) == shown
        case dict():
            return (
                isinstance(kept, dict)
                and list(shown) == list(kept)
                and all(_same(value, kept[name]) for name, value in shown.items())
            )
        case list():
            return (
                isinstance(kept, list)
                and len(shown) == len(kept)
                and all(_same(one, other) for one, other in zip(shown, kept, strict=True))
            )
    return type(shown) is type(kept) and bool(shown == kept)


def _decimal(number: float | str) -> Decimal | None:
    try:
        return Decimal(number if isinstance(number, str) else repr(number))
    except InvalidOperation:
        return None


def _parse_exactly(row: bytes) -> Any:
    return json.loads(row.decode("utf-8", "surrogateescape"), parse_float=Decimal, parse_int=_integer)


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) < 4000 else Decimal(text)
