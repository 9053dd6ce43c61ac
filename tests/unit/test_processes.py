"""Whether the process that holds a lock has ended: a wrong yes would let two runs deliver at once."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kong_cloudtrail.runtime import processes


def start() -> tuple[subprocess.Popen[str], str]:
    """Start a process that tells its name and then waits."""
    code = "from kong_cloudtrail.runtime import processes; print(processes.own_name(), flush=True); input()"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_own_process_has_a_name_and_is_not_gone() -> None:
    name = processes.own_name()

    assert name == processes.own_name() != ""
    assert not processes.is_gone(name)


def test_process_is_gone_when_it_has_ended_and_not_before() -> None:
    process, name = start()
    with process:
        assert not processes.is_gone(name)

        process.kill()
        process.wait()

    assert processes.is_gone(name)


def test_process_that_ended_and_was_not_yet_waited_for_is_gone() -> None:
    process, name = start()
    with process:
        process.kill()
        assert process.stdout is not None
        process.stdout.read()  # its end of the pipe closes as it ends

        while not processes.is_gone(name):  # the kernel notes the end a moment after the pipe is closed
            pass


def test_process_that_runs_but_cannot_be_seen_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    # As where /proc is mounted with hidepid, and the process is somebody else's
    name = processes.own_name()
    stat = Path(f"/proc/{os.getpid()}/stat")
    read = Path.read_text

    def hide(path: Path, *arguments: Any, **options: Any) -> str:
        if path == stat:
            raise FileNotFoundError(path)
        return read(path, *arguments, **options)

    monkeypatch.setattr(processes, "own_name", lambda: name)
    monkeypatch.setattr(Path, "read_text", hide)

    assert not processes.is_gone(name)


@pytest.mark.parametrize("field", range(4))
def test_process_of_another_machine_or_another_process_of_that_number_is_told_apart(field: int) -> None:
    # Given the name of a living process, but for the boot, the namespace, the number, or the moment when it started
    parts = processes.own_name().split(":")
    parts[field] = {0: "another-boot", 1: "1", 2: "0", 3: "1"}[field]

    # Then one of elsewhere may live; one of here that has this number no more does not
    assert processes.is_gone(":".join(parts)) is (field >= 2)


@pytest.mark.parametrize("name", ["", "somebody", "a:b", "a:b:c:d", ":::", "a:b:1:2"])
def test_name_that_is_none_says_nothing(name: str) -> None:
    assert not processes.is_gone(name)


class TestOneCpu:
    def test_this_thread_and_those_that_it_starts_stay_there_for_as_long(self) -> None:
        allowed = os.sched_getaffinity(0)

        with processes.on_one_cpu(), ThreadPoolExecutor(1) as pool:
            assert len(os.sched_getaffinity(0)) == 1
            assert pool.submit(os.sched_getaffinity, 0).result() == os.sched_getaffinity(0) <= allowed

        assert os.sched_getaffinity(0) == allowed

    def test_it_is_let_go_when_the_run_fails(self) -> None:
        allowed = os.sched_getaffinity(0)

        with pytest.raises(ValueError), processes.on_one_cpu():
            raise ValueError

        assert os.sched_getaffinity(0) == allowed

    def test_nothing_happens_where_it_is_not_allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "sched_setaffinity", refuse)
        with processes.on_one_cpu():
            pass

    def test_nothing_happens_where_there_is_no_such_thing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "sched_getaffinity")
        with processes.on_one_cpu():
            pass
