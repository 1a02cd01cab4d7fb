"""Replays of all dead letters that match a filter."""

from __future__ import annotations

from alembic import op
from sqlalchemy import inspect

from sluice_agent.jobs.store import schema

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table. A database that was just made has it already."""
    bind = op.get_bind()
    if schema.replay.name not in inspect(bind).get_table_names():
        schema.replay.create(bind)
