"""Claims of requests that go back because their message does not reach a worker.

A claim is never taken back for its age alone: each message of a backlog would be sent again while it waits. Those of
Celery tasks are not taken back at all, once a message may have been sent: the server is not asked before such a task
runs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, select, true, update

from sluice_agent.jobs.engine.moves import MOST
from sluice_agent.jobs.runs.changes import change
from sluice_agent.jobs.runs.transitions import Released
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import is_claimed, run


def note_published(writer: Connection, run_ids: Collection[str], claimed_at: int, now: int) -> None:
    """Record that the messages of these claims, made at that moment, are confirmed."""
    if run_ids:
        values = [{"run_id": run_id, "claim": claimed_at, "now": now} for run_id in sorted(run_ids)]
        writer.execute(_PUBLISHED, values)


def release(writer: Connection, run_ids: Collection[str], claimed_at: int, now: int) -> None:
    """Take back these claims, made at that moment: their messages are not confirmed."""
    if run_ids:
        _release(writer, run.c.id.in_(sorted(run_ids)) & (run.c.claimed_at == claimed_at), now)


def release_task(
    writer: Connection, run_id: str, claimed_at: int, available_at: int, now: int, error: str | None = None
) -> None:
    """Take back the claim of a Celery task, made at that moment, of which nothing was sent; `error` is the reason."""
    row = writer.execute(_TASK, {"run": run_id, "claim": claimed_at}).one_or_none()
    if row is not None:
        change(writer, row, Released(available_at), now, also={} if error is None else {"error": error})


def release_unpublished(writer: Connection, now: int) -> int:
    """Take back claims whose publish was never confirmed, as the process ended. No claim may be made meanwhile."""
    return _release(writer, run.c.published_at.is_(None), now, "the server ended before the broker had the message")


def release_lost(writer: Connection, now: int) -> int:
    """Take back claims that are over while no message waits: theirs was with a worker that is gone."""
    return _release(writer, run.c.claimed_until <= now, now, "the worker that had the message is gone")


def release_all(writer: Connection, now: int) -> int:
    """Take back all claims of requests: no worker takes their messages."""
    return _release(writer, true(), now)


def _release(writer: Connection, condition: ColumnElement[bool], now: int, error: str | None = None) -> int:
    also = {} if error is None else {"error": error}
    rows: list[Row[Any]] = list(writer.execute(_CLAIMED.where(condition)))
    return sum(change(writer, row, Released(now), now, also=also) is not None for row in rows)


_CLAIMED = (
    select(run)
    .where(is_claimed, run.c.status == Status.DEQUEUED.value, run.c.task_id.is_(None))
    .order_by(run.c.id)
    .limit(MOST)
    .with_for_update(skip_locked=True)
)
_TASK = (
    select(run)
    .where(
        run.c.id == bindparam("run"),
        run.c.claimed_at == bindparam("claim"),
        run.c.status == Status.DEQUEUED.value,
        run.c.published_at.is_(None),
    )
    .with_for_update()
)
_PUBLISHED = (
    update(run)
    .where(run.c.id == bindparam("run_id"), run.c.claimed_at == bindparam("claim"))
    .values(published_at=bindparam("now"))
)
