"""Everything without a mouse."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.pages.conftest import SignIn, StartSession
from tests.pages.site import PAGES

# Marks what takes part in the order of Tab and is visible, and notes each element that has the focus.
PREPARE = """() => {
  const inputs = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
  const radios = new Set();
  const isTabbable = each => {
    if (!each.checkVisibility({visibilityProperty: true}) || each.disabled || each.tabIndex < 0) return false;
    if (each.type !== "radio") return true;
    return !radios.has(each.name) && radios.add(each.name);
  };
  window.expected = [...document.querySelectorAll(inputs)].filter(isTabbable);
}"""
VISITED = """() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const isRinged = style.outlineStyle !== "none" && style.outlineWidth !== "0px";
  const html = element.outerHTML.slice(0, 120);
  return {index: window.expected.indexOf(element), isRinged, html, isBody: element === document.body};
}"""


@pytest.mark.parametrize("name", PAGES)
def test_tab_comes_to_everything_and_shows_where_it_is(start_session: StartSession, name: str) -> None:
    """What can't be reached without a mouse does not exist for those who can't use one."""
    page = start_session().open(PAGES[name])
    if page.locator("body:not([data-types=''])").count():
        page.locator("#pause").click()  # the elements must stay the same
    page.locator("tr[data-key] ~ tr").evaluate_all("rows => rows.forEach(row => row.remove())")  # they are alike
    page.evaluate("document.activeElement.blur()")
    page.evaluate(PREPARE)
    expected = int(page.evaluate("window.expected.length"))
    visited = []
    for _ in range(expected + 5):
        page.keyboard.press("Tab")
        visited.append(page.evaluate(VISITED))
    assert expected > 0
    missing = set(range(expected)) - {each["index"] for each in visited}
    assert [page.evaluate("index => window.expected[index].outerHTML.slice(0, 200)", index) for index in missing] == []
    assert [each["html"] for each in visited if not each["isRinged"] and not each["isBody"]] == []


def test_rows_by_keys(sign_in: SignIn) -> None:
    """Going through fifty failed jobs with Tab alone takes five presses for each."""
    page = sign_in().open("/jobs?state=failed")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    second = page.locator("[data-row-link]").nth(1)
    expect(second).to_be_focused()
    page.keyboard.press("x")
    expect(page.locator("[data-select]").nth(1)).to_be_checked()
    expect(page.locator("[data-selection]")).to_contain_text("1 selected")
    expect(second).to_be_focused()
    page.keyboard.press("x")
    expect(page.locator("[data-selection]")).to_be_hidden()
    address = second.get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{address}")


def test_search_and_pages_by_keys(start_session: StartSession) -> None:
    """The search is what one comes for when something is wrong."""
    page = start_session().open("/jobs")
    page.keyboard.press("/")
    expect(page.locator("[data-search]")).to_be_focused()
    page.keyboard.type("xjk?")  # in a field, keys are text
    expect(page.locator("[data-search]")).to_have_value("xjk?")
    assert page.locator("dialog[open]").count() == 0
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("q")
    page.wait_for_url("**/queues*")


def test_the_help_by_keys(start_session: StartSession) -> None:
    """Keys that nobody can find are not used; and the focus must be where it was."""
    page = start_session().open("/jobs")
    page.keyboard.press("j")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    page.keyboard.press("j")  # belongs to the page behind
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("[data-row-link]").first).to_be_focused()


def test_single_keys_can_be_switched_off(start_session: StartSession) -> None:
    """Software that types what is spoken sends single letters: a page must not take them for commands."""
    page = start_session().open("/jobs")
    page.keyboard.press("?")
    page.get_by_role("dialog").get_by_label("Off").check()
    page.keyboard.press("Escape")
    page.reload()
    page.keyboard.press("j")
    assert page.locator("[data-row-link]:focus").count() == 0


def open_preferences(page: Page) -> None:
    summary = page.locator("#preferences > summary")
    summary.focus()
    page.keyboard.press("Enter")


def test_the_theme_by_keys(start_session: StartSession) -> None:
    """A page that is too bright at night is closed."""
    page = start_session(color_scheme="light").open("/jobs")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    open_preferences(page)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    expect(page.locator("#preferences > summary")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
