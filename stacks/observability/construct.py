"""Seeing that the trail is complete, and being told when it is not."""

from collections.abc import Collection, Mapping, Sequence

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from ..settings.cron import Schedule
from ..settings.names import DEFAULT_STREAM, trails_of
from .alarms import AlarmOptions, Guide, create_alarms
from .dashboard import add_widgets, new_dashboard
from .metrics import CacheNodes, CollectorMetrics, ServerlessCache, TrailMetrics

KONG_RETENTION = Duration.days(30)
"""How long Kong keeps an entry, unless somebody changed ``audit_log_record_ttl``."""

__all__ = [
    "KONG_RETENTION",
    "AlarmOptions",
    "CacheNodes",
    "CollectorMetrics",
    "Observability",
    "ServerlessCache",
    "TrailMetrics",
]


class Observability(Construct):
    """Metrics, alarms and dashboard of one gateway's trails. Everything watched may be imported.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    source : str
        ``SOURCE_NAME`` of the function.
    destinations : sequence of str
        Where entries are kept.
    streams : sequence of str
        What is read: one trail for each in each destination. Default: ``requests``.
    function : lambda_.IFunction
        The collector.
    log_group : logs.ILogGroup, optional
        Its logs, of which the dashboard lists the last runs. Default: no such list.
    dead_letters : sqs.IQueue, optional
        Where failed invocations end. Default: nothing about them.
    cache : CacheNodes or ServerlessCache, optional
        The cache. Default: nothing about it.
    schedule : Schedule, optional
        When runs take place. Default: nobody knows; bars stand for hours, and nothing is said about missed runs.
    reconciles : bool
        Whether the trails are reconciled by a schedule. Default: no.
    schedule_enabled : bool
        Whether runs take place by themselves. Default: yes.
    alarms : AlarmOptions, optional
        Switches, thresholds and the topic. Default: all alarms, and nobody is told.
    kong_retention : Duration, optional
        How long Kong keeps an entry. Default: 30 days.
    watched_elsewhere : collection of str
        Options of alarms that another trail has, as on a cache that two of them share. Default: none.
    dashboard : bool
        Whether there is a dashboard. Default: yes.

    Attributes
    ----------
    metrics : Mapping of str to TrailMetrics
        Every metric of each trail, to draw and to alarm on, by stream and destination: ``requests/archive``.
    collector : CollectorMetrics
        Those of function, queue and cache.
    alarms : Mapping of str to cloudwatch.AlarmBase
        The alarms by the names of their options, those of a trail with its name before: ``requests/archive.lag``;
        those that are switched off are absent.
    dashboard : cloudwatch.Dashboard or None
        The dashboard.

    Raises
    ------
    SettingsError
        If an option of the alarms is not possible.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        source: str,
        destinations: Sequence[str],
        streams: Sequence[str] = (DEFAULT_STREAM,),
        function: lambda_.IFunction,
        log_group: logs.ILogGroup | None = None,
        dead_letters: sqs.IQueue | None = None,
        cache: CacheNodes | ServerlessCache | None = None,
        schedule: Schedule | None = None,
        schedule_enabled: bool = True,
        reconciles: bool = False,
        alarms: AlarmOptions | None = None,
        kong_retention: Duration = KONG_RETENTION,
        watched_elsewhere: Collection[str] = (),
        dashboard: bool = True,
    ) -> None:
        super().__init__(scope, construct_id)
        options = alarms or AlarmOptions()
        self.metrics: Mapping[str, TrailMetrics] = {
            str(trail): TrailMetrics(source=source, trail=trail, reconciles=reconciles)
            for trail in trails_of(streams, destinations)
        }
        self.collector = CollectorMetrics(function=function, dead_letters=dead_letters, cache=cache)
        # The alarms' descriptions lead to the dashboard, so it is there first.
        self.dashboard: cloudwatch.Dashboard | None = new_dashboard(self) if dashboard else None
        guide = Guide(
            source=source,
            runbook_url=options.runbook_url,
            dashboard_url=None if self.dashboard is None else _address_of(self.dashboard),
        )
        self.alarms: Mapping[str, cloudwatch.AlarmBase] = create_alarms(
            Construct(self, "Alarms"),
            list(self.metrics.values()),
            self.collector,
            options,
            guide,
            schedule=schedule if schedule_enabled else None,
            watched_elsewhere=watched_elsewhere,
        )
        if self.dashboard is not None:
            add_widgets(
                self.dashboard,
                list(self.metrics.values()),
                self.collector,
                self.alarms,
                options,
                source=source,
                log_group=log_group,
                schedule_seconds=None if schedule is None else schedule.longest_seconds,
                kong_retention=kong_retention,
            )


def _address_of(dashboard: cloudwatch.Dashboard) -> str:
    """Return where the console shows a dashboard."""
    region = Stack.of(dashboard).region
    domains = (("cn-", "console.amazonaws.cn"), ("us-gov-", "console.amazonaws-us-gov.com"))
    domain = next((domain for start, domain in domains if region.startswith(start)), "console.aws.amazon.com")
    console = f"https://{region}.{domain}/cloudwatch/home?region={region}"
    return f"{console}#dashboards/dashboard/{dashboard.dashboard_name}"
