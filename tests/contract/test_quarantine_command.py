"""``quarantine`` as an operator uses it: in this process, asked of the function, on a terminal and in a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kong_cloudtrail import handler as module

from cli.exit_status import ExitStatus
from tests.conftest import Site
from tests.contract.test_command_line import DOOR, Terminal, odd, recent
from tests.contract.test_handler import Context
from tests.helpers import entries
from tests.lambda_endpoint import LambdaEndpoint

FOLDER = "quarantine/kong-eu/requests/cloudtrail-lake"


@pytest.fixture
def terminal(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(site, tmp_path / "home", capsys)


@pytest.fixture
def refused(terminal: Terminal, site: Site) -> list[str]:
    """Three entries that CloudTrail has refused, and would take now; their names."""
    site.kong.add_entries(recent(site, 3))
    site.cloudtrail.fail_entries("InvalidData")
    assert terminal.run("sync").status == ExitStatus.QUARANTINED
    site.cloudtrail.clear_faults()
    return sorted(path.stem for path in (site.ledger / FOLDER).iterdir())


@pytest.fixture
def deployed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LambdaEndpoint]:
    """The function of the same site, and a command line that finds it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module.assembly.cache_clear()
    with LambdaEndpoint(lambda event: module.handler(event, Context())) as endpoint:  # type: ignore[arg-type]
        terminal.environment |= endpoint.environment
        yield endpoint
    module.assembly.cache_clear()


