"""checkov finds nothing in the template of any shape that has no reason in the template: `make checkov`.

The name keeps it out of `make test`, which must do without checkov and its hundred dependencies.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import REPOSITORY
from tests.infra.synthesis import SHAPES, Shaped, Synthesis

CHECKOV = REPOSITORY / ".venv-checkov" / "bin" / "checkov"


def results(folder: Path) -> dict[str, Any]:
    """Run checkov over templates, without a word to anybody."""
    command = [str(CHECKOV), "-d", str(folder), "--framework", "cloudformation", "--skip-download", "-o", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(ran.stdout)
    assert found["summary"]["parsing_errors"] == 0
    return found


@pytest.fixture
def templates(shaped: Shaped, synthesis: Synthesis, tmp_path: Path) -> Path:
    for name, made in {"app": synthesis, **{shape: shaped(shape) for shape in SHAPES}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(made.template), "utf-8")
    return tmp_path


def test_nothing_is_found_in_any_shape(templates: Path) -> None:
    found = results(templates)
    assert [(one["check_id"], one["resource"], one["file_path"]) for one in found["results"]["failed_checks"]] == []
    assert found["summary"]["passed"] > 500
    assert all(one["check_result"]["suppress_comment"] for one in found["results"]["skipped_checks"])


def test_without_the_reasons_something_is_found(templates: Path) -> None:
    for file in templates.iterdir():
        template = json.loads(file.read_text("utf-8"))
        for resource in template["Resources"].values():
            resource.pop("Metadata", None)
        file.write_text(json.dumps(template), "utf-8")

    assert {one["check_id"] for one in results(templates)["results"]["failed_checks"]} == {
        "CKV_AWS_115",
        "CKV_AWS_116",
        "CKV_AWS_149",
        "CKV_AWS_158",
        "CKV_AWS_173",
        "CKV_AWS_18",
        "CKV_AWS_21",
        "CKV_AWS_27",
        "CKV_AWS_7",
    }
