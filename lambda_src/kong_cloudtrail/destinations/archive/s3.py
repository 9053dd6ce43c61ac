"""An S3 bucket as the store of parts.

Sources: the S3 user guide, "Prevent object overwrites with conditional writes", and the S3 API reference, "Error
responses".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from ... import __version__
from ...domain.backoff import backoff_seconds
from ...errors import DestinationError, DestinationMisconfigured, DestinationUnavailable
from .part_log import Listed, PartAbsent

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
CONFLICT_ATTEMPTS = 4
"""Attempts of a conditional write while S3 is busy with another write of the same object."""

_PIECE_BYTES = 64 * 1024
_ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "404"})
_EXISTS = frozenset({"PreconditionFailed", "412"})
_BUSY = frozenset({"ConditionalRequestConflict", "OperationAborted", "409"})
_THROTTLING = frozenset(
    {
        "SlowDown",
        "503",
        "429",
        "Throttling",
        "ThrottlingException",
        "KMS.ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequests",
    }
)

_CREDENTIALS_ADVICE = "the AWS credentials are not valid: check the role, or AWS_PROFILE and the keys"
_EXPIRED_ADVICE = "the AWS credentials have expired: renew them"
_REGION_ADVICE = "the bucket is in another region: set AWS_REGION to the bucket's"
_DENIED_ADVICE = (
    "the role needs s3:PutObject, s3:GetObject and s3:GetObjectVersion below the prefix, and s3:ListBucket and "
    "s3:ListBucketVersions for it; check its policy, the bucket's policy, and that of the VPC endpoint"
)
_KEY_ADVICE = (
    "the bucket's KMS key cannot be used: allow the role kms:GenerateDataKey and kms:Decrypt on it, in its own policy "
    "and the key's, and check that the key is enabled"
)
_ADVICE = {
    "AccessDenied": _DENIED_ADVICE,
    "403": _DENIED_ADVICE,
    "AllAccessDisabled": _DENIED_ADVICE,
    "NoSuchBucket": "there is no such bucket: correct its name, or create it",
    "InvalidBucketName": "there is no such bucket: correct its name, or create it",
    "PermanentRedirect": _REGION_ADVICE,
    "AuthorizationHeaderMalformed": _REGION_ADVICE,
    "IllegalLocationConstraintException": _REGION_ADVICE,
    "NotImplemented": "this store has no conditional writes (If-None-Match), which the archive needs: use Amazon S3",
    "InvalidAccessKeyId": _CREDENTIALS_ADVICE,
    "InvalidToken": _CREDENTIALS_ADVICE,
    "ExpiredToken": _EXPIRED_ADVICE,
    "SignatureDoesNotMatch": _CREDENTIALS_ADVICE,
    "RequestTimeTooSkewed": "the clock of this machine is wrong: set it by NTP",
}


class S3Parts:
    """Keeps parts below a prefix of a bucket. Safe to use from several threads.

    Parameters
    ----------
    url
        ``s3://bucket/prefix``; the prefix may be empty.
    connections
        Connections to keep open: as many as there are parallel calls.
    connect_seconds, answer_seconds
        How long to wait for a connection, and for each part of an answer, in each of three attempts.
    sleep
        Function that waits for the given seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 10,
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
                # The SDK's own retries do no harm: a write that arrives twice is refused the second time.
                retries={"mode": "standard", "total_max_attempts": 3},
                connect_timeout=connect_seconds,
                read_timeout=answer_seconds,
                parameter_validation=False,  # a fifth of the time that a call takes
                # Identifies the caller in logs of calls. botocore would build its own for each call.
                user_agent=f"kong-cloudtrail/{__version__} Botocore/{botocore.__version__}",
                max_pool_connections=connections,
            ),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def locate(self, name: str) -> str:
        """Return the object's ``s3://`` URL."""
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def listed(self, prefix: str) -> list[Listed]:
        """Return all objects whose names begin with `prefix`, also those that are hidden by a delete marker."""
        pages = self._client.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        first: dict[str, str] = {}
        changed: set[str] = set()
        try:
            for page in pages:
                for version in page.get("Versions", []):  # of one object, the newest first
                    if version["Key"] in first:
                        changed.add(version["Key"])
                    first[version["Key"]] = version["VersionId"]
                changed.update(marker["Key"] for marker in page.get("DeleteMarkers", []))
        except (ClientError, BotoCoreError) as error:
            raise self._failed(error) from error
        return [
            Listed(name.removeprefix(self._prefix), version, is_intact=name not in changed)
            for name, version in first.items()
        ]

    def read(self, name: str, version: str | None = None) -> Iterator[bytes]:
        """Return an object, or one of its versions, piece by piece. Raises `PartAbsent`."""
        chosen = {} if version is None else {"VersionId": version}
        try:
            body = self._client.get_object(
                Bucket=self._bucket,
                Key=self._prefix + name,
                **chosen,  # type: ignore[arg-type]
            )["Body"]
            with body:
                yield from body.iter_chunks(_PIECE_BYTES)
        except ClientError as error:
            if code_of(error) in _ABSENT:
                raise PartAbsent from error
            raise self._failed(error) from error
        except BotoCoreError as error:
            raise self._failed(error) from error

    def create(self, name: str, body: bytes) -> bool:
        """Write an object if there is none of this name; ``False`` if there is one."""
        for attempt in range(1, CONFLICT_ATTEMPTS + 1):
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=body, IfNoneMatch="*")
            except ClientError as error:
                code = code_of(error)
                if code in _EXISTS:
                    return False
                if code not in _BUSY or attempt == CONFLICT_ATTEMPTS:
                    raise self._failed(error) from error
                self._sleep(backoff_seconds(attempt))
            except BotoCoreError as error:
                raise self._failed(error) from error
            else:
                break
        return True

    def _failed(self, error: ClientError | BotoCoreError) -> DestinationError:
        place = f"s3://{self._bucket}/{self._prefix}"
        if isinstance(error, NoCredentialsError):
            return DestinationMisconfigured(
                f"There are no AWS credentials for the archive in {place}. Set them, for example with AWS_PROFILE."
            )
        if not isinstance(error, ClientError):
            code = type(error).__name__
            return DestinationUnavailable(
                code,
                f"The archive in {place} did not answer ({code}). Check the function's path to S3: the VPC endpoint, or"
                " NAT and routes.",
                content_matters=False,
            )
        code = code_of(error)
        if (advice := advice_on(error)) is not None:
            return DestinationMisconfigured(f"The archive in {place} refuses everything ({code}): {advice}.")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return DestinationUnavailable(
            code,
            f"The archive in {place} did not take or show a part ({code}, status {status}).",
            throttled=code in _THROTTLING or status in (429, 503),
            content_matters=False,
        )


def advice_on(error: ClientError) -> str | None:
    """Return what to change, if that is what has to be done."""
    code = code_of(error)
    if code.startswith("KMS.") or (code == "AccessDenied" and "kms:" in error.response["Error"].get("Message", "")):
        return None if code == "KMS.ThrottlingException" else _KEY_ADVICE
    return _ADVICE.get(code)


def code_of(error: ClientError) -> str:
    """Return the code of an error of S3."""
    return error.response.get("Error", {}).get("Code", "unknown")
