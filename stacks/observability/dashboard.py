"""The dashboard, in the order in which somebody asks who was woken by an alarm."""

from collections.abc import Mapping, Sequence
from typing import cast

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from constructs import Construct

from .alarms import ABOUT, RUNBOOK, About, AlarmOptions
from .metrics import CollectorMetrics, TrailMetrics

_WIDTH = 24
_HEIGHT = 6
_SHORTEST_PERIOD_SECONDS, _LONGEST_PERIOD_SECONDS = 300, 86_400
_LAST_RUNS = 8

LAST_RUNS_QUERY = (
    "fields @timestamp, report.stream, report.destination, report.finished",
    "fields report.fetched, report.delivered, report.quarantined",
    'filter code = "RUN_ENDED"',
    "sort @timestamp desc",
    f"limit {_LAST_RUNS}",
)


def new_dashboard(scope: Construct) -> cloudwatch.Dashboard:
    """Create an empty dashboard, named by CloudFormation."""
    return cloudwatch.Dashboard(
        scope,
        "Dashboard",
        default_interval=Duration.days(2),
        # Periods are as given here, and so a bar is a run, whatever range is looked at.
        period_override=cloudwatch.PeriodOverride.INHERIT,
    )


def add_widgets(
    dashboard: cloudwatch.Dashboard,
    trails: Sequence[TrailMetrics],
    collector: CollectorMetrics,
    alarms: Mapping[str, cloudwatch.AlarmBase],
    options: AlarmOptions,
    *,
    source: str,
    log_group: logs.ILogGroup | None,
    schedule_seconds: int | None,
    kong_retention: Duration,
) -> None:
    """Fill the dashboard of a gateway: what belongs to a trail once for each, and what they share once.

    Parameters
    ----------
    dashboard : cloudwatch.Dashboard
        The dashboard.
    trails : sequence of TrailMetrics
        What it shows of each trail.
    collector : CollectorMetrics
        What it shows of function, queue and cache.
    alarms : Mapping of str to cloudwatch.AlarmBase
        Whose states it shows, by the names of their options, and for which it says what to do first.
    options : AlarmOptions
        The thresholds, drawn as lines, and where the runbook is.
    source : str
        Name of the source.
    log_group : logs.ILogGroup or None
        Of which it lists the last runs.
    schedule_seconds : int or None
        The most time between two runs: one point of a graph. None: an hour.
    kong_retention : Duration
        How long Kong keeps an entry.
    """
    period = Duration.seconds(min(max(schedule_seconds or 3600, _SHORTEST_PERIOD_SECONDS), _LONGEST_PERIOD_SECONDS))
    runbook = options.runbook_url or f"`{RUNBOOK}`"
    destinations = list(dict.fromkeys(metrics.trail.destination for metrics in trails))
    has_streams = len(trails) > len(destinations)
    titles = [str(metrics.trail) if has_streams else metrics.trail.destination for metrics in trails]
    drawings = [_Drawing(period, trail=title if len(trails) > 1 else None) for title in titles]
    each = list(zip(drawings, trails, strict=True))
    places = " and in ".join(map(_PLACES.__getitem__, destinations))
    bills = " ".join(map(_BILLS.__getitem__, destinations))
    rows: list[Sequence[cloudwatch.IWidget]] = [
        [_text(f"# Kong's audit trail in {places}: {source}\nThe whole runbook: {runbook}")],
        *([_answer(draw, metrics, kong_retention)] for draw, metrics in each),
        [
            _text(
                "## Is the trail complete?\nNothing waits, quarantine is empty, there are no gaps, and every period "
                "has its run."
            )
        ],
        *(_completeness(draw, metrics, options) for draw, metrics in each),
        _watched(dashboard, alarms, log_group),
        _guide(alarms, options),
        [
            _text(
                "## What flows?\nNew entries are delivered, quarantined, or excluded by a rule. The overlap makes "
                "known ones come again."
            )
        ],
        *(_flow(draw, metrics) for draw, metrics in each),
        [_text(f"## What does it cost?\n{bills} Lambda bills the time of runs.")],
        *(_cost(draw, metrics) for draw, metrics in each),
        [
            _text(
                "## Is the machinery well?\nFailed runs, throttles and evictions are 0. Dead letters are evidence of "
                "runs that failed, for 14 days."
            )
        ],
        *(_machinery(draw, metrics) for draw, metrics in each),
        _state(_Drawing(period), collector, options),
    ]
    for row in rows:
        dashboard.add_widgets(*row)


