"""The index of jobs that wait for their ETA."""

from __future__ import annotations

from alembic import op

from sluice_agent.server.store import schema

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the index. Tables that were just made have it already."""
    index = next(index for index in schema.job.indexes if index.name == "job_by_eta")
    index.create(op.get_bind(), checkfirst=True)
