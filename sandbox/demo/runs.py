"""The runs in the function's log: the page shows all of them, whoever started them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

UNKNOWN_FAILURE = "The function ended without a report. Check its log."


@dataclass(frozen=True)
class Run:
    """One run that has ended.

    Parameters
    ----------
    id
        Identifies the run.
    ended_at
        Unix seconds.
    report
        Its counts; None if it did not get that far.
    error
        Why it failed; None if it did not.
    """

    id: str
    ended_at: float
    report: Mapping[str, Any] | None
    error: str | None

    @property
    def outcome(self) -> str:
        """The result in a word or two."""
        report = self.report or {}
        if self.error is not None:
            return "failed"
        if report.get("skipped"):
            return "skipped"
        if not report.get("finished", True):
            return "unfinished"
        if report.get("quarantined"):
            return "quarantined"
        return "delivered" if report.get("delivered") else "nothing new"

    def summary(self) -> str:
        """Return the result in a sentence."""
        if self.error is not None:
            return f"The run failed: {self.error}"
        report = self.report or {}
        if report.get("skipped"):
            return "The run was skipped: another run is in progress."
        parts = [f"{report.get(name, 0)} {name}" for name in ("fetched", "delivered", "quarantined") if name in report]
        return f"The run ended: {', '.join(parts)}." if parts else "The run ended."


def runs_of_log(messages: Iterable[tuple[float, str]]) -> list[Run]:
    """Return the runs in a log, oldest first.

    Parameters
    ----------
    messages
        Lines of the function's log, each with its time in Unix seconds, oldest first. Lines that are not about the end
        of a run may be among them.
    """
    ends: dict[str, float] = {}
    reports: dict[str, Mapping[str, Any]] = {}
    errors: dict[str, str] = {}
    for moment, message in messages:
        line = _parsed(message)
        run_id = line.get("function_request_id")
        if not isinstance(run_id, str):
            continue
        if line.get("code") == "RUN_ENDED" and isinstance(line.get("report"), dict):
            reports[run_id] = line["report"]
        elif line.get("level") in ("ERROR", "CRITICAL"):
            errors[run_id] = str(line.get("message") or UNKNOWN_FAILURE)
        else:
            continue
        ends[run_id] = moment
    runs = [Run(run_id, moment, reports.get(run_id), errors.get(run_id)) for run_id, moment in ends.items()]
    return sorted(runs, key=lambda run: run.ended_at)


def _parsed(message: str) -> dict[str, Any]:
    try:
        line = json.loads(message)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
