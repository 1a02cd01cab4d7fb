"""What tests of pages share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.html import Element, parse_html
from tests.support.local_sluice import LocalSluice

HTML = {"Accept": "text/html"}
Page = Callable[..., Element]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """One server for the module, over a file that is empty at first."""
    server = LocalSluice(tmp_path_factory.mktemp("pages") / "sluice.db")
    yield server
    server.stop()
    server.join()


@pytest.fixture(scope="module")
def browser(server: LocalSluice) -> httpx.Client:
    """A client that asks for pages, as a browser does."""
    return server.client(HTML, path="")


@pytest.fixture(scope="module")
def page(browser: httpx.Client) -> Page:
    """`page(path, status=200, **parameters)` is the tree of a page."""

    def page(path: str, status: int = 200, **parameters: Any) -> Element:
        response = browser.get(path, params=parameters or None)
        assert response.status_code == status, response.text
        return parse_html(response.text)

    return page


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a file for a server of one test."""
    return tmp_path / "sluice.db"
