"""The report's page: it is whole in itself, shows everything as text, and is readable for periods of all lengths."""

from __future__ import annotations

import copy
import html.parser
import json
import re
from functools import cache
from typing import Any

import pytest
from kong_cloudtrail.ports import Failure
from kong_cloudtrail.sources.kong.entries import read_entry

from cli.report import plots, render, wording
from tests.helpers import GATEWAY, NOW
from tests.unit.test_evidence import AFTER, BEFORE, Parts, ask, row, schema
from tools import evidence_sample

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}`\u202e\x1b[31m"


@cache
def _document() -> dict[str, Any]:
    parts = Parts()
    parts.run([row(1, AFTER), row(2, AFTER + 90_000, method="GET")], at=AFTER + 2 * 86_400)
    parts.run([row(3, BEFORE - 5, method="DELETE")], at=NOW - 60)
    parts.ledger.quarantine(read_entry(row(9, AFTER + 9)), GATEWAY, Failure("InvalidData", "no"), 1)
    parts.reconcile(shown=4, quarantined=1)
    return ask(parts)


@pytest.fixture
def document() -> dict[str, Any]:
    return copy.deepcopy(_document())


class Page(html.parser.HTMLParser):
    """What a browser would make of it."""

    VOID = frozenset({"meta", "path", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID or (tag == "rect" and not (self.get_starttag_text() or "").endswith("/>")):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def page_of(document: dict[str, Any]) -> Page:
    return Page(render(document, "c" * 64, "evidence.json"))


def strings_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [found for key, each in value.items() for found in strings_in(each, (*path, key))]
    if isinstance(value, list):
        return [found for key, each in enumerate(value) for found in strings_in(each, (*path, key))]
    return [path] if isinstance(value, str) else []


def test_has_the_answer_first(document: dict[str, Any]) -> None:
    page = page_of(document)

    text = " ".join(page.text.split())
    assert text.index("Complete, with exceptions.") < text.index("Kong showed4") < text.index("Quarantined1")
    assert "29 to 31 May 2024" in text
    assert page.open == []


def test_needs_nothing_else(document: dict[str, Any]) -> None:
    text = render(document, "c" * 64, "evidence.json")
    page = Page(text)

    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "a", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href", "style")]
    assert not re.findall(r"url\(|@import|https?://", text)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_shows_every_text_of_the_document_as_text(document: dict[str, Any]) -> None:
    harmless = page_of(document)
    fixed = {"verb", "verdict", "severity", "shown_basis", "basis", "state", "day", "after", "before", "answered_at"}
    for path in strings_in(document):
        name = next(part for part in reversed(path) if isinstance(part, str))
        is_moment = re.match(r"\d{4}-\d\d-\d\dT", _at(document, path))
        if name in fixed or is_moment:
            continue
        changed = copy.deepcopy(document)
        target: Any = changed
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = HOSTILE

        page = page_of(changed)

        assert (page.tags.count("script"), page.tags.count("img")) == (0, 0), path
        assert len(page.attributes) <= len(harmless.attributes) + 40, path
        assert "\u202e" not in page.text and "\x1b" not in page.text, path
        assert "49" not in page.text or "{{" in page.text or "49" in harmless.text, path


def _at(value: Any, path: tuple[Any, ...]) -> str:
    for step in path:
        value = value[step]
    return str(value)


def test_names_are_hostile_too(document: dict[str, Any]) -> None:
    trail = document["trails"][0]
    trail["excluded"] = {"entries": 1, "by_rule": {HOSTILE: 1}}
    trail["quarantine"]["by_reason"] = {HOSTILE: 1}
    document["alarms"] = {
        "known_since": "2024-05-01T00:00:00Z", "watched": 1, "raised": {HOSTILE: 1},
        "changes": [{"at": "2024-05-01T00:00:00Z", "alarm": HOSTILE, "state": "ALARM"}],
    }  # fmt: skip
    document["configuration"] = {"SOURCE_NAME": HOSTILE}

    page = page_of(document)

    assert "script" not in page.tags
    assert page.text.count("<script>alert(1)</script>") >= 4


def test_commands_quote_what_a_shell_would_read(document: dict[str, Any]) -> None:
    trail = document["trails"][0]
    trail["chain"]["place"] = "/ledger of $(touch x)/runs"
    trail["archive"]["place"] = "s3://bucket/a b"

    text = page_of(document).text

    assert "sha256sum '/ledger of $(touch x)/runs/0000000002.json'" in text
    assert "( cd '/ledger of $(touch x)/runs'; before=000" in text
    assert "aws s3 cp 's3://bucket/a b/day=2024-05-31/23-000000.json.gz' 23-000000.json.gz\ngzip -dc 23" in text


def test_names_what_it_is_not_about(document: dict[str, Any]) -> None:
    assert "Not about" not in page_of(document).text

    document["trails_beside"] = ["kong/objects/archive", HOSTILE]

    page = page_of(document)
    assert "Not about: kong/objects/archive, " in page.text
    assert "script" not in page.tags


def test_tells_how_to_count_in_the_lake(document: dict[str, Any]) -> None:
    store = "arn:aws:cloudtrail:eu-central-1:111122223333:eventdatastore/5b8d"
    document["trails"][0]["destination"] = "cloudtrail-lake"
    document["configuration"] = {"EVENT_DATA_STORE": store, "CHANNEL_ARN": "arn:aws:cloudtrail:channel/'; DROP"}

    text = page_of(document).text

    assert (
        "SELECT COUNT(*), COUNT(DISTINCT eventData.uid) FROM 5b8d WHERE eventTime >= '\"'\"'2024-05-29 00:00:00" in text
    )


def test_plots_have_the_numbers_of_the_document(document: dict[str, Any]) -> None:
    activity = document["trails"][0]["activity"]

    plot = plots.day_plot(activity, document["after"], document["before"])

    assert [(column.name, column.entries) for column in plot.columns] == [
        ("2024-05-29", 1),
        ("2024-05-30", 1),
        ("2024-05-31", 1),
    ]
    assert (plot.unit, plot.kinds, plot.top, plot.empty) == ("day", ["read", "create", "delete"], 2, 0)
    assert {bar.height for bar in plot.bars} == {"50"}


@pytest.mark.parametrize(
    ("after", "before", "unit", "columns"),
    [
        ("2024-05-29T00:00:00Z", "2024-05-30T00:00:00Z", "day", 1),
        ("2024-05-29T22:00:00Z", "2024-05-30T01:00:00Z", "day", 2),
        ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z", "week", 53),
        ("1970-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "month", 32),
    ],
)
def test_plots_of_long_periods_are_coarser(after: str, before: str, unit: str, columns: int) -> None:
    days = [{"day": "2024-05-29", "entries": 5, "kinds": {"read": 5}}]

    plot = plots.day_plot({"basis": "time_of_request", "days": days}, after, before)

    assert (plot.unit, len(plot.columns)) == (unit, columns)
    assert sum(column.entries for column in plot.columns) == 5


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 10, 11, 99, 100, 101, 12_345, 9_999_999])
def test_the_scale_is_round_and_holds_every_bar(count: int) -> None:
    days = [{"day": "2024-05-29", "entries": count, "kinds": {"read": count}}]

    plot = plots.day_plot({"basis": "time_of_request", "days": days}, "2024-05-29T00:00:00Z", "2024-05-30T00:00:00Z")

    assert count <= plot.top <= max(2, 2 * count + 2)
    assert plot.top % 2 == 0


@pytest.mark.parametrize(
    ("after", "before", "words"),
    [
        ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z", "March 2026"),
        ("2026-03-02T00:00:00Z", "2026-03-10T00:00:00Z", "2 to 9 March 2026"),
        ("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z", "2 March 2026"),
        ("2025-12-31T00:00:00Z", "2026-02-01T00:00:00Z", "31 December 2025 to 31 January 2026"),
        ("2026-03-02T09:30:00Z", "2026-03-02T10:00:05Z", "2 March 2026, 09:30 to 2 March 2026, 10:00:05 UTC"),
    ],
)
def test_periods_in_words(after: str, before: str, words: str) -> None:
    assert wording.period(after, before) == words


def test_an_empty_ledger_has_a_page() -> None:
    page = page_of(ask(Parts()))

    assert "Nothing to show." in page.text
    assert "No entries in this period." in page.text


def test_long_lists_are_cut_on_the_page_and_that_is_said(document: dict[str, Any]) -> None:
    reports = document["trails"][0]["runs"]["reports"]
    document["trails"][0]["runs"]["reports"] = reports * 1500

    page = page_of(document)

    assert "The last 2,000 of 3,000; the JSON has all." in page.text
    assert json.dumps(document)


def test_thousands_of_findings_leave_room_for_the_others(document: dict[str, Any]) -> None:
    trail = document["trails"][0]
    fault = {"severity": "fault", "code": "archive_altered"}
    trail["findings"] = [
        *({**fault, "text": f"part-{number:04} is missing."} for number in range(5000)),
        {"severity": "unchecked", "code": "not_reconciled", "text": "Not reconciled."},
    ]
    trail["quarantine"].update(quarantined=100_000, by_reason={f"Code{number}": 1 for number in range(50)})

    text = " ".join(page_of(document).text.split())

    assert re.findall(r"part-\d+", text) == [f"part-{number:04}" for number in range(10)]
    assert "4,990 more of this kind. The JSON has all. Not checked Not reconciled." in text
    assert "Code0: 1, Code1: 1, Code2: 1, …" in text
    assert "The first 1 of 100,000" in text


def test_the_sample_of_the_docs_is_what_the_command_would_write() -> None:
    line = evidence_sample.JSON.read_text("utf-8")

    schema().validate(json.loads(line))
    assert evidence_sample.HTML.read_text("utf-8") == evidence_sample.page_of(line)
