"""Every number that tells how the trail is doing, as CloudWatch metrics to draw, to alarm on, to use elsewhere."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs

from ..settings.groups import Archive, CloudWatchLogs
from ..settings.names import TrailName

NAMESPACE = "KongCloudTrail"
"""As in the function's ``runtime/telemetry.py``; a test compares the two."""

MetricName = Literal[
    "Backlog",
    "CheckpointLagSeconds",
    "DeliveryLatencySeconds",
    "DeliveredBytes",
    "DeliveriesThrottled",
    "DeliveryCalls",
    "DuplicatesSkipped",
    "EntriesDoubled",
    "EntriesExcluded",
    "EntriesExtra",
    "EntriesFetched",
    "EntriesFoundLate",
    "EntriesMissing",
    "EntriesQuarantined",
    "EventsDelivered",
    "EventsFailed",
    "EventsShortened",
    "EventsRedated",
    "GapsOpen",
    "KongLatencySeconds",
    "Misconfigurations",
    "OldestUndeliveredAgeSeconds",
    "PagesRead",
    "PartsDamaged",
    "PartsWritten",
    "QuarantineOpen",
    "ReconciliationsFinished",
    "RunSeconds",
    "RunsFinished",
]
"""What the function counts and measures in a run or a reconciliation; ``docs/settings.md`` says what each is."""

METRIC_NAMES: tuple[str, ...] = get_args(MetricName)

_CACHE_NAMESPACE = "AWS/ElastiCache"
_HOUR_SECONDS = 3600


def checked_name(name: str) -> str:
    """Return the name of a metric that there is.

    Raises
    ------
    ValueError
        If there is none of that name, with names that are near.
    """
    if name in METRIC_NAMES:
        return name
    by_lower_case = {known.lower(): known for known in METRIC_NAMES}
    near = [by_lower_case[one] for one in difflib.get_close_matches(str(name).lower(), by_lower_case, cutoff=0.5)]
    advice = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(METRIC_NAMES)}."
    raise ValueError(f"metric: the function writes no metric of that name; {advice}")


@dataclass(frozen=True, kw_only=True)
class CacheNodes:
    """The nodes of a cache, as ElastiCache names them in its metrics.

    Attributes
    ----------
    cluster_ids : Sequence of str
        ``CacheClusterId`` of each node.
    """

    cluster_ids: Sequence[str]

    @classmethod
    def of_replication_group(cls, group_id: str, *, nodes: int) -> "CacheNodes":
        """Name the nodes of a replication group without cluster mode: its id, and a number of three digits."""
        return cls(cluster_ids=[f"{group_id}-{number:03}" for number in range(1, nodes + 1)])


@dataclass(frozen=True, kw_only=True)
class ServerlessCache:
    """A cache of ElastiCache Serverless.

    Attributes
    ----------
    name : str
        Its name.
    limit_bytes : int or None
        Its limit of stored data; None if it has none, and then nothing can fill up.
    """

    name: str
    limit_bytes: int | None


def dimensions(source: str, trail: TrailName) -> dict[str, str]:
    """Return the dimensions of a trail's metrics."""
    return {"source": source, "stream": trail.stream, "destination": trail.destination}


