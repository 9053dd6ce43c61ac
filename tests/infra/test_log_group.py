"""The log group that events go to, in the app's context and in the construct."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Duration, Environment, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from kong_cloudtrail.destinations.cloudwatch_logs.event import EventMapper, OcsfEventMapper
from kong_cloudtrail.sources.kong.entries import OBJECT, read_entry

from stacks import Archive, CloudWatchLogs, DeploymentSettings, NetworkOptions, SettingsError
from stacks.parts.log_queries import FIELDS, PATTERNS, QUERIES
from tests.helpers import ACCOUNT_ID, GATEWAY, change, entry, locate_original
from tests.infra.synthesis import CONTEXT, Shaped, foreign_stack, integrate, synthesise, template_of

ALONE = {name: value for name, value in CONTEXT.items() if name != "channel_arn"} | {"aws_region": "eu-central-1"}
LOGS = {"channel_arn": None, "destination": "cloudwatch-logs", "aws_region": "eu-central-1"}


def problems(context: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        DeploymentSettings.from_context(context)
    return list(caught.value.problems)


def test_the_group_is_protected_indexed_tagged_and_kept(shaped: Shaped) -> None:
    (group,) = (
        one
        for one in shaped("CloudWatch Logs").of_type("AWS::Logs::LogGroup")
        if "FieldIndexPolicies" in one["Properties"]
    )
    properties = group["Properties"]
    assert properties["RetentionInDays"] == 365
    assert properties["DeletionProtectionEnabled"] is True
    assert {tag["Key"]: tag["Value"] for tag in properties["Tags"]} == {
        "cw:datasource:name": "kong_gateway",
        "cw:datasource:type": "api_activity",
    }
    assert "UID" in properties["FieldIndexPolicies"][0]["Fields"]
    assert (group["DeletionPolicy"], group["UpdateReplacePolicy"]) == ("Retain", "Retain")


@pytest.mark.parametrize("form", ["json", "ocsf"])
@pytest.mark.parametrize("size", [10, 4000, 2_000_000])
def test_nothing_is_hidden_from_queries_by_its_size(form: str, size: int) -> None:
    """An event of many fields, of which Insights finds 200, and one that is shortened."""
    body = {f"field-{number:06d}": "x" * 10 for number in range(size // 20)}
    mappers: dict[str, type[EventMapper | OcsfEventMapper]] = {"json": EventMapper, "ocsf": OcsfEventMapper}
    of_requests, of_objects = (
        mappers[form](GATEWAY, "kong", stream, ACCOUNT_ID, locate_original) for stream in ("requests", "objects")
    )
    call = of_requests.map(read_entry(entry(payload=json.dumps(body))))
    change_of_object = of_objects.map(read_entry(change(entity=json.dumps(body)), OBJECT))
    assert (call.original is not None) is (change_of_object.original is not None) is (size > 1_000_000)
    for event, wanted in ((call, "is_call"), (change_of_object, "is_change_of_object")):
        found = list(_fields_of(json.loads(event.data)))[:200]
        for name in ("is_call", "is_change_of_object"):
            condition = FIELDS[form][name]
            is_met = (re.findall(r"\((.+)\)", condition)[0] in found) is not condition.startswith("not ")
            assert is_met is (name == wanted)
        for name in ("uid", "principal", "call" if event is call else "dao_name"):
            assert FIELDS[form][name] in found


def _fields_of(value: Any, path: str = "") -> Iterator[str]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list):
        yield path[1:]
    for name, child in children:
        yield from _fields_of(child, f"{path}.{name}")


@pytest.mark.parametrize("form", ["json", "ocsf"])
@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_every_query_goes_by_the_id_of_an_event(query: Any, form: str) -> None:
    text = query.text(form)
    uid = {"json": "UID", "ocsf": "metadata.uid"}[form]
    assert f"dedup {uid}" in text or f"count_distinct({uid})" in text
    commands = [line.split()[0] for line in text.replace("\n| ", "\n").splitlines()]
    if "dedup" in commands:
        assert commands[commands.index("dedup") + 1 :] == ["limit"]  # nothing else may follow
    assert "@timestamp" not in text  # which is the time of delivery for what was too old


def test_every_pattern_is_of_balanced_brackets() -> None:
    for patterns in PATTERNS.values():
        assert patterns.keys() == {"json", "ocsf"}
        for pattern in patterns.values():
            assert pattern.count("(") == pattern.count(")")
            assert len(pattern) <= 1024


def test_context_says_everything(tmp_path: Path) -> None:
    synthesis = synthesise(
        tmp_path,
        **LOGS,
        log_group_name="/kong/audit",
        log_group_retention_days="3653",
        log_group_deletion_protection="false",
        log_group_format="ocsf",
        log_group_queries="false",
        log_group_alarms="true",
        log_group_refused_calls="3",
        log_group_working_hours="8-18",
        log_group_dashboard="true",
        log_group_s3_tables="true",
    )
    (group,) = (one for one in synthesis.of_type("AWS::Logs::LogGroup") if "LogGroupName" in one["Properties"])
    assert group["Properties"]["RetentionInDays"] == 3653
    assert "DeletionProtectionEnabled" not in group["Properties"]
    assert group["DeletionPolicy"] == "RetainExceptOnCreate"
    assert synthesis.of_type("AWS::Logs::QueryDefinition") == []
    assert len(synthesis.of_type("AWS::Logs::MetricFilter")) >= 2
    alarms = json.dumps(synthesis.of_type("AWS::CloudWatch::Alarm"))
    assert "HOUR(changes) < 8 OR HOUR(changes) >= 18" in alarms
    (out_of_hours,) = (one for one in synthesis.of_type("AWS::CloudWatch::Alarm") if "HOUR" in json.dumps(one))
    (refused,) = (one for one in synthesis.of_type("AWS::CloudWatch::Alarm") if "refused in" in json.dumps(one))
    for alarm in (out_of_hours["Properties"], refused["Properties"]):
        # A run delivers what happened up to an hour ago, or more after an outage.
        period = alarm.get("Period") or alarm["Metrics"][1]["MetricStat"]["Period"]
        assert period * alarm["EvaluationPeriods"] == 86_400
        assert alarm["DatapointsToAlarm"] == 1
        assert alarm["AlarmDescription"].endswith(" Runbook: docs/runbook.md#what-was-done-in-kong")
    assert len(synthesis.of_type("AWS::CloudWatch::Dashboard")) == 2
    assert len(synthesis.of_type("AWS::ObservabilityAdmin::S3TableIntegration")) == 1
    variables = synthesis.only("AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    assert variables["LOG_GROUP_RETENTION_DAYS"] == "3653"
    assert variables["LOG_GROUP_FORMAT"] == "ocsf"
    assert "TrailLogGroupName" in synthesis.template["Outputs"]


def test_an_existing_group_by_its_name(tmp_path: Path) -> None:
    synthesis = synthesise(tmp_path, **LOGS, log_group="their-group")
    variables = synthesis.only("AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    assert synthesis.flat(variables["LOG_GROUP"]).endswith(":log-group:their-group")
    assert "LOG_GROUP_RETENTION_DAYS" not in variables
    assert len(synthesis.of_type("AWS::Logs::LogGroup")) == 1  # the function's own


@pytest.mark.parametrize("ending", ["", ":*"])
def test_an_existing_group_by_its_arn(tmp_path: Path, ending: str) -> None:
    arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/kong/audit"
    synthesis = synthesise(tmp_path, **LOGS, log_group=arn + ending)
    variables = synthesis.only("AWS::Lambda::Function")["Properties"]["Environment"]["Variables"]
    assert synthesis.flat(variables["LOG_GROUP"]).endswith(":log-group:/kong/audit")


@pytest.mark.parametrize("what", ["region", "account"])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_group_of_elsewhere_is_refused(tmp_path: Path, what: str, as_text: bool) -> None:
    app = App(outdir=str(tmp_path))
    stack = Stack(app, "Theirs", env=Environment(account="123456789012", region="eu-central-1"))
    vpc = ec2.Vpc(stack, "Vpc")
    region, account = ("eu-west-1", "123456789012") if what == "region" else ("eu-central-1", "999999999999")
    arn = f"arn:aws:logs:{region}:{account}:log-group:/kong/audit"
    group = arn if as_text else logs.LogGroup.from_log_group_arn(stack, "Group", arn)
    with pytest.raises(SettingsError, match=rf"existing_log_group: is in another {what} than the stack"):
        integrate(stack, vpc=vpc, destinations=[CloudWatchLogs(existing_log_group=group)])


def test_readers_get_the_answers_of_their_queries(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(stack, vpc=vpc, destinations=[CloudWatchLogs()])
    assert trail.logs is not None
    reader = iam.Role(stack, "Reader", assumed_by=iam.AccountRootPrincipal())
    trail.logs.grant_read(reader)
    (policy,) = (
        one for one in template_of(app, stack).of_type("AWS::IAM::Policy") if "logs:StartQuery" in json.dumps(one)
    )
    statements = policy["Properties"]["PolicyDocument"]["Statement"]
    # These name a query, and no log group.
    assert {"Action": ["logs:GetQueryResults", "logs:StopQuery"], "Effect": "Allow", "Resource": "*"} in statements


def test_customer_s_key_is_for_the_tables_too(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    key = kms.Key(stack, "Key")
    integrate(stack, vpc=vpc, destinations=[CloudWatchLogs(s3_tables=True)], encryption_key=key)
    template = template_of(app, stack)
    (policy,) = (one["Properties"]["KeyPolicy"] for one in template.of_type("AWS::KMS::Key"))
    services = {json.dumps(one["Principal"]) for one in policy["Statement"]}
    for service in ("logs", "systemtables.cloudwatch", "maintenance.s3tables"):
        assert any(f"{service}.amazonaws.com" in one for one in services), services
    (role,) = (one for one in template.of_type("AWS::IAM::Role") if "S3 Tables" in json.dumps(one))
    (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert set(trust["Condition"]) == {"StringEquals", "ArnLike"}


def test_with_endpoints_no_nat_is_needed(tmp_path: Path) -> None:
    app, stack, _ = foreign_stack(tmp_path)
    vpc = ec2.Vpc(stack, "Network", nat_gateways=0)
    subnets = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
    integrate(stack, vpc=vpc, subnets=subnets, destinations=[CloudWatchLogs()], network=NetworkOptions(endpoints=True))
    services = json.dumps(
        [one["Properties"]["ServiceName"] for one in template_of(app, stack).of_type("AWS::EC2::VPCEndpoint")]
    )
    assert ".logs" in services
    assert ".s3" in services


def test_the_construct_takes_a_group_and_lends_it_to_readers(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    theirs = logs.LogGroup(stack, "Theirs")
    trail = integrate(stack, vpc=vpc, destinations=[CloudWatchLogs(existing_log_group=theirs), Archive()])
    assert trail.logs is not None
    assert trail.logs.log_group is theirs
    assert {str(name) for name in trail.schedules} == {"requests/archive", "requests/cloudwatch-logs"}
    template_of(app, stack)


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ({"log_group_retention_days": "8"}, "log_group_retention_days: must be one of 1, 3, 5"),
        ({"log_group_format": "parquet"}, "log_group_format: must be json or ocsf"),
        ({"log_group": "a:b"}, "log_group: must be the name or the ARN of a log group"),
        (
            {"log_group": "arn:aws:logs:us-east-1:123456789012:log-group:a"},
            "log_group: is in another region than the stack; give a log group in eu-central-1",
        ),
        ({"log_group": "a", "log_group_name": "b"}, "log_group: is given, and with it log_group_name"),
        ({"log_group_working_hours": "19-7", "log_group_alarms": "true"}, "log_group_working_hours: must be two hours"),
        ({"log_group_refused_calls": "3"}, "log_group_refused_calls: is given, and there are no log_group_alarms"),
        ({"log_group_alarms": "maybe"}, "log_group_alarms: must be true or false"),
        ({"aws_region": None}, "aws_region: is missing"),
    ],
)
def test_problems_are_said_by_the_names_of_settings(context: dict[str, str], problem: str) -> None:
    found = problems({**ALONE, "destination": "cloudwatch-logs", **context})
    assert any(one.startswith(problem) for one in found), found


def test_settings_of_a_group_that_there_is_not() -> None:
    found = problems({**ALONE, "destination": "archive", "log_group_dashboard": "true", "log_group_format": "ocsf"})
    assert [one.partition(":")[0] for one in found] == ["log_group_format", "log_group_dashboard"]


def test_problems_of_the_construct(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    with pytest.raises(SettingsError, match=r"CloudWatchLogs\.retention: must be one of"):
        integrate(stack, vpc=vpc, destinations=[CloudWatchLogs(retention=Duration.days(8))])
