"""The jobs of the database in the form in which lists show them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from sluice_agent.server.record.ids import job_id
from sluice_agent.server.store.codes import FRAMEWORKS, JOB_STATES
from sluice_agent.server.timestamps import timestamp_of

_STATE = " ".join(f"WHEN {code} THEN '{state.value}'" for code, state in enumerate(JOB_STATES))
_FRAMEWORK = " ".join(f"WHEN {code} THEN '{framework.value}'" for code, framework in enumerate(FRAMEWORKS))
JOBS = f"""
WITH jobs AS (
    SELECT lower(hex(job.uuid)) AS id, connection.id AS connection_id, external_id,
        CASE framework {_FRAMEWORK} END AS framework, name.text AS name, coalesce(queue.text, '') AS queue,
        CASE state {_STATE} END AS state, coalesce(worker.text, '') AS worker_id, coalesce(error, '') AS error,
        job.created_at, changed_at, coalesce(started_at, -1) AS started_at, coalesce(completed_at, -1) AS completed_at,
        coalesce(duration_ms, -1) AS duration_ms, job.number, job.scheduled_for
    FROM job JOIN connection ON connection.number = job.connection JOIN label AS name ON name.number = job.name
        LEFT JOIN label AS queue ON queue.number = job.queue LEFT JOIN label AS worker ON worker.number = job.worker)
"""  # noqa: S608 (no user input)


def summary_of_row(row: Row[Any]) -> dict[str, Any]:
    """Return the documented fields of a job in a list, from a row of `JOBS`."""
    return {
        "id": job_id(row.connection_id, row.external_id),
        "externalId": row.external_id,
        "framework": row.framework,
        "connectionId": row.connection_id,
        "name": row.name,
        "queue": row.queue or None,
        "state": row.state,
        "stateChangedAt": timestamp_of(row.changed_at),
        "createdAt": timestamp_of(row.created_at),
        "scheduledFor": None if row.scheduled_for is None else timestamp_of(row.scheduled_for),
        "startedAt": None if row.started_at < 0 else timestamp_of(row.started_at),
        "completedAt": None if row.completed_at < 0 else timestamp_of(row.completed_at),
        "durationMs": None if row.duration_ms < 0 else row.duration_ms,
        "workerId": row.worker_id or None,
        "error": row.error or None,
    }
