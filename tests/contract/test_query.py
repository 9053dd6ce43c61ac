"""``kong-cloudtrail query``: against an Athena that runs SQL over real parts, and one that refuses."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import ANY, Stubber

from cli.athena import Athena, Column
from cli.errors import QueryRefused, QueryUnavailable, QueryWrong
from cli.exit_status import ExitStatus
from cli.interruption import Interrupted, raising_on_signals
from cli.main import main
from sandbox.machinery.local_aws import LocalAws
from tools import example_archive, queries_page
from tools.example_archive import DATABASE, ENTRIES, OBJECTS, WORKGROUP

Ask = Callable[..., "Output"]


class Output:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def rows(self) -> list[list[str]]:
        """The cells below the names."""
        return [line.split("\t") for line in self.out.splitlines()][1:]


@cache
def session() -> boto3.Session:
    """Return a session that all tests share: a new one takes long to read the models of the services."""
    return boto3.Session("local", "local", region_name="us-east-1")


@contextmanager
def environment_of(aws: LocalAws) -> Iterator[None]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with (
        mock.patch.dict(os.environ, kept | aws.environment(), clear=True),
        mock.patch.object(boto3, "DEFAULT_SESSION", session()),
    ):
        yield


@pytest.fixture(scope="module")
def days(local_aws: LocalAws) -> Iterator[int]:
    """The example archive, whose entries were moved by so many days."""
    moved = example_archive.days_moved()
    with environment_of(local_aws):
        example_archive.create(moved)
        yield moved
        example_archive.remove()


@pytest.fixture
def ask(local_aws: LocalAws, days: int, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run the command on the example archive."""

    def run(*arguments: str, **variables: str) -> Output:
        capsys.readouterr()
        with environment_of(local_aws):
            os.environ |= variables or {"ATHENA_WORKGROUP": WORKGROUP, "ATHENA_DATABASE": DATABASE}
            status = main(("query", *arguments))
        return Output(status, *capsys.readouterr())

    return run


