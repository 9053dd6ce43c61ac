"""What the demo needs of the local AWS beyond what ministack brings."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from sandbox.machinery.local_aws import LocalAws
from tests.helpers import wait_until

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
