"""Signatures of run reports, by a key of AWS KMS that never leaves it."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ..errors import LedgerError

if TYPE_CHECKING:
    from mypy_boto3_kms.client import KMSClient
    from mypy_boto3_kms.literals import SigningAlgorithmSpecType

_ALGORITHMS: tuple[SigningAlgorithmSpecType, ...] = ("ECDSA_SHA_256", "RSASSA_PKCS1_V1_5_SHA_256")
"""Algorithms that ``openssl dgst -sha256 -verify`` checks without further options."""


class KmsSigner:
    """Signs with an asymmetric KMS key.

    Parameters
    ----------
    key_arn
        ARN of the key. Its usage is ``SIGN_VERIFY``.
    connect_seconds, answer_seconds
        How long to wait for a connection, and for each part of an answer, in each of three attempts.
    """

    def __init__(self, key_arn: str, *, connect_seconds: float = 5.0, answer_seconds: float = 10.0) -> None:
        self._key_arn = key_arn
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 3},
            connect_timeout=connect_seconds,
            read_timeout=answer_seconds,
        )
        self._client: KMSClient = boto3.client("kms", region_name=key_arn.split(":")[3], config=config)

    def sign(self, body: bytes) -> bytes:
        """Return the signature of a report: SHA-256 with ECDSA (DER) or RSA (PKCS #1 v1.5).

        Raises
        ------
        LedgerError
            If the key cannot be used. The report is signed by the next run.
        """
        try:
            return self._client.sign(
                KeyId=self._key_arn,
                Message=hashlib.sha256(body).digest(),
                MessageType="DIGEST",
                SigningAlgorithm=self._algorithm,
            )["Signature"]
        except (ClientError, BotoCoreError) as error:
            raise self._failed(error) from error

    def public_key(self) -> bytes:
        """Return the public key in DER form (SubjectPublicKeyInfo). Raises `LedgerError`."""
        try:
            return self._client.get_public_key(KeyId=self._key_arn)["PublicKey"]
        except (ClientError, BotoCoreError) as error:
            raise LedgerError(
                f"The public key of {self._key_arn} could not be fetched ({_code(error)}). Check ARCHIVE_SIGNING_KEY, "
                "the permission kms:GetPublicKey on it, and the path to KMS; or give the public key as a file: "
                "--public-key."
            ) from error

    @cached_property
    def _algorithm(self) -> SigningAlgorithmSpecType:
        offered = self._client.get_public_key(KeyId=self._key_arn).get("SigningAlgorithms", [])
        for algorithm in _ALGORITHMS:
            if algorithm in offered:
                return algorithm
        raise LedgerError(
            f"The key {self._key_arn} cannot sign run reports: it offers none of {', '.join(_ALGORITHMS)}. Set "
            "ARCHIVE_SIGNING_KEY to a key for SIGN_VERIFY, such as one of ECC_NIST_P256."
        )

    def _failed(self, error: ClientError | BotoCoreError) -> LedgerError:
        return LedgerError(
            f"The key {self._key_arn} could not be used to sign a run report ({_code(error)}). Check "
            "ARCHIVE_SIGNING_KEY, that the key is enabled, the permissions kms:Sign and kms:GetPublicKey on it, and "
            "the path to KMS (NAT or an interface endpoint). Nothing is lost; the next run signs the report."
        )


def _code(error: ClientError | BotoCoreError) -> str:
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code", "unknown")
    return type(error).__name__
