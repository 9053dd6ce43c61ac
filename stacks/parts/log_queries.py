"""Questions in the language of Logs Insights, about events in either form, and the patterns of metric filters.

An event may be there twice: if the answer of CloudWatch Logs got lost, it is sent once more. So every query goes by the
event's id. All go by when a request was made, which the event says: what was older than 14 days when it was delivered
has the time of its delivery as ``@timestamp``.

Insights finds 200 fields of an event, and a shortened event of OCSF is without the entry in it. So whether an event is
shown depends on fields that are always there and among the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass

FIELDS: Mapping[str, Mapping[str, str]] = {
    "json": {
        "ours": 'eventSource = "kong-gateway"',
        "uid": "UID",
        "at": "eventTime",
        "hour": "substr(eventTime, 0, 13)",
        "principal": "userIdentity.principalId",
        "user_name": "userIdentity.details.userName",
        "address": "sourceIPAddress",
        "call": "eventName",
        "is_call": "ispresent(additionalEventData.method)",
        "is_change_of_object": "ispresent(additionalEventData.dao_name)",
        "method": "additionalEventData.method",
        "of_change": 'additionalEventData.method in ["POST", "PUT", "PATCH", "DELETE"]',
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
        "hour": "datefloor(fromMillis(time), 1h)",
        "principal": "actor.user.uid",
        "user_name": "actor.user.name",
        "address": "src_endpoint.ip",
        "call": "api.operation",
        "is_call": "ispresent(status_code)",
        "is_change_of_object": "not ispresent(status_code)",
        "method": "activity_name",
        "of_change": 'activity_name in ["Create", "Update", "Delete"]',
        "status": "status_code",
        "workspace": "unmapped.entry.workspace",
        "request_id": "metadata.correlation_uid",
        "dao_name": "resources.0.type",
        "operation": "activity_name",
        "refused": 'status_code in ["401", "403"]',
        "succeeded": "status_id = 1",
    },
}

INDEXED_FIELDS: Mapping[str, tuple[str, ...]] = {
    form: tuple(
        names[name] for name in ("uid", "principal", "user_name", "address", "call", "method", "status", "workspace")
    )
    for form, names in FIELDS.items()
}
"""What queries look for single values of. A group takes 20."""

_CALLS = """\
fields {at} as at, {principal} as principal, {user_name} as user_name, {address} as address, {call} as call, \
{status} as status
| filter {ours} and {is_call}"""
_NEWEST = """
| sort at desc
| dedup {uid}
| limit 200"""
_LOGIN_CALLS = '["GET/auth", "POST/auth", "DELETE/auth"]'
_LOGINS = f"{{call}} in {_LOGIN_CALLS}"
_CHANGES = f"{{is_call}} and {{of_change}} and {{succeeded}} and {{call}} not in {_LOGIN_CALLS}"


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
        return self.template.format(**FIELDS[form])


QUERIES = (
    LogQuery(name="who-did-what", title="Who did what", template=_CALLS + _NEWEST),
    LogQuery(name="refused-calls", title="Refused calls", template=f"{_CALLS}\n| filter {{refused}}{_NEWEST}"),
    LogQuery(
        name="what-changed",
        title="What changed",
        template="""\
fields {at} as at, {principal} as principal, {operation} as operation, {dao_name} as dao_name, {request_id} as request
| filter {ours} and {is_change_of_object}"""
        + _NEWEST,
    ),
    LogQuery(
        name="changes-by-workspace",
        title="Changes by workspace",
        template=f"""\
filter {{ours}} and {_CHANGES}
| stats count_distinct({{uid}}) as changes by {{workspace}}, {{method}}
| sort changes desc""",
    ),
    LogQuery(name="logins", title="Logins to Kong Manager", template=f"{_CALLS}\n| filter {_LOGINS}{_NEWEST}"),
    LogQuery(
        name="activity-by-hour",
        title="Activity by hour",
        template="""\
fields {hour} as hour
| filter {ours} and {is_call}
| stats count_distinct({uid}) as calls by hour, {method}
| sort hour""",
    ),
    LogQuery(
        name="request-story",
        title="Story of a request",
        template="""\
fields {at} as at, @message
| filter @message like "REQUEST_ID"
| sort at asc
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
    '($.eventName != "POST/auth") && ($.eventName != "DELETE/auth") && '
    '(($.additionalEventData.method = "POST") || ($.additionalEventData.method = "PUT") || '
    '($.additionalEventData.method = "PATCH") || ($.additionalEventData.method = "DELETE")) }',
    "ocsf": '{ ($.api.service.name = "kong-gateway") && ($.unmapped.stream = "requests") && ($.status_id = 1) && '
    '($.api.operation != "POST/auth") && ($.api.operation != "DELETE/auth") && '
    "(($.activity_id = 1) || ($.activity_id = 3) || ($.activity_id = 4)) }",
}
PATTERNS: Mapping[str, Mapping[str, str]] = {"RefusedCalls": _REFUSED, "Changes": _CHANGED}
"""The patterns of metric filters, by metric and form: calls that were refused for want of a token or permission, and
changes. Who logs in to Kong Manager or out of it changes nothing."""
