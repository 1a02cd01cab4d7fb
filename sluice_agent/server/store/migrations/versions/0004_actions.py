"""The tables of bulk actions."""

from __future__ import annotations

from alembic import op

from sluice_agent.server.store import action_tables, schema

revision = "0004"
down_revision = "0003"

_TABLES = [action_tables.bulk_action, action_tables.bulk_item]


def upgrade() -> None:
    """Make the tables."""
    schema.metadata.create_all(op.get_bind(), tables=_TABLES)
