"""Every row of the mapping table of objects, and entries that nobody expects: delivered without loss."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_cloudtrail.destinations.archive.line import LineMapper
from kong_cloudtrail.destinations.archive.part_log import UNDATED_HOUR, hour_of
from kong_cloudtrail.destinations.cloudtrail.event import EventMapper
from kong_cloudtrail.domain.entry import Context, Entry
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.domain.jsontext import encode
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.domain.ocsf import OcsfMapper
from kong_cloudtrail.errors import EntryNotMappable
from kong_cloudtrail.ports import Failure
from kong_cloudtrail.sources.kong.entries import OBJECT, read_entry
from kong_cloudtrail.state.ledger import Ledger

from sandbox.cloudtrail.events import check_event
from tests.fakes import Store
from tests.helpers import ACCOUNT_ID, GATEWAY, NOW, TRAIL, FakeClock, change, entry, locate_original
from tests.unit.test_archive_ocsf import assert_valid
from tests.unit.test_event_mapping import ABSENT, at, json_values, numbers, payloads, texts

MAPPER = EventMapper(GATEWAY, ACCOUNT_ID, locate_original, stream="objects")
LINES = LineMapper(GATEWAY, "kong", "objects", recipient_account_id=ACCOUNT_ID)
OCSF = OcsfMapper(GATEWAY, "kong", "objects", recipient_account_id=ACCOUNT_ID)
READ_AT = NOW + 60
CAUSE = entry(1)


def read(value: object, *, request: dict[str, Any] | None = CAUSE) -> Entry:
    """Return the entry of an object, as it is read when its request is at hand, or not."""
    return replace(read_entry(value, OBJECT), context=Context(READ_AT, request))


def event_of(value: object, **options: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(MAPPER.map(read(value, **options)).data)
    return parsed


@pytest.mark.parametrize(
    ("fields", "place", "expected"),
    [
        ({}, "version", "3.10.0.2-enterprise-edition"),
        ({}, "eventSource", "kong-gateway"),
        ({}, "recipientAccountId", ACCOUNT_ID),
        ({}, "additionalEventData.hostname", "kong-cp-1"),
        # what
        ({}, "eventName", "update/services"),
        ({"operation": "delete", "dao_name": "keyauth_credentials"}, "eventName", "delete/keyauth_credentials"),
        ({"operation": None}, "eventName", "services"),
        ({"dao_name": 7}, "eventName", "update"),
        ({"dao_name": 7}, "additionalEventData.dao_name", 7),
        ({}, "additionalEventData.operation", "update"),
        ({}, "additionalEventData.dao_name", "services"),
        ({}, "requestParameters.entity", {"id": "s1", "name": "service-1"}),
        ({}, "requestParameters.entity_key", "s1"),
        ({"entity": '{"a":1,"a":2}'}, "requestParameters.entity", '{"a":1,"a":2}'),
        ({"entity": "no JSON"}, "requestParameters.entity", "no JSON"),
        ({"entity": None, "entity_key": None}, "requestParameters", ABSENT),
        ({"removed_from_entity": "key,password"}, "additionalEventData.removed_from_entity", "key,password"),
        # which
        ({}, "UID", "00000000-0000-4000-8000-000000000001"),
        ({"id": "no legal id!"}, "UID", "no legal id!"),
        ({"id": 7}, "additionalEventData.id", 7),
        ({}, "additionalEventData.request_id", f"{1:032d}"),
        ({"request_id": " " * 32}, "additionalEventData.request_id", " " * 32),
        ({"request_id": ""}, "additionalEventData.request_id", ""),
        ({"request_id": None}, "additionalEventData.request_id", ABSENT),
        # when
        ({}, "eventTime", "2024-06-01T11:59:59Z"),
        ({}, "additionalEventData.eventTimeSource", ABSENT),
        ({"request_timestamp": str(NOW)}, "eventTime", "2024-06-01T12:00:00Z"),
        ({"request_timestamp": str(NOW)}, "additionalEventData.request_timestamp", str(NOW)),
        ({"request_timestamp": -5}, "additionalEventData.request_timestamp", -5),
        ({"request_timestamp": -5}, "additionalEventData.eventTimeSource", "request"),
        # who, where
        ({}, "userIdentity.principalId", CAUSE["rbac_user_id"]),
        ({}, "userIdentity.details", {"userName": "alice"}),
        ({}, "sourceIPAddress", "192.0.2.10"),
        ({}, "additionalEventData.workspace", CAUSE["workspace"]),
        ({"workspace": "its own"}, "additionalEventData.workspace", "its own"),
        ({"rbac_user_id": None}, "userIdentity.principalId", CAUSE["rbac_user_id"]),
        # What the request says of somebody else is not said of this user.
        ({"rbac_user_id": "u2"}, "userIdentity", {"type": "RBACUser", "principalId": "u2"}),
        ({"rbac_user_id": 7}, "additionalEventData.rbac_user_id", 7),
        # the rest
        ({}, "additionalEventData.signature", None),
        ({}, "additionalEventData.ttl", 2_591_990),
        ({"new_field": {"a": [1]}}, "additionalEventData.new_field", {"a": [1]}),
        ({"status": 500}, "errorCode", ABSENT),
    ],
)
def test_mapping(fields: dict[str, Any], place: str, expected: object) -> None:
    assert at(event_of(change(**fields)), place) == expected


@pytest.mark.parametrize(
    ("request_entry", "place", "expected"),
    [
        (None, "userIdentity", {"type": "RBACUser", "principalId": "3c1f6f0e-5d0b-4a57-9f0a-0b8f6a2f7e11"}),
        (None, "sourceIPAddress", ABSENT),
        (None, "additionalEventData.workspace", ABSENT),
        (None, "eventTime", "2024-06-01T12:01:00Z"),
        (None, "additionalEventData.eventTimeSource", "reading"),
        (CAUSE, "eventTime", "2024-06-01T11:59:59Z"),
        (CAUSE, "additionalEventData.eventTimeSource", "request"),
        (CAUSE | {"request_timestamp": "soon"}, "additionalEventData.eventTimeSource", "reading"),
        (CAUSE | {"client_ip": "unix:"}, "additionalEventData.client_ip", "unix:"),
        (CAUSE | {"workspace": None}, "additionalEventData.workspace", ABSENT),
    ],
)
def test_what_an_older_release_does_not_say_is_from_the_request_or_else_from_the_reading(
    request_entry: dict[str, Any] | None, place: str, expected: object
) -> None:
    value = change()
    del value["request_timestamp"]

    assert at(event_of(value, request=request_entry), place) == expected


def test_nobody_is_known_where_neither_says_it() -> None:
    assert event_of(change(rbac_user_id=None), request=None)["userIdentity"]["type"] == "Anonymous"


@pytest.mark.parametrize("value", [[], "text", None, {"id": "1"}, change(operation="", dao_name=None)])
def test_what_has_no_name_is_refused(value: object) -> None:
    with pytest.raises(EntryNotMappable):
        MAPPER.map(read(value))
    assert json.loads(LINES.map(read(value)).data)["notMappable"]


@pytest.mark.parametrize("own_time", [True, False])
def test_identity_and_place_depend_on_the_entry_alone(own_time: bool) -> None:
    value = change()
    if not own_time:
        del value["request_timestamp"]
    later = value | {"ttl": value["ttl"] - 3600}

    readings = [read(value), read(value, request=None), read(later), replace(read(later), context=Context(NOW * 2))]

    assert len({one.key for one in readings}) == len({one.id for one in readings}) == 1
    assert {hour_of(one) for one in readings} == {"day=2024-06-01/11" if own_time else UNDATED_HOUR}


@pytest.mark.parametrize(
    "fields", [{"entity": "{}"}, {"operation": "create"}, {"entity_key": "s2"}, {"request_id": "another"}]
)
def test_two_entries_with_one_id_and_different_content_are_two(fields: dict[str, Any]) -> None:
    assert read(change()).key != read(change(**fields)).key


def test_entry_without_a_time_is_the_same_one_after_an_upgrade_shows_it_as_null() -> None:
    value = change()
    del value["request_timestamp"], value["removed_from_entity"]

    assert read(value).key == read(value | {"request_timestamp": None, "removed_from_entity": None}).key


def test_quarantine_keeps_what_was_known() -> None:
    ledger = Ledger(Store(), TRAIL, FakeClock())
    entry = read(change())
    ledger.quarantine(entry, GATEWAY, Failure("Odd", "odd"), attempts=1)

    kept = ledger.read_quarantined(entry.key.replace(":", "-"))
    assert kept is not None
    assert MAPPER.map(kept.entry).data == MAPPER.map(read(change())).data


def assert_nothing_is_lost(value: dict[str, Any], event: Event) -> None:
    if event.original is not None:
        assert json.loads(event.original.body) == value
        return
    mapped = json.loads(event.data)
    fields = mapped["additionalEventData"] | mapped.get("requestParameters", {})
    for name, expected in value.items():
        if expected is None:
            continue
        if name == "id" and isinstance(expected, str) and expected.strip():
            found = mapped["UID"]
        elif name == "rbac_user_id" and name not in fields:
            found = mapped["userIdentity"]["principalId"]
        elif name == "request_timestamp" and name not in fields:
            found, expected = mapped["eventTime"], utc(expected)
        else:
            found = fields[name]
        if name == "entity" and isinstance(expected, str) and not isinstance(found, str):
            expected = json.loads(expected)
        assert json.dumps(found) == json.dumps(expected), name


plausible = {
    "id": texts | st.uuids().map(str) | json_values,
    "request_timestamp": st.integers(-10, 2**40) | json_values,
    "request_id": texts | st.just(" " * 32) | json_values,
    "operation": st.sampled_from(["create", "update", "delete", "", "upsert"]) | texts | json_values,
    "dao_name": st.sampled_from(["services", "routes", ""]) | texts.map(lambda text: text * 100) | json_values,
    "entity": payloads,
    "entity_key": texts.map(lambda text: text * 5_000) | json_values,
    "rbac_user_id": texts.map(lambda text: text * 100) | json_values,
    "removed_from_entity": texts | json_values,
    "workspace": texts | json_values,
    "ttl": numbers | json_values,
    "signature": texts | st.none(),
    "eventTimeSource": json_values,
    "hostname": json_values,
    "shortened": json_values,
}
odd_changes = st.one_of(
    json_values,
    st.fixed_dictionaries({}, optional=plausible),
    st.fixed_dictionaries(
        {"operation": st.just("create"), "dao_name": st.just("services")},
        optional={name: values for name, values in plausible.items() if name not in ("operation", "dao_name")},
    ),
)
odd_requests = st.none() | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("request_timestamp", "client_ip", "rbac_user_id", "workspace"), json_values | texts)
)


@settings(max_examples=300, deadline=None)
@given(odd_changes, odd_requests)
def test_any_entry_is_delivered_without_loss_or_refused_alone(value: object, request: dict[str, Any] | None) -> None:
    one = read(value, request=request)
    written = LINES.map(one).data
    line = json.loads(written)
    kept = line.get("entryText")
    shown = line["entry"] if kept is None else json.loads(kept)
    assert repr(shown) == repr(json.loads(encode(value)))
    ocsf = json.loads(OCSF.map(one).data)
    assert_valid(ocsf)
    assert ocsf["metadata"]["uid"] == line["key"] == one.key
    assert at(ocsf, "unmapped.notMappable") == at(line, "notMappable")
    try:
        event = MAPPER.map(one)
    except EntryNotMappable:
        assert line["notMappable"]
        return

    assert isinstance(value, dict)
    check_event(event.data, account_id=ACCOUNT_ID, event_source="kong-gateway")
    assert event.data.isascii()
    assert_nothing_is_lost(value, event)


def test_entity_beyond_the_limit_is_shortened_and_kept() -> None:
    value = change(entity=json.dumps({"id": "s1", "cert": "x" * 300_000}))

    event = MAPPER.map(read(value))

    assert event.original is not None and json.loads(event.original.body) == value
    mapped = json.loads(event.data)
    assert mapped["additionalEventData"]["shortened"]["fields"] == ["requestParameters.entity"]
    assert (mapped["eventName"], mapped["requestParameters"]["entity_key"]) == ("update/services", "s1")


@pytest.mark.parametrize(
    ("operation", "activity"),
    [("create", (1, "Create")), ("update", (3, "Update")), ("delete", (4, "Delete")), ("upsert", (99, "upsert"))],
)
def test_ocsf_says_what_was_done_to_which_object(operation: str, activity: tuple[int, str]) -> None:
    line = json.loads(OCSF.map(read(change(operation=operation))).data)

    assert_valid(line)
    assert (line["activity_id"], line["activity_name"]) == activity
    assert line["resources"] == [{"uid": "s1", "type": "services", "data": {"id": "s1", "name": "service-1"}}]
    assert (line["status"], line["time"]) == ("Success", (NOW - 1) * 1000)
    assert line["metadata"]["correlation_uid"] == line["api"]["request"]["uid"] == CAUSE["request_id"]
    assert line["actor"]["user"]["name"] == "alice"
    assert line["src_endpoint"] == {"ip": "192.0.2.10"}
    assert line["unmapped"]["workspace"] == CAUSE["workspace"]
    assert line["unmapped"]["entry"] == change(operation=operation)


def test_ocsf_marks_a_time_that_is_not_the_entrys_own() -> None:
    line = json.loads(OCSF.map(read(change(request_timestamp=None), request=None)).data)

    assert_valid(line)
    assert (line["time"], line["unmapped"]["eventTimeSource"]) == (READ_AT * 1000, "reading")
