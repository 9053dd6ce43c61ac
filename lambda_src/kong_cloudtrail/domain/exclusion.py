"""Which entries are left out because a rule says so, and how many that were.

An entry is *excluded* if any rule matches it. Whether one does depends on the entry and the rules alone, so that it can
be found out again later, without a record of each entry. A rule matches only what it can read without doubt: an entry
with a field that is missing, or of an odd type, or without a request time, is never excluded, and neither is one whose
path has another form than that in which a gateway routes it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .entry import Entry

MAX_RECENT = 20_000
"""Excluded entries that a checkpoint remembers one by one, about 20 bytes each."""

_ANY_SEGMENTS = "**"
_is_plain = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*/?").fullmatch
_has_dots = re.compile(r"/\.{1,2}(?:/|\Z)").search


@dataclass(frozen=True, slots=True)
class Rule:
    """A reason to leave an entry out.

    Parameters
    ----------
    name
        What it says, such as ``method:GET``. Reports count by it.
    matches
        Takes the entry's fields.
    """

    name: str
    matches: Callable[[Mapping[str, Any]], bool]


class Exclusion:
    """The rules in force. An entry that several rules match counts for the first one.

    Parameters
    ----------
    rules
        The rules.

    Examples
    --------
    >>> entry = Entry({"method": "GET", "path": "/status?pretty", "status": 200}, "1", "1", 1_717_243_200, 60)
    >>> Exclusion.of(paths=["/status"]).rule_of(entry)
    'path:/status'
    >>> Exclusion.of(methods=["HEAD"], statuses=["3xx"]).rule_of(entry) is None
    True
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = tuple(rules)

    @classmethod
    def of(
        cls,
        *,
        methods: Sequence[str] = (),
        paths: Sequence[str] = (),
        statuses: Sequence[str] = (),
        further: Sequence[Rule] = (),
    ) -> Exclusion:
        """Return the rules that settings ask for.

        Parameters
        ----------
        methods
            Methods, in capitals.
        paths
            Patterns: see `PathPattern`.
        statuses
            Statuses, such as ``204``, or classes of them, such as ``3xx``.
        further
            Rules that come first, such as those of a source.
        """
        return cls(
            [
                *further,
                *(Rule(f"method:{method}", _Method(method)) for method in methods),
                *(Rule(f"path:{pattern}", PathPattern(pattern)) for pattern in paths),
                *(Rule(f"status:{status}", _Status(status)) for status in statuses),
            ]
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the rules."""
        return tuple(rule.name for rule in self._rules)

    def rule_of(self, entry: Entry) -> str | None:
        """Return the name of the rule that leaves an entry out; ``None`` if none does."""
        fields = entry.value
        if not self._rules or entry.timestamp is None or not isinstance(fields, dict):
            return None
        return next((rule.name for rule in self._rules if rule.matches(fields)), None)


class PathPattern:
    """Matches paths from their beginning to their end, without the query string and without a slash at the end.

    ``*`` stands for any characters of a segment, and a segment ``**`` for any number of segments, also none. Anything
    else stands for itself. There is no pattern that takes long: it is compared piece by piece, and no piece again.

    Parameters
    ----------
    pattern
        Begins with a slash.

    Examples
    --------
    >>> [PathPattern("/services/*").covers(path) for path in ("/services/a", "/services", "/x/services/a")]
    [True, False, False]
    >>> PathPattern("/**/plugins/**").covers("/team-a/services/a/plugins")
    True
    """

    def __init__(self, pattern: str) -> None:
        self._chunks: list[list[list[str]]] = [[]]
        for segment in _segments(pattern):
            if segment == _ANY_SEGMENTS:
                self._chunks.append([])
            else:
                self._chunks[-1].append(segment.split("*"))

    def __call__(self, fields: Mapping[str, Any]) -> bool:
        """Return whether the path of an entry is matched."""
        path = routed_path(fields.get("path"))
        return path is not None and self.covers(path)

    def covers(self, path: str) -> bool:
        """Return whether a path is matched."""
        segments = _segments(path)
        first, *others = self._chunks
        if not others:
            return len(segments) == len(first) and _fits(first, segments, 0)
        *middle, last = others
        end = len(segments) - len(last)
        at = len(first)
        if at > end or not _fits(first, segments, 0) or not _fits(last, segments, end):
            return False
        for chunk in middle:  # the first place where it fits leaves most for those that follow
            found = next((place for place in range(at, end - len(chunk) + 1) if _fits(chunk, segments, place)), None)
            if found is None:
                return False
            at = found + len(chunk)
        return True


def routed_path(value: object) -> str | None:
    """Return the path of a request without its query string, if a gateway routes it as it is written.

    Returns
    -------
    str or None
        ``None`` for a path that a gateway may turn into another one before it routes it: one with ``..``, two slashes,
        percent signs or backslashes. Otherwise ``/status/../consumers`` would pass for something below ``/status``.
    """
    if not isinstance(value, str):
        return None
    path = value.partition("?")[0]
    if not path.startswith("/") or _is_plain(path) is None or _has_dots(path) is not None:
        return None
    return path


class ExcludedEntry(NamedTuple):
    """An entry that was left out, as it is counted.

    Parameters
    ----------
    digest
        Stands for its key.
    timestamp
        Its request time, Unix seconds.
    rule
        Name of the rule.
    """

    digest: str
    timestamp: int
    rule: str


def digest_of(entry: Entry) -> str:
    """Return what stands for an entry's key in a checkpoint."""
    return hashlib.blake2b(entry.key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Excluded:
    """What a trail has excluded, as its checkpoint counts it.

    The counts and the place where reading continues are saved together, in one write. So an entry is counted once,
    whatever dies, and however many runs there are at a time.

    Parameters
    ----------
    rules
        Names of the rules in the newest run.
    totals
        Number of entries by the name of the rule, since the trail began.
    recent
        The digests of those that may be read again, with their request times.
    counted_before
        Entries with an older request time, Unix seconds, are counted, or were found too late to be.
    forgotten_before
        The same, once the present reading has ended: there were too many for `recent`.
    awaits_sweep
        Whether a rule was taken away and no sweep has ended since: what it excluded is not late when it is found.
    is_reported
        Whether a run report has these rules and totals.
    reported_totals
        The totals that the newest run report has.
    """

    rules: tuple[str, ...] = ()
    totals: Mapping[str, int] = field(default_factory=dict)
    recent: Mapping[str, int] = field(default_factory=dict)
    counted_before: int = 0
    forgotten_before: int = 0
    awaits_sweep: bool = False
    is_reported: bool = True
    reported_totals: Mapping[str, int] = field(default_factory=dict)

    @property
    def unreported(self) -> int:
        """Number of entries that are in the totals, and in those of no run report."""
        return sum(self.totals.values()) - sum(self.reported_totals.values())

    def as_reported(self) -> Excluded:
        """Return the same when a run report has it."""
        return replace(self, is_reported=True, reported_totals=self.totals)

    def has_counted(self, entry: ExcludedEntry) -> bool:
        """Return whether an entry is counted, or is not to be."""
        return entry.timestamp < self.counted_before or entry.digest in self.recent

    def plus(self, entries: Sequence[ExcludedEntry]) -> Excluded:
        """Return the same with some more entries."""
        new = {entry.digest: entry for entry in entries if entry.digest not in self.recent}
        if not new:
            return self
        totals = dict(self.totals)
        for entry in new.values():
            totals[entry.rule] = totals.get(entry.rule, 0) + 1
        recent = {**self.recent, **{entry.digest: entry.timestamp for entry in new.values()}}
        forgotten_before = self.forgotten_before
        if len(recent) > MAX_RECENT:
            newest_first = sorted(recent.items(), key=lambda item: -item[1])
            recent = dict(newest_first[:MAX_RECENT])
            forgotten_before = max(forgotten_before, newest_first[MAX_RECENT][1] + 1)
        return replace(self, totals=totals, recent=recent, forgotten_before=forgotten_before, is_reported=False)

    def read_until(self, begins_at: int) -> Excluded:
        """Return the same after a slice was read to its end; the next readings begin at a request time or later."""
        counted_before = max(self.counted_before, self.forgotten_before, begins_at)
        if counted_before == self.counted_before:
            return self
        recent = {digest: moment for digest, moment in self.recent.items() if moment >= counted_before}
        return replace(self, counted_before=counted_before, recent=recent)

    def under(self, rules: tuple[str, ...]) -> Excluded:
        """Return the same under other rules."""
        if rules == self.rules:
            return self
        awaits_sweep = self.awaits_sweep or not set(self.rules) <= set(rules)
        return replace(self, rules=rules, awaits_sweep=awaits_sweep, is_reported=False)


class _Method:
    def __init__(self, method: str) -> None:
        self._method = method

    def __call__(self, fields: Mapping[str, Any]) -> bool:
        return bool(fields.get("method") == self._method)


class _Status:
    def __init__(self, status: str) -> None:
        self._lowest = int(status.replace("x", "0"))
        self._highest = int(status.replace("x", "9"))

    def __call__(self, fields: Mapping[str, Any]) -> bool:
        status = fields.get("status")
        return isinstance(status, int) and not isinstance(status, bool) and self._lowest <= status <= self._highest


def _segments(path: str) -> list[str]:
    return path.removesuffix("/").split("/")[1:]


def _fits(chunk: Sequence[list[str]], segments: Sequence[str], at: int) -> bool:
    return all(_fits_segment(pieces, segments[at + place]) for place, pieces in enumerate(chunk))


def _fits_segment(pieces: list[str], segment: str) -> bool:
    """Return whether a segment has these pieces, with any characters between."""
    if len(pieces) == 1:
        return segment == pieces[0]
    first, *middle, last = pieces
    end = len(segment) - len(last)
    if len(first) > end or not segment.startswith(first) or not segment.endswith(last):
        return False
    at = len(first)
    for piece in middle:
        found = segment.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
