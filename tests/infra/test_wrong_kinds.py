"""Whatever a property is given, the answer is a sentence about that property, and no error of Python's or the CDK's."""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import fields, replace
from typing import Any

import pytest
from aws_cdk import Duration, Environment, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_

import stacks
from stacks import (
    AlarmOptions,
    Archive,
    CacheOptions,
    CloudTrailLake,
    CloudWatchLogs,
    EventStoreOptions,
    ExistingCache,
    FunctionOptions,
    KongCloudTrailIntegration,
    KongOptions,
    LedgerOptions,
    NetworkOptions,
    RunOptions,
    ScheduleOptions,
    ServerlessOptions,
    SettingsError,
)
from stacks.settings.kinds import SETTING, Group
from tests.infra.synthesis import CHANNEL_ARN, SUBNET_IDS, VPC_ID, new_app

PLANTED = "planted-Secret-4711"

WRONG: list[Any] = [
    PLANTED,
    "",
    b"bytes",
    -1,
    0,
    7,
    10**12,
    1.5,
    float("nan"),
    float("inf"),
    True,
    False,
    [],
    [PLANTED],
    [None],
    (),
    {},
    {"a": PLANTED},
    object(),
    Duration.days(4000),
    Duration.seconds(0),
    RemovalPolicy.DESTROY,
    lambda_.Tracing.ACTIVE,
    lambda_.Runtime.NODEJS_22_X,
    ec2.Peer.any_ipv4(),
    len,
]
"""Values that some property takes, and most do not."""

GROUPS: dict[type[Group], tuple[str, Any]] = {
    AlarmOptions: ("alarms", lambda group: {"alarms": group}),
    CacheOptions: ("cache", lambda group: {"cache": group}),
    ExistingCache: ("cache.existing", lambda group: {"cache": CacheOptions(existing=group)}),
    ServerlessOptions: ("cache.serverless", lambda group: {"cache": CacheOptions(serverless=group)}),
    LedgerOptions: ("ledger", lambda group: {"ledger": group}),
    FunctionOptions: ("function", lambda group: {"function": group}),
    RunOptions: ("run", lambda group: {"run": group}),
    ScheduleOptions: ("run.schedule_options", lambda group: {"run": RunOptions(schedule_options=group)}),
    NetworkOptions: ("network", lambda group: {"network": group}),
    CloudWatchLogs: ("CloudWatchLogs", lambda group: {"destinations": [group], "channel_arn": None}),
    Archive: ("Archive", lambda group: {"destinations": [group], "channel_arn": None}),
    CloudTrailLake: (
        "CloudTrailLake",
        lambda group: {
            "destinations": [group if group.channel_arn is not None else replace(group, channel_arn=CHANNEL_ARN)],
            "channel_arn": None,
        },
    ),
    EventStoreOptions: (
        "CloudTrailLake.event_store",
        lambda group: {"destinations": [CloudTrailLake(event_store=group)], "channel_arn": None},
    ),
    KongOptions: ("kong", lambda group: {"kong": group}),
}
NESTED = [(group, name) for group in GROUPS for name, kind in group.kinds.items() if kind is not SETTING]
SETTINGS = [(group, name) for group in GROUPS for name, kind in group.kinds.items() if kind is SETTING]
PLAIN = [
    name
    for name in inspect.signature(KongCloudTrailIntegration.__init__).parameters
    if name not in ("self", "scope", "construct_id")
]


