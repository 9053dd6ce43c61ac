"""Athena: starts queries, waits for them, reads their answers, and says what to do where it refuses.

Sources: the Athena API reference, and the user guide, "Athena error catalog" and "Workgroup data usage controls".
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from kong_cloudtrail.errors import SettingsError

from .errors import QueryError, QueryRefused, QueryUnavailable, QueryWrong

if TYPE_CHECKING:
    from mypy_boto3_athena.client import AthenaClient
    from mypy_boto3_athena.type_defs import (
        GetQueryResultsInputTypeDef,
        QueryExecutionTypeDef,
        StartQueryExecutionInputTypeDef,
    )

Row = list[str | None]

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=5, read_timeout=30)
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS, _GROWTH = 0.1, 2.0, 1.5
_MOST_ROWS_OF_A_CALL = 1000

_RUNNING = ("QUEUED", "RUNNING")
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_TO_BLAME_ON_SQL = frozenset({"MALFORMED_QUERY", "INVALID_PARAMETER_USAGE"})
_USER, _SYSTEM = 2, 1
"""Categories of errors."""

_MISSING = re.compile(
    r"TABLE_NOT_FOUND|SCHEMA_NOT_FOUND|CATALOG_NOT_FOUND|EntityNotFoundException"
    r"|(?:Table|Schema|Database|Catalog)\b[^:]{0,300}\b(?:does not exist|not found)",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"PERMISSION_DENIED|AccessDenied|Access Denied|not authorized|Insufficient .{0,40}permission|kms:", re.IGNORECASE
)
_SCAN_LIMIT = re.compile(r"bytes scanned limit", re.IGNORECASE)
_PLACE_IN_SQL = re.compile(r"\bline \d+:\d+")

_DENIED_ADVICE = (
    "You need athena:StartQueryExecution, GetQueryExecution, GetQueryResults, StopQueryExecution, ListNamedQueries and "
    "BatchGetNamedQuery for the workgroup, glue:GetDatabase, GetTable and GetPartitions, s3:GetObject and "
    "s3:ListBucket for the archive, and to read and write where the workgroup keeps its results; and kms:Decrypt for "
    "their keys."
)


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A query that a workgroup has by name."""

    name: str
    description: str
    sql: str
    database: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer: its name, and its type as Athena names it."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a query that succeeded.

    Attributes
    ----------
    columns : list of Column
        Empty for a statement that answers nothing.
    rows : iterator of list
        The values as text, None for NULL. Fetched from Athena as it goes on.
    scanned_bytes : int
        What Athena read, and bills.
    seconds : float
        How long it took.
    """

    columns: list[Column]
    rows: Iterator[Row]
    scanned_bytes: int
    seconds: float


def use_region(name: str) -> None:
    """Make a Region that of all AWS calls of this process."""
    boto3.setup_default_session(region_name=name)


class Athena:
    """One workgroup.

    Parameters
    ----------
    workgroup
        Its name.
    sleep
        Function that waits for the given seconds.

    Raises
    ------
    SettingsError
        If AWS's own settings are wrong, such as the region.
    """

    def __init__(self, workgroup: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._workgroup = workgroup
        self._sleep = sleep
        try:
            self._client: AthenaClient = boto3.client("athena", config=_CONFIG)
        except (BotoCoreError, ValueError) as error:  # botocore raises ValueError for a malformed endpoint
            reason = str(error).rstrip(".")
            problem = f"Athena cannot be asked: {reason}. Check AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL."
            raise SettingsError([problem]) from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def named_queries(self) -> list[NamedQuery]:
        """Return the workgroup's named queries, sorted by name.

        Raises
        ------
        QueryError
            If Athena does not show them.
        """
        found = []
        with self._translating():
            for page in self._client.get_paginator("list_named_queries").paginate(WorkGroup=self._workgroup):
                if not page["NamedQueryIds"]:
                    continue
                answer = self._client.batch_get_named_query(NamedQueryIds=page["NamedQueryIds"])
                if unprocessed := answer.get("UnprocessedNamedQueryIds"):
                    code = unprocessed[0].get("ErrorCode", "unknown")
                    raise QueryUnavailable(f"Athena did not show {len(unprocessed)} named queries ({code}). Try again.")
                found += [
                    NamedQuery(query["Name"], query.get("Description", ""), query["QueryString"], query["Database"])
                    for query in answer["NamedQueries"]
                ]
        return sorted(found, key=lambda query: query.name)

    def ask(self, sql: str, parameters: Sequence[str] = (), *, database: str | None = None, most_rows: int) -> Answer:
        """Run a statement and wait until it has succeeded. It is stopped if the wait is interrupted.

        Parameters
        ----------
        sql
            The statement.
        parameters
            Texts for the question marks in it.
        database
            Where tables are that are named without their database.
        most_rows
            How many rows will be looked at: no more are fetched at once.

        Raises
        ------
        QueryError
            If it cannot be run, or fails.
        """
        request: StartQueryExecutionInputTypeDef = {"QueryString": sql, "WorkGroup": self._workgroup}
        if database:
            request["QueryExecutionContext"] = {"Database": database}
        if parameters:
            request["ExecutionParameters"] = [_literal(text) for text in parameters]
        with self._translating():
            query_id = self._client.start_query_execution(**request)["QueryExecutionId"]
            execution = self._wait(query_id)
            status = execution["Status"]
            if status["State"] != "SUCCEEDED":
                raise self._failure(status.get("StateChangeReason", ""), status.get("AthenaError", {}), status["State"])
        columns, rows = self._results(query_id, most_rows)
        statistics = execution.get("Statistics", {})
        scanned_bytes = statistics.get("DataScannedInBytes", 0)
        return Answer(columns, rows, scanned_bytes, statistics.get("TotalExecutionTimeInMillis", 0) / 1000)

    def _wait(self, query_id: str) -> QueryExecutionTypeDef:
        wait_seconds = _FIRST_WAIT_SECONDS
        try:
            while True:
                execution = self._client.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]
                if execution["Status"]["State"] not in _RUNNING:
                    return execution
                self._sleep(wait_seconds)
                wait_seconds = min(wait_seconds * _GROWTH, _LONGEST_WAIT_SECONDS)
        except BaseException:
            # Nobody waits for its answer any more, and what it goes on reading is billed.
            with contextlib.suppress(ClientError, BotoCoreError):
                self._client.stop_query_execution(QueryExecutionId=query_id)
            raise

    def _results(self, query_id: str, most_rows: int) -> tuple[list[Column], Iterator[Row]]:
        # One row more has the names of the columns.
        first = self._page(query_id, min(most_rows + 1, _MOST_ROWS_OF_A_CALL))
        described = first["ResultSet"].get("ResultSetMetadata", {}).get("ColumnInfo", [])
        columns = [Column(each.get("Label") or each["Name"], each["Type"]) for each in described]
        rows = _rows_of(first)
        if rows and rows[0] == [column.name for column in columns]:
            del rows[0]  # only the answers of SELECT begin with it
        return columns, self._all_rows(query_id, rows, first.get("NextToken"))

    def _all_rows(self, query_id: str, rows: list[Row], token: str | None) -> Iterator[Row]:
        yield from rows
        while token:
            page = self._page(query_id, _MOST_ROWS_OF_A_CALL, token)
            yield from _rows_of(page)
            token = page.get("NextToken")

    def _page(self, query_id: str, most_rows: int, token: str | None = None) -> Any:
        request: GetQueryResultsInputTypeDef = {"QueryExecutionId": query_id, "MaxResults": most_rows}
        if token is not None:
            request["NextToken"] = token
        with self._translating():
            return self._client.get_query_results(**request)

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        """Make the libraries' errors errors of this program."""
        try:
            yield
        except NoCredentialsError:
            raise QueryRefused("There are no AWS credentials for Athena. Set them, e.g. with AWS_PROFILE.") from None
        except ClientError as error:
            raise self._refusal(error) from None
        except BotoCoreError as error:
            code = type(error).__name__
            raise QueryUnavailable(f"Athena did not answer ({code}). Check the network and AWS_REGION.") from None

    def _refusal(self, error: ClientError) -> QueryError:
        """Return what an answer of the API means that is an error."""
        response: Any = error.response
        code, message = response["Error"].get("Code", "unknown"), response["Error"].get("Message", "")
        if code in _CREDENTIALS:
            return QueryRefused(f"The AWS credentials are not valid ({code}). Renew them, or check AWS_PROFILE.")
        if code != "InvalidRequestException":
            if _DENIED.search(code):
                return self._denied(code, message)
            return QueryUnavailable(f"Athena did not take the request ({code}). Try again in a while.")
        if re.search(r"work ?group", message, re.IGNORECASE) and re.search(r"not found|not exist", message):
            return QueryRefused(
                f"There is no workgroup {self._workgroup} in this account and Region. Check --workgroup, AWS_PROFILE "
                "and AWS_REGION; or deploy the archive with its queries."
            )
        if "output location" in message:
            return QueryRefused(
                f"Workgroup {self._workgroup} does not say where results go. Set its query result location, or name "
                "the archive's own workgroup with --workgroup."
            )
        if response.get("AthenaErrorCode") in _TO_BLAME_ON_SQL:
            return _wrong(message)
        return self._failure(message, {}, code)

    def _failure(self, reason: str, details: Any, otherwise: str) -> QueryError:
        """Return what the reason of a failed query means."""
        if _SCAN_LIMIT.search(reason):
            return QueryRefused(
                f"The query would have read more than workgroup {self._workgroup} allows, and was stopped. Let it read "
                "fewer days, with day >= '2026-01-31' in its WHERE; or raise the workgroup's limit (scan_limit_gib of "
                "the archive)."
            )
        if _MISSING.search(reason):
            return QueryRefused(
                f"Athena does not find a table: {_sentence(reason)} Check its name and --database. SHOW TABLES "
                "shows the tables of a database."
            )
        if _DENIED.search(reason):
            return self._denied("AccessDenied", reason)
        if _PLACE_IN_SQL.search(reason):
            return _wrong(reason)
        if details.get("Retryable") or details.get("ErrorCategory") == _SYSTEM or otherwise == "CANCELLED":
            return QueryUnavailable(f"The query did not end: {_sentence(reason or otherwise)} Try again in a while.")
        if details.get("ErrorCategory") == _USER:
            return _wrong(reason)
        return QueryRefused(f"Athena refuses the query: {_sentence(reason or otherwise)}")

    def _denied(self, code: str, message: str) -> QueryError:
        return QueryRefused(
            f"Access denied in workgroup {self._workgroup} ({code}): {_sentence(message)} {_DENIED_ADVICE}"
        )


def _wrong(reason: str) -> QueryWrong:
    advice = (
        "Give a value after the query for each ? in it."
        if "number of parameters" in reason
        else "docs/queries.md names the columns; the dialect is Trino's."
    )
    return QueryWrong(f"Athena does not take the SQL: {_sentence(reason)} {advice}")


def _sentence(text: str) -> str:
    """Return a text of Athena in one line, with a full stop."""
    line = " ".join(text.split())
    return line if line.endswith(".") else f"{line}."


def _literal(text: str) -> str:
    """Return text as a literal of SQL. Athena puts parameters into the statement as they stand."""
    return "'" + text.replace("'", "''") + "'"


def _rows_of(page: Any) -> list[Row]:
    return [[value.get("VarCharValue") for value in row.get("Data", [])] for row in page["ResultSet"].get("Rows", [])]
