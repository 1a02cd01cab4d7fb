"""Errors of the jobs that were created in a window, grouped by their class and by the location where they were raised.

A job counts with the error of its present state: a job that was retried with success has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row, Subquery, func, select

from sluice_agent.model import JobState
from sluice_agent.server.queries.conditions import unindexed
from sluice_agent.server.queries.labels import find_labels, texts_of
from sluice_agent.server.queries.window import Window
from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.store.schema import LabelKind, job

MOST_JOBS = 50_000
"""The most jobs with an error that are grouped: the newest ones."""

MOST_READ = 5_000
"""The most failed jobs of which each row is read: the newest ones."""

_MINUTE = 60_000_000


class ErrorKey(NamedTuple):
    """What is common to the errors of a group. The location is None where no traceback names one."""

    error_class: str
    location: str | None


class ErrorGroup(NamedTuple):
    """The jobs whose errors have one key: how many; when the first and the last of them failed; of how many tasks, and
    the name of one; both ids and the error of the one that was created last; and their number in each interval of the
    window. Times are microseconds since 1970."""

    key: ErrorKey
    jobs: int
    first: int
    last: int
    tasks: int
    task: str
    newest: str
    newest_external_id: str
    error: str
    intervals: Mapping[int, int]


class ErrorGroups(NamedTuple):
    """The largest groups, the largest first, and the numbers of all groups and of their jobs. If they are not complete,
    only the newest `MOST_JOBS` are counted."""

    shown: list[ErrorGroup]
    groups: int
    jobs: int

    @property
    def is_complete(self) -> bool:
        """True if all jobs of the window are counted."""
        return self.jobs < MOST_JOBS


def group_errors(reader: Connection, connection: int, window: Window, limit: int) -> ErrorGroups:
    """Return at most `limit` groups of the errors of the jobs of `connection` that were created in `window`."""
    counted = _newest(connection, window, None)
    rows = _counted(reader, counted, limit)
    groups, jobs = (rows[0].groups, int(rows[0].all_jobs)) if rows else (0, 0)
    return ErrorGroups(_groups(reader, counted, rows), groups, jobs)


def find_group(reader: Connection, connection: int, window: Window, key: ErrorKey) -> ErrorGroup | None:
    """Return one group; None if no job of the window has such an error."""
    numbers = _numbers(reader, key)
    if numbers is None:
        return None
    counted = _newest(connection, window, numbers)
    groups = _groups(reader, counted, _counted(reader, counted, 1))
    return groups[0] if groups else None


def tasks_of_group(
    reader: Connection, connection: int, window: Window, key: ErrorKey, limit: int
) -> list[tuple[str, int]]:
    """Return the tasks of a group, each with the number of its jobs, at most `limit`, the most frequent first."""
    numbers = _numbers(reader, key)
    if numbers is None:
        return []
    counted = _newest(connection, window, numbers)
    jobs = func.count()
    statement = select(counted.c.name, jobs).group_by(counted.c.name).order_by(jobs.desc()).limit(limit)
    rows = reader.execute(statement).all()
    texts = texts_of(reader, (name for name, _ in rows))
    return [(texts[name], count) for name, count in rows]


def _numbers(reader: Connection, key: ErrorKey) -> tuple[int, int | None] | None:
    """Return the labels of a key; None if there are none, so that no job has it."""
    classes = find_labels(reader, LabelKind.ERROR_CLASS, [key.error_class])
    if key.location is None:
        return (classes[0], None) if classes else None
    locations = find_labels(reader, LabelKind.ERROR_LOCATION, [key.location])
    return (classes[0], locations[0]) if classes and locations else None


def _newest(connection: int, window: Window, numbers: tuple[int, int | None] | None) -> Subquery:
    """Select the errors of the window, the newest `MOST_JOBS`, or those of one key."""
    minute = job.c.changed_at // _MINUTE
    statement = select(
        job.c.error_class, job.c.error_location, job.c.name, job.c.changed_at, job.c.number,
        window.interval_of(minute).label("interval"),
    ).where(
        job.c.connection == connection,
        job.c.error_class.is_not(None),
        job.c.created_at >= window.start * _MINUTE,
        job.c.created_at < window.stop * _MINUTE,
    )  # fmt: skip
    if numbers is not None:
        # Written so that the index of all errors is taken: in that of the class each job's row would have to be read.
        statement = statement.where(unindexed(job.c.error_class) == numbers[0])
        location = unindexed(job.c.error_location)
        statement = statement.where(location.is_(None) if numbers[1] is None else location == numbers[1])
    return statement.order_by(job.c.created_at.desc()).limit(MOST_JOBS).subquery()


def _counted(reader: Connection, counted: Subquery, limit: int) -> Sequence[Row[Any]]:
    """Return the largest groups, each with the numbers of all groups and of their jobs."""
    key = counted.c.error_class, counted.c.error_location
    jobs, last, newest = func.count(), func.max(counted.c.changed_at), func.max(counted.c.number)
    statement = select(
        *key,
        jobs.label("jobs"),
        func.min(counted.c.changed_at).label("first"),
        last.label("last"),
        func.count(counted.c.name.distinct()).label("tasks"),
        func.min(counted.c.name).label("task"),
        newest.label("newest"),
        func.count().over().label("groups"),
        func.sum(jobs).over().label("all_jobs"),
    )
    return reader.execute(statement.group_by(*key).order_by(jobs.desc(), last.desc(), newest).limit(limit)).all()


def _groups(reader: Connection, counted: Subquery, rows: Sequence[Row[Any]]) -> list[ErrorGroup]:
    key = counted.c.error_class, counted.c.error_location
    of_shown = counted.c.error_class.in_({row.error_class for row in rows})
    by_interval = reader.execute(
        select(*key, counted.c.interval, func.count()).where(of_shown).group_by(*key, counted.c.interval)
    )
    intervals: dict[tuple[int, int | None], dict[int, int]] = {}
    for error_class, location, interval, count in by_interval:
        intervals.setdefault((error_class, location), {})[interval] = count
    texts = texts_of(reader, (number for row in rows for number in (row.error_class, row.error_location, row.task)))
    newest = {
        row.number: row
        for row in reader.execute(
            select(job.c.number, job.c.uuid, job.c.external_id, job.c.error).where(
                job.c.number.in_([row.newest for row in rows])
            )
        )
    }
    return [
        ErrorGroup(
            ErrorKey(texts[row.error_class], texts.get(row.error_location)),
            row.jobs,
            row.first,
            row.last,
            row.tasks,
            texts[row.task],
            str(UUID(bytes=newest[row.newest].uuid)),
            newest[row.newest].external_id,
            newest[row.newest].error or "",
            intervals[row.error_class, row.error_location],
        )
        for row in rows
    ]


def count_without_class(reader: Connection, connection: int, window: Window) -> int:
    """Return how many of the newest `MOST_READ` failed jobs of the window have an error that names no class."""
    newest = (
        select(job.c.error_class)
        .where(
            job.c.connection == connection,
            job.c.state == JOB_STATES.index(JobState.FAILED),
            job.c.created_at >= window.start * _MINUTE,
            job.c.created_at < window.stop * _MINUTE,
        )
        .order_by(job.c.created_at.desc())
        .limit(MOST_READ)
        .subquery()
    )
    return reader.scalar(select(func.count() - func.count(newest.c.error_class)).select_from(newest)) or 0