class TestAnswers:
    def test_named_query(self, ask: Ask) -> None:
        output = ask("logins")

        assert output.status == ExitStatus.DONE
        assert output.out.splitlines()[0] == "at\tprincipal\tuser_name\taddress\tcall\tstatus"
        assert [row[2:] for row in output.rows] == [
            ["bob", "198.51.100.7", "DELETE/auth", "204"],
            ["bob", "198.51.100.7", "GET/auth", "200"],
            ["bob", "198.51.100.7", "GET/auth", "401"],
            ["alice", "192.0.2.10", "GET/auth", "200"],
        ]
        assert output.err.startswith("4 rows. Athena read ")
        assert output.err.endswith(" s: less than 0.01 $ (5 $ per TB).\n")

    def test_every_entry_once(self, ask: Ask) -> None:
        output = ask("SELECT count(*), count(DISTINCT key), count(eventtime) FROM events")

        count = len(ENTRIES) + len(OBJECTS)
        assert output.rows == [[str(count), str(count), str(count - 1)]]

    def test_what_changed(self, ask: Ask) -> None:
        output = ask("what-changed")

        assert [row[2:6] for row in output.rows] == [
            ["alice", "192.0.2.10", "update", "plugins"],
            ["bob", "198.51.100.7", "update", "plugins"],
            ["alice", "192.0.2.10", "create", "plugins"],
            ["alice", "192.0.2.10", "create", "routes"],
            ["alice", "192.0.2.10", "create", "services"],
        ]

    def test_entry_as_kong_showed_it(self, ask: Ask, days: int) -> None:
        number = 9
        (entry,) = example_archive.moved(ENTRIES[number : number + 1], days)

        output = ask("SELECT entry FROM events WHERE uid = ?", entry["request_id"], "--json")

        assert json.loads(json.loads(output.out)["entry"]) == entry

    def test_json_has_a_line_for_each_row(self, ask: Ask) -> None:
        output = ask("SELECT 1 AS a, 'x' AS a, true AS b, CAST(NULL AS varchar) AS c, 'ü' AS d", "--json")

        assert [json.loads(line) for line in output.out.splitlines()] == [
            {"a": 1, "a_2": "x", "b": True, "c": None, "d": "ü"}
        ]

    @pytest.mark.parametrize("limit", [2, 1500, 2000])
    def test_limit_is_said_where_it_cuts(self, ask: Ask, limit: int) -> None:
        output = ask("SELECT * FROM range(2000) ORDER BY 1", "--limit", str(limit))

        assert [int(row[0]) for row in output.rows] == list(range(min(limit, 2000)))
        assert ("There are more rows than" in output.err) is (limit < 2000)

    def test_parameter_is_text_whatever_is_in_it(self, ask: Ask) -> None:
        assert ask("SELECT ? AS a, ? AS b", "it's", "' OR '1' = '1").rows == [["it's", "' OR '1' = '1"]]

    def test_list_of_names(self, ask: Ask) -> None:
        output, as_json = ask("--list"), ask("--list", "--json")

        assert output.out.splitlines()[0] == "activity-by-hour      Calls by hour and kind: the last 30 days"
        assert len(output.out.splitlines()) == 8
        named = [json.loads(line) for line in as_json.out.splitlines()]
        assert [each["name"] for each in named] == [line.split()[0] for line in output.out.splitlines()]
        assert all(each["sql"] and each["database"] == DATABASE for each in named)

    def test_name_that_is_none(self, ask: Ask) -> None:
        output = ask("who-did-waht")

        assert output.status == ExitStatus.USAGE
        assert "has no query who-did-waht. It has: activity-by-hour, " in output.err
        assert output.out == ""

    def test_missing_parameter(self, ask: Ask) -> None:
        output = ask("SELECT * FROM events WHERE uid = ?")

        assert output.status == ExitStatus.USAGE
        assert "expected 1 but found 0. Give a value after the query for each ? in it." in output.err

    def test_workgroup_is_needed(self, ask: Ask) -> None:
        output = ask("who-did-what", ATHENA_WORKGROUP=" ")

        assert output.status == ExitStatus.USAGE
        assert "ATHENA_WORKGROUP: is missing; give --stack" in output.err

    def test_workgroup_of_a_file_of_settings(self, ask: Ask, tmp_path: Path) -> None:
        (tmp_path / "kong.env").write_text(f"ATHENA_WORKGROUP={WORKGROUP}\nATHENA_DATABASE={DATABASE}\n")

        output = ask("SELECT count(*) FROM events", "--env-file", str(tmp_path / "kong.env"), LC_ALL="C")

        assert output.rows == [[str(len(ENTRIES) + len(OBJECTS))]]

    @pytest.mark.parametrize("arguments", [(), ("--list", "who-did-what"), ("logins", "--limit", "0")])
    def test_wrong_arguments_show_the_usage(self, ask: Ask, arguments: tuple[str, ...]) -> None:
        output = ask(*arguments)

        assert output.status == ExitStatus.USAGE
        assert "Usage: " in output.err

    def test_options_name_another_workgroup_and_database(self, ask: Ask) -> None:
        arguments = ("SELECT count(*) FROM events", "--workgroup", WORKGROUP, "--database", DATABASE)

        output = ask(*arguments, ATHENA_WORKGROUP="another", ATHENA_DATABASE="another")

        assert output.rows == [[str(len(ENTRIES) + len(OBJECTS))]]

    def test_region(self, ask: Ask) -> None:
        # The example is in us-east-1, and nowhere else.
        assert ask("--list", "--region", "eu-central-1").err == f"Workgroup {WORKGROUP} has no named queries.\n"


class TestPage:
    def test_shows_queries_and_answers_as_they_are(self, local_aws: LocalAws, days: int) -> None:
        page = queries_page.PAGE.read_text("utf-8")
        with environment_of(local_aws):
            athena = Athena(WORKGROUP)
            made = queries_page.render(page, queries_page.asker(athena, days))
            athena.close()

        assert made == page, "run: python -m tools.queries_page"

    def test_shows_sql_that_runs(self, ask: Ask) -> None:
        statements = queries_page.statements_of_readers(queries_page.PAGE.read_text("utf-8"))

        outputs = [ask(sql) for sql in statements]

        assert len(outputs) == 4
        assert {output.status for output in outputs} == {ExitStatus.DONE}
        assert all(output.rows for output in outputs)

    def test_names_every_column(self, ask: Ask) -> None:
        names = json.loads(ask("SELECT * FROM events LIMIT 1", "--json").out)

        assert set(names) == queries_page.documented_columns(queries_page.PAGE.read_text("utf-8"))


QUERY_ID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """Prepared answers of Athena, checked against its model."""
    client = session().client("athena")
    monkeypatch.setattr(boto3, "client", lambda *_, **__: client)
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()
    client.close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def athena(stub: Stubber, waits: list[float]) -> Athena:
    return Athena("kong", sleep=waits.append)


