"""Whether what lies in quarantine is whole, and belongs there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from sandbox.cloudtrail.records import RefusedEvent
from torture.fidelity import Shown, is_whole
from torture.ledgers import LedgerView
from torture.runs import Problem, Run

PASSING_CODES = frozenset({"Throttling", "InternalFailure"})
UNKNOWN_CODES = frozenset({"SomethingNew"})
CHECKSUM_CODE = "InvalidChecksum"
_FEW = 10
"""Entries refused alike in a run that delivered nothing: so many may be chance, more are an outage."""


class QuarantineRules:
    """Reads what is new in quarantine, and judges it.

    Parameters
    ----------
    ledger
        Where it lies.
    trail
        Whose it is: `state.trail_of`.
    entries
        All entries of Kong's, by their id in a call.
    """

    def __init__(self, ledger: LedgerView, trail: str, entries: Mapping[str, Sequence[Shown]]) -> None:
        self._ledger = ledger
        self._trail = trail
        self._entries = entries
        self._read: set[str] = set()

    def check(self, run: Run, refused: Sequence[RefusedEvent], *, accepted_any: bool) -> Iterator[Shown | Problem]:
        """Yield each entry that came into quarantine since the last look, and what is wrong.

        Parameters
        ----------
        run
            The run since then.
        refused
            Every refusal so far.
        accepted_any
            Whether CloudTrail accepted anything in the run.
        """
        refusals = Counter((one.id, one.code) for one in refused)
        unknown = 0
        for name in self._ledger.names(f"quarantine/{self._trail}/"):
            if name in self._read:
                continue
            self._read.add(name)
            record = json.loads(self._ledger.read(name) or b"{}")
            candidates = self._entries.get(record.get("id", ""), ())
            entry = next((one for one in candidates if is_whole(one, record["entry"])), None)
            if entry is None:
                yield Problem("altered", f"{name} is no entry of Kong's, or not whole")
                continue
            yield entry
            code = record.get("code")
            unknown += code in UNKNOWN_CODES
            if not code or "attempts" not in record:
                yield Problem("quarantine", f"{name} does not say why it is there")
            elif entry.key not in run.poisoned and code in PASSING_CODES:
                yield Problem("quarantine", f"{entry} was given up because of {code}, which passes")
            elif code == CHECKSUM_CODE and refusals[entry.call_id, code] < 2:
                yield Problem("quarantine", f"{entry} was given up at its first checksum that did not match")
        if unknown > _FEW and not accepted_any:
            yield Problem("quarantine", f"{unknown} entries were given up though CloudTrail accepted nothing")
