"""The reference page says what the code says."""

import inspect
import re

from stacks import KongCloudTrailIntegration
from tools.construct_reference import PAGE, render


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m tools.construct_reference"


def test_every_property_is_on_the_page() -> None:
    properties = set(inspect.signature(KongCloudTrailIntegration.__init__).parameters)
    table = render().split("## `KongCloudTrailIntegration`: attributes")[0]
    documented = set(re.findall(r"`(\w+)`", "".join(row.split(" | ")[0] for row in table.splitlines())))

    assert properties - {"self", "scope", "construct_id"} <= documented
