"""``/runs``: the list of runs, with its filters and pages in the address."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from sluice_agent.jobs.store.takers import abandoned_queue
from sluice_agent.server.pages.jobs_api.parameters import RunsAddress, filter_of
from sluice_agent.server.pages.jobs_api.run_list import RunsView, runs_view
from sluice_agent.server.pages.jobs_api.scope import JobsSources, WantedScope, jobs_scope_of
from sluice_agent.server.pages.no_jobs import no_jobs_page
from sluice_agent.server.pages.render import render

Cursor = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]


def runs_router(sources: JobsSources) -> APIRouter:
    """Return the route of the list."""
    router = APIRouter()

    @router.get("/runs")
    def runs(request: Request, wanted: WantedScope, cursor: Cursor = None) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope = jobs_scope_of(sources, reader, wanted)
            if scope.project is None:
                return no_jobs_page(sources.pages, request, "runs", scope.connections)
            selected = filter_of(scope.project, request.query_params.multi_items())
            address = RunsAddress("/runs", selected, scope.parameters)
            view = runs_view(reader, address, cursor or None, sources.moment)
            queue = abandoned_queue(reader)
        layout = scope.layout(sources, "runs", _title(view), is_live=True)
        return render(request, "runs.html", layout, {"list": view, "queue": queue})

    return router


def _title(view: RunsView) -> str:
    if not view.has_runs:
        return "Runs"
    states = " or ".join(status.value.replace("_", " ") for status in view.wanted.statuses)
    return f"Runs · {view.count} {states}".rstrip()
