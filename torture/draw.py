"""Draws a plan from a seed: scenarios, their rounds, and what lasts for several rounds."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sandbox.machinery import faults
from sandbox.machinery.faults import Fault
from torture import draw_faults
from torture.plan import (
    BEFORE,
    DESTINATIONS,
    STREAMS,
    Action,
    CallFault,
    CallPoison,
    Clocks,
    DestinationName,
    EntryRefusal,
    KongFault,
    KongPoison,
    LedgerTrouble,
    MixedNodes,
    ProxyDate,
    Round,
    Scenario,
    SecondRun,
    StreamName,
    Traffic,
    ValkeyTrouble,
)

CHANCES: dict[str, float] = {
    # of a scenario
    "tight": 0.12,
    "wide overlap": 0.06,
    "very late entries": 0.4,
    "ledger in S3": 0.4,
    "archive in S3": 0.7,
    # of a round to see the beginning of what may last for several
    "Kong's clock jumps": 0.05,
    "both clocks jump": 0.03,
    "own clock jumps": 0.03,
    "a proxy's Date": 0.08,
    "mixed nodes": 0.06,
    "poison at Kong": 0.06,
    "heavy pages": 0.04,
    "poison at CloudTrail": 0.06,
    "full cache": 0.05,
    "checkpoint denied": 0.03,
    # of a round that is not to be quiet
    "kill": 0.4,
    "freeze": 0.006,
    "traffic": 0.3,
    "second run": 0.08,
    "locked": 0.04,
    "Lambda": 0.35,
    "Kong's faults": 0.25,
    "Kong's / fails": 0.07,
    "Kong is down": 0.02,
    "Kong is a black hole": 0.02,
    "cached answers": 0.03,
    "CloudTrail's faults": 0.25,
    "CloudTrail is down": 0.02,
    "CloudTrail is a black hole": 0.02,
    "answers that say nothing": 0.02,
    "replies lost": 0.02,
    "unknown code for all": 0.02,
    "checksum after throttling": 0.04,
    "entries refused": 0.2,
    "Valkey's faults": 0.2,
    "replies of Valkey lost": 0.07,
    "snapshot": 0.07,
    "restored snapshot": 0.06,
    "ledger denied": 0.13,
    "S3 stumbles": 0.3,
    "runs at once": 0.35,
    "archive stumbles": 0.4,
    "archive is down": 0.04,
    "archive is a black hole": 0.03,
    "archive's answers lost": 0.05,
    "archive denied": 0.04,
    "part changed": 0.06,
}
"""What may happen, and how likely it is."""

_MAX_SCENARIO_ROUNDS = 20
_MAX_ADVANCE_SECONDS = 1_500_000  # so that nothing expires at Kong, whatever became of the rounds

_BACKLOG_SECONDS: dict[DestinationName, tuple[int, ...]] = {
    "cloudtrail-lake": (600, 50_000, 400_000, 2_500_000),
    "cloudwatch-logs": (600, 50_000, 400_000, 2_500_000),
    "archive": (600, 20_000, 50_000, 200_000),  # each hour is a part: more of them take long, and show nothing new
}

_T = TypeVar("_T")


class _Luck:
    """Tells what happens.

    Parameters
    ----------
    rng
        Draws.
    focus
        If not empty: only these situations happen, and often.
    """

    def __init__(self, rng: random.Random, focus: Collection[str]) -> None:
        if unknown := set(focus) - CHANCES.keys():
            raise ValueError(f"no such situation: {', '.join(sorted(unknown))}; there are: {', '.join(CHANCES)}")
        self._rng = rng
        self._focus = frozenset(focus)
        self._lasting: dict[str, tuple[Any, int]] = {}
        self.quiet = False
        self.drawn: list[str] = []
        """What happens in this round, by name."""

    def strikes(self, name: str) -> bool:
        """Tell whether something happens; never in a quiet round."""
        chance = CHANCES[name]
        if self._focus:
            chance = max(chance, 0.6) if name in self._focus else 0.0
        happens = self._rng.random() < chance and not self.quiet
        if happens:
            self.drawn.append(name)
        return happens

    def lasts(self, name: str, rounds: Sequence[int], make: Callable[[], _T]) -> _T | None:
        """Return what began in an earlier round and still lasts, or begins now; ``None`` if neither."""
        thing, left = self._lasting.pop(name, (None, 0))
        if left == 0:
            if not self.strikes(name):
                return None
            thing, left = make(), self._rng.choice(rounds)
        else:
            self.drawn.append(name)
        if left > 1:
            self._lasting[name] = (thing, left - 1)
        made: _T = thing
        return made

    def new_round(self, quiet_share: float) -> None:
        """Begin a round."""
        self.drawn = []
        self.quiet = self._rng.random() < quiet_share and not self._focus


def make_plan(
    rounds: int,
    seed: int,
    focus: Collection[str] = (),
    destinations: Sequence[DestinationName] = DESTINATIONS,
    streams: Sequence[StreamName] = STREAMS,
) -> list[Scenario]:
    """Return a plan of so many rounds.

    Parameters
    ----------
    rounds
        In all scenarios together.
    seed
        The same seed, number of rounds, focus, destinations and streams give the same plan.
    focus
        If not empty: only these situations, names of `CHANCES`, happen.
    destinations
        Of the scenarios, in turn.
    streams
        Of the scenarios: of five, two have the last one.
    """
    rng = random.Random(seed)
    scenarios: list[Scenario] = []
    number = 1
    while number <= rounds:
        # A small torture sees more than one scenario too.
        most = max(1, min(_MAX_SCENARIO_ROUNDS, rounds // 2))
        last = min(rounds, number + rng.randint((most + 1) // 2, most) - 1)
        destination = destinations[len(scenarios) % len(destinations)]
        scenario = _scenario(rng, len(scenarios) + 1, destination, range(number, last + 1), focus)
        scenarios.append(replace(scenario, stream=streams[-1] if scenario.number % 5 in (2, 4) else streams[0]))
        number = last + 1
    return scenarios


def _scenario(
    rng: random.Random, number: int, destination: DestinationName, numbers: Sequence[int], focus: Collection[str]
) -> Scenario:
    luck = _Luck(rng, focus)
    backlog_seconds = rng.choice(_BACKLOG_SECONDS[destination])
    overlap_seconds = rng.choice((60, 300, 900))
    own_clock_is_true = rng.random() < 0.7
    scenario = Scenario(
        number=number,
        kong_version=rng.choice(("3.10", "3.10", "3.10", "3.8", "3.4", "2.8")) if number > 1 else "3.10",
        overlap_seconds=overlap_seconds,
        sweep_seconds=rng.choice((0, 3600, 86_400, 86_400)),
        destination=destination,
        ledger="S3" if luck.strikes("ledger in S3") else "folder",
        archive="S3" if destination == "archive" and luck.strikes("archive in S3") else "folder",
        own_clock_is_true=own_clock_is_true,
        latest_seconds=(
            rng.choice((3 * overlap_seconds, 10_000, 90_000)) if luck.strikes("very late entries") else overlap_seconds
        ),
        server_header=rng.random() < 0.8,
        backlog_entries=rng.choice((0, 40, 600, 1500)),
        backlog_seconds=backlog_seconds,
        is_tight=False,
        rounds=(),
    )
    # More to read than fits into a run: because nothing can be filtered, or because so much is read again.
    if is_wide := luck.strikes("wide overlap"):
        scenario = replace(scenario, is_tight=True, overlap_seconds=backlog_seconds, kong_version="3.10")
    elif luck.strikes("tight"):
        scenario = replace(scenario, is_tight=True, kong_version=rng.choice(("3.4", "2.8")))
    if scenario.is_tight:
        scenario = replace(scenario, backlog_entries=rng.choice((1500, 2500)))
    in_all_rounds = tuple(luck.drawn)
    advanced_seconds = 0
    rounds: list[Round] = []
    for one in numbers:
        luck.new_round(0.7 if scenario.is_tight else 0.3)
        round_ = _round(rng, luck, one, scenario)
        advanced_seconds += round_.advance_seconds
        if advanced_seconds > _MAX_ADVANCE_SECONDS:
            round_ = replace(round_, advance_seconds=1)
        if is_wide and not rounds:  # what fills the overlap is delivered first
            round_ = replace(round_, budget_seconds=None, tick="")
        rounds.append(replace(round_, situations=in_all_rounds + round_.situations))
    return replace(scenario, rounds=tuple(rounds))


@dataclass
class _Drawn:
    """What was drawn for a round, before it becomes one."""

    kong_faults: list[KongFault] = field(default_factory=list)
    call_faults: list[CallFault] = field(default_factory=list)
    entry_refusals: list[EntryRefusal] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    another_holds_lock: bool = False
    call_poison: CallPoison | None = None
    needs_short_budget: bool = False


def _round(rng: random.Random, luck: _Luck, number: int, scenario: Scenario) -> Round:
    clocks = _clocks(rng, luck, scenario)
    mixed = luck.lasts("mixed nodes", (1, 1, 2), lambda: _mixed(rng, scenario))
    kong_poison = luck.lasts("poison at Kong", (1, 2, 4), lambda: _kong_poison(rng))
    heavy = luck.lasts("heavy pages", (1, 2, 3), lambda: _kong_poison(rng, page_size_over=rng.choice((1, 5, 40))))
    drawn = _Drawn()
    drawn.needs_short_budget = any(one is not None and one.fault.kind == "hang" for one in (kong_poison, heavy))
    _draw_ledger(rng, luck, scenario, drawn)
    _draw_kong(rng, luck, drawn)
    if scenario.destination == "archive":
        _draw_archive(rng, luck, scenario, drawn)
    else:
        _draw_valkey(rng, luck, drawn)
        _draw_cloudtrail(rng, luck, drawn)
    if luck.strikes("traffic"):
        drawn.actions += [Traffic(draw_faults.moment(rng), rng.randint(1, 60)) for _ in range(rng.randint(1, 3))]
    budget_seconds = _budget(rng, luck, drawn, scenario)
    kill = draw_faults.kill(rng, scenario, in_lambda=budget_seconds is not None) if luck.strikes("kill") else None
    if kill is None and budget_seconds is None and luck.strikes("freeze"):
        drawn.actions.append(draw_faults.freeze(rng, scenario))
    return Round(
        number=number,
        entries_seed=rng.getrandbits(32),
        new_entries=rng.choice((0, 1, 30, 60, 120, 120, 300, 500)),
        # Now and then a standstill, or a weekend without a run.
        advance_seconds=rng.choice((0, 1, 20, 90, 600, 600, 600, 3_000, 3_700, 3_700, 90_000, 250_000)),
        page_size=rng.choice((7, 25, 50) if scenario.is_tight else (7, 50, 100, 250, 1000)),
        parallel_deliveries=rng.choice((1, 2, 3, 8)),
        kong_latency_seconds=rng.choice((0.05, 0.1) if scenario.is_tight else (0.0, 0.0, 0.005, 0.02)),
        delivery_latency_seconds=rng.choice((0.0, 0.01, 0.03, 0.08)),
        # Where there is little time, none of it is spent on being throttled.
        calls_per_second=100 if budget_seconds in (3, 10) else rng.choice((100, 100, 100, 5)),
        budget_seconds=budget_seconds,
        tick=rng.choice(("", "new", "new", "new", "again")) if budget_seconds is not None else "",
        kill=kill,
        kong_faults=tuple(drawn.kong_faults),
        call_faults=tuple(drawn.call_faults),
        entry_refusals=tuple(drawn.entry_refusals),
        actions=tuple(drawn.actions),
        another_holds_lock=drawn.another_holds_lock,
        clocks=clocks,
        mixed=mixed,
        kong_poison=kong_poison or heavy,
        call_poison=drawn.call_poison,
        situations=tuple(luck.drawn),
    )


def _budget(rng: random.Random, luck: _Luck, drawn: _Drawn, scenario: Scenario) -> int | None:
    if scenario.is_tight:
        return 3
    if drawn.needs_short_budget:
        return rng.choice((3, 10))
    return rng.choice((3, 10, 60)) if luck.strikes("Lambda") else None


# -- what lasts


def _clocks(rng: random.Random, luck: _Luck, scenario: Scenario) -> Clocks:
    """Draw what the clocks show: one jump at a time, and a proxy's date beside it."""
    kong_skew_seconds = own_skew_seconds = 0
    if both := luck.lasts("both clocks jump", (1, 1, 2), lambda: rng.choice((-86_400, 7_200, 86_400))):
        kong_skew_seconds = own_skew_seconds = both
    elif kong := luck.lasts("Kong's clock jumps", (1, 1, 2, 3), lambda: rng.choice(_KONGS_JUMPS_SECONDS)):
        kong_skew_seconds = kong
    elif own := luck.lasts("own clock jumps", (1, 2), lambda: rng.choice((-86_400, -3_600, 3_600, 86_400))):
        own_skew_seconds = own
    if not scenario.own_clock_is_true:
        own_skew_seconds = 0
    proxy = luck.lasts("a proxy's Date", (1, 2, 3), lambda: _proxy_date(rng))
    return Clocks(kong_skew_seconds, own_skew_seconds, proxy, are_mended=bool(kong_skew_seconds) and rng.random() < 0.4)


