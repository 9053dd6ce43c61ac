"""`make demo KEEP=1`, used as it says that it can be: `make demo-test`.

The name keeps it out of `make test`, which runs the demo once without KEEP=1. It takes a minute, and needs curl and the
AWS CLI.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from sandbox.machinery.processes import PROJECT_DIRECTORY, is_alive


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    missing = [tool for tool in ("aws", "bash", "curl") if shutil.which(tool) is None]
    if missing:
        pytest.fail(
            f"Not on the PATH: {', '.join(missing)}. The demo prints commands for the AWS CLI and curl, and this test "
            "runs them. Install both and run `make demo-test` again."
        )


def read_until(demo: subprocess.Popen[str], words: str) -> list[str]:
    """Read what the demo prints up to the line that begins with these words; fail if it ends before."""
    assert demo.stdout is not None
    lines: list[str] = []
    for line in demo.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith(words):
            return lines
    raise AssertionError("The demo ended:\n" + "\n".join(lines))


def test_what_it_prints_works_as_printed(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "sandbox.demo", "--keep"], cwd=PROJECT_DIRECTORY, stdout=subprocess.PIPE, text=True
    )
    try:
        lines = read_until(demo, "In the browser: ")
        started = psutil.Process(demo.pid).children(recursive=True)
        url = lines[-1].removeprefix("In the browser: ")
        commands = [line for line in lines if line.startswith(("export ", "curl ", "aws ", sys.executable))]
        assert "All sides agree." in "\n".join(lines)
        assert [line for line in lines if line.startswith("Watch it in the browser: ")] == [
            f"Watch it in the browser: {url}"
        ]

        shell = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
            env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        state = requests.get(f"{url}api/state", timeout=10).json()
    finally:
        demo.send_signal(signal.SIGINT)
        output, _ = demo.communicate(timeout=60)

    assert shell.returncode == 0, shell.stderr
    assert len(commands) == 4 + 8
    assert '"delivered": 1' in shell.stdout  # the function found the call that curl made
    assert "RUN_ENDED" in shell.stdout
    assert "The chain of run reports is complete" in shell.stdout
    assert len(json.loads(shell.stdout.splitlines()[-1])) == 256
    assert state["ready"]
    assert state["verdict"]["text"] == "All 256 entries at Kong are in CloudTrail Lake, each once."
    assert [run["report"]["delivered"] for run in state["runs"]] == [1, 2, 0, 253]
    assert "\n".join(commands) == "\n".join(line for line in state["commands"] if not line.startswith("#"))
    assert demo.returncode == 0, output
    assert "Stopping everything." in output
    assert [process for process in started if is_alive(process)] == []
    assert not any(Path(word).exists() for line in commands for word in line.split() if "kong-cloudtrail-demo" in word)
