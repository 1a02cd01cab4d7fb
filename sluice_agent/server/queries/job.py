"""The record of one job, with the latest other jobs of its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from sluice_agent.server.queries.jobs import rows_of, summaries_of
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.record.ids import job_uuid, own_uuids
from sluice_agent.server.record.record import Record, record_of
from sluice_agent.server.store.schema import job, step
from sluice_agent.server.store.steps import decode_step

_RECENT = 10
_EXECUTION = ("id", "externalId", "state", "createdAt", "startedAt", "completedAt", "durationMs", "error")
_KEY = (job.c.number, job.c.uuid, job.c.connection, job.c.external_id, job.c.name)


def find_job(reader: Connection, connections: Mapping[str, int], id_: str) -> dict[str, Any] | None:
    """Return the record of the job in `connections` whose id is Sluice's or the framework's `id_`, as the API shows it.

    If several connections have a job with this id of the framework, it is the one that changed last.
    """
    row = _row_of(reader, connections, id_)
    if row is None:
        return None
    connection_id = next(id_ for id_, number in connections.items() if number == row.connection)
    return {**_record(reader, row, connection_id), "recentExecutions": _recent(reader, connections, row)}


def _row_of(reader: Connection, connections: Mapping[str, int], id_: str) -> Row[Any] | None:
    by_external_id = [job_uuid(connection_id, id_) for connection_id in connections]
    for uuids in (own_uuids(id_), by_external_id):
        statement = select(*_KEY).where(job.c.uuid.in_(uuids)).order_by(job.c.changed_at.desc())
        for row in reader.execute(statement) if uuids else ():
            if row.connection in connections.values():
                return row
    return None


def _record(reader: Connection, row: Row[Any], connection_id: str) -> Record:
    steps = reader.execute(select(step.c.name, step.c.body).where(step.c.job == row.number)).all()
    names = texts_of(reader, (name for name, _ in steps))
    return record_of(decode_step(body, connection_id, row.external_id, names[name]) for name, body in steps)


def _recent(reader: Connection, connections: Mapping[str, int], row: Row[Any]) -> list[dict[str, Any]]:
    statement = (
        select(job.c.number)
        .where(job.c.connection == row.connection, job.c.name == row.name)
        .order_by(job.c.created_at.desc(), job.c.number.desc())
        .limit(_RECENT + 1)
    )
    others = [number for number in reader.scalars(statement) if number != row.number]
    summaries = summaries_of(reader, connections, rows_of(reader, others[:_RECENT]))
    return [{name: summary[name] for name in _EXECUTION} for summary in summaries]
