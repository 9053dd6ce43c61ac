"""The CloudTrail adapter against an emulator of PutAuditEvents, as strict as the documentation, over real sockets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from kong_cloudtrail.destinations.cloudtrail.destination import CloudTrailLake
from kong_cloudtrail.destinations.cloudtrail.event import EventMapper
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.errors import BatchRefused, DestinationMisconfigured, DestinationUnavailable
from kong_cloudtrail.sources.kong.entries import read_entry

from sandbox.cloudtrail.emulator import CHANNEL_ARN, CloudTrailEmulator
from sandbox.machinery import faults
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.faults import Fault
from sandbox.machinery.http_server import LOOPBACK, HttpServer, Request, Response
from tests.helpers import ACCOUNT_ID, GATEWAY, entries, entry, locate_original

pytestmark = pytest.mark.usefixtures("aws_credentials")

ANSWERS_THAT_SAY_NOTHING = [
    "",
    "{}",
    "null",
    "[]",
    "[1]",
    '"text"',
    "<html>",
    '{"successful":',
    '{"successful":[],"failed":[]}',
    '{"successful":null,"failed":null}',
    '{"successful":[null],"failed":[null]}',
    '{"successful":[{}],"failed":[{}]}',
    '{"successful":[1,"a",[]],"failed":[2]}',
    '{"successful":{"id":"a"},"failed":"b"}',
    '{"successful":[{"id":["a"]},{"id":{}},{"id":5}]}',
]

Connect = Callable[..., CloudTrailLake]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Return a function that connects to an emulator."""
    made: list[CloudTrailLake] = []

    def connect_to(
        url: str,
        *,
        channel_arn: str = CHANNEL_ARN,
        region: str = "us-east-1",
        external_id: str | None = None,
        connect_seconds: float = 5.0,
        answer_seconds: float = 15.0,
    ) -> CloudTrailLake:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDTRAIL_DATA", url)
        made.append(
            CloudTrailLake(
                channel_arn,
                region,
                ACCOUNT_ID,
                external_id=external_id,
                map_status_to_error_code=False,
                locate_original=locate_original,
                connections=4,
                connect_seconds=connect_seconds,
                answer_seconds=answer_seconds,
            )
        )
        return made[-1]

    yield connect_to
    for destination in made:
        destination.close()


def events(count: int = 1, *, account_id: str = ACCOUNT_ID) -> list[Event]:
    mapper = EventMapper(GATEWAY, account_id, locate_original)
    return [mapper.map(read_entry(row)) for row in entries(count)]


class TestDelivery:
    def test_accepted_events_are_confirmed_by_id(self, connect: Connect, cloudtrail: CloudTrailEmulator) -> None:
        answer = connect(cloudtrail.url).deliver(events(100))

        assert answer.successful == frozenset(cloudtrail.accepted_ids())
        assert len(answer.successful) == 100
        assert answer.failed == {}

    def test_event_arrives_as_it_was_made(self, connect: Connect, cloudtrail: CloudTrailEmulator) -> None:
        odd = EventMapper(GATEWAY, ACCOUNT_ID, locate_original).map(
            read_entry(entry(1, request_id="not legal here: ä", path="/é😀\ud800", payload='{"a":"\\u0000\\""}'))
        )

        connect(cloudtrail.url).deliver([odd])

        [accepted] = cloudtrail.accepted()
        assert accepted.event_data == odd.data
        assert accepted.uid == "not legal here: ä"

    def test_refused_entries_come_back_with_code_and_message(
        self, connect: Connect, cloudtrail: CloudTrailEmulator
    ) -> None:
        sent = events(3)
        cloudtrail.fail_entries("InvalidData", ids=[sent[1].id])
        cloudtrail.fail_entries("SomethingNew", ids=[sent[2].id])

        answer = connect(cloudtrail.url).deliver(sent)

        assert answer.successful == {sent[0].id}
        assert {name: failure.code for name, failure in answer.failed.items()} == {
            sent[1].id: "InvalidData",
            sent[2].id: "SomethingNew",
        }
        assert answer.failed[sent[1].id].message == "injected"

    def test_checksum_is_the_sha_256_of_the_event_in_base64(self, connect: Connect) -> None:
        bodies: list[bytes] = []

        def answer(request: Request) -> Response:
            bodies.append(request.body)
            return Response(200, b'{"successful":[{"id":"a"}],"failed":[]}')

        server = HttpServer(answer)
        server.start()
        try:
            connect(server.origin).deliver(events(2))
        finally:
            server.stop()

        for sent in json.loads(bodies[0])["auditEvents"]:
            digest = hashlib.sha256(sent["eventData"].encode()).digest()
            assert sent["eventDataChecksum"] == base64.b64encode(digest).decode()

    def test_external_id_is_sent_where_it_is_set(self, connect: Connect) -> None:
        with CloudTrailEmulator(external_id="an+external=id") as cloudtrail:
            assert connect(cloudtrail.url, external_id="an+external=id").deliver(events()).successful

            with pytest.raises(DestinationMisconfigured, match="EXTERNAL_ID"):
                connect(cloudtrail.url).deliver(events())

    def test_several_calls_at_once_keep_their_connections(
        self, connect: Connect, cloudtrail: CloudTrailEmulator
    ) -> None:
        cloudtrail.configure(latency_seconds=0.3)
        destination = connect(cloudtrail.url)

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda event: destination.deliver([event]), events(8)))

        assert all(answer.successful for answer in answers)
        assert cloudtrail.max_in_flight == 4
        assert cloudtrail.connections == 4


