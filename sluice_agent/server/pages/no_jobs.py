"""Pages of the jobs API while it has no job, or is not there: they load none of it, as an observing server does not
need it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from sluice_agent.server.access.principal import LOOPBACK
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.render import Layout, render
from sluice_agent.server.pages.scope import ConnectionId, PageViewer, Scope, scope_of
from sluice_agent.server.pages.sources import Sources

LISTS = {
    "/runs": "Runs",
    "/dead-letters": "Dead letters",
    "/definitions": "Job definitions",
    "/schedules": "Schedules",
}
"""The lists of the jobs API: their paths and headings."""


_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_NO_JOBS_API = (
    "This server has no jobs API, as its application was made without: sluice-agent serve has it, and so has "
    "create_app(has_jobs=True)."
)


class NoJobsView(NamedTuple):
    """A list that is empty because no job is defined. `command` is what defines one."""

    heading: str
    may_act: bool
    is_signed_out: bool
    command: str


def no_jobs_router(sources: Sources) -> APIRouter:
    """Return the routes of all lists."""
    router = APIRouter()
    for path in LISTS:
        router.add_api_route(path, _route(sources, path.removeprefix("/")), methods=["GET"])
    return router


def no_jobs_api_router() -> APIRouter:
    """Return the routes of the pages and of the API of a server without the jobs API, which answer that it has none."""
    router = APIRouter(include_in_schema=False)
    for path in (*LISTS, "/v1"):
        router.add_api_route(path, _refuse, methods=_METHODS)
        router.add_api_route(f"{path}/{{rest:path}}", _refuse, methods=_METHODS)
    return router


def no_jobs_page(sources: Sources, request: Request, page: str, scope: Scope) -> HTMLResponse:
    """Return the list `page`, which is empty because no job is defined."""
    connection = scope.connection
    project = "shop" if connection is None else connection.name or connection.id
    job = {"project_id": project, "name": "Hello", "slug": "hello", "endpoint_url": "http://127.0.0.1:8000/hello"}
    key = shlex.quote("Authorization: Bearer YOUR_KEY")
    address = shlex.quote(f"{request.url.scheme}://{request.url.netloc}/v1/jobs")
    command = f"curl {address} -H {key} -d {shlex.quote(json.dumps(job, ensure_ascii=False))}"
    principal = scope.principal
    view = NoJobsView(LISTS[f"/{page}"], principal.may_act, principal is LOOPBACK, command)
    return render(request, "no_jobs.html", Layout(page, view.heading, sources.now(), scope), view)


def _refuse() -> None:
    raise RefusedError(404, _NO_JOBS_API)


def _route(sources: Sources, page: str) -> Callable[..., HTMLResponse]:
    def route(request: Request, principal: PageViewer, connection_id: ConnectionId = None) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
        return no_jobs_page(sources, request, page, scope)

    return route
