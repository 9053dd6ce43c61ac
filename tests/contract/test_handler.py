"""The function in Lambda: what an operator sees of it, and what happens when a tick of the schedule comes twice."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kong_cloudtrail.handler as module
import pytest
import redis
from kong_cloudtrail.assembly import SystemClock
from kong_cloudtrail.errors import RequestInvalid, RunFailed, SettingsError
from kong_cloudtrail.run.collector import Collector
from kong_cloudtrail.sources.kong.requests_stream import KongRequests
from redis.connection import AbstractConnection

from sandbox.machinery import faults
from sandbox.machinery.http_server import LOOPBACK
from sandbox.machinery.processes import free_port
from tests.conftest import CACHE_PASSWORD, KONG_TOKEN, Site
from tests.helpers import REPOSITORY, change, entries, entry, wait_until

METRICS = {
    "EntriesFetched": "Count",
    "DuplicatesSkipped": "Count",
    "EventsDelivered": "Count",
    "EventsFailed": "Count",
    "EntriesQuarantined": "Count",
    "EventsShortened": "Count",
    "Backlog": "Count",
    "PagesRead": "Count",
    "DeliveryCalls": "Count",
    "DeliveriesThrottled": "Count",
    "DeliveredBytes": "Bytes",
    "RunSeconds": "Seconds",
    "RunsFinished": "Count",
    "OldestUndeliveredAgeSeconds": "Seconds",
    "CheckpointLagSeconds": "Seconds",
}


class Context:
    """What Lambda tells a function of its invocation."""

    function_name = "kong-cloudtrails-integration"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:kong-cloudtrails-integration"
    aws_request_id = "52fdfc07-2182-154f-163f-5f0f9a621d72"

    def __init__(self, remaining_millis: Callable[[], int] = lambda: 300_000) -> None:
        self._remaining_millis = remaining_millis

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining_millis()


class CurrentStdout:
    """Standard output as it is when something is written, and not as it was when the logger was made."""

    def write(self, text: str) -> None:
        sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


class Function:
    """The function, deployed on the site: invoked with an event, its output caught."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.output = ""

    def invoke(self, event: Any, context: Context | None = None) -> dict[str, Any]:
        try:
            result: dict[str, Any] = module.handler(event, context or Context())  # type: ignore[arg-type]
            return result
        finally:
            captured = self._capsys.readouterr()
            self.output += captured.out + captured.err

    def tick(self, execution_id: str, context: Context | None = None) -> dict[str, Any]:
        return self.invoke({"execution_id": execution_id}, context)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "_aws" not in line]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "_aws" in line]


