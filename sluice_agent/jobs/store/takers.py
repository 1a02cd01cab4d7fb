"""Whether a worker takes messages from the queue of the jobs API, as the leader has last seen it: for all servers."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from sluice_agent.jobs.store.schema import meta

_NAME = "queue_without_workers"


def note_takers(writer: Connection, queue: str | None) -> None:
    """Record that no worker takes messages from `queue`; None: one does."""
    if queue == abandoned_queue(writer):
        return
    writer.execute(delete(meta).where(meta.c.name == _NAME))
    if queue is not None:
        writer.execute(insert(meta).values(name=_NAME, value=queue))


def abandoned_queue(reader: Connection) -> str | None:
    """Return the queue from which no worker takes messages; None if one does, or no run has waited yet."""
    return reader.scalar(select(meta.c.value).where(meta.c.name == _NAME))
