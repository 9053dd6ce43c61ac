"""Writes the tables of variables in docs/settings.md from `kong_cloudtrail.variables`.

Run it with ``python -m tools.settings_reference``.

A test compares the page with the table, so it cannot fall behind.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

from kong_cloudtrail import variables
from kong_cloudtrail.variables import Variable

from sandbox.machinery.processes import PROJECT_DIRECTORY

PAGE = PROJECT_DIRECTORY / "docs" / "settings.md"

_BLOCK = re.compile(
    r"(?<=<!-- made by tools\.settings_reference: )(?P<name>[a-z]+) -->\n.*?(?=<!-- end -->)", re.DOTALL
)


def render(page: str) -> str:
    """Return the page with its tables made anew, each between its two markers."""
    tables = {
        "settings": _table("Setting", (it for it in variables.TABLE if it.setting), str.lower),
        "variables": _table("Variable", (it for it in variables.TABLE if not it.setting), str),
    }
    return _BLOCK.sub(lambda block: f"{block['name']} -->\n\n{tables[block['name']]}\n", page)


def _table(first: str, rows: Iterable[Variable[Any]], name: Any) -> str:
    lines = [f"| {first} | Meaning | Values | Default |", "| --- | --- | --- | --- |"]
    for row in rows:
        default = row.default_note or f"`{row.default}`"
        lines.append(f"| `{name(row.name)}` | {row.meaning} | {row.values} | {default} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page."""
    PAGE.write_text(render(PAGE.read_text("utf-8")), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(PROJECT_DIRECTORY)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
