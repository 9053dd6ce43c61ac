"""The archive as the destination: each entry exactly once, whatever dies, with any number of writers."""

from __future__ import annotations

from collections.abc import Sequence

from ...domain.event import Event
from ...domain.gateway import Gateway
from ...domain.ocsf import OcsfMapper
from ...ports import Advice, Answer, Findings
from .line import LineMapper
from .packer import Packer
from .part_log import PartLog, hour_of

_MAPPERS: dict[str, type[LineMapper | OcsfMapper]] = {"json": LineMapper, "ocsf": OcsfMapper}
"""What the lines are: the event as for CloudTrail Lake, or an event of OCSF."""


class Archive:
    """Delivers entries to a part log. Safe to use from several threads.

    Parameters
    ----------
    log
        The part log of the trail.
    source, stream
        The names of the trail.
    run_id
        The run that writes.
    line_format
        What the lines are, ``json`` or ``ocsf``. It may change between runs: a part log reads the lines of both.
    recipient_account_id, map_status_to_error_code
        As in `LineMapper`.
    """

    def __init__(
        self,
        log: PartLog,
        source: str,
        stream: str,
        run_id: str,
        *,
        line_format: str = "json",
        recipient_account_id: str | None = None,
        map_status_to_error_code: bool = False,
    ) -> None:
        self._log = log
        self._source = source
        self._stream = stream
        self._mapper = _MAPPERS[line_format]
        self._recipient_account_id = recipient_account_id
        self._run_id = run_id
        self._map_status_to_error_code = map_status_to_error_code

    advice = Advice(
        name="S3",
        if_down="Check the AWS Health Dashboard, and the function's path to S3.",
        if_all_refused="Check the archive's bucket.",
        if_answers_get_lost="Check the function's path to S3.",
        if_in_doubt="The next run finds out, and archives nothing twice.",
    )
    refuses_entries = False

    def mapper(self, gateway: Gateway) -> LineMapper | OcsfMapper:
        """Return a mapper for the entries of a gateway."""
        return self._mapper(
            gateway,
            self._source,
            self._stream,
            recipient_account_id=self._recipient_account_id,
            map_status_to_error_code=self._map_status_to_error_code,
        )

    def packer(self) -> Packer:
        """Return an empty packer."""
        return Packer()

    def deliver(self, events: Sequence[Event]) -> Answer:
        """Write what is in no part yet: one part for each hour.

        Raises
        ------
        DestinationUnavailable
            If this can be tried again. What was written is found then, so nothing is ever written twice.
        DestinationMisconfigured
            If nothing can be written until somebody changes something.
        """
        by_hour: dict[str, list[Event]] = {}
        for event in events:
            by_hour.setdefault(hour_of(event.entry), []).append(event)
        parts = [self._log.append(hour, of_hour, self._run_id) for hour, of_hour in by_hour.items()]
        return Answer(
            frozenset(event.id for event in events),
            parts=[part for part in parts if part is not None],
        )

    def findings(self) -> Findings:
        """Return the parts that were read or written, and those that somebody removed or overwrote."""
        # In this order: a write that is answered in between is among the parts.
        may_lack_parts = self._log.has_unanswered_writes
        return Findings(self._log.known_parts, self._log.problems, may_lack_parts)
