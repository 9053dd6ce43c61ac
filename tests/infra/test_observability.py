"""Alarms and dashboard: what they watch exists, what they say leads somewhere, and each can be had otherwise."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aws_cdk import CfnResource, Duration, Environment, Stack
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from cdk_nag import AwsSolutionsChecks, NIST80053R5Checks
from kong_cloudtrail import handler as function
from kong_cloudtrail.operations.reconcile import METRICS as OF_RECONCILIATIONS

from sandbox.cloudtrail.emulator import CloudTrailEmulator
from sandbox.kong.simulator import KongSimulator
from sandbox.machinery import faults
from sandbox.machinery.valkey import Valkey
from stacks import SettingsError
from stacks.observability.construct import AlarmOptions, CacheNodes, Observability, ServerlessCache
from stacks.observability.metrics import METRIC_NAMES
from stacks.settings.cron import parse
from tests.infra.linting import lint_findings
from tests.infra.synthesis import ROOT, Synthesis, new_app, template_of

ALARM, COMPOSITE = "AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"
DASHBOARD = "AWS::CloudWatch::Dashboard"

# What AWS itself counts, by namespace. Sources: "Viewing metrics for Lambda functions", "Available CloudWatch metrics
# for Amazon SQS", "Metrics for Valkey and Redis OSS" and "Serverless metrics and events" of the services' guides.
COUNTED_BY_AWS = {
    "AWS/Lambda": {"Errors", "Throttles", "Invocations", "Duration"},
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible"},
    "AWS/ElastiCache": {"DatabaseMemoryUsagePercentage", "BytesUsedForCache", "Evictions"},
}

LAKE, ARCHIVE = "cloudtrail-lake", "archive"

OF_TRAILS = {
    "missed_runs": "composite",
    "lag": "ignore",
    "gaps_open": "ignore",
    "entries_found_late": "ignore",
    "quarantine_open": "ignore",
    "misconfigurations": "ignore",
}
SHARED = {"failed_runs": "composite", "cache_memory_percent": "notBreaching", "evictions": "notBreaching"}
OPTIONS = {**OF_TRAILS, **SHARED}
"""Every option that makes alarms of a trail in CloudTrail Lake, and what no data means to them. Two are composites."""

ALARMS = {
    **{f"requests/{LAKE}.{option}": missing for option, missing in OF_TRAILS.items()},
    **{
        name: missing
        for option, missing in SHARED.items()
        for name in ([option] if option == "failed_runs" else [f"{option}_1", f"{option}_2"])
    },
}
"""Every alarm: those of the cache are one for each of the two nodes."""


def option_of(alarm: str) -> str:
    return alarm.rpartition(".")[2].rstrip("_12")


def without(*names: str) -> AlarmOptions:
    """Return options with some alarms switched off."""
    switched_off: dict[str, Any] = dict.fromkeys(names)
    return AlarmOptions(**switched_off)


def observe(stack: Stack, name: str = "Observability", **options: Any) -> Observability:
    """Observe imported things: nothing here may ask for what only a created one knows."""
    defaults: dict[str, Any] = {
        "source": "kong",
        "destinations": [LAKE],
        "function": lambda_.Function.from_function_arn(
            stack, f"{name}Function", "arn:aws:lambda:eu-central-1:111122223333:function:collector"
        ),
        "log_group": logs.LogGroup.from_log_group_name(stack, f"{name}Logs", "collector"),
        "dead_letters": sqs.Queue.from_queue_arn(stack, f"{name}Queue", "arn:aws:sqs:eu-central-1:111122223333:dead"),
        "cache": CacheNodes.of_replication_group("marks", nodes=2),
        "schedule": parse("rate(1 hour)"),
    }
    return Observability(stack, name, **(defaults | options))


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(new_app(tmp_path), "Foreign", env=Environment(region="eu-central-1", account="111122223333"))


def synthesised(stack: Stack) -> Synthesis:
    return template_of(stack.node.root, stack)  # type: ignore[arg-type]


def properties_of(stack: Stack, synthesis: Synthesis, alarm: Any) -> dict[str, Any]:
    found: dict[str, Any] = synthesis.template["Resources"][stack.get_logical_id(alarm.node.default_child)]
    return dict(found["Properties"])


def alarms_of(synthesis: Synthesis) -> list[dict[str, Any]]:
    """Return the alarms that somebody hears of: others only help two of them."""
    return [
        alarm
        for alarm in [*synthesis.of_type(COMPOSITE), *synthesis.of_type(ALARM)]
        if "Runbook: " in str(alarm["Properties"]["AlarmDescription"])
    ]


def metrics_of_alarm(alarm: dict[str, Any]) -> Iterator[dict[str, Any]]:
    properties = alarm["Properties"]
    if "Metrics" in properties:
        yield from (query["MetricStat"]["Metric"] for query in properties["Metrics"] if "MetricStat" in query)
    else:
        yield {name: properties[name] for name in ("Namespace", "MetricName", "Dimensions")}


def dashboard_body(synthesis: Synthesis) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(synthesis.flat(synthesis.only(DASHBOARD)["Properties"]["DashboardBody"]))
    return body


def metrics_of_dashboard(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for widget in body["widgets"]:
        for row in widget["properties"].get("metrics", []):
            if isinstance(row[0], str):
                yield row[0], row[1]
            elif search := re.search(
                r'\{(\w+),destination,source,stream\} MetricName="(\w+)" destination="', row[0]["expression"]
            ):
                yield search[1], search[2]


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Names of the metrics that the deployed handler really emits, with what they are about, by kind of run."""
    found: dict[str, set[str]] = {}
    with (
        pytest.MonkeyPatch.context() as patch,
        KongSimulator() as kong,
        CloudTrailEmulator() as cloudtrail,
        Valkey() as valkey,
    ):
        for name, value in {
            "AWS_ENDPOINT_URL_CLOUDTRAIL_DATA": cloudtrail.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            "KONG_ADMIN_API": kong.url,
            "CHANNEL_ARN": cloudtrail.channel_arn,
            "REDIS_HOST": f"{valkey.host}:{valkey.port}",
            "LEDGER": str(tmp_path_factory.mktemp("ledger")),
            "SOURCE_NAME": "kong",
        }.items():
            patch.setenv(name, value)
        now = int(kong.now())
        kong.seed_entries(20, seed=1, first_timestamp=now - 600, last_timestamp=now - 1)
        found["good"] = _run()
        kong.inject(faults.Fault(kind="status", status=403, path="/audit/requests"))
        found["refused by Kong"] = _run()
        kong.seed_entries(1, seed=2, first_timestamp=now - 1, last_timestamp=now - 1)
        cloudtrail.inject(faults.aws_error("ChannelNotFound"))
        found["refused by CloudTrail"] = _run()
        patch.setenv("KONG_ADMIN_API", "nonsense")
        found["wrong settings"] = _run()
    return found


