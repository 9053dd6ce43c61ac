"""What becomes of every entry, for everything that CloudTrail may answer: nothing is marked that is not settled."""

import threading
from collections.abc import Sequence

import pytest
from kong_cloudtrail import __version__
from kong_cloudtrail.destinations.cloudtrail.destination import failure_of, read_answer
from kong_cloudtrail.domain.event import Event
from kong_cloudtrail.errors import BatchRefused, DestinationMisconfigured, DestinationUnavailable, RunFailed
from kong_cloudtrail.ports import Answer
from kong_cloudtrail.run.delivery import MAX_QUARANTINED_LOGGED
from kong_cloudtrail.run.shipment import MAX_ATTEMPTS
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.fakes import Kong, Reaction, World, accept_all, fail_with, refuse
from tests.helpers import GATEWAY, NOW, Budget, entries, entry
from tests.installed import Installed

BAD_RECORD_CODES = ("FieldTooLong", "FieldNotFound", "InvalidData")
TRANSIENT_CODES = ("Throttling", "InternalFailure")
MISCONFIGURATIONS = {
    "InvalidRecipient": "CHANNEL_ARN",
    "InvalidEventSource": "KongGatewayEnterprise",
    "AccountNotSubscribed": "closed to new customers",
}


def world_of(count: int, *, page_size: int = 100) -> World:
    return World(kong=Kong(entries(count), page_size=page_size))


def ids(*numbers: int) -> list[str]:
    return [f"{number:032d}" for number in numbers]


def confirm(*event_ids: str) -> Reaction:
    """Return a reaction that confirms some entries, and says nothing of the others."""
    return lambda events: Answer(frozenset(event.id for event in events if event.id in event_ids))


class TestAccepted:
    def test_is_marked_for_as_long_as_kong_shows_it_and_a_margin(self) -> None:
        world = World(kong=Kong([entry(1, ttl=1000)]))

        report = world.run(overlap_seconds=900)

        assert world.seen.marks == {read_entry(entry(1)).key: 1000 + 3600 + 2 * 900}
        assert (report.fetched, report.delivered, report.finished) == (1, 1, True)

    def test_is_not_sent_again(self) -> None:
        world = world_of(3)
        world.run()
        world.live()

        report = world.run()

        assert (report.fetched, report.duplicates, report.delivered) == (3, 3, 0)
        assert len(world.cloudtrail.calls) == 1

    def test_shown_twice_is_sent_once(self) -> None:
        world = World(kong=Kong([entry(1), entry(1), entry(2), entry(1, ttl=5)], page_size=3))

        report = world.run()

        assert sorted(world.cloudtrail.accepted_ids) == ids(1, 2)
        assert (report.fetched, report.duplicates, report.delivered) == (4, 2, 2)

    def test_two_entries_with_one_id_are_both_delivered(self) -> None:
        world = World(kong=Kong([entry(1, path="/one"), entry(1, path="/other")]))

        report = world.run()

        assert report.delivered == 2
        assert world.cloudtrail.calls == [ids(1), ids(1)]

    def test_of_which_no_id_was_asked_for_marks_nothing(self) -> None:
        world = world_of(1)
        world.cloudtrail.script = [
            lambda events: Answer(frozenset({"stranger"}), {"other": failure_of("InvalidData", "")})
        ]

        world.run()

        assert len(world.seen.marks) == 1
        assert world.cloudtrail.calls == [ids(1), ids(1)]