@pytest.fixture
def function(
    site: Site,
    bare_environment: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Function:
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for handler in logging.getLogger("kong-cloudtrail").handlers:
        monkeypatch.setattr(handler, "stream", CurrentStdout())
    monkeypatch.setattr(SystemClock, "sleep", staticmethod(lambda seconds: None))
    module.assembly.cache_clear()
    return Function(capsys)


@pytest.fixture
def verbose() -> Iterator[None]:
    """Write every log line that there is."""
    level = module.logger.log_level
    module.logger.setLevel(logging.DEBUG)
    yield
    module.logger.setLevel(level)


def kong_time(site: Site) -> int:
    return int(site.kong.now())


def recent(site: Site, count: int, *, first: int = 1) -> list[dict[str, Any]]:
    return [
        entry(number, request_timestamp=kong_time(site) - 10 - number, payload='{"a":"hunter2-payload"}')
        for number in range(first, first + count)
    ]


class TestRun:
    def test_delivers_and_returns_its_report(self, function: Function, site: Site) -> None:
        site.kong.add_entries(recent(site, 3))

        summary = function.tick("one")

        assert sorted(site.cloudtrail.accepted_uids()) == [row["request_id"] for row in entries(3)]
        assert (summary["fetched"], summary["delivered"], summary["finished"]) == (3, 3, True)
        assert json.dumps(summary)

    def test_publishes_metrics_by_trail(self, function: Function, site: Site) -> None:
        site.kong.add_entries(recent(site, 3))

        function.tick("one")

        [metrics] = function.metrics
        [directive] = metrics["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "KongCloudTrail"
        assert directive["Dimensions"] == [["source", "stream", "destination"]]
        assert [metrics[name] for name in ("source", "stream", "destination")] == [
            "kong-eu",
            "requests",
            "cloudtrail-lake",
        ]
        units = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
        assert METRICS.items() <= units.items()
        assert all(name in metrics for name in units)
        values = {name: metrics[name][0] for name in METRICS}
        assert values["EntriesFetched"] == values["EventsDelivered"] == 3
        assert values["RunsFinished"] == values["DeliveryCalls"] == 1
        assert values["EventsFailed"] == values["OldestUndeliveredAgeSeconds"] == 0
        assert values["DeliveredBytes"] == sum(len(event.event_data) for event in site.cloudtrail.accepted())

    @pytest.mark.parametrize("variable", ["POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"])
    def test_variables_of_powertools_do_not_change_the_metrics(
        self, function: Function, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        monkeypatch.setenv(variable, "something-else")

        function.tick("one")

        [directive] = function.metrics[0]["_aws"]["CloudWatchMetrics"]
        assert (directive["Namespace"], directive["Dimensions"]) == (
            "KongCloudTrail",
            [["source", "stream", "destination"]],
        )

    def test_logs_lines_of_json_with_the_report_and_the_request(self, function: Function, site: Site) -> None:
        site.kong.add_entries(recent(site, 3))

        summary = function.tick("one")

        [ended] = [line for line in function.logged if line["code"] == "RUN_ENDED"]
        assert ended["report"] == summary
        assert ended["function_request_id"] == Context.aws_request_id
        assert ended["service"] == "kong-cloudtrail"

    def test_metrics_of_one_run_are_not_those_of_the_next(self, function: Function, site: Site) -> None:
        site.kong.add_entries(recent(site, 3))

        function.tick("one")
        function.tick("two")

        assert [metrics["EventsDelivered"] for metrics in function.metrics] == [[3], [0]]


class TestRepeatedTick:
    def test_does_nothing(self, function: Function, site: Site) -> None:
        site.kong.add_entries(recent(site, 3))
        first = function.tick("one")
        calls = len(site.kong.requests)

        second = function.tick("one")

        assert len(site.kong.requests) == calls
        assert second == {**first, "repeated": True}
        assert "RUN_REPEATED" in [line["code"] for line in function.logged]

    def test_is_told_apart_from_the_next_one(self, function: Function, site: Site) -> None:
        function.tick("one")
        calls = len(site.kong.requests)

        assert "repeated" not in function.tick("two")
        assert len(site.kong.requests) > calls

    def test_of_another_source_is_another_tick(
        self, function: Function, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        function.tick("one")
        monkeypatch.setenv("SOURCE_NAME", "kong-us")
        module.assembly.cache_clear()

        assert "repeated" not in function.tick("one")

    def test_while_the_first_is_at_work_does_nothing(self, function: Function, site: Site) -> None:
        site.kong.configure(latency_seconds=0.5)
        with ThreadPoolExecutor(1) as pool, site.valkey.client() as observer:
            first = pool.submit(module.handler, {"execution_id": "one"}, Context())  # type: ignore[arg-type]
            wait_until(lambda: any("invocation" in key for key in observer.keys()))  # noqa: SIM118 - a Redis command

            assert function.tick("one")["skipped"] is True
            assert first.result()["finished"] is True

    @pytest.mark.parametrize("event", [{}, {"execution_id": None}, {"execution_id": ""}, {"other": 1}])
    def test_run_without_a_tick_is_not_guarded(self, function: Function, site: Site, event: dict[str, Any]) -> None:
        function.invoke(event)
        calls = len(site.kong.requests)

        function.invoke(event)

        assert len(site.kong.requests) > calls

    def test_placeholder_of_the_schedule_is_no_tick(self, function: Function, site: Site) -> None:
        event = {"execution_id": "<aws.scheduler.execution-id>"}
        function.invoke(event)

        assert "repeated" not in function.invoke(event)

    def test_memory_of_a_tick_ends(self, function: Function, site: Site) -> None:
        function.tick("one")

        with site.valkey.client() as observer:
            [key] = [key for key in observer.keys() if "invocation" in key]  # noqa: SIM118 - a Redis command
            assert 86_400 < observer.ttl(key) <= 2 * 86_400


class TestTickThatWasNotWorkedOff:
    """A tick must neither be lost nor blocked because its own record is in the way."""

    def test_reply_to_the_first_record_is_lost(
        self, function: Function, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given a cache whose answer to the first record gets lost, so that the client repeats the command
        site.kong.add_entries(recent(site, 3))
        send: Any = AbstractConnection.send_packed_command
        read: Any = AbstractConnection.read_response
        lost: list[bool] = []

        def note(self: Any, command: Any, check_health: bool = True) -> None:
            self.holds_the_record = b":invocation#" in b"".join(command)
            send(self, command, check_health)

        def lose(self: Any, *arguments: Any, **options: Any) -> Any:
            answer = read(self, *arguments, **options)
            if getattr(self, "holds_the_record", False) and not lost:
                lost.append(True)
                raise redis.exceptions.ConnectionError("the connection was lost")
            return answer

        monkeypatch.setattr(AbstractConnection, "send_packed_command", note)
        monkeypatch.setattr(AbstractConnection, "read_response", lose)

        summary = function.tick("one")

        assert lost
        assert (summary["delivered"], summary["finished"]) == (3, True)

    def test_run_was_killed(self, function: Function, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        # Given a run that was killed, so that nobody took its record away, and a lock that has expired since
        monkeypatch.setattr(module, "LOCK_SECONDS", 0.2)
        collector = Collector.run

        def be_killed(self: Collector) -> Any:
            raise KeyboardInterrupt  # the one thing that Powertools does not tidy up after

        monkeypatch.setattr(Collector, "run", be_killed)
        with pytest.raises(KeyboardInterrupt):
            function.tick("one", Context(lambda: 900_000))
        monkeypatch.setattr(Collector, "run", collector)
        with site.valkey.client() as observer:
            [key] = [key for key in observer.keys() if "invocation" in key]  # noqa: SIM118 - a Redis command
            record = json.loads(observer.get(key))
        wait_until(lambda: time.time() * 1000 > record["in_progress_expiration"])

        assert function.tick("one", Context(lambda: 900_000))["finished"] is True

    def test_counts_as_being_worked_off_no_longer_than_the_lock_outlives_a_run(
        self, function: Function, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        records: list[dict[str, Any]] = []

        def look(self: Collector) -> Any:
            with site.valkey.client() as observer:
                [key] = [key for key in observer.keys() if "invocation" in key]  # noqa: SIM118 - a Redis command
                records.append(json.loads(observer.get(key)))
            raise RunFailed([], {})

        monkeypatch.setattr(Collector, "run", look)
        with pytest.raises(RunFailed):
            function.tick("one", Context(lambda: 900_000))

        assert records[0]["in_progress_expiration"] <= (time.time() + 15) * 1000


class TestCacheThatHangs:
    @pytest.mark.parametrize("tick", [{"execution_id": "one"}, {}])
    def test_from_the_beginning_is_a_failure_soon(self, function: Function, site: Site, tick: dict[str, Any]) -> None:
        site.valkey.pause()
        started = time.monotonic()
        try:
            with pytest.raises(RunFailed, match="The cache"):
                function.invoke(tick, Context(lambda: 10_000))
        finally:
            site.valkey.resume()

        assert time.monotonic() - started < 8  # and not a minute; two time-outs of 0.8 s, with room for a busy machine


class TestUnfinishedRun:
    @pytest.fixture
    def short(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> Context:
        """An invocation whose time is used up once some of several pages are delivered."""
        monkeypatch.setenv("PAGE_SIZE", "100")
        module.assembly.cache_clear()
        site.kong.add_entries(recent(site, 1000))
        return Context(lambda: 300_000 if site.cloudtrail.accepted_count() == 0 else 10_000)

    def test_succeeds_and_says_so(self, function: Function, site: Site, short: Context) -> None:
        summary = function.tick("one", short)

        assert summary["finished"] is False
        assert 0 < summary["delivered"] < 1000
        assert function.metrics[0]["RunsFinished"] == [0]
        assert "RUN_UNFINISHED" in [line["code"] for line in function.logged]

    def test_is_not_remembered_as_done(self, function: Function, site: Site, short: Context) -> None:
        function.tick("one", short)

        second = function.tick("one")

        assert second["finished"] is True
        assert sorted(site.cloudtrail.accepted_uids()) == [row["request_id"] for row in entries(1000)]

    def test_beside_another_run_is_not_remembered_either(self, function: Function, site: Site) -> None:
        with site.valkey.client() as observer:
            observer.set("kong-cloudtrail:{kong-eu/requests/cloudtrail-lake}:lock", "somebody else's")
            assert function.tick("one")["skipped"] is True
            observer.delete("kong-cloudtrail:{kong-eu/requests/cloudtrail-lake}:lock")

        assert function.tick("one")["finished"] is True


class TestTrails:
    """A function with two destinations: each is a trail of its own."""

    @pytest.fixture
    def archive(self, function: Function, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        monkeypatch.setenv("ARCHIVE", str(tmp_path / "archive"))
        return tmp_path / "archive"

    def test_one_that_the_event_names_runs_alone(self, function: Function, site: Site, archive: Path) -> None:
        site.kong.add_entries(recent(site, 3))

        summary = function.invoke({"destination": "archive", "execution_id": "one"})

        assert (summary["destination"], summary["delivered"], summary["parts_written"] > 0) == ("archive", 3, True)
        assert site.cloudtrail.accepted() == []
        [metrics] = function.metrics
        assert (metrics["source"], metrics["destination"]) == ("kong-eu", "archive")
        assert (metrics["PartsWritten"], metrics["PartsDamaged"]) == ([summary["parts_written"]], [0])

    def test_all_run_where_the_event_names_none(self, function: Function, site: Site, archive: Path) -> None:
        site.kong.add_entries(recent(site, 3))

        summary = function.tick("one")

        assert [(run["destination"], run["delivered"]) for run in summary["runs"]] == [
            ("archive", 3),
            ("cloudtrail-lake", 3),
        ]
        assert [metrics["destination"] for metrics in function.metrics] == ["archive", "cloudtrail-lake"]
        assert "PartsWritten" not in function.metrics[1]

    @pytest.mark.parametrize("cause", ["archive", "cloudtrail-lake"])
    def test_one_that_fails_does_not_hold_up_the_other(
        self, function: Function, site: Site, archive: Path, cause: str
    ) -> None:
        site.kong.add_entries(recent(site, 3))
        if cause == "archive":
            archive.write_text("no folder")
        else:
            site.cloudtrail.inject(faults.aws_error("ChannelNotFound", times=100))

        with pytest.raises(RunFailed):
            function.tick("one")

        delivered = {line["destination"]: line["EventsDelivered"] for line in function.metrics}
        assert delivered == {name: [0 if name == cause else 3] for name in ("archive", "cloudtrail-lake")}

    def test_archive_alone_needs_no_cache(
        self, function: Function, site: Site, archive: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.kong.add_entries(recent(site, 3))
        monkeypatch.delenv("CHANNEL_ARN")
        monkeypatch.setenv("REDIS_HOST", "127.0.0.1:1")

        assert function.tick("one")["delivered"] == 3
        assert function.tick("one")["delivered"] == 0  # the same tick once more

    @pytest.mark.parametrize("name", ["s3", "cloudtrail-lake", 7, ["archive"]])
    def test_that_the_function_does_not_have_is_refused(
        self, function: Function, site: Site, archive: Path, monkeypatch: pytest.MonkeyPatch, name: object
    ) -> None:
        monkeypatch.setenv("DESTINATION", "archive")

        with pytest.raises(RequestInvalid, match="The trails are: requests into archive"):
            function.invoke({"destination": name})

    def test_have_their_share_of_the_time(self, function: Function, site: Site, archive: Path) -> None:
        # Given an invocation whose first run finds nearly half of the time used up
        site.kong.add_entries(recent(site, 3))
        began = time.monotonic()
        left = iter([10_000])

        context = Context(lambda: next(left, 5_200))
        summary = function.tick("one", context)

        # Then that run ends, and the other has what is left
        assert time.monotonic() - began < 10
        assert [(run["destination"], run["finished"]) for run in summary["runs"]] == [
            ("archive", False),
            ("cloudtrail-lake", True),
        ]

    @pytest.mark.parametrize(
        ("event", "destinations"),
        [({}, ["archive", "cloudtrail-lake"]), ({"destination": "archive"}, ["archive"])],
    )
    def test_are_all_misconfigured_by_wrong_settings(
        self,
        function: Function,
        archive: Path,
        monkeypatch: pytest.MonkeyPatch,
        event: dict[str, Any],
        destinations: list[str],
    ) -> None:
        monkeypatch.setenv("PAGE_SIZE", "wrong")

        with pytest.raises(SettingsError):
            function.invoke(event)

        assert [(line["destination"], line["Misconfigurations"]) for line in function.metrics] == [
            (name, [1]) for name in destinations
        ]


class TestFailedRun:
    def test_raises_for_lambda_to_count(self, function: Function, site: Site) -> None:
        site.kong.add_entries(recent(site, 3))
        site.cloudtrail.inject(faults.aws_error("ChannelNotFound", times=100))

        with pytest.raises(RunFailed, match="correct CHANNEL_ARN"):
            function.tick("one")

        assert [line["level"] for line in function.logged if line["code"] == "RunFailed"] == ["ERROR"]
        assert function.metrics[0]["EventsFailed"] == [3]

    def test_is_not_remembered_as_done(self, function: Function, site: Site) -> None:
        site.kong.add_entries(recent(site, 3))
        site.cloudtrail.inject(faults.aws_error("ChannelNotFound"))
        with pytest.raises(RunFailed):
            function.tick("one")

        assert function.tick("one")["delivered"] == 3

    def test_of_wrong_settings_names_them(self, function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHANNEL_ARN", "wrong")
        monkeypatch.setenv("REDIS_DB", "wrong")

        with pytest.raises(SettingsError) as error:
            function.tick("one")

        assert len(error.value.problems) == 2
        assert "CHANNEL_ARN" in function.logged[-1]["message"]

    @pytest.mark.parametrize(("level", "logged"), [("LOUD", "INFO"), (" debug ", "DEBUG"), ("", "INFO")])
    def test_of_a_new_process_has_the_level_that_was_asked_for_or_info(
        self, monkeypatch: pytest.MonkeyPatch, level: str, logged: str
    ) -> None:
        environment = {**os.environ, "LOG_LEVEL": level, "PYTHONPATH": str(REPOSITORY / "lambda_src")}
        script = "from kong_cloudtrail.handler import logger; print(logger.log_level)"

        process = subprocess.run(
            [sys.executable, "-W", "error", "-c", script], env=environment, capture_output=True, text=True, check=True
        )

        assert process.stdout.strip() == str(logging.getLevelName(logged))

    def test_of_a_level_that_there_is_not_names_it(self, function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOG_LEVEL", "LOUD")

        with pytest.raises(SettingsError) as error:
            function.tick("one")

        assert error.value.problems == ("LOG_LEVEL: must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL.",)

    def test_of_a_cache_that_is_away_says_so(self, function: Function, site: Site) -> None:
        site.valkey.stop()

        with pytest.raises(RunFailed, match="The cache could not be read or written"):
            function.tick("one")

        assert site.kong.requests == []

    def test_of_a_cache_that_goes_away_says_so(
        self, function: Function, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        describe = KongRequests.describe

        def describe_and_stop(self: KongRequests) -> Any:
            site.valkey.stop()
            return describe(self)

        monkeypatch.setattr(KongRequests, "describe", describe_and_stop)
        site.kong.add_entries(recent(site, 3))

        with pytest.raises(RunFailed, match="The cache did not answer"):
            function.tick("one")

        assert site.cloudtrail.calls == []

    def test_by_a_bug_tells_its_kind_and_place_and_nothing_else(
        self, function: Function, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(self: KongRequests) -> None:
            raise RuntimeError(f"hunter2 {KONG_TOKEN}")

        monkeypatch.setattr(KongRequests, "describe", fail)

        with pytest.raises(RunFailed) as failed:
            function.tick("one")

        assert "hunter2" not in f"{failed.value} {failed.value.__cause__!r} {function.output}"
        assert failed.value.__suppress_context__
        [fault] = [line for line in function.logged if line["code"] == "FAULT"]
        assert "RuntimeError at test_handler.py:" in fault["message"]

    @pytest.mark.parametrize("event", [None, [], "text", 5])
    def test_by_an_odd_event_is_a_failed_run(self, function: Function, event: object) -> None:
        with pytest.raises(RunFailed):
            function.invoke(event)

    def test_lets_a_rotated_password_in(self, function: Function, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDIS_PASSWORD", "old")
        with pytest.raises(RunFailed):
            function.tick("one")

        monkeypatch.setenv("REDIS_PASSWORD", CACHE_PASSWORD)

        assert function.tick("two")["finished"] is True


class TestFreshSecrets:
    def test_are_read_before_their_time_if_the_event_asks_for_it(self, function: Function) -> None:
        function.tick("one")
        before = module.assembly()

        function.invoke({"fresh_secrets": False})
        assert module.assembly() is before

        function.invoke({"fresh_secrets": True})
        assert module.assembly() is not before


class TestSecrecy:
    @pytest.mark.parametrize(
        "trouble",
        ["none", "wrong token", "kong refuses", "kong away", "cache refuses", "channel refuses", "entries refused"],
    )
    def test_no_secret_and_no_payload_is_written_whatever_happens(
        self, function: Function, site: Site, verbose: None, monkeypatch: pytest.MonkeyPatch, trouble: str
    ) -> None:
        # Given a run with a token, a password and payloads, and some trouble
        site.kong.add_entries([*recent(site, 3), entry(9, request_timestamp=None, payload="hunter2-payload")])
        match trouble:
            case "wrong token":
                site.kong.add_user("collector", "another")
            case "kong refuses":
                site.kong.inject(faults.aws_error("x", 400, body=f"hunter2-payload {KONG_TOKEN}", times=100))
            case "kong away":
                monkeypatch.setenv("KONG_ADMIN_API", f"https://{LOOPBACK}:{free_port()}")
            case "cache refuses":
                monkeypatch.setenv("REDIS_USERNAME", "stranger")
            case "channel refuses":
                site.cloudtrail.inject(faults.aws_error("AccessDeniedException", body='{"message":"hunter2-payload"}'))
            case "entries refused":
                site.cloudtrail.fail_entries("InvalidRecipient")

        # When it is run, well or not
        error: Exception | None = None
        try:
            function.tick("one")
        except Exception as raised:
            error = raised

        # Then nothing of them can be seen
        assert (error is None) == (trouble == "none")
        shown = f"{function.output} {error} {error!r}"
        for secret in (KONG_TOKEN, CACHE_PASSWORD, "hunter2-payload"):
            assert secret not in shown
            assert json.dumps(secret)[1:-1] not in shown


class TestStreams:
    """A function that reads both of Kong's audit logs: each is a trail of its own in each destination."""

    @pytest.fixture(autouse=True)
    def streams(self, function: Function, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("ARCHIVE", str(tmp_path / "archive"))
        monkeypatch.setenv("STREAMS", "requests,objects")

    @pytest.fixture
    def changed(self, site: Site) -> list[dict[str, Any]]:
        site.kong.add_entries(recent(site, 2))
        rows = [change(number, request_timestamp=kong_time(site) - 10 - number) for number in (1, 2, 3)]
        site.kong.add_objects(rows)
        return rows

    def test_all_trails_run_where_the_event_names_none(
        self, function: Function, site: Site, changed: list[dict[str, Any]]
    ) -> None:
        runs = function.tick("one")["runs"]

        assert [(run["stream"], run["destination"], run["delivered"]) for run in runs] == [
            ("requests", "archive", 2),
            ("requests", "cloudtrail-lake", 2),
            ("objects", "archive", 3),
            ("objects", "cloudtrail-lake", 3),
        ]
        assert [(line["stream"], line["destination"]) for line in function.metrics] == [
            (run["stream"], run["destination"]) for run in runs
        ]
        events = [accepted.event for accepted in site.cloudtrail.accepted()]
        of_objects = {event["UID"]: event for event in events if event["eventName"] == "update/services"}
        assert sorted(of_objects) == [row["id"] for row in changed]
        # What the request says is there for those whose request is.
        assert of_objects[changed[0]["id"]]["sourceIPAddress"] == "192.0.2.10"
        assert "sourceIPAddress" not in of_objects[changed[2]["id"]]

    def test_later_run_delivers_nothing_and_asks_little(
        self, function: Function, site: Site, changed: list[dict[str, Any]]
    ) -> None:
        function.tick("one")
        function.invoke({"stream": "objects"})  # the second run of a trail of objects also sweeps
        site.kong.reset_counters()

        runs = function.invoke({"stream": "objects"})["runs"]

        assert [(run["fetched"], run["delivered"]) for run in runs] == [(3, 0), (3, 0)]
        # For each trail: the gateway, whether it filters, and one page
        assert site.kong.calls == {"/kong/": 2, "/kong/audit/objects": 4}

    @pytest.mark.parametrize(
        ("event", "expected"),
        [
            ({"stream": "objects", "destination": "archive"}, [("objects", "archive")]),
            ({"destination": "archive"}, [("requests", "archive"), ("objects", "archive")]),
        ],
    )
    def test_event_names_trails(
        self, function: Function, event: dict[str, str], expected: list[tuple[str, str]]
    ) -> None:
        summary = function.invoke(event)

        runs = summary.get("runs", [summary])
        assert [(run["stream"], run["destination"]) for run in runs] == expected

    def test_one_that_the_gateway_refuses_does_not_hold_up_the_other(
        self, function: Function, site: Site, changed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DESTINATION", "archive")
        site.kong.inject(faults.Fault(kind="status", status=403, path="/audit/objects", times=100))

        with pytest.raises(RunFailed, match="read permission on /audit/objects, or take objects out of STREAMS"):
            function.tick("one")

        assert {line["stream"]: (line["EventsDelivered"], line["Misconfigurations"]) for line in function.metrics} == {
            "requests": ([2], [0]),
            "objects": ([0], [1]),
        }

    def test_wrong_settings_misconfigure_the_trails_that_the_event_names(
        self, function: Function, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PAGE_SIZE", "wrong")

        with pytest.raises(SettingsError):
            function.invoke({"stream": "objects"})

        assert [(line["stream"], line["destination"], line["Misconfigurations"]) for line in function.metrics] == [
            ("objects", "archive", [1]),
            ("objects", "cloudtrail-lake", [1]),
        ]
