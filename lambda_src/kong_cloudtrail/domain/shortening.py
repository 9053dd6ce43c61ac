"""Shortening the events of entries that exceed the limits of a destination.

The event is still delivered, as valid JSON, with excerpts in place of values that are too long. It says which fields
are shortened, the size and SHA-256 of the whole entry, and where the ledger keeps it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .entry import Entry
from .event import Original
from .jsontext import canonical, encode

MARK = "shortened"
"""Name of the field of ``additionalEventData`` that says what was shortened."""

_MARK_RESERVE_BYTES = 4_000  # for MARK itself: at most _MAX_NAMED_FIELDS names, a hash and a location
_MAX_NAMED_FIELDS = 20
_MAX_FIELD_NAME_BYTES = 80
_SMALLEST_EXCERPT_BYTES = 64

# Dropped last, if there are too many fields for an excerpt of each.
_WELL_KNOWN = frozenset(
    {
        "dao_name",
        "eventTimeSource",
        "hostname",
        "method",
        "operation",
        "path",
        "rbac_user_name",
        "removed_from_entity",
        "removed_from_payload",
        "request_id",
        "request_source",
        "signature",
        "status",
        "ttl",
        "workspace",
    }
)


@dataclass(frozen=True, slots=True)
class PartLimits:
    """How large the parts of an event may be.

    Parameters
    ----------
    text_characters
        ``eventName``, ``UID`` and ``userIdentity.principalId``.
    user_name_characters
        ``userIdentity.details.userName``.
    request_parameters_bytes, additional_event_data_bytes
        The objects of these names, as JSON.
    """

    text_characters: int
    user_name_characters: int
    request_parameters_bytes: int
    additional_event_data_bytes: int


def shorten(
    event: dict[str, Any], entry: Entry, limits: PartLimits, locate_original: Callable[[str, str], str]
) -> tuple[dict[str, Any], Original | None]:
    """Shorten every part of an event that exceeds its limit.

    Parameters
    ----------
    event
        The whole event.
    entry
        The entry that it was mapped from.
    limits
        Of its parts.
    locate_original
        Returns where the ledger will keep a whole entry, given its ``id`` and the SHA-256 in hexadecimal digits.

    Returns
    -------
    tuple
        The shortened event, and the original to keep; or the unchanged event and ``None``, if it fits.
    """
    shortened: list[str] = []
    result = dict(event)
    for name in ("eventName", "UID"):
        if len(event[name]) > limits.text_characters:
            result[name] = event[name][: limits.text_characters]
            shortened.append(name)
    result["userIdentity"] = _shorten_identity(event["userIdentity"], limits, shortened)
    if "requestParameters" in event:
        result["requestParameters"] = _fit(
            event["requestParameters"], limits.request_parameters_bytes, "requestParameters", shortened
        )
    additional = event["additionalEventData"]
    if shortened or _size_bytes(additional) > limits.additional_event_data_bytes:
        limit_bytes = limits.additional_event_data_bytes - _MARK_RESERVE_BYTES
        additional = _fit(additional, limit_bytes, "additionalEventData", shortened)
    if not shortened:
        return event, None

    original = Original.of(entry)
    result["additionalEventData"] = additional | {MARK: mark_of(original, shortened, locate_original)}
    return result, original


def _size_bytes(value: object) -> int:
    """Return the size of a value as JSON, whichever of the usual forms its numbers are written in."""
    if isinstance(value, str):  # which has one form
        return len(canonical(value))
    return max(len(encode(value)), len(canonical(value)))


def mark_of(original: Original, shortened: Sequence[str], locate_original: Callable[[str, str], str]) -> dict[str, Any]:
    """Return what a shortened event says about its original: in less than 4,000 bytes, if its place has a usual length.

    Parameters
    ----------
    original
        The whole entry.
    shortened
        The names of the fields that are shortened.
    locate_original
        As in `shorten`.
    """
    return {
        "fields": [excerpt(name, _MAX_FIELD_NAME_BYTES) for name in shortened[:_MAX_NAMED_FIELDS]],
        "sizeBytes": len(original.body),
        "sha256": original.sha256,
        "original": locate_original(original.entry_id, original.sha256),
    }


def _shorten_identity(identity: dict[str, Any], limits: PartLimits, shortened: list[str]) -> dict[str, Any]:
    result = dict(identity)
    if len(identity["principalId"]) > limits.text_characters:
        result["principalId"] = identity["principalId"][: limits.text_characters]
        shortened.append("userIdentity.principalId")
    user_name = identity.get("details", {}).get("userName", "")
    if len(user_name) > limits.user_name_characters:
        result["details"] = {"userName": user_name[: limits.user_name_characters]}
        shortened.append("userIdentity.details.userName")
    return result


def _fit(fields: dict[str, Any], limit_bytes: int, parent: str, shortened: list[str]) -> dict[str, Any]:
    """Cut the longest values to one length, such that all fields fit. Shorter values are not changed."""
    if _size_bytes(fields) <= limit_bytes:
        return fields
    name_bytes = {name: _size_bytes(name) + len(":,") for name in fields}
    value_bytes = {name: _size_bytes(value) for name, value in fields.items()}

    def size_bytes(names: Iterable[str], level_bytes: int) -> int:
        return len("{}") + sum(name_bytes[name] + min(value_bytes[name], level_bytes) for name in names)

    kept = set(fields)
    excess_bytes = size_bytes(fields, _SMALLEST_EXCERPT_BYTES) - limit_bytes
    for name in sorted(fields, key=lambda name: (name not in _WELL_KNOWN, name_bytes[name]), reverse=True):
        if excess_bytes <= 0:
            break
        kept.remove(name)  # too many fields for an excerpt of each: only the original has the others
        excess_bytes -= size_bytes([name], _SMALLEST_EXCERPT_BYTES) - len("{}")
    levels = range(_SMALLEST_EXCERPT_BYTES, limit_bytes)
    level_bytes = levels[bisect_right(levels, limit_bytes, key=lambda level: size_bytes(kept, level)) - 1]
    shortened.extend(f"{parent}.{name}" for name in fields if name not in kept or value_bytes[name] > level_bytes)
    return {
        name: value if value_bytes[name] <= level_bytes else excerpt(value, level_bytes)
        for name, value in fields.items()
        if name in kept
    }


def excerpt(value: object, budget_bytes: int) -> str:
    """Return the beginning of a value's text that takes at most `budget_bytes` as a JSON string."""
    text = value if isinstance(value, str) else encode(value)
    characters = min(len(text), budget_bytes)
    while (size_bytes := _size_bytes(text[:characters])) > budget_bytes:
        characters = min(characters - 1, characters * budget_bytes // size_bytes)
    return text[:characters]
