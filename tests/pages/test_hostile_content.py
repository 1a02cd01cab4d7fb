"""Whatever a client has sent is text on every page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.pages.conftest import StartSession
from tests.pages.site import HOSTILE
from tests.support.shop import HOSTILE_NAME

PLANTED = "img[src='x'], main script, main b > i, main script"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_text(start_session: StartSession, name: str) -> None:
    """Whoever may send an event could act in the name of whoever reads the page."""
    page = start_session().open(HOSTILE[name])
    assert page.title() != "run"
    assert page.locator(PLANTED).count() == 0
    text = page.locator("body").inner_text()
    assert "\u202e" not in text  # it would turn what follows round
    assert page.locator("h1").count() == 1


def test_a_hostile_name_leads_to_its_own_pages(start_session: StartSession) -> None:
    """A job whose name has a slash or a question mark could not be looked at."""
    page = start_session().open("/jobs")
    link = page.get_by_role("link", name=HOSTILE_NAME, exact=True).first
    expect(link).to_be_visible()
    assert "%2F" not in (link.get_attribute("href") or "")
