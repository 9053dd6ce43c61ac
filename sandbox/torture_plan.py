"""What a torture does to the collector: drawn from a seed, the same for the same seed, before anything is started.

A plan is a list of scenarios, each with a Kong, a CloudTrail, a Valkey and a ledger of its own, and each of these is a
list of rounds. A round adds entries, runs the collector once, and lets things go wrong while it runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sandbox import faults
from sandbox.faults import Fault

_MAX_SCENARIO_ROUNDS = 20

Where = Literal["before", "start", "kong", "cloudtrail"]
LedgerPlace = Literal["", "checkpoints", "quarantine", "originals", "runs"]


@dataclass(frozen=True)
class Moment:
    """When something happens.

    Parameters
    ----------
    where
        Counted from: ``before`` the run is started, its ``start``, the answer to call number `count` of Kong, or the
        `count`-th call in which CloudTrail accepted something.
    count
        Which call.
    delay_seconds
        How long after that.
    """

    where: Where
    count: int = 0
    delay_seconds: float = 0.0


@dataclass(frozen=True)
class Kill:
    """The collector's process gets a signal.

    Parameters
    ----------
    when
        At this moment; ``None`` with `at_entry`.
    at_entry
        While CloudTrail looks at this entry, counted from the beginning of the run: it accepts the whole call, and
        nobody is left to hear of it.
    signal
        ``KILL``, ``TERM``, or ``INT``, which it may answer by ending in good order.
    """

    when: Moment | None = None
    at_entry: int | None = None
    signal: Literal["KILL", "TERM", "INT"] = "KILL"


@dataclass(frozen=True)
class ValkeyTrouble:
    """Something happens to Valkey.

    Parameters
    ----------
    when
        At this moment.
    kind
        ``stop``: it is gone until the run has ended, and its data for good; ``restart``: it is gone for a moment, its
        data for good; ``flush``: its data is gone; ``pause``: it hangs for a while.
    seconds
        How long a pause takes.
    """

    when: Moment
    kind: Literal["stop", "restart", "flush", "pause"]
    seconds: float = 0.0


@dataclass(frozen=True)
class LedgerTrouble:
    """A part of the ledger cannot be written any more until the run has ended.

    Parameters
    ----------
    when
        From this moment on.
    place
        A folder of the ledger, or "" for all of it. A file takes its place: the one obstacle that stops root too.
    """

    when: Moment
    place: LedgerPlace


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
    """

    code: str
    times: int


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
    cloudtrail_latency_seconds: float
    calls_per_second: float
    kill: Kill | None = None
    kong_faults: tuple[Fault, ...] = ()
    call_faults: tuple[CallFault, ...] = ()
    entry_refusals: tuple[EntryRefusal, ...] = ()
    actions: tuple[ValkeyTrouble | LedgerTrouble | Traffic | SecondRun, ...] = ()
    another_holds_lock: bool = False
    """Whether a run on another machine seems to be at work."""

    @property
    def is_calm(self) -> bool:
        """Whether nothing goes wrong."""
        troubles = [action for action in self.actions if not isinstance(action, Traffic | SecondRun)]
        faults = (*self.kong_faults, *self.call_faults, *self.entry_refusals)
        return not (self.kill or faults or troubles or self.another_holds_lock)


@dataclass(frozen=True)
class Scenario:
    """Rounds that share their servers and their ledger.

    Parameters
    ----------
    number
        From 1.
    kong_version
        A key of `kong_profiles.PROFILES`.
    overlap_seconds, settle_seconds
        Settings of the collector.
    backlog_entries, backlog_seconds
        What Kong holds before the first round, and over how long it is spread.
    rounds
        What happens.
    """

    number: int
    kong_version: str
    overlap_seconds: int
    settle_seconds: int
    backlog_entries: int
    backlog_seconds: int
    rounds: tuple[Round, ...] = field(repr=False)