class TestTransient:
    @pytest.mark.parametrize("code", TRANSIENT_CODES)
    def test_only_the_refused_ones_are_sent_again(self, code: str) -> None:
        world = world_of(3)
        world.cloudtrail.script = [refuse(code, *ids(2)), refuse(code, *ids(2))]

        report = world.run()

        assert world.cloudtrail.calls == [ids(1, 2, 3), ids(2), ids(2)]
        assert sorted(world.cloudtrail.accepted_ids) == ids(1, 2, 3)
        assert (report.delivered, report.failed, report.error_codes) == (3, 0, {code: 2})

    def test_waits_longer_each_time(self) -> None:
        world = world_of(1)
        world.cloudtrail.script = [refuse("InternalFailure")] * (MAX_ATTEMPTS - 1)

        world.run()

        assert len(world.clock.waits) == MAX_ATTEMPTS - 1
        assert world.clock.waits[-1] > 4 * world.clock.waits[0]

    def test_given_up_stays_unmarked_and_fails_the_run_after_everything_else_is_delivered(self) -> None:
        world = world_of(150, page_size=1000)
        world.cloudtrail.always = refuse("InternalFailure", *ids(7))

        with pytest.raises(RunFailed, match=r"1 of 150 entries were not delivered.*InternalFailure \(") as failed:
            world.run()

        assert failed.value.summary["delivered"] == 149
        assert failed.value.summary["failed"] == 1
        assert not world.is_marked(entry(7))
        assert len(world.seen.marks) == 149
        assert world.complete_until is None

    def test_given_up_is_delivered_by_the_next_run_alone(self) -> None:
        world = world_of(3)
        world.cloudtrail.always = refuse("Throttling", *ids(2))
        with pytest.raises(RunFailed):
            world.run()
        world.live()
        world.cloudtrail.always = accept_all

        report = world.run()

        assert (report.duplicates, report.delivered) == (2, 1)
        assert sorted(world.cloudtrail.accepted_ids) == ids(1, 2, 3)

    def test_age_of_the_oldest_undelivered_entry_is_told(self) -> None:
        world = world_of(30)
        world.cloudtrail.always = refuse("InternalFailure", *ids(20, 10))

        with pytest.raises(RunFailed) as failed:
            world.run()

        assert failed.value.summary["oldest_undelivered_age_seconds"] >= 20


class TestUnconfirmed:
    def test_is_not_marked_but_sent_again(self) -> None:
        world = world_of(3)
        world.cloudtrail.script = [confirm(*ids(1, 3))]

        report = world.run()

        assert world.cloudtrail.calls == [ids(1, 2, 3), ids(2)]
        assert report.delivered == 3


class TestLoudQuarantine:
    def test_names_each_entry_with_reason_and_place(self) -> None:
        world = world_of(3)
        world.cloudtrail.always = refuse("InvalidData", *ids(2))

        report = world.run()

        [(code, message)] = [told for told in world.telemetry.told if "QUARANTINED" in told[0]]
        assert code == "ENTRY_QUARANTINED"
        assert "InvalidData" in message
        assert ids(2)[0] in message
        [name] = world.store.names("quarantine/")
        assert world.store.locate(name) in message
        assert report.quarantine_open == 1

    def test_does_not_flood_the_log(self) -> None:
        world = world_of(300)
        world.cloudtrail.always = refuse("InvalidData")

        world.run()

        codes = [code for code in world.telemetry.codes if "QUARANTINED" in code]
        assert codes == ["ENTRY_QUARANTINED"] * MAX_QUARANTINED_LOGGED + ["MORE_QUARANTINED"]

    def test_is_counted_by_later_runs_too_until_it_is_empty(self) -> None:
        world = world_of(3)
        world.cloudtrail.always = refuse("InvalidData", *ids(2))
        world.run()

        world.cloudtrail.always = accept_all
        assert world.run().quarantine_open == 1

        Installed(world).ask("quarantine", action="replay")
        assert world.run().quarantine_open == 0

    def test_is_not_said_to_be_empty_where_the_ledger_is_down(self) -> None:
        world = world_of(3)
        world.run()
        world.store.refuses = lambda name: name.startswith("quarantine/")

        assert world.run().quarantine_open is None


