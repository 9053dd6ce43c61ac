"""How an entry becomes an OCSF event: class API Activity (6003) of OCSF 1.3.0. docs/field-mapping.md has the rules.

A line is such an event and nothing else: OCSF has no place for fields of others beside its own. So what the archive
needs itself is where OCSF has room for it. The key is ``metadata.uid``, and the rest is in ``unmapped``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from ..errors import EntryNotMappable
from .audit_event import EVENT_SOURCE
from .composing import composer_of
from .entry import Entry
from .event import Event
from .gateway import Gateway
from .jsontext import encode, readable
from .object_event import TIME_SOURCE, time_of
from .trail import OBJECTS

OCSF_VERSION = "1.3.0"

SCHEMA_VERSION = 1
"""Changes when a field of a line changes its name, its meaning or what it is taken from."""

MAX_TEXT_CHARACTERS = 65_535
"""OCSF's limit of most texts."""

MAX_ADDRESS_CHARACTERS = 40
"""OCSF's limit of an IP address."""

_CLASS_UID = 6003
_CLASS_NAME = "API Activity"
_CLASS = {
    "class_uid": _CLASS_UID,
    "class_name": _CLASS_NAME,
    "category_uid": 6,
    "category_name": "Application Activity",
}
_SEVERITY = {"severity_id": 1, "severity": "Informational"}

_UNKNOWN = (0, "Unknown")
_OTHER = 99
_ACTIVITIES = {
    "POST": (1, "Create"),
    "GET": (2, "Read"),
    "HEAD": (2, "Read"),
    "OPTIONS": (2, "Read"),
    "PUT": (3, "Update"),
    "PATCH": (3, "Update"),
    "DELETE": (4, "Delete"),
}
_OPERATIONS = {"create": (1, "Create"), "update": (3, "Update"), "delete": (4, "Delete")}
# OCSF 1.3.0 does not know PATCH.
_METHODS = frozenset({"OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"})


class OcsfMapper:
    """Maps the entries of one gateway to OCSF events. There is a line for every entry, however odd.

    Parameters
    ----------
    gateway
        Where the entries come from.
    source, stream
        The names of the trail.
    recipient_account_id
        The AWS account of the archive; ``None`` if it is in none.
    map_status_to_error_code
        Whether a status of 400 and above becomes ``api.response.error`` and ``error_message``.
    """

    def __init__(
        self,
        gateway: Gateway,
        source: str,
        stream: str,
        *,
        recipient_account_id: str | None = None,
        map_status_to_error_code: bool = False,
    ) -> None:
        # The fields that both formats have are derived in one place, so that they cannot differ.
        self._events = composer_of(
            stream, gateway, recipient_account_id, map_status_to_error_code=map_status_to_error_code
        )
        self._describe = self._describe_object if stream == OBJECTS else self._describe_request
        self._product = {"name": "Kong Gateway", "vendor_name": "Kong", "version": _cut(gateway.version)}
        self._node = {"name": _cut(gateway.hostname)}
        self._names: dict[str, Any] = {"source": source, "stream": stream, "schemaVersion": SCHEMA_VERSION}
        if recipient_account_id is not None:
            self._names["recipientAccountId"] = recipient_account_id

    def map(self, entry: Entry) -> Event:
        """Return the event of an entry as a line, without a line break. Never raises `EntryNotMappable`."""
        return Event(entry, readable(encode(self.compose(entry)), entry.value, end="}}"))

    def compose(self, entry: Entry) -> dict[str, Any]:
        """Return the event of an entry. The last field of its last field is the entry itself.

        An entry that is no event has one all the same: everything in it is unknown but its time, if it has one, and the
        reason is in ``unmapped.notMappable``.
        """
        unmapped = dict(self._names)
        try:
            what_happened = self._describe(entry)
        except EntryNotMappable as reason:
            what_happened = _unknown()
            unmapped["notMappable"] = str(reason)
        unmapped |= what_happened.pop("unmapped", {})
        unmapped["entry"] = entry.value
        return {
            "metadata": self._metadata(entry) | what_happened.pop("metadata", {}),
            **_CLASS,
            "time": 0 if entry.timestamp is None else entry.timestamp * 1000,
            **_SEVERITY,
            **what_happened,
            "dst_endpoint": self._node,
            "unmapped": unmapped,
        }

    def _metadata(self, entry: Entry) -> dict[str, Any]:
        # The key comes first: the part log reads it without parsing the line.
        metadata: dict[str, Any] = {"uid": entry.key, "version": OCSF_VERSION, "product": self._product}
        stamp = entry.value.get("request_timestamp") if isinstance(entry.value, dict) else None
        if stamp is not None and type(stamp) is not int:
            metadata["original_time"] = _cut(stamp if isinstance(stamp, str) else encode(stamp))
        return metadata

    def _describe_request(self, entry: Entry) -> dict[str, Any]:
        event = self._events.compose(entry)
        fields: dict[str, Any] = entry.value
        method, path, status = fields.get("method"), fields.get("path"), _http_status(fields.get("status"))
        described = {
            **_activity(method),
            **_outcome(status),
            "actor": _actor(event["userIdentity"], fields.get("request_source")),
            "src_endpoint": _caller(event.get("sourceIPAddress"), fields.get("client_ip")),
            "api": _api(event, status),
        }
        if http_request := _http_request(method, path):
            described["http_request"] = http_request
        return described

    def _describe_object(self, entry: Entry) -> dict[str, Any]:
        event = self._events.compose(entry)
        fields: dict[str, Any] = entry.value
        additional = event["additionalEventData"]
        request_id = fields.get("request_id")
        caused_by = request_id if isinstance(request_id, str) and request_id.strip() else None
        described = {
            "time": time_of(entry)[0] * 1000,
            **_activity(fields.get("operation"), _OPERATIONS),
            "status_id": 1,  # Kong records changes that were made
            "status": "Success",
            "actor": _actor(event["userIdentity"], None),
            "src_endpoint": _caller(event.get("sourceIPAddress"), additional.get("client_ip")),
            "api": {
                "operation": _cut(event["eventName"]),
                "service": {"name": EVENT_SOURCE},
                "request": {"uid": _cut(event["UID"] if caused_by is None else caused_by)},
            },
            "unmapped": {name: additional[name] for name in ("workspace", TIME_SOURCE) if name in additional},
        }
        if resource := _resource(fields, event.get("requestParameters", {})):
            described["resources"] = [resource]
        if caused_by is not None:
            described["metadata"] = {"correlation_uid": _cut(caused_by)}
        return described


