"""The demo is the end-to-end test: a real `cdk deploy`, the bundled function, a real Valkey behind TLS."""

from __future__ import annotations

import subprocess
import sys

import psutil

from sandbox.machinery.processes import PROJECT_DIRECTORY


def test_the_demo_delivers_every_entry_and_leaves_nothing_running() -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}

    finished = subprocess.run(
        [sys.executable, "-m", "sandbox.demo"], cwd=PROJECT_DIRECTORY, capture_output=True, text=True, timeout=280
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "All sides agree." in finished.stdout
    assert "CloudTrail, accepted events" in finished.stdout
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
