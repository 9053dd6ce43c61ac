"""Kong's signatures: what is checked, with which key, and what is said of an entry that does not fit."""

from __future__ import annotations

import base64
import hashlib
import textwrap
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from kong_cloudtrail.domain.entry_signature import SignatureCheck, canonical_form, check_signature
from kong_cloudtrail.domain.rsa import RsaPublicKey

from tests.helpers import entry

PRIVATE = rsa.generate_private_key(65537, 2048)
PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
KEY = RsaPublicKey.from_pem(PEM)


def signed(private: rsa.RSAPrivateKey = PRIVATE, **fields: Any) -> dict[str, Any]:
    """Return an entry with a signature, as Kong documents it."""
    unsigned = entry(1, **fields)
    form = "|".join(
        str(unsigned[name])
        for name in sorted(unsigned)
        if name not in ("signature", "ttl") and unsigned[name] is not None
    )
    signature = private.sign(form.encode(), PKCS1v15(), SHA256())
    return unsigned | {"signature": base64.b64encode(signature).decode()}


class TestRsa:
    @pytest.mark.parametrize(("bits", "exponent"), [(1024, 65537), (2048, 3), (2048, 65537), (3072, 65537)])
    @pytest.mark.parametrize("form", [PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1])
    def test_takes_what_openssl_makes(self, bits: int, exponent: int, form: PublicFormat) -> None:
        private = rsa.generate_private_key(exponent, bits)
        key = RsaPublicKey.from_pem(private.public_key().public_bytes(Encoding.PEM, form).decode())

        for message in (b"", b"a", bytes(range(256)) * 100):
            signature = private.sign(message, PKCS1v15(), SHA256())
            assert key.has_signed(message, signature)
            assert not key.has_signed(message + b"x", signature)

    def test_refuses_every_changed_bit(self) -> None:
        signature = PRIVATE.sign(b"entry", PKCS1v15(), SHA256())

        for place in range(0, len(signature) * 8, 7):
            changed = bytearray(signature)
            changed[place // 8] ^= 1 << place % 8
            assert not KEY.has_signed(b"entry", bytes(changed))

    def test_refuses_what_only_looks_right(self) -> None:
        signature = PRIVATE.sign(b"entry", PKCS1v15(), SHA256())
        other = rsa.generate_private_key(65537, 2048).sign(b"entry", PKCS1v15(), SHA256())
        more = (int.from_bytes(signature, "big") + KEY.modulus).to_bytes(len(signature) + 1, "big")

        for wrong in (b"", signature[1:], b"\0" + signature, more, other, b"\0" * 256, b"\xff" * 256):
            assert not KEY.has_signed(b"entry", wrong)
        assert not KEY.has_signed(b"entry", PRIVATE.sign(b"entry", PKCS1v15(), SHA1()))  # noqa: S303

    def test_refuses_a_forgery_with_a_small_exponent(self) -> None:
        # Bleichenbacher, 2006: a cube root whose cube begins as it should, and has anything behind the hash.
        private = rsa.generate_private_key(3, 3072)
        key = RsaPublicKey.from_pem(
            private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        )
        begin = b"\0\1\xff\0" + bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(b"m").digest()
        target = int.from_bytes(begin + b"\xff" * (384 - len(begin)), "big")
        low, high = 0, 1 << 1024
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**3 <= target else (low, middle - 1)
        forged = low.to_bytes(384, "big")

        assert pow(low, 3, key.modulus).to_bytes(384, "big").startswith(begin)
        assert not key.has_signed(b"m", forged)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "-----BEGIN PUBLIC KEY-----"),
            ("hello", "-----BEGIN PUBLIC KEY-----"),
            (
                PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
                "openssl pkey -in private.pem -pubout",
            ),
            (
                ec.generate_private_key(ec.SECP256R1())
                .public_key()
                .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
                .decode(),
                "not the public key of an RSA key",
            ),
            (PEM.replace("CERT", "").replace("PUBLIC KEY", "CERTIFICATE"), "is a certificate"),
            (PEM[:100] + "\n-----END PUBLIC KEY-----\n", "damaged"),
            (PEM.replace("A", "?", 1), "damaged"),
        ],
    )
    def test_says_what_is_wrong_with_a_key(self, text: str, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            RsaPublicKey.from_pem(text)

    def test_refuses_keys_that_no_one_has(self) -> None:
        def pem(*numbers: int) -> str:
            def tagged(tag: int, body: bytes) -> bytes:
                size = len(body).to_bytes(3, "big")
                return bytes([tag, 0x83]) + size + body

            integers = b"".join(tagged(2, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in numbers)
            body = base64.b64encode(tagged(0x30, integers)).decode()
            return f"-----BEGIN RSA PUBLIC KEY-----\n{textwrap.fill(body, 64)}\n-----END RSA PUBLIC KEY-----\n"

        assert RsaPublicKey.from_pem(pem(KEY.modulus, KEY.exponent)) == KEY
        for modulus, exponent in (
            (15, 3),
            (1 << 20_000, 3),
            (KEY.modulus, 1),
            (KEY.modulus, 4),
            (KEY.modulus, 1 << 70),
        ):
            with pytest.raises(ValueError, match="key"):
                RsaPublicKey.from_pem(pem(modulus, exponent))


class TestCanonicalForm:
    def test_is_the_documented_one(self) -> None:
        value = {
            "status": 200, "path": "/a|b", "method": "GET", "payload": None, "request_timestamp": 1717243200,
            "signature": "x", "ttl": 5, "expire": 7, "client_ip": "192.0.2.10",
        }  # fmt: skip

        assert canonical_form(value) == b"192.0.2.10|GET|/a|b|1717243200|200"

    def test_has_no_names_so_a_value_that_moves_into_an_empty_field_beside_it_is_not_noticed(self) -> None:
        # As documented: this is why a signature that fits does not prove under which name a value stood.
        whole = signed(rbac_user_id="9b2f", rbac_user_name=None)
        moved = whole | {"rbac_user_id": None, "rbac_user_name": "9b2f"}

        assert check_signature(moved, KEY) is check_signature(whole, KEY) is SignatureCheck.VERIFIED

    def test_keeps_bytes_that_are_no_text(self) -> None:
        assert canonical_form({"path": "/\udcff\u00e9"}) == b"/\xff\xc3\xa9"

    @pytest.mark.parametrize("value", [1.5, True, [1], {"a": 1}, "\ud800"])
    def test_is_unknown_for_values_that_the_documentation_leaves_out(self, value: object) -> None:
        assert canonical_form({"method": "GET", "field": value}) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (signed(), SignatureCheck.VERIFIED),
        (signed(ttl=1), SignatureCheck.VERIFIED),
        (signed(payload='{"näme":"x|y"}', rbac_user_name=None), SignatureCheck.VERIFIED),
        (signed() | {"ttl": 99, "expire": 3}, SignatureCheck.VERIFIED),
        (signed() | {"path": "/other"}, SignatureCheck.DIFFERS),
        (signed(rsa.generate_private_key(65537, 2048)), SignatureCheck.DIFFERS),
        (signed(rsa.generate_private_key(65537, 3072)), SignatureCheck.WRONG_LENGTH),
        (signed() | {"extra": 1.5}, SignatureCheck.NO_FORM),
        (entry(1, signature="not base64!"), SignatureCheck.NOT_BASE64),
        (entry(1, signature="é"), SignatureCheck.NOT_BASE64),
        (entry(1, signature=7), SignatureCheck.NOT_BASE64),
        (entry(1), SignatureCheck.UNSIGNED),
        (entry(1, signature=""), SignatureCheck.UNSIGNED),
        ("text", SignatureCheck.NO_FORM),
    ],
)
def test_each_entry_has_one_result(value: Any, expected: SignatureCheck) -> None:
    assert check_signature(value, KEY) is expected
