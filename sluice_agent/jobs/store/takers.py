"""What keeps all runs from being taken, as the leader has last seen it, for all servers: no worker takes messages from
the queue of the jobs API, or the broker is away."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from sluice_agent.jobs.store.schema import meta

_ABANDONED = "queue_without_workers"
_AWAY = "broker_away"


def note_takers(writer: Connection, queue: str | None) -> None:
    """Record that no worker takes messages from `queue`; None: one does."""
    _note(writer, _ABANDONED, queue)


def abandoned_queue(reader: Connection) -> str | None:
    """Return the queue from which no worker takes messages; None if one does, or no run has waited yet."""
    return _noted(reader, _ABANDONED)


def note_broker(writer: Connection, reason: str | None) -> None:
    """Record for which reason no message can be sent; None: the broker has taken one."""
    _note(writer, _AWAY, reason)


def broker_away(reader: Connection) -> str | None:
    """Return the reason for which the last message could not be sent; None if it was, or none was tried."""
    return _noted(reader, _AWAY)


def _note(writer: Connection, name: str, value: str | None) -> None:
    if value == _noted(writer, name):
        return
    writer.execute(delete(meta).where(meta.c.name == name))
    if value is not None:
        writer.execute(insert(meta).values(name=name, value=value))


def _noted(reader: Connection, name: str) -> str | None:
    return reader.scalar(select(meta.c.value).where(meta.c.name == name))
