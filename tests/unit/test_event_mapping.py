"""Every row of the mapping table, and entries that nobody expects: delivered without loss, or refused one by one."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_cloudtrail.destinations.cloudtrail.event import EventMapper
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.domain.gateway import Gateway
from kong_cloudtrail.errors import EntryNotMappable
from kong_cloudtrail.sources.kong.entries import read_entry

from sandbox.cloudtrail.events import check_event
from tests.helpers import ACCOUNT_ID, GATEWAY, NOW, entry, event_of, locate_original

MAPPER = EventMapper(GATEWAY, ACCOUNT_ID, locate_original)
ABSENT = object()


def at(event: dict[str, Any], place: str) -> Any:
    """Return what is at a dotted place of an event, or ABSENT."""
    value: Any = event
    for name in place.split("."):
        value = value.get(name, ABSENT) if isinstance(value, dict) else ABSENT
    return value


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in entry().items() if name not in names}


@pytest.mark.parametrize(
    ("fields", "place", "expected"),
    [
        ({}, "version", "3.10.0.2-enterprise-edition"),
        ({}, "eventSource", "kong-gateway"),
        ({}, "recipientAccountId", ACCOUNT_ID),
        ({}, "additionalEventData.hostname", "kong-cp-1"),
        # who
        ({"rbac_user_id": "u1"}, "userIdentity.type", "RBACUser"),
        ({"rbac_user_id": "u1"}, "userIdentity.principalId", "u1"),
        ({"rbac_user_id": "u1", "rbac_user_name": "bob"}, "userIdentity.details", {"userName": "bob"}),
        ({"rbac_user_id": "u1", "rbac_user_name": "bob"}, "additionalEventData.rbac_user_name", "bob"),
        ({"rbac_user_id": "u1", "rbac_user_name": None}, "userIdentity.details", ABSENT),
        ({"rbac_user_id": "u1", "rbac_user_name": 7}, "userIdentity.details", ABSENT),
        ({"rbac_user_id": "u1", "rbac_user_name": 7}, "additionalEventData.rbac_user_name", 7),
        ({"rbac_user_id": None}, "userIdentity.type", "Anonymous"),
        ({"rbac_user_id": None}, "userIdentity.principalId", "anonymous"),
        (
            {"rbac_user_id": None},
            "userIdentity.details",
            {"RBAC": "Anonymous User on Kong Gateway: Please Enable RBAC on Kong Gateway"},
        ),
        ({"rbac_user_id": None, "rbac_user_name": "bob"}, "additionalEventData.rbac_user_name", "bob"),
        ({"rbac_user_id": ""}, "additionalEventData.rbac_user_id", ""),
        ({"rbac_user_id": 17}, "additionalEventData.rbac_user_id", 17),
        # what
        ({"method": "GET", "path": "/event-hooks/?size=100"}, "eventName", "GET/event-hooks"),
        ({"method": "GET", "path": "/"}, "eventName", "GET/"),
        ({"method": "GET", "path": "/?size=1"}, "eventName", "GET/"),
        ({"method": "GET", "path": "?size=1"}, "eventName", "GET/"),
        ({"method": "GET", "path": "/a?b=/c/"}, "eventName", "GET/a"),
        ({"method": "GET", "path": "/a b/%2F/"}, "eventName", "GET/a b/%2F"),
        ({"method": "GET", "path": None}, "eventName", "GET"),
        ({"method": None, "path": "/a"}, "eventName", "/a"),
        ({"method": 5, "path": "/a"}, "eventName", "/a"),
        ({"method": 5, "path": "/a"}, "additionalEventData.method", 5),
        ({"path": "/a/?b=1"}, "additionalEventData.path", "/a/?b=1"),
        ({"path": ["/a"]}, "additionalEventData.path", ["/a"]),
        # when
        ({"request_timestamp": 1663013700}, "eventTime", "2022-09-12T20:15:00Z"),
        ({"request_timestamp": 0}, "eventTime", "1970-01-01T00:00:00Z"),
        ({"request_timestamp": 253402300799}, "eventTime", "9999-12-31T23:59:59Z"),
        ({"request_timestamp": 1663013700.75}, "eventTime", "2022-09-12T20:15:00Z"),
        ({"request_timestamp": 1663013700.75}, "additionalEventData.request_timestamp", 1663013700.75),
        ({"request_timestamp": "1663013700"}, "eventTime", "2022-09-12T20:15:00Z"),
        ({"request_timestamp": "1663013700"}, "additionalEventData.request_timestamp", "1663013700"),
        ({"request_timestamp": 1663013700}, "additionalEventData.request_timestamp", ABSENT),
        # which
        ({"request_id": "a.b/c=d"}, "UID", "a.b/c=d"),
        ({"request_id": 12}, "additionalEventData.request_id", 12),
        ({"request_id": ""}, "additionalEventData.request_id", ""),
        ({"request_id": " " * 32}, "additionalEventData.request_id", " " * 32),
        # with what
        ({"path": "/a?size=100&x=%20y"}, "requestParameters.queryParameters", "size=100&x=%20y"),
        ({"path": "/a?b?c"}, "requestParameters.queryParameters", "b?c"),
        ({"path": "/a?", "payload": None}, "requestParameters", ABSENT),
        ({"path": "/a", "payload": None}, "requestParameters", ABSENT),
        ({"path": "/a", "payload": '{"b":1}'}, "requestParameters", {"payload": {"b": 1}}),
        ({"path": "/a", "payload": {"b": 1}}, "requestParameters", {"payload": {"b": 1}}),
        ({"path": "/a", "payload": 0}, "requestParameters", {"payload": 0}),
        # from where
        ({"client_ip": "192.0.2.1"}, "sourceIPAddress", "192.0.2.1"),
        ({"client_ip": "2001:db8::1"}, "sourceIPAddress", "2001:db8::1"),
        ({"client_ip": "2001:DB8:0:0::1"}, "sourceIPAddress", "2001:DB8:0:0::1"),
        ({"client_ip": "192.0.2.1"}, "additionalEventData.client_ip", ABSENT),
        ({"client_ip": None}, "sourceIPAddress", ABSENT),
        *(
            ({"client_ip": address}, place, expected)
            for address in ("unix:", "", "fe80::1%eth0", "192.0.2.1:80", "192.0.2.0/24", "010.0.0.1", 3232235777)
            for place, expected in (("sourceIPAddress", ABSENT), ("additionalEventData.client_ip", address))
        ),
        # the rest
        ({"signature": None}, "additionalEventData.signature", None),
        ({"signature": "YQ/+=="}, "additionalEventData.signature", "YQ/+=="),
        ({"workspace": None}, "additionalEventData.workspace", ABSENT),
        ({"ttl": 1.5}, "additionalEventData.ttl", 1.5),
        ({"ttl": None}, "additionalEventData.ttl", ABSENT),
        ({"removed_from_payload": "secret,token"}, "additionalEventData.removed_from_payload", "secret,token"),
        ({"request_source": "kong-manager"}, "additionalEventData.request_source", "kong-manager"),
        ({"something_new": {"a": [1]}}, "additionalEventData.something_new", {"a": [1]}),
        ({"something_new": None}, "additionalEventData.something_new", ABSENT),
        ({"hostname": "of the entry"}, "additionalEventData.hostname", "of the entry"),
        ({"status": 500}, "errorCode", ABSENT),
        ({}, "responseElements", ABSENT),
    ],
)
def test_each_field_goes_to_its_place(fields: dict[str, Any], place: str, expected: object) -> None:
    found = at(event_of(entry(**fields)), place)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (200, ABSENT, ABSENT),
        (399, ABSENT, ABSENT),
        (400, "400", "Bad Request"),
        (401, "401", "Unauthorized"),
        (404, "404", "Not Found"),
        (500, "500", "Internal Server Error"),
        (499, "499", ABSENT),
        (99999, "99999", ABSENT),
        ("404", ABSENT, ABSENT),
        (True, ABSENT, ABSENT),
        (None, ABSENT, ABSENT),
    ],
)
def test_status_becomes_an_error_only_where_asked_for(status: object, code: object, message: object) -> None:
    asked = event_of(entry(status=status), map_status_to_error_code=True)
    not_asked = event_of(entry(status=status))

    assert (at(asked, "errorCode"), at(asked, "errorMessage")) == (code, message)
    assert {**asked, "errorCode": 0, "errorMessage": 0} == {**not_asked, "errorCode": 0, "errorMessage": 0}


@pytest.mark.parametrize("unknown", ["", "x" * 300])
def test_version_is_never_longer_than_allowed(unknown: str) -> None:
    mapper = EventMapper(Gateway(unknown, "kong", NOW), ACCOUNT_ID, locate_original)

    assert json.loads(mapper.map(read_entry(entry())).data)["version"] == unknown[:256]


class TestCallId:
    @pytest.mark.parametrize("request_id", ["a", "A-_z09", "x" * 128, "8XsOaNYwXgn0VmgA8qYYpVteu14p9GIK"])
    def test_legal_request_id_is_the_id_of_the_call(self, request_id: str) -> None:
        assert read_entry(entry(request_id=request_id)).id == request_id

    @pytest.mark.parametrize("request_id", ["x" * 129, "a.b", "a:b", "ä", "a b", "a\n", "٣", "\ud800", ""])
    def test_any_other_is_replaced_by_a_stable_hash(self, request_id: str) -> None:
        first = read_entry(entry(request_id=request_id))
        second = read_entry(entry(request_id=request_id, ttl=5))

        assert first.id == second.id
        assert len(first.id) == 64
        assert first.id.isalnum()
        assert first.id.isascii()

    def test_entries_without_an_id_are_told_apart_by_their_content(self) -> None:
        one, other = (read_entry(without("request_id") | {"path": path}) for path in ("/one", "/other"))

        assert one.id != other.id
        assert event_of(one.value)["UID"] == one.id

    def test_repeated_id_with_other_content_is_another_entry(self) -> None:
        one, other = read_entry(entry(path="/one")), read_entry(entry(path="/other"))

        assert one.id == other.id
        assert one.key != other.key

    @pytest.mark.parametrize("later_ttl", [0, 1, 17.5, None, "soon"])
    def test_the_same_entry_read_later_is_the_same_entry(self, later_ttl: object) -> None:
        assert read_entry(entry()).key == read_entry(entry(ttl=later_ttl)).key


class TestRemainingSeconds:
    @pytest.mark.parametrize(
        ("ttl", "expected"),
        [(100, 100), (0, 0), (-5, 0), (0.2, 1), (99.5, 100), (10**400, 315_360_000), (1e300, 315_360_000)],
    )
    def test_is_what_kong_says_rounded_up_and_bounded(self, ttl: float, expected: int) -> None:
        assert read_entry(entry(ttl=ttl)).remaining_seconds == expected

    @pytest.mark.parametrize("ttl", [None, "100", True, [], {}])
    def test_is_kongs_default_where_kong_does_not_say(self, ttl: object) -> None:
        assert read_entry(entry(ttl=ttl)).remaining_seconds == 2_592_000

    def test_is_kongs_default_without_the_field(self) -> None:
        assert read_entry(without("ttl")).remaining_seconds == 2_592_000


@pytest.mark.parametrize(
    "value",
    [
        None,
        17,
        "text",
        [],
        [{"request_id": "x"}],
        {},
        without("request_timestamp"),
        entry(request_timestamp=None),
        entry(request_timestamp=-1),
        entry(request_timestamp=253402300800),
        entry(request_timestamp=True),
        entry(request_timestamp="yesterday"),
        entry(request_timestamp="１６６３０１３７００"),
        entry(request_timestamp=10**400),
        entry(request_timestamp=[NOW]),
        entry(method=None, path=None),
        entry(method="", path=None),
    ],
    ids=repr,
)
def test_entry_whose_event_would_have_to_be_invented_is_refused(value: object) -> None:
    with pytest.raises(EntryNotMappable):
        event_of(value)


# -- nothing is lost: the entry can be read back from the event, whatever it held

_PARSED_ELSEWHERE = {"request_id", "request_timestamp", "client_ip", "rbac_user_id", "payload"}


def fields_of(event: dict[str, Any]) -> dict[str, Any]:
    """Read the fields of an entry back from its event."""
    fields = dict(event["additionalEventData"])
    moment = datetime.strptime(event["eventTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    elsewhere = {
        "request_id": event["UID"],
        "request_timestamp": int(moment.timestamp()),
        "client_ip": event.get("sourceIPAddress"),
        "rbac_user_id": event["userIdentity"]["principalId"],
        "payload": event.get("requestParameters", {}).get("payload"),
    }
    return elsewhere | fields


def assert_nothing_is_lost(value: dict[str, Any], event: Event) -> None:
    if event.original is not None:
        assert json.loads(event.original.body) == value
        return
    fields = fields_of(json.loads(event.data))
    for name, expected in value.items():
        if expected is None:
            continue
        found = fields[name]
        if name == "payload" and isinstance(expected, str) and not isinstance(found, str):
            expected = json.loads(expected)
        assert json.dumps(found) == json.dumps(expected), name


texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)  # lone surrogates included
numbers = st.integers(-(10**300), 10**300) | st.just(10**400) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=12,
)
payloads = json_values | json_values.map(json.dumps) | texts.map(lambda text: text * 5_000)
plausible = {
    "request_id": texts | st.just("8XsOaNYwXgn0VmgA8qYYpVteu14p9GIK") | json_values,
    "request_timestamp": st.integers(-10, 2**40) | json_values,
    "client_ip": st.ip_addresses().map(str) | json_values,
    "method": st.sampled_from(["GET", "POST", ""]) | texts.map(lambda text: text * 100) | json_values,
    "path": texts | texts.map(lambda text: "/" + text * 1_000) | json_values,
    "payload": payloads,
    "rbac_user_id": texts.map(lambda text: text * 100) | json_values,
    "rbac_user_name": texts.map(lambda text: text * 200) | json_values,
    "status": st.integers(0, 700) | json_values,
    "ttl": numbers | json_values,
    "signature": texts | st.none(),
    "shortened": json_values,
}
odd_entries = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {name: plausible[name] for name in ("request_timestamp", "method")},
        optional={name: values for name, values in plausible.items() if name not in ("request_timestamp", "method")},
    ),
    st.fixed_dictionaries(
        {"request_timestamp": st.just(NOW), "method": st.just("GET")},
        optional={"payload": payloads, "field": payloads, "other": payloads},
    ),
)


@settings(max_examples=300, deadline=None)
@given(odd_entries)
def test_any_entry_is_delivered_without_loss_or_refused_alone(value: object) -> None:
    read = read_entry(value)
    assert read.remaining_seconds >= 0
    try:
        event = MAPPER.map(read)
    except EntryNotMappable:
        return

    assert isinstance(value, dict)
    check_event(event.data, account_id=ACCOUNT_ID, event_source="kong-gateway")
    assert event.data.isascii()
    assert_nothing_is_lost(value, event)


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "/\ud800?x=\udfff"},
        {"payload": '{"a":"\\ud800"}'},
        {"payload": "\udcff\udcfe"},
        {"big": 2**53 + 1, "bigger": 10**100, "fraction": 0.1, "small": 5e-324},
        {"path": "//a///b//?"},
        {"nested": {"a": [{"b": [None, True, 1.0, ""]}]}},
        {"": "a field without a name"},
        {"client_ip": {"address": "192.0.2.1"}},
        {"rbac_user_id": {"id": 1}, "rbac_user_name": ["a"]},
    ],
    ids=str,
)
def test_odd_fields_come_through_unchanged(fields: dict[str, Any]) -> None:
    value = entry(**fields)

    assert_nothing_is_lost(value, MAPPER.map(read_entry(value)))
