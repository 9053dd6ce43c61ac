"""The function's structured log and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import Metrics, MetricUnit

from ..domain.report import RunReport
from ..domain.trail import Trail

NAMESPACE = "KongCloudTrail"
SERVICE = "kong-cloudtrail"


class RedactingFormatter(LambdaPowertoolsFormatter):
    """Powertools' JSON lines, each cleaned as a whole: message, extra keys and exceptions alike."""

    def __init__(self, clean: Callable[[str], str], **options: Any) -> None:
        super().__init__(**options)
        self._clean = clean

    def serialize(self, log: Any) -> str:
        """Return the finished line."""
        return self._clean(super().serialize(log))


class LambdaTelemetry:
    """Writes with Powertools' Logger and Metrics.

    Parameters
    ----------
    logger
        Writes log lines.
    metrics
        Writes metrics, in CloudWatch's embedded metric format.
    """

    def __init__(self, logger: Logger, metrics: Metrics) -> None:
        self._logger = logger
        self._metrics = metrics

    def info(self, code: str, message: str, **details: Any) -> None:
        """Write a log line."""
        self._logger.info(message, code=code, **details)

    def warning(self, code: str, message: str, **details: Any) -> None:
        """Write a log line of level WARNING."""
        self._logger.warning(message, code=code, **details)

    def progress(self, report: RunReport) -> None:
        """Write a log line for each page, if the log level is DEBUG."""
        self._logger.debug("A page was processed.", code="PAGE", fetched=report.fetched, delivered=report.delivered)

    def publish(self, report: RunReport) -> None:
        """Write the run's metrics and its report."""
        _add_dimensions(self._metrics, report.trail)
        for name, unit, value in _metrics_of(report):
            self._metrics.add_metric(name, unit, value)
        self._metrics.flush_metrics()
        self._logger.info("The run ended.", code="RUN_ENDED", report=report.summary())

    def count(self, trail: Trail, counts: Mapping[str, int]) -> None:
        """Write counts of a trail as metrics."""
        _add_dimensions(self._metrics, trail)
        for name, value in counts.items():
            self._metrics.add_metric(name, MetricUnit.Count, value)
        self._metrics.flush_metrics()


def publish_misconfiguration(metrics: Metrics, trail: Trail) -> None:
    """Publish that wrong settings or secrets kept a run from beginning: there is no report that could say so."""
    _add_dimensions(metrics, trail)
    metrics.add_metric("Misconfigurations", MetricUnit.Count, 1)
    metrics.flush_metrics()


def _add_dimensions(metrics: Metrics, trail: Trail) -> None:
    for name, value in trail.fields.items():
        metrics.add_dimension(name, value)


def _metrics_of(report: RunReport) -> list[tuple[str, MetricUnit, float]]:
    """Return the metrics of a run. Unknown values are left out, as a zero would clear the alarm of an earlier run."""
    count, seconds = MetricUnit.Count, MetricUnit.Seconds
    if report.skipped:
        return [("RunsSkipped", count, 1)]
    metrics: list[tuple[str, MetricUnit, float]] = [
        ("EntriesFetched", count, report.fetched),
        ("DuplicatesSkipped", count, report.duplicates),
        ("EntriesExcluded", count, report.excluded if report.excluded_counted is None else report.excluded_counted),
        ("EventsDelivered", count, report.delivered),
        ("EventsFailed", count, report.failed),
        ("EntriesQuarantined", count, report.quarantined),
        ("EventsShortened", count, report.shortened),
        ("Backlog", count, report.backlog),
        ("EntriesFoundLate", count, report.found_late),
        ("PagesRead", count, report.pages),
        ("DeliveryCalls", count, report.batches),
        ("DeliveriesThrottled", count, report.throttled),
        ("DeliveredBytes", MetricUnit.Bytes, report.delivered_bytes),
        ("RunSeconds", seconds, report.run_seconds),
        ("RunsFinished", count, int(report.finished)),
        ("Misconfigurations", count, int(report.misconfigured)),
    ]
    counts = {"GapsOpen": report.gaps, "QuarantineOpen": report.quarantine_open, "PartsDamaged": report.parts_damaged}
    if report.redated:  # a metric that never has a value costs nothing, and most destinations have none
        counts["EventsRedated"] = report.redated
    if report.parts_damaged is not None:
        counts["PartsWritten"] = report.parts_written
    metrics += [(name, count, value) for name, value in counts.items() if value is not None]
    optional = {
        "OldestUndeliveredAgeSeconds": report.oldest_undelivered_age_seconds,
        "CheckpointLagSeconds": report.checkpoint_lag_seconds,
        "KongLatencySeconds": report.kong_latency_seconds,
        "DeliveryLatencySeconds": report.delivery_latency_seconds,
    }
    metrics += [(name, seconds, value) for name, value in optional.items() if value is not None]
    return metrics
