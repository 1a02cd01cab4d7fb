"""The summaries of stored jobs, for migrations that fill new columns of `job`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, Row, bindparam, or_, select, text

from sluice_agent.server.record.summary import Summary, summary_of
from sluice_agent.server.store.schema import connection, job, label, step
from sluice_agent.server.store.steps import decode_step

_JOBS = 500  # that are looked for at a time
_CONTAINS = {"sqlite": "instr(body, :{field}) > 0", "postgresql": "position(:{field} in body) > 0"}


class StoredSummary(NamedTuple):
    """A job's number, the id of its connection, and its summary."""

    number: int
    connection_id: str
    summary: Summary


def summaries_with(bind: Connection, *fields: str) -> Iterator[StoredSummary]:
    """Yield the summaries of all jobs of which an event has one of `fields`, by their names on the wire.

    The bodies of steps are searched as bytes, so that only those of these jobs are decoded.
    """
    contains = _CONTAINS[bind.dialect.name]
    conditions = [
        text(contains.format(field=field)).bindparams(bindparam(field, f'"{field}"'.encode())) for field in fields
    ]
    last = 0
    while True:
        numbers = select(step.c.job).where(step.c.job > last, or_(*conditions)).distinct().order_by(step.c.job)
        found = bind.execute(numbers.limit(_JOBS)).scalars().all()
        if not found:
            return
        last = found[-1]
        jobs = select(job.c.number, connection.c.id, job.c.external_id).where(job.c.number.in_(found))
        for row in bind.execute(jobs.join(connection, connection.c.number == job.c.connection)).all():
            yield StoredSummary(row.number, row.id, _summary(bind, row))


def _summary(bind: Connection, row: Row[tuple[int, str, str]]) -> Summary:
    steps = bind.execute(
        select(step.c.body, label.c.text).join(label, label.c.number == step.c.name).where(step.c.job == row.number)
    )
    return summary_of(decode_step(body, row.id, row.external_id, name) for body, name in steps)