class TrailMetrics:
    """The metrics of one trail. Periods are 5 minutes; ``metric.with_(period=…)`` gives any other.

    Parameters
    ----------
    source : str
        ``SOURCE_NAME`` of the function.
    trail : TrailName
        Which stream, in which destination. All three are the metrics' dimensions.
    reconciles : bool
        Whether the trail is reconciled by a schedule.

    Attributes
    ----------
    source : str
        The gateway.
    trail : TrailName
        The trail.
    oldest_undelivered_age, checkpoint_lag : cloudwatch.Metric
        How complete the trail is, in seconds, at the end of each run.
    hours_waited, hours_since_all_was_delivered : cloudwatch.MathExpression
        The same, in hours.
    hours_since_success : cloudwatch.MathExpression
        Since the last run after which nothing was left to deliver, to five minutes. No value if the range shown has no
        such run.
    gaps_open : cloudwatch.Metric
        Stretches that Kong could not show and that are still to be read, at the end of each run.
    quarantine_open : cloudwatch.Metric or None
        Entries that lie in quarantine, at the end of each run. None for an archive, which refuses no entry.
    runs_finished : cloudwatch.Metric
        Runs after which nothing was left to deliver.
    entries_fetched, duplicates_skipped, entries_excluded, events_delivered, events_failed, entries_quarantined,
    events_shortened, backlog : cloudwatch.Metric
        What became of the entries that Kong showed.
    events_redated : cloudwatch.Metric or None
        In CloudWatch Logs: too old, or too far ahead, for their own time.
    entries_found_late : cloudwatch.Metric
        Delivered by a sweep, as they became visible too late for the window.
    entries_new : cloudwatch.MathExpression
        Fetched, and not delivered before.
    delivered_bytes : cloudwatch.Metric
        What CloudTrail Lake bills; of an archive, before compression.
    run_time, kong_latency, delivery_latency : cloudwatch.Metric
        Seconds.
    delivery_calls, deliveries_throttled, misconfigurations : cloudwatch.Metric
        Counts.
    parts_written, parts_damaged : cloudwatch.Metric or None
        Of an archive: objects written, and objects that somebody removed or overwrote, as a run noticed.
    entries_missing, entries_doubled, entries_extra : cloudwatch.Metric or None
        What reconciliations found. None if the trail is not reconciled by a schedule.
    """

    def __init__(self, *, source: str, trail: TrailName, reconciles: bool = False) -> None:
        self.source, self.trail = source, trail
        is_archive = trail.destination == Archive.destination
        is_logs = trail.destination == CloudWatchLogs.destination
        service = "S3" if is_archive else "CloudWatch Logs" if is_logs else "CloudTrail"
        self.oldest_undelivered_age = self._of_runs(
            "OldestUndeliveredAgeSeconds", "Maximum", "oldest undelivered entry"
        )
        self.checkpoint_lag = self._of_runs("CheckpointLagSeconds", "Maximum", "since all was delivered")
        self.gaps_open = self._of_runs("GapsOpen", "Maximum", "gaps to be read")
        self.quarantine_open = None if is_archive else self._of_runs("QuarantineOpen", "Maximum", "open in quarantine")
        self.runs_finished = self._of_runs("RunsFinished", "Sum", "runs that left nothing undone")
        self.hours_waited = _in_hours(self.oldest_undelivered_age, "age", "oldest undelivered entry")
        self.hours_since_all_was_delivered = _in_hours(self.checkpoint_lag, "lag", "since all was delivered")
        # EPOCH has a value for each period up to now, whether the metric has one or not.
        self.hours_since_success = cloudwatch.MathExpression(
            expression=f"TIME_SERIES((MAX(EPOCH(runs)) - MAX(IF(runs > 0, EPOCH(runs)))) / {_HOUR_SECONDS})",
            using_metrics={"runs": self.runs_finished},
            label="hours since the last good run",
        )

        self.entries_fetched = self._of_runs("EntriesFetched", "Sum", "fetched")
        self.duplicates_skipped = self._of_runs("DuplicatesSkipped", "Sum", "known already")
        self.entries_new = cloudwatch.MathExpression(
            expression="fetched - duplicates",
            using_metrics={"fetched": self.entries_fetched, "duplicates": self.duplicates_skipped},
            label="new",
        )
        self.entries_excluded = self._of_runs("EntriesExcluded", "Sum", "excluded by a rule")
        self.events_delivered = self._of_runs("EventsDelivered", "Sum", "delivered")
        self.events_failed = self._of_runs("EventsFailed", "Sum", "failed, to be sent again")
        self.entries_quarantined = self._of_runs("EntriesQuarantined", "Sum", "quarantined")
        self.events_shortened = self._of_runs("EventsShortened", "Sum", "shortened")
        self.events_redated = self._of_runs("EventsRedated", "Sum", "with the time of delivery") if is_logs else None
        self.entries_found_late = self._of_runs("EntriesFoundLate", "Sum", "found late, by a sweep")
        self.backlog = self._of_runs("Backlog", "Sum", "left to the next run")

        self.delivered_bytes = self._of_runs(
            "DeliveredBytes", "Sum", "bytes archived, uncompressed" if is_archive else "bytes ingested"
        )
        self.run_time = self._of_runs("RunSeconds", "Maximum", "longest run")

        self.kong_latency = self._of_runs("KongLatencySeconds", "Average", "Kong, a page")
        self.delivery_latency = self._of_runs("DeliveryLatencySeconds", "Average", f"{service}, a call")
        self.delivery_calls = self._of_runs("DeliveryCalls", "Sum", "calls answered")
        self.deliveries_throttled = self._of_runs("DeliveriesThrottled", "Sum", f"throttled by {service}")
        self.misconfigurations = self._of_runs("Misconfigurations", "Sum", "misconfigured")
        self.entries_missing, self.entries_doubled, self.entries_extra = (
            self._of_runs(name, "Maximum", label) if reconciles else None
            for name, label in (
                ("EntriesMissing", "missing"),
                ("EntriesDoubled", "doubled"),
                ("EntriesExtra", "extra"),
            )
        )
        self.parts_written = self._of_runs("PartsWritten", "Sum", "parts written") if is_archive else None
        self.parts_damaged = self._of_runs("PartsDamaged", "Maximum", "parts damaged") if is_archive else None

    def hours_left(self, retention: Duration) -> cloudwatch.MathExpression:
        """Return how long it takes until Kong deletes the oldest entry that is not delivered yet."""
        hours = retention.to_hours(integral=False)
        return cloudwatch.MathExpression(
            expression=f"{hours:g} - age / {_HOUR_SECONDS}",
            using_metrics={"age": self.oldest_undelivered_age},
            label=f"hours until Kong deletes it, at a retention of {hours:g} h",
        )

    def by_source(self, metric: cloudwatch.Metric, period: Duration) -> cloudwatch.MathExpression:
        """Return one of the metrics for every source in the account and region, for a graph."""
        search = (
            f'SEARCH(\'{{{NAMESPACE},destination,source,stream}} MetricName="{metric.metric_name}" '
            f'destination="{self.trail.destination}" stream="{self.trail.stream}"\', '
            f"'{metric.statistic}', {period.to_seconds():.0f})"
        )
        return cloudwatch.MathExpression(expression=search, using_metrics={}, label="", period=period)

    def _of_runs(self, name: str, statistic: str, label: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map=dimensions(self.source, self.trail),
            statistic=statistic,
            label=label,
        )


