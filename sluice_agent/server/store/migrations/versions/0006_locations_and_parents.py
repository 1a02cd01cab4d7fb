"""Where errors were raised, and which job published which: columns of `job`, filled from the steps of its jobs."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Connection, Integer, LargeBinary, bindparam, inspect, update

from sluice_agent.server.record.ids import job_uuid
from sluice_agent.server.store import schema
from sluice_agent.server.store.migrations.summaries import summaries_with
from sluice_agent.server.store.schema import LabelKind, job, label

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
    statement = update(job).where(job.c.number == bindparam("job"))
    statement = statement.values(error_location=bindparam("location"), parent=bindparam("parent_uuid"))
    locations: dict[str | None, int | None] = {None: None}
    for number, connection_id, summary in summaries_with(bind, "stacktrace", "parentId"):
        location, parent = summary.history.entry.location, summary.facts.parent_id
        if location not in locations:
            locations[location] = _new_label(bind, location)
        uuid = None if parent is None else job_uuid(connection_id, parent)
        bind.execute(statement, {"job": number, "location": locations[location], "parent_uuid": uuid})


def _new_label(bind: Connection, location: str | None) -> int:
    values = {"kind": LabelKind.ERROR_LOCATION, "text": location}
    return int(bind.execute(label.insert().values(values).returning(label.c.number)).scalar_one())
