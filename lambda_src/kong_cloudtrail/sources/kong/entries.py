"""Entries as Kong writes them, and what identifies them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any, TypeGuard

from ...domain.entry import MAX_RETENTION_SECONDS, Entry, whole_seconds
from ...domain.jsontext import canonical

DEFAULT_RETENTION_SECONDS = 2_592_000
"""Kong's default for ``audit_log_record_ttl``, used for entries that do not say when they expire."""

_legal_id = re.compile(r"[-_A-Za-z0-9]{1,128}").fullmatch


class Shape:
    """What identifies the entries of a stream.

    Parameters
    ----------
    id_field
        The primary key.
    identifying_fields
        Fields that Kong never changes, the request time first. `ttl` decreases every second, and unknown fields may
        change as well.
    may_lack_time
        Whether there are releases that record no request time.
    """

    def __init__(self, id_field: str, *identifying_fields: str, may_lack_time: bool = False) -> None:
        self.id_field = id_field
        self.may_lack_time = may_lack_time
        self.identifying_fields = identifying_fields
        self.identity: Callable[[Any], tuple[Any, ...]] = itemgetter(*identifying_fields)


REQUEST = Shape(
    "request_id",
    "request_timestamp",
    "method",
    "path",
    "status",
    "client_ip",
    "payload",
    "rbac_user_id",
    "workspace",
)
"""An entry of ``/audit/requests``."""

OBJECT = Shape(
    "id",
    "request_timestamp",
    "request_id",
    "dao_name",
    "operation",
    "entity",
    "entity_key",
    "rbac_user_id",
    may_lack_time=True,
)
"""An entry of ``/audit/objects``."""


def read_entry(value: object, shape: Shape = REQUEST) -> Entry:
    """Return the entry of an element of ``data`` in Kong's answer. Never fails.

    Parameters
    ----------
    value
        The element, parsed.
    shape
        What identifies it.

    Returns
    -------
    Entry
        Its ``id`` is Kong's own, if that is a legal id, otherwise a stable hash.
    """
    if not isinstance(value, dict):
        # An object with a repeated key is an array of pairs.
        id_ = _hash(canonical([pair for pair in value if pair[:1] != ("ttl",)] if _is_pairs(value) else value))
        return Entry(value, id_, id_, None, DEFAULT_RETENTION_SECONDS)
    try:
        identity = shape.identity(value)
    except KeyError:  # rare for requests; looking up each field separately takes twice as long
        identity = tuple(value.get(name) for name in shape.identifying_fields)
    fingerprint = hashlib.blake2b(repr(identity).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    id_ = _id(value, shape.id_field)
    return Entry(value, id_, f"{id_}:{fingerprint}", whole_seconds(identity[0]), _remaining_seconds(value.get("ttl")))


def read_entries(values: Iterable[object], shape: Shape = REQUEST) -> list[Entry]:
    """Return the entries of all elements of an answer; see `read_entry`."""
    return [read_entry(value, shape) for value in values]


def _remaining_seconds(ttl: object) -> int:
    if type(ttl) is int and 0 <= ttl <= MAX_RETENTION_SECONDS:  # nearly always
        return ttl
    if isinstance(ttl, float) and math.isfinite(ttl):
        ttl = math.ceil(ttl)
    if isinstance(ttl, bool) or not isinstance(ttl, int):
        return DEFAULT_RETENTION_SECONDS
    return min(max(ttl, 0), MAX_RETENTION_SECONDS)


def _is_pairs(value: object) -> TypeGuard[list[tuple[str, Any]]]:
    return isinstance(value, list) and all(isinstance(pair, tuple) for pair in value)


def _id(fields: dict[str, Any], id_field: str) -> str:
    own_id = fields.get(id_field)
    if isinstance(own_id, str) and own_id.strip():
        return own_id if _legal_id(own_id) else _hash(own_id)
    # No id: use a hash of the content.
    return _hash(canonical({name: value for name, value in fields.items() if name != "ttl"}))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
