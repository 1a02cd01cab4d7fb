"""The missed firing before the last one, which is the last again once that one is caught up."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, inspect

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the column. A table that was just made has it already."""
    if "missed_before_at" not in {column["name"] for column in inspect(op.get_bind()).get_columns("job")}:
        op.add_column("job", Column("missed_before_at", BigInteger))
