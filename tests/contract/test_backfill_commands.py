"""``preview`` and ``backfill`` as operators use them: here and in the function, for people and for programs."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jsonschema
import pytest
from kong_cloudtrail import handler as module
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.errors import RequestInvalid

from cli.commands import backfill as command
from cli.exit_status import ExitStatus
from tests.conftest import KONG_TOKEN, Site
from tests.contract.test_command_line import Terminal, odd, recent
from tests.contract.test_handler import Context
from tests.helpers import REPOSITORY, change, entry, wait_until
from tests.lambda_endpoint import LambdaEndpoint

HOUR = 3600


def schema(verb: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((REPOSITORY / "docs" / "schemas" / f"{verb}.json").read_text("utf-8"))
    return document


def conforms(document: dict[str, Any], verb: str) -> dict[str, Any]:
    jsonschema.validate(document, schema(verb), cls=jsonschema.Draft202012Validator)
    return document


@pytest.fixture
def terminal(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    terminal = Terminal(site, tmp_path / "home", capsys)
    terminal.environment["INITIAL_LOOKBACK_SECONDS"] = str(HOUR)
    return terminal


@pytest.fixture
def deployed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LambdaEndpoint]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module.assembly.cache_clear()
    with LambdaEndpoint(lambda event: module.handler(event, Context())) as endpoint:  # type: ignore[arg-type]
        terminal.environment |= endpoint.environment
        yield endpoint
    module.assembly.cache_clear()


def old(site: Site, count: int = 6) -> list[dict[str, Any]]:
    """Return entries of five hours, from nine hours ago on."""
    begin = int(site.kong.now()) - 9 * HOUR
    return [entry(number, request_timestamp=begin + (number - 700) * HOUR // 2) for number in range(700, 700 + count)]


def bounds(site: Site) -> tuple[str, ...]:
    now = int(site.kong.now())
    return ("--after", utc(now - 10 * HOUR), "--before", utc(now - 2 * HOUR))


def state(site: Site) -> tuple[set[str], dict[str, bytes]]:
    """Return everything that could be written: keys of the cache, files of the ledger."""
    with site.valkey.client() as observer:
        keys = {str(key) for key in observer.scan_iter()}
    return keys, {str(path): path.read_bytes() for path in site.ledger.rglob("*") if path.is_file()}


def accepted(site: Site) -> Counter[str]:
    return Counter(site.cloudtrail.accepted_uids())


class TestPreview:
    @pytest.fixture(autouse=True)
    def rows(self, site: Site) -> list[dict[str, Any]]:
        rows = recent(site, 5)
        site.kong.add_entries([*rows, odd(site)])
        return rows

    @pytest.mark.parametrize("has_run", [False, True])
    def test_writes_nothing_anywhere(self, terminal: Terminal, site: Site, has_run: bool) -> None:
        if has_run:
            terminal.run("sync")
            site.kong.add_entries([entry(90, request_timestamp=int(site.kong.now()) - 1)])
        before, delivered = state(site), site.cloudtrail.accepted_count()

        output = terminal.run("preview", "--json")

        assert output.status == ExitStatus.DONE
        [trail] = conforms(output.report, "preview")["trails"]
        assert trail["found"] == (1 if has_run else 6)
        assert state(site) == before
        assert site.cloudtrail.accepted_count() == delivered

    def test_one_trail_that_fails_does_not_hide_the_others(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_user("collector", KONG_TOKEN, permission="requests")
        terminal.environment["STREAMS"] = "requests,objects"

        output = terminal.run("preview", "--json")
        person = terminal.run("preview")
        alone = terminal.run("preview", "--stream", "objects")

        requests, objects = conforms(output.report, "preview")["trails"]
        assert (requests["found"], requests["problem"]) == (6, None)
        assert objects["problem"]["may_pass"] is False
        assert "objects into cloudtrail-lake: Kong at 127.0.0.1 answered /audit/objects with status 403" in person.err
        assert "6 entries to deliver" in person.err
        assert output.status == person.status == alone.status == ExitStatus.MISCONFIGURED

    def test_shows_what_a_run_then_delivers(self, terminal: Terminal, site: Site) -> None:
        [trail] = terminal.run("preview", "--json").report["trails"]
        terminal.run("sync")

        fates = {one["id"]: one["fate"] for one in trail["entries"]}
        assert {one for one, fate in fates.items() if fate == "delivered"} == accepted(site).keys()
        assert fates["odd"] == "quarantined"
        events = {one["event"]["UID"]: one["event"] for one in trail["entries"] if one["event"]}
        assert events.keys() == accepted(site).keys()
        assert terminal.run("preview", "--json").report["trails"][0]["found"] == 0

    def test_as_lines_of_json(self, terminal: Terminal, rows: list[dict[str, Any]]) -> None:
        output = terminal.run("preview", "--ndjson", "--limit", "2")

        lines = [json.loads(line) for line in output.out.splitlines()]
        assert len(lines) == 2
        assert lines[1]["entry"]["request_id"] in {row["request_id"] for row in rows}
        assert lines[0]["destination"] == "cloudtrail-lake"

    def test_for_people(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries([entry(80, request_timestamp=int(site.kong.now()) - 2, path="/\x1b[2Jservices")])

        output = terminal.run("preview")

        assert output.out.splitlines()[0] == "time\tfate\twhat\tid"
        assert "\tdelivered\tPOST /\\x1b[2Jservices\t" in output.out
        assert "\tquarantined\t" in output.out
        assert output.err == "requests into cloudtrail-lake: 7 entries to deliver.\n"

    def test_says_that_there_is_more(self, terminal: Terminal) -> None:
        output = terminal.run("preview", "--limit", "3")

        assert len(output.out.splitlines()) == 4
        assert "the first 3 of at least 6 entries" in output.err

    def test_entry_beside_event(self, terminal: Terminal, rows: list[dict[str, Any]]) -> None:
        output = terminal.run("preview", "--diff")

        assert output.out.count("## entry") == output.out.count("## event") == 6
        assert f'"request_id": "{rows[0]["request_id"]}"' in output.out
        assert '"eventName": "POST/services"' in output.out

    def test_of_the_function_is_the_same(self, terminal: Terminal, deployed: LambdaEndpoint) -> None:
        here = terminal.run("preview", "--json").report
        there = conforms(terminal.run("preview", "--json", "--function", "collector").report, "preview")

        assert there["trails"] == here["trails"]
        assert deployed.events == [{"verb": "preview", "limit": 100}]

    def test_of_entries_too_long_for_an_answer_has_their_size(self, terminal: Terminal, site: Site) -> None:
        now = int(site.kong.now())
        site.kong.add_entries([entry(60 + n, request_timestamp=now - 1, payload="x" * 120_000) for n in range(4)])

        [trail] = conforms(terminal.run("preview", "--json").report, "preview")["trails"]

        assert sum(one["fate"] == "shortened" for one in trail["entries"]) == 4
        left_out = [one for one in trail["entries"] if one["entry"] is None]
        assert left_out
        assert "bytes)" in terminal.run("preview").out
        assert "left out for its size" in terminal.run("preview", "--diff").out

    def test_of_nothing(self, terminal: Terminal) -> None:
        terminal.run("sync")

        output = terminal.run("preview")

        assert output.out == ""
        assert "nothing to deliver" in output.err

    def test_warns_as_the_run_would(self, terminal: Terminal, site: Site) -> None:
        terminal.run("sync")
        site.valkey.flush()

        assert "MARKS_LOST: " in terminal.run("preview").err

    def test_of_kong_that_is_away(self, terminal: Terminal) -> None:
        terminal.environment["KONG_ADMIN_TOKEN"] = "wrong"

        terminal.run("preview").assert_failed(ExitStatus.MISCONFIGURED, "401")

    def test_of_two_forms(self, terminal: Terminal) -> None:
        assert terminal.run("preview", "--ndjson", "--json").status == ExitStatus.USAGE


class TestBackfill:
    @pytest.fixture(autouse=True)
    def rows(self, terminal: Terminal, site: Site) -> list[dict[str, Any]]:
        """Let the trail begin an hour ago, and return what is older."""
        rows = old(site)
        site.kong.add_entries([*rows, entry(999, request_timestamp=int(site.kong.now()) - 20 * HOUR)])
        site.kong.add_entries(recent(site, 3))
        assert terminal.run("sync").status == ExitStatus.DONE
        return rows

    def test_delivers_the_range(self, terminal: Terminal, site: Site, rows: list[dict[str, Any]]) -> None:
        output = terminal.run("backfill", *bounds(site), "--json")

        assert output.status == ExitStatus.DONE
        [trail] = conforms(output.report, "backfill")["trails"]
        assert (trail["finished"], trail["delivered"]) == (True, len(rows))
        assert {row["request_id"] for row in rows} <= accepted(site).keys()
        assert site.cloudtrail.accepted_count() == len(rows) + 3
        assert terminal.run("verify").status == ExitStatus.DONE

    def test_asked_twice_delivers_nothing_twice(self, terminal: Terminal, site: Site) -> None:
        where = bounds(site)
        terminal.run("backfill", *where)
        again = terminal.run("backfill", *where, "--at-once", "4")

        assert again.status == ExitStatus.DONE
        assert set(accepted(site).values()) == {1}

    def test_several_slices_at_once(self, terminal: Terminal, site: Site, rows: list[dict[str, Any]]) -> None:
        output = terminal.run("backfill", *bounds(site), "--at-once", "4")

        assert output.status == ExitStatus.DONE
        assert site.cloudtrail.accepted_count() == len(rows) + 3
        assert "slices" in output.out

    def test_plan(self, terminal: Terminal, site: Site) -> None:
        where = bounds(site)
        output = terminal.run("backfill", *where, "--plan")
        document = conforms(terminal.run("backfill", *where, "--plan", "--json").report, "backfill")

        assert "slices are left" in output.err
        assert len(output.out.splitlines()) == len(document["plan"]) + 1
        terminal.run("backfill", *where)
        assert "Nothing is left" in terminal.run("backfill", *where, "--plan").err

    def test_entry_in_quarantine(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries([{"request_id": "odd", "request_timestamp": int(site.kong.now()) - 5 * HOUR}])

        output = terminal.run("backfill", *bounds(site))

        assert output.status == ExitStatus.QUARANTINED

    def test_of_what_runs_deliver_is_refused(self, terminal: Terminal, site: Site) -> None:
        output = terminal.run("backfill", "--after", "10h", "--before", "now")

        output.assert_failed(ExitStatus.USAGE, "The next run of", "Give --before")

    def test_by_the_function_is_asked_for_until_it_is_finished(
        self, terminal: Terminal, site: Site, deployed: LambdaEndpoint, rows: list[dict[str, Any]]
    ) -> None:
        # Given a function that has time for a page or two in each call
        def function(event: dict[str, Any]) -> Any:
            pages = len(site.kong.requests)
            context = Context(lambda: 300_000 if len(site.kong.requests) < pages + 5 else 30_000)
            return module.handler(event, context)  # type: ignore[arg-type]

        deployed.function = function
        where = bounds(site)

        output = terminal.run("backfill", *where, "--function", "collector", "--json")

        assert output.status == ExitStatus.DONE
        assert conforms(output.report, "backfill")["trails"][0]["delivered"] == len(rows)
        assert site.cloudtrail.accepted_count() == len(rows) + 3
        assert len(deployed.events) > 1
        assert all(
            (one["verb"], one["after"], one["before"]) == ("backfill", where[1], where[3]) for one in deployed.events
        )

    def test_answer_that_got_lost_is_asked_for_again(
        self, terminal: Terminal, site: Site, deployed: LambdaEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(command, "_WAIT_SECONDS", 0.0)
        usual, calls = deployed.function, []

        def function(event: dict[str, Any]) -> Any:
            calls.append(event)
            if len(calls) == 1:
                usual(event)
                raise TimeoutError
            return usual(event)

        deployed.function = function

        output = terminal.run("backfill", *bounds(site), "--function", "collector")

        assert output.status == ExitStatus.DONE
        assert "ended with TimeoutError" in output.err
        assert set(accepted(site).values()) == {1}

    def test_error_of_the_function(self, terminal: Terminal, site: Site, deployed: LambdaEndpoint) -> None:
        output = terminal.run("backfill", "--after", "3h", "--before", "now", "--stream", "requests", "--function", "f")

        output.assert_failed(ExitStatus.USAGE, "The next run of")
        # As Step Functions asks: the error has to be one, so that it is tried again, or alarms
        with mock.patch.dict(os.environ, terminal.environment), pytest.raises(RequestInvalid):
            deployed.function({**deployed.events[0], "execution_id": "arn:aws:states:1"})

    def test_killed_half_way_and_asked_again(self, terminal: Terminal, site: Site) -> None:
        # Given enough to be in the middle of it
        begin = int(site.kong.now()) - 8 * HOUR
        many = [entry(2000 + number, request_timestamp=begin + number * 2) for number in range(3000)]
        site.kong.add_entries(many)
        where = bounds(site)
        process = terminal.start("backfill", *where)
        wait_until(lambda: site.cloudtrail.accepted_count() > 500)
        process.kill()
        process.communicate()
        before = site.cloudtrail.accepted_count()
        with site.valkey.client() as observer:  # let its locks expire
            observer.delete(*observer.scan_iter("*:backfill*"))
        assert terminal.run("backfill", *where).status == ExitStatus.DONE

        uids = accepted(site)
        assert {row["request_id"] for row in many} <= uids.keys()
        # At most the batches in flight came twice
        assert sum(uids.values()) - len(uids) <= 8 * 100
        assert site.cloudtrail.accepted_count() > before
        assert terminal.run("verify").status == ExitStatus.DONE

    def test_interrupted_ends_in_order(self, terminal: Terminal, site: Site) -> None:
        begin = int(site.kong.now()) - 8 * HOUR
        many = [entry(2000 + number, request_timestamp=begin + number * 2) for number in range(3000)]
        site.kong.add_entries(many)
        where = bounds(site)
        site.cloudtrail.configure(latency_seconds=0.05)
        process = terminal.start("backfill", *where)
        wait_until(lambda: site.cloudtrail.accepted_count() > 300)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        site.cloudtrail.configure(latency_seconds=0.0)

        assert process.returncode in (ExitStatus.INTERRUPTED, ExitStatus.DONE)
        assert "Traceback" not in err
        assert terminal.run("backfill", *where).status == ExitStatus.DONE
        uids = accepted(site)
        assert {row["request_id"] for row in many} <= uids.keys()
        assert set(uids.values()) == {1}


class TestChangesOfObjects:
    @pytest.mark.parametrize("newest_first", [True, False])
    def test_are_previewed_and_delivered_in_whatever_order_kong_shows_them(
        self, terminal: Terminal, site: Site, newest_first: bool
    ) -> None:
        terminal.environment["STREAMS"] = "objects"
        site.kong.configure(objects_newest_first=newest_first)
        now = int(site.kong.now())
        older = [change(number * 7919 % 1009, request_timestamp=now - (3 + number) * HOUR) for number in range(9)]
        site.kong.add_objects([*older, change(2000, request_timestamp=now - 20 * HOUR)])
        site.kong.add_objects([change(3000 + number, request_timestamp=now - 60) for number in range(3)])
        [previewed] = conforms(terminal.run("preview", "--json").report, "preview")["trails"]
        terminal.run("sync")
        assert {one["id"] for one in previewed["entries"]} == accepted(site).keys()

        output = terminal.run("backfill", "--after", utc(now - 12 * HOUR), "--before", utc(now - 2 * HOUR), "--json")

        assert output.status == ExitStatus.DONE
        [trail] = conforms(output.report, "backfill")["trails"]
        assert (trail["stream"], trail["finished"], trail["delivered"]) == ("objects", True, len(older))
        assert {row["id"] for row in older} <= accepted(site).keys()
        assert site.cloudtrail.accepted_count() == len(older) + 3


@pytest.mark.parametrize("verb", ["preview", "backfill"])
def test_schema_is_one_and_describes_every_field(verb: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(verb))

    def check(part: dict[str, Any], name: str) -> None:
        for field, fields in part.get("properties", {}).items():
            assert "description" in fields or "const" in fields, f"{name}.{field}"
            check(fields, f"{name}.{field}")
            check(fields.get("items", {}), f"{name}.{field}[]")

    check(schema(verb), verb)
