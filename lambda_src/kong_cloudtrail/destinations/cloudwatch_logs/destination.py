"""CloudWatch Logs as the destination: PutLogEvents into one log stream.

Sources: the service model of ``logs`` (2014-03-28) and the API reference of PutLogEvents, as of 2026: sequence tokens
do not count any more, calls to one stream may be parallel, and there is no quota for a stream, only one of 5,000 calls
per second for the account and region. The same events sent twice are stored twice.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError, SSLError

from ... import __version__
from ...domain.aws_codes import Meaning
from ...domain.event import Event
from ...domain.gateway import Gateway
from ...errors import BatchRefused, DestinationError, DestinationMisconfigured, DestinationUnavailable
from ...ports import Advice, Answer, Failure, Verdict
from .codes import advice_on, meaning_of
from .dating import Dating
from .event import EventMapper, OcsfEventMapper
from .limits import MAX_SPAN_SECONDS
from .packer import Packer

if TYPE_CHECKING:
    from mypy_boto3_logs.client import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import InputLogEventTypeDef

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0

_STATUSES_OF_LOST_ANSWERS = frozenset({502, 504})
"""A proxy returns these if it forwarded the call and got no answer, or none that it understood."""

_MAPPERS: dict[str, type[EventMapper | OcsfEventMapper]] = {"json": EventMapper, "ocsf": OcsfEventMapper}


def connect(
    region: str,
    *,
    connections: int,
    connect_seconds: float = CONNECT_SECONDS,
    answer_seconds: float = ANSWER_SECONDS,
) -> CloudWatchLogsClient:
    """Return a client for the log groups of a region.

    Parameters
    ----------
    region
        The region.
    connections
        Connections to keep open: as many as there are parallel deliveries.
    connect_seconds, answer_seconds
        How long to wait for a connection, and for each part of an answer.
    """
    client = boto3.client(
        "logs",
        region_name=region,
        config=Config(
            # One attempt per call: the delivery retries, as it knows the run's time and lock, and which entries to send
            # again.
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=connect_seconds,
            read_timeout=answer_seconds,
            max_pool_connections=connections,
            # To validate hundreds of events, which are known to be valid, takes as long as to send them.
            parameter_validation=False,
            tcp_keepalive=True,
            user_agent=f"kong-cloudtrail/{__version__} Botocore/{botocore.__version__}",
        ),
    )
    client.meta.events.register("before-parse.cloudwatch-logs.PutLogEvents", _check_body)
    return client


class CloudWatchLogs:
    """Delivers entries to one log stream, and creates it if it does not exist. Safe to use from several threads.

    Parameters
    ----------
    client
        As `connect` returns it.
    log_group
        Name of the log group.
    account_id
        The account of the log group.
    source, stream
        The names of the trail. The log stream is called ``source/stream``.
    retention_seconds
        For how long the group keeps events; ``None``: for ever, or unknown.
    locate_original, map_status_to_error_code
        As in `EventMapper`.
    event_format
        What the events are: ``json``, as for CloudTrail Lake, or ``ocsf``.
    """

    def __init__(
        self,
        client: CloudWatchLogsClient,
        log_group: str,
        account_id: str,
        source: str,
        stream: str,
        *,
        retention_seconds: int | None,
        locate_original: Callable[[str, str], str],
        event_format: str = "json",
        map_status_to_error_code: bool = False,
    ) -> None:
        self._client = client
        self._account_id = account_id
        self._source = source
        self._stream = stream
        self._place: dict[str, Any] = {"logGroupName": log_group, "logStreamName": f"{source}/{stream}"}
        self._dating = Dating(retention_seconds)
        self._locate_original = locate_original
        self._mapper = _MAPPERS[event_format]
        self._map_status_to_error_code = map_status_to_error_code
        self._creating = threading.Lock()

    advice = Advice(
        name="CloudWatch Logs",
        if_down="Check the AWS Health Dashboard, and the function's path to CloudWatch Logs.",
        if_all_refused="Check LOG_GROUP, and whether there is a proxy in between.",
        if_answers_get_lost="Check whether there is a proxy in between.",
        if_in_doubt="They may be delivered a second time, with the same UID.",
    )
    refuses_entries = True

    def mapper(self, gateway: Gateway) -> EventMapper | OcsfEventMapper:
        """Return a mapper for the entries of a gateway."""
        return self._mapper(
            gateway,
            self._source,
            self._stream,
            self._account_id,
            self._locate_original,
            map_status_to_error_code=self._map_status_to_error_code,
        )

    def packer(self) -> Packer:
        """Return an empty packer."""
        return Packer(self._dating)

    def findings(self) -> None:
        """Return ``None``: CloudWatch Logs shows what it holds only to queries."""

    def deliver(self, events: Sequence[Event]) -> Answer:
        """Deliver one batch: in one call, or in two if some events cannot have their own times.

        Those get the time of the call.

        Raises
        ------
        BatchRefused
            If the call was refused for its content.
        DestinationMisconfigured
            If no call can succeed until somebody changes something.
        DestinationUnavailable
            If the call may succeed later, or may have succeeded already: ``maybe_accepted``.
        """
        fitting = self._fitting(events)
        accepted = self._put_with_own_times(fitting) if fitting else frozenset()
        if len(accepted) == len(events):
            return Answer(accepted)
        others = [event for event in events if event.id not in accepted]
        try:
            redated = self._put_with_time_of_call(others)
        except (BatchRefused, DestinationMisconfigured, DestinationUnavailable) as error:
            if not accepted:
                raise
            return _partly(accepted, others, error)
        refused = {event.id: _REFUSED for event in others if event.id not in redated}
        return Answer(accepted | redated, refused, redated=len(redated))

    def _fitting(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events that can have their own times, in one call."""
        fitting = [event for event in events if self._dating.fits(event.entry.timestamp)]
        stamps = [event.entry.timestamp or 0 for event in fitting]
        # A batch without times of its own may have events that are nearly too old, and others that are nearly too new.
        return fitting if fitting and max(stamps) - min(stamps) <= MAX_SPAN_SECONDS else []

    def _put_with_own_times(self, events: Sequence[Event]) -> frozenset[str]:
        """Send events; return the ids of those that were accepted, and learn from those that were not."""
        # The sort is stable, so events of one second stay in their order.
        stamped = sorted((((event.entry.timestamp or 0), event) for event in events), key=lambda pair: pair[0])
        taken = self._put([(seconds * 1000, event) for seconds, event in stamped])
        for seconds, _ in stamped[: taken.start]:
            self._dating.note_too_old(seconds)
        for seconds, _ in stamped[taken.stop :]:
            self._dating.note_too_new(seconds)
        return frozenset(event.id for _, event in stamped[taken])

    def _put_with_time_of_call(self, events: Sequence[Event]) -> frozenset[str]:
        present = int(self._dating.now() * 1000)
        taken = self._put([(present, event) for event in events])
        return frozenset(event.id for event in events[taken])

    def _put(self, stamped: Sequence[tuple[int, Event]]) -> slice:
        """Make one call; return which events were accepted."""
        try:
            response = self._call([{"timestamp": stamp, "message": event.data} for stamp, event in stamped])
        except ClientError as error:
            raise _translate(error) from error
        except NoCredentialsError as error:
            raise DestinationMisconfigured(
                "There are no AWS credentials to call CloudWatch Logs. Set them, for example with AWS_PROFILE."
            ) from error
        except BotoCoreError as error:
            raise _no_answer(error) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise _broken_answer() from error
        self._read_clock(response)
        return accepted_of(response, len(stamped))

    def _call(self, log_events: Sequence[InputLogEventTypeDef]) -> dict[str, Any]:
        try:
            return dict(self._client.put_log_events(**self._place, logEvents=log_events))
        except ClientError as error:
            if _code_of(error) != "ResourceNotFoundException":
                raise
        self._create_stream()
        try:
            return dict(self._client.put_log_events(**self._place, logEvents=log_events))
        except ClientError as error:
            if _code_of(error) != "ResourceNotFoundException":
                raise
            raise DestinationUnavailable(
                "ResourceNotFoundException",
                "CloudWatch Logs does not know its new log stream yet.",
                content_matters=False,
            ) from error

    def _create_stream(self) -> None:
        with self._creating:
            try:
                self._client.create_log_stream(**self._place)
            except ClientError as error:
                if _code_of(error) != "ResourceAlreadyExistsException":
                    raise

    def _read_clock(self, response: dict[str, Any]) -> None:
        date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if (moment := _moment_of(date)) is not None:
            self._dating.note_clock(moment.timestamp())


