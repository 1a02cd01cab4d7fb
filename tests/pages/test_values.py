"""What the script adds to the values on a page: they can be copied, and times are those of the reader's zone."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.pages.conftest import StartSession
from tests.pages.site import LIVE, job_path
from tests.support.shop import job_uuid

PLAIN_HTTP = "Object.defineProperty(Navigator.prototype, 'clipboard', {value: undefined})"
"""Browsers withhold the clipboard there, from machines other than their own."""


@pytest.mark.parametrize("is_plain_http", [False, True])
def test_an_id_is_copied_whole(start_session: StartSession, is_plain_http: bool) -> None:
    """The shortened id on the page finds nothing in a log."""
    session = start_session(permissions=["clipboard-read", "clipboard-write"])
    if is_plain_http:
        session.context.add_init_script(PLAIN_HTTP)
    page = session.open("/jobs?state=retrying")
    row = page.locator("tr[data-key]", has_text="TimeoutError")
    row.locator("[data-row-link]").focus()
    page.keyboard.press("Tab")
    button = row.locator("[data-copy]")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("body > [role=status]")).to_have_text("Copied")
    expect(button).to_be_focused()
    page.locator("[data-search]").focus()
    page.keyboard.press("Control+V")
    expect(page.locator("[data-search]")).to_have_value(job_uuid("state-retrying"))


def test_times_are_those_of_the_reader_or_of_utc(start_session: StartSession) -> None:
    """A log in UTC and a page in local time can not be brought together at night."""
    page = start_session().open(job_path("state-failed"))
    time = page.locator("time[data-format=full]").first
    expect(time).to_have_text(re.compile(r"^[-0-9]{10} [:.0-9]+ UTC\+0[12]:00$"))
    expect(time).to_have_attribute("title", re.compile(r"UTC\+0[12]:00\n.* UTC$"))
    page.locator("#preferences > summary").click()
    page.get_by_label("UTC").check()
    expect(time).to_have_text(re.compile(r"^[-0-9]{10} [:.0-9]+ UTC$"))
    page.reload()
    expect(time).to_have_text(re.compile(r"^[-0-9]{10} [:.0-9]+ UTC$"))


def test_choices_hold_for_the_page_where_nothing_can_be_stored(start_session: StartSession) -> None:
    """With cookies blocked every page would start with an error, and the theme could not be chosen."""
    session = start_session()
    refusal = "Object.defineProperty(window, '{}', {{get() {{ throw new DOMException('no', 'SecurityError'); }}}});"
    session.context.add_init_script(refusal.format("localStorage") + refusal.format("sessionStorage"))
    page = session.open("/jobs")
    page.wait_for_selector(LIVE)
    page.locator("#preferences > summary").click()
    page.get_by_label("Dark").check()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("#pause").click()
    expect(page.locator("#live")).to_contain_text("Paused")
