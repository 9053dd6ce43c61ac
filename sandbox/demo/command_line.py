"""The command line, as somebody uses it who has only the name of the function."""

from __future__ import annotations

import os
import subprocess
import sys

from sandbox.demo.site import DemoError, Site, step
from sandbox.machinery.processes import PROJECT_DIRECTORY

_TIMEOUT_SECONDS = 300


class CommandLine:
    """Runs commands against the local AWS of a demo.

    Parameters
    ----------
    site
        The demo.
    target
        Options that name the function or the stack.
    """

    def __init__(self, site: Site, *target: str) -> None:
        # Only what the demo sets: this machine's own certificates and profiles have no business here.
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self._environment = {**inherited, **site.aws.environment(), "PYTHONPATH": "lambda_src"}
        self._target = target

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run a command; return its output.

        Raises
        ------
        DemoError
            If it ends with another status.
        """
        command = " ".join(["kong-cloudtrail", *arguments])
        with step(f"{command} {' '.join(self._target)}"):
            finished = subprocess.run(
                [sys.executable, "-m", "kong_cloudtrail", *arguments, *self._target],
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
