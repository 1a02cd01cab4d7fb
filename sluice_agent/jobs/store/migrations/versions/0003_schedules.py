"""Schedules: firings, pauses and named limits."""

from __future__ import annotations

import json

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Text, false, inspect, select, text, update

from sluice_agent.jobs.store import schema

revision = "0003"
down_revision = "0002"

_TIMES = ("paused_at", "last_fire_at", "last_missed_at", "last_skipped_at")
_COUNTS = ("missed_count", "skipped_count")
_INDEXES = ("run_by_firing", "run_fired", "job_by_schedule")


def upgrade() -> None:
    """Make the columns, the indexes and the tables. Tables that were just made have them already."""
    bind = op.get_bind()
    if "paused_at" in {column["name"] for column in inspect(bind).get_columns("job")}:
        return
    for name in _TIMES:
        op.add_column("job", Column(name, BigInteger))
    for name in _COUNTS:
        op.add_column("job", Column(name, BigInteger, nullable=False, server_default=text("0")))
    op.add_column("job", Column("last_fired_run_id", Text))
    op.add_column("job", Column("has_cron", Boolean, nullable=False, server_default=false()))
    op.add_column("run", Column("fire_at", BigInteger))
    for index in (*schema.RUN_INDEXES, *schema.job.indexes):
        if index.name in _INDEXES:
            index.create(bind)
    schema.job_limit.create(bind)
    schema.limited_start.create(bind)
    _fill()


def _fill() -> None:
    """Copy from the settings of the jobs that there are whether they have a schedule, and their named limits."""
    bind = op.get_bind()
    version = schema.job_version
    query = select(schema.job.c.id, schema.job.c.project_id, version.c.settings).join(
        version, (version.c.job_id == schema.job.c.id) & (version.c.version == schema.job.c.version)
    )
    for job_id, project, stored in bind.execute(query).all():
        settings = json.loads(stored)
        if settings.get("cron"):
            bind.execute(update(schema.job).where(schema.job.c.id == job_id).values(has_cron=True))
        limits = {tuple(limit.values()): limit for limit in settings.get("rate_limit_keys", ())}
        if limits:
            of_job = {"job_id": job_id, "project_id": project}
            bind.execute(schema.job_limit.insert(), [of_job | limit for limit in limits.values()])
