"""Verify-signatures: whether Kong's own signatures of audit entries fit. Advice: nothing depends on what it finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..domain.entry_signature import CANONICAL_FORM, SignatureCheck, check_signature
from ..domain.moment import utc
from ..domain.rsa import RsaPublicKey
from ..domain.trail import Trail
from ..domain.window import Window
from ..errors import RequestInvalid, TimeBudgetReached
from ..ports import Inspector, Source, TakeEntry, TimeBudget
from .fields import Fields
from .installation import Installation, TrailParts
from .verb import Progress, Verb

ARCHIVE, KONG = "archive", "kong"

MAX_EXAMPLES = 20
"""Entries that do not fit which an answer names, for each trail."""

_KEPT_SECONDS = 20
"""What is left of the time when reading ends, for the answer."""
_A_LONG_TIME_SECONDS = 366 * 86_400

CAVEAT = (
    "This is advice. Kong documents the form of an entry that it signs, but publishes no example of a signature, and "
    "has withdrawn its own guide to checking them because checking failed. A signature that fits proves that Kong "
    "signed these values, in this order; not under which names, as the form has none. One that does not fit proves "
    "nothing by itself: the entry may be altered, another key may have signed it, or this version of Kong signs "
    "another form."
)


@dataclass(frozen=True, slots=True)
class VerifySignaturesRequest:
    """Which entries to check, with which key.

    Parameters
    ----------
    window
        Request times of the entries.
    key
        The public key of Kong's ``audit_log_signing_key``.
    read_from
        ``archive`` or ``kong``; ``None``: the archive, if there is one.
    """

    window: Window
    key: RsaPublicKey
    read_from: str | None

    @classmethod
    def read(cls, fields: Fields) -> VerifySignaturesRequest:
        """Read the request: ``after``, ``before``, ``public_key`` (PEM) and ``from``."""
        window, pem = fields.window(), fields.text("public_key")
        read_from = fields.choice("from", (ARCHIVE, KONG))
        fields.finish()
        if pem is None:
            raise RequestInvalid(
                ["public_key: is missing; give the public key of Kong's audit_log_signing_key, as PEM."]
            )
        try:
            return cls(window, RsaPublicKey.from_pem(pem), read_from)
        except ValueError as error:
            raise RequestInvalid([f"public_key: {error}."]) from None


@dataclass(slots=True)
class CheckedTrail:
    """What came of the checks of a trail's entries.

    Parameters
    ----------
    trail
        The trail.
    read_from
        ``archive`` or ``kong``.
    counts
        Entries by result.
    examples
        Ids of some entries that could not be verified, each with the result.
    finished
        Whether all entries were read; ``False`` if the time was used up.
    """

    trail: Trail
    read_from: str
    counts: Counter[SignatureCheck] = field(default_factory=Counter)
    examples: list[tuple[str, SignatureCheck]] = field(default_factory=list)
    finished: bool = True

    def take(self, entry: Any, key: RsaPublicKey) -> None:
        """Check an entry."""
        check = check_signature(entry, key)
        self.counts[check] += 1
        if check not in _FINE and len(self.examples) < MAX_EXAMPLES:
            self.examples.append((_id_of(entry), check))

    @property
    def conclusion(self) -> str:
        """Return what the counts say, as one word of a document."""
        verified, unsigned = self.counts[SignatureCheck.VERIFIED], self.counts[SignatureCheck.UNSIGNED]
        entries = self.counts.total()
        if not entries:
            return "no_entries"
        if unsigned == entries:
            return "nothing_signed"
        if not verified:
            return "none_verified"
        return "all_verified" if verified == entries else "some_verified"

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        reasons = {
            check.value: count for check, count in sorted(self.counts.items(), key=_by_name) if check not in _FINE
        }
        return {
            **self.trail.fields,
            "read_from": self.read_from,
            "finished": self.finished,
            "entries": self.counts.total(),
            "verified": self.counts[SignatureCheck.VERIFIED],
            "unsigned": self.counts[SignatureCheck.UNSIGNED],
            "not_verifiable": sum(reasons.values()),
            "reasons": reasons,
            "examples": [{"id": id_, "reason": check.value} for id_, check in sorted(self.examples, key=_by_id)],
            "conclusion": self.conclusion,
        }


_FINE = (SignatureCheck.VERIFIED, SignatureCheck.UNSIGNED)


@dataclass(frozen=True, slots=True)
class VerifySignaturesResult:
    """What came of the checks, trail by trail."""

    window: Window
    trails: Sequence[CheckedTrail]

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "after": utc(self.window.after),
            "before": utc(self.window.before or 0),
            "finished": all(trail.finished for trail in self.trails),
            "canonical_form": CANONICAL_FORM,
            "caveat": CAVEAT,
            "trails": [trail.document() for trail in self.trails],
        }


def perform(request: VerifySignaturesRequest, installation: Installation, progress: Progress) -> VerifySignaturesResult:
    """Check the signatures of the entries of every trail.

    Raises
    ------
    RequestInvalid
        If the archive is to be read, and a trail has none.
    SourceError, DestinationError
        If the entries cannot be read.
    """
    checked = []
    for parts in installation.trails:
        read_from = request.read_from or (KONG if parts.inspector is None else ARCHIVE)
        trail = CheckedTrail(parts.trail, read_from)
        try:
            take = _taking(trail, request)
            if read_from == KONG:
                later = max(int(installation.clock.now()), request.window.before or 0) + _A_LONG_TIME_SECONDS
                _read_from_kong(parts.source, request.window, later, take, progress, installation.budget)
            else:
                _read_from_archive(_archive(parts), request.window, take, progress, installation.budget)
        except TimeBudgetReached:
            trail.finished = False
        checked.append(trail)
    return VerifySignaturesResult(request.window, checked)


def _taking(trail: CheckedTrail, request: VerifySignaturesRequest) -> TakeEntry:
    def take(entry: Any, seconds: int | None) -> None:
        if seconds is not None and request.window.contains(seconds):
            trail.take(entry, request.key)

    return take


def _archive(parts: TrailParts) -> Inspector:
    if parts.inspector is None:
        raise RequestInvalid([f"from: {parts.trail} has no archive to read; give kong, or another destination."])
    return parts.inspector


def _read_from_archive(
    inspector: Inspector, window: Window, take: TakeEntry, progress: Progress, budget: TimeBudget
) -> None:
    def count(done: int, total: int) -> None:
        progress("parts", done, total)
        if done < total:
            _check_time(budget)

    inspector.inspect({}, count, window=window, take=take)


def _read_from_kong(
    source: Source, window: Window, later: int, take: TakeEntry, progress: Progress, budget: TimeBudget
) -> None:
    read = 0
    for page in source.pages(window if source.filters_by_time(later) else None):
        for entry in page.entries:
            take(entry.value, entry.timestamp)
        read += len(page.entries)
        progress("entries", read, None)
        if not page.is_last:
            _check_time(budget)


def _check_time(budget: TimeBudget) -> None:
    if budget.remaining_seconds() < _KEPT_SECONDS:
        raise TimeBudgetReached("The time is used up.")


def _id_of(entry: Any) -> str:
    found: Iterator[object] = (
        (entry.get(name) for name in ("request_id", "id")) if isinstance(entry, dict) else iter(())
    )
    return next((text for text in found if isinstance(text, str)), "unknown")[:128]


def _by_name(item: tuple[SignatureCheck, int]) -> str:
    return item[0].value


def _by_id(item: tuple[str, SignatureCheck]) -> str:
    return item[0]


VERB = Verb(VerifySignaturesRequest.read, perform)