_KONGS_JUMPS_SECONDS = (-600, -3_600, -3_600, -7_200, -86_400, 1_800, 86_400)


def _proxy_date(rng: random.Random) -> ProxyDate:
    form = rng.choice(("gmt", "gmt", "gmt", "offset", "none", "garbage"))
    skew_seconds = rng.choice((-7_200, -1_200, 1_200, 1_200, 7_200)) if form == "gmt" else 0
    return ProxyDate(form, skew_seconds)  # type: ignore[arg-type]


def _mixed(rng: random.Random, scenario: Scenario) -> MixedNodes:
    others = [version for version in ("2.8", "3.4", "3.8", "3.10") if version != scenario.kong_version]
    return MixedNodes(rng.choice(others), every_nth=rng.choice((2, 2, 3)))


def _kong_poison(rng: random.Random, *, page_size_over: int = 0) -> KongPoison:
    fault = rng.choice(
        (
            faults.server_error(),
            faults.server_error(),
            faults.bad_gateway(504),
            faults.invalid_json(),
            Fault(kind="reset"),
            Fault(kind="cut_off"),
            Fault(kind="hang"),
        )
    )
    return KongPoison(fault, rng.choice((1, 1, 2, 5)), page_size_over, seed=rng.getrandbits(32))


def _call_poison(rng: random.Random) -> CallPoison:
    fault = rng.choice(
        (
            faults.aws_error("InternalFailure", 500),
            Fault(kind="status", status=500, body="<html>500</html>", content_type="text/html"),
            Fault(kind="status", status=403, body="<html>403 Forbidden</html>", content_type="text/html"),
            Fault(kind="reset"),
        )
    )
    return CallPoison(fault, rng.choice((1, 1, 2)), seed=rng.getrandbits(32))


