"""The tables of access: keys, sign-in tokens, sessions and the log of actions."""

from __future__ import annotations

from alembic import op

from sluice_agent.server.store.access_tables import action_log, api_key, session, signin_token
from sluice_agent.server.store.schema import metadata

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables."""
    metadata.create_all(op.get_bind(), tables=[api_key, signin_token, session, action_log])
