"""Pages in a browser that runs no script: they show the state of the moment, and offer nothing that does nothing."""

from __future__ import annotations

import pytest

from tests.pages.conftest import StartSession
from tests.pages.site import PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_readable_without_script(start_session: StartSession, name: str) -> None:
    """Text browsers, and companies that allow no scripts, would see an empty frame."""
    session = start_session(java_script_enabled=False)
    page = session.open(PAGES[name])
    assert page.locator("h1").inner_text()
    assert page.locator("main").inner_text().strip()
    assert page.locator("[data-scripted]:visible, #pause:visible").count() == 0  # what would do nothing
