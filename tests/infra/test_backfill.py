"""The state machine of backfills: what it is made of, and who may use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import Token
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Annotations, Match

from stacks import FunctionOptions, RunOptions
from stacks.errors import SettingsError
from stacks.parts.backfill import definition_of
from tests.infra.synthesis import foreign_stack, integrate, statements, synthesise, template_of


def states_of(part: dict[str, Any]) -> dict[str, Any]:
    found = dict(part["States"])
    for state in part["States"].values():
        if "ItemProcessor" in state:
            found |= states_of(state["ItemProcessor"])
    return found


@pytest.mark.parametrize(("at_once", "deliveries"), [(1, 8), (2, 4), (3, 2), (8, 1)])
def test_slices_together_make_no_more_calls_than_a_run(at_once: int, deliveries: int) -> None:
    definition = definition_of("arn", partition="aws", at_once=at_once, parallel_deliveries=8)

    slices = definition["States"]["Slices"]
    assert slices["MaxConcurrency"] == at_once
    assert slices["ItemSelector"]["request"]["parallel_deliveries"] == deliveries


def test_every_name_of_a_state_is_there_once_and_leads_somewhere() -> None:
    definition = definition_of("arn", partition="aws", at_once=2, parallel_deliveries=8)
    states = states_of(definition)

    count = len(definition["States"]) + len(definition["States"]["Slices"]["ItemProcessor"]["States"])
    assert len(states) == count
    for state in states.values():
        following = [state.get("Next"), state.get("Default"), *(one["Next"] for one in state.get("Choices", ()))]
        assert {name for name in following if name} <= states.keys()


def test_errors_that_last_are_not_tried_again() -> None:
    definition = definition_of("arn", partition="aws", at_once=2, parallel_deliveries=8)
    asking = [state for state in states_of(definition).values() if state["Type"] == "Task"]

    assert len(asking) == 3
    for state in asking:
        lasting, others = state["Retry"]
        assert "DestinationMisconfigured" in lasting["ErrorEquals"]
        assert (lasting["MaxAttempts"], others["ErrorEquals"]) == (0, ["States.ALL"])


def test_the_app_has_it_if_it_is_asked_for(tmp_path: Path) -> None:
    synthesis = synthesise(tmp_path, backfill="4")

    [output] = [value for name, value in synthesis.template["Outputs"].items() if name == "BackfillStateMachineArn"]
    assert synthesis.flat(output["Value"]) == "<AWS::StepFunctions::StateMachine.Ref>"
    definition = synthesis.only("AWS::StepFunctions::StateMachine")["Properties"]["DefinitionString"]
    assert json.loads(synthesis.flat(definition))["States"]["Slices"]["MaxConcurrency"] == 4


def test_somebody_may_start_and_redrive_it(tmp_path: Path) -> None:
    app, stack, vpc = foreign_stack(tmp_path)
    trail = integrate(stack, vpc=vpc, run=RunOptions(backfill=2))
    trail.grant_backfill(iam.Role(stack, "Operator", assumed_by=iam.ServicePrincipal("ec2.amazonaws.com")))

    theirs = [one[2] for one in statements(template_of(app, stack)) if one[0] == "ec2.amazonaws.com"]

    assert sorted(theirs) == ["states:DescribeExecution states:RedriveExecution", "states:StartExecution"]


def test_without_one_nobody_can_be_let_use_it(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)

    with pytest.raises(ValueError, match="RunOptions"):
        integrate(stack, vpc=vpc).grant_backfill(iam.AccountRootPrincipal())


def test_reserved_concurrency_that_is_too_little_is_remarked(tmp_path: Path) -> None:
    _, stack, vpc = foreign_stack(tmp_path)
    integrate(
        stack,
        vpc=vpc,
        run=RunOptions(backfill=4),
        function=FunctionOptions(reserved_concurrent_executions=2),
    )

    Annotations.from_stack(stack).has_warning(
        "*", Match.string_like_regexp("slices of a backfill.*Lambda refuses runs")
    )


@pytest.mark.parametrize(
    "value",
    [0, 9, "4", True, pytest.param(Token.as_number({"Ref": "Slices"}), id="a token")],
)
def test_number_that_is_none(tmp_path: Path, value: Any) -> None:
    _, stack, vpc = foreign_stack(tmp_path)

    with pytest.raises(SettingsError, match=r"run\.backfill"):
        integrate(stack, vpc=vpc, run=RunOptions(backfill=value))