def _run() -> set[str]:
    """Invoke the handler; return what it emitted, with a value above 0 as ``Name>0``."""
    function.assembly.cache_clear()
    context = SimpleNamespace(
        function_name="collector",
        memory_limit_in_mb=1024,
        invoked_function_arn="arn:aws:lambda:eu-central-1:111122223333:function:collector",
        aws_request_id="1",
        get_remaining_time_in_millis=lambda: 900_000,
    )
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(Exception):
        function.handler({}, context)  # type: ignore[arg-type]
    function.assembly.cache_clear()
    names = set()
    for line in map(json.loads, filter(lambda line: '"_aws"' in line, output.getvalue().splitlines())):
        for directive in line["_aws"]["CloudWatchMetrics"]:
            assert directive["Namespace"] == "KongCloudTrail"
            assert sorted(directive["Dimensions"][0]) == ["destination", "source", "stream"]
            assert (line["source"], line["stream"], line["destination"]) == ("kong", "requests", LAKE)
            for metric in directive["Metrics"]:
                names.add(metric["Name"])
                if sum(line[metric["Name"]]) > 0:
                    names.add(f"{metric['Name']}>0")
    return names


# -- what is watched exists


def test_every_metric_of_an_alarm_is_really_emitted(stack: Stack, emitted: dict[str, set[str]]) -> None:
    observe(stack)
    known = {"KongCloudTrail": emitted["good"], **COUNTED_BY_AWS}
    watched = [metric for alarm in synthesised(stack).of_type(ALARM) for metric in metrics_of_alarm(alarm)]
    assert [m for m in watched if m["MetricName"] not in known[m["Namespace"]]] == []
    ours = [metric for metric in watched if metric["Namespace"] == "KongCloudTrail"]
    assert {frozenset((one["Name"], one["Value"]) for one in metric["Dimensions"]) for metric in ours} == {
        frozenset({("source", "kong"), ("stream", "requests"), ("destination", LAKE)})
    }


def test_every_metric_of_the_dashboard_is_really_emitted(stack: Stack, emitted: dict[str, set[str]]) -> None:
    observe(stack)
    known = {"KongCloudTrail": emitted["good"], **COUNTED_BY_AWS}
    shown = set(metrics_of_dashboard(dashboard_body(synthesised(stack))))
    assert {(namespace, name) for namespace, name in shown if name not in known[namespace]} == set()


@pytest.mark.parametrize("run", ["refused by Kong", "refused by CloudTrail", "wrong settings"])
def test_what_somebody_has_to_change_counts_as_a_misconfiguration(emitted: dict[str, set[str]], run: str) -> None:
    assert "Misconfigurations>0" in emitted[run]


def test_a_good_run_ends_the_alarms_that_wait_for_one(emitted: dict[str, set[str]]) -> None:
    ended = {"Misconfigurations", "QuarantineOpen", "EntriesFoundLate", "GapsOpen"}
    assert ended | {"CheckpointLagSeconds", "RunsFinished>0"} <= emitted["good"]
    assert not {f"{name}>0" for name in ended} & emitted["good"]


def test_every_metric_is_a_public_attribute(stack: Stack, emitted: dict[str, set[str]]) -> None:
    metrics = observe(stack).metrics[f"requests/{LAKE}"]
    offered = {getattr(value, "metric_name", None) for value in vars(metrics).values()}
    assert {name for name in emitted["good"] if ">" not in name} - offered == {"PagesRead"}


