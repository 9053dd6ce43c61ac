"""Doctor: whether everything that runs need is as it should be, and what to do where it is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..domain.finding import Area, Finding, Status, diagnosis
from ..errors import describe_fault
from ..ports import Check
from .fields import Fields
from .installation import ExaminedInstallation
from .verb import Progress, Verb

CHECK_SECONDS = 9.0
"""How long a check may take. All begin at once, so that is also how long the whole takes."""


@dataclass(frozen=True, slots=True)
class DoctorRequest:
    """To check everything."""

    @classmethod
    def read(cls, fields: Fields) -> DoctorRequest:
        """Read the request, which has no fields."""
        return cls()


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """What was found.

    Parameters
    ----------
    findings
        The findings, area by area.
    seconds
        How long that took.
    """

    findings: Sequence[Finding]
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"seconds": round(self.seconds, 1), **diagnosis([finding.document() for finding in self.findings])}


def perform(request: DoctorRequest, installation: ExaminedInstallation, progress: Progress) -> DoctorResult:
    """Run every check. No failure keeps the others from being run."""
    began = time.monotonic()
    findings = examine(installation.checks, progress)
    clean = installation.clean
    return DoctorResult(
        [replace(each, what=clean(each.what), do=None if each.do is None else clean(each.do)) for each in findings],
        time.monotonic() - began,
    )


def examine(checks: Sequence[Check], progress: Progress, *, seconds: float | None = None) -> list[Finding]:
    """Run checks at the same time, and return what they find, in their order.

    Parameters
    ----------
    checks
        The checks.
    progress
        Shows how many have ended.
    seconds
        How long each may take; by default `CHECK_SECONDS`. What it has found until then counts.
    """
    seconds = CHECK_SECONDS if seconds is None else seconds
    deadline = time.monotonic() + seconds
    ended = threading.Semaphore(0)
    examinations = [_Examination(check, ended.release) for check in checks]
    for examination in examinations:
        # A thread that nobody waits for: a call that hangs must not keep the process alive.
        threading.Thread(target=examination.run, name=f"check-{examination.check.name}", daemon=True).start()
    for done in range(len(checks)):
        progress("checks", done, len(checks))
        if not ended.acquire(timeout=max(deadline - time.monotonic(), 0)):
            break
    return [finding for examination in examinations for finding in examination.result(seconds)]


@dataclass(slots=True)
class _Examination:
    """One check in a thread of its own."""

    check: Check
    tell: Callable[[], None]
    _findings: list[Finding] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            for finding in self.check.run():
                self._findings.append(finding)
        except Exception as error:
            self._findings.append(
                Area(self.check.area).failed(self.check.name, describe_fault(error), "Report it, with that line.")
            )
        self._ended.set()
        self.tell()

    def result(self, seconds: float) -> list[Finding]:
        found = list(self._findings)  # a copy: the thread may still be at work
        if not self._ended.is_set():
            found.append(
                Finding(
                    self.check.area,
                    self.check.name,
                    Status.FAILED,
                    f"It did not answer within {seconds:g} s; what follows was not checked.",
                    "Check the network on the way, and whether the service is overloaded.",
                    may_pass=True,
                )
            )
        return found


VERB = Verb(DoctorRequest.read, perform, needs_settings=False)
