"""The index by which the longest and the shortest runs of a task are found."""

from __future__ import annotations

from alembic import op

from sluice_agent.server.store import schema

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the index. Tables that were just made have it already."""
    index = next(index for index in schema.job.indexes if index.name == "job_by_name_and_duration")
    bind = op.get_bind()
    index.create(bind, checkfirst=True)
    if bind.dialect.name == "sqlite":
        schema.seed_statistics(bind)
