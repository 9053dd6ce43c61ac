"""docs/settings.md names every setting and every metric that there is, each once."""

from __future__ import annotations

import re

from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.operations.reconcile import METRICS
from kong_cloudtrail.runtime.telemetry import _metrics_of
from kong_cloudtrail.variables import TABLE

from stacks.settings import resolved as options
from tests.helpers import TRAIL
from tools import settings_reference
from tools.settings_reference import render

PAGE = settings_reference.PAGE.read_text("utf-8")


def rows(section: str) -> dict[str, list[str]]:
    """Return the cells of a section's table, by the name in the first one."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found: dict[str, list[str]] = {}
    for row in re.findall(r"^\| (`.+) \|$", text, re.MULTILINE):
        name, *cells = (cell.strip() for cell in row.split(" | "))
        assert name.strip("`") not in found, f"{name} stands twice in the table"
        found[name.strip("`")] = cells
    assert found, f"there is no table below {section}"
    return found


def test_the_app_takes_what_the_first_two_tables_name() -> None:
    app, function = rows("The app"), rows("The function")

    assert not app.keys() & function.keys()
    assert app.keys() | function.keys() == options._SETTINGS


def test_the_tables_of_variables_are_up_to_date() -> None:
    assert render(PAGE) == PAGE, "run: python -m tools.settings_reference"
    assert {name.upper() for name in rows("The function")} | set(rows("On a laptop")) == {it.name for it in TABLE}


def test_the_metrics_of_reconciliations_are_those_that_are_written() -> None:
    assert set(rows("Metrics of reconciliations")) == set(METRICS)


def test_the_app_has_the_defaults_of_the_table() -> None:
    app = rows("The app")

    assert app["resource_name"][-1] == f"`{options.DEFAULT_RESOURCE_NAME}`"
    assert app["schedule"][-1] == f"`{options.DEFAULT_SCHEDULE}`"


def test_the_metrics_are_those_that_a_run_writes() -> None:
    report = RunReport(
        TRAIL,
        pages=1,
        batches=1,
        oldest_undelivered_age_seconds=0.0,
        checkpoint_lag_seconds=0.0,
        gaps=0,
        quarantine_open=0,
        finished=True,
        parts_damaged=0,
        redated=1,
    )

    metrics = [*_metrics_of(report), *_metrics_of(RunReport(TRAIL, skipped=True))]
    written = {name: unit.value.lower() for name, unit, _ in metrics}

    assert {name: cells[0] for name, cells in rows("Metrics").items()} == written
