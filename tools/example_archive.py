"""A small archive in a local AWS, to ask questions of: parts, table, workgroup and named queries.

The entries are those of docs/queries.md. They are moved by whole days, so that the last of them are of yesterday: the
named queries look back over 30 days from today.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import boto3
from kong_cloudtrail.destinations.archive.destination import Archive
from kong_cloudtrail.destinations.archive.part_log import PartLog
from kong_cloudtrail.destinations.archive.s3 import S3Parts
from kong_cloudtrail.domain.entry import Context, Entry
from kong_cloudtrail.domain.gateway import Gateway
from kong_cloudtrail.sources.kong.entries import OBJECT, read_entry

from stacks.parts.archive_sql import NAMED_QUERIES, TABLE, statement

WORKGROUP = DATABASE = "kong_audit"
BUCKET, RESULTS = "kong-audit-archive", "kong-audit-results"
URL = f"s3://{BUCKET}/archive"

DAY_SECONDS = 86_400
LAST_DAY = 1_795_478_400
"""2026-11-24, the later day of the entries."""

_GATEWAY = Gateway("3.14.0.5-enterprise-edition", "kong-cp-1", None)
_ALICE = {"rbac_user_id": "3c1f6f0e-5d0b-4a57-9f0a-0b8f6a2f7e11", "rbac_user_name": "alice"}
_BOB = {"rbac_user_id": "b2d09f3a-77c1-4c0e-8a65-2f3f5f0c9d22", "rbac_user_name": "bob"}
_NOBODY = {"rbac_user_id": None, "rbac_user_name": None}
_DEFAULT, _PAYMENTS = "7a1d2c34-1111-4222-8333-444455556666", "d4e5f6a7-2222-4333-8444-555566667777"

_FIELDS = (
    "key",
    "schemaVersion",
    "version",
    "userIdentity",
    "eventSource",
    "eventName",
    "eventTime",
    "UID",
    "recipientAccountId",
    "requestParameters",
    "sourceIPAddress",
    "errorCode",
    "errorMessage",
    "additionalEventData",
    "notMappable",
    "entry",
    "entryText",
)
COLUMNS = tuple((name.lower(), "bigint" if name == "schemaVersion" else "string") for name in _FIELDS)
PARTITION_KEYS = tuple((name, "string") for name in ("source", "stream", "day"))


def _entry(number: int, at: int | None, who: dict[str, Any], method: str, path: str, status: int, **more: Any) -> Any:
    return {
        "request_id": f"{number:032d}",
        "request_timestamp": at,
        "client_ip": "192.0.2.10" if who is _ALICE else "198.51.100.7",
        "method": method,
        "path": path,
        "status": status,
        "payload": None,
        "removed_from_payload": None,
        **who,
        "request_source": None,
        "signature": None,
        "workspace": _DEFAULT,
        "ttl": 2_591_990,
    } | more


def _at(day: int, hour: int, minute: int) -> int:
    return LAST_DAY + (day - 24) * DAY_SECONDS + hour * 3600 + minute * 60


ENTRIES: tuple[dict[str, Any], ...] = (
    _entry(1, _at(23, 9, 0), _ALICE, "GET", "/auth", 200, request_source="kong-manager"),
    _entry(2, _at(23, 9, 2), _ALICE, "GET", "/services?size=100", 200),
    _entry(3, _at(23, 9, 5), _ALICE, "POST", "/services", 201, payload='{"name":"orders"}'),
    _entry(4, _at(23, 9, 6), _ALICE, "POST", "/services/orders/routes", 201, payload='{"paths":["/orders"]}'),
    _entry(5, _at(23, 9, 8), _ALICE, "POST", "/services/orders/plugins", 201, payload='{"name":"key-auth"}'),
    _entry(6, _at(23, 9, 41), _BOB, "DELETE", "/services/orders", 403),
    _entry(7, _at(23, 14, 20), _NOBODY, "GET", "/services?size=100", 401),
    _entry(8, _at(24, 8, 30), _BOB, "GET", "/auth", 401, request_source="kong-manager"),
    _entry(9, _at(24, 8, 31), _BOB, "GET", "/auth", 200, request_source="kong-manager"),
    _entry(
        10,
        _at(24, 8, 45),
        _BOB,
        "PATCH",
        "/payments/plugins/rate-limiting",
        200,
        payload='{"config":{"minute":600}}',
        workspace=_PAYMENTS,
    ),
    _entry(11, _at(24, 8, 50), _BOB, "GET", "/services?size=100", 200),
    _entry(12, _at(24, 16, 5), _BOB, "DELETE", "/auth?session_logout=true", 204, request_source="kong-manager"),
    _entry(
        13,
        _at(24, 17, 10),
        _ALICE,
        "PATCH",
        "/payments/plugins/rate-limiting",
        200,
        payload='{"config":{"minute":60}}',
        workspace=_PAYMENTS,
    ),
    _entry(14, None, _ALICE, "GET", "/license/report", 200),
)


def _object(
    number: int, request: int, operation: str, dao_name: str, key: str, entity: dict[str, Any], **more: Any
) -> Any:
    cause = ENTRIES[request - 1]
    return {
        "id": f"{number:08d}-0000-4000-8000-000000000000",
        "request_id": cause["request_id"],
        "request_timestamp": cause["request_timestamp"],
        "dao_name": dao_name,
        "operation": operation,
        "entity": json.dumps(entity, separators=(",", ":")),
        "entity_key": key,
        "removed_from_entity": None,
        "rbac_user_id": cause["rbac_user_id"],
        "signature": None,
        "ttl": 2_591_990,
    } | more


OBJECTS: tuple[dict[str, Any], ...] = (
    _object(1, 3, "create", "services", "5b1c", {"id": "5b1c", "name": "orders"}),
    _object(2, 4, "create", "routes", "77aa", {"id": "77aa", "paths": ["/orders"]}),
    _object(3, 5, "create", "plugins", "c0de", {"id": "c0de", "name": "key-auth"}),
    _object(4, 10, "update", "plugins", "f00d", {"id": "f00d", "config": {"minute": 600}}),
    _object(5, 13, "update", "plugins", "f00d", {"id": "f00d", "config": {"minute": 60}}),
)
"""What these requests changed."""


def days_moved() -> int:
    """Return by how many days entries are moved in an archive that is made now."""
    return int(time.time()) // DAY_SECONDS - 1 - LAST_DAY // DAY_SECONDS


def moved(entries: Sequence[dict[str, Any]], days: int) -> Iterator[dict[str, Any]]:
    """Return entries as if they were of later days."""
    for entry in entries:
        at = entry["request_timestamp"]
        yield entry if at is None else entry | {"request_timestamp": at + days * DAY_SECONDS}


def create(days: int) -> None:
    """Make the archive, and what it takes to query it, in the AWS of the environment."""
    s3 = boto3.client("s3")
    for bucket in (BUCKET, RESULTS):
        s3.create_bucket(Bucket=bucket)
    s3.close()
    add(moved(ENTRIES, days))
    requests = {entry["request_id"]: entry for entry in moved(ENTRIES, days)}
    add_objects([(one, requests[one["request_id"]]) for one in moved(OBJECTS, days)])
    _create_table()
    _create_workgroup()


def remove() -> None:
    """Remove it again."""
    athena, glue, s3 = boto3.client("athena"), boto3.client("glue"), boto3.client("s3")
    named: Any = athena.list_named_queries(WorkGroup=WORKGROUP)
    for query_id in named["NamedQueryIds"]:
        athena.delete_named_query(NamedQueryId=query_id)
    athena.delete_work_group(WorkGroup=WORKGROUP)
    glue.delete_table(DatabaseName=DATABASE, Name=TABLE)
    glue.delete_database(Name=DATABASE)
    for bucket in (BUCKET, RESULTS):
        for item in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=item["Key"])
        s3.delete_bucket(Bucket=bucket)
    for client in (athena, glue, s3):
        client.close()


def add(entries: Iterator[dict[str, Any]]) -> None:
    """Add entries to the archive, as a run does."""
    _deliver("requests", map(read_entry, entries))


def add_objects(changes: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Add entries of objects, each with that of the request that caused it."""
    read_at = int(time.time())
    _deliver(
        "objects",
        (replace(read_entry(one, OBJECT), context=Context(read_at, request)) for one, request in changes),
    )


