"""Error codes are put in their class by name, in every way in which AWS services write them."""

from __future__ import annotations

import pytest
from kong_cloudtrail.destinations.cloudtrail.codes import advice_on, meaning_of
from kong_cloudtrail.domain.aws_codes import Meaning

CODES = {
    Meaning.BAD_RECORD: ["FieldTooLong", "FieldNotFound", "InvalidData"],
    Meaning.DAMAGED: ["InvalidChecksum"],
    Meaning.BAD_CALL: [
        "DuplicatedAuditEventId",
        "InvalidParameterException",
        "RequestEntityTooLarge",
        "SerializationException",
        "ValidationException",
        "ValidationError",
        "413",
    ],
    Meaning.THROTTLING: [
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "LimitExceededException",
        "SlowDown",
        "429",
    ],
    Meaning.OUTAGE: [
        "InternalFailure",
        "InternalError",
        "InternalServerError",
        "InternalServerException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "ServiceException",
        "RequestTimeout",
        "RequestTimeoutException",
        "serviceunavailable",
    ],
    Meaning.MISCONFIGURATION: [
        "InvalidRecipient",
        "InvalidEventSource",
        "AccountNotSubscribed",
        "ChannelNotFound",
        "ChannelNotFoundException",
        "InvalidChannelARN",
        "AccessDenied",
        "AccessDeniedException",
        "UnsupportedOperationException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "ExpiredToken",
        "ExpiredTokenException",
        "com.amazonaws.cloudtraildata#ExpiredTokenException:http://internal.amazon.com/coral/",
    ],
    Meaning.UNKNOWN: ["SomethingNew", "", "Exception", "500", "unknown", "\u0130nternalFailure#"],
}


@pytest.mark.parametrize(("meaning", "code"), [(meaning, code) for meaning, codes in CODES.items() for code in codes])
def test_meaning_does_not_depend_on_how_a_code_is_written(meaning: Meaning, code: str) -> None:
    assert meaning_of(code) is meaning


@pytest.mark.parametrize("code", CODES[Meaning.MISCONFIGURATION])
def test_what_has_to_be_changed_is_said(code: str) -> None:
    assert len(advice_on(code)) > 20
