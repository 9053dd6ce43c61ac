"""What a deployment has around its function, looked at with the credentials of whoever asks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from kong_cloudtrail.assembly.examination import log_group_checks
from kong_cloudtrail.domain.finding import Area, Finding
from kong_cloudtrail.domain.moment import utc
from kong_cloudtrail.errors import SettingsError
from kong_cloudtrail.ports import Check

from . import deployed
from .athena import Athena
from .errors import QueryError, QueryUnavailable
from .schedules import next_time

DEPLOYMENT = Area("deployment")
ARCHIVE = Area("archive")

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=2, read_timeout=3)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"})
_DEFAULT_SOURCE = "kong"
_HELPER = "(helper)"
_MOST_SCHEDULES = 1000
_TABLE = "events"
_KINDS_OF_ALARMS = ("MetricAlarms", "CompositeAlarms")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule that invokes the function.

    Parameters
    ----------
    name
        Its name.
    destination
        The destination that it names; ``None`` if it names none.
    enabled
        Whether it is on.
    expression, time_zone
        When it comes.
    next_run_at
        When it comes next, Unix seconds; ``None`` if it does not, or if that is not known.
    """

    name: str
    destination: str | None
    enabled: bool
    expression: str
    time_zone: str
    next_run_at: int | None

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


class Deployment:
    """A deployed function and what belongs to it.

    Parameters
    ----------
    function
        The function's name or ARN.
    stack
        Name of its CloudFormation stack, instead of `function`.

    """

    def __init__(self, *, function: str | None, stack: str | None) -> None:
        self._configuration: Mapping[str, Any] = {}
        self._variables: Mapping[str, str] = {}
        self._problem = ""
        try:
            self._configuration = deployed.configuration(function=function, stack=stack)
        except SettingsError as error:  # whoever may ask the function need not see its configuration
            self._problem = " ".join(error.problems)
            return
        # Empty if it is encrypted by a key that whoever asks may not use.
        self._variables = self._configuration.get("Environment", {}).get("Variables", {})
        # One after the other: that is not safe in several threads.
        self._lambda: Any = boto3.client("lambda", config=_CONFIG)
        self._scheduler: Any = boto3.client("scheduler", config=_CONFIG)
        self._cloudwatch: Any = boto3.client("cloudwatch", config=_CONFIG)

    @property
    def can_be_seen(self) -> bool:
        """Whether there is such a function, and whoever asks may see its configuration."""
        return not self._problem

    @property
    def checks(self) -> Sequence[Check]:
        """What finds out how the deployment is."""
        if self._problem:
            return [_Part(DEPLOYMENT, "function", lambda: iter([DEPLOYMENT.not_checked("function", self._problem)]))]
        return [
            _Part(DEPLOYMENT, "function", self._function),
            _Part(DEPLOYMENT, "schedule", self._schedules),
            _Part(DEPLOYMENT, "alarms", self._alarms),
            *archive_checks(self._variables),
            *log_group_checks(self._variables),
        ]

    def schedules(self) -> list[Schedule]:
        """Return the schedules that invoke the function. Raises boto's errors, and `SettingsError`."""
        if self._problem:
            raise SettingsError([self._problem])
        arn = str(self._configuration["FunctionArn"])
        now = time.time()
        pages = self._scheduler.get_paginator("list_schedules").paginate(PaginationConfig={"MaxItems": _MOST_SCHEDULES})
        named = [
            (each["GroupName"], each["Name"])
            for page in pages
            for each in page["Schedules"]
            if str(each["Target"]["Arn"]).startswith(arn)  # perhaps one of its versions or aliases
        ]
        return [_schedule(self._scheduler.get_schedule(GroupName=group, Name=name), now) for group, name in named]

    def _function(self) -> Iterator[Finding]:
        name, state = self._configuration.get("FunctionName"), self._configuration.get("State", "Active")
        update = self._configuration.get("LastUpdateStatus", "Successful")
        if state != "Active" or update == "Failed":
            reason = self._configuration.get("StateReason") or self._configuration.get("LastUpdateStatusReason") or ""
            yield DEPLOYMENT.failed("function", f"Function {name} is {state}. {reason}".strip(), "Deploy it again.")
            return
        try:
            answer = self._lambda.get_function_concurrency(FunctionName=name)
        except (ClientError, BotoCoreError) as error:
            yield _unseen(DEPLOYMENT, "function", "lambda:GetFunctionConcurrency", error)
            return
        if answer.get("ReservedConcurrentExecutions") == 0:
            yield DEPLOYMENT.failed(
                "function",
                f"Function {name} may not run: its reserved concurrency is 0.",
                f"aws lambda delete-function-concurrency --function-name {name}",
            )
        else:
            yield DEPLOYMENT.ok("function", f"Function {name} is active.")

    def _schedules(self) -> Iterator[Finding]:
        try:
            schedules = self.schedules()
        except (ClientError, BotoCoreError) as error:
            yield _unseen(DEPLOYMENT, "schedule", "scheduler:ListSchedules and scheduler:GetSchedule", error)
            return
        if not schedules:
            yield DEPLOYMENT.warning(
                "schedule", "No schedule invokes the function.", "Deploy one, or see that something else invokes it."
            )
        for schedule in schedules:
            which = f"{schedule.name}, {schedule.expression}"
            if not schedule.enabled:
                yield DEPLOYMENT.failed(
                    "schedule",
                    f"The schedule {which} is off: there are no runs.",
                    "Switch it on: deploy with schedule_enabled=true.",
                )
            else:
                when = "" if schedule.next_run_at is None else f" It comes next at about {utc(schedule.next_run_at)}."
                yield DEPLOYMENT.ok("schedule", f"The schedule {which} is on.{when}")

    def _alarms(self) -> Iterator[Finding]:
        if not self._variables:
            what = "Not checked: the function's variables, which name the alarms, cannot be read."
            yield DEPLOYMENT.not_checked("alarms", what, "You need kms:Decrypt for the key that encrypts them.")
            return
        source = self._variables.get("SOURCE_NAME", "").strip() or _DEFAULT_SOURCE
        try:
            pages = self._cloudwatch.get_paginator("describe_alarms").paginate(
                AlarmNamePrefix=source, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
            )
            alarms = [each for page in pages for kind in _KINDS_OF_ALARMS for each in page.get(kind, [])]
        except (ClientError, BotoCoreError) as error:
            yield _unseen(DEPLOYMENT, "alarms", "cloudwatch:DescribeAlarms", error)
            return
        ours = [
            alarm
            for alarm in alarms
            if alarm["AlarmName"].startswith((f"{source}:", f"{source},")) and _HELPER not in alarm["AlarmName"]
        ]
        if not ours:
            yield DEPLOYMENT.warning(
                "alarms", f"There are no alarms of {source}.", "Deploy them: nobody is told if runs fail."
            )
        ringing = [alarm for alarm in ours if alarm.get("StateValue") == "ALARM"]
        for alarm in ringing:
            since = alarm.get("StateUpdatedTimestamp")
            when = "" if since is None else f" since {utc(int(since.timestamp()))}"
            yield DEPLOYMENT.warning(
                "alarms",
                f'The alarm "{alarm["AlarmName"]}" is in alarm{when}.',
                "Its description names the section of the runbook.",
            )
        if ours and not ringing:
            yield DEPLOYMENT.ok("alarms", f"None of {len(ours)} alarms is in alarm.")


