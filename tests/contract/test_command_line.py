"""The same run from a laptop: exit status, output for people and for programs, and never a traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from unittest import mock

import boto3
import pytest
from kong_cloudtrail import __main__ as door
from kong_cloudtrail import __version__
from packaging.requirements import Requirement

from cli.exit_status import ExitStatus
from cli.main import main
from sandbox.machinery.http_server import LOOPBACK
from sandbox.machinery.processes import free_port
from tests.conftest import CACHE_PASSWORD, KONG_TOKEN, Site
from tests.helpers import REPOSITORY, entries, entry, wait_until

TRAIL = "kong-eu/requests/cloudtrail-lake"
DOOR = ("-m", "kong_cloudtrail")
PAGE = REPOSITORY / "docs" / "command-line.md"


class Terminal:
    """Runs commands in an empty folder, with the site's environment variables and no others."""

    def __init__(self, site: Site, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        folder.mkdir()
        self.temporary = folder.with_name("temporary")
        self.temporary.mkdir()
        self.folder = folder
        self._capture = capture
        self.environment: dict[str, str] = {
            **site.environment,
            "PYTHONPATH": str(REPOSITORY / "lambda_src"),
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.temporary),
            "PYTHONWARNINGS": "error::ResourceWarning",
        }

    def run(self, *arguments: str) -> Output:
        """Run a command in this process."""
        before = Path.cwd()
        self._capture.readouterr()
        with (
            mock.patch.dict(os.environ, self.environment, clear=True),
            mock.patch.object(boto3, "DEFAULT_SESSION", None),
        ):
            os.chdir(self.folder)
            try:
                status = main(arguments)
            finally:
                os.chdir(before)
        return Output(status, *self._capture.readouterr())

    def start(
        self, *arguments: str, stdout: int | IO[Any] = subprocess.PIPE, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """Start a command as a process of its own, by the door of a plain checkout."""
        return subprocess.Popen(
            [sys.executable, *DOOR, *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=stdout,
            stderr=stderr,
        )

    def run_process(self, *arguments: str) -> Output:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return Output(process.returncode, out, err)


class Output:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return report

    def assert_failed(self, status: ExitStatus | set[ExitStatus], *words: str) -> None:
        """Check that it failed as it should: with a message for people, and nothing that is for programmers only."""
        assert self.status in (status if isinstance(status, set) else {status}), self.err
        assert "Traceback" not in self.err + self.out
        assert "kong-cloudtrail: " in self.err
        for word in words:
            assert word in self.err
        for secret in (KONG_TOKEN, CACHE_PASSWORD, json.dumps(KONG_TOKEN)[1:-1]):
            assert secret not in self.err + self.out


@pytest.fixture
def terminal(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(site, tmp_path / "folder", capsys)


EITHER_FAILURE = {ExitStatus.FAILED, ExitStatus.MISCONFIGURED}
"""Where the engine does not tell yet whether it will pass."""


def recent(site: Site, count: int) -> list[dict[str, Any]]:
    return [entry(number, request_timestamp=int(site.kong.now()) - 10 - number) for number in range(1, count + 1)]


def odd(site: Site) -> dict[str, Any]:
    """Return an entry of which no event can be made."""
    return {"request_id": "odd", "request_timestamp": int(site.kong.now()) - 5}


class TestSync:
    def test_delivers_and_tells_programs_in_the_last_line(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 5))

        first, second = terminal.run("sync", "--json"), terminal.run("sync", "--json")

        assert (first.status, first.err, second.status) == (ExitStatus.DONE, "", ExitStatus.DONE)
        assert sorted(site.cloudtrail.accepted_uids()) == [row["request_id"] for row in entries(5)]
        counts = [
            {name: output.report[name] for name in ("fetched", "duplicates", "delivered", "failed")}
            for output in (first, second)
        ]
        assert counts == [
            {"fetched": 5, "duplicates": 0, "delivered": 5, "failed": 0},
            {"fetched": 5, "duplicates": 5, "delivered": 0, "failed": 0},
        ]

    def test_tells_people_in_lines(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 5))

        output = terminal.run("sync")

        assert output.status == ExitStatus.DONE
        assert dict(line.split() for line in output.out.splitlines()) == {
            "fetched": "5",
            "duplicates": "0",
            "delivered": "5",
            "shortened": "0",
            "quarantined": "0",
            "failed": "0",
        }

    def test_excluded_entries_are_told_if_there_are_any(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 5))
        terminal.environment["EXCLUDE_STATUSES"] = "2xx"

        lines = dict(line.split() for line in terminal.run("sync").out.splitlines())

        assert (lines["fetched"], lines["excluded"], lines["delivered"]) == ("5", "5", "0")

    def test_quiet_gateway_is_told_in_zeros(self, terminal: Terminal) -> None:
        output = terminal.run("sync")

        assert output.status == ExitStatus.DONE
        assert {line.split()[1] for line in output.out.splitlines()} == {"0"}

    def test_without_a_ledger_keeps_no_checkpoint_and_makes_no_folder(self, terminal: Terminal, site: Site) -> None:
        del terminal.environment["LEDGER"]
        site.kong.add_entries(recent(site, 5))

        assert terminal.run("sync").status == ExitStatus.DONE

        assert list(terminal.folder.iterdir()) == []

    def test_quarantine_has_a_status_of_its_own(self, terminal: Terminal, site: Site) -> None:
        del terminal.environment["LEDGER"]  # a bad record still has a place
        site.kong.add_entries([odd(site), *recent(site, 2)])

        output = terminal.run("sync", "--json")

        assert (output.status, output.report["quarantined"], output.report["delivered"]) == (5, 1, 2)
        assert "Refused and put into quarantine: 1." in output.err
        assert "kong-cloudtrail quarantine replay" in output.err
        [quarantined] = terminal.folder.glob("ledger/quarantine/kong-eu/requests/cloudtrail-lake/*.json")
        assert json.loads(quarantined.read_text())["entry"]["request_id"] == "odd"
        assert terminal.run("sync").status == ExitStatus.DONE

    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_another_run_is_at_work(self, terminal: Terminal, site: Site, options: tuple[str, ...]) -> None:
        site.kong.add_entries(recent(site, 2))
        with site.valkey.client() as other:
            other.set("kong-cloudtrail:{kong-eu/requests/cloudtrail-lake}:lock", "somebody else's")

        output = terminal.run("sync", *options)

        assert output.status == ExitStatus.SKIPPED
        assert "Another run is delivering this trail" in output.err
        assert (output.out == "") is (options == ())
        assert site.cloudtrail.accepted_count() == 0


