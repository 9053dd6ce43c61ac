"""What is known of a trail in a period: what was read of the ledger and the archive, and the numbers of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..domain.activity import Activity
from ..domain.checkpoint import Checkpoint
from ..domain.reconciliation import Coverage
from ..domain.report_chain import ReportChain, faults_of_results
from ..domain.run_history import RunsOfWindow
from ..domain.window import Window
from ..ports import Inspection


@dataclass(frozen=True, slots=True)
class SetAside:
    """An entry that could not be delivered, as it is told of: without its content.

    Parameters
    ----------
    state
        ``quarantined``, ``released`` (it was delivered since) or ``discarded`` (it stays undelivered).
    id
        Identifies the entry.
    timestamp
        When the request was made, Unix seconds; ``None`` if the entry does not say.
    code
        Why it could not be delivered.
    since
        When it was put into quarantine, Unix seconds.
    """

    state: str
    id: str
    timestamp: int | None
    code: str
    since: float


@dataclass(frozen=True, slots=True)
class TrailEvidence:
    """Everything that is known of a trail in a period.

    Parameters
    ----------
    window
        The period.
    now
        When this was found, Unix seconds.
    chain, checkpoint
        The run reports, and how far the trail is.
    runs
        The runs that have to do with the period.
    inspection, activity
        What the archive holds of the period; ``None`` if the destination keeps no parts.
    set_aside
        Entries of the period that are or were in quarantine.
    coverage
        The comparisons with the source.
    reconciliations
        Their stored results.
    never_read
        Stretches of the period from before the trail began which no backfill has delivered.
    kept_aside
        Names of all entries that are or were in quarantine, of whatever time.
    trails_beside
        Other trails of the same gateway, of which this says nothing.
    """

    window: Window
    now: int
    chain: ReportChain
    checkpoint: Checkpoint
    runs: RunsOfWindow
    inspection: Inspection | None
    activity: Activity | None
    set_aside: Sequence[SetAside]
    coverage: Coverage
    reconciliations: ReportChain
    never_read: Sequence[Window] = ()
    kept_aside: frozenset[str] = frozenset()
    trails_beside: Sequence[str] = ()

    @property
    def reconciliation_faults(self) -> Sequence[str]:
        """One sentence for each result of a comparison that is missing, altered or misplaced."""
        return (*self.reconciliations.faults, *faults_of_results(self.chain, self.reconciliations))

    @property
    def before(self) -> int:
        """Where the period ends, Unix seconds."""
        return self.window.before or 0

    @property
    def is_over(self) -> bool:
        """Whether the period has ended."""
        return self.before <= self.now

    @property
    def settled_until(self) -> int | None:
        """Return until when everything that the source showed is delivered or in quarantine, gaps excepted."""
        checkpoint = self.checkpoint
        known = [checkpoint.complete_until]
        if checkpoint.caught_up_at is not None:
            # A run found nothing that was not settled, so the time of the newest entry is not the limit.
            known.append(checkpoint.caught_up_at + checkpoint.gateway_ahead_seconds)
        return max((moment for moment in known if moment is not None), default=None)

    @property
    def states(self) -> Counter[str]:
        """Entries that are or were in quarantine, by state."""
        return Counter(each.state for each in self.set_aside)

    @property
    def delivered(self) -> int:
        """Entries of the period that the destination holds, each counted once."""
        if self.activity is None or self.inspection is None:
            return self.runs.counts["delivered"] if self.found_delivered is None else self.found_delivered
        return max(self.activity.entries - self.inspection.doubled, 0)

    @property
    def found_delivered(self) -> int | None:
        """How many entries of the period reconciliations found delivered; ``None`` if that is not known exactly."""
        totals = self.coverage.totals
        counts = [totals[name] for name in ("missing", "quarantined", "discarded", "excluded")]
        shown = totals["shown"]
        if not self.coverage.is_exact or shown is None or None in counts:
            return None
        released_since = max(self.states["released"] - (totals["released"] or 0), 0)
        return min(max(shown - sum(count or 0 for count in counts), 0) + released_since, shown)

    @property
    def excluded(self) -> int:
        """Entries that rules left out: as runs report, or, if these are more, as the comparisons found."""
        return max(self.runs.excluded.total(), self.coverage.known("excluded"))

    @property
    def lost_aside(self) -> list[str]:
        """Names of entries that comparisons found in quarantine, or discarded, and that are nowhere now."""
        found = {name for result in self.coverage.results for name in result.set_aside}
        return sorted(found - self.kept_aside)

    @property
    def shown(self) -> tuple[int, str]:
        """How many entries Kong showed, and how that is known."""
        counted = self.coverage.total("shown")
        if self.coverage.is_exact and counted is not None:
            return counted, "reconciliation"
        states = self.states
        undelivered = states["quarantined"] + states["discarded"]
        return self.delivered + undelivered, "run_reports" if self.activity is None else "archive_and_quarantine"

    @property
    def missing(self) -> int | None:
        """Entries that Kong showed and that are nowhere; ``None`` if that was not compared for the whole period."""
        return self.coverage.total("missing") if self.coverage.is_whole else None

    @property
    def doubled(self) -> int | None:
        """Entries that are there once more than they should be; ``None`` if nobody has looked."""
        if self.inspection is not None:
            return self.inspection.doubled
        return self.coverage.total("doubled") if self.coverage.is_whole else None

    @property
    def is_empty(self) -> bool:
        """Whether there is no trace of the trail: no run ever settled anything."""
        no_parts = self.inspection is None or not self.inspection.parts
        return not self.chain.count and no_parts and self.checkpoint.first_run_at is None
