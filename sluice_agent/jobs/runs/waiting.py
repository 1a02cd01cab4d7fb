"""Why a run that could be executed is not: its job, a limit, its endpoint, the broker, or the lack of workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from sluice_agent.jobs.definitions.jobs import Job, find_job
from sluice_agent.jobs.runs.named_limits import limit_without_room
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import is_claimed, run
from sluice_agent.jobs.store.takers import abandoned_queue, broker_away
from sluice_agent.server.timestamps import timestamp_of

_FOR_WORKERS = (Status.QUEUED.value, Status.DEQUEUED.value)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a run from its start: the queue from which no worker takes, the moment at which its job was paused,
    the named limit that is used up, and the reason as a sentence. None: it is not that."""

    queue_without_workers: str | None = None
    paused_at: int | None = None
    limit: str | None = None
    sentence: str | None = None


def obstacle_of(reader: Connection, row: Row[Any], now: int) -> Obstacle:
    """Return what keeps the run in `row` from its start."""
    if row.status not in _FOR_WORKERS:
        return Obstacle()
    job = find_job(reader, row.job_id, None)
    queue = abandoned_queue(reader) if job.settings.task is None else None
    if not job.enabled:
        return Obstacle(queue, sentence="Its job is disabled: it waits until the job is enabled.")
    if job.paused_at is not None:
        sentence = "Its job is paused: it keeps its position until the job is resumed."
        return Obstacle(queue, job.paused_at, sentence=sentence)
    if row.status != Status.QUEUED.value:
        return Obstacle(queue)
    limit = limit_without_room(reader, job, now)
    if limit is not None:
        return Obstacle(queue, limit=limit, sentence=f"It waits for the limit {limit}, which is used up for now.")
    return Obstacle(queue, sentence=_of_endpoint(job, row) or _of_concurrency(reader, job, row) or _of_broker(reader))


def _of_endpoint(job: Job, row: Row[Any]) -> str | None:
    if row.is_ready or job.settings.task is not None or row.available_at <= (row.next_retry_at or 0):
        return None
    return (
        f"Its endpoint has failed several times in a row: it is not requested before {timestamp_of(row.available_at)}."
    )


def _of_concurrency(reader: Connection, job: Job, row: Row[Any]) -> str | None:
    most, most_of_key = job.settings.max_concurrency, job.settings.max_concurrency_per_key
    if most and (reader.scalar(_CLAIMED, {"job": job.id}) or 0) >= most:
        return f"As many runs of its job are under way as max_concurrency allows, {most}."
    key = row.concurrency_key
    if (
        most_of_key
        and key is not None
        and (reader.scalar(_CLAIMED_OF_KEY, {"job": job.id, "key": key}) or 0) >= (most_of_key)
    ):
        return f"As many runs of its concurrency_key are under way as max_concurrency_per_key allows, {most_of_key}."
    return None


def _of_broker(reader: Connection) -> str | None:
    reason = broker_away(reader)
    return None if reason is None else f"It waits for the broker: {reason}."


_CLAIMED = select(func.count()).select_from(run).where(is_claimed, run.c.job_id == bindparam("job"))
_CLAIMED_OF_KEY = _CLAIMED.where(run.c.concurrency_key == bindparam("key"))
