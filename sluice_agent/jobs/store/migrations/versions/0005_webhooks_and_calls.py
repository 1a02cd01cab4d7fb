"""Webhooks of runs, and what endpoints report about them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text, inspect

from sluice_agent.jobs.store import schema

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables and the column. A database that was just made has them already."""
    bind = op.get_bind()
    tables = set(inspect(bind).get_table_names())
    for table in (schema.webhook_delivery, schema.webhook_attempt, schema.run_log):
        if table.name not in tables:
            table.create(bind)
    if "progress" not in {column["name"] for column in inspect(bind).get_columns("run")}:
        op.add_column("run", Column("progress", Text))
        for index in schema.RUN_INDEXES:
            if index.name == "run_by_continuation":
                index.create(bind)
