"""The report for an auditor in a real browser: `make demo-test`.

The sample of the docs is looked at as it is, and once more with texts in it that try to be more than text.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from cli.report import render
from tests.demo.browser import browser
from tests.helpers import REPOSITORY
from tests.unit.test_report_page import HOSTILE, strings_in

__all__ = ["browser"]

SAMPLE = REPOSITORY / "docs" / "evidence-sample.html"
AXE = REPOSITORY / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")
LEAST_FONT_PIXELS = 12


def hostile() -> dict[str, Any]:
    """Return the sample's document with hostile text wherever there is text from Kong or from somebody's account."""
    document: dict[str, Any] = json.loads(SAMPLE.with_suffix(".json").read_text("utf-8"))
    changed = copy.deepcopy(document)
    for path in strings_in(document):
        name = next(part for part in reversed(path) if isinstance(part, str))
        if name in ("id", "reason", "text", "alarm", "place", "source", "name", "code_versions"):
            target: Any = changed
            for step in path[:-1]:
                target = target[step]
            target[path[-1]] = HOSTILE * (4 if name == "id" else 1)
    return changed


@pytest.fixture(params=["sample", "hostile"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "sample":
        return SAMPLE
    path = tmp_path / "hostile.html"
    path.write_text(render(hostile(), "c" * 64, "evidence.json"), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    """The page, as it was opened. The test fails if it says anything to the console, or asks for another file."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.extend({request.url} - {file.as_uri()}))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert said == []


def test_the_policy_of_the_page_lets_nothing_in(browser: Browser, file: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(file.as_uri())
    assert said == []

    with pytest.raises(Exception, match=r"Content Security Policy|script"):
        page.add_script_tag(content="document.title = 'hit'")
    assert "hit" not in page.title()
    context.close()


def test_needs_no_script(browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(SAMPLE.as_uri())

    assert page.locator("h1").is_visible()
    assert page.locator(".plot svg").first.is_visible()
    assert page.locator("#hashes").is_visible()
    context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_fits_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate(
        """(width) => [...document.querySelectorAll("body *")].filter((one) =>
            !one.closest(".scroll, .unseen") && one.getBoundingClientRect().right > width + 0.5
        ).map((one) => one.outerHTML.slice(0, 80))""",
        width,
    )
    assert beyond == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_answer_is_on_the_first_screen(browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto(SAMPLE.as_uri())

    for text in (".verdict", ".figure"):
        box = page.locator(text).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 844
    page.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_is_accessible(page: Page, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.add_script_tag(path=AXE)

    result = page.evaluate("axe.run(document, {resultTypes: ['violations', 'passes']})")

    found = [(each["id"], [node["html"][:120] for node in each["nodes"]][:3]) for each in result["violations"]]
    assert found == []
    assert len(result["passes"]) > 20
    is_dark = page.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/)[0] < 100")
    assert is_dark == (scheme == "dark")


def test_letters_are_large_enough(page: Page) -> None:
    smallest = page.evaluate(
        """Math.min(...[...document.querySelectorAll("body *")].filter((one) => one.textContent.trim())
            .map((one) => parseFloat(getComputedStyle(one).fontSize)))"""
    )

    assert smallest >= LEAST_FONT_PIXELS


def test_is_used_by_the_keyboard(page: Page) -> None:
    regions = page.locator('[tabindex="0"]').count()
    page.keyboard.press("Tab")

    assert regions > 0
    assert page.evaluate("document.activeElement.getAttribute('role')") == "region"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_prints_everything_on_pages(page: Page, tmp_path: Path) -> None:
    page.emulate_media(media="print", color_scheme="dark")

    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    cut_off = page.evaluate(
        """[...document.querySelectorAll(".scroll")].filter((one) =>
            one.scrollHeight > one.clientHeight + 1 && getComputedStyle(one).overflowY !== "visible").length"""
    )
    assert cut_off == 0
    file = tmp_path / "report.pdf"
    page.pdf(path=file, format="A4")
    assert file.read_bytes().count(b"/Type /Page\n") >= 2 or file.stat().st_size > 20_000


def test_the_plot_has_a_bar_for_each_number_of_its_table(browser: Browser) -> None:
    page = browser.new_page()
    page.goto(SAMPLE.as_uri())
    plot = page.locator(".plot").first
    table = page.locator(".plot + .scroll table").first

    numbers = table.evaluate(
        """(table) => [...table.tBodies[0].rows].flatMap((row) => [...row.cells].slice(1, -1))
            .filter((cell) => cell.textContent !== "0").length"""
    )

    assert plot.locator("svg rect").count() == numbers > 0
    box = plot.locator("svg").bounding_box()
    assert box is not None
    assert box["height"] > 100
    page.close()