_REFUSED = Failure(
    "RefusedForItsTime",
    "CloudWatch Logs takes the event neither with the time of the request nor with the present time.",
    # No entry is to blame: the clocks are wrong.
    Verdict.OUTAGE,
)
"""CloudWatch Logs has no error codes for single events."""


def _partly(accepted: frozenset[str], others: Sequence[Event], error: DestinationError) -> Answer:
    """Return the answer if the first of two calls succeeded and the second failed."""
    if isinstance(error, DestinationUnavailable) and error.maybe_accepted:
        return Answer(accepted)  # the others are unconfirmed
    code = error.code if isinstance(error, BatchRefused | DestinationUnavailable) else type(error).__name__
    return Answer(accepted, {event.id: Failure(code, str(error), Verdict.OUTAGE) for event in others})


def accepted_of(response: dict[str, Any], count: int) -> slice:
    """Return which of the events of a call were accepted.

    Refused are a beginning of the call, up to the greater of two indexes, which are exclusive, and an end of it from an
    index on, which is inclusive.

    Parameters
    ----------
    response
        The answer, parsed.
    count
        How many events were in the call.

    Raises
    ------
    DestinationUnavailable
        If the answer makes no sense.
    """
    rejected = response.get("rejectedLogEventsInfo") or {}
    first = max(_index(rejected, name, 0, count) for name in ("tooOldLogEventEndIndex", "expiredLogEventEndIndex"))
    last = _index(rejected, "tooNewLogEventStartIndex", count, count)
    return slice(first, max(first, last))


