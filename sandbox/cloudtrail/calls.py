"""What makes CloudTrail refuse a call as a whole: the channel, the signature, the call's size and form.

Source: the API reference and the service model of `cloudtrail-data`. Errors that the model does not name have the
names that AWS services use for them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from sandbox.machinery.aws_calls import CallError
from sandbox.machinery.http_server import Request

MAX_CALL_BYTES = 1_048_576
_MAX_EVENTS = 100
_ID = re.compile(r"[-_A-Za-z0-9]{1,128}")
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_ARN = re.compile(r"arn:aws[a-z-]*:cloudtrail:([a-z0-9-]+):(\d{12}):channel/[-0-9a-f]{36}", re.ASCII)
_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([^/]+)/cloudtrail-data/aws4_request")


class Channel:
    """The one channel that exists.

    Parameters
    ----------
    arn
        Of the channel.
    external_id
        What the channel's policy asks for, if anything.

    Raises
    ------
    ValueError
        If `arn` is not a channel's.
    """

    def __init__(self, arn: str, external_id: str | None) -> None:
        match = _ARN.fullmatch(arn)
        if match is None:
            raise ValueError(f"{arn!r} is not the ARN of a channel")
        self.arn = arn
        self.external_id = external_id
        self.region, self.account_id = match[1], match[2]


def read_call(request: Request, channel: Channel) -> list[dict[str, Any]]:
    """Return the entries of a call of PutAuditEvents, each with a legal `id` and an `eventData` string.

    Raises
    ------
    CallError
        If CloudTrail would refuse the call as a whole.
    """
    if (request.method, request.path) != ("POST", "/PutAuditEvents"):
        raise CallError("UnknownOperationException", "only PutAuditEvents is known here", 404)
    arguments = dict(request.query)
    _check_channel(channel, arguments.get("channelArn", ""), request.headers.get("authorization", ""))
    _check_external_id(channel, arguments.get("externalId"))
    if len(request.body) > MAX_CALL_BYTES:
        message = f"the call has {len(request.body)} bytes, more than {MAX_CALL_BYTES}"
        raise CallError("RequestEntityTooLargeException", message, 413)
    entries = _parse(request.body)
    for entry in entries:
        _check_entry(entry)
    doubles = [entry_id for entry_id, times in Counter(entry["id"] for entry in entries).items() if times > 1]
    if doubles:
        raise CallError("DuplicatedAuditEventId", f"the request has the id {doubles[0]} more than once")
    return entries


def _check_channel(channel: Channel, arn: str, authorization: str) -> None:
    if _ARN.fullmatch(arn) is None:
        raise CallError("InvalidChannelARN", "channelArn is not the ARN of a channel")
    scope = _SCOPE.search(authorization)
    if scope is None:
        raise CallError("MissingAuthenticationTokenException", "the call is not signed for cloudtrail-data", 403)
    # Every region has its own endpoint, and knows its own channels only: a call signed for another went to another.
    if arn != channel.arn or scope[1] != channel.region:
        raise CallError("ChannelNotFound", f"there is no such channel in {scope[1]}")


def _check_external_id(channel: Channel, external_id: str | None) -> None:
    if external_id is not None and _EXTERNAL_ID.fullmatch(external_id) is None:
        raise CallError("ValidationException", "externalId is not valid")
    if channel.external_id is not None and external_id != channel.external_id:
        raise CallError("ChannelInsufficientPermission", "the channel's policy does not allow this call")


def _parse(body: bytes) -> list[Any]:
    try:
        entries = json.loads(body)["auditEvents"]
        if b"\\ud" in body.lower():  # perhaps half a surrogate pair: no character, so no service can store it
            json.dumps(entries, ensure_ascii=False).encode()
    except (ValueError, TypeError, KeyError) as error:
        raise CallError("SerializationException", "the body is not a JSON object with auditEvents") from error
    if not isinstance(entries, list) or not 1 <= len(entries) <= _MAX_EVENTS:
        raise CallError("ValidationException", f"auditEvents must have 1 to {_MAX_EVENTS} members")
    return entries


def _check_entry(entry: Any) -> None:
    if not isinstance(entry, dict):
        raise CallError("SerializationException", "an entry is not an object")
    entry_id, checksum = entry.get("id"), entry.get("eventDataChecksum")
    if not isinstance(entry_id, str) or _ID.fullmatch(entry_id) is None:
        raise CallError("ValidationException", "an entry's id does not match ^[-_A-Za-z0-9]{1,128}$")
    if not isinstance(entry.get("eventData"), str) or not isinstance(checksum, str | None):
        raise CallError("ValidationException", "eventData and eventDataChecksum must be strings")
