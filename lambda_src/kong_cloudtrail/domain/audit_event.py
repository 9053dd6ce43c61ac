"""How the entry of a request becomes an audit event, in the form that CloudTrail defines, before any limits.

docs/field-mapping.md has the rules. A field that it does not name goes to ``additionalEventData`` under its own name:
no field of an entry is ever left out.
"""

from __future__ import annotations

import http
import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ..errors import EntryNotMappable
from .entry import Entry
from .gateway import Gateway
from .jsontext import decode_container, encode
from .moment import utc

EVENT_SOURCE = "kong-gateway"
"""The value that CloudTrail expects on a channel whose source is Kong Gateway."""

ANONYMOUS = {
    "type": "Anonymous",
    "principalId": "anonymous",
    "details": {"RBAC": "Anonymous User on Kong Gateway: Please Enable RBAC on Kong Gateway"},
}


class AuditEvents:
    """Composes events from the entries of requests to one gateway. Nothing is shortened.

    Parameters
    ----------
    gateway
        Where the entries come from.
    recipient_account_id
        The AWS account that keeps the events; ``None`` if there is none.
    map_status_to_error_code
        Whether a status of 400 and above becomes ``errorCode`` and ``errorMessage``.
    """

    def __init__(
        self, gateway: Gateway, recipient_account_id: str | None, *, map_status_to_error_code: bool = False
    ) -> None:
        self._gateway = gateway
        self._recipient = {} if recipient_account_id is None else {"recipientAccountId": recipient_account_id}
        self._map_status_to_error_code = map_status_to_error_code

    def compose(self, entry: Entry) -> dict[str, Any]:
        """Return the event of an entry.

        Raises
        ------
        EntryNotMappable
            If a field that an event requires would have to be invented.
        """
        if not isinstance(entry.value, dict):
            raise EntryNotMappable("the entry is not a JSON object")
        fields = entry.value
        # Begins with what only the gateway knows; a field of the entry with the same name overrides it.
        additional: dict[str, Any] = {"hostname": self._gateway.hostname}
        for name, value in fields.items():
            if value is not None:
                if name not in _PLACED_ELSEWHERE:
                    additional[name] = value
            elif name == "signature":
                additional[name] = None

        event: dict[str, Any] = {
            "version": self._gateway.version,
            "userIdentity": user_identity(fields, additional),
            "eventSource": EVENT_SOURCE,
            "eventName": _event_name(fields),
            "eventTime": _event_time(entry, additional),
            "UID": _uid(entry, additional),
            **self._recipient,
        }
        if request_parameters := _request_parameters(fields):
            event["requestParameters"] = request_parameters
        if (address := _source_ip_address(fields, additional)) is not None:
            event["sourceIPAddress"] = address
        if self._map_status_to_error_code:
            event.update(_error(fields.get("status")))
        event["additionalEventData"] = additional
        return event


_PLACED_ELSEWHERE = frozenset({"request_id", "request_timestamp", "client_ip", "payload", "rbac_user_id"})


def user_identity(fields: Mapping[str, Any], additional: dict[str, Any]) -> dict[str, Any]:
    """Return the caller of ``rbac_user_id`` and ``rbac_user_name``; what is no id goes to `additional` as well."""
    user_id = fields.get("rbac_user_id")
    if user_id is None:
        return ANONYMOUS
    if not isinstance(user_id, str) or not user_id:
        additional["rbac_user_id"] = user_id
        if user_id == "":
            return ANONYMOUS
        user_id = encode(user_id)
    identity: dict[str, Any] = {"type": "RBACUser", "principalId": user_id}
    user_name = fields.get("rbac_user_name")
    if isinstance(user_name, str) and user_name:
        identity["details"] = {"userName": user_name}
    return identity


def _event_name(fields: dict[str, Any]) -> str:
    method, path = fields.get("method"), fields.get("path")
    name = method if isinstance(method, str) else ""
    if isinstance(path, str):
        name += path.partition("?")[0].rstrip("/") or "/"
    if not name:
        raise EntryNotMappable("the entry has neither a method nor a path, so the event has no name")
    return name


def _event_time(entry: Entry, additional: dict[str, Any]) -> str:
    stamp = entry.value.get("request_timestamp")
    seconds = entry.timestamp
    if seconds is None:
        raise EntryNotMappable("request_timestamp is not a point in time between 1970 and 9999 in Unix seconds")
    if type(stamp) is not int:
        additional["request_timestamp"] = stamp
    return utc(seconds)


def uid_of(entry: Entry) -> str:
    """Return the ``UID`` of an entry's event: the request id, if it has one, as the entry says it."""
    request_id = entry.value.get("request_id") if isinstance(entry.value, dict) else None
    return request_id if isinstance(request_id, str) and request_id.strip() else entry.id


def _uid(entry: Entry, additional: dict[str, Any]) -> str:
    request_id, uid = entry.value.get("request_id"), uid_of(entry)
    if request_id is not None and uid != request_id:
        additional["request_id"] = request_id
    return uid


def _request_parameters(fields: dict[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    path = fields.get("path")
    if isinstance(path, str) and (query := path.partition("?")[2]):
        parameters["queryParameters"] = query
    payload = fields.get("payload")
    if payload is not None:
        container = decode_container(payload) if isinstance(payload, str) else None
        parameters["payload"] = payload if container is None else container
    return parameters


def _source_ip_address(fields: dict[str, Any], additional: dict[str, Any]) -> str | None:
    client_ip = fields.get("client_ip")
    if client_ip is None:
        return None
    if isinstance(client_ip, str) and is_address(client_ip):
        return client_ip
    additional["client_ip"] = client_ip
    return None


@lru_cache(maxsize=1024)
def is_address(text: str) -> bool:
    """Return whether a text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # Python accepts a zone index, but it is not part of an address on the wire


def _error(status: object) -> dict[str, str]:
    if isinstance(status, bool) or not isinstance(status, int) or status < 400:
        return {}
    try:
        reason = http.HTTPStatus(status).phrase
    except ValueError:
        return {"errorCode": str(status)}
    return {"errorCode": str(status), "errorMessage": reason}
