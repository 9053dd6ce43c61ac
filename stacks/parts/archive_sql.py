"""The named queries over an archive, for both forms of its lines.

The statements keep to what both Athena (Trino) and DuckDB understand, so that the same text answers in an account and
on a laptop. Hence ``TRY_CAST(json_extract(…) AS varchar)`` and not Trino's ``json_extract_scalar``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

TABLE = "events"


@dataclass(frozen=True, kw_only=True)
class NamedQuery:
    """A question with its answer in SQL.

    Attributes
    ----------
    name : str
        Its name, by which people ask for it. It does not change.
    description : str
        What it answers.
    template : str
        The statement, with names of `_SHARED` and `_EXPRESSIONS` in braces.
    """

    name: str
    description: str
    template: str


def statement(query: NamedQuery, line_format: str) -> str:
    """Return a query's statement for lines of a form."""
    return query.template.format(table=TABLE, **_SHARED, **_EXPRESSIONS[line_format])


def _text(column: str, path: str) -> str:
    return f"TRY_CAST(json_extract({column}, '{path}') AS varchar)"


def _any_of(column: str, path: str, *texts: str) -> str:
    return "(" + " OR ".join(f"json_extract({column}, '{path}') = JSON '\"{text}\"'" for text in texts) + ")"


_EXPRESSIONS: Mapping[str, Mapping[str, str]] = {
    "json": {
        "at": "eventtime",
        "hour": "substr(CAST(eventtime AS varchar), 1, 13)",
        "principal": _text("useridentity", "$.principalId"),
        "user_name": _text("useridentity", "$.details.userName"),
        "address": "sourceipaddress",
        "call": "eventname",
        "method": "split_part(eventname, '/', 1)",
        "status": "TRY_CAST(json_extract(entry, '$.status') AS integer)",
        "workspace": _text("entry", "$.workspace"),
        "request_id": _text("entry", "$.request_id"),
        "operation": _text("entry", "$.operation"),
        "dao_name": _text("entry", "$.dao_name"),
        "entity_key": _text("entry", "$.entity_key"),
        "entity": _text("entry", "$.entity"),
        "key": "key",
        "parameters": "requestparameters",
        "entry": "entry",
        "is_change": "split_part(eventname, '/', 1) IN ('POST', 'PUT', 'PATCH', 'DELETE')",
        "is_login": "eventname IN ('GET/auth', 'POST/auth', 'DELETE/auth')",
    },
    "ocsf": {
        "at": "TIMESTAMP '1970-01-01 00:00:00' + CAST(floor(\"time\" / 1000) AS bigint) * INTERVAL '1' SECOND",
        "hour": (
            "date_trunc('hour', "
            "TIMESTAMP '1970-01-01 00:00:00' + CAST(floor(\"time\" / 1000) AS bigint) * INTERVAL '1' SECOND)"
        ),
        "principal": _text("actor", "$.user.uid"),
        "user_name": _text("actor", "$.user.name"),
        "address": _text("src_endpoint", "$.ip"),
        "call": _text("api", "$.operation"),
        "method": "activity_name",
        "status": "TRY_CAST(status_code AS integer)",
        "workspace": _text("unmapped", "$.entry.workspace"),
        "request_id": _text("unmapped", "$.entry.request_id"),
        "operation": _text("unmapped", "$.entry.operation"),
        "dao_name": _text("unmapped", "$.entry.dao_name"),
        "entity_key": _text("unmapped", "$.entry.entity_key"),
        "entity": _text("unmapped", "$.entry.entity"),
        "key": _text("metadata", "$.uid"),
        "parameters": "http_request",
        "entry": "unmapped",
        "is_change": "activity_id IN (1, 3, 4)",
        "is_login": _any_of("api", "$.operation", "GET/auth", "POST/auth", "DELETE/auth"),
    },
}
"""What the queries need of a line, in each of its forms."""

