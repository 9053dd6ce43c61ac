"""Kong's signatures of audit entries, checked as documented. What they say is advice, and decides nothing.

Kong documents which form of an entry it signs: the values of the fields that are not null, without ``signature``,
``ttl`` and ``expire``, in the order of the fields' names, with ``|`` between them. It publishes no example, and its own
guide to checking them is not published because checking failed. So an entry whose signature fits has the values that
were signed, in their order. The names of the fields are not signed: a value may have moved into an empty field beside
its own, or, if it has a ``|`` in it, been cut in two. An entry whose signature does not fit may be altered, signed with
another key, or signed in another form.
"""

from __future__ import annotations

import base64
import binascii
from enum import Enum
from typing import Any

from .rsa import RsaPublicKey

SEPARATOR = "|"
LEFT_OUT = frozenset({"signature", "ttl", "expire"})
"""Fields that are not signed."""

CANONICAL_FORM = (
    "the values of the fields that are not null, without signature, ttl and expire, in the order of the fields' names, "
    "joined with |; signed with RSA, SHA-256 and the padding of PKCS#1 v1.5, in Base64"
)
"""What is checked, for people."""


class SignatureCheck(Enum):
    """What came of the check of one entry. The values are part of documents."""

    VERIFIED = "verified"
    UNSIGNED = "unsigned"
    DIFFERS = "signature_does_not_fit"
    NOT_BASE64 = "signature_is_not_base64"
    WRONG_LENGTH = "signature_has_another_length"
    NO_FORM = "no_documented_form"
    """The entry is no object, or has a value whose text the documentation does not define."""


def check_signature(entry: Any, key: RsaPublicKey) -> SignatureCheck:
    """Check the signature of an entry, as the source showed it."""
    if not isinstance(entry, dict):
        return SignatureCheck.NO_FORM
    signature = entry.get("signature")
    if signature is None or signature == "":
        return SignatureCheck.UNSIGNED
    try:
        signature_bytes = base64.b64decode(signature.encode("ascii"), validate=True)
    except (AttributeError, UnicodeEncodeError, binascii.Error):
        return SignatureCheck.NOT_BASE64
    if len(signature_bytes) != key.signature_bytes:
        return SignatureCheck.WRONG_LENGTH
    form = canonical_form(entry)
    if form is None:
        return SignatureCheck.NO_FORM
    return SignatureCheck.VERIFIED if key.has_signed(form, signature_bytes) else SignatureCheck.DIFFERS


def canonical_form(entry: dict[str, Any]) -> bytes | None:
    """Return what Kong signs of an entry; ``None`` if the documentation does not say.

    It says nothing of how truth values, fractions, lists and objects are written.
    """
    values = [entry[name] for name in sorted(entry) if name not in LEFT_OUT and entry[name] is not None]
    if not all(type(value) in (str, int) for value in values):
        return None
    try:
        # Bytes of a page that were no UTF-8 are lone surrogates here, and become the same bytes again.
        return SEPARATOR.join(map(str, values)).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
