"""The page and the JSON schema of each command say what is so."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import click
import pytest
from jsonschema import Draft202012Validator
from kong_cloudtrail.operations import verb

from cli.exit_status import ExitStatus
from cli.main import commands
from tools import verb_pages

COMMANDS = verb_pages.command_names()
SCHEMAS = sorted(verb_pages.SCHEMAS.glob("*.json"))
HOW_TO = "python -m tools.verb_pages writes it"


def inner_commands(command: click.Command) -> Iterator[click.Command]:
    """Return a command, or the commands within it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield command
    for each in (inner or {}).values():
        yield from inner_commands(each)


@pytest.mark.parametrize("name", COMMANDS)
def test_page_is_true(name: str) -> None:
    page = (verb_pages.FOLDER / f"{name}.md").read_text("utf-8")

    assert page == verb_pages.render(name, page), HOW_TO
    assert page.startswith(f"# `{name}`\n")
    for block in ("help", "reference"):
        assert page.count(f"<!-- made by tools.verb_pages: {block} -->") == 1
    for status in ExitStatus:
        assert f"| {status.value} | {status.meaning} |" in page


def test_index_is_true() -> None:
    assert verb_pages.INDEX.read_text("utf-8") == verb_pages.render_index(), HOW_TO
    assert {path.stem for path in verb_pages.FOLDER.glob("*.md")} == {*COMMANDS, "README"}


@pytest.mark.parametrize("name", verb.NAMES)
def test_every_verb_has_a_command_and_a_schema(name: str) -> None:
    assert name in COMMANDS
    assert verb.find(name)
    assert (verb_pages.SCHEMAS / f"{name}.json").exists()


def test_verbs_are_listed_in_order() -> None:
    assert list(verb.NAMES) == sorted(set(verb.NAMES))


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_schema_describes_every_field(path: Any) -> None:
    schema = json.loads(path.read_text("utf-8"))

    Draft202012Validator.check_schema(schema)
    assert path.stem in schema["title"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    fields = list(verb_pages._fields(schema, schema, ""))
    assert fields
    assert [field for field, _, meaning in fields if not meaning] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_with_options_that_there_are(name: str) -> None:
    for command in inner_commands(commands.commands[name]):
        lines = [line.strip() for line in (command.help or "").splitlines()]
        examples = [line for line in lines if re.match(r"([A-Z_]+=\S+ )*kong-cloudtrail ", line)]
        assert examples, f"{name} has no example"
        for example in examples:
            words = shlex.split(example.partition("kong-cloudtrail ")[2].partition(" > ")[0].partition(" | ")[0])
            assert words[0] == name
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, example
