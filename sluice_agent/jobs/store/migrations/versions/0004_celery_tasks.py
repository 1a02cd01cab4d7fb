"""Celery tasks as jobs: which task an attempt is, how far events are followed, and which tasks are to be revoked."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text, inspect

from sluice_agent.jobs.store import schema

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the column, its index and the tables. Tables that were just made have them already."""
    bind = op.get_bind()
    if "task_id" in {column["name"] for column in inspect(bind).get_columns("run")}:
        return
    op.add_column("run", Column("task_id", Text))
    for index in schema.RUN_INDEXES:
        if index.name == "run_of_task":
            index.create(bind)
    schema.metadata.create_all(bind, tables=[schema.event_cursor, schema.revocation])
