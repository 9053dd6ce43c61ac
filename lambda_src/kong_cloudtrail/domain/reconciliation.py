"""Comparisons of what the source shows with what the destination holds, and which of them cover a window."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from .moment import parse_moment
from .window import Window

COUNTS = ("shown", "missing", "doubled", "extra", "quarantined", "discarded", "released", "excluded", "unreadable")
"""The counts of a result: see `operations.reconcile.Reconciled`."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The stored result of a reconciliation.

    Parameters
    ----------
    window
        The request times of the entries that were compared.
    at
        When the result was written, Unix seconds.
    counts
        Its counts, by the names in `COUNTS`. ``None``: not known. What was repaired is not missing any more.
    basis
        What the source was compared with.
    sha256
        SHA-256 of the stored result.
    number
        Its number in the chain.
    set_aside
        Names of the entries that were in quarantine, or discarded from there. Of very many, the first ones.
    """

    window: Window
    at: float
    counts: Mapping[str, int | None]
    basis: str
    sha256: str
    number: int
    set_aside: frozenset[str] = frozenset()

    @classmethod
    def of(cls, number: int, body: bytes, fields: Mapping[str, Any]) -> Reconciled | None:
        """Read a stored result; ``None`` if it was altered so much that it is none, or if nothing was compared."""
        try:
            result = fields["result"]
            window = Window(parse_moment(result["after"], 0), parse_moment(result["covered_until"], 0))
            counts = {name: None if result[name] is None else int(result[name]) for name in COUNTS}
            if repair := result.get("repair"):
                delivered, quarantined = int(repair["delivered"]), int(repair["quarantined"])
                counts["missing"] = max((counts["missing"] or 0) - delivered - quarantined, 0)
                counts["quarantined"] = (counts["quarantined"] or 0) + quarantined
            sha256 = hashlib.sha256(body).hexdigest()
            set_aside = [*result.get("quarantined_entries", ()), *result.get("discarded_entries", ())]
            names = frozenset(str(each["name"]) for each in set_aside)
            read = cls(window, float(fields["writtenAt"]), counts, str(result["basis"]), sha256, number, names)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None
        return read if window.before is not None and window.after < window.before else None

    @property
    def is_by_marks(self) -> bool:
        """Whether the source was compared with our own marks only, and not with the destination itself."""
        return self.basis == "marks"


@dataclass(frozen=True, slots=True)
class Coverage:
    """The comparisons that say the newest there is about a window.

    Parameters
    ----------
    window
        The window.
    results
        The comparisons, in the order of their windows.
    uncovered
        Stretches of the window that were never compared.
    """

    window: Window
    results: Sequence[Reconciled]
    uncovered: Sequence[Window]

    @classmethod
    def of(cls, window: Window, results: Iterable[Reconciled]) -> Coverage:
        """Choose, of all results, the newest ones for each stretch of a window.

        A comparison with the destination itself goes before one with our own marks, also if it is older.
        """
        left, used = [window], []
        # By their order in the chain, as the clocks of those who compared may have been wrong.
        for result in sorted(results, key=lambda each: (not each.is_by_marks, each.number), reverse=True):
            if any(gap.overlaps(result.window) for gap in left):
                used.append(result)
                left = without(left, [result.window])
        return cls(window, sorted(used, key=lambda each: each.window.after), left)

    @property
    def is_whole(self) -> bool:
        """Whether the whole window was compared."""
        return not self.uncovered

    @property
    def is_exact(self) -> bool:
        """Whether the results are about the window and nothing else, and no entry is counted in two of them."""
        windows = [result.window for result in self.results]
        return self.is_whole and not (
            without(windows, [self.window]) or any(first.overlaps(second) for first, second in combinations(windows, 2))
        )

    def total(self, name: str) -> int | None:
        """Return a count of all results, added up; ``None`` if one of them does not know it, or if there are none."""
        counts = [result.counts[name] for result in self.results]
        known = [count for count in counts if count is not None]
        return sum(known) if known and len(known) == len(counts) else None

    def known(self, name: str) -> int:
        """Return a count of all results that know it, added up."""
        return sum(result.counts[name] or 0 for result in self.results)

    @property
    def totals(self) -> dict[str, int | None]:
        """All counts, added up."""
        return {name: self.total(name) for name in COUNTS}


def without(windows: Iterable[Window], others: Iterable[Window]) -> list[Window]:
    """Return what is left of some windows without some others."""
    left = list(windows)
    for other in others:
        left = [piece for each in left for piece in _without(each, other)]
    return left


def _without(window: Window, other: Window) -> Iterator[Window]:
    if not window.overlaps(other):
        yield window
        return
    if window.after < other.after:
        yield Window(window.after, other.after)
    if other.before is not None and (window.before is None or other.before < window.before):
        yield Window(other.before, window.before)