def started(stub: Stubber) -> None:
    stub.add_response(
        "start_query_execution", {"QueryExecutionId": QUERY_ID}, {"QueryString": ANY, "WorkGroup": "kong"}
    )


def in_state(stub: Stubber, state: str, **status: Any) -> None:
    execution = {
        "Status": {"State": state, **status},
        "Statistics": {"DataScannedInBytes": 3 * 10**9, "TotalExecutionTimeInMillis": 2500},
    }
    stub.add_response("get_query_execution", {"QueryExecution": execution}, {"QueryExecutionId": QUERY_ID})


def page(*rows: list[str | None], token: str | None = None) -> dict[str, Any]:
    data = [{"Data": [{} if value is None else {"VarCharValue": value} for value in row]} for row in rows]
    info = [{"Name": "_col0", "Label": name, "Type": "varchar"} for name in ("a", "b")]
    more = {} if token is None else {"NextToken": token}
    return {"ResultSet": {"Rows": data, "ResultSetMetadata": {"ColumnInfo": info}}, **more}


class TestAthena:
    def test_is_asked_until_it_has_the_answer(self, stub: Stubber, athena: Athena, waits: list[float]) -> None:
        started(stub)
        for state in ("QUEUED", *["RUNNING"] * 9, "SUCCEEDED"):
            in_state(stub, state)
        expected = {"QueryExecutionId": QUERY_ID, "MaxResults": 1000}
        stub.add_response("get_query_results", page(["a", "b"], ["1", None], token="next"), expected)
        stub.add_response("get_query_results", page(["2", ""], token="last"), expected | {"NextToken": "next"})
        stub.add_response("get_query_results", page(), expected | {"NextToken": "last"})

        answer = athena.ask("SELECT …", most_rows=5000)

        assert answer.columns == [Column("a", "varchar"), Column("b", "varchar")]
        assert list(answer.rows) == [["1", None], ["2", ""]]
        assert (answer.scanned_bytes, answer.seconds) == (3 * 10**9, 2.5)
        assert waits == sorted(waits)
        assert 0 < waits[0] < waits[-1] <= 2

    def test_no_more_rows_are_fetched_than_are_looked_at(self, stub: Stubber, athena: Athena) -> None:
        started(stub)
        in_state(stub, "SUCCEEDED")
        expected = {"QueryExecutionId": QUERY_ID, "MaxResults": 4}
        stub.add_response(
            "get_query_results", page(["a", "b"], ["1", "x"], ["2", "y"], ["3", "z"], token="x"), expected
        )

        rows = athena.ask("SELECT …", most_rows=3).rows

        assert [next(rows) for _ in range(3)] == [["1", "x"], ["2", "y"], ["3", "z"]]

    def test_statement_whose_answer_has_no_names(self, stub: Stubber, athena: Athena) -> None:
        started(stub)
        in_state(stub, "SUCCEEDED")
        stub.add_response("get_query_results", page(["events", "x"]))

        assert list(athena.ask("SHOW TABLES", most_rows=10).rows) == [["events", "x"]]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_query_is_stopped_when_nobody_waits_any_more(self, stub: Stubber, number: signal.Signals) -> None:
        athena = Athena("kong", sleep=lambda _: signal.raise_signal(number))
        started(stub)
        in_state(stub, "RUNNING")
        stub.add_response("stop_query_execution", {}, {"QueryExecutionId": QUERY_ID})

        with pytest.raises(Interrupted), raising_on_signals():
            athena.ask("SELECT …", most_rows=1)

    def test_query_that_cannot_be_stopped_ends_the_program_all_the_same(self, stub: Stubber) -> None:
        athena = Athena("kong", sleep=lambda _: signal.raise_signal(signal.SIGINT))
        started(stub)
        in_state(stub, "RUNNING")
        stub.add_client_error("stop_query_execution", "AccessDeniedException")

        with pytest.raises(Interrupted), raising_on_signals():
            athena.ask("SELECT …", most_rows=1)

    @pytest.mark.parametrize(
        ("code", "message", "fields", "kind", "words"),
        [
            ("InvalidRequestException", "WorkGroup is not found", {}, QueryRefused, "no workgroup kong .*--workgroup"),
            ("InvalidRequestException", "WorkGroup kong is disabled", {}, QueryRefused, "WorkGroup kong is disabled"),
            ("InvalidRequestException", "No output location provided.", {}, QueryRefused, "query result location"),
            (
                "InvalidRequestException",
                "line 1:1: mismatched input 'selekt'",
                {"AthenaErrorCode": "MALFORMED_QUERY"},
                QueryWrong,
                "line 1:1: mismatched input 'selekt'. docs/queries.md",
            ),
            ("InvalidRequestException", "line 1:8: Column 'x' cannot be resolved", {}, QueryWrong, "line 1:8"),
            (
                "AccessDeniedException",
                "You are not authorized to perform: athena:StartQueryExecution",
                {},
                QueryRefused,
                "Access denied in workgroup kong .*athena:StartQueryExecution.* glue:GetDatabase",
            ),
            ("ExpiredTokenException", "", {}, QueryRefused, "credentials are not valid .ExpiredTokenException"),
            ("TooManyRequestsException", "Rate exceeded", {}, QueryUnavailable, "TooManyRequestsException.*Try again"),
            ("InternalServerException", "", {}, QueryUnavailable, "InternalServerException"),
        ],
    )
    def test_refusal_says_what_to_do(
        self,
        stub: Stubber,
        athena: Athena,
        code: str,
        message: str,
        fields: dict[str, str],
        kind: type[Exception],
        words: str,
    ) -> None:
        stub.add_client_error("start_query_execution", code, message, modeled_fields=fields)

        with pytest.raises(kind, match=words):
            athena.ask("SELECT …", most_rows=1)

    @pytest.mark.parametrize(
        ("state", "reason", "category", "kind", "words"),
        [
            (
                "CANCELLED",
                "Bytes scanned limit was exceeded",
                2,
                QueryRefused,
                "more than workgroup kong allows.*day >= .*scan_limit_gib",
            ),
            ("CANCELLED", "Query was cancelled by user", 2, QueryUnavailable, "cancelled by user"),
            (
                "FAILED",
                "TABLE_NOT_FOUND: line 1:15: Table 'awsdatacatalog.kong.event' does not exist",
                2,
                QueryRefused,
                "'awsdatacatalog.kong.event' does not exist. Check its name and --database",
            ),
            ("FAILED", "SCHEMA_NOT_FOUND: line 1:15: Schema 'kongg' does not exist", 2, QueryRefused, "--database"),
            (
                "FAILED",
                "PERMISSION_DENIED: Access denied on operating to S3 location: s3://archive/source=kong",
                2,
                QueryRefused,
                "s3://archive/source=kong.*s3:GetObject",
            ),
            (
                "FAILED",
                "Access Denied (Service: Amazon S3; Status Code: 403; Error Code: AccessDenied)",
                2,
                QueryRefused,
                "s3:GetObject",
            ),
            ("FAILED", "COLUMN_NOT_FOUND: line 1:8: Column 'x' cannot be resolved", 2, QueryWrong, "Column 'x'"),
            ("FAILED", "INVALID_CAST_ARGUMENT: Cannot cast 'x' to INT", 2, QueryWrong, "Cannot cast"),
            ("FAILED", "GENERIC_INTERNAL_ERROR: Encountered an exception", 1, QueryUnavailable, "Try again"),
            ("FAILED", "Query exhausted resources at this scale factor", 3, QueryRefused, "exhausted resources"),
        ],
    )
    def test_failure_says_what_to_do(
        self,
        stub: Stubber,
        athena: Athena,
        state: str,
        reason: str,
        category: int,
        kind: type[Exception],
        words: str,
    ) -> None:
        started(stub)
        in_state(stub, state, StateChangeReason=reason, AthenaError={"ErrorCategory": category})

        with pytest.raises(kind, match=words):
            athena.ask("SELECT …", most_rows=1)

    def test_that_is_out_of_reach(self, athena: Athena, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(**_: Any) -> None:
            raise EndpointConnectionError(endpoint_url="https://athena")

        monkeypatch.setattr(athena._client, "start_query_execution", fail)

        with pytest.raises(QueryUnavailable, match=r"EndpointConnectionError.*AWS_REGION"):
            athena.ask("SELECT …", most_rows=1)

    def test_names_on_several_pages(self, stub: Stubber, athena: Athena) -> None:
        for name, token in (("b", "next"), ("a", None)):
            ids = {"NamedQueryIds": [name]} | ({} if token is None else {"NextToken": token})
            stub.add_response("list_named_queries", ids)
            query = {"Name": name, "Database": "kong", "QueryString": "SELECT 1"}
            stub.add_response("batch_get_named_query", {"NamedQueries": [query]}, {"NamedQueryIds": [name]})

        assert [query.name for query in athena.named_queries()] == ["a", "b"]
