"""Delivering what lies in quarantine, once the cause is gone.

No part of a run: these entries are marked, so no run fetches them again, and the gateway need not retain them any
more. What the destination accepts leaves the quarantine; what it refuses again, or what still cannot be mapped, stays.
If the process dies after a call and before the move, the same entries are delivered once more the next time, with the
same ``UID``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import BatchRefused, DestinationUnavailable, EntryNotMappable
from ..ports import NOT_MAPPABLE, Destination, Quarantine, Quarantined
from ..run.shipment import UNCONFIRMED

GIVE_UP_AFTER_FAILURES = 3
"""Entries in a row of which the call fails: then it is the destination, and not the entries."""


@dataclass(slots=True)
class Released:
    """What became of a quarantine.

    Parameters
    ----------
    delivered
        Entries that left it.
    refused
        Names of the objects that stay, each with the code of the reason.
    """

    delivered: int = 0
    refused: dict[str, str] = field(default_factory=dict)


class QuarantineRelease:
    """Delivers what lies in the quarantine of one trail.

    Parameters
    ----------
    quarantine
        Where they are.
    destination
        Where they go.
    """

    def __init__(self, quarantine: Quarantine, destination: Destination) -> None:
        self._quarantine = quarantine
        self._destination = destination

    def run(self) -> Released:
        """Try every entry once, each with a call of its own: there are few, and each has its own fate.

        Raises
        ------
        DestinationError
            If the destination is down, or takes nothing at all. What it accepted before has left the quarantine.
        LedgerError
            If the quarantine cannot be read or changed.
        """
        outcome = Released()
        failures: list[DestinationUnavailable] = []
        for quarantined in self._quarantine.quarantined():
            try:
                code = self._refusal(quarantined)
            except DestinationUnavailable as error:
                failures.append(error)
                if len(failures) >= GIVE_UP_AFTER_FAILURES:
                    raise
                outcome.refused[quarantined.name] = error.code
                continue
            if code != NOT_MAPPABLE:
                failures.clear()
            if code is not None:
                outcome.refused[quarantined.name] = code
                continue
            self._quarantine.release(quarantined)
            outcome.delivered += 1
        if failures and not outcome.delivered:
            raise failures[-1]
        return outcome

    def _refusal(self, quarantined: Quarantined) -> str | None:
        """Deliver an entry; return the code of the reason if it was not accepted."""
        try:
            event = self._destination.mapper(quarantined.gateway).map(quarantined.entry)
        except EntryNotMappable:
            return NOT_MAPPABLE
        if event.original is not None:
            self._quarantine.keep_original(event.original)
        try:
            answer = self._destination.deliver([event])
        except BatchRefused as refusal:
            return refusal.code
        if event.id in answer.successful:
            return None
        return answer.failed[event.id].code if event.id in answer.failed else UNCONFIRMED
