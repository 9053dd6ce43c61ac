"""CloudTrail Lake as the destination: PutAuditEvents on a channel.

Sources: the service model of ``cloudtrail-data`` (API 2021-08-11) for the errors; the AWS general reference for the
quota of 100 calls per second and region, which is shared with everything else in the account.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    SSLError,
)

from ... import __version__
from ...domain.aws_codes import Meaning
from ...domain.event import Event
from ...domain.gateway import Gateway
from ...domain.trail import REQUESTS
from ...errors import BatchRefused, DestinationMisconfigured, DestinationUnavailable
from ...ports import Advice, Answer, Failure, Verdict
from .codes import advice_on, meaning_of
from .event import EventMapper
from .packer import Packer

if TYPE_CHECKING:
    from mypy_boto3_cloudtrail_data.client import CloudTrailDataServiceClient

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0

_STATUSES_OF_LOST_ANSWERS = frozenset({502, 504})
"""A proxy returns these if it forwarded the call and got no answer, or none that it understood."""


_VERDICTS = {
    Meaning.BAD_RECORD: Verdict.REFUSED,
    Meaning.DAMAGED: Verdict.DAMAGED,
    Meaning.THROTTLING: Verdict.THROTTLED,
    Meaning.OUTAGE: Verdict.OUTAGE,
}


class CloudTrailLake:
    """Delivers entries to one channel. Safe to use from several threads.

    Parameters
    ----------
    channel_arn
        The channel.
    region, account_id
        Region and account of the channel.
    external_id
        Sent with each call, if the channel's policy requires it.
    stream
        The stream of the trail.
    map_status_to_error_code
        As in `EventMapper`.
    locate_original
        As in `EventMapper`.
    connections
        Connections to keep open: as many as there are parallel deliveries.
    connect_seconds, answer_seconds
        How long to wait for a connection, and for each part of an answer.
    """

    def __init__(
        self,
        channel_arn: str,
        region: str,
        account_id: str,
        *,
        stream: str = REQUESTS,
        external_id: str | None,
        map_status_to_error_code: bool,
        locate_original: Callable[[str, str], str],
        connections: int,
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._account_id = account_id
        self._stream = stream
        self._map_status_to_error_code = map_status_to_error_code
        self._locate_original = locate_original
        self._channel = {"channelArn": channel_arn}
        if external_id is not None:
            self._channel["externalId"] = external_id
        self._client: CloudTrailDataServiceClient = boto3.client(
            "cloudtrail-data",
            region_name=region,
            config=Config(
                # One attempt per call: the delivery retries, as it knows the run's time and lock, and which entries to
                # send again.
                retries={"mode": "standard", "total_max_attempts": 1},
                connect_timeout=connect_seconds,
                read_timeout=answer_seconds,
                max_pool_connections=connections,
                # To validate a hundred entries, which are known to be valid, takes as long as to send them.
                parameter_validation=False,
                tcp_keepalive=True,
                # Identifies the caller in logs of calls. botocore would build its own for each call.
                user_agent=f"kong-cloudtrail/{__version__} Botocore/{botocore.__version__}",
            ),
        )

    advice = Advice(
        name="CloudTrail",
        if_down="Check the AWS Health Dashboard.",
        if_all_refused="Check CHANNEL_ARN and EXTERNAL_ID, and whether there is a proxy in between.",
        if_answers_get_lost="Check whether there is a proxy in between.",
        if_in_doubt="They may be delivered a second time, with the same UID.",
    )
    refuses_entries = True

    def mapper(self, gateway: Gateway) -> EventMapper:
        """Return a mapper for the entries of a gateway."""
        return EventMapper(
            gateway,
            self._account_id,
            self._locate_original,
            stream=self._stream,
            map_status_to_error_code=self._map_status_to_error_code,
        )

    def packer(self) -> Packer:
        """Return an empty packer."""
        return Packer()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def findings(self) -> None:
        """Return ``None``: CloudTrail Lake shows what it holds only to queries."""

    def deliver(self, events: Sequence[Event]) -> Answer:
        """Make one call of PutAuditEvents.

        Raises
        ------
        BatchRefused
            If the call was refused for its content.
        DestinationMisconfigured
            If no call can succeed until somebody changes something.
        DestinationUnavailable
            If the call may succeed later, or may have succeeded already: ``maybe_accepted``.
        """
        try:
            response = self._client.put_audit_events(
                **self._channel,
                auditEvents=[
                    {"id": event.id, "eventData": event.data, "eventDataChecksum": checksum(event.data)}
                    for event in events
                ],
            )
        except ClientError as error:
            raise _translate(error) from error
        except NoCredentialsError as error:
            raise DestinationMisconfigured(
                "There are no AWS credentials to call CloudTrail. Set them, for example with AWS_PROFILE."
            ) from error
        except BotoCoreError as error:
            raise _no_answer(error) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise _broken_answer() from error  # botocore fails on JSON that is not an object
        return read_answer(dict(response))


def checksum(data: str) -> str:
    """Return the base64 of the SHA-256 of an event's text, as the API reference defines ``eventDataChecksum``."""
    return base64.b64encode(hashlib.sha256(data.encode("ascii")).digest()).decode("ascii")


