"""What the template is in each shape, to be read in a diff: nothing changes unseen.

To accept a change, run ``UPDATE_SNAPSHOTS=1 python -m pytest tests/infra/test_snapshots.py`` and read the diff.

``app.json`` is the template of this repository's app. The others hold what a shape has that somebody else's app with
nothing but the required properties has not, or has otherwise.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.infra.synthesis import SHAPES, Shaped, Synthesis, synthesise_two_gateways

SNAPSHOTS = Path(__file__).parent / "snapshots"
OF_SHAPES = [shape for shape in SHAPES if shape != "default"]
DASHBOARD = "AWS::CloudWatch::Dashboard"


def file_of(name: str) -> Path:
    return SNAPSHOTS / f"{re.sub('[^a-z]+', '-', name.lower())}.json"


def masked(template: Any) -> str:
    """Write a template without what changes with every change of the function's source or of CDK's hashing."""
    text = json.dumps(template, indent=1, sort_keys=True)
    text = re.sub(r"[0-9a-f]{64}", "<asset>", text)
    return re.sub(r"\b([A-Za-z]+)[0-9A-F]{8}\b", r"\1<hash>", text) + "\n"


def compare(name: str, template: Any) -> None:
    text = masked(template)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file_of(name).write_text(text, "utf-8")
    assert text == file_of(name).read_text("utf-8"), "to accept it: see the first lines of this file"


def beyond(base: Synthesis, synthesis: Synthesis) -> dict[str, Any]:
    """Return the resources that a template has beside another one's, and those that it has not."""
    before, now = resources_of(base), resources_of(synthesis)
    return {
        "absent": sorted(before.keys() - now.keys()),
        "added": {name: resource for name, resource in now.items() if name not in before},
        "changed": {
            name: changes(before[name], resource)
            for name, resource in now.items()
            if name in before and resource != before[name]
        },
    }


def resources_of(synthesis: Synthesis) -> dict[str, Any]:
    """Return the resources. Of a dashboard, the titles alone: its numbers follow from the same code in every shape."""
    found = dict(synthesis.template["Resources"])
    for name, resource in found.items():
        if resource["Type"] == DASHBOARD:
            body = json.loads(synthesis.flat(resource["Properties"]["DashboardBody"]))
            found[name] = [widget["properties"].get("title", "") for widget in body["widgets"]]
    return found


def changes(before: Any, now: Any) -> Any:
    """Return what is otherwise in a resource: below maps, only the parts that differ; None for what is gone."""
    if not isinstance(before, dict) or not isinstance(now, dict) or len(now) == 1:
        return now
    return {
        key: changes(before.get(key), now.get(key))
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    }


def test_the_app(synthesis: Synthesis) -> None:
    compare("app", synthesis.template)


@pytest.mark.parametrize("shape", OF_SHAPES)
def test_a_shape(shaped: Shaped, shape: str) -> None:
    compare(shape, beyond(shaped("default"), shaped(shape)))


def test_two_gateways_that_share_a_cache_and_a_ledger(shaped: Shaped, tmp_path: Path) -> None:
    compare("two gateways", beyond(shaped("default"), synthesise_two_gateways(tmp_path)))


def test_there_are_no_others() -> None:
    assert set(SNAPSHOTS.iterdir()) == {file_of(name) for name in ("app", "two gateways", *OF_SHAPES)}


def test_a_change_is_seen(shaped: Shaped) -> None:
    default, other = shaped("default"), shaped("shared VPC")
    assert beyond(default, default) == {"absent": [], "added": {}, "changed": {}}
    ((_, changed),) = beyond(default, other)["changed"].items()
    assert "444455556666" in json.dumps(changed)
    assert "RoleName" not in json.dumps(changed)
