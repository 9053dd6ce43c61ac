"""The adapter of CloudWatch Logs against a strict emulator of PutLogEvents, over real sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kong_cloudtrail.destinations.cloudwatch_logs.destination import CloudWatchLogs, connect
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.errors import BatchRefused, DestinationMisconfigured, DestinationUnavailable
from kong_cloudtrail.ports import Verdict
from kong_cloudtrail.sources.kong.entries import read_entry

from sandbox.cloudwatch_logs.calls import DAY_MS, HOUR_MS
from sandbox.cloudwatch_logs.emulator import LOG_GROUP, LogsEmulator
from sandbox.machinery import faults
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.faults import Fault
from sandbox.machinery.http_server import HttpServer, Response
from tests.helpers import ACCOUNT_ID, GATEWAY, entry, locate_original

pytestmark = pytest.mark.usefixtures("aws_credentials")

DAY, HOUR = DAY_MS // 1000, HOUR_MS // 1000

Open = Callable[..., CloudWatchLogs]


@pytest.fixture
def open_logs(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Return a function that connects to an emulator."""

    def open_at(
        url: str, *, region: str = "us-east-1", retention_seconds: int | None = None, **options: Any
    ) -> CloudWatchLogs:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
        seconds = {name: options.pop(name) for name in ("connect_seconds", "answer_seconds") if name in options}
        return CloudWatchLogs(
            connect(region, connections=4, **seconds),
            LOG_GROUP,
            ACCOUNT_ID,
            "kong",
            "requests",
            retention_seconds=retention_seconds,
            locate_original=locate_original,
            **options,
        )

    return open_at


def events(destination: CloudWatchLogs, *ages_seconds: float) -> list[Event]:
    mapper, now = destination.mapper(GATEWAY), int(time.time())
    return [
        mapper.map(read_entry(entry(number, request_id=f"id-{number}", request_timestamp=now - int(age))))
        for number, age in enumerate(ages_seconds)
    ]


def puts(logs: LogsEmulator) -> list[tuple[int, int]]:
    """Return how many events each call had and how many of them were stored."""
    return [(call.entries, call.stored) for call in logs.calls if call.action == "PutLogEvents" and call.entries]


class TestDelivery:
    def test_events_are_stored_once_in_order_with_their_own_times(self, open_logs: Open, logs: LogsEmulator) -> None:
        destination = open_logs(logs.url)
        sent = events(destination, 10, HOUR, 0, 13 * HOUR, 10)

        answer = destination.deliver(sent)

        assert answer.successful == {event.id for event in sent}
        assert answer.failed == {}
        assert answer.redated == 0
        stored = logs.stored()
        assert [one.uid for one in stored] == ["id-3", "id-1", "id-0", "id-4", "id-2"]
        assert {one.message for one in stored} == {event.data for event in sent}
        assert all(one.timestamp == 1000 * (sent[int(one.uid[3:])].entry.timestamp or 0) for one in stored)

    def test_log_stream_has_the_name_of_the_trail_and_is_created_once(
        self, open_logs: Open, logs: LogsEmulator
    ) -> None:
        destination = open_logs(logs.url)
        logs.configure(latency_seconds=0.1)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda event: destination.deliver([event]), events(destination, 1, 2, 3, 4)))
        assert all(len(answer.successful) == 1 for answer in answers)
        assert logs.stored_count() == 4
        assert {one.stream for one in logs.stored()} == {"kong/requests"}
        assert logs.max_in_flight == 4

        before = len(logs.calls)
        destination.deliver(events(destination, 5))
        assert [call.action for call in logs.calls[before:]] == ["PutLogEvents"]

    def test_event_arrives_as_it_was_made(self, open_logs: Open, logs: LogsEmulator) -> None:
        destination = open_logs(logs.url)
        odd = destination.mapper(GATEWAY).map(
            read_entry(entry(path="/é😀\ud800", payload='{"a":"\\u0000\\""}', request_timestamp=int(time.time())))
        )
        destination.deliver([odd])
        assert [one.message for one in logs.stored()] == [odd.data]

    def test_events_of_ocsf(self, open_logs: Open, logs: LogsEmulator) -> None:
        destination = open_logs(logs.url, event_format="ocsf")
        destination.deliver(events(destination, 1))
        [stored] = logs.stored()
        assert stored.event["class_uid"] == 6003
        assert stored.uid == "id-0"


