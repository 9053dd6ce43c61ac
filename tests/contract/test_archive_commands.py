"""The archive as people and the schedule use it: in a folder, without AWS and without a cache; and beside the Lake."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jsonschema import Draft202012Validator

from cli.exit_status import ExitStatus
from sandbox.machinery.processes import free_port
from tests.conftest import Site
from tests.contract.test_command_line import Terminal
from tests.helpers import REPOSITORY, entry

ARCHIVE = "kong-eu/requests/archive"
SCHEMAS = REPOSITORY / "docs" / "schemas"


@pytest.fixture
def terminal(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """Return a terminal that knows of Kong and the archive, and of nothing else."""
    terminal = Terminal(site, tmp_path / "folder", capsys)
    for name in ("CHANNEL_ARN", "REDIS_HOST", "REDIS_TLS", "REDIS_USERNAME", "REDIS_PASSWORD", "LEDGER"):
        terminal.environment.pop(name, None)
    for name in [name for name in terminal.environment if name.startswith("AWS_")]:
        del terminal.environment[name]
    terminal.environment["ARCHIVE"] = "./archive"
    return terminal


def fill(site: Site, count: int) -> list[dict[str, Any]]:
    rows = [entry(number, request_timestamp=int(site.kong.now()) - 10 - number) for number in range(1, count + 1)]
    site.kong.add_entries(rows)
    return rows


def parts(terminal: Terminal) -> list[Path]:
    return sorted((terminal.folder / "archive").rglob("*.json.gz"))


def lines(terminal: Terminal) -> list[dict[str, Any]]:
    return [json.loads(line) for part in parts(terminal) for line in gzip.open(part, "rt")]


class TestSync:
    def test_into_a_folder_needs_nothing_else(self, terminal: Terminal, site: Site) -> None:
        rows = fill(site, 30)

        first, second = terminal.run("sync", "--json"), terminal.run("sync", "--json")

        assert (first.status, second.status) == (ExitStatus.DONE, ExitStatus.DONE)
        assert (first.report["destination"], first.report["delivered"], second.report["delivered"]) == (
            "archive",
            30,
            0,
        )
        assert sorted(line["entry"]["request_id"] for line in lines(terminal)) == [row["request_id"] for row in rows]

    def test_can_be_read_by_other_programs(self, terminal: Terminal, site: Site) -> None:
        # Every kind of value that Kong may show, in two days
        rows = fill(site, 30)
        odd = {
            "payload": '{"a": 1.50, "é": [null, "\\ud83d"]}',
            "path": "/q?x=%00",
            "extra": {"deep": [1, {"b": None}]},
        }
        rows += [entry(40, request_timestamp=int(site.kong.now()) - 86_400, **odd)]
        site.kong.add_entries(rows[-1:])
        assert terminal.run("sync").status == ExitStatus.DONE

        with duckdb.connect(":memory:") as connection:
            found = connection.execute(
                "SELECT json ->> '$.entry', source, stream, day, json ->> '$.eventTime'"
                "FROM read_ndjson_objects(?, hive_partitioning = true)",
                [f"{terminal.folder}/archive/source=*/**/*.json.gz"],
            ).fetchall()

        read = {json.loads(row[0])["request_id"]: row for row in found}
        assert len(found) == len(read) == len(rows)
        for row in rows:
            text, source, stream, day, event_time = read[row["request_id"]]
            assert {**json.loads(text), "ttl": 0} == {**row, "ttl": 0}
            assert (source, stream, str(day)) == ("kong-eu", "requests", event_time[:10])

    @pytest.mark.parametrize("account", [None, "111122223333"])
    def test_says_whose_archive_it_is(self, terminal: Terminal, site: Site, account: str | None) -> None:
        fill(site, 3)
        if account is not None:
            terminal.environment["ARCHIVE_ACCOUNT_ID"] = account

        assert terminal.run("sync").status == ExitStatus.DONE

        assert {line.get("recipientAccountId") for line in lines(terminal)} == {account}

    def test_in_the_other_format(self, terminal: Terminal, site: Site) -> None:
        fill(site, 3)
        terminal.environment["ARCHIVE_FORMAT"] = "ocsf"

        assert terminal.run("sync").status == ExitStatus.DONE

        assert {line["class_uid"] for line in lines(terminal)} == {6003}
        assert terminal.run("verify").status == ExitStatus.DONE

    def test_of_two_trails_runs_each(self, terminal: Terminal, site: Site) -> None:
        fill(site, 3)
        terminal.environment |= site.environment

        output = terminal.run("sync", "--json")

        assert [json.loads(line)["destination"] for line in output.out.splitlines()] == ["archive", "cloudtrail-lake"]
        assert len(lines(terminal)) == len(site.cloudtrail.accepted()) == 3

    def test_of_two_trails_runs_the_other_if_one_fails(self, terminal: Terminal, site: Site) -> None:
        fill(site, 3)
        terminal.environment |= site.environment | {"REDIS_HOST": "127.0.0.1:1"}

        output = terminal.run("sync")

        output.assert_failed(ExitStatus.FAILED, "The cache did not answer")
        assert "archive:" in output.out
        assert len(lines(terminal)) == 3

    def test_says_if_the_folder_cannot_be_written(self, terminal: Terminal, site: Site) -> None:
        fill(site, 3)
        (terminal.folder / "archive").write_text("a file")

        terminal.run("sync").assert_failed(
            {ExitStatus.MISCONFIGURED, ExitStatus.FAILED}, str(terminal.folder / "archive")
        )

    def test_that_finds_an_altered_part_archives_nothing(self, terminal: Terminal, site: Site) -> None:
        fill(site, 3)
        terminal.run("sync")
        parts(terminal)[-1].write_bytes(b"hello")

        terminal.run("sync").assert_failed(ExitStatus.MISCONFIGURED, "it was altered", "Restore its first version")


class TestVerify:
    def test_says_what_it_has_looked_at(self, terminal: Terminal, site: Site) -> None:
        fill(site, 30)
        terminal.run("sync")

        output = terminal.run("verify", "--json")

        assert (output.status, output.err) == (ExitStatus.DONE, "")
        Draft202012Validator(json.loads((SCHEMAS / "verify.json").read_text("utf-8"))).validate(output.report)
        assert output.report["whole"] is True
        assert output.report["trails"][0]["archive"]["entries"] == 30
        assert output.report["trails"][0]["archive"]["parts"] == len(parts(terminal))
        assert f"{ARCHIVE}: whole. No run reports and parts were removed" in terminal.run("verify").out

    def test_names_what_was_altered(self, terminal: Terminal, site: Site) -> None:
        fill(site, 30)
        terminal.run("sync")
        part = parts(terminal)[0]
        part.write_bytes(gzip.compress(gzip.decompress(part.read_bytes()).replace(b"alice", b"mallory", 1)))

        output = terminal.run("verify")

        output.assert_failed(ExitStatus.NOT_VERIFIED, f"{part} was altered")
        assert "whole" not in output.out

    @pytest.mark.parametrize("kind", ["rsa", "ec"])
    def test_checks_signatures_with_a_public_key(self, terminal: Terminal, site: Site, kind: str) -> None:
        fill(site, 3)
        terminal.run("sync")
        (report,) = (terminal.folder / "archive" / "_ledger" / "runs" / ARCHIVE).glob("*.json")
        signature = report.with_suffix(".sig")
        if kind == "rsa":
            rsa_key = rsa.generate_private_key(65537, 2048)
            public = rsa_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            signature.write_bytes(rsa_key.sign(report.read_bytes(), PKCS1v15(), SHA256()))
        else:
            ec_key = ec.generate_private_key(ec.SECP256R1())
            public = ec_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            signature.write_bytes(ec_key.sign(report.read_bytes(), ec.ECDSA(SHA256())))
        (terminal.folder / "key.pem").write_bytes(public)

        assert "1, not checked: give --public-key" in terminal.run("verify").out
        output = terminal.run("verify", "--public-key", "key.pem", "--json")
        assert (output.status, output.report["trails"][0]["signed"]) == (ExitStatus.DONE, 1)

        # A trail into CloudTrail Lake has no signatures to check
        terminal.environment |= site.environment | {"LEDGER": "./archive/_ledger"}
        assert terminal.run("sync").status == ExitStatus.DONE
        output = terminal.run("verify", "--public-key", "key.pem", "--json")
        signed = {trail["destination"]: trail["signed"] for trail in output.report["trails"]}
        assert (output.status, signed) == (ExitStatus.DONE, {"archive": 1, "cloudtrail-lake": None})

        signature.write_bytes(b"forged")
        terminal.run("verify", "--public-key", "key.pem").assert_failed(
            ExitStatus.NOT_VERIFIED, "The signature of report 1 is wrong"
        )

    def test_without_kms_says_how_to_do_without(self, terminal: Terminal, site: Site) -> None:
        fill(site, 3)
        terminal.run("sync")
        terminal.environment |= {
            "ARCHIVE_SIGNING_KEY": "arn:aws:kms:us-east-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef",
            "AWS_ENDPOINT_URL_KMS": f"http://127.0.0.1:{free_port()}",
        }

        output = terminal.run("verify")

        output.assert_failed(ExitStatus.FAILED, "could not be fetched", "kms:GetPublicKey", "--public-key")
        assert "signs the report" not in output.err

    def test_refuses_what_is_no_key(self, terminal: Terminal) -> None:
        (terminal.folder / "no.pem").write_text("hello")
        key = ed25519.Ed25519PrivateKey.generate().public_key()
        (terminal.folder / "other.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

        terminal.run("verify", "--public-key", "no.pem").assert_failed(ExitStatus.USAGE, "no.pem: is not a public key")
        terminal.run("verify", "--public-key", "other.pem").assert_failed(ExitStatus.USAGE, "is no key that signs")
        terminal.run("verify", "--public-key", "missing.pem").assert_failed(ExitStatus.USAGE, "missing.pem")
