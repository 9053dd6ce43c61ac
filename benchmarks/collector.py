"""The collector, as it runs from a command line."""

from __future__ import annotations

import os
import sys

from kong_cloudtrail.assembly import Assembly, UnlimitedTime
from kong_cloudtrail.runtime.cpu import on_one_cpu
from kong_cloudtrail.runtime.garbage import rarely_collected
from kong_cloudtrail.runtime.redaction import Redactor
from kong_cloudtrail.settings import Settings

from benchmarks.contender import tell
from cli.terminal import TerminalTelemetry


def run() -> int:
    """Do one run."""
    redactor = Redactor()
    assembly = Assembly(Settings.from_mapping(os.environ), redactor)
    telemetry = TerminalTelemetry(redactor.clean, sys.stderr)
    with on_one_cpu(), rarely_collected():
        return assembly.collector(assembly.trails[0], telemetry, UnlimitedTime()).run().delivered


if __name__ == "__main__":
    tell(run)