class CollectorMetrics:
    """The metrics of what all trails share: function, dead-letter queue and cache.

    Parameters
    ----------
    function : lambda_.IFunction
        The collector.
    dead_letters : sqs.IQueue or None
        Where its failed invocations end.
    cache : CacheNodes, ServerlessCache or None
        Its cache; None where there is none, or one that ElastiCache does not run.

    Attributes
    ----------
    errors, throttles : cloudwatch.Metric
        Of the function, as Lambda counts them.
    dead_letters : cloudwatch.Metric or None
        Messages in the queue.
    cache_memory_percent_by_node, evictions_by_node : list of cloudwatch.IMetric
        Of each node, labelled as ElastiCache numbers it: either may be the primary one. Of a serverless cache, of the
        whole.
    """

    def __init__(
        self,
        *,
        function: lambda_.IFunction,
        dead_letters: sqs.IQueue | None,
        cache: CacheNodes | ServerlessCache | None,
    ) -> None:
        self.errors = function.metric_errors(label="failed runs")
        self.throttles = function.metric_throttles(label="throttled by Lambda")
        self.dead_letters = (
            None
            if dead_letters is None
            else dead_letters.metric_approximate_number_of_messages_visible(label="dead letters")
        )
        self.cache_memory_percent_by_node: list[cloudwatch.IMetric] = []
        self.evictions_by_node: list[cloudwatch.IMetric] = []
        if isinstance(cache, CacheNodes):
            self.cache_memory_percent_by_node = _by_node(cache, "DatabaseMemoryUsagePercentage", "Maximum")
            self.evictions_by_node = _by_node(cache, "Evictions", "Sum")
        elif cache is not None:
            memory = _serverless_memory(cache)
            self.cache_memory_percent_by_node = [] if memory is None else [memory]
            self.evictions_by_node = [_of_serverless(cache, "Evictions", "Sum", "marks evicted")]


def _in_hours(seconds: cloudwatch.Metric, name: str, label: str) -> cloudwatch.MathExpression:
    """Return a metric in hours. Within one graph, the same name has to stand for the same metric."""
    return cloudwatch.MathExpression(expression=f"{name} / {_HOUR_SECONDS}", using_metrics={name: seconds}, label=label)


def _by_node(cache: CacheNodes, name: str, statistic: str) -> list[cloudwatch.IMetric]:
    return [
        cloudwatch.Metric(
            namespace=_CACHE_NAMESPACE,
            metric_name=name,
            dimensions_map={"CacheClusterId": cluster_id},
            statistic=statistic,
            label=f"node {number:03}",
        )
        for number, cluster_id in enumerate(cache.cluster_ids, 1)
    ]


def _serverless_memory(cache: ServerlessCache) -> cloudwatch.MathExpression | None:
    if cache.limit_bytes is None:
        return None
    return cloudwatch.MathExpression(
        expression=f"100 * used / {cache.limit_bytes}",
        using_metrics={"used": _of_serverless(cache, "BytesUsedForCache", "Maximum", "")},
        label="of the limit",
    )


def _of_serverless(cache: ServerlessCache, name: str, statistic: str, label: str) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=_CACHE_NAMESPACE,
        metric_name=name,
        # Not CacheClusterId, as nodes have: https://github.com/cdklabs/cdk-monitoring-constructs/pull/766
        dimensions_map={"clusterId": cache.name},
        statistic=statistic,
        label=label or None,
    )
