"""What the doctor says about archive, CloudTrail Lake and AWS's clock, beside what is really wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from kong_cloudtrail.destinations.archive.checkup import BucketCheckup, FolderCheckup, SigningCheckup
from kong_cloudtrail.destinations.archive.folder import FolderParts
from kong_cloudtrail.destinations.cloudtrail.checkup import ChannelCheckup, endpoint_check
from kong_cloudtrail.domain.finding import Finding, Status
from kong_cloudtrail.errors import LedgerError
from kong_cloudtrail.ports import Signer
from kong_cloudtrail.runtime.aws_clock import AwsClockCheckup
from moto.server import ThreadedMotoServer

from sandbox.machinery.http_server import LOOPBACK, HttpServer, Request, Response, http_date
from sandbox.machinery.processes import free_port
from tests.helpers import NOW, FakeClock

BUCKET = "archive-to-examine"
PART = "source=kong/stream=requests/day=2024-06-01/11-000000.json.gz"
CHANNEL = "arn:aws:cloudtrail:us-east-1:123456789012:channel/01234567-89ab-cdef-0123-456789abcdef"
STORE = "arn:aws:cloudtrail:us-east-1:123456789012:eventdatastore/EXAMPLE"
LIMITS: dict[str, Any] = {"connect_seconds": 0.5, "answer_seconds": 1.0}
POLICY = [
    {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{BUCKET}/trail/*",
        "Condition": {"Null": {"s3:if-none-match": "true"}},
    },
    {
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": ["s3:DeleteObject*", "s3:BypassGovernanceRetention"],
        "Resource": [f"arn:aws:s3:::{BUCKET}/trail/*"],
    },
]


def by_name(found: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in found}


def bad(found: dict[str, Finding]) -> dict[str, Status]:
    return {name: finding.status for name, finding in found.items() if finding.status is not Status.OK}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(LOOPBACK, 0, verbose=False)
    server.start()
    yield f"http://{LOOPBACK}:{server.get_host_and_port()[1]}"
    server.stop()


@pytest.fixture(scope="module")
def bucket(moto: str, descriptions_of_services: None) -> Iterator[Any]:
    """A client of a bucket as the stack makes it, with one part; but without its policy, which moto misunderstands."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "local")
        patch.setenv("AWS_ENDPOINT_URL_S3", moto)
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        client.put_object_lock_configuration(
            Bucket=BUCKET,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 365}},
            },
        )
        client.put_object(Bucket=BUCKET, Key=f"trail/{PART}", Body=b"a part")
        yield client
        client.close()


@pytest.mark.usefixtures("aws_credentials")
class TestBucket:
    @pytest.fixture(autouse=True)
    def in_moto(self, moto: str, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)

    def examine(
        self, source: str = "kong", place: str = f"s3://{BUCKET}/trail", streams: Sequence[str] = ("requests",)
    ) -> dict[str, Finding]:
        found = list(BucketCheckup(place, source, streams, **LIMITS).run())
        assert len({finding.check for finding in found}) == len(found)
        return by_name(iter(found))

    def test_healthy_and_leaves_nothing(self, bucket: Any) -> None:
        found = self.examine()

        assert bad(found) == {"policy": Status.WARNING}
        assert list(found) == ["bucket", "reading", "writing", "versioning", "Object Lock", "policy"]
        assert "412" in found["writing"].what
        assert "365 days (governance)" in found["Object Lock"].what
        (only,) = bucket.list_object_versions(Bucket=BUCKET)["Versions"]
        assert only["Key"] == f"trail/{PART}"

    def test_without_a_part_nothing_is_tried(self, bucket: Any) -> None:
        found = self.examine("another")

        assert {found["reading"].status, found["writing"].status} == {Status.NOT_CHECKED}
        assert len(bucket.list_object_versions(Bucket=BUCKET)["Versions"]) == 1

    def test_two_streams_are_told_apart_and_their_bucket_is_looked_at_once(self, bucket: Any) -> None:
        found = self.examine(streams=["requests", "objects"])

        assert found["reading (requests)"].status is Status.OK
        assert found["reading (objects)"].status is Status.NOT_CHECKED
        assert "Object Lock" in found

    def test_no_default_retention(self, bucket: Any) -> None:
        bucket.create_bucket(Bucket="unlocked", ObjectLockEnabledForBucket=True)

        lock = self.examine(place="s3://unlocked/trail")["Object Lock"]

        assert lock.status is Status.WARNING
        assert "no default retention" in lock.what

    def test_bucket_without_versions_and_lock(self, bucket: Any) -> None:
        bucket.create_bucket(Bucket="plain")

        found = self.examine(place="s3://plain/trail")

        assert {name for name, status in bad(found).items() if status is Status.WARNING} == {
            "versioning",
            "Object Lock",
            "policy",
        }

    def test_bucket_that_is_not_there(self, bucket: Any) -> None:
        found = self.examine(place="s3://bucket-of-nobody/x")

        assert bad(found) == {"bucket": Status.FAILED}
        assert not found["bucket"].may_pass
        assert "orrect its name" in str(found["bucket"].do)


