"""The tables of outbound webhooks and of alerts."""

from __future__ import annotations

from alembic import op

from sluice_agent.server.store import alert_tables, schema, webhook_tables

revision = "0011"
down_revision = "0010"

_TABLES = [webhook_tables.webhook_delivery, webhook_tables.webhook_attempt, alert_tables.alert]


def upgrade() -> None:
    """Make the tables."""
    schema.metadata.create_all(op.get_bind(), tables=_TABLES)
