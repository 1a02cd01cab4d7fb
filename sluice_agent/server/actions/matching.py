"""The jobs of a bulk action that a filter selects."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from itertools import islice

from sqlalchemy import Connection, select

from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.selection import known_connections, select_jobs
from sluice_agent.server.store.schema import job

LARGEST = 100_000
"""Jobs of one bulk action: more are left to the next one."""


def matching_jobs(reader: Connection, wanted: JobFilter, connections: Collection[int], now: int) -> list[bytes]:
    """Return Sluice's ids of the jobs of `connections` that `wanted` selects at a moment, the oldest first."""
    selection = select_jobs(reader, known_connections(reader, connections), wanted, now)
    conditions = [*selection.created(indexed=True), *(dimension.residual() for dimension in selection.dimensions)]
    columns = job.c.created_at, job.c.number, job.c.uuid
    ranges = [
        select(*columns)
        .where(job.c.connection == connection, job.c.state == state, *conditions)  # each a range of job_by_state
        .order_by(job.c.created_at, job.c.number)
        .limit(LARGEST)
        for connection, states in selection.states.items()
        for state in states
    ]
    rows = heapq.merge(*(reader.execute(query).tuples() for query in ranges))
    return [bytes(uuid) for _, _, uuid in islice(rows, LARGEST)]
