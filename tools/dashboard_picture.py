"""The picture of the dashboard in the README: ``python -m tools.dashboard_picture``.

Drawn from the dashboard's definition as it is deployed, and from what two days of real runs against the simulators
measured. The measurements are kept beside the picture: ``--redraw`` takes them as they are, for a changed definition.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aws_cdk import App, Environment, Stack
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs

from sandbox.machinery.processes import PROJECT_DIRECTORY
from stacks.observability.construct import CacheNodes, Observability
from stacks.settings.cron import parse
from tools.dashboard_capture import CACHE_GROUP, FUNCTION, QUEUE, SOURCE, Capture, capture
from tools.dashboard_svg import draw

PICTURE = PROJECT_DIRECTORY / "docs" / "images" / "dashboard.svg"
MEASUREMENTS = PICTURE.with_suffix(".jsonl")

CAPTION = (
    "Drawn from the deployed definition and 48 real runs against simulated gateways. Kong was down twice, CloudTrail "
    "throttled once, and the last run met an entry that CloudTrail refuses."
)

_ACCOUNT, _REGION = "123456789012", "us-east-1"


@dataclass(frozen=True)
class Definition:
    """What CloudFormation is told about a dashboard and its alarms.

    Parameters
    ----------
    body
        ``DashboardBody``, parsed; in place of what CloudFormation knows only, its logical id.
    alarms
        Properties of the alarms by name.
    """

    body: Mapping[str, Any]
    alarms: Mapping[str, Mapping[str, Any]]


def definition() -> Definition:
    """Synthesise the dashboard as the integration has it, around resources of known names."""
    with tempfile.TemporaryDirectory(prefix="dashboard-") as outdir:
        app = App(outdir=outdir, analytics_reporting=False)
        stack = Stack(app, "Picture", env=Environment(account=_ACCOUNT, region=_REGION))
        Observability(
            stack,
            "Observability",
            source=SOURCE,
            function=lambda_.Function.from_function_arn(
                stack, "Function", f"arn:aws:lambda:{_REGION}:{_ACCOUNT}:function:{FUNCTION}"
            ),
            log_group=logs.LogGroup.from_log_group_name(stack, "Logs", "collector"),
            dead_letters=sqs.Queue.from_queue_arn(stack, "Queue", f"arn:aws:sqs:{_REGION}:{_ACCOUNT}:{QUEUE}"),
            cache=CacheNodes.of_replication_group(CACHE_GROUP, nodes=2),
            schedule=parse("rate(1 hour)"),
        )
        resources = app.synth().get_stack_by_name("Picture").template["Resources"]
    (dashboard,) = (r["Properties"] for r in resources.values() if r["Type"] == "AWS::CloudWatch::Dashboard")
    alarms = {name: r["Properties"] for name, r in resources.items() if r["Type"] == "AWS::CloudWatch::Alarm"}
    # An alarm made of another one is in the state of that one; how long it waits to tell is not to be seen.
    for name, resource in resources.items():
        if resource["Type"] == "AWS::CloudWatch::CompositeAlarm":
            for watched in set(re.findall(r'"Fn::GetAtt": \["(\w+)"', json.dumps(resource["Properties"]["AlarmRule"]))):
                alarms[name] = alarms[watched] | {"AlarmName": resource["Properties"]["AlarmName"]}
    by_name = {alarm["AlarmName"]: alarm for alarm in alarms.values()}
    return Definition(json.loads(_flat(dashboard["DashboardBody"])), by_name)


def _flat(value: Any) -> str:
    """Join what CloudFormation would join, an alarm's ARN being its logical id."""
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        return "".join(map(_flat, value["Fn::Join"][1]))
    name: str = value["Fn::GetAtt"][0] if "Fn::GetAtt" in value else value["Ref"]
    return name


def picture(measured: Capture) -> str:
    """Return the SVG for measurements."""
    defined = definition()
    return draw(defined.body, defined.alarms, measured, CAPTION)


def shown(measured: Capture) -> Capture:
    """Return those of the measurements that the dashboard shows."""
    names = set(_metric_names(definition().body))
    return Capture({key: points for key, points in measured.points.items() if key[1] in names}, measured.runs[-8:])


def _metric_names(body: Mapping[str, Any]) -> Iterator[str]:
    for widget in body["widgets"]:
        for row in widget["properties"].get("metrics", []):
            yield from (part for part in row[1:2] if isinstance(part, str))


def main() -> None:
    """Measure, and draw."""
    parser = argparse.ArgumentParser(prog="python -m tools.dashboard_picture", description=__doc__.partition("\n")[0])
    parser.add_argument("--redraw", action="store_true", help="take the measurements that are there")
    if not parser.parse_args().redraw:
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        MEASUREMENTS.write_text(shown(capture()).to_json(), "utf-8")
    PICTURE.write_text(picture(Capture.from_json(MEASUREMENTS.read_text("utf-8"))), "utf-8")
    print(f"{PICTURE.relative_to(PROJECT_DIRECTORY)}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