def archive_checks(variables: Mapping[str, str]) -> list[Check]:
    """Return the checks of the table over the archive. There are none without a workgroup in the variables."""
    workgroup = variables.get("ATHENA_WORKGROUP", "").strip()
    database = variables.get("ATHENA_DATABASE", "").strip()
    if not workgroup or not database:
        return []
    glue: Any = boto3.client("glue", config=_CONFIG)
    athena = Athena(workgroup)
    return [
        _Part(ARCHIVE, "table", lambda: _table(glue, database)),
        _Part(ARCHIVE, "query", lambda: _query(athena, workgroup, database)),
    ]


def _table(glue: Any, database: str) -> Iterator[Finding]:
    try:
        glue.get_table(DatabaseName=database, Name=_TABLE)
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and error.response["Error"].get("Code") == "EntityNotFoundException":
            what = f"There is no table {database}.{_TABLE} in Glue."
            yield ARCHIVE.failed("table", what, "Deploy the archive with its queries.")
        else:
            yield _unseen(ARCHIVE, "table", "glue:GetTable", error)
    else:
        yield ARCHIVE.ok("table", f"The table {database}.{_TABLE} is in Glue.")


def _query(athena: Athena, workgroup: str, database: str) -> Iterator[Finding]:
    # One day, so that it reads next to nothing.
    sql = f"SELECT count(*) FROM {_TABLE} WHERE day = '{datetime.now(UTC):%Y-%m-%d}'"  # noqa: S608 - no foreign text
    try:
        rows = list(athena.ask(sql, database=database, most_rows=1).rows)
    except QueryUnavailable as error:
        yield ARCHIVE.failed("query", str(error), "Try again.", may_pass=True)
    except QueryError as error:
        what = str(error)
        if "Access denied" in what:
            yield ARCHIVE.not_checked("query", f"Not checked: {what}")
        else:
            yield ARCHIVE.failed("query", what, "Correct what the message says, or deploy the queries again.")
    else:
        count = rows[0][0] if rows and rows[0] else "0"
        yield ARCHIVE.ok("query", f"Workgroup {workgroup} answers: {count} entries of today.")


@dataclass(frozen=True, slots=True)
class _Part:
    """A check that is a function."""

    of: Area
    name: str
    find: Callable[[], Iterator[Finding]]

    @property
    def area(self) -> str:
        return self.of.name

    def run(self) -> Iterator[Finding]:
        yield from self.find()


def _unseen(area: Area, check: str, permission: str, error: ClientError | BotoCoreError) -> Finding:
    code = error.response["Error"].get("Code", "unknown") if isinstance(error, ClientError) else type(error).__name__
    if code in _DENIED:
        return area.not_checked(check, f"Not checked: you need the permission {permission}.")
    return area.not_checked(check, f"Not checked: AWS did not tell ({code}).")


def _schedule(answer: Mapping[str, Any], now: float) -> Schedule:
    enabled = answer.get("State") == "ENABLED"
    expression, zone = str(answer.get("ScheduleExpression", "")), str(answer.get("ScheduleExpressionTimezone") or "UTC")
    begin = answer.get("StartDate") or answer.get("CreationDate")
    since = now if begin is None else begin.timestamp()
    try:
        destination = json.loads(answer["Target"].get("Input") or "{}").get("destination")
    except (ValueError, AttributeError):
        destination = None
    return Schedule(
        name=str(answer.get("Name", "")),
        destination=destination,
        enabled=enabled,
        expression=expression,
        time_zone=zone,
        next_run_at=next_time(expression, now=now, since=since, time_zone=zone) if enabled else None,
    )
