"""CloudWatch Logs as the destination: its emulator in the place of CloudTrail's, and the same Valkey."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from sandbox.cloudtrail.records import AcceptedEvent, RefusedEvent
from sandbox.cloudwatch_logs.emulator import LogsEmulator
from sandbox.machinery.faults import Fault
from torture.cloudtrail import CloudTrailLake
from torture.cloudtrail_audit import LakeAuditor
from torture.ends import Setting
from torture.plan import DestinationName

_AGE_OF_NEWEST_SECONDS = 5 * 86_400
"""How much later it is to CloudWatch Logs than to Kong, so that a scenario has entries on both sides of 14 days."""


@dataclass
class LogsAuditor(LakeAuditor):
    """Checks the runs of one scenario into CloudWatch Logs. Parameters as in `Auditor`."""

    destination: ClassVar[DestinationName] = "cloudwatch-logs"
    batch_events: ClassVar[int] = 250


class CloudWatchLogs(CloudTrailLake):
    """Implements `ends.Ends`.

    Parameters
    ----------
    setting
        Of the scenario.
    password
        Of Valkey.
    scenario_time
        Kong's time when the scenario begins, Unix seconds.
    """

    def __init__(self, setting: Setting, password: str, *, scenario_time: float) -> None:
        self._scenario_time = scenario_time
        super().__init__(setting, password)

    def _new_auditor(self, setting: Setting) -> LogsAuditor:
        return LogsAuditor(**setting.of_auditor)

    def _new_service(self) -> _Service:
        return _Service(self._scenario_time + _AGE_OF_NEWEST_SECONDS - time.time())

    def _place(self) -> dict[str, str]:
        emulator = self._cloudtrail.emulator
        return {"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": emulator.url, "LOG_GROUP": emulator.log_group_arn}


@dataclass(frozen=True)
class _Call:
    """A call, with what the torture asks for."""

    accepted: int


class _Service:
    """The emulator, with the methods of CloudTrail's that the torture uses. It refuses no single entries."""

    def __init__(self, clock_ahead_seconds: float) -> None:
        self.emulator = LogsEmulator(clock_ahead_seconds=clock_ahead_seconds)
        self.url = self.emulator.url

    def __enter__(self) -> Self:
        self.emulator.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.emulator.__exit__()

    def configure(self, **settings: Any) -> None:
        self.emulator.configure(**settings)

    def inject(self, fault: Fault) -> None:
        """Make calls fail, as the plan of a round says.

        An answer that is a JSON object is a good one, whatever it lacks: the service names only what it refuses.
        """
        if fault.kind == "body" and fault.body.startswith("{") and fault.body.endswith("}"):
            fault = replace(fault, body="<html></html>")
        self.emulator.inject(fault)

    def poison(self, ids: Collection[str], fault: Fault) -> None:
        self.emulator.poison(ids, fault)  # of plain entries, whose ids are their UIDs

    def fail_entries(self, code: str, *, predicate: Callable[[dict[str, Any]], bool] | None = None, **_: Any) -> None:
        """Show each event to the predicate, which may kill; CloudWatch Logs has no codes for single entries."""
        if predicate is not None:
            self.emulator.watch(lambda: predicate({}))

    def clear_faults(self) -> None:
        self.emulator.clear_faults()

    @property
    def calls(self) -> Sequence[_Call]:
        return [_Call(call.stored) for call in self.emulator.calls]

    def accepted(self) -> list[AcceptedEvent]:
        return [
            AcceptedEvent(_entry_id(one.uid), one.message, "", one.call_number, one.ingestion_time / 1000)
            for one in self.emulator.stored()
        ]

    def refused(self) -> list[RefusedEvent]:
        return []


def _entry_id(uid: str) -> str:
    """Return the id of the entry whose event has a `UID`."""
    if re.fullmatch(r"[-_A-Za-z0-9]{1,128}", uid):
        return uid
    return hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()
