"""What a torture does to the collector: drawn from a seed, the same for the same seed, before anything is started.

A plan is a list of scenarios, each with a Kong, a ledger and a destination of its own, and each of these is a list of
rounds. A round adds entries, runs the collector, and lets things go wrong while it runs. What is drawn how often, and
how, is in `draw`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sandbox.machinery.faults import Fault
from torture.s3 import S3FaultKind

FOREVER = 1_000_000
"""How often a fault happens that lasts for a whole run."""

LOCK_SECONDS = 15.0
"""How long a run's lock lives when nobody renews it."""

DestinationName = Literal["cloudtrail-lake", "archive", "cloudwatch-logs"]
DESTINATIONS: tuple[DestinationName, ...] = ("cloudtrail-lake", "archive", "cloudwatch-logs")
StreamName = Literal["requests", "objects"]
STREAMS: tuple[StreamName, ...] = ("requests", "objects")
Where = Literal["before", "start", "kong", "delivery"]
PlaceKind = Literal["folder", "S3"]
LedgerPlace = Literal["", "checkpoints", "quarantine", "originals", "runs"]
ArchiveCall = Literal["write", "read", "list"]
ArchiveTroubleKind = S3FaultKind | Literal["hidden", "overwritten"]
_UNDONE = ("hidden", "overwritten")
ValkeyTroubleKind = Literal[
    "stop", "restart", "flush", "pause", "full", "snapshot", "restore", "break connections", "lose reply"
]


@dataclass(frozen=True)
class Moment:
    """When something happens.

    Parameters
    ----------
    where
        Counted from: ``before`` the run is started, its ``start``, the answer to call number `count` of Kong, or the
        `count`-th ``delivery``: a call in which CloudTrail accepted something, or a new part of the archive.
    count
        Which call.
    delay_seconds
        How long after that.
    """

    where: Where
    count: int = 0
    delay_seconds: float = 0.0


BEFORE = Moment("before")


@dataclass(frozen=True)
class Kill:
    """The collector's process gets a signal.

    Parameters
    ----------
    when
        At this moment; ``None`` with `at_entry` or `at_part`.
    at_entry
        While CloudTrail looks at this entry, counted from the beginning of the run: it accepts the whole call, and
        nobody is left to hear of it.
    at_part
        When S3 has stored this part, counted in the same way: nobody is left to hear of it either.
    signal
        ``KILL``, ``TERM``, or ``INT``, which it may answer by ending in good order.
    """

    when: Moment | None = None
    at_entry: int | None = None
    at_part: int | None = None
    signal: Literal["KILL", "TERM", "INT"] = "KILL"


@dataclass(frozen=True)
class Freeze:
    """The collector's process stands still for longer than its lock lives; a second run is started meanwhile.

    Parameters
    ----------
    when
        From this moment on.
    seconds
        How long.
    head_start_seconds
        How long before the end of that the second run is started.
    """

    when: Moment
    seconds: float
    head_start_seconds: float


@dataclass(frozen=True)
class ValkeyTrouble:
    """Something happens to Valkey.

    Parameters
    ----------
    when
        At this moment.
    kind
        ``stop``: it is gone until the run has ended, and its data for good; ``restart``: it is gone for a moment, its
        data for good; ``flush``: its data is gone; ``pause``: it hangs for a while; ``full``: it takes no more writes
        until the run has ended; ``snapshot``: nothing goes wrong, but a copy of its data is kept; ``restore``: its data
        is that of the last copy; ``break connections``: all at once; ``lose reply``: it does what `command` asks for,
        and the connection breaks.
    seconds
        How long a pause takes.
    headroom_bytes
        What a full Valkey still takes.
    command
        In the bytes of the command whose reply is lost.
    """

    when: Moment
    kind: ValkeyTroubleKind
    seconds: float = 0.0
    headroom_bytes: int = 0
    command: str = ""

    @property
    def empties(self) -> bool:
        """Whether marks are lost."""
        return self.kind in ("stop", "restart", "flush", "restore")

    @property
    def is_harmless(self) -> bool:
        """Whether a run has to get over it as if nothing had happened."""
        return self.kind in ("snapshot", "lose reply", "break connections")


@dataclass(frozen=True)
class LedgerTrouble:
    """A part of the ledger cannot be written, until the run has ended or so many times.

    Parameters
    ----------
    when
        From this moment on.
    place
        A folder of the ledger, or "" for all of it.
    kind
        ``denied``: all that is written there, until the run has ended. In a folder a file takes its place: the one
        obstacle that stops root too, and that makes it unreadable as well. The others are an S3's alone.
    times
        How often, for the other kinds.
    """

    when: Moment
    place: LedgerPlace
    kind: S3FaultKind = "denied"
    times: int = 1

    @property
    def is_harmless(self) -> bool:
        """Whether a run has to get over it as if nothing had happened."""
        return self.kind != "denied"


