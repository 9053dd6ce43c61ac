"""The demo's page in a real browser, used by the keyboard alone, and the README's picture: `make demo-test`.

The name keeps it out of `make test`, which must do without a browser.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from sandbox.machinery.certificates import Certificates
from sandbox.machinery.http_server import HttpServer, Request, Response
from tests.conftest import Site
from tests.demo.browser import browser
from tests.helpers import REPOSITORY, entry
from tests.live_demo import SECRETS, Visitor, live_demo

__all__ = ["browser"]

SIXTY_COLUMNS, TWO_HUNDRED_COLUMNS = 480, 1600  # CSS pixels


@pytest.fixture
def visitor(
    site: Site, certificates: Certificates, bare_environment: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Visitor]:
    now = int(site.kong.now())
    site.kong.add_entries(entry(number, request_timestamp=now - 60 * number) for number in range(1, 31))
    with live_demo(site, certificates, monkeypatch) as visitor:
        visitor.demo.open()
        yield visitor


@pytest.fixture
def page(browser: Browser, visitor: Visitor) -> Iterator[Page]:
    """The page, as it was opened; the test fails if its script does."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(visitor.url)
    expect(page.locator("#verdict")).to_contain_text("entries at Kong")
    yield page
    context.close()
    assert errors == []


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the button or field of this name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "[document.activeElement.labels?.[0]?.textContent, document.activeElement.textContent].filter(Boolean)"
        )
        if name in focused:
            return
    raise AssertionError(f"Tab does not lead to {name!r}")


def press(page: Page, name: str) -> None:
    """Press a button by the keyboard."""
    page.evaluate("document.activeElement.blur()")
    tab_to(page, name)
    page.keyboard.press("Enter")


def test_entries_are_recorded_delivered_and_found(page: Page, visitor: Visitor) -> None:
    verdict = page.locator("#verdict")
    expect(verdict).to_have_text("0 of 30 entries at Kong are in CloudTrail Lake, each once. 30 wait for the next run.")

    press(page, "Run now")
    expect(verdict).to_have_text("All 30 entries at Kong are in CloudTrail Lake, each once.")
    expect(page.locator("#happenings")).to_contain_text("The run ended: 30 fetched, 30 delivered")
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "Calls")
    page.keyboard.type("2")  # the focus by Tab has selected what was there
    page.keyboard.press("Enter")
    expect(verdict).to_contain_text("2 wait for the next run")
    rows = page.locator("#entries tr")
    expect(rows).to_have_count(15)
    expect(rows.first).to_contain_text("waits at Kong")

    newest = visitor.state()["entries"][0]["id"]
    press(page, newest)
    expect(page.locator("#find-id")).to_have_value(newest)
    expect(page.locator("#found")).to_contain_text("In CloudTrail Lake: no")
    press(page, "Run now")
    expect(page.locator("#found")).to_contain_text("In CloudTrail Lake: yes")
    expect(page.locator("#found")).to_contain_text("Marked in the cache: yes")
    expect(rows.first).to_contain_text("delivered")
    expect(page.locator("#runs li").first).to_contain_text("2 delivered")


@pytest.mark.parametrize(("part", "name"), [("kong", "Kong"), ("cloudtrail", "CloudTrail"), ("cache", "the cache")])
def test_a_part_is_broken_and_mended(page: Page, visitor: Visitor, part: str, name: str) -> None:
    press(page, f"Break {name}")
    expect(page.locator(f'[data-part="{part}"]')).to_contain_text("▲ broken")
    press(page, "Run now")
    expect(page.locator('[data-part="collector"]')).to_contain_text("▲ failed")
    expect(page.locator("#runs .error")).to_be_visible()
    press(page, f"Mend {name}")
    expect(page.locator(f'[data-part="{part}"]')).to_contain_text("✓ works")
    press(page, "Run now")
    expect(page.locator("#verdict")).to_contain_text("All 30 entries")


def test_the_next_entry_is_refused(page: Page) -> None:
    press(page, "Refuse the next entry")
    expect(page.locator("#refusals")).to_have_text("1")
    press(page, "Run now")
    expect(page.locator('[data-part="quarantine"]')).to_contain_text("● not empty")
    expect(page.locator("#verdict")).to_have_text(
        "29 of 30 entries at Kong are in CloudTrail Lake, each once. 1 is in quarantine."
    )


def test_news_leave_focus_and_open_reports_alone(page: Page, visitor: Visitor) -> None:
    press(page, "Run now")
    expect(page.locator("#runs li")).to_have_count(1)
    page.locator("#runs summary").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#runs dl").first).to_contain_text("fetched")

    visitor.press("calls", calls=20)
    visitor.run()

    expect(page.locator("#runs li")).to_have_count(2)
    expect(page.locator("#runs li").nth(1).locator("dl")).to_be_visible()
    assert page.evaluate("document.activeElement === document.querySelectorAll('#runs summary')[1]")


def test_what_kong_recorded_is_shown_as_text(page: Page, visitor: Visitor) -> None:
    markup = "<img src=x onerror=document.title='hit'>"
    row = entry(99, path=f"/{markup}", rbac_user_name=markup, request_timestamp=int(visitor.site.kong.now()))
    visitor.site.kong.add_entries([row])

    expect(page.locator("#entries tr").first).to_contain_text(f"POST /{markup}")
    assert page.locator("#entries img").count() == 0
    assert page.title() == "Kong's audit log, delivered live"


