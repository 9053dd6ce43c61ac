"""How far behind the trail is after a run: the two ages that alarms watch."""

from __future__ import annotations

from ..domain.report import RunReport
from .progress import Progress
from .reading import Stretch


class Indicators:
    """Measures the age of the oldest entry that may be undelivered, and the time since everything was delivered.

    Parameters
    ----------
    progress
        The checkpoint of the run.
    report
        Where the ages are recorded.
    """

    def __init__(self, progress: Progress, report: RunReport) -> None:
        self._progress = progress
        self._report = report
        self._oldest_seen: int | None = None
        self.oldest_undelivered: int | None = None
        """Request time of the oldest entry that was submitted but not delivered, Unix seconds."""

    def note(self, stretch: Stretch) -> None:
        """Record the request times of a stretch that was read."""
        if stretch.span is not None:
            self._oldest_seen = min(stretch.span.after, self._oldest_seen or stretch.span.after)

    def measure(self, own_now: int, gateway_ahead_seconds: int = 0) -> None:
        """Record the ages in the report.

        Parameters
        ----------
        own_now
            Our own clock, Unix seconds.
        gateway_ahead_seconds
            How far the gateway's clock is ahead of ours.
        """
        report, progress = self._report, self._progress
        settled_until = progress.settled_until
        if settled_until is None:
            settled_until = self._oldest_seen  # nothing was ever settled: everything may be undelivered
        now = own_now + gateway_ahead_seconds  # request times are the gateway's
        undelivered = [gap.window.after for gap in progress.checkpoint.gaps if gap.window is not None]
        if self.oldest_undelivered is not None:
            undelivered.append(self.oldest_undelivered)
        if not report.finished and settled_until is not None:
            undelivered.append(settled_until)
        if report.finished or undelivered:
            report.oldest_undelivered_age_seconds = max(now - min(undelivered, default=now), 0)
        if report.finished:
            report.checkpoint_lag_seconds = 0
        elif progress.behind_since is not None:
            report.checkpoint_lag_seconds = max(own_now - progress.behind_since, 0)
