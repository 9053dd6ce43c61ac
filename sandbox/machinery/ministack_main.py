"""Starts ministack, and teaches it what the project needs and it does not know.

`LocalAws` runs this file with the Python of ministack's own virtual environment, so it imports nothing of this project.
ministack's version is pinned in requirements.txt, as the names below are not public ones.

CloudFormation: composite alarms and named queries. ministack knows them (`PutCompositeAlarm`, `CreateNamedQuery`), only
not in templates.

Athena: ministack runs queries in DuckDB. Here it also gets tables with the columns that Glue has for them, as the OpenX
SerDe reads them from JSON; functions of JSON that do as Athena's; and parameters of queries.
"""

from __future__ import annotations

import json
import re
from typing import Any

import duckdb
from ministack.app import main
from ministack.services import athena, cloudwatch
from ministack.services.cloudformation import provisioners

# -- CloudFormation


def _put(name: str, properties: dict[str, Any]) -> tuple[str, dict[str, str]]:
    status, _, body = cloudwatch._put_composite_alarm({}, {**properties, "AlarmName": name}, False, is_json=True)
    if status != 200:
        raise ValueError(body)
    return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}


def _create(logical_id: str, properties: dict[str, Any], stack_name: str) -> tuple[str, dict[str, str]]:
    name = properties.get("AlarmName") or provisioners._physical_name(stack_name, logical_id, max_len=255)
    return _put(name, properties)


def _update(name: str, _old: dict[str, Any], new: dict[str, Any], _stack_name: str) -> tuple[str, dict[str, str]]:
    return _put(name, new)


def _delete(name: str, _properties: dict[str, Any]) -> None:
    cloudwatch._composite_alarms.pop(name, None)


def _create_query(_logical_id: str, properties: dict[str, Any], _stack_name: str) -> tuple[str, dict[str, str]]:
    status, _, body = athena._create_named_query(properties)
    if status != 200:
        raise ValueError(body)
    query_id = json.loads(body)["NamedQueryId"]
    return query_id, {"NamedQueryId": query_id}


def _replace_query(
    query_id: str, _old: dict[str, Any], new: dict[str, Any], stack_name: str
) -> tuple[str, dict[str, str]]:
    """Replace a query, as CloudFormation does whatever of it has changed."""
    _delete_query(query_id, {})
    return _create_query("", new, stack_name)


def _delete_query(query_id: str, _properties: dict[str, Any]) -> None:
    athena._delete_named_query({"NamedQueryId": query_id})


# -- Athena

_OPENX = "org.openx.data.jsonserde.JsonSerDe"
_MACROS = (
    # Of text that is not JSON, Athena's functions return NULL, and DuckDB's fail.
    *(
        f"CREATE MACRO {name}(json, path) AS CASE WHEN json_valid(json) THEN system.main.{own_name}(json, path) END"
        for name, own_name in (("json_extract", "json_extract"), ("json_extract_scalar", "json_extract_string"))
    ),
)
# DuckDB leaves quotation marks around the text.
_TEXT_OF_JSON = re.compile(r"\b(?:TRY_)?CAST\(json_extract(\([^()]*\)) AS varchar\)", re.IGNORECASE)

_connect = duckdb.connect
_table_relation = athena._table_relation
_run_duckdb = athena._run_duckdb
_start_query_execution = athena._start_query_execution


def _connect_with_macros(*arguments: Any, **options: Any) -> duckdb.DuckDBPyConnection:
    connection = _connect(*arguments, **options)
    for macro in _MACROS:
        connection.execute(macro)
    return connection


def _relation_of_openx(table: dict[str, Any], files: list[str]) -> str:
    """Return what stands for a table in DuckDB. Of JSON, ministack would take whatever names and types it finds."""
    storage = table["StorageDescriptor"]
    serde = storage.get("SerdeInfo") or {}
    if serde.get("SerializationLibrary") != _OPENX:
        return str(_table_relation(table, files))
    parameters = serde.get("Parameters") or {}
    if parameters.get("case.insensitive") != "false":
        raise ValueError("this OpenX SerDe knows case.insensitive=false only")
    in_paths = athena._path_partition_keys(table, files)
    fields = [_field(column, parameters) for column in storage["Columns"]]
    fields += [f'"{key["Name"]}"' for key in in_paths]
    lines = f"read_ndjson_objects({athena._sql_list(files)}, {athena._hive_options(in_paths)})"
    return f"(SELECT {', '.join(fields)} FROM {lines})"  # noqa: S608 (the table's own columns)


def _field(column: dict[str, Any], parameters: dict[str, str]) -> str:
    """Return a column by the field of a line that its SerDe maps to it. An object is its JSON text."""
    name = column["Name"]
    path = f'$."{parameters.get(f"mapping.{name}", name)}"'
    return f"TRY_CAST(json ->> '{path}' AS {athena._duckdb_type(column)}) AS \"{name}\""


def _run_with_text_of_json(query: str, *arguments: Any) -> Any:
    return _run_duckdb(_TEXT_OF_JSON.sub(r"json_extract_scalar\1", query), *arguments)


def _start_with_parameters(request: dict[str, Any]) -> Any:
    sql = request.get("QueryString", "")
    parameters = request.get("ExecutionParameters", [])
    places = [start for kind, text, start, _ in athena._sql_tokens(sql) if (kind, text) == ("punct", "?")]
    if len(places) != len(parameters):
        message = f"Incorrect number of parameters: expected {len(places)} but found {len(parameters)}"
        return athena.error_response_json(
            "InvalidRequestException", message, 400, extra={"AthenaErrorCode": "INVALID_PARAMETER_USAGE"}
        )
    for place, value in reversed(list(zip(places, parameters, strict=True))):
        sql = sql[:place] + value + sql[place + 1 :]
    return _start_query_execution({**request, "QueryString": sql})


if __name__ == "__main__":
    provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::CompositeAlarm"] = {
        "create": _create,
        "update": _update,
        "delete": _delete,
    }
    provisioners._RESOURCE_HANDLERS["AWS::Athena::NamedQuery"] = {
        "create": _create_query,
        "update": _replace_query,
        "delete": _delete_query,
    }
    duckdb.connect = _connect_with_macros
    athena._table_relation = _relation_of_openx
    athena._run_duckdb = _run_with_text_of_json
    athena._start_query_execution = _start_with_parameters
    main()
