"""What a run needs of the archive, and what protects it, looked at piece by piece.

Nothing is written into a bucket: an object could not be removed from there for as long as it is locked.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from ...domain.files import whole_file
from ...domain.finding import Area, Finding
from ...errors import LedgerError
from ...ports import Signer
from . import NAME
from .part_log import prefix_of
from .s3 import advice_on, code_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

AREA = Area(NAME)

LEAST_FREE_BYTES = 100 * 2**20
_LISTED_PARTS = 50
_MOST_PROBED_BYTES = 2**20
_DENIED = frozenset({"AccessDenied", "403", "AccessDeniedException"})
_EXISTS = frozenset({"PreconditionFailed", "412"})
_OVERWRITE: Mapping[str, Mapping[str, str]] = {"null": {"s3:if-none-match": "true"}}
_PROBE = b"kong-cloudtrail doctor"


class BucketCheckup:
    """Finds out whether a bucket takes parts, and whether they are safe there.

    Parameters
    ----------
    url
        ``s3://bucket/prefix``.
    source, streams
        Whose parts they are.
    connect_seconds, answer_seconds
        How long to wait for a connection, and for each part of an answer.
    """

    area, name = AREA.name, "bucket"

    def __init__(
        self, url: str, source: str, streams: Sequence[str], *, connect_seconds: float, answer_seconds: float
    ) -> None:
        parts = urlsplit(url)
        self._place = url
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        self._folders = {stream: f"{self._prefix}{prefix_of(source, stream)}" for stream in streams}
        self._client: S3Client = boto3.client(
            "s3",
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 2},
                connect_timeout=connect_seconds,
                read_timeout=answer_seconds,
            ),
        )

    def run(self) -> Iterator[Finding]:
        """Yield what is found."""
        for stream, folder in self._folders.items():
            which = "" if len(self._folders) == 1 else f" ({stream})"
            try:
                listed = self._client.list_objects_v2(Bucket=self._bucket, Prefix=folder, MaxKeys=_LISTED_PARTS)
                self._client.list_object_versions(Bucket=self._bucket, Prefix=folder, MaxKeys=1)
            except (ClientError, BotoCoreError) as error:
                yield self._failure("bucket", "could not be listed", error)
                return
            if stream == next(iter(self._folders)):
                yield AREA.ok("bucket", f"{self._place} can be listed, with the versions of its objects.")
            # Not an object of somebody else, and one that is quickly read.
            sizes = {item["Key"]: item["Size"] for item in listed.get("Contents", [])}
            small = [key for key, size in sizes.items() if size <= _MOST_PROBED_BYTES]
            yield from self._part(small[0] if small else None, which, has_parts=bool(sizes))
        for check in (self._versioning, self._lock, self._policy):
            yield check()

    # -- reading and writing

    def _part(self, key: str | None, which: str, *, has_parts: bool) -> Iterator[Finding]:
        if key is None:
            why = "There are only large parts" if has_parts else "There is no part yet"
            yield AREA.not_checked(f"reading{which}", f"{why}, so reading was not tried.")
            yield AREA.not_checked(
                f"writing{which}",
                f"{why}, so writing was not tried: whatever is written cannot be removed again.",
                "The first run that delivers something shows it.",
            )
            return
        try:
            with self._client.get_object(Bucket=self._bucket, Key=key)["Body"] as stream:
                body = stream.read()
        except (ClientError, BotoCoreError) as error:
            yield self._failure(f"reading{which}", "could not be read", error)
            return
        yield AREA.ok(f"reading{which}", "A part can be read.")
        yield self._write_again(key, body, f"writing{which}")

    def _write_again(self, key: str, body: bytes, check: str) -> Finding:
        """Write a part as if it were new, which has to be refused. A store that takes it gets what it has already."""
        try:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body, IfNoneMatch="*")
        except ClientError as error:
            if code_of(error) in _EXISTS:
                return AREA.ok(check, "Writing is allowed, and a part that exists is not written again (412).")
            return self._failure(check, "could not be written", error)
        except BotoCoreError as error:
            return self._failure(check, "could not be written", error)
        return AREA.failed(
            check,
            "The store wrote an object although there was one already: entries could be archived twice.",
            "Use Amazon S3, or a store that honours If-None-Match.",
        )

    # -- what protects it

    def _versioning(self) -> Finding:
        try:
            status = self._client.get_bucket_versioning(Bucket=self._bucket).get("Status", "Disabled")
        except (ClientError, BotoCoreError) as error:
            return self._unseen("versioning", "s3:GetBucketVersioning", error)
        if status == "Enabled":
            return AREA.ok("versioning", "It is on: what somebody removes or overwrites is still there.")
        return AREA.warning(
            "versioning",
            f"It is {status.lower()}: a part that somebody removes or overwrites is gone.",
            f"aws s3api put-bucket-versioning --bucket {self._bucket} --versioning-configuration Status=Enabled",
        )

    def _lock(self) -> Finding:
        try:
            answer = self._client.get_object_lock_configuration(Bucket=self._bucket)
        except ClientError as error:
            if code_of(error) in ("ObjectLockConfigurationNotFoundError", "404"):
                return _without_lock("The bucket has no Object Lock")
            return self._unseen("Object Lock", "s3:GetBucketObjectLockConfiguration", error)
        except BotoCoreError as error:
            return self._unseen("Object Lock", "s3:GetBucketObjectLockConfiguration", error)
        retention = answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
        if not retention.get("Mode"):
            return _without_lock("Object Lock has no default retention")
        span = f"{retention['Years']} years" if retention.get("Years") else f"{retention.get('Days', 0)} days"
        return AREA.ok("Object Lock", f"Each object is locked for {span} ({retention['Mode'].lower()}).")

    def _policy(self) -> Finding:
        try:
            document = json.loads(self._client.get_bucket_policy(Bucket=self._bucket)["Policy"])
        except ClientError as error:
            if code_of(error) != "NoSuchBucketPolicy":
                return self._unseen("policy", "s3:GetBucketPolicy", error)
            document = {}
        except BotoCoreError as error:
            return self._unseen("policy", "s3:GetBucketPolicy", error)
        except ValueError:
            document = {}
        samples = [f"{self._bucket}/{each}day=2026-01-01/00-000000.json.gz" for each in self._folders.values()]
        allowed = list(dict.fromkeys(what for sample in samples for what in _not_denied(document, sample)))
        if not allowed:
            return AREA.ok("policy", "The bucket's policy denies everybody to overwrite or delete parts.")
        return AREA.warning(
            "policy",
            f"The bucket's policy does not deny everybody to {' or '.join(allowed)} parts.",
            'Add the statements in docs/archive.md, "A bucket that is there".',
        )

    # -- errors

    def _unseen(self, check: str, permission: str, error: ClientError | BotoCoreError) -> Finding:
        if isinstance(error, ClientError) and code_of(error) in _DENIED:
            return AREA.not_checked(check, f"Not checked: it takes the permission {permission} on the bucket.")
        code = code_of(error) if isinstance(error, ClientError) else type(error).__name__
        return AREA.not_checked(check, f"Not checked: S3 did not tell ({code}).")

    def _failure(self, check: str, what: str, error: ClientError | BotoCoreError) -> Finding:
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return AREA.failed(check, "There are no AWS credentials.", "Set them, for example with AWS_PROFILE.")
        if isinstance(error, BotoCoreError):
            return AREA.failed(
                check,
                f"{self._place} {what}: S3 did not answer ({type(error).__name__}).",
                "Check the path to S3 from here: the VPC endpoint, or NAT and routes.",
                may_pass=True,
            )
        advice = advice_on(error)
        do = "Try again; if it stays, look up the code." if advice is None else f"{advice[0].upper()}{advice[1:]}."
        return AREA.failed(check, f"{self._place} {what} ({code_of(error)}).", do, may_pass=advice is None)


class FolderCheckup:
    """Finds out whether a folder takes parts.

    Parameters
    ----------
    folder
        Path of the folder.
    """

    area, name = AREA.name, "folder"

    def __init__(self, folder: str) -> None:
        self._folder = Path(os.path.expanduser(folder)).absolute()  # noqa: PTH111 - as `FolderParts`

    def run(self) -> Iterator[Finding]:
        """Yield what is found."""
        existing = next(path for path in (self._folder, *self._folder.parents) if path.exists())
        link = existing / f".doctor-{os.getpid()}"
        try:
            with whole_file(existing, _PROBE) as temporary:
                os.link(temporary, link)
        except OSError as error:
            yield AREA.failed(
                "writing",
                f"Files in {existing} cannot be written and linked: {error.strerror}.",
                "Correct ARCHIVE, or the permissions of the folder. Its file system needs hard links.",
            )
            return
        finally:
            with contextlib.suppress(OSError):
                link.unlink(missing_ok=True)
        missing = "" if existing == self._folder else " It is created by the first run."
        yield AREA.ok("writing", f"{self._folder} can be written.{missing}")
        free = shutil.disk_usage(existing).free
        if free < LEAST_FREE_BYTES:
            yield AREA.warning("space", f"The disk has {free:,} bytes left.", "Make room, or move the archive.")
        else:
            yield AREA.ok("space", f"The disk has {free / 2**30:.1f} GiB left.")
        yield AREA.warning(
            "protection",
            "A folder protects nothing: whoever may write there can remove or alter what is archived.",
            "Use a bucket with Object Lock for a trail that auditors rely on.",
        )


class SigningCheckup:
    """Finds out whether the key that signs run reports can be used. It signs a word that is no report.

    Parameters
    ----------
    signer
        The key.
    """

    area, name = AREA.name, "signing key"

    def __init__(self, signer: Callable[[], Signer]) -> None:
        self._signer = signer

    def run(self) -> Iterator[Finding]:
        """Yield what is found."""
        try:
            self._signer().sign(_PROBE)
        except LedgerError as error:
            what, _, do = str(error).partition(". ")
            may_pass = isinstance(error.__cause__, BotoCoreError)
            yield AREA.failed("signing key", f"{what}.", do.partition(" Nothing is lost")[0], may_pass=may_pass)
        else:
            yield AREA.ok("signing key", "The key signs.")


def _without_lock(what: str) -> Finding:
    return AREA.warning(
        "Object Lock",
        f"{what}: whoever may change the bucket's policy can delete what is archived.",
        "Set a default retention: docs/archive.md.",
    )


def _not_denied(document: Mapping[str, Any], sample: str) -> Iterator[Literal["overwrite", "delete"]]:
    """Yield what the policy of a bucket does not deny to everybody.

    Parameters
    ----------
    document
        The policy.
    sample
        Bucket and key of an object that has to be protected.
    """
    statements = [each for each in _list(document.get("Statement")) if isinstance(each, dict)]
    denied = [each for each in statements if each.get("Effect") == "Deny" and _is_for_all(each, sample)]
    if not any(_names(each, "s3:putobject") and _condition(each) == _OVERWRITE for each in denied):
        yield "overwrite"
    unconditional = [each for each in denied if not each.get("Condition")]
    if not all(
        any(_names(each, action) for each in unconditional) for action in ("s3:deleteobject", "s3:deleteobjectversion")
    ):
        yield "delete"


def _is_for_all(statement: Mapping[str, Any], sample: str) -> bool:
    principal = statement.get("Principal")
    everybody = principal == "*" or (isinstance(principal, dict) and "*" in _list(principal.get("AWS")))
    # Of an ARN, what follows the partition and the empty region and account.
    return everybody and any(
        fnmatchcase(sample, str(resource).rpartition(":::")[2]) for resource in _list(statement.get("Resource"))
    )


def _names(statement: Mapping[str, Any], action: str) -> bool:
    return any(fnmatchcase(action, str(pattern).lower()) for pattern in _list(statement.get("Action")))


def _condition(statement: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    condition = statement.get("Condition")
    if not isinstance(condition, dict):
        return {}
    return {
        str(operator).lower(): {str(key).lower(): _word(value) for key, value in keys.items()}
        for operator, keys in condition.items()
        if isinstance(keys, dict)
    }


def _word(value: object) -> str:
    return ",".join(str(each).lower() for each in _list(value))


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
