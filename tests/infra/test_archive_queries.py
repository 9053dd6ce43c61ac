"""SQL over the archive: the table has what lines have, the workgroup its limits, and each named query an answer."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from kong_cloudtrail.destinations.archive.line import LineMapper
from kong_cloudtrail.destinations.archive.part_log import UNDATED_HOUR, hour_of
from kong_cloudtrail.domain.entry import Context, Entry
from kong_cloudtrail.domain.gateway import Gateway
from kong_cloudtrail.domain.ocsf import OcsfMapper

from stacks import Archive
from stacks.parts.archive_sql import NAMED_QUERIES, statement
from tests.infra.synthesis import (
    Shaped,
    Synthesis,
    foreign_stack,
    function_environment,
    integrate,
    statements,
    synthesise,
    template_of,
)

TABLE, DATABASE = "AWS::Glue::Table", "AWS::Glue::Database"
WORKGROUP, NAMED_QUERY = "AWS::Athena::WorkGroup", "AWS::Athena::NamedQuery"
OF_QUERIES = {TABLE, DATABASE, WORKGROUP, NAMED_QUERY}
FORMATS: Mapping[str, type[LineMapper | OcsfMapper]] = {"json": LineMapper, "ocsf": OcsfMapper}
SHAPES_OF_FORMATS = {"json": "archive", "ocsf": "archive, OCSF, signed"}

NOW = int(time.time()) // 3600 * 3600


def table_of(synthesis: Synthesis) -> dict[str, Any]:
    found: dict[str, Any] = synthesis.only(TABLE)["Properties"]["TableInput"]
    return found


# -- the table


def entry(number: int, timestamp: int | None, **fields: Any) -> Entry:
    value = {
        "request_id": f"request-{number}",
        "request_timestamp": timestamp,
        "method": "GET",
        "path": "/services/?size=100",
        "status": 200,
        "client_ip": "10.0.0.7",
        "workspace": "default-workspace",
        "rbac_user_id": "user-1",
        "rbac_user_name": "alice",
        "payload": None,
        "signature": None,
        **fields,
    }
    return Entry(value, f"request-{number}", f"request-{number}.{number}", timestamp, 1000)


ENTRIES = [
    entry(1, NOW - 7200),
    entry(2, NOW - 7100, method="POST", path="/services", payload='{"name":"a","Name":"b"}', status=201),
    entry(3, NOW - 3500, method="DELETE", path="/services/a", status=204, workspace="other", rbac_user_name="bob"),
    entry(4, NOW - 3400, method="PATCH", path="/services/b", status=403),
    entry(5, NOW - 3300, method="POST", path="/auth", status=200),
    entry(6, NOW - 3200, path="/consumers", status=401, rbac_user_id=None, rbac_user_name=None),
    entry(7, None, rbac_user_name="not \ud83d valid"),
]


def changed(number: int, timestamp: int | None, request: int, **fields: Any) -> Entry:
    cause = ENTRIES[request - 1].value
    value = {
        "id": f"change-{number}",
        "request_id": cause["request_id"],
        "request_timestamp": timestamp,
        "operation": "create",
        "dao_name": "services",
        "entity": '{"name":"a"}',
        "entity_key": f"key-{number}",
        "rbac_user_id": "user-1",
        "signature": None,
        **fields,
    }
    context = Context(NOW, {name: cause[name] for name in ("client_ip", "workspace", "rbac_user_id", "rbac_user_name")})
    return Entry(value, f"change-{number}", f"change-{number}.{number}", timestamp, 1000, context)


CHANGES = [
    changed(1, NOW - 7100, 2),
    changed(2, NOW - 3500, 3, operation="delete", rbac_user_id=None),
    # Of a gateway that records no time of objects: the login is that of the story
    changed(3, None, 5, dao_name="rbac_users", operation="update"),
]


def lines(line_format: str) -> list[tuple[Entry, dict[str, Any]]]:
    return [line for stream in ("requests", "objects") for line in lines_of(line_format, stream)]


def lines_of(line_format: str, stream: str) -> list[tuple[Entry, dict[str, Any]]]:
    mapper = FORMATS[line_format](
        Gateway("3.14.0.0-enterprise-edition", "kong-0", None),
        "kong",
        stream,
        recipient_account_id="111122223333",
        map_status_to_error_code=True,
    )
    return [(one, json.loads(mapper.map(one).data)) for one in (ENTRIES if stream == "requests" else CHANGES)]


@pytest.mark.parametrize("line_format", FORMATS)
def test_a_line_has_a_column_for_each_of_its_fields(shaped: Shaped, line_format: str) -> None:
    table = table_of(shaped(SHAPES_OF_FORMATS[line_format]))
    columns = [column["Name"] for column in table["StorageDescriptor"]["Columns"]]
    partitions = [column["Name"] for column in table["PartitionKeys"]]
    assert partitions == ["source", "stream", "day"]
    assert not set(columns) & set(partitions)
    fields = {name for _, line in lines(line_format) for name in line}
    assert set(columns) == {name.lower() for name in fields} - set(partitions)


@pytest.mark.parametrize("line_format", FORMATS)
def test_what_can_be_an_object_is_text_and_the_rest_has_its_type(shaped: Shaped, line_format: str) -> None:
    table = table_of(shaped(SHAPES_OF_FORMATS[line_format]))
    types = {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}
    assert set(types.values()) == {"string", "bigint"}
    for _, line in lines(line_format):
        for name, value in line.items():
            if types.get(name.lower()) == "bigint":
                assert isinstance(value, int), name
            if isinstance(value, dict | list):
                assert types[name.lower()] == "string", name


@pytest.mark.parametrize("line_format", FORMATS)
def test_keys_inside_of_objects_keep_their_case(shaped: Shaped, line_format: str) -> None:
    """The SerDe reads keys in lower case unless told otherwise, and fails on two that differ in case alone."""
    serde = table_of(shaped(SHAPES_OF_FORMATS[line_format]))["StorageDescriptor"]["SerdeInfo"]
    assert serde["SerializationLibrary"] == "org.openx.data.jsonserde.JsonSerDe"
    assert serde["Parameters"]["case.insensitive"] == "false"
    fields = {name for _, line in lines(line_format) for name in line if name != name.lower()}
    mappings = {f"mapping.{name.lower()}": name for name in fields}
    assert serde["Parameters"] == {"case.insensitive": "false", **mappings}


def test_partitions_follow_from_the_names_of_objects(shaped: Shaped) -> None:
    table = table_of(shaped("archive"))
    parameters = {name: shaped("archive").flat(value) for name, value in table["Parameters"].items()}
    assert parameters["projection.enabled"] == "true"
    assert parameters["projection.source.values"] == "kong"
    assert parameters["projection.stream.values"].split(",")[0] == "requests"
    location = "s3://<AWS::S3::Bucket.Ref>/archive/"
    assert shaped("archive").flat(table["StorageDescriptor"]["Location"]) == location
    template = parameters["storage.location.template"]
    assert template == f"{location}source=${{source}}/stream=${{stream}}/day=${{day}}/"
    # The name of an object, as the function writes it below the archive's prefix.
    written = f"source=kong/stream=requests/{hour_of(ENTRIES[0])}-000000.json.gz"
    day = written.split("day=")[1][:10]
    expected = template.replace("${source}", "kong").replace("${stream}", "requests").replace("${day}", day)
    assert f"{location}{written}".startswith(expected)


def test_days_begin_with_that_of_undated_entries_and_end_beyond_clocks_that_are_ahead(shaped: Shaped) -> None:
    parameters = table_of(shaped("archive"))["Parameters"]
    first, last = parameters["projection.day.range"].split(",")
    assert UNDATED_HOUR.startswith(f"day={first}/")
    assert last == "NOW+31DAYS"
    assert (parameters["projection.day.type"], parameters["projection.day.format"]) == ("date", "yyyy-MM-dd")


def test_each_gateway_has_a_table_of_its_own(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    first = integrate(stack, vpc=vpc, destinations=[Archive()])
    assert first.archive is not None
    second = integrate(
        stack,
        "Second",
        vpc=vpc,
        source_name="second",
        destinations=[Archive(existing_bucket=first.archive.bucket)],
        ledger=first.ledger,
    )
    assert first.archive_queries is not None
    assert second.archive_queries is not None
    assert first.archive_queries.workgroup_name != second.archive_queries.workgroup_name
    tables = [table["Properties"] for table in template_of(app, stack).of_type(TABLE)]
    assert {table["TableInput"]["Parameters"]["projection.source.values"] for table in tables} == {"kong", "second"}
    assert len({table["DatabaseName"] for table in tables}) == 2


# -- the workgroup


def test_results_are_encrypted_limited_and_go_where_the_workgroup_says(shaped: Shaped) -> None:
    synthesis = shaped("archive")
    workgroup = synthesis.only(WORKGROUP)["Properties"]
    configuration = workgroup["WorkGroupConfiguration"]
    assert configuration["EnforceWorkGroupConfiguration"] is True
    assert configuration["BytesScannedCutoffPerQuery"] == 100 * 1024**3
    result = configuration["ResultConfiguration"]
    assert result["EncryptionConfiguration"] == {"EncryptionOption": "SSE_S3"}
    assert synthesis.flat(result["ExpectedBucketOwner"]) == "<AWS::AccountId>"
    results = synthesis.template["Resources"][result["OutputLocation"]["Fn::Join"][1][1]["Ref"]]["Properties"]
    assert "ObjectLockEnabled" not in results
    (rule,) = results["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == 30
    assert set(results["PublicAccessBlockConfiguration"].values()) == {True}
    assert workgroup["RecursiveDeleteOption"] is True


def test_a_customers_key_encrypts_results_as_well(shaped: Shaped) -> None:
    synthesis = shaped("archive, OCSF, signed")
    result = synthesis.only(WORKGROUP)["Properties"]["WorkGroupConfiguration"]["ResultConfiguration"]
    assert result["EncryptionConfiguration"]["EncryptionOption"] == "SSE_KMS"
    assert synthesis.flat(result["EncryptionConfiguration"]["KmsKey"]) == "<AWS::KMS::Key.Arn>"


def test_the_limit_of_a_query_is_the_callers(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    integrate(stack, vpc=vpc, destinations=[Archive(scan_limit_gib=7)])
    configuration = template_of(app, stack).only(WORKGROUP)["Properties"]["WorkGroupConfiguration"]
    assert configuration["BytesScannedCutoffPerQuery"] == 7 * 1024**3


def test_without_queries_there_is_nothing_of_glue_or_athena(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(stack, vpc=vpc, destinations=[Archive(queries=False)])
    assert trail.archive_queries is None
    with pytest.raises(ValueError, match="There are no queries here"):
        trail.grant_query_archive(iam.AccountRootPrincipal())
    resources = template_of(app, stack).template["Resources"].values()
    assert not OF_QUERIES & {resource["Type"] for resource in resources}


def test_cloudtrail_lake_alone_has_nothing_of_glue_or_athena(shaped: Shaped) -> None:
    assert not OF_QUERIES & {resource["Type"] for resource in shaped("default").template["Resources"].values()}


@pytest.mark.parametrize("line_format", FORMATS)
def test_named_queries_are_in_the_workgroup(shaped: Shaped, line_format: str) -> None:
    synthesis = shaped(SHAPES_OF_FORMATS[line_format])
    found = {query["Properties"]["Name"]: query["Properties"] for query in synthesis.of_type(NAMED_QUERY)}
    assert list(found) == [query.name for query in NAMED_QUERIES]
    for query in NAMED_QUERIES:
        made = found[query.name]
        assert made["QueryString"] == statement(query, line_format)
        assert made["WorkGroup"] == synthesis.only(WORKGROUP)["Properties"]["Name"]
        assert made["Database"] == synthesis.only(DATABASE)["Properties"]["DatabaseInput"]["Name"]


def test_the_command_line_finds_the_workgroup_in_the_functions_environment(shaped: Shaped) -> None:
    environment = function_environment(shaped("archive"))
    workgroup = shaped("archive").only(WORKGROUP)["Properties"]["Name"]
    assert environment["ATHENA_WORKGROUP"] == workgroup
    assert environment["ATHENA_DATABASE"] == workgroup.replace("-", "_")
    assert not [name for name in function_environment(shaped("default")) if name.startswith("ATHENA")]


def test_outputs_say_where_to_ask(tmp_path: Path) -> None:
    synthesis = synthesise(tmp_path, destination="archive", channel_arn=None, aws_region="eu-central-1")
    outputs = {name: synthesis.flat(output["Value"]) for name, output in synthesis.template["Outputs"].items()}
    workgroup = synthesis.only(WORKGROUP)["Properties"]["Name"]
    assert outputs["AthenaWorkgroup"] == workgroup
    assert outputs["AthenaTable"] == f"{workgroup.replace('-', '_')}.events"
    assert outputs["ArchiveUrl"] == "s3://<AWS::S3::Bucket.Ref>/archive"
    assert outputs["QueryExample"] == "kong-cloudtrail query who-did-what --stack KongCloudTrailIntegration"
    assert "ArchiveSigningKeyArn" not in outputs


def test_whoever_may_ask_may_read_and_not_write_the_archive(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(stack, vpc=vpc, destinations=[Archive()], encryption_key=kms.Key(stack, "Key"))
    trail.grant_query_archive(iam.Role(stack, "Auditor", assumed_by=iam.ServicePrincipal("ec2.amazonaws.com")))
    granted = [s for s in statements(template_of(app, stack)) if s[0] == "ec2.amazonaws.com"]
    actions = " ".join(statement[2] for statement in granted)
    for needed in (
        "athena:StartQueryExecution",
        "glue:GetTable",
        "s3:GetObject*",
        "s3:GetBucketLocation",
        "kms:Decrypt",
    ):
        assert needed in actions
    for _, _, done, resources, _ in granted:
        assert "/archive/" not in resources or "s3:Put" not in done
        assert "/archive/" not in resources or "s3:Delete" not in done
        assert resources != "*"


# -- what the queries answer


def as_athena_reads(table: dict[str, Any], files: str) -> str:
    """Return a relation with the table's columns: what is an object in a line is text."""
    columns = {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}
    types = ", ".join(f"'{name}': '{'BIGINT' if kind == 'bigint' else 'VARCHAR'}'" for name, kind in columns.items())
    fields = table["StorageDescriptor"]["SerdeInfo"]["Parameters"]
    for name in columns:
        types = types.replace(f"'{name}':", f"'{fields.get(f'mapping.{name}', name)}':")
    return f"read_json('{files}', columns = {{{types}}}, {HIVE})"


