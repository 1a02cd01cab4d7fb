"""A page fits: what is tapped or clicked is large enough, or far enough from its neighbours (WCAG 2.2, 2.5.8), and
nothing is beside the window (1.4.10)."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.pages.conftest import SignIn, StartSession
from tests.pages.site import PAGES, SIGNED_IN

# Returns the targets in an element that are too small, and those that are covered or invisible. Too small is one if
# neither points 12 px from its centre belong to it, nor is a circle of 24 px around its centre free of other
# targets and their circles. A link in a sentence may be as low as its line. What is hidden from screen readers has an
# equivalent, such as a point of a plot the link in its table.
TOO_SMALL = """root => {
  const all = "a[href]:not(.skip), button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
  const isTarget = each => each.checkVisibility({visibilityProperty: true}) && !each.closest("[aria-hidden=true]") &&
    each.getBoundingClientRect().width > 1;
  const targets = [...root.querySelectorAll(all)].filter(isTarget).map(element => {
    const hit = element.closest("label") ?? element;
    const box = hit.getBoundingClientRect();
    return {element, hit, box, x: box.x + box.width / 2, y: box.y + box.height / 2};
  });
  const isHit = ({hit}, x, y) => hit.contains(document.elementFromPoint(x, y));
  const isLarge = each => [-11.5, 11.5].every(dx => [-11.5, 11.5].every(dy => isHit(each, each.x + dx, each.y + dy)));
  const isInSentence = ({element}) => getComputedStyle(element).display === "inline" &&
    [...element.parentNode.childNodes].some(node => node.nodeType === Node.TEXT_NODE && /\\p{L}/u.test(node.data));
  const small = targets.filter(each => !isLarge(each));
  const distance = ({x, y}, {box}) => Math.hypot(
    Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
  const isFree = each => targets.every(other => other === each || other.hit === each.hit ||
    (distance(each, other) >= 12 && !(small.includes(other) && Math.hypot(other.x - each.x, other.y - each.y) < 24)));
  const named = ({element, box}) =>
    `${element.outerHTML.slice(0, 160)} ${Math.round(box.width)}×${Math.round(box.height)}`;
  const isCovered = each => [...each.hit.getClientRects()].every(({x, y, width, height}) =>
    !isHit(each, x + width / 2, y + height / 2));
  return [...small.filter(each => !isInSentence(each) && !isFree(each)), ...targets.filter(isCovered)].map(named);
}"""
NARROW = {"width": 360, "height": 780}
WIDTHS = (320, 360, 640, 820, 960, 1040, 1200, 1366, 1600)
"""Those at which the layout changes, and of common windows."""


def too_small(page: Page) -> list[str]:
    """Return the targets of the page that are too small, at 360 px, for a mouse and for a finger."""
    page.set_viewport_size(NARROW)
    if page.locator("body:not([data-types=''])").count():
        page.locator("#pause").evaluate("button => button.click()")  # nothing may move
    page.locator("details:not(.menu)").evaluate_all("all => all.forEach(each => { each.open = true; })")
    page.locator(".plot-table").evaluate_all("all => all.forEach(each => { each.style.maxHeight = 'none'; })")
    found: list[str] = []
    for is_finger in (False, True):
        devtools = page.context.new_cdp_session(page)
        devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": is_finger})
        assert page.evaluate("matchMedia('(pointer: coarse)').matches") is is_finger
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({**NARROW, "height": height})  # only what is in the window can be hit
        parts = [page.locator("html"), *page.locator("details.menu").all()]
        for part in parts:
            if part is not parts[0]:
                part.evaluate("menu => { menu.open = true; }")
            found += part.evaluate(TOO_SMALL)
            part.evaluate("menu => { menu.open = false; }")
    return found


def too_narrow(page: Page) -> list[int]:
    """Return the widths of windows in which the page must be scrolled sideways."""
    found = []
    for width in WIDTHS:
        page.set_viewport_size({**NARROW, "width": width})
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(width)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_windows_and_fingers(start_session: StartSession, name: str) -> None:
    """The last columns would be out of sight, and on a phone one would open the job beside the one that was meant."""
    page = start_session(viewport=NARROW).open(PAGES[name])
    assert (too_narrow(page), too_small(page)) == ([], [])


@pytest.mark.parametrize("name", SIGNED_IN)
def test_a_page_of_operators_fits_windows_and_fingers(sign_in: SignIn, name: str) -> None:
    """A tap would retry the job below, or revoke a key in place of rotating it."""
    page = sign_in(viewport=NARROW).open(SIGNED_IN[name])
    assert (too_narrow(page), too_small(page)) == ([], [])


def test_a_small_target_is_found(start_session: StartSession) -> None:
    """A check that finds nothing on any page may not have run."""
    page = start_session(viewport=NARROW).open("/settings")
    page.locator("main").evaluate("main => { main.innerHTML = '<a href=1>1</a> <a href=2>2</a>'; }")
    assert len(too_small(page)) == 4
