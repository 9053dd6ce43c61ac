"""What an archive in S3 holds, read from an S3 that nobody here wrote: first versions, and each copy."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from kong_cloudtrail.destinations.archive.destination import Archive
from kong_cloudtrail.destinations.archive.inventory import ArchiveInventory
from kong_cloudtrail.destinations.archive.line import LineMapper
from kong_cloudtrail.destinations.archive.part_log import PartLog
from kong_cloudtrail.destinations.archive.s3 import S3Parts
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import DestinationMisconfigured
from kong_cloudtrail.sources.kong.entries import read_entry

from sandbox.machinery.local_aws import LocalAws
from tests.helpers import GATEWAY, NOW, entry

BUCKET = "inventory-of-tests"
URL = f"s3://{BUCKET}/trail"
MAPPER = LineMapper(GATEWAY, "kong", "requests")
ROWS = [entry(number, request_timestamp=NOW - number * 600) for number in range(1, 31)]
WINDOW = Window(NOW - 4 * 3600 + 7, NOW - 3600 - 7)


@pytest.fixture
def s3(local_aws: LocalAws, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a bucket that keeps versions, with an archive."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", local_aws.url)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    log = PartLog(S3Parts(URL), "kong", "requests")
    Archive(log, "kong", "requests", "665af000-0000000a").deliver([MAPPER.map(read_entry(row)) for row in ROWS])
    log.close()
    yield client
    found = client.list_object_versions(Bucket=BUCKET)
    for item in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]:
        client.delete_object(Bucket=BUCKET, Key=item["Key"], VersionId=item["VersionId"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


def held(window: Window = WINDOW) -> list[bytes]:
    inventory = ArchiveInventory(S3Parts(URL), "kong", "requests")
    inventory.begin(window)
    return [one for several in inventory.held(window) for one in several]


def digests(rows: list[dict[str, Any]]) -> list[bytes]:
    inventory = ArchiveInventory(S3Parts(URL), "kong", "requests")
    return [inventory.identify(read_entry(row))[0] for row in rows]


def within(row: dict[str, Any]) -> bool:
    moment: int = row["request_timestamp"]
    return WINDOW.after <= moment < (WINDOW.before or 0)


def test_holds_what_is_in_the_window(s3: Any) -> None:
    assert sorted(held()) == sorted(digests([row for row in ROWS if within(row)]))


def test_first_versions_count_whatever_hides_them(s3: Any) -> None:
    before = sorted(held())
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    s3.delete_object(Bucket=BUCKET, Key=keys[-2])
    s3.put_object(Bucket=BUCKET, Key=keys[-3], Body=gzip.compress(b""))

    assert sorted(held()) == before


def test_copies_count(s3: Any) -> None:
    row = ROWS[8]
    line = MAPPER.map(read_entry(row)).data.encode()
    s3.put_object(
        Bucket=BUCKET,
        Key="trail/source=kong/stream=requests/day=2024-06-01/10-000001.json.gz",
        Body=gzip.compress(line + b"\n" + line + b"\n"),
    )

    assert held().count(digests([row])[0]) == 3


def test_missing_bucket_says_what_to_do(s3: Any) -> None:
    inventory = ArchiveInventory(S3Parts("s3://no-such-bucket-of-tests"), "kong", "requests")

    with pytest.raises(DestinationMisconfigured, match="no such bucket"):
        list(inventory.held(WINDOW))