def as_a_laptop_reads(_: dict[str, Any], files: str) -> str:
    """Return the relation of an emulator, which has DuckDB find out the types: what is an object is a structure."""
    return f"read_json_auto('{files}', union_by_name = true, {HIVE})"


HIVE = "hive_partitioning = true, hive_types = {'source': VARCHAR, 'stream': VARCHAR, 'day': VARCHAR}"
READERS = {"Athena": as_athena_reads, "a laptop": as_a_laptop_reads}


@pytest.fixture(params=[(line_format, reader) for line_format in FORMATS for reader in READERS], ids=str)
def answers(request: pytest.FixtureRequest, shaped: Shaped, tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    """Write parts as the function does; return the answer of each query."""
    line_format, reader = request.param
    hours: dict[tuple[str, str], list[str]] = {}
    for stream in ("requests", "objects"):
        for one, line in lines_of(line_format, stream):
            hours.setdefault((stream, hour_of(one)), []).append(json.dumps(line))
    for (stream, hour), written in hours.items():
        part = tmp_path / "source=kong" / f"stream={stream}" / f"{hour}-000000.json.gz"
        part.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in written)
        # Finding out the types, DuckDB takes no two keys that differ in case alone.
        part.write_bytes(gzip.compress((text if reader == "Athena" else text.replace('"Name"', '"other"')).encode()))
    relation = READERS[reader](table_of(shaped(SHAPES_OF_FORMATS[line_format])), f"{tmp_path}/*/*/*/*.json.gz")
    found = {}
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"CREATE VIEW events AS SELECT * FROM {relation}")  # noqa: S608 - a path of pytest's
        for query in NAMED_QUERIES:
            answer = connection.execute(statement(query, line_format))
            names = [column[0] for column in answer.description or []]
            found[query.name] = [dict(zip(names, map(unquoted, row), strict=True)) for row in answer.fetchall()]
    return found