_PLACES = {"archive": "S3", "cloudtrail-lake": "CloudTrail Lake", "cloudwatch-logs": "CloudWatch Logs"}
_BILLS = {
    "archive": "S3 bills each part that is written, and what is kept, compressed; Athena what a query reads.",
    "cloudtrail-lake": "CloudTrail Lake bills bytes ingested.",
    "cloudwatch-logs": "CloudWatch Logs bills bytes ingested, 26 more for each event, and what is kept, compressed.",
}


class _Drawing:
    """Makes graphs of one period, titled with the trail where there are several."""

    def __init__(self, period: Duration, *, trail: str | None = None) -> None:
        self.period = period
        self._trail = trail

    def title(self, text: str) -> str:
        return text if self._trail is None else f"{text} ({self._trail})"

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
            title=self.title(title),
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


def _text(markdown: str, *, height: int = 2) -> cloudwatch.TextWidget:
    return cloudwatch.TextWidget(
        markdown=markdown, width=_WIDTH, height=height, background=cloudwatch.TextWidgetBackground.TRANSPARENT
    )


def _answer(draw: _Drawing, metrics: TrailMetrics, kong_retention: Duration) -> cloudwatch.IWidget:
    """Answer whether all is well, in the numbers that whoever was woken asks for first."""
    quarantine = metrics.quarantine_open
    return cloudwatch.SingleValueWidget(
        title=draw.title("Now"),
        metrics=[
            metrics.hours_waited.with_(label="hours that the oldest undelivered entry has waited"),
            *([] if quarantine is None else [quarantine.with_(label="entries open in quarantine")]),
            metrics.hours_since_success,
            metrics.hours_left(kong_retention),
        ],
        width=_WIDTH,
        height=4,
    )


def _completeness(draw: _Drawing, metrics: TrailMetrics, options: AlarmOptions) -> list[cloudwatch.IWidget]:
    quarantine = metrics.quarantine_open
    width = 8 if quarantine is None else 5
    widgets: list[cloudwatch.IWidget] = [
        draw.graph(
            "How far behind",
            [metrics.hours_waited, metrics.hours_since_all_was_delivered],
            width=8,
            unit="hours",
            threshold=None if options.lag is None else options.lag.to_hours(integral=False),
        ),
        draw.graph("Successful runs", [metrics.runs_finished], width=width, unit="runs"),
        draw.graph(
            "Gaps that Kong could not show", [metrics.gaps_open], width=width, unit="gaps", threshold=options.gaps_open
        ),
    ]
    if quarantine is not None:
        widgets.append(
            draw.graph("Open in quarantine", [quarantine], width=6, unit="entries", threshold=options.quarantine_open)
        )
    found = (metrics.entries_missing, metrics.entries_doubled, metrics.entries_extra)
    if reconciled := [metric for metric in found if metric is not None]:
        widgets.append(
            draw.graph(
                "Found by reconciliations", reconciled, width=_WIDTH, unit="entries", threshold=options.entries_missing
            )
        )
    return widgets


