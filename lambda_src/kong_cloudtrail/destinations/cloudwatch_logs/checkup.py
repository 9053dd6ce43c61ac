"""What a run needs of CloudWatch Logs, looked at piece by piece. Nothing is delivered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from ...domain.aws_codes import Meaning, is_denied
from ...domain.finding import Area, Finding
from ...domain.reaching import ReachCheck, Server
from . import NAME
from .codes import advice_on, meaning_of

AREA = Area(NAME)

_OF_ALL_GROUPS = "the permission logs:DescribeLogGroups, which there is only for all log groups together"
_UNSEEN = dict.fromkeys(("retention", "deletion protection"), f"Not checked: it takes {_OF_ALL_GROUPS}.")
_UNSEEN_GROUP = {
    "log group": f"Not checked: it takes the permission logs:DescribeLogStreams for the group, or {_OF_ALL_GROUPS}."
}


def endpoint_check(region: str) -> ReachCheck:
    """Return the check of the connection to the service."""
    url = urlsplit(str(boto3.client("logs", region_name=region).meta.endpoint_url))
    port = url.port or (443 if url.scheme == "https" else 80)
    route = "The subnets need the interface endpoint `logs`, or a route to the internet, such as NAT."
    return ReachCheck(Server(AREA, url.hostname or "", port, "LOG_GROUP", route=route))


class LogGroupCheckup:
    """Finds out whether a log group takes events.

    Parameters
    ----------
    name, region
        The group.
    retention_days
        For how long the settings say that it keeps events; ``None`` if they do not.
    connect_seconds, answer_seconds
        How long to wait for a connection, and for each part of an answer.
    """

    area, name = AREA.name, "log group"

    def __init__(
        self, name: str, region: str, retention_days: int | None, *, connect_seconds: float, answer_seconds: float
    ) -> None:
        self._group = name
        self._retention_days = retention_days
        self._client: Any = boto3.client(
            "logs",
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
            may_see_streams = self._if_allowed("describe_log_streams", logGroupName=self._group, limit=1) is not None
            answer = self._if_allowed("describe_log_groups", logGroupNamePrefix=self._group)
        except (ClientError, BotoCoreError) as error:
            yield self._failure(error)
            return
        if answer is None:
            # The function's role is of this kind: that other call is allowed for all groups of an account, or none.
            if may_see_streams:
                yield AREA.ok("log group", f"Log group {self._group} exists.")
            for check, what in (_UNSEEN if may_see_streams else _UNSEEN_GROUP).items():
                yield AREA.not_checked(check, what)
            return
        found = [group for group in answer.get("logGroups", []) if group.get("logGroupName") == self._group]
        if not found:
            yield self._absent()
            return
        yield AREA.ok("log group", f"Log group {self._group} exists.")
        yield self._retention(found[0])
        yield _protection(found[0])

    def _if_allowed(self, operation: str, **parameters: Any) -> Mapping[str, Any] | None:
        """Make a call and return its answer; ``None`` if the permission for it is missing."""
        try:
            answer: Mapping[str, Any] = getattr(self._client, operation)(**parameters)
        except ClientError as error:
            if is_denied(_code_of(error)):
                return None
            raise
        return answer

    def _absent(self) -> Finding:
        return AREA.failed(
            "log group",
            f"There is no log group {self._group} in this region and account.",
            "Correct LOG_GROUP, or create the log group.",
        )

    def _failure(self, error: ClientError | BotoCoreError) -> Finding:
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return AREA.failed("log group", "There are no AWS credentials.", "Set them, for example with AWS_PROFILE.")
        if isinstance(error, BotoCoreError):
            kind = type(error).__name__
            return AREA.not_checked("log group", f"Not checked: CloudWatch Logs did not answer ({kind}).")
        code = _code_of(error)
        if code == "ResourceNotFoundException":
            return self._absent()
        if meaning_of(code) is Meaning.MISCONFIGURATION:
            advice = advice_on(code)
            return AREA.failed(
                "log group", f"CloudWatch Logs refuses to tell ({code}).", f"{advice[0].upper()}{advice[1:]}."
            )
        return AREA.not_checked("log group", f"Not checked: CloudWatch Logs did not tell ({code}).")

    def _retention(self, group: Mapping[str, Any]) -> Finding:
        days = group.get("retentionInDays")
        kept = "for ever" if days is None else f"for {days} days"
        if self._retention_days is not None and days != self._retention_days:
            return AREA.warning(
                "retention",
                f"The group keeps events {kept}, and LOG_GROUP_RETENTION_DAYS says {self._retention_days}.",
                "Deploy again with the group's retention, or correct LOG_GROUP_RETENTION_DAYS.",
            )
        return AREA.ok("retention", f"The group keeps events {kept}.")


def _protection(group: Mapping[str, Any]) -> Finding:
    if group.get("deletionProtectionEnabled"):
        return AREA.ok("deletion protection", "The group refuses to be deleted.")
    return AREA.warning(
        "deletion protection",
        "The group may be deleted, with all that is in it.",
        "Switch its deletion protection on.",
    )


def _code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