class TestTimes:
    def test_forty_days_are_delivered_with_the_time_of_ingestion(self, open_logs: Open, logs: LogsEmulator) -> None:
        destination = open_logs(logs.url)
        sent = events(destination, *(number * DAY for number in range(15, 41)))
        before_ms = time.time() * 1000 - 2000

        answer = destination.deliver(sent)

        assert answer.successful == {event.id for event in sent}
        assert answer.redated == len(sent)
        stored = logs.stored()
        assert len(stored) == len(sent)
        assert all(before_ms <= one.timestamp <= time.time() * 1000 for one in stored)
        assert [one.event["eventTime"] for one in stored] == [json.loads(event.data)["eventTime"] for event in sent]
        assert puts(logs) == [(26, 26)]

    def test_what_is_too_far_ahead_as_well(self, open_logs: Open, logs: LogsEmulator) -> None:
        destination = open_logs(logs.url)
        answer = destination.deliver(events(destination, -3 * HOUR, -30 * DAY))
        assert len(answer.successful) == answer.redated == 2
        assert all(one.timestamp <= time.time() * 1000 for one in logs.stored())

    def test_batch_that_had_to_wait_is_sent_in_two_calls(self, open_logs: Open, logs: LogsEmulator) -> None:
        destination = open_logs(logs.url)
        sent = events(destination, 14 * DAY + 60, 14 * DAY - HOUR)
        answer = destination.deliver(sent)
        assert answer.successful == {event.id for event in sent}
        assert answer.redated == 1
        assert puts(logs) == [(1, 1), (1, 1)]
        assert next(one for one in logs.stored() if one.uid == "id-1").timestamp == 1000 * (
            sent[1].entry.timestamp or 0
        )

    @pytest.mark.parametrize("index", ["expiredLogEventEndIndex", "tooOldLogEventEndIndex"])
    def test_retention_that_nobody_told_is_learned(self, open_logs: Open, index: Any) -> None:
        with LogsEmulator(retention_days=3, retention_index=index) as logs:
            destination = open_logs(logs.url)
            answer = destination.deliver(events(destination, 3.5 * DAY, 3.1 * DAY, 2.9 * DAY))
            assert len(answer.successful) == 3
            assert answer.redated == 2
            assert puts(logs) == [(3, 1), (2, 2)]
            logs.clear()
            assert destination.deliver(events(destination, 5 * DAY)).redated == 1
            assert puts(logs) == [(1, 1)]

    def test_retention_that_is_known_costs_no_call(self, open_logs: Open) -> None:
        with LogsEmulator(retention_days=3) as logs:
            destination = open_logs(logs.url, retention_seconds=3 * DAY)
            answer = destination.deliver(events(destination, 4 * DAY, 3 * DAY + 60))
            assert answer.redated == 2
            assert puts(logs) == [(2, 2)]

    @pytest.mark.parametrize("ahead_hours", [-5, 5, -24 * 20, 24 * 20])
    def test_clocks_that_differ(self, open_logs: Open, ahead_hours: int) -> None:
        with LogsEmulator(clock_ahead_seconds=ahead_hours * HOUR) as logs:
            destination = open_logs(logs.url)
            answers = [destination.deliver(events(destination, 0, 1, 2, HOUR)) for _ in range(2)]
            assert all(len(answer.successful) == 4 for answer in answers)
            assert all(not answer.failed for answer in answers)
            assert logs.stored_count() == 8

    def test_all_are_refused_whatever_their_time(self, open_logs: Open, logs: LogsEmulator) -> None:
        body = json.dumps({"rejectedLogEventsInfo": {"tooOldLogEventEndIndex": 1}})
        destination = open_logs(logs.url)
        destination.deliver(events(destination, 0))
        logs.inject(Fault(kind="body", body=body, times=2))
        answer = destination.deliver(events(destination, 1))
        assert answer.successful == frozenset()
        assert [(failure.code, failure.verdict) for failure in answer.failed.values()] == [
            ("RefusedForItsTime", Verdict.OUTAGE)
        ]


