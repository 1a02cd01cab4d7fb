"""The tables of `schema.py`, and the events of the first server in them, written as if they had just arrived."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from alembic import op
from sqlalchemy import Connection, text

from sluice_agent.server.store import schema
from sluice_agent.server.store.batch import BatchWriter, IngestBatch
from sluice_agent.server.store.sqlite import SqliteDriver
from sluice_agent.server.timestamps import to_moment
from sluice_agent.server.validation import ReceivedEvent, parse_stored

revision = "0002"
down_revision = "0001"

_TABLES = [
    schema.meta, schema.connection, schema.usage, schema.label, schema.job, schema.step, schema.worker, schema.queue,
    schema.series, schema.rollup, schema.rollup_change, schema.worker_rollup, schema.tally, schema.frame_block,
    schema.lease, schema.future_job,
]  # fmt: skip
_log = logging.getLogger("sluice_agent.server")

_BATCH = 2_000  # events
_VERSION = 2  # in the file's user_version: the first server refuses it


def upgrade() -> None:
    """Make the tables; on SQLite move the events, and drop the tables that held them."""
    bind = op.get_bind()
    if bind.dialect.name != "sqlite":
        schema.metadata.create_all(bind, tables=_TABLES)
        return
    op.execute("ALTER TABLE usage RENAME TO first_usage")
    schema.metadata.create_all(bind, tables=_TABLES)
    _move_events(bind)
    for table in ("events", "jobs", "first_usage"):
        op.execute(f"DROP TABLE {table}")
    op.execute(f"PRAGMA user_version = {_VERSION}")


def _move_events(bind: Connection) -> None:
    """Write the events in batches of the last day that the first server has counted: it did not store their days."""
    driver: Any = bind.connection.driver_connection
    writer = BatchWriter(SqliteDriver(driver))
    day = str(bind.scalar(text("SELECT coalesce(max(day), '') FROM first_usage")))
    now = to_moment(datetime.now(timezone.utc))
    for events in _events(bind):
        writer.write([IngestBatch(events, day)], now)


def _events(bind: Connection) -> Iterator[list[ReceivedEvent]]:
    """Yield the events in batches, without those that are not valid any more: the first server took numbers of any
    size, and texts that can't be stored."""
    last = left_out = 0
    while True:
        query = text("SELECT seq, body FROM events WHERE seq > :last ORDER BY seq LIMIT :limit")
        rows = bind.execute(query, {"last": last, "limit": _BATCH}).all()
        if not rows:
            break
        last = rows[-1].seq
        events: list[ReceivedEvent] = []
        for row in rows:
            try:
                events.append(parse_stored(row.body))
            except ValueError as error:
                if not left_out:
                    _log.warning("An event of the older file can't be stored (number %d: %s)", row.seq, error)
                left_out += 1
        yield events
    if left_out:
        _log.warning("%d events of the older file were left out; all others are in the new tables", left_out)
