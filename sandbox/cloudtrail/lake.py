"""CloudTrail Lake's queries: StartQuery and GetQueryResults over the events that were accepted.

The SQL is executed, by DuckDB, over those of the documented columns that queries here use. Results come in pages of
text, as CloudTrail's do, and a query is running when it is first asked for.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sandbox.cloudtrail.records import AcceptedEvent
from sandbox.machinery.aws_calls import CallError

EVENT_DATA_STORE_ARN = "arn:aws:cloudtrail:us-east-1:123456789012:eventdatastore/0a1b2c3d-0123-4567-89ab-cdef01234567"
"""The store behind the channel."""

TARGET = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101."
_MAX_RESULTS = 1000
_COLUMNS = (
    "eventTime TIMESTAMP, eventData STRUCT(eventTime TIMESTAMP, uid VARCHAR, eventSource VARCHAR, eventName VARCHAR), "
    "metadata STRUCT(channelARN VARCHAR)"
)


class LakeQueries:
    """The queries of one event data store.

    Parameters
    ----------
    arn
        The store's.
    channel_arn
        Of the channel that its events come from.
    """

    def __init__(self, arn: str, channel_arn: str) -> None:
        self.arn = arn
        self._channel_arn = channel_arn
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[list[list[dict[str, str]]], int]] = {}
        self._asked: set[str] = set()
        self.statements: list[str] = []
        """The SQL of every query."""
        self.refusal: str | None = None
        """Error code of every call, if there is one."""
        self.outcome = "FINISHED"
        """How every query ends."""
        self.page_rows = _MAX_RESULTS
        """Rows of a page at most."""

    def answer(self, operation: str, body: bytes, events: Sequence[AcceptedEvent]) -> dict[str, Any]:
        """Answer a call. Raises `CallError`."""
        if self.refusal is not None:
            raise CallError(self.refusal, "refused")
        arguments: dict[str, Any] = json.loads(body)
        if operation == "StartQuery":
            return self._start(arguments["QueryStatement"], events)
        if operation == "GetQueryResults":
            return self._results(arguments)
        raise CallError("UnknownOperationException", operation)

    def _start(self, statement: str, events: Sequence[AcceptedEvent]) -> dict[str, Any]:
        store = self.arn.rpartition("/")[2]
        if not re.search(rf"\bFROM {re.escape(store)}\b", statement):
            raise CallError("EventDataStoreNotFoundException", "There is no such event data store.")
        bounds = re.findall(r"\beventTime (?:>=|<) '([^']+)'", statement)
        query_id = str(uuid.uuid4())
        rows = self._execute(statement.replace(store, "events"), events)
        scanned = sum(len(event.event_data) for event in events if _is_within(event, bounds))
        with self._lock:
            self.statements.append(statement)
            self._answers[query_id] = (rows, scanned)
        return {"QueryId": query_id}

    def _execute(self, statement: str, events: Sequence[AcceptedEvent]) -> list[list[dict[str, str]]]:
        import duckdb

        with duckdb.connect() as connection:
            connection.execute(f"CREATE TABLE events ({_COLUMNS})")
            for event in events:
                data = event.event
                moment = datetime.fromisoformat(data["eventTime"]).replace(tzinfo=None)
                nested = {"eventTime": moment, "uid": data["UID"], **{n: data[n] for n in ("eventSource", "eventName")}}
                connection.execute(
                    "INSERT INTO events VALUES (?, ?, ?)", [moment, nested, {"channelARN": self._channel_arn}]
                )
            try:
                found = connection.execute(statement)
            except duckdb.Error as error:
                raise CallError("InvalidQueryStatementException", str(error)) from None
            names = [column[0] for column in found.description or ()]
            return [[{name: _text(value)} for name, value in zip(names, row, strict=True)] for row in found.fetchall()]

    def _results(self, arguments: dict[str, Any]) -> dict[str, Any]:
        query_id = arguments["QueryId"]
        with self._lock:
            if query_id not in self._answers:
                raise CallError("QueryIdNotFoundException", "There is no such query.")
            rows, scanned = self._answers[query_id]
            is_first = query_id not in self._asked
            self._asked.add(query_id)
        if is_first:
            return {"QueryStatus": "RUNNING", "QueryResultRows": []}
        if self.outcome != "FINISHED":
            return {"QueryStatus": self.outcome, "QueryResultRows": []}
        begin = int(arguments.get("NextToken", "row-0").removeprefix("row-"))
        end = begin + min(int(arguments.get("MaxQueryResults", _MAX_RESULTS)), self.page_rows)
        statistics = {"ResultsCount": len(rows[begin:end]), "TotalResultsCount": len(rows), "BytesScanned": scanned}
        page = {"QueryStatus": "FINISHED", "QueryStatistics": statistics, "QueryResultRows": rows[begin:end]}
        return page | ({"NextToken": f"row-{end}"} if end < len(rows) else {})


def _is_within(event: AcceptedEvent, bounds: Sequence[str]) -> bool:
    """Return whether a query reads an event: bounds on its time are all that limits that."""
    if len(bounds) != 2:
        return True
    after, before = (datetime.fromisoformat(bound) for bound in bounds)
    return after <= datetime.fromisoformat(event.event["eventTime"]).replace(tzinfo=None) < before


def _text(value: object) -> str:
    return value.strftime("%Y-%m-%d %H:%M:%S.000") if isinstance(value, datetime) else str(value)
