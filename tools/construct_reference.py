"""Writes docs/construct.md, the reference of the construct, from its docstrings.

Run it with ``python -m tools.construct_reference``.

A test compares the page with the code, so it cannot fall behind.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import stacks
from sandbox.machinery.processes import PROJECT_DIRECTORY
from stacks import KongCloudTrailIntegration

PAGE = PROJECT_DIRECTORY / "docs" / "construct.md"

_INTRODUCTION = """# The construct's properties

Made from the docstrings by `python -m tools.construct_reference`; a test keeps it true. A minimal use is in the
[README](../README.md), an app of one's own in [examples](../examples/README.md).
"""

_HEADING = re.compile(r"^(?P<title>[A-Z][a-z]+)\n-{3,}\n", re.MULTILINE)
_ITEM = re.compile(r"^(?P<names>\w[\w, ]*)(?: : (?P<type>[^\n]+))?\n(?P<text>(?:    .*\n?|\n)+)", re.MULTILINE)
_DEFAULT = re.compile(r"\s*Default: (?P<default>.+)\.$", re.DOTALL)


@dataclass(frozen=True)
class Item:
    """A property or attribute, as its docstring has it."""

    names: str
    type: str
    text: str

    def row(self, *, with_default: bool) -> str:
        """Return its row of a table."""
        text, default = self.text, ""
        if with_default and (match := _DEFAULT.search(self.text)):
            text, default = self.text[: match.start()], match["default"]
        names = ", ".join(f"`{name.strip()}`" for name in self.names.split(","))
        cells = [names, f"`{self.type.removesuffix(', optional')}`" if self.type else "", _markdown(text)]
        if with_default:
            cells.append(_markdown(default) if default else "required" if "optional" not in self.type else "")
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def render() -> str:
    """Return the page."""
    blocks = [
        _INTRODUCTION,
        *_section(KongCloudTrailIntegration, "Parameters", skip=("scope, construct_id",)),
        *_section(KongCloudTrailIntegration, "Attributes"),
        _methods(KongCloudTrailIntegration),
    ]
    for name in stacks.__all__:
        group = getattr(stacks, name)
        if inspect.isclass(group) and hasattr(group, "problems") and "Attributes" in _sections(group):
            blocks += _section(group, "Attributes", with_default=True)
    return "\n".join(blocks)


def _section(
    documented: type, section: str, *, with_default: bool | None = None, skip: tuple[str, ...] = ()
) -> Iterator[str]:
    summary = (inspect.getdoc(documented) or "").partition("\n")[0]
    properties = section == "Parameters" if with_default is None else with_default
    what = "" if with_default is not None else ": properties" if properties else ": attributes"
    yield f"## `{documented.__name__}`{what}\n"
    if with_default is not None or properties:
        yield f"{_markdown(summary)}\n"
    columns = ["Property", "Type", "Meaning", "Default"] if properties else ["Attribute", "Type", "What it is"]
    rows = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for match in _ITEM.finditer(_sections(documented)[section]):
        item = Item(match["names"], match["type"] or "", " ".join(match["text"].split()))
        if item.names not in skip:
            rows.append(item.row(with_default=properties))
    yield "\n".join(rows) + "\n"


def _methods(documented: type) -> str:
    rows = ["## `KongCloudTrailIntegration`: methods\n", "| Method | What it does |", "| --- | --- |"]
    for name, method in inspect.getmembers(documented, inspect.isfunction):
        if name.startswith(("grant_", "metric")):
            summary = (inspect.getdoc(method) or "").partition("\n\n")[0]
            parameters = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
            arguments = ", ".join(f"**{each}" if each == "properties" else each for each in parameters)
            rows.append(f"| `{name}({arguments})` | {_markdown(' '.join(summary.split()))} |")
    return "\n".join(rows) + "\n"


def _sections(documented: type) -> dict[str, str]:
    parts = _HEADING.split((inspect.getdoc(documented) or "") + "\n")
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _markdown(text: str) -> str:
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def main() -> int:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(PROJECT_DIRECTORY)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
