"""Connections as pages show them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, func, select

from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.store.schema import connection, job, queue, tally, worker


def named_connections(reader: Connection) -> list[NamedConnection]:
    """Return all connections, in the order in which they were made."""
    columns = connection.c.number, connection.c.id, connection.c.name
    return [NamedConnection(*row) for row in reader.execute(select(*columns).order_by(connection.c.number))]


def last_changes(reader: Connection, connections: Collection[int]) -> dict[int, int]:
    """Return the moment of the last change of a job, by the number of the connection, of those that have jobs."""
    newest = (
        select(func.max(job.c.changed_at))
        .where(job.c.connection == tally.c.connection, job.c.state == tally.c.state)
        .scalar_subquery()
    )
    rows = reader.execute(
        select(tally.c.connection, newest).where(tally.c.connection.in_(connections), tally.c.jobs > 0)
    )
    moments: dict[int, int] = {}
    for number, moment in rows:
        if moment is not None:
            moments[number] = max(moment, moments.get(number, 0))
    return moments


def last_events(reader: Connection, connections: Collection[int]) -> dict[int, int]:
    """Return the moment of the last event, by the number of the connection, of those that have sent one."""
    moments = last_changes(reader, connections)
    for table in (worker, queue):
        newest = select(table.c.connection, func.max(table.c.at)).where(table.c.connection.in_(connections))
        for number, moment in reader.execute(newest.group_by(table.c.connection)):
            moments[number] = max(moment, moments.get(number, 0))
    return moments
