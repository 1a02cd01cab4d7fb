"""The pages over PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from sluice_agent.server.access.principal import COOKIE, Role
from sluice_agent.server.access.setup import AccessOptions
from sluice_agent.server.actions.assembly import ActionOptions
from sluice_agent.server.actions.brokers import Brokers
from tests.support.html import Element, parse_html
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.waiting import wait_until
from tests.unit.server.actions.conftest import WHOLE, RecordedBroker
from tests.unit.server.events import CONNECTION, at, ingest, job_event

NOW = datetime(2026, 2, 27, 10, 5, tzinfo=timezone.utc)
OTHER = "7d9f1c1e-0000-4000-8000-000000000001"
FIRST = ("/", "/jobs?sortBy=durationMs&sortOrder=desc", "/jobs?sortBy=worker&sortOrder=asc", "/jobs?search=app")


def jobs() -> Iterator[dict[str, object]]:
    for number in range(110):
        facts = {"externalId": f"job-{number}", "name": f"app.task_{number % 3}", "createdAt": at(number), "queue": "q"}
        yield job_event("queued", number, **facts)
        if number % 4:
            facts |= {"startedAt": at(number + 1), "workerId": "celery@one"}
            error = {"error": "ValueError: no"} if number % 4 == 1 else {}
            state = "failed" if error else "completed"
            yield job_event(state, number + 2, **facts, completedAt=at(number + 2), **error)


def operator_of(server: LocalSluice) -> httpx.Client:
    """Return a browser that is signed in."""
    sessions = server.access.sessions
    signed_in = sessions.sign_in(sessions.create_token(Role.OPERATOR))
    assert signed_in is not None
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin", "Cookie": f"{COOKIE}={signed_in[1]}"}
    return server.client(headers, path="")


def send(browser: httpx.Client, page: Element, **more: str) -> httpx.Response:
    """Send the only form in the content of a page."""
    form = page.one("main").one("form")
    fields = {field["name"]: field["value"] for field in form.all("input", type="hidden")} | more
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return browser.post(form["action"], content=urlencode(fields).encode(), headers=headers)


def test_forms_act_once(new_postgresql: str) -> None:
    """A double click would retry each job twice, or make two keys, where the database is not SQLite."""
    broker = RecordedBroker()
    options, actions = AccessOptions(connection=CONNECTION), ActionOptions(Brokers(default=broker), ("app.*",))
    with local_sluice(new_postgresql, options=options, actions=actions) as server:
        assert server.access.new_key is not None
        agent = server.client({"Authorization": f"Bearer {server.access.new_key.secret}"})
        ingest(agent, *(job_event("failed", 1, externalId=f"job-{n}", queue="q", extensions=WHOLE) for n in range(5)))
        browser = operator_of(server)
        question = parse_html(browser.get("/actions/new?kind=retry&state=failed").text)
        places = {send(browser, question).headers["Location"] for _ in range(2)}
        [place] = places
        wait_until(lambda: "Done" in browser.get(place).text, 20, "it does not end")
        assert len(broker.sent) == 5
        form = parse_html(browser.get("/connections").text)
        keys = {send(browser, form, connection="shop", role="viewer").status_code for _ in range(2)}
        assert keys == {200}
        assert len(server.access.accounts.list_keys()) == 2


def test_no_link_leads_to_a_failure(new_postgresql: str) -> None:
    """A statement that only SQLite takes would be an error page for a team with PostgreSQL."""
    actions = ActionOptions(Brokers({CONNECTION: RecordedBroker()}), ("app.*",))
    with local_sluice(new_postgresql, now=lambda: NOW, actions=actions) as server:
        ingest(server.client(), *jobs())
        ingest(server.client(), {**job_event("queued", 1, createdAt=at(1)), "connectionId": OTHER})
        browser = operator_of(server)
        waiting = [f"{path}{'&' if '?' in path else '?'}connectionId={CONNECTION}" for path in FIRST]
        kinds = set()
        while waiting:
            address = waiting.pop()
            parts = urlsplit(address)
            kind = (parts.path.partition("/jobs/")[0:2], frozenset(name for name, _ in parse_qsl(parts.query)))
            if parts.path and kind not in kinds:
                kinds.add(kind)
                response = browser.get(address)
                assert response.status_code < 500, f"{address}: {response.text}"
                waiting += [link["href"] for link in parse_html(response.text).all("a") if link["href"][:1] == "/"]
    visited = {"".join(path) for path, _ in kinds}
    assert visited >= {"/", "/jobs", "/jobs/", "/settings", "/task", "/tasks", "/queue", "/queues", "/workers"}
    assert visited >= {"/actions/new", "/connections", "/connections/log"}
