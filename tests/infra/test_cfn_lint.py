"""cfn-lint finds nothing in the template of any shape. What it may not say has a reason in the template's metadata."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.infra.synthesis import SHAPES, Shaped, Synthesis


def findings(*templates: Path) -> str:
    lint = [str(Path(sys.executable).with_name("cfn-lint")), "--format", "parseable", *map(str, templates)]
    return subprocess.run(lint, capture_output=True, text=True, check=False).stdout


def test_nothing_is_found_in_any_shape(shaped: Shaped, synthesis: Synthesis, tmp_path: Path) -> None:
    templates = {"app": synthesis, **{shape: shaped(shape) for shape in SHAPES}}
    for name, found in templates.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(found.template), "utf-8")

    assert findings(*sorted(tmp_path.iterdir())) == ""


def test_a_new_finding_is_seen(shaped: Shaped, tmp_path: Path) -> None:
    template = json.loads(json.dumps(shaped("default").template))
    for resource in template["Resources"].values():
        resource.pop("Metadata", None)
    file = tmp_path / "template.json"
    file.write_text(json.dumps(template), "utf-8")

    assert "W3005" in findings(file)


def test_every_suppression_has_its_reason(shaped: Shaped) -> None:
    for shape in SHAPES:
        for name, resource in shaped(shape).template["Resources"].items():
            metadata = resource.get("Metadata", {})
            for rule in metadata.get("cfn-lint", {}).get("config", {}).get("ignore_checks", []):
                assert metadata["cfn-lint-reason"].startswith(f"{rule}: "), (shape, name)
            for skipped in metadata.get("checkov", {}).get("skip", []):
                assert len(skipped["comment"]) > 40, (shape, name, skipped["id"])
