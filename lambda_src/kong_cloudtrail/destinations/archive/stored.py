"""Reading lines of the archive, in either format: the entry, and its time."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from .part_log import NotAPart


def read_line(line: bytes) -> tuple[Any, int | None]:
    """Return the entry in a line, as Kong showed it, and its time, Unix seconds or ``None``. Raises `NotAPart`."""
    try:
        fields = json.loads(line)
        is_ocsf = "metadata" in fields
        holder = fields["unmapped"] if is_ocsf else fields
        entry = json.loads(holder["entryText"]) if "entryText" in holder else holder["entry"]
        return entry, _ocsf_seconds(fields["time"]) if is_ocsf else _seconds(fields["eventTime"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotAPart from error


def _seconds(event_time: str | None) -> int | None:
    return None if event_time is None else int(datetime.fromisoformat(event_time).timestamp())


def _ocsf_seconds(milliseconds: int) -> int | None:
    return milliseconds // 1000 or None  # 0 is what stands there without a time
