"""The runs that a claim looks at: of each job those that are ready, in the order of all.

It reads a row for each job that has ready runs, and as many rows of a job as there are places in it: however many runs
wait for a place in their job, they are not read. Only those that wait for a place of their key are passed, in the
index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, bindparam, literal_column, or_, select, true

from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import can_be_claimed, is_claimed, job, run

Position: TypeAlias = tuple[int, int, str]
"""Where a run is in the order of claims: by its priority, the highest first, its creation, and its id."""


@dataclass(frozen=True, slots=True)
class Head:
    """A job with runs that are ready, the first of which is at `position`."""

    position: Position
    job_id: str
    version: int


def heads(reader: Connection) -> list[Head]:
    """Return the jobs that have ready runs, by the first of them; but those that are disabled or paused."""
    found = (Head((-row.priority, row.created_at, row.id), row.job_id, row.version) for row in reader.execute(_HEADS))
    return sorted(found, key=lambda head: head.position)


def ready_runs(writer: Connection, job_id: str, full_keys: Sequence[str], limit: int) -> list[Row[Any]]:
    """Return the first ready runs of a job, in their order, and lock them; but those with one of `full_keys`, and those
    that another transaction is changing."""
    query = _READY_BUT_FULL if full_keys else _READY
    parameters = {"job": job_id, "most": limit, **({"full": list(full_keys)} if full_keys else {})}
    return list(writer.execute(query, parameters))


@dataclass(frozen=True, slots=True)
class Counts:
    """How many runs are claimed or executed: by job and concurrency key, and those whose requests workers send."""

    of_key: dict[tuple[str, str | None], int]
    requests: int


def claimed_counts(reader: Connection) -> Counts:
    """Return how many runs are claimed or executed now."""
    of_key: Counter[tuple[str, str | None]] = Counter()
    requests = 0
    for job_id, key, is_request, count in reader.execute(_COUNTS):
        of_key[job_id, key] += count
        requests += count if is_request else 0
    return Counts(of_key, requests)


def _heads() -> Any:
    first = select(run.c.job_id).where(can_be_claimed).order_by(run.c.job_id).limit(1).scalar_subquery()
    ready = select(first.label("job_id")).cte("ready", recursive=True)
    later = run.alias("later")
    following = (
        select(later.c.job_id)
        .where(can_be_claimed, later.c.job_id > ready.c.job_id)
        .order_by(later.c.job_id)
        .limit(1)
        .scalar_subquery()
    )
    ready = ready.union_all(select(following).where(ready.c.job_id.is_not(None)))
    other = run.alias("other")
    first_of_job = (
        select(other.c.id)
        .where(can_be_claimed, other.c.job_id == job.c.id)
        .order_by(other.c.priority.desc(), other.c.created_at, other.c.id)
        .limit(1)
        .scalar_subquery()
    )
    head = run.alias("head")
    return (
        select(head.c.priority, head.c.created_at, head.c.id, head.c.job_id, job.c.version)
        .select_from(ready.join(job, job.c.id == ready.c.job_id).join(head, head.c.id == first_of_job))
        .where(job.c.enabled == true(), job.c.paused_at.is_(None))
    )


_HEADS = _heads()
_SLIM = (
    run.c.id,
    run.c.job_id,
    run.c.project_id,
    run.c.status,
    run.c.attempt,
    run.c.retries,
    run.c.priority,
    run.c.created_at,
    run.c.job_version,
    run.c.concurrency_key,
    run.c.first_started_at,
    run.c.ticket_hash,
    run.c.expires_at,
)
"""All of a run but what may be large."""
_OF_JOB = select(run.c.id).where(can_be_claimed, run.c.job_id == bindparam("job"))
_ORDER = (run.c.priority.desc(), run.c.created_at, run.c.id)
_LIMIT = bindparam("most", type_=run.c.priority.type)
_HAS_ROOM = or_(run.c.concurrency_key.is_(None), run.c.concurrency_key.not_in(bindparam("full", expanding=True)))


def _rows(ids: Any) -> Any:
    """Return the query of the runs with these ids, which are read from the index alone."""
    chosen = ids.order_by(*_ORDER).limit(_LIMIT).subquery()
    return (
        select(*_SLIM)
        .join(chosen, chosen.c.id == run.c.id)
        .where(run.c.status == Status.QUEUED.value)
        .order_by(*_ORDER)
        .with_for_update(skip_locked=True, of=run)
    )


_READY = _rows(_OF_JOB)
_READY_BUT_FULL = _rows(_OF_JOB.where(_HAS_ROOM))
_IS_REQUEST = run.c.task_id.is_(None).label("is_request")
_COUNTS = (
    select(run.c.job_id, run.c.concurrency_key, _IS_REQUEST, literal_column("count(*)").label("count"))
    .where(is_claimed)
    .group_by(run.c.job_id, run.c.concurrency_key, _IS_REQUEST)
)
