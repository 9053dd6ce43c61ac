"""A deployed function: its settings, and what it answers when it is asked to perform a verb."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from kong_cloudtrail import errors
from kong_cloudtrail.errors import (
    CollectorError,
    DestinationMisconfigured,
    SecretUnavailable,
    SettingsError,
    SourceRefused,
)

from .errors import AnswerLost, RemoteRequestInvalid

_OUTPUT = "FunctionName"
ANSWER_SECONDS = 910.0
"""No function of Lambda may run for more than 900 seconds."""

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=5, read_timeout=10)


def variables(*, function: str | None, stack: str | None) -> Mapping[str, str]:
    """Return the environment variables of a function.

    Parameters
    ----------
    function
        Its name or ARN. The region of an ARN becomes the region of all AWS calls of this process.
    stack
        Name of its CloudFormation stack, instead of `function`.

    Raises
    ------
    SettingsError
        If they cannot be read, or the function is not a collector.
    """
    found_configuration = configuration(function=function, stack=stack)
    name = function or found_configuration.get("FunctionName")
    environment = found_configuration.get("Environment", {})
    if environment.get("Error"):
        code = environment["Error"].get("ErrorCode")
        problem = (
            f"The variables of function {name} cannot be decrypted ({code}). You need the permission kms:Decrypt for "
            "the key that encrypts them."
        )
        raise SettingsError([problem])
    found: dict[str, str] = environment.get("Variables", {})
    if not {"ARCHIVE", "CHANNEL_ARN", "LOG_GROUP"} & found.keys():
        problem = f"Function {name} has no ARCHIVE, CHANNEL_ARN or LOG_GROUP, so it is not a collector. Check the name."
        raise SettingsError([problem])
    return found


def configuration(*, function: str | None, stack: str | None) -> Mapping[str, Any]:
    """Return the configuration of a function, as Lambda shows it.

    Parameters
    ----------
    function, stack
        As in `variables`.

    Raises
    ------
    SettingsError
        If it cannot be read.
    """
    name = _resolve(function, stack)
    return _call("lambda", "get_function_configuration", f"function {name}", FunctionName=name)


def ask(
    event: Mapping[str, Any], *, function: str | None, stack: str | None, answer_seconds: float = ANSWER_SECONDS
) -> Mapping[str, Any]:
    """Let a function perform a verb, and return its answer.

    Parameters
    ----------
    event
        The event, with its ``verb``.
    function
        The function's name or ARN. The region of an ARN becomes the region of all AWS calls of this process.
    stack
        Name of its CloudFormation stack, instead of `function`.
    answer_seconds
        How long to wait for the answer.

    Raises
    ------
    SettingsError
        If the function cannot be asked.
    CollectorError
        If the function answers with an error: the same one.
    """
    name, answer = _invoke(event, function, stack, answer_seconds)
    if "error" in answer:
        raise _error_of(answer["error"]["type"], answer["error"]["message"])
    document = answer.get("document")
    if "stored" in answer:
        document = _fetch(answer["stored"])
    if not isinstance(document, dict):
        raise AnswerLost(f"Function {name} did not answer to the verb {event.get('verb')}. Is its version older?")
    return document


def run(event: Mapping[str, Any], *, function: str | None, stack: str | None) -> Sequence[Mapping[str, Any]]:
    """Let a function do a run of each trail, and return the reports. As `ask`."""
    _, answer = _invoke(event, function, stack)
    reports: Sequence[Mapping[str, Any]] = answer.get("runs", [answer])
    return reports


def _invoke(
    event: Mapping[str, Any], function: str | None, stack: str | None, answer_seconds: float = ANSWER_SECONDS
) -> tuple[str, dict[str, Any]]:
    name = _resolve(function, stack)
    # No repetition: an answer that was lost does not mean that nothing was done.
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=answer_seconds)
    response = _call(
        "lambda", "invoke", f"function {name}", config, FunctionName=name, Payload=json.dumps(event).encode()
    )
    try:
        answer: dict[str, Any] = json.loads(response["Payload"].read())
    except (BotoCoreError, OSError, ValueError) as error:
        raise AnswerLost(
            f"The answer of function {name} was lost ({type(error).__name__}). It may have done what was asked: look "
            "at its log."
        ) from None
    if not isinstance(answer, dict):
        raise AnswerLost(f"Function {name} answered with something else than an object: it is not a collector.")
    if response.get("FunctionError"):
        kind = answer.get("errorType", "an error")
        if isinstance(getattr(errors, kind, None), type):
            raise _error_of(kind, answer.get("errorMessage", ""))
        raise AnswerLost(
            f"Function {name} ended with {kind} before it answered. If its time was used up, ask for less, or raise "
            "its timeout. Look at its log."
        )
    return name, answer


def _error_of(kind: str, message: str) -> CollectorError:
    """Return the error that the function met, as its exit status depends on its kind."""
    if kind in ("SettingsError", "RequestInvalid"):
        return RemoteRequestInvalid(message)
    misconfigured = {each.__name__: each for each in (DestinationMisconfigured, SecretUnavailable, SourceRefused)}
    return misconfigured.get(kind, CollectorError)(message)


def _fetch(stored: Mapping[str, Any]) -> Any:
    """Return an answer that was too long for Lambda, and is in the ledger."""
    from kong_cloudtrail.assembly import open_store

    place, _, name = str(stored["place"]).rpartition("/answers/")
    found = open_store(place).read(f"answers/{name}")
    if found is None or hashlib.sha256(found.body).hexdigest() != stored["sha256"]:
        raise AnswerLost(f"The answer in {stored['place']} is missing or altered. Ask again.")
    return json.loads(found.body)


def _resolve(function: str | None, stack: str | None) -> str:
    """Return the name or ARN of a function; the region of an ARN becomes the region of all AWS calls."""
    name = function or _function_of(stack or "")
    if name.startswith("arn:") and name.count(":") >= 3:
        boto3.setup_default_session(region_name=name.split(":")[3])
    return name


def output(stack: str, name: str, otherwise: str) -> str:
    """Return an output of a stack, or the only one whose name ends so. Raises `SettingsError`, with what to do."""
    stacks = _call("cloudformation", "describe_stacks", f"stack {stack}", StackName=stack)["Stacks"]
    outputs = {each["OutputKey"]: str(each["OutputValue"]) for each in stacks[0].get("Outputs", [])}
    found = sorted({value for key, value in outputs.items() if key.endswith(name)})
    if name in outputs or len(found) == 1:
        return outputs.get(name, found[0])
    raise SettingsError([f"Stack {stack} has {len(found) or 'no'} outputs {name}; {otherwise}."])


def _function_of(stack: str) -> str:
    stacks = _call("cloudformation", "describe_stacks", f"stack {stack}", StackName=stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])}
    if _OUTPUT in outputs:
        return str(outputs[_OUTPUT])
    functions = sorted({str(value) for key, value in outputs.items() if key.endswith(_OUTPUT)})
    if len(functions) == 1:
        return functions[0]
    if functions:
        raise SettingsError([f"Stack {stack} has several functions: {', '.join(functions)}. Name one with --function."])
    raise SettingsError([f"Stack {stack} has no output {_OUTPUT}. Name the function with --function."])


def _call(service: str, operation: str, what: str, config: Config = _CONFIG, **parameters: Any) -> dict[str, Any]:
    done = "asked" if operation == "invoke" else "read"
    try:
        client: Any = boto3.client(service, config=config)  # type: ignore[call-overload]
        answer: dict[str, Any] = getattr(client, operation)(**parameters)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        if code == "TooManyRequestsException":
            busy = (
                f"Lambda does not let {what} run now: it is at work and may not run twice at a time, or its reserved "
                "concurrency is 0. Ask again when its run has ended."
            )
            raise AnswerLost(busy) from None
        action = "lambda:InvokeFunction" if operation == "invoke" else f"{service}:{operation.title().replace('_', '')}"
        problem = (
            f"The {what} could not be {done} ({code}). Check its name, AWS_PROFILE and AWS_REGION, and that you have "
            f"the permission {action}."
        )
        raise SettingsError([problem]) from None
    except (BotoCoreError, ValueError) as error:  # botocore raises ValueError for a malformed endpoint
        reason = str(error).rstrip(".")
        problem = f"The {what} could not be {done}: {reason}. Check AWS_PROFILE, AWS_REGION and the network."
        raise SettingsError([problem]) from None
    return answer
