"""Puts the parts together as the settings say. The handler and the command line use it."""

from .connections import DEFAULT_LEDGER, Connections, Limits, open_archive, open_store
from .installation import StoredInstallation, WholeInstallation
from .runs import Assembly, TrailParts, exclusion_of
from .trails import SystemClock, UnlimitedTime, trails_of

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
    "exclusion_of",
    "open_archive",
    "open_store",
    "trails_of",
]
