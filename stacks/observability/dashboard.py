"""The dashboard, in the order in which somebody asks who was woken by an alarm."""

from collections.abc import Mapping, Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from constructs import Construct

from .alarms import AlarmOptions
from .metrics import TrailMetrics

_WIDTH = 24
_HEIGHT = 6
_SHORTEST_PERIOD_SECONDS, _LONGEST_PERIOD_SECONDS = 300, 86_400
_LAST_RUNS = 8

LAST_RUNS_QUERY = (
    "fields @timestamp, report.finished, report.fetched, report.delivered, report.quarantined, report.failed",
    'filter code = "RUN_ENDED"',
    "sort @timestamp desc",
    f"limit {_LAST_RUNS}",
)


def create_dashboard(
    scope: Construct,
    metrics: TrailMetrics,
    alarms: Mapping[str, cloudwatch.AlarmBase],
    options: AlarmOptions,
    *,
    source: str,
    log_group: logs.ILogGroup | None,
    schedule_seconds: int | None,
) -> cloudwatch.Dashboard:
    """Create the dashboard of a trail.

    Parameters
    ----------
    scope : Construct
        Its parent.
    metrics : TrailMetrics
        What it shows.
    alarms : Mapping of str to cloudwatch.AlarmBase
        Whose states it shows.
    options : AlarmOptions
        The thresholds, drawn as lines, and where the runbook is.
    source : str
        Name of the source.
    log_group : logs.ILogGroup or None
        Of which it lists the last runs.
    schedule_seconds : int or None
        The most time between two runs: one point of a graph. None: an hour.

    Returns
    -------
    cloudwatch.Dashboard
        The dashboard, named by CloudFormation.
    """
    period = Duration.seconds(min(max(schedule_seconds or 3600, _SHORTEST_PERIOD_SECONDS), _LONGEST_PERIOD_SECONDS))
    dashboard = cloudwatch.Dashboard(
        scope,
        "Dashboard",
        default_interval=Duration.days(2),
        # Periods are as given here, and so a bar is a run, whatever range is looked at.
        period_override=cloudwatch.PeriodOverride.INHERIT,
    )
    draw = _Drawing(period)
    for row in (
        [_text(f"# Kong's audit trail in CloudTrail Lake: {source}\nWhat to do about an alarm: `{options.runbook}`")],
        [
            _text(
                "## Is the trail complete?\nThe age and the lag are 0, there are no gaps, and every period has its run."
            )
        ],
        _completeness(draw, metrics, alarms, options, log_group),
        [_text("## What flows?\nNew entries are delivered, or quarantined. The overlap makes known ones come again.")],
        _flow(draw, metrics),
        [_text("## What does it cost?\nCloudTrail Lake bills bytes ingested, Lambda the time of runs.")],
        _cost(draw, metrics),
        [_text("## Is the machinery well?\nFailed runs, throttles, evictions and dead letters are 0.")],
        _machinery(draw, metrics),
        _state(draw, metrics, options),
    ):
        dashboard.add_widgets(*row)
    return dashboard


class _Drawing:
    """Makes graphs of one period."""

    def __init__(self, period: Duration) -> None:
        self.period = period

    def graph(
        self,
        title: str,
        metrics: Sequence[cloudwatch.IMetric],
        *,
        width: int = 8,
        unit: str,
        threshold: float | None = None,
        bars: bool = False,
        stacked: bool = False,
    ) -> cloudwatch.GraphWidget:
        return cloudwatch.GraphWidget(
            title=title,
            left=list(metrics),
            width=width,
            height=_HEIGHT,
            period=self.period,
            view=cloudwatch.GraphWidgetView.BAR if bars else cloudwatch.GraphWidgetView.TIME_SERIES,
            stacked=stacked,
            left_y_axis=cloudwatch.YAxisProps(min=0, label=unit, show_units=False),
            left_annotations=[cloudwatch.HorizontalAnnotation(value=threshold, label="alarm", color="#d13212")]
            if threshold is not None
            else None,
        )


def _text(markdown: str) -> cloudwatch.TextWidget:
    return cloudwatch.TextWidget(
        markdown=markdown, width=_WIDTH, height=2, background=cloudwatch.TextWidgetBackground.TRANSPARENT
    )