def unquoted(value: Any) -> Any:
    """Return text without the quotes that DuckDB, other than Athena, leaves around a JSON text."""
    return value[1:-1] if isinstance(value, str) and value[:1] == value[-1:] == '"' else value


def test_every_query_has_its_answer(answers: dict[str, list[dict[str, Any]]]) -> None:
    who = answers["who-did-what"]
    assert [row["call"] for row in who] == [
        "GET/consumers",
        "POST/auth",
        "PATCH/services/b",
        "DELETE/services/a",
        "POST/services",
        "GET/services",
    ]
    assert [row["user_name"] for row in who][-3:] == ["bob", "alice", "alice"]
    assert {row["address"] for row in who} == {"10.0.0.7"}
    assert [(row["call"], row["status"]) for row in answers["refused-calls"]] == [
        ("GET/consumers", 401),
        ("PATCH/services/b", 403),
    ]
    changes = {row["workspace"]: row["changes"] for row in answers["changes-by-workspace"]}
    assert changes == {"default-workspace": 2, "other": 1}, "of services, and the login"
    assert sum(row["calls"] for row in answers["activity-by-hour"]) == 6
    assert len({row["hour"] for row in answers["activity-by-hour"]}) == 2


def test_the_story_is_that_of_the_newest_change(answers: dict[str, list[dict[str, Any]]]) -> None:
    request, change = answers["request-story"]
    assert (request["stream"], request["call"], request["status"]) == ("requests", "POST/auth", 200)
    assert (change["stream"], change["call"], change["status"]) == ("objects", "update/rbac_users", None)
    assert all("request-5" in str(row["entry"]) for row in (request, change))


