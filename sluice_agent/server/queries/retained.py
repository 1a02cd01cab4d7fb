"""What the database still has, and how much of its daily limit a connection has used."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from sluice_agent.server.store.schema import HOUR, rollup, usage

_MINUTE = 60_000_000  # microseconds


def counts_reach_back_to(reader: Connection, connection: int) -> int | None:
    """Return the first hour that has counts of jobs, which are kept for longer than the jobs; None: there are none."""
    statement = select(func.min(rollup.c.start)).where(rollup.c.connection == connection, rollup.c.minutes == HOUR)
    start = reader.scalar(statement)
    return None if start is None else start * _MINUTE


def events_of_day(reader: Connection, connection: int, day: str) -> int:
    """Return how many events of a day of UTC, such as 2026-02-27, a connection has sent."""
    statement = select(usage.c.events).where(usage.c.connection == connection, usage.c.day == day)
    return reader.scalar(statement) or 0
