"""The state machine of backfills: starts an execution, and follows it to its end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from kong_cloudtrail.errors import (
    CollectorError,
    DestinationMisconfigured,
    SecretUnavailable,
    SettingsError,
    SourceRefused,
)

from . import deployed
from .errors import RemoteRequestInvalid

_OUTPUT = "BackfillStateMachineArn"
POLL_SECONDS = 3.0
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=5, read_timeout=20)
_MISCONFIGURED = {each.__name__: each for each in (DestinationMisconfigured, SecretUnavailable, SourceRefused)}


def deliver(
    request: Mapping[str, object],
    *,
    arn: str | None,
    stack: str | None,
    say: Callable[[str], None],
    show: Callable[[str, int, int | None], None],
) -> Mapping[str, Any]:
    """Let a state machine deliver a range; return the answer of its last call.

    Parameters
    ----------
    request
        The input of the execution: the range, and what else the verb takes.
    arn
        ARN of the state machine; ``None``: the one in the stack's outputs.
    stack
        Name of the stack.
    say, show
        Get the ARN of the execution, and how many slices are done.

    Raises
    ------
    SettingsError
        If there is no such state machine, or it may not be used.
    CollectorError
        If the execution failed: what the function said, if it did.
    """
    arn = arn or deployed.output(stack or "", _OUTPUT, "deploy with the setting backfill, or give the ARN")
    client: Any = boto3.Session(region_name=arn.split(":")[3]).client("stepfunctions", config=_CONFIG)
    try:
        execution = client.start_execution(stateMachineArn=arn, input=json.dumps(request))["executionArn"]
        say(f"Started {execution}. It goes on if you press Ctrl-C.")
        while True:
            found = client.describe_execution(executionArn=execution)
            if found["status"] != "RUNNING":
                return _answer_of(found)
            _show_slices(client, execution, show)
            time.sleep(POLL_SECONDS)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        problem = (
            f"The state machine {arn} could not be used ({code}). Check its ARN, AWS_PROFILE and AWS_REGION, and that "
            f"you have the permission states:{error.operation_name}."
        )
        raise SettingsError([problem]) from None
    except BotoCoreError as error:
        reason = str(error).rstrip(".")
        raise SettingsError([f"The state machine {arn} could not be used: {reason}. Check the network."]) from None


def _show_slices(client: Any, execution: str, show: Callable[[str, int, int | None], None]) -> None:
    for run in client.list_map_runs(executionArn=execution)["mapRuns"]:
        counts = client.describe_map_run(mapRunArn=run["mapRunArn"])["itemCounts"]
        show("slices", counts["succeeded"] + counts["failed"], counts["total"])


def _answer_of(execution: Mapping[str, Any]) -> Mapping[str, Any]:
    if execution["status"] == "SUCCEEDED":
        document: dict[str, Any] = json.loads(execution["output"])
        return document
    kind, cause = execution.get("error", execution["status"]), execution.get("cause", "")
    with contextlib.suppress(ValueError, KeyError, TypeError):  # what a function raised comes as JSON
        cause = json.loads(cause)["errorMessage"]
    message = f"{cause} " if cause else ""
    message += f"The execution {execution['executionArn']} ended with {kind}. Redrive it, or ask again: it continues."
    if kind in ("RequestInvalid", "SettingsError"):
        raise RemoteRequestInvalid(str(cause))
    raise _MISCONFIGURED.get(kind, CollectorError)(message)
