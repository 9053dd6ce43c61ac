"""Both stores of the ledger keep the same promises: a folder, and S3 with its own conditional writes."""

from __future__ import annotations

import contextlib
import json
import socket
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from kong_cloudtrail.domain.checkpoint import Checkpoint
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.errors import CheckpointConflict, LedgerError
from kong_cloudtrail.ports import ObjectStore
from kong_cloudtrail.state.folder_store import FolderStore
from kong_cloudtrail.state.ledger import Ledger
from kong_cloudtrail.state.s3_store import S3Store

from sandbox.machinery.http_server import LOOPBACK, HttpServer, Request, Response
from sandbox.machinery.local_aws import LocalAws
from tests.helpers import TRAIL, FakeClock

BUCKET = "ledger-of-tests"

Open = Callable[[], ObjectStore]
"""Opens the same place anew, as another process would."""


@pytest.fixture
def s3(local_aws: LocalAws, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an empty bucket."""
    for name, value in local_aws.environment().items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=item["Key"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


@pytest.fixture(params=["folder", "s3", "s3 without a prefix"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "folder":
        return lambda: FolderStore(str(tmp_path / "led ger"))
    request.getfixturevalue("s3")
    url = f"s3://{BUCKET}/some/prefix" if request.param == "s3" else f"s3://{BUCKET}"
    return lambda: S3Store(url)


@pytest.fixture
def store(open_store: Open) -> ObjectStore:
    return open_store()


class TestEveryStore:
    def test_keeps_what_was_written(self, store: ObjectStore, open_store: Open) -> None:
        store.write("quarantine/kong/a.json", b"\x00\xff{}")

        stored = open_store().read("quarantine/kong/a.json")

        assert stored is not None
        assert stored.body == b"\x00\xff{}"

    def test_knows_what_it_does_not_have(self, store: ObjectStore) -> None:
        assert store.read("checkpoints/kong.json") is None
        assert list(store.names("runs/")) == []

    def test_writes_over_what_was_there(self, store: ObjectStore) -> None:
        for body in (b"one", b"two"):
            store.write("a/b", body)

        stored = store.read("a/b")
        assert stored is not None
        assert stored.body == b"two"

    def test_creates_only_what_does_not_exist(self, store: ObjectStore, open_store: Open) -> None:
        assert open_store().write_if("a", b"first", None) is not None

        assert store.write_if("a", b"second", None) is None

        stored = store.read("a")
        assert stored is not None
        assert stored.body == b"first"

    def test_replaces_only_the_version_that_was_read(self, store: ObjectStore, open_store: Open) -> None:
        first = store.write_if("a", b"first", None)
        second = open_store().write_if("a", b"second", first)

        assert second is not None
        assert store.write_if("a", b"late", first) is None
        assert store.write_if("b", b"never there", first) is None
        stored = store.read("a")
        assert stored is not None
        assert (stored.body, stored.version) == (b"second", second)
        assert store.read("b") is None

    def test_version_read_is_the_version_to_write_over(self, store: ObjectStore) -> None:
        store.write("a", b"first")
        stored = store.read("a")

        assert stored is not None
        assert store.write_if("a", b"second", stored.version) is not None

    def test_lists_names_in_order(self, store: ObjectStore) -> None:
        names = ["runs/kong/0000000010.json", "runs/kong/0000000002.json", "runs/kong-2/0000000001.json", "other/x"]
        for name in names:
            store.write(name, b"{}")

        assert list(store.names("runs/kong/")) == ["runs/kong/0000000002.json", "runs/kong/0000000010.json"]

    def test_removes_an_object(self, store: ObjectStore) -> None:
        store.write("quarantine/kong/a.json", b"{}")

        store.remove("quarantine/kong/a.json")
        store.remove("quarantine/kong/a.json")  # as if it was asked twice

        assert list(store.names("")) == []

    def test_one_of_several_writers_wins(self, open_store: Open) -> None:
        stores = [open_store() for _ in range(6)]
        version = stores[0].write_if("a", b"begin", None)

        with ThreadPoolExecutor(6) as pool:
            results = list(
                pool.map(lambda number: stores[number].write_if("a", f"writer {number}".encode(), version), range(6))
            )

        [winner] = [number for number, result in enumerate(results) if result is not None]
        stored = stores[0].read("a")
        assert stored is not None
        assert stored.body == f"writer {winner}".encode()

    def test_checkpoint_of_an_older_run_never_overwrites_a_newer_one(self, open_store: Open) -> None:
        older, newer = (Ledger(open_store(), TRAIL, FakeClock()) for _ in range(2))
        seen_by_older, seen_by_newer = older.load_checkpoint(), newer.load_checkpoint()
        newer.save_checkpoint(Checkpoint(200, version=seen_by_newer.version))

        with pytest.raises(CheckpointConflict):
            older.save_checkpoint(Checkpoint(100, version=seen_by_older.version))

        assert older.load_checkpoint().complete_until == 200


class TestFolder:
    def test_place_is_a_path(self, tmp_path: Path) -> None:
        assert FolderStore(str(tmp_path)).locate("originals/a.json") == str(tmp_path / "originals/a.json")

    def test_in_the_home_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # ARCHIVE=~/archive in a file of settings, where no shell replaces it: parts and ledger go to the same place.
        monkeypatch.setenv("HOME", str(tmp_path))

        assert FolderStore("~/archive/_ledger").locate("a") == str(tmp_path / "archive/_ledger/a")

    def test_is_made_only_when_something_is_written(self, tmp_path: Path) -> None:
        store = FolderStore(str(tmp_path / "ledger"))

        store.read("a")
        list(store.names(""))

        assert not (tmp_path / "ledger").exists()

    def test_leaves_no_half_written_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = FolderStore(str(tmp_path))
        store.write("a/b", b"whole")

        def fail(self: Path, target: Path) -> Path:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(LedgerError, match="No space left on device"):
            store.write("a/b", b"half")

        stored = store.read("a/b")
        assert stored is not None
        assert stored.body == b"whole"
        assert list(store.names("")) == ["a/b"]
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]

    def test_that_is_a_file_is_an_error_with_advice(self, tmp_path: Path) -> None:
        (tmp_path / "ledger").write_text("in the way")
        store = FolderStore(str(tmp_path / "ledger"))

        for action in (lambda: store.write("a", b""), lambda: store.write_if("a", b"", None), lambda: store.read("a")):
            with pytest.raises(LedgerError, match="Check LEDGER"):
                action()

    def test_files_are_for_their_owner_only(self, tmp_path: Path) -> None:
        # Originals and quarantine hold payloads.
        store = FolderStore(str(tmp_path))

        store.write("originals/a", b"payload")

        assert stat.S_IMODE((tmp_path / "originals/a").stat().st_mode) == 0o600


class TestS3:
    def test_place_is_a_url(self, s3: Any) -> None:
        assert S3Store(f"s3://{BUCKET}/p/q/").locate("originals/a.json") == f"s3://{BUCKET}/p/q/originals/a.json"

    def test_objects_are_below_the_prefix(self, s3: Any) -> None:
        S3Store(f"s3://{BUCKET}/p/q/").write("originals/a.json", b"{}")

        assert [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["p/q/originals/a.json"]

    def test_missing_bucket_is_an_error_with_advice(self, s3: Any) -> None:
        store = S3Store("s3://no-such-bucket-here/prefix")

        actions: list[Callable[[], object]] = [
            lambda: store.write("a", b""),
            lambda: store.write_if("a", b"", None),
            lambda: store.write_if("a", b"", '"etag"'),
            lambda: store.read("a"),
            lambda: list(store.names("")),
        ]
        for action in actions:
            with pytest.raises(LedgerError, match=r"s3://no-such-bucket-here/prefix.*NoSuchBucket.*Check LEDGER"):
                action()

    def test_own_write_whose_answer_was_lost_counts_as_done(self, s3: Any) -> None:
        # Given a write that arrived, repeated by the SDK because the answer did not
        store = S3Store(f"s3://{BUCKET}/p")
        first = store.write_if("a", b"same", None)

        assert store.write_if("a", b"same", None) == first


class BusyS3:
    """Answers conditional writes with a status, so often, and then takes them; tells what it has otherwise."""

    def __init__(self, status: int, code: str, *, times: int) -> None:
        self._error = (status, f"<Error><Code>{code}</Code><Message>busy</Message></Error>".encode())
        self._times = times
        self.writes = 0
        self.server = HttpServer(self._answer)

    def _answer(self, request: Request) -> Response:
        if request.method != "PUT":
            return Response(200, b"of another run", {"ETag": '"other"'})
        self.writes += 1
        if self.writes <= self._times:
            return Response(*self._error, {"Content-Type": "application/xml"})
        return Response(200, b"", {"ETag": '"new"'})


class TestBusyS3:
    """What is no other run must not look like one."""

    @pytest.fixture
    def open_busy(self, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
        with contextlib.ExitStack() as stack:

            def open_one(status: int, code: str, *, times: int) -> tuple[BusyS3, S3Store, list[float]]:
                s3 = BusyS3(status, code, times=times)
                waits: list[float] = []
                s3.server.start()
                stack.callback(s3.server.stop)
                monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.server.origin)
                store = S3Store(f"s3://{BUCKET}/p", sleep=waits.append)
                stack.callback(store.close)
                return s3, store, waits

            yield open_one

    @pytest.mark.parametrize("version", [None, '"old"'])
    @pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
    def test_is_asked_again(self, open_busy: Callable[..., Any], code: str, version: str | None) -> None:
        s3, store, waits = open_busy(409, code, times=2)

        assert store.write_if("a", b"mine", version) == '"new"'
        assert s3.writes == 3
        assert len(waits) == 2
        assert 0 < waits[0] < waits[1]

    def test_that_stays_busy_is_no_other_run(self, open_busy: Callable[..., Any]) -> None:
        _, store, _ = open_busy(409, "ConditionalRequestConflict", times=100)

        with pytest.raises(LedgerError, match="ConditionalRequestConflict"):
            store.write_if("a", b"mine", '"old"')

    def test_another_run_is_one_at_once(self, open_busy: Callable[..., Any]) -> None:
        s3, store, waits = open_busy(412, "PreconditionFailed", times=100)

        assert store.write_if("a", b"mine", '"old"') is None
        assert (s3.writes, waits) == (1, [])


def test_s3_that_hangs_is_an_error_in_time(aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:  # takes connections and says nothing
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{LOOPBACK}:{listener.getsockname()[1]}")
        store = S3Store(f"s3://{BUCKET}/p", connect_seconds=0.2, answer_seconds=0.2)
        started = time.monotonic()

        with pytest.raises(LedgerError, match="ReadTimeoutError"):
            store.read("a")

        assert time.monotonic() - started < 10
        store.close()


def keep_reports(store: ObjectStore) -> Ledger:
    """Return a ledger with the reports of four runs."""
    ledger = Ledger(store, TRAIL, FakeClock())
    for delivered in (5, 6, 7, 8):
        ledger.save_checkpoint(ledger.add_report(RunReport(TRAIL, delivered=delivered), ledger.load_checkpoint()))
    return ledger


def test_chain_of_reports_can_be_checked_in_every_store(store: ObjectStore) -> None:
    ledger = keep_reports(store)
    assert list(ledger.verify_reports()) == []

    store.write(f"runs/{TRAIL}/0000000002.json", b"{}")

    assert list(ledger.verify_reports()) != []


class TestChainOfReports:
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return FolderStore(str(tmp_path))

    @pytest.fixture
    def ledger(self, store: ObjectStore) -> Ledger:
        return keep_reports(store)

    def alter(self, store: ObjectStore, number: int, **changes: object) -> None:
        name = f"runs/{TRAIL}/{number:010}.json"
        stored = store.read(name)
        assert stored is not None
        store.write(name, json.dumps(json.loads(stored.body) | changes).encode())

    def test_is_whole_if_nobody_touched_it(self, ledger: Ledger) -> None:
        assert list(ledger.verify_reports()) == []

    @pytest.mark.parametrize("number", [1, 2, 3, 4])
    def test_shows_an_altered_report(self, ledger: Ledger, store: ObjectStore, number: int) -> None:
        self.alter(store, number, delivered=1_000)

        [fault] = ledger.verify_reports()

        assert str(number) in fault
        assert "altered" in fault

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"\xff", b"null"])
    @pytest.mark.parametrize("number", [1, 4])
    def test_shows_a_report_that_is_none_any_more(
        self, ledger: Ledger, store: ObjectStore, number: int, body: bytes
    ) -> None:
        store.write(f"runs/{TRAIL}/{number:010}.json", body)

        assert any(f"eport {number}" in fault for fault in ledger.verify_reports())

    def test_shows_what_is_no_report(self, ledger: Ledger, store: ObjectStore) -> None:
        store.write(f"runs/{TRAIL}/notes.txt", b"hello")

        [fault] = ledger.verify_reports()

        assert "notes.txt is not a run report" in fault

    def test_shows_every_fault(self, ledger: Ledger, store: ObjectStore) -> None:
        self.alter(store, 1, delivered=0)
        self.alter(store, 3, delivered=0)

        assert len(list(ledger.verify_reports())) >= 2

    def test_outlives_a_run_that_died_between_report_and_checkpoint(self, ledger: Ledger) -> None:
        # Given a report whose checkpoint was never saved
        ledger.add_report(RunReport(TRAIL, delivered=9), ledger.load_checkpoint())

        checkpoint = ledger.add_report(RunReport(TRAIL, delivered=10), ledger.load_checkpoint())
        ledger.save_checkpoint(checkpoint)

        assert checkpoint.run_number == 6
        assert list(ledger.verify_reports()) == []


class TestRemovedReports:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        keep_reports(FolderStore(str(tmp_path)))
        return tmp_path

    @pytest.mark.parametrize(
        ("removed", "expected"),
        [
            ([1], "1 to 1 are missing"),
            ([2], "2 to 2 are missing"),
            ([2, 3], "2 to 3 are missing"),
            ([4], "4 to 4 are missing at the end"),
            ([1, 2, 3, 4], "1 to 4 are missing at the end"),
        ],
    )
    def test_are_missed(self, folder: Path, removed: list[int], expected: str) -> None:
        for number in removed:
            (folder / f"runs/{TRAIL}/{number:010}.json").unlink()

        [fault] = Ledger(FolderStore(str(folder)), TRAIL, FakeClock()).verify_reports()

        assert expected in fault

    def test_are_missed_even_if_the_rest_is_renumbered(self, folder: Path) -> None:
        runs = folder / f"runs/{TRAIL}"
        (runs / "0000000002.json").unlink()
        (runs / "0000000003.json").rename(runs / "0000000002.json")
        (runs / "0000000004.json").rename(runs / "0000000003.json")

        faults = list(Ledger(FolderStore(str(folder)), TRAIL, FakeClock()).verify_reports())

        assert any("does not continue" in fault for fault in faults)
        assert any("missing at the end" in fault for fault in faults)
