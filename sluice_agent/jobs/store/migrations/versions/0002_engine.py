"""What the engine needs: runs that wait for their next attempt are apart, executions have names, endpoints circuits."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, Text, inspect, true

from sluice_agent.jobs.store import schema

revision = "0002"
down_revision = "0001"

_CHANGED = ("run_to_claim", "run_to_expire")
_NEW = ("run_held", "run_waiting")


def upgrade() -> None:
    """Make the columns, the indexes and the table. Tables that were just made have them already."""
    bind = op.get_bind()
    if "execution" in {column["name"] for column in inspect(bind).get_columns("run")}:
        return
    op.add_column("run", Column("is_ready", Boolean, nullable=False, server_default=true()))
    op.add_column("run", Column("execution", Text))
    op.execute("UPDATE run SET is_ready = false WHERE status = 'queued' AND next_retry_at IS NOT NULL")
    for name in _CHANGED:
        op.drop_index(name, "run")
    for index in schema.RUN_INDEXES:
        if index.name in (*_CHANGED, *_NEW):
            index.create(bind)
    schema.circuit.create(bind)
