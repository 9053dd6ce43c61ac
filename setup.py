"""The README as a package index shows it: there, relative links would lead nowhere.

The address of the repository is `project.urls.Repository` in pyproject.toml. While there is none, links become plain
text and pictures are left out, so that no link is broken.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

_ROOT = Path(__file__).parent
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?://)(?P<target>[^)\s]+)\)")


def readme_for_index(readme: str, repository: str | None) -> str:
    """Return the README with absolute links into the repository, or without links if its address is not known."""

    def absolute(link: re.Match[str]) -> str:
        picture, text, target = link["picture"], link["text"], link["target"]
        if repository is None:
            return "" if picture else text
        page = f"README.md{target}" if target.startswith("#") else target
        return f"{picture}[{text}]({repository.rstrip('/')}/{'raw' if picture else 'blob'}/HEAD/{page})"

    return _LINK.sub(absolute, readme)


if __name__ == "__main__":
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    setup(
        long_description=readme_for_index(
            (_ROOT / "README.md").read_text("utf-8"), project.get("urls", {}).get("Repository")
        ),
        long_description_content_type="text/markdown",
    )
