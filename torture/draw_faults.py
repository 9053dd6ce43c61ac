"""Draws what goes wrong in a single round."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

from sandbox.machinery import faults
from sandbox.machinery.faults import Fault
from torture.plan import (
    BEFORE,
    FOREVER,
    LOCK_SECONDS,
    ArchiveCall,
    ArchiveTrouble,
    ArchiveTroubleKind,
    CallFault,
    DestinationName,
    EntryRefusal,
    Freeze,
    Kill,
    KongFault,
    LedgerPlace,
    LedgerTrouble,
    Moment,
    Scenario,
    SecondRun,
    ValkeyTrouble,
)
from torture.s3 import S3FaultKind

_LOST_REPLIES = (":lock", "EVALSHA", ":seen:", ":invocation")
"""Texts in commands of the collector: taking the lock, marking, looking up or marking, remembering the tick."""


def moment(rng: random.Random) -> Moment:
    """Return some moment of a run."""
    match rng.randrange(3):
        case 0:
            return Moment("start", delay_seconds=rng.uniform(0.2, 0.8))
        case 1:
            return Moment("kong", rng.randint(1, 5), rng.uniform(0, 0.03))
        case _:
            return Moment("delivery", rng.choice((1, 1, 1, 2, 3)), rng.uniform(0, 0.03))


def second_call(rng: random.Random) -> Moment:
    """Return a moment at which a run has taken its lock."""
    return Moment("kong", 2, rng.uniform(0, 0.1))


def kill(rng: random.Random, scenario: Scenario, *, in_lambda: bool) -> Kill:
    """Return a signal; in Lambda there is but one."""
    signal: Literal["KILL", "TERM", "INT"] = rng.choices(("KILL", "TERM", "INT"), (8, 1, 1))[0]
    if in_lambda:
        signal = "KILL"
    if signal == "INT":  # Python's own start-up does not answer it in good order
        return Kill(Moment("kong", rng.randint(1, 6), rng.uniform(0, 0.1)), signal=signal)
    if rng.random() < 0.4:
        if scenario.destination == "cloudtrail-lake":
            return Kill(at_entry=rng.choice((1, 1, 5, 20, 60, 130, 250)), signal=signal)
        if scenario.archive == "S3":
            return Kill(at_part=rng.choice((1, 1, 2, 3, 5, 20)), signal=signal)
    return Kill(moment(rng), signal=signal)


def freeze(rng: random.Random, scenario: Scenario) -> Freeze:
    """Return a standstill in the middle of a delivery; in the archive, where there is no lock, of any length."""
    when = Moment("delivery", 1, rng.uniform(0, 0.05))
    if scenario.destination == "archive":
        return Freeze(when, rng.choice((1.0, 2.0, 4.0)), head_start_seconds=rng.uniform(0.3, 3.0))
    return Freeze(when, LOCK_SECONDS + 1.0, head_start_seconds=0.7)  # about when the other one begins to deliver


def runs_at_once(rng: random.Random) -> list[SecondRun]:
    """Return other runs beside the first one."""
    return [
        SecondRun(rng.choice((Moment("start", delay_seconds=rng.uniform(0, 0.5)), moment(rng))))
        for _ in range(rng.choice((1, 1, 2)))
    ]


# -- what keeps state


def valkey_trouble(rng: random.Random) -> ValkeyTrouble:
    """Return an outage of Valkey."""
    kind: Literal["stop", "restart", "flush", "pause"] = rng.choice(("stop", "restart", "flush", "pause"))
    when = BEFORE if rng.random() < 0.25 else moment(rng)
    # Mostly shorter than a client waits; now and then longer than a short run.
    return ValkeyTrouble(when, kind, seconds=rng.uniform(0.1, 1.5) if rng.random() < 0.9 or kind != "pause" else 12.0)


def full_cache(rng: random.Random) -> ValkeyTrouble:
    """Return a Valkey without room: for the lock, for the marks, or for what the clients' buffers take."""
    if rng.random() < 0.5:
        return ValkeyTrouble(BEFORE, "full", headroom_bytes=rng.choice((1, 20_000, 60_000, 150_000)))
    when = Moment("delivery", rng.choice((1, 1, 2)), rng.uniform(0, 0.02))
    return ValkeyTrouble(when, "full", headroom_bytes=rng.choice((1, 5_000)))


def lost_reply(rng: random.Random) -> ValkeyTrouble:
    """Return the loss of a reply, or of all connections."""
    if rng.random() < 0.2:
        return ValkeyTrouble(moment(rng), "break connections")
    return ValkeyTrouble(BEFORE, "lose reply", command=rng.choice(_LOST_REPLIES))


