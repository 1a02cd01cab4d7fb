"""When jobs arrived whose times are in the future; and no such time of a worker or a queue, which would live by it."""

from __future__ import annotations

from datetime import datetime, timezone

from alembic import op
from sqlalchemy import literal, or_, select, update

from sluice_agent.server.store import schema
from sluice_agent.server.store.schema import future_job, job, queue, worker
from sluice_agent.server.timestamps import to_moment

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table, with this moment as the receipt of its jobs. No time of a worker or a queue is later."""
    bind = op.get_bind()
    now = to_moment(datetime.now(timezone.utc))
    schema.metadata.create_all(bind, tables=[future_job])
    future = now + schema.AHEAD
    rows = select(job.c.number, literal(now)).where(
        or_(job.c.created_at > future, job.c.changed_at > future),
        job.c.number.not_in(select(future_job.c.job)),
    )
    bind.execute(future_job.insert().from_select(["job", "received_at"], rows))
    for column in (worker.c.at, worker.c.last_heartbeat, worker.c.state_at, queue.c.at):
        bind.execute(update(column.table).where(column > now).values({column: now}))