@dataclass(frozen=True)
class ArchiveTrouble:
    """Something happens to an archive.

    Parameters
    ----------
    when
        At this moment.
    kind
        What happens to calls, see `s3.S3FaultKind`; ``hidden``: somebody deletes a part in a bucket with versions;
        ``overwritten``: somebody puts something else over it. Both are undone when the run has ended. In a folder,
        ``denied`` is all that there is.
    call
        Which calls: those that ``write`` a part, ``read`` one, or ``list`` them.
    skipped
        How many of them go well before.
    times
        How many of them do not.
    """

    when: Moment
    kind: ArchiveTroubleKind
    call: ArchiveCall = "write"
    skipped: int = 0
    times: int = 1

    @property
    def is_harmless(self) -> bool:
        """Whether a run has to get over it as if nothing had happened."""
        return self.kind in _UNDONE or (self.times == 1 and self.kind not in ("denied", "hang"))

    @property
    def lasts(self) -> bool:
        """Whether no such call succeeds, or is seen to succeed, while the run lasts."""
        return self.times == FOREVER


@dataclass(frozen=True)
class Traffic:
    """Kong goes on recording while the run reads.

    Parameters
    ----------
    when
        At this moment.
    count
        How many entries.
    """

    when: Moment
    count: int


@dataclass(frozen=True)
class SecondRun:
    """Another run is started while the first one is at work.

    Parameters
    ----------
    when
        At this moment.
    """

    when: Moment


Action = ValkeyTrouble | LedgerTrouble | ArchiveTrouble | Traffic | SecondRun | Freeze


@dataclass(frozen=True)
class KongFault:
    """A call of Kong goes wrong.

    Parameters
    ----------
    fault
        How.
    is_harmless
        Whether a run has to get over it as if nothing had happened.
    """

    fault: Fault
    is_harmless: bool = False


@dataclass(frozen=True)
class CallFault:
    """A call of PutAuditEvents goes wrong.

    Parameters
    ----------
    fault
        How.
    loses_answer
        Whether CloudTrail accepts the call all the same.
    """

    fault: Fault
    loses_answer: bool = False


@dataclass(frozen=True)
class EntryRefusal:
    """CloudTrail refuses single entries.

    Parameters
    ----------
    code
        With this error code.
    times
        How many.
    times_per_entry
        How often each; ``None``: any number of times.
    """

    code: str
    times: int = FOREVER
    times_per_entry: int | None = None


@dataclass(frozen=True)
class ProxyDate:
    """A proxy in front of Kong writes the ``Date`` header.

    Parameters
    ----------
    form
        ``gmt``: as RFC 9110 says; ``offset``: the right time with ``+0200`` in place of ``GMT``; ``none``: there is no
        such header; ``garbage``: something that is no date.
    skew_seconds
        How far its clock is ahead of the true time.
    """

    form: Literal["gmt", "offset", "none", "garbage"]
    skew_seconds: int = 0


@dataclass(frozen=True)
class Clocks:
    """What clocks show in a round.

    Parameters
    ----------
    kong_skew_seconds
        How far Kong's clock is ahead of the true time. Entries are dated by it.
    own_skew_seconds
        How far the clock of the collector's machine is ahead of the true time.
    proxy
        Who writes the ``Date`` header if not Kong.
    are_mended
        Whether both clocks are right again when the run begins: the entries alone tell that Kong's was not.
    """

    kong_skew_seconds: int = 0
    own_skew_seconds: int = 0
    proxy: ProxyDate | None = None
    are_mended: bool = False

    @property
    def of_run(self) -> Clocks:
        """What they show while the collector runs."""
        return Clocks(proxy=self.proxy) if self.are_mended else self


RIGHT_CLOCKS = Clocks()


@dataclass(frozen=True)
class MixedNodes:
    """A rolling upgrade: every nth call of Kong's audit log reaches a node of another release.

    Parameters
    ----------
    version
        A key of `kong_profiles.PROFILES`.
    every_nth
        Which calls.
    """

    version: str
    every_nth: int


@dataclass(frozen=True)
class KongPoison:
    """Kong cannot show some rows, until this is over.

    Parameters
    ----------
    fault
        What every page that would show one of them gets.
    rows
        How many.
    page_size_over
        Only where more than so many rows are asked for; 0: at all.
    seed
        Chooses them.
    """

    fault: Fault
    rows: int
    page_size_over: int
    seed: int


@dataclass(frozen=True)
class CallPoison:
    """CloudTrail, or something before it, fails every call that holds one of some entries, until this is over.

    Parameters
    ----------
    fault
        What the call gets.
    entries
        How many.
    seed
        Chooses them.
    """

    fault: Fault
    entries: int
    seed: int


