"""``GET /api/jobs`` and ``GET /api/jobs/{id}``: the list of jobs, and the record of one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from sluice_agent.model import JobState
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.queries.job import find_job
from sluice_agent.server.queries.jobs import list_jobs
from sluice_agent.server.queries.order import Order, SortBy, SortOrder
from sluice_agent.server.queries.selection import JobFilter
from sluice_agent.server.routes.documented import READING, errors
from sluice_agent.server.routes.parameters import (
    ConnectionId,
    Cursor,
    Direction,
    FrameworkName,
    Limit,
    Moment,
    Reader,
    Search,
    States,
    Text,
    alternatives,
    connections_for,
    job_in_path,
)
from sluice_agent.server.routes.responses import JobPage, JobRecord
from sluice_agent.server.store import Store


def job_filter(
    state: Annotated[States, alternatives("A state, or several with commas between.")] = [],  # noqa: B006 (not changed)
    name: Annotated[list[Text], alternatives("The name of a task.")] = [],  # noqa: B006
    queue: Annotated[list[Text], alternatives("The name of a queue.")] = [],  # noqa: B006
    worker: Annotated[list[Text], alternatives("The id of a worker.")] = [],  # noqa: B006
    error_class: Annotated[list[Text], alternatives("The class of the error.", "errorClass")] = [],  # noqa: B006
    framework: FrameworkName = None,
    root_id: Annotated[
        Text | None, Query(alias="rootId", description="Jobs of this canvas, its root included.")
    ] = None,
    group_id: Annotated[Text | None, Query(alias="groupId", description="Jobs of this group.")] = None,
    created_from: Annotated[Moment | None, Query(alias="from", description="Created then or later.")] = None,
    created_to: Annotated[Moment | None, Query(alias="to", description="Created before.")] = None,
    search: Search = None,
) -> JobFilter:
    """Return the filters of a list of jobs."""
    return JobFilter(
        states={JobState(part) for value in state for part in value.split(",")},
        names=name,
        queues=queue,
        workers=worker,
        error_classes=error_class,
        framework=framework,
        root_id=root_id,
        group_id=group_id,
        created_from=created_from,
        created_to=created_to,
        search=search,
    )


def jobs_router(store: Store) -> APIRouter:
    """Return the routes that read jobs from `store`."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.get("", response_model=JobPage, responses=READING)
    def jobs(
        principal: Reader,
        wanted: Annotated[JobFilter, Depends(job_filter)],
        connection_id: ConnectionId = None,
        sort_by: Annotated[
            SortBy, Query(alias="sortBy", description="Jobs without a value come last.")
        ] = SortBy.CREATED_AT,
        sort_order: Direction = SortOrder.DESC,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """List jobs, the newest first unless sorted otherwise."""
        with store.reading() as reader:
            connections = connections_for(reader, principal, connection_id)
            page = list_jobs(reader, connections, wanted, Order(sort_by, sort_order), limit, cursor)
        pagination = {
            "nextCursor": page.next_cursor,
            "limit": limit,
            "total": page.total,
            "totalExact": page.is_total_exact,
        }
        return {"data": page.jobs, "pagination": pagination}

    @router.get("/{job:path}", response_model=JobRecord, responses=READING | errors(404))
    def job_record(job: Annotated[str, Depends(job_in_path)], principal: Reader) -> dict[str, Any]:
        """Return the record of the job with this id: Sluice's, or the framework's."""
        with store.reading() as reader:
            record = find_job(reader, connections_for(reader, principal, None), job)
        if record is None:
            raise RefusedError(404, "Job not found.")
        return record

    return router
