"""What the demo's page shows and does: where every entry is, whether the parts work, and what the buttons do.

Nothing here shows a token, a payload or a query string. An entry is shown by its id, time, method, path, user and
status.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.cloudtrail.emulator import CloudTrailEmulator
from sandbox.demo.parts import CachePart, CloudTrailPart, KongPart, Part
from sandbox.demo.runs import Run
from sandbox.demo.watch import Arrival, Picture, Watch
from sandbox.kong.simulator import KongSimulator

SHOWN_ENTRIES = 15
SHOWN_RUNS = 8
SHOWN_HAPPENINGS = 30
MAX_CALLS_AT_ONCE = 500

_DAY_SECONDS = 86_400


class Refused(Exception):
    """A button cannot be pressed now, or not like this; the message says why."""


class LiveDemo:
    """A running demo, as its page shows and uses it. Safe to use from several threads.

    Parameters
    ----------
    watch
        Reads the state of everything. Closed by `close`.
    kong, cloudtrail, cache
        What can be broken.
    invoke
        Runs the collector once, to the end.
    use_admin_api
        Makes the given number of Admin API calls, which Kong records in its audit log.
    commands
        Lines for a terminal, shown unchanged.
    """

    def __init__(
        self,
        *,
        watch: Watch,
        kong: KongSimulator,
        cloudtrail: CloudTrailEmulator,
        cache: CachePart,
        invoke: Callable[[], None],
        use_admin_api: Callable[[int], None],
        commands: tuple[str, ...] = (),
    ) -> None:
        self._watch = watch
        self._cloudtrail = CloudTrailPart(cloudtrail)
        self._parts: dict[str, Part] = {"kong": KongPart(kong), "cloudtrail": self._cloudtrail, "cache": cache}
        self._invoke = invoke
        self._use_admin_api = use_admin_api
        self._commands = commands
        self._lock = threading.Lock()
        self._is_open = False
        self._running_since: float | None = None
        self._happenings: list[dict[str, Any]] = []
        self._happened = 0
        self._told_runs: set[str] = set()

    def open(self) -> None:
        """Let visitors press the buttons; until then they are told to wait."""
        self._is_open = True
        self._tell("The demo's own checks have passed. The buttons are ready.")

    def close(self) -> None:
        """Close the connections."""
        self._watch.close()

    # -- what there is to see

    def state(self) -> dict[str, Any]:
        """Return everything that the page shows, except one entry's details, as a JSON object."""
        picture = self._watch.look()
        self._tell_of_new(picture.runs)
        newest = list(picture.entries)[: -SHOWN_ENTRIES - 1 : -1]
        return {
            "ready": self._is_open,
            "verdict": _verdict(picture),
            "parts": {name: {"broken": one.is_broken, "symptom": one.symptom} for name, one in self._parts.items()},
            "counts": {
                "kong": len(picture.entries),
                "waiting": picture.waiting,
                "cloudtrail": sum(arrival.times for arrival in picture.arrivals.values()),
                "marks": len(picture.marks),
                "quarantine": len(picture.quarantine),
            },
            "refusals_left": self._cloudtrail.refusals_left,
            "running_since": self._running_since,
            "runs": [_run(run) for run in picture.runs[: -SHOWN_RUNS - 1 : -1]],
            "entries": [_entry(request_id, picture) for request_id in newest],
            "happenings": self._happenings,
            "commands": self._commands,
        }

    def entry(self, request_id: str) -> dict[str, Any]:
        """Return where one entry is, as a JSON object: a yes or no for each place, with details.

        Parameters
        ----------
        request_id
            Kong's id of the entry.
        """
        picture = self._watch.look()
        row = picture.entries.get(request_id)
        return {
            "id": request_id,
            "call": None if row is None else _call(row),
            "place": picture.place(request_id),
            "steps": [
                _at_kong(row),
                _delivered(picture.arrivals.get(request_id)),
                self._marked(picture.marks.get(request_id)),
                _quarantined(picture.quarantine.get(request_id)),
            ],
        }

    def _marked(self, key: str | None) -> dict[str, Any]:
        if key is None:
            return _step("Marked in the cache", False, "A run that reads it would deliver it.")
        days = round(self._watch.remaining_seconds(key) / _DAY_SECONDS)
        return _step("Marked in the cache", True, f"No run delivers it again. The mark stays for {days} days.")

    # -- the buttons

    def run(self) -> None:
        """Run the collector, in the background.

        Raises
        ------
        Refused
            If a run that was started here has not ended yet.
        """
        self._check_open()
        with self._lock:
            if self._running_since is not None:
                raise Refused("The collector is running already.")
            self._running_since = time.time()
        self._tell("The collector has started.")
        threading.Thread(target=self._run_to_the_end, name="demo-run", daemon=True).start()

    def use_admin_api(self, calls: int) -> None:
        """Let alice make some Admin API calls.

        Raises
        ------
        Refused
            If it is not 1 to `MAX_CALLS_AT_ONCE` calls.
        """
        self._check_open()
        if not 1 <= calls <= MAX_CALLS_AT_ONCE:
            raise Refused(f"Make 1 to {MAX_CALLS_AT_ONCE} calls at a time.")
        self._use_admin_api(calls)
        self._tell(f"alice made {_number(calls, 'Admin API call', 'Admin API calls')}, which Kong recorded.")

    def refuse_next(self) -> None:
        """Let CloudTrail refuse one more of the next entries."""
        self._check_open()
        self._cloudtrail.refuse_next()
        left = self._cloudtrail.refusals_left
        self._tell(f"CloudTrail will refuse the next {'entry' if left == 1 else f'{left} entries'}.")

    def break_(self, name: str) -> None:
        """Break a part.

        Raises
        ------
        Refused
            If there is no such part.
        """
        part = self._part(name)
        part.break_()
        self._tell(f"{part.name} is broken. {part.symptom}")

    def mend(self, name: str) -> None:
        """Mend a part. Raises as `break_`."""
        part = self._part(name)
        part.mend()
        self._tell(f"{part.name} works again.")

    def _run_to_the_end(self) -> None:
        try:
            self._invoke()
        except Exception as error:
            self._tell(f"The collector could not be started ({type(error).__name__}).")
        self._running_since = None

    def _part(self, name: str) -> Part:
        self._check_open()
        if name not in self._parts:
            raise Refused(f"There is no such part. The parts are {', '.join(self._parts)}.")
        return self._parts[name]

    def _check_open(self) -> None:
        if not self._is_open:
            raise Refused("The demo is still checking itself. Wait until it is done.")

    # -- what has happened

    def _tell(self, what: str, *, at: float | None = None) -> None:
        with self._lock:
            self._happened += 1
            happening = {"number": self._happened, "at": at or time.time(), "what": what}
            self._happenings = [*self._happenings, happening][-SHOWN_HAPPENINGS:]

    def _tell_of_new(self, runs: list[Run]) -> None:
        """List the runs that have ended since the last call, whoever started them."""
        with self._lock:
            new = [run for run in runs if run.id not in self._told_runs]
            self._told_runs.update(run.id for run in new)
        for run in new:
            self._tell(run.summary(), at=run.ended_at)


