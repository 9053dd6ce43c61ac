"""The emulator of PutAuditEvents refuses what CloudTrail documents to refuse, in the form that boto3 understands."""

import base64
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from sandbox.cloudtrail.emulator import CHANNEL_ARN, CloudTrailEmulator, CloudTrailProcess
from sandbox.machinery import faults
from sandbox.machinery.faults import Fault

ACCOUNT_ID = "123456789012"


def client(url: str, *, attempts: int = 1, region: str = "us-east-1", validation: bool = True) -> Any:
    return boto3.client(
        "cloudtrail-data",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            parameter_validation=validation,
            max_pool_connections=8,
            proxies={},
        ),
    )


@pytest.fixture
def cloudtrail() -> Iterator[CloudTrailEmulator]:
    with CloudTrailEmulator() as emulator:
        yield emulator


def event(**fields: Any) -> dict[str, Any]:
    return {
        "version": "3.10.0.2-enterprise-edition",
        "userIdentity": {"type": "RBACUser", "principalId": "alice", "details": {"userName": "alice"}},
        "eventSource": "kong-gateway",
        "eventName": "GET/services",
        "eventTime": "2024-06-01T12:00:00Z",
        "UID": "uid",
        "requestParameters": {"queryParameters": "size=1"},
        "sourceIPAddress": "2001:db8::1",
        "recipientAccountId": ACCOUNT_ID,
        "additionalEventData": {"status": 200, "signature": None},
    } | fields


def entry(entry_id: str = "a", data: dict[str, Any] | str | None = None) -> dict[str, Any]:
    text = data if isinstance(data, str) else json.dumps(event() if data is None else data, separators=(",", ":"))
    checksum = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"id": entry_id, "eventData": text, "eventDataChecksum": checksum}


def put(target: Any, *entries: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    answer: dict[str, Any] = target.put_audit_events(
        **{"channelArn": CHANNEL_ARN, "auditEvents": list(entries)} | arguments
    )
    return answer


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in event().items() if key != name}


def padded(name: str, size: int) -> dict[str, Any]:
    """An event in which the object `name` has `size` bytes."""
    return event(**{name: {"x": "y" * (size - len('{"x":""}'))}})


