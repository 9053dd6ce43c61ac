"""Kill the collector, break everything around it, and see whether anything was lost or came twice.

``python -m torture --rounds 200 --seed 1``, with the collector on ``PYTHONPATH``, as ``make torture`` does it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from torture.draw import CHANCES
from torture.plan import DESTINATIONS, STREAMS
from torture.play import COLLECTOR, end_in_good_order, print_line, torture


def main() -> int:
    """Torture from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--destination", choices=(*DESTINATIONS, "all"), default="all")
    parser.add_argument("--stream", choices=(*STREAMS, "all"), default="all")
    parser.add_argument("--only", type=int, metavar="SCENARIO", help="run one scenario of the plan alone")
    parser.add_argument("--collector", type=Path, default=COLLECTOR, help="torture another kong_cloudtrail than ours")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="scenarios at once")
    parser.add_argument(
        "--situation",
        action="append",
        default=[],
        choices=sorted(CHANCES),
        metavar="NAME",
        help="let only this happen, and often; may be repeated",
    )
    parser.add_argument("--situations", action="store_true", help="list what may happen, and how likely it is")
    options = parser.parse_args()
    if options.situations:
        print("\n".join(f"{chance:6.3f}  {name}" for name, chance in CHANCES.items()))
        return 0
    end_in_good_order()
    print(f"seed {options.seed}, {options.rounds} rounds", flush=True)
    verdict = torture(
        options.rounds,
        options.seed,
        collector=options.collector.resolve(),
        only=options.only,
        focus=options.situation,
        destinations=DESTINATIONS if options.destination == "all" else (options.destination,),
        streams=STREAMS if options.stream == "all" else (options.stream,),
        jobs=options.jobs,
        tell=print_line,
    )
    print(verdict)
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
