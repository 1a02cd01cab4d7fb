"""Named limits: at most so many attempts start within a window, of all jobs of a project that name the limit.

Where jobs give one name different numbers, all of them hold. A claim counts the attempts that have started within the
window, and all that are claimed and have not started yet: whenever these start, the limit holds.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Connection, Row, bindparam, cast, delete, func, insert, select

from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import is_claimed, job_limit, limited_start, run

_SECOND = 1_000_000  # microseconds
_UNLIMITED = 2**31


def note_start(writer: Connection, row: Row[Any], started_at: int) -> None:
    """Count the attempt of a run, which has started, against the limits that its job names now."""
    attempt = {"run_id": row.id, "retries": row.retries, "project_id": row.project_id, "started_at": started_at}
    for name in writer.scalars(_NAMES, {"job": row.job_id}).all():
        writer.execute(_FORGET, {"project": row.project_id, "name": name, "now": started_at})
        writer.execute(_NOTE, {**attempt, "name": name})


def limit_without_room(reader: Connection, of: Job, now: int) -> str | None:
    """Return the name of a limit by which no run of a job can be claimed now; None if there is none."""
    rooms = Rooms(reader, now)
    return next((name for name in _names(of) if rooms.of_limit(of.project_id, name) <= 0), None)


class Rooms:
    """How many more runs may be claimed by each limit, at one moment and in one transaction."""

    def __init__(self, connection: Connection, now: int) -> None:
        self._connection = connection
        self._now = now
        self._rooms: dict[tuple[str, str], int] = {}

    def of_job(self, of: Job) -> int | None:
        """Return how many runs of a job may be claimed; None if it names no limit."""
        return min((self.of_limit(of.project_id, name) for name in _names(of)), default=None)

    def take(self, of: Job) -> None:
        """Count a claim of a run of the job."""
        for name in _names(of):
            self._rooms[of.project_id, name] = self.of_limit(of.project_id, name) - 1

    def of_limit(self, project: str, name: str) -> int:
        """Return how many runs may be claimed by one limit."""
        key = project, name
        if key not in self._rooms:
            limit = {"project": project, "name": name}
            claimed = self._connection.scalar(_CLAIMED, limit) or 0
            rules = self._connection.execute(_RULES, limit).all()
            free = (most - claimed - self._count_starts(limit, most, window) for most, window in rules)
            self._rooms[key] = min(free, default=_UNLIMITED)  # the last job that names it has just been changed
        return self._rooms[key]

    def _count_starts(self, limit: dict[str, str], most: int, window: int) -> int:
        # Later starts than these were made by a clock that was ahead.
        times = {"since": self._now - window * _SECOND, "until": self._now + window * _SECOND}
        return self._connection.scalar(_STARTED, {**limit, **times, "most": most}) or 0


def _names(of: Job) -> list[str]:
    return sorted({limit["name"] for limit in of.settings.rate_limit_keys})


_OF_LIMIT = (job_limit.c.project_id == bindparam("project"), job_limit.c.name == bindparam("name"))
_NAMES = select(job_limit.c.name).where(job_limit.c.job_id == bindparam("job")).distinct()
_RULES = select(job_limit.c.max, job_limit.c.window_secs).where(*_OF_LIMIT).distinct()
_CLAIMED = (
    select(func.count())
    .select_from(run)
    .where(
        is_claimed,
        run.c.status == Status.DEQUEUED.value,
        run.c.job_id.in_(select(job_limit.c.job_id).where(*_OF_LIMIT)),
    )
)
_STARTS = (limited_start.c.project_id == bindparam("project"), limited_start.c.name == bindparam("name"))
_STARTED = select(func.count()).select_from(
    select(limited_start.c.run_id)
    .where(
        *_STARTS,
        limited_start.c.started_at > bindparam("since"),
        limited_start.c.started_at <= bindparam("until"),
    )
    .limit(bindparam("most", type_=job_limit.c.max.type))
    .subquery()
)
_LONGEST = select(func.max(cast(job_limit.c.window_secs, BigInteger))).where(*_OF_LIMIT).scalar_subquery()
_FORGET = delete(limited_start).where(
    *_STARTS, limited_start.c.started_at <= bindparam("now", type_=BigInteger) - _LONGEST * _SECOND
)
_NOTE = insert(limited_start)