def test_nothing_secret_is_on_the_page(page: Page, visitor: Visitor) -> None:
    visitor.press("calls", calls=2)
    press(page, "Run now")
    expect(page.locator("#verdict")).to_contain_text("All 32 entries")
    press(page, visitor.state()["entries"][0]["id"])
    expect(page.locator("#found")).to_contain_text("Marked in the cache: yes")
    content = page.content()

    for secret in SECRETS:
        assert secret not in content


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [SIXTY_COLUMNS, TWO_HUNDRED_COLUMNS])
def test_it_fits_narrow_and_wide_windows(page: Page, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("h1", "#verdict", "#entries tr", "#run", "#refuse", ".toggle"):
        box = page.locator(selector).first.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    is_dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 100")
    assert is_dark == (scheme == "dark")


def test_it_says_when_the_demo_has_ended(page: Page, visitor: Visitor) -> None:
    expect(page.locator("#trouble")).to_be_hidden()
    page.route("**/api/state", lambda route: route.abort())  # as when nobody listens any more
    expect(page.get_by_role("alert")).to_contain_text("The demo does not answer; it may have ended.")
    page.unroute("**/api/state")
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_page_of_another_site_presses_nothing(browser: Browser, visitor: Visitor) -> None:
    script = f"""
        const tries = [];
        const bodies = {{calls: '{{"calls": 3}}', break: '{{"part": "kong"}}', refuse: "{{}}"}};
        for (const [path, body] of Object.entries(bodies)) {{
            tries.push(fetch("{visitor.url}api/" + path, {{method: "POST", mode: "no-cors", body}}));
        }}
        const form = document.forms[0];
        Promise.allSettled([...tries, fetch("{visitor.url}api/state").then((answer) => answer.text())])
            .then((results) => {{ document.title = results.map((one) => one.status).join(" "); form.submit(); }});
    """
    html = (
        f'<!doctype html><form method="post" target="sink" enctype="text/plain" action="{visitor.url}api/run">'
        f'<input name="a" value="b"></form><iframe name="sink"></iframe><script>{script}</script>'
    )

    def answer(_request: Request) -> Response:
        return Response(200, html.encode(), {"Content-Type": "text/html"})

    stranger = HttpServer(answer)
    stranger.start()
    try:
        page = browser.new_page()
        with page.expect_response("**/api/run") as response:
            page.goto(stranger.origin)
        title = page.title()
        page.close()
    finally:
        stranger.stop()

    assert response.value.status == 403
    assert title.split()[-1] == "rejected"  # it cannot read the state either
    state = visitor.state()
    assert (state["counts"]["kong"], state["refusals_left"], state["running_since"]) == (30, 0, None)
    assert not any(part["broken"] for part in state["parts"].values())


def test_before_the_demo_has_checked_itself_the_buttons_say_so(
    browser: Browser, site: Site, certificates: Certificates, bare_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_demo(site, certificates, monkeypatch) as visitor:
        page = browser.new_page()
        page.goto(visitor.url)
        button = page.get_by_role("button", name="Run now")
        expect(button).to_have_attribute("aria-disabled", "true")
        press(page, "Run now")
        expect(page.locator("#answer")).to_contain_text("Wait until it is done")
        visitor.demo.open()
        expect(button).to_have_attribute("aria-disabled", "false")
        page.close()


LABELS_THAT_TOUCH_SOMETHING = """
    () => {
        const boxes = (selector) => [...document.querySelectorAll(selector)].map((one) => one.getBBox());
        const labels = [...document.querySelectorAll("text")].map((one) => [one.textContent, one.getBBox()]);
        const apart = (a, b) =>
            a.x >= b.x + b.width || b.x >= a.x + a.width || a.y >= b.y + b.height || b.y >= a.y + a.height;
        // The boxes of two lines of a text touch, though their letters do not.
        const shrunk = (box) => ({ x: box.x, y: box.y + 2, width: box.width, height: box.height - 4 });
        const within = (a, b) =>
            a.x >= b.x && a.y >= b.y && a.x + a.width <= b.x + b.width && a.y + a.height <= b.y + b.height;
        const points = [...document.querySelectorAll(".line")].flatMap((line) =>
            Array.from({ length: line.getTotalLength() / 2 }, (_, step) => line.getPointAtLength(2 * step)));
        return labels.filter(([_, label], index) =>
            labels.slice(index + 1).some(([_, other]) => !apart(label, shrunk(other))) ||
            boxes(".box, .ours, .disc").some((box) => !apart(label, box) && !within(label, box)) ||
            points.some((point) => !apart(label, { x: point.x, y: point.y, width: 0.1, height: 0.1 }))
        ).map(([text]) => text);
    }
"""


def test_the_labels_of_the_readmes_picture_cover_nothing(browser: Browser) -> None:
    picture = REPOSITORY / "docs" / "images" / "overview.svg"
    page = browser.new_page()
    page.goto(picture.as_uri())

    steps = page.locator(".digit").all_text_contents()
    touching = page.evaluate(LABELS_THAT_TOUCH_SOMETHING)
    page.close()

    assert steps == [str(number) for number in range(1, 9)]
    assert touching == []
