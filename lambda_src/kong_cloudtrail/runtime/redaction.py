"""Masks known secrets in everything that is written."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, quote_plus

MASK = "***"
_percent = re.compile("%[0-9A-F]{2}")


class Redactor:
    r"""Masks secrets in texts, also in escaped forms.

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
        """Add a secret, as it is and as escaped in JSON (once and twice, in ASCII or not), Python and URLs."""
        spellings = {secret, repr(secret)[1:-1]}
        for ascii_only in (True, False):
            in_json = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
            spellings |= {in_json, json.dumps(in_json, ensure_ascii=ascii_only)[1:-1]}
        for in_url in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
            spellings |= {in_url, _percent.sub(lambda match: match[0].lower(), in_url)}
        # The longest first: a shorter one may be part of it.
        self._spellings = sorted({*self._spellings, *spellings} - {""}, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return the text without any of the secrets."""
        for spelling in self._spellings:
            text = text.replace(spelling, MASK)
        return text
