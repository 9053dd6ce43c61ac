"""A backfill with several slices at once: in one process, or each in a process of its own, as functions have it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any

from kong_cloudtrail.assembly import Assembly, UnlimitedTime, WholeInstallation
from kong_cloudtrail.operations.verb import answer
from kong_cloudtrail.runtime.redaction import Redactor
from kong_cloudtrail.settings import Settings

from benchmarks.contender import PARALLEL_DELIVERIES, tell
from cli.terminal import TerminalTelemetry


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """Ask for a backfill, with parts of its own."""
    redactor = Redactor()
    assembly = Assembly(Settings.from_mapping(os.environ), redactor)
    telemetry = TerminalTelemetry(lambda line: "", open(os.devnull, "w"))  # noqa: SIM115, PTH123
    installation = WholeInstallation(assembly, assembly.trails, telemetry, UnlimitedTime())
    try:
        return answer("backfill", request, installation)
    finally:
        assembly.close()


def run(bounds: dict[str, str], at_once: int, processes: Executor | None) -> int:
    """Deliver the range; return the number of entries."""
    if processes is None:
        answered = ask({**bounds, "at_once": at_once})
    else:
        plan = ask({**bounds, "plan": True})["plan"]
        lanes = max(1, PARALLEL_DELIVERIES // at_once)
        requests = [{**bounds, "slice": one["slice"], "parallel_deliveries": lanes} for one in plan]
        list(processes.map(ask, requests))
        answered = ask(bounds)
    assert answered["finished"]
    return int(answered["trails"][0]["delivered"])


@contextmanager
def pool(count: int, *, is_asked_for: bool) -> Iterator[Executor | None]:
    """Return processes that have started already, if they are asked for."""
    if not is_asked_for:
        yield None
        return
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as processes:
        list(processes.map(abs, range(8 * count)))
        yield processes


if __name__ == "__main__":
    given = {name: os.environ[f"BACKFILL_{name.upper()}"] for name in ("after", "before")}
    slices = int(os.environ["BACKFILL_AT_ONCE"])
    with pool(slices, is_asked_for=bool(os.environ["BACKFILL_PROCESSES"])) as found:
        tell(partial(run, given, slices, found))