class TestBadRecord:
    def test_checksum_that_was_damaged_on_the_way_is_sent_once_more(self) -> None:
        world = world_of(3)
        world.cloudtrail.script = [refuse("InvalidChecksum", *ids(2))]

        report = world.run()

        assert world.cloudtrail.calls == [ids(1, 2, 3), ids(2)]
        assert (report.delivered, report.quarantined) == (3, 0)

    def test_checksum_that_is_refused_twice_goes_to_quarantine(self) -> None:
        world = world_of(3)
        world.cloudtrail.always = refuse("InvalidChecksum", *ids(2))

        report = world.run()

        assert (report.delivered, report.quarantined, world.quarantined[0]["attempts"]) == (2, 1, 2)

    @pytest.mark.parametrize("code", BAD_RECORD_CODES)
    def test_goes_to_quarantine_and_is_marked_and_the_run_goes_on(self, code: str) -> None:
        world = world_of(3)
        world.cloudtrail.always = refuse(code, *ids(2))

        report = world.run()

        assert world.cloudtrail.calls == [ids(1, 2, 3)]
        assert world.quarantined == [
            {
                "source": "kong-test",
                "stream": "requests",
                "destination": "cloudtrail-lake",
                "id": ids(2)[0],
                "key": read_entry(entry(2)).key,
                "timestamp": NOW - 2,
                "code": code,
                "message": f"{code} of {ids(2)[0]}",
                "attempts": 1,
                "codeVersion": __version__,
                "quarantinedAt": NOW,
                "shownUntil": NOW + 2_591_990,
                "gateway": {"version": GATEWAY.version, "hostname": GATEWAY.hostname},
                "entry": entry(2),
            }
        ]
        assert all(world.is_marked(entry(number)) for number in (1, 2, 3))
        assert (report.delivered, report.quarantined, report.failed, report.finished) == (2, 1, 0, True)
        assert world.complete_until is not None

    @pytest.mark.parametrize("value", [None, 5, [], {}, {"request_id": "x"}, entry(2, request_timestamp=None)])
    def test_entry_that_cannot_be_mapped_likewise(self, value: object) -> None:
        world = World(kong=Kong([entry(1), value, entry(3)]))

        report = world.run()

        assert [(record["code"], record["attempts"], record["entry"]) for record in world.quarantined] == [
            ("NotMappable", 0, value)
        ]
        assert world.is_marked(value)
        assert (report.delivered, report.quarantined, report.finished) == (2, 1, True)

    def test_is_not_marked_where_the_quarantine_cannot_be_written(self) -> None:
        world = world_of(3)
        world.cloudtrail.always = refuse("InvalidData", *ids(2))
        world.store.refuses = lambda name: name.startswith("quarantine/")

        with pytest.raises(RunFailed, match="ledger is down"):
            world.run()

        assert not world.is_marked(entry(2))
        assert world.is_marked(entry(1))
        assert world.complete_until is None

    def test_message_of_cloudtrail_is_for_the_quarantine_alone(self) -> None:
        world = world_of(1)
        world.cloudtrail.always = lambda events: Answer(
            frozenset(), {events[0].id: failure_of("InternalFailure", "the field 'hunter2' is bad")}
        )

        with pytest.raises(RunFailed) as failed:
            world.run()

        assert "hunter2" not in f"{failed.value} {failed.value.summary}"


class TestUnknownCode:
    def test_is_transient_first(self) -> None:
        world = world_of(2)
        world.cloudtrail.script = [refuse("SomethingNew", *ids(1))]

        report = world.run()

        assert (report.delivered, report.quarantined) == (2, 0)

    def test_is_quarantined_after_the_attempts(self) -> None:
        world = world_of(2)
        world.cloudtrail.always = refuse("SomethingNew", *ids(1))

        report = world.run()

        assert len(world.cloudtrail.calls) == MAX_ATTEMPTS
        assert [(record["code"], record["attempts"]) for record in world.quarantined] == [
            ("SomethingNew", MAX_ATTEMPTS)
        ]
        assert (report.delivered, report.quarantined, report.finished) == (1, 1, True)


