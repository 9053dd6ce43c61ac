"""Writes docs/verbs: a page for each command, from its help, its JSON schema and the exit statuses.

Run it with ``python -m tools.verb_pages``. What stands between two markers is made; the rest is written by hand,
and stays. A test compares the pages with the commands, so they cannot fall behind.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click
from kong_cloudtrail.operations import verb

from cli.exit_status import ExitStatus
from cli.main import commands
from cli.program import NAME
from sandbox.machinery.processes import PROJECT_DIRECTORY

FOLDER = PROJECT_DIRECTORY / "docs" / "verbs"
SCHEMAS = PROJECT_DIRECTORY / "docs" / "schemas"
INDEX = FOLDER / "README.md"

_BLOCK = re.compile(
    r"(?P<begin><!-- made by tools\.verb_pages: (?P<name>[a-z]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)
_OF_A_CONSTANT = "Always this, for the fields that follow."
_EXAMPLE = re.compile(r"Examples?:")
_NEW_PAGE = """# `{name}`

<!-- made by tools.verb_pages: help -->
<!-- end -->

<!-- made by tools.verb_pages: reference -->
<!-- end -->
"""


def command_names() -> list[str]:
    """Return the names of all commands."""
    return sorted(commands.commands)


def render_index() -> str:
    """Return the index."""
    lines = [
        "# Commands",
        "",
        "<!-- Made by tools.verb_pages, as are the tables and the help of each page. -->",
        "",
        "A page for each command of `kong-cloudtrail`. Common to all: [the command line](../command-line.md).",
        "",
        "| Command | What it does | In the function | JSON |",
        "| --- | --- | --- | --- |",
    ]
    for name in command_names():
        command = commands.commands[name]
        in_function = f'`{{"verb": "{name}"}}`' if name in verb.NAMES else ""
        schema = f"[schema](../schemas/{name}.json)" if (SCHEMAS / f"{name}.json").exists() else ""
        lines.append(f"| [`{name}`]({name}.md) | {_short(command)} | {in_function} | {schema} |")
    return "\n".join(lines) + "\n"


def render(name: str, page: str | None) -> str:
    """Return the page of a command, with its made parts anew. ``None`` stands for a page that is not there yet."""
    made = {"help": _help_of(name), "reference": _reference_of(name)}
    text = _NEW_PAGE.format(name=name) if page is None else page
    return _BLOCK.sub(lambda block: f"{block['begin']}\n{made[block['name']]}\n{block['end']}", text)


def _help_of(name: str) -> str:
    command = commands.commands[name]
    return "\n".join(_sections(name, command, _help_lines))


def _reference_of(name: str) -> str:
    command = commands.commands[name]
    lines = ["## Options", "", *_sections(name, command, _option_lines)]
    lines += ["## Exit status", "", "| Status | Meaning |", "| --- | --- |"]
    lines += [f"| {status.value} | {status.meaning} |" for status in ExitStatus]
    path = SCHEMAS / f"{name}.json"
    if path.exists():
        schema = json.loads(path.read_text("utf-8"))
        description = _inline(schema.get("description") or f"{schema['title']}.")
        lines += ["", "## JSON", "", f"{description} [The schema](../schemas/{name}.json).", ""]
        lines += ["| Field | Type | Meaning |", "| --- | --- | --- |"]
        lines += [
            f"| `{field}` | {kind} | {_inline(meaning)} |" for field, kind, meaning in _fields(schema, schema, "")
        ]
    if name in verb.NAMES:
        lines += ["", "## In the function", "", f'The deployed function takes it as `{{"verb": "{name}", …}}`.']
    return "\n".join(lines) + "\n"


def _sections(path: str, command: click.Command, lines_of: Any) -> Iterator[str]:
    """Return what is written of a command, and of each one within it, below a heading of its own."""
    yield from lines_of(path, command)
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from (f"### `{path} {name}`", "", *lines_of(f"{path} {name}", inner))


def _help_lines(path: str, command: click.Command) -> Iterator[str]:
    yield from (_short(command), "", "```text", f"{NAME} {path} {_usage(command)}", "```", "")
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    for paragraph in paragraphs[1:]:  # the first one is what it does, once more
        if not paragraph.startswith("\b\n"):
            yield from (_inline(" ".join(paragraph.split())), "")
            continue
        first, _, rest = paragraph.removeprefix("\b\n").partition("\n")
        if _EXAMPLE.fullmatch(first):
            yield from ("```sh", inspect.cleandoc(f"\n{rest}"), "```", "")
        else:
            yield from ("```text", first, *([rest] if rest else []), "```", "")


def _usage(command: click.Command) -> str:
    return " ".join(command.collect_usage_pieces(click.Context(command)))


def _option_lines(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command)
    records = (parameter.get_help_record(context) for parameter in command.params)
    rows = [record for record in records if record is not None]
    if not rows:
        return
    yield from ("| Option | |", "| --- | --- |")
    for names, meaning in rows:
        yield f"| `{_inline(names)}` | {_inline(' '.join(meaning.split()))} |"
    yield ""


def _short(command: click.Command) -> str:
    return command.get_short_help_str(limit=1000)


def _inline(text: str) -> str:
    """Return text for a cell of a table, or a paragraph."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _fields(schema: Mapping[str, Any], node: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """Return the fields of a schema: path, type and meaning of each. Those of its variants follow its own."""
    for name, raw in node.get("properties", {}).items():
        value = _resolved(schema, raw)
        inner, step = value, f"{path}{name}"
        yield step, _kind(schema, value), value.get("description", _OF_A_CONSTANT if "const" in value else "")
        while "items" in inner:
            inner, step = _resolved(schema, inner["items"]), f"{step}[]"
        yield from _fields(schema, inner, f"{step}.")
    for variant in (*node.get("allOf", ()), *node.get("oneOf", ()), *node.get("anyOf", ())):
        yield from _fields(schema, _resolved(schema, variant), path)
    if "then" in node:
        yield from _fields(schema, _resolved(schema, node["then"]), path)


def _resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a node with what it refers to. Its own description wins."""
    reference = node.get("$ref")
    if reference is None:
        return node
    target: Any = schema
    for step in reference.removeprefix("#/").split("/"):
        target = target[step]
    return {**_resolved(schema, target), **{key: value for key, value in node.items() if key != "$ref"}}


def _kind(schema: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    if "const" in node:
        return f"`{json.dumps(node['const'])}`"
    if "enum" in node:
        return ", ".join(f"`{json.dumps(value)}`" for value in node["enum"])
    for word in ("oneOf", "anyOf"):
        if word in node:
            return " or ".join(dict.fromkeys(_kind(schema, _resolved(schema, each)) for each in node[word]))
    kinds = node.get("type", "any")
    names = [kinds] if isinstance(kinds, str) else kinds
    if node.get("format") in ("date-time", "date"):
        names = [
            {"date-time": "moment", "date": "date"}[node["format"]] if each == "string" else each for each in names
        ]
    return " or ".join(names)


def main() -> int:
    """Write the pages and their index."""
    FOLDER.mkdir(exist_ok=True)
    for name in command_names():
        path = FOLDER / f"{name}.md"
        path.write_text(render(name, path.read_text("utf-8") if path.exists() else None), encoding="utf-8")
    INDEX.write_text(render_index(), encoding="utf-8")
    print(f"Wrote {len(command_names())} pages and their index in {FOLDER.relative_to(PROJECT_DIRECTORY)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
