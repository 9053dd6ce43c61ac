"""An archive as the destination: a folder or a bucket with versions, without Valkey, and what happens to it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from torture.archive_audit import PARTS, ArchiveAuditor
from torture.ends import Damage, Setting, Stage, is_connected, wait_until
from torture.ledgers import Repair, obstruct
from torture.plan import ArchiveCall, ArchiveTrouble, Round
from torture.runs import Problem, Run
from torture.s3 import S3Proxy

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class Place(Protocol):
    """Where the parts are, as the auditor reads them; and what gets in the collector's way.

    Attributes
    ----------
    location
        For ``ARCHIVE``.
    """

    location: str

    def new_round(self, stored: Callable[[int], None]) -> None:
        """Begin to count parts; `stored` is called with the number of each, while its writer still waits."""

    def parts(self) -> int:
        """Return how many parts were written since the round began."""

    def objects(self) -> dict[str, bytes]:
        """Return all that was ever written, by name: what is hidden too."""

    def trouble(self, trouble: ArchiveTrouble) -> Repair:
        """Let something go wrong from now on; return what ends it."""

    def calm_down(self) -> None:
        """Wait until everything is done that was asked for by processes that are dead now."""

    def failed_writes(self) -> int:
        """Return how many writes have failed since the round began, as far as that is known."""


class Archive:
    """Implements `ends.Ends`.

    Parameters
    ----------
    setting
        Of the scenario.
    place
        Where the parts are.
    """

    def __init__(self, setting: Setting, place: Place) -> None:
        self.auditor = ArchiveAuditor(**setting.of_auditor)
        self.damage = Damage()
        self.environment = {"ARCHIVE": place.location}
        self._place = place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was started: the S3 is the site's."""

    @property
    def poisoned(self) -> list[str]:
        """Nothing: an archive takes every entry."""
        return []

    def prepare(self, round_: Round, plain_ids: list[str], strike: Callable[[], None]) -> None:
        """Begin to count the parts, and kill at one of them if that is planned."""
        kill_at = round_.kill.at_part if round_.kill is not None else None

        def stored(number: int) -> None:
            if number == kill_at:
                strike()

        self._place.new_round(stored)

    def environment_of_run(self) -> dict[str, str]:
        """Return nothing: all runs have the same settings."""
        return {}

    def deliveries(self) -> int:
        """Return how many parts were written since the round began."""
        return self._place.parts()

    def step(self, action: Any, stage: Stage) -> Callable[[], None] | None:
        """Return what lets trouble with the archive happen."""
        if not isinstance(action, ArchiveTrouble):
            return None
        return lambda: stage.repair_later(self._place.trouble(action))

    def calm_down(self) -> None:
        """Wait until the place has done what it was asked for."""
        self._place.calm_down()

    def was_down(self, round_: Round) -> bool:
        """Return whether no write succeeded, or was seen to, though some were tried."""
        return round_.destination_is_down and self._place.failed_writes() > 0

    def end_run(self, run: Run) -> list[Problem]:
        """Check everything after a run."""
        return self.auditor.end_run(run, self._place.objects())


class FolderPlace:
    """An archive in a folder.

    Parameters
    ----------
    folder
        Which; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = 0
        self.location = str(folder)

    def new_round(self, stored: Callable[[int], None]) -> None:
        """Count what is there. Nobody can be killed while he waits: the file system does not say when it is asked."""
        self._before = self._count()

    def parts(self) -> int:
        """Return how many parts were written since the round began."""
        return self._count() - self._before

    def _count(self) -> int:
        return sum(1 for _ in self._folder.glob(f"{PARTS}*/*/*.gz"))

    def objects(self) -> dict[str, bytes]:
        """Return all files that do not say by a dot that they are not finished."""
        files = [path for path in self._folder.rglob("[!.]*") if path.is_file()]
        return {path.relative_to(self._folder).as_posix(): path.read_bytes() for path in files}

    def trouble(self, trouble: ArchiveTrouble) -> Repair:
        """Put a file where the archive is."""
        return obstruct(self._folder)

    def calm_down(self) -> None:
        """Do nothing: what a dead process has asked for is done."""

    def failed_writes(self) -> int:
        """Return 0: that is not known."""
        return 0


class S3Place:
    """An archive in a bucket of its own, which is made for it, with versions.

    Parameters
    ----------
    client
        Reaches the S3 past everything that gets in the collector's way.
    proxy
        How the collector reaches it.
    bucket
        Name of the bucket.
    """

    def __init__(self, client: S3Client, proxy: S3Proxy, bucket: str) -> None:
        self._client = client
        self._proxy = proxy
        self._bucket = bucket
        self._prefix = "audit/"
        self._known: dict[str, tuple[str, bytes]] = {}
        self._written = 0
        self._stored: Callable[[int], None] = lambda number: None
        self.location = f"s3://{bucket}/audit"
        client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        proxy.on_write = self._note

    def new_round(self, stored: Callable[[int], None]) -> None:
        """Begin to count."""
        self._written, self._stored = 0, stored

    def _note(self, path: str) -> None:
        if path.startswith(f"/{self._bucket}/{self._prefix}"):
            self._written += 1
            self._stored(self._written)

    def parts(self) -> int:
        """Return how many parts were written since the round began."""
        return self._written

    def objects(self) -> dict[str, bytes]:
        """Return the first version of every object, whatever is shown now."""
        first: dict[str, str] = {}
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in pages:
            for version in page.get("Versions", []):  # of one object, the newest first
                first[version["Key"]] = version["VersionId"]
        for key, version_id in first.items():
            if self._known.get(key, ("", b""))[0] != version_id:
                got = self._client.get_object(Bucket=self._bucket, Key=key, VersionId=version_id)
                self._known[key] = (version_id, got["Body"].read())
        return {key.removeprefix(self._prefix): self._known[key][1] for key in first}

    def trouble(self, trouble: ArchiveTrouble) -> Repair:
        """Let calls go wrong, or change a part."""
        if trouble.kind == "hidden" or trouble.kind == "overwritten":
            return self._change_part(overwrite=trouble.kind == "overwritten")
        method, path = self._calls(trouble.call)
        self._proxy.inject(trouble.kind, method=method, path=path, skipped=trouble.skipped, times=trouble.times)
        return self._proxy.clear_faults

    def _calls(self, call: ArchiveCall) -> tuple[str, str]:
        bucket = re.escape(f"/{self._bucket}")
        if call == "list":
            return "GET", f"^{bucket}/?$"
        return ("PUT" if call == "write" else "GET"), f"^{bucket}/."

    def _change_part(self, *, overwrite: bool) -> Repair:
        """Remove or overwrite a part; the bucket keeps the version that was there."""
        client, bucket = self._client, self._bucket
        keys = sorted(f"{self._prefix}{name}" for name in self.objects())
        if not keys:
            return lambda: None
        key = random.Random(len(keys)).choice(keys)
        if overwrite:
            version = client.put_object(Bucket=bucket, Key=key, Body=b"something else")["VersionId"]
        else:
            version = client.delete_object(Bucket=bucket, Key=key)["VersionId"]
        return lambda: client.delete_object(Bucket=bucket, Key=key, VersionId=version) and None

    def calm_down(self) -> None:
        """Wait for all calls but those that are done late: they may meet the next run."""
        port = int(self._proxy.url.rpartition(":")[2])
        wait_until(lambda: not is_connected(port), "S3")

    def failed_writes(self) -> int:
        """Return how many writes of parts have failed since the round began."""
        return self._proxy.count_faults(*self._calls("write"))
