"""Events within the limits of CloudWatch Logs, as for CloudTrail Lake or of OCSF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...domain.composing import composer_of
from ...domain.entry import Entry
from ...domain.event import Event, Original
from ...domain.gateway import Gateway
from ...domain.jsontext import encode, readable, with_valid_strings
from ...domain.ocsf import OcsfMapper
from ...domain.shortening import MARK, PartLimits, excerpt, mark_of, shorten
from .limits import MAX_MESSAGE_BYTES

_PARTS = PartLimits(
    text_characters=2_000,
    user_name_characters=2_000,
    request_parameters_bytes=700_000,
    additional_event_data_bytes=200_000,
)
"""What an event has at most once it is shortened. A character takes up to 12 bytes in ASCII, so the sum fits."""

_MAX_VERSION_CHARACTERS = 256

_MAX_DATA_BYTES = 500_000
_MAX_OCSF_TEXT_CHARACTERS = 2_000
"""What an event of OCSF has at most once it is shortened: for the body of a request or the object that was changed, and
for each other text."""

_BODIES = frozenset({"api.request.data", "resources.data"})


class EventMapper:
    """Maps the entries of one gateway to events as for CloudTrail Lake.

    What was in the request is the last field: Logs Insights finds 200 fields of an event, and those that tell who did
    what have to be among them, however many the request has.

    Parameters
    ----------
    gateway
        Where the entries come from.
    source, stream
        The names of the trail.
    recipient_account_id
        The account of the log group.
    locate_original
        Returns where the ledger will keep a whole entry, given its ``id`` and the SHA-256 in hexadecimal digits.
    map_status_to_error_code
        Whether a status of 400 and above becomes ``errorCode`` and ``errorMessage``.
    """

    def __init__(
        self,
        gateway: Gateway,
        source: str,
        stream: str,
        recipient_account_id: str,
        locate_original: Callable[[str, str], str],
        *,
        map_status_to_error_code: bool = False,
    ) -> None:
        self._events = composer_of(
            stream, gateway, recipient_account_id, map_status_to_error_code=map_status_to_error_code
        )
        self._locate_original = locate_original

    def map(self, entry: Entry) -> Event:
        """Return the event of an entry.

        Raises
        ------
        EntryNotMappable
            If a required field would have to be invented.
        """
        event = self._events.compose(entry)
        if (parameters := event.pop("requestParameters", None)) is not None:
            event["requestParameters"] = parameters
        data = encode(event)
        if len(data) <= MAX_MESSAGE_BYTES:
            return Event(entry, data)
        event["version"] = event["version"][:_MAX_VERSION_CHARACTERS]
        for name in ("errorCode", "errorMessage"):
            if name in event:
                event[name] = event[name][:_MAX_VERSION_CHARACTERS]
        shortened, original = shorten(event, entry, _PARTS, self._locate_original)
        return Event(entry, encode(shortened), original)


class OcsfEventMapper:
    """Maps the entries of one gateway to events of OCSF. There is one for every entry, however odd.

    The parameters are those of `EventMapper`.
    """

    def __init__(
        self,
        gateway: Gateway,
        source: str,
        stream: str,
        recipient_account_id: str,
        locate_original: Callable[[str, str], str],
        *,
        map_status_to_error_code: bool = False,
    ) -> None:
        self._events = OcsfMapper(
            gateway,
            source,
            stream,
            recipient_account_id=recipient_account_id,
            map_status_to_error_code=map_status_to_error_code,
        )
        self._locate_original = locate_original

    def map(self, entry: Entry) -> Event:
        """Return the event of an entry. Never raises `EntryNotMappable`."""
        event = self._events.compose(entry)
        data = encode(event)
        if len(data) <= MAX_MESSAGE_BYTES:
            data = readable(data, entry.value, end="}}")
        return Event(entry, data) if len(data) <= MAX_MESSAGE_BYTES else self._shortened(event, entry)

    def _shortened(self, event: dict[str, Any], entry: Entry) -> Event:
        """Return the event without the entry in it, and with the beginning of what else is long."""
        original = Original.of(entry)
        shortened = ["unmapped.entry"]
        result: dict[str, Any] = {
            name: _cut(value, name, shortened) for name, value in event.items() if name != "unmapped"
        }
        unmapped = {name: value for name, value in event["unmapped"].items() if name != "entry"}
        result["unmapped"] = _cut(unmapped, "unmapped", shortened)
        result["unmapped"][MARK] = mark_of(original, shortened, self._locate_original)
        return Event(entry, with_valid_strings(encode(result)), original)


def _cut(value: Any, path: str, shortened: list[str]) -> Any:
    """Return a part of an event without what is too long in it, and add the names of these fields."""
    if path in _BODIES:
        if len(encode(value)) <= _MAX_DATA_BYTES:
            return value
        shortened.append(path)
        return excerpt(value, _MAX_DATA_BYTES)
    if isinstance(value, dict):
        return {name: _cut(child, f"{path}.{name}", shortened) for name, child in value.items()}
    if isinstance(value, list):
        return [_cut(child, path, shortened) for child in value]
    if isinstance(value, str) and len(value) > _MAX_OCSF_TEXT_CHARACTERS:
        shortened.append(path)
        return value[:_MAX_OCSF_TEXT_CHARACTERS]
    return value
