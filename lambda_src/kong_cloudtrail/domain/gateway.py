"""The gateway whose entries a run reads."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN_VERSION = "unknown"
"""The version of a gateway that does not tell it."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway that the entries come from.

    Parameters
    ----------
    version
        E.g. ``3.10.0.2-enterprise-edition``; `UNKNOWN_VERSION` if it does not tell.
    hostname
        Of the control-plane node, else the host of the Admin API's URL.
    clock
        What the ``Date`` header of the gateway, or of a proxy before it, showed as the run began, Unix seconds;
        ``None`` if there was no valid one.
    """

    version: str
    hostname: str
    clock: int | None
