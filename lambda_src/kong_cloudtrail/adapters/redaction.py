"""Keeps known secrets out of everything that is written."""

from __future__ import annotations

import json
from urllib.parse import quote

MASK = "***"


class Redactor:
    r"""Replaces secrets in texts, however they are spelled there.

    Examples
    --------
    >>> redactor = Redactor()
    >>> redactor.conceal('s3cr"t')
    >>> redactor.clean('the token is s3cr"t, as JSON s3cr\\"t')
    'the token is ***, as JSON ***'
    """

    def __init__(self) -> None:
        self._spellings: list[str] = []

    def conceal(self, secret: str) -> None:
        """Remember a secret: as it is, as in JSON (once and twice), and as in a URL."""
        in_json = json.dumps(secret)[1:-1]
        spellings = {secret, in_json, json.dumps(in_json)[1:-1], quote(secret, safe=""), quote(secret)}
        # The longest first: a shorter one may be part of it.
        self._spellings = sorted({*self._spellings, *spellings} - {""}, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return the text without any of the secrets."""
        for spelling in self._spellings:
            text = text.replace(spelling, MASK)
        return text
