"""The pages of the server that tests visit: one address of each kind, over the data of `tests/support/shop.py` and
`tests/support/jobs_shop.py`.
"""

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
    "jobs": "/jobs",
    "failed jobs": "/jobs?state=failed&search=mail",
    "stuck jobs": "/jobs?problem=slow",
    "no jobs": "/jobs?search=there-is-none",
    "job": job_path("state-failed"),
    "running job": job_path("state-active"),
    "retrying job": job_path("state-retrying"),
    "member of a canvas": job_path("member-3"),
    "canvas": named("/canvas", rootId=job_uuid("canvas")),
    "group": named("/canvas", groupId=job_uuid("canvas-group")),
    "errors": "/errors",
    "error": named("/error", errorClass="SMTPServerDisconnected", errorLocation="shop/mail.py:41 in send_email"),
    "tasks": "/tasks",
    "task": named("/task", name=MAIL),
    "queues": "/queues",
    "queue": named("/queue", name="mail"),
    "workers": "/workers",
    "worker": named("/worker", id="celery@web-1"),
    "connections": "/connections",
    "settings": "/settings",
    "runs": "/runs",
    "run": "/runs/run-dead-letter",
    "run that waits": "/runs/run-queued",
    "run that reports": "/runs/run-executing",
    "log of a run": "/runs/run-executing/log",
    "dead letters": "/dead-letters",
    "definitions": "/definitions",
    "definition": "/definitions/job-mail",
    "dependencies": "/definitions/job-report/dependencies",
    "version": "/definitions/job-mail/versions",
    "schedules": "/schedules",
    "sign-in": "/login",
    "not found": "/jobs/00000000-0000-4000-8000-000000000000",
    "not valid": "/jobs?state=none",
}
"""An address of each kind of page, errors included."""

SIGNED_IN = {
    "now with alerts": "/",
    "jobs to select": "/jobs",
    "failed jobs to retry": "/jobs?state=failed",
    "job to retry": job_path("state-failed"),
    "question": named("/actions/new", kind="retry", job=job_path("state-failed").rpartition("/")[2]),
    "question without an answer": "/actions/new?kind=retry&state=failed&name=none",
    "connections with keys": "/connections",
    "who did what": "/connections/log",
    "settings with rules": "/settings",
    "dead letters to replay": "/dead-letters",
    "question of a replay": "/dead-letters/replay?run=run-dead-letter&run=run-hostile",
    "replay": "/dead-letters/replays/replay-hostile",
    "another payload": "/runs/run-dead-letter/replay-as-new",
    "trigger": "/definitions/job-mail/trigger",
    "edit": "/definitions/job-mail/edit",
    "clone": "/definitions/job-mail/clone",
    "definition to change": "/definitions/job-mail",
    "dependencies to change": "/definitions/job-report/dependencies",
    "question of a deletion": "/definitions/job-report/delete",
    "run to reschedule": "/runs/run-later/reschedule",
    "hostile form": "/definitions/job-hostile/trigger",
}
"""Pages that an operator sees otherwise than who has not signed in, at the desk of `tests/pages/desk.py`."""

LISTS = ("now", "jobs", "errors", "tasks", "queues", "workers", "connections", "settings", "runs")
EMPTY = {name: PAGES[name] for name in LISTS}
"""Pages that say why they are empty, and what comes next, on a server without any event."""

HOSTILE = {
    "now": "/",
    "jobs": "/jobs",
    "a filter": named("/jobs", name=HOSTILE_NAME),
    "a search": named("/jobs", search=HOSTILE_TEXT[:200]),
    "job": job_path("hostile"),
    "job with a hostile file": job_path("hostile-place"),
    "errors": "/errors",
    "tasks": "/tasks",
    "task": named("/task", name=HOSTILE_NAME),
    "task with markup": named("/task", name=HOSTILE_TEXT),
    "queues": "/queues",
    "queue": named("/queue", name=HOSTILE_TEXT[:250]),
    "workers": "/workers",
    "worker": named("/worker", id=HOSTILE_TEXT),
    "runs": "/runs",
    "run": "/runs/run-hostile",
    "log of a run": "/runs/run-hostile/log",
    "definition": "/definitions/job-hostile",
    "dependencies": "/definitions/job-hostile/dependencies",
    "a search for runs": named("/runs", search=HOSTILE_TEXT[:200]),
    "an unknown path": "/<script>document.title='run'</script>",
}
"""Addresses of pages that show, or are asked for, hostile texts."""

LIVE = "#live[data-state=live]"
"""Matches when a page has the stream."""
