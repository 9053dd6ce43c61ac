"""The emulator of PutLogEvents refuses what CloudWatch Logs documents to refuse, in the form that boto3 understands."""

import time
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from sandbox.cloudwatch_logs.calls import DAY_MS, HOUR_MS, MAX_CALL_BYTES
from sandbox.cloudwatch_logs.emulator import LOG_GROUP, LogsEmulator, LogsProcess
from sandbox.machinery import faults
from sandbox.machinery.faults import Fault

STREAM = "kong/requests"
MINUTE_MS = 60_000


def client(url: str, *, region: str = "us-east-1") -> Any:
    return boto3.client(
        "logs",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}, parameter_validation=False, proxies={}),
    )


def now() -> int:
    return int(time.time() * 1000)


def events(*ages_ms: int) -> list[dict[str, Any]]:
    present = now()
    return [{"timestamp": present - age, "message": f"event {number}"} for number, age in enumerate(ages_ms)]


def put(target: Any, log_events: Any, *, stream: str = STREAM, **arguments: Any) -> dict[str, Any]:
    answer: dict[str, Any] = target.put_log_events(
        **{"logGroupName": LOG_GROUP, "logStreamName": stream, "logEvents": log_events} | arguments
    )
    return answer


def refusal_of(target: Any, log_events: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        put(target, log_events, **arguments)
    code: str = caught.value.response["Error"]["Code"]
    return code


def with_stream(emulator: LogsEmulator | LogsProcess) -> Any:
    target = client(emulator.url)
    target.create_log_stream(logGroupName=LOG_GROUP, logStreamName=STREAM)
    return target


def test_events_are_stored_as_sent_and_the_same_batch_twice_is_stored_twice(logs: LogsEmulator) -> None:
    target = with_stream(logs)
    batch = events(HOUR_MS, 0)
    batch[1]["message"] = "größe ✓ \u2028"
    for token in (None, "anything"):
        answer = put(target, batch, **({} if token is None else {"sequenceToken": token}))
        assert "rejectedLogEventsInfo" not in answer
    assert [(one.stream, one.timestamp, one.message) for one in logs.stored()] == 2 * [
        (STREAM, one["timestamp"], one["message"]) for one in batch
    ]


class TestWholeCalls:
    """The call fails with `InvalidParameterException`, and nothing is stored."""

    @pytest.mark.parametrize(
        "log_events",
        [
            [],
            [{"timestamp": 1}],
            [{"timestamp": 1, "message": ""}],
            [{"timestamp": "1", "message": "x"}],
            [{"timestamp": -1, "message": "x"}],
        ],
    )
    def test_of_the_wrong_form(self, logs: LogsEmulator, log_events: Any) -> None:
        assert refusal_of(with_stream(logs), log_events) == "InvalidParameterException"

    def test_with_more_than_ten_thousand_events(self, logs: LogsEmulator) -> None:
        target = with_stream(logs)
        put(target, [{"timestamp": now(), "message": "x"}] * 10_000)
        logs.clear()
        assert refusal_of(target, [{"timestamp": now(), "message": "x"}] * 10_001) == "InvalidParameterException"
        assert logs.stored_count() == 0

    @pytest.mark.parametrize("character", ["x", "é", "\U0001f600"])
    def test_with_more_bytes_than_fit_with_26_for_each_event(self, logs: LogsEmulator, character: str) -> None:
        target = with_stream(logs)
        half = MAX_CALL_BYTES // 2 - 26
        whole, rest = divmod(half, len(character.encode()))
        message = character * whole + "x" * rest
        put(target, [{"timestamp": now(), "message": message}] * 2)
        stamp = now()
        too_large = [{"timestamp": stamp, "message": message}, {"timestamp": stamp, "message": message + "x"}]
        assert refusal_of(target, too_large) == "InvalidParameterException"
        assert logs.stored_count() == 2

    def test_with_an_event_that_does_not_fit_a_call(self, logs: LogsEmulator) -> None:
        target = with_stream(logs)
        put(target, [{"timestamp": now(), "message": "x" * (MAX_CALL_BYTES - 26)}])
        assert refusal_of(target, [{"timestamp": now(), "message": "x" * (MAX_CALL_BYTES - 25)}])

    def test_that_are_not_in_order(self, logs: LogsEmulator) -> None:
        assert refusal_of(with_stream(logs), events(0, 1)) == "InvalidParameterException"

    def test_whose_valid_events_span_more_than_a_day(self, logs: LogsEmulator) -> None:
        target = with_stream(logs)
        assert refusal_of(target, events(DAY_MS + 1, 0)) == "InvalidParameterException"
        put(target, events(DAY_MS, 0))
        # Refused ones do not count.
        answer = put(target, events(20 * DAY_MS, DAY_MS, 0, -3 * HOUR_MS))
        assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 3}

    def test_into_a_stream_or_a_group_that_there_is_not(self, logs: LogsEmulator) -> None:
        target = with_stream(logs)
        assert refusal_of(target, events(0), stream="other") == "ResourceNotFoundException"
        assert refusal_of(target, events(0), logGroupName="other") == "ResourceNotFoundException"
        logs.delete_group(LOG_GROUP)
        assert refusal_of(target, events(0)) == "ResourceNotFoundException"

    def test_that_are_signed_for_another_region(self, logs: LogsEmulator) -> None:
        assert refusal_of(client(logs.url, region="eu-west-1"), events(0)) == "InvalidSignatureException"


