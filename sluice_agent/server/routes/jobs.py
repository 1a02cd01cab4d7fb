"""``GET /api/jobs`` and ``GET /api/jobs/{id}``: the list of jobs, and the record of one.

The vendor's API takes a dashboard's session cookie for reading. A local server has no sessions: on loopback, its
default, reading needs no key. On another address everyone who reaches it can read.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from sqlalchemy import Connection

from sluice_agent.model import Framework, JobState
from sluice_agent.server.access.principal import require_reader
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.queries.jobs import SortBy, SortOrder, list_jobs
from sluice_agent.server.queries.summaries import JOBS, summary_of_row
from sluice_agent.server.record.record import record_of
from sluice_agent.server.store import Store
from sluice_agent.server.store.steps import decode_step

_FIND = (
    f"{JOBS} SELECT number, connection_id, external_id, name, id FROM jobs WHERE id = ? OR external_id = ?"  # noqa: S608 (no user input)
    " ORDER BY id = ? DESC, changed_at DESC"
)
_RECENT = (
    f"{JOBS} SELECT * FROM jobs WHERE connection_id = ? AND name = ? AND number != ?"  # noqa: S608 (no user input)
    " ORDER BY created_at DESC, id LIMIT 10"
)
_STEPS = "SELECT body, text FROM step JOIN label ON label.number = step.name WHERE job = ?"
_EXECUTION = ("id", "externalId", "state", "createdAt", "startedAt", "completedAt", "durationMs", "error")


def jobs_router(store: Store) -> APIRouter:
    """Return the routes that read jobs from `store`."""
    router = APIRouter(prefix="/jobs", dependencies=[Depends(require_reader)])

    @router.get("")
    def jobs(
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        search: str | None = None,
        state: JobState | None = None,
        queue: str | None = None,
        worker: str | None = None,
        connection_id: Annotated[UUID | None, Query(alias="connectionId")] = None,
        framework: Framework | None = None,
        sort_by: Annotated[SortBy, Query(alias="sortBy")] = SortBy.CREATED_AT,
        sort_order: Annotated[SortOrder, Query(alias="sortOrder")] = SortOrder.DESC,
    ) -> JSONResponse:
        filters = {
            "state": state.value if state else None,
            "queue": queue,
            "worker_id": worker,
            "connection_id": str(connection_id) if connection_id else None,
            "framework": framework.value if framework else None,
        }
        with store.reading() as reader:
            page = list_jobs(
                reader,
                filters=filters,
                search=search,
                sort_by=sort_by,
                sort_order=sort_order,
                limit=limit,
                cursor=cursor,
            )
        pagination = {"nextCursor": page.next_cursor, "limit": limit, "total": page.total}
        return JSONResponse({"data": page.jobs, "pagination": pagination})

    @router.get("/{job:path}")
    def job_detail(job: str) -> JSONResponse:
        with store.reading() as reader:
            return JSONResponse(_job_detail(reader, job))

    return router


def _job_detail(reader: Connection, job: str) -> dict[str, Any]:
    """Return the record of the job with Sluice's id `job`, or the framework's: users of Celery know no other."""
    uuid = job.lower().replace("-", "")
    found = reader.exec_driver_sql(_FIND, (uuid, job, uuid)).first()
    if found is None:
        raise RefusedError(404, "Job not found.")
    steps = reader.exec_driver_sql(_STEPS, (found.number,))
    record = record_of(decode_step(body, found.connection_id, found.external_id, name) for body, name in steps)
    others = map(summary_of_row, reader.exec_driver_sql(_RECENT, (found.connection_id, found.name, found.number)))
    return {**record, "recentExecutions": [{name: other[name] for name in _EXECUTION} for other in others]}
