"""The README and the other pages: links that lead somewhere, here and on a package index; files that exist."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY

README = REPOSITORY / "README.md"
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "*/README.md")
    for path in REPOSITORY.glob(pattern)
    if "node_modules" not in path.parts
)
FOLDERS = ("lambda_src", "stacks", "cli", "sandbox", "torture", "benchmarks", "tools", "tests", "examples")
MODULES = [str(path.relative_to(REPOSITORY)) for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")]
ForIndex = Callable[[str, str | None], str]
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
REPOSITORY_URL = "https://git.example.com/platform/kong-cloudtrail"


@pytest.fixture(scope="module")
def readme_for_index() -> ForIndex:
    """The function of setup.py, which does nothing else when it is imported."""
    specification = importlib.util.spec_from_file_location("project_setup", REPOSITORY / "setup.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    function: ForIndex = module.readme_for_index
    return function


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    # A name in backticks, of a file in the repository; the last parts of its path are enough.
    names = re.findall(r"`([\w/.-]+\.py)`", page.read_text("utf-8"))

    assert not [name for name in names if not any(f"/{path}".endswith(f"/{name}") for path in MODULES)]


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 150


def test_the_choice_shows_the_dollars_of_the_cost_page() -> None:
    page = (REPOSITORY / "docs" / "cost.md").read_text("utf-8")

    def sums(row: str) -> str:
        [cells] = re.findall(rf"^\| \*\*{row}\*\* \|(.*)\|$", page, re.MULTILINE)
        return ", ".join(str(round(float(cell.strip(" *")))) for cell in cells.split("|"))

    [nat] = re.findall(r"^\| NAT gateway, if there was none \| ([\d.]+)", page, re.MULTILINE)
    archive, lake = sums("Sum of an archive alone"), sums("Sum with two nodes")
    sentence = f"{archive} | {sums('Sum of CloudWatch Logs alone')} | {lake}, and {float(nat):.0f} for the NAT gateway"
    assert f"(docs/cost.md) | {sentence}" in README.read_text("utf-8")


def test_with_an_address_every_link_of_the_index_is_absolute(
    readme_for_index: ForIndex,
) -> None:
    shown = readme_for_index(README.read_text("utf-8"), f"{REPOSITORY_URL}/")

    targets = LINK.findall(shown)
    assert len(targets) == len(LINK.findall(README.read_text("utf-8"))) > 10
    assert all(target.startswith("https://") for target in targets)
    assert f"]({REPOSITORY_URL}/blob/HEAD/docs/settings.md)" in shown
    assert f"]({REPOSITORY_URL}/blob/HEAD/README.md#deploy)" in shown
    assert f"]({REPOSITORY_URL}/raw/HEAD/docs/images/overview.svg)" in shown


def test_without_an_address_the_index_shows_text_and_no_broken_link(
    readme_for_index: ForIndex,
) -> None:
    shown = readme_for_index("![A picture](a.svg)\n[one](docs/x.md#y), [two](https://example.com)", None)

    assert shown == "\none, [two](https://example.com)"


@pytest.mark.parametrize("repository", [None, REPOSITORY_URL])
def test_the_package_carries_the_readme_of_the_index(tmp_path: Path, repository: str | None) -> None:
    project = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    for folder in tomllib.loads(project)["tool"]["setuptools"]["package-dir"].values():
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "README.md"):
        shutil.copy(REPOSITORY / file, tmp_path)
    urls = "" if repository is None else f'[project.urls]\nRepository = "{repository}"\n'
    (tmp_path / "pyproject.toml").write_text(f"{project}\n{urls}", "utf-8")

    program = "import setuptools.build_meta as build; build.prepare_metadata_for_build_wheel('metadata')"
    (tmp_path / "metadata").mkdir()
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    [metadata] = (tmp_path / "metadata").glob("*.dist-info/METADATA")
    text = metadata.read_text("utf-8")

    assert "Description-Content-Type: text/markdown" in text
    assert "# Kong Gateway's audit trail in AWS\n" in text
    assert "](docs/" not in text
    assert ("/blob/HEAD/docs/settings.md)" in text) == (repository is not None)
