"""What a run needs of the ledger, looked at piece by piece."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError

from ..domain.finding import Area, Finding
from ..domain.moment import utc
from ..errors import LedgerError
from ..ports import Clock, ObjectStore
from .ledger import Ledger

AREA = Area("ledger")

_ATTEMPTS = 3
_LATE_SECONDS = 6 * 3600
"""As the alarm on a trail that lags behind."""


class LedgerCheckup:
    """Finds out whether the ledger can be read and written, and honours conditional writes.

    It leaves one small object, which the next check-up overwrites. Runs do not read it.

    Parameters
    ----------
    store
        The store of the ledger.
    source_name
        Name of the source.
    """

    area, name = AREA.name, "ledger"

    def __init__(self, store: ObjectStore, source_name: str) -> None:
        self._store = store
        self._probe = f"doctor/{source_name}.json"

    def run(self) -> Iterator[Finding]:
        """Yield what is found."""
        place = self._store.locate("")
        try:
            self._store.read(self._probe)
        except LedgerError as error:
            yield _failure("reading", error)
            return
        yield AREA.ok("reading", f"{place} can be read.")
        try:
            is_refused = self._write_under_conditions()
        except LedgerError as error:
            yield _failure("writing", error)
            return
        yield AREA.ok("writing", f"{place} can be written: {self._probe}.")
        if is_refused:
            yield AREA.ok("conditional writes", "The store refuses a write whose condition does not hold.")
        else:
            yield AREA.failed(
                "conditional writes",
                "The store wrote an object although its condition did not hold: two runs could overwrite each other's "
                "checkpoint.",
                "Use Amazon S3, or a store that honours If-Match and If-None-Match.",
            )

    def _write_under_conditions(self) -> bool:
        """Write an object if it is as it was, and try to write it as if it were new; return whether that is refused."""
        for _ in range(_ATTEMPTS):  # another check-up may be at work
            stored = self._store.read(self._probe)
            if self._store.write_if(self._probe, _body(), None if stored is None else stored.version) is not None:
                break
        is_new_refused = self._store.write_if(self._probe, _body(), None) is None
        is_stale_refused = stored is None or self._store.write_if(self._probe, _body(), stored.version) is None
        return is_new_refused and is_stale_refused


class ProgressCheckup:
    """Finds out when a run of a trail last had delivered everything.

    Parameters
    ----------
    ledger
        The ledger of the trail.
    name
        Name of the check: it says which trail, if there are several.
    clock
        The machine's clock.
    """

    area = AREA.name

    def __init__(self, ledger: Ledger, name: str, clock: Clock) -> None:
        self.name = name
        self._ledger = ledger
        self._clock = clock

    def run(self) -> Iterator[Finding]:
        """Yield what is found."""
        try:
            checkpoint = self._ledger.load_checkpoint()
        except LedgerError as error:
            yield _failure(self.name, error)
            return
        caught_up_at = checkpoint.caught_up_at
        if caught_up_at is None:
            what = "No run has delivered everything yet." if checkpoint.first_run_at else "There was no run yet."
            yield AREA.warning(self.name, what, "Do a run, or wait for the schedule: kong-cloudtrail sync.")
            return
        seconds = self._clock.now() - caught_up_at
        what = f"The last run that left nothing undelivered began at {utc(caught_up_at)}."
        if seconds > _LATE_SECONDS:
            do = "See kong-cloudtrail status, the newest error in the function's log, and whether the schedule is on."
            yield AREA.warning(self.name, f"{what} That is {seconds / 3600:.0f} hours ago.", do)
        else:
            yield AREA.ok(self.name, what)
        if checkpoint.gaps:
            yield AREA.warning(
                self.name.replace("last run", "gaps"),
                f"{len(checkpoint.gaps)} stretches could not be read or delivered. Runs try them again.",
                "See kong-cloudtrail status for the reasons.",
            )


def _body() -> bytes:
    return f'{{"writtenBy":"doctor","content":"{secrets.token_hex(8)}"}}\n'.encode("ascii")


def _failure(check: str, error: LedgerError) -> Finding:
    what, _, do = str(error).partition(". ")
    cause = error.__cause__
    may_pass = isinstance(cause, BotoCoreError) and not isinstance(cause, NoCredentialsError | PartialCredentialsError)
    return AREA.failed(check, f"{what}.", do.partition(" What depends on it")[0], may_pass=may_pass)
