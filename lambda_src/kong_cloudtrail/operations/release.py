"""Delivering the entries in quarantine, once the cause is gone.

This is not part of a run: entries in quarantine are marked, so no run delivers them, and the gateway need not retain
them any more. An entry that the destination accepts leaves the quarantine. One that is refused again, or still cannot
be mapped, stays. If the process dies after a call and before the move, the entry is delivered once more the next time,
with the same ``UID``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import BatchRefused, DestinationUnavailable, EntryNotMappable
from ..ports import NOT_MAPPABLE, Destination, Quarantine, Quarantined
from ..run.shipment import UNCONFIRMED

GIVE_UP_AFTER_FAILURES = 3
"""Failed calls in a row after which the destination is the reason, and not the entries."""


@dataclass(slots=True)
class Released:
    """The result of a release.

    Parameters
    ----------
    delivered
        Number of entries that were delivered, and left the quarantine.
    refused
        Names of the objects that stay in quarantine, each with the code of the reason.
    """

    delivered: int = 0
    refused: dict[str, str] = field(default_factory=dict)


class QuarantineRelease:
    """Delivers the entries in the quarantine of one trail.

    Parameters
    ----------
    quarantine
        The quarantine.
    destination
        The trail's destination.
    """

    def __init__(self, quarantine: Quarantine, destination: Destination) -> None:
        self._quarantine = quarantine
        self._destination = destination

    def run(self) -> Released:
        """Try every entry once, each in a call of its own: there are few, and each succeeds or fails by itself.

        Raises
        ------
        DestinationError
            If the destination is down, or accepts nothing at all. Entries that it accepted before have left the
            quarantine.
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
