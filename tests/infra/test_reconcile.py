"""The daily reconciliation: on request, with a schedule for each trail, and an alarm on what it finds missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stacks.errors import SettingsError
from tests.infra.synthesis import Synthesis, synthesise


@pytest.fixture(scope="module")
def reconciled(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    return synthesise(tmp_path_factory.mktemp("reconciled"), destination="archive,cloudtrail-lake", reconcile="daily")


def ticks(synthesis: Synthesis) -> list[dict[str, Any]]:
    """Return what the function gets from each schedule that asks for a verb."""
    schedules = [one["Properties"] for one in synthesis.of_type("AWS::Scheduler::Schedule")]
    events = [(one, json.loads(synthesis.flat(one["Target"]["Input"]))) for one in schedules]
    return [{"when": one["ScheduleExpression"], **event} for one, event in events if "verb" in event]


def alarms(synthesis: Synthesis) -> list[dict[str, Any]]:
    found = [one["Properties"] for one in synthesis.of_type("AWS::CloudWatch::Alarm")]
    return [one for one in found if one.get("MetricName") == "EntriesMissing"]


def test_is_off_unless_it_is_asked_for(synthesis: Synthesis) -> None:
    assert (ticks(synthesis), alarms(synthesis)) == ([], [])


def test_asks_for_yesterday_whenever_it_is(reconciled: Synthesis) -> None:
    asked = {
        "stream": "requests",
        "verb": "reconcile",
        "after": "yesterday",
        "before": "today",
        "yes": True,
        "when": "cron(20 4 * * ? *)",
    }

    found = ticks(reconciled)

    assert sorted(one.pop("destination") for one in found) == ["archive", "cloudtrail-lake"]
    assert all(one.pop("execution_id") == "<aws.scheduler.execution-id>" for one in found)
    assert found == [asked, asked]


def test_alarm_leads_to_its_section_of_the_runbook(reconciled: Synthesis) -> None:
    found = alarms(reconciled)

    assert sorted(one["Dimensions"][0]["Value"] for one in found) == ["archive", "cloudtrail-lake"]
    for one in found:
        assert (one["Threshold"], one["Statistic"], one["TreatMissingData"]) == (1, "Maximum", "ignore")
        assert "docs/runbook.md#entries-missing" in reconciled.flat(one["AlarmDescription"])


def test_dashboard_shows_what_was_found(reconciled: Synthesis) -> None:
    [dashboard] = reconciled.of_type("AWS::CloudWatch::Dashboard")

    assert "Found by reconciliations" in reconciled.flat(dashboard["Properties"]["DashboardBody"])


def test_another_time_of_the_day(tmp_path: Path) -> None:
    assert [one["when"] for one in ticks(synthesise(tmp_path, reconcile="cron(0 7 * * ? *)"))] == ["cron(0 7 * * ? *)"]


@pytest.mark.parametrize("text", ["hourly", "rate(1 day)", "cron(0 * * * ? *)", "cron(nonsense)"])
def test_what_is_no_such_time(tmp_path: Path, text: str) -> None:
    with pytest.raises((SettingsError, SystemExit), match="reconcile"):
        synthesise(tmp_path, reconcile=text)