def _index(rejected: Any, name: str, default: int, count: int) -> int:
    index = rejected.get(name) if isinstance(rejected, dict) else "unknown"
    if index is None:
        return default
    if type(index) is not int or not 0 <= index <= count:
        raise _broken_answer()
    return index


def _check_body(response_dict: dict[str, Any], **_: Any) -> None:
    """Raise `ValueError` if a successful answer is not a JSON object: botocore would read it as an empty one."""
    if response_dict["status_code"] < 300 and not isinstance(json.loads(response_dict["body"]), dict):
        raise ValueError("the answer is not an object")


def _moment_of(date: object) -> datetime | None:
    try:
        return parsedate_to_datetime(date) if isinstance(date, str) else None
    except ValueError:
        return None


def _code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown")).rpartition("#")[2]


def _no_answer(error: BotoCoreError) -> DestinationUnavailable:
    code = type(error).__name__
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return DestinationUnavailable(
            code,
            f"CloudWatch Logs' certificate is not trusted ({code}). Check whether there is a proxy in between, and "
            "AWS_CA_BUNDLE.",
        )
    # All other errors happen before anything is sent: no connection, no address, no credentials.
    if isinstance(error, HTTPClientError | SSLError):
        return DestinationUnavailable(
            code,
            f"CloudWatch Logs' answer was lost ({code}), so it is not known what it accepted. Check the function's "
            "path to CloudWatch Logs: VPC endpoint, NAT, routes, and proxies in between.",
            maybe_accepted=True,
        )
    return DestinationUnavailable(
        code,
        f"CloudWatch Logs could not be reached ({code}). Check the function's path to it: VPC endpoint, NAT, routes.",
    )


def _broken_answer() -> DestinationUnavailable:
    return DestinationUnavailable(
        "BrokenAnswer",
        "CloudWatch Logs' answer could not be read, so it is not known what it accepted. Check whether there is a "
        "proxy in between.",
        maybe_accepted=True,
    )


def _translate(error: ClientError) -> BatchRefused | DestinationMisconfigured | DestinationUnavailable:
    code = _code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    meaning = meaning_of(code)
    if meaning is Meaning.MISCONFIGURATION:
        return DestinationMisconfigured(f"CloudWatch Logs refuses all events ({code}): {advice_on(code)}.")
    if meaning is Meaning.BAD_CALL or status == 413:
        return BatchRefused(code, "CloudWatch Logs refused the call for its content.")
    # An unknown code may be temporary. If it is not, the run fails visibly and nothing is marked.
    return DestinationUnavailable(
        code,
        f"CloudWatch Logs did not accept a batch ({code}, status {status}).",
        throttled=meaning is Meaning.THROTTLING or status == 429,
        maybe_accepted=meaning is Meaning.UNKNOWN and status in _STATUSES_OF_LOST_ANSWERS,
    )
