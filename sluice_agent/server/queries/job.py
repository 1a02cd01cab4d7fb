"""The latest other jobs of the task of a job."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, select

from sluice_agent.server.queries.stored_job import JobHead
from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.store.schema import job
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none

_RECENT = 10
_LATEST = (
    select(
        job.c.number, job.c.uuid, job.c.external_id, job.c.state, job.c.created_at, job.c.started_at,
        job.c.completed_at, job.c.duration_ms, job.c.error,
    )
    .where(job.c.connection == bindparam("connection"), job.c.name == bindparam("name"))
    .order_by(job.c.created_at.desc(), job.c.number.desc())
    .limit(_RECENT + 1)
)  # fmt: skip


def recent_executions(reader: Connection, head: JobHead) -> list[dict[str, Any]]:
    """Return the latest other jobs of the task, in the form of the API."""
    rows = reader.execute(_LATEST, {"connection": head.connection, "name": head.name})
    others = [row for row in rows if row.number != head.number]
    return [
        {
            "id": str(UUID(bytes=row.uuid)),
            "externalId": row.external_id,
            "state": JOB_STATES[row.state].value,
            "createdAt": timestamp_of(row.created_at),
            "startedAt": timestamp_or_none(row.started_at),
            "completedAt": timestamp_or_none(row.completed_at),
            "durationMs": row.duration_ms,
            "error": row.error,
        }
        for row in others[:_RECENT]
    ]
