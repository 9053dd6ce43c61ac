r"""Lines of the archive are valid for strict JSON parsers, whatever Kong recorded.

Text that is not valid Unicode (``"\ud83d"`` alone, bytes that are not UTF-8) is what Python writes and others refuse:
one such line would make a whole part unreadable for them.
"""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_cloudtrail.destinations.archive.line import LineMapper
from kong_cloudtrail.domain.jsontext import encode, with_valid_strings
from kong_cloudtrail.domain.ocsf import OcsfMapper
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.helpers import GATEWAY, entry
from tests.unit.test_event_mapping import odd_entries

MAPPERS: dict[str, LineMapper | OcsfMapper] = {
    "json": LineMapper(GATEWAY, "kong", "requests"),
    "ocsf": OcsfMapper(GATEWAY, "kong", "requests"),
}


def entry_and_text(line: dict[str, Any]) -> tuple[object, str | None]:
    place = line.get("unmapped", line)
    return place["entry"], place.get("entryText")


def is_valid(connection: duckdb.DuckDBPyConnection, text: str) -> bool:
    [valid] = connection.execute("SELECT json_valid(?)", [text]).fetchone() or (False,)
    return bool(valid)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:")


@pytest.mark.parametrize("name", MAPPERS)
@given(value=odd_entries)
@settings(max_examples=100, deadline=None)
def test_every_line_is_valid_and_loses_nothing(connection: duckdb.DuckDBPyConnection, name: str, value: object) -> None:
    line = MAPPERS[name].map(read_entry(value)).data

    assert is_valid(connection, line)
    shown, text = entry_and_text(json.loads(line))
    kept = json.loads(text) if text is not None else shown
    assert encode(kept) == encode(value)


@pytest.mark.parametrize("name", MAPPERS)
@pytest.mark.parametrize(
    "fields",
    [
        {"payload": '{"a": "\\ud83d"}'},
        {"path": "/caf\udce9"},
        {"rbac_user_name": "\udc00\ud800"},
        {"\ud83d": 1},
        {"extra": ["\\ud83d", "\\\\", "\ud83d"]},
    ],
)
def test_entry_whose_text_is_not_valid_is_kept_beside(
    connection: duckdb.DuckDBPyConnection, name: str, fields: dict[str, object]
) -> None:
    value = entry(1, **fields)

    line = MAPPERS[name].map(read_entry(value)).data

    assert is_valid(connection, line)
    _, text = entry_and_text(json.loads(line))
    assert text is not None
    assert json.loads(text) == value


@pytest.mark.parametrize("name", MAPPERS)
@pytest.mark.parametrize("text", ["zoë 🙂", '"\\ud83d" as text', "\\", "\\\\ud83d", "\x00"])
def test_valid_text_is_left_alone(name: str, text: str) -> None:
    value = entry(1, path=f"/{text}")

    shown, kept = entry_and_text(json.loads(MAPPERS[name].map(read_entry(value)).data))

    assert (shown, kept) == (value, None)


@given(st.text(st.characters(exclude_categories=())))
def test_only_lone_surrogates_are_replaced(text: str) -> None:
    found = json.loads(with_valid_strings(encode(text)))

    assert found == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
