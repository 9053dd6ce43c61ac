"""RSA signatures, as far as it takes to check them: SHA-256 with the padding of PKCS#1 v1.5 (RFC 8017, section 8.2).

Checking uses nothing secret, and it is a power, a hash and a comparison of bytes. So it is here, and whoever checks
needs no library for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

_SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""What stands before a SHA-256 in a signature: RFC 8017, section 9.2, note 1."""

_RSA = bytes.fromhex("300d06092a864886f70d0101010500")
"""The algorithm of an RSA key in its SubjectPublicKeyInfo: RFC 8017, appendix A.1."""

_MODULUS_BITS = (1024, 16_384)
_MAX_EXPONENT_BITS = 64
_INTEGER, _BIT_STRING, _SEQUENCE = 0x02, 0x03, 0x30

_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----\s(.*?)-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RsaPublicKey:
    """The public key of an RSA key pair."""

    modulus: int
    exponent: int

    @classmethod
    def from_pem(cls, text: str) -> RsaPublicKey:
        """Return the key in a PEM text.

        Raises
        ------
        ValueError
            If it holds none. The message says what to give instead.
        """
        found = _PEM.search(text)
        if found is None:
            raise ValueError("is not a public key in PEM form, which begins with -----BEGIN PUBLIC KEY-----")
        label, body = found.groups()
        if label not in ("PUBLIC KEY", "RSA PUBLIC KEY"):
            advice = "is a private key; `openssl pkey -in private.pem -pubout` writes its public key"
            raise ValueError(advice if "PRIVATE" in label else f"is a {label.lower()}, not a public key")
        try:
            der = base64.b64decode("".join(body.split()), validate=True)
            key = cls(*_numbers(der if label == "RSA PUBLIC KEY" else _bits_of_rsa_key(der)))
        except (binascii.Error, ValueError):
            raise ValueError("is not the public key of an RSA key, or is damaged") from None
        least, most = _MODULUS_BITS
        if not least <= key.modulus.bit_length() <= most:
            raise ValueError(f"is an RSA key of {key.modulus.bit_length()} bits; {least} to {most} are supported")
        if key.exponent < 3 or key.exponent % 2 == 0 or key.exponent.bit_length() > _MAX_EXPONENT_BITS:
            raise ValueError("is an RSA key with an exponent that no usual key has")
        return key

    @property
    def signature_bytes(self) -> int:
        """The length of its signatures."""
        return (self.modulus.bit_length() + 7) // 8

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Return whether a signature is the one of this key for a message."""
        number = int.from_bytes(signature, "big")
        if len(signature) != self.signature_bytes or number >= self.modulus:
            return False
        # The whole block is compared with the only right one. To take a signature apart is where checks go wrong.
        end = b"\0" + _SHA256_INFO + hashlib.sha256(message).digest()
        right = b"\0\1" + b"\xff" * (self.signature_bytes - 2 - len(end)) + end
        return pow(number, self.exponent, self.modulus).to_bytes(self.signature_bytes, "big") == right


def _bits_of_rsa_key(der: bytes) -> bytes:
    """Return the key within a SubjectPublicKeyInfo."""
    info = _whole(der, _SEQUENCE)
    bits = _whole(info.removeprefix(_RSA), _BIT_STRING)
    if not info.startswith(_RSA) or bits[:1] != b"\0":
        raise ValueError
    return bits[1:]


def _numbers(der: bytes) -> tuple[int, int]:
    modulus, rest = _value(_whole(der, _SEQUENCE), _INTEGER)
    return int.from_bytes(modulus, "big", signed=True), int.from_bytes(_whole(rest, _INTEGER), "big", signed=True)


def _whole(der: bytes, tag: int) -> bytes:
    value, rest = _value(der, tag)
    if rest:
        raise ValueError
    return value


def _value(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return a value with a tag, and what follows it."""
    if len(der) < 2 or der[0] != tag:
        raise ValueError
    length, begin = der[1], 2
    if length >= 0x80:
        begin += length - 0x80
        length = int.from_bytes(der[2:begin], "big")
    if not length or len(der) < begin + length:
        raise ValueError
    return der[begin : begin + length], der[begin + length :]
