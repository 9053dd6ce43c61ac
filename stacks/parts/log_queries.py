"""Questions in the language of Logs Insights, about events in either form, and the patterns of metric filters.

An event may be there twice: if the answer of CloudWatch Logs got lost, it is sent once more. So every query goes by the
event's id. All go by when a request was made, which the event says: what was older than 14 days when it was delivered
has the time of its delivery as ``@timestamp``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_FIELDS: Mapping[str, Mapping[str, str]] = {
    "json": {
        "ours": 'eventSource = "kong-gateway"',
        "uid": "UID",
        "at": "eventTime",
        "hour": "substr(eventTime, 0, 13)",
        "principal": "userIdentity.principalId",
        "user_name": "userIdentity.details.userName",
        "address": "sourceIPAddress",
        "call": "eventName",
        "method": "additionalEventData.method",
        "status": "additionalEventData.status",
        "workspace": "additionalEventData.workspace",
        "request_id": "additionalEventData.request_id",
        "dao_name": "additionalEventData.dao_name",
        "operation": "additionalEventData.operation",
        "refused": "additionalEventData.status in [401, 403]",
        "succeeded": "additionalEventData.status < 400",
    },
    "ocsf": {
        "ours": 'api.service.name = "kong-gateway"',
        "uid": "metadata.uid",
        "at": "fromMillis(time)",
        "hour": "substr(fromMillis(time), 0, 13)",
        "principal": "actor.user.uid",
        "user_name": "actor.user.name",
        "address": "src_endpoint.ip",
        "call": "api.operation",
        "method": "unmapped.entry.method",
        "status": "status_code",
        "workspace": "unmapped.entry.workspace",
        "request_id": "unmapped.entry.request_id",
        "dao_name": "unmapped.entry.dao_name",
        "operation": "unmapped.entry.operation",
        "refused": 'status_code in ["401", "403"]',
        "succeeded": "status_id = 1",
    },
}

INDEXED_FIELDS: Mapping[str, tuple[str, ...]] = {
    form: tuple(
        names[name] for name in ("uid", "principal", "user_name", "address", "call", "method", "status", "workspace")
    )
    for form, names in _FIELDS.items()
}
"""What queries look for single values of. A group takes 20."""

_CALLS = """\
fields {at} as at, {principal} as principal, {user_name} as user_name, {address} as address, {call} as call, \
{status} as status
| filter {ours} and ispresent({method})"""
_NEWEST = """
| sort at desc
| dedup {uid}
| limit 200"""
_CHANGES = '{method} in ["POST", "PUT", "PATCH", "DELETE"]'
_LOGINS = '{call} in ["GET/auth", "POST/auth", "DELETE/auth"]'


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """One query.

    Attributes
    ----------
    name : str
        Its name, as that of the same query over an archive.
    title : str
        Its title on the dashboard.
    template : str
        The query, with names of fields in braces.
    """

    name: str
    title: str
    template: str

    def text(self, form: str) -> str:
        """Return the query for events of a form, ``json`` or ``ocsf``."""
        return self.template.format(**_FIELDS[form])


QUERIES = (
    LogQuery(name="who-did-what", title="Who did what", template=_CALLS + _NEWEST),
    LogQuery(name="refused-calls", title="Refused calls", template=f"{_CALLS}\n| filter {{refused}}{_NEWEST}"),
    LogQuery(
        name="what-changed",
        title="What changed",
        template="""\
fields {at} as at, {principal} as principal, {operation} as operation, {dao_name} as dao_name, {request_id} as request
| filter {ours} and ispresent({dao_name})"""
        + _NEWEST,
    ),
    LogQuery(
        name="changes-by-workspace",
        title="Changes by workspace",
        template=f"""\
filter {{ours}} and {_CHANGES} and {{succeeded}}
| stats count_distinct({{uid}}) as changes by {{workspace}}, {{method}}
| sort changes desc""",
    ),
    LogQuery(name="logins", title="Logins to Kong Manager", template=f"{_CALLS}\n| filter {_LOGINS}{_NEWEST}"),
    LogQuery(
        name="activity-by-hour",
        title="Activity by hour",
        template="""\
fields {hour} as hour
| filter {ours} and ispresent({method})
| stats count_distinct({uid}) as calls by hour, {method}
| sort hour""",
    ),
    LogQuery(
        name="story-of-a-request",
        title="Story of a request",
        template="""\
fields @message
| filter @message like "REQUEST_ID"
| sort {at} asc
| dedup {uid}
| limit 200""",
    ),
)
"""Replace ``REQUEST_ID`` in the last one by the id of a request: it also finds the objects that the request changed."""

_REFUSED = {
    "json": '{ ($.eventSource = "kong-gateway") && (($.additionalEventData.status = 401) || '
    "($.additionalEventData.status = 403)) }",
    "ocsf": '{ ($.api.service.name = "kong-gateway") && (($.status_code = "401") || ($.status_code = "403")) }',
}
_CHANGED = {
    "json": '{ ($.eventSource = "kong-gateway") && ($.additionalEventData.status < 400) && '
    '(($.additionalEventData.method = "POST") || ($.additionalEventData.method = "PUT") || '
    '($.additionalEventData.method = "PATCH") || ($.additionalEventData.method = "DELETE")) }',
    "ocsf": '{ ($.api.service.name = "kong-gateway") && ($.status_id = 1) && '
    "(($.activity_id = 1) || ($.activity_id = 3) || ($.activity_id = 4)) }",
}
PATTERNS: Mapping[str, Mapping[str, str]] = {"RefusedCalls": _REFUSED, "Changes": _CHANGED}
"""The patterns of metric filters, by metric and form: calls that were refused for want of a token or permission, and
changes."""