def make_plan(rounds: int, seed: int) -> list[Scenario]:
    """Return a plan of so many rounds.

    Parameters
    ----------
    rounds
        In all scenarios together.
    seed
        The same seed and number of rounds give the same plan.
    """
    rng = random.Random(seed)
    scenarios: list[Scenario] = []
    number = 1
    while number <= rounds:
        # A small torture sees more than one scenario too.
        most = max(1, min(_MAX_SCENARIO_ROUNDS, rounds // 2))
        last = min(rounds, number + rng.randint((most + 1) // 2, most) - 1)
        scenarios.append(_scenario(rng, len(scenarios) + 1, range(number, last + 1)))
        number = last + 1
    return scenarios


def calm_round() -> Round:
    """Return a round in which nothing goes wrong and nothing is new."""
    return Round(
        number=0,
        entries_seed=0,
        new_entries=0,
        advance_seconds=0,
        page_size=1000,
        parallel_deliveries=8,
        kong_latency_seconds=0.0,
        cloudtrail_latency_seconds=0.0,
        calls_per_second=100,
    )


def _scenario(rng: random.Random, number: int, numbers: Sequence[int]) -> Scenario:
    return Scenario(
        number=number,
        kong_version=rng.choice(("3.10", "3.10", "3.10", "3.8", "3.4", "2.8")) if number > 1 else "3.10",
        overlap_seconds=rng.choice((60, 300, 900)),
        settle_seconds=rng.choice((0, 0, 0, 7)),
        backlog_entries=rng.choice((0, 40, 600, 1500)),
        backlog_seconds=rng.choice((600, 50_000, 400_000, 2_500_000)),
        rounds=tuple(_round(rng, one) for one in numbers),
    )


def _round(rng: random.Random, number: int) -> Round:
    kill = _kill(rng) if rng.random() < 0.5 else None
    troubles = [name for name, share in _TROUBLES.items() if rng.random() < share]
    actions: list[ValkeyTrouble | LedgerTrouble | Traffic | SecondRun] = []
    if rng.random() < 0.3:
        actions += [Traffic(_moment(rng), rng.randint(1, 60)) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.08:
        actions.append(SecondRun(Moment("kong", 2, rng.uniform(0, 0.1))))
    if "valkey" in troubles:
        actions.append(_valkey_trouble(rng))
    if "ledger" in troubles:
        when = Moment("before") if rng.random() < 0.6 else _moment(rng)
        actions.append(LedgerTrouble(when, rng.choice(_LEDGER_PLACES)))
    return Round(
        number=number,
        entries_seed=rng.getrandbits(32),
        new_entries=rng.choice((0, 1, 30, 60, 120, 120, 300, 500)),
        # Now and then a standstill, or a weekend without a run.
        advance_seconds=rng.choice((0, 1, 20, 90, 600, 600, 3_000, 250_000)),
        page_size=rng.choice((7, 50, 100, 250, 1000)),
        parallel_deliveries=rng.choice((1, 2, 3, 8)),
        kong_latency_seconds=rng.choice((0.0, 0.0, 0.005, 0.02)),
        cloudtrail_latency_seconds=rng.choice((0.0, 0.01, 0.03, 0.08)),
        calls_per_second=rng.choice((100, 100, 100, 5)),
        kill=kill,
        kong_faults=_kong_faults(rng) if "kong" in troubles else (),
        call_faults=_call_faults(rng) if "calls" in troubles else (),
        entry_refusals=_entry_refusals(rng) if "entries" in troubles else (),
        actions=tuple(actions),
        another_holds_lock=rng.random() < 0.04,
    )


_TROUBLES = {"kong": 0.25, "calls": 0.25, "entries": 0.2, "valkey": 0.2, "ledger": 0.15}


# The quarantine twice: whoever ignores that it failed loses entries.
_LEDGER_PLACES: tuple[LedgerPlace, ...] = ("quarantine", "quarantine", "originals", "runs", "checkpoints", "")


def _moment(rng: random.Random) -> Moment:
    match rng.randrange(3):
        case 0:
            return Moment("start", delay_seconds=rng.uniform(0.2, 0.8))
        case 1:
            return Moment("kong", rng.randint(1, 5), rng.uniform(0, 0.03))
        case _:
            return Moment("cloudtrail", rng.choice((1, 1, 1, 2, 3)), rng.uniform(0, 0.03))


def _kill(rng: random.Random) -> Kill:
    signal: Literal["KILL", "TERM", "INT"] = rng.choices(("KILL", "TERM", "INT"), (8, 1, 1))[0]
    if signal == "INT":  # Python's own start-up does not answer it in good order
        return Kill(Moment("kong", rng.randint(1, 6), rng.uniform(0, 0.1)), signal=signal)
    if rng.random() < 0.4:
        return Kill(at_entry=rng.choice((1, 1, 5, 20, 60, 130, 250)), signal=signal)
    return Kill(_moment(rng), signal=signal)


def _valkey_trouble(rng: random.Random) -> ValkeyTrouble:
    kind: Literal["stop", "restart", "flush", "pause"] = rng.choice(("stop", "restart", "flush", "pause"))
    when = Moment("before") if rng.random() < 0.25 else _moment(rng)
    # Mostly shorter than a client waits; now and then longer than that.
    return ValkeyTrouble(when, kind, seconds=rng.uniform(0.1, 1.5) if rng.random() < 0.95 else 6.5)


def _kong_faults(rng: random.Random) -> tuple[Fault, ...]:
    return tuple(_kong_fault(rng) for _ in range(rng.randint(1, 2)))


def _kong_fault(rng: random.Random) -> Fault:
    where: dict[str, Any] = {"path": rng.choice(("", "/audit/requests", "offset=")), "nth": rng.randint(1, 6)}
    if rng.random() < 0.06:  # dead: more often than it is asked; refusals, which are not asked again, are enough once
        return faults.bad_gateway(503, **where, times=5)
    times = rng.randint(1, 2)
    fault: Callable[[], Fault] = rng.choice(
        (
            lambda: faults.server_error(**where, times=times),
            lambda: faults.bad_gateway(502, **where, times=times),
            lambda: faults.bad_gateway(503, **where, times=times),
            lambda: faults.rate_limited(rng.choice(("0", "1")), **where),
            lambda: faults.slow(rng.uniform(0.05, 0.6), **where, times=times),
            lambda: faults.invalid_json(**where, times=times),
            lambda: Fault(kind="cut_off", **where, times=times),
            lambda: Fault(kind="reset", **where, times=times),
            lambda: Fault(kind="reset_after", **where, times=times),
            lambda: Fault(kind="status", status=rng.choice((401, 403, 404)), **where),
            # Not "entries are no objects": what claims to be a page and is none cannot be told from one.
            lambda: faults.wrong_shape(rng.choice(_WRONG_SHAPES), **(where | {"path": "/audit/requests"})),
        )
    )
    return fault()


_WRONG_SHAPES = ("no data", "data is null", "data is an object", "a bare array", "offset is no string")


def _call_faults(rng: random.Random) -> tuple[CallFault, ...]:
    return tuple(_call_fault(rng) for _ in range(rng.randint(1, 3)))


def _call_fault(rng: random.Random) -> CallFault:
    nth = rng.randint(1, 4)
    if rng.random() < 0.015:  # down, until the collector gives up
        return CallFault(faults.aws_error("InternalFailure", 500, nth=nth, times=40))
    times = rng.randint(1, 2)
    fault: Callable[[], CallFault] = rng.choice(
        (
            lambda: CallFault(Fault(kind="throttle", nth=nth, times=times)),
            lambda: CallFault(faults.aws_error("InternalFailure", 500, nth=nth, times=times)),
            lambda: CallFault(faults.bad_gateway(rng.choice((502, 503)), nth=nth, times=times)),
            lambda: CallFault(Fault(kind="reset", nth=nth, times=times)),
            lambda: CallFault(faults.slow(rng.uniform(0.1, 0.6), nth=nth, times=times)),
            lambda: CallFault(Fault(kind="reset_after", nth=nth, times=times), loses_answer=True),
            lambda: CallFault(Fault(kind="cut_off", nth=nth, times=times), loses_answer=True),
            lambda: CallFault(Fault(kind="body", body=rng.choice(_NO_ANSWERS), nth=nth), loses_answer=True),
            lambda: CallFault(faults.aws_error("ValidationException", nth=nth, times=rng.randint(1, 3))),
            lambda: CallFault(faults.aws_error("RequestEntityTooLargeException", 413, nth=nth)),
            lambda: CallFault(faults.aws_error("SomethingNew", nth=nth, times=times)),
            lambda: CallFault(faults.aws_error(rng.choice(("ChannelNotFound", "AccessDeniedException")), nth=nth)),
        )
    )
    return fault()


_NO_ANSWERS = ("", "{}", "<html></html>", '{"failed":[],"successful":[]}', '{"failed":null,"successful":null}', "[1]")


def _entry_refusals(rng: random.Random) -> tuple[EntryRefusal, ...]:
    codes = ("Throttling", "InternalFailure", "InvalidData", "FieldTooLong", "SomethingNew", "AccountNotSubscribed")
    # Few at once, as a rule: an entry that is refused again and again is tried for ten seconds.
    return tuple(
        EntryRefusal(rng.choice(codes), times=rng.choice((1, 2, 2, 30, 30, 150))) for _ in range(rng.randint(1, 2))
    )
