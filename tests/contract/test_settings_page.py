"""docs/settings.md names every setting and every metric that there is, each once."""

from __future__ import annotations

import re

import pytest
from kong_cloudtrail.domain.report import RunReport
from kong_cloudtrail.runtime.telemetry import _metrics_of
from kong_cloudtrail.settings import Settings

from stacks.settings import resolved as options
from tests.helpers import REPOSITORY, TRAIL, settings_environment

PAGE = (REPOSITORY / "docs" / "settings.md").read_text("utf-8")


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


class Asked(dict[str, str]):
    """An environment that remembers which variables were asked for."""

    def __init__(self) -> None:
        super().__init__(settings_environment())
        self.names: set[str] = set()

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        self.names.add(key)
        return super().get(key, default)


def test_the_app_takes_what_the_first_two_tables_name() -> None:
    app, function = rows("The app"), rows("The function")

    assert not app.keys() & function.keys()
    assert app.keys() | function.keys() == options._SETTINGS


def test_the_function_reads_what_the_last_two_tables_name() -> None:
    environment = Asked()
    Settings.from_mapping(environment)

    function, laptop = {name.upper() for name in rows("The function")}, set(rows("On a laptop"))
    assert not function & laptop
    assert (function | laptop) - {"LOG_LEVEL"} == environment.names  # Powertools reads that one


@pytest.mark.parametrize("name", ["overlap_seconds", "page_size", "parallel_deliveries", "redis_db"])
def test_the_defaults_are_true(name: str) -> None:
    assert rows("The function")[name][-1] == f"`{getattr(Settings.from_mapping(settings_environment()), name)}`"


def test_the_app_has_the_defaults_of_the_table() -> None:
    app = rows("The app")

    assert app["resource_name"][-1] == f"`{options.DEFAULT_RESOURCE_NAME}`"
    assert app["schedule"][-1] == f"`{options.DEFAULT_SCHEDULE}`"
    default = f"`{options.DEFAULT_SOURCE_NAME}`, or the `resource_name` if you give one"
    assert rows("The function")["source_name"][-1] == default


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
    )

    metrics = [*_metrics_of(report), *_metrics_of(RunReport(TRAIL, skipped=True))]
    written = {name: unit.value.lower() for name, unit, _ in metrics}

    assert {name: cells[0] for name, cells in rows("Metrics").items()} == written
