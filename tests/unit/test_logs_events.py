"""Events for CloudWatch Logs: their form, their size, and batches within the rules of PutLogEvents."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from kong_cloudtrail.destinations.cloudtrail.event import EventMapper as LakeMapper
from kong_cloudtrail.destinations.cloudwatch_logs.dating import Dating
from kong_cloudtrail.destinations.cloudwatch_logs.destination import CloudWatchLogs
from kong_cloudtrail.destinations.cloudwatch_logs.event import EventMapper, OcsfEventMapper
from kong_cloudtrail.destinations.cloudwatch_logs.limits import MAX_BATCH_EVENTS
from kong_cloudtrail.destinations.cloudwatch_logs.packer import Packer
from kong_cloudtrail.domain.event import Batch, Event
from kong_cloudtrail.domain.gateway import Gateway
from kong_cloudtrail.errors import EntryNotMappable
from kong_cloudtrail.sources.kong.entries import OBJECT, read_entry
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from sandbox.cloudwatch_logs.calls import DAY_MS, MAX_CALL_BYTES, check_events
from sandbox.machinery.aws_calls import CallError
from sandbox.machinery.http_server import http_date
from tests.helpers import ACCOUNT_ID, FIXTURES, GATEWAY, change, entry, locate_original

CASES: list[dict[str, Any]] = json.loads((FIXTURES / "conformance" / "mapping.json").read_text(encoding="utf-8"))
OCSF = Draft202012Validator(OcsfJsonSchemaEmbedded(get_ocsf_schema("1.3.0")).get_class_schema("api_activity"))
MAPPER = EventMapper(GATEWAY, "kong", "requests", ACCOUNT_ID, locate_original)
OCSF_MAPPER = OcsfEventMapper(GATEWAY, "kong", "requests", ACCOUNT_ID, locate_original)
LARGEST = MAX_CALL_BYTES - 26


def check_original(event: Event, value: dict[str, Any], mark: dict[str, Any]) -> None:
    assert event.original is not None
    assert json.loads(event.original.body) == value
    assert mark["sizeBytes"] == len(event.original.body)
    assert mark["sha256"] == hashlib.sha256(event.original.body).hexdigest()
    assert mark["original"] == locate_original(event.id, event.original.sha256)


class TestForm:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_of_the_conformance_cases(self, case: dict[str, Any]) -> None:
        of_case = case["gateway"]
        account_id = of_case["channel_arn"].split(":")[4]
        gateway = Gateway(of_case["version"], of_case["hostname"], None)
        value = read_entry(case["entry"])
        event = EventMapper(gateway, "kong", "requests", account_id, locate_original).map(value)
        assert event.id == case["id"]
        assert json.loads(event.data) == case["event"]
        OCSF.validate(
            json.loads(OcsfEventMapper(gateway, "kong", "requests", account_id, locate_original).map(value).data)
        )

    def test_is_that_of_cloudtrail_lake(self) -> None:
        value = read_entry(entry())
        event = json.loads(MAPPER.map(value).data)
        assert event == json.loads(LakeMapper(GATEWAY, ACCOUNT_ID, locate_original).map(value).data)
        assert list(event)[-1] == "requestParameters"  # which may have more fields than Logs Insights finds

    def test_is_that_of_ocsf_if_asked_for(self) -> None:
        event = json.loads(OCSF_MAPPER.map(read_entry(entry())).data)
        OCSF.validate(event)
        assert event["unmapped"]["entry"] == entry()
        assert event["unmapped"]["recipientAccountId"] == ACCOUNT_ID

    def test_what_has_no_time_is_no_event_but_one_of_ocsf(self) -> None:
        odd = read_entry(entry(request_timestamp="yesterday"))
        with pytest.raises(EntryNotMappable):
            MAPPER.map(odd)
        OCSF.validate(json.loads(OCSF_MAPPER.map(odd).data))


class TestSize:
    def test_what_is_too_large_for_the_lake_is_whole_here(self) -> None:
        event = MAPPER.map(read_entry(entry(payload="x" * 900_000, signature="y" * 100_000)))
        assert event.original is None
        assert json.loads(event.data)["requestParameters"]["payload"] == "x" * 900_000

    @pytest.mark.parametrize(("mapper", "surplus"), [(MAPPER, 0), (MAPPER, 1)])
    def test_limit_is_exact(self, mapper: EventMapper, surplus: int) -> None:
        room = LARGEST - len(mapper.map(read_entry(entry(payload=""))).data)
        event = mapper.map(read_entry(entry(payload="x" * (room + surplus))))
        assert (len(event.data) == LARGEST) is (surplus == 0)
        assert (event.original is None) is (surplus == 0)

    @pytest.mark.parametrize("mapper", [MAPPER, OCSF_MAPPER])
    @pytest.mark.parametrize("character", ["x", '"', "é", "\U0001f600", "\x00", "\ud800"])
    @pytest.mark.parametrize("length", [120_000, 300_000])
    def test_everything_too_long_at_once_fits_shortened(
        self, mapper: EventMapper | OcsfEventMapper, character: str, length: int
    ) -> None:
        long = character * length
        value = entry(
            payload=10 * long,
            path=f"/{long}?{long}",
            method=long,
            client_ip=long,
            rbac_user_id=long,
            rbac_user_name=long,
            request_source=long,
            signature=long,
            new_field=long,
            request_id=long,
            request_timestamp=float(int(time.time())),
        )
        event = mapper.map(read_entry(value))
        assert len(event.data) <= LARGEST
        parsed = json.loads(event.data)
        if mapper is OCSF_MAPPER:
            OCSF.validate(parsed)
            check_original(event, value, parsed["unmapped"]["shortened"])
            assert "api.request.data" in parsed["unmapped"]["shortened"]["fields"]
        else:
            check_original(event, value, parsed["additionalEventData"]["shortened"])

    @pytest.mark.parametrize("form", [EventMapper, OcsfEventMapper])
    @pytest.mark.parametrize("character", ["x", '"', "\U0001f600", "\ud800"])
    @pytest.mark.parametrize("as_text", [True, False])
    def test_object_that_is_too_large_fits_shortened(
        self, form: type[EventMapper | OcsfEventMapper], character: str, as_text: bool
    ) -> None:
        mapper = form(GATEWAY, "kong", "objects", ACCOUNT_ID, locate_original)
        body = {"id": "1", "config": [character * 300_000] * 4}
        value = change(entity=json.dumps(body) if as_text else body, rbac_user_name=character * 500_000)
        event = mapper.map(read_entry(value, OBJECT))
        assert len(event.data) <= LARGEST
        parsed = json.loads(event.data)
        if form is OcsfEventMapper:
            OCSF.validate(parsed)
            check_original(event, value, parsed["unmapped"]["shortened"])
            assert "resources.data" in parsed["unmapped"]["shortened"]["fields"]
        else:
            check_original(event, value, parsed["additionalEventData"]["shortened"])

    def test_shortened_event_of_ocsf_loses_the_entry_before_the_body_of_the_request(self) -> None:
        body = {"name": "x" * 400_000}
        value = entry(payload=json.dumps(body), note="y" * 400_000)
        parsed = json.loads(OCSF_MAPPER.map(read_entry(value)).data)
        assert parsed["api"]["request"]["data"] == body
        assert parsed["unmapped"]["shortened"]["fields"] == ["unmapped.entry"]


def pack(events: list[Event], dating: Dating) -> list[Batch]:
    packer = Packer(dating)
    batches = [batch for event in events if (batch := packer.add(event)) is not None]
    while (batch := packer.flush()) is not None:
        batches.append(batch)
    return batches


def event_of(age_seconds: int, number: int, size: int) -> Event:
    stamp = int(time.time()) - age_seconds
    return MAPPER.map(read_entry(entry(request_id=f"{number}", request_timestamp=stamp, payload="é" * size)))


ages = st.one_of(
    st.integers(-8 * 3600, 45 * 86_400),
    # Near the limits: of days, of two hours ahead, of seven and of fourteen days of age.
    st.builds(
        lambda limit, near: limit + near,
        st.sampled_from([0, 86_400, -7200, 7 * 86_400, 14 * 86_400]),
        st.integers(-2000, 2000),
    ),
)


class Service:
    """CloudWatch Logs without a network, as strict as the emulator; stands for its client."""

    def __init__(self, retention_days: int | None, ahead_seconds: int) -> None:
        self._retention_ms = None if retention_days is None else retention_days * DAY_MS
        self._ahead_seconds = ahead_seconds
        self.stored: list[str] = []
        self.calls = 0

    def put_log_events(self, logEvents: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
        self.calls += 1
        now = time.time() + self._ahead_seconds
        events, verdict = check_events(logEvents, int(now * 1000), self._retention_ms, "expiredLogEventEndIndex")
        self.stored += [event["message"] for event in events[verdict.first : verdict.last]]
        headers = {"date": http_date(now)}
        return {"rejectedLogEventsInfo": verdict.rejected, "ResponseMetadata": {"HTTPHeaders": headers}}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(ages, st.integers(0, 40), st.sampled_from([0, 10, 1_000, 60_000])), max_size=60),
    st.sampled_from([None, 1, 7, 30]),
    st.booleans(),
    st.sampled_from([0, 0, 240, -240, 3 * 86_400, -5 * 3600]),
)
def test_whatever_the_times_everything_is_stored_once_by_calls_within_the_rules(
    kinds: list[tuple[int, int, int]], retention_days: int | None, knows_retention: bool, ahead_seconds: int
) -> None:
    service = Service(retention_days, ahead_seconds)
    known = retention_days if knows_retention else None
    logs = CloudWatchLogs(
        cast("Any", service),
        "/kong/audit",
        ACCOUNT_ID,
        "kong",
        "requests",
        retention_seconds=None if known is None else known * 86_400,
        locate_original=locate_original,
    )
    events = [event_of(*kind) for kind in kinds]
    packer = logs.packer()
    batches = [batch for event in events if (batch := packer.add(event)) is not None]
    while (batch := packer.flush()) is not None:
        batches.append(batch)
    assert all(len({event.id for event in batch.events}) == len(batch.events) for batch in batches)

    for batch in batches:
        answer = logs.deliver(batch.events)
        left = [event for event in batch.events if event.id not in answer.successful]
        assert set(answer.failed) == {event.id for event in left}
        if left:  # the first answer of all has told that the clock is wrong
            assert logs.deliver(left).successful == {event.id for event in left}

    assert sorted(service.stored) == sorted(event.data for event in events)
    assert service.calls <= 2 * len(batches) + 1


def test_old_and_new_events_that_come_mixed_still_fill_batches() -> None:
    # A gateway without time filters shows entries by id, so in no order.
    events = [event_of(age_seconds=number * 7919 % (30 * 86_400), number=number, size=0) for number in range(5_000)]
    sizes = [len(batch.events) for batch in pack(events, Dating(None))]
    assert max(sizes) == MAX_BATCH_EVENTS
    assert len(sizes) <= 5_000 // MAX_BATCH_EVENTS + 16


def test_emulator_and_packer_agree_on_a_full_call() -> None:
    filler = [event_of(60, number, 40_000) for number in range(4)]
    sizes = [len(event.data) + 26 for event in filler]
    last = event_of(60, 99, 0)
    room = MAX_CALL_BYTES - sum(sizes) - len(last.data) - 26
    for surplus, count in ((0, 1), (1, 2)):
        value = entry(request_id="99", request_timestamp=last.entry.timestamp, payload="x" * (room + surplus))
        events = [*filler, MAPPER.map(read_entry(value))]
        batches = pack(events, Dating(None))
        assert len(batches) == count
        sent = [{"timestamp": 1000 * int(time.time()), "message": event.data} for event in events]
        if surplus:
            with pytest.raises(CallError):
                check_events(sent, int(time.time() * 1000), None, "expiredLogEventEndIndex")
        else:
            check_events(sent, int(time.time() * 1000), None, "expiredLogEventEndIndex")


class TestDating:
    @pytest.mark.parametrize(
        ("retention_days", "age_seconds", "fits"),
        [
            (None, 0, True),
            (None, 14 * 86_400 - 400, True),
            (None, 14 * 86_400, False),
            (None, 40 * 86_400, False),
            (None, -7200 + 400, True),
            (None, -7200, False),
            (365, 14 * 86_400, False),
            (7, 7 * 86_400 - 400, True),
            (7, 7 * 86_400, False),
        ],
    )
    def test_what_fits(self, retention_days: int | None, age_seconds: int, fits: bool) -> None:
        dating = Dating(None if retention_days is None else retention_days * 86_400)
        assert dating.fits(int(time.time()) - age_seconds) is fits

    def test_without_a_time_nothing_fits(self) -> None:
        assert not Dating(None).fits(None)

    def test_learns_a_retention_that_nobody_told(self) -> None:
        dating = Dating(None)
        dating.note_too_old(int(time.time()) - 3 * 86_400)
        assert dating.fits(int(time.time()) - 2 * 86_400)
        assert not dating.fits(int(time.time()) - 3 * 86_400)

    def test_goes_by_the_clock_of_the_service(self) -> None:
        dating = Dating(None)
        dating.note_clock(time.time() + 3 * 3600)
        assert dating.fits(int(time.time()) + 4 * 3600)
        assert abs(dating.now() - time.time() - 3 * 3600) < 5