def _resource(fields: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the object that was changed; empty if the entry does not say which one, without which there is none."""
    key, kind = fields.get("entity_key"), fields.get("dao_name")
    if not isinstance(key, str) or not key:
        return {}
    resource: dict[str, Any] = {"uid": _cut(key)}
    if isinstance(kind, str) and kind:
        resource["type"] = _cut(kind)
    if "entity" in parameters:
        resource["data"] = parameters["entity"]
    return resource


def _cut(text: str) -> str:
    return text[:MAX_TEXT_CHARACTERS]


def _unknown() -> dict[str, Any]:
    return {
        **_activity(None),
        **_outcome(None),
        "actor": {"user": {"name": "Unknown", "type_id": 0, "type": "Unknown"}},
        "src_endpoint": {"svc_name": "unknown"},
        "api": {"operation": "Unknown", "service": {"name": EVENT_SOURCE}},
    }


def _activity(word: object, known: Mapping[str, tuple[int, str]] = _ACTIVITIES) -> dict[str, Any]:
    number, name = _UNKNOWN
    if isinstance(word, str) and word:
        number, name = known.get(word, (_OTHER, _cut(word)))
    return {
        "activity_id": number,
        "activity_name": name,
        "type_uid": _CLASS_UID * 100 + number,
        "type_name": f"{_CLASS_NAME}: {'Other' if number == _OTHER else name}",
    }


def _http_status(status: object) -> int | None:
    # Of another number nobody knows whether it means success, and it may not fit into a column of integers.
    return status if type(status) is int and 100 <= status <= 999 else None


def _outcome(status: int | None) -> dict[str, Any]:
    if status is None:
        number, name = _UNKNOWN
        return {"status_id": number, "status": name}
    number, name = (1, "Success") if status < 400 else (2, "Failure")
    return {"status_id": number, "status": name, "status_code": str(status)}


def _actor(identity: dict[str, Any], request_source: object) -> dict[str, Any]:
    user: dict[str, Any]
    if identity["type"] == "Anonymous":
        user = {"name": "Anonymous", "type_id": 0, "type": "Unknown"}
    else:
        user = {"uid": _cut(identity["principalId"])}
        if "details" in identity:
            user["name"] = _cut(identity["details"]["userName"])
        user |= {"type_id": 1, "type": "User"}
    actor: dict[str, Any] = {"user": user}
    if isinstance(request_source, str) and request_source:
        actor["app_name"] = _cut(request_source)
    return actor


def _caller(address: str | None, client_ip: object) -> dict[str, str]:
    if address is None:
        return {"svc_name": _cut(client_ip) if isinstance(client_ip, str) and client_ip else "unknown"}
    # Only an IPv6 address that nobody writes like that, zeros and all, is longer.
    return {"ip": address if len(address) <= MAX_ADDRESS_CHARACTERS else ipaddress.ip_address(address).compressed}


def _api(event: dict[str, Any], status: int | None) -> dict[str, Any]:
    request: dict[str, Any] = {"uid": _cut(event["UID"])}
    if "payload" in (parameters := event.get("requestParameters", {})):
        request["data"] = parameters["payload"]
    response: dict[str, Any] = {} if status is None else {"code": status}
    if "errorCode" in event:
        response["error"] = event["errorCode"]
    if "errorMessage" in event:
        response["error_message"] = event["errorMessage"]
    api = {"operation": _cut(event["eventName"]), "service": {"name": EVENT_SOURCE}, "request": request}
    return api | {"response": response} if response else api


def _http_request(method: object, path: object) -> dict[str, Any]:
    http_request: dict[str, Any] = {}
    if isinstance(method, str) and method in _METHODS:
        http_request["http_method"] = method
    if isinstance(path, str):
        before, _, query = path.partition("?")
        http_request["url"] = {"path": _cut(before)}
        if query:
            http_request["url"]["query_string"] = _cut(query)
    return http_request
