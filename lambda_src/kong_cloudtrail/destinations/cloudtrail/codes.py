"""Error codes of CloudTrail, for single entries and for whole calls, and their meanings.

Sources: the service model of ``cloudtrail-data`` (API 2021-08-11), and the API reference of PutAuditEvents.
"""

from __future__ import annotations

from ...domain.aws_codes import Codes, Meaning

_NOT_ALLOWED = "the role may not call cloudtrail-data:PutAuditEvents on the channel: allow it"

_CODES = Codes(
    {
        # For single entries, but true for every entry
        "invalidrecipient": (
            "the account in CHANNEL_ARN is not the one that owns the channel: write the ARN as CloudTrail shows it"
        ),
        "invalideventsource": (
            "the channel's source does not accept the event source kong-gateway: use a channel whose source is Kong "
            "Gateway (KongGatewayEnterprise) or Custom"
        ),
        "accountnotsubscribed": (
            "the account has no CloudTrail Lake, which has been closed to new customers since 2026-05-31: use a "
            "channel of an account that has it"
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
        "accessdenied": _NOT_ALLOWED,
        "notauthorized": _NOT_ALLOWED,
    },
    {
        Meaning.BAD_RECORD: {"fieldtoolong", "fieldnotfound", "invaliddata"},
        Meaning.DAMAGED: {"invalidchecksum"},
        Meaning.BAD_CALL: {"duplicatedauditeventid"},
    },
)

meaning_of = _CODES.meaning_of
advice_on = _CODES.advice_on
