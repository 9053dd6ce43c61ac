"""When somebody has to be told, and where they read what to do."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aws_cdk import Duration, Token
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from .errors import SettingsError
from .reviewed import accept, controls
from .trail_metrics import TrailMetrics

RUNBOOK = "docs/runbook.md"

_HOUR_SECONDS = 3600
_DAY_SECONDS = 86_400
_LONGEST_EVALUATION_SECONDS = 7 * _DAY_SECONDS
"""Period times number of periods; a day if the period is below an hour.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html"""
_SHORTEST_RUN_PERIOD_SECONDS = 900
"""A run may take as long as the function's timeout, whatever the schedule."""


@dataclass(frozen=True, kw_only=True)
class AlarmOptions:
    """Which alarms there are, and from which value on. None switches an alarm off.

    Attributes
    ----------
    topic : sns.ITopic or None
        Where an alarm is told, and its end. If the topic is encrypted with a KMS key, the key's policy must let
        ``cloudwatch.amazonaws.com`` use it. Default: nowhere; the dashboard shows the alarms.
    runbook : str
        Where the runbook is, as written into the alarms' descriptions. Default: its path in the repository.
    missed_runs : int or None
        Periods of the schedule without one successful run; no data counts as none. A period counts as 15 minutes at
        least, as long as a run may take, and as a day where a cron schedule does not run every day. Default: 3.
    lag : Duration or None
        How far the checkpoint may be behind Kong's clock after a run. Default: 6 hours.
    quarantined_entries : int or None
        Entries put into quarantine. Default: 1.
    misconfigurations : int or None
        Runs stopped by something that somebody has to change. Default: 1.
    failed_runs : int or None
        Runs that ended as a failure. Default: 1.
    dead_letters : int or None
        Messages in the dead-letter queue. Default: 1.
    cache_memory_percent : float or None
        How full the fullest node of the cache may be, in percent. Default: 75.
    evictions : int or None
        Marks that the cache dropped for want of room. Default: 1.
    """

    topic: sns.ITopic | None = None
    runbook: str = RUNBOOK
    missed_runs: int | None = 3
    lag: Duration | None = field(default_factory=lambda: Duration.hours(6))
    quarantined_entries: int | None = 1
    misconfigurations: int | None = 1
    failed_runs: int | None = 1
    dead_letters: int | None = 1
    cache_memory_percent: float | None = 75
    evictions: int | None = 1

    def problems(self, schedule_period: Duration | None) -> Iterator[str]:
        """Say what is wrong, given the time between two runs; None if the schedule does not tell."""
        counts = ("missed_runs", "quarantined_entries", "misconfigurations", "failed_runs", "dead_letters", "evictions")
        impossible = {name for name in counts if not _is_count(getattr(self, name))}
        for name in counts:
            if name in impossible:
                yield f"alarms.{name}: must be a whole number from 1, or None to switch the alarm off"
        percent = self.cache_memory_percent
        if percent is not None and not Token.is_unresolved(percent) and not 0 < percent <= 100:
            yield "alarms.cache_memory_percent: must be a number above 0, at most 100, or None"
        if self.topic is not None and not hasattr(self.topic, "topic_arn"):
            yield "alarms.topic: must be a topic, e.g. sns.Topic.from_topic_arn(…)"
        if self.lag is not None and not isinstance(self.lag, Duration):
            yield "alarms.lag: must be a Duration, e.g. Duration.hours(6), or None to switch the alarm off"
        if self.missed_runs is None or "missed_runs" in impossible:
            return
        if Token.is_unresolved(self.missed_runs):
            yield "alarms.missed_runs: is not known before the deployment, and how far to look back follows from it"
            return
        period_seconds, periods = _look_back(self.missed_runs, schedule_period)
        longest_seconds = _LONGEST_EVALUATION_SECONDS if period_seconds >= _HOUR_SECONDS else _DAY_SECONDS
        if periods * period_seconds > longest_seconds:
            yield (
                f"alarms.missed_runs: with this schedule they span {periods * period_seconds} s, and CloudWatch looks "
                f"back {longest_seconds} s at most; give a smaller number, or None to switch the alarm off"
            )


def _is_count(value: int | None) -> bool:
    return value is None or Token.is_unresolved(value) or (type(value) is int and value >= 1)


@dataclass(frozen=True, kw_only=True)
class _Rule:
    name: str
    heading: str
    sentence: str
    metric: cloudwatch.IMetric | None
    threshold: float | None
    missing: cloudwatch.TreatMissingData
    comparison: cloudwatch.ComparisonOperator = cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
    periods: int = 1


