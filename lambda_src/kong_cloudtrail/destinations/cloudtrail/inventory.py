"""What CloudTrail Lake holds of a stretch of request time, asked by SQL, to be compared with what the source shows.

Sources: the API reference of StartQuery and GetQueryResults (API 2013-11-01); "Supported event schemas" and "Managing
costs" of the CloudTrail user guide: a query is billed by what it scans, which bounds on ``eventTime`` limit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from ... import __version__
from ...domain.audit_event import EVENT_SOURCE
from ...domain.entry import Entry
from ...domain.tally import identity_of
from ...domain.window import Window
from ...errors import DestinationError, DestinationMisconfigured, DestinationUnavailable
from ...ports import Basis, Consent
from .destination import ANSWER_SECONDS, CONNECT_SECONDS

if TYPE_CHECKING:
    from mypy_boto3_cloudtrail.client import CloudTrailClient

DOLLARS_PER_BYTE = 0.005 / 1e9
"""The price in most Regions."""

MAX_ROWS = 1000
"""Rows of a page of GetQueryResults."""

POLL_SECONDS = 1.0

_RUNNING = frozenset({"QUEUED", "RUNNING"})
_ADVICE = {
    "AccessDeniedException": "allow cloudtrail:StartQuery and cloudtrail:GetQueryResults on it, and kms:Decrypt and "
    "kms:GenerateDataKey on its key if it has one; or remove EVENT_DATA_STORE to compare with marks",
    "EventDataStoreNotFoundException": "there is no such store: correct EVENT_DATA_STORE",
    "EventDataStoreARNInvalidException": "correct EVENT_DATA_STORE: write the ARN as CloudTrail shows it",
    "InactiveEventDataStoreException": "the store is not active: restore it, or start its ingestion",
    "InsufficientEncryptionPolicyException": "the policy of the store's KMS key does not let CloudTrail use it",
    "UnsupportedOperationException": "this account or Region has no CloudTrail Lake",
    "UnrecognizedClientException": "the AWS credentials are not valid: check the role, or AWS_PROFILE and the keys",
    "ExpiredTokenException": "the AWS credentials have expired: renew them",
    "InvalidQueryStatementException": "CloudTrail does not accept the query: please report this",
}


class LakeInventory:
    """Asks one event data store. An entry is compared by its ``UID``, as events have no key.

    Parameters
    ----------
    event_data_store
        ARN of the store.
    region
        Region of the store.
    channel_arn
        The channel that delivered the events: a store may take those of several.
    uid_of
        Returns the ``UID`` of an entry's event.
    estimate_bytes
        Returns about how many bytes of events a window has; ``None`` if that is not known.
    sleep
        Waits for the given seconds; raises if there is no time for it.
    connect_seconds, answer_seconds
        How long to wait for a connection, and for each part of an answer.
    """

    basis = Basis.LAKE
    grain_seconds = 1

    def __init__(
        self,
        event_data_store: str,
        region: str,
        channel_arn: str,
        *,
        uid_of: Callable[[Entry], str],
        estimate_bytes: Callable[[Window], int | None],
        sleep: Callable[[float], None],
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._store = event_data_store
        self._channel_arn = channel_arn
        self._uid_of = uid_of
        self._estimate_bytes = estimate_bytes
        self._sleep = sleep
        self._client: CloudTrailClient = boto3.client(
            "cloudtrail",
            region_name=region,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 5},
                connect_timeout=connect_seconds,
                read_timeout=answer_seconds,
                user_agent=f"kong-cloudtrail/{__version__} Botocore/{botocore.__version__}",
            ),
        )
        self._rows: Iterator[_Row] = iter(())
        self._scanned: int | None = None
        self._held: dict[bytes, str] = {}

    def needs_consent(self, window: Window) -> Consent | None:
        """Return what a query of the window reads and costs, as far as the run reports tell."""
        size = self._estimate_bytes(window)
        return Consent(
            f"A query reads the events of the window in {self._store}.",
            size,
            None if size is None else round(size * DOLLARS_PER_BYTE, 4),
        )

    def begin(self, window: Window) -> None:
        """Start the query; its answer is read as it is asked for. Raises `DestinationError`."""
        self._rows = self._answer(window)

    def identify(self, entry: Entry) -> tuple[bytes, str]:
        """Return the digest of the ``UID`` of an entry's event, and the ``UID``."""
        uid = self._uid_of(entry)
        return identity_of(uid), uid

    def held(self, window: Window) -> Iterator[Sequence[bytes]]:
        """Return the digests of the ``UID``s of the events of a window, each copy once. Raises `DestinationError`."""
        self._held = {}
        while (row := next(self._rows, None)) is not None:
            if window.before is not None and row.second >= window.before:
                self._rows = itertools.chain([row], self._rows)
                return
            identity = identity_of(row.uid)
            self._held[identity] = row.uid
            yield [identity] * row.copies

    def held_of(self, entries: Sequence[Entry]) -> Iterator[Sequence[bytes]]:
        """Return nothing: the query tells."""
        return iter(())

    def held_without_time(self) -> Iterator[Sequence[bytes]]:
        """Return nothing: no event is made of an entry without a time."""
        return iter(())

    def names(self, window: Window, identities: Collection[bytes]) -> Mapping[bytes, str]:
        """Return the ``UID``s of some digests of the window that was asked for last."""
        return {one: self._held[one] for one in identities if one in self._held}

    def bytes_scanned(self) -> int | None:
        """Return what the query has read."""
        return self._scanned

    # -- the query

    def _answer(self, window: Window) -> Iterator[_Row]:
        query_id = self._start(_statement(self._store, self._channel_arn, window))
        token: str | None = None
        while True:
            page = self._page(query_id, token)
            status = page.get("QueryStatus")
            if status in _RUNNING:
                self._sleep(POLL_SECONDS)
                continue
            if status != "FINISHED":
                raise DestinationUnavailable(
                    str(status),
                    f"The query {query_id} of CloudTrail Lake ended as {status}. Ask again; if it is too large, ask "
                    "for a shorter window.",
                    content_matters=False,
                )
            self._scanned = int(page.get("QueryStatistics", {}).get("BytesScanned", self._scanned or 0))
            for row in page.get("QueryResultRows", []):
                yield _read_row(row)
            token = page.get("NextToken")
            if token is None:
                return

    def _start(self, statement: str) -> str:
        try:
            return self._client.start_query(QueryStatement=statement)["QueryId"]
        except (ClientError, BotoCoreError) as error:
            raise self._failed(error) from error

    def _page(self, query_id: str, token: str | None) -> Mapping[str, Any]:
        further = {} if token is None else {"NextToken": token}
        try:
            page: Any = self._client.get_query_results(QueryId=query_id, MaxQueryResults=MAX_ROWS, **further)
        except (ClientError, BotoCoreError) as error:
            raise self._failed(error) from error
        answer: Mapping[str, Any] = page
        return answer

    def _failed(self, error: ClientError | BotoCoreError) -> DestinationError:
        if isinstance(error, NoCredentialsError):
            return DestinationMisconfigured(
                "There are no AWS credentials to query CloudTrail. Set them, for example with AWS_PROFILE."
            )
        if not isinstance(error, ClientError):
            code = type(error).__name__
            return DestinationUnavailable(
                code,
                f"CloudTrail did not answer to a query ({code}). Check the network path: NAT, or the VPC endpoint "
                "com.amazonaws.<region>.cloudtrail.",
                content_matters=False,
            )
        code = error.response.get("Error", {}).get("Code", "unknown")
        if code in _ADVICE:
            return DestinationMisconfigured(f"CloudTrail refuses to query {self._store} ({code}): {_ADVICE[code]}.")
        return DestinationUnavailable(
            code, f"CloudTrail did not query {self._store} ({code}). Ask again later.", content_matters=False
        )


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the answer: an event's time and ``UID``, and how many there are."""

    second: int
    uid: str
    copies: int


def _statement(store: str, channel_arn: str, window: Window) -> str:
    """Return the query. Its answer is in order of time, so that no more than a slice of it is in memory."""
    after, before = (_sql_time(moment) for moment in (window.after, window.before or 0))
    return (
        "SELECT eventData.eventTime AS request_time, eventData.uid AS uid, COUNT(*) AS copies "  # noqa: S608 - ARNs
        f"FROM {store.rpartition('/')[2]} "
        f"WHERE eventTime >= '{after}' AND eventTime < '{before}' "
        f"AND eventData.eventSource = '{EVENT_SOURCE}' AND metadata.channelARN = '{channel_arn}' "
        "GROUP BY eventData.eventTime, eventData.uid ORDER BY eventData.eventTime"
    )


def _sql_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _read_row(row: Sequence[Mapping[str, str]]) -> _Row:
    fields = {name.lower(): value for column in row for name, value in column.items()}
    try:
        moment = datetime.fromisoformat(fields["request_time"])
        second = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        return _Row(second, fields["uid"], int(fields["copies"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DestinationUnavailable(
            "BrokenAnswer", "CloudTrail Lake's answer to a query cannot be read.", content_matters=False
        ) from error
