"""Everything that can go wrong, and what becomes of the run and of the entries.

::

    CollectorError
    ├── SettingsError             nothing was tried; every problem is listed
    ├── SecretUnavailable         run fails before anything is read
    ├── SourceError               run fails after what was fetched is delivered; the rest is still to be fetched
    │   ├── SourceRefused           Kong said no (401, 403, 404, 400): somebody has to change something
    │   ├── SourceUnavailable       Kong could not be reached, or kept failing, through all retries
    │   └── PageTooHeavy            one response was too large or too slow: the page is asked for again, smaller
    ├── DestinationError
    │   ├── DestinationMisconfigured  run stops, nothing further is marked; says what to change
    │   ├── DestinationUnavailable    a call failed and may work later: sent again within the time budget
    │   └── BatchRefused              the whole call was refused for its content: halved until one entry stands alone
    ├── StateError                run stops; what was delivered in the batches in flight may come twice
    │   ├── SeenSetUnavailable      Redis could not be asked or told
    │   │   └── CacheFull             Redis takes no more marks: nothing more is delivered
    │   └── LockLost                another run may have begun: nothing more is delivered
    ├── LedgerError               what depends on the ledger stays unmarked; run fails
    │   └── CheckpointConflict      another run moved the checkpoint: ours is not written
    ├── EntryNotMappable          this one entry goes to quarantine, the run goes on
    ├── TimeBudgetReached         run ends cleanly, the next one goes on; not a failure
    └── RunFailed                 raised once, at the end of a run that did not do all of its work

Adapters translate what their libraries raise into these. A message says what happened, to what, and what to do
next, in words that may be logged: never a token, a payload or a response body.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class CollectorError(Exception):
    """Root of all errors that this package raises on purpose."""


class SettingsError(CollectorError):
    """One or more settings are wrong.

    Parameters
    ----------
    problems
        One sentence each, every one of them saying what to write instead.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{len(self.problems)} problem(s) in the settings:\n{lines}")


class SecretUnavailable(CollectorError):
    """A secret could not be read from Secrets Manager."""


class SourceError(CollectorError):
    """Kong's Admin API did not give what was asked for."""


class SourceRefused(SourceError):
    """Kong refused the request; asking again will not help until somebody changes something."""


class SourceUnavailable(SourceError):
    """Kong could not be reached, or answered with errors or broken bodies, through all retries."""


class PageTooHeavy(SourceError):
    """A page was larger than the read limit or slower than the read time-out."""


class PageTooSlow(PageTooHeavy):
    """A page took longer than a run can wait for one; a smaller one may be quicker."""


class DestinationError(CollectorError):
    """CloudTrail did not take a batch."""


class DestinationMisconfigured(DestinationError):
    """The channel, the account or the permission is wrong; no entry can be delivered."""


class DestinationUnavailable(DestinationError):
    """The call failed as a whole for a passing reason (throttled, 5xx, no connection).

    Parameters
    ----------
    code
        The service's error code, or the class of the connection error.
    message
        What happened and what to do, fit to be logged.
    throttled
        Whether the service asked to be called less often.
    maybe_accepted
        Whether the entries may have been accepted all the same: the answer got lost, or says nothing.
    """

    def __init__(self, code: str, message: str, *, throttled: bool = False, maybe_accepted: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.throttled = throttled
        self.maybe_accepted = maybe_accepted


class BatchRefused(DestinationError):
    """The call was refused for what it contained.

    Parameters
    ----------
    code
        The service's error code.
    message
        The service's message, fit to be logged.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StateError(CollectorError):
    """The state in Redis could not be relied on."""


class SeenSetUnavailable(StateError):
    """Redis could not be asked which entries were delivered, or told that they were."""


class CacheFull(SeenSetUnavailable):
    """Redis has no memory left for marks, and nothing may be delivered that cannot be marked.

    Parameters
    ----------
    message
        What happened and what to do, fit to be logged.
    marked
        Whether the marks at hand could still be written, thanks to memory that was reserved for them.
    """

    def __init__(self, message: str, *, marked: bool) -> None:
        super().__init__(message)
        self.marked = marked


class LockLost(StateError):
    """The run no longer holds its lock, so another one may be delivering the same entries."""


class LedgerError(CollectorError):
    """The ledger could not be read or written."""


class CheckpointConflict(LedgerError):
    """The stored checkpoint is not the one that this run started from."""


class EntryNotMappable(CollectorError):
    """An entry from which no event can be made without inventing something."""


class TimeBudgetReached(CollectorError):
    """Too little of the run's time is left to begin something new."""


class RunFailed(CollectorError):
    """A run ended without having done all of its work.

    Parameters
    ----------
    problems
        What went wrong, one sentence or more each.
    summary
        What the run did all the same: `RunReport.summary`.
    """

    def __init__(self, problems: Sequence[str], summary: Mapping[str, Any]) -> None:
        self.problems = tuple(problems)
        self.summary = summary
        super().__init__(" ".join(self.problems))


def describe_fault(error: BaseException) -> str:
    """Tell of a fault of this program by its kind and place; its own message may hold anything, a payload included."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-6:]))
    return (
        f"The program failed at a fault of its own ({type(error).__name__} at {places}). Nothing was marked that "
        "was not delivered. Please report it."
    )
