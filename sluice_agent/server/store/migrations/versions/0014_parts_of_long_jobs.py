"""The table of the parts of long jobs: such a job that is there already gets them with its next event."""

from __future__ import annotations

from alembic import op

from sluice_agent.server.store import schema

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Make the table."""
    schema.metadata.create_all(op.get_bind(), tables=[schema.step_part])
