"""One job with all its events, as the database holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.record.ids import job_uuids, own_uuids
from sluice_agent.server.record.step import Step
from sluice_agent.server.store.schema import connection, job, step
from sluice_agent.server.store.steps import decode_step


@dataclass(frozen=True, slots=True)
class JobHead:
    """A job without its events. `name` is the number of its label, `connection` that of the one whose id is
    `connection_id`; `fold` is its summary if its events are many."""

    number: int
    uuid: bytes
    connection: int
    connection_id: str
    external_id: str
    name: int
    fold: bytes | None


@dataclass(frozen=True, slots=True)
class StoredJob(JobHead):
    """A job, and its events as steps, in no order."""

    steps: Sequence[Step]


_JOBS = (
    select(job.c.number, job.c.uuid, job.c.connection, connection.c.id, job.c.external_id, job.c.name, job.c.fold)
    .join(connection, connection.c.number == job.c.connection)
    .where(job.c.uuid.in_(bindparam("uuids", expanding=True)))
    .order_by(job.c.changed_at.desc())
)
_STEPS = select(step.c.body, step.c.name).where(step.c.job == bindparam("number"))


def find_head(reader: Connection, connections: Mapping[str, int], id_: str) -> JobHead | None:
    """Return the job in `connections` whose id is Sluice's or the framework's `id_`.

    If several connections have a job with this id of the framework, it is the one that changed last.
    """
    rows = reader.execute(_JOBS, {"uuids": job_uuids(id_, connections)}).all()
    usable = [row for row in rows if row.connection in connections.values()]
    own = own_uuids(id_)
    chosen = next((row for row in usable if row.uuid in own), usable[0] if usable else None)
    return None if chosen is None else JobHead(*chosen)


def load_job(reader: Connection, uuid: bytes) -> StoredJob | None:
    """Return the job with Sluice's id `uuid`; None if there is no such job."""
    row = reader.execute(_JOBS, {"uuids": [uuid]}).one_or_none()
    return None if row is None else _with_steps(reader, JobHead(*row))


def steps_of(reader: Connection, head: JobHead) -> list[Step]:
    """Return the steps of a job, in no order."""
    rows = reader.execute(_STEPS, {"number": head.number}).all()
    texts = texts_of(reader, (name for _, name in rows))
    return [decode_step(body, head.connection_id, head.external_id, texts[name]) for body, name in rows]


def _with_steps(reader: Connection, head: JobHead) -> StoredJob:
    return StoredJob(
        head.number,
        head.uuid,
        head.connection,
        head.connection_id,
        head.external_id,
        head.name,
        head.fold,
        steps_of(reader, head),
    )
