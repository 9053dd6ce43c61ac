"""``reconcile`` as an operator uses it: an archive in a folder, our own marks, in this process and in the function."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kong_cloudtrail import handler as module
from kong_cloudtrail.errors import RequestInvalid

from cli.exit_status import ExitStatus
from tests.conftest import Site
from tests.contract.test_command_line import Terminal
from tests.contract.test_handler import Context
from tests.helpers import entry
from tests.lambda_endpoint import LambdaEndpoint

HOUR = 3600
WINDOW = ("--after", "10h", "--before", "2h")
TICK = {"verb": "reconcile", "after": "10h", "before": "2h", "yes": True, "execution_id": "a-tick"}


def fill(site: Site, count: int = 60) -> list[dict[str, Any]]:
    """Put entries of the last twelve hours into Kong."""
    now = int(site.kong.now())
    rows = [entry(number, request_timestamp=now - number * 12 * HOUR // count) for number in range(1, count + 1)]
    site.kong.add_entries(rows)
    return [row for row in rows if now - 10 * HOUR <= row["request_timestamp"] < now - 2 * HOUR]


@pytest.fixture
def terminal(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(site, tmp_path / "home", capsys)


@pytest.fixture
def archived(terminal: Terminal, site: Site) -> list[dict[str, Any]]:
    """An archive in a folder, after a run; what is in the window."""
    rows = fill(site)
    terminal.environment |= {"ARCHIVE": "./archive", "DESTINATION": "archive"}
    assert terminal.run("sync").status == 0
    return rows


@pytest.fixture
def deployed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LambdaEndpoint]:
    """The function of the same site, and a command line that finds it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module.assembly.cache_clear()
    with LambdaEndpoint(lambda event: module.handler(event, Context())) as endpoint:  # type: ignore[arg-type]
        terminal.environment |= endpoint.environment
        yield endpoint
    module.assembly.cache_clear()


def take_out(terminal: Terminal, rows: list[dict[str, Any]]) -> None:
    """Remove lines from the archive."""
    for path in terminal.folder.glob("archive/source=*/**/*.gz"):
        lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        kept = [line for line in lines if not any(row["request_id"].encode() in line for row in rows)]
        path.write_bytes(gzip.compress(b"".join(kept)))


class TestArchive:
    def test_is_complete(self, terminal: Terminal, archived: list[dict[str, Any]]) -> None:
        output = terminal.run("reconcile", *WINDOW)

        assert (output.status, output.err) == (0, "")
        assert f"shown          {len(archived)}" in output.out
        assert "kong-eu/requests/archive: complete." in output.out

    def test_hole_is_named_and_repaired(self, terminal: Terminal, archived: list[dict[str, Any]]) -> None:
        holes = archived[3], archived[20]
        take_out(terminal, list(holes))

        found = terminal.run("reconcile", *WINDOW)
        assert found.status == ExitStatus.NOT_VERIFIED
        assert all(row["request_id"] in found.out for row in holes)
        assert "2 entries are missing: deliver them with --repair" in found.err

        repaired = terminal.run("reconcile", *WINDOW, "--repair")
        assert (repaired.status, "delivered now  2" in repaired.out) == (0, True)
        assert terminal.run("reconcile", *WINDOW, "--json").report["trails"][0]["missing"] == 0

    def test_what_is_there_twice_is_not_called_complete(
        self, terminal: Terminal, archived: list[dict[str, Any]]
    ) -> None:
        # In the middle of the window, so that it holds all of the part's hour, whatever the time is.
        [path] = [
            path
            for path in terminal.folder.glob("archive/source=*/**/*.gz")
            if archived[20]["request_id"].encode() in gzip.decompress(path.read_bytes())
        ]
        path.with_name(path.name.replace("-000000", "-000001")).write_bytes(path.read_bytes())
        copies = len(gzip.decompress(path.read_bytes()).splitlines())

        found = terminal.run("reconcile", *WINDOW)

        assert found.status == ExitStatus.NOT_VERIFIED
        assert f"held, or accounted for, but {copies} are doubled.\n" in found.err
        assert "complete." not in found.out

    def test_what_proves_nothing_is_refused(self, terminal: Terminal, archived: list[dict[str, Any]]) -> None:
        output = terminal.run("reconcile", "--after", "10h", "--before", "now")

        output.assert_failed(ExitStatus.USAGE, "before: entries are settled up to", "Give that moment")


class TestSchedule:
    def test_moments_are_those_of_the_function_and_metrics_tell(
        self,
        terminal: Terminal,
        archived: list[dict[str, Any]],
        deployed: LambdaEndpoint,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        take_out(terminal, archived[3:5])
        monkeypatch.chdir(terminal.folder)
        for name, value in terminal.environment.items():
            monkeypatch.setenv(name, value)

        answer = deployed.function(TICK)

        [trail] = answer["document"]["trails"]
        assert (trail["shown"], trail["missing"]) == (len(archived), 2)
        [metrics] = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "_aws" in line]
        assert (metrics["EntriesMissing"], metrics["destination"]) == ([2.0], "archive")
        # The dimensions of the alarm: metrics with any others are other metrics
        assert metrics["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["source", "stream", "destination"]]

    def test_window_that_proves_nothing_fails_the_invocation(
        self,
        terminal: Terminal,
        archived: list[dict[str, Any]],
        deployed: LambdaEndpoint,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(terminal.folder)
        for name, value in terminal.environment.items():
            monkeypatch.setenv(name, value)

        with pytest.raises(RequestInvalid, match="settled up to"):
            deployed.function(TICK | {"before": "now"})
        assert "Misconfigurations" not in capsys.readouterr().out


class TestMarks:
    def test_are_the_evidence_without_permission_for_the_lake(
        self, terminal: Terminal, site: Site, deployed: LambdaEndpoint
    ) -> None:
        rows = fill(site)
        terminal.run("sync")
        whole = terminal.run("reconcile", *WINDOW, "--function", "collector", "--json").report["trails"][0]
        site.valkey.flush()

        output = terminal.run("reconcile", *WINDOW, "--function", "collector")

        assert output.status == ExitStatus.NOT_VERIFIED
        assert "our own marks" in output.out
        assert (whole["complete"], whole["shown"]) == (True, len(rows))
        assert f"{len(rows)} entries are missing" in output.err
        assert f"… {len(rows) - 20} more with --json" in output.out
        assert deployed.events[0]["verb"] == "reconcile"

    def test_unfinished_one_goes_on_where_it_ended(
        self, terminal: Terminal, site: Site, deployed: LambdaEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = fill(site)
        terminal.run("sync")
        monkeypatch.setattr("kong_cloudtrail.operations.reconcile._FIRST_SLICE_SECONDS", HOUR)
        monkeypatch.setattr("kong_cloudtrail.operations.reconcile._GREATEST_GROWTH", 1.0)
        kong = site.kong
        answered = len(kong.requests)

        def function(event: dict[str, Any]) -> Any:
            nonlocal answered
            answered = len(kong.requests)
            left = Context(lambda: 300_000 if len(kong.requests) - answered < 8 else 1000)
            return module.handler(event, left)  # type: ignore[arg-type]

        deployed.function = function

        output = terminal.run("reconcile", *WINDOW, "--function", "collector", "--json")

        assert output.status == 0
        assert len(deployed.events) > 1
        assert "going on from there" in output.err
        assert output.report["finished"]
        shown = [int(each) for each in re.findall(r'"shown": (\d+)', output.out)]
        assert sum(shown) == len(rows)
