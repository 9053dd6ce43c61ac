"""Error codes of CloudWatch Logs and their meanings.

Sources: the service model of ``logs`` (2014-03-28), and the API reference of PutLogEvents.
"""

from __future__ import annotations

from ...domain.aws_codes import Codes, Meaning

_NOT_ALLOWED = (
    "the role may not call logs:PutLogEvents and logs:CreateLogStream on the log group: allow both, in the policy of "
    "the VPC endpoint too if there is one. If the group has a KMS key, let CloudWatch Logs use it, in the key's policy"
)

_CODES = Codes(
    {
        "resourcenotfound": (
            "there is no such log group in this region and account: correct LOG_GROUP, or create the log group"
        ),
        "accessdenied": _NOT_ALLOWED,
        "notauthorized": _NOT_ALLOWED,
        "invalidoperation": (
            "the log group takes no events: use one of class STANDARD or INFREQUENT_ACCESS that no AWS service owns"
        ),
    },
    {
        Meaning.OUTAGE: {"operationaborted"},
    },
)

meaning_of = _CODES.meaning_of
advice_on = _CODES.advice_on
