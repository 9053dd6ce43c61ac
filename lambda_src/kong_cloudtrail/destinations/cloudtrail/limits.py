"""The limits of a PutAuditEvents call, and the ones that this project sets for itself.

Sources: the service model of ``cloudtrail-data`` (API 2021-08-11), and the CloudTrail user guide, "CloudTrail Lake
integrations event schema" and "Quotas in CloudTrail". The guide does not say whether "kB" and "MB" are powers of 1000
or 1024, nor whether raw or serialised bytes count. The limits here are the smaller number, measured on the larger
(serialised) form, so that both readings are satisfied.
"""

MAX_BATCH_EVENTS = 100
MAX_BATCH_BYTES = 1_000_000
"""Size of the serialised request body."""

MAX_EVENT_BYTES = 256_000
MAX_REQUEST_PARAMETERS_BYTES = 100_000
MAX_ADDITIONAL_EVENT_DATA_BYTES = 28_000

MAX_TEXT_CHARACTERS = 1024
"""Length of ``eventName``, ``UID`` and ``userIdentity.principalId``."""

MAX_CODE_CHARACTERS = 256
"""Length of ``version``, ``errorCode`` and ``errorMessage``."""

MAX_USER_NAME_CHARACTERS = 1024
"""Length of ``userIdentity.details.userName``. The schema sets none; this one keeps the event below its own limit."""
