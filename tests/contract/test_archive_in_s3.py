"""The archive against two S3 that nobody here wrote, and against an S3 that fails."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from kong_cloudtrail.destinations.archive.destination import Archive
from kong_cloudtrail.destinations.archive.held import HeldEntries
from kong_cloudtrail.destinations.archive.line import LineMapper
from kong_cloudtrail.destinations.archive.part_log import PartAbsent, PartLog
from kong_cloudtrail.destinations.archive.s3 import S3Parts
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.errors import DestinationMisconfigured, DestinationUnavailable
from kong_cloudtrail.sources.kong.entries import read_entry
from moto.server import ThreadedMotoServer

from sandbox.machinery.http_server import LOOPBACK, HttpServer, Request, Response
from sandbox.machinery.local_aws import LocalAws
from tests.helpers import GATEWAY, NOW, entry

BUCKET = "archive-of-tests"
URL = f"s3://{BUCKET}/trail"
RUN_ID = "665af000-0000000a"
PART = "source=kong/stream=requests/day=2024-06-01/11-000000.json.gz"
MAPPER = LineMapper(GATEWAY, "kong", "requests")


def events(*numbers: int) -> list[Event]:
    return [MAPPER.map(read_entry(entry(number, request_timestamp=NOW - 60))) for number in numbers]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(LOOPBACK, 0, verbose=False)
    server.start()
    yield f"http://{LOOPBACK}:{server.get_host_and_port()[1]}"
    server.stop()


@pytest.fixture(params=["moto", "ministack"])
def endpoint(request: pytest.FixtureRequest, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "moto":
        url: str = request.getfixturevalue("moto")
    else:
        aws: LocalAws = request.getfixturevalue("local_aws")
        url = aws.url
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    return url


@pytest.fixture
def s3(endpoint: str) -> Iterator[Any]:
    """A client of an empty bucket that keeps versions."""
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    yield client
    found = client.list_object_versions(Bucket=BUCKET)
    for item in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]:
        client.delete_object(Bucket=BUCKET, Key=item["Key"], VersionId=item["VersionId"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


@pytest.fixture
def open_log(s3: Any) -> Iterator[Callable[[], PartLog]]:
    opened: list[PartLog] = []

    def open_one() -> PartLog:
        opened.append(PartLog(S3Parts(URL), "kong", "requests"))
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()


def keys(s3: Any) -> list[str]:
    """Return what a reader of the bucket finds."""
    bodies = [
        s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
        for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    ]
    return [json.loads(line)["key"] for body in bodies for line in gzip.decompress(body).splitlines()]


def expected(*numbers: int) -> list[str]:
    return sorted(event.entry.key for event in events(*numbers))


class TestEveryS3:
    def test_keeps_lines_below_the_prefix(self, s3: Any, open_log: Callable[[], PartLog]) -> None:
        Archive(open_log(), "kong", "requests", RUN_ID).deliver(events(1, 2))

        assert [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [f"trail/{PART}"]
        body = gzip.decompress(s3.get_object(Bucket=BUCKET, Key=f"trail/{PART}")["Body"].read())
        assert body.decode() == "".join(f"{event.data}\n" for event in events(1, 2))

    def test_never_writes_over_a_part(self, s3: Any) -> None:
        store = S3Parts(URL)

        assert store.create(PART, b"first")
        assert not store.create(PART, b"second")
        assert b"".join(store.read(PART)) == b"first"

    def test_does_not_invent_a_part(self, s3: Any) -> None:
        store = S3Parts(URL)

        assert list(store.listed("")) == []
        with pytest.raises(PartAbsent):
            list(store.read(PART))

    def test_shows_the_first_version_of_what_was_removed_or_overwritten(self, s3: Any) -> None:
        store = S3Parts(URL)
        for name in ("a", "b", "c"):
            store.create(name, b"first")
        s3.delete_object(Bucket=BUCKET, Key="trail/a")
        s3.put_object(Bucket=BUCKET, Key="trail/b", Body=b"second")

        listed = {part.name: part for part in store.listed("")}

        assert {name: part.is_intact for name, part in listed.items()} == {"a": False, "b": False, "c": True}
        assert [b"".join(store.read(name, listed[name].version)) for name in "abc"] == [b"first"] * 3

    def test_bucket_without_versions_will_do(self, s3: Any, open_log: Callable[[], PartLog]) -> None:
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
        open_log().append("day=2024-06-01/11", events(1), RUN_ID)

        open_log().append("day=2024-06-01/11", events(1, 2), RUN_ID)

        assert sorted(keys(s3)) == expected(1, 2)

    def test_any_number_of_writers_put_each_entry_into_one_part(self, s3: Any, open_log: Callable[[], PartLog]) -> None:
        logs = [open_log() for _ in range(6)]

        def write(number: int) -> None:
            for begin in range(0, 30, 6):
                mine = range(begin + number, begin + number + 8)
                logs[number].append("day=2024-06-01/11", events(*mine), RUN_ID)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(write, range(6)))

        assert sorted(keys(s3)) == expected(*range(37))

    def test_next_run_knows_what_is_there(self, s3: Any, open_log: Callable[[], PartLog]) -> None:
        Archive(open_log(), "kong", "requests", RUN_ID).deliver(events(1, 2))
        seen = HeldEntries(open_log())
        seen.open()

        assert sorted(seen.seen([event.entry for event in events(1, 2, 3)])) == expected(1, 2)

    def test_missing_bucket_is_a_misconfiguration(self, s3: Any) -> None:
        store = S3Parts("s3://no-such-bucket-here/trail")

        for action in (lambda: store.create(PART, b""), lambda: list(store.read(PART)), lambda: store.listed("")):
            with pytest.raises(DestinationMisconfigured, match=r"s3://no-such-bucket-here/trail.*NoSuchBucket.*create"):
                action()


class FailingS3:
    """Answers writes with errors, so often, and then as S3 does; may store what it answers with an error."""

    def __init__(self, answer: Response, *, times: int, stores: bool = False) -> None:
        self._answer = answer
        self._times = times
        self._stores = stores
        self.objects: dict[str, bytes] = {}
        self.writes = 0
        self.server = HttpServer(self._handle)

    def _handle(self, request: Request) -> Response:
        name = request.path
        if request.method == "GET":
            return Response(200, self.objects[name])
        assert request.headers["if-none-match"] == "*"
        self.writes += 1
        fails = self.writes <= self._times
        if fails and not self._stores:
            return self._answer
        if name in self.objects and not fails:
            return error(412, "PreconditionFailed")
        self.objects.setdefault(name, request.body)
        return self._answer if fails else Response(200, b"", {"ETag": '"new"'})


def error(status: int, code: str, message: str = "no") -> Response:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Response(status, body, {"Content-Type": "application/xml"})


class TestFailingS3:
    @pytest.fixture
    def failing(
        self, aws_credentials: None, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Callable[..., tuple[FailingS3, S3Parts, list[float]]]]:
        started: list[FailingS3] = []

        def start(answer: Response, **options: Any) -> tuple[FailingS3, S3Parts, list[float]]:
            s3 = FailingS3(answer, **options)
            s3.server.start()
            started.append(s3)
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.server.origin)
            waits: list[float] = []
            return s3, S3Parts(URL, answer_seconds=1, sleep=waits.append), waits

        yield start
        for s3 in started:
            s3.server.stop()

    @pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
    def test_that_is_busy_is_asked_again(self, failing: Callable[..., Any], code: str) -> None:
        s3, store, waits = failing(error(409, code), times=2)

        assert store.create(PART, b"mine")
        assert (s3.writes, len(waits)) == (3, 2)

    def test_that_stays_busy_is_unavailable(self, failing: Callable[..., Any]) -> None:
        _, store, _ = failing(error(409, "ConditionalRequestConflict"), times=100)

        with pytest.raises(DestinationUnavailable, match="ConditionalRequestConflict"):
            store.create(PART, b"mine")

    @pytest.mark.parametrize("lost", [Response(200, ending="reset"), error(500, "InternalError")], ids=["reset", "500"])
    def test_whose_answer_is_lost_says_that_the_part_exists(self, failing: Callable[..., Any], lost: Response) -> None:
        # When the SDK repeats a write that was stored
        s3, store, _ = failing(lost, times=1, stores=True)

        assert not store.create(PART, b"mine")
        assert b"".join(store.read(PART)) == b"mine"
        assert s3.writes == 2

    @pytest.mark.parametrize(
        ("status", "code", "message", "advice"),
        [
            (403, "AccessDenied", "Access Denied", "s3:PutObject.*s3:ListBucketVersions"),
            (403, "AccessDenied", "not authorized to perform: kms:GenerateDataKey", "kms:GenerateDataKey"),
            (400, "KMS.DisabledException", "disabled", "key is enabled"),
            (404, "NoSuchBucket", "", "create it"),
            (403, "InvalidAccessKeyId", "", "credentials are not valid"),
            (400, "ExpiredToken", "", "have expired"),
            (403, "RequestTimeTooSkewed", "", "NTP"),
            (501, "NotImplemented", "", "If-None-Match"),
        ],
    )
    def test_that_refuses_everything_is_a_misconfiguration(
        self, failing: Callable[..., Any], status: int, code: str, message: str, advice: str
    ) -> None:
        _, store, _ = failing(error(status, code, message), times=100)

        with pytest.raises(DestinationMisconfigured, match=rf"{URL}.*{code}.*{advice}") as caught:
            store.create(PART, b"payload")

        assert "payload" not in str(caught.value)

    @pytest.mark.parametrize(
        ("answer", "code", "throttled"),
        [
            (error(503, "SlowDown"), "SlowDown", True),
            (error(500, "InternalError"), "InternalError", False),
            (error(400, "BadDigest"), "BadDigest", False),
            (error(400, "KMS.ThrottlingException"), "KMS.ThrottlingException", True),
            (Response(200, ending="reset"), "ConnectionClosedError", False),
            (Response(200, ending="hang"), "ReadTimeoutError", False),
        ],
    )
    def test_that_fails_is_unavailable(
        self, failing: Callable[..., Any], answer: Response, code: str, throttled: bool
    ) -> None:
        _, store, _ = failing(answer, times=100)

        with pytest.raises(DestinationUnavailable) as caught:
            store.create(PART, b"mine")

        assert (caught.value.code, caught.value.throttled) == (code, throttled)

    def test_body_that_breaks_off_is_unavailable(self, failing: Callable[..., Any]) -> None:
        s3, store, _ = failing(error(500, "InternalError"), times=0)
        store.create(PART, b"x" * 1000)
        s3.server.stop()
        cut = HttpServer(
            lambda request: Response(200, b"x" * 1000, ending="cut_off"), port=int(s3.server.origin.rpartition(":")[2])
        )
        cut.start()

        with pytest.raises(DestinationUnavailable):
            list(store.read(PART))

        cut.stop()