class TestMisconfiguration:
    @pytest.mark.parametrize("code", MISCONFIGURATIONS)
    def test_stops_the_run_marks_nothing_and_says_what_to_change(self, code: str) -> None:
        world = world_of(1000, page_size=10)
        world.cloudtrail.always = refuse(code)

        with pytest.raises(RunFailed, match=f"{code}.*{MISCONFIGURATIONS[code]}"):
            world.run()

        assert world.seen.marks == {}
        assert world.quarantined == []
        assert len(world.cloudtrail.calls) <= 2  # the ones under way, and no more
        assert world.complete_until is None

    def test_of_a_whole_call_likewise(self) -> None:
        world = world_of(1000, page_size=10)
        world.cloudtrail.always = fail_with(DestinationMisconfigured("There is no such channel: correct CHANNEL_ARN."))

        with pytest.raises(RunFailed, match="correct CHANNEL_ARN"):
            world.run()

        assert world.seen.marks == {}
        assert len(world.cloudtrail.calls) <= 2

    def test_what_the_same_call_accepted_is_marked(self) -> None:
        world = world_of(3)
        world.cloudtrail.always = refuse("InvalidRecipient", *ids(2, 3))

        with pytest.raises(RunFailed):
            world.run()

        assert list(world.seen.marks) == [read_entry(entry(1)).key]

    def test_bad_records_beside_it_do_not_hide_it(self) -> None:
        world = world_of(2)
        world.cloudtrail.always = lambda events: read_answer(
            {
                "failed": [
                    {"id": event.id, "errorCode": code}
                    for event, code in zip(events, ("InvalidEventSource", "InvalidData"), strict=True)
                ]
            }
        )

        with pytest.raises(RunFailed, match="InvalidEventSource"):
            world.run()

        assert not world.is_marked(entry(1))


class TestWholeCall:
    def test_unavailable_is_tried_again(self) -> None:
        world = world_of(3)
        error = DestinationUnavailable("InternalServerError", "CloudTrail is ill.")
        world.cloudtrail.script = [fail_with(error)] * 3

        report = world.run()

        assert world.cloudtrail.calls == [ids(1, 2, 3)] * 4
        assert (report.delivered, report.error_codes) == (3, {"InternalServerError": 3})

    def test_throttled_is_counted(self) -> None:
        world = world_of(1)
        error = DestinationUnavailable("ThrottlingException", "Slow down.", throttled=True)
        world.cloudtrail.script = [fail_with(error), refuse("Throttling")]

        assert world.run().throttled == 2

    def test_down_for_good_ends_the_run_before_every_batch_was_tried(self) -> None:
        world = world_of(5_000, page_size=1000)
        world.cloudtrail.always = fail_with(DestinationUnavailable("EndpointConnectionError", "CloudTrail is away."))

        with pytest.raises(RunFailed, match="CloudTrail is away") as failed:
            world.run()

        assert world.seen.marks == {}
        assert len(world.cloudtrail.calls) < 10 * MAX_ATTEMPTS
        assert failed.value.summary["failed"] == failed.value.summary["fetched"]

    @pytest.mark.parametrize("bad", [1, 2, 37, 64, 99, 100])
    def test_refused_for_its_content_is_halved_until_the_bad_one_stands_alone(self, bad: int) -> None:
        world = world_of(100, page_size=1000)

        def react(events: Sequence[Event]) -> Answer:
            if ids(bad)[0] in {event.id for event in events}:
                raise BatchRefused("SerializationException", "CloudTrail refused the call for its content.")
            return accept_all(events)

        world.cloudtrail.always = react

        report = world.run()

        assert [record["id"] for record in world.quarantined] == ids(bad)
        assert world.quarantined[0]["code"] == "SerializationException"
        assert sorted(world.cloudtrail.accepted_ids) == [name for name in ids(*range(1, 101)) if name != ids(bad)[0]]
        assert (report.delivered, report.quarantined, report.finished) == (99, 1, True)
        assert len(world.cloudtrail.calls) <= 20  # two for each of the seven halvings, the first, and some to be sure

    def test_parts_of_a_halved_call_are_retried_like_others(self) -> None:
        world = world_of(2)
        world.cloudtrail.script = [
            fail_with(BatchRefused("ValidationException", "no")),
            refuse("Throttling"),
            accept_all,
            fail_with(DestinationUnavailable("InternalServerError", "ill")),
        ]

        report = world.run()

        assert world.cloudtrail.calls[0] == ids(1, 2)
        assert sorted(world.cloudtrail.accepted_ids) == ids(1, 2)
        assert (report.delivered, report.quarantined) == (2, 0)


