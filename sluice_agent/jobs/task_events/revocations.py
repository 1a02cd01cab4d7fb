"""The tasks that workers are to be asked not to run. None that runs already is stopped."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, select

from sluice_agent.jobs.store.schema import revocation

_MOST = 500  # tasks that workers are asked at a time not to run
_KEPT = 86_400 * 1_000_000  # microseconds: the messages of older ones have expired


def tasks_to_revoke(writer: Connection, now: int) -> list[str]:
    """Return the first tasks that are to be revoked, and drop those that are too old for it."""
    writer.execute(_OLD, {"before": now - _KEPT})
    return list(writer.scalars(_FIRST))


def note_revoked(writer: Connection, task_ids: list[str]) -> None:
    """Record that workers were asked."""
    writer.execute(_DONE, {"ids": task_ids})


HAS_REVOCATIONS = select(revocation.c.task_id).exists()
"""The condition under which workers are to be asked."""

_FIRST = select(revocation.c.task_id).order_by(revocation.c.created_at).limit(_MOST)
_OLD = delete(revocation).where(revocation.c.created_at < bindparam("before"))
_DONE = delete(revocation).where(revocation.c.task_id.in_(bindparam("ids", expanding=True)))
