"""One job with all its events, as the database holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from sluice_agent.server.record.ids import job_uuid, own_uuids
from sluice_agent.server.record.step import Step
from sluice_agent.server.store.schema import connection, job, label, step
from sluice_agent.server.store.steps import decode_step


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job, and its events as steps, in no order. `name` is the number of its label, `connection` that of the one
    whose id is `connection_id`."""

    number: int
    uuid: bytes
    connection: int
    connection_id: str
    external_id: str
    name: int
    steps: Sequence[Step]


def find_stored_job(reader: Connection, connections: Mapping[str, int], id_: str) -> StoredJob | None:
    """Return the job in `connections` whose id is Sluice's or the framework's `id_`.

    If several connections have a job with this id of the framework, it is the one that changed last.
    """
    by_external_id = [job_uuid(connection_id, id_) for connection_id in connections]
    for uuids in (own_uuids(id_), by_external_id):
        statement = select(job.c.uuid, job.c.connection).where(job.c.uuid.in_(uuids)).order_by(job.c.changed_at.desc())
        for row in reader.execute(statement) if uuids else ():
            if row.connection in connections.values():
                return load_job(reader, row.uuid)
    return None


def load_job(reader: Connection, uuid: bytes) -> StoredJob | None:
    """Return the job with Sluice's id `uuid`; None if there is no such job."""
    row = reader.execute(
        select(job.c.number, job.c.connection, connection.c.id, job.c.external_id, job.c.name)
        .join(connection, connection.c.number == job.c.connection)
        .where(job.c.uuid == uuid)
    ).one_or_none()
    if row is None:
        return None
    rows = reader.execute(
        select(step.c.body, label.c.text).join(label, label.c.number == step.c.name).where(step.c.job == row.number)
    )
    steps = [decode_step(body, row.id, row.external_id, name) for body, name in rows]
    return StoredJob(row.number, uuid, row.connection, row.id, row.external_id, row.name, steps)
