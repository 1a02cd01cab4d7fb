"""The tables of the first server: events as received, and a row for each job. SQLite only."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = (
    """CREATE TABLE events (seq INTEGER PRIMARY KEY, connection_id TEXT NOT NULL, kind TEXT NOT NULL,
    subject TEXT NOT NULL, event_id TEXT, body TEXT NOT NULL, UNIQUE (connection_id, event_id))""",
    "CREATE INDEX events_by_subject ON events (connection_id, kind, subject)",
    """CREATE TABLE jobs (id TEXT PRIMARY KEY, connection_id TEXT NOT NULL, external_id TEXT NOT NULL,
    framework TEXT NOT NULL, name TEXT NOT NULL, queue TEXT NOT NULL, state TEXT NOT NULL, worker_id TEXT NOT NULL,
    error TEXT NOT NULL, created_at TEXT NOT NULL, changed_at TEXT NOT NULL, started_at TEXT NOT NULL,
    completed_at TEXT NOT NULL, duration_ms INTEGER NOT NULL, summary TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX jobs_by_external_id ON jobs (external_id)",
    "CREATE INDEX jobs_by_creation ON jobs (created_at, id)",
    "CREATE INDEX jobs_by_name ON jobs (connection_id, name, created_at)",
    "CREATE TABLE usage (day TEXT PRIMARY KEY, events INTEGER NOT NULL)",
)


def upgrade() -> None:
    """Make the tables as the first server made them, for a file that had them already to go on from."""
    if op.get_bind().dialect.name == "sqlite":
        for statement in _TABLES:
            op.execute(statement)
