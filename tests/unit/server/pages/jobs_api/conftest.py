"""A server with the jobs API, its shop, and browsers of both roles."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.access.principal import COOKIE, Role
from tests.support.html import Element, parse_html
from tests.support.jobs_shop import JobsShop
from tests.support.local_sluice import LocalSluice, local_sluice

HTML = {"Accept": "text/html"}
Fields = list[tuple[str, str]]


class JobsDesk:
    """A server without an engine, so that runs stay as tests bring them. Redirects are followed by hand."""

    def __init__(self, server: LocalSluice, database: Path) -> None:
        self.server = server
        self.api = server.client(path="/v1")
        self.shop = JobsShop(self.api, datetime.now(timezone.utc))
        self.store = JobsStore(database, lambda: datetime.now(timezone.utc))
        self.runs = self.shop.fill(self.store)
        self.operator, self.viewer = self.browser(Role.OPERATOR), self.browser(Role.VIEWER)
        self.stranger = server.client(HTML, "")

    def browser(self, role: Role) -> httpx.Client:
        """Return a browser that is signed in."""
        sessions = self.server.access.sessions
        signed_in = sessions.sign_in(sessions.create_token(role))
        assert signed_in is not None
        headers = {**HTML, "Cookie": f"{COOKIE}={signed_in[1]}", "Sec-Fetch-Site": "same-origin"}
        return self.server.client(headers, "")

    def page(self, path: str, answer: int = 200, browser: httpx.Client | None = None, **parameters: Any) -> Element:
        """Return the tree of a page as an operator sees it."""
        response = (browser or self.operator).get(path, params=parameters or None)
        assert response.status_code == answer, response.text
        return parse_html(response.text)

    def send(self, path: str, fields: Fields | None = None, browser: httpx.Client | None = None) -> httpx.Response:
        """Send a form."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return (browser or self.operator).post(path, content=urlencode(fields or []).encode(), headers=headers)

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a run as the API shows it."""
        found: dict[str, Any] = self.api.get(f"/runs/{run_id}").json()
        return found


def form_of(page: Element, action: str) -> Fields:
    """Return the hidden fields of the form that is sent to `action`."""
    return [(field["name"], field["value"]) for field in page.one("form", action=action).all("input", type="hidden")]


def rows_of(page: Element) -> list[Element]:
    """Return the rows of the list in the page."""
    return [row for row in page.one("main").all("tr") if "data-key" in row.attributes]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsDesk]:
    """One server for the module."""
    database = tmp_path_factory.mktemp("jobs") / "sluice.db"
    with local_sluice(database, has_jobs=True) as server:
        desk = JobsDesk(server, database)
        yield desk
        desk.store.close()
