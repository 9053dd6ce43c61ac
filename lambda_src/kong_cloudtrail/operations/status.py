"""Status: the trails at a glance, by what they have stored. No question is put to the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any

from ..domain.checkpoint import Checkpoint, OpenGap
from ..domain.report import MAX_COUNTED
from ..domain.trail import Trail
from ..domain.workers import Workers
from ..errors import LedgerError, SecretUnavailable, SeenSetUnavailable
from ..ports import CacheMemory
from .fields import Fields
from .installation import Installation, TrailLedger, TrailParts
from .verb import Progress, Verb

_REPORTED = (
    "number",
    "run_id",
    "finished",
    "fetched",
    "duplicates",
    "excluded",
    "delivered",
    "quarantined",
    "failed",
    "backlog",
    "run_seconds",
)


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """To look at every trail."""

    @classmethod
    def read(cls, fields: Fields) -> StatusRequest:
        """Read the request, which has no fields."""
        return cls()


@dataclass(slots=True)
class TrailStatus:
    """How a trail is.

    Parameters
    ----------
    trail
        The trail.
    now
        Unix seconds.
    checkpoint
        Its checkpoint; ``None`` if it could not be read.
    report
        Its newest run report; ``None`` if there is none, or it could not be read.
    quarantine_open
        Number of entries in quarantine, up to `MAX_COUNTED`; ``None`` if it could not be counted.
    problems
        What could not be read, and why.
    """

    trail: Trail
    now: float
    checkpoint: Checkpoint | None = None
    report: Mapping[str, Any] | None = None
    quarantine_open: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def lag_seconds(self) -> int | None:
        """How long ago the last run began that delivered everything, or the first run, if none has; else ``None``."""
        if self.checkpoint is None:
            return None
        since = self.checkpoint.caught_up_at
        since = self.checkpoint.first_run_at if since is None else since
        return None if since is None else max(int(self.now) - since, 0)

    @property
    def oldest_undelivered_age_seconds(self) -> int | None:
        """Age of the oldest entry that may be undelivered, at most; ``None`` if unknown."""
        checkpoint = self.checkpoint
        if checkpoint is None:
            return None
        settled = max(
            (each for each in (checkpoint.complete_until, checkpoint.caught_up_at) if each is not None), default=None
        )
        if settled is None:
            return None
        now = int(self.now) + checkpoint.gateway_ahead_seconds  # request times are the gateway's
        return max(now - min([settled, *(gap.window.after for gap in checkpoint.gaps if gap.window is not None)]), 0)

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        checkpoint = self.checkpoint
        return {
            **self.trail.fields,
            "complete_until": None if checkpoint is None else checkpoint.complete_until,
            "caught_up_at": None if checkpoint is None else checkpoint.caught_up_at,
            "first_run_at": None if checkpoint is None else checkpoint.first_run_at,
            "is_reading": None if checkpoint is None else checkpoint.reading is not None,
            "lag_seconds": self.lag_seconds,
            "oldest_undelivered_age_seconds": self.oldest_undelivered_age_seconds,
            "gaps": None if checkpoint is None else [_gap(gap) for gap in checkpoint.gaps],
            "gateway_version": None if checkpoint is None else checkpoint.gateway_version,
            "last_report": None if self.report is None else _report(self.report),
            "quarantine_open": self.quarantine_open,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class StatusResult:
    """How the trails are, and the cache that they share.

    Parameters
    ----------
    trails
        The trails.
    cache
        The memory of the cache; ``None`` if there is none, or it could not be read.
    problems
        What could not be read of the cache, and why.
    """

    trails: Sequence[TrailStatus]
    cache: CacheMemory | None
    problems: Sequence[str]

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "trails": [trail.document() for trail in self.trails],
            "cache": None if self.cache is None else asdict(self.cache),
            "problems": list(self.problems),
        }


def perform(request: StatusRequest, installation: Installation, progress: Progress) -> StatusResult:
    """Look at every trail. What cannot be read is said, and the rest shown."""
    now = installation.clock.now()
    # All at once: where a service does not answer, each look takes many seconds.
    workers = Workers(len(installation.trails), "status")
    looks = [_look(parts, now, workers) for parts in installation.trails]
    workers.end()
    cache, problems = _memory(installation.trails)
    return StatusResult([look.result() for look in looks], cache, problems)


def _look(parts: TrailParts, now: float, workers: Workers) -> Future[TrailStatus]:
    look: Future[TrailStatus] = Future()
    ledger = parts.ledger  # made in this thread: to make several clients of AWS at once is not safe

    def run() -> None:
        try:
            look.set_result(_status(parts.trail, ledger, now))
        except BaseException as error:
            look.set_exception(error)

    workers.submit(run)
    return look


def _status(trail: Trail, ledger: TrailLedger, now: float) -> TrailStatus:
    status = TrailStatus(trail, now)
    try:
        status.checkpoint = ledger.load_checkpoint()
        status.report = ledger.newest_report(status.checkpoint)
        if status.report is None and status.checkpoint.run_number:
            number = status.checkpoint.run_number
            status.problems.append(f"Run report {number} of {trail.path} is missing or altered: see verify.")
        status.quarantine_open = ledger.quarantine_size(MAX_COUNTED)
    except LedgerError as error:
        status.problems.append(str(error).partition(" What depends on it")[0])
    return status


def _memory(trails: Sequence[TrailParts]) -> tuple[CacheMemory | None, list[str]]:
    for parts in trails:
        try:
            gauge = parts.cache_gauge
            if gauge is None:
                continue
            memory = gauge.measure()
        except (SeenSetUnavailable, SecretUnavailable) as error:
            return None, [str(error)]
        if memory is None:
            return None, ["The user of the cache may not ask for its memory: add +info to the user's access string."]
        return memory, []
    return None, []


def _gap(gap: OpenGap) -> dict[str, Any]:
    window = gap.window
    return {
        "after": None if window is None else window.after,
        "before": None if window is None else window.before,
        "kind": gap.kind,
        "reason": gap.reason,
        "since": gap.since,
    }


def _report(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: fields.get(name) for name in _REPORTED}, "written_at": fields.get("writtenAt")}


VERB = Verb(StatusRequest.read, perform)