# The quarantine twice: whoever ignores that it failed loses entries.
_LEDGER_PLACES: dict[DestinationName, tuple[LedgerPlace, ...]] = {
    "cloudtrail-lake": ("quarantine", "quarantine", "originals", "runs", "checkpoints", ""),
    "cloudwatch-logs": ("quarantine", "quarantine", "originals", "runs", "checkpoints", ""),
    "archive": ("runs", "runs", "checkpoints", ""),  # nothing is shortened there, and nothing refused
}


def ledger_trouble(rng: random.Random, scenario: Scenario) -> LedgerTrouble:
    """Return an outage of a part of the ledger."""
    when = BEFORE if rng.random() < 0.6 else moment(rng)
    return LedgerTrouble(when, rng.choice(_LEDGER_PLACES[scenario.destination]))


def s3_stumbles(rng: random.Random, scenario: Scenario) -> list[LedgerTrouble]:
    """Return failures of single calls of S3 that a run has to get over."""
    kinds: tuple[S3FaultKind, ...] = ("error", "slow down", "conflict", "reset", "lost")
    places = _LEDGER_PLACES[scenario.destination]
    return [LedgerTrouble(BEFORE, rng.choice(places), rng.choice(kinds), times=1) for _ in range(rng.randint(1, 2))]


# -- the archive


def archive_stumbles(rng: random.Random) -> list[ArchiveTrouble]:
    """Return failures of single calls of an archive in S3."""
    return [_archive_stumble(rng) for _ in range(rng.randint(1, 3))]


def _archive_stumble(rng: random.Random) -> ArchiveTrouble:
    call = rng.choice(tuple(_ARCHIVE_FAULTS))
    kind = rng.choice(_ARCHIVE_FAULTS[call])
    return ArchiveTrouble(
        BEFORE, kind, call, skipped=rng.choice((0, 0, 1, 2, 5, 20)), times=rng.choice((1, 1, 1, 3, 9))
    )


_ARCHIVE_FAULTS: dict[ArchiveCall, tuple[S3FaultKind, ...]] = {
    "write": ("error", "slow down", "conflict", "reset", "lost", "late", "exists"),
    "read": ("error", "slow down", "reset", "cut"),
    "list": ("error", "slow down", "reset", "cut"),
}


def archive_down(rng: random.Random) -> ArchiveTrouble:
    """Return the failure of every call of one kind, by a code that may pass."""
    call = rng.choice(tuple(_ARCHIVE_FAULTS))
    kinds: tuple[S3FaultKind, ...] = ("error", "slow down", "reset")
    return ArchiveTrouble(BEFORE, rng.choice(kinds), call, skipped=rng.choice((0, 0, 3)), times=FOREVER)


def archive_black_hole(rng: random.Random) -> ArchiveTrouble:
    """Return what holds every call of one kind for as long as the client waits."""
    call = rng.choice(tuple(_ARCHIVE_FAULTS))
    return ArchiveTrouble(BEFORE, "hang", call, skipped=rng.choice((0, 0, 3)), times=FOREVER)


def archive_answers_lost(rng: random.Random) -> ArchiveTrouble:
    """Return the loss of every answer to a write, or of every write until its caller is gone."""
    kinds: tuple[S3FaultKind, ...] = ("lost", "lost", "late")
    return ArchiveTrouble(BEFORE, rng.choice(kinds), times=FOREVER)


def archive_denied(rng: random.Random) -> ArchiveTrouble:
    """Return the refusal of all writes."""
    return ArchiveTrouble(BEFORE, "denied", times=FOREVER)


def part_changed(rng: random.Random) -> ArchiveTrouble:
    """Return a part that somebody removes or overwrites in a bucket with versions."""
    kinds: tuple[ArchiveTroubleKind, ...] = ("hidden", "overwritten")
    return ArchiveTrouble(BEFORE if rng.random() < 0.7 else moment(rng), rng.choice(kinds))


# -- Kong


def root_fault(rng: random.Random) -> KongFault:
    """Return a failure of `/`, which serves for version and host name alone."""
    where: dict[str, Any] = {"path": "^/$", "times": rng.choice((1, FOREVER))}
    fault = rng.choice(
        (
            Fault(kind="status", status=401, body='{"message":"Unauthorized"}', **where),
            Fault(kind="status", status=403, **where),
            faults.server_error(**where),
            faults.bad_gateway(502, **where),
            Fault(kind="reset", **where),
            Fault(kind="body", body="<html></html>", **where),
        )
    )
    return KongFault(fault, is_harmless=True)


def kong_down(rng: random.Random) -> KongFault:
    """Return the failure of every call."""
    make: Callable[[], Fault] = rng.choice(
        (
            lambda: faults.bad_gateway(503, times=FOREVER),
            lambda: faults.server_error(times=FOREVER),
            lambda: Fault(kind="reset", times=FOREVER),
        )
    )
    return KongFault(make())


