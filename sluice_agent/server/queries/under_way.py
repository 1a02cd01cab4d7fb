"""Jobs under way: what runs by task, and what waits by queue. At most `LOOKED_AT` of each state are looked at, those
that are in it for the longest time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, Column, Connection, Subquery, cast, func, select

from sluice_agent.model import JobState
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.store.codes import JOB_STATE_CODES
from sluice_agent.server.store.schema import job, tally

LOOKED_AT = 20_000
"""Entries of an index that are read to count jobs by task or queue."""


class RunningTask(NamedTuple):
    """Active jobs of one task: how many, and the one that runs for the longest time. `since` is its start."""

    name: str
    jobs: int
    since: int
    id: str
    external_id: str


@dataclass(frozen=True, slots=True)
class Running:
    """The active jobs of some tasks, the longest running first. `total` counts those of all."""

    tasks: list[RunningTask]
    total: int

    @property
    def is_complete(self) -> bool:
        """True if no job is active beside those of `tasks`."""
        return self.total == sum(task.jobs for task in self.tasks)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Jobs in state queued, by the label of their queue (None: unknown): how many, and since when the oldest waits.

    If `is_complete` is False, not all were looked at, and those of a queue that is missing wait since `last` or later.
    """

    by_queue: dict[int | None, tuple[int, int]]
    total: int
    is_complete: bool
    last: int | None


def count_in_state(reader: Connection, connection: int, state: JobState) -> int:
    """Return the number of a connection's jobs in `state`."""
    statement = select(tally.c.jobs).where(
        tally.c.connection == connection, tally.c.state == JOB_STATE_CODES[state.value]
    )
    return reader.scalar(statement) or 0


def running_tasks(reader: Connection, connection: int, limit: int, looked_at: int = LOOKED_AT) -> Running:
    """Return the tasks with active jobs, at most `limit` of them: those with the longest running job. At most
    `looked_at` jobs are counted."""
    total = count_in_state(reader, connection, JobState.ACTIVE)
    longest = longest_in_state(connection, JobState.ACTIVE, job.c.started_at, job.c.name, looked_at)
    counted = (
        select(longest.c.label, cast(func.count(), BigInteger), func.min(longest.c.at))
        .group_by(longest.c.label)
        .order_by(func.min(longest.c.at))
        .limit(limit)
    )
    rows = reader.execute(counted).all()
    texts = texts_of(reader, (name for name, _, _ in rows))
    tasks = [
        RunningTask(texts[name], jobs, since, *_job_of(reader, connection, name, since)) for name, jobs, since in rows
    ]
    return Running(tasks, total)


def waiting_jobs(reader: Connection, connection: int, looked_at: int = LOOKED_AT) -> Waiting:
    """Return the jobs that wait, by queue. At most `looked_at` are counted."""
    total = count_in_state(reader, connection, JobState.QUEUED)
    longest = longest_in_state(connection, JobState.QUEUED, job.c.changed_at, job.c.queue, looked_at)
    first, last = func.min(longest.c.at), func.max(longest.c.at)
    counted = select(longest.c.label, cast(func.count(), BigInteger), first, last).group_by(longest.c.label)
    rows = reader.execute(counted).all()
    by_queue = {row[0]: (row[1], row[2]) for row in rows}
    return Waiting(by_queue, total, total <= looked_at, max((row[3] for row in rows), default=None))


def longest_in_state(
    connection: int, state: JobState, moment: Column[Any], label: Column[Any], looked_at: int = LOOKED_AT
) -> Subquery:
    """Return, as a subquery, ``label`` and ``at`` of the jobs that are in a state for the longest time: those with the
    earliest `moment`, which has an index in each state."""
    return (
        select(label.label("label"), moment.label("at"))
        .where(job.c.connection == connection, job.c.state == JOB_STATE_CODES[state.value], moment.is_not(None))
        .order_by(moment)
        .limit(looked_at)
        .subquery()
    )


def _job_of(reader: Connection, connection: int, name: int, started_at: int) -> tuple[str, str]:
    statement = (
        select(job.c.uuid, job.c.external_id)
        .where(
            job.c.connection == connection,
            job.c.state == JOB_STATE_CODES["active"],
            job.c.started_at == started_at,
            job.c.name == name,
        )
        .limit(1)
    )
    uuid, external_id = reader.execute(statement).all()[0]
    return str(UUID(bytes=uuid)), external_id