def _deliver(stream: str, entries: Iterable[Entry]) -> None:
    log = PartLog(S3Parts(URL), "kong", stream)
    try:
        archive = Archive(log, "kong", stream, "665af000-0000000a", recipient_account_id="111122223333")
        mapper = archive.mapper(_GATEWAY)
        archive.deliver([mapper.map(entry) for entry in entries])
    finally:
        log.close()


def _create_table() -> None:
    glue: Any = boto3.client("glue")
    glue.create_database(DatabaseInput={"Name": DATABASE})
    glue.create_table(
        DatabaseName=DATABASE,
        TableInput={
            "Name": TABLE,
            "TableType": "EXTERNAL_TABLE",
            "PartitionKeys": [{"Name": name, "Type": kind} for name, kind in PARTITION_KEYS],
            "StorageDescriptor": {
                "Columns": [{"Name": name, "Type": kind} for name, kind in COLUMNS],
                "Location": f"{URL}/",
                "SerdeInfo": {
                    "SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe",
                    "Parameters": {
                        "case.insensitive": "false",
                        **{f"mapping.{name.lower()}": name for name in _FIELDS if name != name.lower()},
                    },
                },
            },
        },
    )
    glue.close()


def _create_workgroup() -> None:
    athena = boto3.client("athena")
    athena.create_work_group(
        Name=WORKGROUP, Configuration={"ResultConfiguration": {"OutputLocation": f"s3://{RESULTS}/"}}
    )
    for query in NAMED_QUERIES:
        athena.create_named_query(
            Name=query.name,
            Description=query.description,
            Database=DATABASE,
            QueryString=statement(query, "json"),
            WorkGroup=WORKGROUP,
        )
    athena.close()
