"""Lines of the archive as OCSF events: each is valid as it stands, and has the whole entry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from kong_cloudtrail.destinations.archive.destination import Archive
from kong_cloudtrail.destinations.archive.line import LineMapper
from kong_cloudtrail.domain.gateway import Gateway
from kong_cloudtrail.domain.jsontext import decode_page, encode
from kong_cloudtrail.domain.ocsf import OcsfMapper
from kong_cloudtrail.sources.kong.entries import read_entry
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from tests.helpers import ACCOUNT_ID, FIXTURES, GATEWAY, NOW, entry
from tests.unit.test_event_mapping import ABSENT, at, odd_entries, texts
from tests.unit.test_part_log import MemoryS3, open_log

CASES: list[dict[str, Any]] = json.loads((FIXTURES / "conformance" / "mapping.json").read_text(encoding="utf-8"))
OCSF = get_ocsf_schema("1.3.0")
SCHEMA = OcsfJsonSchemaEmbedded(OCSF).get_class_schema("api_activity")
VALIDATOR = Draft202012Validator(SCHEMA)
MAPPER = OcsfMapper(GATEWAY, "kong", "requests", recipient_account_id=ACCOUNT_ID)
MAPPER_WITH_CODES = OcsfMapper(GATEWAY, "kong", "requests", map_status_to_error_code=True)
LONG = "x" * 70_000
MAX_INTEGER = 2**31 - 1  # what a column for OCSF's integers holds; for its longs, 2^63 - 1


def caption(attribute: str, number: int, *, of: dict[str, Any] = OCSF["classes"]["api_activity"]) -> str:
    """Return what OCSF calls a value of an attribute."""
    name: str = of["attributes"][attribute]["enum"][str(number)]["caption"]
    return name


def integers(value: object) -> Iterator[int]:
    """Return all integers of a parsed text."""
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from integers(child)


def assert_valid(line: dict[str, Any]) -> None:
    VALIDATOR.validate(line)
    # What OCSF asks for beyond its JSON Schema.
    assert line["type_uid"] == line["class_uid"] * 100 + line["activity_id"]
    assert line["type_name"] == f"{line['class_name']}: {caption('activity_id', line['activity_id'])}"
    assert line["activity_id"] == 99 or line["activity_name"] == caption("activity_id", line["activity_id"])
    assert line["category_name"] == caption("category_uid", line["category_uid"])
    assert line["class_name"] == OCSF["classes"]["api_activity"]["caption"]
    assert line["severity"] == caption("severity_id", line["severity_id"])
    assert line["status"] == caption("status_id", line["status_id"])
    user = line["actor"]["user"]
    assert user["type"] == caption("type_id", user["type_id"], of=OCSF["objects"]["user"])
    assert 0 <= line["time"] < 2**63
    small = line | {"time": 0, "unmapped": {}}
    # Their data is whatever was sent.
    small["api"] = small["api"] | {"request": {}}
    small["resources"] = [one | {"data": None} for one in line.get("resources", [])]
    assert all(abs(number) <= MAX_INTEGER for number in integers(small))


def line_of(value: object, mapper: OcsfMapper = MAPPER) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(mapper.map(read_entry(value)).data)
    assert_valid(parsed)
    return parsed


def test_schema_is_one_and_refuses_what_is_not_ocsf() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    line = line_of(entry())

    assert not VALIDATOR.is_valid(line | {"key": "a field of our own"})
    assert not VALIDATOR.is_valid({name: value for name, value in line.items() if name != "actor"})


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
@pytest.mark.parametrize("codes", [False, True])
def test_agreed_case_is_a_valid_event_that_says_the_same(case: dict[str, Any], codes: bool) -> None:
    gateway = Gateway(case["gateway"]["version"], case["gateway"]["hostname"], NOW)
    account_id = case["gateway"]["channel_arn"].split(":")[4]
    read = read_entry(case["entry"])
    mapper = OcsfMapper(gateway, "kong-eu", "requests", recipient_account_id=account_id, map_status_to_error_code=codes)

    line = json.loads(mapper.map(read).data)

    assert_valid(line)
    agreed = case["event"]
    parameters = agreed.get("requestParameters", {})
    assert line["time"] == case["entry"]["request_timestamp"] * 1000
    for place, expected in {
        "metadata.uid": read.key,
        "metadata.product.version": agreed["version"],
        "api.service.name": agreed["eventSource"],
        "api.operation": agreed["eventName"],
        "api.request.uid": agreed["UID"],
        "api.request.data": parameters.get("payload", ABSENT),
        "http_request.url.query_string": parameters.get("queryParameters", ABSENT),
        "src_endpoint.ip": agreed.get("sourceIPAddress", ABSENT),
        "dst_endpoint.name": agreed["additionalEventData"]["hostname"],
        "actor.user.name": agreed["userIdentity"]["details"].get("userName", "Anonymous")
        if "details" in agreed["userIdentity"]
        else ABSENT,
        "unmapped": {
            "source": "kong-eu",
            "stream": "requests",
            "schemaVersion": 1,
            "recipientAccountId": account_id,
            "entry": case["entry"],
        },
    }.items():
        assert at(line, place) == expected, place


@pytest.mark.parametrize(
    ("fields", "place", "expected"),
    [
        *(
            ({"method": method}, "type_uid", type_uid)
            for method, type_uid in {
                "POST": 600301,
                "GET": 600302,
                "HEAD": 600302,
                "OPTIONS": 600302,
                "PUT": 600303,
                "PATCH": 600303,
                "DELETE": 600304,
                "PURGE": 600399,
                "get": 600399,
                "": 600300,
                None: 600300,
                7: 600300,
            }.items()
        ),
        ({"method": "PURGE"}, "activity_name", "PURGE"),
        ({"method": None}, "activity_name", "Unknown"),
        ({"method": "PUT"}, "http_request.http_method", "PUT"),
        ({"method": "PATCH"}, "http_request.http_method", ABSENT),  # not in OCSF 1.3.0
        ({"method": "PATCH", "path": "/a/"}, "api.operation", "PATCH/a"),
        ({"method": "PATCH", "path": None}, "http_request", ABSENT),
        # how it ended
        *(
            ({"status": status}, place, expected)
            for status, values in {
                100: (1, "100", 100),
                201: (1, "201", 201),
                304: (1, "304", 304),
                399: (1, "399", 399),
                400: (2, "400", 400),
                401: (2, "401", 401),
                500: (2, "500", 500),
                999: (2, "999", 999),
                **dict.fromkeys((0, 99, 1000, -200, 10**400, 200.0, "200", None), (0, ABSENT, ABSENT)),
            }.items()
            for place, expected in zip(("status_id", "status_code", "api.response.code"), values, strict=True)
        ),
        ({"status": True}, "status_id", 0),
        ({"status": None}, "api.response", ABSENT),
        ({"status": 403}, "api.response", {"code": 403}),
        ({"status": 403}, "severity_id", 1),
        # who
        ({}, "actor.user.uid", "3c1f6f0e-5d0b-4a57-9f0a-0b8f6a2f7e11"),
        ({}, "actor.user.name", "alice"),
        ({}, "actor.user.type", "User"),
        ({}, "actor.app_name", ABSENT),
        ({"rbac_user_name": None}, "actor.user", {"uid": entry()["rbac_user_id"], "type_id": 1, "type": "User"}),
        ({"rbac_user_id": None}, "actor.user", {"name": "Anonymous", "type_id": 0, "type": "Unknown"}),
        ({"rbac_user_id": 17}, "actor.user.uid", "17"),
        ({"request_source": "kong-manager"}, "actor.app_name", "kong-manager"),
        ({"request_source": {"a": 1}}, "actor.app_name", ABSENT),
        ({"request_source": ""}, "actor.app_name", ABSENT),
        # from where
        ({"client_ip": "2001:db8::1"}, "src_endpoint", {"ip": "2001:db8::1"}),
        ({"client_ip": "::ffff:192.0.2.1"}, "src_endpoint", {"ip": "::ffff:192.0.2.1"}),
        (
            {"client_ip": "2001:0db8:0000:0000:0000:0000:192.100.200.100"},
            "src_endpoint",
            {"ip": "2001:db8::c064:c864"},
        ),
        ({"client_ip": "unix:"}, "src_endpoint", {"svc_name": "unix:"}),
        ({"client_ip": "192.0.2.1:80"}, "src_endpoint", {"svc_name": "192.0.2.1:80"}),
        ({"client_ip": None}, "src_endpoint", {"svc_name": "unknown"}),
        ({"client_ip": ""}, "src_endpoint", {"svc_name": "unknown"}),
        ({"client_ip": 7}, "src_endpoint", {"svc_name": "unknown"}),
        # what
        ({"path": "/a/?b=1&c"}, "http_request.url", {"path": "/a/", "query_string": "b=1&c"}),
        ({"path": "/a?"}, "http_request.url", {"path": "/a"}),
        ({"path": "?a"}, "http_request.url", {"path": "", "query_string": "a"}),
        ({"path": ["/a"]}, "http_request.url", ABSENT),
        ({"request_id": "a.b/c=d"}, "api.request.uid", "a.b/c=d"),
        ({"payload": '[{"a":1}]'}, "api.request.data", [{"a": 1}]),
        ({"payload": "a=b"}, "api.request.data", "a=b"),
        ({"payload": None}, "api.request.data", ABSENT),
        # when
        ({"request_timestamp": NOW}, "time", NOW * 1000),
        ({"request_timestamp": NOW}, "metadata.original_time", ABSENT),
        ({"request_timestamp": NOW + 0.75}, "time", NOW * 1000),
        ({"request_timestamp": NOW + 0.75}, "metadata.original_time", f"{NOW}.75"),
        ({"request_timestamp": "0017"}, "time", 17_000),
        ({"request_timestamp": "0017"}, "metadata.original_time", "0017"),
        ({"request_timestamp": 253402300799}, "time", 253402300799000),
    ],
)
def test_each_field_goes_to_its_place(fields: dict[str, Any], place: str, expected: object) -> None:
    found = at(line_of(entry(**fields)), place)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("status", "response"),
    [
        (200, {"code": 200}),
        (404, {"code": 404, "error": "404", "error_message": "Not Found"}),
        (499, {"code": 499, "error": "499"}),
        (99999, {"error": "99999"}),
        (None, ABSENT),
    ],
)
def test_status_becomes_an_error_code_where_asked_for(status: object, response: object) -> None:
    assert at(line_of(entry(status=status), MAPPER_WITH_CODES), "api.response") == response


@pytest.mark.parametrize(
    ("odd", "time", "original_time"),
    [
        (entry(1, request_timestamp=None), 0, ABSENT),
        (entry(1, request_timestamp="yesterday"), 0, "yesterday"),
        (entry(1, request_timestamp=-1), 0, ABSENT),
        (entry(1, method=None, path=None), (NOW - 1) * 1000, ABSENT),
        ({}, 0, ABSENT),
        ("text", 0, ABSENT),
        (None, 0, ABSENT),
        ([1], 0, ABSENT),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, int | str) else type(value).__name__,
)
def test_entry_that_is_no_event_has_a_line_with_the_reason(odd: Any, time: int, original_time: object) -> None:
    line = line_of(odd)

    assert line["unmapped"]["notMappable"]
    assert line["unmapped"]["entry"] == odd
    assert (line["time"], at(line, "metadata.original_time")) == (time, original_time)
    assert (line["activity_id"], line["status_id"], line["actor"]["user"]["name"]) == (0, 0, "Unknown")


def test_no_account_is_none_in_the_line() -> None:
    assert "recipientAccountId" not in line_of(entry(), MAPPER_WITH_CODES)["unmapped"]


@pytest.mark.parametrize(
    ("fields", "place", "expected"),
    [
        ({"rbac_user_id": LONG}, "actor.user.uid", LONG[:65_535]),
        ({"rbac_user_name": LONG}, "actor.user.name", LONG[:65_535]),
        ({"request_source": LONG}, "actor.app_name", LONG[:65_535]),
        ({"request_id": LONG}, "api.request.uid", LONG[:65_535]),
        ({"client_ip": LONG}, "src_endpoint.svc_name", LONG[:65_535]),
        ({"method": LONG}, "activity_name", LONG[:65_535]),
        ({"method": LONG}, "api.operation", LONG[:65_535]),
        ({"path": LONG}, "http_request.url.path", LONG[:65_535]),
        ({"path": f"/?{LONG}"}, "http_request.url.query_string", LONG[:65_535]),
        ({"request_timestamp": LONG}, "metadata.original_time", LONG[:65_535]),
        ({"request_timestamp": [LONG]}, "metadata.original_time", f'["{LONG}'[:65_535]),
        ({"payload": LONG}, "api.request.data", LONG),
    ],
    ids=lambda value: str(value)[:40],
)
def test_text_beyond_the_limit_of_ocsf_is_cut_and_whole_in_the_entry(
    fields: dict[str, Any], place: str, expected: str
) -> None:
    value = entry(**fields)

    line = line_of(value)

    assert at(line, place) == expected
    assert line["unmapped"]["entry"] == value


def test_what_a_gateway_says_of_itself_is_cut_too() -> None:
    line = line_of(entry(), OcsfMapper(Gateway(LONG, LONG, NOW), "kong", "requests"))

    assert at(line, "metadata.product.version") == at(line, "dst_endpoint.name") == LONG[:65_535]


def test_numbers_and_bytes_are_as_the_source_wrote_them() -> None:
    body = b'{"request_id":"a","method":"GET","request_timestamp":1717243199,"n":123456789012345678901,"b":"\xff"}'

    data = MAPPER.map(read_entry(decode_page(body))).data

    assert data.isascii()
    assert '"n":123456789012345678901,"b":"\\ufffd"},"entryText":"' in data
    assert json.loads(json.loads(data)["unmapped"]["entryText"]) == {
        **json.loads(body.replace(b"\xff", b"")),
        "b": "\udcff",
    }


addresses = st.ip_addresses().flatmap(
    lambda address: st.sampled_from([str(address), address.exploded, address.exploded.upper()])
)
more_odd_entries = st.fixed_dictionaries(
    {"request_timestamp": st.integers(0, 2**40), "method": st.sampled_from(["GET", "PATCH", "PURGE"]) | texts},
    optional={"client_ip": addresses, "request_source": texts, "status": st.integers(90, 1100) | st.booleans()},
)


@settings(max_examples=300, deadline=None)
@given(odd_entries | more_odd_entries, st.sampled_from([MAPPER, MAPPER_WITH_CODES]))
def test_any_entry_is_a_valid_event_that_has_it_untouched(value: object, mapper: OcsfMapper) -> None:
    read = read_entry(value)

    event = mapper.map(read)

    line = json.loads(event.data)
    assert_valid(line)
    assert event.data.isascii()
    assert event.data.startswith(f'{{"metadata":{{"uid":"{read.key}",')
    kept = at(line, "unmapped.entryText")
    assert (
        json.loads(kept) == json.loads(encode(value))
        if kept is not ABSENT
        else f'"entry":{encode(value)}' in event.data
    )
    # Both formats refuse the same entries, for the same reason.
    other = json.loads(LineMapper(GATEWAY, "kong", "requests").map(read).data)
    assert at(line, "unmapped.notMappable") == at(other, "notMappable")
    assert at(line, "api.operation") == other.get("eventName", "Unknown")[:65_535]


@pytest.mark.parametrize(("earlier", "later"), [("json", "ocsf"), ("ocsf", "json"), ("ocsf", "ocsf")])
def test_archive_knows_what_it_holds_in_either_format(earlier: str, later: str) -> None:
    s3 = MemoryS3()
    values = [read_entry(value) for value in (entry(1), entry(2, payload="x" * 300_000), "text", entry(3))]
    for count, format_ in ((3, earlier), (4, later)):
        log = open_log(s3)
        archive = Archive(log, "kong", "requests", "665af000-0000000a", line_format=format_)
        archive.deliver([archive.mapper(GATEWAY).map(value) for value in values[:count]])
        assert log.held(values) == {value.key for value in values[:count]}
        log.close()

    assert [line.get("unmapped", line)["entry"] for line in s3.lines()] == ["text", entry(1), values[1].value, entry(3)]
