"""``GET /api/jobs`` and ``GET /api/jobs/{id}``: the list of jobs, and the record of one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from sluice_agent.server.errors import RefusedError
from sluice_agent.server.queries.job import recent_executions
from sluice_agent.server.queries.job_filter import PARAMETERS, JobFilter
from sluice_agent.server.queries.job_steps import JobSteps
from sluice_agent.server.queries.jobs import list_jobs
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.selection import requested_filter
from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.queries.stored_job import find_head
from sluice_agent.server.record.record import record_of_walk, state_history
from sluice_agent.server.routes.closed import answer_of
from sluice_agent.server.routes.documented import READING, errors
from sluice_agent.server.routes.parameters import (
    Cursor,
    Direction,
    HistoryBefore,
    Limit,
    Viewer,
    connections_for,
    job_in_path,
)
from sluice_agent.server.routes.responses import JobPage, JobRecord
from sluice_agent.server.store import Store


async def job_filter(request: Request) -> JobFilter:
    """Return the filters of a list of jobs."""
    return requested_filter(request.query_params.multi_items())


_FILTERS = [
    {"name": name, "in": "query", "required": False, "description": parameter.description, "schema": parameter.schema}
    for name, parameter in PARAMETERS.items()
]
"""The parameters of `job_filter`, which the framework does not see."""


def jobs_router(store: Store) -> APIRouter:
    """Return the routes that read jobs from `store`."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])
    page_answer, record_answer = answer_of(JobPage), answer_of(JobRecord)

    @router.get("", response_model=JobPage, responses=READING, openapi_extra={"parameters": _FILTERS})
    def jobs(
        principal: Viewer,
        wanted: Annotated[JobFilter, Depends(job_filter)],
        sort_by: Annotated[
            SortBy, Query(alias="sortBy", description="Jobs without a value come last.")
        ] = SortBy.CREATED_AT,
        sort_order: Direction = SortOrder.DESC,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        """List jobs, the newest first unless sorted otherwise."""
        with store.reading() as reader:
            connections = connections_for(reader, principal, wanted.connection_id)
            order = Order(sort_by, sort_order)
            page = list_jobs(reader, connections, wanted, order, limit, cursor, now=store.moment)
        pagination = {
            "nextCursor": page.next_cursor,
            "limit": limit,
            "total": page.total,
            "totalExact": page.is_total_exact,
        }
        return page_answer({"data": page.jobs, "pagination": pagination})

    @router.get("/{job:path}", response_model=JobRecord, responses=READING | errors(404))
    def job_record(
        job: Annotated[str, Depends(job_in_path)], principal: Viewer, before: HistoryBefore = None
    ) -> Response:
        """Return the record of the job with this id: Sluice's, or the framework's."""
        with store.reading() as reader:
            head = find_head(reader, connections_for(reader, principal, None), job)
            if head is None:
                raise RefusedError(404, "Job not found.")
            steps = JobSteps(reader, head)
            window = steps.window(before)
            record = record_of_walk(steps.walked)
            recent = recent_executions(reader, head)
        record["stateHistory"] = state_history(window.states)
        if len(window.states) < window.total:
            record["extensions"] |= {"stateHistoryOffset": window.earlier, "stateHistoryTotal": window.total}
        return record_answer({**record, "recentExecutions": recent})

    return router