# -- what happens in one round, by where


def _draw_ledger(rng: random.Random, luck: _Luck, scenario: Scenario, drawn: _Drawn) -> None:
    if luck.lasts("checkpoint denied", (2, 3), lambda: True):
        drawn.actions.append(LedgerTrouble(BEFORE, "checkpoints"))
    elif luck.strikes("ledger denied"):
        drawn.actions.append(draw_faults.ledger_trouble(rng, scenario))
    if scenario.ledger == "S3" and luck.strikes("S3 stumbles"):
        drawn.actions += draw_faults.s3_stumbles(rng, scenario)


def _draw_kong(rng: random.Random, luck: _Luck, drawn: _Drawn) -> None:
    if luck.strikes("Kong's / fails"):
        drawn.kong_faults.append(draw_faults.root_fault(rng))
    if luck.strikes("Kong's faults"):
        drawn.kong_faults += draw_faults.kong_faults(rng)
    if luck.strikes("cached answers"):
        drawn.kong_faults.append(draw_faults.cached_answers(rng))
    if luck.strikes("Kong is down"):
        drawn.kong_faults = [draw_faults.kong_down(rng)]
    elif luck.strikes("Kong is a black hole"):
        drawn.kong_faults = [draw_faults.kong_black_hole(rng)]
        drawn.needs_short_budget = True


