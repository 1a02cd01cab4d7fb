"""Frames in blocks, a row for each commit. Those in the old table go: readers that have missed some get a reset."""

from __future__ import annotations

from alembic import op

from sluice_agent.server.store import schema

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the table, and drop the one that it replaces."""
    op.execute("DROP TABLE IF EXISTS frame")
    schema.metadata.create_all(op.get_bind(), tables=[schema.frame_block])