def create_alarms(
    scope: Construct, metrics: TrailMetrics, options: AlarmOptions, *, schedule_period: Duration | None
) -> Mapping[str, cloudwatch.Alarm]:
    """Create the alarms that are switched on and have something to watch.

    Parameters
    ----------
    scope : Construct
        Their parent.
    metrics : TrailMetrics
        What they watch.
    options : AlarmOptions
        Switches and thresholds.
    schedule_period : Duration or None
        Time between two runs; None if the schedule does not tell.

    Returns
    -------
    Mapping
        The alarms by the names of their options; those of the cache with the number of the node behind it.

    Raises
    ------
    SettingsError
        If an option is not possible; with all such options, before an alarm is created.
    """
    if problems := list(options.problems(schedule_period)):
        raise SettingsError(problems)
    alarms = {}
    for rule in _rules(metrics, options, schedule_period):
        if rule.metric is None or rule.threshold is None:
            continue
        anchor = rule.heading.lower().replace(" ", "-")
        alarm = cloudwatch.Alarm(
            scope,
            "".join(part.capitalize() for part in rule.name.split("_")),
            metric=_plain(rule.metric),
            threshold=rule.threshold,
            comparison_operator=rule.comparison,
            evaluation_periods=rule.periods,
            datapoints_to_alarm=rule.periods,
            treat_missing_data=rule.missing,
            alarm_description=(
                f"{rule.heading}. {rule.sentence} Source: {metrics.source}. Runbook: {options.runbook}#{anchor}"
            ),
        )
        if options.topic is not None:
            action = actions.SnsAction(options.topic)
            alarm.add_alarm_action(action)
            alarm.add_ok_action(action)
        else:
            accept(
                alarm,
                controls("CloudWatchAlarmAction"),
                "Whom to tell is for the owner of the account to say, with a topic. Without one the alarm shows on the "
                "dashboard, and in the account's own overview.",
            )
        alarms[rule.name] = alarm
    return alarms


def _plain(metric: cloudwatch.IMetric) -> cloudwatch.IMetric:
    """Leave a metric's label away, for which CDK would write a list of metrics instead of the metric's name."""
    if not isinstance(metric, cloudwatch.Metric):
        return metric
    return cloudwatch.Metric(
        namespace=metric.namespace,
        metric_name=metric.metric_name,
        dimensions_map=metric.dimensions,
        statistic=metric.statistic,
        period=metric.period,
    )


def _rules(metrics: TrailMetrics, options: AlarmOptions, schedule_period: Duration | None) -> list[_Rule]:
    """Return the rules in the order of their weight."""
    # A run tells its numbers once, at its end. Until the next one there is no news, and the state stays.
    until_next_run = cloudwatch.TreatMissingData.IGNORE
    # These are told by the minute, and cease only where there is nothing to tell: SQS is silent about an idle queue.
    idle_is_well = cloudwatch.TreatMissingData.NOT_BREACHING
    return (
        [
            _missed_runs(metrics, options.missed_runs, schedule_period),
            _Rule(
                name="lag",
                heading="The trail lags behind",
                sentence="Runs take place, but the checkpoint stays too far behind Kong's clock.",
                metric=metrics.checkpoint_lag,
                threshold=None if options.lag is None else options.lag.to_seconds(),
                comparison=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
                missing=until_next_run,
            ),
            _Rule(
                name="quarantined_entries",
                heading="Entries in quarantine",
                sentence="Entries that CloudTrail does not take were put aside, whole, in the ledger.",
                metric=metrics.entries_quarantined,
                threshold=options.quarantined_entries,
                missing=until_next_run,
            ),
            _Rule(
                name="misconfigurations",
                heading="Misconfiguration",
                sentence="A setting, a secret or a permission is wrong; no run will succeed until somebody changes it.",
                metric=metrics.misconfigurations,
                threshold=options.misconfigurations,
                missing=until_next_run,
            ),
            _Rule(
                name="failed_runs",
                heading="A run failed",
                sentence="A run of the collector ended as a failure. The next run catches up if the cause has passed.",
                metric=metrics.errors,
                threshold=options.failed_runs,
                missing=until_next_run,
            ),
            _Rule(
                name="dead_letters",
                heading="Dead letters",
                sentence="Invocations that failed, or never took place, lie in the dead-letter queue.",
                metric=metrics.dead_letters,
                threshold=options.dead_letters,
                missing=idle_is_well,
            ),
        ]
        + [
            # Of each node by itself: an alarm on an expression over nodes cannot say which one it is.
            _Rule(
                name=f"cache_memory_percent_{number}",
                heading="The cache fills up",
                sentence="A full cache takes no marks, and without marks nothing is delivered.",
                metric=metric,
                threshold=options.cache_memory_percent,
                periods=3,  # while a replica synchronises, memory rises and falls again
                missing=idle_is_well,
            )
            for number, metric in enumerate(metrics.cache_memory_percent_by_node, 1)
        ]
        + [
            _Rule(
                name=f"evictions_{number}",
                heading="The cache evicts marks",
                sentence="The cache forgets which entries were delivered; they may be delivered a second time.",
                metric=metric,
                threshold=options.evictions,
                missing=idle_is_well,
            )
            for number, metric in enumerate(metrics.evictions_by_node, 1)
        ]
    )


def _missed_runs(metrics: TrailMetrics, runs: int | None, schedule_period: Duration | None) -> _Rule:
    period_seconds, periods = (_DAY_SECONDS, 1) if runs is None else _look_back(runs, schedule_period)
    return _Rule(
        name="missed_runs",
        heading="No successful run",
        sentence="For too long, no run of the collector has left the trail complete.",
        metric=metrics.runs_finished.with_(period=Duration.seconds(period_seconds)),
        threshold=None if runs is None else 1,
        comparison=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
        periods=periods,
        missing=cloudwatch.TreatMissingData.BREACHING,
    )


def _look_back(runs: int, schedule_period: Duration | None) -> tuple[int, int]:
    """Return a period in seconds, and how many of them cover a number of runs."""
    # Of schedules that only a calendar describes, most have a run each day.
    run_seconds = _DAY_SECONDS if schedule_period is None else int(schedule_period.to_seconds())
    run_seconds = max(run_seconds, _SHORTEST_RUN_PERIOD_SECONDS)
    period_seconds = min(run_seconds, _DAY_SECONDS)
    return period_seconds, math.ceil(runs * run_seconds / period_seconds)
