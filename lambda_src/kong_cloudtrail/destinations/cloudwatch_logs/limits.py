"""The limits of a PutLogEvents call, and the ones that this project sets for itself.

Sources: the API reference of PutLogEvents, the service model of ``logs`` (2014-03-28), and the quotas of CloudWatch
Logs.
"""

MAX_CALL_BYTES = 1_048_576
"""Size of the messages of a call in UTF-8, with `EVENT_OVERHEAD_BYTES` for each."""

EVENT_OVERHEAD_BYTES = 26

MAX_MESSAGE_BYTES = MAX_CALL_BYTES - EVENT_OVERHEAD_BYTES
"""Size of the largest message that fits into a call."""

MAX_CALL_EVENTS = 10_000

MAX_BATCH_EVENTS = 250
"""Events of a batch. Calls cost nothing, and a batch whose answer got lost is sent again one by one, so more would gain
nothing."""

MAX_BATCH_ORIGINAL_BYTES = 8 * 2**20
"""Size of the whole entries behind a batch's shortened events, which wait in memory with it. A single larger one is
allowed."""

DAY_SECONDS = 86_400

MAX_SPAN_SECONDS = DAY_SECONDS
"""Between the oldest and the newest event of a call."""

MAX_AGE_SECONDS = 14 * DAY_SECONDS
"""Older events are refused, as are those that are older than the group's retention."""

MAX_AHEAD_SECONDS = 2 * 3600
"""Events that are further ahead are refused."""

MARGIN_SECONDS = 300
"""How much earlier an event counts as too old or too far ahead: clocks may differ by so much before AWS refuses every
call, and calls take time."""

PACKING_MARGIN_SECONDS = 1800
"""The same for a batch that is packed, which may have to wait."""
