"""Every property of the construct and of its options is documented, with its default."""

import inspect
import re
from dataclasses import fields

import pytest

import stacks

GROUPS = [getattr(stacks, name) for name in stacks.__all__ if hasattr(getattr(stacks, name), "problems")]


def entries(documented: type, section: str) -> list[tuple[str, str, str]]:
    """Return name, type and text of each entry of a NumPy docstring's section."""
    text = inspect.getdoc(documented) or ""
    found = re.search(rf"^{section}\n-+\n(.*?)(?=\n\n[A-Z][a-z]+\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    body = "" if found is None else found[1]
    return [
        (name, kind or "", " ".join(meaning.split()))
        for name, kind, meaning in re.findall(
            r"^([a-z][\w, ]*?)(?: : (.+))?\n((?:    .*\n?|\n)+)", body + "\n", re.MULTILINE
        )
    ]


def names(documented: type, section: str) -> list[str]:
    return [name.strip() for group, _, _ in entries(documented, section) for name in group.split(",")]


def test_the_groups_are_found() -> None:
    assert {stacks.CacheOptions, stacks.NetworkOptions, stacks.FunctionOptions} <= set(GROUPS)


def test_every_property_of_the_construct_is_documented_with_its_default() -> None:
    construct = stacks.KongCloudTrailIntegration
    assert names(construct, "Parameters") == [
        name for name in inspect.signature(construct.__init__).parameters if name != "self"
    ]
    without = {
        name for name, _, text in entries(construct, "Parameters") if "Default: " not in text and "Required" not in text
    }
    # The last one is short for another one.
    assert without == {"scope, construct_id", "vpc", "kong", "channel_arn"}


@pytest.mark.parametrize("group", GROUPS)
def test_every_property_of_a_group_is_documented_with_its_default(group: type) -> None:
    assert names(group, "Attributes") == [field.name for field in fields(group)]
    without = {name for name, _, text in entries(group, "Attributes") if "Default: " not in text}
    assert without == {stacks.ExistingCache: {"host"}, stacks.KongOptions: {"admin_api"}}.get(group, set())


@pytest.mark.parametrize("name", [name for name in stacks.__all__ if name.endswith("Options")])
def test_options_are_frozen_and_keyword_only(name: str) -> None:
    options = getattr(stacks, name)
    parameters = options.__dataclass_params__
    assert parameters.frozen
    assert all(field.kw_only for field in fields(options))
