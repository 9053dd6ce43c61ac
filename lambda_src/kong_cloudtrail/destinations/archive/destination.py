"""The archive as the destination: each entry exactly once, whatever dies, with any number of writers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal

from ...domain.event import Event
from ...domain.gateway import Gateway
from ...ports import Advice, Answer
from .line import LineMapper
from .ocsf import OcsfMapper
from .packer import Packer
from .part_log import Part, PartLog, hour_of

Format = Literal["json", "ocsf"]
"""What the lines are: the event as for CloudTrail Lake, or an event of OCSF."""

_MAPPERS: dict[Format, type[LineMapper | OcsfMapper]] = {"json": LineMapper, "ocsf": OcsfMapper}


class Archive:
    """Delivers entries to a part log. Safe to use from several threads.

    Parameters
    ----------
    log
        The part log of the trail.
    source, stream
        The names of the trail.
    format
        What the lines are. It may change between runs: a part log reads the lines of both.
    recipient_account_id, map_status_to_error_code
        As in `LineMapper`.
    """

    def __init__(
        self,
        log: PartLog,
        source: str,
        stream: str,
        *,
        format: Format = "json",  # noqa: A002 - what the setting is called
        recipient_account_id: str | None = None,
        map_status_to_error_code: bool = False,
    ) -> None:
        self._log = log
        self._source = source
        self._stream = stream
        self._mapper = _MAPPERS[format]
        self._recipient_account_id = recipient_account_id
        self._map_status_to_error_code = map_status_to_error_code
        self._lock = threading.Lock()
        self._written: list[Part] = []

    advice = Advice(
        name="S3",
        if_down="Check the AWS Health Dashboard, and the function's path to S3.",
        if_all_refused="Check the archive's bucket.",
        if_answers_get_lost="Check the function's path to S3.",
    )

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
        for hour, of_hour in by_hour.items():
            part = self._log.append(hour, of_hour)
            if part is not None:
                with self._lock:
                    self._written.append(part)
        return Answer(frozenset(event.id for event in events))

    def take_written(self) -> list[Part]:
        """Return the parts that were written since the last call: for the run report."""
        with self._lock:
            written, self._written = self._written, []
        return written
