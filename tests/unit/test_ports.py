"""Ports for programs that cannot choose one themselves, while several processes test at once."""

import subprocess
import sys
from pathlib import Path

from sandbox.machinery.processes import free_port

ROOT = Path(__file__).parents[2]
LAST_THAT_IS_TAKEN_FOR_NO_CONNECTION = 32_767


def test_no_port_is_given_twice_or_lies_where_outgoing_connections_begin() -> None:
    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == 50
    assert max(ports) <= LAST_THAT_IS_TAKEN_FOR_NO_CONNECTION


def test_processes_that_look_at_the_same_time_find_different_ports() -> None:
    code = "from sandbox.machinery.processes import free_port; print(*(free_port() for _ in range(50)))"
    commands = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) for _ in range(3)]
    found = [command.communicate()[0].split() for command in commands]

    assert len({port for ports in found for port in ports}) == 150