class TestIncompleteAnswer:
    """What an answer leaves out was not confirmed; what it says counts all the same."""

    @pytest.mark.parametrize(
        ("body", "successful", "failed"),
        [
            ({"successful": [{"id": "a", "eventID": "x"}]}, {"a"}, {}),
            ({"failed": [{"id": "a", "errorCode": "InvalidData"}]}, set(), {"a": "InvalidData"}),
            ({"successful": [], "failed": [{"id": "a"}]}, set(), {"a": "unknown"}),
            ({"successful": None, "failed": [{"id": "a", "errorCode": None}]}, set(), {"a": "unknown"}),
            ({"successful": [{"id": "a"}, None, {}], "failed": None}, {"a"}, {}),
            ({"successful": [{"id": "a"}], "failed": [None]}, {"a"}, {}),
            ({"successful": [{"id": ["x"]}, {"id": "a"}], "failed": [{"id": 5}]}, {"a"}, {}),
        ],
    )
    def test_is_read_as_far_as_it_goes(
        self,
        connect: Connect,
        cloudtrail: CloudTrailEmulator,
        body: dict[str, object],
        successful: set[str],
        failed: dict[str, str],
    ) -> None:
        cloudtrail.inject(Fault(kind="body", body=json.dumps(body)))

        answer = connect(cloudtrail.url).deliver(events())

        assert answer.successful == successful
        assert {name: failure.code for name, failure in answer.failed.items()} == failed


