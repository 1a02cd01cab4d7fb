"""What the stream reads from the database: a connection's position, and frames that the memory no longer has."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from sluice_agent.server.record.frames import Frame
from sluice_agent.server.store.schema import connection, frame
from sluice_agent.server.stream.spans import Span


@dataclass(frozen=True, slots=True)
class StoredConnection:
    """A connection, and the position of its last frame in the database."""

    number: int
    position: int


def find_connection(reading: Connection, connection_id: str) -> StoredConnection | None:
    """Return the connection with this id, a UUID in lower case."""
    columns = select(connection.c.number, connection.c.position).where(connection.c.id == connection_id)
    row = reading.execute(columns).one_or_none()
    return StoredConnection(row.number, row.position) if row else None


def read_frames(reading: Connection, number: int, after: int, limit: int) -> Span | None:
    """Return the first frames of a connection after a position, at most `limit`. Older ones may be gone before them."""
    rows = reading.execute(
        select(frame.c.position, frame.c.event, frame.c.data)
        .where(frame.c.connection == number, frame.c.position > after)
        .order_by(frame.c.position)
        .limit(limit)
    ).all()
    return Span(rows[0].position, [Frame(row.event, row.data) for row in rows]) if rows else None
