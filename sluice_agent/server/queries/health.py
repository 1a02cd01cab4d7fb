"""How much the database holds, from what the writer counts."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from sluice_agent.server.store.schema import tally, usage

_COUNTS = select(
    select(func.coalesce(func.sum(usage.c.events), 0)).scalar_subquery(),
    select(func.coalesce(func.sum(tally.c.jobs), 0)).scalar_subquery(),
)


def counts(reader: Connection) -> dict[str, int]:
    """Return the number of events that were received in the days whose usage is known, and of jobs."""
    ((events, jobs),) = reader.execute(_COUNTS)
    return {"events": int(events), "jobs": int(jobs)}