class TestEntries:
    def test_accepted_events_get_ids_and_are_kept_in_order(self, cloudtrail: CloudTrailEmulator) -> None:
        texts = ["größe ✓", 'a "quoted" \\ / text', "\u2028"]
        events = [event(UID=f"uid-{number}", eventName=text) for number, text in enumerate(texts)]
        answer = put(client(cloudtrail.url), *(entry(f"id-{number}", one) for number, one in enumerate(events)))
        assert answer["failed"] == []
        assert [one["id"] for one in answer["successful"]] == ["id-0", "id-1", "id-2"]
        assert [one.event for one in cloudtrail.accepted()] == events
        assert [one.event_id for one in cloudtrail.accepted()] == [one["eventID"] for one in answer["successful"]]
        assert cloudtrail.accepted_uids() == ["uid-0", "uid-1", "uid-2"]
        (call,) = cloudtrail.calls
        assert (call.entries, call.accepted, call.failed, call.error_code) == (3, 3, {}, None)

    @pytest.mark.parametrize(
        "data",
        [
            event(eventTime="2024-06-01T12:00:00"),
            without("sourceIPAddress"),
            event(userAgent="a" * 1024, errorCode="e" * 256, errorMessage="m" * 256, responseElements={}),
            event(userIdentity={"type": "t" * 128, "principalId": "p" * 1024}),
            padded("additionalEventData", 28_000),
            padded("requestParameters", 100_000),
        ],
    )
    def test_what_the_schema_allows(self, cloudtrail: CloudTrailEmulator, data: dict[str, Any]) -> None:
        assert put(client(cloudtrail.url), entry("a", data))["failed"] == []

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            ("{", "InvalidData"),
            ("[]", "InvalidData"),
            (json.dumps(event(additionalEventData={"x": float("nan")})), "InvalidData"),
            ("[" * 100_000, "InvalidData"),
            *((without(name), "FieldNotFound") for name in ("version", "eventSource", "eventName", "eventTime", "UID")),
            (without("userIdentity"), "FieldNotFound"),
            (without("recipientAccountId"), "FieldNotFound"),
            (event(userIdentity={"type": "", "principalId": "p"}), "FieldNotFound"),
            (event(userIdentity={"type": "t"}), "FieldNotFound"),
            (event(userIdentity="alice"), "InvalidData"),
            (event(userIdentity={"type": "t", "principalId": "p", "details": "d"}), "InvalidData"),
            (event(userIdentity={"type": "t" * 129, "principalId": "p"}), "FieldTooLong"),
            (event(eventName="n" * 1025), "FieldTooLong"),
            (event(version="v" * 257), "FieldTooLong"),
            (event(errorMessage="m" * 257), "FieldTooLong"),
            (event(UID=7), "InvalidData"),
            (event(errorCode=None), "InvalidData"),
            (event(rawEvent={}), "InvalidData"),
            (event(requestParameters=[]), "InvalidData"),
            (event(additionalEventData="text"), "InvalidData"),
            (event(eventTime="2024-06-01 12:00:00"), "InvalidData"),
            (event(eventTime="2024-06-01T12:00:00.5Z"), "InvalidData"),
            (event(eventTime="2024-06-31T12:00:00Z"), "InvalidData"),
            (event(eventTime=1717243200), "InvalidData"),
            (event(sourceIPAddress="localhost"), "InvalidData"),
            (event(sourceIPAddress=""), "InvalidData"),
            (event(recipientAccountId="999999999999"), "InvalidRecipient"),
            (padded("additionalEventData", 28_001), "FieldTooLong"),
            (padded("requestParameters", 100_001), "FieldTooLong"),
            (padded("responseElements", 100_001), "FieldTooLong"),
            (event(userIdentity={"type": "t", "principalId": "p", "details": {"x": "y" * 256_000}}), "FieldTooLong"),
        ],
    )
    def test_what_the_schema_refuses(
        self, cloudtrail: CloudTrailEmulator, data: dict[str, Any] | str, code: str
    ) -> None:
        answer = put(client(cloudtrail.url), entry("good"), entry("bad", data))
        assert [one["id"] for one in answer["successful"]] == ["good"]
        assert [(one["id"], one["errorCode"]) for one in answer["failed"]] == [("bad", code)]
        assert answer["failed"][0]["errorMessage"]
        assert cloudtrail.accepted_ids() == ["good"]
        assert cloudtrail.calls[0].failed == {code: 1}

    def test_limits_count_bytes(self, cloudtrail: CloudTrailEmulator) -> None:
        text = json.dumps(event(additionalEventData={"x": "ü" * 14_000}), ensure_ascii=False)
        assert put(client(cloudtrail.url), entry("a", text))["failed"][0]["errorCode"] == "FieldTooLong"

    def test_checksum(self, cloudtrail: CloudTrailEmulator) -> None:
        target = client(cloudtrail.url)
        wrong = {"id": "b", "eventData": entry()["eventData"] + " ", "eventDataChecksum": entry()["eventDataChecksum"]}
        absent = {"id": "c", "eventData": entry()["eventData"]}
        answer = put(target, entry("a"), wrong, absent)
        assert [one["id"] for one in answer["successful"]] == ["a", "c"]
        assert [one["errorCode"] for one in answer["failed"]] == ["InvalidChecksum"]

    def test_event_source_of_the_channel(self) -> None:
        with CloudTrailEmulator(event_source="kong-gateway") as emulator:
            answer = put(client(emulator.url), entry("a"), entry("b", event(eventSource="other")))
        assert [one["errorCode"] for one in answer["failed"]] == ["InvalidEventSource"]

    def test_light_validation_takes_events_unseen(self) -> None:
        with CloudTrailEmulator(validate="light") as emulator:
            target = client(emulator.url)
            assert put(target, entry("a", "no event"))["failed"] == []
            with pytest.raises(target.exceptions.DuplicatedAuditEventId):
                put(target, entry("b"), entry("b"))


