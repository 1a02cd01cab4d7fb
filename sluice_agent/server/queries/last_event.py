"""When a connection's first and last event happened, as far as they are kept."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.store.schema import job, queue, worker


def last_event_at(reader: Connection, connection: int) -> int | None:
    """Return the moment of the last change of a job, or of the last report of a worker or a queue; None: none came."""
    latest = [
        select(func.max(job.c.changed_at)).where(job.c.connection == connection, job.c.state == code)
        for code in range(len(JOB_STATES))
    ]
    latest += [select(func.max(table.c.at)).where(table.c.connection == connection) for table in (worker, queue)]
    moments = [reader.scalar(statement) for statement in latest]
    return max((moment for moment in moments if moment is not None), default=None)


def first_event_at(reader: Connection, connection: int) -> int | None:
    """Return the earliest moment of which a job, a worker or a queue is known; None: none came."""
    earliest = [
        select(func.min(job.c.created_at)).where(job.c.connection == connection, job.c.state == code)
        for code in range(len(JOB_STATES))
    ]
    earliest += [
        select(func.min(table.c.first_seen)).where(table.c.connection == connection) for table in (worker, queue)
    ]
    moments = [reader.scalar(statement) for statement in earliest]
    return min((moment for moment in moments if moment is not None), default=None)
