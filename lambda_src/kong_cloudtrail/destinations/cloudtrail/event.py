"""Events within the limits of CloudTrail Lake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...domain.composing import composer_of
from ...domain.entry import Entry
from ...domain.event import Event
from ...domain.gateway import Gateway
from ...domain.jsontext import encode
from ...domain.shortening import PartLimits, shorten
from ...domain.trail import REQUESTS
from .limits import (
    MAX_ADDITIONAL_EVENT_DATA_BYTES,
    MAX_CODE_CHARACTERS,
    MAX_REQUEST_PARAMETERS_BYTES,
    MAX_TEXT_CHARACTERS,
    MAX_USER_NAME_CHARACTERS,
)

_PARTS = PartLimits(
    text_characters=MAX_TEXT_CHARACTERS,
    user_name_characters=MAX_USER_NAME_CHARACTERS,
    request_parameters_bytes=MAX_REQUEST_PARAMETERS_BYTES,
    additional_event_data_bytes=MAX_ADDITIONAL_EVENT_DATA_BYTES,
)

_SURELY_FITS_BYTES = MAX_ADDITIONAL_EVENT_DATA_BYTES * 3 // 4
"""CloudTrail may write numbers in a longer form when it measures a part: ``1e+16`` for ``1e16``."""


class EventMapper:
    """Maps the entries of one gateway to events.

    Parameters
    ----------
    gateway
        Where the entries come from.
    recipient_account_id
        The account that owns the channel.
    locate_original
        Returns where the ledger will keep a whole entry, given its ``id`` and the SHA-256 in hexadecimal digits.
    stream
        The stream that the entries are of.
    map_status_to_error_code
        Whether a status of 400 and above becomes ``errorCode`` and ``errorMessage``.
    """

    def __init__(
        self,
        gateway: Gateway,
        recipient_account_id: str,
        locate_original: Callable[[str, str], str],
        *,
        stream: str = REQUESTS,
        map_status_to_error_code: bool = False,
    ) -> None:
        self._events = composer_of(
            stream,
            # The gateway's version is in every event, so it is cut here and not for each of them.
            replace(gateway, version=gateway.version[:MAX_CODE_CHARACTERS]),
            recipient_account_id,
            map_status_to_error_code=map_status_to_error_code,
        )
        self._locate_original = locate_original

    def map(self, entry: Entry) -> Event:
        """Return the event of an entry.

        Raises
        ------
        EntryNotMappable
            If a field that CloudTrail requires would have to be invented.
        """
        event = self._events.compose(entry)
        if "errorCode" in event:
            event["errorCode"] = event["errorCode"][:MAX_CODE_CHARACTERS]
        data = encode(event)
        # An event below the smallest limit of any part fits. This is true for nearly every entry.
        if len(data) <= MAX_TEXT_CHARACTERS or (len(data) <= _SURELY_FITS_BYTES and _texts_fit(event)):
            return Event(entry, data)
        shortened, original = shorten(event, entry, _PARTS, self._locate_original)
        return Event(entry, encode(shortened), original)


def _texts_fit(event: dict[str, Any]) -> bool:
    return (
        len(event["eventName"]) <= MAX_TEXT_CHARACTERS
        and len(event["UID"]) <= MAX_TEXT_CHARACTERS
        and len(event["userIdentity"]["principalId"]) <= MAX_TEXT_CHARACTERS
        and len(event["userIdentity"].get("details", {}).get("userName", "")) <= MAX_TEXT_CHARACTERS
    )
