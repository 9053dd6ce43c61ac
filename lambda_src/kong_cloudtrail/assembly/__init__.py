"""Puts the parts together as the settings say. The handler and the command line use it."""

from .connections import DEFAULT_LEDGER, Connections, Limits, open_archive, open_store
from .installation import StoredInstallation, WholeInstallation
from .runs import Assembly, TrailParts
from .trails import SystemClock, UnlimitedTime, trail_of

__all__ = [
    "DEFAULT_LEDGER",
    "Assembly",
    "Connections",
    "Limits",
    "StoredInstallation",
    "SystemClock",
    "TrailParts",
    "UnlimitedTime",
    "WholeInstallation",
    "open_archive",
    "open_store",
    "trail_of",
]
