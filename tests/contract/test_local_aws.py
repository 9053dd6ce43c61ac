"""What the demo needs of the local AWS beyond what ministack brings."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from sandbox.machinery.local_aws import LocalAws
from tests.helpers import wait_until
from tests.infra.synthesis import Shaped

ALARM = {
    "Type": "AWS::CloudWatch::Alarm",
    "Properties": {
        "MetricName": "RunsFinished",
        "Namespace": "KongCloudTrail",
        "ComparisonOperator": "LessThanThreshold",
        "Threshold": 1,
        "EvaluationPeriods": 1,
    },
}


def composite(rule: Any, **properties: Any) -> dict[str, Any]:
    return {"Type": "AWS::CloudWatch::CompositeAlarm", "Properties": {"AlarmRule": rule, **properties}}


def settled(cloudformation: Any, stack_name: str) -> str:
    """Wait until nothing is in progress, and return the status of a stack."""

    def status() -> str:
        [stack] = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
        return str(stack["StackStatus"])

    wait_until(lambda: not status().endswith("_IN_PROGRESS"))
    return status()


@pytest.fixture
def session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")


def test_a_stack_may_have_alarms_made_of_others(local_aws: LocalAws, session: boto3.Session) -> None:
    cloudformation = session.client("cloudformation", endpoint_url=local_aws.url)
    cloudwatch = session.client("cloudwatch", endpoint_url=local_aws.url)
    watching = {"Fn::Join": ["", ['ALARM("', {"Fn::GetAtt": ["Watch", "Arn"]}, '")']]}

    def names() -> list[str]:
        return [
            alarm["AlarmName"] for alarm in cloudwatch.describe_alarms(AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]
        ]

    def deploy(rule: Any) -> str:
        resources = {"Watch": ALARM, "Joined": composite(rule, AlarmDescription="joined")}
        outputs = {"Arn": {"Value": {"Fn::GetAtt": ["Joined", "Arn"]}}, "Name": {"Value": {"Ref": "Joined"}}}
        template = json.dumps({"Resources": resources, "Outputs": outputs})
        action = cloudformation.update_stack if names() else cloudformation.create_stack
        action(StackName="composite", TemplateBody=template)
        return settled(cloudformation, "composite")

    assert deploy(watching) == "CREATE_COMPLETE"
    [name] = names()
    assert deploy({"Fn::Sub": "NOT ALARM(${Watch})"}) == "UPDATE_COMPLETE"
    [alarm] = cloudwatch.describe_alarms(AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]
    assert (alarm["AlarmName"], alarm["AlarmDescription"]) == (name, "joined")
    assert alarm["AlarmRule"].startswith("NOT ALARM(")
    cloudformation.delete_stack(StackName="composite")
    wait_until(lambda: names() == [])


def test_an_alarm_made_of_one_that_does_not_exist_fails(local_aws: LocalAws, session: boto3.Session) -> None:
    cloudformation = session.client("cloudformation", endpoint_url=local_aws.url)
    template = json.dumps({"Resources": {"Joined": composite("ALARM(nobody)")}})

    cloudformation.create_stack(StackName="nobody", TemplateBody=template, OnFailure="DO_NOTHING")

    assert settled(cloudformation, "nobody") == "CREATE_FAILED"
    cloudformation.delete_stack(StackName="nobody")


OF_QUERIES = ("AWS::Glue::Database", "AWS::Glue::Table", "AWS::Athena::WorkGroup", "AWS::Athena::NamedQuery")
LINES = "".join(
    json.dumps(
        {
            "key": f"request-{number}.0",
            "source": "kong",
            "stream": "requests",
            "userIdentity": {"type": "RBACUser", "principalId": "user-1", "details": {"userName": "alice"}},
            "eventName": f"{method}/services",
            "eventTime": f"{datetime.now(UTC):%Y-%m-%d}T00:00:0{number}Z",
            "UID": f"request-{number}",
            "sourceIPAddress": "10.0.0.7",
            "requestParameters": {"queryParameters": "size=1"},
            "entry": {"request_id": f"request-{number}", "status": status, "workspace": "default-workspace"},
        }
    )
    + "\n"
    for number, (method, status) in enumerate([("GET", 200), ("POST", 201), ("DELETE", 403)])
)


def test_named_queries_come_with_a_stack_and_answer(
    local_aws: LocalAws, session: boto3.Session, shaped: Shaped
) -> None:
    """The resources of the archive's queries as they are in the template, over a bucket that is there."""
    clients: dict[str, Any] = {
        "cloudformation": session.client("cloudformation", endpoint_url=local_aws.url),
        "s3": session.client("s3", endpoint_url=local_aws.url),
        "athena": session.client("athena", endpoint_url=local_aws.url),
    }
    for bucket in ("archived", "answers"):
        clients["s3"].create_bucket(Bucket=bucket)
    key = f"archive/source=kong/stream=requests/day={datetime.now(UTC):%Y-%m-%d}/00-000000.json.gz"
    clients["s3"].put_object(Bucket="archived", Key=key, Body=gzip.compress(LINES.encode()))
    found = shaped("archive").template["Resources"]
    kept = {name: resource for name, resource in found.items() if resource["Type"] in OF_QUERIES}
    text = json.dumps({"Resources": kept})
    for name, resource in found.items():
        if resource["Type"] == "AWS::S3::Bucket":
            text = text.replace(f'{{"Ref": "{name}"}}', '"archived"' if "Archive" in name else '"answers"')
    clients["cloudformation"].create_stack(StackName="queries", TemplateBody=text)
    assert settled(clients["cloudformation"], "queries") == "CREATE_COMPLETE"

    (workgroup,) = (r["Properties"]["Name"] for r in kept.values() if r["Type"] == "AWS::Athena::WorkGroup")
    ids = clients["athena"].list_named_queries(WorkGroup=workgroup)["NamedQueryIds"]
    queries = [clients["athena"].get_named_query(NamedQueryId=one)["NamedQuery"] for one in ids]
    answers = {query["Name"]: answer_of(clients["athena"], workgroup, query) for query in queries}

    assert {name: len(rows) for name, rows in answers.items()} == {
        "who-did-what": 3,
        "refused-calls": 1,
        "changes-by-workspace": 1,
        "logins": 0,
        "request-story": 1,
        "activity-by-hour": 3,
        "count-by-day": 1,
        "what-changed": 0,
    }
    assert answers["count-by-day"][0][2:4] == ["3", "3"]

    clients["cloudformation"].delete_stack(StackName="queries")
    wait_until(lambda: not clients["athena"].list_named_queries(WorkGroup=workgroup)["NamedQueryIds"])


def answer_of(athena: Any, workgroup: str, query: dict[str, str]) -> list[list[str | None]]:
    started = athena.start_query_execution(
        QueryString=query["QueryString"],
        WorkGroup=workgroup,
        QueryExecutionContext={"Database": query["Database"]},
    )
    identity = {"QueryExecutionId": started["QueryExecutionId"]}

    def status() -> dict[str, Any]:
        found: dict[str, Any] = athena.get_query_execution(**identity)["QueryExecution"]["Status"]
        return found

    wait_until(lambda: status()["State"] not in ("QUEUED", "RUNNING"))
    assert status()["State"] == "SUCCEEDED", (query["Name"], status().get("StateChangeReason"))
    rows = athena.get_query_results(**identity)["ResultSet"]["Rows"]
    return [[cell.get("VarCharValue") for cell in row["Data"]] for row in rows[1:]]