class FakeS3:
    """An S3 with one part, that denies some operations, by query or method.

    Parameters
    ----------
    denied
        What it denies.
    policy
        The statements of the bucket's policy.
    """

    def __init__(self, *denied: str, policy: list[dict[str, Any]] | None = None) -> None:
        self._denied = denied
        self._policy = POLICY if policy is None else policy
        self.server = HttpServer(self._answer)

    def __enter__(self) -> str:
        self.server.start()
        return self.server.origin

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def _answer(self, request: Request) -> Response:
        what = request.target.partition("?")[2] if request.method == "GET" else request.method
        if any(word in what for word in self._denied) or (not what and "READ" in self._denied):
            return Response(403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
        if request.method == "PUT":
            return Response(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        if "policy" in what:
            return Response(200, json.dumps({"Statement": self._policy}).encode())
        listing = f"<ListBucketResult><Contents><Key>trail/{PART}</Key><Size>6</Size></Contents></ListBucketResult>"
        return Response(200, listing.encode() if "list-type" in what else b"<x></x>")


@pytest.mark.usefixtures("aws_credentials")
class TestPermissions:
    @pytest.fixture
    def examine(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Finding]]:
        def examine(*denied: str, policy: list[dict[str, Any]] | None = None) -> dict[str, Finding]:
            with FakeS3(*denied, policy=policy) as url:
                monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
                return by_name(BucketCheckup(f"s3://{BUCKET}/trail", "kong", ["requests"], **LIMITS).run())

        return examine

    @pytest.mark.parametrize(
        ("denied", "check", "status", "words"),
        [
            ("list-type", "bucket", Status.FAILED, "s3:ListBucket"),
            ("versions", "bucket", Status.FAILED, "s3:ListBucketVersions"),
            ("READ", "reading", Status.FAILED, "s3:GetObject"),
            ("PUT", "writing", Status.FAILED, "s3:PutObject"),
            ("versioning", "versioning", Status.NOT_CHECKED, "s3:GetBucketVersioning"),
            ("object-lock", "Object Lock", Status.NOT_CHECKED, "s3:GetBucketObjectLockConfiguration"),
            ("policy", "policy", Status.NOT_CHECKED, "s3:GetBucketPolicy"),
        ],
    )
    def test_that_is_missing_is_named(
        self, examine: Callable[..., dict[str, Finding]], denied: str, check: str, status: Status, words: str
    ) -> None:
        found = examine(denied)

        assert found[check].status is status
        assert not found[check].may_pass
        assert words in f"{found[check].what} {found[check].do}"

    def test_policy_that_protects(self, examine: Callable[..., dict[str, Finding]]) -> None:
        assert examine()["policy"].status is Status.OK

    @pytest.mark.parametrize(
        ("kept", "words"), [([], "overwrite or delete"), (POLICY[:1], "to delete"), (POLICY[1:], "to overwrite")]
    )
    def test_policy_that_lets_somebody(
        self, examine: Callable[..., dict[str, Finding]], kept: list[Any], words: str
    ) -> None:
        policy = examine(policy=kept)["policy"]

        assert policy.status is Status.WARNING
        assert words in policy.what

    @pytest.mark.parametrize(
        "change",
        [
            {"Effect": "Allow"},
            {"Principal": {"AWS": "arn:aws:iam::123456789012:role/one"}},
            {"Resource": f"arn:aws:s3:::{BUCKET}/elsewhere/*"},
            {"Condition": {"StringEquals": {"aws:PrincipalTag/a": "b"}}},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_policy_that_only_looks_like_it(
        self, examine: Callable[..., dict[str, Finding]], change: dict[str, Any]
    ) -> None:
        policy = examine(policy=[{**statement, **change} for statement in POLICY])["policy"]

        assert "overwrite or delete" in policy.what

    def test_s3_that_does_not_answer_may_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{LOOPBACK}:{free_port()}")

        found = by_name(BucketCheckup("s3://archive/trail", "kong", ["requests"], **LIMITS).run())

        assert bad(found) == {"bucket": Status.FAILED}
        assert found["bucket"].may_pass
        assert "VPC endpoint" in str(found["bucket"].do)


class TestFolder:
    def test_leaves_nothing(self, tmp_path: Path) -> None:
        FolderParts(str(tmp_path)).create(PART, b"a part")
        before = sorted(tmp_path.rglob("*"))

        found = by_name(FolderCheckup(str(tmp_path)).run())

        assert bad(found) == {"protection": Status.WARNING}
        assert sorted(tmp_path.rglob("*")) == before

    def test_is_not_created(self, tmp_path: Path) -> None:
        found = by_name(FolderCheckup(str(tmp_path / "a" / "b")).run())

        assert found["writing"].status is Status.OK
        assert list(tmp_path.iterdir()) == []

    def test_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "archive").write_text("")

        writing = by_name(FolderCheckup(str(tmp_path / "archive")).run())["writing"]

        assert (writing.status, writing.may_pass) == (Status.FAILED, False)
        assert "ARCHIVE" in str(writing.do)


class Key:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.signed: list[bytes] = []

    def sign(self, body: bytes) -> bytes:
        if self.error is not None:
            raise self.error
        self.signed.append(body)
        return b"signature"


class TestSigningKey:
    def examine(self, key: Signer) -> Finding:
        (finding,) = SigningCheckup(lambda: key).run()
        return finding

    def test_signs_what_is_no_report(self) -> None:
        key = Key()

        assert self.examine(key).status is Status.OK
        assert [body.startswith(b"{") for body in key.signed] == [False]

    def test_that_cannot_be_used(self) -> None:
        error = LedgerError("The key x could not be used (AccessDenied). Check kms:Sign. Nothing is lost; …")

        finding = self.examine(Key(error))

        assert (finding.status, finding.do) == (Status.FAILED, "Check kms:Sign.")


class Lake:
    """CloudTrail's control plane, with one channel and one store."""

    def __init__(self) -> None:
        self.channel: dict[str, Any] = {
            "ChannelArn": CHANNEL,
            "Name": "kong",
            "Source": "KongGatewayEnterprise",
            "Destinations": [{"Type": "EVENT_DATA_STORE", "Location": STORE}],
            "IngestionStatus": {"LatestIngestionSuccessTime": NOW, "LatestIngestionAttemptTime": NOW},
        }
        self.store: dict[str, Any] = {
            "EventDataStoreArn": STORE,
            "Name": "kong-audit",
            "Status": "ENABLED",
            "RetentionPeriod": 2557,
            "TerminationProtectionEnabled": True,
        }
        self.errors: dict[str, str] = {}
        self.server = HttpServer(self._answer)

    def _answer(self, request: Request) -> Response:
        operation = request.headers["x-amz-target"].rpartition(".")[2]
        if (code := self.errors.get(operation)) is not None:
            return Response(400, json.dumps({"__type": code}).encode())
        return Response(
            200, json.dumps({"GetChannel": self.channel, "GetEventDataStore": self.store}[operation]).encode()
        )


@pytest.fixture
def lake(aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    lake = Lake()
    lake.server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDTRAIL", lake.server.origin)
    yield lake
    lake.server.stop()


class TestLake:
    def examine(self) -> dict[str, Finding]:
        return by_name(ChannelCheckup(CHANNEL, "us-east-1", "123456789012", **LIMITS).run())

    def test_healthy(self, lake: Lake) -> None:
        found = self.examine()

        assert bad(found) == {}
        assert "account 123456789012 exists in us-east-1" in found["channel"].what
        assert "2024-06-01T12:00:00Z" in found["permission"].what

    @pytest.mark.parametrize(
        ("break_it", "check", "status", "words"),
        [
            (lambda lake: lake.store.update(Status="STOPPED_INGESTION"), "event data store", Status.FAILED, "start-"),
            (lambda lake: lake.store.update(Status="PENDING_DELETION"), "event data store", Status.FAILED, "restore"),
            (
                lambda lake: lake.store.update(TerminationProtectionEnabled=False),
                "event data store",
                Status.WARNING,
                "--termination-protection-enabled",
            ),
            (lambda lake: lake.channel.update(Source="Okta"), "source", Status.FAILED, "KongGatewayEnterprise"),
            (lambda lake: lake.channel.update(Destinations=[]), "event data store", Status.FAILED, "update-channel"),
            (
                lambda lake: lake.channel.update(
                    IngestionStatus={
                        "LatestIngestionErrorCode": "ChannelInsufficientPermission",
                        "LatestIngestionAttemptTime": NOW,
                    }
                ),
                "permission",
                Status.WARNING,
                "resource policy",
            ),
            (lambda lake: lake.channel.pop("IngestionStatus"), "permission", Status.NOT_CHECKED, "only a delivery"),
            (
                lambda lake: lake.errors.update(GetChannel="ChannelNotFoundException"),
                "channel",
                Status.FAILED,
                "CHANNEL_ARN",
            ),
            (
                lambda lake: lake.errors.update(GetChannel="AccessDeniedException"),
                "channel",
                Status.NOT_CHECKED,
                "cloudtrail:GetChannel",
            ),
            (
                lambda lake: lake.errors.update(GetEventDataStore="AccessDeniedException"),
                "event data store",
                Status.NOT_CHECKED,
                "cloudtrail:GetEventDataStore",
            ),
            (
                lambda lake: lake.errors.update(GetEventDataStore="EventDataStoreNotFoundException"),
                "event data store",
                Status.FAILED,
                "another destination",
            ),
        ],
    )
    def test_what_is_broken_is_what_is_found(
        self, lake: Lake, break_it: Callable[[Lake], object], check: str, status: Status, words: str
    ) -> None:
        break_it(lake)

        found = self.examine()

        assert bad(found).items() - {("permission", Status.NOT_CHECKED)} <= {(check, status)}
        assert found[check].status is status
        assert words in f"{found[check].what} {found[check].do}"

    def test_no_way_to_the_service(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDTRAIL_DATA", f"http://{LOOPBACK}:{free_port()}")

        found = by_name(endpoint_check("us-east-1").run())

        assert bad(found) == {"connection": Status.FAILED}
        assert found["connection"].may_pass


@pytest.mark.usefixtures("aws_credentials")
class TestClock:
    @pytest.mark.parametrize(
        ("bucket", "skew", "status"),
        [
            ("ledger", 86_400, Status.FAILED),
            (None, -86_400, Status.FAILED),
            ("ledger", 100, Status.WARNING),
            (None, 3, Status.OK),
        ],
    )
    def test_of_aws(self, monkeypatch: pytest.MonkeyPatch, bucket: str | None, skew: int, status: Status) -> None:
        server = HttpServer(lambda request: Response(403, b"", {"Date": http_date(NOW + skew)}))
        server.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.origin)
        try:
            (finding,) = AwsClockCheckup(bucket, FakeClock(), **LIMITS).run()
        finally:
            server.stop()

        assert finding.status is status
        if status is Status.FAILED:
            assert f"is 1 d {'behind' if skew > 0 else 'ahead of'} that of AWS" in finding.what

    def test_that_is_away_is_not_checked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{LOOPBACK}:{free_port()}")

        (finding,) = AwsClockCheckup("ledger", FakeClock(), **LIMITS).run()

        assert finding.status is Status.NOT_CHECKED
