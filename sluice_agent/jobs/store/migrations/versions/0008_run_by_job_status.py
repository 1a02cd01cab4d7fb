"""An index of all runs of a job by their states: the counts and the health of a job read it alone."""

from __future__ import annotations

from alembic import op
from sqlalchemy import inspect

from sluice_agent.jobs.store import schema

revision = "0008"
down_revision = "0007"

_FORMER, _NEW = "run_not_completed", "run_by_job_status"


def upgrade() -> None:
    """Make the index in place of the one of runs that are not completed. A database that was just made has it."""
    bind = op.get_bind()
    existing = {index["name"] for index in inspect(bind).get_indexes(schema.run.name)}
    if _FORMER in existing:
        op.drop_index(_FORMER, schema.run.name)
    for index in schema.RUN_INDEXES:
        if index.name == _NEW and index.name not in existing:
            index.create(bind)
