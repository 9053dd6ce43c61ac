"""The documented limits and schema of an audit event, checked one event at a time.

Source: the CloudTrail user guide ("CloudTrail Lake integrations event schema") and the API reference of
PutAuditEvents. Where they leave room (what a kilobyte is, whether an empty required field counts as present) this
takes the stricter reading: what passes here is meant to pass there.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

MAX_EVENT_BYTES = 256_000
_MAX_OBJECT_BYTES = {"requestParameters": 100_000, "responseElements": 100_000, "additionalEventData": 28_000}
_MAX_STRING_LENGTH = {
    "version": 256,
    "userAgent": 1024,
    "eventSource": 1024,
    "eventName": 1024,
    "UID": 1024,
    "errorCode": 256,
    "errorMessage": 256,
}
_MAX_IDENTITY_LENGTH = {"type": 128, "principalId": 1024}
_REQUIRED = ("version", "userIdentity", "eventSource", "eventName", "eventTime", "UID", "recipientAccountId")
_KNOWN = {*_REQUIRED, *_MAX_STRING_LENGTH, *_MAX_OBJECT_BYTES, "sourceIPAddress"}
_EVENT_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ?", re.ASCII)


class InvalidEvent(Exception):
    """The event is refused, with one of CloudTrail's error codes for entries."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def check_checksum(event_data: str, checksum: str | None) -> None:
    """Refuse the event if its checksum, base64 of the SHA-256 of the UTF-8 text, is there and is another.

    Raises
    ------
    InvalidEvent
        `InvalidChecksum`.
    """
    if checksum is None:
        return
    actual = base64.b64encode(hashlib.sha256(event_data.encode()).digest()).decode()
    if checksum != actual:
        raise InvalidEvent("InvalidChecksum", "eventDataChecksum is not the base64 SHA-256 of eventData")


def check_event(event_data: str, *, account_id: str, event_source: str | None) -> str:
    """Check an event against the schema; return its `UID`.

    Parameters
    ----------
    event_data
        The JSON text of the event.
    account_id
        The account that owns the channel.
    event_source
        The only `eventSource` that the channel takes; None for any.

    Raises
    ------
    InvalidEvent
        `InvalidData`, `FieldNotFound`, `FieldTooLong`, `InvalidRecipient` or `InvalidEventSource`.
    """
    size = len(event_data) if event_data.isascii() else len(event_data.encode())
    if size > MAX_EVENT_BYTES:
        raise InvalidEvent("FieldTooLong", f"the event has {size} bytes, more than {MAX_EVENT_BYTES}")
    event = _parse(event_data)
    _check_names(event)
    _check_strings(event, _MAX_STRING_LENGTH, "")
    _check_identity(event["userIdentity"])
    _check_objects(event, size=size, ascii_text=event_data.isascii())
    _check_event_time(event["eventTime"])
    if "sourceIPAddress" in event:
        _check_address(event["sourceIPAddress"])
    if event["recipientAccountId"] != account_id:
        raise InvalidEvent("InvalidRecipient", "recipientAccountId is not the account that owns the channel")
    if event_source is not None and event["eventSource"] != event_source:
        raise InvalidEvent("InvalidEventSource", f"eventSource is not {event_source!r}")
    uid: str = event["UID"]
    return uid


def _parse(event_data: str) -> dict[str, Any]:
    try:
        event = json.loads(event_data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent("InvalidData", "eventData is not valid JSON") from error
    if not isinstance(event, dict):
        raise InvalidEvent("InvalidData", "eventData is not a JSON object")
    return event


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_names(event: Mapping[str, Any]) -> None:
    if missing := [name for name in _REQUIRED if event.get(name) in (None, "")]:
        raise InvalidEvent("FieldNotFound", f"{', '.join(missing)} is required")
    if unknown := event.keys() - _KNOWN:
        raise InvalidEvent("InvalidData", f"{', '.join(sorted(unknown))} is not part of the schema")


def _check_strings(fields: Mapping[str, Any], limits: Mapping[str, int], prefix: str) -> None:
    for name, limit in limits.items():
        if name not in fields:
            continue
        value = fields[name]
        if not isinstance(value, str):
            raise InvalidEvent("InvalidData", f"{prefix}{name} is not a string")
        if len(value) > limit:
            raise InvalidEvent("FieldTooLong", f"{prefix}{name} has {len(value)} characters, more than {limit}")


def _check_identity(identity: object) -> None:
    if not isinstance(identity, dict):
        raise InvalidEvent("InvalidData", "userIdentity is not an object")
    for name in _MAX_IDENTITY_LENGTH:
        if identity.get(name) in (None, ""):
            raise InvalidEvent("FieldNotFound", f"userIdentity.{name} is required")
    _check_strings(identity, _MAX_IDENTITY_LENGTH, "userIdentity.")
    if not isinstance(identity.get("details", {}), dict):
        raise InvalidEvent("InvalidData", "userIdentity.details is not an object")


def _check_objects(event: Mapping[str, Any], *, size: int, ascii_text: bool) -> None:
    for name, limit in _MAX_OBJECT_BYTES.items():
        if name not in event:
            continue
        if not isinstance(event[name], dict):
            raise InvalidEvent("InvalidData", f"{name} is not an object")
        if size <= limit:
            continue  # a part is no longer than the whole: most events need no second look
        text = json.dumps(event[name], separators=(",", ":"), ensure_ascii=ascii_text)
        length = len(text.encode("utf-8", "surrogatepass"))
        if length > limit:
            raise InvalidEvent("FieldTooLong", f"{name} has {length} bytes, more than {limit}")


def _check_event_time(value: object) -> None:
    if isinstance(value, str) and _EVENT_TIME.fullmatch(value):
        try:
            datetime.fromisoformat(value.rstrip("Z"))
        except ValueError:
            pass
        else:
            return
    raise InvalidEvent("InvalidData", "eventTime is not of the form yyyy-MM-DDTHH:mm:ss, UTC")


def _check_address(value: object) -> None:
    try:
        if not isinstance(value, str):
            raise ValueError
        ipaddress.ip_address(value)
    except ValueError:
        raise InvalidEvent("InvalidData", "sourceIPAddress is no IPv4 or IPv6 address") from None
