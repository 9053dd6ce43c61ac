"""One entry of Kong's audit log, as Kong showed it, and what tells it from all others."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeGuard

from .jsontext import encode

DEFAULT_RETENTION_SECONDS = 2_592_000
"""Kong's default for ``audit_log_record_ttl``, taken for entries that do not say when they expire."""

MAX_RETENTION_SECONDS = 10 * 365 * 86_400
"""Longer than anybody lets Kong keep entries: what says more is not believed."""

_MAX_TIMESTAMP_DIGITS = 12  # the year 9999 has 12

_legal_call_id = re.compile(r"[-_A-Za-z0-9]{1,128}").fullmatch  # pattern of auditEvents[].id in the service model

# What Kong writes once and never changes. `ttl` falls with every second, and unknown fields may do likewise.
_IDENTIFYING_FIELDS = (
    "request_timestamp",
    "method",
    "path",
    "status",
    "client_ip",
    "payload",
    "rbac_user_id",
    "workspace",
)

_identity = itemgetter(*_IDENTIFYING_FIELDS)


@dataclass(frozen=True, slots=True)
class Entry:
    """An element of ``data`` in Kong's answer.

    Parameters
    ----------
    value
        The parsed JSON, normally an object. Whatever Kong sends is an entry, however odd.
    call_id
        Names the entry in a PutAuditEvents call: its ``request_id`` where that is legal there, else a stable hash.
    key
        Names the entry in the seen set: `call_id` and a fingerprint of the content, so that a different entry under a
        ``request_id`` that was used before is a different entry.
    """

    value: Any
    call_id: str
    key: str

    @classmethod
    def read(cls, value: object) -> Entry:
        """Take an element of ``data`` as it stands; never fails."""
        if not isinstance(value, dict):
            # An object with a repeated key is an array of pairs.
            call_id = _hash(encode([pair for pair in value if pair[:1] != ("ttl",)] if _is_pairs(value) else value))
            return cls(value, call_id, call_id)
        try:
            identity = _identity(value)
        except KeyError:  # rare enough to be the exception, and asking for each field alone takes twice as long
            identity = tuple(value.get(name) for name in _IDENTIFYING_FIELDS)
        fingerprint = hashlib.blake2b(repr(identity).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        call_id = _call_id(value)
        return cls(value, call_id, f"{call_id}:{fingerprint}")

    @property
    def fields(self) -> dict[str, Any]:
        """The entry's fields; empty if it is not a JSON object."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def timestamp(self) -> int | None:
        """When the request was made, Unix seconds; ``None`` if the entry does not say so as a number."""
        return whole_seconds(self.fields.get("request_timestamp"))

    @property
    def remaining_seconds(self) -> int:
        """How long Kong will go on showing the entry."""
        ttl = self.fields.get("ttl")
        if isinstance(ttl, float) and math.isfinite(ttl):
            ttl = math.ceil(ttl)
        if isinstance(ttl, bool) or not isinstance(ttl, int):
            return DEFAULT_RETENTION_SECONDS
        return min(max(ttl, 0), MAX_RETENTION_SECONDS)

    def original(self) -> bytes:
        """Return the whole entry as JSON: what the ledger keeps when the event could not hold everything."""
        return encode(self.value).encode("ascii")


def whole_seconds(value: object) -> int | None:
    """Return Unix seconds without their fraction; ``None`` for anything but a finite number, or a text of one."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_TIMESTAMP_DIGITS:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return math.floor(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_pairs(value: object) -> TypeGuard[list[tuple[str, Any]]]:
    return isinstance(value, list) and all(isinstance(pair, tuple) for pair in value)


def _call_id(fields: dict[str, Any]) -> str:
    request_id = fields.get("request_id")
    if isinstance(request_id, str) and request_id.strip():
        return request_id if _legal_call_id(request_id) else _hash(request_id)
    # No id of its own (seen before Kong 3.4.0.0 as an empty string or blanks): the content has to do.
    return _hash(encode({name: value for name, value in fields.items() if name != "ttl"}))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