class TestMisconfiguration:
    @pytest.mark.parametrize(
        ("code", "advice"),
        [
            ("ChannelNotFound", "correct CHANNEL_ARN"),
            ("InvalidChannelARN", "write it as CloudTrail shows it"),
            ("ChannelInsufficientPermission", "resource policy"),
            ("ChannelUnsupportedSchema", "activity audit logs"),
            ("UnsupportedOperationException", "no CloudTrail Lake channels"),
            ("AccessDeniedException", "cloudtrail-data:PutAuditEvents"),
            ("UnrecognizedClientException", "credentials"),
            ("InvalidSignatureException", "the clock is wrong"),
            ("ExpiredTokenException", "expired"),
            ("SignatureDoesNotMatch", "the clock is wrong"),
            ("RequestExpired", "clock"),
            ("RequestTimeTooSkewed", "clock"),
            ("InvalidSignature", "the clock is wrong"),
            ("InvalidClientTokenId", "credentials"),
        ],
    )
    def test_says_what_to_change_and_is_not_repeated(
        self, connect: Connect, cloudtrail: CloudTrailEmulator, code: str, advice: str
    ) -> None:
        cloudtrail.inject(faults.aws_error(code))

        with pytest.raises(DestinationMisconfigured, match=f"{code}.*{advice}"):
            connect(cloudtrail.url).deliver(events())

        assert len(cloudtrail.calls) == 1

    def test_channel_that_does_not_exist(self, connect: Connect, cloudtrail: CloudTrailEmulator) -> None:
        other = CHANNEL_ARN.removesuffix("cdef") + "0000"

        with pytest.raises(DestinationMisconfigured, match="there is no such channel"):
            connect(cloudtrail.url, channel_arn=other).deliver(events())

    def test_channel_of_another_region(self, connect: Connect, cloudtrail: CloudTrailEmulator) -> None:
        with pytest.raises(DestinationMisconfigured, match="in this region"):
            connect(cloudtrail.url, region="eu-west-1").deliver(events())

    def test_region_is_the_channels_and_not_the_environments(
        self, connect: Connect, cloudtrail: CloudTrailEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")

        assert connect(cloudtrail.url).deliver(events()).successful

    def test_missing_credentials(
        self, connect: Connect, cloudtrail: CloudTrailEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

        with pytest.raises(DestinationMisconfigured, match="no AWS credentials"):
            connect(cloudtrail.url).deliver(events())

    def test_other_account_is_told_entry_by_entry(self, connect: Connect, cloudtrail: CloudTrailEmulator) -> None:
        answer = connect(cloudtrail.url).deliver(events(2, account_id="210987654321"))

        assert {failure.code for failure in answer.failed.values()} == {"InvalidRecipient"}


class TestRefusedForItsContent:
    @pytest.mark.parametrize(
        "code", ["ValidationException", "SerializationException", "DuplicatedAuditEventId", "InvalidParameterException"]
    )
    def test_is_told_apart_from_other_errors(self, connect: Connect, cloudtrail: CloudTrailEmulator, code: str) -> None:
        cloudtrail.inject(faults.aws_error(code))

        with pytest.raises(BatchRefused) as refused:
            connect(cloudtrail.url).deliver(events())

        assert refused.value.code == code

    def test_whatever_answers_413_means_the_size(self, connect: Connect, cloudtrail: CloudTrailEmulator) -> None:
        cloudtrail.inject(Fault(kind="status", status=413, body="<html>Request Entity Too Large</html>"))

        with pytest.raises(BatchRefused):
            connect(cloudtrail.url).deliver(events())

    def test_id_twice_in_a_call(self, connect: Connect, cloudtrail: CloudTrailEmulator) -> None:
        [event] = events()

        with pytest.raises(BatchRefused) as refused:
            connect(cloudtrail.url).deliver([event, event])

        assert refused.value.code == "DuplicatedAuditEventId"


class TestUnavailable:
    @pytest.mark.parametrize(
        ("fault", "code", "throttled"),
        [
            (Fault(kind="throttle"), "ThrottlingException", True),
            (faults.aws_error("TooManyRequestsException", 429), "TooManyRequestsException", True),
            (faults.aws_error("SlowDown", 503), "SlowDown", True),
            (faults.aws_error("RequestLimitExceeded", 400), "RequestLimitExceeded", True),
            (Fault(kind="status", status=429, body="slow down"), "429", True),
            (faults.aws_error("InternalFailure", 500), "InternalFailure", False),
            (faults.aws_error("ServiceUnavailable", 503), "ServiceUnavailable", False),
            (faults.aws_error("InternalServerException", 502), "InternalServerException", False),
            (Fault(kind="status", status=500, body="<html>"), "500", False),
            (Fault(kind="status", status=503, body="<html>"), "503", False),
            (Fault(kind="status", status=403, body="<html>"), "403", False),
            (faults.aws_error("SomethingNew", 400), "SomethingNew", False),
        ],
        ids=lambda value: f"{value.kind} {value.status}" if isinstance(value, Fault) else None,
    )
    def test_was_not_accepted_and_may_work_later(
        self, connect: Connect, cloudtrail: CloudTrailEmulator, fault: Fault, code: str, throttled: bool
    ) -> None:
        cloudtrail.inject(fault)

        with pytest.raises(DestinationUnavailable) as unavailable:
            connect(cloudtrail.url).deliver(events())

        assert unavailable.value.code == code
        assert unavailable.value.throttled is throttled
        assert not unavailable.value.maybe_accepted
        assert len(cloudtrail.calls) == 1

    @pytest.mark.parametrize(
        ("fault", "code"),
        [
            (Fault(kind="reset"), "ConnectionClosedError"),
            (Fault(kind="reset_after"), "ConnectionClosedError"),
            (Fault(kind="status", status=502, body="<html>"), "502"),
            (Fault(kind="status", status=504, body="<html>"), "504"),
            (Fault(kind="cut_off"), "BrokenAnswer"),
            *[(Fault(kind="body", body=body), "BrokenAnswer") for body in ANSWERS_THAT_SAY_NOTHING],
        ],
        ids=lambda value: f"{value.kind} {value.body or value.status}" if isinstance(value, Fault) else None,
    )
    def test_may_have_been_accepted(
        self, connect: Connect, cloudtrail: CloudTrailEmulator, fault: Fault, code: str
    ) -> None:
        cloudtrail.inject(fault)

        with pytest.raises(DestinationUnavailable) as unavailable:
            connect(cloudtrail.url).deliver(events())

        assert unavailable.value.code == code
        assert unavailable.value.maybe_accepted
        assert len(cloudtrail.calls) == 1

    def test_nobody_listens(self, connect: Connect, cloudtrail: CloudTrailEmulator) -> None:
        cloudtrail.__exit__()

        with pytest.raises(
            DestinationUnavailable, match=r"could not be reached \(EndpointConnectionError\).*NAT"
        ) as away:
            connect(cloudtrail.url).deliver(events())

        assert not away.value.maybe_accepted

    def test_name_that_nobody_knows(self, connect: Connect) -> None:
        with pytest.raises(
            DestinationUnavailable, match=r"could not be reached \(EndpointConnectionError\)"
        ) as unknown:
            connect("http://cloudtrail.invalid").deliver(events())

        assert not unknown.value.maybe_accepted

    def test_certificate_that_is_not_trusted(self, connect: Connect, certificates: Certificates) -> None:
        server = HttpServer(lambda request: Response(200), tls=certificates.server_context())
        server.start()
        try:
            with pytest.raises(DestinationUnavailable, match="certificate is not trusted") as untrusted:
                connect(server.origin).deliver(events())
        finally:
            server.stop()

        assert not untrusted.value.maybe_accepted

    def test_answer_that_does_not_come_in_time(self, connect: Connect, cloudtrail: CloudTrailEmulator) -> None:
        cloudtrail.configure(latency_seconds=1)

        with pytest.raises(DestinationUnavailable) as unavailable:
            connect(cloudtrail.url, answer_seconds=0.1).deliver(events())

        assert unavailable.value.code == "ReadTimeoutError"
        assert unavailable.value.maybe_accepted

    def test_connection_that_is_not_made_in_time(self, connect: Connect) -> None:
        # Given a listener whose queue is full: the next connection waits for ever
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server((LOOPBACK, 0), backlog=0))
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listener.getsockname())

            with pytest.raises(DestinationUnavailable) as unavailable:
                connect(f"http://{LOOPBACK}:{listener.getsockname()[1]}", connect_seconds=0.2).deliver(events())

        assert unavailable.value.code == "ConnectTimeoutError"
        assert not unavailable.value.maybe_accepted

    def test_message_holds_nothing_of_the_answer(self, connect: Connect, cloudtrail: CloudTrailEmulator) -> None:
        body = json.dumps({"message": "the payload was hunter2"})
        cloudtrail.inject(Fault(kind="status", status=500, body=body, headers={"x-amzn-ErrorType": "InternalFailure"}))

        with pytest.raises(DestinationUnavailable) as unavailable:
            connect(cloudtrail.url).deliver(events())

        assert "hunter2" not in str(unavailable.value)
