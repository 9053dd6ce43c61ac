"""Error codes of AWS services, and what each means for another attempt.

Sources: the common error codes that the AWS SDKs document and retry. Services write one code in several ways
(``ServiceUnavailable``, ``ServiceUnavailableException``), so codes are compared without such an ending and without
regard to case.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from enum import Enum, auto


class Meaning(Enum):
    """What an error code means for another attempt."""

    BAD_RECORD = auto()
    """The entry breaks a documented rule: it will never be accepted as it is."""
    DAMAGED = auto()
    """The entry was damaged in transit. If that happens twice, it counts as a bad record."""
    BAD_CALL = auto()
    """The call was refused for its content."""
    THROTTLING = auto()
    """The service asks to be called less often."""
    OUTAGE = auto()
    """The service has a temporary problem of its own."""
    MISCONFIGURATION = auto()
    """Names, permissions, credentials or the clock are wrong: nothing is accepted until this is changed."""
    UNKNOWN = auto()
    """Not documented."""


def is_denied(code: str) -> bool:
    """Return whether a code says that the caller lacks a permission."""
    return _normalised(code) in _DENIED


_DENIED = frozenset({"accessdenied", "notauthorized", "unauthorizedoperation"})
_CREDENTIALS_ADVICE = "the AWS credentials are not valid: check the role, or AWS_PROFILE and the keys"
_EXPIRED_ADVICE = "the AWS credentials have expired: renew them"
_SIGNATURE_ADVICE = "the AWS credentials are not valid, or the clock is wrong: check the keys, and set the clock by NTP"
_CLOCK_ADVICE = "the clock of this machine is wrong: set it by NTP"
_ADVICE = {
    "optinrequired": "the account has to subscribe to the service or to opt in to the region",
    "unrecognizedclient": _CREDENTIALS_ADVICE,
    "invalidclienttokenid": _CREDENTIALS_ADVICE,
    "invalidaccesskeyid": _CREDENTIALS_ADVICE,
    "incompletesignature": _CREDENTIALS_ADVICE,
    "missingauthenticationtoken": _CREDENTIALS_ADVICE,
    "authfailure": _CREDENTIALS_ADVICE,
    "expiredtoken": _EXPIRED_ADVICE,
    "invalidsignature": _SIGNATURE_ADVICE,
    "signaturedoesnotmatch": _SIGNATURE_ADVICE,
    "requestexpired": _CLOCK_ADVICE,
    "requesttimetooskewed": _CLOCK_ADVICE,
    "requestinthefuture": _CLOCK_ADVICE,
}

_MEANINGS = {
    Meaning.BAD_CALL: {"413", "invalidparameter", "requestentitytoolarge", "serialization", "validation"},
    Meaning.THROTTLING: {
        "429",
        "bandwidthlimitexceeded",
        "ec2throttled",
        "limitexceeded",
        "priorrequestnotcomplete",
        "provisionedthroughputexceeded",
        "requestlimitexceeded",
        "requestthrottled",
        "slowdown",
        "throttled",
        "throttling",
        "toomanyrequests",
        "transactioninprogress",
    },
    Meaning.OUTAGE: {
        "badgateway",
        "gatewaytimeout",
        "internal",
        "internalfailure",
        "internalserver",
        "internalservice",
        "requesttimeout",
        "serverbusy",
        "serverunavailable",
        "service",
        "servicefailure",
        "serviceinternal",
        "serviceunavailable",
        "timeout",
        "unavailable",
    },
}
_ENDING = re.compile(r"(exception|error|fault)$")


class Codes:
    """The error codes of one service.

    Parameters
    ----------
    advice
        What to change for each code that means `Meaning.MISCONFIGURATION` to this service, in lower case and without
        its ending.
    meanings
        Other codes of its own, written in the same way.
    """

    def __init__(self, advice: Mapping[str, str], meanings: Mapping[Meaning, Collection[str]]) -> None:
        self._advice = {**_ADVICE, **advice}
        self._by_code = {
            code: meaning for known in (_MEANINGS, meanings) for meaning, codes in known.items() for code in codes
        } | dict.fromkeys(self._advice, Meaning.MISCONFIGURATION)

    def meaning_of(self, code: str) -> Meaning:
        """Return what an error code means, however it is written."""
        return self._by_code.get(_normalised(code), Meaning.UNKNOWN)

    def advice_on(self, code: str) -> str:
        """Return what to change for a code that means `Meaning.MISCONFIGURATION`."""
        return self._advice[_normalised(code)]


def _normalised(code: str) -> str:
    # "namespace#Code:https://..." is how some protocols write it.
    name = code.rpartition("#")[2].partition(":")[0].strip().lower()
    return _ENDING.sub("", name) or name
