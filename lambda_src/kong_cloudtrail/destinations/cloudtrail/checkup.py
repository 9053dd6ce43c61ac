"""What a run needs of CloudTrail Lake, looked at piece by piece. Nothing is delivered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from ...domain.aws_codes import Meaning, is_denied
from ...domain.finding import Area, Finding
from ...domain.moment import utc
from ...domain.reaching import ReachCheck, Server
from . import NAME
from .codes import advice_on, meaning_of

AREA = Area(NAME)

SOURCES = ("KongGatewayEnterprise", "Custom")
"""Sources of a channel that take the event source ``kong-gateway``."""

_HARMLESS_STATUSES = ("ENABLED", "STARTING_INGESTION", "CREATED")
_DELIVERY = "only a delivery shows it"


def endpoint_check(region: str) -> ReachCheck:
    """Return the check of the connection to the service that takes events, which has no VPC endpoint."""
    url = urlsplit(str(boto3.client("cloudtrail-data", region_name=region).meta.endpoint_url))
    port = url.port or (443 if url.scheme == "https" else 80)
    route = "There is no VPC endpoint for this service: the subnets need a route to the internet, such as NAT."
    return ReachCheck(Server(AREA, url.hostname or "", port, "CHANNEL_ARN", route=route))


class ChannelCheckup:
    """Finds out whether a channel takes events.

    Parameters
    ----------
    channel_arn, region, account_id
        The channel.
    connect_seconds, answer_seconds
        How long to wait for a connection, and for each part of an answer.
    """

    area, name = AREA.name, "channel"

    def __init__(
        self, channel_arn: str, region: str, account_id: str, *, connect_seconds: float, answer_seconds: float
    ) -> None:
        self._arn = channel_arn
        self._region = region
        self._account_id = account_id
        self._client: Any = boto3.client(
            "cloudtrail",
            region_name=region,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 2},
                connect_timeout=connect_seconds,
                read_timeout=answer_seconds,
            ),
        )

    def run(self) -> Iterator[Finding]:
        """Yield what is found."""
        try:
            channel = self._client.get_channel(Channel=self._arn)
        except (ClientError, BotoCoreError) as error:
            yield self._failure("channel", "cloudtrail:GetChannel", error)
            yield AREA.not_checked("permission", f"Whether PutAuditEvents is allowed: {_DELIVERY}.")
            return
        name = channel.get("Name", self._arn)
        yield AREA.ok("channel", f"Channel {name} of account {self._account_id} exists in {self._region}.")
        yield _source(channel.get("Source", ""))
        yield from self._stores(channel.get("Destinations", []))
        yield _ingestion(channel.get("IngestionStatus", {}))

    def _stores(self, destinations: list[Mapping[str, str]]) -> Iterator[Finding]:
        stores = [each["Location"] for each in destinations if each.get("Type") == "EVENT_DATA_STORE"]
        if not stores:
            yield AREA.failed(
                "event data store",
                "The channel leads to no event data store.",
                "Give the channel a destination: aws cloudtrail update-channel.",
            )
        for arn in stores:
            try:
                store = self._client.get_event_data_store(EventDataStore=arn)
            except (ClientError, BotoCoreError) as error:
                yield self._failure("event data store", "cloudtrail:GetEventDataStore", error)
            else:
                yield _store(store, arn)

    def _failure(self, check: str, permission: str, error: ClientError | BotoCoreError) -> Finding:
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return AREA.failed(check, "There are no AWS credentials.", "Set them, for example with AWS_PROFILE.")
        if isinstance(error, BotoCoreError):
            # The service that takes events is another one: see `endpoint_check`.
            return AREA.not_checked(check, f"Not checked: CloudTrail did not answer ({type(error).__name__}).")
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        if is_denied(code):
            return AREA.not_checked(check, f"Not checked: it takes the permission {permission}.")
        if meaning_of(code) is Meaning.MISCONFIGURATION:
            advice = advice_on(code)
            return AREA.failed(check, f"CloudTrail refuses the {check} ({code}).", f"{advice[0].upper()}{advice[1:]}.")
        if code == "EventDataStoreNotFoundException":
            return AREA.failed(
                check, "The event data store of the channel does not exist.", "Give the channel another destination."
            )
        return AREA.not_checked(check, f"Not checked: CloudTrail did not tell ({code}).")


def _source(source: str) -> Finding:
    if source in SOURCES:
        return AREA.ok("source", f"The channel's source is {source}, which takes events of kong-gateway.")
    return AREA.failed(
        "source",
        f"The channel's source is {source or 'unknown'}, which does not take events of kong-gateway.",
        f"Use a channel whose source is {' or '.join(SOURCES)}. The source of a channel cannot be changed.",
    )


def _store(store: Mapping[str, Any], arn: str) -> Finding:
    status, name = str(store.get("Status", "unknown")), store.get("Name", arn)
    if status not in _HARMLESS_STATUSES:
        return AREA.failed(
            "event data store",
            f"Event data store {name} takes no events: {status}.",
            f"aws cloudtrail start-event-data-store-ingestion --event-data-store {arn}, or restore it if it is pending "
            "deletion.",
        )
    days = store.get("RetentionPeriod")
    kept = f", and keeps them for {days} days" if days else ""
    if store.get("TerminationProtectionEnabled") is False:
        return AREA.warning(
            "event data store",
            f"Event data store {name} takes events{kept}. It may be deleted: termination protection is off.",
            f"aws cloudtrail update-event-data-store --event-data-store {arn} --termination-protection-enabled",
        )
    return AREA.ok("event data store", f"Event data store {name} takes events{kept}.")


def _ingestion(status: Mapping[str, Any]) -> Finding:
    """Return what the last deliveries by this channel say about the permission for the next one."""
    succeeded, attempted = status.get("LatestIngestionSuccessTime"), status.get("LatestIngestionAttemptTime")
    error = status.get("LatestIngestionErrorCode")
    if error and attempted is not None and (succeeded is None or attempted > succeeded):
        meaning = meaning_of(str(error))
        advice = advice_on(str(error)) if meaning is Meaning.MISCONFIGURATION else "look at the newest run's log"
        return AREA.warning(
            "permission",
            f"The last delivery by this channel was refused ({error}).",
            f"{advice[0].upper()}{advice[1:]}.",
        )
    if succeeded is not None:
        return AREA.ok("permission", f"The channel last accepted an event at {utc(int(succeeded.timestamp()))}.")
    return AREA.not_checked("permission", f"Nothing was delivered yet. Whether PutAuditEvents is allowed: {_DELIVERY}.")