class TestShortened:
    def test_original_is_kept_before_the_event_is_delivered(self) -> None:
        big = entry(1, payload="x" * 300_000)
        world = World(kong=Kong([big]))

        def react(events: Sequence[Event]) -> Answer:
            assert world.store.documents("originals/") == [big]
            return accept_all(events)

        world.cloudtrail.always = react

        report = world.run()

        assert (report.delivered, report.shortened) == (1, 1)

    def test_is_not_delivered_while_the_original_cannot_be_kept(self) -> None:
        big = entry(1, payload="x" * 300_000)
        world = World(kong=Kong([big, entry(2)]))
        world.store.refuses = lambda name: name.startswith("originals/")

        with pytest.raises(RunFailed, match="ledger is down"):
            world.run()

        assert world.cloudtrail.accepted_ids == ids(2)
        assert not world.is_marked(big)

        world.live()
        world.store.refuses = lambda name: False
        assert world.run().delivered == 1
        assert world.is_marked(big)


class TestNoTimeLeft:
    def test_retry_does_not_begin_and_the_run_is_unfinished(self) -> None:
        world = world_of(3)
        world.budget = Budget(lambda: NOW + 10 - world.clock.time)
        world.cloudtrail.always = refuse("Throttling", *ids(2))

        report = world.run()

        assert not report.finished
        assert (report.delivered, report.backlog, report.failed) == (2, 1, 0)
        assert not world.is_marked(entry(2))
        assert world.clock.time < NOW + 10
        assert "RUN_UNFINISHED" in world.telemetry.codes

    def test_does_not_hide_that_kong_failed(self) -> None:
        world = world_of(4, page_size=2)
        world.kong.fails_at_page = 2
        world.budget = Budget(lambda: NOW + 10 - world.clock.time)
        world.cloudtrail.always = refuse("Throttling")

        with pytest.raises(RunFailed, match="Kong is down"):
            world.run()

        assert world.clock.time > NOW

    def test_does_not_hide_that_marks_failed(self) -> None:
        # Given two batches, of which one finds the time used up while the other is accepted and cannot be marked
        world = world_of(101, page_size=200)
        time_is_up, noticed = threading.Event(), threading.Event()
        world.seen.fails_to_mark = True

        def remaining_seconds() -> float:
            if time_is_up.is_set():
                noticed.set()
                return 10.0  # too little to begin anything, enough to end what is under way
            return 100.0

        def react(events: Sequence[Event]) -> Answer:
            time_is_up.set()
            assert noticed.wait(10)
            return accept_all(events)

        world.budget = Budget(remaining_seconds)
        world.cloudtrail.always = react

        with pytest.raises(RunFailed, match="may be delivered a second time"):
            world.run(parallel_deliveries=2)


def test_refusal_of_every_call_is_no_matter_of_content() -> None:
    world = World(kong=Kong(entries(300), page_size=1000))
    world.cloudtrail.always = fail_with(BatchRefused("ValidationException", "refused"))

    with pytest.raises(RunFailed, match="whatever entries it contains"):
        world.run()

    assert world.quarantined == []
