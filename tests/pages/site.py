"""The pages of the server that tests visit: one address of each kind, over the data of `tests/support/shop.py`."""

from __future__ import annotations

from urllib.parse import urlencode

from sluice_agent.server.record.ids import job_id
from tests.support.shop import CONNECTION, HOSTILE_NAME, HOSTILE_TEXT, MAIL, job_uuid


def job_path(key: str) -> str:
    """Return the address of the job with this key of the shop."""
    return f"/jobs/{job_id(CONNECTION, job_uuid(key))}"


def named(path: str, **parameters: str) -> str:
    """Return an address with parameters, encoded."""
    return f"{path}?{urlencode(parameters)}"


PAGES = {
    "now": "/",
    "tasks": "/tasks",
    "task": named("/task", name=MAIL),
    "queues": "/queues",
    "queue": named("/queue", name="mail"),
    "workers": "/workers",
    "worker": named("/worker", id="celery@web-1"),
    "stuck jobs": "/jobs?problem=slow",
    "jobs": "/jobs",
    "failed jobs": "/jobs?state=failed&search=mail",
    "no jobs": "/jobs?search=there-is-none",
    "settings": "/settings",
    "sign-in": "/login",
    "not found": "/jobs/00000000-0000-4000-8000-000000000000",
    "not valid": "/jobs?state=none",
}
"""An address of each kind of page, errors included."""

HOSTILE = {
    "now": "/",
    "tasks": "/tasks",
    "a task": named("/task", name=HOSTILE_NAME),
    "queues": "/queues",
    "workers": "/workers",
    "jobs": "/jobs",
    "a filter": named("/jobs", name=HOSTILE_NAME),
    "a search": named("/jobs", search=HOSTILE_TEXT[:200]),
    "an unknown path": "/" + "<script>document.title='run'</script>",
}
"""Addresses of pages that show, or are asked for, hostile texts."""

LIVE = "#live[data-state=live]"
"""Matches when a page has the stream."""
