"""The pages over PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from urllib.parse import parse_qsl, urlsplit

from tests.support.html import parse_html
from tests.support.local_sluice import local_sluice
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


def test_no_link_leads_to_a_failure(new_postgresql: str) -> None:
    """A statement that only SQLite takes would be an error page for a team with PostgreSQL."""
    with local_sluice(new_postgresql, now=lambda: NOW) as server:
        ingest(server.client(), *jobs())
        ingest(server.client(), {**job_event("queued", 1, createdAt=at(1)), "connectionId": OTHER})
        browser = server.client({"Accept": "text/html"}, path="")
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