def _completeness(
    draw: _Drawing,
    metrics: TrailMetrics,
    alarms: Mapping[str, cloudwatch.AlarmBase],
    options: AlarmOptions,
    log_group: logs.ILogGroup | None,
) -> list[cloudwatch.IWidget]:
    widgets: list[cloudwatch.IWidget] = [
        cloudwatch.SingleValueWidget(
            title="Now, in seconds",
            metrics=[
                metrics.oldest_undelivered_age.with_(period=draw.period),
                metrics.checkpoint_lag.with_(period=draw.period),
            ],
            width=6,
            height=_HEIGHT,
        ),
        draw.graph(
            "How far behind",
            [metrics.oldest_undelivered_age, metrics.checkpoint_lag],
            width=8,
            unit="seconds",
            threshold=None if options.lag is None else options.lag.to_seconds(),
        ),
        draw.graph("Successful runs", [metrics.runs_finished], width=5, unit="runs"),
        draw.graph(
            "Gaps that Kong could not show", [metrics.gaps_open], width=5, unit="gaps", threshold=options.gaps_open
        ),
    ]
    if alarms:
        widgets.append(
            cloudwatch.AlarmStatusWidget(
                title="Alarms", alarms=list(alarms.values()), width=8 if log_group else _WIDTH, height=_HEIGHT
            )
        )
    if log_group is not None:
        widgets.append(
            cloudwatch.LogQueryWidget(
                title="The last runs; finished: nothing was left undone",
                log_group_names=[log_group.log_group_name],
                query_lines=list(LAST_RUNS_QUERY),
                view=cloudwatch.LogQueryVisualizationType.TABLE,
                width=16 if alarms else _WIDTH,
                height=_HEIGHT,
            )
        )
    return widgets


def _flow(draw: _Drawing, metrics: TrailMetrics) -> list[cloudwatch.IWidget]:
    return [
        draw.graph(
            "Entries",
            [metrics.entries_fetched, metrics.duplicates_skipped, metrics.entries_new, metrics.events_delivered],
            unit="entries",
        ),
        draw.graph(
            "Out of the ordinary",
            [
                metrics.entries_quarantined,
                metrics.events_shortened,
                metrics.events_failed,
                metrics.backlog,
                metrics.entries_found_late,
            ],
            unit="entries",
        ),
        draw.graph(
            "Delivered, by source",
            [metrics.by_source(metrics.events_delivered, draw.period)],
            unit="events",
            stacked=True,
        ),
    ]


def _cost(draw: _Drawing, metrics: TrailMetrics) -> list[cloudwatch.IWidget]:
    return [
        draw.graph("Bytes ingested", [metrics.delivered_bytes], width=9, unit="bytes"),
        cloudwatch.SingleValueWidget(
            title="In the range shown",
            metrics=[metrics.delivered_bytes, metrics.events_delivered],
            set_period_to_time_range=True,
            width=6,
            height=_HEIGHT,
        ),
        draw.graph("Run time", [metrics.run_time], width=9, unit="seconds"),
    ]


def _machinery(draw: _Drawing, metrics: TrailMetrics) -> list[cloudwatch.IWidget]:
    return [
        draw.graph(
            "Failures and throttles",
            [metrics.errors, metrics.misconfigurations, metrics.throttles, metrics.deliveries_throttled],
            unit="count",
        ),
        draw.graph("Latency, mean of a run", [metrics.kong_latency, metrics.cloudtrail_latency], unit="seconds"),
        draw.graph("Calls of PutAuditEvents", [metrics.delivery_calls], unit="calls"),
    ]


def _state(draw: _Drawing, metrics: TrailMetrics, options: AlarmOptions) -> list[cloudwatch.IWidget]:
    widgets: list[cloudwatch.IWidget] = []
    if metrics.cache_memory_percent is not None:
        widgets.append(
            draw.graph(
                "Cache memory", [metrics.cache_memory_percent], unit="percent", threshold=options.cache_memory_percent
            )
        )
    if metrics.evictions is not None:
        widgets.append(draw.graph("Cache evictions", [metrics.evictions], unit="marks"))
    if metrics.dead_letters is not None:
        widgets.append(draw.graph("Dead-letter queue", [metrics.dead_letters], unit="messages"))
    return widgets
