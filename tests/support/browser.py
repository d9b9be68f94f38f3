"""The machine's own Chromium for tests, with a screenshot when a test fails."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page, sync_playwright

#: Its names in Debian, Ubuntu and others.
NAMES = ("chromium", "chromium-browser", "google-chrome")
#: For root and without a display; no requests of the browser's own.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: How long a page may hang; no test measures by it.
PATIENCE_MS = 30_000


@contextmanager
def browser_page(pictures: Path, login: tuple[str, str] | None = None) -> Iterator[Page]:
    """A page of a new browser; when the block fails, its screenshot and HTML are kept in `pictures`."""
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        credentials = {"username": login[0], "password": login[1]} if login else None
        page = browser.new_page(
            viewport={"width": 1280, "height": 800},
            http_credentials=credentials,  # type: ignore[arg-type] # a TypedDict of the same shape
        )
        page.set_default_timeout(PATIENCE_MS)
        try:
            yield page
        except (AssertionError, Error):
            pictures.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=pictures / "failed.png", full_page=True)
            (pictures / "failed.html").write_text(page.content())
            raise
        finally:
            browser.close()
