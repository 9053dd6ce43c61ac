"""The log group that events go to, in the app's context and in the construct."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import Duration
from aws_cdk import aws_logs as logs

from stacks import Archive, CloudWatchLogs, DeploymentSettings, NetworkOptions, SettingsError
from stacks.parts.log_queries import PATTERNS, QUERIES
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


def test_with_endpoints_no_nat_is_needed(tmp_path: Path) -> None:
    app, stack, _ = foreign_stack(tmp_path)
    from aws_cdk import aws_ec2 as ec2

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
        ({"log_group": "a:b"}, "log_group: must be a log group, e.g."),
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