def _watched(
    dashboard: cloudwatch.Dashboard, alarms: Mapping[str, cloudwatch.AlarmBase], log_group: logs.ILogGroup | None
) -> list[cloudwatch.IWidget]:
    widgets: list[cloudwatch.IWidget] = []
    if alarms:
        widgets.append(
            cloudwatch.AlarmStatusWidget(
                title="Alarms",
                alarms=[_known_by_name(dashboard, alarm) for alarm in alarms.values()],
                width=8 if log_group else _WIDTH,
                height=_HEIGHT,
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


def _known_by_name(dashboard: cloudwatch.Dashboard, alarm: cloudwatch.AlarmBase) -> cloudwatch.IAlarm:
    """Return an alarm by its name: its own ARN would make each of alarm and dashboard wait for the other one."""
    resource = alarm.node.default_child
    arn = Stack.of(dashboard).format_arn(
        service="cloudwatch",
        resource="alarm",
        resource_name=cast(cloudwatch.CfnAlarm | cloudwatch.CfnCompositeAlarm, resource).alarm_name,
        arn_format=ArnFormat.COLON_RESOURCE_NAME,
    )
    return cloudwatch.Alarm.from_alarm_arn(alarm, "ByName", arn)


def _guide(alarms: Mapping[str, cloudwatch.AlarmBase], options: AlarmOptions) -> list[cloudwatch.IWidget]:
    """Say what to do first, for each alarm that there is."""
    made = [about for option, about in ABOUT.items() if any(_option_of(name).startswith(option) for name in alarms)]
    if not made:
        return []
    rows = [f"| {_heading(about, options.runbook_url)} | {about.first} |" for about in made]
    return [_text("\n".join(["| Alarm | What to do first |", "| --- | --- |", *rows]), height=1 + len(rows))]


def _option_of(alarm: str) -> str:
    return alarm.rpartition(".")[2]


def _heading(about: About, runbook_url: str | None) -> str:
    anchor = about.heading.lower().replace(" ", "-")
    return about.heading if runbook_url is None else f"[{about.heading}]({runbook_url}#{anchor})"


def _flow(draw: _Drawing, metrics: TrailMetrics) -> list[cloudwatch.IWidget]:
    refuses = metrics.quarantine_open is not None  # an archive neither refuses nor shortens an entry
    return [
        draw.graph(
            "Entries",
            [
                metrics.entries_fetched,
                metrics.duplicates_skipped,
                metrics.entries_new,
                metrics.entries_excluded,
                metrics.events_delivered,
            ],
            unit="entries",
        ),
        draw.graph(
            "Out of the ordinary",
            [
                *([metrics.entries_quarantined, metrics.events_shortened] if refuses else []),
                *([] if metrics.events_redated is None else [metrics.events_redated]),
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
    written = [] if metrics.parts_written is None else [metrics.parts_written]
    return [
        draw.graph(
            "Bytes ingested" if metrics.parts_written is None else "Bytes archived, uncompressed",
            [metrics.delivered_bytes],
            width=9,
            unit="bytes",
        ),
        cloudwatch.SingleValueWidget(
            title=draw.title("In the range shown"),
            metrics=[metrics.delivered_bytes, metrics.events_delivered, *written],
            set_period_to_time_range=True,
            width=6,
            height=_HEIGHT,
        ),
        draw.graph("Run time", [metrics.run_time], width=9, unit="seconds"),
    ]


def _machinery(draw: _Drawing, metrics: TrailMetrics) -> list[cloudwatch.IWidget]:
    if metrics.parts_written is None or metrics.parts_damaged is None:
        call = "PutAuditEvents" if metrics.events_redated is None else "PutLogEvents"
        calls = draw.graph(f"Calls of {call}", [metrics.delivery_calls], unit="calls")
    else:
        calls = draw.graph("Parts of the archive", [metrics.parts_written, metrics.parts_damaged], unit="parts")
    return [
        draw.graph("Trouble", [metrics.misconfigurations, metrics.deliveries_throttled], unit="count"),
        draw.graph("Latency, mean of a run", [metrics.kong_latency, metrics.delivery_latency], unit="seconds"),
        calls,
    ]


def _state(draw: _Drawing, metrics: CollectorMetrics, options: AlarmOptions) -> list[cloudwatch.IWidget]:
    widgets: list[cloudwatch.IWidget] = [
        draw.graph("Failures and throttles of the function", [metrics.errors, metrics.throttles], width=6, unit="runs")
    ]
    if metrics.cache_memory_percent_by_node:
        widgets.append(
            draw.graph(
                "Cache memory",
                metrics.cache_memory_percent_by_node,
                width=6,
                unit="percent",
                threshold=options.cache_memory_percent,
            )
        )
    if metrics.evictions_by_node:
        widgets.append(draw.graph("Cache evictions", metrics.evictions_by_node, width=6, unit="marks"))
    if metrics.dead_letters is not None:
        widgets.append(draw.graph("Dead-letter queue", [metrics.dead_letters], width=6, unit="messages"))
    return widgets
