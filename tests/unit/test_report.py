"""What a run reports, in its log line and as metrics."""

from __future__ import annotations

from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.runtime.telemetry import _metrics_of

from tests.helpers import TRAIL


def test_a_run_that_met_nothing_out_of_the_ordinary_says_so() -> None:
    report = RunReport(TRAIL)

    summary, metrics = report.summary(), {name: value for name, _, value in _metrics_of(report)}

    assert (summary["found_late"], summary["max_lateness_seconds"], summary["gaps"]) == (0, 0, 0)
    assert (metrics["EntriesFoundLate"], metrics["GapsOpen"]) == (0, 0)


def test_late_entries_and_gaps_are_in_the_summary_and_in_the_metrics() -> None:
    report = RunReport(TRAIL, found_late=3, max_lateness_seconds=7200, gaps=2)

    summary, metrics = report.summary(), {name: value for name, _, value in _metrics_of(report)}

    assert (summary["found_late"], summary["max_lateness_seconds"], summary["gaps"]) == (3, 7200, 2)
    assert (metrics["EntriesFoundLate"], metrics["GapsOpen"]) == (3, 2)
