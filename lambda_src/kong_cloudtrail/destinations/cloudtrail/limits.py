"""What one PutAuditEvents call takes, and how much of it this project uses.

Sources: the service model of ``cloudtrail-data`` (API 2021-08-11), and the CloudTrail user guide, "CloudTrail Lake
integrations event schema" and "Quotas in CloudTrail". Where the guide says "kB" or "MB" without saying whether a
thousand or 1024 is meant, or whether raw or serialised bytes count, the smaller reading is kept here, measured on the
larger form (the serialised one), so that either meaning is satisfied.
"""

MAX_BATCH_EVENTS = 100
MAX_BATCH_BYTES = 1_000_000
"""Of the serialised request body."""

MAX_EVENT_BYTES = 256_000
MAX_REQUEST_PARAMETERS_BYTES = 100_000
MAX_ADDITIONAL_EVENT_DATA_BYTES = 28_000

MAX_TEXT_CHARACTERS = 1024
"""Of ``eventName``, ``UID`` and ``userIdentity.principalId``."""

MAX_CODE_CHARACTERS = 256
"""Of ``version``, ``errorCode`` and ``errorMessage``."""

MAX_USER_NAME_CHARACTERS = 1024
"""Of ``userIdentity.details.userName``: the schema sets no limit, so we set one to keep the event below its own."""
