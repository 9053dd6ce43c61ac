"""Every number that tells how the trail is doing, as CloudWatch metrics to draw, to alarm on, to use elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs

NAMESPACE = "KongCloudTrail"
"""As in the function's ``adapters/telemetry.py``; a test compares the two."""

_CACHE_NAMESPACE = "AWS/ElastiCache"


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


class TrailMetrics:
    """The metrics of one trail. Periods are 5 minutes; ``metric.with_(period=…)`` gives any other.

    Parameters
    ----------
    source : str
        ``SOURCE_NAME`` of the function: the one dimension of its metrics.
    function : lambda_.IFunction
        The collector.
    dead_letters : sqs.IQueue or None
        Where its failed invocations end.
    cache : CacheNodes, ServerlessCache or None
        Its cache; None for one that ElastiCache does not run.

    Attributes
    ----------
    oldest_undelivered_age, checkpoint_lag : cloudwatch.Metric
        How complete the trail is, in seconds, at the end of each run.
    gaps_open : cloudwatch.Metric
        Stretches that Kong could not show and that are still to be read, at the end of each run.
    runs_finished : cloudwatch.Metric
        Runs after which nothing was left to deliver.
    entries_fetched, duplicates_skipped, events_delivered, events_failed, entries_quarantined, events_shortened, backlog
        : cloudwatch.Metric
        What became of the entries that Kong showed.
    entries_found_late : cloudwatch.Metric
        Delivered by a sweep, as they became visible too late for the window.
    entries_new : cloudwatch.MathExpression
        Fetched, and not delivered before.
    delivered_bytes : cloudwatch.Metric
        What CloudTrail Lake bills.
    run_time, kong_latency, cloudtrail_latency : cloudwatch.Metric
        Seconds.
    delivery_calls, deliveries_throttled, misconfigurations : cloudwatch.Metric
        Counts.
    errors, throttles : cloudwatch.Metric
        Of the function, as Lambda counts them.
    dead_letters : cloudwatch.Metric or None
        Messages in the queue.
    cache_memory_percent, evictions : cloudwatch.IMetric or None
        Of the fullest node, and of all nodes together.
    cache_memory_percent_by_node, evictions_by_node : list of cloudwatch.IMetric
        The same of each node; of a serverless cache, of the whole.
    """

    def __init__(
        self,
        *,
        source: str,
        function: lambda_.IFunction,
        dead_letters: sqs.IQueue | None,
        cache: CacheNodes | ServerlessCache | None,
    ) -> None:
        self.source = source
        self.oldest_undelivered_age = self._of_runs(
            "OldestUndeliveredAgeSeconds", "Maximum", "oldest undelivered entry"
        )
        self.checkpoint_lag = self._of_runs("CheckpointLagSeconds", "Maximum", "since all was delivered")
        self.gaps_open = self._of_runs("GapsOpen", "Maximum", "gaps to be read")
        self.runs_finished = self._of_runs("RunsFinished", "Sum", "runs that left nothing undone")

        self.entries_fetched = self._of_runs("EntriesFetched", "Sum", "fetched")
        self.duplicates_skipped = self._of_runs("DuplicatesSkipped", "Sum", "known already")
        self.entries_new = cloudwatch.MathExpression(
            expression="fetched - duplicates",
            using_metrics={"fetched": self.entries_fetched, "duplicates": self.duplicates_skipped},
            label="new",
        )
        self.events_delivered = self._of_runs("EventsDelivered", "Sum", "delivered")
        self.events_failed = self._of_runs("EventsFailed", "Sum", "failed, to be sent again")
        self.entries_quarantined = self._of_runs("EntriesQuarantined", "Sum", "quarantined")
        self.events_shortened = self._of_runs("EventsShortened", "Sum", "shortened")
        self.entries_found_late = self._of_runs("EntriesFoundLate", "Sum", "found late, by a sweep")
        self.backlog = self._of_runs("Backlog", "Sum", "left to the next run")

        self.delivered_bytes = self._of_runs("DeliveredBytes", "Sum", "bytes ingested")
        self.run_time = self._of_runs("RunSeconds", "Maximum", "longest run")

        self.kong_latency = self._of_runs("KongLatencySeconds", "Average", "Kong, a page")
        self.cloudtrail_latency = self._of_runs("CloudTrailLatencySeconds", "Average", "CloudTrail, a call")
        self.delivery_calls = self._of_runs("DeliveryCalls", "Sum", "calls answered")
        self.deliveries_throttled = self._of_runs("DeliveriesThrottled", "Sum", "throttled by CloudTrail")
        self.misconfigurations = self._of_runs("Misconfigurations", "Sum", "misconfigured")
        self.errors = function.metric_errors(label="failed runs")
        self.throttles = function.metric_throttles(label="throttled by Lambda")
        self.dead_letters = (
            None
            if dead_letters is None
            else dead_letters.metric_approximate_number_of_messages_visible(label="dead letters")
        )
        self.cache_memory_percent: cloudwatch.IMetric | None = None
        self.evictions: cloudwatch.IMetric | None = None
        self.cache_memory_percent_by_node: list[cloudwatch.IMetric] = []
        self.evictions_by_node: list[cloudwatch.IMetric] = []
        if isinstance(cache, CacheNodes):
            self.cache_memory_percent_by_node = _by_node(cache, "DatabaseMemoryUsagePercentage", "Maximum")
            self.evictions_by_node = _by_node(cache, "Evictions", "Sum")
            self.cache_memory_percent = _joined(self.cache_memory_percent_by_node, "MAX", "fullest node")
            self.evictions = _joined(self.evictions_by_node, "SUM", "marks evicted")
        elif cache is not None:
            self.cache_memory_percent = _serverless_memory(cache)
            self.evictions = _of_serverless(cache, "Evictions", "Sum", "marks evicted")
            self.cache_memory_percent_by_node = [self.cache_memory_percent] if self.cache_memory_percent else []
            self.evictions_by_node = [self.evictions]

    def by_source(self, metric: cloudwatch.Metric, period: Duration) -> cloudwatch.MathExpression:
        """Return one of the function's metrics for every source in the account and region, for a graph."""
        search = (
            f"SEARCH('{{{NAMESPACE},source}} MetricName=\"{metric.metric_name}\"', "
            f"'{metric.statistic}', {period.to_seconds():.0f})"
        )
        return cloudwatch.MathExpression(expression=search, using_metrics={}, label="", period=period)

    def _of_runs(self, name: str, statistic: str, label: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map={"source": self.source},
            statistic=statistic,
            label=label,
        )


def _by_node(cache: CacheNodes, name: str, statistic: str) -> list[cloudwatch.IMetric]:
    return [
        cloudwatch.Metric(
            namespace=_CACHE_NAMESPACE,
            metric_name=name,
            dimensions_map={"CacheClusterId": cluster_id},
            statistic=statistic,
        )
        for cluster_id in cache.cluster_ids
    ]


def _joined(metrics: Sequence[cloudwatch.IMetric], function: str, label: str) -> cloudwatch.MathExpression:
    """Join a metric of all nodes: after a failover another one is the primary."""
    nodes = {f"node{number}": metric for number, metric in enumerate(metrics, 1)}
    expression = f"{function}([{', '.join(nodes)}])"
    return cloudwatch.MathExpression(expression=expression, using_metrics=nodes, label=label)


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