def test_changes_are_told_with_who_made_them(answers: dict[str, list[dict[str, Any]]]) -> None:
    rows = answers["what-changed"]
    assert [(row["operation"], row["dao_name"], row["entity_key"], row["request_id"]) for row in rows] == [
        ("update", "rbac_users", "key-3", "request-5"),
        ("delete", "services", "key-2", "request-3"),
        ("create", "services", "key-1", "request-2"),
    ]
    assert [row["user_name"] for row in rows] == ["alice", "bob", "alice"]
    assert {row["address"] for row in rows} == {"10.0.0.7"}


def test_auditors_count_every_entry_once_undated_ones_too(answers: dict[str, list[dict[str, Any]]]) -> None:
    counts = {(row["stream"], row["day"]): row for row in answers["count-by-day"]}
    for stream, entries in (("requests", ENTRIES), ("objects", CHANGES)):
        assert counts[stream, "2015-01-01"]["entries"] == 1
        assert sum(row["entries"] for (of, _), row in counts.items() if of == stream) == len(entries)
    assert all(row["entries"] == row["different_entries"] for row in counts.values())


def test_logins(answers: dict[str, list[dict[str, Any]]]) -> None:
    assert [row["call"] for row in answers["logins"]] == ["POST/auth"]


@pytest.mark.parametrize("line_format", FORMATS)
@pytest.mark.parametrize("query", NAMED_QUERIES, ids=lambda query: query.name)
def test_athena_can_read_every_statement(query: Any, line_format: str) -> None:
    parsed = sqlglot.parse(statement(query, line_format), read="athena")
    assert len(parsed) == 1
    assert len(statement(query, line_format)) < 262_144  # Athena's limit of a query
