"""What the demo shows of a backfill: the state machine delivers what is older than the trails."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import ClassVar

from kong_cloudtrail.domain.moment import utc

from sandbox.demo.command_line import CommandLine
from sandbox.demo.site import STACK, Site

_DAY_SECONDS = 86_400


class BackfillTour:
    """Lets the state machine deliver everything that is older than the first run's beginning.

    Parameters
    ----------
    site
        The demo, with entries in Kong.
    days
        How old the oldest entry is.
    """

    settings: ClassVar[Mapping[str, str]] = {"backfill": "4", "initial_lookback_seconds": str(_DAY_SECONDS)}

    def __init__(self, site: Site, days: int) -> None:
        self._command_line = CommandLine(site, "--stack", STACK)
        now = int(time.time())
        # Runs begin within the next seconds, a day before; what lies between is in both, and delivered once.
        self._after, self._before = utc(now - days * _DAY_SECONDS - 60), utc(now - _DAY_SECONDS + 600)

    def backfill(self) -> list[str]:
        """Let the state machine deliver the rest; return what the command says."""
        options = ("--after", self._after, "--before", self._before, "--state-machine")
        return self._command_line.run("backfill", *options).splitlines()
