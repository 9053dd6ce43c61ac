"""When somebody has to be told, and where they read what to do."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from aws_cdk import Duration, Token
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from ..errors import SettingsError
from ..parts import keys
from ..parts.nag import accept, controls
from ..settings import kinds
from ..settings.cron import Schedule
from ..settings.kinds import Group, Kind
from ..settings.names import TrailName
from .metrics import CollectorMetrics, TrailMetrics

RUNBOOK = "docs/runbook.md"
"""Where the runbook is in the repository: what is said of it where nobody gave its address."""

_HOUR_SECONDS = 3600
_DAY_SECONDS = 86_400
_LONGEST_WATCH_SECONDS = 7 * _DAY_SECONDS
"""Period times number of periods; a day if the period is below an hour.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html"""
_LONGEST_RUN_SECONDS = 900
"""A run may take as long as the function's timeout, whatever the schedule."""
_SUPPRESSED_SECONDS = 300
"""How long the alarm on a failure waits for another one that says more of it."""


def _or_off(kind: Kind) -> Kind:
    return Kind(f"{kind.form}, or None to switch the alarm off", kind.fits, takes_none=True)


def _is_percent(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return is_number and (Token.is_unresolved(value) or 0 < value <= 100)


_COUNT = _or_off(kinds.whole(1, 1_000_000_000))


@dataclass(frozen=True, kw_only=True)
class AlarmOptions(Group):
    """Which alarms there are, and from which value on. None switches an alarm off.

    Attributes
    ----------
    topic : sns.ITopic or None
        Where an alarm is told, and its end. If an imported topic is encrypted with a KMS key, the key's policy must let
        ``cloudwatch.amazonaws.com`` use it; that of a topic of your app is seen to. Default: nowhere; the dashboard
        shows the alarms.
    runbook_url : str or None
        Address of your copy of the runbook, for a link to the alarm's section in its description. Default: the link
        leads to the dashboard, which says for each alarm what to do first.
    missed_runs : int or None
        Runs of the schedule in a row without a successful one; a run that did not take place counts. Not watched while
        the schedule is disabled, nor if it leaves more than a week between two runs, as CloudWatch does not look back
        further. Default: 3.
    lag : Duration or None
        How long ago a run may last have delivered everything that Kong showed. Default: 6 hours.
    gaps_open : int or None
        Stretches that Kong could not show and that are still to be read. Default: 1.
    entries_found_late : int or None
        Entries that a sweep delivered, as they became visible too late for the window. Default: 1.
    quarantine_open : int or None
        Entries that lie in quarantine; the alarm lasts until it is emptied. Not of an archive, which refuses no entry.
        Default: 1.
    misconfigurations : int or None
        Runs stopped by something that somebody has to change. Default: 1.
    entries_missing : int or None
        Entries that a reconciliation found missing; the alarm lasts until one finds none. Only if `run.reconcile` asks
        for reconciliations. Default: 1.
    parts_damaged : int or None
        Parts of an archive that somebody removed or overwrote, as a run noticed. Default: 1.
    failed_runs : int or None
        Runs that ended as a failure. The alarm notifies nobody while that on misconfigurations does. Default: 1.
    cache_memory_percent : float or None
        How full the fullest node of the cache may be, in percent. Default: 75.
    evictions : int or None
        Marks that the cache dropped for want of room. Default: 1.
    """

    topic: sns.ITopic | None = None
    runbook_url: str | None = None
    missed_runs: int | None = 3
    lag: Duration | None = field(default_factory=lambda: Duration.hours(6))
    gaps_open: int | None = 1
    entries_found_late: int | None = 1
    quarantine_open: int | None = 1
    misconfigurations: int | None = 1
    entries_missing: int | None = 1
    parts_damaged: int | None = 1
    failed_runs: int | None = 1
    cache_memory_percent: float | None = 75
    evictions: int | None = 1

    place: ClassVar[str] = "alarms"
    kinds: ClassVar[Mapping[str, Kind]] = {
        "topic": kinds.TOPIC,
        "runbook_url": kinds.matching("the address of a page, e.g. https://wiki.example.com/kong", r"https?://[^\s#]+"),
        "missed_runs": _COUNT,
        "lag": _or_off(kinds.of("a Duration, e.g. Duration.hours(6)", Duration)),
        "gaps_open": _COUNT,
        "entries_found_late": _COUNT,
        "quarantine_open": _COUNT,
        "misconfigurations": _COUNT,
        "entries_missing": _COUNT,
        "parts_damaged": _COUNT,
        "failed_runs": _COUNT,
        "cache_memory_percent": _or_off(Kind("a number above 0, at most 100", _is_percent)),
        "evictions": _COUNT,
    }

    def value_problems(self) -> Iterator[str]:
        """Say what cannot be known too late."""
        if Token.is_unresolved(self.missed_runs):
            yield "alarms.missed_runs: is not known before the deployment, and how far to look back follows from it"

    def notes(self, schedule: Schedule) -> Iterator[str]:
        """Remark what cannot be watched."""
        if self.missed_runs is not None and _silence(schedule) is None:
            yield (
                "alarms.missed_runs: cannot be watched, as this schedule leaves up to "
                f"{math.ceil(schedule.longest_seconds / _DAY_SECONDS)} days between two runs, and CloudWatch looks "
                "back 7 at most. A run that fails is still told, one that never takes place is not. Run it daily, or "
                "set missed_runs to None to say that you know."
            )


@dataclass(frozen=True, kw_only=True)
class About:
    """What an alarm is about.

    Attributes
    ----------
    heading : str
        The section of the runbook.
    sentence : str
        What it means.
    first : str
        What to do first.
    """

    heading: str
    sentence: str
    first: str


ABOUT: Mapping[str, About] = {
    "missed_runs": About(
        heading="No successful run",
        sentence="For too long, no run of the collector has left the trail complete.",
        first="Read the newest error of the log. If there is no line at all, the schedule is disabled, or the "
        "function's reserved concurrency is 0.",
    ),
    "lag": About(
        heading="The trail lags behind",
        sentence="Runs take place, but for too long none of them has delivered everything that Kong showed.",
        first="If the age of the oldest entry falls, wait: a backlog is worked through. If it rises, look below for "
        "failed, throttled or slow calls.",
    ),
    "gaps_open": About(
        heading="Gaps in the trail",
        sentence="Kong could not show some entries. Runs passed them, and each sweep reads them again.",
        first="Look into Kong's own log at the time of the run: it names the error.",
    ),
    "entries_found_late": About(
        heading="Entries found late",
        sentence="A sweep delivered entries that the runs before it could not see.",
        first="Nothing is missing any more. Look in the log for `CLOCK_JUMPED` and `MIXED_CONTROL_PLANE` before it.",
    ),
    "quarantine_open": About(
        heading="Entries in quarantine",
        sentence="Entries that the destination does not take lie in the ledger, whole, until somebody sees to them.",
        first="Read the reason in the log, and put it right. Then release the entries, or account for them.",
    ),
    "misconfigurations": About(
        heading="Misconfiguration",
        sentence="A setting, a secret or a permission is wrong; no run will succeed until somebody changes it.",
        first="The newest error of the log says what is wrong, and what to write instead.",
    ),
    "entries_missing": About(
        heading="Entries missing",
        sentence="A reconciliation found entries that Kong shows and the destination does not hold.",
        first="Let `reconcile --repair` deliver them while Kong still has them. The ledger keeps the ids.",
    ),
    "parts_damaged": About(
        heading="Damaged parts",
        sentence="Somebody removed or overwrote objects of the archive.",
        first="The log names each. Find out who did it. As long as the first version is there, nothing is lost.",
    ),
    "failed_runs": About(
        heading="A run failed",
        sentence="A run of the collector ended as a failure. The next run catches up if the cause has passed.",
        first="Once, and with no other alarm: nothing. Otherwise read the newest error of the log.",
    ),
    "cache_memory_percent": About(
        heading="The cache fills up",
        sentence="A full cache takes no marks, and without marks nothing is delivered.",
        first="Deploy a larger type of node, or a higher limit, before it is full.",
    ),
    "evictions": About(
        heading="The cache evicts marks",
        sentence="The cache forgets which entries were delivered; they may be delivered a second time.",
        first="Deploy a larger type of node, or a higher limit.",
    ),
}
"""What each option's alarm is about."""


@dataclass(frozen=True, kw_only=True)
class Guide:
    """Where somebody reads what to do.

    Attributes
    ----------
    source : str
        The gateway.
    trail : TrailName or None
        Of which trail; None for what all trails share.
    runbook_url : str or None
        The runbook.
    dashboard_url : str or None
        The trail's dashboard; None where there is none.
    """

    source: str
    runbook_url: str | None
    dashboard_url: str | None
    trail: TrailName | None = None

    def description(self, about: About) -> str:
        """Return the description of an alarm, at its end a link that can be clicked."""
        anchor = about.heading.lower().replace(" ", "-")
        trail = ""
        if self.trail is not None:
            trail = f" Stream: {self.trail.stream}. Destination: {self.trail.destination}."
        what = f"{about.heading}. {about.sentence} {about.first} Source: {self.source}.{trail}"
        if self.runbook_url is not None:
            return f"{what} Runbook: {self.runbook_url}#{anchor}"
        runbook = f"{what} Runbook: {RUNBOOK}#{anchor}"
        return runbook if self.dashboard_url is None else f"{runbook} Dashboard: {self.dashboard_url}"


@dataclass(frozen=True, kw_only=True)
class _Rule:
    name: str
    option: str
    title: str
    metric: cloudwatch.IMetric
    threshold: float | None
    missing: cloudwatch.TreatMissingData
    comparison: cloudwatch.ComparisonOperator = cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
    periods: int = 1


def create_alarms(
    scope: Construct,
    trails: Sequence[TrailMetrics],
    collector: CollectorMetrics,
    options: AlarmOptions,
    guide: Guide,
    *,
    schedule: Schedule | None,
    watched_elsewhere: Collection[str] = (),
) -> Mapping[str, cloudwatch.AlarmBase]:
    """Create the alarms that are switched on and have something to watch.

    Parameters
    ----------
    scope : Construct
        Their parent.
    trails : sequence of TrailMetrics
        What they watch of each trail.
    collector : CollectorMetrics
        What they watch of function and cache, which the trails share.
    options : AlarmOptions
        Switches and thresholds.
    guide : Guide
        What their descriptions refer to.
    schedule : Schedule or None
        When runs take place; None if they do not, or not by themselves.
    watched_elsewhere : collection of str
        Options whose alarms another gateway has, as on a cache that two of them share.

    Returns
    -------
    Mapping
        The alarms by the names of their options; those of a trail with its name before, those of the cache with the
        number of the node behind.

    Raises
    ------
    SettingsError
        If an option is not possible; with all such options, before an alarm is created.
    """
    if problems := list(options.problems()):
        raise SettingsError(problems)
    if options.topic is not None and options.topic.master_key is not None:
        # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
        actions_on_key = ["kms:Decrypt", "kms:GenerateDataKey*"]
        key = keys.resolved(options.topic.master_key)
        keys.allow_service(scope, "alarms.topic", key, "cloudwatch.amazonaws.com", actions_on_key)
    alarms: dict[str, cloudwatch.AlarmBase] = {}
    never = None if schedule is None else _never(scope, options, schedule, guide)
    for metrics in trails:
        of_trail = _alarms_of_trail(
            Construct(scope, metrics.trail.joined("-")),
            metrics,
            options,
            replace(guide, trail=metrics.trail),
            schedule=schedule,
            never=never,
        )
        alarms.update({f"{metrics.trail}.{name}": alarm for name, alarm in of_trail.items()})
    misconfigured = [alarm for name, alarm in alarms.items() if name.endswith(".misconfigurations")]
    for rule in _rules_of_the_collector(collector, options):
        if rule.threshold is None or rule.option in watched_elsewhere:
            continue
        if rule.name == "failed_runs" and misconfigured:
            alarm: cloudwatch.AlarmBase = _unless(scope, misconfigured, rule, guide)
        else:
            alarm = _alarm(scope, rule, guide)
        alarms[rule.name] = _told(alarm, options)
    return alarms


def _alarms_of_trail(
    scope: Construct,
    metrics: TrailMetrics,
    options: AlarmOptions,
    guide: Guide,
    *,
    schedule: Schedule | None,
    never: cloudwatch.CompositeAlarm | None,
) -> Mapping[str, cloudwatch.AlarmBase]:
    """Create the alarms of one trail."""
    alarms: dict[str, cloudwatch.AlarmBase] = {}
    if schedule is not None and never is not None:
        alarms["missed_runs"] = _told(_missed_runs(scope, metrics, options, schedule, guide, never), options)
    for rule in _rules_of_trail(metrics, options):
        if rule.threshold is not None:
            alarms[rule.name] = _told(_alarm(scope, rule, guide), options)
    return alarms


def _alarm(scope: Construct, rule: _Rule, guide: Guide, *, helps: str = "") -> cloudwatch.Alarm:
    """Create an alarm on a metric; one that only helps another says so, and nothing else."""
    assert rule.threshold is not None  # noqa: S101 - whoever calls has seen to that
    return cloudwatch.Alarm(
        scope,
        "".join(part.capitalize() for part in rule.name.split("_")),
        alarm_name=_name(guide, rule.title),
        metric=_plain(rule.metric),
        threshold=rule.threshold,
        comparison_operator=rule.comparison,
        evaluation_periods=rule.periods,
        datapoints_to_alarm=rule.periods,
        treat_missing_data=rule.missing,
        alarm_description=helps or guide.description(ABOUT[rule.option]),
    )


def _unless(
    scope: Construct, others: Sequence[cloudwatch.AlarmBase], rule: _Rule, guide: Guide
) -> cloudwatch.CompositeAlarm:
    """Create an alarm that notifies nobody while one of others does, which tells more of the same failure."""
    helps = f"Helps the alarm '{_name(guide, rule.title)}', and notifies nobody itself."
    watch = _alarm(scope, replace(rule, name=f"{rule.name}_alone", title=f"{rule.title} (helper)"), guide, helps=helps)
    accept(watch, controls("CloudWatchAlarmAction"), "The alarm made of this one notifies, unless another one does.")
    return cloudwatch.CompositeAlarm(
        scope,
        "".join(part.capitalize() for part in rule.name.split("_")),
        composite_alarm_name=_name(guide, rule.title),
        alarm_rule=cloudwatch.AlarmRule.from_alarm(watch, cloudwatch.AlarmState.ALARM),
        actions_suppressor=_any_of(scope, others, guide, helps=helps),
        # Both metrics come with the end of a run, one by way of the log. After it, both alarms end with one good run.
        actions_suppressor_wait_period=Duration.seconds(_SUPPRESSED_SECONDS),
        actions_suppressor_extension_period=Duration.seconds(_SUPPRESSED_SECONDS),
        alarm_description=guide.description(ABOUT[rule.option]),
    )


def _any_of(
    scope: Construct, alarms: Sequence[cloudwatch.AlarmBase], guide: Guide, *, helps: str
) -> cloudwatch.AlarmBase:
    """Return an alarm that is in alarm if one of several is: an alarm waits for a single other one."""
    if len(alarms) == 1:
        return alarms[0]
    one_of_them = cloudwatch.CompositeAlarm(
        scope,
        "Misconfigured",
        composite_alarm_name=_name(guide, "a trail is misconfigured (helper)"),
        alarm_rule=cloudwatch.AlarmRule.any_of(
            *(cloudwatch.AlarmRule.from_alarm(alarm, cloudwatch.AlarmState.ALARM) for alarm in alarms)
        ),
        alarm_description=helps,
    )
    accept(one_of_them, controls("CloudWatchAlarmAction"), "Each of the alarms that it is made of notifies by itself.")
    return one_of_them


def _name(guide: Guide, title: str) -> str:
    trail = "" if guide.trail is None else f", {guide.trail.joined(', ')}"
    return f"{guide.source}{trail}: {title}"


def _longer_than(limit: Duration | None) -> str:
    """Write a span of time as people do."""
    if limit is None or limit.is_unresolved():
        return "too long"
    seconds = limit.to_seconds(integral=False)
    return (
        f"longer than {seconds / _HOUR_SECONDS:g} h"
        if seconds >= _HOUR_SECONDS
        else f"longer than {seconds / 60:g} min"
    )


def _above(percent: float | None) -> str:
    return "nearly full" if percent is None or Token.is_unresolved(percent) else f"more than {percent:g} % full"


def _told(alarm: cloudwatch.AlarmBase, options: AlarmOptions) -> cloudwatch.AlarmBase:
    """Let an alarm tell its topic; return it."""
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
    return alarm


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


def _rules_of_trail(metrics: TrailMetrics, options: AlarmOptions) -> list[_Rule]:
    """Return the rules in the order of their weight."""
    # A run tells its numbers once, at its end. Until the next one there is no news, and the state stays.
    until_next_run = cloudwatch.TreatMissingData.IGNORE
    lag_seconds = None if options.lag is None else options.lag.to_seconds()
    rules = [
        _Rule(
            name="lag",
            option="lag",
            title=f"entries waiting {_longer_than(options.lag)}",
            metric=metrics.checkpoint_lag,
            threshold=lag_seconds,
            comparison=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            missing=until_next_run,
        )
    ]
    rules += [
        _Rule(
            name=option,
            option=option,
            title=title,
            metric=metric,
            threshold=getattr(options, option),
            missing=until_next_run,
        )
        for option, title, metric in (
            ("gaps_open", "entries that Kong cannot show", metrics.gaps_open),
            ("entries_found_late", "entries found late", metrics.entries_found_late),
            ("quarantine_open", "entries in quarantine", metrics.quarantine_open),
            ("misconfigurations", "misconfigured, no run will succeed", metrics.misconfigurations),
            ("entries_missing", "entries missing", metrics.entries_missing),
            ("parts_damaged", "parts removed or overwritten", metrics.parts_damaged),
        )
        if metric is not None
    ]
    return rules


def _rules_of_the_collector(metrics: CollectorMetrics, options: AlarmOptions) -> list[_Rule]:
    """Return rules for what all trails share."""
    failed = _Rule(
        name="failed_runs",
        option="failed_runs",
        title="a run failed",
        metric=metrics.errors,
        threshold=options.failed_runs,
        missing=cloudwatch.TreatMissingData.IGNORE,
    )
    return [failed, *_rules_of_the_cache(metrics, options)]


def _rules_of_the_cache(metrics: CollectorMetrics, options: AlarmOptions) -> list[_Rule]:
    """Return rules for each node by itself: an alarm on an expression over nodes cannot say which one it is."""
    # These are told by the minute, and cease only where there is nothing to tell.
    idle_is_well = cloudwatch.TreatMissingData.NOT_BREACHING

    def node(number: int) -> str:
        return "cache" if len(metrics.evictions_by_node) == 1 else f"cache node {number:03}"

    memory = [
        _Rule(
            name=f"cache_memory_percent_{number}",
            option="cache_memory_percent",
            title=f"{node(number)} {_above(options.cache_memory_percent)}",
            metric=metric,
            threshold=options.cache_memory_percent,
            periods=3,  # while a replica synchronises, memory rises and falls again
            missing=idle_is_well,
        )
        for number, metric in enumerate(metrics.cache_memory_percent_by_node, 1)
    ]
    return memory + [
        _Rule(
            name=f"evictions_{number}",
            option="evictions",
            title=f"{node(number)} evicts marks",
            metric=metric,
            threshold=options.evictions,
            missing=idle_is_well,
        )
        for number, metric in enumerate(metrics.evictions_by_node, 1)
    ]


def _never(
    scope: Construct, options: AlarmOptions, schedule: Schedule, guide: Guide
) -> cloudwatch.CompositeAlarm | None:
    """Create what alarms on missed runs wait for; None if there are none, or CloudWatch cannot watch so long."""
    if options.missed_runs is None or _silence(schedule) is None:
        return None
    never = cloudwatch.CompositeAlarm(
        scope,
        "Never",
        composite_alarm_name=_name(guide, "no successful run (helper that is never in alarm)"),
        alarm_rule=cloudwatch.AlarmRule.from_boolean(False),
        alarm_description="Never in alarm. CloudWatch lets an alarm wait only for another one, and this is that one.",
    )
    accept(never, controls("CloudWatchAlarmAction"), "It is never in alarm, so there is nothing to tell.")
    return never


def _missed_runs(
    scope: Construct,
    metrics: TrailMetrics,
    options: AlarmOptions,
    schedule: Schedule,
    guide: Guide,
    never: cloudwatch.CompositeAlarm,
) -> cloudwatch.CompositeAlarm:
    """Create the alarm on runs without success.

    An alarm that takes missing data for a breach is in alarm from its creation on, as there is no data of before. So
    one alarm watches, and tells nobody; the other waits before it tells, after a deployment as at any other time.
    """
    silence = _silence(schedule)
    assert options.missed_runs is not None and silence is not None  # noqa: S101 - there would be nothing to wait for
    period_seconds, periods = silence
    title = f"no successful run, {options.missed_runs} missed"
    watch = cloudwatch.Alarm(
        scope,
        "Silence",
        alarm_name=_name(guide, f"{title} (helper)"),
        metric=_plain(metrics.runs_finished.with_(period=Duration.seconds(period_seconds))),
        threshold=1,
        comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
        evaluation_periods=periods,
        datapoints_to_alarm=periods,
        treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
        alarm_description=(
            "No run has succeeded for longer than the schedule leaves between two. After a deployment this is so until "
            f"the first success. The alarm '{_name(guide, title)}' waits, and notifies."
        ),
    )
    accept(
        watch,
        controls("CloudWatchAlarmAction"),
        "The alarm made of this one waits until more runs are missed, and tells. This one would tell too soon.",
    )
    return cloudwatch.CompositeAlarm(
        scope,
        "MissedRuns",
        composite_alarm_name=_name(guide, title),
        alarm_rule=cloudwatch.AlarmRule.from_alarm(watch, cloudwatch.AlarmState.ALARM),
        actions_suppressor=never,
        actions_suppressor_wait_period=Duration.seconds(_wait_seconds(schedule, options.missed_runs)),
        actions_suppressor_extension_period=Duration.seconds(0),
        alarm_description=guide.description(ABOUT["missed_runs"]),
    )


def _silence(schedule: Schedule) -> tuple[int, int] | None:
    """Return a period in seconds, and how many of them no healthy schedule stays silent; None if that is too long."""
    longest_seconds = max(schedule.longest_seconds, _LONGEST_RUN_SECONDS) + _LONGEST_RUN_SECONDS
    for period_seconds, most_seconds in ((_LONGEST_RUN_SECONDS, _DAY_SECONDS), (_HOUR_SECONDS, _LONGEST_WATCH_SECONDS)):
        # Runs lie anywhere within a period, so one period more than they are apart can be without any.
        periods = math.ceil(longest_seconds / period_seconds) + 1
        if periods * period_seconds <= most_seconds:
            return period_seconds, periods
    return None


def _wait_seconds(schedule: Schedule, runs: int) -> int:
    """Return how long further runs take after the first one that was missed."""
    further = schedule.longest_span_seconds(runs) - schedule.longest_seconds
    return max(further, (runs - 1) * _LONGEST_RUN_SECONDS)
