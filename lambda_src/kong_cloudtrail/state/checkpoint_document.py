"""The checkpoint as it is stored: a JSON object."""

from __future__ import annotations

from typing import Any

from ..domain.checkpoint import CacheState, Checkpoint, OpenGap, Position
from ..domain.exclusion import Excluded
from ..domain.part import Part, Reported
from ..domain.window import Window


def to_document(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a checkpoint as a JSON object."""
    cache = checkpoint.cache
    return {
        "completeUntil": checkpoint.complete_until,
        "beginsAt": checkpoint.begins_at,
        "firstRunAt": checkpoint.first_run_at,
        "caughtUpAt": checkpoint.caught_up_at,
        "reading": _position_fields(checkpoint.reading),
        "gaps": [
            {**_window_fields(gap.window), "kind": gap.kind, "reason": gap.reason, "since": gap.since}
            for gap in checkpoint.gaps
        ],
        "sweep": _position_fields(checkpoint.sweep),
        "sweepDue": checkpoint.sweep_due,
        "cache": None if cache is None else {"id": cache.cache_id, "marksWritten": cache.marks_written},
        "marksWholeAfter": checkpoint.marks_whole_after,
        "gatewayVersion": checkpoint.gateway_version,
        "gatewayAheadSeconds": checkpoint.gateway_ahead_seconds,
        "run": {"number": checkpoint.run_number, "sha256": checkpoint.run_sha256},
        "reported": {"runs": list(checkpoint.reported.runs), "parts": list(checkpoint.reported.parts)},
        "parts": [part.fields for part in checkpoint.parts],
        "excluded": _excluded_fields(checkpoint.excluded),
    }


def from_document(fields: Any, version: str) -> Checkpoint:
    """Return the checkpoint of a stored JSON object, with the object's version.

    Raises
    ------
    ValueError, KeyError, TypeError, OverflowError
        If it is not a checkpoint.
    """
    cache = fields["cache"]
    return Checkpoint(
        complete_until=_integer_or_none(fields["completeUntil"]),
        begins_at=_integer_or_none(fields["beginsAt"]),
        first_run_at=_integer_or_none(fields["firstRunAt"]),
        caught_up_at=_integer_or_none(fields["caughtUpAt"]),
        reading=_position_from(fields["reading"]),
        gaps=tuple(_gap_from(gap) for gap in fields["gaps"]),
        sweep=_position_from(fields["sweep"]),
        sweep_due=_integer_or_none(fields["sweepDue"]),
        cache=None if cache is None else CacheState(str(cache["id"]), int(cache["marksWritten"])),
        marks_whole_after=_integer_or_none(fields["marksWholeAfter"]),
        gateway_version=_text_or_none(fields["gatewayVersion"]),
        gateway_ahead_seconds=int(fields["gatewayAheadSeconds"]),
        run_number=int(fields["run"]["number"]),
        run_sha256=str(fields["run"]["sha256"]),
        reported=Reported(_texts(fields["reported"]["runs"]), _texts(fields["reported"]["parts"])),
        parts=tuple(Part.from_fields(part) for part in fields["parts"]),
        excluded=_excluded_from(fields["excluded"]),
        version=version,
    )


def _window_fields(window: Window | None) -> dict[str, int | None]:
    return {"after": None, "before": None} if window is None else {"after": window.after, "before": window.before}


def _window_from(fields: Any) -> Window | None:
    after = _integer_or_none(fields["after"])
    return None if after is None else Window(after, _integer_or_none(fields["before"]))


def _position_fields(position: Position | None) -> dict[str, Any] | None:
    if position is None:
        return None
    return {
        **_window_fields(position.window),
        "resume": position.resume,
        "newest": position.newest,
        "limit": position.limit,
        "beganAt": position.began_at,
        "proven": position.proven,
    }


def _position_from(fields: Any) -> Position | None:
    if fields is None:
        return None
    return Position(
        window=_window_from(fields),
        resume=_text_or_none(fields["resume"]),
        newest=_integer_or_none(fields["newest"]),
        limit=int(fields["limit"]),
        began_at=int(fields["beganAt"]),
        proven=bool(fields["proven"]),
    )


def _gap_from(fields: Any) -> OpenGap:
    kind = fields["kind"]
    if kind not in ("unreadable", "undelivered"):
        raise ValueError("a gap of an unknown kind")
    return OpenGap(_window_from(fields), kind, str(fields["reason"]), int(fields["since"]))


def _excluded_fields(excluded: Excluded) -> dict[str, Any]:
    recent: dict[str, list[str]] = {}
    for digest, moment in excluded.recent.items():
        recent.setdefault(str(moment), []).append(digest)
    return {
        "rules": list(excluded.rules),
        "totals": dict(excluded.totals),
        "recent": recent,
        "countedBefore": excluded.counted_before,
        "forgottenBefore": excluded.forgotten_before,
        "awaitsSweep": excluded.awaits_sweep,
        "isReported": excluded.is_reported,
        "reportedTotals": dict(excluded.reported_totals),
    }


def _excluded_from(fields: Any) -> Excluded:
    return Excluded(
        rules=_texts(fields["rules"]),
        totals=_counts(fields["totals"]),
        recent={str(digest): int(moment) for moment, digests in dict(fields["recent"]).items() for digest in digests},
        counted_before=int(fields["countedBefore"]),
        forgotten_before=int(fields["forgottenBefore"]),
        awaits_sweep=bool(fields["awaitsSweep"]),
        is_reported=bool(fields["isReported"]),
        reported_totals=_counts(fields["reportedTotals"]),
    )


def _counts(fields: Any) -> dict[str, int]:
    return {str(rule): int(count) for rule, count in dict(fields).items()}


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


def _integer_or_none(value: Any) -> int | None:
    return None if value is None else int(value)
