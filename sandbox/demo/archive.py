"""What the demo shows of the archive: questions in SQL, and `verify`, before and after somebody changed a part."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from collections.abc import Collection

from rich.table import Table

from sandbox.demo.site import OBJECTS, DemoError, Deployment, Site, console, step
from sandbox.machinery.processes import PROJECT_DIRECTORY

_NOT_VERIFIED = 6
_TIMEOUT_SECONDS = 60


class ArchiveTour:
    """Uses the archive of a running demo as an auditor would: by the command line, with the function's settings.

    Parameters
    ----------
    site, deployment
        The demo.
    streams
        What is in the archive.
    """

    def __init__(self, site: Site, deployment: Deployment, streams: Collection[str]) -> None:
        self._streams = streams
        # Only what the demo sets: this machine's own certificates and profiles have no business here.
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self._environment = {**inherited, **site.aws.environment(), "PYTHONPATH": "lambda_src"}
        self._deployment = deployment

    def ask(self) -> None:
        """Ask the archive in SQL, by Athena."""
        questions = [("count-by-day",), ("who-did-what", "--limit", "5")]
        if OBJECTS in self._streams:
            questions.append(("what-changed", "--limit", "5"))
        for arguments in questions:
            output = self._run("query", *arguments)
            rows = [line.split("\t") for line in output.splitlines()]
            width = max(map(len, rows))
            table = Table(*rows[0])
            for row in rows[1:]:
                if len(row) == width:
                    table.add_row(*row)
            console.print(table)

    def verify(self) -> None:
        """Verify the archive, change one part, and see that it is named."""
        for line in self._run("verify").splitlines():
            console.print(f"  {line}", soft_wrap=True, markup=False)
        name, body = self._deployment.newest_part()
        altered = gzip.compress(re.sub(rb'"eventName":"\w+', b'"eventName":"GET', gzip.decompress(body)))
        version = self._deployment.write_part(name, altered)
        console.print(f"\nSomebody changes the part {name.rpartition('/')[2]}: each call becomes a harmless GET.")
        output = self._run("verify", status=_NOT_VERIFIED)
        if name not in output:
            raise DemoError(f"`verify` did not name the part that was changed, {name}:\n{output}")
        self._show_verdict(output)
        self._deployment.remove_version(name, version)
        console.print("\nThe bucket keeps every version, so the first one can be brought back.")
        self._show_verdict(self._run("verify"))

    def _show_verdict(self, output: str) -> None:
        for line in output.splitlines():
            if ": " in line:  # not the facts, which are as before
                console.print(f"  {line}", soft_wrap=True, markup=False)

    def _run(self, *arguments: str, status: int = 0) -> str:
        command = " ".join(["kong-cloudtrail", *arguments])
        with step(f"{command} --function {self._deployment.function_name}"):
            finished = subprocess.run(
                [sys.executable, "-m", "kong_cloudtrail", *arguments, "--function", self._deployment.function_name],
                cwd=PROJECT_DIRECTORY,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
            )
        output = finished.stdout + finished.stderr
        if finished.returncode != status:
            raise DemoError(f"`{command}` ended with status {finished.returncode}:\n{output}")
        return output
