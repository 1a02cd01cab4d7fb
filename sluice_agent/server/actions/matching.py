"""The jobs of a bulk action that a filter selects."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.selection import known_connections, select_jobs
from sluice_agent.server.store.schema import job

LARGEST = 100_000
"""Jobs of one bulk action: more are left to the next one."""


def matching_jobs(reader: Connection, wanted: JobFilter, connections: Collection[int], now: int) -> list[bytes]:
    """Return Sluice's ids of the jobs of `connections` that `wanted` selects at a moment, the oldest first."""
    selection = select_jobs(reader, known_connections(reader, connections), wanted, now)
    conditions = [
        job.c.connection.in_(selection.states),
        *selection.in_states(),
        *selection.created(indexed=True),
        *(dimension.residual() for dimension in selection.dimensions),
    ]
    query = select(job.c.uuid).where(*conditions).order_by(job.c.created_at, job.c.number).limit(LARGEST)
    return [bytes(uuid) for uuid in reader.scalars(query)]
