"""What cfn-lint says of a template, without a process that would load its rules and schemas each time."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from cfnlint.config import ConfigMixIn
from cfnlint.decode.decode import decode_str
from cfnlint.runner import Runner


@cache
def _runner() -> Any:
    """Return cfn-lint with its rules, for the region of most tests and for the one that it takes by itself."""
    return Runner(ConfigMixIn(regions=["us-east-1", "eu-central-1"]))


def lint_findings(template: Mapping[str, Any]) -> list[str]:
    """Return what cfn-lint finds."""
    decoded, errors = decode_str(json.dumps(template))
    return [str(found) for found in (*errors, *_runner().validate_template(decoded))]
