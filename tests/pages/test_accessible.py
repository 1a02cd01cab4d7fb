"""Each page for readers who see little, no colours, or nothing: axe-core finds no violation, in any mode or width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.pages.conftest import SignIn, StartSession
from tests.pages.desk import FIRING
from tests.pages.site import EMPTY, LIVE, PAGES, SIGNED_IN
from tests.support.examples import EXAMPLES
from tests.support.local_sluice import LocalSluice, local_sluice

WINDOWS: list[tuple[int, Literal["light", "dark"]]] = [
    (360, "light"),
    (360, "dark"),
    (1600, "light"),
    (1600, "dark"),
]
"""The widths of windows in pixels, with the mode of each."""

LOOKED_AT = WINDOWS if EXAMPLES == "full" else [WINDOWS[0], WINDOWS[-1]]
"""Each width and each mode: those that are left out have what differs by the one or by the other."""

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
    """Return what axe finds in each window. The modes differ in colours only."""
    found: list[str] = []
    if page.locator("body:not([data-types=''])").count():
        page.wait_for_selector(LIVE)
        page.locator("#pause").evaluate("button => button.click()")  # what is removed next must not come back
    page.locator(ALIKE).evaluate_all("rows => rows.forEach(row => row.remove())")
    for width, mode in LOOKED_AT:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=mode)
        only = None if mode == "light" or (width, "light") not in LOOKED_AT else "color-contrast"
        found += [f"{width} {mode} {each}" for each in violations(page, only)]
    return found


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window, on a phone."""
    page.set_viewport_size({"width": 360, "height": 900})
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server that has received nothing."""
    with local_sluice(tmp_path_factory.mktemp("empty") / "sluice.db", has_jobs=True) as server:
        yield server


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(start_session: StartSession, name: str) -> None:
    """Readers with a screen reader, or with weak eyes, could not use the page."""
    page = start_session(reduced_motion="reduce").open(PAGES[name])
    assert violations_everywhere(page) == []
    assert overflow(page) <= 0, "the page scrolls sideways on a phone"


@pytest.mark.parametrize("name", SIGNED_IN)
def test_axe_finds_nothing_for_operators(sign_in: SignIn, name: str) -> None:
    """Buttons, keys, alerts and webhooks are on the pages of those who have signed in, and so would not be checked."""
    page = sign_in(reduced_motion="reduce").open(SIGNED_IN[name])
    assert violations_everywhere(page) == []
    assert overflow(page) <= 0, "the page scrolls sideways on a phone"


@pytest.mark.parametrize("name", EMPTY)
def test_axe_finds_nothing_on_empty_pages(start_session: StartSession, empty: LocalSluice, name: str) -> None:
    """The first page that a user sees would be one that no test has looked at."""
    page = start_session(empty.url, reduced_motion="reduce").open(EMPTY[name])
    assert violations_everywhere(page) == []
    assert overflow(page) <= 0, "the page scrolls sideways on a phone"


def test_alerts_and_their_webhooks_are_shown(sign_in: SignIn) -> None:
    """An alert that fires would not be seen, or not that its message does not arrive; or its rule would be markup."""
    session = sign_in()
    page = session.open("/")
    expect(page.get_by_role("heading", name="Alerts")).to_be_visible()
    expect(page.locator(f"[data-key='alert {FIRING}']")).to_contain_text("Fires since")
    page = session.open("/settings")
    row = page.locator("main tr[data-key]", has_text=FIRING)
    expect(row.first).to_contain_text("firing")
    expect(row.last).to_contain_text("the name hooks.example.com is not known")
    for rule, text in (
        ("a quiet one", "quiet"),
        ("of a worker that never reported", "no event of a worker celery@never is known"),
        ("of a connection that is not there", "there is no connection other"),
    ):
        expect(page.locator("main tr[data-key]", has_text=rule)).to_contain_text(text)


def test_axe_finds_nothing_in_menus_and_dialogs(sign_in: SignIn) -> None:
    """What is closed at first is not checked by a look at the page."""
    page = sign_in(reduced_motion="reduce").open("/jobs")
    for menu in page.locator("details").all():
        menu.evaluate("each => { each.open = true; }")
    page.locator("[data-select]").first.evaluate("box => box.click()")
    assert violations_everywhere(page) == []
    page = sign_in(reduced_motion="reduce").open("/jobs")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    assert violations_everywhere(page) == []


def test_axe_finds_what_is_planted(start_session: StartSession) -> None:
    """A check that finds nothing on any page may not have run."""
    page = start_session().open("/settings")
    page.evaluate("document.getElementById('main').append(document.createElement('button'))")
    assert any(each.startswith("button-name") for each in violations(page))
