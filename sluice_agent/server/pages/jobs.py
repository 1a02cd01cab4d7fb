"""``/jobs``: the list of jobs."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from sluice_agent.server.pages.render import Layout, render
from sluice_agent.server.pages.scope import ConnectionId, PageViewer, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.jobs import list_jobs
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.sorting import SortBy, SortOrder

_LIMIT = 50


class JobsView(NamedTuple):
    """The page of a list of jobs."""

    jobs: list[dict[str, Any]]


def jobs_router(sources: Sources) -> APIRouter:
    """Return the route of the list."""
    router = APIRouter()

    @router.get("/jobs")
    def jobs(request: Request, principal: PageViewer, connection_id: ConnectionId = None) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            order = Order(SortBy.CREATED_AT, SortOrder.DESC)
            page = list_jobs(reader, scope.numbers, JobFilter(), order, _LIMIT, None, now=sources.store.moment)
        layout = Layout("jobs", "Jobs", sources.now(), scope, ("job",))
        return render(request, "jobs.html", layout, JobsView(page.jobs))

    return router
