"""Each page for readers who see little, no colours, or nothing: axe-core finds no violation, in any mode or width."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from tests.pages.conftest import StartSession
from tests.pages.site import LIVE, PAGES

WIDTHS = (360, 1600)
MODES = ("light", "dark")
ALIKE = "tr[data-key]:nth-child(n + 16)"
"""Rows that are like those before them."""


def violations(page: Page, only: str | None = None) -> list[str]:
    """Return what axe finds on the page, each with the elements; `only` is one rule."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if only is not None:
        options["runOnly"] = [only]
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate("options => axe.run(options).then(results => results.violations)", options)
    return [
        f"{each['id']}: {node['html'][:200]} {node.get('failureSummary')}" for each in found for node in each["nodes"]
    ]


def violations_everywhere(page: Page) -> list[str]:
    """Return what axe finds in both modes, at both widths. The modes differ in colours only."""
    found: list[str] = []
    if page.locator("body:not([data-types=''])").count():
        page.wait_for_selector(LIVE)
        page.locator("#pause").evaluate("button => button.click()")  # what is removed next must not come back
    page.locator(ALIKE).evaluate_all("rows => rows.forEach(row => row.remove())")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for mode in MODES:
            page.emulate_media(color_scheme=mode)
            only = None if mode == "light" else "color-contrast"
            found += [f"{width} {mode} {each}" for each in violations(page, only)]
    return found


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(start_session: StartSession, name: str) -> None:
    """Readers with a screen reader, or with weak eyes, could not use the page."""
    page = start_session(reduced_motion="reduce").open(PAGES[name])
    assert violations_everywhere(page) == []
    page.set_viewport_size({"width": 360, "height": 900})
    assert overflow(page) <= 0, "the page scrolls sideways on a phone"


def test_axe_finds_nothing_in_menus_and_dialogs(start_session: StartSession) -> None:
    """What is closed at first is not checked by a look at the page."""
    page = start_session(reduced_motion="reduce").open("/jobs")
    for menu in page.locator("details").all():
        menu.evaluate("each => { each.open = true; }")
    page.locator("[data-select]").first.evaluate("box => box.click()")
    assert violations_everywhere(page) == []
    page = start_session(reduced_motion="reduce").open("/jobs")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    assert violations_everywhere(page) == []


def test_axe_finds_what_is_planted(start_session: StartSession) -> None:
    """A check that finds nothing on any page may not have run."""
    page = start_session().open("/settings")
    page.evaluate("document.getElementById('main').append(document.createElement('button'))")
    assert any(each.startswith("button-name") for each in violations(page))
