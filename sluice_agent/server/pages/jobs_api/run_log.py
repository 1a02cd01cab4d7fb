"""``/runs/{id}/log``: what the endpoint of a run has logged about it, the last line first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection, Row

from sluice_agent.jobs.json_text import indented, parse
from sluice_agent.jobs.routes.pages import cursor_of, position_of
from sluice_agent.jobs.runs.attempts import list_log
from sluice_agent.jobs.runs.search import settings_of
from sluice_agent.jobs.store.page import Page, PageRequest
from sluice_agent.server.pages.jobs_api.runs import Cursor
from sluice_agent.server.pages.jobs_api.scope import JobsSources, WantedScope, scope_of_run
from sluice_agent.server.pages.render import NO_STORE, render
from sluice_agent.server.pages.values import values_within
from sluice_agent.server.timestamps import timestamp_of

_LIMIT = 100
_CHARACTERS = 40_000
"""Characters of all messages and data of a page together: the API has the whole."""


class LogLine(NamedTuple):
    """A line of a log. `data` is JSON; `cut` is the number of characters that are not shown."""

    number: int
    attempt: int
    at: str
    level: str
    message: str
    data: str
    cut: int


class RunLogView(NamedTuple):
    """The page."""

    run_id: str
    name: str
    is_under_way: bool
    lines: Sequence[LogLine]
    first: str | None
    older: str | None


def log_lines(reader: Connection, run_id: str, wanted: PageRequest, characters: int) -> Page[LogLine]:
    """Return lines of the log of a run, the last one first, of at most so many characters together."""
    found = list_log(reader, run_id, wanted)
    pairs = [(text, text) for row in found.items for text in (row.message, _data(row))]
    texts = values_within(pairs, characters)
    lines = []
    for row, message, data in zip(found.items, texts[::2], texts[1::2], strict=True):
        cut = message.cut + data.cut
        at = timestamp_of(row.at)
        lines.append(LogLine(row.number, row.attempt, at, row.level, message.text, data.text, cut))
    return Page(lines, found.next)


def _data(row: Row[Any]) -> str:
    return "" if row.data is None else indented(parse(row.data.encode()))


def run_log_router(sources: JobsSources) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/runs/{run_id}/log")
    def run_log(request: Request, wanted: WantedScope, run_id: str, cursor: Cursor = None) -> HTMLResponse:
        page = PageRequest(_LIMIT, position_of(cursor) if cursor else None)
        with sources.store.reading() as reader:
            scope, row = scope_of_run(sources, reader, wanted, run_id)
            found = log_lines(reader, row.id, page, _CHARACTERS)
            name = settings_of(reader, [row.job_id])[row.job_id].name
        path = f"/runs/{row.id}/log"
        older = None if found.next is None else scope.href(path, cursor=cursor_of(found.next))
        view = RunLogView(
            row.id, name, row.finished_at is None, found.items, scope.href(path) if cursor else None, older
        )
        layout = scope.layout(sources, "runs", f"Log of a run of {name}", is_live=view.is_under_way)
        return render(request, "run_log.html", layout, view, headers=NO_STORE)

    return router
