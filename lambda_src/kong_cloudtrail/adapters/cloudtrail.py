"""CloudTrail Lake as the destination: PutAuditEvents on a channel.

Sources: the service model of ``cloudtrail-data`` (API 2021-08-11) for the errors; the AWS general reference for the
quota of 100 calls a second and region, which is shared with everything else in the account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from .. import __version__
from ..domain.event import Event
from ..errors import BatchRefused, DestinationMisconfigured, DestinationUnavailable
from ..ports import Answer, Failure

if TYPE_CHECKING:
    from mypy_boto3_cloudtrail_data.client import CloudTrailDataServiceClient

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 15

_THROTTLING_CODES = frozenset(
    {"Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "RequestLimitExceeded"}
)
_CONTENT_CODES = frozenset(
    {
        "DuplicatedAuditEventId",
        "InvalidParameterException",
        "RequestEntityTooLarge",
        "RequestEntityTooLargeException",
        "SerializationException",
        "ValidationException",
        "413",
    }
)
_MISCONFIGURATION_ADVICE = {
    "ChannelNotFound": "there is no such channel in this region: correct CHANNEL_ARN, or create the channel",
    "InvalidChannelARN": "CHANNEL_ARN is not the ARN of a channel: write it as CloudTrail shows it",
    "ChannelInsufficientPermission": (
        "the channel does not allow this account or role: check its resource policy, and EXTERNAL_ID if the policy "
        "asks for one"
    ),
    "ChannelUnsupportedSchema": "the channel does not take events of this kind: use a channel for activity audit logs",
    "UnsupportedOperationException": "this region or account has no CloudTrail Lake channels",
    "AccessDeniedException": "the role may not call cloudtrail-data:PutAuditEvents on the channel: allow it",
    "UnrecognizedClientException": "the AWS credentials are not valid",
    "InvalidSignatureException": "the AWS credentials are not valid, or the clock is wrong",
    "ExpiredTokenException": "the AWS credentials have expired",
}
"""Codes of whole calls that will not go away by themselves, each with what to change."""


class CloudTrailDestination:
    """Delivers batches to one channel. Safe to use from several threads.

    Parameters
    ----------
    channel_arn
        The channel.
    region
        Region of the channel.
    external_id
        Sent with each call if the channel's policy asks for it.
    connections
        Connections kept open: as many as deliveries at once.
    """

    def __init__(self, channel_arn: str, region: str, *, external_id: str | None, connections: int) -> None:
        self._channel = {"channelArn": channel_arn}
        if external_id is not None:
            self._channel["externalId"] = external_id
        self._client: CloudTrailDataServiceClient = boto3.client(
            "cloudtrail-data",
            region_name=region,
            config=Config(
                # One attempt a call: the delivery repeats, as it knows the run's time, its lock, and which entries of
                # a call to send again.
                retries={"mode": "standard", "total_max_attempts": 1},
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=READ_TIMEOUT_SECONDS,
                max_pool_connections=connections,
                # Walking through a hundred entries that were made to fit costs as much as sending them.
                parameter_validation=False,
                tcp_keepalive=True,
                # Whom a log of calls shows. botocore's own is put together anew for each call.
                user_agent=f"kong-cloudtrail/{__version__} Botocore/{botocore.__version__}",
            ),
        )

    def deliver(self, events: Sequence[Event]) -> Answer:
        """Make one call of PutAuditEvents.

        Raises
        ------
        BatchRefused
            If the call was refused for what it held.
        DestinationMisconfigured
            If no call can succeed until somebody changes something.
        DestinationUnavailable
            If it may succeed later.
        """
        try:
            response = self._client.put_audit_events(
                **self._channel,
                auditEvents=[
                    {"id": event.id, "eventData": event.data, "eventDataChecksum": event.checksum} for event in events
                ],
            )
        except ClientError as error:
            raise _translate(error) from error
        except NoCredentialsError as error:
            raise DestinationMisconfigured(
                "There are no AWS credentials to call CloudTrail with: give some, e.g. AWS_PROFILE."
            ) from error
        except BotoCoreError as error:
            code = type(error).__name__
            raise DestinationUnavailable(
                code,
                f"CloudTrail could not be reached ({code}). Check the function's way to the internet: NAT, routes.",
            ) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise _broken_answer() from error  # botocore stumbles over JSON that is not an object
        return _answer(dict(response))


def _broken_answer() -> DestinationUnavailable:
    return DestinationUnavailable(
        "BrokenAnswer",
        "CloudTrail's answer could not be read, so what it accepted is not known; it is sent again, with the same UID. "
        "Look for a proxy in between.",
    )


def _answer(response: dict[str, Any]) -> Answer:
    """Read an answer; what it does not name was not confirmed, whatever else is wrong with it."""
    if "successful" not in response and "failed" not in response:
        raise _broken_answer()  # what botocore makes of a body that is cut off or not JSON
    return Answer(
        frozenset(entry["id"] for entry in response.get("successful", []) if isinstance(entry.get("id"), str)),
        {
            entry["id"]: Failure(str(entry.get("errorCode", "unknown")), str(entry.get("errorMessage", "")))
            for entry in response.get("failed", [])
            if isinstance(entry.get("id"), str)
        },
    )


def _translate(error: ClientError) -> BatchRefused | DestinationMisconfigured | DestinationUnavailable:
    code = error.response.get("Error", {}).get("Code", "unknown")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _MISCONFIGURATION_ADVICE:
        return DestinationMisconfigured(
            f"CloudTrail refuses to take events ({code}): {_MISCONFIGURATION_ADVICE[code]}."
        )
    if code in _CONTENT_CODES or status == 413:
        return BatchRefused(code, "CloudTrail refused the call for its content.")
    # An unknown code may be passing. If it is not, the run fails visibly and nothing is marked.
    throttled = code in _THROTTLING_CODES or status == 429
    return DestinationUnavailable(
        code, f"CloudTrail did not take a batch ({code}, status {status}).", throttled=throttled
    )
