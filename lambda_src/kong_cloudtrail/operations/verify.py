"""Verify: whether the run reports of a trail, and the parts that they name, are as they were written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..domain.report_chain import IsSignedBy, ReportChain, StoredReport, faults_of_results
from ..ports import Inspection, Inspector, Reports
from .fields import Fields
from .installation import StoredInstallation
from .verb import Progress, Verb, no_progress


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """To verify every trail."""

    @classmethod
    def read(cls, fields: Fields) -> VerifyRequest:
        """Read the request, which has no fields."""
        return cls()


@dataclass(frozen=True, slots=True)
class VerifiedTrail:
    """What was looked at, and what is wrong with it.

    Parameters
    ----------
    chain
        The run reports.
    inspection
        The parts; ``None`` if the destination keeps none.
    reconciliations
        The results of reconciliations.
    """

    chain: ReportChain
    inspection: Inspection | None
    reconciliations: ReportChain

    @property
    def faults(self) -> tuple[str, ...]:
        """One sentence for each fault."""
        of_parts = self.inspection.faults if self.inspection is not None else ()
        of_results = self.reconciliations.faults + faults_of_results(self.chain, self.reconciliations)
        return self.chain.faults + of_parts + of_results

    @property
    def found_nothing(self) -> bool:
        """Whether there is nothing that could be verified."""
        return not self.chain.count and not (self.inspection is not None and self.inspection.parts)

    @property
    def is_whole(self) -> bool:
        """Whether there is something, and nothing is wrong with it."""
        return not self.faults and not self.found_nothing

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        chain, inspection = self.chain, self.inspection
        return {
            **chain.trail.fields,
            "whole": self.is_whole,
            "place": chain.place,
            "reports": chain.count,
            "signatures": chain.signatures,
            "signed": chain.signed,
            "first_run": None if chain.first is None else _run(chain.first),
            "last_run": None if chain.last is None else _run(chain.last),
            "complete_until": chain.complete_until,
            "other_trails": list(chain.other_trails),
            "archive": None if inspection is None else _archive(inspection),
            "reconciliations": self.reconciliations.count,
            "faults": list(self.faults),
        }


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found, trail by trail."""

    trails: Sequence[VerifiedTrail]

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "whole": all(trail.is_whole for trail in self.trails),
            "trails": [trail.document() for trail in self.trails],
        }


def perform(request: VerifyRequest, installation: StoredInstallation, progress: Progress) -> VerifyResult:
    """Verify every trail. It needs neither the gateway nor the cache.

    Raises
    ------
    LedgerError, DestinationError
        If something cannot be read.
    """
    return VerifyResult(
        [
            verify(parts.ledger, parts.inspector, installation.is_signed, progress)
            for parts in installation.stored_trails
        ]
    )


def verify(
    reports: Reports, inspector: Inspector | None, is_signed: IsSignedBy | None, progress: Progress = no_progress
) -> VerifiedTrail:
    """Verify one trail.

    Parameters
    ----------
    reports
        The run reports.
    inspector
        Inspects the parts; ``None`` if the destination keeps none.
    is_signed
        Checks the signature of a report; ``None``: signatures are not checked.
    progress
        Shows how many parts are done.

    Raises
    ------
    LedgerError, DestinationError
        If something cannot be read.
    """
    # Only the reports of a destination that keeps parts are signed.
    if inspector is None:
        is_signed = None
    chain, reconciliations = reports.read_reports(is_signed), reports.read_reconciliations(is_signed)
    inspection = None
    if inspector is not None:
        inspection = inspector.inspect(chain.parts, lambda done, total: progress("parts", done, total))
    return VerifiedTrail(chain, inspection, reconciliations)


def _archive(inspection: Inspection) -> dict[str, Any]:
    names = ("place", "parts", "entries", "doubled", "unreported", "found_by_later_runs")
    return {name: getattr(inspection, name) for name in names}


def _run(report: StoredReport) -> dict[str, Any]:
    return {"number": report.number, "written_at": report.written_at, "after": report.after}


VERB = Verb(VerifyRequest.read, perform)
