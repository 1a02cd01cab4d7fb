"""How much the database holds, from what the writer counts."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from sluice_agent.server.store.schema import tally, usage


def counts(reader: Connection) -> dict[str, int]:
    """Return the number of events that were received in the days whose usage is known, and of jobs."""
    events = reader.scalar(select(func.coalesce(func.sum(usage.c.events), 0)))
    jobs = reader.scalar(select(func.coalesce(func.sum(tally.c.jobs), 0)))
    return {"events": int(events or 0), "jobs": int(jobs or 0)}