def _verdict(picture: Picture) -> dict[str, str]:
    at_kong, waiting, in_quarantine = len(picture.entries), picture.waiting, len(picture.quarantine)
    delivered = sum(one in picture.arrivals for one in picture.entries)
    twice = sum(arrival.times > 1 for arrival in picture.arrivals.values())
    how_many = f"All {at_kong}" if delivered == at_kong else f"{delivered} of {at_kong}"
    sentences = [f"{how_many} entries at Kong are in CloudTrail Lake{'' if twice else ', each once'}."]
    if waiting:
        sentences.append(f"{_number(waiting, 'waits', 'wait')} for the next run.")
    if in_quarantine:
        sentences.append(f"{_number(in_quarantine, 'is', 'are')} in quarantine.")
    if twice:
        sentences.append(f"{_number(twice, 'was', 'were')} delivered more than once.")
    tone = "bad" if twice else "warning" if waiting or in_quarantine else "good"
    return {"text": " ".join(sentences), "tone": tone}


def _entry(request_id: str, picture: Picture) -> dict[str, Any]:
    row = picture.entries[request_id]
    arrival = picture.arrivals.get(request_id)
    return {
        "id": request_id,
        "at": row["request_timestamp"],
        "call": _call(row),
        "user": row.get("rbac_user_name") or "anonymous",
        "status": row["status"],
        "place": picture.place(request_id),
        "delivered_at": None if arrival is None else arrival.received_at,
    }


def _call(row: Mapping[str, Any]) -> str:
    """Return method and path, without the query string, which may hold a secret."""
    return f"{row['method']} {str(row['path']).partition('?')[0]}"


def _run(run: Run) -> dict[str, Any]:
    return {"id": run.id, "at": run.ended_at, "outcome": run.outcome, "error": run.error, "report": run.report}


def _step(name: str, holds: bool, detail: str, *, at: float | None = None) -> dict[str, Any]:
    return {"name": name, "holds": holds, "detail": detail, "at": at}


def _at_kong(row: Mapping[str, Any] | None) -> dict[str, Any]:
    if row is None:
        return _step("At Kong", False, "Kong does not show it.")
    days = round(row["ttl"] / _DAY_SECONDS)
    return _step("At Kong", True, f"Kong keeps it for {days} more days. Recorded at", at=row["request_timestamp"])


def _delivered(arrival: Arrival | None) -> dict[str, Any]:
    if arrival is None:
        return _step("In CloudTrail Lake", False, "CloudTrail has not accepted it.")
    times = "once" if arrival.times == 1 else f"{arrival.times} times"
    return _step(
        "In CloudTrail Lake", True, f"Accepted {times}, as event {arrival.event_id}, at", at=arrival.received_at
    )


def _quarantined(code: str | None) -> dict[str, Any]:
    if code is None:
        return _step("In quarantine", False, "The ledger's quarantine does not hold it.")
    return _step("In quarantine", True, f"CloudTrail refused it with {code}. The ledger keeps it whole.")


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
