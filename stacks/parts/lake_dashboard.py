"""The queries of the dashboard in CloudTrail Lake: who did what, and what was refused."""

from dataclasses import dataclass, field

from aws_cdk import aws_cloudtrail as cloudtrail

REFRESH_HOURS = 24
"""How often CloudTrail runs the queries by itself. Each run is billed by the data that it reads."""

# Columns: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/query-supported-event-schemas.html. That page
# spells one of them `errormssage`; no query here uses it, as nobody could tell which spelling works.
_COLUMNS = """\
eventData.eventTime AS at, eventData.userIdentity.principalId AS principal,
  element_at(eventData.userIdentity.details, 'userName') AS user_name, eventData.sourceIPAddress AS address"""
_STATUS = "TRY_CAST(element_at(eventData.additionalEventData, 'status') AS INTEGER)"
_FROM = """\
FROM {store}
WHERE eventData.eventSource = 'kong-gateway' AND eventTime > '?' AND eventTime < '?'"""


@dataclass(frozen=True, kw_only=True)
class Query:
    """One widget: a title, a statement with ``{store}`` for the event data store, and how it is shown."""

    title: str
    statement: str
    view: str = "Table"
    properties: dict[str, str] = field(default_factory=dict)


QUERIES = (
    Query(
        title="Who did what",
        statement=f"""\
SELECT {_COLUMNS},
  eventData.eventName AS call, {_STATUS} AS status
{_FROM}
ORDER BY eventData.eventTime DESC LIMIT 200""",
    ),
    Query(
        title="Refused calls",
        statement=f"""\
SELECT {_COLUMNS},
  eventData.eventName AS call, {_STATUS} AS status
{_FROM} AND {_STATUS} IN (401, 403)
ORDER BY eventData.eventTime DESC LIMIT 200""",
    ),
    Query(
        title="Changes by workspace",
        statement=f"""\
SELECT element_at(eventData.additionalEventData, 'workspace') AS workspace,
  element_at(eventData.additionalEventData, 'method') AS method, count(*) AS changes
{_FROM} AND element_at(eventData.additionalEventData, 'method') IN ('POST', 'PUT', 'PATCH', 'DELETE')
  AND {_STATUS} < 400
GROUP BY 1, 2 ORDER BY changes DESC""",
    ),
    Query(
        title="Logins to Kong Manager",
        statement=f"""\
SELECT {_COLUMNS},
  {_STATUS} AS status
{_FROM} AND eventData.eventName IN ('GET/auth', 'POST/auth', 'DELETE/auth')
ORDER BY eventData.eventTime DESC LIMIT 200""",
    ),
    Query(
        title="Activity by hour",
        statement=f"""\
SELECT date_trunc('hour', eventTime) AS hour,
  element_at(eventData.additionalEventData, 'method') AS method, count(*) AS calls
{_FROM}
GROUP BY 1, 2 ORDER BY 1, 2""",
        view="LineChart",
        properties={"XAxisColumn": "hour", "YAxisColumn": "calls", "FilterColumn": "method"},
    ),
)


def widgets(store_id: str) -> list[cloudtrail.CfnDashboard.WidgetProperty]:
    """Return the widgets for one event data store."""
    return [
        cloudtrail.CfnDashboard.WidgetProperty(
            query_statement=query.statement.format(store=store_id),
            query_parameters=["$StartTime$", "$EndTime$"],
            # https://docs.aws.amazon.com/awscloudtrail/latest/userguide/lake-widget-properties.html
            view_properties={
                "Height": "2",
                "Width": "4",
                "Title": query.title,
                "View": query.view,
                **query.properties,
            },
        )
        for query in QUERIES
    ]