class TestCalls:
    def test_modelled_exceptions(self, cloudtrail: CloudTrailEmulator) -> None:
        target = client(cloudtrail.url)
        with pytest.raises(target.exceptions.ChannelNotFound):
            put(target, entry(), channelArn=CHANNEL_ARN[:-1] + "0")
        with pytest.raises(target.exceptions.InvalidChannelARN):
            put(target, entry(), channelArn="arn:aws:cloudtrail:us-east-1:123456789012:trail/x")
        with pytest.raises(target.exceptions.DuplicatedAuditEventId):
            put(target, entry("a"), entry("b"), entry("a"))
        elsewhere = client(cloudtrail.url, region="eu-west-1")
        with pytest.raises(elsewhere.exceptions.ChannelNotFound):
            put(elsewhere, entry())
        assert [call.error_code for call in cloudtrail.calls] == [
            "ChannelNotFound",
            "InvalidChannelARN",
            "DuplicatedAuditEventId",
            "ChannelNotFound",
        ]
        assert cloudtrail.accepted_count() == 0

    def test_external_id(self) -> None:
        with CloudTrailEmulator(external_id="agreed") as emulator:
            target = client(emulator.url)
            for arguments in ({}, {"externalId": "other"}):
                with pytest.raises(target.exceptions.ChannelInsufficientPermission):
                    put(target, entry(), **arguments)
            assert put(target, entry(), externalId="agreed")["failed"] == []

    @pytest.mark.parametrize(
        ("entries", "code"),
        [
            ([], "ValidationException"),
            ([entry(str(number)) for number in range(101)], "ValidationException"),
            ([entry("dotted.id")], "ValidationException"),
            ([entry("")], "ValidationException"),
            ([entry("x" * 129)], "ValidationException"),
            ([{"id": "a"}], "ValidationException"),
            ([{"id": "a", "eventData": "\ud800"}], "SerializationException"),
            ([entry("a", "x" * 1_048_576)], "RequestEntityTooLargeException"),
        ],
    )
    def test_calls_refused_as_a_whole(
        self, cloudtrail: CloudTrailEmulator, entries: list[dict[str, Any]], code: str
    ) -> None:
        target = client(cloudtrail.url, validation=False)
        with pytest.raises(ClientError) as raised:
            put(target, *entries)
        assert raised.value.response["Error"]["Code"] == code

    def test_a_full_call_passes(self, cloudtrail: CloudTrailEmulator) -> None:
        answer = put(client(cloudtrail.url), *(entry(str(number)) for number in range(100)))
        assert len(answer["successful"]) == 100

    def test_call_size_counts_the_body(self, cloudtrail: CloudTrailEmulator) -> None:
        target = client(cloudtrail.url)
        quoted = [entry(str(number), event(responseElements={"x": '"' * 40_000})) for number in range(8)]
        assert sum(len(one["eventData"]) for one in quoted) < 700_000
        with pytest.raises(ClientError, match="RequestEntityTooLarge"):
            put(target, *quoted)
        assert cloudtrail.calls[0].body_bytes > 1_048_576


