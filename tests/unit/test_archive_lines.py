"""Lines of the archive: every entry has one, whole; and batches of them, by hour."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_cloudtrail.destinations.archive import packer as packing
from kong_cloudtrail.destinations.archive.line import LineMapper
from kong_cloudtrail.destinations.archive.packer import Packer
from kong_cloudtrail.destinations.archive.part_log import hour_of
from kong_cloudtrail.domain.event import Batch, Event
from kong_cloudtrail.domain.gateway import Gateway
from kong_cloudtrail.domain.jsontext import decode_page
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.helpers import ACCOUNT_ID, FIXTURES, GATEWAY, NOW, entry

CASES: list[dict[str, Any]] = json.loads((FIXTURES / "conformance" / "mapping.json").read_text(encoding="utf-8"))
MAPPER = LineMapper(GATEWAY, "kong", "requests", recipient_account_id=ACCOUNT_ID)


def line_of(value: object) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(MAPPER.map(read_entry(value)).data)
    return parsed


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_line_has_the_fields_of_the_agreed_event_and_the_untouched_entry(case: dict[str, Any]) -> None:
    gateway = Gateway(case["gateway"]["version"], case["gateway"]["hostname"], NOW)
    account_id = case["gateway"]["channel_arn"].split(":")[4]
    read = read_entry(case["entry"])

    line = json.loads(LineMapper(gateway, "kong-eu", "requests", recipient_account_id=account_id).map(read).data)

    assert line == case["event"] | {
        "key": read.key,
        "source": "kong-eu",
        "stream": "requests",
        "schemaVersion": 1,
        "entry": case["entry"],
    }


def test_nothing_is_shortened() -> None:
    long = entry(1, payload="p" * 300_000, path=f"/{'x' * 5000}", rbac_user_name="u" * 5000, anything="z" * 50_000)

    line = line_of(long)

    assert line["requestParameters"]["payload"] == "p" * 300_000
    assert line["eventName"] == f"POST/{'x' * 5000}"
    assert line["userIdentity"]["details"]["userName"] == "u" * 5000
    assert line["additionalEventData"]["anything"] == "z" * 50_000
    assert line["entry"] == long


def test_no_account_is_none_in_the_line() -> None:
    event = LineMapper(GATEWAY, "kong", "requests").map(read_entry(entry(1)))

    assert "recipientAccountId" not in json.loads(event.data)


@pytest.mark.parametrize(
    ("odd", "time"),
    [
        (entry(1, request_timestamp=None), None),
        (entry(1, method=None, path=None), "2024-06-01T11:59:59Z"),
        ("text", None),
        (None, None),
        ([1], None),
    ],
)
def test_entry_that_is_no_event_has_a_line_with_the_reason(odd: Any, time: str | None) -> None:
    line = line_of(odd)

    assert line["entry"] == odd
    assert line["eventTime"] == time
    assert line["notMappable"]
    assert "eventName" not in line


def test_numbers_and_bytes_are_as_the_source_wrote_them() -> None:
    body = b'{"request_id":"a","method":"GET","request_timestamp":1717243199,"n":123456789012345678901,"b":"\xff"}'

    data = MAPPER.map(read_entry(decode_page(body))).data

    assert data.isascii()
    assert data.endswith('"n":123456789012345678901,"b":"\\udcff"}}')


def event(number: int, hour: int, size: int = 0) -> Event:
    return MAPPER.map(read_entry(entry(number, request_timestamp=NOW - hour * 3600, payload="x" * size)))


events = st.builds(event, st.integers(0, 30), st.integers(0, 4), st.sampled_from([0, 0, 3000, 20_000]))


@settings(max_examples=100, deadline=None)
@given(st.lists(events, max_size=60))
def test_events_are_packed_by_hour_without_loss(given_events: list[Event]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "MAX_OPEN_BYTES", 40_000)
        packer = Packer()
        batches: list[Batch] = []
        for one in given_events:
            closed = packer.add(one)
            batches += [closed] if closed is not None else []
        while (batch := packer.flush()) is not None:
            batches.append(batch)

    def in_order(events_: list[Event]) -> list[str]:
        return sorted(event_.data for event_ in events_)

    assert in_order([one for batch in batches for one in batch.events]) == in_order(given_events)
    for batch in batches:
        assert len({hour_of(one.entry) for one in batch.events}) == 1
        assert len({one.id for one in batch.events}) == len(batch.events)
        assert batch.waiting_bytes == sum(len(one.data) for one in batch.events)
        assert batch.waiting_bytes <= 40_000 + max(len(one.data) for one in batch.events)


def test_an_hour_gets_one_batch_if_it_fits() -> None:
    packer = Packer()

    assert [packer.add(event(number, number % 3)) for number in range(3000)] == [None] * 3000
    batches = [packer.flush() for _ in range(4)]

    assert [len(batch.events) for batch in batches if batch is not None] == [1000, 1000, 1000]
    assert batches[-1] is None
