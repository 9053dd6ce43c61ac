"""docs/field-mapping.md shows the archive's lines as they are, and names every field in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from kong_cloudtrail.destinations.archive.line import LineMapper
from kong_cloudtrail.domain.ocsf import OcsfMapper
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.helpers import ACCOUNT_ID, FIXTURES, GATEWAY, REPOSITORY, change, entry
from tests.unit.test_object_mapping import read

PAGE = (REPOSITORY / "docs" / "field-mapping.md").read_text(encoding="utf-8")
CASES: list[dict[str, Any]] = json.loads((FIXTURES / "conformance" / "mapping.json").read_text(encoding="utf-8"))
ENTRIES = [
    *(case["entry"] for case in CASES),
    entry(),
    entry(request_timestamp="17"),
    entry(path="/\udce9"),
    "no object",
]
CHANGES = [
    *(
        read(change(number, operation=operation))
        for number, operation in enumerate(("create", "update", "delete", "x"))
    ),
    read(change(request_timestamp=None)),
    read(change(request_timestamp="17", entity="no JSON"), request=None),
    read(change(rbac_user_id=None, entity_key=None, request_id=None), request=None),
]
OF_ANY_SHAPE = {"api.request.data", "resources[0].data", "unmapped.entry"}
FURTHER = "\nFor an object, these differ:\n"
"""What the second table of a format comes after."""


def section(format_: str) -> str:
    return PAGE.partition(f"\n### Format `{format_}`\n")[2].partition("\n##")[0]


def mapper(
    format_: str, stream: str = "requests", *, map_status_to_error_code: bool = False
) -> LineMapper | OcsfMapper:
    mappers: dict[str, type[LineMapper | OcsfMapper]] = {"json": LineMapper, "ocsf": OcsfMapper}
    return mappers[format_](
        GATEWAY,
        "kong",
        stream,
        recipient_account_id=ACCOUNT_ID,
        map_status_to_error_code=map_status_to_error_code,
    )


def documented_fields(text: str) -> set[str]:
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def lines(format_: str) -> Iterator[dict[str, Any]]:
    for value in ENTRIES:
        for codes in (False, True):
            yield json.loads(mapper(format_, map_status_to_error_code=codes).map(read_entry(value)).data)


def leaves(line: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in line.items():
        place = above + name
        if isinstance(value, dict) and place not in OF_ANY_SHAPE:
            yield from leaves(value, f"{place}.")
        elif isinstance(value, list) and place not in OF_ANY_SHAPE:
            yield from leaves(value[0], f"{place}[0].")
        else:
            yield place


@pytest.mark.parametrize("format_", ["json", "ocsf"])
def test_example_is_the_line_of_the_entry_in_it(format_: str) -> None:
    example = json.loads(section(format_).partition("```json\n")[2].partition("```")[0])
    value = example.get("unmapped", example)["entry"]

    line = json.loads(mapper(format_).map(read_entry(value)).data)

    assert json.dumps(example, indent=1) == json.dumps(line, indent=1)  # in the same order


def test_table_of_the_json_format_names_every_field() -> None:
    assert documented_fields(section("json")) == {name for line in lines("json") for name in line}


def test_table_of_the_ocsf_format_names_every_field() -> None:
    of_requests = section("ocsf").partition(FURTHER)[0]
    assert documented_fields(of_requests) == {place for line in lines("ocsf") for place in leaves(line)}


def test_further_table_names_every_field_that_only_objects_have() -> None:
    of_requests, _, of_objects = section("ocsf").partition(FURTHER)
    made = [json.loads(mapper("ocsf", "objects").map(one).data) for one in CHANGES]
    places = {place for line in made for place in leaves(line)}
    assert places - documented_fields(of_requests) - documented_fields(of_objects) == set()
    assert documented_fields(of_objects) - places == set()


def test_json_format_has_the_same_fields_for_objects() -> None:
    made = [json.loads(mapper("json", "objects").map(one).data) for one in CHANGES]
    assert {name for line in made for name in line} <= documented_fields(section("json"))
