"""The picture in the README shows the dashboard that is deployed, and runs that took place."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from tools.dashboard_capture import SOURCE, Capture, capture
from tools.dashboard_picture import MEASUREMENTS, PICTURE, definition, picture, shown
from tools.dashboard_svg import Evaluator

UNMEASURED = {"node 002", "open in quarantine", "entries open in quarantine"}
"""The replica exists on AWS only, and runs do not write `QuarantineOpen` yet."""


@pytest.fixture(scope="module")
def measured() -> Capture:
    return capture(hours=3)


def test_picture_is_drawn_from_the_definition_of_today() -> None:
    drawn = picture(Capture.from_json(MEASUREMENTS.read_text("utf-8")))
    assert drawn == PICTURE.read_text("utf-8"), "run `python -m tools.dashboard_picture --redraw`"


def test_every_line_of_the_picture_has_been_measured(measured: Capture) -> None:
    """Today's collector still emits what the kept measurements hold; the replica exists on AWS only."""
    kept = Capture.from_json(MEASUREMENTS.read_text("utf-8"))
    assert shown(measured).points.keys() == kept.points.keys()
    for widget in definition().body["widgets"]:
        if widget["type"] == "metric":
            properties = widget["properties"]
            curves = Evaluator(measured).curves(properties["metrics"], properties.get("period", 3600))
            assert {label for label, series in curves if not series} <= UNMEASURED, properties["title"]


def test_alarms_of_the_picture_are_those_of_the_runs(measured: Capture) -> None:
    evaluator = Evaluator(measured)
    states = {
        name.removeprefix(f"{SOURCE}: "): evaluator.alarm_state(properties)
        for name, properties in definition().alarms.items()
    }
    # The last run meets an entry that CloudTrail refuses.
    assert [heading for heading, state in states.items() if state != "OK"] == ["entries in quarantine"]
    assert [run["report"]["quarantined"] for run in measured.runs] == [0, 0, 1]
    assert {run["report"]["source"] for run in measured.runs} == {SOURCE}


def test_measurements_survive_being_written_down(measured: Capture) -> None:
    again = Capture.from_json(measured.to_json())
    assert again.points == dict(measured.points)
    assert again.runs == measured.runs


def test_picture_is_well_formed_and_small() -> None:
    svg = PICTURE.read_text("utf-8")
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own file
    assert len(svg) < 100_000
    assert "script" not in svg
