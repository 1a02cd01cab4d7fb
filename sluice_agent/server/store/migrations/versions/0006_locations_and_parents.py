"""Where errors were raised, and which job published which: columns of `job`, filled from the steps of its jobs."""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op
from sqlalchemy import Column, Connection, Integer, LargeBinary, Row, bindparam, inspect, or_, select, update

from sluice_agent.server.record.ids import job_uuid
from sluice_agent.server.record.summary import Summary, summary_of
from sluice_agent.server.store import schema
from sluice_agent.server.store.schema import LabelKind, job, label, step
from sluice_agent.server.store.steps import decode_step

revision = "0006"
down_revision = "0005"

_INDEXES = (
    "job_by_error",
    "job_by_error_class",
    "job_by_error_location",
    "job_by_root",
    "job_by_group",
    "job_by_parent",
)
_JOBS = 500  # that are read at a time


def upgrade() -> None:
    """Add the columns and make the indexes that have them. Tables that were just made have them already."""
    bind = op.get_bind()
    inspector = inspect(bind)
    if "parent" in {column["name"] for column in inspector.get_columns("job")}:
        return
    op.add_column("job", Column("error_location", Integer))
    op.add_column("job", Column("parent", LargeBinary(16)))
    _fill(bind)
    for name in {str(index["name"]) for index in inspector.get_indexes("job")}.intersection(_INDEXES):
        op.drop_index(name, "job")
    for index in job.indexes:
        if index.name in _INDEXES:
            index.create(bind)
    if bind.dialect.name == "sqlite":
        schema.seed_statistics(bind)


def _fill(bind: Connection) -> None:
    connections = {
        row.number: row.id for row in bind.execute(select(schema.connection.c.number, schema.connection.c.id))
    }
    locations: dict[str, int] = {}
    last = 0
    while True:
        rows = bind.execute(
            select(job.c.number, job.c.connection, job.c.external_id)
            .where(job.c.number > last, or_(job.c.root_id.is_not(None), job.c.error_class.is_not(None)))
            .order_by(job.c.number)
            .limit(_JOBS)
        ).all()
        if not rows:
            return
        last = rows[-1].number
        _fill_jobs(bind, rows, connections, locations)


def _fill_jobs(
    bind: Connection, rows: Sequence[Row[tuple[int, int, str]]], connections: dict[int, str], locations: dict[str, int]
) -> None:
    found = []
    for row in rows:
        summary = _summary(bind, row.number, connections[row.connection], row.external_id)
        location, parent = summary.history.entry.location, summary.facts.parent_id
        if location is not None and location not in locations:
            locations[location] = _new_label(bind, location)
        uuid = None if parent is None else job_uuid(connections[row.connection], parent)
        found.append(
            {"job": row.number, "location": None if location is None else locations[location], "parent_uuid": uuid}
        )
    statement = update(job).where(job.c.number == bindparam("job"))
    bind.execute(statement.values(error_location=bindparam("location"), parent=bindparam("parent_uuid")), found)


def _summary(bind: Connection, number: int, connection_id: str, external_id: str) -> Summary:
    steps = bind.execute(
        select(step.c.body, label.c.text).join(label, label.c.number == step.c.name).where(step.c.job == number)
    )
    return summary_of(decode_step(body, connection_id, external_id, name) for body, name in steps)


def _new_label(bind: Connection, location: str) -> int:
    values = {"kind": LabelKind.ERROR_LOCATION, "text": location}
    return int(bind.execute(label.insert().values(values).returning(label.c.number)).scalar_one())