class Accepted(Exception):
    """Everything was checked, and creation would begin."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return Stack(new_app(tmp_path_factory.mktemp("app")), "Foreign", env=Environment(region="eu-central-1"))


@pytest.fixture(scope="module")
def vpc(stack: Stack) -> ec2.IVpc:
    return ec2.Vpc.from_vpc_attributes(
        stack,
        "Vpc",
        vpc_id=VPC_ID,
        availability_zones=["a", "b"],
        private_subnet_ids=list(SUBNET_IDS),
        private_subnet_route_table_ids=["rtb-0123456789abcdef0"] * 2,
    )


def problems_of(stack: Stack, **properties: Any) -> list[str]:
    """Give properties to the construct; return its problems."""
    name = f"Trail{len(stack.node.children)}"
    least = {"kong": KongOptions(admin_api="https://kong.example.internal"), "channel_arn": CHANNEL_ARN}
    try:
        KongCloudTrailIntegration(stack, name, **{**least, "source_name": name, **properties})
    except SettingsError as error:
        assert PLANTED not in str(error)
        created = stack.node.find_child(name).node.children
        assert created == [], "nothing is created before everything is checked"
        return list(error.problems)
    return []


def stop(*_: object) -> None:
    raise Accepted


def test_every_group_is_tried() -> None:
    offered = {getattr(stacks, name) for name in stacks.__all__}
    assert {group for group in offered if inspect.isclass(group) and issubclass(group, Group)} == GROUPS.keys()


@pytest.mark.parametrize("group", GROUPS)
def test_every_property_of_a_group_has_a_kind(group: type[Group]) -> None:
    assert list(group.kinds) == [field.name for field in fields(group)]  # type: ignore[arg-type]
    assert group.place == GROUPS[group][0]


@pytest.mark.parametrize(("group", "name"), NESTED, ids=[f"{GROUPS[group][0]}.{name}" for group, name in NESTED])
def test_a_wrong_value_in_a_group_is_answered_with_a_sentence(group: type[Group], name: str) -> None:
    place, _ = GROUPS[group]
    refused = 0
    for value in WRONG:
        problems = list(group(**{**least_of(group), name: value}).problems())
        for problem in problems:
            # Where two properties do not go together, the sentence may be about the group, or about the other one.
            assert problem.partition(":")[0].startswith(place), (value, problem)
            assert PLANTED not in problem
        refused += bool(problems)
    assert refused >= len(WRONG) // 2


def least_of(group: type[Group]) -> dict[str, Any]:
    """Return the properties of a group that have no default."""
    least = {ExistingCache: {"host": "cache.example.internal"}, KongOptions: {"admin_api": "https://kong.example.com"}}
    return least.get(group, {})


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: GROUPS[group][0])
def test_what_a_group_accepts_can_be_created(stack: Stack, vpc: ec2.IVpc, group: type[Group]) -> None:
    accepted = least_of(group)
    plain = [name for name, kind in group.kinds.items() if kind is not SETTING and name not in group.settings]
    for name in plain:
        for value in WRONG:
            if not list(group(**{**accepted, name: value}).problems()):
                accepted[name] = value
                break

    assert problems_of(stack, vpc=vpc, **GROUPS[group][1](group(**accepted))) == []


@pytest.mark.parametrize(("group", "name"), SETTINGS, ids=[f"{GROUPS[group][0]}.{name}" for group, name in SETTINGS])
def test_a_wrong_value_of_a_setting_in_a_group_is_answered_with_a_sentence(
    stack: Stack, vpc: ec2.IVpc, group: type[Group], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KongCloudTrailIntegration, "_remark", stop)
    refused = 0
    for value in WRONG[::2]:
        problems = []
        with contextlib.suppress(Accepted):
            problems = problems_of(stack, vpc=vpc, **GROUPS[group][1](group(**{**least_of(group), name: value})))
        assert [problem for problem in problems if not problem.startswith(f"{group.place}.{name}")] == [], value
        refused += bool(problems)
    assert refused >= len(WRONG) // 6


@pytest.mark.parametrize("name", PLAIN)
def test_a_wrong_value_of_a_property_is_answered_with_a_sentence(
    stack: Stack, vpc: ec2.IVpc, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KongCloudTrailIntegration, "_remark", stop)  # the first that is called after the checks
    refused = 0
    for value in WRONG[::2]:
        problems = []
        with contextlib.suppress(Accepted):
            problems = problems_of(stack, **{"vpc": vpc, name: value})
        assert [problem for problem in problems if name not in problem] == [], value
        refused += bool(problems)
    assert refused >= len(WRONG) // 6


def test_wrong_kinds_and_wrong_values_are_reported_together(stack: Stack, vpc: ec2.IVpc) -> None:
    problems = problems_of(
        stack,
        vpc=vpc,
        run=RunOptions(page_size=0),
        function=FunctionOptions(
            memory_size=1,
            timeout=900,  # type: ignore[arg-type]
            runtime=lambda_.Runtime.NODEJS_22_X,
        ),
        alarms=AlarmOptions(lag="6 hours", evictions=0),  # type: ignore[arg-type]
        cache=CacheOptions(existing=ExistingCache(host="a b", port=0, username="kong")),
    )
    assert [problem.partition(":")[0] for problem in problems] == [
        "run.page_size",
        "alarms.lag",
        "alarms.evictions",
        "cache.existing.host",
        "cache.existing.port",
        "cache.existing.username",
        "function.memory_size",
        "function.timeout",
        "function.runtime",
    ]
