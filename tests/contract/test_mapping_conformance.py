"""The mapping reproduces the agreed cases exactly: what others who read these events rely on."""

import json
from typing import Any

import pytest
from kong_cloudtrail.destinations.cloudtrail.event import EventMapper
from kong_cloudtrail.domain.gateway import Gateway
from kong_cloudtrail.sources.kong.entries import read_entry

from tests.helpers import FIXTURES, NOW, REPOSITORY, locate_original

MAPPING = FIXTURES / "conformance" / "mapping.json"
CASES: list[dict[str, Any]] = json.loads(MAPPING.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_entry_becomes_exactly_the_agreed_event(case: dict[str, Any]) -> None:
    gateway = Gateway(case["gateway"]["version"], case["gateway"]["hostname"], NOW)
    account_id = case["gateway"]["channel_arn"].split(":")[4]

    event = EventMapper(gateway, account_id, locate_original).map(read_entry(case["entry"]))

    assert json.loads(event.data) == case["event"]
    assert event.id == case["id"]
    assert event.original is None


def test_cases_are_the_ones_agreed_upon_where_both_can_be_seen() -> None:
    # The cases come from outside the repository; a clone alone has only its copy, and nothing to compare it with.
    agreed = REPOSITORY.parent / "shared" / "conformance" / "mapping.json"

    assert not agreed.exists() or MAPPING.read_bytes() == agreed.read_bytes()
