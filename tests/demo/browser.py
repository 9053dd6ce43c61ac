"""The Chromium of this machine, for the tests that look at pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        pytest.fail(
            "There is no Chromium on this machine, so pages cannot be tried in one. Install it (Debian: "
            "apt-get install chromium; Ubuntu: snap install chromium; Fedora: dnf install chromium) and run "
            f"`make demo-test` again. Names looked for on the PATH: {', '.join(CHROMIUM_NAMES)}."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()
