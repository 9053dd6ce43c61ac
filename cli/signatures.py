"""Checks of the signatures of run reports."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from kong_cloudtrail.domain.report_chain import IsSignedBy
from kong_cloudtrail.errors import SettingsError

from .files import read_text


def check_with_file(path: Path) -> IsSignedBy:
    """Return the check with a public key in a PEM file.

    Raises
    ------
    SettingsError
        If the file holds no key that reports can be signed with.
    """
    try:
        return _check_with(load_pem_public_key(read_text(path).encode()), str(path))
    except (ValueError, UnsupportedAlgorithm):
        problem = f"{path}: is not a public key in PEM form; `aws kms get-public-key` returns the key in DER form"
        raise SettingsError([problem]) from None


def check_with_kms(key_arn: str) -> IsSignedBy:
    """Return the check with the public key of a KMS key, which is fetched once.

    Raises
    ------
    LedgerError
        If KMS does not return it.
    """
    from kong_cloudtrail.runtime.signing import KmsSigner

    return _check_with(load_der_public_key(KmsSigner(key_arn).public_key()), key_arn)


def _check_with(key: object, name: str) -> IsSignedBy:
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey):
        raise SettingsError([f"{name}: is no key that signs run reports; they are signed with RSA or ECDSA"])

    def is_signed(body: bytes, signature: bytes) -> bool:
        try:
            if isinstance(key, RSAPublicKey):
                key.verify(signature, body, PKCS1v15(), SHA256())
            else:
                key.verify(signature, body, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    return is_signed