def _draw_valkey(rng: random.Random, luck: _Luck, drawn: _Drawn) -> None:
    if luck.lasts("full cache", (1, 2, 2, 3), lambda: True):
        drawn.actions.append(draw_faults.full_cache(rng))
    elif luck.strikes("Valkey's faults"):
        trouble = draw_faults.valkey_trouble(rng)
        drawn.actions.append(trouble)
        drawn.needs_short_budget |= trouble.seconds > 5
    elif luck.strikes("restored snapshot"):
        drawn.actions.append(ValkeyTrouble(BEFORE if rng.random() < 0.7 else draw_faults.moment(rng), "restore"))
    elif luck.strikes("snapshot"):
        drawn.actions.append(ValkeyTrouble(BEFORE, "snapshot"))
    if luck.strikes("replies of Valkey lost"):
        drawn.actions.append(draw_faults.lost_reply(rng))
    drawn.another_holds_lock = luck.strikes("locked")
    if luck.strikes("second run"):
        drawn.actions.append(SecondRun(draw_faults.second_call(rng)))


def _draw_cloudtrail(rng: random.Random, luck: _Luck, drawn: _Drawn) -> None:
    drawn.call_poison = luck.lasts("poison at CloudTrail", (1, 2, 4), lambda: _call_poison(rng))
    if luck.strikes("CloudTrail's faults"):
        drawn.call_faults += draw_faults.call_faults(rng)
    for_the_whole_run: tuple[tuple[str, Callable[[random.Random], CallFault]], ...] = (
        ("CloudTrail is down", draw_faults.cloudtrail_down),
        ("CloudTrail is a black hole", draw_faults.cloudtrail_black_hole),
        ("answers that say nothing", draw_faults.silent_answers),
        ("replies lost", draw_faults.lost_answers),
    )
    for name, make in for_the_whole_run:
        if luck.strikes(name):
            drawn.call_faults = [make(rng)]
            drawn.needs_short_budget |= name == "CloudTrail is a black hole"
    if luck.strikes("unknown code for all"):
        drawn.entry_refusals.append(EntryRefusal("SomethingNew"))
    elif luck.strikes("checksum after throttling"):
        codes = ("Throttling", "InvalidChecksum")
        drawn.entry_refusals += [EntryRefusal(code, times_per_entry=1) for code in codes]
    elif luck.strikes("entries refused"):
        drawn.entry_refusals += draw_faults.entry_refusals(rng)


def _draw_archive(rng: random.Random, luck: _Luck, scenario: Scenario, drawn: _Drawn) -> None:
    if luck.strikes("runs at once"):
        drawn.actions += draw_faults.runs_at_once(rng)
    if luck.strikes("archive denied"):
        drawn.actions.append(draw_faults.archive_denied(rng))
        return
    if scenario.archive == "folder":
        return
    if luck.strikes("archive stumbles"):
        drawn.actions += draw_faults.archive_stumbles(rng)
    if luck.strikes("part changed"):
        drawn.actions.append(draw_faults.part_changed(rng))
    if luck.strikes("archive is down"):
        drawn.actions.append(draw_faults.archive_down(rng))
    elif luck.strikes("archive's answers lost"):
        drawn.actions.append(draw_faults.archive_answers_lost(rng))
    elif luck.strikes("archive is a black hole"):
        drawn.actions.append(draw_faults.archive_black_hole(rng))
        drawn.needs_short_budget = True
