"""The browser of the tests of pages, driven by Playwright, and what a page reports of its faults.

It is Debian's Chromium without its windows: opening a page costs a quarter of the CPU time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response, sync_playwright

from tests.support.servers import binary
from tests.support.waiting import TIMEOUT_FACTOR

_OPTIONS = [
    "--no-sandbox",  # which needs a kernel's support that containers withhold
    "--disable-dev-shm-usage",
]

_FAILED = "Failed to load resource"
TIMEOUT = 15_000 * TIMEOUT_FACTOR
"""Milliseconds that a page may take on a machine that is busy."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser until the end of the block; fail the test with advice if it is not installed."""
    path = binary("chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page of a browser, and what it has reported: errors of scripts, and violations of its security policy.

    That the page itself is an error, such as one of status 404, is no fault.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self._faults: list[tuple[str, str]] = []
        self._errors: set[str] = set()
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self._faults.append((f"uncaught: {error}", "")))
        page.on("response", self._note_response)

    def faults(self) -> list[str]:
        """Return what was reported since the last call."""
        faults, self._faults = self._faults, []
        return [f"{text} ({url})" for text, url in faults if not (url in self._errors and _FAILED in text)]

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._faults.append((message.text, message.location.get("url", "")))

    def _note_response(self, response: Response) -> None:
        if response.request.is_navigation_request() and not response.ok:
            self._errors.add(response.url)


class Session:
    """One profile of the browser, with a cookie jar and storage of its own: tabs share it."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.tabs: list[Tab] = []

    def open(self, path: str = "/") -> Page:
        """Open a page of the server in a new tab."""
        tab = Tab(self.context.new_page())
        self.tabs.append(tab)
        tab.page.goto(f"{self.url}{path}")
        return tab.page

    def faults(self) -> list[str]:
        """Return what the pages of all tabs have reported since the last call."""
        return [fault for tab in self.tabs for fault in tab.faults()]


@contextmanager
def session(browser: Browser, url: str, **options: Any) -> Iterator[Session]:
    """Open a profile for the pages of the server at `url`, with options of Playwright's contexts."""
    context = browser.new_context(**{**DESKTOP, **options})
    context.set_default_timeout(TIMEOUT)
    try:
        yield Session(context, url)
    finally:
        context.close()


DESKTOP: Mapping[str, Any] = {
    "viewport": {"width": 1600, "height": 1000},
    "locale": "en-GB",
    "timezone_id": "Europe/Paris",
}
"""A wide window, in a zone whose time is not UTC."""
