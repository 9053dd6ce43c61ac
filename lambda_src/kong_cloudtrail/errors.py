"""All errors, and what each means for the run and its entries.

::

    CollectorError
    ├── SettingsError             nothing was tried; every problem is listed
    ├── RequestInvalid            nothing was tried; what was asked for is not possible
    ├── SecretUnavailable         the run fails before anything is read
    ├── SourceError               the run fails after it has delivered what it fetched; the rest is fetched later
    │   ├── SourceRefused           Kong refused (401, 403, 404, 400): somebody has to change something
    │   ├── SourceUnavailable       Kong could not be reached, or kept failing, through all retries
    │   └── PageTooHeavy            one response was too large or too slow: the page is requested again, smaller
    ├── DestinationError
    │   ├── DestinationMisconfigured  the run stops, nothing more is marked; the message says what to change
    │   ├── DestinationUnavailable    a call failed and may work later: sent again within the time budget
    │   └── BatchRefused              the whole call was refused for its content: halved until the entry is isolated
    ├── StateError                the run stops; the batches in flight may be delivered twice
    │   ├── SeenSetUnavailable      the cache could not be read or written
    │   │   └── CacheFull             the cache has no room for more marks: nothing more is delivered
    │   └── LockLost                another run may have begun: nothing more is delivered
    ├── LedgerError               what depends on the ledger stays unmarked; the run fails
    │   └── CheckpointConflict      another run moved the checkpoint: this run does not write it
    ├── EntryNotMappable          this entry goes to quarantine, the run continues
    ├── TimeBudgetReached         the run ends cleanly, the next one continues; not a failure
    └── RunFailed                 raised once, at the end of a run that did not do all of its work

Adapters translate the errors of their libraries into these. A message says what happened, to what, and what to do
next. It may be logged: it never contains a token, a payload or a response body.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class CollectorError(Exception):
    """Base class of all errors that this package raises on purpose."""


class SettingsError(CollectorError):
    """One or more settings are wrong.

    Parameters
    ----------
    problems
        One sentence each, which says what to write instead.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{len(self.problems)} problem(s) in the settings:\n{lines}")


class RequestInvalid(CollectorError):
    """An operation was asked for with wrong or missing fields, or for something that is not possible.

    Parameters
    ----------
    problems
        One sentence each, which says what to write instead.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems))


class SecretUnavailable(CollectorError):
    """A secret could not be read from Secrets Manager."""


class SourceError(CollectorError):
    """Kong's Admin API did not return what was requested."""


class SourceRefused(SourceError):
    """Kong refused the request; a retry does not help until somebody changes something."""


class SourceUnavailable(SourceError):
    """Kong could not be reached, or answered with errors or broken bodies, through all retries."""


class PageTooHeavy(SourceError):
    """A page was larger than the read limit or slower than the read time-out."""


class PageTooSlow(PageTooHeavy):
    """A page took longer than a run can wait for one; a smaller one may be quicker."""


class DestinationError(CollectorError):
    """The destination did not accept a batch."""


class DestinationMisconfigured(DestinationError):
    """A channel, account or permission is wrong, or the like: no entry can be delivered until it is changed."""


class DestinationUnavailable(DestinationError):
    """The call failed as a whole for a reason that may pass (throttled, 5xx, no connection).

    Parameters
    ----------
    code
        The service's error code, or the class of the connection error.
    message
        What happened and what to do. May be logged.
    throttled
        Whether the service asked to be called less often.
    maybe_accepted
        Whether the entries may have been accepted all the same: the answer was lost, or could not be read.
    content_matters
        Whether the reason may be one of the entries. If not, the same call is made again, and nothing is quarantined.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        throttled: bool = False,
        maybe_accepted: bool = False,
        content_matters: bool = True,
    ) -> None:
        super().__init__(message)
        self.content_matters = content_matters
        self.code = code
        self.throttled = throttled
        self.maybe_accepted = maybe_accepted


class BatchRefused(DestinationError):
    """The call was refused for its content.

    Parameters
    ----------
    code
        The service's error code.
    message
        What happened. May be logged.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StateError(CollectorError):
    """The state in the cache cannot be relied on."""


class SeenSetUnavailable(StateError):
    """The marks of delivered entries could not be read or written."""


class CacheFull(SeenSetUnavailable):
    """The cache has no memory left for marks, and nothing may be delivered that cannot be marked.

    Parameters
    ----------
    message
        What happened and what to do. May be logged.
    marked
        Whether these marks could still be written, in memory that was reserved for them.
    """

    def __init__(self, message: str, *, marked: bool) -> None:
        super().__init__(message)
        self.marked = marked


class LockLost(StateError):
    """The run no longer holds its lock, so another one may be delivering the same entries."""


class LedgerError(CollectorError):
    """The ledger could not be read or written."""


class CheckpointConflict(LedgerError):
    """The stored checkpoint is not the one that this run began with."""


class EntryNotMappable(CollectorError):
    """An entry that cannot be mapped to an event without inventing a field."""


class TimeBudgetReached(CollectorError):
    """Too little of the run's time is left to begin something new."""


class RunFailed(CollectorError):
    """A run ended without having done all of its work.

    Parameters
    ----------
    problems
        What went wrong: one or more sentences each.
    summary
        What the run did nevertheless: `RunReport.summary`.
    """

    def __init__(self, problems: Sequence[str], summary: Mapping[str, Any]) -> None:
        self.problems = tuple(problems)
        self.summary = summary
        super().__init__(" ".join(self.problems))


def describe_fault(error: BaseException) -> str:
    """Describe an unexpected error by its type and location. Its own message may contain anything, even a payload."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-6:]))
    return (
        f"Unexpected error: {type(error).__name__} at {places}. This is a bug; please report this line. No entry was "
        "marked that is neither delivered nor in quarantine."
    )
