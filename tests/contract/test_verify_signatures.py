"""``verify-signatures`` as an operator uses it: entries of the archive and of Kong, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cli.exit_status import ExitStatus
from tests.conftest import Site
from tests.contract.test_archive_commands import terminal
from tests.contract.test_command_line import Terminal
from tests.helpers import REPOSITORY, entry
from tests.unit.test_entry_signatures import PEM, signed

__all__ = ["terminal"]

SCHEMA = json.loads((REPOSITORY / "docs" / "schemas" / "verify-signatures.json").read_text("utf-8"))
WINDOW = ("--after", "2h", "--before", "now")


def rows(site: Site, *further: dict[str, Any]) -> list[dict[str, Any]]:
    now = int(site.kong.now())
    of_today = [signed(request_id=f"{number:032d}", request_timestamp=now - 60 * number) for number in (1, 2, 3)]
    return [*of_today, entry(4, request_timestamp=now - 400), *further]


@pytest.fixture
def keyed(terminal: Terminal) -> Terminal:
    (terminal.folder / "kong.pub").write_text(PEM)
    return terminal


def check(terminal: Terminal, *arguments: str) -> dict[str, Any]:
    output = terminal.run("verify-signatures", *WINDOW, "--public-key", "kong.pub", "--json", *arguments)
    assert output.status == ExitStatus.DONE, output.err
    document = output.report
    Draft202012Validator(SCHEMA).validate(document)
    (trail,) = document["trails"]
    return dict(trail)


@pytest.mark.parametrize("archive_format", ["json", "ocsf"])
def test_entries_of_the_archive_and_of_kong(keyed: Terminal, site: Site, archive_format: str) -> None:
    keyed.environment["ARCHIVE_FORMAT"] = archive_format
    now = int(site.kong.now())
    altered = signed(request_id="a" * 32, request_timestamp=now - 90) | {"path": "/altered"}
    old = signed(request_id="b" * 32, request_timestamp=now - 86_400)
    site.kong.add_entries(rows(site, altered, old))
    keyed.run("sync")

    of_archive, of_kong = check(keyed), check(keyed, "--from", "kong")

    assert {**of_archive, "read_from": "kong"} == of_kong
    assert (of_archive["verified"], of_archive["unsigned"], of_archive["not_verifiable"]) == (3, 1, 1)
    assert of_archive["reasons"] == {"signature_does_not_fit": 1}
    assert of_archive["examples"] == [{"id": "a" * 32, "reason": "signature_does_not_fit"}]
    assert (of_archive["entries"], of_archive["conclusion"]) == (5, "some_verified")


def test_people_read_that_it_is_advice(keyed: Terminal, site: Site) -> None:
    site.kong.add_entries([entry(1, request_timestamp=int(site.kong.now()) - 60, signature="QUJD")])
    keyed.run("sync")

    output = keyed.run("verify-signatures", *WINDOW, "--public-key", "kong.pub")

    assert output.status == ExitStatus.DONE  # nothing depends on it
    assert "No signature fits. It is not known why" in output.out
    assert "signature of another length" in output.out
    assert "This is advice." in output.err


def test_a_private_key_is_refused_by_its_name(keyed: Terminal) -> None:
    (keyed.folder / "kong.pub").write_text(PEM.replace("PUBLIC", "PRIVATE"))

    output = keyed.run("verify-signatures", *WINDOW, "--public-key", "kong.pub")

    output.assert_failed(ExitStatus.USAGE, "is a private key", "-pubout")


def test_a_trail_without_an_archive_is_read_from_kong(keyed: Terminal, site: Site) -> None:
    site.kong.add_entries(rows(site))
    keyed.environment |= site.environment
    del keyed.environment["ARCHIVE"]

    assert check(keyed)["read_from"] == "kong"
    output = keyed.run("verify-signatures", *WINDOW, "--public-key", "kong.pub", "--from", "archive")
    output.assert_failed(ExitStatus.USAGE, "has no archive to read")


def test_a_key_that_is_not_there(keyed: Terminal, tmp_path: Path) -> None:
    keyed.run("verify-signatures", *WINDOW, "--public-key", "missing.pub").assert_failed(
        ExitStatus.USAGE, "missing.pub"
    )
