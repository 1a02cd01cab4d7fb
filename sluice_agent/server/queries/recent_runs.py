"""The latest jobs of one task, as a plot shows them."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, select

from sluice_agent.server.queries.stored_job import JobHead
from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.store.schema import job

RUNS = 60
"""The most jobs that are read."""

_COLUMNS = (
    job.c.uuid, job.c.external_id, job.c.state, job.c.created_at, job.c.started_at, job.c.completed_at,
    job.c.duration_ms,
)  # fmt: skip


class RecentRun(NamedTuple):
    """A job with its last run. Times are microseconds since 1970."""

    id: str
    external_id: str
    state: str
    created_at: int
    started_at: int | None
    completed_at: int | None
    duration_ms: int | None


def recent_runs(reader: Connection, head: JobHead) -> list[RecentRun]:
    """Return the newest jobs of the task of `head`, the newest first, and itself if it is older than these."""
    statement = (
        select(*_COLUMNS)
        .where(job.c.connection == head.connection, job.c.name == head.name)
        .order_by(job.c.created_at.desc(), job.c.number.desc())
        .limit(RUNS)
    )
    rows = list(reader.execute(statement))
    if head.uuid not in {row.uuid for row in rows}:
        rows += reader.execute(select(*_COLUMNS).where(job.c.number == head.number))
    return [
        RecentRun(str(UUID(bytes=row.uuid)), row.external_id, JOB_STATES[row.state].value, *row[3:]) for row in rows
    ]