def test_the_names_of_metrics_are_those_that_runs_write(emitted: dict[str, set[str]]) -> None:
    others = {"EventsRedated", "PartsDamaged", "PartsWritten", *OF_RECONCILIATIONS}
    assert set(METRIC_NAMES) - others == {name for name in emitted["good"] if ">" not in name} - others


# -- the alarms


def test_no_data_means_something_to_each_alarm(stack: Stack) -> None:
    alarms = observe(stack).alarms
    assert list(alarms) == list(ALARMS)
    synthesis = synthesised(stack)
    missing = {
        name: properties_of(stack, synthesis, alarm).get("TreatMissingData", "composite")
        for name, alarm in alarms.items()
    }
    assert missing == ALARMS


SHARED_SECTIONS = {"A run failed", "The cache fills up", "The cache evicts marks"}
"""Sections of the runbook that are about what all trails share."""


def test_every_description_names_a_section_of_the_runbook(stack: Stack) -> None:
    observe(stack)
    synthesis = synthesised(stack)
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    sections = {heading: heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", runbook, re.M)}
    descriptions = [alarm["Properties"]["AlarmDescription"] for alarm in alarms_of(synthesis)]
    assert len(descriptions) == len(ALARMS)
    for description in map(synthesis.flat, descriptions):
        heading = description.partition(".")[0]
        trail = "" if heading in SHARED_SECTIONS else f" Stream: requests. Destination: {LAKE}."
        assert f" Source: kong.{trail} Runbook: docs/runbook.md#{sections[heading]} Dashboard: " in description
        assert len(description) <= 1024
        section = runbook.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        for part in ("What it means.", "At stake.", "How to look.", "Over"):
            assert f"**{part}" in section, (heading, part)


def test_links_within_the_runbook_lead_somewhere() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    headings = re.findall(r"^## (.+)$", runbook, re.M)
    anchors = {re.sub(r"[^a-z -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", runbook)) <= anchors


def test_commands_of_the_runbook_are_a_shells() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    for block in re.findall(r"```sh\n(.+?)```", runbook, re.S):
        checked = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_the_runbook_knows_every_code_of_a_log_line() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    source = ROOT / "lambda_src" / "kong_cloudtrail"
    codes = {
        code
        for file in source.rglob("*.py")
        for code in re.findall(
            r'(?:code=|(?:telemetry|logger)\.(?:info|warning)\(\s*)"([A-Z]+(?:_[A-Z]+)*)"', file.read_text("utf-8")
        )
    } - {"PAGE"}
    assert codes >= {"RUN_ENDED", "RUN_SKIPPED", "RUN_UNFINISHED", "RUN_REPEATED", "FAULT"}
    assert {code for code in codes if f"`{code}`" not in runbook} == set()


@pytest.mark.parametrize("option", OPTIONS)
def test_each_alarm_can_be_switched_off(stack: Stack, option: str) -> None:
    observability = observe(stack, alarms=without(option))
    rest = {name for name in ALARMS if option_of(name) != option}
    assert set(observability.alarms) == rest
    assert len(alarms_of(synthesised(stack))) == len(rest)


def test_a_gap_is_open_until_a_run_says_that_none_is(stack: Stack) -> None:
    alarms = observe(stack).alarms
    synthesis = synthesised(stack)
    gaps, late = (
        properties_of(stack, synthesis, alarms[f"requests/{LAKE}.{name}"])
        for name in ("gaps_open", "entries_found_late")
    )
    for alarm in (gaps, late):
        assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")
        assert (alarm["EvaluationPeriods"], alarm["TreatMissingData"]) == (1, "ignore")
    # One run of a period that still has a gap is enough; what sweeps delivered is added up.
    assert (gaps["Statistic"], late["Statistic"]) == ("Maximum", "Sum")


def test_thresholds_are_the_callers(stack: Stack) -> None:
    options = AlarmOptions(
        missed_runs=5,
        lag=Duration.hours(2),
        gaps_open=8,
        entries_found_late=9,
        quarantine_open=2,
        misconfigurations=3,
        failed_runs=4,
        cache_memory_percent=60.5,
        evictions=7,
        runbook_url="https://wiki.example.com/kong",
    )
    alarms = observe(stack, alarms=options).alarms
    synthesis = synthesised(stack)
    properties = {
        name.removeprefix(f"requests/{LAKE}."): properties_of(stack, synthesis, alarm) for name, alarm in alarms.items()
    }
    missed, failed = properties.pop("missed_runs"), properties.pop("failed_runs")
    (helper,) = (one["Properties"] for one in synthesis.of_type(ALARM) if one["Properties"]["MetricName"] == "Errors")
    assert helper["Threshold"] == 4
    assert {name: alarm["Threshold"] for name, alarm in properties.items()} == {
        "lag": 7200,
        "gaps_open": 8,
        "entries_found_late": 9,
        "quarantine_open": 2,
        "misconfigurations": 3,
        "cache_memory_percent_1": 60.5,
        "cache_memory_percent_2": 60.5,
        "evictions_1": 7,
        "evictions_2": 7,
    }
    assert missed["ActionsSuppressorWaitPeriod"] == 4 * 3600  # the first one that was missed, and four more
    described = [missed, failed, *properties.values()]
    assert all("https://wiki.example.com/kong#" in alarm["AlarmDescription"] for alarm in described)
    lines = [
        line["value"]
        for widget in dashboard_body(synthesis)["widgets"]
        for line in widget["properties"].get("annotations", {}).get("horizontal", [])
    ]
    assert lines == [2, 8, 2, 60.5]


def told_after_seconds(synthesis: Synthesis) -> tuple[int, int]:
    """Return for how long there may be no success until the silence is noticed, and until somebody is told."""
    (told,) = (one["Properties"] for one in synthesis.of_type(COMPOSITE) if "No successful run" in str(one))
    watched = told["AlarmRule"]["Fn::Join"][1][1]["Fn::GetAtt"][0]
    silence = synthesis.template["Resources"][watched]["Properties"]
    assert (silence["MetricName"], silence["Statistic"], silence["Threshold"]) == ("RunsFinished", "Sum", 1)
    assert (silence["ComparisonOperator"], silence["TreatMissingData"]) == ("LessThanThreshold", "breaching")
    assert silence["DatapointsToAlarm"] == silence["EvaluationPeriods"]
    seconds = silence["Period"] * silence["EvaluationPeriods"]
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    assert seconds <= (604_800 if silence["Period"] >= 3600 else 86_400)
    return seconds, seconds + told["ActionsSuppressorWaitPeriod"]


HOUR, DAY = 3600, 86_400


@pytest.mark.parametrize(
    ("expression", "missed_runs", "silent_seconds", "missed_seconds"),
    [
        ("rate(1 hour)", 3, HOUR, 3 * HOUR),
        ("rate(1 minute)", 3, 900, 3 * 900),  # a run may take longer than that
        ("rate(45 minutes)", 2, 45 * 60, 90 * 60),
        ("rate(1 day)", 7, DAY, 7 * DAY),
        ("rate(3 days)", 2, 3 * DAY, 6 * DAY),
        ("cron(0 3 * * ? *)", 3, DAY, 3 * DAY),
        # From Friday to Monday; and the longest that three runs in a row take, from Thursday to Tuesday.
        ("cron(0 9 ? * MON-FRI *)", 1, 3 * DAY, 3 * DAY),
        ("cron(0 9 ? * MON-FRI *)", 3, 3 * DAY, 5 * DAY),
        ("cron(0/30 8-17 * * ? *)", 2, 14 * HOUR + 1800, 15 * HOUR),
    ],
)
def test_missed_runs_are_told_neither_too_soon_nor_too_late(
    stack: Stack, expression: str, missed_runs: int, silent_seconds: int, missed_seconds: int
) -> None:
    observe(stack, schedule=parse(expression), alarms=AlarmOptions(missed_runs=missed_runs))

    silence, told = told_after_seconds(synthesised(stack))

    # A run may take 15 minutes, and success may come at any moment of a period.
    assert silent_seconds + 900 < silence
    assert missed_seconds + 900 < told <= missed_seconds + max(3 * HOUR, missed_seconds // 2 + 1800)


def test_after_a_deployment_nobody_is_told_before_runs_were_missed(stack: Stack) -> None:
    """There is no data of the time before, which the alarm on silence takes for silence."""
    observe(stack, alarms=AlarmOptions(topic=topic_of(stack)))
    synthesis = synthesised(stack)
    telling = [alarm for alarm in synthesis.of_type(ALARM) if "AlarmActions" in alarm["Properties"]]
    assert "breaching" not in {alarm["Properties"]["TreatMissingData"] for alarm in telling}
    missed = [one for one in synthesis.of_type(COMPOSITE) if "no successful run" in one["Properties"]["AlarmName"]]
    told, never = sorted(missed, key=lambda one: "Runbook" not in str(one))
    assert told["Properties"]["ActionsSuppressorWaitPeriod"] == 2 * HOUR
    assert synthesis.flat(told["Properties"]["ActionsSuppressor"]) == f"<{COMPOSITE}.Arn>"
    assert (never["Properties"]["AlarmRule"], "AlarmActions" in never["Properties"]) == ("FALSE", False)


def test_a_schedule_that_is_off_misses_no_runs(stack: Stack) -> None:
    observability = observe(stack, schedule_enabled=False, alarms=AlarmOptions(topic=topic_of(stack)))
    assert set(OPTIONS) - {option_of(name) for name in observability.alarms} == {"missed_runs"}
    assert "missed" not in str([one["Properties"]["AlarmName"] for one in synthesised(stack).of_type(COMPOSITE)])


@pytest.mark.parametrize(("expression", "days"), [("cron(0 3 ? * SUN *)", 7), ("cron(0 3 1 * ? *)", 31)])
def test_a_schedule_that_cloudwatch_cannot_watch_is_remarked_and_not_watched(
    stack: Stack, expression: str, days: int
) -> None:
    observability = observe(stack, schedule=parse(expression))
    assert set(OPTIONS) - {option_of(name) for name in observability.alarms} == {"missed_runs"}
    (note,) = AlarmOptions().notes(parse(expression))
    assert note.startswith("alarms.missed_runs: cannot be watched, as this schedule leaves up to ")
    assert f" {days} days between two runs" in note
    assert list(AlarmOptions(missed_runs=None).notes(parse(expression))) == []


def test_what_another_trail_watches_is_not_watched_twice(stack: Stack) -> None:
    observability = observe(stack, watched_elsewhere=["evictions"])
    assert set(OPTIONS) - {option_of(name) for name in observability.alarms} == {"evictions"}


def test_all_impossible_thresholds_at_once(stack: Stack) -> None:
    with pytest.raises(SettingsError) as raised:
        observe(stack, alarms=AlarmOptions(missed_runs=0, evictions=-1, failed_runs=True, cache_memory_percent=101))
    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        "alarms.missed_runs",
        "alarms.failed_runs",
        "alarms.cache_memory_percent",
        "alarms.evictions",
    ]


TOPIC_ARN = "arn:aws:sns:eu-central-1:111122223333:on-call"


def topic_of(stack: Stack) -> sns.ITopic:
    return sns.Topic.from_topic_arn(stack, "Topic", TOPIC_ARN)


def test_a_topic_is_told_of_the_beginning_and_the_end(stack: Stack) -> None:
    observe(stack, alarms=AlarmOptions(topic=topic_of(stack)))
    synthesis = synthesised(stack)
    for alarm in alarms_of(synthesis):
        assert alarm["Properties"]["AlarmActions"] == alarm["Properties"]["OKActions"] == [TOPIC_ARN]
    assert len([a for a in [*synthesis.of_type(ALARM), *synthesis.of_type(COMPOSITE)] if TOPIC_ARN in str(a)]) == len(
        ALARMS
    )


def test_without_a_topic_nobody_is_told(stack: Stack) -> None:
    observe(stack)
    synthesis = synthesised(stack)
    made = [*synthesis.of_type(ALARM), *synthesis.of_type(COMPOSITE)]
    assert not [alarm for alarm in made if {"AlarmActions", "OKActions"} & alarm["Properties"].keys()]


# -- what somebody sees who was woken


def test_names_say_whose_and_what_is_wrong(stack: Stack) -> None:
    alarms = observe(
        stack, source="kong-eu", destinations=[ARCHIVE], alarms=AlarmOptions(lag=Duration.minutes(90))
    ).alarms
    synthesis = synthesised(stack)
    assert {name: properties_of(stack, synthesis, alarm)["AlarmName"] for name, alarm in alarms.items()} == {
        "requests/archive.missed_runs": "kong-eu, archive: no successful run, 3 missed",
        "requests/archive.lag": "kong-eu, archive: entries waiting longer than 1.5 h",
        "requests/archive.gaps_open": "kong-eu, archive: entries that Kong cannot show",
        "requests/archive.entries_found_late": "kong-eu, archive: entries found late",
        "requests/archive.misconfigurations": "kong-eu, archive: misconfigured, no run will succeed",
        "requests/archive.parts_damaged": "kong-eu, archive: parts removed or overwritten",
        "failed_runs": "kong-eu: a run failed",
        "cache_memory_percent_1": "kong-eu: cache node 001 more than 75 % full",
        "cache_memory_percent_2": "kong-eu: cache node 002 more than 75 % full",
        "evictions_1": "kong-eu: cache node 001 evicts marks",
        "evictions_2": "kong-eu: cache node 002 evicts marks",
    }


@pytest.mark.parametrize(
    ("region", "console"),
    [
        ("cn-north-1", "https://cn-north-1.console.amazonaws.cn/"),
        ("us-gov-west-1", "https://us-gov-west-1.console.amazonaws-us-gov.com/"),
    ],
)
def test_other_partitions_have_consoles_of_their_own(tmp_path: Path, region: str, console: str) -> None:
    stack = Stack(new_app(tmp_path), "Partition", env=Environment(region=region))
    observe(stack, destinations=[ARCHIVE])
    synthesis = synthesised(stack)
    for alarm in alarms_of(synthesis):
        assert f" Dashboard: {console}cloudwatch/home?region={region}#" in synthesis.flat(
            alarm["Properties"]["AlarmDescription"]
        )


def test_a_description_ends_in_a_link_that_can_be_clicked(stack: Stack) -> None:
    observe(stack)
    synthesis = synthesised(stack)
    for alarm in alarms_of(synthesis):
        link = synthesis.flat(alarm["Properties"]["AlarmDescription"]).rpartition(" ")[2]
        assert link == (
            "https://eu-central-1.console.aws.amazon.com/cloudwatch/home?region=eu-central-1#dashboards/dashboard/"
            f"<{DASHBOARD}.Ref>"
        )


def test_a_link_to_ones_own_runbook(stack: Stack) -> None:
    observe(stack, alarms=AlarmOptions(runbook_url="https://wiki.example.com/kong"))
    synthesis = synthesised(stack)
    links = {alarm["Properties"]["AlarmDescription"].rpartition(" ")[2] for alarm in alarms_of(synthesis)}
    assert "https://wiki.example.com/kong#the-trail-lags-behind" in links
    assert all(link.startswith("https://wiki.example.com/kong#") for link in links)
    (guide,) = guides(synthesis)
    assert "[The trail lags behind](https://wiki.example.com/kong#the-trail-lags-behind)" in guide


def guides(synthesis: Synthesis) -> list[str]:
    texts = [w["properties"]["markdown"] for w in dashboard_body(synthesis)["widgets"] if w["type"] == "text"]
    return [text for text in texts if text.startswith("| Alarm | What to do first |")]


def test_the_dashboard_says_what_to_do_first_for_each_alarm_that_there_is(stack: Stack) -> None:
    alarms = observe(stack, alarms=without("lag")).alarms
    (guide,) = guides(synthesised(stack))
    assert len(guide.splitlines()) - 2 == len({option_of(name) for name in alarms})
    assert "The trail lags behind" not in guide


def test_the_first_tile_answers_in_numbers_that_need_no_conversion(stack: Stack) -> None:
    observe(stack, kong_retention=Duration.hours(36))
    first = next(w["properties"] for w in dashboard_body(synthesised(stack))["widgets"] if w["type"] == "metric")
    shown = {row[-1]["label"]: row[-1].get("expression") or row[1] for row in first["metrics"] if visible(row)}
    assert shown == {
        "hours that the oldest undelivered entry has waited": "age / 3600",
        "entries open in quarantine": "QuarantineOpen",
        "hours since the last good run": ("TIME_SERIES((MAX(EPOCH(runs)) - MAX(IF(runs > 0, EPOCH(runs)))) / 3600)"),
        "hours until Kong deletes it, at a retention of 36 h": "36 - age / 3600",
    }
    assert first["view"] == "singleValue"


def visible(row: list[Any]) -> bool:
    return not isinstance(row[-1], dict) or row[-1].get("visible", True)


def test_the_nodes_of_the_cache_are_told_apart(stack: Stack) -> None:
    observe(stack)
    body = dashboard_body(synthesised(stack))
    for title in ("Cache memory", "Cache evictions"):
        (graph,) = (w["properties"] for w in body["widgets"] if w["properties"].get("title") == title)
        assert [(row[3], row[-1]["label"]) for row in graph["metrics"]] == [
            ("marks-001", "node 001"),
            ("marks-002", "node 002"),
        ]


# -- one failure notifies once


def test_quarantine_is_told_until_it_is_empty(stack: Stack) -> None:
    alarms = observe(stack).alarms
    synthesis = synthesised(stack)
    alarm = properties_of(stack, synthesis, alarms[f"requests/{LAKE}.quarantine_open"])
    assert (alarm["MetricName"], alarm["Statistic"], alarm["Threshold"]) == ("QuarantineOpen", "Maximum", 1)
    assert alarm["TreatMissingData"] == "ignore", "no data is no news"
    assert "EntriesQuarantined" not in {one["Properties"].get("MetricName") for one in synthesis.of_type(ALARM)}


def test_a_failure_that_was_told_as_a_misconfiguration_is_not_told_again(stack: Stack) -> None:
    alarms = observe(stack, alarms=AlarmOptions(topic=topic_of(stack))).alarms
    synthesis = synthesised(stack)
    failed = properties_of(stack, synthesis, alarms["failed_runs"])
    suppressor = failed["ActionsSuppressor"]["Fn::GetAtt"][0]
    assert synthesis.template["Resources"][suppressor]["Properties"]["MetricName"] == "Misconfigurations"
    assert (failed["ActionsSuppressorWaitPeriod"], failed["ActionsSuppressorExtensionPeriod"]) == (300, 300)
    (helper,) = (one["Properties"] for one in synthesis.of_type(ALARM) if one["Properties"]["MetricName"] == "Errors")
    assert "AlarmActions" not in helper


def test_without_the_alarm_on_misconfigurations_each_failure_is_told(stack: Stack) -> None:
    alarms = observe(stack, alarms=without("misconfigurations")).alarms
    alarm = properties_of(stack, synthesised(stack), alarms["failed_runs"])
    assert (alarm["MetricName"], alarm["TreatMissingData"]) == ("Errors", "ignore")


def test_dead_letters_are_evidence_and_no_alarm(stack: Stack) -> None:
    observe(stack)
    synthesis = synthesised(stack)
    assert "AWS/SQS" not in str(synthesis.of_type(ALARM))
    assert ("AWS/SQS", "ApproximateNumberOfMessagesVisible") in set(metrics_of_dashboard(dashboard_body(synthesis)))


# -- two trails


def both(stack: Stack, **options: Any) -> Observability:
    return observe(stack, destinations=[ARCHIVE, LAKE], **options)


def test_each_trail_has_its_own_alarms_and_what_they_share_is_watched_once(stack: Stack) -> None:
    alarms = both(stack).alarms
    # An archive refuses no entry, so nothing of it goes to quarantine.
    of_archive = [*(name for name in OF_TRAILS if name != "quarantine_open"), "parts_damaged"]
    assert list(alarms) == [*(f"requests/{ARCHIVE}.{name}" for name in of_archive), *ALARMS]
    synthesis = synthesised(stack)
    for name, alarm in alarms.items():
        properties = properties_of(stack, synthesis, alarm)
        destination = name.rpartition(".")[0].removeprefix("requests/")
        said = synthesis.flat(properties["AlarmDescription"])
        assert (f" Stream: requests. Destination: {destination}. " in said) == bool(destination)
        assert properties["AlarmName"].startswith(f"kong, {destination}: " if destination else "kong: ")
        if destination and "Dimensions" in properties:
            assert {"Name": "destination", "Value": destination} in properties["Dimensions"]


def test_a_damaged_part_is_told(stack: Stack) -> None:
    alarms = both(stack).alarms
    alarm = properties_of(stack, synthesised(stack), alarms[f"requests/{ARCHIVE}.parts_damaged"])
    assert (alarm["MetricName"], alarm["Statistic"], alarm["Threshold"]) == ("PartsDamaged", "Maximum", 1)
    assert (alarm["ComparisonOperator"], alarm["TreatMissingData"]) == ("GreaterThanOrEqualToThreshold", "ignore")


def test_the_alarm_on_damaged_parts_can_be_switched_off(stack: Stack) -> None:
    assert f"requests/{ARCHIVE}.parts_damaged" not in both(stack, alarms=without("parts_damaged")).alarms


def test_a_misconfiguration_of_any_trail_explains_a_failed_run(stack: Stack) -> None:
    alarms = both(stack, alarms=AlarmOptions(topic=topic_of(stack))).alarms
    synthesis = synthesised(stack)
    failed = properties_of(stack, synthesis, alarms["failed_runs"])
    suppressor = synthesis.template["Resources"][failed["ActionsSuppressor"]["Fn::GetAtt"][0]]["Properties"]
    rule = str(suppressor["AlarmRule"])
    for destination in (ARCHIVE, LAKE):
        assert stack.get_logical_id(alarms[f"requests/{destination}.misconfigurations"].node.default_child) in rule  # type: ignore[arg-type]
    assert " OR " in rule
    assert "AlarmActions" not in suppressor


def test_the_dashboard_tells_the_trails_apart(stack: Stack) -> None:
    both(stack)
    body = dashboard_body(synthesised(stack))
    titles = [w["properties"].get("title", "") for w in body["widgets"]]
    assert len(set(titles) - {""}) == len([title for title in titles if title])
    for destination in (ARCHIVE, LAKE):
        assert f"Now ({destination})" in titles
        assert f"How far behind ({destination})" in titles
    assert titles.count("Dead-letter queue") == titles.count("Failures and throttles of the function") == 1
    assert "Calls of PutAuditEvents (archive)" not in titles
    assert "Parts of the archive (archive)" in titles
    assert "Open in quarantine (cloudtrail-lake)" in titles
    assert "Open in quarantine (archive)" not in titles
    assert '"QuarantineOpen","destination","archive"' not in json.dumps(body, separators=(",", ":"))


def test_two_trails_pass_the_rule_packs(stack: Stack) -> None:
    both(stack)
    for pack in (AwsSolutionsChecks(), NIST80053R5Checks()):
        assert list(pack.validate_scope(stack).violations) == []


# -- two streams


def all_four(stack: Stack, **options: Any) -> Observability:
    return both(stack, streams=["requests", "objects"], **options)


def test_each_stream_has_its_own_alarms_and_renames_none_of_the_others(stack: Stack, tmp_path: Path) -> None:
    alarms = all_four(stack).alarms
    synthesis = synthesised(stack)
    names = {name: properties_of(stack, synthesis, alarm)["AlarmName"] for name, alarm in alarms.items()}
    assert len(set(names.values())) == len(names)
    assert names[f"objects/{ARCHIVE}.lag"] == "kong, objects, archive: entries waiting longer than 6 h"
    assert names[f"objects/{LAKE}.gaps_open"] == f"kong, objects, {LAKE}: entries that Kong cannot show"
    for name, alarm in alarms.items():
        stream, _, destination = name.rpartition(".")[0].partition("/")
        properties = properties_of(stack, synthesis, alarm)
        if destination and "Dimensions" in properties:
            assert {"Name": "stream", "Value": stream} in properties["Dimensions"]
            assert f" Stream: {stream}. Destination: {destination}. " in synthesis.flat(properties["AlarmDescription"])
    # The ones of before are the same: with their names, and with their ids in the template.
    before = Stack(new_app(tmp_path), "Foreign", env=Environment(region="eu-central-1", account="111122223333"))
    of_requests = both(before).alarms
    synthesis = synthesised(before)
    assert {
        name: properties_of(before, synthesis, alarm)["AlarmName"] for name, alarm in of_requests.items()
    }.items() <= (names.items())
    assert {before.get_logical_id(alarm.node.default_child) for alarm in of_requests.values()} <= {  # type: ignore[arg-type]
        stack.get_logical_id(alarm.node.default_child)  # type: ignore[arg-type]
        for alarm in alarms.values()
    }


def test_the_dashboard_tells_the_streams_apart(stack: Stack) -> None:
    all_four(stack)
    body = dashboard_body(synthesised(stack))
    titles = [w["properties"]["title"] for w in body["widgets"] if w["properties"].get("title")]
    assert len(set(titles)) == len(titles)
    for stream in ("requests", "objects"):
        for destination in (ARCHIVE, LAKE):
            assert f"Now ({stream}/{destination})" in titles
    [heading] = [w for w in body["widgets"] if w["properties"].get("markdown", "").startswith("# Kong")]
    assert "in S3 and in CloudTrail Lake: kong" in heading["properties"]["markdown"]


def test_two_streams_pass_the_rule_packs(stack: Stack) -> None:
    all_four(stack)
    for pack in (AwsSolutionsChecks(), NIST80053R5Checks()):
        assert list(pack.validate_scope(stack).violations) == []


# -- shapes


def test_serverless_cache(stack: Stack) -> None:
    observe(stack, cache=ServerlessCache(name="marks", limit_bytes=2_000_000_000))
    cache = [
        metric
        for alarm in synthesised(stack).of_type(ALARM)
        for metric in metrics_of_alarm(alarm)
        if metric["Namespace"] == "AWS/ElastiCache"
    ]
    dimensions = [{"Name": "clusterId", "Value": "marks"}]
    assert cache == [
        {"Dimensions": dimensions, "MetricName": "BytesUsedForCache", "Namespace": "AWS/ElastiCache"},
        {"Dimensions": dimensions, "MetricName": "Evictions", "Namespace": "AWS/ElastiCache"},
    ]


def test_serverless_cache_without_a_limit_cannot_fill_up(stack: Stack) -> None:
    observability = observe(stack, cache=ServerlessCache(name="marks", limit_bytes=None))
    assert set(OPTIONS) - {option_of(name) for name in observability.alarms} == {"cache_memory_percent"}


def test_what_is_not_there_is_neither_drawn_nor_watched(stack: Stack) -> None:
    observability = observe(stack, log_group=None, dead_letters=None, cache=None)
    made = {option_of(name) for name in observability.alarms}
    assert set(OPTIONS) - made == {"cache_memory_percent", "evictions"}
    body = dashboard_body(synthesised(stack))
    assert {namespace for namespace, _ in metrics_of_dashboard(body)} == {"KongCloudTrail", "AWS/Lambda"}
    assert "log" not in {widget["type"] for widget in body["widgets"]}


def test_no_alarm_and_no_dashboard(stack: Stack) -> None:
    observability = observe(stack, dashboard=False, alarms=without(*OPTIONS))
    assert observability.dashboard is None
    assert observability.alarms == {}
    assert not [node for node in stack.node.find_all() if CfnResource.is_cfn_resource(node)]


def test_dashboard_without_alarms(stack: Stack) -> None:
    observe(stack, alarms=without(*OPTIONS))
    assert "alarm" not in {widget["type"] for widget in dashboard_body(synthesised(stack))["widgets"]}


def test_dashboard_answers_the_four_questions_in_order(stack: Stack) -> None:
    observe(stack)
    body = dashboard_body(synthesised(stack))
    headings = [w["properties"]["markdown"].partition("\n")[0] for w in body["widgets"] if w["type"] == "text"]
    assert [heading for heading in headings[1:] if heading.startswith("#")] == [
        "## Is the trail complete?",
        "## What flows?",
        "## What does it cost?",
        "## Is the machinery well?",
    ]
    assert len(next(w["properties"]["alarms"] for w in body["widgets"] if w["type"] == "alarm")) == len(ALARMS)
    places = {
        (w["x"] + column, w["y"] + row)
        for w in body["widgets"]
        for column in range(w["width"])
        for row in range(w["height"])
    }
    assert len(places) == sum(w["width"] * w["height"] for w in body["widgets"]), "nothing lies over anything else"
    assert max(x for x, _ in places) == 23


def test_two_in_one_stack_pass_cfn_lint_and_the_rule_packs(stack: Stack) -> None:
    observe(stack, "First", source="eu")
    observe(stack, "Second", source="us", cache=ServerlessCache(name="marks", limit_bytes=10**9))
    for pack in (AwsSolutionsChecks(), NIST80053R5Checks()):
        assert list(pack.validate_scope(stack).violations) == []
    synthesis = synthesised(stack)
    made = [*synthesis.of_type(ALARM), *synthesis.of_type(COMPOSITE)]
    names = [alarm["Properties"]["AlarmName"] for alarm in made]
    assert len(set(names)) == len(names)
    assert {name.partition(": ")[0] for name in names} == {"eu", "us", f"eu, {LAKE}", f"us, {LAKE}"}
    assert not [d for d in synthesis.of_type(DASHBOARD) if "DashboardName" in d["Properties"]]
    assert len(alarms_of(synthesis)) == len(ALARMS) + len(OPTIONS)  # the second cache is a single one
    assert lint_findings(synthesis.template) == []
