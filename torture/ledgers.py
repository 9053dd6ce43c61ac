"""The ledger as the auditor sees it, past everything that gets in the collector's way; and what gets in the way."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from torture.plan import FOREVER, LedgerTrouble
from torture.s3 import S3Proxy

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Repair = Callable[[], None]


class LedgerView(Protocol):
    """Reads a ledger, and breaks it.

    Attributes
    ----------
    place
        For ``LEDGER``.
    """

    place: str

    def read(self, name: str) -> bytes | None:
        """Return an object; ``None`` if there is none."""

    def read_located(self, location: str) -> bytes | None:
        """Return what the collector says lies at a path or ``s3://`` URL; ``None`` if nothing does."""

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`, in order; without what was never written to its end."""

    def write(self, name: str, body: bytes) -> None:
        """Write an object, whatever was there."""

    def trouble(self, trouble: LedgerTrouble) -> Repair:
        """Let something go wrong from now on; return what ends it."""


class FolderLedger:
    """A ledger in a folder.

    Parameters
    ----------
    folder
        Which; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.place = str(folder)

    def read(self, name: str) -> bytes | None:
        """Return an object; ``None`` if there is none."""
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / name).read_bytes()
        return None

    def read_located(self, location: str) -> bytes | None:
        """Return what lies at a path."""
        with contextlib.suppress(FileNotFoundError):
            return Path(location).read_bytes()
        return None

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`, in order."""
        files = (self._folder / prefix).rglob("[!.]*")
        return sorted(path.relative_to(self._folder).as_posix() for path in files if path.is_file())

    def write(self, name: str, body: bytes) -> None:
        """Write an object, whatever was there."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def trouble(self, trouble: LedgerTrouble) -> Repair:
        """Put a file where the ledger has a folder: the one obstacle that stops root too."""
        return obstruct(self._folder / trouble.place)


class S3Ledger:
    """A ledger in a bucket of its own, which is made for it.

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
        self._bucket = bucket
        self._prefix = "trail/"
        self._proxy = proxy
        self.place = f"s3://{bucket}/trail"
        client.create_bucket(Bucket=bucket)

    def read(self, name: str) -> bytes | None:
        """Return an object; ``None`` if there is none."""
        return self._read(self._prefix + name)

    def read_located(self, location: str) -> bytes | None:
        """Return what lies at an ``s3://`` URL."""
        parts = urlsplit(location)
        return self._read(parts.path.removeprefix("/")) if parts.netloc == self._bucket else None

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`, in order."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        return [item["Key"].removeprefix(self._prefix) for page in pages for item in page.get("Contents", [])]

    def write(self, name: str, body: bytes) -> None:
        """Write an object, whatever was there."""
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=body)

    def trouble(self, trouble: LedgerTrouble) -> Repair:
        """Let calls go wrong that write there."""
        times = FOREVER if trouble.kind == "denied" else trouble.times
        self._proxy.inject(
            trouble.kind, path=f"^{re.escape(f'/{self._bucket}/{self._prefix}{trouble.place}')}", times=times
        )
        return self._proxy.clear_faults

    def _read(self, key: str) -> bytes | None:
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise


def obstruct(place: Path) -> Repair:
    """Put a file where a folder is, or would be; return what removes it again."""
    aside: list[Path] = []
    while True:
        if place.exists():
            aside.append(place.with_name(f"aside-{len(aside)}-{place.name}"))
            place.rename(aside[-1])
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch(exist_ok=False)
            break
        except FileExistsError:
            continue  # the collector made a new one in between

    def repair() -> None:
        place.unlink()
        for folder in aside:
            _move_into(folder, place)

    return repair


def _move_into(folder: Path, place: Path) -> None:
    """Move what is in one folder into another."""
    place.mkdir(exist_ok=True)
    for path in folder.iterdir():
        target = place / path.name
        if path.is_dir() and target.exists():
            _move_into(path, target)
        else:
            path.replace(target)
    folder.rmdir()
