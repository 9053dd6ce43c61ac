"""How the entry of a changed object becomes an audit event, in the form that CloudTrail defines, before any limits.

Such an entry says little about who made the change. That is in the entry of the request that caused it, which the
source may have at hand (`Entry.context`). docs/field-mapping.md has the rules. As for requests, no field of an entry is
ever left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import EntryNotMappable
from .audit_event import EVENT_SOURCE, is_address, user_identity
from .entry import Context, Entry, whole_seconds
from .gateway import Gateway
from .jsontext import decode_container
from .moment import utc

TIME_SOURCE = "eventTimeSource"
"""Name of the field of ``additionalEventData`` that says where the time of an event is from, unless it is the entry's
own: ``request``, or ``reading``."""

_PLACED_ELSEWHERE = frozenset({"id", "request_timestamp", "entity", "entity_key", "rbac_user_id"})


class ObjectEvents:
    """Composes events from the entries of changed objects of one gateway. Nothing is shortened.

    Parameters
    ----------
    gateway
        Where the entries come from.
    recipient_account_id
        The AWS account that keeps the events; ``None`` if there is none.
    """

    def __init__(self, gateway: Gateway, recipient_account_id: str | None) -> None:
        self._gateway = gateway
        self._recipient = {} if recipient_account_id is None else {"recipientAccountId": recipient_account_id}

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
        request = _request_of(entry.context)
        seconds, time_source = time_of(entry)
        # Begins with what the entry does not say itself; a field of the entry with the same name overrides it.
        additional: dict[str, Any] = {"hostname": self._gateway.hostname}
        if request.get("workspace") is not None:
            additional["workspace"] = request["workspace"]
        if time_source is not None:
            additional[TIME_SOURCE] = time_source
        address = _source_ip_address(request, additional)
        additional |= {
            name: value
            for name, value in fields.items()
            if name not in _PLACED_ELSEWHERE and (value is not None or name == "signature")
        }
        stamp = fields.get("request_timestamp")
        if stamp is not None and (type(stamp) is not int or time_source is not None):
            additional["request_timestamp"] = stamp

        event: dict[str, Any] = {
            "version": self._gateway.version,
            "userIdentity": _user_identity(fields, request, additional),
            "eventSource": EVENT_SOURCE,
            "eventName": _event_name(fields),
            "eventTime": utc(seconds),
            "UID": _uid(entry, additional),
            **self._recipient,
        }
        if request_parameters := _request_parameters(fields):
            event["requestParameters"] = request_parameters
        if address is not None:
            event["sourceIPAddress"] = address
        event["additionalEventData"] = additional
        return event


def time_of(entry: Entry) -> tuple[int, str | None]:
    """Return when an object was changed, Unix seconds, and where that is from.

    Releases before 3.4.3.9, 3.5.0.5, 3.6.1.5 and 3.7.0.0 do not record the time. Then it is the time of the request, or
    else that of the reading. This is good enough to look at, and nothing else: the next reading may give another one.

    Returns
    -------
    tuple
        The second element is ``None`` if the entry says it itself; otherwise ``request`` or ``reading``.

    Raises
    ------
    EntryNotMappable
        If there is nothing to take it from.
    """
    if entry.timestamp is not None:
        return entry.timestamp, None
    if entry.context is None:
        raise EntryNotMappable("request_timestamp is not a point in time, and it is not known when the entry was read")
    seconds = whole_seconds(_request_of(entry.context).get("request_timestamp"))
    return (entry.context.read_at, "reading") if seconds is None else (seconds, "request")


def _request_of(context: Context | None) -> Mapping[str, Any]:
    return {} if context is None or context.request is None else context.request


def _user_identity(fields: Mapping[str, Any], request: Mapping[str, Any], additional: dict[str, Any]) -> dict[str, Any]:
    user_id, user_name = fields.get("rbac_user_id"), fields.get("rbac_user_name")
    if user_id is None:
        user_id = request.get("rbac_user_id")
    if user_name is None and user_id == request.get("rbac_user_id"):
        user_name = request.get("rbac_user_name")
    return user_identity({"rbac_user_id": user_id, "rbac_user_name": user_name}, additional)


def _event_name(fields: Mapping[str, Any]) -> str:
    parts = [fields.get("operation"), fields.get("dao_name")]
    name = "/".join(part for part in parts if isinstance(part, str) and part)
    if not name:
        raise EntryNotMappable("the entry has neither an operation nor a dao_name, so the event has no name")
    return name


def uid_of(entry: Entry) -> str:
    """Return the ``UID`` of an entry's event: its own id, if it has one, as the entry says it."""
    own_id = entry.value.get("id") if isinstance(entry.value, dict) else None
    return own_id if isinstance(own_id, str) and own_id.strip() else entry.id


def _uid(entry: Entry, additional: dict[str, Any]) -> str:
    own_id, uid = entry.value.get("id"), uid_of(entry)
    if own_id is not None and uid != own_id:
        additional["id"] = own_id
    return uid


def _request_parameters(fields: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {name: fields[name] for name in ("entity", "entity_key") if fields.get(name) is not None}
    entity = parameters.get("entity")
    if isinstance(entity, str) and (container := decode_container(entity)) is not None:
        parameters["entity"] = container
    return parameters


def _source_ip_address(request: Mapping[str, Any], additional: dict[str, Any]) -> str | None:
    client_ip = request.get("client_ip")
    if isinstance(client_ip, str) and is_address(client_ip):
        return client_ip
    if client_ip is not None:
        additional["client_ip"] = client_ip
    return None
