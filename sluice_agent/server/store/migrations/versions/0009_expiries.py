"""The time after which a job may not start: a column of `job`, filled from the steps of its jobs."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Connection, inspect, update

from sluice_agent.server.store import schema
from sluice_agent.server.store.migrations.summaries import summaries_with
from sluice_agent.server.store.schema import job

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
    for number, _, summary in summaries_with(bind, "expires"):
        bind.execute(update(job).where(job.c.number == number).values(expires_at=summary.expires_at))
