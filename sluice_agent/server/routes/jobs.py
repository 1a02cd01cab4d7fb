"""``GET /api/jobs`` and ``GET /api/jobs/{id}``: the list of jobs, and the record of one.

The vendor's API takes a dashboard's session cookie for reading. A local server has no sessions: on loopback, its
default, reading needs no key. On another address everyone who reaches it can read.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from sluice_agent.model import Framework, JobState
from sluice_agent.server.access.principal import require_reader
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.queries.jobs import SortBy, SortOrder, list_jobs
from sluice_agent.server.store.store import Store, stored_record

_FIND = (
    "SELECT connection_id, external_id FROM jobs WHERE id = ? OR external_id = ? ORDER BY id = ? DESC, changed_at DESC"
)
_RECENT = (
    "SELECT summary FROM jobs WHERE connection_id = ? AND name = ? AND id != ? ORDER BY created_at DESC, id LIMIT 10"
)
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


def _job_detail(reader: sqlite3.Connection, job: str) -> dict[str, Any]:
    """Return the record of the job with Sluice's id `job`, or the framework's: users of Celery know no other."""
    key = reader.execute(_FIND, (job.lower(), job, job.lower())).fetchone()
    if key is None:
        raise RefusedError(404, "Job not found.")
    record = stored_record(reader, *key)
    others = reader.execute(_RECENT, (record["connectionId"], record["name"], record["id"]))
    summaries = (json.loads(summary) for (summary,) in others)
    return {**record, "recentExecutions": [{name: other[name] for name in _EXECUTION} for other in summaries]}
