"""What the stream reads from the database: a connection's position, and frames that the memory no longer has."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from sluice_agent.server.record.frames import FrameBlock
from sluice_agent.server.store.schema import connection, frame_block
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
    """Return the first frames of a connection after a position: `limit`, and at most the rest of a block more.

    Those of one commit are in one block or in a few; blocks follow each other without a gap. Older ones may be gone.
    """
    rows = reading.execute(
        select(frame_block.c.last, frame_block.c.body)
        .where(frame_block.c.connection == number, frame_block.c.last > after)
        .order_by(frame_block.c.last)
        .limit(limit)
    )
    bodies, last = [], after
    for row in rows:
        bodies.append(row.body)
        last = row.last
        if last >= after + limit:
            break
    frames = FrameBlock(b"".join(bodies))
    return Span(last - len(frames) + 1, frames).after(after) if bodies else None
