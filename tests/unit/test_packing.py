"""Batches are within what one call takes, measured as botocore really writes it, and hold every event once."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import botocore.session
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_cloudtrail.destinations.cloudtrail.destination import checksum
from kong_cloudtrail.destinations.cloudtrail.event import EventMapper
from kong_cloudtrail.destinations.cloudtrail.packer import Packer, element_bytes
from kong_cloudtrail.domain.event import Batch, Event
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.helpers import ACCOUNT_ID, GATEWAY, NOW, entry, locate_original

MAPPER = EventMapper(GATEWAY, ACCOUNT_ID, locate_original)


@cache
def cloudtrail_data() -> Any:
    # Never called: it serialises requests, and nobody listens where it would send them.
    return botocore.session.Session().create_client(
        "cloudtrail-data",
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(retries={"total_max_attempts": 1}),
    )


class _Written(Exception):
    def __init__(self, body: bytes) -> None:
        self.body = body


def request_body(events: Sequence[Event]) -> bytes:
    """Return the very bytes that botocore would send."""

    def stop(request: Any, **_: Any) -> None:
        raise _Written(request.body)

    client = cloudtrail_data()
    client.meta.events.register("before-send.cloudtrail-data", stop, unique_id="stop")
    try:
        client.put_audit_events(
            channelArn="arn:aws:cloudtrail:us-east-1:123456789012:channel/x",
            auditEvents=[
                {"id": event.id, "eventData": event.data, "eventDataChecksum": checksum(event.data)} for event in events
            ],
        )
    except _Written as written:
        return bytes(written.body)
    raise AssertionError("nothing was written")


def pack(events: list[Event]) -> list[Batch]:
    packer = Packer()
    closed = [packer.add(event) for event in events]
    closed.append(packer.flush())
    assert packer.flush() is None
    return [batch for batch in closed if batch is not None]


def event(request_id: str, payload: str | None = None) -> Event:
    return MAPPER.map(read_entry(entry(request_id=request_id, payload=payload)))


texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
events = st.builds(
    event,
    request_id=st.integers(0, 150).map(str) | texts,
    payload=st.none()
    | texts
    | st.builds(
        lambda piece, times: piece * times,
        st.sampled_from(["a", '"', "\\", "é", "\x7f", "\n", "😀", "\ud800", '{"a":']),
        st.sampled_from([1_000, 16_000, 40_000, 100_000]),
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(events, max_size=40))
def test_any_events_are_packed_within_the_limits_in_order_and_without_loss(given_events: list[Event]) -> None:
    batches = pack(given_events)

    assert [packed for batch in batches for packed in batch.events] == given_events
    for batch in batches:
        body = request_body(batch.events)
        assert len(body) <= 1_000_000
        assert 1 <= len(batch.events) <= 100
        ids = [sent["id"] for sent in json.loads(body)["auditEvents"]]
        assert len(set(ids)) == len(ids)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=500), st.integers(1, 10_000))
def test_ordinary_events_fill_batches_of_a_hundred(numbers: list[int], seed: int) -> None:
    given_events = [event(f"{seed}-{place}-{number}") for place, number in enumerate(numbers)]

    sizes = [len(batch.events) for batch in pack(given_events)]

    assert sum(sizes) == len(numbers)
    assert all(size == 100 for size in sizes[:-1])


def test_a_batch_may_be_exactly_as_large_as_allowed() -> None:
    # Given events that fill a call but for one byte, and a last one that fits exactly or is one byte too long
    filler = [event(f"filler-{number}", "x" * 90_000) for number in range(10)]
    room = 1_000_000 - len(request_body([*filler, event("last", "")]))

    for surplus, batches in ((0, 1), (1, 2)):
        last = event("last", "x" * (room + surplus))
        assert len(pack([*filler, last])) == batches
        assert len(request_body([*filler, last])) == 1_000_000 + surplus


def test_largest_event_fits_into_a_call_of_its_own() -> None:
    largest = MAPPER.map(
        read_entry(
            entry(
                request_id='"' * 2_000,
                path='/"' * 120_000 + "?" + '"' * 120_000,
                payload='"' * 200_000,
                rbac_user_id='"' * 2_000,
                rbac_user_name='"' * 2_000,
                signature='"' * 50_000,
                request_timestamp=NOW,
            )
        )
    )

    assert len(request_body([largest])) <= 1_000_000
    assert element_bytes(largest) <= 1_000_000


def test_repeated_id_goes_into_another_call() -> None:
    first, second, third = event("same", "1"), event("same", "2"), event("other")

    assert [batch.events for batch in pack([first, second, third])] == [[first], [second, third]]
