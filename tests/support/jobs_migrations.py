"""The database of jobs at each of its earlier revisions: migrations of one of now undone, and then made again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select

from sluice_agent.jobs.store.schema import job, job_limit, job_version, metadata, run
from sluice_agent.jobs.store.store import TABLES
from sluice_agent.server.store.migrate import upgrade
from tests.support.tables import tables_of

UNDO: Mapping[str, Sequence[str]] = {
    "0008": (
        "DROP INDEX run_by_job_status",
        "CREATE INDEX run_not_completed ON run (job_id, status, created_at, id) WHERE status <> 'completed'",
    ),
    "0007": ("DROP TABLE replay",),
    "0006": ("ALTER TABLE job DROP COLUMN missed_before_at",),
    "0005": (
        *(f"DROP TABLE {name}" for name in ("webhook_delivery", "webhook_attempt", "run_log")),
        "DROP INDEX run_by_continuation",
        "ALTER TABLE run DROP COLUMN progress",
    ),
    "0004": (
        *(f"DROP TABLE {name}" for name in ("event_cursor", "revocation")),
        "DROP INDEX run_of_task",
        "ALTER TABLE run DROP COLUMN task_id",
    ),
    "0003": (
        *(f"DROP TABLE {name}" for name in ("job_limit", "limited_start")),
        *(f"DROP INDEX {name}" for name in ("run_by_firing", "run_fired", "job_by_schedule")),
        "ALTER TABLE run DROP COLUMN fire_at",
        *(
            f"ALTER TABLE job DROP COLUMN {name}"
            for name in (
                *("paused_at", "has_cron", "last_fire_at", "last_fired_run_id"),
                *("missed_count", "last_missed_at", "skipped_count", "last_skipped_at"),
            )
        ),
    ),
    "0002": (
        "DROP TABLE circuit",
        *(f"DROP INDEX {name}" for name in ("run_to_claim", "run_to_expire", "run_held", "run_waiting")),
        *(f"ALTER TABLE run DROP COLUMN {name}" for name in ("is_ready", "execution")),
        "CREATE INDEX run_to_claim ON run (priority DESC, created_at, id) WHERE status = 'queued'",
        "CREATE INDEX run_to_expire ON run (expires_at) WHERE status IN ('delayed', 'queued', 'waiting')",
    ),
}
"""By revision, the newest first: the statements that undo its migration."""

_LIMIT = {"max": 10, "name": "mail", "window_secs": 60}


def fill(connection: Connection) -> None:
    """Add rows of which each migration finds again what it adds: a schedule, a named limit, a run that is tried
    again."""
    settings = json.dumps({"cron": "0 9 * * *", "rate_limit_keys": [_LIMIT]}, separators=(",", ":"))
    times = {"created_at": 1, "updated_at": 1}
    of_job = {"id": "j", "project_id": "p", "slug": "s", "enabled": True, "version": 1, "has_cron": True, **times}
    connection.execute(insert(job).values(of_job))
    connection.execute(insert(job_version).values(job_id="j", version=1, id="ver_1", settings=settings, created_at=1))
    connection.execute(insert(job_limit).values(job_id="j", project_id="p", **_LIMIT))
    for id_, status, retry_at in (("a", "queued", 5), ("b", "queued", None), ("c", "completed", None)):
        connection.execute(
            insert(run).values(
                id=id_,
                job_id="j",
                project_id="p",
                status=status,
                attempt=1,
                priority=0,
                payload="{}",
                payload_hash="x",
                triggered_by="manual",
                created_at=1,
                job_version=1,
                job_version_id="ver_1",
                debug_mode=False,
                available_at=retry_at or 1,
                next_retry_at=retry_at,
                is_ready=retry_at is None,
            )
        )


def assert_each_revision_is_upgraded(connection: Connection) -> None:
    """Fail unless the database, with the rows of `fill`, is after a migration from each earlier revision what it is
    now. `connection` has a transaction, of which nothing is left."""
    expected = _content(connection)
    statements: list[str] = []
    for revision, undo in UNDO.items():
        statements += undo
        with connection.begin_nested() as attempt:
            for statement in statements:
                connection.exec_driver_sql(statement)
            before = f"{int(revision) - 1:04}"
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{before}'")
            upgrade(connection, TABLES)
            assert _content(connection) == expected, f"from {before}"
            attempt.rollback()


def _content(connection: Connection) -> dict[str, Any]:
    """Return the tables, whatever the order of their columns is, and their rows."""
    tables = {name: (sorted(columns), *others) for name, (columns, *others) in tables_of(connection).items()}
    rows = {
        table.name: sorted(
            tuple((name, row[name]) for name in sorted(row)) for row in connection.execute(select(table)).mappings()
        )
        for table in metadata.sorted_tables
        if table.name != "meta"
    }
    version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return {"tables": tables, "rows": rows, "version": version}
