"""What must be true of an archive: each entry is in it once, whole, in its hour, whatever happened.

The parts are read with gzip and json, by nothing that the collector uses to read them.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from torture.audit import Auditor
from torture.fidelity import Shown, is_whole, lost_fields
from torture.plan import DestinationName
from torture.runs import Problem, Run
from torture.state import SOURCE

RULES = {
    "doubles": "no entry is in two parts, or twice in one, whatever happened",
    "parts": "a part is where its entries' hour says, its number follows the one before, and it never changes",
    "altered": "a line has an entry of Kong's, whole, and says the same as an event",
    "quarantine": "no entry is refused",
}
"""What is judged differently than for CloudTrail Lake, besides `audit.RULES`."""

PARTS = f"source={SOURCE}/stream="
UNDATED = "day=2015-01-01/00"
"""Where entries without a usable time are: docs/delivery-guarantees.md."""

_part = re.compile(rf"{PARTS}([a-z]+)/(day=\d{{4}}-\d\d-\d\d/\d\d)-(\d{{6}})\.json\.gz").fullmatch
_FIRST_DAY, _LAST_DAY = datetime(2015, 1, 1, tzinfo=UTC).timestamp(), datetime(2100, 1, 1, tzinfo=UTC).timestamp()


@dataclass
class ArchiveAuditor(Auditor):
    """Checks the runs of one scenario into an archive. Parameters as in `Auditor`."""

    destination: ClassVar[DestinationName] = "archive"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._parts: dict[str, bytes] = {}

    def end_run(self, run: Run, objects: Mapping[str, bytes]) -> list[Problem]:
        """Check everything after a run.

        Parameters
        ----------
        run
            The run.
        objects
            All that the archive has, by name.

        Returns
        -------
        list
            What is wrong.
        """
        return self.judge(run, self._check_holdings(objects))

    def _check_holdings(self, objects: Mapping[str, bytes]) -> Iterator[Problem]:
        for name, body in self._parts.items():
            if objects.get(name) != body:
                yield Problem("parts", f"{name} was {'altered' if name in objects else 'removed'}")
        for name in sorted(objects.keys() - self._parts.keys()):
            self._parts[name] = objects[name]
            yield from self._check_part(name, objects[name])
        yield from self._check_numbers()
        for name in self.ledger.names(f"quarantine/{self.trail}/"):
            yield Problem("quarantine", f"{name}: an archive takes every entry")
        self.counts.parts = len(self._parts)

    def _check_part(self, name: str, body: bytes) -> Iterator[Problem]:
        match = _part(name)
        if match is None or match[1] != self.stream:
            yield Problem("parts", f"{name} is not the name of a part of the trail")
            return
        try:
            lines = gzip.decompress(body).decode("ascii").split("\n")
        except (OSError, EOFError, ValueError) as error:
            yield Problem("parts", f"{name} cannot be read: {error}")
            return
        if len(lines) < 2 or lines.pop():
            yield Problem("parts", f"{name} is empty, or does not end with a line break")
        for text in lines:
            yield from self._check_line(name, match[2], json.loads(text))

    def _check_line(self, name: str, hour: str, line: dict[str, Any]) -> Iterator[Problem]:
        entry = self._by_key.get(line["key"])
        if entry is None:
            yield Problem("altered", f"{name} has an entry that Kong has not: {line['key'][:60]!r}")
            return
        entry.accepted += 1
        if entry.accepted > 1:
            yield Problem("doubles", f"{entry} is in {name} although it was in the archive")
        if damage := list(_damage(entry, line)):
            yield Problem("altered", f"{entry} is not whole in {name}: {', '.join(damage)[:200]}")
        if hour != _hour_of(entry):
            yield Problem("parts", f"{entry} is in {name}, and not in {_hour_of(entry)}")

    def _check_numbers(self) -> Iterator[Problem]:
        numbers: dict[str, set[int]] = defaultdict(set)
        for name in self._parts:
            if (match := _part(name)) is not None:
                numbers[match[2]].add(int(match[3]))
        for hour, found in numbers.items():
            if found != set(range(len(found))):
                yield Problem("parts", f"{hour} has the parts {sorted(found)}: some are missing")


def _damage(entry: Shown, line: dict[str, Any]) -> Iterator[str]:
    """Yield what of an entry is not in a line, as it was shown or as the event."""
    if "entryText" in line:
        # It has text that is not valid Unicode. Entry and event have another character in place of that.
        exact = json.loads(line["entryText"])
        if not is_whole(entry, exact):
            yield "the text of the entry"
        if line["entry"] != _with_valid_text(exact):
            yield "the readable entry"
        return
    if not is_whole(entry, line["entry"]):
        yield "the entry"
    if "notMappable" not in line:
        yield from lost_fields(entry, line, lambda location: None)


def _with_valid_text(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_with_valid_text(name): _with_valid_text(held) for name, held in value.items()}
    return [_with_valid_text(held) for held in value] if isinstance(value, list) else value


def _hour_of(entry: Shown) -> str:
    if entry.recorded_at is None or not _FIRST_DAY <= entry.recorded_at < _LAST_DAY:
        return UNDATED
    return f"{datetime.fromtimestamp(entry.recorded_at, UTC):day=%Y-%m-%d/%H}"