class TestDoor:
    """``python -m kong_cloudtrail`` in a plain checkout, with nothing but the collector on the path."""

    def test_quarantine_is_a_success(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries([odd(site), *recent(site, 2)])

        output = terminal.run_process("sync", "--json")

        assert (output.status, output.report["quarantined"], output.report["delivered"]) == (0, 1, 2)
        assert "Traceback" not in output.err

    def test_arguments_can_be_passed_by_a_program(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert door.main(["--version"]) == ExitStatus.DONE
        assert capsys.readouterr().out == f"kong-cloudtrail {__version__}\n"

    def test_its_own_version(self) -> None:
        process = self.run("import runpy, sys; sys.argv[1:] = ['--version']", {})

        assert (process.returncode, process.stdout) == (0, f"kong-cloudtrail {__version__}\n")

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("sys.version_info = (3, 10, 13, 'final', 0)", "Python 3.11 or later is needed; this is Python 3.10.13."),
            ("sys.modules['click'] = None", "not installed (no package click). Install"),
        ],
    )
    def test_what_is_missing_is_said_in_a_sentence(self, code: str, words: str) -> None:
        process = self.run(f"import runpy, sys; {code}", {})

        assert (process.returncode, process.stdout) == (ExitStatus.USAGE, "")
        assert process.stderr.startswith("kong-cloudtrail: ")
        assert words in process.stderr
        assert process.stderr.count("\n") == 1

    def test_without_the_command_line(self, tmp_path: Path) -> None:
        (tmp_path / "kong_cloudtrail").symlink_to(REPOSITORY / "lambda_src" / "kong_cloudtrail")
        # As in the function's asset: what the link leads to is not looked at.
        code = "import pathlib, runpy, sys; pathlib.Path.resolve = pathlib.Path.absolute"

        process = self.run(code, {"PYTHONPATH": str(tmp_path)})

        assert process.returncode == ExitStatus.USAGE
        assert "kong-cloudtrail-integration[cli]" in process.stderr

    def test_help_imports_nothing_that_takes_long(self) -> None:
        slow = {"boto3", "redis", "requests", "rich", "hcl2", "aws_lambda_powertools"}
        code = f"import atexit, runpy, sys; atexit.register(lambda: print({slow} & set(sys.modules), file=sys.stderr))"

        process = self.run(f"{code}; sys.argv[1:] = ['--help']", {})

        assert (process.returncode, process.stderr) == (0, "set()\n")

    def run(self, code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run the door after some code."""
        return subprocess.run(
            [sys.executable, "-c", f"{code}; runpy.run_module('kong_cloudtrail', run_name='__main__')"],
            env={"PYTHONPATH": str(REPOSITORY / "lambda_src"), "PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


class TestFailure:
    def test_wrong_settings_are_named_all_at_once(self, terminal: Terminal) -> None:
        terminal.environment |= {"CHANNEL_ARN": "wrong", "REDIS_HOST": "wrong", "PAGE_SIZE": "wrong"}

        output = terminal.run("sync", "--json")

        output.assert_failed(ExitStatus.USAGE, "3 problem(s)", "CHANNEL_ARN: ", "REDIS_HOST: ", "PAGE_SIZE: ")
        assert output.out == ""

    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_kong_that_is_away(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
    ) -> None:
        monkeypatch.setattr("kong_cloudtrail.assembly.SystemClock.sleep", lambda *_: None)  # between two attempts
        terminal.environment["KONG_ADMIN_API"] = f"https://{LOOPBACK}:{free_port()}"

        output = terminal.run("sync", *options)

        output.assert_failed(ExitStatus.FAILED, "did not answer", "security groups")
        if options:
            assert output.report["fetched"] == 0
        else:
            assert output.out == ""  # no table of zeros

    def test_kong_that_refuses_the_token(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_user("collector", "another")

        terminal.run("sync", "--json").assert_failed(ExitStatus.MISCONFIGURED, "401", "token of an RBAC user")

    def test_kong_that_is_not_trusted(self, terminal: Terminal) -> None:
        del terminal.environment["KONG_ROOT_CA"]

        output = terminal.run("sync")

        output.assert_failed(EITHER_FAILURE, "KONG_ROOT_CA")

    def test_cache_that_is_away(self, terminal: Terminal, site: Site) -> None:
        site.valkey.stop()

        output = terminal.run("sync", "--json")

        output.assert_failed(ExitStatus.FAILED, "The cache did not answer", "REDIS_HOST")
        assert output.report["fetched"] == 0

    def test_cache_that_refuses_the_password(self, terminal: Terminal) -> None:
        terminal.environment["REDIS_PASSWORD"] = "wrong-password"

        output = terminal.run("sync")

        output.assert_failed(EITHER_FAILURE, "refused the credentials")
        assert "wrong-password" not in output.err

    def test_channel_that_does_not_exist(self, terminal: Terminal, site: Site) -> None:
        terminal.environment["CHANNEL_ARN"] = site.cloudtrail.channel_arn.removesuffix("cdef") + "0000"
        site.kong.add_entries(recent(site, 5))

        output = terminal.run("sync", "--json")

        output.assert_failed(ExitStatus.MISCONFIGURED, "ChannelNotFound", "correct CHANNEL_ARN")
        assert {name: output.report[name] for name in ("fetched", "delivered", "failed")} == {
            "fetched": 5,
            "delivered": 0,
            "failed": 5,
        }

    def test_entries_of_another_account(self, terminal: Terminal, site: Site) -> None:
        site.cloudtrail.fail_entries("InvalidRecipient")
        site.kong.add_entries(recent(site, 5))

        output = terminal.run("sync")

        output.assert_failed(ExitStatus.MISCONFIGURED, "InvalidRecipient", "the account in CHANNEL_ARN")
        assert output.out.splitlines()[0].split() == ["fetched", "5"]

    def test_ledger_that_cannot_be_written(self, terminal: Terminal, site: Site) -> None:
        site.ledger.write_text("a file is in the way")

        terminal.run("sync").assert_failed(ExitStatus.FAILED, "Check LEDGER")

    def test_missing_credentials(self, terminal: Terminal, site: Site) -> None:
        del terminal.environment["AWS_ACCESS_KEY_ID"], terminal.environment["AWS_SECRET_ACCESS_KEY"]
        site.kong.add_entries(recent(site, 1))

        terminal.run("sync").assert_failed(ExitStatus.MISCONFIGURED, "no AWS credentials")

    @pytest.mark.parametrize("endpoint", ["not a url", "127.0.0.1:4566"])
    def test_endpoint_that_is_none(self, terminal: Terminal, endpoint: str) -> None:
        terminal.environment["AWS_ENDPOINT_URL_CLOUDTRAIL_DATA"] = endpoint

        terminal.run("sync").assert_failed(ExitStatus.USAGE, "AWS_ENDPOINT_URL", "Invalid endpoint")

    def test_fault_of_the_program(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kong_cloudtrail.settings.Settings.from_mapping", lambda _: 1 / 0)

        terminal.run("sync").assert_failed(ExitStatus.PROGRAM, "ZeroDivisionError", "report this line")

    @pytest.mark.parametrize("arguments", [("synch",), (), ("sync", "--jsno"), ("tfvars",)])
    def test_wrong_arguments_show_the_usage(self, terminal: Terminal, arguments: tuple[str, ...]) -> None:
        output = terminal.run(*arguments)

        assert output.status == ExitStatus.USAGE
        assert "Usage: kong-cloudtrail" in output.err


class TestOutput:
    """What became of the output is no fault of the program."""

    @pytest.fixture
    def arguments(self, terminal: Terminal) -> tuple[str, ...]:
        (terminal.folder / "my.tfvars").write_text('aws_region = "us-east-1"\n')
        return ("tfvars", "my.tfvars")

    def test_reader_that_has_ended(self, terminal: Terminal, arguments: tuple[str, ...]) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        process = terminal.start(*arguments, stdout=writing)
        os.close(writing)
        _, err = process.communicate(timeout=60)

        assert (process.returncode, err.splitlines()) == (
            ExitStatus.CLOSED_PIPE,
            ["kong-cloudtrail: The program that reads the output has ended."],
        )

    def test_full_disk(self, terminal: Terminal, arguments: tuple[str, ...]) -> None:
        with Path("/dev/full").open("w") as full:
            process = terminal.start(*arguments, stdout=full)
            _, err = process.communicate(timeout=60)

        assert process.returncode == ExitStatus.PROGRAM
        assert err.startswith("kong-cloudtrail: Writing failed: No space left on device. Check where")
        assert err.count("\n") == 1

    def test_reader_of_everything_that_has_ended(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries([odd(site), *recent(site, 2)])
        reading, writing = os.pipe()
        os.close(reading)
        process = terminal.start("sync", stdout=writing, stderr=writing)
        os.close(writing)
        process.communicate(timeout=60)

        assert process.returncode == ExitStatus.CLOSED_PIPE
        assert site.cloudtrail.accepted_count() == 2  # nobody listens to a run; it does its work all the same
        assert terminal.run("sync", "--json").report["duplicates"] == 3

    def test_closed_from_the_beginning(self, terminal: Terminal, arguments: tuple[str, ...]) -> None:
        command = shlex.join([sys.executable, *DOOR, *arguments])
        process = subprocess.run(
            ["sh", "-c", f"{command} >&-"],
            cwd=terminal.folder,
            env=terminal.environment,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

        assert (process.returncode, "kong-cloudtrail" in process.stderr) == (ExitStatus.DONE, False)


class TestSignals:
    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_run_ends_in_order(
        self, terminal: Terminal, site: Site, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
    ) -> None:
        site.kong.add_entries(recent(site, 3000))
        judge = site.cloudtrail._judge
        is_told = threading.Event()

        def judge_and_wait(*arguments: Any) -> Any:
            if site.cloudtrail.accepted_count():
                is_told.wait(60)
            return judge(*arguments)

        monkeypatch.setattr(site.cloudtrail, "_judge", judge_and_wait)
        process = terminal.start("sync")
        wait_until(lambda: site.cloudtrail.accepted_count() > 0)

        process.send_signal(number)
        assert process.stderr is not None
        errors = process.stderr.readline() + process.stderr.readline()  # it says that it finishes
        is_told.set()
        errors += process.stderr.read()
        process.communicate(timeout=60)

        assert process.returncode == status
        assert "Press Ctrl-C again to end at once." in errors
        assert "Interrupted. What was delivered is marked" in errors
        assert "Traceback" not in errors
        with site.valkey.client() as observer:
            (counter,) = observer.keys("*:marks")
            marked = int(observer.get(counter))
        assert marked == site.cloudtrail.accepted_count() < 3000
        assert terminal.run("sync", "--json").status == ExitStatus.DONE
        assert sorted(site.cloudtrail.accepted_uids()) == sorted(row["request_id"] for row in entries(3000))

    def test_a_second_one_ends_the_process_at_once(self, terminal: Terminal, site: Site) -> None:
        site.kong.configure(latency_seconds=60)
        process = terminal.start("sync")
        with site.valkey.client() as observer:
            wait_until(lambda: bool(observer.keys("*:lock")))
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        process.stderr.readline(), process.stderr.readline()  # it says that it finishes

        process.send_signal(signal.SIGINT)

        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_other_commands_end_at_once(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
    ) -> None:
        handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        monkeypatch.setattr("cli.environment.read", lambda *_: signal.raise_signal(number))

        output = terminal.run("verify")

        assert (output.status, output.err) == (status, "kong-cloudtrail: Interrupted.\n")
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_killed_run_holds_its_lock_for_seconds(terminal: Terminal, site: Site) -> None:
    site.kong.add_entries(recent(site, 5))
    site.kong.configure(latency_seconds=0.3)
    process = terminal.start("sync")
    wait_until(lambda: bool(site.kong.requests))  # it has the lock, and asks Kong for the next thing
    process.kill()
    process.communicate()
    site.kong.configure(latency_seconds=0)

    output = terminal.run("sync", "--json")
    assert (output.status, output.report["skipped"]) == (ExitStatus.SKIPPED, True)
    assert "If that run was killed, its lock expires within seconds: run again." in output.err

    with site.valkey.client() as observer:
        observer.delete("kong-cloudtrail:{kong-eu/requests/cloudtrail-lake}:lock")  # as if they had passed
    assert terminal.run("sync").status == 0
    assert sorted(site.cloudtrail.accepted_uids()) == [row["request_id"] for row in entries(5)]


class TestVerify:
    @pytest.fixture
    def chain(self, terminal: Terminal, site: Site) -> list[Path]:
        """Two run reports."""
        for number in (1, 2):
            site.kong.add_entries([entry(number, request_timestamp=int(site.kong.now()) - 10)])
            assert terminal.run("sync").status == ExitStatus.DONE
        return sorted((site.ledger / "runs" / TRAIL).iterdir())

    def test_whole_chain(self, terminal: Terminal, site: Site, chain: list[Path]) -> None:
        output = terminal.run("verify")

        assert (output.status, output.err) == (ExitStatus.DONE, "")
        *lines, result = output.out.splitlines()
        facts = dict(re.split("  +", line, maxsplit=1) for line in lines)
        written = json.loads(chain[0].read_text())["writtenAt"]
        assert facts["place"] == str(chain[0].parent)
        assert (facts["trail"], facts["reports"]) == (TRAIL, "2")
        assert facts["first run"].startswith(f"1, {datetime.fromtimestamp(written, UTC):%Y-%m-%dT%H:%M:%S}Z")
        assert facts["last run"].startswith("2, 20")
        assert {facts[name][:2] for name in ("entries from", "entries until")} == {"20"}
        assert result == f"{TRAIL}: whole. No run reports were removed or altered."

    def test_needs_nothing_but_the_ledger_and_the_names_of_the_trail(
        self, terminal: Terminal, site: Site, chain: list[Path]
    ) -> None:
        for name in site.environment.keys() - {"LEDGER", "SOURCE_NAME"}:
            del terminal.environment[name]
        terminal.environment["DESTINATION"] = "cloudtrail-lake"

        assert terminal.run("verify").status == ExitStatus.DONE

    def test_removed_report(self, terminal: Terminal, chain: list[Path]) -> None:
        chain[0].unlink()

        output = terminal.run("verify")

        output.assert_failed(ExitStatus.NOT_VERIFIED, "1 to 1 are missing")
        assert "whole" not in output.out

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"window": 1, "writtenAt": 1e99}', "\0"])
    def test_altered_report(self, terminal: Terminal, chain: list[Path], content: str) -> None:
        chain[0].write_text(content)

        terminal.run("verify").assert_failed(ExitStatus.NOT_VERIFIED, "was altered")

    def test_all_reports_removed(self, terminal: Terminal, chain: list[Path]) -> None:
        for report in chain:
            report.unlink()

        terminal.run("verify").assert_failed(ExitStatus.NOT_VERIFIED, "1 to 2 are missing", "Nothing to verify")

    @pytest.mark.parametrize("value", ["", None])
    def test_ledger_that_is_not_set(self, terminal: Terminal, value: str | None) -> None:
        terminal.environment["LEDGER"] = value or ""
        if value is None:
            del terminal.environment["LEDGER"]

        terminal.run("verify").assert_failed(ExitStatus.USAGE, "LEDGER: is missing")

    def test_ledger_that_is_mistyped(self, terminal: Terminal) -> None:
        terminal.environment["LEDGER"] = "s3:/bucket/prefix"

        terminal.run("verify").assert_failed(ExitStatus.USAGE, "LEDGER: must be s3://bucket/prefix or a folder")

    @pytest.mark.parametrize("place", ["missing", "."])
    def test_ledger_without_reports(self, terminal: Terminal, chain: list[Path], place: str) -> None:
        terminal.environment["LEDGER"] = place

        output = terminal.run("verify")

        output.assert_failed(
            ExitStatus.NOT_VERIFIED,
            "Nothing to verify",
            str(terminal.folder / place / "runs/kong-eu/requests/cloudtrail-lake"),
            "Check LEDGER",
        )

    def test_source_that_is_mistyped(self, terminal: Terminal, chain: list[Path]) -> None:
        terminal.environment["SOURCE_NAME"] = "kong-ue"

        terminal.run("verify").assert_failed(
            ExitStatus.NOT_VERIFIED,
            "kong-ue/requests",
            f"has reports of: {TRAIL}. Check SOURCE_NAME, STREAMS and DESTINATION.",
        )

    def test_runs_that_delivered_nothing(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 1))
        terminal.run("sync")
        (report,) = (site.ledger / "runs" / TRAIL).iterdir()
        report.unlink()
        checkpoint = site.ledger / "checkpoints" / f"{TRAIL}.json"
        fields = json.loads(checkpoint.read_text()) | {"run": {"number": 0, "sha256": "0" * 64}}
        checkpoint.write_text(json.dumps(fields))

        terminal.run("verify").assert_failed(ExitStatus.NOT_VERIFIED, "none of them has delivered anything yet")


class TestSurroundings:
    """What is wrong around the collector, and not with it, is said in a sentence."""

    @pytest.mark.parametrize("ledger", ["./ledger", "s3://bucket-of-nobody/x"])
    def test_aws_profile_that_does_not_exist(self, terminal: Terminal, ledger: str) -> None:
        terminal.environment |= {"AWS_PROFILE": "tpyo", "LEDGER": ledger}

        terminal.run("sync", "--json").assert_failed(ExitStatus.USAGE, "tpyo")

    def test_secret_without_a_region_to_read_it_in(self, terminal: Terminal) -> None:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "KONG_ADMIN_TOKEN"):
            del terminal.environment[name]
        terminal.environment["KONG_ADMIN_TOKEN_SECRET"] = "kong/token"

        output = terminal.run("sync", "--json")

        output.assert_failed(EITHER_FAILURE, "region")

    def test_nothing_is_left_in_the_temporary_folder(self, terminal: Terminal) -> None:
        assert terminal.run_process("sync").status == ExitStatus.DONE

        assert list(terminal.temporary.iterdir()) == []

    def test_comment_around_the_certificate(self, terminal: Terminal, site: Site) -> None:
        pem = Path(site.environment["KONG_ROOT_CA"]).read_text()
        terminal.environment |= {"KONG_ROOT_CA": f"# CN=Zertifizierungsstelle für alles\n{pem}", "LC_ALL": "C.UTF-8"}

        assert terminal.run_process("sync").status == ExitStatus.DONE

    def test_certificate_that_is_damaged(self, terminal: Terminal) -> None:
        terminal.environment["KONG_ROOT_CA"] = "-----BEGIN CERTIFICATE-----\nMIIBdamaged\n-----END CERTIFICATE-----"

        terminal.run("sync").assert_failed(ExitStatus.USAGE, "KONG_ROOT_CA")


class TestEnvFile:
    def test_holds_all_settings(self, terminal: Terminal, site: Site) -> None:
        site.kong.add_entries(recent(site, 2))
        lines = [f"{name}='{value}'" for name, value in site.environment.items() if "'" not in value]
        (terminal.folder / "kong.env").write_text("# the gateway in Europe\n\n" + "\n".join(lines))
        for name in site.environment:
            if f"{name}='{site.environment[name]}'" in lines:
                del terminal.environment[name]

        output = terminal.run("sync", "--json", "--env-file", "kong.env")

        assert (output.status, output.err, output.report["delivered"]) == (0, "", 2)

    def test_is_overridden_by_the_environment(self, terminal: Terminal, site: Site) -> None:
        (terminal.folder / "kong.env").write_text(f"CHANNEL_ARN={site.cloudtrail.channel_arn}\nSOURCE_NAME=kong-us\n")

        output = terminal.run("sync", "--json", "--env-file", "kong.env")

        assert (output.status, output.report["source"]) == (0, "kong-eu")
        assert output.err == "The environment overrides SOURCE_NAME.\n"


class TestDocumentation:
    def test_every_exit_status_is_in_the_help_and_on_the_page(self, terminal: Terminal) -> None:
        shown = " ".join(terminal.run("--help").out.split())
        page = PAGE.read_text("utf-8")
        for status in ExitStatus:
            assert f"{status.value} {status.meaning.replace('`', '')}" in shown
            assert f"| {status.value} | {status.meaning} |" in page

    def test_one_version(self, terminal: Terminal) -> None:
        assert terminal.run("--version").out == f"kong-cloudtrail {__version__}\n"

    def test_the_extra_names_what_is_pinned(self) -> None:
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
        ranges = {it.name: it.specifier for it in map(Requirement, project["optional-dependencies"]["cli"])}
        files = [REPOSITORY / "cli" / "requirements.txt", REPOSITORY / "lambda_src" / "requirements.in"]
        pins = {it.name: it for it in map(Requirement, _lines(files))}
        assert ranges.keys() == pins.keys()
        for name, pin in pins.items():
            ((operator, version),) = [(it.operator, it.version) for it in pin.specifier]
            assert operator == "=="
            assert version in ranges[name]


def _lines(files: list[Path]) -> list[str]:
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
