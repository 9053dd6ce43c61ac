"""State that the commands of one invocation share."""

from __future__ import annotations

from dataclasses import dataclass, field

from kong_cloudtrail.runtime.redaction import Redactor

from .terminal import say

NAME = "kong-cloudtrail"


@dataclass(slots=True)
class Program:
    """One invocation of the program.

    Parameters
    ----------
    quarantine_is_success
        Whether `sync` ends with status 0 if entries were put into quarantine.
    redactor
        Masks secrets in messages.
    """

    quarantine_is_success: bool = False
    redactor: Redactor = field(default_factory=Redactor)

    def complain(self, message: str) -> None:
        """Write an error message to standard error."""
        say(self.redactor.clean(f"{NAME}: {message}"))
