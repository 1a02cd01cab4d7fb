"""One browser and one server for all tests of pages, and a profile of the browser for each test.

The fixtures are of the package: Playwright has a running event loop in its thread, beside which other tests of the same
process could start none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from sluice_agent.server.access.principal import Role
from tests.pages.desk import Desk, open_desk
from tests.support.chromium import TIMEOUT, Session, chromium, session
from tests.support.jobs_shop import fill_jobs
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.shop import Shop

expect.set_options(timeout=TIMEOUT)
StartSession = Callable[..., Session]
SignIn = Callable[..., Session]
Send = Callable[..., None]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def sluice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server that has jobs and runs in every state, and whatever a client may send."""
    database = tmp_path_factory.mktemp("pages") / "sluice.db"
    with local_sluice(database, has_jobs=True) as server:
        shop = Shop(datetime.now(timezone.utc))
        events = [*shop.every_state(), *shop.canvas(), *shop.fleet(), *shop.hostile()]
        answer = server.client().post("/ingest", json={"events": events}).json()
        assert answer["accepted"] == len(events), answer
        fill_jobs(server.client(path="/v1"), database)
        yield server


@pytest.fixture(scope="package")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A server that operators and viewers sign in to, with the same jobs, and alerts."""
    with open_desk(tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture
def send(sluice: LocalSluice) -> Send:
    """Send events to the server, and return when they are committed."""
    client = sluice.client()

    def sent(*events: dict[str, Any]) -> None:
        answer = client.post("/ingest", json={"events": events}).json()
        assert answer["accepted"] == len(events), answer

    return sent


@pytest.fixture
def start_session(browser: Browser, sluice: LocalSluice) -> Iterator[StartSession]:
    """Open profiles of the browser; at the end no page of them may have reported a fault."""
    with ExitStack() as stack:
        sessions: list[Session] = []

        def started(url: str = sluice.url, **options: Any) -> Session:
            sessions.append(stack.enter_context(session(browser, url, **options)))
            return sessions[-1]

        yield started
        assert [fault for each in sessions for fault in each.faults()] == []


@pytest.fixture
def sign_in(desk: Desk, start_session: StartSession) -> SignIn:
    """Open a profile of the browser that is signed in at the desk."""

    def signed_in(role: Role = Role.OPERATOR, **options: Any) -> Session:
        session = start_session(desk.server.url, **options)
        desk.sign_in(session, role).close()
        return session

    return signed_in