class TestFaults:
    def test_throttled_calls_are_retried_by_boto3(self, cloudtrail: CloudTrailEmulator) -> None:
        cloudtrail.inject(Fault(kind="throttle"))
        assert put(client(cloudtrail.url, attempts=2), entry())["failed"] == []
        assert [call.error_code for call in cloudtrail.calls] == ["ThrottlingException", None]

    def test_more_calls_than_allowed_are_throttled(self) -> None:
        with CloudTrailEmulator(calls_per_second=2) as emulator:
            target = client(emulator.url)
            for number in range(2):
                put(target, entry(str(number)))
            emulator.configure(calls_per_second=0)
            with pytest.raises(ClientError, match="ThrottlingException"):
                put(target, entry("c"))
            assert emulator.accepted_ids() == ["0", "1"]

    @pytest.mark.parametrize(("status", "code"), [(500, "InternalFailure"), (503, "ServiceUnavailable")])
    def test_server_errors(self, cloudtrail: CloudTrailEmulator, status: int, code: str) -> None:
        cloudtrail.inject(faults.aws_error(code, status, nth=2))
        target = client(cloudtrail.url)
        put(target, entry("a"))
        with pytest.raises(ClientError) as raised:
            put(target, entry("b"))
        assert raised.value.response["Error"]["Code"] == code
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert cloudtrail.accepted_ids() == ["a"]

    @pytest.mark.parametrize(("kind", "accepted"), [("reset", []), ("reset_after", ["a"])])
    def test_lost_connections(self, cloudtrail: CloudTrailEmulator, kind: Any, accepted: list[str]) -> None:
        cloudtrail.inject(Fault(kind=kind))
        with pytest.raises(ConnectionClosedError):
            put(client(cloudtrail.url), entry("a"))
        assert cloudtrail.accepted_ids() == accepted

    def test_a_retry_after_a_lost_answer_brings_the_event_twice(self, cloudtrail: CloudTrailEmulator) -> None:
        cloudtrail.inject(Fault(kind="reset_after"))
        put(client(cloudtrail.url, attempts=2), entry("a"))
        assert cloudtrail.accepted_ids() == ["a", "a"]

    def test_entries_that_fail(self, cloudtrail: CloudTrailEmulator) -> None:
        cloudtrail.fail_entries("Throttling", ids=["a"], times=1)
        cloudtrail.fail_entries("NeverHeardOf", uid_pattern="^odd")
        cloudtrail.fail_entries("InternalFailure", predicate=lambda one: one["eventName"] == "DELETE/x")
        entries = [entry("a"), entry("b", event(UID="odd-1")), entry("c", event(eventName="DELETE/x")), entry("d")]
        target = client(cloudtrail.url)
        first, second = put(target, *entries), put(target, *entries)
        codes = [{one["id"]: one["errorCode"] for one in answer["failed"]} for answer in (first, second)]
        lasting = {"b": "NeverHeardOf", "c": "InternalFailure"}
        assert codes == [{"a": "Throttling"} | lasting, lasting]
        assert [(one.id, one.code, one.call_number) for one in cloudtrail.refused()] == [
            ("a", "Throttling", 1),
            ("b", "NeverHeardOf", 1),
            ("c", "InternalFailure", 1),
            ("b", "NeverHeardOf", 2),
            ("c", "InternalFailure", 2),
        ]
        cloudtrail.clear_faults()
        assert put(target, *entries)["failed"] == []

    def test_each_entry_fails_so_often_and_first_for_the_first_reason(self, cloudtrail: CloudTrailEmulator) -> None:
        cloudtrail.fail_entries("Throttling", times_per_entry=1)
        cloudtrail.fail_entries("InvalidChecksum", times_per_entry=1)
        target = client(cloudtrail.url)
        answers = [put(target, entry("a")), put(target, entry("a"), entry("b")), put(target, entry("a"), entry("b"))]
        assert [{one["id"]: one["errorCode"] for one in answer["failed"]} for answer in answers] == [
            {"a": "Throttling"},
            {"a": "InvalidChecksum", "b": "Throttling"},
            {"b": "InvalidChecksum"},
        ]
        assert cloudtrail.accepted_ids() == ["a"]

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (faults.aws_error("InternalFailure", 500), ClientError),
            (Fault(kind="status", status=403, body="<html>no</html>", content_type="text/html"), ClientError),
            (Fault(kind="reset"), ConnectionClosedError),
        ],
    )
    def test_one_entry_poisons_every_call_that_holds_it(
        self, cloudtrail: CloudTrailEmulator, fault: Fault, error: type[Exception]
    ) -> None:
        cloudtrail.poison(["b"], fault)
        target = client(cloudtrail.url)
        for _ in range(2):
            with pytest.raises(error):
                put(target, entry("a"), entry("b"))
        put(target, entry("a"), entry("c"))
        assert cloudtrail.accepted_ids() == ["a", "c"]
        assert [call.error_code for call in cloudtrail.calls] == [fault.kind, fault.kind, None]
        cloudtrail.clear_faults()
        put(target, entry("b"))
        assert cloudtrail.accepted_ids() == ["a", "c", "b"]

    def test_calls_in_flight(self) -> None:
        with CloudTrailEmulator(latency_seconds=0.3) as emulator:
            target = client(emulator.url)
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda number: put(target, entry(str(number))), range(4)))
            assert emulator.max_in_flight == 4
            emulator.clear()
            emulator.fail_entries("Throttling")
            put(target, entry())
            emulator.clear()
            assert (emulator.accepted_count(), emulator.calls, emulator.refused()) == (0, [], [])


def test_own_process() -> None:
    with CloudTrailProcess(channel_arn=CHANNEL_ARN, external_id="agreed") as cloudtrail:
        target = client(cloudtrail.url)
        cloudtrail.inject(faults.aws_error("ChannelUnsupportedSchema"))
        with pytest.raises(target.exceptions.ChannelUnsupportedSchema):
            put(target, entry(), externalId="agreed")
        cloudtrail.fail_entries("Throttling", ids=["b"], times=1)
        put(target, entry("a"), entry("b"), externalId="agreed")
        assert (cloudtrail.accepted_ids(), cloudtrail.accepted_uids()) == (["a"], ["uid"])
        (accepted,) = cloudtrail.accepted()
        assert (accepted.event, accepted.call_number) == (event(), 2)
        assert [call.failed for call in cloudtrail.calls] == [{}, {"Throttling": 1}]
        assert [(one.id, one.code) for one in cloudtrail.refused()] == [("b", "Throttling")]
        cloudtrail.poison(["c"], faults.aws_error("InternalFailure", 500))
        with pytest.raises(ClientError):
            put(target, entry("c"), externalId="agreed")
