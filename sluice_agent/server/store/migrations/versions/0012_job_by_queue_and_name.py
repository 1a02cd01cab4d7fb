"""The index by which the tasks in a queue, and the queues of tasks, are found."""

from __future__ import annotations

from alembic import op

from sluice_agent.server.store import schema

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make the index. Tables that were just made have it already."""
    index = next(index for index in schema.job.indexes if index.name == "job_by_queue_and_name")
    bind = op.get_bind()
    index.create(bind, checkfirst=True)
    if bind.dialect.name == "sqlite":
        schema.seed_statistics(bind)
