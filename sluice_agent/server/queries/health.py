"""What the database holds, and how far back."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from sluice_agent.server.store.schema import job, tally, usage


@dataclass(frozen=True, slots=True)
class Holdings:
    """Events received in the days that are counted, jobs, and the creation of the oldest one in microseconds."""

    events: int
    jobs: int
    oldest: int | None


def holdings(reader: Connection) -> Holdings:
    """Return what the database holds."""
    events = reader.scalar(select(func.coalesce(func.sum(usage.c.events), 0)))
    counts = reader.execute(select(tally).where(tally.c.jobs > 0)).all()
    oldest = [
        reader.scalar(
            select(job.c.created_at)
            .where(job.c.connection == row.connection, job.c.state == row.state)
            .order_by(job.c.created_at)
            .limit(1)
        )
        for row in counts
    ]
    known = (moment for moment in oldest if moment is not None)
    return Holdings(int(events or 0), sum(row.jobs for row in counts), min(known, default=None))
