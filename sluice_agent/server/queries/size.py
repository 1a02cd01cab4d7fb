"""How much the server holds."""

from __future__ import annotations

from sqlalchemy import Connection, func, select, text

from sluice_agent.server.store.schema import usage

_BYTES = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "postgresql": "SELECT pg_database_size(current_database())",
}


def bytes_on_disk(reader: Connection) -> int:
    """Return the size of the database with its free space, which new rows use before it grows."""
    return int(reader.scalar(text(_BYTES[reader.dialect.name])) or 0)


def events_of_day(reader: Connection, connection: int, day: str) -> int:
    """Return the number of events that a connection has sent on a day, such as ``2026-02-27``, in UTC."""
    counted = select(func.sum(usage.c.events)).where(usage.c.connection == connection, usage.c.day == day)
    return int(reader.scalar(counted) or 0)


def events_of_day_by_connection(reader: Connection, day: str) -> dict[int, int]:
    """Return the same by the number of the connection, of those that have sent any."""
    counted = select(usage.c.connection, func.sum(usage.c.events)).where(usage.c.day == day)
    return {number: int(events) for number, events in reader.execute(counted.group_by(usage.c.connection))}
