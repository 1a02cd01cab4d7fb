"""The classes of errors with which jobs of one task failed."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, cast, func, select

from sluice_agent.model import JobState
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.store.codes import JOB_STATE_CODES
from sluice_agent.server.store.schema import job
from sluice_agent.server.timestamps import timestamp_of

_LOOKED_AT = 1_000  # failed jobs, the newest


class ErrorClass(NamedTuple):
    """A class of errors (None: the text names none), how many jobs failed with it, and when the last one did."""

    name: str | None
    jobs: int
    last: str


def error_classes_of_task(reader: Connection, connection: int, name: int, since: int) -> list[ErrorClass]:
    """Return the classes of errors of the newest failed jobs of a task, by its label, that were created since a
    moment: the most frequent first."""
    newest = (
        select(job.c.error_class, job.c.changed_at)
        .where(
            job.c.connection == connection,
            job.c.state == JOB_STATE_CODES[JobState.FAILED.value],
            job.c.name == name,
            job.c.created_at >= since,
        )
        .order_by(job.c.created_at.desc())
        .limit(_LOOKED_AT)
        .subquery()
    )
    count = cast(func.count(), BigInteger)
    counted = select(newest.c.error_class, count, func.max(newest.c.changed_at)).group_by(newest.c.error_class)
    rows = reader.execute(counted).all()
    texts = texts_of(reader, (error_class for error_class, _, _ in rows))
    classes = [ErrorClass(texts.get(error_class), jobs, timestamp_of(last)) for error_class, jobs, last in rows]
    return sorted(classes, key=lambda error_class: (-error_class.jobs, error_class.name or ""))
