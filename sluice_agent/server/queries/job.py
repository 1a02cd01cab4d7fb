"""The record of one job, with the latest other jobs of its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from sluice_agent.server.queries.jobs import rows_of, summaries_of
from sluice_agent.server.queries.stored_job import StoredJob, find_stored_job
from sluice_agent.server.record.record import record_of
from sluice_agent.server.store.schema import job

_RECENT = 10
_EXECUTION = ("id", "externalId", "state", "createdAt", "startedAt", "completedAt", "durationMs", "error")


def find_job(reader: Connection, connections: Mapping[str, int], id_: str) -> dict[str, Any] | None:
    """Return the record of the job with `id_`, as `find_stored_job` finds it, in the form of the API."""
    stored = find_stored_job(reader, connections, id_)
    if stored is None:
        return None
    return {**record_of(stored.steps), "recentExecutions": _recent(reader, connections, stored)}


def _recent(reader: Connection, connections: Mapping[str, int], stored: StoredJob) -> list[dict[str, Any]]:
    statement = (
        select(job.c.number)
        .where(job.c.connection == stored.connection, job.c.name == stored.name)
        .order_by(job.c.created_at.desc(), job.c.number.desc())
        .limit(_RECENT + 1)
    )
    others = [number for number in reader.scalars(statement) if number != stored.number]
    summaries = summaries_of(reader, connections, rows_of(reader, others[:_RECENT]))
    return [{name: summary[name] for name in _EXECUTION} for summary in summaries]
