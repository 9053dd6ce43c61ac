"""Starts ministack, and teaches its CloudFormation the one resource type of the stack that it does not know.

`LocalAws` runs this file with the Python of ministack's own virtual environment, so it imports nothing of this project.
ministack knows composite alarms themselves (`PutCompositeAlarm`), only not in templates. Its version is pinned in
requirements.txt, as the names below are not public ones.
"""

from __future__ import annotations

from typing import Any

from ministack.app import main
from ministack.services import cloudwatch
from ministack.services.cloudformation import provisioners


def _put(name: str, properties: dict[str, Any]) -> tuple[str, dict[str, str]]:
    status, _, body = cloudwatch._put_composite_alarm({}, {**properties, "AlarmName": name}, False, is_json=True)
    if status != 200:
        raise ValueError(body)
    return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}


def _create(logical_id: str, properties: dict[str, Any], stack_name: str) -> tuple[str, dict[str, str]]:
    name = properties.get("AlarmName") or provisioners._physical_name(stack_name, logical_id, max_len=255)
    return _put(name, properties)


def _update(name: str, _old: dict[str, Any], new: dict[str, Any], _stack_name: str) -> tuple[str, dict[str, str]]:
    return _put(name, new)


def _delete(name: str, _properties: dict[str, Any]) -> None:
    cloudwatch._composite_alarms.pop(name, None)


if __name__ == "__main__":
    provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::CompositeAlarm"] = {
        "create": _create,
        "update": _update,
        "delete": _delete,
    }
    main()