_LAST_30_DAYS = "day >= CAST(CAST(current_date - INTERVAL '30' DAY AS date) AS varchar)"
_UNDATED = "day = '2015-01-01'"
"""The day of entries without a time of their own, as all changes of objects on older gateways are."""

_SHARED: Mapping[str, str] = {
    "last_30_days_or_undated": f"({_LAST_30_DAYS} OR {_UNDATED})",
    "requests": f"stream = 'requests' AND {_LAST_30_DAYS}",
}

_CALLS = """\
SELECT {at} AS at,
  {principal} AS principal,
  {user_name} AS user_name,
  {address} AS address,
  {call} AS call,
  {status} AS status
FROM {table}
WHERE {requests}"""

NAMED_QUERIES = (
    NamedQuery(
        name="who-did-what",
        description="Who called what, newest first: the last 30 days, at most 200 calls",
        template=_CALLS
        + """
ORDER BY 1 DESC
LIMIT 200""",
    ),
    NamedQuery(
        name="refused-calls",
        description="Calls refused for want of a token or a permission (401, 403), newest first: the last 30 days",
        template=_CALLS
        + """
  AND {status} IN (401, 403)
ORDER BY 1 DESC
LIMIT 200""",
    ),
    NamedQuery(
        name="what-changed",
        description="What was created, changed or deleted, newest first: the last 30 days, at most 200 changes",
        template="""\
SELECT {at} AS at,
  {principal} AS principal,
  {user_name} AS user_name,
  {address} AS address,
  {operation} AS operation,
  {dao_name} AS dao_name,
  {entity_key} AS entity_key,
  {entity} AS entity,
  {request_id} AS request_id
FROM {table}
WHERE stream = 'objects'
  AND {last_30_days_or_undated}
ORDER BY 1 DESC
LIMIT 200""",
    ),
    NamedQuery(
        name="changes-by-workspace",
        description="How many changes succeeded in each workspace: the last 30 days",
        template="""\
SELECT {workspace} AS workspace,
  {method} AS method,
  count(*) AS changes
FROM {table}
WHERE {requests}
  AND {is_change}
  AND {status} < 400
GROUP BY 1, 2
ORDER BY 3 DESC""",
    ),
    NamedQuery(
        name="logins",
        description="Logins to Kong Manager, and logouts, newest first: the last 30 days",
        template=_CALLS
        + """
  AND {is_login}
ORDER BY 1 DESC
LIMIT 200""",
    ),
    NamedQuery(
        name="request-story",
        description="All that is known of one request, with the objects that it changed where those are archived too",
        template="""\
WITH chosen AS (
  -- the newest change; for another request: SELECT 'its UID' AS chosen_uid
  SELECT max_by({request_id}, {at}) AS chosen_uid
  FROM {table}
  WHERE {requests}
    AND {is_change}
)
SELECT stream,
  {at} AS at,
  {call} AS call,
  {status} AS status,
  {principal} AS principal,
  {parameters} AS parameters,
  {entry} AS entry
FROM {table}
CROSS JOIN chosen
WHERE {last_30_days_or_undated}
  AND {request_id} = chosen_uid
ORDER BY stream DESC, 2""",
    ),
    NamedQuery(
        name="activity-by-hour",
        description="Calls by hour and kind: the last 30 days",
        template="""\
SELECT {hour} AS hour,
  {method} AS method,
  count(*) AS calls
FROM {table}
WHERE {requests}
GROUP BY 1, 2
ORDER BY 1, 2""",
    ),
    NamedQuery(
        name="count-by-day",
        description="For auditors: how many entries each day has, and how many different ones: the same number",
        template="""\
SELECT stream,
  day,
  count(*) AS entries,
  count(DISTINCT {key}) AS different_entries,
  min({at}) AS first_at,
  max({at}) AS last_at
FROM {table}
GROUP BY stream, day
ORDER BY stream DESC, day""",
    ),
)