class TestRefusedEvents:
    """The call is answered with 200. The end index of the refused prefix is exclusive, the start index inclusive."""

    def test_older_than_14_days(self, logs: LogsEmulator) -> None:
        target = with_stream(logs)
        answer = put(target, events(40 * DAY_MS, 14 * DAY_MS + MINUTE_MS, 14 * DAY_MS - MINUTE_MS))
        assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 2}
        assert [one.message for one in logs.stored()] == ["event 2"]

    def test_more_than_two_hours_ahead(self, logs: LogsEmulator) -> None:
        target = with_stream(logs)
        answer = put(target, events(0, -2 * HOUR_MS + MINUTE_MS, -2 * HOUR_MS - MINUTE_MS))
        assert answer["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 2}
        assert [one.message for one in logs.stored()] == ["event 0", "event 1"]

    @pytest.mark.parametrize("index", ["expiredLogEventEndIndex", "tooOldLogEventEndIndex"])
    def test_older_than_the_retention(self, index: Any) -> None:
        with LogsEmulator(retention_days=7, retention_index=index) as logs:
            answer = put(with_stream(logs), events(8 * DAY_MS, 7 * DAY_MS + MINUTE_MS, 7 * DAY_MS - MINUTE_MS))
            assert answer["rejectedLogEventsInfo"] == {index: 2}
            assert [one.message for one in logs.stored()] == ["event 2"]
            answer = put(client(logs.url), events(20 * DAY_MS, 8 * DAY_MS, 0))
            assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1} | {index: 2}

    def test_all_of_them(self, logs: LogsEmulator) -> None:
        target = with_stream(logs)
        assert put(target, events(20 * DAY_MS))["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1}
        assert put(target, events(-DAY_MS))["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 0}
        assert put(target, events(20 * DAY_MS, -DAY_MS))["rejectedLogEventsInfo"] == {
            "tooOldLogEventEndIndex": 1,
            "tooNewLogEventStartIndex": 1,
        }
        assert logs.stored_count() == 0
        assert [(call.entries, call.stored) for call in logs.calls[1:]] == [(1, 0), (1, 0), (2, 0)]

    def test_by_the_clock_of_the_service_which_the_answer_tells(self) -> None:
        with LogsEmulator(clock_ahead_seconds=86_400) as logs:
            answer = put(with_stream(logs), events(14 * DAY_MS - HOUR_MS))
            assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1}
            assert "date" in answer["ResponseMetadata"]["HTTPHeaders"]


class TestFaults:
    def test_before_and_after_the_events_are_stored(self, logs: LogsEmulator) -> None:
        target = with_stream(logs)
        logs.inject(Fault(kind="throttle", path="/PutLogEvents"))
        assert refusal_of(target, events(0)) == "ThrottlingException"
        logs.inject(faults.aws_error("ServiceUnavailableException", 500))
        assert refusal_of(target, events(0)) == "ServiceUnavailableException"
        assert logs.stored_count() == 0
        for stored, fault in enumerate((Fault(kind="reset_after"), Fault(kind="reset_after")), start=1):
            logs.inject(fault)
            with pytest.raises(Exception, match=r".") as caught:
                put(target, events(0))
            assert not isinstance(caught.value, ClientError)
            assert logs.stored_count() == stored
        assert logs.pending_faults() == 0

    def test_that_an_event_provokes(self, logs: LogsEmulator) -> None:
        target = with_stream(logs)
        logs.poison(["bad"], Fault(kind="reset"))
        with pytest.raises(ConnectionClosedError):
            put(target, [{"timestamp": now(), "message": '{"UID":"bad"}'}])
        put(target, [{"timestamp": now(), "message": '{"UID":"good"}'}])
        assert logs.stored_uids() == ["good"]

    def test_too_many_calls(self) -> None:
        with LogsEmulator(calls_per_second=0) as logs:
            assert refusal_of(with_stream(logs), events(0)) == "ThrottlingException"


def test_groups_and_streams_are_created_and_described(logs: LogsEmulator) -> None:
    target = client(logs.url)
    target.create_log_group(logGroupName="/kong/other")
    target.put_retention_policy(logGroupName="/kong/other", retentionInDays=7)
    groups = target.describe_log_groups(logGroupNamePrefix="/kong/")["logGroups"]
    assert [(one["logGroupName"], one.get("retentionInDays")) for one in groups] == [
        (LOG_GROUP, None),
        ("/kong/other", 7),
    ]
    target.create_log_stream(logGroupName="/kong/other", logStreamName="a")
    assert [one["logStreamName"] for one in target.describe_log_streams(logGroupName="/kong/other")["logStreams"]] == [
        "a"
    ]
    with pytest.raises(ClientError, match="ResourceAlreadyExistsException"):
        target.create_log_group(logGroupName="/kong/other")
    with pytest.raises(ClientError, match="ResourceAlreadyExistsException"):
        target.create_log_stream(logGroupName="/kong/other", logStreamName="a")
    with pytest.raises(ClientError, match="InvalidParameterException"):
        target.put_retention_policy(logGroupName="/kong/other", retentionInDays=8)


def test_it_works_the_same_in_a_process_of_its_own() -> None:
    with LogsProcess(retention_days=7) as logs:
        put(with_stream(logs), [{"timestamp": now(), "message": '{"UID":"a"}'}])
        assert logs.stored_uids() == ["a"]
        assert [call.action for call in logs.calls] == ["CreateLogStream", "PutLogEvents"]
