"""The settings of a deployed function, read from Lambda and CloudFormation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from kong_cloudtrail.errors import SettingsError

_OUTPUT = "FunctionName"
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
    name = function or _function_of(stack or "")
    if name.startswith("arn:") and name.count(":") >= 3:
        boto3.setup_default_session(region_name=name.split(":")[3])
    configuration = _call("lambda", "get_function_configuration", f"function {name}", FunctionName=name)
    environment = configuration.get("Environment", {})
    if environment.get("Error"):
        code = environment["Error"].get("ErrorCode")
        problem = (
            f"The variables of function {name} cannot be decrypted ({code}). You need the permission kms:Decrypt for "
            "the key that encrypts them."
        )
        raise SettingsError([problem])
    found: dict[str, str] = environment.get("Variables", {})
    if not {"ARCHIVE", "CHANNEL_ARN"} & found.keys():
        problem = f"Function {name} has neither ARCHIVE nor CHANNEL_ARN, so it is not a collector. Check the name."
        raise SettingsError([problem])
    return found


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


def _call(service: str, operation: str, what: str, **parameters: str) -> dict[str, Any]:
    try:
        client: Any = boto3.client(service, config=_CONFIG)  # type: ignore[call-overload]
        answer: dict[str, Any] = getattr(client, operation)(**parameters)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        action = f"{service}:{operation.title().replace('_', '')}"
        problem = (
            f"The {what} could not be read ({code}). Check its name, AWS_PROFILE and AWS_REGION, and that you have the "
            f"permission {action}."
        )
        raise SettingsError([problem]) from None
    except (BotoCoreError, ValueError) as error:  # botocore raises ValueError for a malformed endpoint
        reason = str(error).rstrip(".")
        problem = f"The {what} could not be read: {reason}. Check AWS_PROFILE, AWS_REGION and the network."
        raise SettingsError([problem]) from None
    return answer
