"""The changes of an installation's alarms, as CloudWatch remembers them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from kong_cloudtrail.domain.window import Window
from kong_cloudtrail.errors import SettingsError
from kong_cloudtrail.ports import AlarmChange, AlarmRecord

KEPT_SECONDS = 30 * 86_400
"""For how long CloudWatch keeps changes:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarmHistory.html"""

_KINDS = ["MetricAlarm", "CompositeAlarm"]
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=5, read_timeout=20)


class CloudWatchAlarms:
    """Asks CloudWatch with the credentials of whoever runs the command.

    Parameters
    ----------
    source
        Name of the gateway. The names of its alarms begin with it.
    """

    def __init__(self, source: str) -> None:
        self._beginnings = (f"{source}: ", f"{source}, ")
        self._source = source

    def record(self, window: Window) -> AlarmRecord:
        """Return what is known of the alarms in a window.

        Raises
        ------
        SettingsError
            If CloudWatch does not say.
        """
        now = time.time()
        known_since = max(float(window.after), now - KEPT_SECONDS)
        end = min(float(window.before or now), now)
        try:
            client: Any = boto3.client("cloudwatch", config=_CONFIG)
            alarms = sorted(self._alarms(client))
            changes = [
                change for alarm in alarms if known_since < end for change in _changes(client, alarm, known_since, end)
            ]
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            problem = (
                f"CloudWatch does not show the alarms ({code}). You need the permissions cloudwatch:DescribeAlarms and "
                "cloudwatch:DescribeAlarmHistory. Or leave out --alarms."
            )
            raise SettingsError([problem]) from None
        except (BotoCoreError, ValueError) as error:  # botocore raises ValueError for a malformed endpoint
            reason = str(error).rstrip(".")
            problem = f"CloudWatch could not be asked: {reason}. Check AWS_PROFILE, AWS_REGION and the network."
            raise SettingsError([problem]) from None
        return AlarmRecord(alarms, known_since, sorted(changes, key=lambda change: (change.at, change.alarm)))

    def _alarms(self, client: Any) -> Iterator[str]:
        pages = client.get_paginator("describe_alarms").paginate(AlarmNamePrefix=self._source, AlarmTypes=_KINDS)
        for page in pages:
            for found in ("MetricAlarms", "CompositeAlarms"):
                for alarm in page.get(found, []):
                    name = str(alarm["AlarmName"])
                    if name.startswith(self._beginnings) and not name.endswith("(helper)"):
                        yield name


def _changes(client: Any, alarm: str, after: float, before: float) -> Iterator[AlarmChange]:
    pages = client.get_paginator("describe_alarm_history").paginate(
        AlarmName=alarm,
        AlarmTypes=_KINDS,
        HistoryItemType="StateUpdate",
        StartDate=datetime.fromtimestamp(after, UTC),
        EndDate=datetime.fromtimestamp(before, UTC),
    )
    for page in pages:
        for item in page.get("AlarmHistoryItems", []):
            state = json.loads(item["HistoryData"]).get("newState", {}).get("stateValue", "unknown")
            yield AlarmChange(alarm, item["Timestamp"].timestamp(), str(state))