class TestRefusalsInAnswers:
    """The greater end of the refused prefix is exclusive, the begin of the refused suffix inclusive."""

    @pytest.mark.parametrize(
        ("rejected", "first_call"),
        [
            ({"tooOldLogEventEndIndex": 2}, ["id-2", "id-3"]),
            ({"expiredLogEventEndIndex": 1}, ["id-1", "id-2", "id-3"]),
            ({"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 3}, ["id-3"]),
            ({"tooOldLogEventEndIndex": 3, "expiredLogEventEndIndex": 1}, ["id-3"]),
            ({"tooNewLogEventStartIndex": 3}, ["id-0", "id-1", "id-2"]),
            ({"tooNewLogEventStartIndex": 0}, []),
            ({"tooOldLogEventEndIndex": 4}, []),
            ({"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2}, ["id-1"]),
            ({"tooOldLogEventEndIndex": 2, "tooNewLogEventStartIndex": 2}, []),
            ({"tooOldLogEventEndIndex": 0, "tooNewLogEventStartIndex": 4}, ["id-0", "id-1", "id-2", "id-3"]),
            ({}, ["id-0", "id-1", "id-2", "id-3"]),
        ],
    )
    def test_are_read_exactly(
        self, open_logs: Open, logs: LogsEmulator, rejected: dict[str, int], first_call: list[str]
    ) -> None:
        # Given that what is refused first is refused again with the time of the call, all of it
        destination = open_logs(logs.url)
        destination.deliver(events(destination, 50))
        refused = 4 - len(first_call)
        logs.inject(Fault(kind="body", body=json.dumps({"rejectedLogEventsInfo": rejected})))
        if refused:
            again = json.dumps({"rejectedLogEventsInfo": {"tooOldLogEventEndIndex": refused}})
            logs.inject(Fault(kind="body", body=again))
        sent = events(destination, 40, 30, 20, 10)

        answer = destination.deliver(sent)

        assert answer.successful == {event.id for event in sent if event.entry.value["request_id"] in first_call}
        assert set(answer.failed) == {event.id for event in sent} - answer.successful
        assert logs.pending_faults() == 0

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "null",
            "[]",
            "<html>",
            '{"nextSeq',
            '{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":2}}',
            '{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":-1}}',
            '{"rejectedLogEventsInfo":{"tooNewLogEventStartIndex":2}}',
            '{"rejectedLogEventsInfo":{"expiredLogEventEndIndex":"x"}}',
            '{"rejectedLogEventsInfo":[1]}',
        ],
    )
    def test_that_make_no_sense_confirm_nothing(self, open_logs: Open, logs: LogsEmulator, body: str) -> None:
        destination = open_logs(logs.url)
        destination.deliver(events(destination, 50))
        logs.inject(Fault(kind="body", body=body))
        with pytest.raises(DestinationUnavailable) as unavailable:
            destination.deliver(events(destination, 1))
        assert unavailable.value.maybe_accepted
        assert unavailable.value.code == "BrokenAnswer"

    @pytest.mark.parametrize("body", ["{}", '{"nextSequenceToken":"49"}', '{"rejectedLogEventsInfo":null}'])
    def test_that_are_not_there_confirm_everything(self, open_logs: Open, logs: LogsEmulator, body: str) -> None:
        destination = open_logs(logs.url)
        destination.deliver(events(destination, 50))
        logs.inject(Fault(kind="body", body=body))
        assert len(destination.deliver(events(destination, 2, 1)).successful) == 2


class TestSecondCallThatFails:
    """What the first call has delivered is confirmed all the same."""

    @pytest.mark.parametrize(
        ("fault", "code"),
        [
            (faults.aws_error("ServiceUnavailableException", 500), "ServiceUnavailableException"),
            (faults.aws_error("InvalidParameterException"), "InvalidParameterException"),
            (faults.aws_error("AccessDeniedException"), "DestinationMisconfigured"),
            (Fault(kind="reset_after"), None),
        ],
        ids=lambda value: str(value) if isinstance(value, str) else None,
    )
    def test_is_told_for_the_others(self, open_logs: Open, logs: LogsEmulator, fault: Fault, code: str | None) -> None:
        destination = open_logs(logs.url)
        destination.deliver(events(destination, 50))
        logs.inject(Fault(kind="slow"))
        logs.inject(fault)
        sent = events(destination, 20 * DAY, 5)

        answer = destination.deliver(sent)

        assert answer.successful == {sent[1].id}
        assert {name: failure.code for name, failure in answer.failed.items()} == (
            {} if code is None else {sent[0].id: code}
        )


class TestMisconfiguration:
    @pytest.mark.parametrize(
        ("code", "advice"),
        [
            ("AccessDeniedException", "logs:PutLogEvents"),
            ("AccessDeniedException", "in the key's policy"),
            ("UnrecognizedClientException", "credentials"),
            ("InvalidSignatureException", "the clock is wrong"),
            ("ExpiredTokenException", "expired"),
            ("OptInRequired", "opt in"),
        ],
    )
    def test_says_what_to_change(self, open_logs: Open, logs: LogsEmulator, code: str, advice: str) -> None:
        destination = open_logs(logs.url)
        logs.inject(faults.aws_error(code))
        with pytest.raises(DestinationMisconfigured, match=f"{code}.*{advice}"):
            destination.deliver(events(destination, 0))

    def test_group_that_does_not_exist(self, open_logs: Open, logs: LogsEmulator) -> None:
        destination = open_logs(logs.url)
        logs.delete_group(LOG_GROUP)
        with pytest.raises(DestinationMisconfigured, match="LOG_GROUP"):
            destination.deliver(events(destination, 0))

    def test_stream_that_may_not_be_created(self, open_logs: Open, logs: LogsEmulator) -> None:
        destination = open_logs(logs.url)
        logs.inject(faults.aws_error("AccessDeniedException", path="/CreateLogStream"))
        with pytest.raises(DestinationMisconfigured, match="logs:CreateLogStream"):
            destination.deliver(events(destination, 0))

    def test_other_region(self, open_logs: Open, logs: LogsEmulator) -> None:
        destination = open_logs(logs.url, region="eu-west-1")
        with pytest.raises(DestinationMisconfigured):
            destination.deliver(events(destination, 0))

    def test_missing_credentials(self, open_logs: Open, logs: LogsEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        destination = open_logs(logs.url)
        with pytest.raises(DestinationMisconfigured, match="no AWS credentials"):
            destination.deliver(events(destination, 0))


@pytest.mark.parametrize(
    "fault",
    [
        faults.aws_error("InvalidParameterException"),
        faults.aws_error("SerializationException"),
        Fault(kind="status", status=413, body="<html>"),
    ],
    ids=["parameter", "serialization", "413"],
)
def test_call_refused_for_its_content(open_logs: Open, logs: LogsEmulator, fault: Fault) -> None:
    destination = open_logs(logs.url)
    logs.inject(fault)
    with pytest.raises(BatchRefused):
        destination.deliver(events(destination, 0))


class TestUnavailable:
    @pytest.mark.parametrize(
        ("fault", "code", "throttled"),
        [
            (Fault(kind="throttle"), "ThrottlingException", True),
            (faults.aws_error("LimitExceededException"), "LimitExceededException", True),
            (Fault(kind="status", status=429, body="slow down"), "429", True),
            (faults.aws_error("ServiceUnavailableException", 500), "ServiceUnavailableException", False),
            (faults.aws_error("OperationAbortedException"), "OperationAbortedException", False),
            (Fault(kind="status", status=500, body="<html>"), "500", False),
            (faults.aws_error("SomethingNew"), "SomethingNew", False),
        ],
        ids=lambda value: f"{value.kind} {value.status}" if isinstance(value, Fault) else None,
    )
    def test_was_not_accepted_and_may_work_later(
        self, open_logs: Open, logs: LogsEmulator, fault: Fault, code: str, throttled: bool
    ) -> None:
        destination = open_logs(logs.url)
        logs.inject(fault)
        with pytest.raises(DestinationUnavailable) as unavailable:
            destination.deliver(events(destination, 0))
        assert unavailable.value.code == code
        assert unavailable.value.throttled is throttled
        assert not unavailable.value.maybe_accepted
        assert logs.stored_count() == 0

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(kind="reset_after"),
            Fault(kind="cut_off"),
            Fault(kind="status", status=502, body="<html>"),
            Fault(kind="status", status=504, body="<html>"),
        ],
        ids=lambda fault: f"{fault.kind} {fault.status}",
    )
    def test_may_have_been_accepted(self, open_logs: Open, logs: LogsEmulator, fault: Fault) -> None:
        destination = open_logs(logs.url)
        destination.deliver(events(destination, 50))
        logs.inject(fault)
        with pytest.raises(DestinationUnavailable) as unavailable:
            destination.deliver(events(destination, 0))
        assert unavailable.value.maybe_accepted

    def test_answer_that_does_not_come_in_time(self, open_logs: Open, logs: LogsEmulator) -> None:
        destination = open_logs(logs.url, answer_seconds=0.1)
        logs.configure(latency_seconds=1)
        with pytest.raises(DestinationUnavailable) as unavailable:
            destination.deliver(events(destination, 0))
        assert unavailable.value.maybe_accepted

    def test_nobody_listens(self, open_logs: Open, logs: LogsEmulator) -> None:
        destination = open_logs(logs.url)
        logs.__exit__()
        with pytest.raises(DestinationUnavailable, match=r"could not be reached.*VPC endpoint") as away:
            destination.deliver(events(destination, 0))
        assert not away.value.maybe_accepted

    def test_certificate_that_is_not_trusted(self, open_logs: Open, certificates: Certificates) -> None:
        server = HttpServer(lambda request: Response(200), tls=certificates.server_context())
        server.start()
        try:
            destination = open_logs(server.origin)
            with pytest.raises(DestinationUnavailable, match="certificate is not trusted"):
                destination.deliver(events(destination, 0))
        finally:
            server.stop()

    def test_message_holds_nothing_of_the_answer(self, open_logs: Open, logs: LogsEmulator) -> None:
        body = json.dumps({"__type": "ServiceUnavailableException", "message": "the payload was hunter2"})
        destination = open_logs(logs.url)
        logs.inject(Fault(kind="status", status=500, body=body))
        with pytest.raises(DestinationUnavailable) as unavailable:
            destination.deliver(events(destination, 0))
        assert "hunter2" not in str(unavailable.value)
