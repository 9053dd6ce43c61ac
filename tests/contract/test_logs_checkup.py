"""What doctor finds out about a log group."""

from __future__ import annotations

import pytest
from kong_cloudtrail.destinations.cloudwatch_logs.checkup import LogGroupCheckup
from kong_cloudtrail.domain.finding import Status

from sandbox.cloudwatch_logs.emulator import LOG_GROUP, LogsEmulator
from sandbox.machinery import faults

pytestmark = pytest.mark.usefixtures("aws_credentials")


def statuses(monkeypatch: pytest.MonkeyPatch, logs: LogsEmulator, name: str, days: int | None) -> dict[str, Status]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", logs.url)
    checkup = LogGroupCheckup(name, "us-east-1", days, connect_seconds=1, answer_seconds=5)
    return {finding.check: finding.status for finding in checkup.run()}


@pytest.mark.parametrize(("days", "status"), [(None, Status.OK), (7, Status.OK), (30, Status.WARNING)])
def test_group_that_is_there(monkeypatch: pytest.MonkeyPatch, days: int | None, status: Status) -> None:
    with LogsEmulator(retention_days=7) as logs:
        assert statuses(monkeypatch, logs, LOG_GROUP, days) == {
            "log group": Status.OK,
            "retention": status,
            "deletion protection": Status.WARNING,
        }


def test_group_that_is_not_there(monkeypatch: pytest.MonkeyPatch, logs: LogsEmulator) -> None:
    # Another one whose name begins alike does not count.
    assert statuses(monkeypatch, logs, LOG_GROUP[:-1], None) == {"log group": Status.FAILED}


UNSEEN = {"retention": Status.NOT_CHECKED, "deletion protection": Status.NOT_CHECKED}


@pytest.mark.parametrize(
    ("denied", "found"),
    [
        (["DescribeLogGroups"], {"log group": Status.OK, **UNSEEN}),  # the function's role
        (["DescribeLogStreams", "DescribeLogGroups"], {"log group": Status.NOT_CHECKED}),
    ],
)
def test_permission_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, logs: LogsEmulator, denied: list[str], found: dict[str, Status]
) -> None:
    for operation in denied:
        logs.inject(faults.aws_error("AccessDeniedException", path=f"/{operation}", times=3))

    assert statuses(monkeypatch, logs, LOG_GROUP, None) == found


def test_role_of_the_function_sees_that_the_group_is_not_there(
    monkeypatch: pytest.MonkeyPatch, logs: LogsEmulator
) -> None:
    logs.inject(faults.aws_error("AccessDeniedException", path="/DescribeLogGroups"))

    assert statuses(monkeypatch, logs, "/kong/other", None) == {"log group": Status.FAILED}


@pytest.mark.parametrize(
    ("code", "status"), [("UnrecognizedClientException", Status.FAILED), ("SomethingNew", Status.NOT_CHECKED)]
)
def test_question_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, logs: LogsEmulator, code: str, status: Status
) -> None:
    logs.inject(faults.aws_error(code, times=3))
    assert statuses(monkeypatch, logs, LOG_GROUP, None) == {"log group": status}
