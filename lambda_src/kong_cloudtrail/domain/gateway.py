"""The gateway whose entries a run reads."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN_VERSION = "unknown"
"""The version of a gateway that does not say it."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway that the entries come from.

    Parameters
    ----------
    version
        For example ``3.10.0.2-enterprise-edition``; `UNKNOWN_VERSION` if it does not say.
    hostname
        Host name of the control-plane node, or else the host of the Admin API's URL.
    clock
        The ``Date`` header of the gateway, or of a proxy in front of it, when the run began, Unix seconds; ``None`` if
        there was no valid one.
    """

    version: str
    hostname: str
    clock: int | None
