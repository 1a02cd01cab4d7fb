"""`job.fold` only where a job has many steps: the next write of such a job makes it again."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, LargeBinary, inspect

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Empty the column, which may be null from now on. Tables that were just made have it so already."""
    columns = {column["name"]: column for column in inspect(op.get_bind()).get_columns("job")}
    if not columns["fold"]["nullable"]:
        op.drop_column("job", "fold")
        op.add_column("job", Column("fold", LargeBinary))