@dataclass(frozen=True)
class Round:
    """One round; see the module. Counts are of entries, times in seconds."""

    number: int
    entries_seed: int
    new_entries: int
    advance_seconds: int
    page_size: int
    parallel_deliveries: int
    kong_latency_seconds: float
    delivery_latency_seconds: float
    calls_per_second: float
    budget_seconds: int | None = None
    """Of an invocation in Lambda; ``None``: from the command line, without end."""
    tick: Literal["", "new", "again"] = ""
    """Whether the invocation names its tick of the schedule: none, a new one, or that of the round before, which may
    have been killed; then its lock has expired."""
    kill: Kill | None = None
    kong_faults: tuple[KongFault, ...] = ()
    call_faults: tuple[CallFault, ...] = ()
    entry_refusals: tuple[EntryRefusal, ...] = ()
    actions: tuple[Action, ...] = ()
    another_holds_lock: bool = False
    """Whether a run on another machine seems to be at work."""
    clocks: Clocks = RIGHT_CLOCKS
    mixed: MixedNodes | None = None
    kong_poison: KongPoison | None = None
    call_poison: CallPoison | None = None
    situations: tuple[str, ...] = ()
    """What was drawn for it, by name: see `draw.CHANCES`."""

    @property
    def is_calm(self) -> bool:
        """Whether nothing goes wrong that a run need not get over."""
        return not (self.lasting_troubles or self.passing_troubles)

    @property
    def lasting_troubles(self) -> bool:
        """Whether something is wrong that no retry helps against: clocks, nodes, poison."""
        return self.clocks.of_run != RIGHT_CLOCKS or any((self.mixed, self.kong_poison, self.call_poison))

    @property
    def passing_troubles(self) -> bool:
        """Whether something goes wrong besides."""
        happens = [
            action
            for action in self.actions
            if isinstance(action, Freeze)
            or (isinstance(action, ValkeyTrouble | LedgerTrouble | ArchiveTrouble) and not action.is_harmless)
        ]
        faults = [fault for fault in self.kong_faults if not fault.is_harmless]
        return bool(
            self.kill or self.another_holds_lock or happens or faults or self.call_faults or self.entry_refusals
        )

    @property
    def kong_is_down(self) -> bool:
        """Whether no call of Kong's is answered."""
        return any(one.fault.times == FOREVER and not one.fault.path for one in self.kong_faults)

    @property
    def destination_is_down(self) -> bool:
        """Whether no delivery is answered in a way that could be understood."""
        parts = [action for action in self.actions if isinstance(action, ArchiveTrouble) and action.call == "write"]
        return any(one.fault.times == FOREVER for one in self.call_faults) or any(one.lasts for one in parts)

    @property
    def lost_batches(self) -> int:
        """How many batches may have been accepted without the collector knowing, at most."""
        lost = sum(one.fault.times for one in self.call_faults if one.loses_answer)
        # Where no answer says anything any more, a run ends with what is under way.
        return self.parallel_deliveries if lost >= FOREVER else lost


@dataclass(frozen=True)
class Scenario:
    """Rounds that share their servers and their ledger.

    Parameters
    ----------
    number
        From 1.
    kong_version
        A key of `kong_profiles.PROFILES`.
    overlap_seconds, sweep_seconds
        Settings of the collector.
    destination
        Where the entries go.
    ledger
        What keeps the ledger.
    archive
        What keeps the archive, if that is the destination.
    own_clock_is_true
        Whether the collector's machine has the same time as the plan, but for the skews that are drawn. Otherwise its
        clock is years ahead of Kong's.
    latest_seconds
        How long after its time an entry may become visible, at most.
    server_header
        Whether Kong tells its release in each answer.
    backlog_entries, backlog_seconds
        What Kong holds before the first round, and over how long it is spread.
    is_tight
        Whether runs have too little time for what they would have to read.
    rounds
        What happens.
    stream
        What is delivered.
    """

    number: int
    kong_version: str
    overlap_seconds: int
    sweep_seconds: int
    destination: DestinationName
    ledger: PlaceKind
    archive: PlaceKind
    own_clock_is_true: bool
    latest_seconds: int
    server_header: bool
    backlog_entries: int
    backlog_seconds: int
    is_tight: bool
    rounds: tuple[Round, ...] = field(repr=False)
    stream: StreamName = "requests"

    @property
    def objects_newest_first(self) -> bool:
        """Whether Kong shows changes of objects in the order of requests: nobody knows which order they have."""
        return self.number % 2 == 0

    @property
    def excluded_methods(self) -> tuple[str, ...]:
        """Methods of requests that the collector is to leave out: in every second scenario of a destination."""
        return ("PUT", "PATCH") if self.number % 4 in (0, 3) else ()

    @property
    def needs_s3(self) -> bool:
        """Whether anything is kept in S3."""
        return self.ledger == "S3" or (self.destination == "archive" and self.archive == "S3")


def calm_round(number: int = 0) -> Round:
    """Return a round in which nothing goes wrong and nothing is new."""
    return Round(
        number=number,
        entries_seed=0,
        new_entries=0,
        advance_seconds=0,
        page_size=1000,
        parallel_deliveries=8,
        kong_latency_seconds=0.0,
        delivery_latency_seconds=0.0,
        calls_per_second=100,
    )
