"""Pages in a browser that runs no script: they show the state of the moment, and every link works."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urldefrag, urljoin, urlsplit

import pytest

from tests.pages.conftest import StartSession
from tests.pages.site import PAGES
from tests.support.local_sluice import LocalSluice

ALIKE = 3
"""Links of one kind that are followed."""


def kind_of(link: str) -> tuple[str, ...]:
    """Return what links to pages of the same kind have in common: their path without ids, and names of parameters."""
    parts = urlsplit(link)
    return re.sub(r"[0-9a-f-]{36}", "ID", parts.path), *sorted(name for name, _ in parse_qsl(parts.query))


def hrefs_of(html: str) -> list[str]:
    """Return the addresses of all links."""
    found: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.extend(  # type: ignore[method-assign]
        value for name, value in attributes if tag == "a" and name == "href" and value
    )
    parser.feed(html)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_readable_without_script(start_session: StartSession, name: str) -> None:
    """Text browsers, and companies that allow no scripts, would see an empty frame."""
    session = start_session(java_script_enabled=False)
    page = session.open(PAGES[name])
    assert page.locator("h1").inner_text()
    assert page.locator("main").inner_text().strip()
    assert page.locator("[data-scripted]:visible, #pause:visible").count() == 0  # what would do nothing


def test_every_link_works(sluice: LocalSluice) -> None:
    """A link to an error is where a search for a cause ends."""
    client = sluice.client({"Accept": "text/html"}, "")
    links: dict[tuple[str, ...], set[str]] = {}
    for path in PAGES.values():
        page = client.get(path)
        for href in hrefs_of(page.text):
            address = urldefrag(urljoin(str(page.url), href))[0]
            links.setdefault(kind_of(address), set()).add(address)
    kinds = {kind: sorted(alike)[:ALIKE] for kind, alike in links.items()}
    assert len(kinds) > 20
    assert [link for alike in kinds.values() for link in alike if client.get(link).status_code != 200] == []
