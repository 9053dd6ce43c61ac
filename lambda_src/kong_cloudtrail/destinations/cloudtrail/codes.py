"""Error codes of CloudTrail and of AWS in general, for single entries and for whole calls, and their meanings.

Sources: the service model of ``cloudtrail-data`` (API 2021-08-11), the API reference of PutAuditEvents, and the common
error codes that the AWS SDKs document and retry. Services write one code in several ways (``ServiceUnavailable``,
``ServiceUnavailableException``), so codes are compared without such an ending and without regard to case.
"""

from __future__ import annotations

import re
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
    """CloudTrail asks to be called less often."""
    OUTAGE = auto()
    """CloudTrail has a temporary problem of its own."""
    MISCONFIGURATION = auto()
    """Channel, account, permission, credentials or clock are wrong: nothing is accepted until this is changed."""
    UNKNOWN = auto()
    """Not documented."""


_CREDENTIALS_ADVICE = "the AWS credentials are not valid: check the role, or AWS_PROFILE and the keys"
_EXPIRED_ADVICE = "the AWS credentials have expired: renew them"
_SIGNATURE_ADVICE = "the AWS credentials are not valid, or the clock is wrong: check the keys, and set the clock by NTP"
_CLOCK_ADVICE = "the clock of this machine is wrong: set it by NTP"
_ADVICE = {
    # For single entries, but true for every entry
    "invalidrecipient": (
        "the account in CHANNEL_ARN is not the one that owns the channel: write the ARN as CloudTrail shows it"
    ),
    "invalideventsource": (
        "the channel's source does not accept the event source kong-gateway: use a channel whose source is Kong "
        "Gateway (KongGatewayEnterprise) or Custom"
    ),
    "accountnotsubscribed": (
        "the account has no CloudTrail Lake, which has been closed to new customers since 2026-05-31: use a channel of "
        "an account that has it"
    ),
    # For whole calls
    "channelnotfound": "there is no such channel in this region: correct CHANNEL_ARN, or create the channel",
    "invalidchannelarn": "CHANNEL_ARN is not the ARN of a channel: write it as CloudTrail shows it",
    "channelinsufficientpermission": (
        "the channel does not allow this account or role: check its resource policy, and EXTERNAL_ID if the policy "
        "asks for one"
    ),
    "channelunsupportedschema": (
        "the channel does not accept events of this kind: use a channel for activity audit logs"
    ),
    "unsupportedoperation": "this region or account has no CloudTrail Lake channels",
    "accessdenied": "the role may not call cloudtrail-data:PutAuditEvents on the channel: allow it",
    "notauthorized": "the role may not call cloudtrail-data:PutAuditEvents on the channel: allow it",
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
    Meaning.BAD_RECORD: {"fieldtoolong", "fieldnotfound", "invaliddata"},
    Meaning.DAMAGED: {"invalidchecksum"},
    Meaning.BAD_CALL: {
        "413",
        "duplicatedauditeventid",
        "invalidparameter",
        "requestentitytoolarge",
        "serialization",
        "validation",
    },
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
    Meaning.MISCONFIGURATION: set(_ADVICE),
}
_BY_CODE = {code: meaning for meaning, codes in _MEANINGS.items() for code in codes}
_ENDING = re.compile(r"(exception|error|fault)$")


def meaning_of(code: str) -> Meaning:
    """Return what an error code means, however it is written.

    Examples
    --------
    >>> meaning_of("ServiceUnavailableException") is meaning_of("ServiceUnavailable") is Meaning.OUTAGE
    True
    >>> meaning_of("SomethingNew")
    <Meaning.UNKNOWN: 7>
    """
    return _BY_CODE.get(_normalised(code), Meaning.UNKNOWN)


def advice_on(code: str) -> str:
    """Return what to change for a code that means `Meaning.MISCONFIGURATION`."""
    return _ADVICE[_normalised(code)]


def _normalised(code: str) -> str:
    # "namespace#Code:https://..." is how some protocols write it.
    name = code.rpartition("#")[2].partition(":")[0].strip().lower()
    return _ENDING.sub("", name) or name
