"""An S3 bucket as the ledger's store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .. import __version__
from ..domain.backoff import backoff_seconds
from ..errors import LedgerError
from ..ports import Stored

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
CONFLICT_ATTEMPTS = 4
"""Attempts of a conditional write while S3 is busy with another write of the same object."""

_ABSENT = frozenset({"NoSuchKey", "404"})
_OVERTAKEN = frozenset({"PreconditionFailed", "412"})
_BUSY = frozenset({"ConditionalRequestConflict", "OperationAborted", "409"})
"""S3 is busy with the object, perhaps with an earlier attempt of this process. Nothing was written, and the object is
not known to have changed."""


class S3Store:
    """Keeps objects below a prefix of a bucket. Conditional writes are S3's own (``If-Match``, ``If-None-Match``).

    Parameters
    ----------
    url
        ``s3://bucket/prefix``; the prefix may be empty.
    connect_seconds, answer_seconds
        How long to wait for a connection, and for each part of an answer, in each of three attempts.
    sleep
        Function that waits for the given seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sleep = sleep
        parts = urlsplit(url)
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        self._client: S3Client = boto3.client(
            "s3",
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 3},
                connect_timeout=connect_seconds,
                read_timeout=answer_seconds,
                # Identifies the caller in logs of calls. botocore would build its own for each call.
                user_agent=f"kong-cloudtrail/{__version__} Botocore/{botocore.__version__}",
            ),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def locate(self, name: str) -> str:
        """Return the object's ``s3://`` URL."""
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def read(self, name: str) -> Stored | None:
        """Return an object, or ``None``."""
        try:
            response = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            return Stored(response["Body"].read(), response["ETag"])
        except ClientError as error:
            if _code(error) in _ABSENT:
                return None
            raise self._failed("read", error) from error
        except BotoCoreError as error:
            raise self._failed("read", error) from error

    def write(self, name: str, body: bytes) -> None:
        """Write an object, and replace an existing one: the bucket keeps the earlier version."""
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=body)
        except (ClientError, BotoCoreError) as error:
            raise self._failed("written", error) from error

    def write_if(self, name: str, body: bytes, version: str | None) -> str | None:
        """Write an object if its version is still the given one."""
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        for attempt in range(1, CONFLICT_ATTEMPTS + 1):
            try:
                response = self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + name,
                    Body=body,
                    **condition,  # type: ignore[arg-type]
                )
            except ClientError as error:
                code = _code(error)
                if code in _OVERTAKEN or (version is not None and code in _ABSENT):
                    break
                if code not in _BUSY or attempt == CONFLICT_ATTEMPTS:
                    raise self._failed("written", error) from error
                self._sleep(backoff_seconds(attempt))
            except BotoCoreError as error:
                raise self._failed("written", error) from error
            else:
                return response["ETag"]
        # The SDK repeats a call whose answer was lost, and then its own first success makes the condition fail.
        stored = self.read(name)
        return stored.version if stored is not None and stored.body == body else None

    def remove(self, name: str) -> None:
        """Remove an object; does nothing if it does not exist. The bucket keeps its versions."""
        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)
        except (ClientError, BotoCoreError) as error:
            raise self._failed("written", error) from error

    def names(self, prefix: str) -> Iterator[str]:
        """Return the names that begin with `prefix`, sorted."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        try:
            for page in pages:
                for item in page.get("Contents", []):
                    yield item["Key"].removeprefix(self._prefix)
        except (ClientError, BotoCoreError) as error:
            raise self._failed("listed", error) from error

    def _failed(self, what: str, error: ClientError | BotoCoreError) -> LedgerError:
        code = _code(error) if isinstance(error, ClientError) else type(error).__name__
        return LedgerError(
            f"The ledger in s3://{self._bucket}/{self._prefix} could not be {what} ({code}). Check LEDGER, the role's "
            "permissions on the bucket and its key, and the network path to S3. What depends on it stays unmarked and "
            "is fetched again."
        )


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "unknown")
