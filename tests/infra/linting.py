"""What cfn-lint says of a template, without a process that would load its rules and schemas each time."""

import json
from collections.abc import Mapping
from typing import Any

from cfnlint import lint
from cfnlint.config import ManualArgs


def lint_findings(template: Mapping[str, Any]) -> list[str]:
    """Return what cfn-lint finds, in the region of most tests and in the one that it takes by itself."""
    return [
        str(found) for found in lint(json.dumps(template), config=ManualArgs(regions=["us-east-1", "eu-central-1"]))
    ]