def _no_answer(error: BotoCoreError) -> DestinationUnavailable:
    code = type(error).__name__
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return DestinationUnavailable(
            code,
            f"CloudTrail's certificate is not trusted ({code}). Check whether there is a proxy in between, and "
            "AWS_CA_BUNDLE.",
        )
    # All other errors happen before anything is sent: no connection, no address, no credentials.
    if isinstance(error, HTTPClientError | SSLError):
        return DestinationUnavailable(
            code,
            f"CloudTrail's answer was lost ({code}), so it is not known what it accepted. Check the function's path to "
            "the internet: NAT, routes, and proxies in between.",
            maybe_accepted=True,
        )
    return DestinationUnavailable(
        code, f"CloudTrail could not be reached ({code}). Check the function's path to the internet: NAT, routes."
    )


def _broken_answer() -> DestinationUnavailable:
    return DestinationUnavailable(
        "BrokenAnswer",
        "CloudTrail's answer could not be read, so it is not known what it accepted. Check whether there is a proxy in "
        "between.",
        maybe_accepted=True,
    )


def read_answer(response: dict[str, Any]) -> Answer:
    """Read an answer. Entries that it does not name are not confirmed, whatever else is wrong with it."""
    successful = frozenset(entry["id"] for entry in _entries(response.get("successful")))
    failed = {
        entry["id"]: failure_of(_text(entry.get("errorCode")) or "unknown", _text(entry.get("errorMessage")))
        for entry in _entries(response.get("failed"))
    }
    if not successful and not failed:
        raise _broken_answer()
    misconfigured = (
        failure.code for failure in failed.values() if meaning_of(failure.code) is Meaning.MISCONFIGURATION
    )
    if (code := next(misconfigured, None)) is None:
        return Answer(successful, failed)
    return Answer(successful, failed, f"CloudTrail refuses every entry with {code}: {advice_on(code)}.")


def failure_of(code: str, message: str) -> Failure:
    """Return why an entry was not accepted, given its ``errorCode`` and ``errorMessage``."""
    return Failure(code, message, _VERDICTS.get(meaning_of(code), Verdict.UNKNOWN))


def _entries(value: object) -> Iterator[dict[str, Any]]:
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            yield entry


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _translate(error: ClientError) -> BatchRefused | DestinationMisconfigured | DestinationUnavailable:
    code = error.response.get("Error", {}).get("Code", "unknown")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    meaning = meaning_of(code)
    if meaning is Meaning.MISCONFIGURATION:
        return DestinationMisconfigured(f"CloudTrail refuses all events ({code}): {advice_on(code)}.")
    if meaning in (Meaning.BAD_CALL, Meaning.BAD_RECORD) or status == 413:
        return BatchRefused(code, "CloudTrail refused the call for its content.")
    # An unknown code may be temporary. If it is not, the run fails visibly and nothing is marked.
    return DestinationUnavailable(
        code,
        f"CloudTrail did not accept a batch ({code}, status {status}).",
        throttled=meaning is Meaning.THROTTLING or status == 429,
        maybe_accepted=meaning is Meaning.UNKNOWN and status in _STATUSES_OF_LOST_ANSWERS,
    )
