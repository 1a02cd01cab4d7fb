"""The first tables: definitions with their versions, runs with their attempts."""

from __future__ import annotations

from alembic import op

from sluice_agent.jobs.store.schema import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    metadata.create_all(op.get_bind())
