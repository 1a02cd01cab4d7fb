"""The time after which a job may not start: a column of `job`, filled from the steps of those that are queued."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Connection, inspect, select, update

from sluice_agent.model import JobState
from sluice_agent.server.record.summary import summary_of
from sluice_agent.server.store import schema
from sluice_agent.server.store.codes import JOB_STATE_CODES
from sluice_agent.server.store.schema import connection, job, label, step
from sluice_agent.server.store.steps import decode_step

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column and its index, and empty the folds, which lack it. Tables that were just made have it already."""
    bind = op.get_bind()
    if "expires_at" in {column["name"] for column in inspect(bind).get_columns("job")}:
        return
    op.add_column("job", Column("expires_at", BigInteger))
    bind.execute(update(job).where(job.c.fold.is_not(None)).values(fold=None))
    _fill(bind)
    next(index for index in job.indexes if index.name == "job_by_expiry").create(bind)
    if bind.dialect.name == "sqlite":
        schema.seed_statistics(bind)


def _fill(bind: Connection) -> None:
    queued = (
        select(job.c.number, connection.c.id, job.c.external_id)
        .join(connection, connection.c.number == job.c.connection)
        .where(job.c.state == JOB_STATE_CODES[JobState.QUEUED.value])
    )
    for number, connection_id, external_id in bind.execute(queued).all():
        steps = bind.execute(
            select(step.c.body, label.c.text).join(label, label.c.number == step.c.name).where(step.c.job == number)
        )
        summary = summary_of(decode_step(body, connection_id, external_id, name) for body, name in steps)
        if summary.expires_at is not None:
            bind.execute(update(job).where(job.c.number == number).values(expires_at=summary.expires_at))
