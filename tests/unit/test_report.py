"""What a run reports, in its log line and as metrics."""

from __future__ import annotations

import pytest
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.runtime.telemetry import _metrics_of

from tests.helpers import TRAIL


def test_a_run_that_met_nothing_out_of_the_ordinary_says_so() -> None:
    report = RunReport(TRAIL)

    summary, metrics = report.summary(), {name: value for name, _, value in _metrics_of(report)}

    assert (summary["found_late"], summary["max_lateness_seconds"], summary["gaps"]) == (0, 0, None)
    assert metrics["EntriesFoundLate"] == 0


@pytest.mark.parametrize(("field", "metric"), [("gaps", "GapsOpen"), ("quarantine_open", "QuarantineOpen")])
def test_what_a_run_does_not_know_clears_no_alarm(field: str, metric: str) -> None:
    unknown, none = RunReport(TRAIL), RunReport(TRAIL, **{field: 0})  # type: ignore[arg-type]

    assert metric not in {name for name, _, _ in _metrics_of(unknown)}
    assert (metric, 0) in {(name, value) for name, _, value in _metrics_of(none)}


def test_skipped_run_writes_nothing_that_clears_an_alarm() -> None:
    assert [(name, value) for name, _, value in _metrics_of(RunReport(TRAIL, skipped=True))] == [("RunsSkipped", 1)]


def test_late_entries_and_gaps_are_in_the_summary_and_in_the_metrics() -> None:
    report = RunReport(TRAIL, found_late=3, max_lateness_seconds=7200, gaps=2)

    summary, metrics = report.summary(), {name: value for name, _, value in _metrics_of(report)}

    assert (summary["found_late"], summary["max_lateness_seconds"], summary["gaps"]) == (3, 7200, 2)
    assert (metrics["EntriesFoundLate"], metrics["GapsOpen"]) == (3, 2)


def test_excluded_entries_are_told_in_total_and_by_rule() -> None:
    report = RunReport(TRAIL)
    report.excluded_by_rule.update({"own_reads": 3, "path:/status": 2})

    assert report.summary()["excluded"] == 5
    assert report.summary()["excluded_by_rule"] == {"own_reads": 3, "path:/status": 2}
    assert ("EntriesExcluded", 5) in {(name, value) for name, _, value in _metrics_of(report)}
