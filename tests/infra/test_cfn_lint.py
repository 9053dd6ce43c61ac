"""cfn-lint finds nothing in the template of any shape. What it may not say has a reason in the template's metadata."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infra.linting import lint_findings
from tests.infra.synthesis import SHAPES, Shaped, Synthesis


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_found_in_any_shape(shaped: Shaped, shape: str) -> None:
    assert lint_findings(shaped(shape).template) == []


def test_nothing_is_found_in_the_apps_stack(synthesis: Synthesis) -> None:
    assert lint_findings(synthesis.template) == []


def test_a_new_finding_is_seen(shaped: Shaped) -> None:
    template: dict[str, Any] = json.loads(json.dumps(shaped("default").template))
    for resource in template["Resources"].values():
        resource.pop("Metadata", None)

    assert "W3005" in " ".join(lint_findings(template))


def test_every_suppression_has_its_reason(shaped: Shaped) -> None:
    for shape in SHAPES:
        for name, resource in shaped(shape).template["Resources"].items():
            metadata = resource.get("Metadata", {})
            for rule in metadata.get("cfn-lint", {}).get("config", {}).get("ignore_checks", []):
                assert metadata["cfn-lint-reason"].startswith(f"{rule}: "), (shape, name)
            for skipped in metadata.get("checkov", {}).get("skip", []):
                assert len(skipped["comment"]) > 40, (shape, name, skipped["id"])