def kong_black_hole(rng: random.Random) -> KongFault:
    """Return what holds every call for as long as the client waits."""
    kind: Literal["hang", "drip", "continue"] = rng.choice(("hang", "drip", "continue"))
    return KongFault(Fault(kind=kind, delay_seconds=0.0 if kind == "hang" else 0.2, times=FOREVER))


def cached_answers(rng: random.Random) -> KongFault:
    """Return answers that a cache between us and Kong has given before."""
    return KongFault(Fault(kind="cached", path="/audit/", nth=rng.randint(1, 4), times=rng.choice((1, 2, FOREVER))))


def kong_faults(rng: random.Random) -> list[KongFault]:
    """Return failures of single calls."""
    return [KongFault(_kong_fault(rng)) for _ in range(rng.randint(1, 2))]


def _kong_fault(rng: random.Random) -> Fault:
    where: dict[str, Any] = {"path": rng.choice(("", "/audit/", "offset=")), "nth": rng.randint(1, 6)}
    times = rng.randint(1, 2)
    fault: Callable[[], Fault] = rng.choice(
        (
            lambda: faults.server_error(**where, times=times),
            lambda: faults.bad_gateway(502, **where, times=times),
            lambda: faults.bad_gateway(503, **where, times=times),
            lambda: faults.bad_gateway(503, **where, times=5),
            lambda: faults.rate_limited(rng.choice(("0", "1")), **where),
            lambda: faults.slow(rng.uniform(0.05, 0.6), **where, times=times),
            lambda: faults.invalid_json(**where, times=times),
            lambda: Fault(kind="cut_off", **where, times=times),
            lambda: Fault(kind="reset", **where, times=times),
            lambda: Fault(kind="reset_after", **where, times=times),
            lambda: Fault(kind="status", status=rng.choice((401, 403, 404)), **where),
            lambda: Fault(kind="status", status=302, headers={"Location": "http://127.0.0.1:9/"}, **where),
            # Not "entries are no objects": what claims to be a page and is none cannot be told from one.
            lambda: faults.wrong_shape(rng.choice(_WRONG_SHAPES), **(where | {"path": "/audit/requests"})),
        )
    )
    return fault()


_WRONG_SHAPES = ("no data", "data is null", "data is an object", "a bare array", "offset is no string")


# -- CloudTrail

_OUTAGES = (
    ("InternalFailure", 500),
    ("InternalServerError", 500),
    ("ServiceUnavailable", 503),
    ("ThrottlingException", 400),
    ("RequestExpired", 400),
    ("SignatureDoesNotMatch", 403),
    ("SomethingNew", 400),
)


def cloudtrail_down(rng: random.Random) -> CallFault:
    """Return the refusal of every call, by a code that says nothing about the entries."""
    code, status = rng.choice(_OUTAGES)
    return CallFault(faults.aws_error(code, status, times=FOREVER))


def cloudtrail_black_hole(rng: random.Random) -> CallFault:
    """Return what holds every call, after it was accepted, for as long as the client waits."""
    kind: Literal["hang", "drip", "continue"] = rng.choice(("hang", "drip", "continue"))
    return CallFault(Fault(kind=kind, delay_seconds=0.0 if kind == "hang" else 0.2, times=FOREVER), loses_answer=True)


def silent_answers(rng: random.Random) -> CallFault:
    """Return answers that accept, and say nothing, for a whole run."""
    return CallFault(Fault(kind="body", body=rng.choice(_NO_ANSWERS), times=FOREVER), loses_answer=True)


def lost_answers(rng: random.Random) -> CallFault:
    """Return the loss of every answer."""
    return CallFault(Fault(kind=rng.choice(("reset_after", "cut_off")), times=FOREVER), loses_answer=True)


def call_faults(rng: random.Random) -> list[CallFault]:
    """Return failures of single calls."""
    return [_call_fault(rng) for _ in range(rng.randint(1, 3))]


def _call_fault(rng: random.Random) -> CallFault:
    nth = rng.randint(1, 4)
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


_NO_ANSWERS = (
    "",
    "{}",
    "<html></html>",
    "[1]",
    '{"failed":[],"successful":[]}',
    '{"failed":null,"successful":null}',
    '{"failed":[null],"successful":[null]}',
    '{"failed":[],"succ',
)


def entry_refusals(rng: random.Random) -> list[EntryRefusal]:
    """Return refusals of some entries."""
    codes = ("Throttling", "InternalFailure", "InvalidData", "FieldTooLong", "SomethingNew", "AccountNotSubscribed")
    # Few at once, as a rule: an entry that is refused again and again is tried for ten seconds.
    return [EntryRefusal(rng.choice(codes), times=rng.choice((1, 2, 2, 30, 30, 150))) for _ in range(rng.randint(1, 2))]
