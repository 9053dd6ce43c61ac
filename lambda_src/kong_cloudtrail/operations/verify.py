"""Verify: whether the run reports of a trail, and the parts that they name, are as they were written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..domain.report_chain import IsSignedBy, ReportChain
from ..ports import Inspection, Inspector, Reports


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and what is wrong with it.

    Parameters
    ----------
    chain
        The run reports.
    inspection
        The parts; ``None`` if the destination keeps none.
    """

    chain: ReportChain
    inspection: Inspection | None

    @property
    def faults(self) -> tuple[str, ...]:
        """One sentence for each fault."""
        return self.chain.faults + (self.inspection.faults if self.inspection is not None else ())

    @property
    def found_nothing(self) -> bool:
        """Whether there is nothing that could be verified."""
        return not self.chain.count and not (self.inspection is not None and self.inspection.parts)


class Verify:
    """Verifies one trail. It needs neither the gateway nor the cache.

    Parameters
    ----------
    reports
        The run reports.
    inspector
        Inspects the parts; ``None`` if the destination keeps none.
    is_signed
        Checks the signature of a report; ``None``: signatures are not checked.
    """

    def __init__(self, reports: Reports, inspector: Inspector | None, is_signed: IsSignedBy | None = None) -> None:
        self._reports = reports
        self._inspector = inspector
        self._is_signed = is_signed

    def run(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Verified:
        """Verify.

        Parameters
        ----------
        progress
            Called with the number of parts that are done, and of all parts.

        Raises
        ------
        LedgerError, DestinationError
            If something cannot be read.
        """
        chain = self._reports.read_reports(self._is_signed)
        inspection = None if self._inspector is None else self._inspector.inspect(chain.parts, progress)
        return Verified(chain, inspection)
