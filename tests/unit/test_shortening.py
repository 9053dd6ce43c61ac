"""What is larger than CloudTrail takes is delivered shortened, and says where the whole of it is."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_cloudtrail.destinations.cloudtrail.event import EventMapper
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.sources.kong.entries import read_entry

from sandbox.cloudtrail.events import check_event
from tests.helpers import ACCOUNT_ID, GATEWAY, entry, locate_original

MAPPER = EventMapper(GATEWAY, ACCOUNT_ID, locate_original)


def shortened(value: dict[str, Any]) -> tuple[dict[str, Any], Event]:
    """Map an entry that is too large; check everything that holds for all of them."""
    event = MAPPER.map(read_entry(value))
    check_event(event.data, account_id=ACCOUNT_ID, event_source="kong-gateway")
    parsed = json.loads(event.data)
    assert event.original is not None
    assert json.loads(event.original.body) == value
    mark = parsed["additionalEventData"]["shortened"]
    assert mark["sizeBytes"] == len(event.original.body)
    assert mark["sha256"] == event.original.sha256 == hashlib.sha256(event.original.body).hexdigest()
    assert mark["original"] == locate_original(event.id, event.original.sha256)
    assert mark["fields"]
    return parsed, event


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"payload": "x" * 100_001}, "requestParameters.payload"),
        ({"payload": "x" * 10_000_000}, "requestParameters.payload"),
        ({"payload": json.dumps({"a": "x" * 120_000})}, "requestParameters.payload"),
        ({"payload": json.dumps(["x"] * 50_000)}, "requestParameters.payload"),
        ({"payload": '"' * 99_000}, "requestParameters.payload"),
        ({"payload": "\x00" * 50_000}, "requestParameters.payload"),
        ({"payload": "😀" * 30_000}, "requestParameters.payload"),
        ({"payload": "\ud800" * 30_000}, "requestParameters.payload"),
        ({"path": "/a?" + "x" * 200_000}, "requestParameters.queryParameters"),
        ({"path": "/a?" + "x" * 200_000}, "additionalEventData.path"),
        ({"path": "/" + "a" * 2_000}, "eventName"),
        ({"method": "M" * 1_025}, "eventName"),
        ({"request_id": "i" * 1_025}, "UID"),
        ({"rbac_user_id": "u" * 1_025}, "userIdentity.principalId"),
        ({"rbac_user_id": list(range(1_000))}, "userIdentity.principalId"),
        ({"rbac_user_name": "n" * 1_025}, "userIdentity.details.userName"),
        ({"signature": "s" * 29_000}, "additionalEventData.signature"),
        ({"client_ip": "c" * 40_000}, "additionalEventData.client_ip"),
        ({"unknown": {"a": ["b" * 1_000] * 40}}, "additionalEventData.unknown"),
        ({f"field_{number}": "x" * 20_000 for number in range(3)}, "additionalEventData.field_1"),
        ({f"field_{number}": "x" for number in range(4_000)}, "additionalEventData.field_"),
        ({"n" * 40_000: "the name is too long"}, "additionalEventData." + "n" * 40),
    ],
    ids=lambda value: str(value)[:60],
)
def test_too_long_field_is_shortened_and_named(fields: dict[str, Any], named: str) -> None:
    event, _ = shortened(entry(**fields))

    assert any(name.startswith(named) for name in event["additionalEventData"]["shortened"]["fields"])


def test_excerpt_is_the_beginning_and_as_long_as_there_is_room() -> None:
    payload = "".join(f"{number}," for number in range(40_000))

    event, _ = shortened(entry(path="/", payload=payload))

    excerpt = event["requestParameters"]["payload"]
    assert payload.startswith(excerpt)
    assert len(excerpt) > 95_000


def test_what_is_small_stays_whole_beside_what_is_shortened() -> None:
    value = entry(path="/a?size=1", payload="x" * 300_000, unknown="y" * 50_000, workspace="w")

    event, _ = shortened(value)

    assert event["requestParameters"]["queryParameters"] == "size=1"
    assert event["additionalEventData"]["workspace"] == "w"
    assert event["additionalEventData"]["path"] == "/a?size=1"
    assert event["additionalEventData"]["shortened"]["fields"] == [
        "requestParameters.payload",
        "additionalEventData.unknown",
    ]


@pytest.mark.parametrize("letter", ["é", "😀", '"', "\\", "\x00"])
def test_many_fields_with_long_names_leave_room_for_the_mark(letter: str) -> None:
    event, _ = shortened(entry() | {letter * 50 + str(number): "x" * 3_000 for number in range(30)})

    assert len(event["additionalEventData"]["shortened"]["fields"]) >= 10


def test_field_of_the_entry_with_the_name_of_the_mark_is_in_the_original() -> None:
    _, event = shortened(entry(payload="x" * 300_000, shortened="not ours"))

    assert event.original is not None
    assert json.loads(event.original.body)["shortened"] == "not ours"


@pytest.mark.parametrize(
    "fields",
    [
        {"payload": "x" * (100_000 - len('{"payload":""}'))},
        {"payload": json.dumps({"a": "x" * 99_000})},
        {"method": "", "path": "/" + "a" * 1_023},
        {"request_id": "i" * 1_024},
        {"rbac_user_id": "u" * 1_024, "rbac_user_name": "n" * 1_024},
        {"unknown": "x" * 27_000},
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_just_fits_is_left_as_it_is(fields: dict[str, Any]) -> None:
    event = MAPPER.map(read_entry(entry(**({"path": "/"} | fields))))

    check_event(event.data, account_id=ACCOUNT_ID, event_source="kong-gateway")
    assert event.original is None
    assert "shortened" not in json.loads(event.data)["additionalEventData"]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["payload", "path", "signature", "method", "request_id", "rbac_user_id", "x", "y", "z"]),
        st.tuples(
            st.sampled_from(["a", '"', "\\", "\n", "é", "😀", "\ud800", '{"a":"', "?", "/", "[["]),
            st.sampled_from([10, 500, 1_025, 5_000, 28_000, 60_000, 110_000]),
        ).map(lambda pair: pair[0] * pair[1]),
        min_size=1,
    )
)
def test_every_size_of_every_field_ends_within_the_limits(fields: dict[str, str]) -> None:
    value = entry() | fields
    event = MAPPER.map(read_entry(value))

    check_event(event.data, account_id=ACCOUNT_ID, event_source="kong-gateway")
    if event.original is not None:
        shortened(value)
