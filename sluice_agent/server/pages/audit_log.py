"""``/connections/log``: who did what, to which job or key, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from sluice_agent.server.pages.forms import PageManager
from sluice_agent.server.pages.render import Layout, render
from sluice_agent.server.pages.scope import ConnectionId, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.record.ids import own_uuids
from sluice_agent.server.timestamps import timestamp_of, to_moment

LIMIT = 50
"""Entries on a page."""

_LARGEST = 2**63 - 1
_JOB_ACTIONS = ("retry", "revoke")


class EntryRow(NamedTuple):
    """An entry. `href` is the page of what it is about, if it has one."""

    number: int
    at: str
    who: str
    action: str
    subject: str
    href: str | None
    detail: str


class AuditLogView(NamedTuple):
    """A page of the log; `older` is the number before which the next one begins."""

    rows: Sequence[EntryRow]
    older: int | None
    is_first: bool


def audit_log_router(sources: Sources) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/connections/log")
    def log(
        request: Request,
        principal: PageManager,
        connection_id: ConnectionId = None,
        before: Annotated[int | None, Query(ge=1, le=_LARGEST)] = None,
    ) -> HTMLResponse:
        entries = sources.access.audit.latest(LIMIT + 1, before)
        shown = entries[:LIMIT]
        rows = [
            EntryRow(
                logged.number,
                timestamp_of(to_moment(logged.at)),
                logged.entry.who,
                logged.entry.action,
                logged.entry.subject,
                _href(logged.entry.action, logged.entry.subject),
                logged.entry.detail,
            )
            for logged in shown
        ]
        view = AuditLogView(rows, shown[-1].number if len(entries) > LIMIT else None, before is None)
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
        return render(request, "audit_log.html", Layout("connections", "Who did what", sources.now(), scope), view)

    return router


def _href(action: str, subject: str) -> str | None:
    if not own_uuids(subject):
        return None
    return f"/jobs/{subject}" if action in _JOB_ACTIONS else f"/actions/{subject}"