class TestReplay:
    def test_delivers_what_was_refused_once_it_is_not_any_more(
        self, terminal: Terminal, site: Site, refused: list[str]
    ) -> None:
        dry = terminal.run("quarantine", "replay", "--dry-run")
        assert (dry.status, dry.out) == (0, "can be delivered 3, cannot be mapped 0\n")
        assert site.cloudtrail.accepted_count() == 0

        output = terminal.run("quarantine", "replay")

        assert (output.status, output.out) == (0, "delivered 3, still refused 0\n")
        assert sorted(site.cloudtrail.accepted_uids()) == sorted(row["request_id"] for row in entries(3))
        assert list((site.ledger / FOLDER).iterdir()) == []
        assert terminal.run("sync", "--json").report["delivered"] == 0

    def test_names_what_is_still_refused(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries([odd(site)])
        terminal.run("sync")

        output = terminal.run("quarantine", "replay")

        assert output.status == ExitStatus.QUARANTINED
        assert output.out.startswith("delivered 0, still refused 1\nNotMappable  odd-")

    def test_of_nothing_needs_neither_kong_nor_the_cache(self, terminal: Terminal) -> None:
        terminal.environment |= {"KONG_ADMIN_API": "http://127.0.0.1:9", "REDIS_HOST": "127.0.0.1:9"}

        assert terminal.run("quarantine", "replay").out == "delivered 0, still refused 0\n"

    def test_cache_away_is_told_before_anything_is_sent(
        self, terminal: Terminal, site: Site, refused: list[str]
    ) -> None:
        terminal.environment["REDIS_HOST"] = "127.0.0.1:9"

        terminal.run("quarantine", "replay").assert_failed(ExitStatus.FAILED, "REDIS_HOST")
        assert site.cloudtrail.accepted_count() == 0

    def test_cloudtrail_away_is_told_in_words(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, refused: list[str]
    ) -> None:
        monkeypatch.setattr("kong_cloudtrail.assembly.SystemClock.sleep", lambda *_: None)  # between two attempts
        terminal.environment["AWS_ENDPOINT_URL_CLOUDTRAIL_DATA"] = "http://127.0.0.1:9"

        terminal.run("quarantine", "replay").assert_failed(ExitStatus.FAILED, "CloudTrail could not be reached")


class TestAskedOfTheFunction:
    @pytest.mark.parametrize("place", [(), ("--function", "collector")])
    def test_everything_works_in_both_places(
        self, terminal: Terminal, site: Site, refused: list[str], deployed: LambdaEndpoint, place: tuple[str, ...]
    ) -> None:
        def ask(*arguments: str) -> dict[str, Any]:
            output = terminal.run("quarantine", *arguments, "--json", *place)
            assert output.status == 0, output.err
            return output.report

        assert [each["name"] for each in ask("list")["entries"]] == refused
        assert ask("show", refused[0])["entries"][0]["entry"]["method"] == "POST"
        assert ask("discard", refused[0], "--reason", "a test", "--yes")["by"].split(" on ")[0]
        assert ask("replay")["trails"][0]["delivered"] == 2
        assert [each["reason"] for each in ask("list", "--state", "discarded")["entries"]] == ["a test"]
        assert bool(deployed.events) == bool(place)

    def test_name_that_is_not_there(self, terminal: Terminal, deployed: LambdaEndpoint) -> None:
        output = terminal.run("quarantine", "show", "mistyped", "--function", "collector")

        output.assert_failed(ExitStatus.USAGE, "no entry mistyped", "`list` shows")


def at_a_terminal(terminal: Terminal, keys: str, name: str) -> tuple[str, int]:
    """Discard an entry at a terminal, pressing keys as soon as it asks; return what was shown, and the status."""
    ours, theirs = pty.openpty()
    arguments = ("quarantine", "discard", name, "--reason", "why")
    process = subprocess.Popen(
        [sys.executable, *DOOR, *arguments],
        cwd=terminal.folder,
        env=terminal.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how the end of a terminal looks
        while piece := os.read(ours, 4096):
            shown += piece
            if keys and b"[y/N]: " in shown:
                os.write(ours, keys.encode())
                keys = ""
    os.close(ours)
    return shown.decode().replace("\r", ""), process.wait(60)


class TestDiscard:
    @pytest.mark.parametrize(("answer", "is_yes"), [("n", False), ("", False), ("maybe\nYES", True)])
    def test_asks_first(self, terminal: Terminal, refused: list[str], answer: str, is_yes: bool) -> None:
        output, status = at_a_terminal(terminal, f"{answer}\n", refused[0])

        assert status == ExitStatus.DONE
        assert output.startswith("Discard 1 entry, never to be delivered? [y/N]: ")
        assert ("Nothing was discarded." in output, "discarded 1" in output) == (not is_yes, is_yes)

    @pytest.mark.parametrize(("key", "expected"), [("\x03", ExitStatus.INTERRUPTED), ("\x04", ExitStatus.DONE)])
    def test_ctrl_c_and_ctrl_d_as_soon_as_it_asks(
        self, terminal: Terminal, refused: list[str], site: Site, key: str, expected: ExitStatus
    ) -> None:
        output, status = at_a_terminal(terminal, key, refused[0])

        assert status == expected, output
        assert len(list((site.ledger / FOLDER).iterdir())) == 3

    def test_never_without_a_word_on_a_pipe(self, terminal: Terminal, refused: list[str], site: Site) -> None:
        output = terminal.run("quarantine", "discard", *refused, "--reason", "why")

        assert output.status == ExitStatus.USAGE
        assert "give --yes" in output.err
        assert len(list((site.ledger / FOLDER).iterdir())) == 3

    def test_wants_a_reason(self, terminal: Terminal, refused: list[str]) -> None:
        assert "--reason" in terminal.run("quarantine", "discard", refused[0], "--yes").err


class TestPipe:
    def test_list_is_what_cut_reads(self, terminal: Terminal, refused: list[str]) -> None:
        header, *rows = terminal.run("quarantine", "list").out.splitlines()

        assert header.split("\t")[:3] == ["name", "code", "quarantined_at"]
        assert [row.split("\t")[:2] for row in rows] == [[name, "InvalidData"] for name in refused]

    def test_empty_one_says_so(self, terminal: Terminal) -> None:
        output = terminal.run("quarantine", "list")

        assert (output.status, output.out, output.err) == (0, "", "No entry is in quarantine.\n")

    def test_show_escapes_what_could_command_a_terminal(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries([{"request_id": "odd", "request_timestamp": "x", "path": "\x1b[2J\u202e"}])
        terminal.run("sync")

        name = terminal.run("quarantine", "list", "--json").report["entries"][0]["name"]
        shown = terminal.run("quarantine", "show", name).out

        assert "\x1b" not in shown
        assert r"\u001b[2J\u202e" in shown

    @pytest.mark.parametrize("columns", [60, 200])
    def test_terminals_of_any_width(
        self, terminal: Terminal, refused: list[str], monkeypatch: pytest.MonkeyPatch, columns: int
    ) -> None:
        monkeypatch.setattr("cli.rows.is_terminal", lambda _: True)
        terminal.environment |= {"COLUMNS": str(columns), "NO_COLOR": "1"}

        out = terminal.run("quarantine", "list").out

        assert [line for line in out.splitlines() if len(line) > columns] == []
        assert "\x1b" not in out
        assert all(name in "".join(out.split()) for name in refused)  # folded, where there is no room
